//! Receivers for the `file` and `stdout` sinks.

use std::{path::PathBuf, process::Command};

use super::{Receiver, SinkCase, Workspace, case, ids_in};

pub fn file() -> SinkCase {
    case("`file`", "file", || Box::new(Lines::new()))
}

/// A file in a directory that can be renamed, which makes the file unreachable.
struct Lines(tempfile::TempDir);

impl Lines {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("present")).unwrap();
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("present/records.jsonl")
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
        std::fs::rename(self.0.path().join("present"), self.0.path().join("absent")).unwrap();
    }
    fn up(&self) {
        std::fs::rename(self.0.path().join("absent"), self.0.path().join("present")).unwrap();
    }
}

pub fn stdout() -> SinkCase {
    SinkCase {
        repeats_per_kill: 1_000,
        ..case("`stdout`", "stdout", || Box::new(Stdout(Lines::new())))
    }
}

/// Standard output, redirected to a file, because the content of a pipe is lost with the process.
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
