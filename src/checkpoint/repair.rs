//! Mending what can be mended without losing the rest.

use rusqlite::{Connection, Transaction, params};

use super::{
    Checkpoint, CheckpointError, Names, baseline, body::Bodies, catalog, commit_poll, held, pack,
    retention,
};
use crate::model::{Day, DayFacts, day_digest};

/// What `repair` did, and what was lost with it.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Days whose text was lost.
    pub days: Vec<LostBody>,
    /// Days held back that were lost, by tenant: asked for again.
    pub held: Vec<(String, Day)>,
    /// Catalog versions; days told with one of them go by their tenant's next.
    pub catalogs: u64,
    /// By tenant: the name of the baseline.
    pub baselines: Vec<(String, String)>,
    /// Facts that were made anew from the day's text.
    pub facts: u64,
    /// Tenant and sink: brought back into the log.
    pub cursors: Vec<(String, String)>,
}

/// A day whose text could not be read and was let go. Its facts stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostBody {
    pub tenant: String,
    pub day: Day,
    /// Sinks that had not had it yet.
    pub unsent_sinks: Vec<String>,
}

impl Checkpoint {
    /// Mends what can be repaired, all of it or nothing. A text that cannot be read is let go, and its
    /// day asked for again; a catalog that cannot be read, or names a profile that cannot, is let
    /// go; facts are made anew from their text by `facts_of`, where that gives what their digest
    /// says, or what is kept but for the digest.
    pub fn repair(
        &self,
        now_ms: i64,
        facts_of: impl Fn(&str) -> Option<DayFacts>,
    ) -> Result<Repaired, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let mut repaired = Repaired::default();
        repair_bodies(&transaction, now_ms, &mut repaired)?;
        repair_facts(&transaction, facts_of, &mut repaired)?;
        repair_held(&transaction, now_ms, &mut repaired)?;
        repair_baselines(&transaction, &mut repaired)?;
        repair_catalogs(&transaction, &mut repaired)?;
        repair_cursors(&transaction, &mut repaired)?;
        transaction.commit()?;
        Ok(repaired)
    }
}

/// A day that Microsoft may still have is missing.
fn ask_again(
    connection: &Connection,
    tenant: i64,
    day: Day,
    now_ms: i64,
) -> Result<(), CheckpointError> {
    if i64::from(day.number()) < now_ms.div_euclid(86_400_000) - 90 {
        return Ok(());
    }
    connection.execute(
        "INSERT INTO missing (tenant, day, requests, last_requested) VALUES (?1, ?2, 0, ?3)
         ON CONFLICT DO UPDATE SET requests = 0, absent = 0",
        params![tenant, day.number(), now_ms],
    )?;
    Ok(())
}

fn repair_bodies(
    transaction: &Transaction<'_>,
    now_ms: i64,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    for Unreadable { tenant, guid, seq, day, body } in unreadable_bodies(transaction)? {
        let mut statement = transaction.prepare_cached(
            "SELECT s.name FROM cursor c JOIN sink s ON s.id = c.sink
             WHERE c.tenant = ?1 AND c.active AND c.seq <= ?2 AND c.floor <= ?3 ORDER BY s.name",
        )?;
        let unsent_sinks = statement
            .query_map(params![tenant, seq, day.number()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        transaction.execute(
            "UPDATE entry SET body = NULL WHERE tenant = ?1 AND seq = ?2",
            params![tenant, seq],
        )?;
        retention::sweep_these(transaction, vec![body])?;
        ask_again(transaction, tenant, day, now_ms)?;
        repaired.days.push(LostBody { tenant: guid, day, unsent_sinks });
    }
    Ok(())
}

/// An entry whose body cannot be read.
struct Unreadable {
    tenant: i64,
    guid: String,
    seq: i64,
    day: Day,
    body: i64,
}

fn unreadable_bodies(connection: &Connection) -> Result<Vec<Unreadable>, CheckpointError> {
    let mut bodies = Bodies::default();
    let mut statement = connection.prepare(
        "SELECT e.tenant, t.guid, e.seq, e.day, e.body FROM entry e JOIN tenant t ON t.id = e.tenant
         WHERE e.body IS NOT NULL ORDER BY e.tenant, e.seq",
    )?;
    let mut rows = statement.query([])?;
    let mut unreadable = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get(4)?;
        if bodies.read(connection, body).is_err()
            && let Some(day) = Day::from_number(row.get(3)?)
        {
            let (tenant, guid, seq) = (row.get(0)?, row.get(1)?, row.get(2)?);
            unreadable.push(Unreadable { tenant, guid, seq, day, body });
        }
    }
    Ok(unreadable)
}

/// A text proves itself by its checksum, so what it says is what was kept.
fn repair_facts(
    transaction: &Transaction<'_>,
    facts_of: impl Fn(&str) -> Option<DayFacts>,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    let mut names = Names::load(transaction)?;
    let mut bodies = Bodies::default();
    let mut statement = transaction.prepare(
        "SELECT tenant, seq, day, facts, digest, body FROM entry
         WHERE kind = 1 AND body IS NOT NULL ORDER BY tenant, seq",
    )?;
    let mut rows = statement.query([])?;
    let mut anew = Vec::new();
    while let Some(row) = rows.next()? {
        let digest: Vec<u8> = row.get(4)?;
        let kept = commit_poll::read_facts(row, 2, 3, &names);
        if kept.as_ref().is_ok_and(|kept| day_digest(kept)[..] == digest[..]) {
            continue;
        }
        let Some(facts) = facts_of(&bodies.read(transaction, row.get(5)?)?) else { continue };
        if day_digest(&facts)[..] == digest[..] || kept.is_ok_and(|kept| kept == facts) {
            anew.push((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, facts));
        }
    }
    drop(rows);
    drop(statement);
    for (tenant, seq, facts) in anew {
        let packed =
            pack::pack(&facts, |name| commit_poll::name_id(transaction, &mut names, name))?;
        transaction.execute(
            "UPDATE entry SET facts = ?3, digest = ?4 WHERE tenant = ?1 AND seq = ?2",
            params![tenant, seq, packed, day_digest(&facts)],
        )?;
        repaired.facts += 1;
    }
    Ok(())
}

fn repair_held(
    transaction: &Transaction<'_>,
    now_ms: i64,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    for (tenant, guid, day) in held::unreadable(transaction)? {
        transaction.execute(
            "DELETE FROM held WHERE tenant = ?1 AND day = ?2",
            params![tenant, day.number()],
        )?;
        ask_again(transaction, tenant, day, now_ms)?;
        repaired.held.push((guid, day));
    }
    Ok(())
}

fn repair_baselines(
    transaction: &Transaction<'_>,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    for (tenant, since, guid, name) in baseline::unreadable(transaction)? {
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
    let (sound, unsound) = catalog::profiles(transaction)?;
    let lost: Vec<i64> =
        catalog::unsound(transaction, &sound)?.into_iter().map(|(id, _)| id).collect();
    for id in &lost {
        // The next poll writes the newest anew.
        transaction.execute("UPDATE tenant SET catalog = NULL WHERE catalog = ?1", [id])?;
    }
    let all = serde_json::to_string(&lost).map_err(std::io::Error::from)?;
    for id in &lost {
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
    for id in unsound {
        transaction.execute("DELETE FROM profile WHERE id = ?1", [id])?;
    }
    Ok(())
}

fn repair_cursors(
    transaction: &Transaction<'_>,
    repaired: &mut Repaired,
) -> Result<(), CheckpointError> {
    // A log without a hole says itself where it goes on.
    transaction.execute(
        "UPDATE tenant SET next_seq = ends.last + 1 FROM
           (SELECT tenant, count(*) AS count, max(seq) AS last FROM entry GROUP BY tenant) AS ends
         WHERE ends.tenant = tenant.id AND ends.count = ends.last AND next_seq <> ends.last + 1",
        [],
    )?;
    let mut statement = transaction.prepare(
        "UPDATE cursor SET record_index = 0, seq = max(1, min(seq, (SELECT next_seq FROM tenant WHERE id = cursor.tenant)))
         WHERE seq < 1 OR seq > (SELECT next_seq FROM tenant WHERE id = cursor.tenant)
         RETURNING (SELECT guid FROM tenant WHERE id = cursor.tenant), (SELECT name FROM sink WHERE id = cursor.sink)",
    )?;
    let brought = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    repaired.cursors = brought.collect::<Result<_, _>>()?;
    Ok(())
}
