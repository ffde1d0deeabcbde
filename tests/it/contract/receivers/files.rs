//! A file, and standard output.

use std::{path::PathBuf, process::Command};

use super::{Receiver, Sink, Workspace, ids_in, sink};

pub fn file() -> Sink {
    sink("`file`", "file", || Box::new(Lines::new()))
}

struct Lines(tempfile::TempDir);

impl Lines {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("there")).unwrap();
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("there/records.jsonl")
    }
}

impl Receiver for Lines {
    fn section(&self, _: &mut Workspace) -> String {
        format!("path = \"{}\"", self.path().display())
    }
    fn arrived(&self) -> Vec<String> {
        ids_in(&std::fs::read_to_string(self.path()).unwrap_or_default())
    }
    fn bytes(&self) -> usize {
        std::fs::metadata(self.path()).map_or(0, |file| file.len() as usize)
    }
    fn down(&self) {
        std::fs::rename(self.0.path().join("there"), self.0.path().join("away")).unwrap();
    }
    fn up(&self) {
        std::fs::rename(self.0.path().join("away"), self.0.path().join("there")).unwrap();
    }
}

pub fn stdout() -> Sink {
    Sink { killed: 1_000, ..sink("`stdout`", "stdout", || Box::new(Stdout(Lines::new()))) }
}

/// A pipe would break with the process; a file keeps what was said.
struct Stdout(Lines);

impl Receiver for Stdout {
    fn section(&self, _: &mut Workspace) -> String {
        String::new()
    }
    fn arrived(&self) -> Vec<String> {
        self.0.arrived()
    }
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
    fn prepare(&self, command: &mut Command) {
        let mut options = std::fs::OpenOptions::new();
        command.stdout(options.create(true).append(true).open(self.0.path()).unwrap());
    }
}
