//! Decides when a tenant is polled.
//!
//! The decision depends only on the cron expression, the time zone, the previous polls and the
//! current time, which the caller passes in every minute. Nothing is scheduled in advance, so a
//! change of time zone rules, an adjusted clock or a suspended host can neither skip nor repeat a
//! day. Start reading at [`Schedule::due`]. See decision 0047.

mod digest;
mod occurrences;

use std::time::Duration;

use croner::{Cron, parser::CronParser};
pub use digest::DigestSchedule;
use jiff::{Timestamp, tz::TimeZone};
use occurrences::Occurrences;

use crate::model::{Day, Polled, TenantId};

/// The hour (UTC) from which today's snapshot is read again.
const LATE_HOUR: i8 = 22;

/// The delay after the first failure. It doubles with every further failure, up to
/// `recheck_interval`.
const FIRST_RETRY: Duration = Duration::from_mins(5);

/// The number of times that [`Schedule::shortest_interval`] compares: more than the minutes of an
/// hour that are at least ten minutes apart, so that every pair of times is compared.
const COMPARED_POLLS: usize = 30;

/// The schedule of all tenants.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The time of the daily poll.
    cron: Cron,
    zone: TimeZone,
    /// The matches of `cron` in `zone`.
    daily: Occurrences,
    /// The time span over which the polls of different tenants are spread.
    jitter: Duration,
    /// The time between a poll that did not find today's snapshot and the next poll.
    recheck_interval: Duration,
}

/// Why a poll is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The tenant has never been polled.
    First,
    /// The time of the daily poll has been reached, possibly while the daemon was not running.
    Daily,
    /// The last poll did not find today's snapshot.
    Recheck,
    /// Today's snapshot is read again late in its UTC day, because it may have been revised.
    Late,
    /// The last poll failed.
    Retry,
}

/// Why a text is not a cron expression of five fields.
#[derive(Debug, thiserror::Error)]
pub enum CronError {
    #[error(
        "`{0}` is not a cron expression of five fields: minute, hour, day of month, month, day of week"
    )]
    Fields(String),
    #[error("`{cron}`: the {name} `{field}` is not valid; expected {expected}")]
    Field {
        cron: String,
        /// The name of the field, such as `minute`.
        name: &'static str,
        /// The field as it is written.
        field: String,
        /// The values that the field can have.
        expected: &'static str,
    },
}

/// The names and the values of the fields of a cron expression.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31"),
    ("month", "1 to 12"),
    ("day of week", "0 to 7"),
];

/// The longest time between two polls of a daily schedule: the day on which daylight saving time
/// ends has an hour more.
const LONGEST_DAY: Duration = Duration::from_hours(25);

/// The time after the next poll in which [`Schedule::longest_gap`] compares polls.
const COMPARED_TIME: Duration = Duration::from_hours(366 * 24);

impl Schedule {
    /// Builds a schedule from the values of the configuration. Fails if `cron` does not have five
    /// valid fields.
    pub fn new(
        cron: &str,
        zone: TimeZone,
        jitter: Duration,
        recheck_interval: Duration,
    ) -> Result<Self, CronError> {
        let cron = parse_cron(cron)?;
        let daily = Occurrences::new(cron.clone(), zone.clone());
        Ok(Self { cron, zone, daily, jitter, recheck_interval })
    }

    /// The times of a sink's digests, in the time zone of this schedule. Fails if `cron` does not
    /// have five valid fields.
    pub fn digest(&self, cron: &str) -> Result<DigestSchedule, CronError> {
        Ok(DigestSchedule::new(parse_cron(cron)?, self.zone.clone()))
    }

    /// Whether a poll of this tenant is due, and why.
    pub fn due(&self, tenant: TenantId, polled: &Polled, now: Timestamp) -> Option<Due> {
        let Some(last_attempt) = polled.last_attempt else { return Some(Due::First) };

        // After the clock was set back, the last poll can be in the future. Polling must not pause
        // until the clock has reached that time again.
        let last_attempt = Timestamp::from(last_attempt).min(now);
        if polled.failures > 0 {
            return has_passed(self.retry_wait(polled.failures), last_attempt, now)
                .then_some(Due::Retry);
        }

        let jitter = self.jitter_of(tenant);
        let last_success = polled.last_success.map_or(last_attempt, Timestamp::from).min(now);
        if self.last_due_time(now, jitter).is_some_and(|time| time > last_success) {
            return Some(Due::Daily);
        }

        // No snapshot of today is expected before the first daily poll of the UTC day.
        let today = Day::of(now);
        if polled.newest_day < Some(today) {
            let was_due_today =
                self.last_due_time(now, jitter).is_some_and(|time| Day::of(time) == today);
            return (was_due_today && has_passed(self.recheck_interval, last_success, now))
                .then_some(Due::Recheck);
        }

        let late = today.at(LATE_HOUR).checked_add(jitter).unwrap_or(now);
        (now >= late && last_success < late).then_some(Due::Late)
    }

    /// When a tenant whose last poll failed is polled again; `None` if it did not fail.
    pub fn retry_at(&self, polled: &Polled) -> Option<Timestamp> {
        let last = polled.last_attempt.filter(|_| polled.failures > 0)?;
        Timestamp::from(last).checked_add(self.retry_wait(polled.failures)).ok()
    }

    /// When a tenant is polled next, by the schedule alone: `now` if a poll is due. `None` if the
    /// cron expression never matches again.
    pub fn next_poll(
        &self,
        tenant: TenantId,
        polled: &Polled,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.due(tenant, polled, now).is_some() {
            return Some(now);
        }
        if polled.failures > 0 {
            return self.retry_at(polled);
        }

        let jitter = self.jitter_of(tenant);
        let daily = self.next_due_time(now, jitter);
        let today = Day::of(now);
        let other = if polled.newest_day < Some(today) {
            // Before the first daily poll of the UTC day, no snapshot of today is expected.
            let was_due_today =
                self.last_due_time(now, jitter).is_some_and(|time| Day::of(time) == today);
            let last = polled.last_success.or(polled.last_attempt).filter(|_| was_due_today);
            last.and_then(|last| Timestamp::from(last).checked_add(self.recheck_interval).ok())
        } else {
            let late = today.at(LATE_HOUR).checked_add(jitter).ok();
            late.filter(|late| now < *late)
        };
        [daily, other].into_iter().flatten().min()
    }

    /// When the snapshot of today was due; `None` if it is stored, or if no poll of today was due
    /// yet.
    pub fn due_since(
        &self,
        tenant: TenantId,
        newest_day: Option<Day>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let today = Day::of(now);
        let due = self.last_due_time(now, self.jitter_of(tenant))?;
        (newest_day < Some(today) && Day::of(due) == today).then_some(due)
    }

    /// The shortest time between two daily polls among the next ones after `now`, for the
    /// validation of a configuration. `None` if the cron expression never matches again.
    pub fn shortest_interval(&self, now: Timestamp) -> Option<Duration> {
        let start = now.to_zoned(self.zone.clone());
        let mut time = self.cron.find_next_occurrence(&start, false).ok()?;

        let mut shortest = Duration::MAX;
        for _ in 0..COMPARED_POLLS {
            let Ok(next) = self.cron.find_next_occurrence(&time, false) else { break };
            let interval = next.timestamp().duration_since(time.timestamp());
            shortest = shortest.min(interval.unsigned_abs());
            time = next;
        }
        Some(shortest)
    }

    /// The longest time of more than a day between two daily polls, of which the first is within a
    /// year after the next poll, for the validation of a configuration. `None` if there is a poll
    /// on every day, or if the cron expression never matches again.
    pub fn longest_gap(&self, now: Timestamp) -> Option<Duration> {
        let (_, first) = self.daily.around(now);
        let mut last = first?;
        let end = last.checked_add(COMPARED_TIME).ok()?;

        let mut longest = None;
        while last < end {
            // Polls that are less than a day apart are skipped.
            let (previous, next) = self.daily.around(last.checked_add(LONGEST_DAY).ok()?);
            if let Some(previous) = previous.filter(|previous| *previous > last) {
                last = previous;
                continue;
            }
            let Some(next) = next else { break };
            longest = longest.max(Some(next.duration_since(last).unsigned_abs()));
            last = next;
        }
        longest
    }

    /// The next time after `now` at which the daily poll of a tenant is due.
    fn next_due_time(&self, now: Timestamp, jitter: Duration) -> Option<Timestamp> {
        let (_, next) = self.daily.around(now.checked_sub(jitter).ok()?);
        next?.checked_add(jitter).ok()
    }

    /// The most recent time at which the daily poll of a tenant was due.
    fn last_due_time(&self, now: Timestamp, jitter: Duration) -> Option<Timestamp> {
        let (previous, _) = self.daily.around(now.checked_sub(jitter).ok()?);
        previous?.checked_add(jitter).ok()
    }

    /// The delay of a tenant within the jitter. It is constant for each tenant, and differs between
    /// tenants.
    fn jitter_of(&self, tenant: TenantId) -> Duration {
        let seconds = self.jitter.as_secs();

        let hash = tenant
            .as_bytes()
            .iter()
            .fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));

        Duration::from_secs(hash.checked_rem(seconds + 1).unwrap_or(0))
    }

    /// The delay after this number of consecutive failures.
    fn retry_wait(&self, failures: u32) -> Duration {
        let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10));
        doubled.min(self.recheck_interval)
    }
}

/// Parses a cron expression of five fields.
fn parse_cron(cron: &str) -> Result<Cron, CronError> {
    // The parser also accepts seconds and names such as `@daily`.
    let fields: Vec<&str> = cron.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(CronError::Fields(cron.to_owned()));
    }
    CronParser::new().parse(cron).map_err(|_| wrong_field(cron, &fields))
}

/// The error of the first invalid field.
fn wrong_field(cron: &str, fields: &[&str]) -> CronError {
    let is_valid = |index: usize, field: &str| {
        let mut alone = ["*"; FIELDS.len()];
        alone[index] = field;
        CronParser::new().parse(&alone.join(" ")).is_ok()
    };

    for (index, (field, (name, expected))) in fields.iter().zip(FIELDS).enumerate() {
        if !is_valid(index, field) {
            let (cron, field) = (cron.to_owned(), (*field).to_owned());
            return CronError::Field { cron, name, field, expected };
        }
    }
    CronError::Fields(cron.to_owned())
}

/// Whether `now` is at least `wait` after `then`.
fn has_passed(wait: Duration, then: Timestamp, now: Timestamp) -> bool {
    then.checked_add(wait).is_ok_and(|until| now >= until)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn schedule(cron: &str, zone: &str) -> Schedule {
        let zone = TimeZone::get(zone).unwrap();
        Schedule::new(cron, zone, Duration::ZERO, 2 * HOUR).unwrap()
    }

    fn tenant() -> TenantId {
        TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn polled(success: &str, newest: &str) -> Polled {
        let time = Some(at(success).into());
        Polled {
            last_attempt: time,
            last_success: time,
            failures: 0,
            newest_day: Day::parse(newest),
        }
    }

    #[test]
    fn due_depends_on_time_and_previous_polls() {
        let daily = schedule("15 6 * * *", "UTC");
        let check = |polled: Polled, now: &str, expected: Option<Due>| {
            assert_eq!(daily.due(tenant(), &polled, at(now)), expected, "{now} {polled:?}");
        };

        check(Polled::default(), "2026-11-22T00:00:00Z", Some(Due::First));
        check(polled("2026-11-21T06:16:00Z", "2026-11-21"), "2026-11-22T06:14:59Z", None);
        check(
            polled("2026-11-21T23:00:00Z", "2026-11-21"),
            "2026-11-22T06:15:00Z",
            Some(Due::Daily),
        );

        // The daemon was not running when polls were due, even for days: one poll is enough.
        check(
            polled("2026-11-18T06:16:00Z", "2026-11-18"),
            "2026-11-22T11:00:00Z",
            Some(Due::Daily),
        );
        check(polled("2026-11-22T11:00:00Z", "2026-11-22"), "2026-11-22T11:01:00Z", None);

        // Today's snapshot is not published yet.
        check(polled("2026-11-22T06:15:30Z", "2026-11-21"), "2026-11-22T08:15:00Z", None);
        check(
            polled("2026-11-22T06:15:30Z", "2026-11-21"),
            "2026-11-22T08:15:30Z",
            Some(Due::Recheck),
        );

        // After midnight and before the daily poll, today's snapshot is not expected.
        check(polled("2026-11-21T23:00:00Z", "2026-11-21"), "2026-11-22T03:00:00Z", None);

        // Today's snapshot is read again late in the day.
        check(
            polled("2026-11-22T06:15:30Z", "2026-11-22"),
            "2026-11-22T22:00:00Z",
            Some(Due::Late),
        );
        check(polled("2026-11-22T22:00:10Z", "2026-11-22"), "2026-11-22T23:00:00Z", None);

        // The clock was ahead and was set back.
        check(polled("2027-11-22T06:15:30Z", "2026-11-22"), "2026-11-23T06:14:00Z", None);
    }

    /// The next poll is the first minute at which a poll is due.
    #[test]
    fn the_next_poll_is_when_one_is_due() {
        let daily = schedule("15 6 * * *", "Europe/Berlin");
        let failed = Polled { failures: 3, ..polled("2026-11-22T05:15:00Z", "2026-11-21") };
        for state in [
            polled("2026-11-21T06:16:00Z", "2026-11-21"),
            polled("2026-11-22T05:16:00Z", "2026-11-21"),
            polled("2026-11-22T05:16:00Z", "2026-11-22"),
            polled("2026-11-22T22:00:30Z", "2026-11-22"),
            failed,
            Polled::default(),
        ] {
            for now in ["2026-11-22T05:20:00Z", "2026-11-22T12:00:00Z", "2026-11-22T23:30:00Z"] {
                if state.last_attempt > Some(at(now).into()) {
                    continue;
                }
                let minutes = (0..3 * 24 * 60).map(|minute| {
                    at(now).checked_add(jiff::SignedDuration::from_mins(minute)).unwrap()
                });
                let due =
                    minutes.into_iter().find(|time| daily.due(tenant(), &state, *time).is_some());

                let next = daily.next_poll(tenant(), &state, at(now)).unwrap();
                let wait = due.unwrap().duration_since(next);
                assert!(wait.unsigned_abs() < Duration::from_mins(1), "{now} {state:?}: {next}");
            }
        }
    }

    #[test]
    fn retry_delays_grow_up_to_a_limit() {
        let daily = schedule("15 6 * * *", "UTC");
        let failed = |failures| Polled { failures, ..polled("2026-11-22T06:15:00Z", "2026-11-21") };
        let due = |failures, now: &str| daily.due(tenant(), &failed(failures), at(now)).is_some();

        assert!(!due(1, "2026-11-22T06:19:59Z") && due(1, "2026-11-22T06:20:00Z"));
        assert!(!due(3, "2026-11-22T06:34:59Z") && due(3, "2026-11-22T06:35:00Z"));
        assert!(!due(50, "2026-11-22T08:14:59Z") && due(50, "2026-11-22T08:15:00Z"));
        for (failures, then) in [(3, "2026-11-22T06:35:00Z"), (50, "2026-11-22T08:15:00Z")] {
            assert_eq!(daily.retry_at(&failed(failures)), Some(at(then)));
        }
        assert_eq!(daily.retry_at(&failed(0)), None);
    }

    /// Steps through every minute of the days around the start or end of daylight saving time:
    /// there must be one daily poll per day.
    #[test]
    fn daylight_saving_neither_skips_nor_repeats_a_day() {
        for (zone, cron, from, days) in [
            ("Europe/Dublin", "0 18 * * *", "2026-03-27T00:00:00Z", 4),
            ("Europe/Dublin", "0 18 * * *", "2026-10-23T00:00:00Z", 4),
            ("Europe/London", "0 0 * * *", "2026-03-27T12:00:00Z", 4),
            ("Europe/Berlin", "30 2 * * *", "2026-03-27T12:00:00Z", 4),
            ("Europe/Berlin", "30 2 * * *", "2026-10-23T12:00:00Z", 4),
        ] {
            let schedule = schedule(cron, zone);
            let mut polled = polled(from, "2030-01-01");
            let start = at(from);
            let mut times = Vec::new();
            for minute in 1..=days * 24 * 60 {
                let now = start.checked_add(jiff::SignedDuration::from_mins(minute)).unwrap();
                if schedule.due(tenant(), &polled, now) == Some(Due::Daily) {
                    polled.last_attempt = Some(now.into());
                    polled.last_success = polled.last_attempt;
                    times.push(now.to_zoned(TimeZone::get(zone).unwrap()));
                }
            }
            assert_eq!(i64::try_from(times.len()).unwrap(), days, "{zone} {cron} {times:?}");
        }
    }

    #[test]
    fn jitter_is_stable_and_bounded() {
        let schedule = Schedule::new("0 6 * * *", TimeZone::UTC, 10 * HOUR, HOUR).unwrap();
        let other = TenantId::parse("aaaaaaaa-0000-4000-8000-00000000c0de").unwrap();
        assert_ne!(schedule.jitter_of(tenant()), schedule.jitter_of(other));
        assert!(schedule.jitter_of(tenant()) <= 10 * HOUR);
    }

    #[test]
    fn rejects_invalid_cron_expressions() {
        for cron in ["", "15 6 * *", "0 15 6 * * *", "99 6 * * *", "@daily"] {
            assert!(Schedule::new(cron, TimeZone::UTC, HOUR, HOUR).is_err(), "{cron}");
        }
    }

    /// Regression: `60 * * * *` was reported as an expression without five fields.
    #[test]
    fn errors_name_the_wrong_field() {
        for (cron, error) in [
            ("60 * * * *", "`60 * * * *`: the minute `60` is not valid; expected 0 to 59"),
            ("0 24 * * *", "`0 24 * * *`: the hour `24` is not valid; expected 0 to 23"),
            ("0 0 32 * *", "`0 0 32 * *`: the day of month `32` is not valid; expected 1 to 31"),
            ("0 0 * 13 *", "`0 0 * 13 *`: the month `13` is not valid; expected 1 to 12"),
            ("0 0 * * x", "`0 0 * * x`: the day of week `x` is not valid; expected 0 to 7"),
        ] {
            let found = Schedule::new(cron, TimeZone::UTC, HOUR, HOUR).unwrap_err();
            assert_eq!(found.to_string(), error);
        }
    }

    #[test]
    fn gaps_of_more_than_a_day_are_found() {
        for (cron, zone, days) in [
            ("15 6 * * *", "UTC", None),
            ("* * * * *", "UTC", None),
            ("30 2 * * *", "Europe/Berlin", None),
            ("0 6 * * 1-5", "UTC", Some(3)),
            ("0 0 31 * *", "UTC", Some(61)),
            ("0 0 1 1 *", "UTC", Some(365)),
            ("0 0 29 2 *", "UTC", Some(1_461)),
            // From the last minute of January to the first one of the next January.
            ("* * * 1 *", "UTC", Some(334)),
        ] {
            let gap = schedule(cron, zone).longest_gap(at("2025-11-22T12:00:00Z"));
            // In whole hours.
            let found = gap.map(|gap| gap.as_secs() / 3_600);
            assert_eq!(found, days.map(|days| days * 24), "{cron}");
        }
    }
}
