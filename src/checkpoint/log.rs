//! Appends entries to the log of a tenant. The numbers of a log have no gaps, so an entry takes its
//! `seq` in the transaction that inserts it. Nothing here decides whether an observation begins or
//! ends something: [`super::observations`] asks the ledger. Start reading at [`append_snapshot`].

use super::{
    CheckpointError, LogGrowth, NewEntry,
    backend::{Statements, values},
    fields::EntryKind,
    row_ids::{BodyId, CatalogVersion, TenantRow},
};
use crate::model::{Observation, Seq, UnixMillis, day_hash};

/// A snapshot in the form in which the log stores it.
pub(super) struct NewRow<'a> {
    pub(super) entry: &'a NewEntry<'a>,
    /// The packed facts.
    pub(super) facts: Vec<u8>,
    /// The catalog version that applies to it, if a catalog has been read.
    pub(super) catalog: Option<CatalogVersion>,
    /// The stored body.
    pub(super) body: BodyId,
}

/// Appends a snapshot. Fails if the database cannot be written, or if the revision of the day
/// exists already.
pub(super) fn append_snapshot(
    store: &dyn Statements,
    tenant: TenantRow,
    row: &NewRow<'_>,
) -> Result<LogGrowth, CheckpointError> {
    let NewRow { entry, facts, catalog, body } = row;
    let seq = next_seq(store, tenant)?;
    let sql = "INSERT INTO entry (tenant, seq, kind, day, observed, revision, snapshot_id, facts, digest, flags,
                                  catalog, base_day, base_revision, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

    store.execute(
        sql,
        values![
            tenant,
            seq,
            EntryKind::Snapshot,
            entry.facts.day.number(),
            entry.observed_at,
            entry.revision,
            entry.snapshot_id,
            facts,
            day_hash(entry.facts),
            entry.flags.bits(),
            catalog,
            entry.base.map(|(day, _)| day.number()),
            entry.base.map(|(_, revision)| revision),
            body,
        ],
    )?;
    Ok(LogGrowth::Grown)
}

/// Appends an observation. Fails if the database cannot be written.
pub(super) fn append_observed(
    store: &dyn Statements,
    tenant: TenantRow,
    observation: &Observation,
    observed_at: UnixMillis,
) -> Result<LogGrowth, CheckpointError> {
    let Observation { what, subject, first_day, phase, details, hint } = observation;
    let seq = next_seq(store, tenant)?;
    let sql =
        "INSERT INTO entry (tenant, seq, kind, day, observed, what, subject, phase, details, hint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

    store.execute(
        sql,
        values![
            tenant,
            seq,
            EntryKind::Observation,
            first_day.number(),
            observed_at,
            what.as_str(),
            &*subject.text(),
            phase.as_str(),
            details,
            hint,
        ],
    )?;
    Ok(LogGrowth::Grown)
}

/// Assigns the next `seq` of a tenant's log.
fn next_seq(store: &dyn Statements, tenant: TenantRow) -> Result<Seq, CheckpointError> {
    let sql =
        "UPDATE tenant SET next_seq = next_seq + 1 WHERE id = ?1 RETURNING next_seq - 1 AS seq";
    store.query_one(sql, values![tenant], |row| row.get("seq"))
}
