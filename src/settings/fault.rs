//! The faults of a configuration, each with its location and, where possible, a hint. Faults are
//! collected instead of returned, so that a command reports all of them together. A message must
//! never contain the value of a secret. Start reading at [`Faults`].

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    fmt,
};

use super::Span;
use crate::error::Explanation;

/// One fault, or one problem that does not make the configuration invalid. Displayed as
/// `file:line:column: message`, or as the message alone if the fault has no location. The hint is
/// not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path of the file as given; empty if the fault is not in a file.
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

/// Where a value is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File {
        /// The path of the configuration file as given.
        file: String,
        location: Location,
    },
    /// The name of an environment variable.
    Variable(String),
}

/// A fault, and the number of lines on which it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultGroup {
    /// The first occurrence. If there are several, the message does not contain the indexes of
    /// tables.
    pub first: Fault,
    /// At least 1.
    pub lines: usize,
}

/// The text of a file, or the name of an environment variable.
#[derive(Clone, Debug)]
pub struct Source {
    name: SourceName,
    text: String,
    /// The offset at which each line begins, in ascending order.
    lines: Vec<usize>,
    /// The location in the file of the text that begins at each offset, in ascending order, if the
    /// text was generated from the file.
    cells: Option<Vec<(usize, Location)>>,
}

#[derive(Clone, Debug)]
enum SourceName {
    /// The path of the file as given.
    File(String),
    Variable(String),
}

/// The faults found so far in all sources of a configuration.
#[derive(Debug)]
pub struct Faults {
    sources: Vec<Source>,
    found: RefCell<Vec<(Span, Fault)>>,
    /// Problems that do not make the configuration invalid.
    warnings: RefCell<Vec<(Span, Fault)>>,
}

/// The number of lines from which equal faults are reported as one group. With fewer lines, each
/// location is more useful than a short report.
const MIN_GROUPED_LINES: usize = 3;

impl Source {
    /// A file with this content.
    pub fn file(path: &str, text: String) -> Self {
        let ends = text.match_indices('\n').map(|(end, _)| end + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self { name: SourceName::File(path.to_owned()), text, lines, cells: None }
    }

    /// A file whose cells were converted to a list of tables. `cells` contains the offset in the
    /// text at which a cell begins, and its location in the file, in ascending order.
    pub fn cells(path: &str, text: String, cells: Vec<(usize, Location)>) -> Self {
        Self { cells: Some(cells), ..Self::file(path, text) }
    }

    /// An environment variable. Its text is empty, because a value of the environment has no
    /// location in a text.
    pub fn variable(name: &str) -> Self {
        let name = SourceName::Variable(name.to_owned());
        Self { name, text: String::new(), lines: vec![0], cells: None }
    }

    /// The content of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The location of the byte at this offset of the text.
    pub fn location(&self, at: usize) -> Location {
        if let Some(cells) = &self.cells {
            let after = cells.partition_point(|(start, _)| *start <= at);
            let cell = after.checked_sub(1).and_then(|index| cells.get(index));
            return cell.map_or(Location { line: 1, column: 1 }, |(_, location)| *location);
        }

        let line = self.lines.partition_point(|start| *start <= at);
        let start = line.checked_sub(1).and_then(|index| self.lines.get(index)).copied();
        let before = self.text.get(start.unwrap_or_default()..at).unwrap_or_default();
        Location { line, column: before.chars().count() + 1 }
    }

    fn origin(&self, at: usize) -> Origin {
        match &self.name {
            SourceName::File(file) => {
                Origin::File { file: file.clone(), location: self.location(at) }
            }
            SourceName::Variable(name) => Origin::Variable(name.clone()),
        }
    }
}

impl Faults {
    /// An empty list of faults. The order of the sources is that of the faults.
    pub fn new(sources: Vec<Source>) -> Self {
        Self { sources, found: RefCell::default(), warnings: RefCell::default() }
    }

    /// Adds a source after the others.
    pub fn add_source(&mut self, source: Source) {
        self.sources.push(source);
    }

    /// An empty list of faults for one file with this content.
    pub fn of_file(path: &str, text: &str) -> Self {
        Self::new(vec![Source::file(path, text.to_owned())])
    }

    /// The content of the source with this index.
    pub(super) fn text(&self, source: usize) -> &str {
        self.sources.get(source).map_or("", Source::text)
    }

    /// The origin of a value. A span without a source, which no parser creates, is in the main
    /// file.
    pub fn origin(&self, span: Span) -> Origin {
        let source = self.sources.get(span.source).or(self.sources.first());
        source.map_or_else(
            || Origin::File { file: String::new(), location: Location { line: 1, column: 1 } },
            |source| source.origin(span.start),
        )
    }

    /// Whether a value is that of an environment variable.
    pub(super) fn is_variable(&self, span: Span) -> bool {
        let source = self.sources.get(span.source);
        source.is_some_and(|source| matches!(source.name, SourceName::Variable(_)))
    }

    /// Reports a fault at a range of a source. An identical fault is reported only once.
    pub fn at(&self, span: Span, message: String, hint: Option<String>) {
        self.add(&self.found, span, message, hint);
    }

    /// Reports a problem that does not make the configuration invalid, such as a selection that
    /// matches nothing.
    pub fn warn(&self, span: Span, message: String, hint: Option<String>) {
        self.add(&self.warnings, span, message, hint);
    }

    /// Whether no fault has been reported. Warnings do not count.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All faults, in the order of the sources.
    pub fn sorted(&self) -> Vec<Fault> {
        in_order(&self.found)
    }

    /// All warnings, in the order of the sources.
    pub fn sorted_warnings(&self) -> Vec<Fault> {
        in_order(&self.warnings)
    }

    fn add(
        &self,
        list: &RefCell<Vec<(Span, Fault)>>,
        span: Span,
        message: String,
        hint: Option<String>,
    ) {
        // The path of a table that does not exist in the file would confuse the reader.
        let is_generated = self.sources.get(span.source).is_some_and(|s| s.cells.is_some());
        let message = if is_generated { without_table(&message) } else { message };
        let fault = self.origin(span).fault(Explanation { message, hint });

        let mut list = list.borrow_mut();
        if !list.iter().any(|(_, known)| *known == fault) {
            list.push((span, fault));
        }
    }
}

fn in_order(list: &RefCell<Vec<(Span, Fault)>>) -> Vec<Fault> {
    let mut list = list.borrow().clone();
    list.sort_by_key(|(span, _)| (span.source, span.start));
    list.into_iter().map(|(_, fault)| fault).collect()
}

/// The message without the path of a generated table: `` `cloud` `` instead of
/// `` `tenants[7].cloud` ``.
fn without_table(message: &str) -> String {
    let Some((before, rest)) = message.split_once("`tenants[") else { return message.to_owned() };
    match rest.split_once("].") {
        Some((index, after)) if index.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{before}`{after}")
        }
        _ => message.to_owned(),
    }
}

impl Origin {
    /// The fault of the value that is configured here.
    pub fn fault(&self, explanation: Explanation) -> Fault {
        let Explanation { message, hint } = explanation;
        match self {
            Self::File { file, location } => {
                Fault { file: file.clone(), location: Some(*location), message, hint }
            }
            Self::Variable(_) => {
                Fault::elsewhere(Explanation { message: format!("{self}: {message}"), hint })
            }
        }
    }

    /// A key by which faults are sorted: the file, then the location in it.
    pub fn sort_key(&self) -> (&str, Option<Location>) {
        match self {
            Self::File { file, location } => (file, Some(*location)),
            Self::Variable(name) => (name, None),
        }
    }
}

impl fmt::Display for Origin {
    /// Prints `file:line`, or the environment variable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, location } => write!(f, "{file}:{}", location.line),
            Self::Variable(name) => write!(f, "environment variable `{name}`"),
        }
    }
}

impl Fault {
    /// A fault that is not in a file of the configuration.
    pub fn elsewhere(explanation: Explanation) -> Self {
        let Explanation { message, hint } = explanation;
        Self { file: String::new(), location: None, message, hint }
    }

    /// The fault as it is printed, and its hint.
    pub fn explanation(&self) -> Explanation {
        Explanation { message: self.to_string(), hint: self.hint.clone() }
    }

    /// The faults in their order, except that those that occur on many lines of a file are grouped
    /// at their first occurrence. Faults are equal if they differ only in the indexes of tables.
    pub fn group(faults: &[Self]) -> Vec<FaultGroup> {
        let general: Vec<String> =
            faults.iter().map(|fault| without_indexes(&fault.message)).collect();
        let key = |index: usize| (&faults[index].file, &general[index], &faults[index].hint);
        let mut members: HashMap<_, Vec<usize>> = HashMap::new();
        for index in 0..faults.len() {
            members.entry(key(index)).or_default().push(index);
        }

        let group = |index: usize| {
            let equal = &members[&key(index)];
            let locations = equal.iter().filter_map(|other| faults[*other].location);
            let lines = locations.map(|location| location.line).collect::<BTreeSet<_>>().len();
            let is_grouped = lines >= MIN_GROUPED_LINES;
            match (is_grouped, equal.first() == Some(&index)) {
                (true, false) => None,
                (true, true) => {
                    let first = Self { message: general[index].clone(), ..faults[index].clone() };
                    Some(FaultGroup { first, lines })
                }
                (false, _) => Some(FaultGroup { first: faults[index].clone(), lines: 1 }),
            }
        };
        (0..faults.len()).filter_map(group).collect()
    }
}

/// The message without the indexes of tables: `` `tenants[].cloud` ``.
fn without_indexes(message: &str) -> String {
    let mut parts = message.split('[');
    let mut general = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        general.push('[');
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let is_index = digits > 0 && part[digits..].starts_with(']');
        general.push_str(if is_index { &part[digits..] } else { part });
    }
    general
}

impl FaultGroup {
    /// The group as it is printed, and its hint.
    pub fn explanation(&self) -> Explanation {
        let Fault { file, location, message, hint } = &self.first;
        match location {
            Some(Location { line, column }) if self.lines > 1 => Explanation {
                message: format!(
                    "{message}, on {} lines, first at {file}:{line}:{column}",
                    self.lines
                ),
                hint: hint.clone(),
            },
            _ => self.first.explanation(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: usize, message: &str) -> Fault {
        let location = Some(Location { line, column: 3 });
        let hint = Some("use `cloud`".to_owned());
        Fault { file: "c.toml".to_owned(), location, message: message.to_owned(), hint }
    }

    fn printed(faults: &[Fault]) -> Vec<String> {
        Fault::group(faults).iter().map(|group| group.explanation().message).collect()
    }

    /// Regression: a misspelled key of 37 tenants was reported on 37 lines.
    #[test]
    fn equal_faults_are_reported_once() {
        let unknown =
            |index: usize| fault(index + 14, &format!("unknown key `tenants[{index}].x`"));
        let mut faults: Vec<Fault> = (0..37).map(unknown).collect();
        faults.insert(5, fault(2, "`a[b]` is not `x[7]`"));
        assert_eq!(
            printed(&faults),
            [
                "unknown key `tenants[].x`, on 37 lines, first at c.toml:14:3",
                "c.toml:2:3: `a[b]` is not `x[7]`",
            ]
        );

        // Several faults of one line count once.
        let on_one_line = |index: usize| fault(3, &format!("`sinks[{index}].x` is wrong"));
        assert_eq!(printed(&(0..5).map(on_one_line).collect::<Vec<_>>()).len(), 5);

        let few: Vec<Fault> = (0..2).map(unknown).collect();
        assert_eq!(
            printed(&few),
            ["c.toml:14:3: unknown key `tenants[0].x`", "c.toml:15:3: unknown key `tenants[1].x`"]
        );
    }

    #[test]
    fn only_equal_faults_are_grouped() {
        let other = |n: usize| Fault {
            hint: Some(format!("use `{n}`")),
            file: format!("{n}.toml"),
            ..fault(n, "unknown key `a`")
        };
        assert_eq!(Fault::group(&(0..5).map(other).collect::<Vec<_>>()).len(), 5);
        assert!(Fault::group(&[]).is_empty());
    }

    #[test]
    fn generated_tables_are_not_part_of_messages() {
        for (message, expected) in [
            ("`tenants[12].cloud` must be one of: a", "`cloud` must be one of: a"),
            ("unknown credential `x`", "unknown credential `x`"),
            ("`tenants[x].y`", "`tenants[x].y`"),
        ] {
            assert_eq!(without_table(message), expected);
        }
    }
}
