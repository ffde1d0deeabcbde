//! The state directory of this host: the lock that allows one process at a time to use it, the
//! control socket that the holder of the lock announces, the second cursor file, and the free space
//! of the disk.
//!
//! It belongs to the host and not to the database of the checkpoint, which may be one of its files.
//! Nothing here may know the database, or what the second cursor file contains. Start reading at
//! [`StateDirectory::open`]. See decision 0095.

mod cursor_file;
mod exchange;
mod lock;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use cursor_file::{CURSOR_FILE, CursorFileError};
pub use exchange::exchange_warning;
pub use lock::{Holder, LOCK_FILE};

use self::lock::Lock;
use crate::files::{FileError, OwnedDirectory};

/// The name of the control socket.
pub const SOCKET_NAME: &str = "control.sock";

/// Free disk space in bytes below which polling pauses (decision 0019). The reserve is for cursors:
/// a poll can be repeated for 90 days, but records are sent again if their cursor cannot be
/// written.
pub const RESERVED_BYTES: u64 = 16 << 20;

/// An open state directory.
#[derive(Debug)]
pub struct StateDirectory {
    files: OwnedDirectory,
    /// `None` if the directory is open for reading only. The kernel releases the lock when the
    /// process ends, even if it crashes.
    lock: Option<Lock>,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirectoryError {
    #[error("cannot create the state directory `{}`", .0.display())]
    Create(PathBuf, #[source] io::Error),
    /// The lock file is locked; the holder is `None` if it has not written its process ID yet.
    #[error("the checkpoint is held by another process{}", .0.as_ref().map(|h| format!(" (pid {})", h.pid)).unwrap_or_default())]
    Locked(Option<Holder>),
    /// The directory or its lock file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl StateDirectory {
    /// Opens a state directory for writing and takes its lock. Creates it if it does not exist, and
    /// makes it private if it belongs to this user and is not shared with a group.
    ///
    /// # Errors
    ///
    /// Fails with [`StateDirectoryError::Locked`] if another process holds the lock, and if the
    /// directory cannot be created, is not trusted, or its lock file cannot be written.
    pub fn open(path: &Path) -> Result<Self, StateDirectoryError> {
        let files = OwnedDirectory::prepare(path).map_err(|error| match error {
            FileError::Io { source, .. } if !path.is_dir() => {
                StateDirectoryError::Create(path.to_owned(), source)
            }
            error => error.into(),
        })?;
        Self { files, lock: None }.into_locked()
    }

    /// Opens an existing state directory without taking its lock, even while a daemon is using it.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`OwnedDirectory::open`].
    pub fn open_read_only(path: &Path) -> Result<Self, FileError> {
        Ok(Self { files: OwnedDirectory::open(path)?, lock: None })
    }

    /// The same directory with its lock.
    ///
    /// # Errors
    ///
    /// Fails with [`StateDirectoryError::Locked`] if the lock is held, and if the lock file cannot
    /// be opened or written.
    pub fn into_locked(self) -> Result<Self, StateDirectoryError> {
        let lock = Lock::acquire(&self.files)?;
        Ok(Self { lock: Some(lock), ..self })
    }

    /// The path with which the directory was opened.
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// The files of the directory.
    pub fn files(&self) -> &OwnedDirectory {
        &self.files
    }

    /// Whether this process holds the lock.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The path of the control socket: in systemd's runtime directory, or else in the state
    /// directory.
    pub fn socket_path(&self) -> PathBuf {
        let variable = std::env::var_os("RUNTIME_DIRECTORY");
        // The variable is a list; the first directory is the one of this service.
        let directory = variable.and_then(|list| std::env::split_paths(&list).next());
        directory.unwrap_or_else(|| self.path().to_owned()).join(SOCKET_NAME)
    }

    /// Publishes in the lock file the socket on which the holder of the lock accepts commands.
    ///
    /// # Errors
    ///
    /// Fails if the lock file cannot be written. Does nothing for a directory that is open for
    /// reading only.
    pub fn announce(&self, socket: &Path) -> Result<(), FileError> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.announce(socket))
    }

    /// The process that holds the lock of the directory at this path; `None` if the lock is free,
    /// does not exist or cannot be used.
    pub fn holder(path: &Path) -> Option<Holder> {
        lock::holder(path)
    }

    /// Free bytes on the disk of the directory; `None` if they cannot be determined.
    pub fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(self.path()).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Whether the disk has more free space than the reserve for cursors.
    pub fn has_free_space(&self) -> bool {
        // A fault of the file system is reported by the write that follows.
        self.free_bytes().is_none_or(|free| free >= RESERVED_BYTES)
    }
}
