//! The health of everything, of one sink and of one tenant; the column "State" shows that of a sink
//! or a tenant.
//!
//! It follows from the conditions of the subject alone, so a table can never contradict the list of
//! conditions above it. The status page, `status` as text and as JSON, and the metrics all use it,
//! and none of them may use the state of a deliverer instead. Each severity has one word in all of
//! them, which [`Health`] defines; a sink or a tenant may have a more specific one. Start reading
//! at [`Health`], then [`SinkHealth::of`]. See decision 0050.

use std::collections::HashMap;

use super::{Condition, ConditionKind, ConditionSeverity, ConditionSubject};
use crate::model::SinkName;

/// The health that follows from the most urgent severity of some conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// There are no conditions.
    Healthy,
    /// Work is in progress.
    Working,
    /// Something is retried, and clears by itself.
    Degraded,
    /// Something needs an operator.
    Failing,
}

/// The health of a sink. The most urgent one is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SinkHealth {
    /// Delivery is paused until an operator has resolved the failure.
    Parked,
    /// Delivery to a target, such as one of many indices, is paused until an operator has resolved
    /// the failure. The records for all others are delivered.
    TargetParked,
    /// The last attempt to deliver failed, and is retried.
    Retrying,
    /// There is a backlog, and no daemon is running.
    Waiting,
    /// The receiver has rejected records, which are stored as dead letters.
    RejectedRecords,
    /// There is a backlog, and no acknowledgement has arrived for a long time.
    NoAcknowledgement,
    /// There is a backlog.
    Working,
    /// Everything is delivered, or waits for the next digest.
    Healthy,
}

/// The health of a tenant. The most urgent one is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TenantHealth {
    /// The newest day is too old or missing: see [`ConditionKind::TenantBehind`].
    Behind,
    /// Something needs an operator.
    Failing,
    /// Something is retried, and clears by itself.
    Degraded,
    /// Work is in progress.
    Working,
    /// There are no conditions.
    Healthy,
}

/// The conditions of each sink and of each tenant, without those of the daemon and of credentials.
#[derive(Clone, Debug, Default)]
pub struct BySubject<'a> {
    sinks: HashMap<&'a SinkName, Vec<&'a Condition>>,
    tenants: HashMap<&'a str, Vec<&'a Condition>>,
}

/// The most urgent severity of some conditions; `None` without conditions.
pub fn severity_of(conditions: &[&Condition]) -> Option<ConditionSeverity> {
    conditions.iter().map(|condition| condition.severity).max()
}

impl<'a> BySubject<'a> {
    /// Sorts conditions by their subjects, and keeps their order within a subject.
    pub fn new(conditions: &'a [Condition]) -> Self {
        let mut by_subject = Self::default();
        for condition in conditions {
            let of_subject = match &condition.subject {
                ConditionSubject::Daemon | ConditionSubject::Credential(_) => continue,
                ConditionSubject::Sink(name) => by_subject.sinks.entry(name).or_default(),
                ConditionSubject::Tenant(name) => by_subject.tenants.entry(name).or_default(),
            };
            of_subject.push(condition);
        }
        by_subject
    }

    /// The conditions of the sink with this name.
    pub fn sink(&self, name: &SinkName) -> &[&'a Condition] {
        self.sinks.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The conditions of the tenant with this name.
    pub fn tenant(&self, name: &str) -> &[&'a Condition] {
        self.tenants.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Health {
    /// The health that follows from all conditions.
    pub fn of<'a>(conditions: impl IntoIterator<Item = &'a Condition>) -> Self {
        Self::of_severity(conditions.into_iter().map(|condition| condition.severity).max())
    }

    /// The health of something whose most urgent condition has this severity; `None` without
    /// conditions.
    pub const fn of_severity(severity: Option<ConditionSeverity>) -> Self {
        match severity {
            None => Self::Healthy,
            Some(ConditionSeverity::Info) => Self::Working,
            Some(ConditionSeverity::Warning) => Self::Degraded,
            Some(ConditionSeverity::Error) => Self::Failing,
        }
    }

    /// The first word of a line, such as of the headline.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Working => "Working",
            Self::Degraded => "Degraded",
            Self::Failing => "Failing",
        }
    }

    /// The word in tables, in JSON, in metrics, and as a CSS class. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Working => "working",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

impl SinkHealth {
    /// The health that follows from the conditions of a sink.
    pub fn of(conditions: &[&Condition]) -> Self {
        let causes = conditions.iter().filter_map(|condition| Self::caused_by(condition.kind));
        causes.min().unwrap_or(Self::Healthy)
    }

    /// The health of a sink that has only a condition of this kind; `None` for the conditions of
    /// other subjects.
    const fn caused_by(kind: ConditionKind) -> Option<Self> {
        match kind {
            ConditionKind::SinkParked => Some(Self::Parked),
            ConditionKind::TargetParked => Some(Self::TargetParked),
            ConditionKind::SinkRetrying => Some(Self::Retrying),
            ConditionKind::DeadLetters => Some(Self::RejectedRecords),
            ConditionKind::SinkSilent => Some(Self::NoAcknowledgement),
            ConditionKind::SinkDelivering => Some(Self::Working),
            ConditionKind::SinkWaiting => Some(Self::Waiting),
            ConditionKind::LoopStalled
            | ConditionKind::DiskFull
            | ConditionKind::DiskLow
            | ConditionKind::StorageFailing
            | ConditionKind::CursorFileOutdated
            | ConditionKind::ClockWrong
            | ConditionKind::ConfigurationRejected
            | ConditionKind::ConfigurationInvalid
            | ConditionKind::ConfigurationChanged
            | ConditionKind::DaemonStopped
            | ConditionKind::DaemonSilent
            | ConditionKind::CredentialRejected
            | ConditionKind::PollFailing
            | ConditionKind::ResponseIncomplete
            | ConditionKind::TenantBehind
            | ConditionKind::DayLate
            | ConditionKind::NeverPolled
            | ConditionKind::CredentialExpiring
            | ConditionKind::DataQuality => None,
        }
    }

    /// The words in tables.
    pub const fn title(self) -> &'static str {
        match self {
            Self::TargetParked => "target parked",
            Self::RejectedRecords => "rejected records",
            Self::NoAcknowledgement => "no acknowledgement",
            Self::Parked | Self::Retrying | Self::Waiting | Self::Working | Self::Healthy => {
                self.as_str()
            }
        }
    }

    /// The name in JSON. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::TargetParked => "target_parked",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::RejectedRecords => "rejected_records",
            Self::NoAcknowledgement => "no_acknowledgement",
            Self::Working => Health::Working.as_str(),
            Self::Healthy => Health::Healthy.as_str(),
        }
    }

    /// Whether the last attempt to deliver failed. With a parked target, all other records were
    /// delivered.
    pub const fn is_failing(self) -> bool {
        matches!(self, Self::Parked | Self::Retrying)
    }
}

impl TenantHealth {
    /// Every health, the most urgent first.
    pub const ALL: [Self; 5] =
        [Self::Behind, Self::Failing, Self::Degraded, Self::Working, Self::Healthy];

    /// The health that follows from the conditions of a tenant.
    pub fn of(conditions: &[&Condition]) -> Self {
        if conditions.iter().any(|condition| condition.kind == ConditionKind::TenantBehind) {
            return Self::Behind;
        }
        match Health::of_severity(severity_of(conditions)) {
            Health::Failing => Self::Failing,
            Health::Degraded => Self::Degraded,
            Health::Working => Self::Working,
            Health::Healthy => Self::Healthy,
        }
    }

    /// The word in tables.
    pub const fn title(self) -> &'static str {
        self.as_str()
    }

    /// The name in JSON and in metrics. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Failing => Health::Failing.as_str(),
            Self::Degraded => Health::Degraded.as_str(),
            Self::Working => Health::Working.as_str(),
            Self::Healthy => Health::Healthy.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConditionKind as Kind;

    fn condition(
        subject: ConditionSubject,
        kind: ConditionKind,
        severity: ConditionSeverity,
    ) -> Condition {
        let sentence = "x".to_owned();
        Condition { severity, kind, subject, sentence, hint: None, since: None }
    }

    fn of_sink(kind: ConditionKind) -> Condition {
        condition(ConditionSubject::Sink("siem".into()), kind, ConditionSeverity::Error)
    }

    fn of_tenant(kind: ConditionKind, severity: ConditionSeverity) -> Condition {
        condition(ConditionSubject::Tenant("contoso".to_owned()), kind, severity)
    }

    /// The health for each kind of condition of a sink, the most urgent first.
    const OF_KINDS: [(ConditionKind, SinkHealth); 7] = [
        (Kind::SinkParked, SinkHealth::Parked),
        (Kind::TargetParked, SinkHealth::TargetParked),
        (Kind::SinkRetrying, SinkHealth::Retrying),
        (Kind::SinkWaiting, SinkHealth::Waiting),
        (Kind::DeadLetters, SinkHealth::RejectedRecords),
        (Kind::SinkSilent, SinkHealth::NoAcknowledgement),
        (Kind::SinkDelivering, SinkHealth::Working),
    ];

    #[test]
    fn every_kind_determines_the_health_of_a_sink() {
        for kind in ConditionKind::ALL {
            let expected = OF_KINDS.iter().find(|(of_sink, _)| *of_sink == kind);
            let expected = expected.map_or(SinkHealth::Healthy, |(_, health)| *health);
            assert_eq!(SinkHealth::of(&[&of_sink(kind)]), expected, "{kind:?}");
        }
        assert_eq!(SinkHealth::of(&[]), SinkHealth::Healthy);
    }

    #[test]
    fn the_most_urgent_kind_determines_the_health() {
        for (index, (kind, health)) in OF_KINDS.iter().enumerate() {
            for (other, _) in &OF_KINDS[index..] {
                let (first, second) = (of_sink(*kind), of_sink(*other));
                assert_eq!(SinkHealth::of(&[&second, &first]), *health, "{kind:?} {other:?}");
            }
        }
    }

    #[test]
    fn severity_determines_the_health_of_a_tenant() {
        let health = |kind, severity| TenantHealth::of(&[&of_tenant(kind, severity)]);
        for kind in ConditionKind::ALL.into_iter().filter(|kind| *kind != Kind::TenantBehind) {
            assert_eq!(health(kind, ConditionSeverity::Error), TenantHealth::Failing, "{kind:?}");
            assert_eq!(
                health(kind, ConditionSeverity::Warning),
                TenantHealth::Degraded,
                "{kind:?}"
            );
            assert_eq!(health(kind, ConditionSeverity::Info), TenantHealth::Working, "{kind:?}");
        }
        for severity in ConditionSeverity::ALL {
            assert_eq!(health(Kind::TenantBehind, severity), TenantHealth::Behind);
        }
        assert_eq!(TenantHealth::of(&[]), TenantHealth::Healthy);
    }

    #[test]
    fn names_in_json_have_no_spaces() {
        for (_, health) in OF_KINDS {
            assert_eq!(health.as_str(), health.title().replace(' ', "_"));
        }
        assert_eq!(SinkHealth::NoAcknowledgement.title(), "no acknowledgement");
    }

    /// Regression: work in progress was `working`, `waiting` or `delivering`, and an error was
    /// `needs_attention` or `failing`.
    #[test]
    fn each_severity_has_one_word() {
        for severity in std::iter::once(None).chain(ConditionSeverity::ALL.map(Some)) {
            let health = Health::of_severity(severity);
            let word = health.as_str();
            assert_eq!(health.title().to_lowercase(), word);

            let conditions = severity.map(|severity| of_tenant(Kind::DataQuality, severity));
            let conditions: Vec<&Condition> = conditions.iter().collect();
            assert_eq!(TenantHealth::of(&conditions).as_str(), word);
        }
        assert_eq!(SinkHealth::of(&[&of_sink(Kind::SinkDelivering)]).as_str(), "working");
        assert_eq!(SinkHealth::of(&[]).as_str(), "healthy");
    }

    #[test]
    fn every_health_of_a_tenant_is_listed() {
        let mut sorted = TenantHealth::ALL;
        sorted.sort_unstable();
        assert_eq!(sorted, TenantHealth::ALL, "the most urgent is first");
        let names: std::collections::BTreeSet<&str> =
            TenantHealth::ALL.into_iter().map(TenantHealth::as_str).collect();
        assert_eq!(names.len(), TenantHealth::ALL.len());
    }

    #[test]
    fn subjects_have_only_their_own_conditions() {
        let conditions = [
            condition(ConditionSubject::Daemon, Kind::DiskFull, ConditionSeverity::Error),
            of_sink(Kind::DeadLetters),
            of_tenant(Kind::PollFailing, ConditionSeverity::Warning),
            of_sink(Kind::SinkDelivering),
        ];
        let by_subject = BySubject::new(&conditions);

        assert_eq!(by_subject.sink(&"siem".into()), [&conditions[1], &conditions[3]]);
        assert_eq!(by_subject.tenant("contoso"), [&conditions[2]]);
        assert_eq!(severity_of(by_subject.tenant("contoso")), Some(ConditionSeverity::Warning));
        assert!(
            by_subject.sink(&"contoso".into()).is_empty() && by_subject.tenant("siem").is_empty()
        );
        assert_eq!(severity_of(by_subject.sink(&"contoso".into())), None);
    }
}
