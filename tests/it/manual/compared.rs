//! No figure of some pages is missing in the list of `figures`, so that a new figure is compared
//! with the code as soon as it is written.

use super::{figures::FIGURES, read};

/// Pages in which every figure with a unit is compared with the code.
const COMPARED_PAGES: &[&str] = &[
    "docs/how-to/automate-with-json.md",
    "docs/how-to/check-the-configuration.md",
    "docs/how-to/monitoring.md",
    "docs/how-to/notifications.md",
];

/// Figures of these pages that are examples.
const EXAMPLES: &[(&str, &str)] = &[
    ("docs/how-to/check-the-configuration.md", "40 tenants"),
    ("docs/how-to/monitoring.md", "1,000 tenants"),
];

const NUMBER_WORDS: &[&str] =
    &["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "thirty"];

/// A word that follows a figure.
const UNITS: &[&str] =
    &["days", "hours", "minutes", "seconds", "records", "tenants", "KB", "MiB", "dead", "largest"];

#[test]
fn every_figure_of_these_pages_is_compared() {
    let mut found = 0;
    for page in COMPARED_PAGES {
        for figure in figures_with_units(&read(page)) {
            found += 1;
            let lower = figure.to_lowercase();
            let is_compared = FIGURES.iter().any(|(name, statement, ..)| {
                name == page && statement.to_lowercase().contains(&lower)
            });
            let is_example = EXAMPLES.contains(&(*page, figure.as_str()));
            assert!(is_compared || is_example, "{page}: `{figure}` is compared with no constant");
        }
    }
    assert!(found > 15, "only {found} figures were found");
}

/// The figures of a page, outside fenced blocks, each with its unit.
fn figures_with_units(page: &str) -> Vec<String> {
    let prose = page.split("```").step_by(2);
    let words: Vec<&str> = prose.flat_map(str::split_whitespace).collect();
    let is_number = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            || NUMBER_WORDS.contains(&word.to_lowercase().as_str())
    };
    let pairs = words.windows(2).map(|pair| {
        let unit = pair[1].trim_end_matches([',', ';', '.', ':']);
        (pair[0], unit)
    });
    let figures = pairs.filter(|(number, unit)| is_number(number) && UNITS.contains(unit));
    figures.map(|(number, unit)| format!("{number} {unit}")).collect()
}
