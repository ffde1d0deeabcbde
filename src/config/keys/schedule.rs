//! The keys of `[schedule]`: when tenants are polled, and how long a partial day is held. The cron
//! expression and the time zone are checked where the section is read, never here. Start reading at
//! [`CRON`].

use std::time::Duration;

use crate::settings::{
    ExampleSection, KeyWithDefault, TEXT, Text, Timespan, defaulted, duration, keys,
};

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
        duration(Duration::ZERO, ONE_DAY).or(Duration::from_mins(10)),
        "The time span over which the polls of different tenants are spread. The delay of each tenant is constant.",
    );
    RECHECK_INTERVAL: KeyWithDefault<Timespan> = defaulted(
        "recheck_interval",
        duration(MIN_RECHECK_INTERVAL, ONE_DAY).or(Duration::from_hours(2)),
        "The time until a tenant is polled again if today's snapshot is not available yet. This is also the longest delay between retries of a failed poll.",
    );
    PARTIAL_HOLD: KeyWithDefault<Timespan> = defaulted(
        "partial_hold",
        duration(Duration::ZERO, Duration::MAX).or(Duration::from_hours(6)),
        "How long a partial day is held before it is released as partial.",
    );
}

/// The section in the example file.
pub(in crate::config) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    about: "When tenants are polled. Microsoft publishes one snapshot of each tenant per day.",
    ..ExampleSection::SET
}];

/// With a longer jitter or a longer interval, a tenant would not be polled on every day.
const ONE_DAY: Duration = Duration::from_hours(24);

/// A shorter interval would put an unnecessary load on the API.
const MIN_RECHECK_INTERVAL: Duration = Duration::from_mins(1);
