//! Reports on the score, the changes, the decisions and the open improvements of a tenant, and an
//! overview of many tenants.
//!
//! A report is a pure function of facts, catalogs and rules. [`crate::derive`] derives its changes
//! as well as those that sinks send, so both agree. Start reading at [`ReportBuilder`].
//! See decision 0039.

mod build;
mod change;
mod change_tables;
mod csv;
mod cut;
mod files;
mod html;
mod json;
mod markdown;
mod overview;
mod period;
mod ranking;
mod sections;
mod summary;
mod svg;
mod text;

use std::collections::BTreeMap;

pub use build::{Detail, ReportBuilder};
pub use change::ReportedChange;
pub use files::file_names;
pub use html::document;
pub use overview::{Overview, Row};
pub use period::{DayScore, PointTotals, PreviousPeriod, Window};
pub use svg::sparkline;

use crate::model::{Day, Number, Tenant};

/// The text of a report whose period contains no days.
const NO_DATA: &str = "There is no data for this period.";

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One self-contained page.
    Html,
    /// One line per day, or per tenant in the overview.
    Csv,
    /// Tables of limited length, for tickets and wikis.
    Markdown,
    /// One indented document with all data.
    Json,
}

/// The report of one tenant.
#[derive(Clone, Debug)]
pub struct Report {
    /// The heading; `None` for the default, which names the tenant.
    pub title: Option<String>,
    pub tenant: Tenant,
    /// The requested period, which may begin before the first stored day.
    pub window: Window,
    /// The period before. `None` if it has no stored days, or for [`Detail::Row`].
    pub previous: Option<PreviousPeriod>,
    /// What the controls gained and lost: the sum over `changes`.
    pub points: PointTotals,
    /// The totals of each day, from its last revision.
    pub days: BTreeMap<Day, DayTotals>,
    /// Ordered by missing points, most first.
    pub categories: Vec<Category>,
    /// Ordered by day, newest first, and within a day by severity, highest first. The formats list
    /// them by points.
    pub changes: Vec<ReportedChange>,
    /// The number of changes of the kind `implementation_changed`, which are not listed in
    /// `changes`.
    pub implementation_changes: usize,
    /// Ordered by [`Improvement::worth`], highest first.
    pub improvements: Vec<Improvement>,
    /// The decisions in force, newest first.
    pub decisions: Vec<Decision>,
    /// The days without an entry between the first and the last day of `days`, oldest first.
    pub missing: Vec<MissingReportDay>,
    /// `None` if the tenant has no baseline, or if `days` is empty.
    pub baseline: Option<BaselineState>,
    /// All zero or `None` if `days` is empty.
    pub breakdown: ScoreBreakdown,
}

/// The totals of a day.
#[derive(Clone, Debug)]
pub struct DayTotals {
    /// The points of the tenant; `None` if Microsoft sent none.
    pub current: Option<Number>,
    /// The maximum number of points; `None` if Microsoft sent none.
    pub max: Option<Number>,
    /// `current` × 100 / `max`, rounded to two decimal places; `None` if one of them is absent or
    /// `max` is zero.
    pub percentage: Option<Number>,
    /// The sum of the scores of all controls, which may differ from `current`.
    pub sum_of_controls: Number,
    /// The number of controls.
    pub controls: usize,
    /// The averages of peers, each with its basis as Microsoft names it.
    pub averages: Vec<(String, Number)>,
    /// The revision of the day that the totals are taken from, starting at 1.
    pub revision: u32,
    /// Whether the response or the catalog of that revision was incomplete.
    pub partial: bool,
}

/// A category of controls on the newest day.
#[derive(Clone, Debug)]
pub struct Category {
    /// The category in the profiles, or `Not in the catalog`.
    pub name: String,
    /// The sum of the scores of its controls.
    pub points: Number,
    /// The sum of the maximum scores of its controls; an unknown one counts as zero.
    pub max: Number,
    /// The points of each day, oldest first.
    pub series: Vec<(Day, f64)>,
}

/// A control that does not have its maximum score.
#[derive(Clone, Debug)]
pub struct Improvement {
    /// The ID of the control.
    pub control: String,
    /// The title of the profile, or the ID of the control if it has none.
    pub title: String,
    /// The product that the control belongs to, such as `AzureAD`; empty if it is unknown.
    pub service: String,
    /// The points that are missing from the maximum score.
    pub missing: Number,
    /// The maximum score in points.
    pub max: Number,
    /// Microsoft's estimate of the cost: `Low` or `low`, `Moderate`, `High`, `Unknown`, or empty.
    pub cost: String,
    /// Microsoft's estimate of the impact on users, with the same values.
    pub impact: String,
    /// Where the control is configured, as Microsoft sent it: not always an HTTP URL, and empty if
    /// it is unknown.
    pub url: String,
    /// The missing points divided by the weight of the cost, which is from 1 to 3.
    pub worth: f64,
}

/// A decision in force.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The ID of the control.
    pub control: String,
    /// The title of the profile, or the ID of the control if it has none.
    pub title: String,
    /// The state as Microsoft sent it: `Ignored` for an accepted risk, `ThirdParty` or `Reviewed`;
    /// never `Default`.
    pub state: String,
    /// The person who made the decision; empty if unknown.
    pub by: String,
    /// The time of the decision as RFC 3339 in UTC; empty if unknown.
    pub at: String,
    /// The text that the person entered, which is untrusted; empty if there is none.
    pub comment: String,
    /// The points that an accepted risk costs, or that are claimed for a third party. `None` for
    /// another state, or if they are unknown.
    pub points: Option<Number>,
    /// The owner of the expected decision, and the last day on which it is expected. `None` if no
    /// section of the configuration matches the decision.
    pub expected: Option<(String, Option<Day>)>,
    /// Whether the decision accepts a risk or claims points for a third party.
    pub accepts_risk: bool,
}

/// A day between the first and the last day of the report that is not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingReportDay {
    pub day: Day,
    /// Whether the day is no longer requested, because Microsoft does not have it.
    pub absent: bool,
}

/// The newest day compared with the baseline.
#[derive(Clone, Debug)]
pub struct BaselineState {
    /// The name that the operator chose.
    pub name: String,
    /// The day from which the targets were derived; `None` for targets from a file.
    pub day: Option<Day>,
    /// The number of targets.
    pub targets: usize,
    /// The controls that are below their target, ordered by ID.
    pub below: Vec<Drift>,
}

/// A control that is below its target on the newest day.
#[derive(Clone, Debug)]
pub struct Drift {
    /// The ID of the control.
    pub control: String,
    /// The title of the profile, or the ID of the control if it has none.
    pub title: String,
    /// The target as text: points such as `8`, or a percentage such as `100%`.
    pub target: String,
    /// The points on the newest day; `None` if Microsoft sent none.
    pub score: Option<Number>,
    /// 0 to 100; `None` if Microsoft sent none.
    pub percentage: Option<Number>,
    /// The points that are missing from the target; `None` if they are unknown.
    pub missing: Option<Number>,
}

/// The parts of the newest day's score, in points. `achieved`, `asserted` and `provided` add up to
/// `sum_of_controls`, which may differ from `total`.
#[derive(Clone, Debug)]
pub struct ScoreBreakdown {
    /// `currentScore` of the API; `None` if Microsoft sent none.
    pub total: Option<Number>,
    /// `maxScore` of the API; `None` if Microsoft sent none.
    pub max: Option<Number>,
    /// The sum of the scores of all controls.
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
    /// Replaces the heading; `None` keeps the default.
    #[must_use]
    pub fn titled(mut self, title: Option<&str>) -> Self {
        self.title = title.map(str::to_owned);
        self
    }

    /// Renders the report. `generated` is the time at which it is generated, as text.
    pub fn write(&self, format: Format, generated: &str) -> String {
        match format {
            Format::Html => html::page(self, generated),
            Format::Csv => csv::days(self),
            Format::Markdown => markdown::page(self, generated),
            Format::Json => json::document(self, generated),
        }
    }

    /// The newest day and its totals. `None` if the period contains no days.
    pub fn newest(&self) -> Option<(Day, &DayTotals)> {
        self.days.last_key_value().map(|(day, totals)| (*day, totals))
    }

    /// The percentage points gained in the last `days` days, compared with the newest day that is
    /// at least that much older. `None` if there is no such day or a percentage is unknown.
    pub fn gained(&self, days: i32) -> Option<f64> {
        let (last, newest) = self.newest()?;
        let earlier = self.days.range(..=last.plus(-days)).next_back()?.1;
        Some(newest.percentage?.get() - earlier.percentage?.get())
    }

    /// What happened in the period, in one sentence.
    pub fn summary(&self) -> String {
        summary::of_tenant(self)
    }

    /// The `count` changes that gained or lost the most points, then those without points by their
    /// severity.
    pub fn most_important(&self, count: usize) -> Vec<&ReportedChange> {
        let mut changes: Vec<&ReportedChange> = self.changes.iter().collect();
        changes.sort_by(|a, b| ranking::by_points(a, b));
        changes.truncate(count);
        changes
    }

    fn heading(&self) -> String {
        let default = || format!("Microsoft Secure Score of {}", self.tenant.name);
        self.title.clone().unwrap_or_else(default)
    }
}

impl DayTotals {
    /// The average of the peers with this basis, such as `AllTenants`, in any case. `None` if
    /// Microsoft sent none.
    pub fn average(&self, basis: &str) -> Option<Number> {
        let mut averages = self.averages.iter();
        let found = averages.find(|(name, _)| name.eq_ignore_ascii_case(basis));
        found.map(|(_, score)| *score)
    }
}

#[cfg(test)]
mod tests;
