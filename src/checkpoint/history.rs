//! The past of a tenant: facts without bodies for reports, and bodies for `state export`. Both are
//! read in parts, so memory does not grow with the length of a log. This module never writes.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use super::{
    Checkpoint, CheckpointError, EntryContext, EntryFlags,
    backend::{StoredRow, values},
    body::BodyReader,
    entry_reader::{BaseEntry, EntryReader, LOOKBACK_DAYS, RevisionKey, read_facts},
    row_ids::CatalogVersion,
    sql::snapshot,
};
use crate::model::{Day, DayFacts, Seq, SnapshotRef, TenantId, UnixMillis};

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

const PAST_ENTRIES: &str = concat!(
    "SELECT e.seq, e.day, e.facts, e.revision, e.flags, e.observed, e.catalog, e.base_day, e.base_revision, e.tenant
     FROM entry e JOIN tenant t ON t.id = e.tenant
     WHERE t.guid = ?1 AND e.kind = ",
    snapshot!(),
    " AND e.day >= ?2 AND e.seq > ?3 ORDER BY e.seq LIMIT ?4"
);
const BODIES: &str = concat!(
    "SELECT e.body FROM entry e JOIN tenant t ON t.id = e.tenant
     WHERE t.guid = ?1 AND e.kind = ",
    snapshot!(),
    " AND e.body IS NOT NULL AND e.day BETWEEN ?2 AND ?3
       AND NOT EXISTS (SELECT 1 FROM entry l WHERE l.tenant = e.tenant AND l.kind = ",
    snapshot!(),
    " AND l.day = e.day AND l.revision > e.revision AND l.body IS NOT NULL)
     ORDER BY e.day"
);

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
        seq: Seq,
    ) -> Result<Vec<PastEntry>, CheckpointError> {
        let (guid, from) = (tenant.to_string(), from.number());
        self.reading(|store| {
            let names = self.control_names(store)?;
            let mut reader = EntryReader { store, names: &names, facts: HashMap::new() };
            store.query_all(PAST_ENTRIES, values![guid, from, seq, MAX_ENTRIES_PER_READ], |row| {
                reader.past_entry(row)
            })
        })
    }

    /// Calls `visit` with the body of each stored day at its latest revision, oldest first, as
    /// Microsoft sent it. Stops when `visit` returns `Break`. Skips days whose body was pruned.
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
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), CheckpointError> {
        let guid = tenant.to_string();
        let (from, to) = (from.map_or(i32::MIN, Day::number), to.map_or(i32::MAX, Day::number));
        self.reading(|store| {
            let mut bodies = BodyReader::default();
            store.query(BODIES, values![guid, from, to], &mut |row| {
                Ok(visit(&bodies.read(store, row.get("body")?)?))
            })
        })
    }
}

impl EntryReader<'_> {
    fn past_entry(&mut self, row: &dyn StoredRow) -> Result<PastEntry, CheckpointError> {
        let facts = Arc::new(read_facts(row, self.names)?);
        let flags = EntryFlags::from_bits(row.get("flags")?);
        let (revision, seq) = (row.get("revision")?, row.get("seq")?);
        let snapshot = flags.snapshot_ref(String::new(), facts.day, revision, seq);

        let base_key = RevisionKey::of_base(row)?;
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
        base: Option<RevisionKey>,
        facts: &Arc<DayFacts>,
    ) {
        let (seq, backfilled) = (snapshot.seq, snapshot.backfilled);
        let entry = BaseEntry { seq, facts: Arc::clone(facts), catalog, backfilled, base };
        let key = RevisionKey { day: snapshot.day, revision: snapshot.revision };
        self.facts.insert(key, entry);

        let day = snapshot.day.number();
        self.facts.retain(|cached, _| cached.day.number() > day - LOOKBACK_DAYS - 1);
    }
}
