//! PollCommit in what a poll has read: one transaction, all of it or nothing.

use std::{collections::BTreeMap, ops::RangeInclusive};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{
    Checkpoint, CheckpointError, Names,
    body::{self, KeyFrame},
    catalog, pack, retention, tenant_row,
};
use crate::{
    error::Explanation,
    model::{Day, DayFacts, KeptDay, Observation, Phase, SnapshotRef, TenantId, day_digest},
    packed::Packed,
};

/// A snapshot to be appended to the log.
#[derive(Debug)]
pub struct NewEntry<'a> {
    pub snapshot_id: &'a str,
    pub revision: u32,
    pub facts: &'a DayFacts,
    /// As sent.
    pub body: &'a Packed,
    /// When it was read, in milliseconds since 1970-01-01.
    pub observed_ms: i64,
    /// The day and revision that changes are measured from.
    pub base: Option<(Day, u32)>,
    pub flags: EntryFlags,
}

/// What is said of a day beside its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own in the log")]
pub struct EntryFlags {
    pub late: bool,
    pub backfilled: bool,
    pub partial: bool,
    pub imported: bool,
}

impl EntryFlags {
    fn bits(self) -> i64 {
        let Self { late, backfilled, partial, imported } = self;
        i64::from(late)
            | i64::from(backfilled) << 1
            | i64::from(partial) << 2
            | i64::from(imported) << 3
    }

    /// The snapshot of the log that has these flags.
    pub(super) fn of_snapshot(self, id: String, day: Day, revision: u32, seq: i64) -> SnapshotRef {
        let Self { late, backfilled, partial, imported } = self;
        let seq = seq.cast_unsigned();
        SnapshotRef { id, day, revision, seq, late, backfilled, partial, imported }
    }

    pub(super) fn of(bits: i64) -> Self {
        let is = |bit: i64| bits & bit != 0;
        Self { late: is(1), backfilled: is(2), partial: is(4), imported: is(8) }
    }
}

/// A rich copy of a day that is kept poor: no news, but the texts.
#[derive(Debug)]
pub struct Enriched<'a> {
    pub revision: u32,
    pub facts: &'a DayFacts,
    pub body: &'a Packed,
}

/// One profile of a catalog: what all tenants share, and what this one decided.
#[derive(Clone, Copy, Debug)]
pub struct CatalogMember<'a> {
    pub shared: &'a str,
    pub decisions: &'a str,
}

/// Everything that one poll of one tenant brings.
#[derive(Debug)]
pub struct PollCommit<'a> {
    /// When the poll read it, in milliseconds since 1970-01-01.
    pub observed_ms: i64,
    /// In the order of release.
    pub entries: Vec<NewEntry<'a>>,
    pub enriched: Vec<Enriched<'a>>,
    /// Days to be held back: the day, and the copy.
    pub held: Vec<(Day, &'a Packed)>,
    pub catalog: Vec<CatalogMember<'a>>,
    pub observations: Vec<Observation>,
    /// The poll asked for the days from here on; `None` where nobody was asked.
    pub asked_from: Option<Day>,
    /// Days asked for and not had.
    pub missing: Vec<Day>,
    /// Days seen again, whole and as they are kept: owed no more.
    pub settled: Vec<Day>,
    /// The earliest day that this poll asked for, if it saw all there was.
    pub polled_back_to: Option<Day>,
    pub end: PollEnd,
}

/// How the poll that brought this has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollEnd {
    Complete,
    /// Something is missing, and wanted soon.
    Incomplete {
        reason: Explanation,
        /// The server's own word, in milliseconds since 1970-01-01.
        not_before_ms: Option<i64>,
    },
    /// There was none: an import, or days released that were held.
    NoPoll,
}

/// A missing day is asked for at this many polls, and weekly from then on.
const DAILY_ASKS: u32 = 7;

impl Checkpoint {
    /// The days kept from `from` on, each at its latest revision.
    pub fn ledger(
        &self,
        tenant: TenantId,
        from: Day,
    ) -> Result<BTreeMap<Day, KeptDay>, CheckpointError> {
        let connection = self.connection();
        let names = self.names();
        let mut statement = connection.prepare_cached(
            "SELECT e.day, e.revision, e.facts, e.flags, e.body IS NULL FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.day >= ?2 ORDER BY e.day, e.revision",
        )?;
        let mut rows = statement.query(params![tenant.to_string(), from.number()])?;
        let mut ledger = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let facts = read_facts(row, 0, 2, &names)?;
            let partial = EntryFlags::of(row.get(3)?).partial;
            ledger.insert(
                facts.day,
                KeptDay { revision: row.get(1)?, partial, without_body: row.get(4)?, facts },
            );
        }
        Ok(ledger)
    }

    /// The newest day kept, if any is.
    pub fn newest_day(&self, tenant: TenantId) -> Result<Option<Day>, CheckpointError> {
        Ok(self.kept_days(tenant)?.map(|days| *days.end()))
    }

    /// The earliest and the newest day kept, if any is.
    pub fn kept_days(
        &self,
        tenant: TenantId,
    ) -> Result<Option<RangeInclusive<Day>>, CheckpointError> {
        // Two looks at an index are cheaper than one over all of it.
        let days: (Option<i32>, Option<i32>) = self
            .connection()
            .prepare_cached(
                "SELECT (SELECT min(day) FROM entry WHERE tenant = t.id AND kind = 1),
                        (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = 1)
                 FROM tenant t WHERE t.guid = ?1",
            )?
            .query_row([tenant.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .unwrap_or_default();
        let earliest = days.0.and_then(Day::from_number);
        let newest = days.1.and_then(Day::from_number);
        Ok(earliest.zip(newest).map(|(earliest, newest)| earliest..=newest))
    }

    /// Where polls have to go on from: the newest day that a poll brought, and the oldest that is
    /// held back. What was imported says nothing about the days before it.
    pub fn reading_on(
        &self,
        tenant: TenantId,
    ) -> Result<(Option<Day>, Option<Day>), CheckpointError> {
        let days: Option<(Option<i32>, Option<i32>)> = self
            .connection()
            .prepare_cached(
                "SELECT (SELECT day FROM entry WHERE tenant = t.id AND kind = 1 AND flags & 8 = 0 ORDER BY day DESC LIMIT 1),
                        (SELECT min(day) FROM held WHERE tenant = t.id)
                 FROM tenant t WHERE t.guid = ?1",
            )?
            .query_row([tenant.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (newest, held) = days.unwrap_or_default();
        Ok((newest.and_then(Day::from_number), held.and_then(Day::from_number)))
    }

    /// The newest day of which nothing is missing, with its revision.
    pub fn newest_whole(&self, tenant: TenantId) -> Result<Option<(Day, u32)>, CheckpointError> {
        let whole: Option<(i32, u32)> = self
            .connection()
            .prepare_cached(
                "SELECT e.day, e.revision FROM entry e JOIN tenant t ON t.id = e.tenant
                 WHERE t.guid = ?1 AND e.kind = 1 AND e.flags & 4 = 0 ORDER BY e.day DESC, e.revision DESC LIMIT 1",
            )?
            .query_row([tenant.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(whole.and_then(|(day, revision)| Some((Day::from_number(day)?, revision))))
    }

    /// Days that are owed and due to be asked for again: at seven polls, then weekly.
    pub fn missing(&self, tenant: TenantId, now_ms: i64) -> Result<Vec<Day>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT o.day FROM missing o JOIN tenant t ON t.id = o.tenant
             WHERE t.guid = ?1 AND o.absent = 0 AND (o.requests < ?2 OR o.last_requested <= ?3) ORDER BY o.day",
        )?;
        let week_ago = now_ms - 7 * 86_400_000;
        let rows = statement
            .query_map(params![tenant.to_string(), DAILY_ASKS, week_ago], |row| {
                row.get::<_, i32>(0)
            })?;
        let days = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(days.into_iter().filter_map(Day::from_number).collect())
    }

    /// Commits a poll. When this returns, all of it is on the disk.
    pub fn commit_poll(
        &self,
        tenant: TenantId,
        commit: &PollCommit<'_>,
    ) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let mut names = self.names();
        let transaction = connection.transaction()?;
        let id = tenant_row(&transaction, &tenant.to_string())?;
        let taken = Take { transaction: &transaction, tenant: id, names: &mut names }.all(commit);
        if let Err(error) = taken.and_then(|()| transaction.commit().map_err(Into::into)) {
            // Names that were rolled back must not be remembered.
            *names = Names::load(&connection)?;
            return Err(error);
        }
        Ok(())
    }
}

struct Take<'a> {
    transaction: &'a Transaction<'a>,
    tenant: i64,
    names: &'a mut Names,
}

impl Take<'_> {
    fn all(&mut self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        let catalog =
            catalog::store(self.transaction, self.tenant, &commit.catalog, commit.observed_ms)?;
        let stores = !(commit.enriched.is_empty() && commit.entries.is_empty());
        let mut key = if stores { KeyFrame::newest(self.transaction, self.tenant)? } else { None };
        for enriched in &commit.enriched {
            self.enrich(enriched, &mut key)?;
        }
        for entry in &commit.entries {
            self.append(entry, catalog, &mut key)?;
        }
        self.hold(commit)?;
        for observation in &commit.observations {
            observe(self.transaction, self.tenant, observation, commit.observed_ms)?;
        }
        self.owe(commit)?;
        self.end(commit)
    }

    fn end(&self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        let observed = commit.observed_ms;
        match &commit.end {
            PollEnd::Complete => self.transaction.execute(
                "UPDATE tenant SET last_attempt = ?2, last_success = ?2, last_error = NULL, last_hint = NULL, failures = 0, not_before = NULL
                 WHERE id = ?1",
                params![self.tenant, observed],
            )?,
            PollEnd::Incomplete { reason, not_before_ms } => self.transaction.execute(
                "UPDATE tenant SET last_attempt = ?2, last_error = ?3, last_hint = ?4, failures = failures + 1, not_before = ?5 WHERE id = ?1",
                params![self.tenant, observed, reason.message, reason.hint, not_before_ms],
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

    /// Keeps copies of days that are not to be released yet; a later copy replaces an earlier one.
    fn hold(&self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        for (day, body) in &commit.held {
            let bytes = body::sealed(body.text()?.as_bytes(), 9, &[])?;
            self.transaction.execute(
                "INSERT INTO held VALUES (?1, ?2, ?3, ?3, ?4)
                 ON CONFLICT DO UPDATE SET observed = ?3, body = ?4",
                params![self.tenant, day.number(), commit.observed_ms, bytes],
            )?;
        }
        Ok(())
    }

    fn append(
        &mut self,
        entry: &NewEntry<'_>,
        catalog: Option<i64>,
        key: &mut Option<KeyFrame>,
    ) -> Result<(), CheckpointError> {
        let facts = self.pack(entry.facts)?;
        let body = body::store(self.transaction, &entry.body.text()?, key)?;
        let seq = next_seq(self.transaction, self.tenant)?;
        self.transaction
            .prepare_cached(
                "INSERT INTO entry (tenant, seq, kind, day, observed, revision, snapshot_id, facts, digest, flags,
                                    catalog, base_day, base_revision, body)
                 VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                self.tenant,
                seq,
                entry.facts.day.number(),
                entry.observed_ms,
                entry.revision,
                entry.snapshot_id,
                facts,
                day_digest(entry.facts),
                entry.flags.bits(),
                catalog,
                entry.base.map(|(day, _)| day.number()),
                entry.base.map(|(_, revision)| revision),
                body,
            ])?;
        // A day told in part stays missing, as one that has just been missed.
        if entry.flags.partial {
            self.transaction.execute(
                "UPDATE missing SET requests = 0 WHERE tenant = ?1 AND day = ?2",
                params![self.tenant, entry.facts.day.number()],
            )?;
        }
        let no_longer: &[&str] = if entry.flags.partial { &["held"] } else { &["held", "owed"] };
        for table in no_longer {
            self.transaction
                .prepare_cached(&format!("DELETE FROM {table} WHERE tenant = ?1 AND day = ?2"))?
                .execute(params![self.tenant, entry.facts.day.number()])?;
        }
        Ok(())
    }

    fn enrich(
        &mut self,
        enriched: &Enriched<'_>,
        key: &mut Option<KeyFrame>,
    ) -> Result<(), CheckpointError> {
        let facts = self.pack(enriched.facts)?;
        let body = body::store(self.transaction, &enriched.body.text()?, key)?;
        let (day, revision) = (enriched.facts.day.number(), enriched.revision);
        let poor: Option<Option<i64>> = self
            .transaction
            .prepare_cached(
                "SELECT body FROM entry WHERE tenant = ?1 AND kind = 1 AND day = ?2 AND revision = ?3",
            )?
            .query_row(params![self.tenant, day, revision], |row| row.get(0))
            .optional()?;
        self.transaction.execute(
            "UPDATE entry SET facts = ?4, body = ?5 WHERE tenant = ?1 AND kind = 1 AND day = ?2 AND revision = ?3",
            params![self.tenant, day, revision, facts, body],
        )?;
        // The poor body stays for as long as others lean on it.
        retention::sweep_these(self.transaction, poor.flatten().into_iter().collect())
    }

    fn owe(&mut self, commit: &PollCommit<'_>) -> Result<(), CheckpointError> {
        for day in &commit.settled {
            self.transaction
                .prepare_cached("DELETE FROM missing WHERE tenant = ?1 AND day = ?2")?
                .execute(params![self.tenant, day.number()])?;
        }
        for day in &commit.missing {
            self.transaction.execute(
                "INSERT INTO missing (tenant, day, requests, last_requested) VALUES (?1, ?2, 0, ?3)
                 ON CONFLICT DO NOTHING",
                params![self.tenant, day.number(), commit.observed_ms],
            )?;
        }
        // Those that came are owed no more; the rest has been asked for once more.
        if let Some(from) = commit.asked_from {
            self.transaction.execute(
                "UPDATE missing SET requests = requests + 1, last_requested = ?3 WHERE tenant = ?1 AND day >= ?2",
                params![self.tenant, from.number(), commit.observed_ms],
            )?;
        }
        // Microsoft keeps 90 days: what is older cannot be had any more.
        let horizon = commit.observed_ms.div_euclid(86_400_000) - 90;
        self.transaction.execute(
            "UPDATE missing SET absent = 1 WHERE tenant = ?1 AND day < ?2",
            params![self.tenant, horizon],
        )?;
        Ok(())
    }

    fn pack(&mut self, facts: &DayFacts) -> Result<Vec<u8>, CheckpointError> {
        pack::pack(facts, |name| name_id(self.transaction, self.names, name))
    }
}

/// Appends an observation if it is news: a begin that has not begun, an end of what has.
pub(super) fn observe(
    connection: &Connection,
    tenant: i64,
    observation: &Observation,
    observed_ms: i64,
) -> Result<(), CheckpointError> {
    let Observation { what, subject, first_day, phase, details, hint } = observation;
    let key = params![tenant, what.as_str(), subject];
    let open: Option<i32> = connection
        .prepare_cached("SELECT first_day FROM open_observation WHERE tenant = ?1 AND what = ?2 AND subject = ?3")?
        .query_row(key, |row| row.get(0))
        .optional()?;
    let first_day = match (phase, open) {
        (Phase::Begin, None) => {
            connection
                .prepare_cached("INSERT INTO open_observation VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![tenant, what.as_str(), subject, first_day.number()])?;
            first_day.number()
        }
        (Phase::End, Some(begun)) => {
            connection
                .prepare_cached(
                    "DELETE FROM open_observation WHERE tenant = ?1 AND what = ?2 AND subject = ?3",
                )?
                .execute(key)?;
            begun
        }
        _ => return Ok(()),
    };
    let seq = next_seq(connection, tenant)?;
    connection
        .prepare_cached(
            "INSERT INTO entry (tenant, seq, kind, day, observed, what, subject, phase, details, hint)
             VALUES (?1, ?2, 2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            tenant,
            seq,
            first_day,
            observed_ms,
            what.as_str(),
            subject,
            phase.as_str(),
            details,
            hint
        ])?;
    Ok(())
}

fn next_seq(connection: &Connection, tenant: i64) -> Result<i64, CheckpointError> {
    let seq = connection
        .prepare_cached(
            "UPDATE tenant SET next_seq = next_seq + 1 WHERE id = ?1 RETURNING next_seq - 1",
        )?
        .query_row([tenant], |row| row.get(0))?;
    Ok(seq)
}

/// The number of a control's name, given when it is first met.
pub(super) fn name_id(
    connection: &Connection,
    names: &mut Names,
    name: &str,
) -> Result<u32, CheckpointError> {
    if let Some(id) = names.by_name.get(name) {
        return Ok(*id);
    }
    connection.prepare_cached("INSERT INTO control (name) VALUES (?1)")?.execute([name])?;
    let id = u32::try_from(connection.last_insert_rowid());
    let id = id.map_err(|_| CheckpointError::Damaged("too many control names".to_owned()))?;
    names.add(id, name);
    Ok(id)
}

/// The facts in a row, by the columns of the day and of the packed facts.
pub(super) fn read_facts(
    row: &Row<'_>,
    day: usize,
    facts: usize,
    names: &Names,
) -> Result<DayFacts, CheckpointError> {
    let day = Day::from_number(row.get(day)?)
        .ok_or_else(|| CheckpointError::Damaged("an entry has no day".to_owned()))?;
    let bytes: Vec<u8> = row.get(facts)?;
    pack::unpack(&bytes, day, |id| names.get(id))
}
