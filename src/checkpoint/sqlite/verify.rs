//! Verifies everything that a checkpoint stores, without changing it. The module `repair` repairs
//! the faults that this module finds. A fault in the data is a [`Finding`], never an error. Start
//! reading at [`Checkpoint::verify`].

use std::ops::ControlFlow;

use rusqlite::{Connection, OpenFlags};

use super::{
    directory::{self, DATABASE, connect},
    open::check_database,
    partial_indexes, texts,
};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, ControlNames, StatusDetail,
        backend::{Statements, values},
        baseline,
        body::BodyReader,
        catalog, cursor_checks,
        entry_reader::read_facts,
        fields, held, queued_commands,
        row_ids::BodyId,
        sql::{observation, snapshot},
        tenant_id,
    },
    model::{Day, day_hash},
};

/// The result of [`Checkpoint::verify`]: how much was read, and which faults were found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// The number of snapshots in the logs.
    pub entries: u64,
    /// The number of bodies that were read.
    pub bodies: u64,
    /// The number of catalog versions that were read.
    pub catalogs: u64,
    /// The number of profiles that were read.
    pub profiles: u64,
    /// The faults; empty if the checkpoint is intact.
    pub findings: Vec<Finding>,
}

/// A fault in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The GUID of the tenant, if the finding is about one.
    pub tenant: Option<String>,
    /// The day, if the finding is about one.
    pub day: Option<Day>,
    /// What is wrong, as a message for the operator.
    pub message: String,
}

impl Checkpoint {
    /// Reads everything once: the structure of the database, its indexes and texts, the facts of
    /// each day against their hash, every body, held day, baseline, queued import, catalog and
    /// profile, and whether logs and cursors are consistent. Everything is read from one consistent
    /// state, even while a daemon is running.
    ///
    /// # Errors
    ///
    /// Fails only if the operating system cannot read the database. Damage is a finding.
    pub fn verify(&self) -> Result<VerifyReport, CheckpointError> {
        let report = self.verify_once()?;
        if report.findings.is_empty() {
            return Ok(report);
        }
        // A read that has failed can look like damage.
        self.sqlite.require_readable(self.state.files())?;
        self.verify_once()
    }

    fn verify_once(&self) -> Result<VerifyReport, CheckpointError> {
        self.connection().execute_batch("BEGIN")?;
        let report = self.verify_all();
        let connection = self.connection();
        // An error of the disk has ended the transaction.
        let ended =
            if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") };
        let mut report = report?;
        ended?;
        drop(connection);

        // Nothing that prevents a daemon from starting may remain without a finding.
        if report.findings.is_empty() {
            let status = self.status(StatusDetail::Items).map(drop);
            if let Err(error) = status.and_then(|()| self.failures().map(drop)) {
                report.add_finding(None, None, error.into_damage()?);
            }
        }
        Ok(report)
    }

    fn verify_all(&self) -> Result<VerifyReport, CheckpointError> {
        let mut report = VerifyReport::default();
        let connection = self.connection();
        for verify in [verify_structure, verify_texts, verify_logs, verify_entries, verify_others] {
            if let Err(error) = verify(&connection, &mut report) {
                // The other parts are read nevertheless.
                let message = error.into_damage()?;
                report.add_finding(None, None, message);
            }
        }
        Ok(report)
    }

    /// Checks that the database exists and is intact enough to be opened.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::Absent`], `DatabaseLost`, `Damaged`, `Foreign` or `Newer` if
    /// it is not, and with [`CheckpointError::Storage`] if SQLite cannot read the file.
    pub fn probe(directory: &std::path::Path) -> Result<(), CheckpointError> {
        let state = directory::existing(directory)?;
        let files = state.files();
        let checked = directory::confirm_damage(files, || {
            let connection = connect(files, DATABASE, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            check_database(&connection, &files.path_of(DATABASE))
        });
        checked.map_err(|error| directory::find_cause(error, files))
    }
}

impl VerifyReport {
    fn add_finding(&mut self, tenant: Option<String>, day: Option<Day>, message: String) {
        self.findings.push(Finding { tenant, day, message });
    }
}

fn verify_structure(
    connection: &Connection,
    report: &mut VerifyReport,
) -> Result<(), CheckpointError> {
    let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
    let lines = statement.query_map([], |row| row.get::<_, String>("integrity_check"))?;
    for line in lines {
        let line = line?;
        if line != "ok" {
            let finding = CheckpointError::of_integrity_check(&line).into_damage()?;
            report.add_finding(None, None, finding);
        }
    }

    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    if let Some(row) = rows.next()? {
        let table: String = row.get("table")?;
        let message = format!("a row of table `{table}` refers to a row that does not exist");
        report.add_finding(None, None, message);
    }

    for message in partial_indexes::findings(connection)? {
        report.add_finding(None, None, message);
    }
    Ok(())
}

fn verify_texts(connection: &Connection, report: &mut VerifyReport) -> Result<(), CheckpointError> {
    for message in texts::findings(connection)? {
        report.add_finding(None, None, message);
    }
    Ok(())
}

fn verify_logs(connection: &Connection, report: &mut VerifyReport) -> Result<(), CheckpointError> {
    let mut statement = connection.prepare(
        "SELECT t.guid, t.next_seq, count(e.seq) AS entries, coalesce(max(e.seq), 0) AS last_seq FROM tenant t
         LEFT JOIN entry e ON e.tenant = t.id GROUP BY t.id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let guid: String = row.get("guid")?;
        // The row of this host has no GUID.
        if let Err(error) = tenant_id(&guid)
            && guid != "-"
        {
            report.add_finding(None, None, error.into_damage()?);
        }

        let (next, last): (i64, i64) = (row.get("next_seq")?, row.get("last_seq")?);
        let count: i64 = row.get("entries")?;
        if count != last || last.checked_add(1) != Some(next) {
            let message = format!(
                "the log is inconsistent: {count} entries, last `seq` {last}, next `seq` {next}"
            );
            report.add_finding(Some(guid), None, message);
        }
    }

    let sql = concat!(
        "SELECT count(*) AS unknown FROM entry WHERE kind NOT IN (",
        snapshot!(),
        ", ",
        observation!(),
        ")"
    );
    let store: &dyn Statements = connection;
    let unknown = store.query_one(sql, values![], |row| fields::unsigned(row, "unknown"))?;
    if unknown > 0 {
        report.add_finding(None, None, "the log contains an entry of an unknown kind".to_owned());
    }

    for cursor in cursor_checks::invalid_cursors(connection)? {
        let message = cursor.message();
        report.add_finding(Some(cursor.tenant), None, message);
    }
    Ok(())
}

fn verify_entries(
    connection: &Connection,
    report: &mut VerifyReport,
) -> Result<(), CheckpointError> {
    let names = ControlNames::load(connection)?;
    let mut bodies = BodyReader::default();
    let store: &dyn Statements = connection;
    let sql = concat!(
        "SELECT t.guid, e.day, e.facts, e.digest, e.body FROM entry e JOIN tenant t ON t.id = e.tenant
         WHERE e.kind = ",
        snapshot!(),
        " ORDER BY e.tenant, e.seq"
    );

    store.query(sql, values![], &mut |row| {
        let guid: String = row.get("guid")?;
        let day = fields::day(row, "day")?;

        report.entries += 1;
        let hash: Vec<u8> = row.get("digest")?;
        match read_facts(row, &names) {
            Ok(facts) if day_hash(&facts)[..] == hash[..] => {}
            Ok(_) => {
                let message = "the facts do not match their hash".to_owned();
                report.add_finding(Some(guid.clone()), day, message);
            }
            Err(error) => report.add_finding(Some(guid.clone()), day, error.into_damage()?),
        }

        let Some(body) = row.get::<Option<BodyId>>("body")? else {
            return Ok(ControlFlow::Continue(()));
        };
        report.bodies += 1;
        if let Err(error) = bodies.read(store, body) {
            report.add_finding(Some(guid), day, error.into_damage()?);
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Verifies held days, baselines, queued imports, profiles and catalogs, with the same functions
/// that `repair` uses.
fn verify_others(
    connection: &Connection,
    report: &mut VerifyReport,
) -> Result<(), CheckpointError> {
    for (_, guid, day) in held::damaged_days(connection)? {
        report.add_finding(Some(guid), Some(day), "a held day cannot be read".to_owned());
    }
    for (_, _, guid, name) in baseline::damaged_baselines(connection)? {
        report.add_finding(Some(guid), None, format!("baseline `{name}` cannot be read"));
    }

    for (_, guid) in queued_commands::damaged_imports(connection)? {
        report.add_finding(Some(guid), None, "a queued import cannot be read".to_owned());
    }

    let (intact_profiles, damaged_profiles) = catalog::check_profiles(connection)?;
    report.profiles = (intact_profiles.len() + damaged_profiles.len()) as u64;
    for id in damaged_profiles {
        report.add_finding(None, None, format!("profile `{id}` cannot be read"));
    }

    let sql = "SELECT count(*) AS catalogs FROM catalog";
    let store: &dyn Statements = connection;
    report.catalogs = store.query_one(sql, values![], |row| fields::unsigned(row, "catalogs"))?;
    for (id, guid) in catalog::damaged_catalogs(connection, &intact_profiles)? {
        report.add_finding(Some(guid), None, format!("catalog `{id}` cannot be read"));
    }
    Ok(())
}
