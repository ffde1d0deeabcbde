//! Points in time. All times in records and in the checkpoint have this type; only `clock` reads
//! the wall clock.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Day;

/// A point in time in whole milliseconds since 1970-01-01T00:00:00Z, the precision of the
/// checkpoint and of records.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(i64);

impl UnixMillis {
    /// A time from milliseconds since 1970-01-01T00:00:00Z; negative before it.
    pub const fn new(milliseconds: i64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z; negative before it.
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// The UTC day on which the time falls.
    pub fn day(self) -> Day {
        Day::of(self.into())
    }

    /// The time since an earlier one; zero if `earlier` is later.
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        let milliseconds = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
    }

    /// The time after this one by `duration`, without fractions of a millisecond; the latest
    /// possible time instead of an overflow.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(duration)))
    }

    /// A stored time of something that has happened, or `None` if it is in the future: the clock
    /// was ahead when it was stored, so the time is unknown and must not be waited for. A clock
    /// that was set back by at most five minutes has no effect: the time then counts as `now`.
    pub fn known_past(self, now: Self) -> Option<Self> {
        (self <= now.saturating_add(CLOCK_TOLERANCE)).then(|| self.min(now))
    }

    /// The rest of a stored wait that ends at this time, of at most `longest`; zero if it is over.
    /// A longer rest means that the clock was ahead when it was stored, so its end is unknown, and
    /// the result is zero too.
    pub fn known_rest(self, now: Self, longest: Duration) -> Duration {
        let rest = self.saturating_duration_since(now);
        if rest <= longest { rest } else { Duration::ZERO }
    }

    /// The time before this one by `duration`, without fractions of a millisecond; the earliest
    /// possible time instead of an overflow.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(duration)))
    }
}

/// Discards fractions of a millisecond.
impl From<Timestamp> for UnixMillis {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_millisecond())
    }
}

/// A time that jiff cannot represent becomes the nearest one that it can represent.
impl From<UnixMillis> for Timestamp {
    fn from(time: UnixMillis) -> Self {
        let limit = if time.0 < 0 { Self::MIN } else { Self::MAX };
        Self::from_millisecond(time.0).unwrap_or(limit)
    }
}

/// A stored time that is later than the current one by at most this is not unknown: the clock of a
/// host is often set back by some seconds.
pub const CLOCK_TOLERANCE: Duration = Duration::from_mins(5);

/// The units of [`short_duration`] in seconds, largest first.
const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];

/// A duration in its two largest units, without fractions of a second: `45s`, `12m30s`, `3h5m`,
/// `2d4h`.
pub fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let largest = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let (size, unit) = UNITS[largest];
    let (whole, rest) = (seconds / size, seconds % size);

    match UNITS.get(largest + 1) {
        Some((smaller, smaller_unit)) if rest >= *smaller => {
            format!("{whole}{unit}{}{smaller_unit}", rest / smaller)
        }
        _ => format!("{whole}{unit}"),
    }
}

fn whole_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip_in_milliseconds() {
        let timestamp: Timestamp = "2026-11-22T06:15:00.25Z".parse().unwrap();
        let time = UnixMillis::from(timestamp);
        assert_eq!(time.as_i64(), 1_795_328_100_250);
        assert_eq!(Timestamp::from(time), timestamp);
        assert_eq!(time.day(), Day::parse("2026-11-22").unwrap());
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (45, "45s"),
            (60, "1m"),
            (750, "12m30s"),
            (3_600, "1h"),
            (3_659, "1h"),
            (11_100, "3h5m"),
            (187_200, "2d4h"),
            (86_400 * 40 + 59, "40d"),
        ] {
            assert_eq!(short_duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
        assert_eq!(short_duration(Duration::from_millis(1_999)), "1s");
    }

    #[test]
    fn times_in_the_future_are_unknown() {
        let now = UnixMillis::new(1_000_000_000);
        let day = Duration::from_hours(24);
        let tolerated = now.saturating_add(CLOCK_TOLERANCE);
        for (time, expected) in [
            (now.saturating_sub(40 * day), Some(now.saturating_sub(40 * day))),
            (now, Some(now)),
            (tolerated, Some(now)),
            (tolerated.saturating_add(Duration::from_millis(1)), None),
            (now.saturating_add(40 * day), None),
            (UnixMillis::new(i64::MAX), None),
            (UnixMillis::new(i64::MIN), Some(UnixMillis::new(i64::MIN))),
        ] {
            assert_eq!(time.known_past(now), expected, "{time:?}");
        }

        let hour = Duration::from_hours(1);
        for (end, rest) in [
            (now.saturating_sub(hour), Duration::ZERO),
            (now.saturating_add(hour), hour),
            (now.saturating_add(hour * 2), Duration::ZERO),
            (now.saturating_add(40 * day), Duration::ZERO),
        ] {
            assert_eq!(end.known_rest(now, hour), rest, "{end:?}");
        }
    }

    #[test]
    fn arithmetic_and_conversion_saturate() {
        let (first, last) = (UnixMillis::new(i64::MIN), UnixMillis::new(i64::MAX));
        assert_eq!(Timestamp::from(first), Timestamp::MIN);
        assert_eq!(Timestamp::from(last), Timestamp::MAX);
        assert_eq!(last.saturating_add(Duration::MAX), last);
        assert_eq!(first.saturating_sub(Duration::MAX), first);
        assert_eq!(first.saturating_duration_since(last), Duration::ZERO);

        let (zero, second) = (UnixMillis::default(), UnixMillis::new(1_000));
        assert_eq!(second.saturating_duration_since(zero), Duration::from_secs(1));
        assert_eq!(second.saturating_sub(Duration::from_secs(2)), UnixMillis::new(-1_000));
    }
}
