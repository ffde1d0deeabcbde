//! Decides when a tenant is polled.
//!
//! The decision depends only on the cron expression, the time zone, the previous polls and the
//! current time, which the caller passes in every minute. Nothing is scheduled in advance, so a
//! change of time zone rules, an adjusted clock or a suspended host can neither skip nor repeat a
//! day. A previous poll in the future is unknown, and is never waited for. Start reading at
//! [`Schedule::due`]. See decisions 0047 and 0079.

mod digest;
mod occurrences;
#[cfg(test)]
mod tests;

use std::time::Duration;

use croner::{Cron, parser::CronParser};
pub use digest::DigestSchedule;
use jiff::{Timestamp, tz::TimeZone};
use occurrences::Occurrences;

use crate::model::{Day, Polled, TenantId, UnixMillis};

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

        // The clock was ahead during a poll in the future. Polling must not pause until the clock
        // has reached that time again, so the poll does not count.
        let known = |time: UnixMillis| time.known_past(now.into()).map(Timestamp::from);
        if polled.failures > 0 {
            let wait = self.retry_wait(polled.failures);
            let is_over = known(last_attempt).is_none_or(|last| has_passed(wait, last, now));
            return is_over.then_some(Due::Retry);
        }
        let last_success = known(polled.last_success.unwrap_or(last_attempt));
        let Some(last_success) = last_success else { return Some(Due::Daily) };

        let jitter = self.jitter_of(tenant);
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
