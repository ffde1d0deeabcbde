//! Access to the files of the repository, and the assertion that reports violations.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// The folders and the file that contain all Rust code.
pub const RUST: &[&str] = &["src", "tests", "benches", "fuzz/fuzz_targets", "build.rs"];

/// A text file of the repository.
pub struct SourceFile {
    /// Relative to the root of the repository, with `/` as separator.
    pub path: String,
    pub text: String,
}

impl SourceFile {
    /// The lines with their one-based numbers.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text files below a folder, or the file at this path, sorted by path.
pub fn files(folder: &str) -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(&root().join(folder), &mut paths);
    paths.sort();

    let read = |path: PathBuf| {
        let relative = path.strip_prefix(root()).unwrap();
        let text = std::fs::read_to_string(&path).ok()?;
        Some(SourceFile { path: relative.to_str().unwrap().to_owned(), text })
    };
    paths.into_iter().filter_map(read).collect()
}

fn collect(path: &Path, paths: &mut Vec<PathBuf>) {
    if path.is_file() {
        paths.push(path.to_owned());
        return;
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|_| panic!("no `{}`", path.display()));
    for entry in entries {
        collect(&entry.unwrap().path(), paths);
    }
}

/// The Rust files below the folders.
pub fn rust_files(folders: &[&str]) -> Vec<SourceFile> {
    let all = folders.iter().flat_map(|folder| files(folder));
    all.filter(|file| file.path.ends_with(".rs")).collect()
}

/// Panics with a list of all violations, one per line.
pub fn expect_none(violations: &[String], rule: &str) {
    let mut report = String::new();
    for violation in violations {
        writeln!(report, "  {violation}").unwrap();
    }
    assert!(violations.is_empty(), "{rule} ({} violations):\n{report}", violations.len());
}
