//! One holder at a time: a kernel lock on an open file, which no crash can leave behind.

use std::{
    fs::{File, TryLockError},
    io::Read,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::CheckpointError;

const FILE: &str = "lock";
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);
const LOCK_ATTEMPTS: u32 = 15;

/// Held for as long as the value lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// The process that holds a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// Where it listens for commands, once it does.
    pub socket: Option<PathBuf>,
}

impl Lock {
    #[expect(clippy::disallowed_methods, reason = "nothing runs yet that could be held up")]
    pub(super) fn take(directory: &Path) -> Result<Self, CheckpointError> {
        let file = open(directory)?;
        // Who only asks whose it is has it for a moment, too.
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => {
                    let lock = Self { file };
                    lock.write(None)?;
                    return Ok(lock);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY_INTERVAL),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Err(CheckpointError::Locked(read(&file)))
    }

    pub(super) fn announce(&self, socket: &Path) -> Result<(), CheckpointError> {
        Ok(self.write(Some(socket))?)
    }

    fn write(&self, socket: Option<&Path>) -> std::io::Result<()> {
        let socket = socket.map(|path| path.display().to_string()).unwrap_or_default();
        let text = format!("{}\n{socket}\n", std::process::id());
        // In one go, and the rest cut off after: who reads meanwhile finds a process.
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

/// Reads who holds the lock; `None` if nobody does.
pub(super) fn holder(directory: &Path) -> Option<Holder> {
    let file = File::open(directory.join(FILE)).ok()?;
    match file.try_lock_shared() {
        Ok(()) => None,
        Err(_) => read(&file),
    }
}

fn open(directory: &Path) -> std::io::Result<File> {
    let path = directory.join(FILE);
    let mut options = std::fs::OpenOptions::new();
    let opened =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    opened.map_err(|error| {
        std::io::Error::new(error.kind(), format!("cannot open `{}`: {error}", path.display()))
    })
}

fn read(mut file: &File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.parse().ok()?;
    let socket = lines.next().filter(|path| !path.is_empty()).map(PathBuf::from);
    Some(Holder { pid, socket })
}
