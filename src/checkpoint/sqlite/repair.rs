//! Repairs the faults that [`Checkpoint::verify`] finds in a database whose structure is intact,
//! one by one, so that the rest of the history is kept.
//!
//! A day whose data is lost becomes missing, so that the next poll requests it. A database whose
//! structure is damaged is set aside instead. Start reading at [`Checkpoint::repair`].
//! See decision 0018.

use std::ops::ControlFlow;

use rusqlite::{Connection, Transaction, params};

use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, ControlNames,
        backend::{self, values},
        baseline,
        body::{self, BodyReader},
        catalog, columns, control_names, cursor_checks,
        entry_reader::read_facts,
        fields, held, pack,
        row_ids::{BodyId, CatalogVersion, TenantRow},
    },
    model::{Day, DayFacts, UnixMillis, day_hash},
};

/// What [`Checkpoint::repair`] repaired, and what was lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Days whose body was damaged and has been removed.
    pub days: Vec<LostBody>,
    /// Held days that were damaged and have been removed: the GUID of the tenant and the day.
    pub held: Vec<(String, Day)>,
    /// The number of catalog versions that were damaged and have been removed. Their entries refer
    /// to the next version of the tenant instead, or to the previous one if there is no next one.
    pub catalogs: u64,
    /// Baselines that were damaged and have been removed: the GUID of the tenant and the name.
    pub baselines: Vec<(String, String)>,
    /// The number of days whose facts were derived again from the body.
    pub facts: u64,
    /// Cursors that were outside the log and have been set to their last known position: the GUID
    /// of the tenant and the name of the sink.
    pub cursors: Vec<(String, String)>,
}

/// A day whose body was damaged and has been removed. Its facts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostBody {
    /// The GUID of the tenant.
    pub tenant: String,
    pub day: Day,
    /// The names of the sinks that had not received the day.
    pub unsent_sinks: Vec<String>,
}

impl Checkpoint {
    /// Repairs everything that can be repaired, in one transaction.
    ///
    /// - A damaged body or held day is removed, and its day becomes missing.
    /// - Damaged facts, or a wrong hash, are replaced by what `facts_of` derives from the body.
    ///   The result is used only if it matches the stored hash or the stored facts.
    /// - A damaged baseline is removed, and so is a catalog that is damaged or contains a damaged
    ///   profile.
    /// - A cursor outside the log is set to its position in the second cursor file or, without
    ///   that, to the first entry after the last acknowledgement of its sink.
    ///
    /// Nothing is changed because of a read that has failed once: all files are read, and the
    /// damage must be found again.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be read or written.
    pub fn repair(
        &self,
        now: UnixMillis,
        facts_of: impl Fn(&str) -> Option<DayFacts>,
    ) -> Result<Repaired, CheckpointError> {
        let mut connection = self.connection();
        let first = connection.transaction()?;
        let found = self.repair_content(&first, now, &facts_of)?;

        let repaired = if found == Repaired::default() {
            first.commit()?;
            found
        } else {
            first.rollback()?;
            self.sqlite.require_readable(&self.directory)?;
            let second = connection.transaction()?;
            let repaired = self.repair_content(&second, now, &facts_of)?;
            second.commit()?;
            repaired
        };
        drop(connection);
        if !repaired.cursors.is_empty() {
            // Cursors otherwise only move forward, so the next start would take this database for
            // an old copy.
            self.write_cursor_file()?;
        }
        Ok(repaired)
    }

    fn repair_content(
        &self,
        transaction: &Transaction<'_>,
        now: UnixMillis,
        facts_of: impl Fn(&str) -> Option<DayFacts>,
    ) -> Result<Repaired, CheckpointError> {
        let mut repaired = Repaired::default();
        // Bodies are repaired first: facts are derived from the bodies that are intact.
        repair_bodies(transaction, now, &mut repaired)?;
        repair_facts(transaction, facts_of, &mut repaired)?;
        repair_held(transaction, now, &mut repaired)?;
        repair_baselines(transaction, &mut repaired)?;
        repair_catalogs(transaction, &mut repaired)?;
        repair_log_ends(transaction)?;
        repaired.cursors = cursor_checks::repair(transaction, &self.saved_cursors(), &self.id)?;
        Ok(repaired)
    }
}

/// Makes a day missing, unless it is older than the 90 days that Microsoft keeps.
fn request_again(
    connection: &Connection,
    tenant: TenantRow,
    day: Day,
    now: UnixMillis,
) -> Result<(), CheckpointError> {
    if day < now.day().plus(-90) {
        return Ok(());
    }

    connection.execute(
        "INSERT INTO missing (tenant, day, requests, last_requested) VALUES (?1, ?2, 0, ?3)
         ON CONFLICT DO UPDATE SET requests = 0, absent = 0",
        params![tenant, day.number(), now],
    )?;
    Ok(())
}

fn repair_bodies(
    transaction: &Transaction<'_>,
    now: UnixMillis,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    for DamagedBody { tenant, guid, seq, day, body } in damaged_bodies(transaction)? {
        let mut statement = transaction.prepare_cached(
            "SELECT s.name FROM cursor c JOIN sink s ON s.id = c.sink
             WHERE c.tenant = ?1 AND c.active AND c.seq <= ?2 AND c.floor <= ?3 ORDER BY s.name",
        )?;
        let unsent_sinks = statement
            .query_map(params![tenant, seq.cast_signed(), day.number()], |row| row.get("name"))?
            .collect::<Result<_, _>>()?;

        transaction.execute(
            "UPDATE entry SET body = NULL WHERE tenant = ?1 AND seq = ?2",
            params![tenant, seq.cast_signed()],
        )?;
        body::delete_if_unreferenced(transaction, vec![body])?;
        request_again(transaction, tenant, day, now)?;

        repaired.days.push(LostBody { tenant: guid, day, unsent_sinks });
    }
    Ok(())
}

/// An entry whose body is damaged.
struct DamagedBody {
    tenant: TenantRow,
    guid: String,
    /// The number of the entry in the tenant's log.
    seq: u64,
    day: Day,
    body: BodyId,
}

fn damaged_bodies(connection: &Connection) -> Result<Vec<DamagedBody>, CheckpointError> {
    let mut statement = connection.prepare(
        "SELECT e.tenant, t.guid, e.seq, e.day, e.body FROM entry e JOIN tenant t ON t.id = e.tenant
         WHERE e.body IS NOT NULL ORDER BY e.tenant, e.seq",
    )?;

    let mut bodies = BodyReader::default();
    let mut rows = statement.query([])?;
    let mut damaged = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get("body")?;
        // A fault of the disk does not show that the body is damaged.
        let is_damaged = match bodies.read(connection, body) {
            Ok(_) => false,
            Err(error) => error.into_damage().map(|_| true)?,
        };
        if is_damaged && let Some(day) = columns::day(row, "day")? {
            let (tenant, guid) = (row.get("tenant")?, row.get("guid")?);
            let seq = columns::unsigned(row, "seq")?;
            damaged.push(DamagedBody { tenant, guid, seq, day, body });
        }
    }
    Ok(damaged)
}

fn repair_facts(
    transaction: &Transaction<'_>,
    facts_of: impl Fn(&str) -> Option<DayFacts>,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    let mut names = ControlNames::load(transaction)?;
    let mut bodies = BodyReader::default();
    let mut replacements = Vec::new();
    let store: &dyn backend::Statements = transaction;
    let sql = "SELECT tenant, seq, day, facts, digest, body FROM entry
               WHERE kind = 1 AND body IS NOT NULL ORDER BY tenant, seq";

    store.query(sql, values![], &mut |row| {
        let hash: Vec<u8> = row.get("digest")?;
        let stored = read_facts(row, &names);
        if stored.as_ref().is_ok_and(|stored| day_hash(stored)[..] == hash[..]) {
            return Ok(ControlFlow::Continue(()));
        }

        // The checksum guarantees that the body is unchanged, so facts that are derived from it can
        // be trusted if they also match the hash or the stored facts.
        let Some(facts) = facts_of(&bodies.read(store, row.get("body")?)?) else {
            return Ok(ControlFlow::Continue(()));
        };
        if day_hash(&facts)[..] == hash[..] || stored.is_ok_and(|stored| stored == facts) {
            let tenant: TenantRow = row.get("tenant")?;
            replacements.push((tenant, fields::unsigned(row, "seq")?, facts));
        }
        Ok(ControlFlow::Continue(()))
    })?;

    for (tenant, seq, facts) in replacements {
        let packed =
            pack::pack(&facts, |name| control_names::control_id(transaction, &mut names, name))?;
        transaction.execute(
            "UPDATE entry SET facts = ?3, digest = ?4 WHERE tenant = ?1 AND seq = ?2",
            params![tenant, seq.cast_signed(), packed, day_hash(&facts)],
        )?;
        repaired.facts += 1;
    }
    Ok(())
}

fn repair_held(
    transaction: &Transaction<'_>,
    now: UnixMillis,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    for (tenant, guid, day) in held::damaged_days(transaction)? {
        transaction.execute(
            "DELETE FROM held WHERE tenant = ?1 AND day = ?2",
            params![tenant, day.number()],
        )?;
        request_again(transaction, tenant, day, now)?;
        repaired.held.push((guid, day));
    }
    Ok(())
}

fn repair_baselines(
    transaction: &Transaction<'_>,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    for (tenant, since, guid, name) in baseline::damaged_baselines(transaction)? {
        transaction.execute(
            "DELETE FROM baseline WHERE tenant = ?1 AND since = ?2",
            params![tenant, since],
        )?;
        repaired.baselines.push((guid, name));
    }
    Ok(())
}

fn repair_catalogs(
    transaction: &Transaction<'_>,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    let (intact_profiles, damaged_profiles) = catalog::check_profiles(transaction)?;
    let damaged: Vec<CatalogVersion> = catalog::damaged_catalogs(transaction, &intact_profiles)?
        .into_iter()
        .map(|(id, _)| id)
        .collect();

    for id in &damaged {
        // Without a newest version, the next poll stores its catalog as a new version.
        transaction.execute("UPDATE tenant SET catalog = NULL WHERE catalog = ?1", [id])?;
    }

    let all = serde_json::to_string(&damaged).map_err(std::io::Error::from)?;
    for id in &damaged {
        // The entries of a damaged version refer to the next intact one, or else to the one before
        // it.
        transaction.execute(
            "UPDATE entry SET catalog = coalesce(
               (SELECT min(c.id) FROM catalog c WHERE c.tenant = entry.tenant AND c.id > ?1 AND c.id NOT IN (SELECT value FROM json_each(?2))),
               (SELECT max(c.id) FROM catalog c WHERE c.tenant = entry.tenant AND c.id < ?1 AND c.id NOT IN (SELECT value FROM json_each(?2))))
             WHERE catalog = ?1",
            params![id, all],
        )?;
        transaction.execute("DELETE FROM catalog WHERE id = ?1", [id])?;
        repaired.catalogs += 1;
    }

    for id in damaged_profiles {
        transaction.execute("DELETE FROM profile WHERE id = ?1", [id])?;
    }
    Ok(())
}

/// Corrects the `seq` of the next entry of each log.
fn repair_log_ends(transaction: &Transaction<'_>) -> Result<(), CheckpointError> {
    // It follows from the last entry of a log without gaps. A log with a gap is not repaired.
    transaction.execute(
        "UPDATE tenant SET next_seq = ends.last + 1 FROM
           (SELECT tenant, count(*) AS count, max(seq) AS last FROM entry GROUP BY tenant) AS ends
         WHERE ends.tenant = tenant.id AND ends.count = ends.last AND next_seq <> ends.last + 1",
        [],
    )?;
    Ok(())
}
