//! The lock that allows one process at a time to write to the files of a state directory.
//!
//! It is a kernel lock (`flock`) on an open file, which the kernel releases when the process ends,
//! even after a crash. The file contains the process ID of the holder and the path of its control
//! socket, and the version of the program.

use std::{
    fs::TryLockError,
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use fs_err::File;

use super::StateDirectoryError;
use crate::{
    files::{FileAccess, FileError, NewFileMode, OwnedDirectory},
    model::UnixMillis,
};

/// The name of the file in the state directory.
pub const LOCK_FILE: &str = "lock";
/// The maximum size of the file, which contains a number, a path and a version.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// A process that only looks up the holder locks the file briefly, so one failed attempt does not
/// mean that the checkpoint is in use. All attempts together take 0.3 seconds.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);
const LOCK_ATTEMPTS: u32 = 15;

/// The lock, held until the value is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// The process that holds the lock of a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process ID, as the holder wrote it into the file.
    pub pid: u32,
    /// The socket on which it accepts commands; `None` before it is listening.
    pub socket: Option<PathBuf>,
    /// The version of the program; `None` if it does not write one.
    pub version: Option<String>,
    /// When it started; `None` if that cannot be determined.
    pub since: Option<UnixMillis>,
}

impl Lock {
    /// Locks the file in this directory, and writes the process ID into it.
    ///
    /// Fails with [`StateDirectoryError::Locked`] if another process holds it.
    #[expect(
        clippy::disallowed_methods,
        reason = "no task is running yet that a blocking sleep could delay"
    )]
    pub(super) fn acquire(directory: &OwnedDirectory) -> Result<Self, StateDirectoryError> {
        let file = directory.open_file(LOCK_FILE, FileAccess::Create(NewFileMode::State))?;

        for _ in 0..LOCK_ATTEMPTS {
            match file.file().try_lock() {
                Ok(()) => {
                    let lock = Self { file };
                    lock.write(None)?;
                    return Ok(lock);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY_INTERVAL),
                Err(TryLockError::Error(error)) => {
                    return Err(FileError::io("lock", file.path())(error).into());
                }
            }
        }

        Err(StateDirectoryError::Locked(read(&file)))
    }

    /// Adds the path of the control socket to the file. Fails if the file cannot be written.
    pub(super) fn announce(&self, socket: &Path) -> Result<(), FileError> {
        self.write(Some(socket))
    }

    fn write(&self, socket: Option<&Path>) -> Result<(), FileError> {
        let socket = socket.map(|path| path.display().to_string()).unwrap_or_default();
        let text = format!("{}\n{socket}\n{}\n", std::process::id(), env!("CARGO_PKG_VERSION"));
        // The file is written before it is truncated, so a concurrent reader always finds a process
        // ID.
        let file = self.file.file();
        let written = file.write_all_at(text.as_bytes(), 0);
        let written = written.and_then(|()| file.set_len(text.len() as u64));
        written.map_err(FileError::io("write", self.file.path()))
    }
}

/// The process that holds the lock; `None` if it is free, does not exist or cannot be used.
pub(super) fn holder(directory: &Path) -> Option<Holder> {
    let file = OwnedDirectory::open(directory).ok()?.open_file(LOCK_FILE, FileAccess::Read).ok()?;
    match file.try_lock_shared() {
        Ok(()) => None,
        Err(_) => read(&file),
    }
}

fn read(file: &File) -> Option<Holder> {
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;

    let mut lines = text.lines();
    let pid = lines.next()?.parse().ok()?;
    let socket = lines.next().filter(|path| !path.is_empty()).map(PathBuf::from);
    let version = lines.next().filter(|version| !version.is_empty()).map(str::to_owned);

    // The holder writes the file only when it starts.
    let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let since = modified.and_then(|time| jiff::Timestamp::try_from(time).ok()).map(Into::into);
    Some(Holder { pid, socket, version, since })
}
