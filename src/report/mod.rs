//! A tenant's past for people: score, changes, decisions, what is worth doing next.
//!
//! Pure: facts and catalogs in, pages out. Changes are derived by [`crate::derive`], as those are
//! that sinks get, so both tell the same.

mod build;
mod csv;
mod html;
mod json;
mod markdown;
mod overview;
mod svg;

use std::collections::BTreeMap;

pub use build::{Building, Window};
pub use html::document;
pub use overview::Row;
pub use svg::sparkline;

use crate::model::{Cause, ChangeKind, Day, Number, Severity, Tenant};

/// What a report is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Html,
    Csv,
    Markdown,
    Json,
}

/// Everything that is said of one tenant.
#[derive(Clone, Debug)]
pub struct Report {
    pub tenant: Tenant,
    pub window: Window,
    /// Each day once, as it was told last.
    pub days: BTreeMap<Day, DayLine>,
    /// By points missing, most first.
    pub categories: Vec<Category>,
    /// Newest first; those that matter most first within a day.
    pub changes: Vec<ReportedChange>,
    /// Changes of extent alone, which are counted and not listed.
    pub implementations: usize,
    /// By worth, best first.
    pub improvements: Vec<Improvement>,
    /// In force, newest first.
    pub decisions: Vec<Decision>,
    pub missing: Vec<MissingDay>,
    pub baseline: Option<BaselineState>,
    pub points: Points,
}

/// A day's totals.
#[derive(Clone, Debug)]
pub struct DayLine {
    pub current: Option<Number>,
    pub max: Option<Number>,
    pub percentage: Option<Number>,
    pub sum_of_controls: Number,
    pub controls: usize,
    /// Peer averages by their basis, as Microsoft gives them.
    pub averages: Vec<(String, Number)>,
    pub revision: u32,
    pub partial: bool,
}

#[derive(Clone, Debug)]
pub struct Category {
    pub name: String,
    pub points: Number,
    pub max: Number,
    /// Points by day.
    pub series: Vec<(Day, f64)>,
}

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
    /// What has happened, with the control's title.
    pub sentence: String,
}

/// Points that are there to be had.
#[derive(Clone, Debug)]
pub struct Improvement {
    pub control: String,
    pub title: String,
    pub service: String,
    pub missing: Number,
    pub max: Number,
    /// `Low`, `Moderate`, `High`, or nothing.
    pub cost: String,
    pub impact: String,
    pub url: String,
    /// Points over cost: see [`build`].
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
    /// Points given up, or claimed without evidence.
    pub points: Option<Number>,
    /// Who expects it, and until when.
    pub expected: Option<(String, Option<Day>)>,
    /// It accepts a risk or claims points.
    pub accepts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingDay {
    pub day: Day,
    /// It cannot be had any more.
    pub absent: bool,
}

#[derive(Clone, Debug)]
pub struct BaselineState {
    pub name: String,
    pub day: Option<Day>,
    pub targets: usize,
    pub below: Vec<Drift>,
}

#[derive(Clone, Debug)]
pub struct Drift {
    pub control: String,
    pub title: String,
    pub target: String,
    pub score: Option<Number>,
    pub percentage: Option<Number>,
}

/// How the newest day's score adds up.
#[derive(Clone, Debug)]
pub struct Points {
    /// `currentScore`, as the API gives it.
    pub total: Option<Number>,
    pub max: Option<Number>,
    pub sum_of_controls: Number,
    /// Of the sum: seen to be implemented,
    pub achieved: Number,
    /// claimed by the decision that a third party meets the control,
    pub asserted: Number,
    /// and of controls that the catalog marks as provided by Microsoft.
    pub provided: Number,
}

impl Points {
    const NONE: Self = Self {
        total: None,
        max: None,
        sum_of_controls: Number::ZERO,
        achieved: Number::ZERO,
        asserted: Number::ZERO,
        provided: Number::ZERO,
    };
}

impl Report {
    /// Writes it. `made` says when it was made.
    pub fn write(&self, format: Format, made: &str) -> String {
        match format {
            Format::Html => html::page(self, made),
            Format::Csv => csv::days(self),
            Format::Markdown => markdown::page(self, made),
            Format::Json => json::whole(self, made),
        }
    }

    pub fn newest(&self) -> Option<(Day, &DayLine)> {
        self.days.last_key_value().map(|(day, line)| (*day, line))
    }

    /// Percentage points gained in the last so many days, as far as the days are known.
    pub fn gained(&self, days: i32) -> Option<f64> {
        let (last, newest) = self.newest()?;
        let earlier = self.days.range(..=last.plus(-days)).next_back()?.1;
        Some(newest.percentage?.get() - earlier.percentage?.get())
    }

    /// The changes that matter most, the newest of equals first.
    pub fn most_important(&self, count: usize) -> Vec<&ReportedChange> {
        let mut changes: Vec<&ReportedChange> = self.changes.iter().collect();
        let weight = |c: &ReportedChange| {
            (std::cmp::Reverse(c.severity), c.historical, std::cmp::Reverse(c.day))
        };
        changes.sort_by(|a, b| {
            let size = |c: &ReportedChange| c.delta.map_or(0.0, |delta| delta.get().abs());
            weight(a).cmp(&weight(b)).then(size(b).total_cmp(&size(a)))
        });
        changes.truncate(count);
        changes
    }
}

/// To the hundredth, as all sums and shares are shown.
fn tidy(value: f64) -> Number {
    Number::new((value * 100.0).round() / 100.0).unwrap_or(Number::ZERO)
}

fn shown(number: Option<Number>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
