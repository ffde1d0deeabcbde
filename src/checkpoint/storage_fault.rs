//! Why files of the checkpoint cannot be read or written although nothing in them is damaged.
//!
//! SQLite reduces most errors of the operating system to a few codes. A code with several causes is
//! therefore explained by the error number that the failed system call has left. No fault of this
//! module may lead to the advice to repair the checkpoint, because a repair would replace intact
//! data. Start reading at [`StorageFault`]. See decision 0074.

use std::{fmt, io};

use rusqlite::{ErrorCode, ffi};
use rustix::io::Errno;

use crate::files::{HostFault, error_number};

/// The cause of a failed read or write, apart from damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFault {
    /// The disk has no space for the transaction, which was rolled back.
    DiskFull,
    /// The disk has space, but the user has used up its quota.
    QuotaExceeded,
    /// The file system is read-only, or the mode of a file does not permit writing.
    ReadOnly,
    /// This process or the host has reached its limit of open files.
    TooManyFiles,
    /// No memory is left.
    OutOfMemory,
    /// A file has reached the maximum size that this process may write.
    FileSizeLimit,
    /// The disk or its driver reported an error.
    Io,
    /// Another process held a lock for longer than the program waits.
    Busy,
    /// The user of this process may not use a file or a directory.
    PermissionDenied,
    /// A file or a directory does not exist.
    Missing,
    /// The connection to the database was lost, or cannot be established.
    Unavailable,
    /// Any other error of SQLite.
    Unexpected,
}

impl StorageFault {
    /// The fault of an error of SQLite that does not report damage. `left` is the error number of
    /// the last failed system call of this thread.
    pub(super) fn of_sqlite(failure: ffi::Error, left: Option<Errno>) -> Self {
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

    /// The fault of an error of the operating system, also if other errors contain it; `None` if it
    /// is not one of these faults. An error of `fs_err` hides the number of its cause, so files of
    /// the checkpoint are used through `File::file`, with a `FileError`.
    pub(super) fn of_io(error: &io::Error) -> Option<Self> {
        Self::of_number(error_number(error)?)
    }

    fn of_number(number: Errno) -> Option<Self> {
        if let Some(fault) = HostFault::of_number(number) {
            return Some(fault.into());
        }
        Some(match number {
            Errno::ROFS => Self::ReadOnly,
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied,
            Errno::NOENT => Self::Missing,
            _ => return None,
        })
    }

    /// Whether the fault remains until an operator removes it. Any other fault can clear without
    /// one while the process is running.
    pub const fn needs_operator(self) -> bool {
        matches!(self, Self::ReadOnly | Self::PermissionDenied | Self::Missing | Self::Unexpected)
    }

    /// What an operator can do; `None` if there is no general remedy.
    pub const fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::DiskFull => {
                "free space on the disk of the state directory, or remove files from it if `df -i` reports no free inodes"
            }
            Self::QuotaExceeded => {
                "increase the disk quota of the user of the service, or free space in the state directory"
            }
            Self::ReadOnly => {
                "search the log of the kernel (`dmesg`) for errors of the disk, and mount the file system of the state directory with write access"
            }
            Self::TooManyFiles => HostFault::TooManyFiles.remedy(),
            Self::OutOfMemory => HostFault::OutOfMemory.remedy(),
            Self::FileSizeLimit => HostFault::FileSizeLimit.remedy(),
            Self::Io => {
                "search the log of the kernel (`dmesg`) for errors of the disk; if they persist, copy the state directory to another disk"
            }
            Self::Busy => {
                "close other programs that use the database, such as `sqlite3` or a copy of the file that is in progress"
            }
            Self::PermissionDenied => "run the command as root or as the user of the service",
            Self::Missing => "check `state.directory`, and that its file system is mounted",
            Self::Unavailable => {
                "check that the database is running and can be reached from this host"
            }
            Self::Unexpected => return None,
        })
    }
}

impl From<HostFault> for StorageFault {
    fn from(fault: HostFault) -> Self {
        match fault {
            HostFault::TooManyFiles => Self::TooManyFiles,
            HostFault::OutOfMemory => Self::OutOfMemory,
            HostFault::DiskFull => Self::DiskFull,
            HostFault::QuotaExceeded => Self::QuotaExceeded,
            HostFault::FileSizeLimit => Self::FileSizeLimit,
            HostFault::Io => Self::Io,
        }
    }
}

impl fmt::Display for StorageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk of the checkpoint is full",
            Self::QuotaExceeded => "the disk quota for the checkpoint is used up",
            Self::ReadOnly => "the checkpoint cannot be written: its files are read-only",
            Self::TooManyFiles => "the checkpoint cannot be opened: too many files are open",
            Self::OutOfMemory => "no memory is left to use the checkpoint",
            Self::FileSizeLimit => {
                "a file of the checkpoint has reached the maximum size that this process may write"
            }
            Self::Io => "the disk of the checkpoint reported an error",
            Self::Busy => "another process has locked the database of the checkpoint",
            Self::PermissionDenied => "this user may not use the files of the checkpoint",
            Self::Missing => "a file of the checkpoint, or its directory, does not exist",
            Self::Unavailable => "the database of the checkpoint is not available",
            Self::Unexpected => "cannot use the database",
        })
    }
}

/// Whether SQLite could not read a page or had no memory for it, which shows no damage. A file that
/// ends within a page can be read.
pub(super) fn is_failed_read(failure: ffi::Error) -> bool {
    matches!(failure.code, ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory)
        && failure.extended_code != ffi::SQLITE_IOERR_SHORT_READ
}

/// The number of the last failed system call of this thread, which SQLite does not report.
pub(super) fn last_number() -> Option<Errno> {
    let number = io::Error::last_os_error().raw_os_error().filter(|number| *number != 0);
    number.map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{checkpoint::CheckpointError, error::Hint, files::FileError};

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

    /// Regression: an error of a file other than the database was reported without its cause, and
    /// with another exit code.
    #[test]
    fn files_have_the_same_faults_as_the_database() {
        for (number, fault) in [
            (Errno::NOSPC, StorageFault::DiskFull),
            (Errno::DQUOT, StorageFault::QuotaExceeded),
            (Errno::ROFS, StorageFault::ReadOnly),
            (Errno::MFILE, StorageFault::TooManyFiles),
            (Errno::NOMEM, StorageFault::OutOfMemory),
            (Errno::FBIG, StorageFault::FileSizeLimit),
            (Errno::IO, StorageFault::Io),
            (Errno::ACCESS, StorageFault::PermissionDenied),
        ] {
            let error = CheckpointError::from(FileError::io("write", Path::new("/x"))(number));
            assert_eq!(error.storage_fault(), Some(fault), "{error:?}");
            assert_eq!(error.to_string(), fault.to_string());
            assert_eq!(error.hint().as_deref(), fault.remedy());
            assert_eq!(error.is_unusable(), fault.needs_operator(), "{error:?}");
        }
    }

    #[test]
    fn nested_errors_have_the_number_of_their_cause() {
        let inner = || io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        let file = FileError::io("open", Path::new("/x"))(inner());
        let twice = io::Error::other(io::Error::other(inner()));
        for error in [inner(), io::Error::other(inner()), twice, file.into()] {
            assert_eq!(StorageFault::of_io(&error), Some(StorageFault::TooManyFiles), "{error}");
        }
        assert_eq!(StorageFault::of_io(&io::Error::other("no number")), None);
    }
}
