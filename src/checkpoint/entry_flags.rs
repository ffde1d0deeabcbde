//! The flags of a snapshot in the log, as stored in the column `entry.flags`. The bits are part of
//! the schema and must never be reused for another meaning.

use crate::model::{Day, Seq, SnapshotRef};

/// How a snapshot was accepted. `docs/explanation/data-model.md` states the effects.
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

/// The bits, as `schema.sql` documents them.
const LATE: i64 = 1;
const BACKFILLED: i64 = 2;
/// The bit of [`EntryFlags::partial`], which queries also use.
pub(super) const PARTIAL: i64 = 4;
/// The bit of [`EntryFlags::imported`], which queries also use.
pub(super) const IMPORTED: i64 = 8;

impl EntryFlags {
    /// The bits of the column.
    pub(super) fn bits(self) -> i64 {
        let Self { late, backfilled, partial, imported } = self;
        let bit = |is_set: bool, bit: i64| if is_set { bit } else { 0 };
        bit(late, LATE)
            | bit(backfilled, BACKFILLED)
            | bit(partial, PARTIAL)
            | bit(imported, IMPORTED)
    }

    /// Decodes the column; bits that this release does not define are ignored.
    pub(super) fn from_bits(bits: i64) -> Self {
        let is_set = |bit: i64| bits & bit != 0;
        Self {
            late: is_set(LATE),
            backfilled: is_set(BACKFILLED),
            partial: is_set(PARTIAL),
            imported: is_set(IMPORTED),
        }
    }

    /// The reference to a snapshot of the log that has these flags.
    pub(super) fn snapshot_ref(self, id: String, day: Day, revision: u32, seq: Seq) -> SnapshotRef {
        let Self { late, backfilled, partial, imported } = self;
        SnapshotRef { id, day, revision, seq, late, backfilled, partial, imported }
    }
}
