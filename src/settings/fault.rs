//! The faults of a configuration file, each with its location and, where possible, a hint. Faults
//! are collected instead of returned, so that a command reports all of them together. A message
//! must never contain the value of a secret.

use std::{cell::RefCell, fmt, ops::Range};

use crate::error::Explanation;

/// One fault. Displayed as `file:line:column: message`, or as the message alone if the fault has no
/// location. The hint is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path of the file as given.
    pub file: String,
    /// `None` for a file that cannot be read; the message then names the file.
    pub location: Option<Location>,
    /// What is wrong, as one line without the location.
    pub message: String,
    /// What the operator can do, as an imperative.
    pub hint: Option<String>,
}

/// A location in a file. Lines and columns (in characters) are counted from 1; column 0 means
/// the whole line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub line: usize,
    pub column: usize,
}

/// The faults found so far in one file.
#[derive(Debug)]
pub struct Faults {
    file: String,
    text: String,
    /// The line of the file for each line of the text, if the text was generated from the file.
    lines: Option<Vec<usize>>,
    /// Each fault with the offset of its first byte in the text.
    found: RefCell<Vec<(usize, Fault)>>,
}

impl Faults {
    /// An empty list of faults for a file. `text` is its content.
    pub fn new(file: &str, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            lines: None,
            found: RefCell::default(),
        }
    }

    /// An empty list of faults for text that was generated from a file: line `n` of the text,
    /// counted from 0, was generated from line `lines[n]` of the file.
    pub fn of_lines(file: &str, text: &str, lines: Vec<usize>) -> Self {
        Self { lines: Some(lines), ..Self::new(file, text) }
    }

    /// The path of the file as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The location of the byte at this offset of the text.
    pub fn location(&self, at: usize) -> Location {
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count();

        if let Some(lines) = &self.lines {
            return Location { line: lines.get(line).copied().unwrap_or(1), column: 0 };
        }

        let last = before.rsplit('\n').next().unwrap_or_default();
        Location { line: line + 1, column: last.chars().count() + 1 }
    }

    /// Reports a fault at a range of bytes of the text. An identical fault is reported only once.
    pub fn at(&self, span: Range<usize>, message: String, hint: Option<String>) {
        let location = Some(self.location(span.start));
        let fault = Fault { file: self.file.clone(), location, message, hint };

        let mut found = self.found.borrow_mut();
        if !found.iter().any(|(_, known)| *known == fault) {
            found.push((span.start, fault));
        }
    }

    /// Whether no fault has been reported.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All faults, in the order of the file.
    pub fn sorted(&self) -> Vec<Fault> {
        let mut found = self.found.borrow().clone();
        found.sort_by_key(|(start, _)| *start);
        found.into_iter().map(|(_, fault)| fault).collect()
    }
}

impl Fault {
    /// The fault as it is printed, and its hint.
    pub fn explanation(&self) -> Explanation {
        Explanation { message: self.to_string(), hint: self.hint.clone() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location {
            Some(Location { line, column: 0 }) => write!(f, "{}:{line}: ", self.file)?,
            Some(Location { line, column }) => write!(f, "{}:{line}:{column}: ", self.file)?,
            None => {}
        }
        f.write_str(&self.message)
    }
}
