//! Builds the summary record of a day. The totals are those that Microsoft sent; the sums are
//! computed from the controls, and both may differ.

use std::{borrow::Cow, collections::BTreeMap};

use crate::model::{ControlScore, Number, Snapshot, SummaryRecord};

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
            .filter_map(|(name, sum)| Some((Cow::Borrowed(name), rounded(sum)?)))
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

/// Categories whose names differ only in case are one; it has the name that is sorted first.
fn merged(categories: BTreeMap<&str, f64>) -> BTreeMap<&str, f64> {
    let mut merged: BTreeMap<&str, f64> = BTreeMap::new();
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, sum) in categories {
        let first = *names.entry(name.to_ascii_lowercase()).or_insert(name);
        *merged.entry(first).or_default() += sum;
    }
    merged
}

/// Rounds to two decimal places, which removes the rounding errors of a sum of floats.
fn rounded(value: f64) -> Option<Number> {
    Number::new((value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Regression: each category was compared with all others, so many long names occupied a
    /// processor for a long time.
    #[test]
    fn many_categories_are_merged_quickly() {
        let names: Vec<String> = (0..100_000).map(|number| format!("Category {number}")).collect();
        let mut categories: BTreeMap<&str, f64> =
            names.iter().map(|name| (name.as_str(), 1.0)).collect();
        categories.insert("category 7", 2.0);

        let began = Instant::now();
        let merged = merged(categories);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!((merged.len(), merged["Category 7"]), (100_000, 3.0));
    }
}
