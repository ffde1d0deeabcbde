//! Dependencies between modules. The table lists every module, and its dependencies have no cycles.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    code::{identifier, names, paths, production_code},
    files::{SourceFile, expect_none, files, rust_files},
};

/// Every module of the crate with the modules that it may use. A module follows those it uses.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("files", &["error"]),
    ("clock", &[]),
    ("compressed", &[]),
    ("text", &[]),
    ("foreign_text", &["text"]),
    ("net", &["error", "files", "foreign_text", "text"]),
    ("model", &["error"]),
    ("conditions", &["error", "model", "text"]),
    ("schedule", &["model"]),
    ("wire", &["foreign_text", "model", "text"]),
    ("ledger", &["model", "compressed", "foreign_text", "text"]),
    ("derive", &["model"]),
    ("format", &["foreign_text", "model", "text"]),
    ("report", &["derive", "foreign_text", "format", "model", "text"]),
    ("telemetry", &["clock", "foreign_text"]),
    ("settings", &["error", "files", "foreign_text", "model", "text"]),
    ("state_directory", &["error", "files", "model"]),
    ("checkpoint", &["error", "files", "model", "compressed", "ledger", "state_directory", "text"]),
    (
        "source",
        &["clock", "error", "files", "foreign_text", "model", "net", "settings", "text", "wire"],
    ),
    (
        "sink",
        &["clock", "error", "files", "foreign_text", "format", "model", "net", "settings", "text"],
    ),
    (
        "config",
        &[
            "clock", "derive", "error", "files", "format", "model", "net", "schedule", "settings",
            "sink", "source",
        ],
    ),
    (
        "daemon",
        &[
            "checkpoint",
            "clock",
            "conditions",
            "config",
            "derive",
            "error",
            "files",
            "foreign_text",
            "format",
            "ledger",
            "model",
            "net",
            "compressed",
            "report",
            "schedule",
            "sink",
            "source",
            "state_directory",
            "telemetry",
            "text",
            "wire",
        ],
    ),
    (
        "admin",
        &[
            "checkpoint",
            "clock",
            "conditions",
            "config",
            "daemon",
            "error",
            "files",
            "foreign_text",
            "model",
            "report",
            "text",
        ],
    ),
    // The command line is the root of the tree: it may use everything.
    (
        "cli",
        &[
            "admin",
            "checkpoint",
            "clock",
            "conditions",
            "config",
            "daemon",
            "derive",
            "error",
            "files",
            "foreign_text",
            "format",
            "ledger",
            "model",
            "report",
            "settings",
            "sink",
            "source",
            "state_directory",
            "telemetry",
            "text",
            "wire",
        ],
    ),
    ("fuzzing", &["checkpoint", "config", "sink", "wire"]),
    ("lib", &[]),
    ("main", &[]),
];

/// Modules without I/O, without a clock and without an asynchronous runtime.
const PURE: &[&str] = &[
    "model",
    "wire",
    "ledger",
    "derive",
    "format",
    "schedule",
    "conditions",
    "compressed",
    "report",
    "foreign_text",
    "text",
];

/// Paths that a pure module must not use.
const IMPURE: &[&str] = &[
    "tokio",
    "reqwest",
    "hyper",
    "axum",
    "rusqlite",
    "rustix",
    "fastrand",
    "tracing",
    "fs_err",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    // Both read the time-zone files of the system.
    "TimeZone::get",
    "TimeZone::system",
];

/// Crates that only the modules of their protocol, store or format may use.
const CONFINED: &[(&str, &[&str])] = &[
    ("reqwest", &["src/net", "src/source/", "src/sink/"]),
    // The other modules must not parse or write JSON.
    (
        "serde_json",
        &[
            "src/wire/",
            "src/source/",
            "src/sink/",
            "src/report/",
            "src/settings/schema.rs",
            "src/telemetry/render.rs",
            "src/checkpoint/",
            "src/daemon/control.rs",
            "src/daemon/control/import.rs",
            "src/files/handed_down.rs",
            "src/cli/",
        ],
    ),
    ("rusqlite", &["src/checkpoint/sqlite/"]),
    ("lettre", &["src/sink/email/"]),
    ("rdkafka", &["src/sink/kafka/"]),
    ("object_store", &["src/sink/object_store/"]),
    ("parquet", &["src/sink/object_store/"]),
    ("syslog", &["src/sink/syslog/"]),
    ("axum", &["src/source/simulated/", "src/source/auth/"]),
    ("hyper", &["src/admin/", "src/net/"]),
    ("clap", &["src/cli/"]),
    ("toml", &["src/settings/", "src/config/", "src/cli/"]),
    ("maud", &["src/report/", "src/admin/"]),
];

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        let module = module_of(&file);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            violations.push(format!("{}:1: `{module}` is not in the table", file.path));
            continue;
        };
        for (line, used) in uses(&file) {
            let known = used == module || ALLOWED.iter().any(|(name, _)| *name == used);
            if used != module && known && !allowed.contains(&used.as_str()) {
                violations.push(format!("{}:{line}: `{module}` uses `{used}`", file.path));
            }
        }
    }
    expect_none(&violations, "a module uses another one that the table does not allow");
}

#[test]
fn the_table_has_no_cycle_or_unused_entry() {
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    for file in rust_files(&["src"]) {
        found.extend(uses(&file).into_iter().map(|(_, used)| (module_of(&file), used)));
    }

    let mut below: Vec<&str> = Vec::new();
    let mut violations = Vec::new();
    for (module, allowed) in ALLOWED {
        for used in *allowed {
            if !below.contains(used) {
                violations.push(format!("`{module}` may use `{used}`, which is not above it"));
            }
            if !found.contains(&((*module).to_owned(), (*used).to_owned())) {
                violations.push(format!("`{module}` does not use `{used}`: remove it"));
            }
        }
        below.push(module);
    }
    expect_none(&violations, "the table of modules has a cycle or an unused entry");
}

/// The page that has the same table, and a figure of it.
fn architecture_page() -> SourceFile {
    files("docs/explanation/architecture.md").remove(0)
}

/// The modules that the page must contain: all except the roots of the library and the program.
fn documented_modules() -> impl Iterator<Item = &'static (&'static str, &'static [&'static str])> {
    ALLOWED.iter().filter(|(name, _)| !["lib", "main"].contains(name))
}

#[test]
fn the_architecture_page_has_the_same_table() {
    let page = architecture_page();
    let rows = page.text.lines().skip_while(|line| *line != "| module | imports |").skip(2);
    let mut documented: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let (modules, imports) = row.trim_matches('|').split_once('|').unwrap();
        for module in in_backticks(modules) {
            documented.insert(module, in_backticks(imports).collect());
        }
    }

    let mut violations = Vec::new();
    for (module, allowed) in documented_modules() {
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        match documented.remove(module) {
            None => violations.push(format!("{}: no row for `{module}`", page.path)),
            Some(imports) if imports != allowed => {
                let problem = format!("`{module}` imports {allowed:?}, not {imports:?}");
                violations.push(format!("{}: {problem}", page.path));
            }
            Some(_) => {}
        }
    }

    let unknown = documented.keys().map(|name| format!("{}: no module `{name}`", page.path));
    violations.extend(unknown);
    expect_none(&violations, "the page and the table of modules differ");
}

/// Regression: the figure omitted modules.
#[test]
fn the_figure_shows_modules_above_their_dependencies() {
    let page = architecture_page();
    let after = page.text.lines().skip_while(|line| !line.starts_with("Dependencies run in one"));
    let figure = after.skip(1).take_while(|line| line.is_empty() || line.starts_with("    "));

    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for (row, line) in figure.enumerate() {
        for module in line.split_whitespace().filter(|word| *word != "↓") {
            if rows.insert(module, row).is_some() {
                violations.push(format!("{}: `{module}` appears twice", page.path));
            }
        }
    }

    for (module, allowed) in documented_modules() {
        let Some(row) = rows.get(module) else {
            violations.push(format!("{}: the figure omits `{module}`", page.path));
            continue;
        };
        let is_above = |used: &&&str| rows.get(*used).is_some_and(|below| below <= row);
        for used in allowed.iter().filter(is_above) {
            violations.push(format!("{}: `{used}` is not below `{module}`", page.path));
        }
    }
    let known: BTreeSet<&str> = documented_modules().map(|(name, _)| *name).collect();
    let unknown = rows.keys().filter(|name| !known.contains(*name));
    violations.extend(unknown.map(|name| format!("{}: no module `{name}`", page.path)));
    expect_none(&violations, "the figure and the table of modules differ");
}

fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn pure_modules_use_no_io_or_clock() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]).iter().filter(|file| PURE.contains(&module_of(file).as_str()))
    {
        // Paths are added to the lines, because a line of a grouped import names only their ends.
        for (line, text) in production_code(file).into_iter().chain(paths(file, "std")) {
            for path in IMPURE.iter().filter(|path| names(&text, path)) {
                violations.push(format!("{}:{line}: a pure module names `{path}`", file.path));
            }
        }
    }
    expect_none(&violations, "pure modules have no I/O, no clock and no runtime");
}

#[test]
fn protocols_and_stores_stay_in_their_modules() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        for (line, text) in production_code(&file) {
            for (name, folders) in CONFINED {
                let is_used =
                    names(&text, &format!("use {name}")) || names(&text, &format!("{name}::"));
                let is_ours = text.contains(&format!("super::{name}"))
                    || text.contains(&format!("crate::{name}"))
                    || text.contains(&format!("sink::{name}"));
                let is_allowed = folders.iter().any(|folder| file.path.starts_with(folder))
                    || file.path == "src/sink/mod.rs";
                if is_used && !is_ours && !is_allowed {
                    violations
                        .push(format!("{}:{line}: only {folders:?} may use `{name}`", file.path));
                }
            }
        }
    }
    expect_none(&violations, "a crate is used outside its module");
}

/// A unit test that uses the driver of a database cannot run on another database, or on one that
/// fails.
#[test]
fn unit_tests_do_not_name_a_database_driver() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        if file.path.starts_with("src/checkpoint/sqlite/") {
            continue;
        }
        for (line, _) in file.lines().filter(|(_, line)| names(line, "rusqlite")) {
            violations.push(format!("{}:{line}: `rusqlite` is named", file.path));
        }
    }
    expect_none(&violations, "use a transaction of the checkpoint, or `RawDatabase` in tests");
}

/// An error of `std::fs` does not name the file; an error of `fs_err` or of `files` does. See
/// decision 0049.
#[test]
fn files_are_opened_through_fs_err() {
    // Types whose operations do not open files, and the one builder that `fs_err` does not wrap.
    let types = ["Permissions", "TryLockError", "Metadata", "DirBuilder"];
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        // The library's root allows `std::fs` in unit tests.
        if file.path == "src/lib.rs" {
            continue;
        }
        for (line, path) in paths(&file, "std") {
            let is_type = types.iter().any(|name| names(&path, &format!("std::fs::{name}")));
            if names(&path, "std::fs") && !is_type {
                violations.push(format!("{}:{line}: use `fs_err`, not `{path}`", file.path));
            }
        }
    }
    expect_none(&violations, "`std::fs` is used");
}

/// Modules that show a hint with its message. Everywhere else, the two are separate data. The log
/// renderer is not listed, because a hint is a field of a log entry.
const SHOW_HINTS: &[&str] = &["src/admin/", "src/cli/mod.rs", "src/sink/notification/mod.rs"];

#[test]
fn hints_are_data_until_they_are_shown() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        if SHOW_HINTS.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        for (line, text) in production_code(&file) {
            let code = text.replace("'\"'", "").replace("\\\"", "");
            // Every second part is in a string literal.
            let mut literals = code.split('"').skip(1).step_by(2);
            if literals.any(labels_hint) {
                violations.push(format!("{}:{line}: a text contains a hint", file.path));
            }
        }
    }
    expect_none(&violations, "a hint is a separate field, never part of a text");
}

/// Whether a string literal contains a hint, or is the label of one. The lowercase name `hint` is
/// that of a field.
fn labels_hint(literal: &str) -> bool {
    literal == "Hint" || literal.to_lowercase().contains("hint: ")
}

/// Regression: a label with an initial capital was not found, so a module could show hints without
/// being listed.
#[test]
fn labels_of_hints_are_found() {
    for label in ["Hint", "Hint: ", "\n  hint: {hint}"] {
        assert!(labels_hint(label), "{label}");
    }
    for other in ["hint", "hinted", "last_hint"] {
        assert!(!labels_hint(other), "{other}");
    }
}

/// The first part of the path below `src`.
fn module_of(file: &SourceFile) -> String {
    let below = file.path.strip_prefix("src/").unwrap();
    below.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules that a file uses, each with its line number. Tests may use every module.
fn uses(file: &SourceFile) -> Vec<(usize, String)> {
    let modules = paths(file, "crate").into_iter().map(|(line, path)| {
        let below = path.trim_start_matches("crate::");
        (line, identifier(below).to_owned())
    });
    modules.collect()
}
