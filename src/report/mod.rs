//! Reports on the score, the changes, the decisions and the open improvements of a tenant, and an
//! overview of many tenants.
//!
//! A report is a pure function of facts, catalogs and rules. [`crate::derive`] derives its changes as
//! well as those that sinks send, so both agree. Start reading at [`ReportBuilder`].
//! See decision 0039.

mod build;
mod csv;
mod html;
mod json;
mod markdown;
mod overview;
mod svg;

use std::collections::BTreeMap;

pub use build::{Detail, ReportBuilder, Window};
pub use html::document;
pub use overview::Row;
pub use svg::sparkline;

use crate::model::{Cause, ChangeKind, Day, Number, Severity, Tenant};

/// The text of a report whose period contains no days.
const NO_DATA: &str = "There is no data for this period.";

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Html,
    Csv,
    Markdown,
    Json,
}

/// The report of one tenant.
#[derive(Clone, Debug)]
pub struct Report {
    pub tenant: Tenant,
    pub window: Window,
    /// The totals of each day, from its last revision.
    pub days: BTreeMap<Day, DayTotals>,
    /// Ordered by missing points, most first.
    pub categories: Vec<Category>,
    /// Ordered by day, newest first, and within a day by severity, highest first.
    pub changes: Vec<ReportedChange>,
    /// The number of changes of the kind `implementation_changed`, which are not listed in `changes`.
    pub implementation_changes: usize,
    /// Ordered by [`Improvement::worth`], highest first.
    pub improvements: Vec<Improvement>,
    /// The decisions in force, newest first.
    pub decisions: Vec<Decision>,
    pub missing: Vec<MissingDay>,
    pub baseline: Option<BaselineState>,
    pub breakdown: ScoreBreakdown,
}

/// The totals of a day.
#[derive(Clone, Debug)]
pub struct DayTotals {
    pub current: Option<Number>,
    pub max: Option<Number>,
    pub percentage: Option<Number>,
    pub sum_of_controls: Number,
    pub controls: usize,
    /// The averages of peers, each with its basis as Microsoft names it.
    pub averages: Vec<(String, Number)>,
    pub revision: u32,
    pub partial: bool,
}

/// A category of controls on the newest day.
#[derive(Clone, Debug)]
pub struct Category {
    pub name: String,
    pub points: Number,
    pub max: Number,
    /// The points of each day.
    pub series: Vec<(Day, f64)>,
}

/// A change as the report lists it.
#[derive(Clone, Debug)]
pub struct ReportedChange {
    pub day: Day,
    pub what: ChangeKind,
    pub cause: Cause,
    pub severity: Severity,
    pub control: String,
    pub delta: Option<Number>,
    pub historical: bool,
    pub flapping: bool,
    pub below_baseline: bool,
    /// The message of the change record, which begins with the title of the control.
    pub sentence: String,
}

/// A control that does not have its maximum score.
#[derive(Clone, Debug)]
pub struct Improvement {
    pub control: String,
    pub title: String,
    pub service: String,
    /// The points that are missing from the maximum score.
    pub missing: Number,
    pub max: Number,
    /// Microsoft's estimate: `Low`, `Moderate`, `High`, or empty.
    pub cost: String,
    /// Microsoft's estimate of the impact on users, with the same values.
    pub impact: String,
    pub url: String,
    /// The missing points divided by the weight of the cost, which is from 1 to 3.
    pub worth: f64,
}

/// A decision in force.
#[derive(Clone, Debug)]
pub struct Decision {
    pub control: String,
    pub title: String,
    pub state: String,
    pub by: String,
    pub at: String,
    pub comment: String,
    /// The points that an accepted risk costs, or that are claimed for a third party.
    pub points: Option<Number>,
    /// The owner of the expected decision, and the last day on which it is expected.
    pub expected: Option<(String, Option<Day>)>,
    /// Whether the decision accepts a risk or claims points for a third party.
    pub accepts_risk: bool,
}

/// A day between the first and the last day of the report that is not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingDay {
    pub day: Day,
    /// Whether the day is no longer requested, because Microsoft does not have it.
    pub absent: bool,
}

/// The newest day compared with the baseline.
#[derive(Clone, Debug)]
pub struct BaselineState {
    pub name: String,
    /// The day from which the targets were derived; `None` for targets from a file.
    pub day: Option<Day>,
    /// The number of targets.
    pub targets: usize,
    pub below: Vec<Drift>,
}

/// A control that is below its target.
#[derive(Clone, Debug)]
pub struct Drift {
    pub control: String,
    pub title: String,
    pub target: String,
    pub score: Option<Number>,
    pub percentage: Option<Number>,
}

/// The parts of the newest day's score, in points. `achieved`, `asserted` and `provided` add up to
/// `sum_of_controls`, which may differ from `total`.
#[derive(Clone, Debug)]
pub struct ScoreBreakdown {
    /// `currentScore` of the API.
    pub total: Option<Number>,
    /// `maxScore` of the API.
    pub max: Option<Number>,
    pub sum_of_controls: Number,
    /// Points of controls whose implementation Microsoft detects.
    pub achieved: Number,
    /// Points that a decision claims for a third party.
    pub asserted: Number,
    /// Points of controls that the catalog marks as provided by Microsoft.
    pub provided: Number,
}

impl ScoreBreakdown {
    const EMPTY: Self = Self {
        total: None,
        max: None,
        sum_of_controls: Number::ZERO,
        achieved: Number::ZERO,
        asserted: Number::ZERO,
        provided: Number::ZERO,
    };
}

impl Report {
    /// Renders the report. `generated` is the time at which it is generated, as text.
    pub fn write(&self, format: Format, generated: &str) -> String {
        match format {
            Format::Html => html::page(self, generated),
            Format::Csv => csv::days(self),
            Format::Markdown => markdown::page(self, generated),
            Format::Json => json::document(self, generated),
        }
    }

    /// The newest day and its totals.
    pub fn newest(&self) -> Option<(Day, &DayTotals)> {
        self.days.last_key_value().map(|(day, totals)| (*day, totals))
    }

    /// The percentage points gained in the last `days` days, compared with the newest day that is at
    /// least that much older. `None` if there is no such day or a percentage is unknown.
    pub fn gained(&self, days: i32) -> Option<f64> {
        let (last, newest) = self.newest()?;
        let earlier = self.days.range(..=last.plus(-days)).next_back()?.1;
        Some(newest.percentage?.get() - earlier.percentage?.get())
    }

    /// The `count` most important changes, ordered by severity, then recent before historical, then
    /// by day and by points.
    pub fn most_important(&self, count: usize) -> Vec<&ReportedChange> {
        let rank = |c: &ReportedChange| {
            (std::cmp::Reverse(c.severity), c.historical, std::cmp::Reverse(c.day))
        };
        let points = |c: &ReportedChange| c.delta.map_or(0.0, |delta| delta.get().abs());

        let mut changes: Vec<&ReportedChange> = self.changes.iter().collect();
        changes.sort_by(|a, b| rank(a).cmp(&rank(b)).then(points(b).total_cmp(&points(a))));
        changes.truncate(count);
        changes
    }
}

/// Rounds a sum or a percentage to two decimal places.
fn rounded(value: f64) -> Number {
    Number::new((value * 100.0).round() / 100.0).unwrap_or(Number::ZERO)
}

/// A number as text; empty if it is absent.
fn display(number: Option<Number>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
