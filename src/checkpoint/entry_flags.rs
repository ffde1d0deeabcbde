//! The flags of a snapshot in the log, as stored in the column `entry.flags`. The bits are part of
//! the schema and must never be reused for another meaning.

use crate::model::{Day, SnapshotRef};

/// How a snapshot was accepted. The glossary defines the terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the flags are independent of each other")]
pub struct EntryFlags {
    /// A later day was already in the log.
    pub late: bool,
    /// Read by a backfill.
    pub backfilled: bool,
    /// Released although something is missing in the day or in its catalog.
    pub partial: bool,
    /// Read from a file instead of from Microsoft.
    pub imported: bool,
}

impl EntryFlags {
    /// The bits as `schema.sql` documents them.
    pub(super) fn bits(self) -> i64 {
        let Self { late, backfilled, partial, imported } = self;
        i64::from(late)
            | i64::from(backfilled) << 1
            | i64::from(partial) << 2
            | i64::from(imported) << 3
    }

    /// Decodes the column; bits that this release does not define are ignored.
    pub(super) fn from_bits(bits: i64) -> Self {
        let is_set = |bit: i64| bits & bit != 0;
        Self { late: is_set(1), backfilled: is_set(2), partial: is_set(4), imported: is_set(8) }
    }

    /// The reference to a snapshot of the log that has these flags.
    pub(super) fn snapshot_ref(self, id: String, day: Day, revision: u32, seq: i64) -> SnapshotRef {
        let Self { late, backfilled, partial, imported } = self;
        let seq = seq.cast_unsigned();
        SnapshotRef { id, day, revision, seq, late, backfilled, partial, imported }
    }
}
