//! The sentence at the top of a report, and the comparison with the period before it. The text is
//! plain and contains titles from Microsoft, so each format must escape it. Start reading at
//! [`of_tenant`], [`of_tenants`] and [`comparison`].

use std::cmp::Ordering;

use super::{
    PointTotals, PreviousPeriod, Report, ReportedChange, Row, Window,
    ranking::by_points,
    text::{grouped, percent, points, rounded, signed},
};
use crate::{
    format::cut,
    model::{Number, Severity},
    text::with_separators,
};

/// The maximum number of characters of a title in the sentence.
const MAX_TITLE: usize = 80;

/// One line of the comparison of two periods.
pub(super) struct ComparisonRow {
    pub name: &'static str,
    /// The value in the period of the report.
    pub current: String,
    /// The value in the period before it.
    pub previous: String,
    /// The first value minus the second; empty where that has no meaning.
    pub difference: String,
}

/// What happened in the period of a report, such as `On 2026-11-30, the score was 62.8% (512.3 of
/// 815.2 points), 2.6 percentage points less than on 2026-10-31; from 2026-11-01 to 2026-11-30,
/// controls lost 24 points and gained 12 points, and the largest loss was 10 points (Require MFA,
/// 2026-11-12).`
pub(super) fn of_tenant(report: &Report) -> String {
    let (Some((day, totals)), Some((first, _))) = (report.newest(), report.days.first_key_value())
    else {
        return super::NO_DATA.to_owned();
    };

    let score = percent(totals.percentage);
    let of_max = match (totals.current, totals.max) {
        (Some(current), Some(max)) => format!(" ({} of {})", grouped(current), points(max)),
        (Some(current), None) => format!(" ({})", points(current)),
        (None, _) => String::new(),
    };

    format!(
        "On {day}, the score was {score}{of_max}{}; from {first} to {day}, {}{}.",
        since_previous(report),
        gained_and_lost("controls", report.points),
        largest(&report.changes),
    )
}

/// The same for several tenants. `window` is the period of their reports.
pub(super) fn of_tenants(rows: &[Row], window: Window) -> String {
    let losing = rows.iter().filter(|row| row.points.lost > Number::ZERO).count();
    let gaining = rows.iter().filter(|row| row.points.gained > Number::ZERO).count();
    let sum = |number: fn(&Row) -> Number| rounded(rows.iter().map(|r| number(r).get()).sum());
    let total = PointTotals { gained: sum(|r| r.points.gained), lost: sum(|r| r.points.lost) };

    let lost_least = |a: &&Row, b: &&Row| {
        a.points.lost.get().total_cmp(&b.points.lost.get()).then_with(|| b.name.cmp(&a.name))
    };
    let worst = rows.iter().max_by(lost_least).filter(|row| row.points.lost > Number::ZERO);
    let largest = worst.map_or_else(String::new, |row| {
        format!(", and the largest loss was {} ({})", points(row.points.lost), row.name)
    });

    format!(
        "From {} to {}, points were lost in {} and gained in {} of {} tenants: {}{largest}.",
        window.first,
        window.last,
        with_separators(losing),
        with_separators(gaining),
        with_separators(rows.len()),
        gained_and_lost("their controls", total),
    )
}

/// The lines that compare a report with the period before it; `None` if that period has no stored
/// days.
pub(super) fn comparison(report: &Report) -> Option<Vec<ComparisonRow>> {
    let previous = report.previous.as_ref()?;
    let high = report.high_changes();
    let last = report.newest().and_then(|(_, totals)| totals.percentage);
    let last_before = previous.newest().and_then(|(_, score)| score.percentage);

    let number = |name: &'static str, current: usize, previous: usize| ComparisonRow {
        name,
        current: with_separators(current),
        previous: with_separators(previous),
        difference: String::new(),
    };
    let sum = |name: &'static str, current: Number, previous: Number| ComparisonRow {
        name,
        current: grouped(current),
        previous: grouped(previous),
        difference: signed(Some(current.get() - previous.get())),
    };

    Some(vec![
        number("Stored days", report.days.len(), previous.days.len()),
        sum("Points lost", report.points.lost, previous.points.lost),
        sum("Points gained", report.points.gained, previous.points.gained),
        sum("Points gained minus points lost", report.points.net(), previous.points.net()),
        number("High-severity changes", high, previous.high_changes),
        ComparisonRow {
            name: "Percentage on the last stored day",
            current: percent(last),
            previous: percent(last_before),
            difference: signed(difference(last, last_before)),
        },
    ])
}

impl Report {
    /// The number of changes of at least high severity.
    pub(super) fn high_changes(&self) -> usize {
        self.changes.iter().filter(|change| change.severity >= Severity::High).count()
    }
}

/// The difference of the percentage from the last day of the period before.
fn since_previous(report: &Report) -> String {
    let newest = report.newest().and_then(|(_, totals)| totals.percentage);
    let previous = report.previous.as_ref().and_then(PreviousPeriod::newest);
    let Some((day, score)) = previous else { return String::new() };
    let Some(difference) = difference(newest, score.percentage) else { return String::new() };

    let size = grouped(rounded(difference.abs()));
    match rounded(difference).get().total_cmp(&0.0) {
        Ordering::Less => format!(", {size} percentage points less than on {day}"),
        Ordering::Greater => format!(", {size} percentage points more than on {day}"),
        Ordering::Equal => format!(", the same percentage as on {day}"),
    }
}

/// The sums, with the controls as the subject.
fn gained_and_lost(subject: &str, total: PointTotals) -> String {
    if total == PointTotals::ZERO {
        return format!("{subject} neither lost nor gained points");
    }
    format!("{subject} lost {} and gained {}", points(total.lost), points(total.gained))
}

/// The largest loss or, if no control lost points, the largest gain.
fn largest(changes: &[ReportedChange]) -> String {
    let first = |has_sign: fn(f64) -> bool| {
        let matching = changes.iter().filter(|c| c.points.is_some_and(|p| has_sign(p.get())));
        matching.min_by(|a, b| by_points(a, b))
    };
    let (kind, change) = match (first(|value| value < 0.0), first(|value| value > 0.0)) {
        (Some(loss), _) => ("loss", loss),
        (None, Some(gain)) => ("gain", gain),
        (None, None) => return String::new(),
    };

    let size = rounded(change.points.map_or(0.0, |points| points.get().abs()));
    let title = cut(&change.title, MAX_TITLE);
    format!(", and the largest {kind} was {} ({title}, {})", points(size), change.day)
}

fn difference(a: Option<Number>, b: Option<Number>) -> Option<f64> {
    Some(a?.get() - b?.get())
}
