//! The keys of `[state]`: where the checkpoint is stored, and for how long. No key may shorten the
//! storage of facts, which are never pruned. Start reading at [`DIRECTORY`].

use std::time::Duration;

use crate::{
    model::DAYS_AT_SOURCE,
    settings::{
        ExampleSection, Integer, Key, KeyDefinition, KeyWithDefault, Size, TEXT, Text, Timespan,
        defaulted, duration, integer, keys, optional, required, size,
    },
};

keys! {
    /// All keys of the section.
    pub(in crate::config) const KEYS;
    ..RESERVED;
    DIRECTORY: Key<Text> = required(
        "directory",
        TEXT,
        "The state directory, as an absolute path. It contains the checkpoint.",
    )
    .example("/var/lib/secure-score-forwarder");
    RETENTION_DAYS: KeyWithDefault<Integer<i32>> = defaulted(
        "retention_days",
        // Bodies of days that Microsoft keeps are never pruned.
        integer::<i32>(DAYS_AT_SOURCE as i64, 36_500).or(400),
        "The age in days above which the body of a snapshot is pruned if every sink has received it. Facts are never pruned.",
    );
    MAX_SIZE: Key<Size> = optional(
        "max_size",
        size(0, u64::MAX),
        "no limit",
        "The size of the checkpoint above which the oldest bodies are pruned before they reach `retention_days`.",
    )
    .example("10GiB");
    REMOVED_SINKS: KeyWithDefault<Timespan> = defaulted(
        "removed_sinks",
        duration(Duration::ZERO, MAX_REMOVED_SINKS).or(Duration::from_hours(30 * 24)),
        "How long the cursors and dead letters of a sink are kept after its section was removed. If the name returns in this time, delivery continues from the cursors; `0d` deletes them with the section.",
    );
}

/// The section in the example file.
pub(in crate::config) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    about: "The location and the retention of the checkpoint, which contains all data of the forwarder.",
    ..ExampleSection::SET
}];

const RESERVED: &[KeyDefinition] = &[KeyDefinition::reserved("url")];

/// The cursors of a removed sink protect unsent bodies from retention, so they must not be kept for
/// an unlimited time.
const MAX_REMOVED_SINKS: Duration = Duration::from_hours(366 * 24);
