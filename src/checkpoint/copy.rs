//! A checkpoint as one file: put away, brought back, or set aside because it is damaged.

use std::{
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, params};

use super::{
    Checkpoint, CheckpointError, CursorFile, DATABASE, configure, examine, lock::Lock, migrate,
    prepare,
};

/// What `restore` brought back.
#[derive(Debug)]
pub struct Restored {
    pub checkpoint_id: String,
    /// Where the checkpoint lies that was there before.
    pub set_aside: Option<PathBuf>,
    /// Cursors that the second cursor file knows better than the backup.
    pub newer_cursors: usize,
}

impl Checkpoint {
    /// Writes all of it, as of one moment, into a new file that only its owner can read. The daemon
    /// may be at work meanwhile.
    pub fn backup(&self, to: &Path) -> Result<u64, CheckpointError> {
        // Made by us, so that nobody else can read it for a moment.
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(
            |error| {
                std::io::Error::new(
                    error.kind(),
                    format!("cannot make `{}`: {error}", to.display()),
                )
            },
        )?;
        let copied = self.copy_into(to);
        if copied.is_err() {
            let _ = fs_err::remove_file(to);
        }
        copied
    }

    fn copy_into(&self, to: &Path) -> Result<u64, CheckpointError> {
        self.connection().execute("VACUUM INTO ?1", [text_of(to)?])?;
        fs_err::set_permissions(to, std::fs::Permissions::from_mode(0o600))?;
        let connection = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        examine(&connection, to)?;
        drop(connection);
        fs_err::File::open(to)?.sync_all()?;
        // And that it has a name.
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs_err::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(fs_err::metadata(to)?.len())
    }

    /// Puts a backup in the place of the checkpoint, which is set aside. It becomes a checkpoint of
    /// its own, with an id of its own: its log will not go on as the lost one's did. Cursors that the
    /// second cursor file knows are taken from there, so that nothing is sent again that was sent
    /// since the backup; what sinks had kept with their cursors is forgotten, for their receivers
    /// have come further.
    pub fn restore(
        directory: &Path,
        from: &Path,
        stamp: &str,
    ) -> Result<Restored, CheckpointError> {
        let no_backup = |error: CheckpointError| match error {
            newer @ CheckpointError::Newer(_) => newer,
            error => CheckpointError::InvalidBackup(from.to_owned(), Box::new(error)),
        };
        let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let source = source.map_err(|error| no_backup(error.into()))?;
        examine(&source, from).map_err(no_backup)?;
        // A file that is only just begun is no backup of anything.
        if source.query_row("PRAGMA user_version", [], |row| row.get::<_, i32>(0))? == 0 {
            return Err(no_backup(CheckpointError::Foreign(from.to_owned())));
        }
        prepare(directory)?;
        let _lock = Lock::take(directory)?;
        let new = directory.join(format!("{DATABASE}.restored"));
        // Of a restore that was cut off.
        for part in ["", "-wal", "-shm"] {
            let left = directory.join(format!("{DATABASE}.restored{part}"));
            if left.exists() {
                fs_err::remove_file(left)?;
            }
        }
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        // With what lies in its write-ahead log, if it has one.
        source.execute("VACUUM INTO ?1", [text_of(&new)?])?;
        drop(source);
        let restored = adopt(directory, &new)?;
        examine(&Connection::open_with_flags(&new, OpenFlags::SQLITE_OPEN_READ_ONLY)?, &new)?;
        let set_aside = set_aside(directory, &format!("before-restore-{stamp}"))?;
        fs_err::rename(&new, directory.join(DATABASE))?;
        fs_err::File::open(directory)?.sync_all()?;
        Ok(Restored { set_aside, ..restored })
    }

    /// Takes a database that cannot be used out of the way. What is made in its place learns from the
    /// second cursor file what was sent.
    pub fn set_aside(directory: &Path, stamp: &str) -> Result<Option<PathBuf>, CheckpointError> {
        let _lock = Lock::take(directory)?;
        set_aside(directory, &format!("damaged-{stamp}"))
    }
}

/// SQLite takes names of files as text.
fn text_of(path: &Path) -> std::io::Result<&str> {
    path.to_str().ok_or_else(|| {
        let message = format!("`{}` is no UTF-8 and cannot be a name here", path.display());
        std::io::Error::new(std::io::ErrorKind::InvalidFilename, message)
    })
}

/// Makes a copied database one of this directory.
fn adopt(directory: &Path, database: &Path) -> Result<Restored, CheckpointError> {
    let mut connection = Connection::open(database)?;
    configure(&connection)?;
    migrate(&mut connection)?;
    let transaction = connection.transaction()?;
    let checkpoint_id = uuid::Uuid::new_v4().to_string();
    transaction
        .execute("UPDATE meta SET value = ?1 WHERE key = 'checkpoint_id'", [&checkpoint_id])?;
    transaction.execute("UPDATE sink SET mark = NULL, last_error = NULL, last_hint = NULL", [])?;
    // Jobs of that time are done, or forgotten.
    transaction.execute("DELETE FROM replay", [])?;
    let remembered = CursorFile::read(directory).unwrap_or_else(|error| {
        let error = crate::error::chain(&error);
        tracing::warn!(
            error,
            "`cursors.json` cannot be used: what was sent since the backup is sent again"
        );
        None
    });
    let remembered = remembered.unwrap_or_default();
    let mut newer_cursors = 0;
    for kept in remembered.of_lost(&checkpoint_id) {
        newer_cursors += transaction.execute(
            "DELETE FROM cursor WHERE sink = (SELECT id FROM sink WHERE name = ?1)
               AND tenant = (SELECT id FROM tenant WHERE guid = ?2)",
            params![kept.sink, kept.tenant],
        )?;
    }
    transaction.commit()?;
    // One file, with nothing beside it that would have to be moved along.
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE;")?;
    connection.close().map_err(|(_, error)| error)?;
    fs_err::File::open(database)?.sync_all()?;
    Ok(Restored { checkpoint_id, set_aside: None, newer_cursors })
}

/// Renames the database and what belongs to it; gives its new path, if there was one.
fn set_aside(directory: &Path, end: &str) -> Result<Option<PathBuf>, CheckpointError> {
    let mut moved = None;
    // Never over what was set aside within the same second.
    let is_taken = |end: &String| directory.join(format!("{DATABASE}.{end}")).exists();
    let numbered = (2..).map(|number| format!("{end}-{number}"));
    let end = std::iter::once(end.to_owned()).chain(numbered).find(|end| !is_taken(end));
    let end = end.unwrap_or_default();
    for part in ["-wal", "-shm", ""] {
        let old = directory.join(format!("{DATABASE}{part}"));
        if old.exists() {
            let new = directory.join(format!("{DATABASE}.{end}{part}"));
            fs_err::rename(&old, &new)?;
            moved = Some(new);
        }
    }
    fs_err::File::open(directory)?.sync_all()?;
    Ok(moved)
}
