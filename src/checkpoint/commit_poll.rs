//! Commits in one transaction everything that a poll has read: all of it or nothing.
//!
//! The ledger has already decided what to append; this module only stores it. Start reading at
//! [`Checkpoint::commit_poll`].

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{
    Checkpoint, CheckpointError, ControlNames, EntryFlags, LogGrowth,
    body::{self, KeyFrame},
    catalog, changed_faults,
    columns::{self, EntryKind},
    former_subjects, pack, retention,
    row_ids::{BodyId, CatalogVersion, TenantRow},
    running_polls, tenant_row,
};
use crate::{
    compressed::CompressedText,
    error::Explanation,
    model::{
        AcceptedData, Day, DayFacts, Observation, ObservationKind, Phase, PollErrorClass, TenantId,
        UnixMillis, day_hash,
    },
};

/// A snapshot to append to the log.
#[derive(Debug)]
pub struct NewEntry<'a> {
    /// The `id` of Microsoft's snapshot.
    pub snapshot_id: &'a str,
    /// Revisions of a day are numbered from 1.
    pub revision: u32,
    /// The facts of the day; they also contain the date of the day.
    pub facts: &'a DayFacts,
    /// The JSON as Microsoft sent it.
    pub body: &'a CompressedText,
    /// When it was read.
    pub observed_at: UnixMillis,
    /// The day and revision that changes are measured from.
    pub base: Option<(Day, u32)>,
    /// How the snapshot was accepted.
    pub flags: EntryFlags,
}

/// A richer copy of a stored day with the same facts: it replaces the stored body and facts, and
/// appends no entry.
#[derive(Debug)]
pub struct EnrichedDay<'a> {
    /// The revision of the stored day that is replaced.
    pub revision: u32,
    /// The facts of the richer copy; they also contain the date of the day.
    pub facts: &'a DayFacts,
    /// The JSON of the richer copy as Microsoft sent it.
    pub body: &'a CompressedText,
}

/// One profile of a catalog.
#[derive(Clone, Copy, Debug)]
pub struct CatalogMember<'a> {
    /// The JSON of the profile without its decisions, which is the same for many tenants.
    pub shared: &'a str,
    /// The JSON of this tenant's decisions on the control.
    pub decisions: &'a str,
}

/// Everything that one poll of one tenant has read.
#[derive(Debug)]
pub struct PollCommit<'a> {
    /// When the poll read it.
    pub observed_at: UnixMillis,
    /// In the order of release.
    pub entries: Vec<NewEntry<'a>>,
    /// Stored days whose body and facts are replaced.
    pub enriched: Vec<EnrichedDay<'a>>,
    /// Days to hold, each with its body.
    pub held: Vec<(Day, &'a CompressedText)>,
    /// All profiles; empty if the catalog was not read completely.
    pub catalog: Vec<CatalogMember<'a>>,
    /// Observations that begin or end with this poll; one that changes nothing is not appended.
    pub observations: Vec<Observation>,
    /// When the credential of the tenant expires, if the tenant has an open observation about that;
    /// `None` keeps what is stored.
    pub credential_expiry: Option<UnixMillis>,
    /// The first day that the poll requested; `None` if there was no request.
    pub requested_from: Option<Day>,
    /// Days that were requested and not listed.
    pub missing: Vec<Day>,
    /// Days that the response listed completely and that are stored completely.
    pub no_longer_missing: Vec<Day>,
    /// The first day that the poll requested, if all days from it on were read.
    pub polled_back_to: Option<Day>,
    /// The outcome, which is recorded in the state of the tenant.
    pub end: PollEnd,
}

/// The outcome of the poll that is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollEnd {
    /// Everything that the poll requested was read.
    Complete,
    /// Something is missing, and the poll is retried soon.
    Incomplete {
        /// Why the poll is incomplete, for `status`.
        reason: Explanation,
        /// From the server's `Retry-After`: no request before this time.
        not_before: Option<UnixMillis>,
    },
    /// There was no poll: an import, or the release of held days.
    NoPoll,
}

/// Microsoft keeps this many days; an older missing day is absent at the source.
const DAYS_KEPT_AT_SOURCE: i32 = 90;
/// The number of open observations of one kind about rejected snapshots, whose subjects a server
/// chooses. Further ones are not appended.
const MAX_OPEN_REJECTIONS: u32 = 128;

impl Checkpoint {
    /// Commits a poll. If this returns `Ok`, all of it is on disk; otherwise nothing is.
    /// Returns whether the log has grown.
    ///
    /// # Errors
    ///
    /// Fails, and writes nothing, if the database cannot be written, if the catalog is too large
    /// ([`CheckpointError::TooLarge`]), or if a body cannot be decompressed.
    pub fn commit_poll(
        &self,
        tenant: TenantId,
        commit: &PollCommit<'_>,
    ) -> Result<LogGrowth, CheckpointError> {
        self.check_in_place()?;
        let mut connection = self.connection();
        let mut names = self.control_names(&connection)?;
        let transaction = connection.transaction()?;
        let row = tenant_row(&transaction, &tenant.to_string())?;

        let mut writer = PollWriter { transaction: &transaction, tenant: row, names: &mut names };
        let written = writer.write(commit);
        let committed = written.and_then(|growth| {
            if commit.end != PollEnd::NoPoll {
                running_polls::finish(&transaction, tenant)?;
            }
            transaction.commit()?;
            Ok(growth)
        });
        if committed.is_err() {
            // The rollback removed the rows of new names.
            names.invalidate();
        }
        committed
    }
}

/// Writes one poll into an open transaction.
struct PollWriter<'a> {
    transaction: &'a Transaction<'a>,
    tenant: TenantRow,
    names: &'a mut ControlNames,
}

impl PollWriter<'_> {
    fn write(&mut self, commit: &PollCommit<'_>) -> Result<LogGrowth, CheckpointError> {
        let catalog =
            catalog::store(self.transaction, self.tenant, &commit.catalog, commit.observed_at)?;

        let has_bodies = !(commit.enriched.is_empty() && commit.entries.is_empty());
        let mut key_frame =
            if has_bodies { KeyFrame::newest(self.transaction, self.tenant)? } else { None };
        for day in &commit.enriched {
            self.enrich(day, &mut key_frame)?;
        }
        for entry in &commit.entries {
            self.append(entry, catalog, &mut key_frame)?;
        }

        self.hold(commit)?;
        let mut growth =
            if commit.entries.is_empty() { LogGrowth::Unchanged } else { LogGrowth::Grown };
        for observation in &commit.observations {
            let (transaction, tenant, now) = (self.transaction, self.tenant, commit.observed_at);
            let former = former_subjects::end_former(transaction, tenant, observation, now)?;
            let ended = changed_faults::end_if_changed(transaction, tenant, observation, now)?;
            let appended = append_observation(transaction, tenant, observation, now)?;
            growth = growth.and(former).and(ended).and(appended);
        }
        if let Some(expires) = commit.credential_expiry {
            self.set_credential_expiry(expires)?;
        }

        self.update_missing(commit)?;
        self.record_end(commit)?;
        Ok(growth)
    }

    fn append(
        &mut self,
        entry: &NewEntry<'_>,
        catalog: Option<CatalogVersion>,
        key_frame: &mut Option<KeyFrame>,
    ) -> Result<(), CheckpointError> {
        let facts = self.pack(entry.facts)?;
        let body = body::store(self.transaction, &entry.body.decompress()?, key_frame)?;
        let seq = next_seq(self.transaction, self.tenant)?;

        self.transaction
            .prepare_cached(
                "INSERT INTO entry (tenant, seq, kind, day, observed, revision, snapshot_id, facts, digest, flags,
                                    catalog, base_day, base_revision, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                self.tenant,
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
            ])?;

        // A day that was released as partial stays missing, and its requests are counted again.
        if entry.flags.partial {
            self.transaction.execute(
                "UPDATE missing SET requests = 0 WHERE tenant = ?1 AND day = ?2",
                params![self.tenant, entry.facts.day.number()],
            )?;
        }
        let ended_states: &[&str] =
            if entry.flags.partial { &["held"] } else { &["held", "missing"] };
        for table in ended_states {
            self.transaction
                .prepare_cached(&format!("DELETE FROM {table} WHERE tenant = ?1 AND day = ?2"))?
                .execute(params![self.tenant, entry.facts.day.number()])?;
        }
        Ok(())
    }

    fn enrich(
        &mut self,
        enriched: &EnrichedDay<'_>,
        key_frame: &mut Option<KeyFrame>,
    ) -> Result<(), CheckpointError> {
        let facts = self.pack(enriched.facts)?;
        let body = body::store(self.transaction, &enriched.body.decompress()?, key_frame)?;

        let (day, revision) = (enriched.facts.day.number(), enriched.revision);
        let replaced: Option<Option<BodyId>> = self
            .transaction
            .prepare_cached(
                "SELECT body FROM entry WHERE tenant = ?1 AND kind = 1 AND day = ?2 AND revision = ?3",
            )?
            .query_row(params![self.tenant, day, revision], |row| row.get("body"))
            .optional()?;
        self.transaction.execute(
            "UPDATE entry SET facts = ?4, body = ?5 WHERE tenant = ?1 AND kind = 1 AND day = ?2 AND revision = ?3",
            params![self.tenant, day, revision, facts, body],
        )?;

        // The replaced body stays if it is the key frame of other bodies.
        retention::delete_if_unreferenced(
            self.transaction,
            replaced.flatten().into_iter().collect(),
        )
    }

    /// Stores when the credential expires with the open observation about it.
    fn set_credential_expiry(&self, expires: UnixMillis) -> Result<(), CheckpointError> {
        self.transaction
            .prepare_cached(
                "UPDATE open_observation SET expires = ?3
                 WHERE tenant = ?1 AND what = ?2 AND expires IS NOT ?3",
            )?
            .execute(params![self.tenant, ObservationKind::CredentialExpiring.as_str(), expires])?;
        Ok(())
    }

    /// Stores the days to hold; a later copy of a held day replaces the earlier one.
    fn hold(&self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        for (day, body) in &commit.held {
            let bytes = body::compress(body.decompress()?.as_bytes(), 9, &[])?;
            self.transaction.execute(
                "INSERT INTO held VALUES (?1, ?2, ?3, ?3, ?4)
                 ON CONFLICT DO UPDATE SET since = min(since, ?3), observed = ?3, body = ?4",
                params![self.tenant, day.number(), commit.observed_at, bytes],
            )?;
        }
        Ok(())
    }

    fn update_missing(&mut self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        for day in &commit.no_longer_missing {
            self.transaction
                .prepare_cached("DELETE FROM missing WHERE tenant = ?1 AND day = ?2")?
                .execute(params![self.tenant, day.number()])?;
        }
        for day in &commit.missing {
            self.transaction.execute(
                "INSERT INTO missing (tenant, day, requests, last_requested) VALUES (?1, ?2, 0, ?3)
                 ON CONFLICT DO NOTHING",
                params![self.tenant, day.number(), commit.observed_at],
            )?;
        }

        // The days that this poll has read are no longer in the table; it has requested the others
        // without success.
        if let Some(from) = commit.requested_from {
            self.transaction.execute(
                "UPDATE missing SET requests = requests + 1, last_requested = ?3 WHERE tenant = ?1 AND day >= ?2",
                params![self.tenant, from.number(), commit.observed_at],
            )?;
        }

        // Without a response, nothing has confirmed the clock. A day that was marked with a wrong
        // clock is requested again.
        if commit.requested_from.is_some() {
            let first_day_at_source = commit.observed_at.day().plus(-DAYS_KEPT_AT_SOURCE);
            self.transaction.execute(
                "UPDATE missing SET absent = day < ?2 WHERE tenant = ?1 AND absent <> (day < ?2)",
                params![self.tenant, first_day_at_source.number()],
            )?;
        }
        Ok(())
    }

    /// Records the outcome of the poll in the row of the tenant.
    fn record_end(&self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        let attempt = commit.observed_at;
        match &commit.end {
            PollEnd::Complete => self.transaction.execute(
                "UPDATE tenant SET last_attempt = ?2, last_success = ?2, last_error = NULL, last_hint = NULL, error_class = NULL,
                    failures = 0, failing_since = NULL, not_before = NULL WHERE id = ?1",
                params![self.tenant, attempt],
            )?,
            PollEnd::Incomplete { reason, not_before } => self.transaction.execute(
                "UPDATE tenant SET last_attempt = ?2, last_error = ?3, last_hint = ?4, error_class = ?5, failures = failures + 1,
                    failing_since = coalesce(failing_since, ?2), not_before = ?6 WHERE id = ?1",
                params![
                    self.tenant,
                    attempt,
                    reason.message,
                    reason.hint,
                    PollErrorClass::Incomplete.as_str(),
                    not_before
                ],
            )?,
            PollEnd::NoPoll => 0,
        };

        if let Some(back_to) = commit.polled_back_to {
            self.transaction.execute(
                "UPDATE tenant SET polled_back_to = min(coalesce(polled_back_to, ?2), ?2) WHERE id = ?1",
                params![self.tenant, back_to.number()],
            )?;
        }
        Ok(())
    }

    fn pack(&mut self, facts: &DayFacts) -> Result<Vec<u8>, CheckpointError> {
        pack::pack(facts, |name| control_id(self.transaction, self.names, name))
    }
}

/// Appends an observation to the log of a tenant if it changes something: a begin if the
/// observation is not open, an end if it is. An end is stored with the first day of its begin.
/// Returns whether an entry was appended. Fails if the database cannot be written.
pub(super) fn append_observation(
    connection: &Connection,
    tenant: TenantRow,
    observation: &Observation,
    observed_at: UnixMillis,
) -> Result<LogGrowth, CheckpointError> {
    let Observation { what, subject, first_day, phase, details, hint } = observation;
    let key = params![tenant, what.as_str(), subject];
    let open_since: Option<i32> = connection
        .prepare_cached("SELECT first_day FROM open_observation WHERE tenant = ?1 AND what = ?2 AND subject = ?3")?
        .query_row(key, |row| row.get("first_day"))
        .optional()?;

    let first_day = match (phase, open_since) {
        (Phase::Begin, None) => {
            let is_rejection = AcceptedData::parse(subject).is_none();
            if is_rejection && has_too_many_open(connection, tenant, *what)? {
                return Ok(LogGrowth::Unchanged);
            }

            connection
                .prepare_cached(
                    "INSERT INTO open_observation (tenant, what, subject, first_day, details, hint, since)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    tenant,
                    what.as_str(),
                    subject,
                    first_day.number(),
                    details,
                    hint,
                    observed_at
                ])?;
            first_day.number()
        }
        (Phase::End, Some(begin)) => {
            connection
                .prepare_cached(
                    "DELETE FROM open_observation WHERE tenant = ?1 AND what = ?2 AND subject = ?3",
                )?
                .execute(key)?;
            begin
        }
        _ => return Ok(LogGrowth::Unchanged),
    };

    let seq = next_seq(connection, tenant)?;
    connection
        .prepare_cached(
            "INSERT INTO entry (tenant, seq, kind, day, observed, what, subject, phase, details, hint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            tenant,
            seq,
            EntryKind::Observation,
            first_day,
            observed_at,
            what.as_str(),
            subject,
            phase.as_str(),
            details,
            hint
        ])?;
    Ok(LogGrowth::Grown)
}

/// Whether a server could fill the log with further observations of this kind.
fn has_too_many_open(
    connection: &Connection,
    tenant: TenantRow,
    what: ObservationKind,
) -> Result<bool, CheckpointError> {
    if !matches!(what, ObservationKind::Implausible | ObservationKind::ForeignTenant) {
        return Ok(false);
    }
    let open: u32 = connection
        .prepare_cached(
            "SELECT count(*) AS open FROM open_observation WHERE tenant = ?1 AND what = ?2",
        )?
        .query_row(params![tenant, what.as_str()], |row| row.get("open"))?;
    Ok(open >= MAX_OPEN_REJECTIONS)
}

/// Assigns the next `seq` of a tenant's log.
fn next_seq(connection: &Connection, tenant: TenantRow) -> Result<i64, CheckpointError> {
    let seq = connection
        .prepare_cached(
            "UPDATE tenant SET next_seq = next_seq + 1 WHERE id = ?1 RETURNING next_seq - 1 AS seq",
        )?
        .query_row([tenant], |row| row.get("seq"))?;
    Ok(seq)
}

/// The ID of a control's name, which is inserted if it does not exist. Fails if the row cannot be
/// inserted, or with [`CheckpointError::Damaged`] if its ID does not fit 32 bits.
pub(super) fn control_id(
    connection: &Connection,
    names: &mut ControlNames,
    name: &str,
) -> Result<u32, CheckpointError> {
    if let Some(id) = names.id_of(name) {
        return Ok(id);
    }

    connection.prepare_cached("INSERT INTO control (name) VALUES (?1)")?.execute([name])?;
    let id = u32::try_from(connection.last_insert_rowid())
        .map_err(|_| CheckpointError::Damaged("too many control names".to_owned()))?;
    names.add(id, name);
    Ok(id)
}

/// The facts of an entry, from the columns `day` and `facts`. Fails with
/// [`CheckpointError::Damaged`] if they cannot be decoded.
pub(super) fn read_facts(row: &Row<'_>, names: &ControlNames) -> Result<DayFacts, CheckpointError> {
    let day = columns::entry_day(row)?;
    let bytes: Vec<u8> = row.get("facts")?;
    pack::unpack(&bytes, day, |id| names.get(id))
}
