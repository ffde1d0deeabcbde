//! What the daemon reports about itself to other processes, such as `status`: its configuration,
//! and the loops that make no progress. It is stored as one JSON document in the table `meta`,
//! where the last rejected reload is stored too. Start reading at [`DaemonReport`].

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Checkpoint, CheckpointError};
use crate::model::UnixMillis;

/// What the daemon that polled last has reported. `once` removes it, because a checkpoint that
/// `once` polls for needs no daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonReport {
    /// The process ID. The report of a process that has ended does not apply to the next one.
    pub pid: u32,
    /// The fingerprint of the running configuration.
    pub configuration: String,
    /// The names of the environment variables that set keys, sorted. Another process can compare
    /// its own fingerprint only if it has the same variables.
    pub variables: Vec<String>,
    /// A description of each loop that makes no progress.
    pub stalled: Vec<String>,
}

/// The row of `meta` with the report, as JSON.
const DAEMON_REPORT: &str = "daemon_report";
/// The row of `meta` with the time at which the daemon has shown that it can write.
const ALIVE_AT: &str = "daemon_alive_at";

impl Checkpoint {
    /// Stores the report of the daemon; `None` removes it.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn set_daemon_report(&self, report: Option<&DaemonReport>) -> Result<(), CheckpointError> {
        set_document(&self.connection(), DAEMON_REPORT, report)
    }

    /// Stores that the daemon could write at this time. This is also its test of the storage.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn record_alive(&self, now: UnixMillis) -> Result<(), CheckpointError> {
        set_document(&self.connection(), ALIVE_AT, Some(&now))
    }
}

/// When a daemon could write last; `None` if none has stored it.
pub(super) fn alive_at(connection: &Connection) -> Result<Option<UnixMillis>, CheckpointError> {
    document(connection, ALIVE_AT)
}

/// The stored report; `None` also if it is from another version.
pub(super) fn daemon_report(
    connection: &Connection,
) -> Result<Option<DaemonReport>, CheckpointError> {
    document(connection, DAEMON_REPORT)
}

/// Stores a document under this key of `meta`; `None` deletes it.
pub(super) fn set_document(
    connection: &Connection,
    key: &str,
    document: Option<&impl Serialize>,
) -> Result<(), CheckpointError> {
    match document {
        // Serializing a struct of strings and numbers cannot fail.
        Some(document) => connection.execute(
            "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
            params![key, serde_json::to_string(document).unwrap_or_default()],
        )?,
        None => connection.execute("DELETE FROM meta WHERE key = ?1", [key])?,
    };
    Ok(())
}

/// The document under this key of `meta`; `None` also if it is from another version.
pub(super) fn document<T: DeserializeOwned>(
    connection: &Connection,
    key: &str,
) -> Result<Option<T>, CheckpointError> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get("value"))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::StatusDetail;

    #[test]
    fn a_report_is_stored_until_removed() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let stored = || checkpoint.status(StatusDetail::Summary).unwrap().daemon;
        assert_eq!(stored(), None);

        let mut report = DaemonReport { pid: 7, ..DaemonReport::default() };
        for stalled in [vec!["the scheduler has not run for 5 minutes".to_owned()], Vec::new()] {
            report.stalled = stalled;
            checkpoint.set_daemon_report(Some(&report)).unwrap();
            assert_eq!(stored().as_ref(), Some(&report));
        }

        checkpoint.set_daemon_report(None).unwrap();
        assert_eq!(stored(), None);
    }
}
