//! The CSV file that `tenants_file` names, as a TOML list of its tenants.
//!
//! The location of each cell is kept, so that a fault in the generated text is reported at the line
//! and the column of the file. This module does not interpret the values; [`super::read`] does.
//! Start reading at [`parse`].

use std::fmt::Write as _;

use super::{ConfigError, keys::tenant};
use crate::{
    error::Explanation,
    settings::{Fault, KeyDefinition, Location, Shape, Source, toml_key, toml_string},
};

/// The prefix of a column that is a label.
const LABEL: &str = "label.";

/// Spreadsheets begin a file in UTF-8 with this mark.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A cell without surrounding space, and its location.
type Cell = (String, Location);

/// Finds the locations of the cells, row by row. Empty lines are skipped.
struct Locations<'a> {
    rest: &'a str,
    line: usize,
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
    let (header, rows) = read(text).map_err(|error| {
        let fault = Fault::elsewhere(Explanation::new(format!("cannot read `{file}`: {error}")));
        ConfigError(vec![fault])
    })?;
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
        match check_length(file, &header, &row) {
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

/// The header and the other rows of a file.
fn read(text: &str) -> Result<(Vec<Cell>, Vec<Vec<Cell>>), csv::Error> {
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    let mut locations = Locations { rest: text, line: 1 };
    let mut located = |record: csv::StringRecord| -> Vec<Cell> {
        let locations = locations.next().unwrap_or_default();
        record.iter().map(str::to_owned).zip(locations).collect()
    };

    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut rows = reader.records().map(|record| record.map(&mut located));
    let header = rows.next().transpose()?.unwrap_or_default();
    Ok((header, rows.collect::<Result<_, _>>()?))
}

fn check_column(file: &str, (column, location): &Cell) -> Option<Fault> {
    let is_label = column.strip_prefix(LABEL).is_some_and(|name| !name.is_empty());
    if is_label || key_columns().any(|key| key.name == column) {
        return None;
    }
    let known: Vec<&str> = key_columns().map(|key| key.name).collect();
    Some(Fault {
        file: file.to_owned(),
        location: Some(*location),
        message: format!("unknown column `{column}`"),
        hint: Some(format!("use only the columns {}, {LABEL}NAME", known.join(", "))),
    })
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

/// The fault of a row that has more or fewer cells than the header.
fn check_length(file: &str, header: &[Cell], row: &[Cell]) -> Option<Fault> {
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
        hint: Some("put a value that contains a comma in quotation marks".to_owned()),
    })
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

impl Iterator for Locations<'_> {
    type Item = Vec<Location>;

    /// The locations of the cells of the next row.
    fn next(&mut self) -> Option<Vec<Location>> {
        let start = self.rest.trim_start_matches(['\n', '\r']);
        self.line += self.rest[..self.rest.len() - start.len()].matches('\n').count();
        self.rest = start;
        if start.is_empty() {
            return None;
        }

        let (mut column, mut locations) = (1, Vec::new());
        loop {
            let (cell, rest) = self.rest.split_at(cell_length(self.rest));
            let indent = cell.chars().take_while(|c| matches!(c, ' ' | '\t')).count();
            locations.push(Location { line: self.line, column: column + indent });

            // A cell in quotation marks can contain line breaks.
            self.line += cell.matches('\n').count();
            column = match cell.rsplit_once('\n') {
                Some((_, last)) => last.chars().count() + 1,
                None => column + cell.chars().count(),
            };
            let Some(after) = rest.strip_prefix(',') else {
                self.rest = rest;
                return Some(locations);
            };
            (self.rest, column) = (after, column + 1);
        }
    }
}

/// The length in bytes of the cell at the beginning of a text, with its quotation marks (RFC 4180).
/// A cell ends before a comma or a line break that is not in quotation marks.
fn cell_length(text: &str) -> usize {
    // A doubled quotation mark ends and begins the quoted part, so it needs no special treatment.
    let mut is_quoted = false;
    let can_be_quoted = text.starts_with('"');
    let end = text.find(|c: char| match c {
        '"' if can_be_quoted => {
            is_quoted = !is_quoted;
            false
        }
        ',' | '\n' | '\r' => !is_quoted,
        _ => false,
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::TENANTS_FILE;

    #[test]
    fn the_description_names_every_column() {
        let doc = TENANTS_FILE.define().doc;
        for column in key_columns().map(|key| key.name).chain(["label.NAME"]) {
            assert!(doc.contains(&format!("`{column}`")), "{column}");
        }
    }

    #[test]
    fn cells_have_their_line_and_column() {
        for (text, expected) in [
            ("a,b\nc, d", vec![vec![(1, 1), (1, 3)], vec![(2, 1), (2, 4)]]),
            ("\r\n\r\nä,b\r\n", vec![vec![(3, 1), (3, 3)]]),
            ("\"x, \"\"y\"\"\",z\n", vec![vec![(1, 1), (1, 12)]]),
            ("\"1\n2\",z\nq", vec![vec![(1, 1), (2, 4)], vec![(3, 1)]]),
            (",", vec![vec![(1, 1), (1, 2)]]),
            ("", vec![]),
        ] {
            let rows = Locations { rest: text, line: 1 };
            let found: Vec<Vec<(usize, usize)>> =
                rows.map(|row| row.into_iter().map(|at| (at.line, at.column)).collect()).collect();
            assert_eq!(found, expected, "{text:?}");

            // The parser finds the same cells.
            let (header, rows) = read(text).unwrap();
            let parsed = std::iter::once(header).chain(rows).map(|row| row.len());
            let lengths: Vec<usize> = expected.iter().map(Vec::len).collect();
            assert_eq!(parsed.filter(|length| *length > 0).collect::<Vec<_>>(), lengths);
        }
    }

    #[test]
    fn generated_text_is_toml_with_locations() {
        let text =
            "\u{feff}name,label.a b,id,initial_backfill_days\n\"o \"\"x\"\"\",v,t.example,7\n,,,\n";
        let source = parse("t.csv", text).unwrap();
        let table: toml::Table = source.text().parse().unwrap();
        let tenant = &table["tenants"][0];
        assert_eq!(tenant["name"].as_str(), Some("o \"x\""));
        assert_eq!(tenant["labels"]["a b"].as_str(), Some("v"));
        assert_eq!(tenant["initial_backfill_days"].as_integer(), Some(7));

        for (value, column) in [("t.example", 13), ("{", 1), ("7,", 23), ("a b", 11)] {
            let at = source.text().find(value).unwrap();
            assert_eq!(source.location(at), Location { line: 2, column }, "{value}");
        }
    }

    /// Regression: a row of separators, which spreadsheets write, was reported as a tenant.
    #[test]
    fn rows_without_values_are_ignored() {
        for text in ["name,id\n,\n\n,\r\n", "name,id\n , \n", "name,id"] {
            assert_eq!(parse("t.csv", text).unwrap().text(), "tenants = [\n]\n", "{text:?}");
        }
    }

    /// Regression: a duplicate column was reported at the first row, as a duplicate key.
    #[test]
    fn duplicate_columns_are_faults_of_the_header() {
        let error = parse("t.csv", "name,id,name\na,a.example,b\n").err().unwrap();
        let faults: Vec<String> = error.0.iter().map(ToString::to_string).collect();
        assert_eq!(faults, ["t.csv:1:9: duplicate column `name`: it is also at column 1"]);
    }

    #[test]
    fn faults_of_the_table_are_reported_together() {
        let error = parse("t.csv", "name,idd,x\na,b\nc,d,e,f\n").err().unwrap();
        let faults: Vec<String> = error.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "t.csv:1:6: unknown column `idd`",
                "t.csv:1:10: unknown column `x`",
                "t.csv:2:1: the row and the header have different numbers of fields: 2 and 3",
                "t.csv:3:1: the row and the header have different numbers of fields: 4 and 3",
            ]
        );
    }
}
