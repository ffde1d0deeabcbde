//! The paths of Unix sockets, which must be shorter than those of files: the kernel stores them in
//! 108 bytes with a zero byte at the end (unix(7)).
//!
//! A socket whose directory has a long path is reached through the descriptor of the directory. A
//! socket for other programs must have a short path, because they cannot do that. Start reading at
//! [`SocketPath::of`] and [`require_socket_path`].

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::FileError;
use crate::error::Explanation;

/// The maximum length of a path in bytes.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A path with which a socket can be bound or connected to. Valid as long as this value exists.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// The directory of the socket, if its path is too long.
    _directory: Option<OwnedFd>,
}

impl SocketPath {
    /// The path itself, or one through a descriptor of its directory if it is too long.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be opened.
    pub fn of(path: &Path) -> io::Result<Self> {
        let parts = path.parent().zip(path.file_name());
        match parts.filter(|_| !is_short(path.as_os_str())) {
            None => Ok(Self { path: path.to_owned(), _directory: None }),
            Some((parent, name)) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = openat(CWD, parent, flags, Mode::empty());
                let directory = opened.map_err(FileError::io("open", parent))?;
                let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
                Ok(Self { path: Path::new(&link).join(name), _directory: Some(directory) })
            }
        }
    }

    /// The path for the call to the kernel, not for messages.
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

/// Checks the path of a socket that other programs open.
///
/// # Errors
///
/// Fails with the reason, as a predicate, if the path is too long.
pub fn require_socket_path(path: &Path) -> Result<(), Explanation> {
    if is_short(path.as_os_str()) {
        return Ok(());
    }
    let reason = format!(
        "has {} bytes, more than the {MAX_SOCKET_PATH_BYTES} bytes that the path of a socket can have",
        path.as_os_str().len()
    );
    Err(Explanation::new(reason).with_hint("set a shorter path"))
}

fn is_short(path: &OsStr) -> bool {
    path.len() <= MAX_SOCKET_PATH_BYTES
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// Regression: the daemon could not start in a state directory with a long path, which `check`
    /// had accepted.
    #[test]
    fn sockets_work_in_directories_with_long_paths() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a".repeat(100)).join("b".repeat(100));
        fs_err::create_dir_all(&deep).unwrap();
        for path in [directory.path().join("short.sock"), deep.join("control.sock")] {
            let address = SocketPath::of(&path).unwrap();
            let listener = UnixListener::bind(address.as_path()).unwrap();
            assert!(path.exists(), "{}", path.display());
            UnixStream::connect(SocketPath::of(&path).unwrap().as_path()).unwrap();
            listener.accept().unwrap();
        }
        assert!(SocketPath::of(&deep.join("missing/control.sock")).is_err());
    }

    #[test]
    fn only_short_paths_are_for_other_programs() {
        for (bytes, is_valid) in [(20, true), (107, true), (108, false), (300, false)] {
            let path = format!("/{}", "x".repeat(bytes - 1));
            let checked = require_socket_path(Path::new(&path));
            assert_eq!(checked.is_ok(), is_valid, "{bytes}");
            if let Err(fault) = checked {
                assert!(fault.message.starts_with(&format!("has {bytes} bytes")), "{fault:?}");
            }
        }
    }
}
