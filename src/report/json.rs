//! The report as JSON, for other programs. The names of the members must not change, because
//! scripts read them; `docs/how-to/reports.md` documents them. An absent number is `null`, and a
//! day is written as `YYYY-MM-DD`.

use serde_json::{Value, json};

use super::{DayTotals, PointTotals, Report, ReportedChange, Window, ranking::RankedChanges};
use crate::{
    foreign_text::ForeignText,
    model::{Day, Number},
};

/// The members of `period` and `previous_period`.
struct Sums {
    window: Window,
    stored_days: usize,
    points: PointTotals,
    high_changes: usize,
    /// The points of the newest stored day.
    score: Option<Number>,
    /// The percentage of the newest stored day.
    percentage: Option<Number>,
}

/// The report as one indented JSON object with a trailing newline. `generated` is the time at which
/// it is generated, as text.
pub(super) fn document(report: &Report, generated: &str) -> String {
    indented(&value(report, generated))
}

/// An indented JSON document with a trailing newline. Hidden characters are escaped.
pub(super) fn indented(document: &Value) -> String {
    ForeignText::new(&format!("{document:#}\n")).escaped_json().into_owned()
}

/// A number, or null if it is absent.
pub(super) fn number(number: Option<Number>) -> Value {
    number.map_or(Value::Null, |number| json!(number.get()))
}

fn value(report: &Report, generated: &str) -> Value {
    let breakdown = &report.breakdown;
    let list = |values: Vec<Value>| Value::Array(values);
    let (current, previous) = periods(report);
    let ranked = RankedChanges::of(&report.changes, usize::MAX);

    json!({
        "generated": generated,
        "title": report.heading(),
        "summary": report.summary(),
        "tenant": { "id": report.tenant.id.to_string(), "name": report.tenant.name, "labels": report.tenant.labels },
        "first_day": report.window.first.to_string(),
        "last_day": report.window.last.to_string(),
        "period": current,
        "previous_period": previous,
        "days": list(report.days.iter().map(|(day, totals)| self::day(*day, totals)).collect()),
        "points": {
            "total": number(breakdown.total), "max": number(breakdown.max), "sum_of_controls": breakdown.sum_of_controls.get(),
            "achieved": breakdown.achieved.get(), "asserted": breakdown.asserted.get(), "provided": breakdown.provided.get(),
        },
        "categories": list(report.categories.iter().map(|c| json!({
            "name": c.name, "score": c.points.get(), "max_score": c.max.get(),
        })).collect()),

        "changes": list(ranked.listed().map(change).collect()),
        "implementation_changes": report.implementation_changes,
        "improvements": list(report.improvements.iter().map(|i| json!({
            "control": i.control, "title": i.title, "service": i.service, "missing": i.missing.get(),
            "max_score": i.max.get(), "implementation_cost": i.cost, "user_impact": i.impact,
        })).collect()),

        "decisions": list(report.decisions.iter().map(|d| json!({
            "control": d.control, "title": d.title, "state": d.state, "state_updated_by": d.by, "state_updated": d.at,
            "state_comment": d.comment, "points": number(d.points),
            "expected_by": d.expected.as_ref().map(|(owner, _)| owner),
            "expires": d.expected.as_ref().and_then(|(_, day)| day.map(|day| day.to_string())),
        })).collect()),

        "baseline": report.baseline.as_ref().map(|b| json!({
            "name": b.name, "day": b.day.map(|day| day.to_string()), "targets": b.targets,
            "below": b.below.iter().map(|d| json!({
                "control": d.control, "title": d.title, "target": d.target, "score": number(d.score),
                "percentage": number(d.percentage), "missing": number(d.missing),
            })).collect::<Vec<_>>(),
        })),
        "missing_days": list(report.missing.iter().map(|m| json!({ "date": m.day.to_string(), "absent": m.absent })).collect()),
    })
}

fn change(change: &ReportedChange) -> Value {
    json!({
        "date": change.day.to_string(), "what": change.what.as_str(), "cause": change.cause.as_str(),
        "severity": change.severity.cef(), "control": change.control, "title": change.title,
        "points": number(change.points), "delta": number(change.delta), "historical": change.historical,
        "flapping": change.flapping, "message": change.sentence,
    })
}

/// The sums of the period, and those of the period before; the latter are null if it has no stored
/// days.
fn periods(report: &Report) -> (Value, Value) {
    let newest = report.newest().map(|(_, totals)| totals);
    let current = Sums {
        window: report.window,
        stored_days: report.days.len(),
        points: report.points,
        high_changes: report.high_changes(),
        score: newest.and_then(|totals| totals.current),
        percentage: newest.and_then(|totals| totals.percentage),
    };

    let previous = report.previous.as_ref().map(|previous| {
        let newest = previous.newest().map(|(_, score)| score);
        Sums {
            window: previous.window,
            stored_days: previous.days.len(),
            points: previous.points,
            high_changes: previous.high_changes,
            score: newest.and_then(|score| score.current),
            percentage: newest.and_then(|score| score.percentage),
        }
    });
    (current.value(), previous.map_or(Value::Null, |previous| previous.value()))
}

impl Sums {
    fn value(&self) -> Value {
        json!({
            "first_day": self.window.first.to_string(), "last_day": self.window.last.to_string(),
            "stored_days": self.stored_days, "points_gained": self.points.gained.get(),
            "points_lost": self.points.lost.get(), "high_severity_changes": self.high_changes,
            "score": number(self.score), "percentage": number(self.percentage),
        })
    }
}

fn day(day: Day, totals: &DayTotals) -> Value {
    let averages: serde_json::Map<String, Value> =
        totals.averages.iter().map(|(basis, score)| (basis.clone(), json!(score.get()))).collect();
    json!({
        "date": day.to_string(), "score": number(totals.current), "max_score": number(totals.max),
        "percentage": number(totals.percentage), "sum_of_controls": totals.sum_of_controls.get(),
        "controls": totals.controls, "revision": totals.revision, "partial": totals.partial, "averages": averages,
    })
}
