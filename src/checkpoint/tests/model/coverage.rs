//! Requires that the sequences contain every public call of a checkpoint, so that a new one cannot
//! be forgotten.

use std::{mem, path::PathBuf};

use super::*;

/// The public methods that no sequence calls, and why. They are the maintenance of the files, which
/// has no common interface for several databases, and their own tests are named here.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("open_read_only", "a reader changes nothing: `errors`, `tests::continuity`"),
    ("adopt", "`tests::continuity`"),
    ("backup_without_name", "`tests::continuity`"),
    ("check_in_place", "`tests::continuity`"),
    ("compact", "a part of `forget`; `tests::continuity`"),
    ("probe", "the commands of `tests/it/state.rs` and `tests/it/storage.rs`"),
    ("release_memory", "changes no row; `tests::damage`"),
    ("repair", "`tests::panics`, `tests::queued_commands`"),
    ("repair_all", "`tests::cursor_checks`, `tests::damage`"),
    ("repair_structure", "`tests::migration`, `tests::damage`"),
    ("repair_texts", "a step of `repair_all`; `sqlite::texts`"),
    ("restore", "`tests::continuity`"),
    ("set_aside", "`tests::continuity`, `tests::damage`"),
];

/// The files of the model that make no calls in sequences.
const OTHER_FILES: [&str; 2] = ["errors.rs", "coverage.rs"];

#[test]
fn sequences_contain_every_public_call() {
    let mut methods = BTreeSet::new();
    for path in rust_files(&folder("src/checkpoint")) {
        methods.extend(public_methods(&fs_err::read_to_string(path).unwrap()));
    }
    assert!(methods.contains("commit_poll") && methods.contains("repair_structure"), "{methods:?}");

    let mut model = fs_err::read_to_string(folder("src/checkpoint/tests/model.rs")).unwrap();
    for path in rust_files(&folder("src/checkpoint/tests/model")) {
        if !OTHER_FILES.iter().any(|name| path.ends_with(name)) {
            model.push_str(&fs_err::read_to_string(path).unwrap());
        }
    }
    model.retain(|c| !c.is_whitespace());

    let exceptions: BTreeSet<String> =
        EXCEPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: BTreeSet<String> =
        methods.iter().filter(|method| !is_called(&model, method)).cloned().collect();
    assert_eq!(missing, exceptions, "add a call to the sequences, or correct the exceptions");
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Rust files of a folder and of the folders in it, without those of tests.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

/// The public methods of a checkpoint in a file that rustfmt has formatted, without those for
/// tests.
fn public_methods(text: &str) -> Vec<String> {
    let mut methods = Vec::new();
    let (mut is_inside, mut is_for_tests) = (false, false);
    for line in text.lines() {
        let item = line.trim_start();
        if item.starts_with("//") || item.starts_with("#[") {
            is_for_tests |= item == "#[cfg(test)]";
            continue;
        }

        let is_skipped = mem::take(&mut is_for_tests);
        match line {
            "impl Checkpoint {" => is_inside = !is_skipped,
            "}" => is_inside = false,
            _ if is_inside && !is_skipped => methods.extend(public_method(line)),
            _ => {}
        }
    }
    methods
}

/// The name of the public method that a line of an implementation declares.
fn public_method(line: &str) -> Option<String> {
    let declared = line.strip_prefix("    pub ")?;
    let name = declared.strip_prefix("const ").unwrap_or(declared).strip_prefix("fn ")?;
    let end = name.find(['(', '<'])?;
    Some(name[..end].to_owned())
}

/// Whether a text without white space calls a method of a checkpoint, or passes it to a function.
fn is_called(text: &str, method: &str) -> bool {
    let calls = [
        format!("checkpoint.{method}("),
        format!("Checkpoint::{method}("),
        format!("Checkpoint::{method})"),
    ];
    calls.iter().any(|call| text.contains(call))
}

#[test]
fn only_public_methods_of_checkpoints_are_found() {
    let text = "impl Checkpoint {\n    /// pub fn a(\n    pub fn b(&self) {\n    }\n\n    #[cfg(test)]\n    \
                pub fn c(&self) {}\n    pub(super) fn d(&self) {}\n    pub fn e<T>(\n        &self,\n    ) {}\n\
                    fn f() {}\n    pub const fn g() {}\n}\n\nimpl Other {\n    pub fn h(&self) {}\n}\n\n\
                #[cfg(test)]\nimpl Checkpoint {\n    pub fn i(&self) {}\n}\n";
    assert_eq!(public_methods(text), ["b", "e", "g"]);
    for (text, expected) in [
        ("self.checkpoint.read(&request)", true),
        ("write(Checkpoint::read)", true),
        ("self.checkpoint.read_all()", false),
        ("self.model.read(&request)", false),
    ] {
        assert_eq!(is_called(text, "read"), expected, "{text}");
    }
}
