//! Looking at everything that is kept, and mending what can be mended.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::{Checkpoint, CheckpointError, body::Bodies, examine, take::read_facts};
use crate::model::{Day, day_digest};

/// What a look at everything came to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub entries: u64,
    pub bodies: u64,
    pub catalogues: u64,
    pub profiles: u64,
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The tenant's GUID, if it is one tenant's.
    pub tenant: Option<String>,
    pub day: Option<Day>,
    pub what: String,
    /// `repair` mends it in place: the rest of the checkpoint stays.
    pub mendable: bool,
}

/// What `repair` did.
#[derive(Debug, Default)]
pub struct Mended {
    /// Days whose text was lost, by tenant: asked for again where Microsoft still has them.
    pub days: Vec<(String, Day)>,
    pub catalogues: u64,
}

impl Checkpoint {
    /// Reads everything once: the database's own structure, every day's facts against their
    /// digest, every body, catalogue and profile, and whether logs and cursors hang together.
    pub fn verify(&self) -> Result<Verdict, CheckpointError> {
        let mut verdict = Verdict::default();
        self.verify_structure(&mut verdict)?;
        self.verify_logs(&mut verdict)?;
        self.verify_entries(&mut verdict)?;
        self.verify_catalogues(&mut verdict)?;
        Ok(verdict)
    }

    fn verify_structure(&self, verdict: &mut Verdict) -> Result<(), CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        for line in lines {
            let line = line?;
            if line != "ok" {
                verdict.note(None, None, format!("the database says: {line}"));
            }
        }
        let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
        let mut rows = statement.query([])?;
        if let Some(row) = rows.next()? {
            let table: String = row.get(0)?;
            verdict.note(None, None, format!("a row of `{table}` refers to one that is gone"));
        }
        Ok(())
    }

    fn verify_logs(&self, verdict: &mut Verdict) -> Result<(), CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT t.guid, t.next_seq, count(e.seq), coalesce(max(e.seq), 0) FROM tenant t
             LEFT JOIN entry e ON e.tenant = t.id GROUP BY t.id",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (guid, next, count, last): (String, i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            if count != last || next != last + 1 {
                verdict.note(
                    Some(guid),
                    None,
                    format!("its log has {count} entries, and goes to {last}"),
                );
            }
        }
        let mut statement = connection.prepare(
            "SELECT s.name, t.guid FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
             WHERE c.seq > t.next_seq OR c.seq < 1",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let sink: String = row.get(0)?;
            verdict.note(
                Some(row.get(1)?),
                None,
                format!("the cursor of sink `{sink}` is beyond its log"),
            );
        }
        Ok(())
    }

    fn verify_entries(&self, verdict: &mut Verdict) -> Result<(), CheckpointError> {
        let (connection, names) = (self.connection(), self.names());
        let mut bodies = Bodies::default();
        let mut statement = connection.prepare(
            "SELECT t.guid, e.day, e.facts, e.digest, e.body FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE e.kind = 1 ORDER BY e.tenant, e.seq",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let guid: String = row.get(0)?;
            let day = Day::from_number(row.get(1)?);
            verdict.entries += 1;
            match read_facts(row, 1, 2, &names) {
                Ok(facts) if day_digest(&facts)[..] == row.get::<_, Vec<u8>>(3)?[..] => {}
                Ok(_) => verdict.note(
                    Some(guid.clone()),
                    day,
                    "its facts do not fit their digest".to_owned(),
                ),
                Err(error) => verdict.note(Some(guid.clone()), day, crate::error::chain(&error)),
            }
            let Some(body) = row.get::<_, Option<i64>>(4)? else { continue };
            verdict.bodies += 1;
            if let Err(error) = bodies.read(&connection, body) {
                let what = crate::error::chain(&error);
                verdict.findings.push(Finding { tenant: Some(guid), day, what, mendable: true });
            }
        }
        Ok(())
    }

    fn verify_catalogues(&self, verdict: &mut Verdict) -> Result<(), CheckpointError> {
        let all =
            |table: &str| ids(&self.connection(), &format!("SELECT id FROM {table} ORDER BY id"));
        let profiles: BTreeSet<i64> = all("profile")?.into_iter().collect();
        for id in &profiles {
            verdict.profiles += 1;
            if let Err(error) = self.profile(*id) {
                verdict.note(None, None, crate::error::chain(&error));
            }
        }
        for id in all("catalogue")? {
            verdict.catalogues += 1;
            match self.catalogue(id) {
                Ok(members) if members.iter().all(|m| profiles.contains(&m.profile)) => {}
                Ok(_) => {
                    verdict.note(
                        None,
                        None,
                        format!("catalogue {id} names a profile that is gone"),
                    );
                }
                Err(error) => {
                    let what = crate::error::chain(&error);
                    verdict.findings.push(Finding {
                        tenant: None,
                        day: None,
                        what,
                        mendable: true,
                    });
                }
            }
        }
        Ok(())
    }

    /// Mends what can be mended without losing the rest: a body that cannot be read is let go, and
    /// its day asked for again; a catalogue that cannot be read is let go. The facts stay.
    pub fn mend(&self, now_ms: i64) -> Result<Mended, CheckpointError> {
        let mut mended = Mended::default();
        for (tenant, guid, seq, day) in self.unreadable_bodies()? {
            let mut connection = self.connection();
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE entry SET body = NULL WHERE tenant = ?1 AND seq = ?2",
                params![tenant, seq],
            )?;
            transaction.execute(
                "INSERT INTO owed (tenant, day, asks, last_asked) VALUES (?1, ?2, 0, ?3)
                 ON CONFLICT DO UPDATE SET asks = 0, absent = 0",
                params![tenant, day.number(), now_ms],
            )?;
            transaction.commit()?;
            mended.days.push((guid, day));
        }
        let catalogues = ids(&self.connection(), "SELECT id FROM catalogue ORDER BY id")?;
        for id in catalogues {
            if self.catalogue(id).is_ok() {
                continue;
            }
            let mut connection = self.connection();
            let transaction = connection.transaction()?;
            transaction.execute("UPDATE entry SET catalogue = NULL WHERE catalogue = ?1", [id])?;
            transaction.execute("UPDATE tenant SET catalogue = NULL WHERE catalogue = ?1", [id])?;
            transaction.execute("DELETE FROM catalogue WHERE id = ?1", [id])?;
            transaction.commit()?;
            mended.catalogues += 1;
        }
        Ok(mended)
    }

    /// Tenant, its GUID, place in the log and day of each.
    fn unreadable_bodies(&self) -> Result<Vec<(i64, String, i64, Day)>, CheckpointError> {
        let connection = self.connection();
        let mut bodies = Bodies::default();
        let mut statement = connection.prepare(
            "SELECT e.tenant, t.guid, e.seq, e.day, e.body FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE e.body IS NOT NULL ORDER BY e.tenant, e.seq",
        )?;
        let mut rows = statement.query([])?;
        let mut unreadable = Vec::new();
        while let Some(row) = rows.next()? {
            if bodies.read(&connection, row.get(4)?).is_err()
                && let Some(day) = Day::from_number(row.get(3)?)
            {
                unreadable.push((row.get(0)?, row.get(1)?, row.get(2)?, day));
            }
        }
        Ok(unreadable)
    }

    /// Whether the database can be opened and used at all; `Damaged` or `Foreign` if not.
    pub fn probe(directory: &std::path::Path) -> Result<(), CheckpointError> {
        let path = directory.join(super::DATABASE);
        if !path.exists() {
            return Err(CheckpointError::Absent(path));
        }
        let connection =
            Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        examine(&connection, &path)
    }
}

impl Verdict {
    fn note(&mut self, tenant: Option<String>, day: Option<Day>, what: String) {
        self.findings.push(Finding { tenant, day, what, mendable: false });
    }
}

fn ids(connection: &Connection, sql: &str) -> Result<Vec<i64>, CheckpointError> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
