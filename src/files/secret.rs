//! Reads files with secrets. They are files of the administrator, so links are followed; but a file
//! that all users can change, or that another user could have put in its place, could contain the
//! secret of that user, so it is rejected. See decision 0067.

use std::{os::unix::fs::MetadataExt, path::Path};

use fs_err::File;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstatvfs, openat, openat2},
    process::geteuid,
};

use super::{
    FileError, STICKY, metadata, opened_by_root, read_all, require_regular,
    walk::open_protected_parent,
};

/// The permission of a mode that lets users change the file who are neither its owner nor in its
/// group.
const OTHERS_WRITE: u32 = 0o002;

/// Like [`super::read_limited`], for a file with a secret or a private key.
///
/// # Errors
///
/// Fails in the same cases, and with [`FileError::WritableByOthers`] if all users can change the
/// file. Also fails with it if they can replace the file because of the permissions of its
/// directory, unless the file is one that they cannot have put there.
pub fn read_secret(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    if let Some(file) = opened_by_root(path) {
        // Root has opened the file because this user may be unable to enter its directory.
        return match require_protected_name(path) {
            Err(error @ FileError::WritableByOthers(_)) => Err(error),
            _ => read_checked(file, limit),
        };
    }

    let opened = match open_in_directory(path) {
        // Kubernetes has exchanged the directory in the meantime.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => open_in_directory(path),
        opened => opened,
    };
    let file = match opened {
        Err(error @ FileError::WritableByOthers(_)) => open_authentic(path).ok_or(error)?,
        opened => opened?,
    };
    read_checked(&file, limit)
}

/// Fails if all users can replace a file: if they can write to a directory that leads to it, before
/// or after links are followed. A sticky directory is permitted, because users can replace only
/// their own files there.
///
/// # Errors
///
/// Fails with [`FileError::WritableByOthers`] for the directory, and with [`FileError::Io`] if it
/// cannot be examined.
pub fn require_protected_name(path: &Path) -> Result<(), FileError> {
    open_protected_parent(path).map(drop)
}

/// Fails if all users can change the content of a file, or create files in a directory.
///
/// # Errors
///
/// Fails with [`FileError::WritableByOthers`], and with [`FileError::Io`] if it cannot be examined.
pub fn require_protected(path: &Path) -> Result<(), FileError> {
    let file = open_path(path, OFlags::empty())?;
    let is_writable = metadata(&file)?.mode() & OTHERS_WRITE != 0 && !is_read_only(&file);
    if is_writable { Err(FileError::WritableByOthers(path.to_owned())) } else { Ok(()) }
}

fn read_checked(file: &File, limit: u64) -> Result<Vec<u8>, FileError> {
    if metadata(file)?.mode() & OTHERS_WRITE != 0 {
        return Err(FileError::WritableByOthers(file.path().to_owned()));
    }
    read_all(file, limit)
}

/// Opens a file relative to the descriptor of its directory, so that the file is in the directory
/// whose permissions were examined.
fn open_in_directory(path: &Path) -> Result<File, FileError> {
    let (directory, name) = open_protected_parent(path)?;
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = openat(&directory, name, flags, Mode::empty());
    let file = File::from_parts(opened.map_err(FileError::io("open", path))?.into(), path);
    require_regular(&metadata(&file)?, path)?;
    Ok(file)
}

/// Opens a file that no other user can have put in its place: it belongs to root or to the user of
/// this process, has one name, and no link leads to it. `None` for any other file. The volume of a
/// container can be a directory whose mode cannot be changed.
fn open_authentic(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).ok()?;
    let file = File::from_parts(opened.into(), path);
    let found = metadata(&file).ok()?;
    let is_trusted = found.uid() == 0 || found.uid() == geteuid().as_raw();
    (found.is_file() && found.nlink() == 1 && is_trusted).then_some(file)
}

/// Whether all users can replace the files of an open directory.
pub(super) fn is_replaceable(directory: &File) -> Result<bool, FileError> {
    let is_open = metadata(directory)?.mode() & (OTHERS_WRITE | STICKY) == OTHERS_WRITE;
    Ok(is_open && !is_read_only(directory))
}

/// Opens anything only as a path, which requires no permission for it and waits for nothing.
fn open_path(path: &Path, additional: OFlags) -> Result<File, FileError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | additional;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(FileError::io("open", path))?;
    Ok(File::from_parts(opened.into(), path))
}

/// Whether the file system is mounted read-only, as Kubernetes mounts a `ConfigMap`, whose
/// directory has mode 0777.
fn is_read_only(file: &File) -> bool {
    fstatvfs(file).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::mkfifoat;

    use super::*;

    /// Regression: a secret that every user could change was used, a FIFO blocked the process, and
    /// a file without an end was read into memory.
    #[test]
    fn only_safe_files_are_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (name, mode) in [("private", 0o600), ("group", 0o440), ("public", 0o644)] {
            fs_err::write(at(name), "s3cret").unwrap();
            fs_err::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&at(name), 6).unwrap(), b"s3cret", "{name}");
            assert!(matches!(read_secret(&at(name), 5), Err(FileError::TooLarge(..))), "{name}");
        }

        // Kubernetes mounts secrets as links into a directory that it replaces as a whole.
        fs_err::create_dir(at("..2026")).unwrap();
        fs_err::write(at("..2026/token"), "mounted").unwrap();
        symlink("..2026", at("..data")).unwrap();
        symlink("..data/token", at("token")).unwrap();
        assert_eq!(read_secret(&at("token"), 64).unwrap(), b"mounted");

        fs_err::set_permissions(at("private"), std::fs::Permissions::from_mode(0o602)).unwrap();
        let changed = read_secret(&at("private"), 64);
        assert!(matches!(changed, Err(FileError::WritableByOthers(_))));

        mkfifoat(CWD, at("fifo"), Mode::RUSR).unwrap();
        assert!(matches!(read_secret(&at("fifo"), 64), Err(FileError::NotRegular(_))));
        assert!(matches!(read_secret(Path::new("/dev/zero"), 64), Err(FileError::NotRegular(_))));
        assert!(matches!(read_secret(directory.path(), 64), Err(FileError::Io { .. })));
    }

    /// Regression: a link of every user was followed in a directory to which all users can write.
    #[test]
    fn replaceable_links_lead_to_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::create_dir(at("open")).unwrap();
        fs_err::create_dir(at("closed")).unwrap();
        fs_err::write(at("open/secret"), "s3cret").unwrap();
        fs_err::write(at("closed/secret"), "s3cret").unwrap();
        symlink("open/secret", at("link-into-open")).unwrap();
        symlink("../closed/secret", at("open/link")).unwrap();

        fs_err::hard_link(at("closed/secret"), at("open/hard")).unwrap();

        let names = ["link-into-open", "open/link", "open/hard"];
        for (mode, is_used) in
            [(0o700, true), (0o775, true), (0o777, false), (0o703, false), (0o1777, true)]
        {
            fs_err::set_permissions(at("open"), std::fs::Permissions::from_mode(mode)).unwrap();
            for name in names {
                let read = read_secret(&at(name), 64);
                assert_eq!(read.is_ok(), is_used, "{name} {mode:o}: {read:?}");
                assert_eq!(require_protected_name(&at(name)).is_ok(), is_used, "{name} {mode:o}");
                if let Err(error) = read {
                    let is_named = matches!(&error, FileError::WritableByOthers(path)
                        if path.file_name() == at("open").file_name());
                    assert!(is_named, "{name} {mode:o}: {error}");
                }
            }
            let is_closed = mode & OTHERS_WRITE == 0;
            assert_eq!(require_protected(&at("open")).is_ok(), is_closed, "{mode:o}");
        }
        assert_eq!(read_secret(&at("closed/secret"), 64).unwrap(), b"s3cret");
        assert!(require_protected_name(&at("missing")).is_err());
    }

    /// Regression: in the volume of a container whose mode cannot be changed, the secrets of root
    /// were rejected.
    #[test]
    fn own_files_are_secrets_in_every_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs_err::write(&path, "s3cret").unwrap();
        for mode in [0o777, 0o703, 0o1777] {
            let permissions = std::fs::Permissions::from_mode(mode);
            fs_err::set_permissions(directory.path(), permissions).unwrap();
            assert_eq!(read_secret(&path, 64).unwrap(), b"s3cret", "{mode:o}");
        }

        // A file that another user has put there belongs to that user.
        fs_err::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let planted = read_secret(&path, 64);
            assert!(matches!(planted, Err(FileError::WritableByOthers(_))), "{planted:?}");
        }
    }

    /// Regression: only the directory of the name and that of the file were examined, so users
    /// could replace a parent directory, or a link between the two.
    #[test]
    fn everything_that_leads_to_a_secret_is_protected() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::create_dir_all(at("open/secrets")).unwrap();
        fs_err::create_dir(at("closed")).unwrap();
        fs_err::write(at("open/secrets/a"), "s3cret").unwrap();
        fs_err::write(at("closed/b"), "s3cret").unwrap();
        symlink("../closed", at("open/link")).unwrap();
        symlink("open/link/b", at("c")).unwrap();
        symlink(at("c"), at("closed/d")).unwrap();

        for (mode, is_used) in [(0o755, true), (0o777, false), (0o1777, true)] {
            fs_err::set_permissions(at("open"), std::fs::Permissions::from_mode(mode)).unwrap();
            for name in ["open/secrets/a", "open/secrets/../secrets/a", "c", "closed/d"] {
                let has_link = !name.starts_with("open");
                let read = read_secret(&at(name), 64);
                assert_eq!(read.is_ok(), is_used || !has_link, "{name} {mode:o}: {read:?}");
                assert_eq!(require_protected_name(&at(name)).is_ok(), is_used, "{name} {mode:o}");
            }
            assert_eq!(read_secret(&at("closed/b"), 64).unwrap(), b"s3cret");
        }
        symlink("loop", at("loop")).unwrap();
        assert!(read_secret(&at("loop"), 64).is_err());
    }
}
