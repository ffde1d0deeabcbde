//! Prunes bodies that are past their retention. Facts are never pruned, and neither is a body that
//! a sink, a replay or a dead letter still needs.
//!
//! The database lists the bodies of old days, and [`crate::ledger`] decides which of them may be
//! pruned. Start reading at [`Checkpoint::prune`]. See decision 0016.

use std::{collections::HashMap, ops::ControlFlow};

use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, CheckpointError,
    backend::{Statements, StoredRow, values},
    body::delete_if_unreferenced,
    fields::{day, entry_day},
    meta,
    row_ids::{BodyId, TenantRow},
    sql::snapshot,
};
use crate::{
    ledger::{BodyUse, prunable_before},
    model::{Day, Seq},
};

/// The result of pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// The number of days whose bodies were pruned.
    pub days: u64,
    /// The bytes of the database that are in use after pruning.
    pub used_bytes: u64,
}

/// How much one transaction does, so that other users of the checkpoint do not wait for long.
#[derive(Clone, Copy, Debug)]
pub(super) struct PruneLimits {
    /// The number of bodies that it prunes.
    pub(super) bodies: usize,
    /// The number of bodies that it examines.
    pub(super) candidates: u32,
}

/// The body of a day that is past its retention.
#[derive(Clone, Copy)]
struct Candidate {
    tenant: TenantRow,
    seq: Seq,
    day: Day,
    body: BodyId,
}

/// The result of one transaction.
struct PrunedBatch {
    /// The number of pruned bodies.
    days: u64,
    /// The last body that was examined. The next transaction continues after it; `None` if there
    /// are no further candidates.
    last: Option<Candidate>,
}

const LIMITS: PruneLimits = PruneLimits { bodies: 500, candidates: 10_000 };
/// The row of `meta` with the day on which pruning was last completed.
const LAST_PRUNE_DAY: &str = "pruned";

/// SQL: the bodies of days before `?1`, the oldest first and at most `?5`, after the day `?2`, the
/// tenant `?3` and the entry `?4`.
const CANDIDATES: &str = concat!(
    "SELECT e.tenant, e.seq, e.day, e.body FROM entry e WHERE e.kind = ",
    snapshot!(),
    " AND e.body IS NOT NULL AND e.day < ?1 AND (e.day, e.tenant, e.seq) > (?2, ?3, ?4)
     ORDER BY e.day, e.tenant, e.seq LIMIT ?5"
);

impl Checkpoint {
    /// Prunes the bodies of days before `before` that every sink has received. Then, while the
    /// database uses more than `max_size` bytes, prunes the oldest of the other bodies that every
    /// sink has received. Never removes the bodies of the newest 90 days, or a key frame that other
    /// bodies depend on.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read or written. The bodies that were pruned before the
    /// error stay pruned, because each batch of 500 is a separate transaction.
    pub fn prune(
        &self,
        before: Day,
        max_size: Option<u64>,
        today: Day,
    ) -> Result<Pruned, CheckpointError> {
        self.prune_within(LIMITS, before, max_size, today)
    }

    /// As [`Self::prune`], with other transactions.
    pub(super) fn prune_within(
        &self,
        limits: PruneLimits,
        before: Day,
        max_size: Option<u64>,
        today: Day,
    ) -> Result<Pruned, CheckpointError> {
        let expired = prunable_before(before, today);
        let mut days = self.prune_while(limits, expired, || true)?;

        if let Some(max_size) = max_size {
            let is_too_large = || self.used_bytes().is_ok_and(|used| used > max_size);
            days += self.prune_while(limits, prunable_before(today, today), is_too_large)?;
        }

        Ok(Pruned { days, used_bytes: self.used_bytes()? })
    }

    /// The day on which pruning was last completed, as stored by [`Self::set_last_prune_day`].
    /// `None` if pruning has never been completed.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn last_prune_day(&self) -> Result<Option<Day>, CheckpointError> {
        let day = self.reading(|store| meta::value(store, LAST_PRUNE_DAY))?;
        Ok(day.and_then(|day| Day::parse(&day)))
    }

    /// Stores that pruning was completed today.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn set_last_prune_day(&self, today: Day) -> Result<(), CheckpointError> {
        let today = today.to_string();
        self.administrative(|store| meta::set(store, LAST_PRUNE_DAY, &today))
    }

    /// Prunes bodies of days before `before`, the oldest first, until none is left or
    /// `is_required` returns `false`. Returns their number.
    fn prune_while(
        &self,
        limits: PruneLimits,
        before: Day,
        is_required: impl Fn() -> bool,
    ) -> Result<u64, CheckpointError> {
        let (mut days, mut last) = (0, None);
        while is_required() {
            let batch = self.prune_batch(limits, before, last)?;
            days += batch.days;
            // A batch without a prunable body is not the end: the ones after it may be prunable.
            last = batch.last;
            if last.is_none() {
                break;
            }
        }
        Ok(days)
    }

    /// Prunes the next bodies of days before `before`, in one transaction. `after` is the last body
    /// that the transaction before it has examined.
    fn prune_batch(
        &self,
        limits: PruneLimits,
        before: Day,
        after: Option<Candidate>,
    ) -> Result<PrunedBatch, CheckpointError> {
        self.claimed(|store| {
            let candidates = next_candidates(store, limits.candidates, before, after)?;
            let is_end = (candidates.len() as u64) < u64::from(limits.candidates);
            let uses = if candidates.is_empty() { HashMap::new() } else { body_uses(store)? };

            let is_prunable = |candidate: &&Candidate| {
                let Candidate { tenant, seq, day, .. } = **candidate;
                uses.get(&tenant).is_none_or(|body_use: &BodyUse| !body_use.needs(seq, day))
            };
            let prunable: Vec<Candidate> =
                candidates.iter().filter(is_prunable).take(limits.bodies).copied().collect();
            prune_bodies(store, &prunable)?;

            let is_full = prunable.len() >= limits.bodies;
            let last = if is_full { prunable.last() } else { candidates.last() };
            let last = last.filter(|_| is_full || !is_end).copied();
            Ok(PrunedBatch { days: prunable.len() as u64, last })
        })
    }
}

fn next_candidates(
    store: &dyn Statements,
    limit: u32,
    before: Day,
    after: Option<Candidate>,
) -> Result<Vec<Candidate>, CheckpointError> {
    let (tenant, seq) = (after.map(|last| last.tenant), after.map(|last| last.seq));
    let day = after.map_or(i32::MIN, |last| last.day.number());
    store.query_all(CANDIDATES, values![before.number(), day, tenant, seq, limit], read_candidate)
}

fn read_candidate(row: &dyn StoredRow) -> Result<Candidate, CheckpointError> {
    Ok(Candidate {
        tenant: row.get("tenant")?,
        seq: row.get("seq")?,
        day: entry_day(row)?,
        body: row.get("body")?,
    })
}

/// What still needs bodies, by tenant. A damaged position is an error, because it could be that of
/// a body that is needed.
fn body_uses(store: &dyn Statements) -> Result<HashMap<TenantRow, BodyUse>, CheckpointError> {
    let mut uses = HashMap::new();

    let cursors = "SELECT c.tenant, c.seq, c.floor FROM cursor c WHERE c.active";
    store.query(cursors, values![], &mut |row| {
        let no_day = || CheckpointError::Damaged("a cursor has no first day".to_owned());
        let first_day = day(row, "floor")?.ok_or_else(no_day)?;
        let body_use = use_of_tenant(&mut uses, row)?;
        body_use.cursors.push((row.get("seq")?, first_day));
        Ok(ControlFlow::Continue(()))
    })?;

    let replays = "SELECT r.tenant, r.seq, r.last FROM replay_cursor r";
    store.query(replays, values![], &mut |row| {
        let body_use = use_of_tenant(&mut uses, row)?;
        body_use.replays.push(row.get("seq")?..=row.get("last")?);
        Ok(ControlFlow::Continue(()))
    })?;

    let dead_letters = "SELECT d.tenant, d.seq FROM dead_letter d";
    store.query(dead_letters, values![], &mut |row| {
        let body_use = use_of_tenant(&mut uses, row)?;
        body_use.dead_letters.insert(row.get("seq")?);
        Ok(ControlFlow::Continue(()))
    })?;

    Ok(uses)
}

/// The use of the bodies of the tenant in a row.
fn use_of_tenant<'a>(
    uses: &'a mut HashMap<TenantRow, BodyUse>,
    row: &dyn StoredRow,
) -> Result<&'a mut BodyUse, CheckpointError> {
    Ok(uses.entry(row.get("tenant")?).or_default())
}

fn prune_bodies(store: &dyn Statements, prunable: &[Candidate]) -> Result<(), CheckpointError> {
    let sql = "UPDATE entry SET body = NULL WHERE tenant = ?1 AND seq = ?2";
    for Candidate { tenant, seq, .. } in prunable {
        store.execute(sql, values![tenant, seq])?;
    }
    delete_if_unreferenced(store, prunable.iter().map(|candidate| candidate.body).collect())
}
