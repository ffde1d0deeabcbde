//! Observations about the data itself, such as a gap. Each is reported once when it begins and once
//! when it ends. The observer of a condition reports it at every poll; the checkpoint appends an
//! entry only if the phase changes. Start reading at [`ObservationKind`]. See decision 0038.

use jiff::Timestamp;

use super::{Day, UnixMillis};

/// The kinds of observation: the values of `quality.what` in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationKind {
    /// Microsoft does not list a day that is between two known days.
    Gap,
    /// The newest day is more than three days old.
    Stale,
    /// A snapshot has no day, an ID that names another day, or a day in the future.
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
    /// Distinguishes observations of one kind: a day, a snapshot ID or a sink.
    pub subject: String,
    /// The day that the condition concerns or, without such a day, the day on which it was noticed.
    pub first_day: Day,
    /// Whether it begins or ends.
    pub phase: Phase,
    /// The reason, on one line and without secrets.
    pub details: String,
    /// What an operator can do about it.
    pub hint: Option<String>,
}

/// When a credential expires. An observation of [`ObservationKind::CredentialExpiring`] has no
/// field for it, so its details contain it; this type is the only one that writes and reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialExpiry(UnixMillis);

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

    /// Whether the subject is a sink. Such an observation is not sent to that sink.
    pub fn is_about_a_sink(self) -> bool {
        self == Self::DeadLetter
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

impl CredentialExpiry {
    /// The details before the time, which a backtick follows.
    const BEFORE: &'static str = "the credential is valid until `";

    /// The expiry at this time.
    pub const fn new(at: UnixMillis) -> Self {
        Self(at)
    }

    /// The time at which the credential expires.
    pub const fn at(self) -> UnixMillis {
        self.0
    }

    /// The details of the observation: a sentence with the time as RFC 3339 in UTC.
    pub fn details(self) -> String {
        format!("{}{}`", Self::BEFORE, Timestamp::from(self.0))
    }

    /// The inverse of [`Self::details`]; `None` for any other text, such as the details that an
    /// earlier release has stored.
    pub fn parse(details: &str) -> Option<Self> {
        let time = details.strip_prefix(Self::BEFORE)?.strip_suffix('`')?;
        time.parse::<Timestamp>().ok().map(|time| Self(time.into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_read_from_its_details() {
        for milliseconds in [0, 1_797_724_800_000, 1_797_724_800_250] {
            let expiry = CredentialExpiry::new(UnixMillis::new(milliseconds));
            assert_eq!(CredentialExpiry::parse(&expiry.details()), Some(expiry));
        }

        let details = CredentialExpiry::new(UnixMillis::new(1_797_724_800_000)).details();
        assert_eq!(details, "the credential is valid until `2026-12-20T00:00:00Z`");
        for other in ["", "recovered", "the certificate is valid until 2026-12-20T00:00:00Z"] {
            assert_eq!(CredentialExpiry::parse(other), None, "{other}");
        }
    }
}
