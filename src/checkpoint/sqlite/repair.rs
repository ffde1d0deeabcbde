//! Repairs the faults that [`Checkpoint::verify`] finds in a database whose structure is intact,
//! one by one, so that the rest of the history is kept.
//!
//! A day whose data is lost becomes missing, so that the next poll requests it. A database whose
//! structure is damaged is set aside instead. Start reading at [`Checkpoint::repair`].
//! See decision 0018.

use std::ops::ControlFlow;

use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, ControlNames,
        backend::{Scope, Statements, values},
        baseline,
        body::{self, BodyReader},
        catalog, control_names, cursor_checks,
        entry_reader::read_facts,
        fields, held, pack, queued_commands,
        row_ids::{BodyId, CatalogVersion, TenantRow},
        sql::snapshot,
    },
    model::{Day, DayFacts, Seq, SinkName, UnixMillis, day_hash},
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
    /// Queued imports that were damaged and have been removed: the GUID of the tenant of each.
    pub imports: Vec<String>,
    /// The number of days whose facts were derived again from the body.
    pub facts: u64,
    /// Cursors that were outside the log and have been set to their last known position: the GUID
    /// of the tenant and the name of the sink.
    pub cursors: Vec<(String, SinkName)>,
}

/// A day whose body was damaged and has been removed. Its facts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostBody {
    /// The GUID of the tenant.
    pub tenant: String,
    pub day: Day,
    /// The names of the sinks that had not received the day.
    pub unsent_sinks: Vec<SinkName>,
}

impl Checkpoint {
    /// Repairs everything that can be repaired, in one transaction.
    ///
    /// - A damaged body or held day is removed, and its day becomes missing.
    /// - Damaged facts, or a wrong hash, are replaced by what `facts_of` derives from the body.
    ///   The result is used only if it matches the stored hash or the stored facts.
    /// - A damaged baseline or queued import is removed, and so is a catalog that is damaged or
    ///   contains a damaged profile.
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
        let first = self.backend.begin(Scope::Administrative)?;
        let found = self.repair_content(&*first, now, &facts_of)?;

        let repaired = if found == Repaired::default() {
            first.commit()?;
            found
        } else {
            drop(first);
            self.sqlite.require_readable(self.state.files())?;
            self.administrative(|store| self.repair_content(store, now, &facts_of))?
        };

        if !repaired.cursors.is_empty() {
            // Cursors otherwise only move forward, so the next start would take this database for
            // an old copy.
            self.write_cursor_file()?;
        }
        Ok(repaired)
    }

    fn repair_content(
        &self,
        store: &dyn Statements,
        now: UnixMillis,
        facts_of: impl Fn(&str) -> Option<DayFacts>,
    ) -> Result<Repaired, CheckpointError> {
        let mut repaired = Repaired::default();
        // Bodies are repaired first: facts are derived from the bodies that are intact.
        repair_bodies(store, now, &mut repaired)?;
        repair_facts(store, facts_of, &mut repaired)?;
        repair_held(store, now, &mut repaired)?;
        repair_baselines(store, &mut repaired)?;
        for (id, guid) in queued_commands::damaged_imports(store)? {
            queued_commands::delete(store, id)?;
            repaired.imports.push(guid);
        }
        repair_catalogs(store, &mut repaired)?;
        repair_log_ends(store)?;
        repaired.cursors = cursor_checks::repair(store, &self.saved_cursors(), &self.id)?;
        Ok(repaired)
    }
}

/// Makes a day missing, unless it is older than the 90 days that Microsoft keeps.
fn request_again(
    store: &dyn Statements,
    tenant: TenantRow,
    day: Day,
    now: UnixMillis,
) -> Result<(), CheckpointError> {
    if day < now.day().oldest_possible_at_source() {
        return Ok(());
    }

    let sql = "INSERT INTO missing (tenant, day, requests, last_requested) VALUES (?1, ?2, 0, ?3)
               ON CONFLICT DO UPDATE SET requests = 0, absent = FALSE";
    store.execute(sql, values![tenant, day.number(), now])?;
    Ok(())
}

fn repair_bodies(
    store: &dyn Statements,
    now: UnixMillis,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    let unsent = "SELECT s.name FROM cursor c JOIN sink s ON s.id = c.sink
         WHERE c.tenant = ?1 AND c.active AND c.seq <= ?2 AND c.floor <= ?3 ORDER BY s.name";
    let remove = "UPDATE entry SET body = NULL WHERE tenant = ?1 AND seq = ?2";

    for DamagedBody { tenant, guid, seq, day, body } in damaged_bodies(store)? {
        let unsent_sinks =
            store.query_all(unsent, values![tenant, seq, day.number()], |row| row.get("name"))?;

        store.execute(remove, values![tenant, seq])?;
        body::delete_if_unreferenced(store, vec![body])?;
        request_again(store, tenant, day, now)?;

        repaired.days.push(LostBody { tenant: guid, day, unsent_sinks });
    }
    Ok(())
}

/// An entry whose body is damaged.
struct DamagedBody {
    tenant: TenantRow,
    guid: String,
    seq: Seq,
    day: Day,
    body: BodyId,
}

fn damaged_bodies(store: &dyn Statements) -> Result<Vec<DamagedBody>, CheckpointError> {
    let sql = "SELECT e.tenant, t.guid, e.seq, e.day, e.body FROM entry e JOIN tenant t ON t.id = e.tenant
         WHERE e.body IS NOT NULL ORDER BY e.tenant, e.seq";

    let (mut bodies, mut damaged) = (BodyReader::default(), Vec::new());
    store.query(sql, values![], &mut |row| {
        let body: BodyId = row.get("body")?;
        // A fault of the disk does not show that the body is damaged.
        let is_damaged = match bodies.read(store, body) {
            Ok(_) => false,
            Err(error) => error.into_damage().map(|_| true)?,
        };
        if is_damaged && let Some(day) = fields::day(row, "day")? {
            let (tenant, guid) = (row.get("tenant")?, row.get("guid")?);
            let seq = row.get("seq")?;
            damaged.push(DamagedBody { tenant, guid, seq, day, body });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(damaged)
}

fn repair_facts(
    store: &dyn Statements,
    facts_of: impl Fn(&str) -> Option<DayFacts>,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    let mut names = ControlNames::load(store)?;
    let mut bodies = BodyReader::default();
    let mut replacements = Vec::new();
    let sql = concat!(
        "SELECT tenant, seq, day, facts, digest, body FROM entry WHERE kind = ",
        snapshot!(),
        " AND body IS NOT NULL ORDER BY tenant, seq"
    );

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
            replacements.push((tenant, row.get::<Seq>("seq")?, facts));
        }
        Ok(ControlFlow::Continue(()))
    })?;

    for (tenant, seq, facts) in replacements {
        let packed = pack::pack(&facts, |name| control_names::control_id(store, &mut names, name))?;
        let sql = "UPDATE entry SET facts = ?3, digest = ?4 WHERE tenant = ?1 AND seq = ?2";
        store.execute(sql, values![tenant, seq, packed, day_hash(&facts)])?;
        repaired.facts += 1;
    }
    Ok(())
}

fn repair_held(
    store: &dyn Statements,
    now: UnixMillis,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    for (tenant, guid, day) in held::damaged_days(store)? {
        let sql = "DELETE FROM held WHERE tenant = ?1 AND day = ?2";
        store.execute(sql, values![tenant, day.number()])?;
        request_again(store, tenant, day, now)?;
        repaired.held.push((guid, day));
    }
    Ok(())
}

fn repair_baselines(
    store: &dyn Statements,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    for (tenant, since, guid, name) in baseline::damaged_baselines(store)? {
        let sql = "DELETE FROM baseline WHERE tenant = ?1 AND since = ?2";
        store.execute(sql, values![tenant, since])?;
        repaired.baselines.push((guid, name));
    }
    Ok(())
}

fn repair_catalogs(store: &dyn Statements, repaired: &mut Repaired) -> Result<(), CheckpointError> {
    let (intact_profiles, damaged_profiles) = catalog::check_profiles(store)?;
    let damaged: Vec<CatalogVersion> =
        catalog::damaged_catalogs(store, &intact_profiles)?.into_iter().map(|(id, _)| id).collect();

    for id in &damaged {
        // Without a newest version, the next poll stores its catalog as a new version.
        store.execute("UPDATE tenant SET catalog = NULL WHERE catalog = ?1", values![id])?;
    }

    let all = serde_json::to_string(&damaged).map_err(std::io::Error::from)?;
    for id in &damaged {
        // The entries of a damaged version refer to the next intact one, or else to the one before
        // it.
        store.execute(
            "UPDATE entry SET catalog = coalesce(
               (SELECT min(c.id) FROM catalog c WHERE c.tenant = entry.tenant AND c.id > ?1 AND c.id NOT IN (SELECT value FROM json_each(?2))),
               (SELECT max(c.id) FROM catalog c WHERE c.tenant = entry.tenant AND c.id < ?1 AND c.id NOT IN (SELECT value FROM json_each(?2))))
             WHERE catalog = ?1",
            values![id, all],
        )?;
        store.execute("DELETE FROM catalog WHERE id = ?1", values![id])?;
        repaired.catalogs += 1;
    }

    for id in damaged_profiles {
        store.execute("DELETE FROM profile WHERE id = ?1", values![id])?;
    }
    Ok(())
}

/// Corrects the `seq` of the next entry of each log.
fn repair_log_ends(store: &dyn Statements) -> Result<(), CheckpointError> {
    // It follows from the last entry of a log without gaps. A log with a gap is not repaired.
    store.execute(
        "UPDATE tenant SET next_seq = ends.last + 1 FROM
           (SELECT tenant, count(*) AS count, max(seq) AS last FROM entry GROUP BY tenant) AS ends
         WHERE ends.tenant = tenant.id AND ends.count = ends.last AND next_seq <> ends.last + 1",
        values![],
    )?;
    Ok(())
}
