//! What is wrong with a configuration: every fault, each with its place and a way out.

use std::{cell::RefCell, fmt, ops::Range};

/// One fault. Printed as `file:line:column: message`, with the hint on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// One-based; `None` for what has no place in the file.
    pub place: Option<(usize, usize)>,
    pub message: String,
    pub hint: Option<String>,
}

/// The faults found so far in one file.
#[derive(Debug)]
pub struct Faults {
    file: String,
    text: String,
    found: RefCell<Vec<(usize, Fault)>>,
}

impl Faults {
    pub fn new(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned(), found: RefCell::default() }
    }

    /// Notes a fault at a range of bytes of the text.
    pub fn at(&self, span: Range<usize>, message: String, hint: Option<String>) {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let fault = Fault { file: self.file.clone(), place: Some((line, column)), message, hint };
        let mut found = self.found.borrow_mut();
        if !found.iter().any(|(_, known)| *known == fault) {
            found.push((span.start, fault));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All faults, in the order of the file.
    pub fn into_sorted(self) -> Vec<Fault> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(start, _)| *start);
        found.into_iter().map(|(_, fault)| fault).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}
