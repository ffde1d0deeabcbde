//! The past of a tenant: facts without bodies for reports, and bodies for `state export`. Both are
//! read in parts, so memory does not grow with the length of a log. This module never writes.

use std::{collections::HashMap, sync::Arc};

use rusqlite::params;

use super::{
    Checkpoint, CheckpointError, EntryContext, EntryFlags,
    body::BodyReader,
    columns::unsigned,
    commit_poll::read_facts,
    read::{BaseEntry, EntryReader, LOOKBACK_DAYS},
    row_ids::CatalogVersion,
};
use crate::model::{Day, DayFacts, SnapshotRef, TenantId, UnixMillis};

/// A snapshot of the log without its body.
#[derive(Debug)]
pub struct PastEntry {
    /// Its `id` is empty, because reports do not use it.
    pub snapshot: SnapshotRef,
    /// When the poll read it.
    pub observed_at: UnixMillis,
    /// The facts of the day, which are never pruned.
    pub facts: Arc<DayFacts>,
    /// The catalog version, for [`Checkpoint::catalog`]. `None` if no catalog had been read.
    pub catalog: Option<CatalogVersion>,
    /// How the snapshot relates to the earlier entries.
    pub context: EntryContext,
}

/// How many entries one call reads. A larger number takes more memory; with a smaller one, the
/// bases of the first two weeks of each call are read again more often.
const MAX_ENTRIES_PER_READ: u32 = 120;

impl Checkpoint {
    /// The next snapshots of a tenant after `seq`, of the day `from` or later, in the order of the
    /// log. Returns at most [`MAX_ENTRIES_PER_READ`]; an empty list means that there are no more.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::Damaged`] if the facts of an entry or of one of its bases
    /// cannot be decoded.
    pub fn past_entries(
        &self,
        tenant: TenantId,
        from: Day,
        seq: u64,
    ) -> Result<Vec<PastEntry>, CheckpointError> {
        let connection = self.connection();
        let names = self.control_names(&connection)?;
        let mut statement = connection.prepare_cached(
            "SELECT e.seq, e.day, e.facts, e.revision, e.flags, e.observed, e.catalog, e.base_day, e.base_revision, e.tenant
             FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.day >= ?2 AND e.seq > ?3 ORDER BY e.seq LIMIT ?4",
        )?;
        let mut rows = statement.query(params![
            tenant.to_string(),
            from.number(),
            seq.cast_signed(),
            MAX_ENTRIES_PER_READ
        ])?;

        let mut reader =
            EntryReader { connection: &connection, names: &names, facts: HashMap::new() };
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            entries.push(reader.past_entry(row)?);
        }
        Ok(entries)
    }

    /// Calls `visit` with the body of each stored day at its latest revision, oldest first, as
    /// Microsoft sent it. Stops when `visit` returns `false`. Skips days whose body was pruned.
    /// `from` and `to` are inclusive; `None` means no limit.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::Damaged`] at the first body that cannot be decoded; the bodies
    /// before it have been visited.
    pub fn for_each_body(
        &self,
        tenant: TenantId,
        from: Option<Day>,
        to: Option<Day>,
        mut visit: impl FnMut(&str) -> bool,
    ) -> Result<(), CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT e.body, max(e.revision) FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.body IS NOT NULL AND e.day BETWEEN ?2 AND ?3
             GROUP BY e.day ORDER BY e.day",
        )?;
        let mut rows = statement.query(params![
            tenant.to_string(),
            from.map_or(i32::MIN, Day::number),
            to.map_or(i32::MAX, Day::number)
        ])?;

        let mut bodies = BodyReader::default();
        while let Some(row) = rows.next()? {
            if !visit(&bodies.read(&connection, row.get("body")?)?) {
                break;
            }
        }
        Ok(())
    }
}

impl EntryReader<'_> {
    fn past_entry(&mut self, row: &rusqlite::Row<'_>) -> Result<PastEntry, CheckpointError> {
        let facts = Arc::new(read_facts(row, self.names)?);
        let flags = EntryFlags::from_bits(row.get("flags")?);
        let (revision, seq) = (row.get("revision")?, unsigned(row, "seq")?);
        let snapshot = flags.snapshot_ref(String::new(), facts.day, revision, seq);

        let base_key = row.get::<_, Option<i32>>("base_day")?.zip(row.get("base_revision")?);
        let context = self.context(row.get("tenant")?, &snapshot, base_key)?;
        let catalog = row.get("catalog")?;
        self.cache(&snapshot, catalog, base_key, &facts);

        Ok(PastEntry { snapshot, observed_at: row.get("observed")?, facts, catalog, context })
    }

    /// Caches an entry, which is the base of the next day, and removes entries that are too old to
    /// be read again.
    fn cache(
        &mut self,
        snapshot: &SnapshotRef,
        catalog: Option<CatalogVersion>,
        base: Option<(i32, u32)>,
        facts: &Arc<DayFacts>,
    ) {
        let day = snapshot.day.number();
        let (seq, backfilled) = (snapshot.seq, snapshot.backfilled);
        let entry = BaseEntry { seq, facts: Arc::clone(facts), catalog, backfilled, base };
        self.facts.insert((day, snapshot.revision), entry);
        self.facts.retain(|(cached_day, _), _| *cached_day > day - LOOKBACK_DAYS - 1);
    }
}
