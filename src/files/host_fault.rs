//! Limits and faults of this host, such as too many open files, which can make any operation fail.
//!
//! They are recognized by the error number of the system call, wherever it is among the causes of
//! an error, and never by a message. An operation that fails because of one of them can succeed
//! soon without a change of the configuration, so it must be repeated after a short wait. Start
//! reading at [`HostFault::of`]. See decision 0076.

use std::{error::Error, io, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::FileError;
use crate::error::causes;

/// Why this host cannot do what any program may request of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// This process or the host has reached its limit of open files and connections.
    TooManyFiles,
    /// No memory is left.
    OutOfMemory,
    /// A disk has no space.
    DiskFull,
    /// The user of this process has used up its quota of a disk.
    QuotaExceeded,
    /// A file has reached the maximum size that this process may write.
    FileSizeLimit,
    /// A disk or its driver reported an error.
    Io,
}

impl HostFault {
    /// The fault that an error or one of its causes reports; `None` for any other error. An error
    /// of `fs_err` hides the number of its cause, so it is recognized only by its kind.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        causes(error).find_map(|cause| {
            let cause = cause.downcast_ref::<io::Error>()?;
            match cause.raw_os_error() {
                Some(number) => Self::of_number(Errno::from_raw_os_error(number)),
                None => Self::of_kind(cause.kind()),
            }
        })
    }

    /// The fault with this error number.
    pub fn of_number(number: Errno) -> Option<Self> {
        Some(match number {
            Errno::MFILE | Errno::NFILE => Self::TooManyFiles,
            Errno::NOMEM => Self::OutOfMemory,
            Errno::NOSPC => Self::DiskFull,
            Errno::DQUOT => Self::QuotaExceeded,
            Errno::FBIG => Self::FileSizeLimit,
            Errno::IO => Self::Io,
            _ => return None,
        })
    }

    /// What an operator can do about it, as an imperative.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::TooManyFiles => {
                "increase the limit of open files: `LimitNOFILE` of the service, or `ulimit -n`"
            }
            Self::OutOfMemory => {
                "increase `MemoryMax` of the service, or stop other processes of this host"
            }
            Self::DiskFull => {
                "free space on the disk, or remove files from it if `df -i` reports no free inodes"
            }
            Self::QuotaExceeded => {
                "increase the disk quota of the user of the service, or free space"
            }
            Self::FileSizeLimit => {
                "increase the limit of the size of files: `LimitFSIZE` of the service, or `ulimit -f`"
            }
            Self::Io => "search the log of the kernel (`dmesg`) for errors of the disk",
        }
    }

    /// `FileTooLarge` is not one of these kinds: a file that is too large to be read has it too.
    fn of_kind(kind: io::ErrorKind) -> Option<Self> {
        Some(match kind {
            io::ErrorKind::OutOfMemory => Self::OutOfMemory,
            io::ErrorKind::StorageFull => Self::DiskFull,
            io::ErrorKind::QuotaExceeded => Self::QuotaExceeded,
            _ => return None,
        })
    }
}

/// The error number of an error, or of the first of its causes that has one.
pub fn error_number(error: &(dyn Error + 'static)) -> Option<Errno> {
    let number = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    number.map(Errno::from_raw_os_error)
}

/// Checks that this process can open a file. Some libraries do not report why they could not.
///
/// # Errors
///
/// Fails with [`FileError::Io`].
pub fn require_descriptor() -> Result<(), FileError> {
    let root = Path::new("/");
    let opened = openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    opened.map(drop).map_err(FileError::io("open", root))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: too many open files were recognized only in errors of the checkpoint.
    #[test]
    fn faults_are_found_among_all_causes() {
        for (number, fault) in [
            (Errno::MFILE, Some(HostFault::TooManyFiles)),
            (Errno::NFILE, Some(HostFault::TooManyFiles)),
            (Errno::NOMEM, Some(HostFault::OutOfMemory)),
            (Errno::NOSPC, Some(HostFault::DiskFull)),
            (Errno::DQUOT, Some(HostFault::QuotaExceeded)),
            (Errno::FBIG, Some(HostFault::FileSizeLimit)),
            (Errno::IO, Some(HostFault::Io)),
            (Errno::NOENT, None),
            (Errno::ACCESS, None),
            (Errno::CONNREFUSED, None),
        ] {
            let inner = || io::Error::from(number);
            let file = || FileError::io("open", Path::new("/x"))(number);
            let twice = io::Error::other(io::Error::other(inner()));
            let errors: [Box<dyn Error>; 5] = [
                Box::new(inner()),
                Box::new(io::Error::other(inner())),
                Box::new(twice),
                Box::new(file()),
                Box::new(io::Error::from(file())),
            ];
            for error in errors {
                assert_eq!(HostFault::of(error.as_ref()), fault, "{error:?}");
                assert_eq!(error_number(error.as_ref()), Some(number), "{error:?}");
            }
        }

        let too_large = io::Error::from(FileError::TooLarge("/x".into(), 5));
        assert_eq!(HostFault::of(&too_large), None);
        assert_eq!(error_number(&io::Error::other("no number")), None);
        assert!(require_descriptor().is_ok());
    }
}
