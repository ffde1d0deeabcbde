//! Binds Unix sockets.
//!
//! The mode of a new socket depends on the umask, which all threads share, and a later change of
//! the mode by path could be redirected. So a socket is bound in a new directory that no other user
//! can enter, and is moved to its place when it is complete. Start reading at
//! [`OwnedDirectory::open_for_socket`]. See decision 0060.

use std::{
    ffi::OsStr,
    io,
    os::{fd::AsRawFd, unix::net::UnixListener},
    path::Path,
};

use rustix::{
    fs::{AtFlags, RenameFlags, renameat, renameat_with, unlinkat},
    io::Errno,
};

use super::{FileError, OwnedDirectory};
use crate::files::require_protected_name;

/// The name of a socket in its temporary directory, which is short because the path of a socket is.
const NEW_SOCKET: &str = "s";
const PRIVATE_DIRECTORY: u32 = 0o700;

impl OwnedDirectory {
    /// Opens the directory of a socket, and returns it with the name of the socket in it. A socket
    /// in a directory with state needs only [`Self::open`].
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::WritableByOthers`] if all users can replace the socket: if they can
    /// write to its directory, or to one that leads to it, and the directory is not sticky. Fails
    /// with [`FileError::Io`] if the directory does not exist. For root, every directory and link
    /// on the path must belong to root.
    pub fn open_for_socket(path: &Path) -> Result<(Self, &str), FileError> {
        if let Err(error @ FileError::WritableByOthers(_)) = require_protected_name(path) {
            return Err(error);
        }
        let Some(name) = path.file_name().and_then(OsStr::to_str) else {
            return Err(FileError::io("bind", path)(io::ErrorKind::InvalidFilename));
        };
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        Ok((Self::open_for_output(directory.unwrap_or(Path::new(".")))?, name))
    }

    /// Creates a socket in this directory with exactly this mode, and listens on it, without
    /// blocking. Nothing is replaced.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`], with the kind `AddrInUse` if the name exists.
    pub fn bind_socket(&self, name: &str, mode: u32) -> Result<UnixListener, FileError> {
        let temporary = format!(".{}.socket", uuid::Uuid::new_v4().simple());
        let private = self.create_directory(OsStr::new(&temporary), PRIVATE_DIRECTORY)?;

        let bound = private.bind_new(mode).and_then(|listener| {
            private.move_socket(self, name)?;
            Ok(listener)
        });
        if bound.is_err() {
            let _ = private.remove_if_exists(NEW_SOCKET);
        }
        let removed = unlinkat(&self.descriptor, temporary.as_str(), AtFlags::REMOVEDIR);
        let listener = bound?;
        removed.map_err(FileError::io("remove", private.path()))?;
        Ok(listener)
    }

    /// Binds a socket in this directory, which no other user can enter.
    fn bind_new(&self, mode: u32) -> Result<UnixListener, FileError> {
        let link = format!("/proc/self/fd/{}/{NEW_SOCKET}", self.descriptor.as_raw_fd());
        let listener = UnixListener::bind(link);
        let listener = listener.map_err(FileError::io("bind", &self.path_of(NEW_SOCKET)))?;
        let nonblocking = listener.set_nonblocking(true);
        nonblocking.map_err(FileError::io("bind", &self.path_of(NEW_SOCKET)))?;
        self.change_mode(NEW_SOCKET, mode)?;
        Ok(listener)
    }

    /// Moves the new socket to its place. Fails if the name exists.
    fn move_socket(&self, place: &Self, name: &str) -> Result<(), FileError> {
        let (path, from, to) = (place.path_of(name), &self.descriptor, &place.descriptor);
        let moved = match renameat_with(from, NEW_SOCKET, to, name, RenameFlags::NOREPLACE) {
            // The file system does not support the flag.
            Err(Errno::INVAL | Errno::NOSYS) if matches!(place.inspect(name), Ok(None)) => {
                renameat(from, NEW_SOCKET, to, name)
            }
            moved => moved,
        };
        moved.map_err(|error| match error {
            Errno::EXIST | Errno::INVAL => FileError::io("bind", &path)(Errno::ADDRINUSE),
            error => FileError::io("bind", &path)(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
        net::UnixStream,
    };

    use super::*;

    #[test]
    fn sockets_appear_with_their_mode() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let long = "x".repeat(200);
        let cases = [("control.sock", 0o600), ("admin.sock", 0o660), (long.as_str(), 0o600)];
        for (name, mode) in cases {
            let path = at(name);
            let (opened, found) = OwnedDirectory::open_for_socket(&path).unwrap();
            assert_eq!(found, name);
            let listener = opened.bind_socket(name, mode).unwrap();
            let properties = fs_err::symlink_metadata(&path).unwrap();
            assert!(properties.file_type().is_socket());
            assert_eq!(properties.mode() & 0o777, mode, "{name}");

            assert!(listener.accept().is_err(), "no connection is waited for");
            if name.len() < 20 {
                UnixStream::connect(&path).unwrap();
                listener.accept().unwrap();
            }
            let error = opened.bind_socket(name, mode).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{name}");
        }
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 3);
    }

    /// Regression: the mode of a socket was changed by path, in a directory in which another user
    /// could exchange it for a link.
    #[test]
    fn sockets_need_a_protected_directory() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::create_dir_all(at("shared/below")).unwrap();
        fs_err::write(at("canary"), "unchanged").unwrap();
        symlink("shared", at("link")).unwrap();
        symlink(at("canary"), at("shared/planted")).unwrap();

        for (mode, is_used) in [(0o755, true), (0o775, true), (0o777, false), (0o1777, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            fs_err::set_permissions(at("shared"), permissions).unwrap();
            for name in ["shared/a.sock", "shared/below/a.sock", "link/a.sock"] {
                let path = at(name);
                let opened = OwnedDirectory::open_for_socket(&path);
                assert_eq!(opened.is_ok(), is_used, "{name} {mode:o}");
                if let Err(error) = opened {
                    assert!(matches!(error, FileError::WritableByOthers(_)), "{name}: {error}");
                }
            }
        }

        let opened = OwnedDirectory::open_for_output(&at("shared")).unwrap();
        let error = opened.bind_socket("planted", 0o660).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs_err::read_to_string(at("canary")).unwrap(), "unchanged");
    }
}
