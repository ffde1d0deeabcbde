//! Decides when the digest of a sink is due.
//!
//! As for polls, the decision depends only on the cron expression, the previous digest and the
//! current time: a digest that was not sent in time stays due. Start reading at
//! [`DigestSchedule::is_due`].

use croner::Cron;
use jiff::{Timestamp, tz::TimeZone};

/// The times at which a sink sends its digests.
#[derive(Clone, Debug)]
pub struct DigestSchedule {
    cron: Cron,
    zone: TimeZone,
}

impl DigestSchedule {
    pub(super) fn new(cron: Cron, zone: TimeZone) -> Self {
        Self { cron, zone }
    }

    /// Whether a digest is due: one of its times has been reached since `last`, the time of the
    /// previous digest.
    pub fn is_due(&self, last: Timestamp, now: Timestamp) -> bool {
        let now = now.to_zoned(self.zone.clone());
        let previous = self.cron.find_previous_occurrence(&now, true).ok();
        previous.is_some_and(|time| time.timestamp() > last)
    }

    /// The next time after `now`; `None` if the cron expression never matches.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&now, false).ok().map(|time| time.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::Schedule, *};

    fn digest(cron: &str, zone: &str) -> DigestSchedule {
        let zone = TimeZone::get(zone).unwrap();
        let schedule = Schedule::new("15 6 * * *", zone, Duration::ZERO, Duration::from_hours(2));
        schedule.unwrap().digest(cron).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_digest_is_due_once_per_time() {
        // 2026-11-23 is a Monday.
        let weekly = digest("0 8 * * 1", "Europe/Berlin");
        for (last, now, is_due) in [
            ("2026-11-20T12:00:00Z", "2026-11-23T06:59:59Z", false),
            ("2026-11-20T12:00:00Z", "2026-11-23T07:00:00Z", true),
            // Not sent in time, for example because the daemon was not running.
            ("2026-11-20T12:00:00Z", "2026-11-25T00:00:00Z", true),
            ("2026-11-23T07:00:05Z", "2026-11-25T00:00:00Z", false),
            ("2026-11-23T07:00:05Z", "2026-11-30T07:00:00Z", true),
            // Several times have passed: one digest covers them.
            ("2026-11-01T00:00:00Z", "2026-11-23T07:00:00Z", true),
        ] {
            assert_eq!(weekly.is_due(at(last), at(now)), is_due, "{last} {now}");
        }
    }

    #[test]
    fn the_next_digest_is_in_its_zone() {
        let now = at("2026-11-22T12:00:00Z");
        let berlin = digest("0 8 * * 1", "Europe/Berlin");
        assert_eq!(berlin.next(now), Some(at("2026-11-23T07:00:00Z")));
        let utc = digest("0 8 * * 1", "UTC");
        assert_eq!(utc.next(at("2026-11-23T08:00:00Z")), Some(at("2026-11-30T08:00:00Z")));
        assert_eq!(digest("0 0 30 2 *", "UTC").next(now), None);
    }

    #[test]
    fn only_five_fields_are_a_cron_expression() {
        let schedule = Schedule::new("15 6 * * *", TimeZone::UTC, Duration::ZERO, Duration::ZERO);
        let schedule = schedule.unwrap();
        for cron in ["", "0 8 * *", "0 0 8 * * 1", "@weekly", "0 25 * * *"] {
            assert!(schedule.digest(cron).is_err(), "{cron}");
        }
    }

    /// Steps through every minute around the start and the end of daylight saving time: there must
    /// be one digest per day.
    #[test]
    fn daylight_saving_neither_skips_nor_repeats_a_digest() {
        for (cron, from) in
            [("30 2 * * *", "2026-03-27T12:00:00Z"), ("30 2 * * *", "2026-10-23T12:00:00Z")]
        {
            let (daily, start) = (digest(cron, "Europe/Berlin"), at(from));
            let (mut last, mut count) = (start, 0);
            for minute in 1..=4 * 24 * 60 {
                let now = start.checked_add(jiff::SignedDuration::from_mins(minute)).unwrap();
                if daily.is_due(last, now) {
                    last = now;
                    count += 1;
                }
            }
            assert_eq!(count, 4, "{from}");
        }
    }
}
