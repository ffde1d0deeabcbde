//! What needs attention: one list of conditions, from facts about tenants, sinks and the process.
//!
//! The status page, `status`, `/readyz`, the metrics and the status line of systemd all show this
//! list, so they cannot contradict each other. The functions are pure: they depend on
//! [`ConditionFacts`] alone, which `daemon::facts` collects. Start reading at [`conditions`], then
//! `summary` and `health`. See decision 0050.

mod credentials;
mod health;
mod host;
mod sinks;
mod summary;
mod tenants;

#[cfg(test)]
pub(crate) mod tests;

pub use self::{
    credentials::is_near_expiry,
    health::{BySubject, Health, SinkHealth, TenantHealth, severity_of},
    host::{StorageFacts, outdated_cursor_file},
    sinks::{Parked, SinkFacts},
    summary::{Counts, Group, grouped, headline, is_incomplete, not_ready_reasons, status_line},
    tenants::{PollErrorFacts, TenantFacts},
};
use crate::{
    error::Explanation,
    model::{ClockDifference, RejectedConfiguration, Severity, SinkName, UnixMillis},
};

/// Everything that the conditions depend on.
#[derive(Clone, Debug, Default)]
pub struct ConditionFacts {
    /// The time at which the facts were collected.
    pub now: UnixMillis,
    /// Whether a daemon is running.
    pub daemon: DaemonFacts,
    /// In the order of the configuration.
    pub tenants: Vec<TenantFacts>,
    /// In the order of the configuration.
    pub sinks: Vec<SinkFacts>,
    /// A description of each loop of the running daemon that makes no progress.
    pub stalled: Vec<String>,
    /// Free bytes on the disk of the checkpoint; `None` if they cannot be determined.
    pub free_bytes: Option<u64>,
    /// The number of free bytes below which polling pauses.
    pub reserved_bytes: u64,
    /// Why the checkpoint cannot be read or written; `None` if it can.
    pub storage: Option<StorageFacts>,
    /// The difference between the clocks of this host and of Microsoft, if polls have found one.
    pub clock: Option<ClockDifference>,
    /// Why the second cursor file could not be written; `None` if it could.
    pub outdated_cursor_file: Option<Explanation>,
    /// The last reload, if its configuration was rejected.
    pub rejected_configuration: Option<RejectedConfiguration>,
    /// How the files of the configuration differ from what is running.
    pub configuration: ConfigurationFacts,
    /// Why the running daemon has not reported what it cannot store; `None` if it has, or if none
    /// is running.
    pub unreported: Option<Explanation>,
}

/// Whether a daemon is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DaemonFacts {
    /// A daemon has been running since this time.
    Running(UnixMillis),
    /// No daemon is running, although one polled last.
    Stopped,
    /// No daemon is running, and none is expected: `once` polled last, or nothing did.
    #[default]
    NotUsed,
}

/// How the files of the configuration differ from the configuration of the running daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConfigurationFacts {
    /// They are equal, or they cannot be compared.
    #[default]
    InForce,
    /// The files have changed, and the daemon has not loaded them.
    Changed,
    /// The files are invalid, for this reason.
    Invalid(Explanation),
}

/// One thing that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How urgent it is.
    pub severity: ConditionSeverity,
    /// What it is; it determines the type of the subject.
    pub kind: ConditionKind,
    /// What it is about.
    pub subject: ConditionSubject,
    /// A sentence about the subject in lower case, without a period: what is wrong, and why.
    pub sentence: String,
    /// What an operator can do about it, as an imperative; `None` if it clears by itself.
    pub hint: Option<String>,
    /// When it began; `None` if that is unknown.
    pub since: Option<UnixMillis>,
}

/// How urgent a condition is, from least to most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionSeverity {
    /// Work in progress.
    Info,
    /// It is retried, and clears by itself.
    Warning,
    /// It needs an operator.
    Error,
}

/// What a condition is about. The order is the order in which conditions are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionSubject {
    /// The daemon, its configuration, or its disk.
    Daemon,
    /// The sink with this name.
    Sink(SinkName),
    /// The credential with this name, which tenants share.
    Credential(String),
    /// The tenant with this name.
    Tenant(String),
}

/// The kinds of condition. `docs/how-to/monitoring.md` states when each one occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionKind {
    /// A loop of the daemon makes no progress.
    LoopStalled,
    /// The disk of the checkpoint is full, and polling is paused.
    DiskFull,
    /// The disk of the checkpoint is nearly full.
    DiskLow,
    /// The checkpoint cannot be read or written.
    StorageFailing,
    /// The second cursor file could not be written.
    CursorFileOutdated,
    /// The clock of this host differs from Microsoft's.
    ClockWrong,
    /// A reload was rejected, and the previous configuration remains in force.
    ConfigurationRejected,
    /// The files of the configuration are invalid.
    ConfigurationInvalid,
    /// The files of the configuration differ from what the daemon is running with.
    ConfigurationChanged,
    /// No daemon is running, although one polled last.
    DaemonStopped,
    /// The running daemon does not report what it cannot store.
    DaemonSilent,
    /// A sink needs an operator.
    SinkParked,
    /// A target of a sink, such as one of many indices, needs an operator, or records of a tenant
    /// that are withheld do.
    TargetParked,
    /// The last attempt of a sink to deliver failed, and is retried.
    SinkRetrying,
    /// A sink with a backlog has had no acknowledgement for a long time, without an error.
    SinkSilent,
    /// A receiver has rejected records, which are stored.
    DeadLetters,
    /// A sink has a backlog.
    SinkDelivering,
    /// A sink has a backlog, and no daemon is running that could deliver it.
    SinkWaiting,
    /// Microsoft rejects the credential of a tenant, or a permission is missing.
    CredentialRejected,
    /// Polls of a tenant fail for another reason.
    PollFailing,
    /// Microsoft returned only a part of what was requested.
    ResponseIncomplete,
    /// The newest day of a tenant is too old, no day is stored although polls have been failing for
    /// days, or Microsoft has not published a score.
    TenantBehind,
    /// The snapshot of today was due, and is missing.
    DayLate,
    /// The first poll of a tenant has not finished yet.
    NeverPolled,
    /// A credential expires soon.
    CredentialExpiring,
    /// An observation about the data of a tenant is open.
    DataQuality,
}

/// All conditions, the most urgent first, and then in the order of their subjects.
pub fn conditions(facts: &ConditionFacts) -> Vec<Condition> {
    let today = facts.now.day();
    let mut conditions = host::conditions(facts);
    for sink in &facts.sinks {
        conditions.extend(sinks::conditions(sink, facts.daemon, facts.now));
    }
    conditions.extend(credentials::conditions(&facts.tenants, today));
    for tenant in &facts.tenants {
        conditions.extend(tenants::conditions(tenant, facts, today));
    }

    // The sort is stable: within a severity, the order of the configuration is kept.
    conditions.sort_by_key(|condition| std::cmp::Reverse(condition.severity));
    conditions
}

impl DaemonFacts {
    /// When the running daemon started; `None` if none is running.
    pub const fn started(self) -> Option<UnixMillis> {
        match self {
            Self::Running(since) => Some(since),
            Self::Stopped | Self::NotUsed => None,
        }
    }
}

impl ConditionSeverity {
    /// All severities, from least to most urgent.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];

    /// The urgency of an observation with this severity.
    pub const fn of(severity: Severity) -> Self {
        match severity {
            Severity::High | Severity::Critical => Self::Error,
            Severity::Medium | Severity::Low => Self::Warning,
            Severity::Informational => Self::Info,
        }
    }

    /// The name in JSON and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl ConditionKind {
    /// All kinds, in the order of the reference.
    pub const ALL: [Self; 26] = [
        Self::LoopStalled,
        Self::DiskFull,
        Self::DiskLow,
        Self::StorageFailing,
        Self::CursorFileOutdated,
        Self::ClockWrong,
        Self::ConfigurationRejected,
        Self::ConfigurationInvalid,
        Self::ConfigurationChanged,
        Self::DaemonStopped,
        Self::DaemonSilent,
        Self::SinkParked,
        Self::TargetParked,
        Self::SinkRetrying,
        Self::SinkSilent,
        Self::DeadLetters,
        Self::SinkDelivering,
        Self::SinkWaiting,
        Self::CredentialRejected,
        Self::PollFailing,
        Self::ResponseIncomplete,
        Self::TenantBehind,
        Self::DayLate,
        Self::NeverPolled,
        Self::CredentialExpiring,
        Self::DataQuality,
    ];

    /// The name in JSON and in metrics. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoopStalled => "loop_stalled",
            Self::DiskFull => "disk_full",
            Self::DiskLow => "disk_low",
            Self::StorageFailing => "storage_failing",
            Self::CursorFileOutdated => "cursor_file_outdated",
            Self::ClockWrong => "clock_wrong",
            Self::ConfigurationRejected => "configuration_rejected",
            Self::ConfigurationInvalid => "configuration_invalid",
            Self::ConfigurationChanged => "configuration_changed",
            Self::DaemonStopped => "daemon_stopped",
            Self::DaemonSilent => "daemon_silent",
            Self::SinkParked => "sink_parked",
            Self::TargetParked => "target_parked",
            Self::SinkRetrying => "sink_retrying",
            Self::SinkSilent => "sink_silent",
            Self::DeadLetters => "dead_letters",
            Self::SinkDelivering => "sink_delivering",
            Self::SinkWaiting => "sink_waiting",
            Self::CredentialRejected => "credential_rejected",
            Self::PollFailing => "poll_failing",
            Self::ResponseIncomplete => "response_incomplete",
            Self::TenantBehind => "tenant_behind",
            Self::DayLate => "day_late",
            Self::NeverPolled => "never_polled",
            Self::CredentialExpiring => "credential_expiring",
            Self::DataQuality => "data_quality",
        }
    }
}

impl ConditionSubject {
    /// The type of the subject in JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Sink(_) => "sink",
            Self::Credential(_) => "credential",
            Self::Tenant(_) => "tenant",
        }
    }

    /// The name of the sink, credential or tenant; `None` for the daemon.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Daemon => None,
            Self::Sink(name) => Some(name.as_str()),
            Self::Credential(name) | Self::Tenant(name) => Some(name),
        }
    }
}

impl Condition {
    /// Whether the condition is more than work in progress.
    pub fn needs_attention(&self) -> bool {
        self.severity > ConditionSeverity::Info
    }

    /// The subject and the sentence, with the hint as the hint.
    pub fn explanation(&self) -> Explanation {
        let message = match self.subject.name() {
            None => self.sentence.clone(),
            Some(name) => format!("{} `{name}`: {}", self.subject.kind(), self.sentence),
        };
        Explanation { message, hint: self.hint.clone() }
    }
}
