//! Days: the UTC dates of snapshots. Microsoft computes one snapshot per UTC day, so a day never
//! depends on the time zone of the host.

use std::fmt;

use jiff::{Span, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// A UTC calendar date; `YYYY-MM-DD` in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(Date);

impl Day {
    /// The day on which an instant falls.
    pub fn of(instant: jiff::Timestamp) -> Self {
        Self(instant.to_zoned(TimeZone::UTC).date())
    }

    /// Parses `YYYY-MM-DD`. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 10).then(|| text.parse().ok().map(Self)).flatten()
    }

    /// The day of a `createdDateTime`, which is its date in UTC. Microsoft sends midnight, but any
    /// RFC 3339 instant is accepted. The null date that Microsoft sent in 2018 (`0001-01-01`), and
    /// any other date before 2000, is rejected.
    pub fn of_instant_text(text: &str) -> Option<Self> {
        let day = match text.strip_suffix("T00:00:00Z") {
            Some(date) => Self::parse(date)?,
            None => Self::of(text.parse().ok()?),
        };
        (day.0.year() >= 2000).then_some(day)
    }

    /// The number of days since 1970-01-01.
    pub fn number(self) -> i32 {
        self.0.since(EPOCH).map_or(0, |span| span.get_days())
    }

    /// The day with this number of days since 1970-01-01. `None` if it is out of range.
    pub fn from_number(days: i32) -> Option<Self> {
        let span = Span::new().try_days(days).ok()?;
        EPOCH.checked_add(span).ok().map(Self)
    }

    /// Midnight UTC at the start of the day.
    pub fn start(self) -> UnixMillis {
        UnixMillis::new(i64::from(self.number()) * 86_400_000)
    }

    /// The day that is this number of days later, or earlier if the number is negative. If the
    /// result cannot be represented, the day is returned unchanged.
    #[must_use]
    pub fn plus(self, days: i32) -> Self {
        Self::from_number(self.number().saturating_add(days)).unwrap_or(self)
    }

    /// The instant at which this hour of the day begins, in UTC.
    pub fn at(self, hour: i8) -> jiff::Timestamp {
        self.0
            .at(hour, 0, 0, 0)
            .to_zoned(TimeZone::UTC)
            .map_or(jiff::Timestamp::UNIX_EPOCH, |z| z.timestamp())
    }
}

const EPOCH: Date = Date::constant(1970, 1, 1);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_created_date_times() {
        for (text, day) in [
            ("2026-07-17T00:00:00Z", Some("2026-07-17")),
            ("2019-03-19T15:21:00Z", Some("2019-03-19")),
            ("2019-03-19T22:37:14.628799Z", Some("2019-03-19")),
            ("2026-07-17T23:30:00-05:00", Some("2026-07-18")),
            ("0001-01-01T00:00:00Z", None),
            ("2026-02-30T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(Day::of_instant_text(text), day.map(|d| Day::parse(d).unwrap()), "{text}");
        }
    }

    #[test]
    fn day_numbers_round_trip() {
        for text in ["1970-01-01", "2024-02-29", "2026-11-22", "2100-12-31"] {
            let day = Day::parse(text).unwrap();
            assert_eq!(Day::from_number(day.number()), Some(day));
        }
        assert_eq!(Day::parse("1970-01-02").unwrap().start(), UnixMillis::new(86_400_000));
        assert_eq!(Day::parse("2026-03-01").unwrap().plus(-1).to_string(), "2026-02-28");
    }

    /// Regression: a number outside the range of a time span caused a panic.
    #[test]
    fn numbers_out_of_range_are_not_days() {
        for number in [i32::MIN, -8_000_000, 8_000_000, i32::MAX] {
            assert_eq!(Day::from_number(number), None, "{number}");
        }
        let day = Day::parse("2026-11-22").unwrap();
        assert_eq!(day.plus(i32::MAX), day);
    }
}
