//! What the configuration says of changes: how much they matter, and which decisions are expected.

use super::Glob;
use crate::model::{
    Acceptance, Cause, Change, ChangeKind, Day, ExpectedBy, Number, Phase, Severity, What,
    accepts_risk,
};

/// The rules for one tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The first that fits counts; if none does, see [`Rules::severity`].
    pub severity: Vec<SeverityRule>,
    pub expected: Vec<Expectation>,
}

/// An empty list, or `None`, fits everything.
#[derive(Clone, Debug, PartialEq)]
pub struct SeverityRule {
    /// `change.what` or `quality.what`.
    pub what: Vec<String>,
    pub controls: Vec<Glob>,
    pub categories: Vec<Glob>,
    pub cause: Option<Cause>,
    /// Points gained or lost, at least.
    pub points: Option<Number>,
    pub severity: Severity,
}

/// A decision that is no surprise.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    pub control: Glob,
    pub state: String,
    pub owner: String,
    /// The last day on which it is expected.
    pub expires: Option<Day>,
}

/// A loss from here on is a great one, in points.
const GREAT: f64 = 5.0;

impl Rules {
    /// How much a change matters. Where no rule fits:
    ///
    /// | change | severity |
    /// |---|---|
    /// | historical | informational, whatever the rules say |
    /// | caused by Microsoft; improved, added, `implementation_changed`, back at the baseline | informational |
    /// | regressed, below the baseline | high from 5 points on, else medium; low where it flaps or the cause is unknown |
    /// | removed, cause unknown | low |
    /// | a risk accepted or points asserted: expected, not expected | informational, high |
    /// | any other decision | low |
    /// | an acceptance expired | high |
    pub fn severity(
        &self,
        change: &Change<'_>,
        category: Option<&str>,
        acceptance: Acceptance<'_>,
    ) -> Severity {
        if change.historical {
            return Severity::Informational;
        }
        let rule = self.severity.iter().find(|rule| rule.fits(change, category));
        rule.map_or_else(|| default_severity(change, acceptance), |rule| rule.severity)
    }

    /// How much an observation matters: its end not at all.
    pub fn severity_of_quality(&self, what: What, phase: Phase) -> Severity {
        if phase == Phase::End {
            return Severity::Informational;
        }
        let named = |rule: &&SeverityRule| rule.what.iter().any(|name| name == what.as_str());
        if let Some(rule) = self.severity.iter().find(named) {
            return rule.severity;
        }
        match what {
            What::ForeignTenant | What::CredentialExpiring => Severity::High,
            What::Stale | What::Implausible | What::PollFailed | What::DeadLetter => {
                Severity::Medium
            }
            What::Gap | What::Partial | What::CatalogStale => Severity::Low,
        }
    }

    /// Whether a decision of this state accepts anything, and whether that is expected on this day.
    pub fn acceptance(&self, control: &str, state: Option<&str>, day: Day) -> Acceptance<'_> {
        let Some(state) = state.filter(|state| accepts_risk(state)) else {
            return Acceptance::None;
        };
        let good = |e: &&Expectation| e.expires.is_none_or(|last| last >= day);
        let found = self.fitting(control, state).find(good);
        found.map_or(Acceptance::Unexpected, |e| Acceptance::Expected(e.by()))
    }

    /// The expectation that was good on the base day, where on this day none is any more.
    pub(super) fn expired(
        &self,
        control: &str,
        state: Option<&str>,
        base: Day,
        day: Day,
    ) -> Option<ExpectedBy<'_>> {
        let state = state.filter(|state| accepts_risk(state))?;
        let last = |e: &Expectation| e.expires.map_or(i32::MAX, Day::number);
        let longest = self.fitting(control, state).max_by_key(|e| last(e))?;
        (last(longest) >= base.number() && last(longest) < day.number()).then(|| longest.by())
    }

    fn fitting<'r>(&'r self, control: &str, state: &str) -> impl Iterator<Item = &'r Expectation> {
        self.expected.iter().filter(move |e| e.state == state && e.control.matches(control))
    }
}

impl SeverityRule {
    fn fits(&self, change: &Change<'_>, category: Option<&str>) -> bool {
        let any = |globs: &[Glob], text: &str| {
            globs.is_empty() || globs.iter().any(|glob| glob.matches(text))
        };
        let lost = change.delta.map_or(0.0, |delta| delta.get().abs());
        (self.what.is_empty() || self.what.iter().any(|what| what == change.what.as_str()))
            && any(&self.controls, change.control)
            && any(&self.categories, category.unwrap_or_default())
            && self.cause.is_none_or(|cause| cause == change.cause)
            && self.points.is_none_or(|points| lost >= points.get())
    }
}

impl Expectation {
    fn by(&self) -> ExpectedBy<'_> {
        ExpectedBy { owner: &self.owner, expires: self.expires }
    }
}

fn default_severity(change: &Change<'_>, acceptance: Acceptance<'_>) -> Severity {
    let lost = change.delta.map_or(0.0, |delta| -delta.get());
    match change.what {
        ChangeKind::AcceptanceExpired => Severity::High,
        ChangeKind::DecisionChanged => match acceptance {
            Acceptance::Unexpected | Acceptance::Expired(_) => Severity::High,
            Acceptance::Expected(_) => Severity::Informational,
            Acceptance::None => Severity::Low,
        },
        _ if change.cause == Cause::Microsoft => Severity::Informational,
        ChangeKind::Regressed if change.flapping => Severity::Low,
        ChangeKind::Regressed if change.cause == Cause::Unknown => Severity::Low,
        ChangeKind::Regressed if lost >= GREAT => Severity::High,
        ChangeKind::Regressed => Severity::Medium,
        ChangeKind::BaselineDrift if change.is_below_baseline() && lost >= GREAT => Severity::High,
        ChangeKind::BaselineDrift if change.is_below_baseline() => Severity::Medium,
        ChangeKind::Removed => Severity::Low,
        _ => Severity::Informational,
    }
}
