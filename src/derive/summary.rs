//! Builds the summary record of a day. The totals are those that Microsoft sent; the sums are
//! computed from the controls, and both may differ.
//!
//! The names of categories are keys of an object in most formats, and a receiver can make a field
//! of an index from each of them. Their number and their characters are therefore limited.

use std::{borrow::Cow, collections::BTreeMap};

use crate::model::{ControlScore, Number, Snapshot, SummaryRecord};

/// The maximum number of categories of a summary; Microsoft has five.
const MAX_CATEGORIES: usize = 32;
/// The maximum number of characters of the name of a category.
const MAX_NAME_CHARS: usize = 64;
/// The name of all other categories together.
const OTHER: &str = "Other";

/// Builds the summary of a snapshot. `controls` are its distinct controls, `controls_total` is
/// their number, and `records_sent` is the number of records of the entry that the sink receives,
/// including this one.
pub(super) fn record<'a>(
    snapshot: &'a Snapshot<'a>,
    controls: impl Iterator<Item = &'a ControlScore<'a>>,
    controls_total: u32,
    records_sent: u32,
) -> SummaryRecord<'a> {
    let mut categories: BTreeMap<&str, f64> = BTreeMap::new();
    let mut sum = 0.0;
    for control in controls {
        let score = control.score.map_or(0.0, Number::get);
        sum += score;
        if let Some(category) = &control.category {
            *categories.entry(category).or_default() += score;
        }
    }
    let categories = merged(categories);

    let percentage = match (snapshot.current_score, snapshot.max_score) {
        (Some(current), Some(max)) if max > Number::ZERO => {
            rounded(current.get() * 100.0 / max.get())
        }
        _ => None,
    };

    SummaryRecord {
        current: snapshot.current_score,
        max: snapshot.max_score,
        percentage,
        sum_of_controls: rounded(sum).unwrap_or(Number::ZERO),
        categories: categories
            .into_iter()
            .filter_map(|(name, sum)| Some((name, rounded(sum)?)))
            .collect(),
        active_users: snapshot.active_users,
        licensed_users: snapshot.licensed_users,
        enabled_services: &snapshot.enabled_services,
        // Microsoft has sent -1 for "no average" since 2019.
        averages: snapshot
            .averages
            .iter()
            .filter(|average| average.score.is_some_and(|score| !score.is_negative()))
            .collect(),
        controls_total,
        records_sent,
        additional: &snapshot.additional,
    }
}

/// Categories whose names differ only in case are one; it has the name that is sorted first. Those
/// after the first ones, up to the limit, are one with the name [`OTHER`].
fn merged(categories: BTreeMap<&str, f64>) -> BTreeMap<Cow<'_, str>, f64> {
    let mut merged: BTreeMap<Cow<'_, str>, f64> = BTreeMap::new();
    let mut names: BTreeMap<String, Cow<'_, str>> = BTreeMap::new();
    for (name, sum) in categories {
        let mut name = clean(name);
        let mut key = name.to_ascii_lowercase();
        // One name is reserved for all others.
        if names.len() + 1 >= MAX_CATEGORIES && !names.contains_key(&key) {
            name = Cow::Borrowed(OTHER);
            key = OTHER.to_ascii_lowercase();
        }

        let first = names.entry(key).or_insert(name).clone();
        *merged.entry(first).or_default() += sum;
    }
    merged
}

/// A name that can be a key in every format: of limited length, and without a character that is
/// hidden, ends a line, or separates the parts of the name of a field, such as a period.
fn clean(name: &str) -> Cow<'_, str> {
    let name = name.trim();
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '&' | '/');
    if name.is_empty() {
        return Cow::Borrowed(OTHER);
    }
    if name.len() <= MAX_NAME_CHARS && name.chars().all(is_kept) {
        return Cow::Borrowed(name);
    }
    let kept = name.chars().take(MAX_NAME_CHARS);
    kept.map(|c| if is_kept(c) { c } else { '_' }).collect()
}

/// Rounds to two decimal places, which removes the rounding errors of a sum of floats.
fn rounded(value: f64) -> Option<Number> {
    Number::new((value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: each category was compared with all others, so many long names occupied a
    /// processor for a long time.
    #[test]
    fn many_categories_are_merged() {
        let names: Vec<String> = (0..100_000).map(|number| format!("Category {number}")).collect();
        let mut categories: BTreeMap<&str, f64> =
            names.iter().map(|name| (name.as_str(), 1.0)).collect();
        categories.insert("category 7", 2.0);

        let merged = merged(categories);
        let found = (merged.len(), merged.values().sum::<f64>());
        assert_eq!(found, (MAX_CATEGORIES, 100_002.0));
    }

    /// Regression: a tenant could choose any number of keys, and thereby of fields of an index.
    #[test]
    fn names_of_categories_are_limited() {
        let longest = "x".repeat(MAX_NAME_CHARS);
        let too_long = "x".repeat(MAX_NAME_CHARS + 1);
        let shortened = format!("{longest} 2");
        for (names, expected) in [
            (&["Apps", "identity", "Identity"][..], &["Apps 1", "Identity 2"][..]),
            (&["Data & Devices", "a-b_c/d 1"], &["Data & Devices 1", "a-b_c/d 1 1"]),
            (&["a.b", "a\"b", "a\u{202e}b", "a\nb", "aäb"], &["a_b 5"]),
            (&["", " ", "other"], &["Other 3"]),
            (&[" Apps "], &["Apps 1"]),
            (&[longest.as_str(), too_long.as_str()], &[shortened.as_str()]),
        ] {
            let categories = names.iter().map(|name| (*name, 1.0)).collect();
            let found: Vec<String> =
                merged(categories).iter().map(|(name, sum)| format!("{name} {sum}")).collect();
            assert_eq!(found, expected, "{names:?}");
        }
    }

    #[test]
    fn categories_above_the_limit_are_one() {
        for (number, expected) in [(31, 31), (32, 32), (33, 32), (5_000, 32)] {
            let names: Vec<String> = (0..number).map(|number| format!("C{number:04}")).collect();
            let merged = merged(names.iter().map(|name| (name.as_str(), 1.0)).collect());
            assert_eq!(merged.contains_key(OTHER), number > 31, "{number}");
            let found = (merged.len(), merged.values().sum::<f64>());
            assert_eq!(found, (expected, f64::from(number)), "{number}");
        }
    }
}
