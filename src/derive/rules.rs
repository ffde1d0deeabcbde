//! The configured rules for changes and observations: their severity, and which decisions are
//! expected. The rules decide the severity, the acceptance of a decision, and when an acceptance
//! has expired; the changes themselves do not depend on them.

use super::Glob;
use crate::model::{
    Acceptance, Cause, Change, ChangeKind, Day, DecisionState, ExpectedBy, Number, Observation,
    Phase, Severity, accepts_risk,
};

/// The rules for one tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The first rule that matches applies; if none does, see [`Rules::severity`].
    pub severity: Vec<SeverityRule>,
    /// The decisions that are expected (`[[expected_decisions]]`).
    pub expected: Vec<Expectation>,
}

/// A rule that sets the severity of the records it matches. For a change, a condition that is an
/// empty list or `None` matches everything. For an observation, only `what` is evaluated, and it
/// must name the kind of observation.
#[derive(Clone, Debug, PartialEq)]
pub struct SeverityRule {
    /// Values of `change.what` or `quality.what`.
    pub what: Vec<String>,
    /// Patterns for the control ID.
    pub controls: Vec<Glob>,
    /// Patterns for the category of the control.
    pub categories: Vec<Glob>,
    /// The cause of the change.
    pub cause: Option<Cause>,
    /// The minimum number of points gained or lost.
    pub points: Option<Number>,
    /// The severity that the rule sets.
    pub severity: Severity,
}

/// A decision that the configuration expects, with its owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// The pattern for the control ID.
    pub control: Glob,
    /// The expected state: `Ignored` or `ThirdParty`.
    pub state: String,
    /// The owner, which records contain.
    pub owner: String,
    /// The last day on which the decision is expected; `None` means indefinitely.
    pub expires: Option<Day>,
}

/// A loss of at least this many points has high severity by default.
const HIGH_SEVERITY_POINTS: f64 = 5.0;

impl Rules {
    /// The severity of a change. A historical change is always informational. Any other change has
    /// the severity of the first rule that matches it or, if no rule does, the default:
    ///
    /// | change | severity |
    /// |---|---|
    /// | caused by Microsoft | informational |
    /// | improved, added, `implementation_changed`, target reached again | informational |
    /// | regressed | high for 5 points or more, else medium; low if it flaps or the cause is unknown |
    /// | below the target | high for 5 points or more, else medium |
    /// | removed, with an unknown cause | low |
    /// | a risk accepted, or points claimed for a third party | high; informational if expected |
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
        self.severity_by_rules(change, category, acceptance)
    }

    /// The severity that the rules and the defaults define, also for a historical change. Reports
    /// use it, because most of what they describe is history.
    pub fn severity_by_rules(
        &self,
        change: &Change<'_>,
        category: Option<&str>,
        acceptance: Acceptance<'_>,
    ) -> Severity {
        let rule = self.severity.iter().find(|rule| rule.matches(change, category));
        rule.map_or_else(|| default_severity(change, acceptance), |rule| rule.severity)
    }

    /// The severity of an observation: that of the first rule that names it or, if no rule does,
    /// the one of [`ObservationKind::severity`](crate::model::ObservationKind::severity). Its end
    /// is always informational.
    pub fn severity_of_quality(&self, observation: &Observation) -> Severity {
        let Observation { what, subject, phase, .. } = observation;
        if *phase == Phase::End {
            return Severity::Informational;
        }

        // A rule without `what` applies to changes only.
        let is_named = |rule: &&SeverityRule| rule.what.iter().any(|name| name == what.as_str());
        let rule = self.severity.iter().find(is_named);
        rule.map_or_else(|| what.severity(Some(subject)), |rule| rule.severity)
    }

    /// Whether a decision with this state accepts a risk or claims points, and whether that is
    /// expected on this day.
    pub fn acceptance(&self, control: &str, state: Option<&str>, day: Day) -> Acceptance<'_> {
        let Some(state) = state.filter(|state| accepts_risk(state)) else {
            return Acceptance::None;
        };
        let is_valid = |e: &&Expectation| e.expires.is_none_or(|last| last >= day);
        let expectation = self.expectations(control, state).find(is_valid);
        expectation.map_or(Acceptance::Unexpected, |e| Acceptance::Expected(e.expected_by()))
    }

    /// The expectation that was still valid on the base day, if none is valid on this day.
    pub(super) fn expired(
        &self,
        control: &str,
        state: Option<&str>,
        base: Day,
        day: Day,
    ) -> Option<ExpectedBy<'_>> {
        let state = state.filter(|state| accepts_risk(state))?;
        let last = |e: &Expectation| e.expires.map_or(i32::MAX, Day::number);
        let longest = self.expectations(control, state).max_by_key(|e| last(e))?;
        let has_expired = last(longest) >= base.number() && last(longest) < day.number();
        has_expired.then(|| longest.expected_by())
    }

    fn expectations<'r>(
        &'r self,
        control: &str,
        state: &str,
    ) -> impl Iterator<Item = &'r Expectation> {
        let state = DecisionState::parse(state);
        let is_state = move |e: &Expectation| DecisionState::parse(&e.state) == state;
        self.expected.iter().filter(move |e| is_state(e) && e.control.matches(control))
    }
}

impl SeverityRule {
    fn matches(&self, change: &Change<'_>, category: Option<&str>) -> bool {
        let any = |globs: &[Glob], text: &str| {
            globs.is_empty() || globs.iter().any(|glob| glob.matches(text))
        };
        let delta = change.delta.map_or(0.0, |delta| delta.get().abs());

        (self.what.is_empty() || self.what.iter().any(|what| what == change.what.as_str()))
            && any(&self.controls, change.control)
            && any(&self.categories, category.unwrap_or_default())
            && self.cause.is_none_or(|cause| cause == change.cause)
            && self.points.is_none_or(|points| delta >= points.get())
    }
}

impl Expectation {
    fn expected_by(&self) -> ExpectedBy<'_> {
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
        ChangeKind::Regressed if lost >= HIGH_SEVERITY_POINTS => Severity::High,
        ChangeKind::Regressed => Severity::Medium,
        ChangeKind::BaselineDrift if change.is_below_baseline() => {
            if lost >= HIGH_SEVERITY_POINTS {
                Severity::High
            } else {
                Severity::Medium
            }
        }
        ChangeKind::Removed => Severity::Low,
        _ => Severity::Informational,
    }
}
