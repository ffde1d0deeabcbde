//! The difference between the clock of this host and the clock of a server, and what it permits.
//!
//! A server chooses the time that it sends, so an offset is bounded before anything is calculated
//! from it. This module must never read a clock. Start reading at [`ClockOffset::between`]. See
//! decision 0079.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{UnixMillis, short_duration};

/// How far the clock of this host is ahead of the clock of a server; negative if it is behind. In
/// whole seconds, the precision of the header `Date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClockOffset(i64);

/// How accurate the clock of this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockAccuracy {
    /// The difference has no effect.
    Accurate,
    /// Days are read, and the difference is reported.
    Inaccurate,
    /// The day could be wrong by more than one, so nothing that lasts is decided from it.
    Unusable,
}

/// The offset that polls have found, which is reported until a poll finds an accurate clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockDifference {
    /// The offset that was found last.
    pub offset: ClockOffset,
    /// When it was found first, by the clock of the server.
    pub since: UnixMillis,
}

/// What an operator can do about a wrong clock.
pub const CLOCK_HINT: &str =
    "synchronize the clock of this host with NTP, for example with `timedatectl set-ntp true`";

/// The offset up to which a clock is accurate, in seconds. Tokens tolerate as much.
const MAX_ACCURATE: u64 = 5 * 60;
/// The offset up to which days are read, in seconds.
const MAX_USABLE: u64 = 24 * 3_600;
/// The largest offset, in seconds: a hundred years.
const MAX_OFFSET: i64 = 100 * 365 * 24 * 3_600;

impl ClockOffset {
    /// The offset between the time of this host and the time of a server; at most 100 years.
    pub fn between(local: Timestamp, remote: Timestamp) -> Self {
        let seconds = local.as_second().saturating_sub(remote.as_second());
        Self(seconds.clamp(-MAX_OFFSET, MAX_OFFSET))
    }

    /// The size of the offset.
    pub const fn size(self) -> Duration {
        Duration::from_secs(self.0.unsigned_abs())
    }

    /// What the offset permits.
    pub const fn accuracy(self) -> ClockAccuracy {
        let seconds = self.0.unsigned_abs();
        if seconds <= MAX_ACCURATE {
            ClockAccuracy::Accurate
        } else if seconds <= MAX_USABLE {
            ClockAccuracy::Inaccurate
        } else {
            ClockAccuracy::Unusable
        }
    }

    /// The time of the server at a time of this host.
    #[must_use]
    pub fn correct(self, local: Timestamp) -> Timestamp {
        local.checked_sub(SignedDuration::from_secs(self.0)).unwrap_or(local)
    }
}

/// For messages: `100d ahead of Microsoft's`.
impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = if self.0 < 0 { "behind" } else { "ahead of" };
        write!(f, "{} {relation} Microsoft's", short_duration(self.size()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn offsets_have_an_accuracy_and_a_sentence() {
        let remote = at("2026-11-22T06:15:00Z");
        for (local, accuracy, text) in [
            ("2026-11-22T06:15:00.9Z", ClockAccuracy::Accurate, "0s ahead of Microsoft's"),
            ("2026-11-22T06:20:00Z", ClockAccuracy::Accurate, "5m ahead of Microsoft's"),
            ("2026-11-22T06:20:01Z", ClockAccuracy::Inaccurate, "5m1s ahead of Microsoft's"),
            ("2026-11-22T06:09:59Z", ClockAccuracy::Inaccurate, "5m1s behind Microsoft's"),
            ("2026-11-23T06:15:00Z", ClockAccuracy::Inaccurate, "1d ahead of Microsoft's"),
            ("2026-11-23T06:15:01Z", ClockAccuracy::Unusable, "1d ahead of Microsoft's"),
            ("2026-11-21T06:14:59Z", ClockAccuracy::Unusable, "1d behind Microsoft's"),
            ("2027-03-02T06:15:00Z", ClockAccuracy::Unusable, "100d ahead of Microsoft's"),
        ] {
            let offset = ClockOffset::between(at(local), remote);
            assert_eq!(offset.accuracy(), accuracy, "{local}");
            assert_eq!(offset.to_string(), text);
            let corrected = offset.correct(at(local));
            assert_eq!(corrected.as_second(), remote.as_second(), "{local}");
        }
    }

    #[test]
    fn every_pair_of_times_has_an_offset() {
        let now = at("2026-11-22T06:15:00Z");
        let times = [Timestamp::MIN, Timestamp::UNIX_EPOCH, now, Timestamp::MAX];
        for local in times {
            for remote in times {
                let offset = ClockOffset::between(local, remote);
                assert!(offset.size() <= Duration::from_secs(MAX_OFFSET.unsigned_abs()));
                let is_accurate = offset.accuracy() == ClockAccuracy::Accurate;
                assert_eq!(is_accurate, local == remote, "{local} {remote}");
                assert!((Timestamp::MIN..=Timestamp::MAX).contains(&offset.correct(local)));
            }
        }
    }
}
