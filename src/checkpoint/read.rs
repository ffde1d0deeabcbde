//! Reading the log on from a cursor.

use rusqlite::params;

use super::{
    Checkpoint, CheckpointError,
    body::Bodies,
    take::{EntryFlags, read_facts},
};
use crate::model::{Day, DayFacts, SnapshotRef, TenantId};

/// An entry of the log as a sink needs it.
#[derive(Debug)]
pub struct StoredEntry {
    pub snapshot: SnapshotRef,
    pub observed_ms: i64,
    /// As sent.
    pub body: String,
    pub catalogue: Option<i64>,
    /// The facts of the day's earlier revisions, oldest first.
    pub history: Vec<DayFacts>,
}

impl Checkpoint {
    /// The next snapshots of a tenant's log from `seq` on, of days not before `floor`, until they
    /// hold `octets` of body or the log ends. Observations stream nothing yet and are passed over.
    pub fn read(
        &self,
        tenant: TenantId,
        seq: u64,
        floor: Day,
        octets: usize,
    ) -> Result<Vec<StoredEntry>, CheckpointError> {
        let connection = self.connection();
        let names = self.names();
        let guid = tenant.to_string();
        let mut statement = connection.prepare_cached(
            "SELECT e.seq, e.day, e.observed, e.revision, e.snapshot_id, e.flags, e.catalogue, e.body
             FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.seq >= ?2 AND e.kind = 1 AND e.day >= ?3 AND e.body IS NOT NULL ORDER BY e.seq",
        )?;
        let mut earlier = connection.prepare_cached(
            "SELECT e.day, e.facts FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.day = ?2 AND e.revision < ?3 ORDER BY e.revision",
        )?;
        let mut rows = statement.query(params![guid, seq.cast_signed(), floor.number()])?;
        let mut bodies = Bodies::default();
        let (mut entries, mut read) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let day: i32 = row.get(1)?;
            let revision: u32 = row.get(3)?;
            let EntryFlags { late, backfilled, partial, .. } = EntryFlags::of(row.get(5)?);
            let mut history = Vec::new();
            if revision > 1 {
                let mut rows = earlier.query(params![guid, day, revision])?;
                while let Some(row) = rows.next()? {
                    history.push(read_facts(row, 0, 1, &names)?);
                }
            }
            let day = Day::from_number(day)
                .ok_or_else(|| CheckpointError::Damaged("an entry has no day".to_owned()))?;
            let seq = row.get::<_, i64>(0)?.cast_unsigned();
            let body = match bodies.read(&connection, row.get(7)?) {
                // What comes before it can go out all the same.
                Err(CheckpointError::Damaged(_)) if !entries.is_empty() => break,
                other => other?,
            };
            read += body.len();
            entries.push(StoredEntry {
                snapshot: SnapshotRef {
                    id: row.get(4)?,
                    day,
                    revision,
                    seq,
                    late,
                    backfilled,
                    partial,
                },
                observed_ms: row.get(2)?,
                body,
                catalogue: row.get(6)?,
                history,
            });
            if read >= octets {
                break;
            }
        }
        Ok(entries)
    }
}
