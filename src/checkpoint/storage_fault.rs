//! Why files of the checkpoint cannot be read or written although nothing in them is damaged.
//!
//! A backend determines the fault from the errors of its driver, and a file from the error number
//! of the failed system call. No fault of this module may lead to the advice to repair the
//! checkpoint, because a repair would replace intact data. Start reading at [`StorageFault`]. See
//! decision 0074.

use std::{fmt, io};

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
    /// The file system has no locks, or none is left.
    NoLocks,
    /// The user of this process may not use a file or a directory.
    PermissionDenied,
    /// A file or a directory does not exist.
    Missing,
    /// The connection to the database was lost, or cannot be established.
    Unavailable,
    /// Any other error of the database.
    Unexpected,
}

impl StorageFault {
    /// The fault of an error of the operating system, also if other errors contain it; `None` if it
    /// is not one of these faults. An error of `fs_err` hides the number of its cause, so files of
    /// the checkpoint are used through `File::file`, with a `FileError`.
    pub(super) fn of_io(error: &io::Error) -> Option<Self> {
        Self::of_number(error_number(error)?)
    }

    /// The fault that an error number of a failed system call means; `None` if it is not one of
    /// these faults.
    pub(super) fn of_number(number: Errno) -> Option<Self> {
        if let Some(fault) = HostFault::of_number(number) {
            return Some(fault.into());
        }
        Some(match number {
            Errno::ROFS => Self::ReadOnly,
            Errno::NOLCK => Self::NoLocks,
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
            Self::NoLocks => {
                "move the state directory to a local file system, or start the lock service of the network file system"
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
            Self::NoLocks => "the file system of the checkpoint cannot lock files",
            Self::PermissionDenied => "this user may not use the files of the checkpoint",
            Self::Missing => "a file of the checkpoint, or its directory, does not exist",
            Self::Unavailable => "the database of the checkpoint is not available",
            Self::Unexpected => "cannot use the database",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{checkpoint::CheckpointError, error::Hint, files::FileError};

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
            (Errno::NOLCK, StorageFault::NoLocks),
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
