//! Changes: how a control differs between a day and its base. The types only carry the result;
//! `derive::change` decides what has changed. The names of their variants are part of records and
//! of event IDs, so they must never change. Start reading at [`Change`].

use super::{Day, DecisionState, Number, Profile, StateUpdate};

/// The kinds of change: the values of `change.what` in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// The score fell.
    Regressed,
    /// The score rose.
    Improved,
    /// The base has no such control.
    Added,
    /// The day no longer has the control.
    Removed,
    /// The catalog states another maximum score.
    MaxScoreChanged,
    /// A person accepted a risk, claimed points for another product, or revoked such a decision.
    DecisionChanged,
    /// The control was deprecated, or is no longer deprecated.
    Deprecated,
    /// The implementation differs (`on`, count, total or percentage), but the score does not.
    ImplementationChanged,
    /// The control fell below its target, its score changed while it was below, or it reached the
    /// target again.
    BaselineDrift,
    /// An expected acceptance is still in force after its last day.
    AcceptanceExpired,
}

/// The cause of a change: the values of `change.cause` in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The configuration of the tenant changed.
    Tenant,
    /// Microsoft changed the catalog.
    Microsoft,
    /// The cause cannot be determined from the stored days.
    Unknown,
}

/// The severity of a change or an observation, ordered from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

/// The state of a control before or after a change. Only fields that the change is about are set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ControlState<'a> {
    /// Points.
    pub score: Option<Number>,
    /// The maximum number of points.
    pub max_score: Option<Number>,
    /// 0 to 100.
    pub percentage: Option<Number>,
    /// Users or devices that satisfy the control.
    pub count: Option<Number>,
    /// Users or devices in the scope of the control.
    pub total: Option<Number>,
    /// Whether the setting is on, for a control that has no count.
    pub on: Option<bool>,
    /// Whether Microsoft has deprecated the control.
    pub deprecated: Option<bool>,
    /// The decision that was made or revoked.
    pub decision: Option<&'a StateUpdate>,
}

/// The baseline and the target that a drift is measured from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftFrom<'a> {
    /// The name of the baseline.
    pub name: &'a str,
    /// The day that the target was taken from; `None` if it was read from a file.
    pub day: Option<Day>,
    /// The target that the control missed or reached.
    pub target: Target,
}

/// The target of a control in a baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// A score.
    Points(Number),
    /// A share of the maximum score, which stays valid when Microsoft changes the maximum. 0 to
    /// 100.
    Percent(Number),
}

/// The `[[expected_decisions]]` section that matches a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedBy<'a> {
    /// The owner of the decision, as configured.
    pub owner: &'a str,
    /// The last day on which the decision is expected.
    pub expires: Option<Day>,
}

/// Whether a decision accepts a risk or claims points, and whether the configuration expects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance<'a> {
    /// The decision accepts nothing.
    None,
    /// A section of the configuration expects the decision on this day.
    Expected(ExpectedBy<'a>),
    /// No section of the configuration matches the decision.
    Unexpected,
    /// The acceptance was expected until a day that has passed.
    Expired(ExpectedBy<'a>),
}

/// A change of one control.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    pub what: ChangeKind,
    /// The ID of the control.
    pub control: &'a str,
    /// Whether the tenant or Microsoft caused the change.
    pub cause: Cause,
    /// `None` for decisions that existed when the tenant was read for the first time.
    pub base_day: Option<Day>,
    /// The state on the base day.
    pub before: ControlState<'a>,
    /// The state on the day of the entry.
    pub after: ControlState<'a>,
    /// Points gained or lost; for `max_score_changed` the difference of the maximum scores; for
    /// `baseline_drift` the distance from the target.
    pub delta: Option<Number>,
    /// Whether the change was not observed when it happened: it was found by a backfill or an
    /// import, or was made before the first poll.
    pub historical: bool,
    /// Whether the score has reversed its direction at least twice within 14 days.
    pub flapping: bool,
    /// The target, for `baseline_drift`.
    pub baseline: Option<DriftFrom<'a>>,
}

/// The body of a `change` record.
#[derive(Clone, Debug)]
pub struct ChangeRecord<'a> {
    pub change: Change<'a>,
    /// The severity by the rules of the tenant.
    pub severity: Severity,
    /// The category from the profile or the snapshot; `None` if neither has one.
    pub category: Option<&'a str>,
    /// The profile; `None` if the catalog does not contain the control.
    pub profile: Option<&'a Profile>,
    /// For a decision, whether the configuration expects it.
    pub acceptance: Acceptance<'a>,
}

/// The body of a `quality` record.
#[derive(Clone, Debug)]
pub struct QualityRecord<'a> {
    pub what: super::ObservationKind,
    pub phase: super::Phase,
    /// Distinguishes observations of one kind.
    pub subject: &'a super::ObservationSubject,
    /// The day that the condition concerns, or on which it was noticed; the end repeats that of the
    /// begin.
    pub first_day: Day,
    /// The reason, on one line.
    pub details: &'a str,
    /// What an operator can do about it.
    pub hint: Option<&'a str>,
    /// The severity by the rules of the tenant.
    pub severity: Severity,
}

impl ChangeKind {
    /// All kinds, in the order of the reference.
    pub const ALL: [Self; 10] = [
        Self::Regressed,
        Self::Improved,
        Self::Added,
        Self::Removed,
        Self::MaxScoreChanged,
        Self::DecisionChanged,
        Self::Deprecated,
        Self::ImplementationChanged,
        Self::BaselineDrift,
        Self::AcceptanceExpired,
    ];

    /// The value of `change.what` in a record. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Improved => "improved",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::MaxScoreChanged => "max_score_changed",
            Self::DecisionChanged => "decision_changed",
            Self::Deprecated => "deprecated",
            Self::ImplementationChanged => "implementation_changed",
            Self::BaselineDrift => "baseline_drift",
            Self::AcceptanceExpired => "acceptance_expired",
        }
    }

    /// The kind with this name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Microsoft, Self::Unknown];

    /// The value of `change.cause` in a record. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Microsoft => "microsoft",
            Self::Unknown => "unknown",
        }
    }

    /// The cause with this name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

impl Severity {
    /// All severities, from the lowest to the highest.
    pub const ALL: [Self; 5] =
        [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name in records and in the configuration. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity with this name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }

    /// The severity on the scale of CEF, 0 to 10.
    pub const fn cef(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 3,
            Self::Medium => 5,
            Self::High => 8,
            Self::Critical => 10,
        }
    }
}

impl Target {
    /// Parses `8` or `100%`. Returns `None` for other text, negative numbers and more than 100%.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, percent) = match text.strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };

        let number = Number::parse(number).filter(|number| !number.is_negative())?;
        match percent {
            true if number.get() > 100.0 => None,
            true => Some(Self::Percent(number)),
            false => Some(Self::Points(number)),
        }
    }

    /// Whether a control is below the target; `None` if the number to compare is absent.
    pub fn is_missed(self, score: Option<Number>, percentage: Option<Number>) -> Option<bool> {
        match self {
            Self::Points(points) => score.map(|score| score < points),
            Self::Percent(percent) => percentage.map(|percentage| percentage < percent),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Points(points) => points.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Whether a state accepts a risk or claims points for another product.
pub fn accepts_risk(state: &str) -> bool {
    DecisionState::parse(state).is_some_and(DecisionState::accepts_risk)
}

impl<'a> Acceptance<'a> {
    /// The section that expects the acceptance, or that expected it.
    pub fn expected_by(self) -> Option<ExpectedBy<'a>> {
        match self {
            Self::Expected(by) | Self::Expired(by) => Some(by),
            Self::None | Self::Unexpected => None,
        }
    }
}

impl ChangeRecord<'_> {
    /// The title of the profile, or the ID of the control if there is none.
    pub fn title(&self) -> &str {
        let title = self.profile.and_then(|p| p.title.as_deref()).map(str::trim);
        title.filter(|t| !t.is_empty()).unwrap_or(self.change.control)
    }
}
