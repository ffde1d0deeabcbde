//! Reads files with secrets. They are files of the administrator, so links are followed; but a file
//! that all users can change could contain the secret of another user, so it is rejected. See
//! decision 0067.

use std::{os::unix::fs::MetadataExt, path::Path};

use fs_err::File;

use super::{FileError, metadata, open_regular, opened_by_root, read_all};

/// The permission of a mode that lets users change the file who are neither its owner nor in its
/// group.
const OTHERS_WRITE: u32 = 0o002;

/// Like [`super::read_limited`], for a file with a secret or a private key.
///
/// # Errors
///
/// Fails in the same cases, and with [`FileError::WritableByOthers`] if all users can change the
/// file.
pub fn read_secret(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    match opened_by_root(path) {
        Some(file) => read_checked(file, limit),
        None => read_checked(&open_regular(path)?, limit),
    }
}

fn read_checked(file: &File, limit: u64) -> Result<Vec<u8>, FileError> {
    if metadata(file)?.mode() & OTHERS_WRITE != 0 {
        return Err(FileError::WritableByOthers(file.path().to_owned()));
    }
    read_all(file, limit)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{CWD, Mode, mkfifoat};

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
}
