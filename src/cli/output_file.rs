//! Writes the files that the caller of a command names, such as a report.
//!
//! A file is replaced as a whole, through a new one in the same directory, so that no reader gets a
//! part of it. A link, a FIFO or a device in its place is neither followed nor replaced. In a
//! directory of another user, root acts as that user. Start reading at [`replace`]. See decision
//! 0060.

use std::{
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use fs_err::File;

use super::{CommandFailure, ExitCode, service_user::ServiceUser};
use crate::files::{FileAccess, FileError, FromStart, NewFileMode, OwnedDirectory};

/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o777;

/// Writes a file, or replaces an existing one, which keeps its permissions.
///
/// # Errors
///
/// Fails with the variant of [`FileError`] that states why the file in this place is not replaced,
/// or why the new one cannot be written; the previous file is then kept.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let (directory, name) = parts(path)?;
    as_owner(directory, || replace_in(&OwnedDirectory::open_for_output(directory)?, name, text))
}

/// Creates a file that only its owner can read.
///
/// # Errors
///
/// Fails if the file exists, or if it cannot be written.
pub(super) fn create(path: &Path, text: &str) -> Result<(), FileError> {
    let (directory, name) = parts(path)?;
    as_owner(directory, || {
        let directory = OwnedDirectory::open_for_output(directory)?;
        write_new(&directory, name, text)?;
        directory.sync()
    })
}

/// Creates a file that only its owner can read, with the content of an open file. Returns its size
/// in bytes.
///
/// # Errors
///
/// Fails if the file exists, or if it cannot be written.
pub(super) fn copy_new(from: &File, to: &Path) -> Result<u64, FileError> {
    let (directory, name) = parts(to)?;
    let mut bytes = 0;
    as_owner(directory, || {
        let directory = OwnedDirectory::open_for_output(directory)?;
        let file = directory.open_file(name, FileAccess::CreateNew(NewFileMode::Secret))?;
        let copied = io::copy(&mut FromStart::of(from), &mut file.file());
        let copied = copied.and_then(|bytes| file.file().sync_all().map(|()| bytes));
        if copied.is_err() {
            let _ = directory.remove_if_exists(name);
        }
        bytes = copied.map_err(FileError::io("write", to))?;
        // A new file survives a power failure only after its directory has been synced too.
        directory.sync()
    })?;
    Ok(bytes)
}

/// Creates a directory and the missing ones above it.
///
/// # Errors
///
/// Fails if one of them cannot be created.
pub(super) fn create_directory(path: &Path) -> Result<(), FileError> {
    as_owner(path, || OwnedDirectory::create_for_output(path))
}

/// The failure of a command that cannot write its file.
pub(super) fn not_written(error: &FileError) -> CommandFailure {
    CommandFailure::from_error(ExitCode::Incomplete, error)
}

/// Runs work as the owner of a directory, or of the one in which it would be created, if this
/// process is root and the owner is not.
fn as_owner(
    directory: &Path,
    work: impl FnOnce() -> Result<(), FileError> + Send,
) -> Result<(), FileError> {
    match ServiceUser::owner_of(directory)? {
        Some(owner) => owner.run(work).map_err(FileError::io("write to", directory))?,
        None => work(),
    }
}

/// The directory and the name of a file.
fn parts(path: &Path) -> Result<(&Path, &str), FileError> {
    let name = path.file_name().ok_or_else(|| FileError::NotRegular(path.to_owned()))?;
    let invalid = || FileError::io("write", path)(io::ErrorKind::InvalidFilename);
    let name = name.to_str().ok_or_else(invalid)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    Ok((directory.unwrap_or(Path::new(".")), name))
}

fn replace_in(directory: &OwnedDirectory, name: &str, text: &str) -> Result<(), FileError> {
    let existing = match directory.inspect(name) {
        // Its other names keep the previous content.
        Err(FileError::HardLinks(..)) => None,
        existing => existing?,
    };
    let mode = existing.map(|found| Permissions::from_mode(found.mode() & PERMISSIONS));
    // In a directory of all users, another user could occupy a name that is known before.
    let new = format!(".secure-score-forwarder-{}.part", uuid::Uuid::new_v4().simple());
    directory.replace_through(&new, name, text.as_bytes(), NewFileMode::Secret, mode)
}

/// Creates a file that only its owner can read. Removes it again if it cannot be written.
fn write_new(directory: &OwnedDirectory, name: &str, text: &str) -> Result<(), FileError> {
    let file = directory.open_file(name, FileAccess::CreateNew(NewFileMode::Secret))?;
    let written = file.file().write_all(text.as_bytes()).and_then(|()| file.file().sync_all());
    if written.is_err() {
        let _ = directory.remove_if_exists(name);
    }
    written.map_err(FileError::io("write", file.path()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    /// Regression: a report was written through a symbolic link, and a FIFO blocked the command.
    #[test]
    fn only_regular_files_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::write(at("target"), "unchanged").unwrap();
        symlink(at("target"), at("link")).unwrap();
        mkfifoat(CWD, at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();

        assert!(matches!(replace(&at("link"), "new"), Err(FileError::SymbolicLink(_))));
        assert!(matches!(create(&at("link"), "new"), Err(FileError::Io { .. })));
        assert!(matches!(replace(&at("fifo"), "new"), Err(FileError::NotRegular(_))));
        assert!(matches!(replace(directory.path(), "new"), Err(FileError::Io { .. })));
        assert!(matches!(replace(Path::new(".."), "new"), Err(FileError::NotRegular(_))));
        assert_eq!(fs_err::read_to_string(at("target")).unwrap(), "unchanged");
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 3);
    }

    /// Regression: a reader could get a part of a report, and a replaced report of a directory lost
    /// its permissions.
    #[test]
    fn a_replaced_file_keeps_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.html");
        let mode = || fs_err::metadata(&path).unwrap().mode() & PERMISSIONS;
        replace(&path, "first").unwrap();
        assert_eq!(mode() & 0o007, 0);
        fs_err::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let copy = directory.path().join("copy");
        fs_err::hard_link(&path, &copy).unwrap();
        replace(&path, "second").unwrap();
        assert_eq!(fs_err::read_to_string(&copy).unwrap(), "first");
        fs_err::remove_file(copy).unwrap();

        fs_err::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        replace(&path, "third").unwrap();
        assert_eq!((fs_err::read_to_string(&path).unwrap().as_str(), mode()), ("third", 0o604));
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// Regression: a directory or a file of another user with the name of the new file, which could
    /// be foreseen, prevented all later reports.
    #[test]
    fn temporary_names_cannot_be_occupied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.html");
        fs_err::create_dir(directory.path().join(".report.html.part")).unwrap();
        for text in ["first", "second"] {
            replace(&path, text).unwrap();
            assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 2);
    }

    /// Regression: directories were created by path, with the mode of the umask.
    #[test]
    fn new_directories_are_private() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b");
        for _ in 0..2 {
            create_directory(&deep).unwrap();
        }
        assert_eq!(fs_err::metadata(&deep).unwrap().mode() & PERMISSIONS, 0o700);
        fs_err::write(deep.join("file"), "unchanged").unwrap();
        assert!(create_directory(&deep.join("file")).is_err());
        assert!(create_directory(&deep.join("file/below")).is_err());
    }

    #[test]
    fn new_files_are_private_and_never_overwrite() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/secret");
        create_directory(path.parent().unwrap()).unwrap();
        create(&path, "s3cret").unwrap();
        assert_eq!(fs_err::metadata(&path).unwrap().mode() & PERMISSIONS, 0o600);
        assert!(create(&path, "other").is_err());
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "s3cret");
    }
}
