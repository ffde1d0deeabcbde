//! The CSV file that `tenants_file` names, as a TOML list of its tenants.
//!
//! The file has the form of RFC 4180, or one that spreadsheets write in other countries: with
//! semicolons or tabs, a byte order mark, a line that names the separator, other line ends, empty
//! rows and columns at its end, and the character that ended a file in DOS. The location of each
//! cell is kept, so that a fault in the generated text is reported at the line and the column of
//! the file. This module does not interpret the values; [`super::read`] does. Start reading at
//! [`parse`].

use std::fmt::Write as _;

use super::{ConfigError, keys::tenant};
use crate::{
    error::Explanation,
    settings::{Fault, KeyDefinition, Location, Shape, Source, is_unusual, toml_key, toml_string},
};

/// The prefix of a column that is a label.
const LABEL: &str = "label.";

/// Spreadsheets begin a file in UTF-8 with this mark.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Old spreadsheets end a file with this character, as DOS did.
const END_OF_FILE: char = '\u{1a}';

/// A cell without surrounding space, and its location.
type Cell = (String, Location);

/// Finds the locations of the cells, row by row. Empty lines are skipped.
struct Locations<'a> {
    rest: &'a str,
    line: usize,
    separator: Separator,
    /// The location of a cell whose quotation mark is not closed.
    unclosed: Option<Location>,
}

/// What separates the cells of a row. A spreadsheet writes semicolons where the comma is the
/// decimal separator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Separator {
    #[default]
    Comma,
    Semicolon,
    Tab,
}

/// The cells of a file.
#[derive(Default)]
struct Cells {
    separator: Separator,
    header: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

/// A TOML text under construction, and the location of each part in the CSV file.
#[derive(Default)]
struct Generated {
    text: String,
    cells: Vec<(usize, Location)>,
}

/// The columns that are keys of a tenant. All other columns are labels.
fn key_columns() -> impl Iterator<Item = &'static KeyDefinition> {
    tenant::KEYS.iter().filter(|key| key.name != tenant::LABELS.name())
}

/// Converts the text of a file. Fails if the header or the number of cells of a row is not valid.
pub(super) fn parse(file: &str, text: &str) -> Result<Source, ConfigError> {
    let Cells { separator, header, rows } = read(file, text)?;
    let mut faults: Vec<Fault> =
        header.iter().filter_map(|cell| check_column(file, cell)).collect();
    let duplicates = header
        .iter()
        .enumerate()
        .filter_map(|(index, cell)| duplicate(file, &header[..index], cell));
    faults.extend(duplicates);

    let mut generated = Generated::default();
    generated.add("tenants = [\n", Location { line: 1, column: 1 });
    for row in rows {
        // Spreadsheets write rows of separators after the last row.
        if row.iter().all(|(value, _)| value.is_empty()) {
            continue;
        }
        let fault = check_visible(file, &row);
        match fault.or_else(|| check_length(file, separator, &header, &row)) {
            Some(fault) => faults.push(fault),
            None => generated.add_tenant(&header, &row),
        }
    }
    generated.text += "]\n";

    if !faults.is_empty() {
        return Err(ConfigError(faults));
    }
    let Generated { text, cells } = generated;
    Ok(Source::cells(file, text, cells))
}

/// Reads the cells. Columns without a name and cells without a value are omitted at the end of the
/// header and of a row. Fails if a quotation mark is not closed.
fn read(file: &str, text: &str) -> Result<Cells, ConfigError> {
    let text = until_end(text.trim_start_matches(BYTE_ORDER_MARK));
    let (separator, text) = Separator::detect(text);
    let mut locations = Locations::of(text, separator);
    let mut located = |record: &csv::StringRecord| -> Vec<Cell> {
        let locations = locations.next().unwrap_or_default();
        record.iter().map(str::to_owned).zip(locations).collect()
    };

    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator.byte())
        .flexible(true)
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut cells = Cells { separator, ..Cells::default() };
    for record in reader.records() {
        let row = located(&record.map_err(|error| not_csv(file, &error))?);
        if cells.header.is_empty() {
            cells.header = without_empty_end(row, 0);
        } else {
            cells.rows.push(without_empty_end(row, cells.header.len()));
        }
    }

    match locations.unclosed {
        Some(location) => Err(ConfigError(vec![Fault {
            file: file.to_owned(),
            location: Some(location),
            message: "the quotation mark at the beginning of this value is not closed".to_owned(),
            hint: Some("add the quotation mark at the end of the value".to_owned()),
        }])),
        None => Ok(cells),
    }
}

/// The text without the character that ends a file, if that is its last one.
fn until_end(text: &str) -> &str {
    let shown = text.trim_end();
    if shown.ends_with(END_OF_FILE) { shown.trim_end_matches(END_OF_FILE) } else { text }
}

/// The fault of a text that is not CSV.
fn not_csv(file: &str, error: &csv::Error) -> ConfigError {
    let message = format!("`{file}` is not valid CSV: {error}");
    ConfigError(vec![Fault::elsewhere(Explanation::new(message))])
}

/// The row without the cells at its end that have no value, but with at least `length` cells.
fn without_empty_end(mut row: Vec<Cell>, length: usize) -> Vec<Cell> {
    while row.len() > length && row.last().is_some_and(|(value, _)| value.is_empty()) {
        row.pop();
    }
    row
}

fn check_column(file: &str, (column, location): &Cell) -> Option<Fault> {
    let is_label = column.strip_prefix(LABEL).is_some_and(|name| !name.is_empty());
    if is_label || key_columns().any(|key| key.name == column) {
        return None;
    }
    let known: Vec<&str> = key_columns().map(|key| key.name).collect();
    let similar = known.iter().find(|name| name.eq_ignore_ascii_case(column));
    let (message, hint) = match similar {
        _ if column.is_empty() => {
            ("a column has no name".to_owned(), "name the column, or remove it".to_owned())
        }
        Some(name) => (format!("unknown column `{column}`"), format!("use `{name}`")),
        None => {
            let hint = format!("use only the columns {}, {LABEL}NAME", known.join(", "));
            (format!("unknown column `{column}`"), hint)
        }
    };
    Some(Fault { file: file.to_owned(), location: Some(*location), message, hint: Some(hint) })
}

/// The fault of a column that an earlier one also names.
fn duplicate(file: &str, earlier: &[Cell], (column, location): &Cell) -> Option<Fault> {
    let (_, first) = earlier.iter().find(|(name, _)| name == column)?;
    Some(Fault {
        file: file.to_owned(),
        location: Some(*location),
        message: format!("duplicate column `{column}`: it is also at column {}", first.column),
        hint: Some("remove one of the columns".to_owned()),
    })
}

/// The fault of a row that contains nothing but characters that are not shown.
fn check_visible(file: &str, row: &[Cell]) -> Option<Fault> {
    let mut characters = row.iter().flat_map(|(value, _)| value.chars()).filter(|c| *c != ' ');
    let first = characters.next()?;
    if !is_unusual(first) || !characters.all(is_unusual) {
        return None;
    }
    Some(Fault {
        file: file.to_owned(),
        location: row.first().map(|(_, location)| *location),
        message: format!(
            "the row contains only the invisible character U+{:04X}",
            u32::from(first)
        ),
        hint: Some("delete the row".to_owned()),
    })
}

/// The fault of a row that has more or fewer cells than the header.
fn check_length(file: &str, separator: Separator, header: &[Cell], row: &[Cell]) -> Option<Fault> {
    if row.len() == header.len() {
        return None;
    }
    let message = format!(
        "the row and the header have different numbers of fields: {} and {}",
        row.len(),
        header.len()
    );
    Some(Fault {
        file: file.to_owned(),
        location: row.first().map(|(_, location)| *location),
        message,
        hint: Some(if row.first().is_some_and(|(value, _)| value.starts_with('#')) {
            "remove the row: a CSV file contains no comments".to_owned()
        } else if row.len() < header.len() {
            "add the missing fields: a row has one for each column, which can be empty".to_owned()
        } else if row.iter().any(|(value, _)| value.starts_with('"')) {
            "remove the space before the quotation mark".to_owned()
        } else {
            format!("put a value that contains a {} in quotation marks", separator.as_str())
        }),
    })
}

impl Separator {
    const ALL: [Self; 3] = [Self::Comma, Self::Semicolon, Self::Tab];

    /// The separator of a text, and the text without a line that names it (`sep=;`), but with the
    /// end of that line. Otherwise, the separator is the one that the header contains most often.
    fn detect(text: &str) -> (Self, &str) {
        let length = text.find(['\n', '\r']).unwrap_or(text.len());
        let (first, rest) = text.split_at(length);
        let named = first.trim_matches(['"', ' ']).strip_prefix("sep=");
        let named = Self::ALL
            .into_iter()
            .find(|separator| named.is_some_and(|name| name.starts_with(separator.character())));
        if let Some(separator) = named {
            return (separator, rest);
        }

        let header = text.trim_start_matches(['\n', '\r']).lines().next().unwrap_or_default();
        let count = |separator: &Self| header.matches(separator.character()).count();
        // The last maximum is returned, and a comma is more probable than any other separator.
        let separator = Self::ALL.into_iter().rev().max_by_key(count).unwrap_or_default();
        (separator, text)
    }

    const fn character(self) -> char {
        match self {
            Self::Comma => ',',
            Self::Semicolon => ';',
            Self::Tab => '\t',
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
        }
    }

    /// The name of the character.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Comma => "comma",
            Self::Semicolon => "semicolon",
            Self::Tab => "tab",
        }
    }
}

impl Generated {
    /// Appends text that belongs to a location of the file.
    fn add(&mut self, text: &str, location: Location) {
        self.cells.push((self.text.len(), location));
        self.text += text;
    }

    /// Appends one row as an inline table. Empty cells are omitted.
    fn add_tenant(&mut self, header: &[Cell], row: &[Cell]) {
        let Some((_, start)) = row.first() else { return };
        self.add("{", *start);

        let (mut labels, mut keys) = (Vec::new(), Vec::new());
        for ((column, _), (value, location)) in header.iter().zip(row) {
            match column.strip_prefix(LABEL) {
                _ if value.is_empty() => {}
                Some(label) => labels.push((toml_key(label), value, *location)),
                None => keys.push((column, value, *location)),
            }
        }

        for (column, value, location) in keys {
            let is_integer = |key: &KeyDefinition| {
                key.name == column && matches!(key.shape, Shape::Integer { .. })
            };
            let is_number = key_columns().any(is_integer) && value.parse::<u32>().is_ok();
            let shown = if is_number { value.clone() } else { toml_string(value) };
            self.add(&format!("{column} = {shown},"), location);
        }
        self.add("labels = {", *start);
        let count = labels.len();
        for (index, (label, value, location)) in labels.into_iter().enumerate() {
            let separator = if index + 1 < count { "," } else { "" };
            self.add(&format!("{label} = {}{separator}", toml_string(value)), location);
        }
        let _ = writeln!(self.text, "}}}},");
    }
}

impl<'a> Locations<'a> {
    fn of(text: &'a str, separator: Separator) -> Self {
        Self { rest: text, line: 1, separator, unclosed: None }
    }
}

impl Iterator for Locations<'_> {
    type Item = Vec<Location>;

    /// The locations of the cells of the next row.
    fn next(&mut self) -> Option<Vec<Location>> {
        let start = self.rest.trim_start_matches(['\n', '\r']);
        self.line += line_ends(&self.rest[..self.rest.len() - start.len()]);
        self.rest = start;
        if start.is_empty() {
            return None;
        }

        let (mut column, mut locations) = (1, Vec::new());
        loop {
            let (cell, rest) = self.rest.split_at(cell_length(self.rest, self.separator));
            let indent = cell.chars().take_while(|c| matches!(c, ' ' | '\t')).count();
            let location = Location { line: self.line, column: column + indent };
            locations.push(location);
            // Only the last cell of a text can have an odd number of them.
            if cell.starts_with('"') && cell.matches('"').count() % 2 == 1 {
                self.unclosed = Some(location);
            }

            // A cell in quotation marks can contain line breaks.
            self.line += line_ends(cell);
            column = match cell.rsplit_once(['\n', '\r']) {
                Some((_, last)) => last.chars().count() + 1,
                None => column + cell.chars().count(),
            };
            let Some(after) = rest.strip_prefix(self.separator.character()) else {
                self.rest = rest;
                return Some(locations);
            };
            (self.rest, column) = (after, column + 1);
        }
    }
}

/// The length in bytes of the cell at the beginning of a text, with its quotation marks (RFC 4180).
/// A cell ends before a separator or a line break that is not in quotation marks.
fn cell_length(text: &str, separator: Separator) -> usize {
    // A doubled quotation mark ends and begins the quoted part, so it needs no special treatment.
    let mut is_quoted = false;
    let can_be_quoted = text.starts_with('"');
    let end = text.find(|c: char| match c {
        '"' if can_be_quoted => {
            is_quoted = !is_quoted;
            false
        }
        '\n' | '\r' => !is_quoted,
        c => c == separator.character() && !is_quoted,
    });
    end.unwrap_or(text.len())
}

/// The number of line ends in a text: CRLF, LF, or CR, which old spreadsheets write.
fn line_ends(text: &str) -> usize {
    text.matches(['\n', '\r']).count() - text.matches("\r\n").count()
}

#[cfg(test)]
mod tests;
