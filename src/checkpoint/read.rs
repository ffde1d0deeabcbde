//! Reading the log on from a cursor.

use rusqlite::{Row, params, types::ValueRef};

use super::{
    Checkpoint, CheckpointError, Names,
    body::Bodies,
    take::{EntryFlags, read_facts},
};
use crate::model::{Day, DayFacts, SnapshotRef, TenantId};

/// What is to be read of a tenant's log.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub tenant: TenantId,
    /// From this entry on, up to and with that one.
    pub seq: u64,
    pub last: u64,
    /// Days not before this, and not after that.
    pub floor: Day,
    pub ceiling: Option<Day>,
    /// Until the bodies come to so many octets.
    pub octets: usize,
    /// The bases are wanted too.
    pub bases: bool,
}

/// What an entry is measured against.
#[derive(Debug)]
pub struct StoredBase {
    pub facts: DayFacts,
    pub catalogue: Option<i64>,
}

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
    /// `None` where there is none, or where it was not asked for.
    pub base: Option<StoredBase>,
}

impl Checkpoint {
    /// The next snapshots of a tenant's log. Observations stream nothing yet and are passed over.
    pub fn read(&self, wanted: &Wanted) -> Result<Vec<StoredEntry>, CheckpointError> {
        let connection = self.connection();
        let names = self.names();
        let guid = wanted.tenant.to_string();
        let mut statement = connection.prepare_cached(
            "SELECT e.seq, e.day, e.observed, e.revision, e.snapshot_id, e.flags, e.catalogue, e.body, b.day, b.facts, b.catalogue
             FROM entry e JOIN tenant t ON t.id = e.tenant
             LEFT JOIN entry b ON ?6 AND b.tenant = e.tenant AND b.kind = 1 AND b.day = e.base_day AND b.revision = e.base_revision
             WHERE t.guid = ?1 AND e.seq BETWEEN ?2 AND ?5 AND e.kind = 1 AND e.day >= ?3 AND (?4 IS NULL OR e.day <= ?4)
               AND e.body IS NOT NULL ORDER BY e.seq",
        )?;
        let mut earlier = connection.prepare_cached(
            "SELECT e.day, e.facts FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.day = ?2 AND e.revision < ?3 ORDER BY e.revision",
        )?;
        let mut rows = statement.query(params![
            guid,
            wanted.seq.cast_signed(),
            wanted.floor.number(),
            wanted.ceiling.map(Day::number),
            i64::try_from(wanted.last).unwrap_or(i64::MAX),
            wanted.bases
        ])?;
        let mut bodies = Bodies::default();
        let (mut entries, mut read) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let body = match bodies.read(&connection, row.get(7)?) {
                // What comes before it can go out all the same.
                Err(CheckpointError::Damaged(_)) if !entries.is_empty() => break,
                other => other?,
            };
            read += body.len();
            let (day, revision): (i32, u32) = (row.get(1)?, row.get(3)?);
            let mut history = Vec::new();
            if revision > 1 {
                let mut rows = earlier.query(params![guid, day, revision])?;
                while let Some(row) = rows.next()? {
                    history.push(read_facts(row, 0, 1, &names)?);
                }
            }
            entries.push(stored(row, body, history, &names)?);
            if read >= wanted.octets {
                break;
            }
        }
        Ok(entries)
    }
}

/// An entry from its row.
fn stored(
    row: &Row<'_>,
    body: String,
    history: Vec<DayFacts>,
    names: &Names,
) -> Result<StoredEntry, CheckpointError> {
    let EntryFlags { late, backfilled, partial, .. } = EntryFlags::of(row.get(5)?);
    let day = Day::from_number(row.get(1)?)
        .ok_or_else(|| CheckpointError::Damaged("an entry has no day".to_owned()))?;
    let base = match row.get_ref(9)? {
        ValueRef::Null => None,
        _ => Some(StoredBase { facts: read_facts(row, 8, 9, names)?, catalogue: row.get(10)? }),
    };
    Ok(StoredEntry {
        snapshot: SnapshotRef {
            id: row.get(4)?,
            day,
            revision: row.get(3)?,
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            late,
            backfilled,
            partial,
        },
        observed_ms: row.get(2)?,
        body,
        catalogue: row.get(6)?,
        history,
        base,
    })
}
