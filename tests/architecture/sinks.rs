//! Dependencies between the files of one sink: they have no cycles, so that the configuration of a
//! sink can be read without its service.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    code::{identifier, paths},
    files::{SourceFile, expect_none, rust_files},
};

const FOLDER: &str = "src/sink/";

/// By file of a sink: the other files of the sink that it uses.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

#[test]
fn files_of_a_sink_have_no_cycles() {
    let mut sinks: BTreeMap<String, Vec<SourceFile>> = BTreeMap::new();
    for file in rust_files(&[FOLDER]) {
        let below = file.path.strip_prefix(FOLDER).unwrap();
        if let Some((sink, _)) = below.split_once('/') {
            sinks.entry(sink.to_owned()).or_default().push(file);
        }
    }
    assert!(sinks.len() > 10, "{:?}", sinks.keys());

    let mut violations = Vec::new();
    for (sink, files) in &sinks {
        let dependencies = dependencies(sink, files);
        for file in dependencies.keys().filter(|file| is_in_cycle(file, &dependencies)) {
            violations.push(format!("{FOLDER}{sink}/{file}: the file uses itself indirectly"));
        }
    }
    expect_none(&violations, "move what both files need to a third one, or to `mod.rs`");
}

/// The dependencies of a sink's files. `mod.rs` connects all files, so it is omitted; the files of
/// a subfolder count as one.
fn dependencies(sink: &str, files: &[SourceFile]) -> Dependencies {
    let name_of = |file: &SourceFile| {
        let below = file.path.strip_prefix(&format!("{FOLDER}{sink}/")).unwrap();
        below.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
    };
    let names: BTreeSet<String> = files.iter().map(name_of).filter(|name| name != "mod").collect();

    let mut found = Dependencies::new();
    for file in files {
        let name = name_of(file);
        // A file in a subfolder uses the other files of the sink through two levels.
        let is_nested = file.path.matches('/').count() > 3 && !file.path.ends_with("/mod.rs");
        let root = if is_nested { "super::super" } else { "super" };
        let used = paths(file, root).into_iter().map(|(_, path)| {
            identifier(path.trim_start_matches(root).trim_start_matches("::")).to_owned()
        });
        let others: BTreeSet<String> =
            used.filter(|used| *used != name && names.contains(used)).collect();
        if names.contains(&name) {
            found.entry(name).or_default().extend(others);
        }
    }
    found
}

/// Whether a file uses itself through others.
fn is_in_cycle(file: &str, dependencies: &Dependencies) -> bool {
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut next = vec![file];
    while let Some(current) = next.pop() {
        for used in dependencies.get(current).into_iter().flatten() {
            if used == file {
                return true;
            }
            if reached.insert(used) {
                next.push(used);
            }
        }
    }
    false
}

/// Regression: the configuration of ten sinks used their service, which uses the configuration.
#[test]
fn direct_and_indirect_cycles_are_found() {
    let file = |name: &str, text: &str| SourceFile {
        path: format!("{FOLDER}spool/{name}.rs"),
        text: text.to_owned(),
    };
    let files = [
        file("mod", "use config::Plan;\nuse service::open;\n"),
        file("config", "use super::service::{open, probe};\n"),
        file("service", "use super::{\n    config::Plan,\n    names,\n};\n"),
        file("names", "use super::{Item, other::x};\n#[cfg(test)]\nuse super::config::Plan;\n"),
    ];

    let dependencies = dependencies("spool", &files);
    let in_cycle: Vec<&String> =
        dependencies.keys().filter(|file| is_in_cycle(file, &dependencies)).collect();
    assert_eq!(in_cycle, ["config", "service"]);
}
