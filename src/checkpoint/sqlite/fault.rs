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

impl From<rusqlite::Error> for CheckpointError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error;

        // Read before anything else can make a system call.
        let left = last_number();
        let failure = match &error {
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
            _ => return Self::Storage(StorageFault::Unexpected, DriverError::new(error)),
        };

        match failure.code {
            // SQLite reports a read that fails within a statement as corruption.
            ErrorCode::DatabaseCorrupt if left == Some(Errno::IO) => {
                Self::Storage(StorageFault::Io, DriverError::new(error))
            }
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TooBig => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Storage(StorageFault::of_sqlite(failure, left), DriverError::new(error)),
        }
    }
}

impl CheckpointError {
    /// The error that a result of SQLite's integrity check reports. A page that could not be read
    /// is one of its lines, with the code of the failed read.
    pub(super) fn of_integrity_check(result: String) -> Self {
        let code = |line: &str| {
            let (_, code) = line.rsplit_once("error code")?;
            code.trim_matches(['=', ' ']).parse().ok().map(ffi::Error::new)
        };
        let failure = result.lines().filter_map(code).find(|failure| is_failed_read(*failure));
        match failure {
            Some(failure) => rusqlite::Error::SqliteFailure(failure, Some(result)).into(),
            None => Self::Damaged(result),
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

/// The number of the last failed system call of this thread, which SQLite does not report.
fn last_number() -> Option<Errno> {
    let number = io::Error::last_os_error().raw_os_error().filter(|number| *number != 0);
    number.map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Hint;

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
            let error = CheckpointError::of_integrity_check(result.to_owned());
            assert_eq!(matches!(error, CheckpointError::Damaged(_)), is_damage, "{error:?}");
            assert_eq!(error.storage_fault().is_some(), !is_damage, "{error:?}");
        }
    }
}
