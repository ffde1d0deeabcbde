//! Changes: how a control differs between a day and its base.

use super::{Day, Number, Profile, StateUpdate};

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

/// The severity of a change or an observation.
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
    pub score: Option<Number>,
    pub max_score: Option<Number>,
    pub percentage: Option<Number>,
    pub count: Option<Number>,
    pub total: Option<Number>,
    pub on: Option<bool>,
    pub deprecated: Option<bool>,
    pub decision: Option<&'a StateUpdate>,
}

/// The baseline and the target that a drift is measured from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftFrom<'a> {
    /// The name of the baseline.
    pub name: &'a str,
    /// The day that the target was taken from; `None` if it was read from a file.
    pub day: Option<Day>,
    pub target: Target,
}

/// The target of a control in a baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// A score.
    Points(Number),
    /// A share of the maximum score, which stays valid when Microsoft changes the maximum.
    Percent(Number),
}

/// The `[[expected_decisions]]` section that matches a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedBy<'a> {
    pub owner: &'a str,
    /// The last day on which the decision is expected.
    pub expires: Option<Day>,
}

/// Whether a decision accepts a risk or claims points, and whether the configuration expects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance<'a> {
    /// The decision accepts nothing.
    None,
    Expected(ExpectedBy<'a>),
    Unexpected,
    /// The acceptance was expected until a day that has passed.
    Expired(ExpectedBy<'a>),
}

/// A change of one control.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    pub what: ChangeKind,
    pub control: &'a str,
    pub cause: Cause,
    /// `None` for decisions that existed when the tenant was read for the first time.
    pub base_day: Option<Day>,
    pub before: ControlState<'a>,
    pub after: ControlState<'a>,
    /// Points gained or lost; for `max_score_changed` the difference of the maximum scores; for
    /// `baseline_drift` the distance from the target.
    pub delta: Option<Number>,
    /// The change was not observed when it happened: it was found by a backfill or an import, or
    /// was made before the first poll.
    pub historical: bool,
    /// The score has reversed its direction at least twice within 14 days.
    pub flapping: bool,
    /// The target, for `baseline_drift`.
    pub baseline: Option<DriftFrom<'a>>,
}

/// The body of a `change` record.
#[derive(Clone, Debug)]
pub struct ChangeRecord<'a> {
    pub change: Change<'a>,
    pub severity: Severity,
    pub category: Option<&'a str>,
    pub profile: Option<&'a Profile>,
    pub acceptance: Acceptance<'a>,
}

/// The body of a `quality` record.
#[derive(Clone, Debug)]
pub struct QualityRecord<'a> {
    pub what: super::ObservationKind,
    pub phase: super::Phase,
    /// Distinguishes observations of one kind: a day, a snapshot ID or a sink.
    pub subject: &'a str,
    pub first_day: Day,
    pub details: &'a str,
    /// What an operator can do about it.
    pub hint: Option<&'a str>,
    pub severity: Severity,
}

impl ChangeKind {
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

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Cause {
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Microsoft, Self::Unknown];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Microsoft => "microsoft",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

impl Severity {
    pub const ALL: [Self; 5] =
        [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

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
    matches!(state, "Ignored" | "ThirdParty")
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
