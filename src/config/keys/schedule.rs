//! The keys of `[schedule]`.

use std::time::Duration;

use crate::settings::{KeyWithDefault, TEXT, Text, Timespan, defaulted, duration, keys};

keys! {
    /// All keys of the section.
    pub(in crate::config) const KEYS;
    CRON: KeyWithDefault<Text> = defaulted(
        "cron",
        TEXT.or("15 6 * * *"),
        "The time of the daily poll, as a cron expression with five fields.",
    );
    TIMEZONE: KeyWithDefault<Text> =
        defaulted("timezone", TEXT.or("UTC"), "The time zone of `cron`, such as Europe/Berlin.");
    JITTER: KeyWithDefault<Timespan> = defaulted(
        "jitter",
        duration(Duration::ZERO, Duration::MAX).or(Duration::from_mins(10)),
        "The time span over which the polls of different tenants are spread. The delay of each tenant is constant.",
    );
    RECHECK_INTERVAL: KeyWithDefault<Timespan> = defaulted(
        "recheck_interval",
        duration(MIN_RECHECK_INTERVAL, Duration::MAX).or(Duration::from_hours(2)),
        "The time until a tenant is polled again if today's snapshot is not available yet. This is also the longest delay between retries of a failed poll.",
    );
    PARTIAL_HOLD: KeyWithDefault<Timespan> = defaulted(
        "partial_hold",
        duration(Duration::ZERO, Duration::MAX).or(Duration::from_hours(6)),
        "How long a partial day is held before it is released as partial.",
    );
}

/// A shorter interval would put an unnecessary load on the API.
const MIN_RECHECK_INTERVAL: Duration = Duration::from_mins(1);
