//! Observations about the data itself, such as a gap. Each is reported once when it begins and once
//! when it ends. The observer of a condition reports it at every poll; the checkpoint appends an
//! entry only if the phase changes. Start reading at [`ObservationKind`]. See decision 0038.

use super::{DataFaults, Day, ObservationSubject, PollErrorClass, Severity, SinkName, UnixMillis};
use crate::error::Explanation;

/// The kinds of observation: the values of `quality.what` in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationKind {
    /// Microsoft does not list a day that is between two known days.
    Gap,
    /// The newest day is more than three days old.
    Stale,
    /// A snapshot was rejected, because it cannot be decoded, has no day, an ID that names another
    /// day, or a day in the future; or data with faults was accepted (see [`AcceptedData`]).
    Implausible,
    /// A snapshot names another tenant.
    ForeignTenant,
    /// Polls of the tenant fail.
    PollFailed,
    /// Only a part of a day was received.
    Partial,
    /// The catalog could not be read completely.
    CatalogStale,
    /// The certificate of the tenant expires soon.
    CredentialExpiring,
    /// A receiver rejects records of a sink.
    DeadLetter,
}

/// Data that was accepted although a part of it is faulty: the subject of an
/// [`ObservationKind::Implausible`]. Any other subject is that of rejected snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AcceptedData {
    /// The scores of a day.
    Scores,
    /// The profiles of the catalog.
    Catalog,
}

/// Rejected snapshots that share a fixed subject of [`ObservationKind::Implausible`] or
/// [`ObservationKind::ForeignTenant`]. The subject of every other rejected snapshot is the day that
/// it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RejectedSnapshots {
    /// Those that name no day up to today. Nothing in them is stable, so they have one subject.
    Undated,
    /// Those that are not reported individually, because there are too many.
    Further,
}

/// Whether an observation begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The condition was noticed.
    Begin,
    /// The condition no longer exists.
    End,
}

/// One observation about the data of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The condition.
    pub what: ObservationKind,
    /// Distinguishes observations of one kind.
    pub subject: ObservationSubject,
    /// The day that the condition concerns or, without such a day, the day on which it was noticed.
    pub first_day: Day,
    /// Whether it begins or ends.
    pub phase: Phase,
    /// The reason, on one line and without secrets.
    pub details: String,
    /// What an operator can do about it.
    pub hint: Option<String>,
}

/// An observation that has begun and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenObservation {
    /// The kind of the observation.
    pub what: ObservationKind,
    /// The day that it concerns or, without such a day, the day on which it was noticed.
    pub first_day: Day,
    /// When it was noticed.
    pub since: UnixMillis,
    /// The reason, and what an operator can do about it.
    pub reason: Explanation,
    /// When the credential expires, if the observation is about one and the time is known.
    pub expires: Option<UnixMillis>,
}

impl Observation {
    /// The observation that the receiver of a sink rejects records of a tenant.
    pub fn of_dead_letters(sink: &SinkName, first_day: Day, phase: Phase, details: String) -> Self {
        Self {
            what: ObservationKind::DeadLetter,
            subject: ObservationSubject::Sink(sink.clone()),
            first_day,
            phase,
            details,
            hint: (phase == Phase::Begin).then(|| Self::dead_letters_hint(sink)),
        }
    }

    /// The observation that data was accepted although a part of it is faulty.
    pub fn of_faults(data: AcceptedData, first_day: Day, faults: &DataFaults) -> Self {
        Self {
            what: ObservationKind::Implausible,
            subject: ObservationSubject::Accepted(data),
            first_day,
            phase: Phase::Begin,
            details: faults.to_string(),
            hint: None,
        }
    }

    /// The observation that a poll failed. It names no path of this host.
    pub fn of_failed_poll(class: PollErrorClass, first_day: Day, reason: &Explanation) -> Self {
        let Explanation { message, hint } = reason.without_paths();
        Self {
            what: ObservationKind::PollFailed,
            subject: ObservationSubject::of_failed_poll(class),
            first_day,
            phase: Phase::Begin,
            details: message,
            hint,
        }
    }

    /// What an operator can do about the dead letters of a sink. A message to a chat and the status
    /// page show the same hint.
    pub fn dead_letters_hint(sink: &SinkName) -> String {
        format!("run `dead-letters list --sink {sink}`")
    }
}

impl ObservationKind {
    /// All kinds, in the order of the reference.
    pub const ALL: [Self; 9] = [
        Self::Gap,
        Self::Stale,
        Self::Implausible,
        Self::ForeignTenant,
        Self::PollFailed,
        Self::Partial,
        Self::CatalogStale,
        Self::CredentialExpiring,
        Self::DeadLetter,
    ];

    /// The kind with this name; `None` for any other text, such as a kind of a later release.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == name)
    }

    /// The severity of the beginning of an observation with this subject, unless a rule sets
    /// another one; `None` if the subject is not known. Conditions have the urgency that follows
    /// from it, so that a message to a chat and the status page agree: what is [`Severity::High`]
    /// needs an operator.
    pub fn severity(self, subject: Option<&ObservationSubject>) -> Severity {
        match self {
            Self::ForeignTenant | Self::Stale | Self::DeadLetter => Severity::High,
            Self::PollFailed => {
                let needs_operator = matches!(
                    subject,
                    Some(ObservationSubject::FailedPolls(class)) if class.needs_operator()
                );
                if needs_operator { Severity::High } else { Severity::Medium }
            }
            Self::Implausible | Self::CredentialExpiring => Severity::Medium,
            Self::Gap | Self::Partial | Self::CatalogStale => Severity::Low,
        }
    }

    /// The value of `quality.what` in a record and in the checkpoint. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Stale => "stale",
            Self::Implausible => "implausible",
            Self::ForeignTenant => "foreign_tenant",
            Self::PollFailed => "poll_failed",
            Self::Partial => "partial",
            Self::CatalogStale => "catalog_stale",
            Self::CredentialExpiring => "credential_expiring",
            Self::DeadLetter => "dead_letter",
        }
    }
}

impl AcceptedData {
    /// The data with this name; `None` for any other subject.
    pub fn parse(subject: &str) -> Option<Self> {
        [Self::Scores, Self::Catalog].into_iter().find(|data| data.as_str() == subject)
    }

    /// The subject of the observation: the name of Microsoft's collection. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scores => "secureScores",
            Self::Catalog => "secureScoreControlProfiles",
        }
    }
}

impl RejectedSnapshots {
    /// The snapshots with this name; `None` for any other subject.
    pub fn parse(subject: &str) -> Option<Self> {
        [Self::Undated, Self::Further].into_iter().find(|snapshots| snapshots.as_str() == subject)
    }

    /// The subject of the observation. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undated => "snapshots without a usable day",
            Self::Further => "further snapshots",
        }
    }
}

impl Phase {
    /// The phase with this name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Begin, Self::End].into_iter().find(|phase| phase.as_str() == name)
    }

    /// The value of `quality.phase` in a record and in the checkpoint. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}
