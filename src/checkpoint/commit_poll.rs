//! Commits in one transaction everything that a poll has read: all of it or nothing.
//!
//! The ledger decides what to append and which days are missing; this module only stores it. Start
//! reading at [`Checkpoint::commit_poll`].

use std::collections::BTreeSet;

use super::{
    Checkpoint, CheckpointError, ControlNames, EnrichedDay, LogGrowth, NewEntry, PollCommit,
    PollEnd,
    backend::{Statements, values},
    body::{self, KeyFrame},
    catalog, control_names,
    entry_reader::read_facts,
    log::{self, NewRow},
    missing_days, observations, pack, queued_commands,
    row_ids::{BodyId, CatalogVersion, TenantRow},
    running_polls,
    sql::snapshot,
    tenant_row,
};
use crate::{
    error::Explanation,
    ledger::{Completeness, RequestedDays},
    model::{Day, DayFacts, ObservationKind, PollErrorClass, TenantId, UnixMillis, day_hash},
};

/// SQL: the snapshot of the tenant `?1`, the day `?2` and the revision `?3`.
const STORED: &str = concat!(
    "SELECT day, facts, digest, body FROM entry WHERE tenant = ?1 AND kind = ",
    snapshot!(),
    " AND day = ?2 AND revision = ?3"
);
/// SQL: replaces the facts and the body of the snapshot that [`STORED`] finds.
const REPLACE: &str = concat!(
    "UPDATE entry SET facts = ?4, body = ?5 WHERE tenant = ?1 AND kind = ",
    snapshot!(),
    " AND day = ?2 AND revision = ?3"
);

impl Checkpoint {
    /// Commits a poll. If this returns `Ok`, all of it is on disk; otherwise nothing is.
    /// Returns whether the log has grown.
    ///
    /// # Errors
    ///
    /// Fails, and writes nothing, if the database cannot be written, if the catalog is too large
    /// ([`CheckpointError::TooLarge`]), or if a body cannot be decompressed. After
    /// [`CheckpointError::Indeterminate`], all of it may be stored.
    pub fn commit_poll(
        &self,
        tenant: TenantId,
        commit: &PollCommit<'_>,
    ) -> Result<LogGrowth, CheckpointError> {
        let mut held_names = None;
        let committed = self.claimed(|store| {
            // Locked until the transaction has ended, so that no other one uses names whose rows
            // are rolled back.
            let names = held_names.insert(self.control_names(store)?);
            let row = tenant_row(store, tenant)?;

            let growth = PollWriter { store, tenant: row, names }.write(commit)?;
            if commit.end != PollEnd::NoPoll {
                running_polls::finish(store, tenant)?;
            }
            Ok(growth)
        });

        if committed.is_err()
            && let Some(mut names) = held_names
        {
            // The rollback removed the rows of new names.
            names.invalidate();
        }
        committed
    }
}

/// Writes one poll into an open transaction.
struct PollWriter<'a> {
    store: &'a dyn Statements,
    tenant: TenantRow,
    names: &'a mut ControlNames,
}

impl PollWriter<'_> {
    fn write(&mut self, commit: &PollCommit<'_>) -> Result<LogGrowth, CheckpointError> {
        let (store, tenant, now) = (self.store, self.tenant, commit.observed_at);
        self.assign_names(commit)?;
        let catalog = catalog::store(store, tenant, &commit.catalog, now)?;

        let has_bodies = !(commit.enriched.is_empty() && commit.entries.is_empty());
        let mut key_frame = if has_bodies { KeyFrame::newest(store, tenant)? } else { None };
        for day in &commit.enriched {
            self.enrich(day, &mut key_frame)?;
        }
        let mut growth = LogGrowth::Unchanged;
        for entry in &commit.entries {
            growth = growth.and(self.append(entry, catalog, &mut key_frame)?);
        }

        self.hold(commit)?;
        let observed = observations::append_observations(store, tenant, &commit.observations, now)?;
        if let Some(expires) = commit.credential_expiry {
            self.set_credential_expiry(expires)?;
        }

        self.update_missing(commit)?;
        queued_commands::finish(store, tenant, commit)?;
        self.record_end(commit)?;
        Ok(growth.and(observed))
    }

    /// Assigns the IDs of all new names, in alphabetical order: two transactions that insert the
    /// same names then cannot deadlock.
    fn assign_names(&mut self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        let all = commit.stored_facts().flat_map(|facts| &facts.controls);
        let all = all.map(|control| &*control.name);
        let new: BTreeSet<&str> = all.filter(|name| self.names.id_of(name).is_none()).collect();
        control_names::assign(self.store, self.names, &new)
    }

    fn append(
        &mut self,
        entry: &NewEntry<'_>,
        catalog: Option<CatalogVersion>,
        key_frame: &mut Option<KeyFrame>,
    ) -> Result<LogGrowth, CheckpointError> {
        let facts = self.pack(entry.facts)?;
        let body = body::store(self.store, &entry.body.decompress()?, key_frame)?;
        let row = NewRow { entry, facts, catalog, body };
        let growth = log::append_snapshot(self.store, self.tenant, &row)?;

        let sql = "DELETE FROM held WHERE tenant = ?1 AND day = ?2";
        self.store.execute(sql, values![self.tenant, entry.facts.day.number()])?;
        Ok(growth)
    }

    /// Replaces the body and the facts of a stored day. Does nothing if the copy has another hash:
    /// the stored hash is the one that event IDs and the progress in Kafka follow from, so it never
    /// changes.
    fn enrich(
        &mut self,
        enriched: &EnrichedDay<'_>,
        key_frame: &mut Option<KeyFrame>,
    ) -> Result<(), CheckpointError> {
        let Some(replaced) = self.replaceable_body(enriched)? else { return Ok(()) };

        let facts = self.pack(enriched.facts)?;
        let body = body::store(self.store, &enriched.body.decompress()?, key_frame)?;
        let (day, revision) = (enriched.facts.day.number(), enriched.revision);
        self.store.execute(REPLACE, values![self.tenant, day, revision, facts, body])?;

        // The replaced body stays if it is the key frame of other bodies.
        body::delete_if_unreferenced(self.store, replaced)
    }

    /// The body that a richer copy of a day replaces; empty if it was pruned. `None` if the day is
    /// not stored, or if the copy has another hash.
    fn replaceable_body(
        &self,
        enriched: &EnrichedDay<'_>,
    ) -> Result<Option<Vec<BodyId>>, CheckpointError> {
        let new_hash = day_hash(enriched.facts);
        let (day, revision) = (enriched.facts.day.number(), enriched.revision);
        let found =
            self.store.query_optional(STORED, values![self.tenant, day, revision], |row| {
                let hash: Vec<u8> = row.get("digest")?;
                // A damaged hash is repaired from the body that this copy supplies.
                let is_same = match read_facts(row, self.names) {
                    Ok(facts) => day_hash(&facts) == new_hash,
                    Err(error) => error.into_damage().map(|_| false)?,
                };
                let body: Option<BodyId> = row.get("body")?;
                let is_permitted = is_same || hash[..] == new_hash[..];
                Ok(is_permitted.then(|| body.into_iter().collect()))
            })?;
        Ok(found.flatten())
    }

    /// Stores when the credential expires with the open observation about it.
    fn set_credential_expiry(&self, expires: UnixMillis) -> Result<(), CheckpointError> {
        let sql = "UPDATE open_observation SET expires = ?3
                   WHERE tenant = ?1 AND what = ?2 AND expires IS DISTINCT FROM ?3";
        let what = ObservationKind::CredentialExpiring.as_str();
        self.store.execute(sql, values![self.tenant, what, expires])?;
        Ok(())
    }

    /// Stores the days to hold; a later copy of a held day replaces the earlier one.
    fn hold(&self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        let sql = "INSERT INTO held (tenant, day, since, observed, body) VALUES (?1, ?2, ?3, ?3, ?4)
                   ON CONFLICT (tenant, day) DO UPDATE
                   SET since = CASE WHEN held.since < ?3 THEN held.since ELSE ?3 END, observed = ?3, body = ?4";
        for (day, body) in &commit.held {
            let bytes = body::compress(body.decompress()?.as_bytes(), 9, &[])?;
            let (day, now) = (day.number(), commit.observed_at);
            self.store.execute(sql, values![self.tenant, day, now, bytes])?;
        }
        Ok(())
    }

    fn update_missing(&self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        let released: Vec<(Day, Completeness)> = commit
            .entries
            .iter()
            .map(|entry| {
                let is_partial = entry.flags.partial;
                let completeness =
                    if is_partial { Completeness::Partial } else { Completeness::Complete };
                (entry.facts.day, completeness)
            })
            .collect();

        let poll = RequestedDays {
            released: &released,
            found: &commit.no_longer_missing,
            missing: &commit.missing,
            requested_from: commit.requested_from,
            at: commit.observed_at,
        };
        missing_days::update(self.store, self.tenant, &poll)
    }

    /// Records the outcome of the poll in the row of the tenant.
    fn record_end(&self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        let (store, tenant, attempt) = (self.store, self.tenant, commit.observed_at);
        let count = "UPDATE tenant SET poll_commits = poll_commits + 1 WHERE id = ?1";
        store.execute(count, values![tenant])?;

        match &commit.end {
            PollEnd::Complete => {
                let sql = "UPDATE tenant SET last_attempt = ?2, last_success = ?2, last_error = NULL, last_hint = NULL, error_class = NULL,
                    failures = 0, failing_since = NULL, not_before = NULL WHERE id = ?1";
                store.execute(sql, values![tenant, attempt])?;
            }
            PollEnd::Incomplete { reason: Explanation { message, hint }, not_before } => {
                let sql = "UPDATE tenant SET last_attempt = ?2, last_error = ?3, last_hint = ?4, error_class = ?5, failures = failures + 1,
                    failing_since = coalesce(failing_since, ?2), not_before = ?6 WHERE id = ?1";
                let class = PollErrorClass::Incomplete.as_str();
                store.execute(sql, values![tenant, attempt, message, hint, class, not_before])?;
            }
            PollEnd::NoPoll => {}
        }

        if let Some(back_to) = commit.polled_back_to {
            let sql = "UPDATE tenant SET polled_back_to = ?2
                       WHERE id = ?1 AND (polled_back_to IS NULL OR polled_back_to > ?2)";
            store.execute(sql, values![tenant, back_to.number()])?;
        }
        Ok(())
    }

    fn pack(&mut self, facts: &DayFacts) -> Result<Vec<u8>, CheckpointError> {
        pack::pack(facts, |name| control_names::control_id(self.store, self.names, name))
    }
}
