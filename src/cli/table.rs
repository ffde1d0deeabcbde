//! Tables for the terminal: numbers are aligned to the right, and a narrow terminal shortens names
//! and titles and hides the least important columns instead of wrapping every cell. The layout of a
//! table is pure: it depends on its cells and on the width that the caller passes. A cell is one
//! line, and foreign text in it cannot control the terminal. Start reading at
//! [`TextTable::render`].

use std::io::IsTerminal;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets::NOTHING};

use crate::{foreign_text::ForeignText, telemetry::is_colored, text::cut};

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// The heading, with the unit of the column.
    pub heading: &'static str,
    pub content: Content,
    /// Columns with a higher rank are hidden first; a column with rank 0 is never hidden.
    pub rank: u8,
}

/// What the cells of a column contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Text,
    /// Numbers, which are aligned to the right.
    Number,
    /// Names or titles of any length. Before a column is hidden, they are shortened to as few as
    /// `min` characters.
    Label {
        min: usize,
    },
}

/// How important the content of a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

/// How a table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terminal {
    /// The number of columns; `None` if the output is not a terminal, so that nothing is shortened.
    pub width: Option<usize>,
    pub is_colored: bool,
}

/// A table of text cells.
#[derive(Debug)]
pub(super) struct TextTable {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Tone)>>,
}

/// The width between two columns.
const GAP: usize = 2;
/// The first column is not shortened below this number of characters.
const MIN_FIRST_COLUMN: usize = 12;
/// The width of a terminal that reports none, if `$COLUMNS` is not set either.
const DEFAULT_WIDTH: usize = 80;

impl Column {
    /// A column with this heading.
    pub(super) const fn new(heading: &'static str, content: Content, rank: u8) -> Self {
        Self { heading, content, rank }
    }
}

impl Terminal {
    /// The terminal of standard output.
    pub(super) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self { width: None, is_colored: false };
        }

        // A width of 0 means that the terminal does not know its size.
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let reported = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        let variable = || std::env::var("COLUMNS").ok()?.parse::<usize>().ok();
        let variable = || variable().filter(|width| *width > 0);
        Self {
            width: Some(reported.or_else(variable).unwrap_or(DEFAULT_WIDTH)),
            is_colored: is_colored(&stdout),
        }
    }
}

impl TextTable {
    /// A table without rows. The first column must have the rank 0, because it names the row.
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row with one cell per column.
    pub(super) fn row(&mut self, cells: Vec<(String, Tone)>) {
        let escaped =
            |(text, tone): (String, Tone)| (ForeignText::new(&text).escaped().into_owned(), tone);
        self.rows.push(cells.into_iter().map(escaped).collect());
    }

    /// The table as lines without trailing spaces, each with a line break.
    pub(super) fn render(&self, terminal: Terminal) -> String {
        let mut widths = self.widths();
        let least = self.least_widths(&widths);
        let shown = shown_columns(&self.columns, &least, terminal.width);
        if let Some(limit) = terminal.width {
            fit(&mut widths, &least, &shown, limit);
        }

        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if terminal.is_colored {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(
            shown.iter().map(|index| self.cell(*index, self.columns[*index].heading, Tone::Plain)),
        );
        for row in &self.rows {
            table.add_row(shown.iter().map(|index| {
                let (text, tone) = &row[*index];
                self.cell(*index, &cut(text, widths[*index]), *tone)
            }));
        }

        // The style has one space on each side of a column.
        table
            .lines()
            .map(|line| {
                let line = line.trim_end();
                // The color of the first cell is before its space.
                line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n"
            })
            .collect()
    }

    /// The width of each column in characters.
    fn widths(&self) -> Vec<usize> {
        let width = |index: usize, column: &Column| {
            let cells = self.rows.iter().map(|row| row[index].0.chars().count());
            cells.max().unwrap_or(0).max(column.heading.chars().count())
        };
        self.columns.iter().enumerate().map(|(index, column)| width(index, column)).collect()
    }

    /// The width to which each column can be shortened before a column is hidden.
    fn least_widths(&self, widths: &[usize]) -> Vec<usize> {
        let least = |(column, width): (&Column, &usize)| match column.content {
            Content::Label { min } => min.max(column.heading.chars().count()).min(*width),
            Content::Text | Content::Number => *width,
        };
        self.columns.iter().zip(widths).map(least).collect()
    }

    fn cell(&self, column: usize, text: &str, tone: Tone) -> Cell {
        let alignment = match self.columns[column].content {
            Content::Text | Content::Label { .. } => CellAlignment::Left,
            Content::Number => CellAlignment::Right,
        };
        let cell = Cell::new(text).set_alignment(alignment);
        match tone {
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::Green),
            Tone::Warning => cell.fg(Color::Yellow),
            Tone::Bad => cell.fg(Color::Red),
        }
    }
}

/// The indexes of the columns that fit into the width.
fn shown_columns(columns: &[Column], widths: &[usize], limit: Option<usize>) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let Some(limit) = limit else { return shown };

    while total(widths, &shown) > limit {
        let hideable = shown.iter().filter(|index| columns[**index].rank > 0);
        let Some(hidden) = hideable.max_by_key(|index| columns[**index].rank).copied() else {
            break;
        };
        shown.retain(|index| *index != hidden);
    }
    shown
}

/// Reduces the widths of the shown columns until they fit into the limit: first those of the widest
/// labels, and then that of the first column, which contains names.
fn fit(widths: &mut [usize], least: &[usize], shown: &[usize], limit: usize) {
    let mut excess = total(widths, shown).saturating_sub(limit);
    while excess > 0 {
        let labels = shown.iter().filter(|index| widths[**index] > least[**index]);
        let Some(widest) = labels.max_by_key(|index| widths[**index]) else { break };
        widths[*widest] -= 1;
        excess -= 1;
    }

    if let Some(first) = widths.first_mut() {
        *first = first.saturating_sub(excess).max(MIN_FIRST_COLUMN.min(*first));
    }
}

fn total(widths: &[usize], shown: &[usize]) -> usize {
    shown.iter().map(|index| widths[*index] + GAP).sum::<usize>().saturating_sub(GAP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::with_separators;

    fn table() -> TextTable {
        let mut table = TextTable::new(vec![
            Column::new("tenant", Content::Text, 0),
            Column::new("state", Content::Text, 0),
            Column::new("days", Content::Number, 2),
            Column::new("last error", Content::Text, 1),
        ]);
        for (name, days) in [("contoso", 90_u64), ("a-tenant-with-a-very-long-name", 12_345)] {
            table.row(vec![
                (name.to_owned(), Tone::Plain),
                ("current".to_owned(), Tone::Good),
                (with_separators(days), Tone::Plain),
                ("none".to_owned(), Tone::Plain),
            ]);
        }
        table
    }

    fn plain(width: Option<usize>) -> Terminal {
        Terminal { width, is_colored: false }
    }

    /// Regression: on a terminal that reports a width of 0, every cell had one letter per line.
    #[test]
    fn narrow_terminals_hide_columns() {
        let all = "tenant                          state      days  last error\n\
                   contoso                         current      90  none\n\
                   a-tenant-with-a-very-long-name  current  12,345  none\n";
        assert_eq!(table().render(plain(None)), all);
        assert_eq!(table().render(plain(Some(80))), all);

        for width in [10, 20, 30, 40, 50, 59, 60] {
            let shown = table().render(plain(Some(width)));
            assert_eq!(shown.lines().count(), 3, "{width}: {shown}");
            let longest = shown.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width.max(21), "{width}: {shown}");
        }
        assert!(!table().render(plain(Some(50))).contains("days"));
        assert!(table().render(plain(Some(30))).contains("a-tenant-with-a-very…"));
    }

    #[test]
    fn labels_are_shortened_before_columns_are_hidden() {
        let mut table = TextTable::new(vec![
            Column::new("control", Content::Label { min: 10 }, 0),
            Column::new("score", Content::Number, 0),
            Column::new("title", Content::Label { min: 8 }, 1),
        ]);
        for (control, score, title) in [
            ("AdminMFAV2", "10", "Require MFA"),
            ("a_control_with_a_long_name", "0.25", "A title that is much longer than its column"),
        ] {
            table.row([control, score, title].map(|text| (text.to_owned(), Tone::Plain)).to_vec());
        }

        for (width, second_row) in [
            (
                None,
                "a_control_with_a_long_name   0.25  A title that is much longer than its column",
            ),
            (Some(60), "a_control_with_a_long_name   0.25  A title that is much lon…"),
            (Some(48), "a_control_with_a_lo…   0.25  A title that is mu…"),
            (Some(27), "a_control…   0.25  A title…"),
            (Some(26), "a_control_with_a_l…   0.25"),
        ] {
            let text = table.render(plain(width));
            assert_eq!(text.lines().nth(2), Some(second_row), "{width:?}\n{text}");
        }
    }

    /// Regression: cells could contain control characters, and a line break ended the row.
    #[test]
    fn cells_are_one_line_without_hidden_characters() {
        let mut table = TextTable::new(vec![
            Column::new("control", Content::Text, 0),
            Column::new("title", Content::Text, 0),
        ]);
        let cells = ["\u{1b}[2J\u{202e}", "a\nb"].map(|text| (text.to_owned(), Tone::Plain));
        table.row(cells.to_vec());
        let expected = "control            title\n\\u{1b}[2J\\u{202e}  a\\nb\n";
        assert_eq!(table.render(plain(None)), expected);
    }

    #[test]
    fn colors_are_used_only_if_requested() {
        assert!(!table().render(plain(Some(80))).contains('\u{1b}'));
        let colored = Terminal { width: None, is_colored: true };
        assert!(table().render(colored).contains("\u{1b}["));
    }
}
