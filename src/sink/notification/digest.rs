//! The digest of many records: counts, the problems that began and have not ended, and the largest
//! changes. Its size does not depend on the number of records: it fits a screen, and what needs an
//! operator is at its beginning. A digest covers the records of one batch only, so a problem of an
//! earlier digest is not repeated. Start reading at [`digest`].

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Message, Notice, Part,
    merge::{MergedNotice, merged},
    notice::{NoticeKind, severity_name, title},
};
use crate::{
    format::cut,
    model::Severity,
    text::{signed, with_separators},
};

/// The maximum number of problems in the list.
const MAX_PROBLEMS: usize = 10;
/// The maximum number of changes in the list.
const MAX_CHANGES: usize = 5;
/// The maximum number of characters of a row, without the hint below it.
const MAX_ROW: usize = 200;

/// The kinds of change whose points are part of the score. The points of the others, such as the
/// distance from a target, would count a change twice.
const SCORED: &[&str] = &["regressed", "improved", "added", "removed"];

/// The digest of the records of a batch, oldest first.
pub(super) fn digest(notices: &[Notice]) -> Message {
    let changes: Vec<&Notice> =
        notices.iter().filter(|notice| notice.kind == NoticeKind::Change).collect();
    let parts =
        [Some(summary(notices, &changes)), open_problems(notices), largest_changes(&changes)];

    let title = title(notices).replacen("Secure Score:", "Secure Score digest:", 1);
    Message { title, parts: parts.into_iter().flatten().collect() }
}

fn summary(notices: &[Notice], changes: &[&Notice]) -> Part {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));

    let times = notices.iter().map(|notice| notice.time.as_str());
    if let (Some(first), Some(last)) = (times.clone().min(), times.max()) {
        fact("Period", format!("{first} to {last}"));
    }
    fact("Changes", by_severity(changes));
    if !changes.is_empty() {
        fact("By kind", by_kind(changes));
    }

    let began: Vec<&Notice> = of_kind(notices, NoticeKind::ProblemBegan).collect();
    let ended = of_kind(notices, NoticeKind::ProblemEnded).count();
    fact("Problems", format!("{}; {} resolved", by_severity(&began), with_separators(ended)));

    let points = || changes.iter().filter_map(|notice| scored_points(notice));
    let gained: f64 = points().filter(|points| *points > 0.0).sum();
    let lost: f64 = points().filter(|points| *points < 0.0).sum();
    fact("Points", format!("{} gained, {} lost", signed(gained), signed(lost)));

    Part {
        event_id: None,
        severity: highest(notices.iter()),
        heading: "Summary".to_owned(),
        text: String::new(),
        facts,
    }
}

/// The problems that began and have not ended: the most severe first, then those of most tenants.
/// A hint is below the last one of the rows that have it.
fn open_problems(notices: &[Notice]) -> Option<Part> {
    let mut open: BTreeMap<(&str, &str, &str), &Notice> = BTreeMap::new();
    for notice in notices {
        let key = (notice.tenant.as_str(), notice.what.as_str(), notice.subject.as_str());
        match notice.kind {
            NoticeKind::ProblemBegan => {
                open.insert(key, notice);
            }
            NoticeKind::ProblemEnded => {
                open.remove(&key);
            }
            NoticeKind::Change | NoticeKind::Score => {}
        }
    }

    let mut open = merged(open.into_values());
    open.sort_by_key(|merged| Reverse((merged.first.severity, merged.count())));
    let more = open.len().saturating_sub(MAX_PROBLEMS);
    open.truncate(MAX_PROBLEMS);

    let mut facts = Vec::new();
    for (index, merged) in open.iter().enumerate() {
        facts.push((severity_name(merged.first.severity()).to_owned(), row(merged)));
        let hint = &merged.first.hint;
        let is_repeated = open.get(index + 1).is_some_and(|next| next.first.hint == *hint);
        if let Some(hint) = hint
            && !is_repeated
        {
            facts.push((Part::HINT.to_owned(), hint.clone()));
        }
    }
    let severity = highest(open.iter().map(|merged| merged.first));
    list("Open problems", severity, facts, more)
}

/// The changes with the most points: losses first, as in a report, and then gains.
fn largest_changes(changes: &[&Notice]) -> Option<Part> {
    let scored = changes.iter().filter_map(|notice| Some((scored_points(notice)?, *notice)));
    let mut scored: Vec<(f64, &Notice)> = scored.filter(|(points, _)| *points != 0.0).collect();
    scored.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));

    // Losses and gains are limited together, so that no loss is omitted for a smaller gain.
    let mut largest = merged(scored.into_iter().map(|(_, notice)| notice));
    let more = largest.len().saturating_sub(MAX_CHANGES);
    largest.truncate(MAX_CHANGES);
    let points = |merged: &MergedNotice<'_>| merged.first.points.unwrap_or_default();
    largest.sort_by_key(|merged| points(merged) > 0.0);

    let severity = highest(largest.iter().map(|merged| merged.first));
    let facts = largest.iter().map(|merged| (signed(points(merged)), row(merged)));
    list("Largest changes", severity, facts.collect(), more)
}

/// A section with these rows, and the number of rows that are left out; `None` without rows.
fn list(
    heading: &str,
    severity: Severity,
    mut facts: Vec<(String, String)>,
    more: usize,
) -> Option<Part> {
    if more > 0 {
        facts.push(("…".to_owned(), format!("and {} more", with_separators(more))));
    }
    (!facts.is_empty()).then(|| Part {
        event_id: None,
        severity,
        heading: heading.to_owned(),
        text: String::new(),
        facts,
    })
}

/// The number of notices, and how many there are of each severity: `3 (1 high, 2 low)`.
fn by_severity(notices: &[&Notice]) -> String {
    let counts: Vec<String> = Severity::ALL
        .into_iter()
        .rev()
        .filter_map(|severity| {
            let count = notices.iter().filter(|notice| notice.severity() == severity).count();
            (count > 0).then(|| format!("{} {}", with_separators(count), severity.as_str()))
        })
        .collect();

    let total = with_separators(notices.len());
    if counts.is_empty() { total } else { format!("{total} ({})", counts.join(", ")) }
}

/// How many changes there are of each kind, most first: `2 regressed, 1 improved`.
fn by_kind(changes: &[&Notice]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for change in changes {
        *counts.entry(change.what_in_words()).or_default() += 1;
    }

    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    // The sort is stable: kinds with the same count are in alphabetical order.
    counts.sort_by_key(|(_, count)| Reverse(*count));
    let counts = counts.iter().map(|(what, count)| format!("{} {what}", with_separators(*count)));
    counts.collect::<Vec<String>>().join(", ")
}

fn of_kind(notices: &[Notice], kind: NoticeKind) -> impl Iterator<Item = &Notice> {
    notices.iter().filter(move |notice| notice.kind == kind)
}

fn scored_points(notice: &Notice) -> Option<f64> {
    notice.points.filter(|_| SCORED.contains(&notice.what.as_str()))
}

fn highest<'n>(notices: impl Iterator<Item = &'n Notice>) -> Severity {
    notices.map(Notice::severity).max().unwrap_or(Severity::Informational)
}

fn row(merged: &MergedNotice<'_>) -> String {
    cut(&format!("{}: {}", merged.tenants(), merged.first.sentence), MAX_ROW).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            EventIdLines,
            tests::{change, problem, resolved},
        },
        *,
    };

    #[test]
    fn a_digest_counts_ranks_and_lists_open_problems() {
        let notices = [
            change("contoso", "regressed", -10.0, 8),
            change("contoso", "improved", 2.5, 1),
            change("fabrikam", "regressed", -3.0, 5),
            change("fabrikam", "baseline_drift", -50.0, 8),
            problem("contoso", "2026-11-20"),
            problem("contoso", "2026-11-21"),
            resolved("contoso", "2026-11-20"),
        ];
        let message = digest(&notices);
        assert_eq!(
            message.title,
            "Secure Score digest: 4 changes, 2 problems, 1 resolved problem in 2 tenants"
        );
        assert_eq!(
            message.text(EventIdLines::Included),
            "Summary
Period: 2026-11-22 06:15 UTC to 2026-11-23 06:15 UTC
Changes: 4 (2 high, 1 medium, 1 informational)
By kind: 2 regressed, 1 baseline drift, 1 improved
Problems: 2 (2 low); 1 resolved
Points: +2.5 gained, −13 lost

Open problems
Low: contoso: day 2026-11-21 is missing
Hint: run `backfill`

Largest changes
−10: contoso: Require MFA: regressed
−3: fabrikam: Require MFA: regressed
+2.5: contoso: Require MFA: improved
"
        );
        assert_eq!(message.parts[0].severity, Severity::High);
    }

    #[test]
    fn the_size_of_a_digest_is_limited() {
        let mut notices = Vec::new();
        for day in 0..2_000 {
            let sentence = "界".repeat(500);
            notices.push(Notice { sentence, ..change("contoso", "regressed", -1.0, 8) });
            notices.push(problem("contoso", &format!("day {day}")));
        }

        let message = digest(&notices);
        let facts = |part: usize| message.parts[part].facts.last().unwrap().1.as_str();
        assert_eq!((facts(1), facts(2)), ("and 1,990 more", "and 1,995 more"));
        assert!(message.text(EventIdLines::Omitted).len() < 16_000);
    }

    /// Regression: a problem of all tenants filled the list with equal rows.
    #[test]
    fn equal_rows_of_many_tenants_are_one_row() {
        let mut notices: Vec<Notice> = (0..30).map(|n| problem(&n.to_string(), "x")).collect();
        notices.push(problem("a", "y"));
        notices.extend((0..3).map(|n| change(&n.to_string(), "regressed", -1.0, 8)));

        let message = digest(&notices);
        let rows = |part: usize| -> Vec<&str> {
            message.parts[part].facts.iter().map(|(_, row)| row.as_str()).collect()
        };
        let problems =
            ["0 and 29 other tenants: day x is missing", "a: day y is missing", "run `backfill`"];
        assert_eq!(rows(1), problems);
        assert_eq!(rows(2), ["0 and 2 other tenants: Require MFA: regressed"]);
    }

    /// Regression: the problems of a digest were below its changes, and had no hints.
    #[test]
    fn the_worst_rows_are_first_with_their_hints() {
        let severe = |tenant: &str, severity: u8, hint: Option<&str>| Notice {
            severity,
            hint: hint.map(str::to_owned),
            ..problem(tenant, tenant)
        };
        let mut notices = vec![
            severe("a", 5, Some("wait")),
            severe("b", 8, Some("renew the secret")),
            severe("c", 8, None),
            change("d", "improved", 10.0, 1),
            change("e", "regressed", -9.0, 8),
            change("f", "improved", 0.1, 1),
        ];
        notices.extend((0..3).map(|n| severe(&n.to_string(), 5, Some("wait"))));
        // The same problem of two tenants is before the others of its severity.
        notices.extend(
            ["g", "h"]
                .map(|tenant| Notice { tenant: tenant.to_owned(), ..severe("x", 8, Some("act")) }),
        );

        let message = digest(&notices);
        let facts = |part: usize| message.parts[part].facts.clone();
        let names = |part: usize| -> Vec<String> {
            facts(part).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(
            names(1),
            [
                "High", "Hint", "High", "Hint", "High", "Medium", "Medium", "Medium", "Medium",
                "Hint"
            ]
        );
        assert_eq!(facts(1)[0].1, "g and 1 other tenant: day x is missing");
        assert_eq!((facts(1)[1].1.as_str(), facts(1)[3].1.as_str()), ("act", "renew the secret"));
        assert_eq!(names(2), ["−9", "+10", "+0.1"]);
    }

    #[test]
    fn a_problem_that_begins_again_is_open() {
        let notices = [problem("a", "x"), resolved("a", "x"), problem("a", "x"), problem("b", "y")];
        let open = open_problems(&notices).unwrap();
        let names: Vec<&str> = open.facts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Low", "Low", Part::HINT]);
        assert!(open_problems(&[problem("a", "x"), resolved("a", "x")]).is_none());
    }
}
