//! What is known about the previous polls of a tenant: their times, and why the last one failed.
//!
//! The checkpoint stores it, the schedule decides from it, and conditions and metrics show it. The
//! names of the classes must never change, because they are stored. Start reading at [`Polled`] and
//! [`PollErrorClass`].

use super::{Day, UnixMillis};

/// The number of newest days that every poll reads again, because they can be published late or
/// revised.
pub const REREAD_DAYS: i32 = 3;

/// The previous polls of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// The time of the last poll, successful or not; `None` if the tenant has never been polled.
    pub last_attempt: Option<UnixMillis>,
    /// The time of the last poll that read everything; `None` if there was none.
    pub last_success: Option<UnixMillis>,
    /// The number of failed polls since the last success.
    pub failures: u32,
    /// The newest stored day; `None` if no day is stored.
    pub newest_day: Option<Day>,
}

/// Why a poll failed or was incomplete. The class decides whether an operator has to resolve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PollErrorClass {
    /// The checkpoint could not be read or written.
    Checkpoint,
    /// The clock of this host is wrong by more than a day.
    Clock,
    /// The configuration is invalid for this host or this tenant.
    Configuration,
    /// Microsoft rejected the credential, or it could not be read.
    Credential,
    /// The disk of the checkpoint is nearly full.
    Disk,
    /// This host has reached a limit, such as that of open files.
    Host,
    /// The poll succeeded, but a part of the response or the catalog is missing.
    Incomplete,
    /// A fault in this program.
    Internal,
    /// The process was killed during the poll, for example because its memory was exhausted.
    Interrupted,
    /// A provider behind Microsoft Graph did not respond, so nothing could be used.
    Partial,
    /// The app does not have the permission, or no administrator has consented.
    Permission,
    /// The response could not be decoded.
    Response,
    /// The server throttles requests.
    Throttled,
    /// There was no response, or one with an unsuccessful status.
    Unavailable,
}

impl PollErrorClass {
    /// All classes, ordered by name.
    pub const ALL: [Self; 14] = [
        Self::Checkpoint,
        Self::Clock,
        Self::Configuration,
        Self::Credential,
        Self::Disk,
        Self::Host,
        Self::Incomplete,
        Self::Internal,
        Self::Interrupted,
        Self::Partial,
        Self::Permission,
        Self::Response,
        Self::Throttled,
        Self::Unavailable,
    ];

    /// The class with this name; `None` for any other text, such as a class of a later release.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// The name in the checkpoint, and the label `cause` of metrics. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Clock => "clock",
            Self::Configuration => "configuration",
            Self::Credential => "credential",
            Self::Disk => "disk",
            Self::Host => "host",
            Self::Incomplete => "incomplete",
            Self::Internal => "internal",
            Self::Interrupted => "interrupted",
            Self::Partial => "partial",
            Self::Permission => "permission",
            Self::Response => "response",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether the cause is on this host and can pass. Such a failure does not count as an attempt
    /// to reach Microsoft.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Checkpoint | Self::Disk | Self::Host)
    }

    /// Whether the error needs an operator. Every other one may clear by itself, and is retried.
    pub const fn needs_operator(self) -> bool {
        matches!(self, Self::Clock | Self::Configuration | Self::Credential | Self::Permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_round_trip_in_order() {
        for class in PollErrorClass::ALL {
            assert_eq!(PollErrorClass::parse(class.as_str()), Some(class));
        }
        assert!(PollErrorClass::ALL.is_sorted_by(|a, b| a < b && a.as_str() < b.as_str()));
        for other in ["", "Credential", "of_a_later_release"] {
            assert_eq!(PollErrorClass::parse(other), None, "{other}");
        }
    }
}
