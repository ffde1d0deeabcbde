//! What was noticed about the data itself: each once when it begins and once when it ends.

use super::Day;

/// What an observation is about. The names are those of `quality.what` in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A day between two days taken that Microsoft does not list.
    Gap,
    /// The newest day is older than it should be.
    Stale,
    /// A snapshot that cannot be true: no day, or an id that names another one.
    Implausible,
    /// A snapshot that names another tenant.
    ForeignTenant,
    PollFailed,
    /// A day of which only a part could be had.
    Partial,
    /// The catalog could not be read whole.
    CatalogStale,
    /// The credential's last day is near.
    CredentialExpiring,
    /// A receiver refuses records of this sink.
    DeadLetter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Begin,
    End,
}

/// `subject` tells two observations of one kind apart: a day, a snapshot id, a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub what: What,
    pub subject: String,
    pub first_day: Day,
    pub phase: Phase,
    /// For people: the reason, in one line, without secrets.
    pub details: String,
    /// What an operator can do about it.
    pub hint: Option<String>,
}

impl What {
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

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == name)
    }

    /// Its subject is a sink, which is not told of itself.
    pub fn is_about_a_sink(self) -> bool {
        self == Self::DeadLetter
    }

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

impl Phase {
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Begin, Self::End].into_iter().find(|phase| phase.as_str() == name)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}
