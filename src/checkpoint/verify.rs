//! Looking at everything that is kept. What can be mended is mended in `mend`.

use rusqlite::Connection;

use super::{
    Checkpoint, CheckpointError, Names, baseline, body::Bodies, catalog, commit_poll::read_facts,
    examine, held,
};
use crate::model::{Day, day_digest};

/// What a look at everything came to.
#[derive(Debug, Default)]
pub struct VerifyReport {
    pub entries: u64,
    pub bodies: u64,
    pub catalogs: u64,
    pub profiles: u64,
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The tenant's GUID, if it is one tenant's.
    pub tenant: Option<String>,
    pub day: Option<Day>,
    pub message: String,
}

impl Checkpoint {
    /// Reads everything once: the database's own structure, every day's facts against their
    /// digest, every body, held day, baseline, catalog and profile, and whether logs and cursors
    /// hang together. All of it as of one moment: a daemon may be at work meanwhile.
    pub fn verify(&self) -> Result<VerifyReport, CheckpointError> {
        self.connection().execute_batch("BEGIN")?;
        let verdict = self.verify_parts();
        self.connection().execute_batch("ROLLBACK")?;
        verdict
    }

    fn verify_parts(&self) -> Result<VerifyReport, CheckpointError> {
        let mut verdict = VerifyReport::default();
        let connection = self.connection();
        verify_structure(&connection, &mut verdict)?;
        verify_logs(&connection, &mut verdict)?;
        verify_entries(&connection, &mut verdict)?;
        verify_others(&connection, &mut verdict)?;
        Ok(verdict)
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

fn verify_structure(
    connection: &Connection,
    verdict: &mut VerifyReport,
) -> Result<(), CheckpointError> {
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

fn verify_logs(connection: &Connection, verdict: &mut VerifyReport) -> Result<(), CheckpointError> {
    let mut statement = connection.prepare(
        "SELECT t.guid, t.next_seq, count(e.seq), coalesce(max(e.seq), 0) FROM tenant t
         LEFT JOIN entry e ON e.tenant = t.id GROUP BY t.id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (guid, next, count, last): (String, i64, i64, i64) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        if count != last || next != last + 1 {
            let what = format!("its log has {count} entries, and goes to {last}");
            verdict.note(Some(guid), None, what);
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

fn verify_entries(
    connection: &Connection,
    verdict: &mut VerifyReport,
) -> Result<(), CheckpointError> {
    let names = Names::load(connection)?;
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
        let digest: Vec<u8> = row.get(3)?;
        match read_facts(row, 1, 2, &names) {
            Ok(facts) if day_digest(&facts)[..] == digest[..] => {}
            Ok(_) => {
                let what = "its facts do not fit their digest".to_owned();
                verdict.note(Some(guid.clone()), day, what);
            }
            Err(error) => verdict.note(Some(guid.clone()), day, crate::error::chain(&error)),
        }
        let Some(body) = row.get::<_, Option<i64>>(4)? else { continue };
        verdict.bodies += 1;
        if let Err(error) = bodies.read(connection, body) {
            verdict.note(Some(guid), day, crate::error::chain(&error));
        }
    }
    Ok(())
}

/// What `mend` goes by, too.
fn verify_others(
    connection: &Connection,
    verdict: &mut VerifyReport,
) -> Result<(), CheckpointError> {
    for (_, guid, day) in held::unreadable(connection)? {
        verdict.note(Some(guid), Some(day), "a held day cannot be read".to_owned());
    }
    for (_, _, guid, name) in baseline::unreadable(connection)? {
        verdict.note(Some(guid), None, format!("baseline `{name}` cannot be read"));
    }
    let (sound, unsound) = catalog::profiles(connection)?;
    verdict.profiles = (sound.len() + unsound.len()) as u64;
    for id in unsound {
        verdict.note(None, None, format!("profile {id} cannot be read"));
    }
    let sql = "SELECT count(*) FROM catalog";
    verdict.catalogs = connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned();
    for (id, guid) in catalog::unsound(connection, &sound)? {
        verdict.note(Some(guid), None, format!("catalog {id} cannot be read"));
    }
    Ok(())
}

impl VerifyReport {
    fn note(&mut self, tenant: Option<String>, day: Option<Day>, message: String) {
        self.findings.push(Finding { tenant, day, message });
    }
}
