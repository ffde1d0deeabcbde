//! Translates the errors of SQLite into those of the checkpoint.
//!
//! SQLite reduces most errors of the operating system to a few codes. A code with several causes is
//! therefore explained by the error number that the failed system call has left. Only corruption is
//! damage: nothing else may lead to the advice to repair the checkpoint. Start reading at the
//! conversion from [`rusqlite::Error`]. See decision 0074.

use std::io;

use rusqlite::{ErrorCode, ffi};
use rustix::io::Errno;

use crate::checkpoint::{CheckpointError, DriverError, StorageFault};

/// The cause of a fault. SQLite's message has neither its number nor its own causes, which would
/// repeat it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct CauseText(String);

impl From<rusqlite::Error> for CheckpointError {
    fn from(error: rusqlite::Error) -> Self {
        // Read before anything else can make a system call.
        let left = last_number();
        Self::of_driver(&error, left)
    }
}

impl CheckpointError {
    /// The error that an error of the driver means. `left` is the error number of the last failed
    /// system call of this thread.
    fn of_driver(error: &rusqlite::Error, left: Option<Errno>) -> Self {
        use rusqlite::Error;

        let failure = match error {
            Error::SqliteFailure(failure, _) | Error::SqlInputError { error: failure, .. } => {
                *failure
            }
            Error::IntegralValueOutOfRange(_, number) => {
                return Self::Damaged(format!("the number `{number}` is out of range"));
            }
            Error::Utf8Error(..) => {
                return Self::Damaged("a stored text is not valid UTF-8".to_owned());
            }
            Error::InvalidColumnType(_, column, _) => {
                return Self::Damaged(format!("a value of the column `{column}` has a wrong type"));
            }
            Error::FromSqlConversionFailure(..) => {
                return Self::Damaged("a stored value cannot be decoded".to_owned());
            }
            Error::QueryReturnedNoRows => {
                return Self::Damaged("a row that others refer to does not exist".to_owned());
            }
            _ => return Self::storage(StorageFault::Unexpected, message(error)),
        };

        match failure.code {
            // SQLite reports a read that fails within a statement as corruption.
            ErrorCode::DatabaseCorrupt if left == Some(Errno::IO) => {
                Self::storage(StorageFault::Io, Errno::IO.to_string())
            }
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TooBig => {
                Self::Damaged(message(error))
            }
            _ => match StorageFault::of_sqlite(failure, left) {
                // SQLite's message is that of a lock that another process holds.
                StorageFault::NoLocks => {
                    Self::storage(StorageFault::NoLocks, Errno::NOLCK.to_string())
                }
                fault => Self::storage(fault, message(error)),
            },
        }
    }

    fn storage(fault: StorageFault, cause: String) -> Self {
        Self::Storage(fault, DriverError::new(CauseText(cause)))
    }

    /// The error that a result of SQLite's integrity check reports. A page that could not be read
    /// is one of its lines, with the code of the failed read.
    pub(super) fn of_integrity_check(result: &str) -> Self {
        let code = |line: &str| {
            let (_, code) = line.rsplit_once("error code")?;
            code.trim_matches(['=', ' ']).parse().ok().map(ffi::Error::new)
        };
        let failure = result.lines().filter_map(code).find(|failure| is_failed_read(*failure));
        match failure {
            Some(failure) => rusqlite::Error::SqliteFailure(failure, None).into(),
            None => Self::Damaged(check_summary(result)),
        }
    }
}

impl StorageFault {
    /// The fault of an error of SQLite that does not report damage. `left` is the error number of
    /// the last failed system call of this thread.
    fn of_sqlite(failure: ffi::Error, left: Option<Errno>) -> Self {
        let from_system = |fallback| left.and_then(Self::of_number).unwrap_or(fallback);
        match failure.code {
            ErrorCode::DiskFull if left == Some(Errno::DQUOT) => Self::QuotaExceeded,
            ErrorCode::DiskFull => Self::DiskFull,
            ErrorCode::OutOfMemory => Self::OutOfMemory,
            // SQLite reports every lock that it does not get like one that another process holds.
            ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed
                if left == Some(Errno::NOLCK) =>
            {
                Self::NoLocks
            }
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed => Self::Busy,

            ErrorCode::ReadOnly => Self::ReadOnly,
            ErrorCode::PermissionDenied => Self::PermissionDenied,
            ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_NOMEM => {
                Self::OutOfMemory
            }
            ErrorCode::SystemIoFailure => match from_system(Self::Io) {
                // A number that does not belong to reading or writing is from an earlier call.
                Self::Missing | Self::PermissionDenied => Self::Io,
                fault => fault,
            },
            ErrorCode::CannotOpen => from_system(Self::Unexpected),
            _ => Self::Unexpected,
        }
    }
}

/// Whether SQLite could not read a page or had no memory for it, which shows no damage. A file that
/// ends within a page can be read.
fn is_failed_read(failure: ffi::Error) -> bool {
    matches!(failure.code, ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory)
        && failure.extended_code != ffi::SQLITE_IOERR_SHORT_READ
}

/// The message of an error of the driver, without the number of SQLite.
fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(failure, None) => {
            ffi::code_to_str(failure.extended_code).to_owned()
        }
        error => error.to_string(),
    }
}

/// What the integrity check of SQLite has found, on one line and without its heading.
fn check_summary(result: &str) -> String {
    let is_finding = |line: &&str| !line.is_empty() && !line.starts_with("*** in database ");
    let findings: Vec<&str> = result.lines().map(str::trim).filter(is_finding).collect();
    format!("the integrity check of SQLite reports `{}`", findings.join("; "))
}

/// The number of the last failed system call of this thread, which SQLite does not report.
fn last_number() -> Option<Errno> {
    let number = io::Error::last_os_error().raw_os_error().filter(|number| *number != 0);
    number.map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Hint, chain};

    /// A code of SQLite, the error number of the system call, and the fault.
    const FAULTS: &[(i32, Option<Errno>, StorageFault)] = &[
        (ffi::SQLITE_FULL, Some(Errno::NOSPC), StorageFault::DiskFull),
        (ffi::SQLITE_FULL, None, StorageFault::DiskFull),
        (ffi::SQLITE_FULL, Some(Errno::DQUOT), StorageFault::QuotaExceeded),
        (ffi::SQLITE_IOERR_FSYNC, Some(Errno::NOSPC), StorageFault::DiskFull),
        (ffi::SQLITE_IOERR_WRITE, Some(Errno::DQUOT), StorageFault::QuotaExceeded),
        (ffi::SQLITE_IOERR_WRITE, Some(Errno::ROFS), StorageFault::ReadOnly),
        (ffi::SQLITE_IOERR_WRITE, Some(Errno::FBIG), StorageFault::FileSizeLimit),
        (ffi::SQLITE_READONLY, None, StorageFault::ReadOnly),
        (ffi::SQLITE_READONLY_DIRECTORY, Some(Errno::ACCESS), StorageFault::ReadOnly),
        (ffi::SQLITE_CANTOPEN, Some(Errno::MFILE), StorageFault::TooManyFiles),
        (ffi::SQLITE_CANTOPEN, Some(Errno::NFILE), StorageFault::TooManyFiles),
        (ffi::SQLITE_CANTOPEN, Some(Errno::ACCESS), StorageFault::PermissionDenied),
        (ffi::SQLITE_CANTOPEN, Some(Errno::ROFS), StorageFault::ReadOnly),
        (ffi::SQLITE_CANTOPEN, Some(Errno::NOENT), StorageFault::Missing),
        (ffi::SQLITE_CANTOPEN, None, StorageFault::Unexpected),
        (ffi::SQLITE_NOMEM, None, StorageFault::OutOfMemory),
        (ffi::SQLITE_IOERR_NOMEM, None, StorageFault::OutOfMemory),
        (ffi::SQLITE_IOERR_SHMMAP, Some(Errno::NOMEM), StorageFault::OutOfMemory),
        (ffi::SQLITE_IOERR_READ, Some(Errno::IO), StorageFault::Io),
        (ffi::SQLITE_IOERR_FSYNC, None, StorageFault::Io),
        (ffi::SQLITE_IOERR_SHORT_READ, Some(Errno::NOENT), StorageFault::Io),
        (ffi::SQLITE_BUSY, None, StorageFault::Busy),
        (ffi::SQLITE_BUSY_SNAPSHOT, None, StorageFault::Busy),
        (ffi::SQLITE_LOCKED, None, StorageFault::Busy),
        (ffi::SQLITE_PROTOCOL, None, StorageFault::Busy),
        (ffi::SQLITE_BUSY, Some(Errno::AGAIN), StorageFault::Busy),
        (ffi::SQLITE_BUSY, Some(Errno::NOLCK), StorageFault::NoLocks),
        (ffi::SQLITE_PROTOCOL, Some(Errno::NOLCK), StorageFault::NoLocks),
        (ffi::SQLITE_IOERR_LOCK, Some(Errno::NOLCK), StorageFault::NoLocks),
        (ffi::SQLITE_PERM, None, StorageFault::PermissionDenied),
        (ffi::SQLITE_ERROR, None, StorageFault::Unexpected),
    ];

    #[test]
    fn codes_and_error_numbers_determine_the_fault() {
        for (code, left, fault) in FAULTS {
            let found = StorageFault::of_sqlite(ffi::Error::new(*code), *left);
            assert_eq!(found, *fault, "{code} {left:?}");
        }
    }

    /// Regression: a full disk, a read-only file system and too many open files were reported as
    /// damage, with the advice to repair the checkpoint.
    #[test]
    fn only_corruption_is_reported_as_damage() {
        let error_of = |code: i32| {
            CheckpointError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
        };
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_CORRUPT_INDEX, ffi::SQLITE_NOTADB] {
            let error = error_of(code);
            assert!(matches!(error, CheckpointError::Damaged(_)), "{code}");
            assert!(error.is_unusable() && !error.is_transient(), "{code}");
        }

        for (code, ..) in FAULTS {
            let error = error_of(*code);
            assert!(error.storage_fault().is_some(), "{code}: {error}");
            let hint = error.hint().unwrap_or_default();
            assert!(!error.to_string().contains("damaged") && !hint.contains("repair"), "{code}");
        }
    }

    /// Regression: a page that could not be read is a line of the integrity check of SQLite, and
    /// was reported as damage.
    #[test]
    fn failed_reads_in_checks_are_not_damage() {
        for (result, is_damage) in [
            ("Tree 3 page 5: unable to get the page. error code=8458", false),
            (
                "*** in database main ***\nTree 3 page 5: unable to get the page. error code=266\nPage 7: never used",
                false,
            ),
            ("Tree 3 page 5: btreeInitPage() returns error code 7", false),
            ("Tree 3 page 5: btreeInitPage() returns error code 11", true),
            ("Tree 3 page 5: unable to get the page. error code=522", true),
            ("Page 7: never used", true),
        ] {
            let error = CheckpointError::of_integrity_check(result);
            assert_eq!(matches!(error, CheckpointError::Damaged(_)), is_damage, "{error:?}");
            assert_eq!(error.storage_fault().is_some(), !is_damage, "{error:?}");
        }
    }

    /// Regression: messages contained the numbers of SQLite, a failed read was reported as a
    /// malformed database, and a file system without locks as a lock of another process.
    #[test]
    fn messages_have_no_number_of_sqlite() {
        for (code, left, text) in FAULTS {
            for own in [None, Some("own message".to_owned())] {
                let expected = own.clone().unwrap_or_else(|| ffi::code_to_str(*code).to_owned());
                let error = rusqlite::Error::SqliteFailure(ffi::Error::new(*code), own);
                let message = chain(&CheckpointError::of_driver(&error, *left));
                assert!(message.starts_with(&text.to_string()), "{message}");
                assert!(!message.contains("Error code"), "{message}");
                let is_explained = message.ends_with(&expected) || *text == StorageFault::NoLocks;
                assert!(is_explained, "{message}");
            }
        }

        let corrupt = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None);
        for (left, expected) in [
            (None, "the checkpoint is damaged: database disk image is malformed".to_owned()),
            (Some(Errno::IO), format!("{}: {}", StorageFault::Io, Errno::IO)),
        ] {
            assert_eq!(chain(&CheckpointError::of_driver(&corrupt, left)), expected);
        }
    }

    /// Regression: a finding was a heading and a line of SQLite without a sentence.
    #[test]
    fn findings_of_sqlite_are_one_sentence() {
        let reports = "the checkpoint is damaged: the integrity check of SQLite reports";
        for (result, expected) in [
            ("*** in database main ***\nTree 28 page 28: cell 0", "`Tree 28 page 28: cell 0`"),
            (
                "Page 7: never used\n\nPage 8: never used",
                "`Page 7: never used; Page 8: never used`",
            ),
        ] {
            let message = chain(&CheckpointError::of_integrity_check(result));
            assert_eq!(message, format!("{reports} {expected}"));
        }
    }
}
