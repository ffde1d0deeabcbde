//! Days: the UTC dates of snapshots. Microsoft computes one snapshot per UTC day, so a day never
//! depends on the time zone of the host. Days are read from Microsoft, from requests and from the
//! checkpoint, so no number and no text may cause a panic.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{borrow::Cow, fmt};

use jiff::{
    Span,
    civil::{Date, DateTime},
    tz::TimeZone,
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::UnixMillis;

/// The number of days that Microsoft keeps, including today.
pub const DAYS_AT_SOURCE: i32 = 90;

/// A UTC calendar date of the years 1 to 9999; `YYYY-MM-DD` in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Day(Date);

impl Day {
    /// The day on which an instant falls; the first day of the year 1 for an earlier instant.
    pub fn of(instant: jiff::Timestamp) -> Self {
        Self(instant.to_zoned(TimeZone::UTC).date().max(FIRST))
    }

    /// Parses `YYYY-MM-DD`. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let date = text.parse::<Date>().ok().filter(|_| text.len() == 10)?;
        Self::within_range(date)
    }

    /// The day of a `createdDateTime`, which is its date in UTC. Microsoft sends midnight, but any
    /// RFC 3339 instant is accepted, and a date or a time without an offset is in UTC. The null
    /// date that Microsoft sent in 2018 (`0001-01-01`), and any other date before 2000, is
    /// rejected.
    pub fn of_instant_text(text: &str) -> Option<Self> {
        let day = match text.strip_suffix("T00:00:00Z") {
            Some(date) => Self::parse(date)?,
            None => match text.trim().parse() {
                Ok(instant) => Self::of(instant),
                Err(_) => Self::within_range(text.trim().parse::<DateTime>().ok()?.date())?,
            },
        };
        (day.0.year() >= 2000).then_some(day)
    }

    /// Whether a text has the form that [`Self::of_instant_text`] accepts, even if it rejects the
    /// text because the date is out of range.
    pub fn is_instant_text(text: &str) -> bool {
        let text = text.trim();
        text.parse::<jiff::Timestamp>().is_ok() || text.parse::<DateTime>().is_ok()
    }

    /// The number of days since 1970-01-01.
    pub fn number(self) -> i32 {
        self.0.since(EPOCH).map_or(0, |span| span.get_days())
    }

    /// The day with this number of days since 1970-01-01. `None` if it is out of range.
    pub fn from_number(days: i32) -> Option<Self> {
        let span = Span::new().try_days(days).ok()?;
        Self::within_range(EPOCH.checked_add(span).ok()?)
    }

    /// Midnight UTC at the start of the day.
    pub fn start(self) -> UnixMillis {
        UnixMillis::new(i64::from(self.number()).saturating_mul(86_400_000))
    }

    /// The day that is this number of days later, or earlier if the number is negative. If the
    /// result cannot be represented, the day is returned unchanged.
    #[must_use]
    pub fn plus(self, days: i32) -> Self {
        Self::from_number(self.number().saturating_add(days)).unwrap_or(self)
    }

    /// The oldest day that Microsoft keeps while this is today: the first one to request.
    #[must_use]
    pub fn oldest_at_source(self) -> Self {
        self.plus(OLDEST_AT_SOURCE)
    }

    /// The oldest day that Microsoft may still keep while this is today on this host. It is one day
    /// before [`Self::oldest_at_source`], because the day may not have ended at Microsoft.
    #[must_use]
    pub fn oldest_possible_at_source(self) -> Self {
        self.plus(-DAYS_AT_SOURCE)
    }

    /// The instant at which this hour of the day begins, in UTC.
    pub fn at(self, hour: i8) -> jiff::Timestamp {
        self.0
            .at(hour, 0, 0, 0)
            .to_zoned(TimeZone::UTC)
            .map_or(jiff::Timestamp::UNIX_EPOCH, |z| z.timestamp())
    }

    fn within_range(date: Date) -> Option<Self> {
        (date >= FIRST).then_some(Self(date))
    }
}

/// The oldest day that Microsoft keeps, relative to today, which is one of the days.
const OLDEST_AT_SOURCE: i32 = 1 - DAYS_AT_SOURCE;
const EPOCH: Date = Date::constant(1970, 1, 1);
/// The first day. The text of an earlier one does not have ten characters.
const FIRST: Date = Date::constant(1, 1, 1);

/// Fails for every text that [`Day::parse`] rejects.
impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a day"))
    }
}

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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_created_date_times() {
        for (text, day) in [
            ("2026-07-17T00:00:00Z", Some("2026-07-17")),
            ("2019-03-19T15:21:00Z", Some("2019-03-19")),
            ("2019-03-19T22:37:14.628799Z", Some("2019-03-19")),
            ("2026-07-17T23:30:00-05:00", Some("2026-07-18")),
            ("2026-07-17T23:30:00", Some("2026-07-17")),
            ("2026-07-17", Some("2026-07-17")),
            ("2028-02-29T12:00:00Z", Some("2028-02-29")),
            // A leap second belongs to the day that it ends.
            ("2016-12-31T23:59:60Z", Some("2016-12-31")),
            (" 2026-07-17T00:00:00Z ", Some("2026-07-17")),
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

    #[test]
    fn microsoft_keeps_ninety_days_with_today() {
        for (today, oldest, oldest_possible) in [
            ("2026-11-22", "2026-08-25", "2026-08-24"),
            ("2028-03-01", "2027-12-03", "2027-12-02"),
            // There is no earlier day.
            ("0001-01-01", "0001-01-01", "0001-01-01"),
        ] {
            let today = Day::parse(today).unwrap();
            assert_eq!(today.oldest_at_source().to_string(), oldest);
            assert_eq!(today.oldest_possible_at_source().to_string(), oldest_possible);
        }

        let today = Day::parse("2026-11-22").unwrap();
        let listed = today.number() - today.oldest_at_source().number() + 1;
        assert_eq!(listed, DAYS_AT_SOURCE);
    }

    /// Regression: a number outside the range of a time span caused a panic.
    #[test]
    fn numbers_out_of_range_are_not_days() {
        for number in [i32::MIN, -8_000_000, -4_000_000, -719_163, 2_932_897, 8_000_000, i32::MAX] {
            assert_eq!(Day::from_number(number), None, "{number}");
        }
        let day = Day::parse("2026-11-22").unwrap();
        assert_eq!(day.plus(i32::MAX), day);
        assert_eq!(day.plus(i32::MIN), day);
    }

    #[test]
    fn texts_out_of_range_are_not_days() {
        for text in ["0000-12-31", "-009999-01-01", "+002026-11-22", "10000-01-01", "2026-02-30"] {
            assert_eq!(Day::parse(text), None, "{text}");
            assert!(serde_json::from_str::<Day>(&format!("\"{text}\"")).is_err(), "{text}");
        }
        for json in ["20000", "-1", "9223372036854775807", "1e308", "null", "[]", "\"NaN\""] {
            assert!(serde_json::from_str::<Day>(json).is_err(), "{json}");
        }

        for text in ["0001-01-01", "2026-11-22", "9999-12-31"] {
            let day = Day::parse(text).unwrap();
            assert_eq!(Day::from_number(day.number()), Some(day));
            let json = serde_json::to_string(&day).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Day>(&json).unwrap(), day);
        }
        assert_eq!(UnixMillis::new(i64::MIN).day(), Day::parse("0001-01-01").unwrap());
    }

    proptest! {
        #[test]
        fn every_number_is_a_day_or_none(number: i32, days: i32, text: String) {
            let day = Day::from_number(number).unwrap_or(Day(EPOCH));
            prop_assert_eq!(Day::from_number(day.number()), Some(day));
            let _ = (day.plus(days), day.start(), day.at(23), Day::parse(&text));
        }
    }
}
