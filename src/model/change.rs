//! What has happened between a day and the one it is measured from.

use super::{Day, Number, Profile, StateUpdate};

/// The kinds of change, as `change.what` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Regressed,
    Improved,
    Added,
    Removed,
    /// Microsoft weighs the control differently.
    MaxScoreChanged,
    /// Somebody accepted a risk, named a third party, or took that back.
    DecisionChanged,
    Deprecated,
    /// Switched on or off, or met by more or fewer, without a change of score.
    ImplementationChanged,
    /// Came below its target, moved there, or came back to it.
    BaselineDrift,
    /// A risk is still accepted, and the time for which that was expected is over.
    AcceptanceExpired,
}

/// Who is behind a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Tenant,
    /// The catalog moved: no doing of the tenant's.
    Microsoft,
    /// What is known of the days does not tell.
    Unknown,
}

/// How much a change or an observation matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

/// One side of a change: only what the change is about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Side<'a> {
    pub score: Option<Number>,
    pub max_score: Option<Number>,
    pub percentage: Option<Number>,
    pub count: Option<Number>,
    pub total: Option<Number>,
    pub on: Option<bool>,
    pub deprecated: Option<bool>,
    pub decision: Option<&'a StateUpdate>,
}

/// The target that a drift is measured from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftFrom<'a> {
    pub name: &'a str,
    /// The day that it was taken from, if it was one.
    pub day: Option<Day>,
    pub target: Target,
}

/// What a baseline wants of a control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    Points(Number),
    /// Of the attainable points: stays right when Microsoft weighs the control anew.
    Percent(Number),
}

/// What the configuration expects of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedBy<'a> {
    pub owner: &'a str,
    /// The last day on which it is expected.
    pub expires: Option<Day>,
}

/// Whether a decision gives points up, or claims them, and if so, whether anybody expects that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance<'a> {
    /// It accepts nothing.
    None,
    Expected(ExpectedBy<'a>),
    Unexpected,
    /// It was expected, until a day that is over.
    Expired(ExpectedBy<'a>),
}

/// A change of one control.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    pub what: ChangeKind,
    pub control: &'a str,
    pub cause: Cause,
    /// `None` for decisions met at first contact.
    pub base_day: Option<Day>,
    pub before: Side<'a>,
    pub after: Side<'a>,
    /// Points gained or lost, attainable points for `max_score_changed`.
    pub delta: Option<Number>,
    /// From a time before the forwarder looked, or read back from it.
    pub historical: bool,
    /// The score has turned at least twice within a fortnight.
    pub flapping: bool,
    pub baseline: Option<DriftFrom<'a>>,
}

/// A change as it is streamed.
#[derive(Clone, Debug)]
pub struct ChangeRecord<'a> {
    pub change: Change<'a>,
    pub severity: Severity,
    pub category: Option<&'a str>,
    pub profile: Option<&'a Profile>,
    pub acceptance: Acceptance<'a>,
}

/// An observation as it is streamed.
#[derive(Clone, Debug)]
pub struct QualityRecord<'a> {
    pub what: super::What,
    pub phase: super::Phase,
    /// What tells it from others of its kind: a day, a snapshot, a sink.
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

    /// 0 to 10, as CEF counts.
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
    /// `8` or `100%`.
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

    /// Whether a control is below it; `None` where its facts do not say.
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

/// Whether a state gives up points, or claims them without evidence.
pub fn accepts_risk(state: &str) -> bool {
    matches!(state, "Ignored" | "ThirdParty")
}

impl<'a> Acceptance<'a> {
    /// Who expects it, or did.
    pub fn by(self) -> Option<ExpectedBy<'a>> {
        match self {
            Self::Expected(by) | Self::Expired(by) => Some(by),
            Self::None | Self::Unexpected => None,
        }
    }
}

impl ChangeRecord<'_> {
    /// The name that people know the control by.
    pub fn title(&self) -> &str {
        let title = self.profile.and_then(|p| p.title.as_deref()).map(str::trim);
        title.filter(|t| !t.is_empty()).unwrap_or(self.change.control)
    }
}
