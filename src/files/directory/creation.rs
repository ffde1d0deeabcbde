//! Creates directories and files. What is new is private, except in a directory that a group of
//! this process shares, such as the volume of a container: there, the group can use it too, so that
//! another user of the group can continue. See decision 0060.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, fchmod, fstat, mkdirat, openat},
    io::Errno,
};

use super::{
    DirectoryContent, FILE_FLAGS, FileError, NewFileMode, OwnedDirectory, SET_GROUP_ID, Trust,
    permit_fixed_mode,
};
use crate::files::{
    STICKY, metadata,
    walk::{MissingDirectories, is_root, open_as_root},
};

const PRIVATE_FILE: u32 = 0o600;
const READABLE_FILE: u32 = 0o640;
const SHARED_FILE: u32 = 0o660;
const SHARED_DIRECTORY: u32 = 0o770;

impl OwnedDirectory {
    /// Creates a directory in this one with exactly this mode.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`], also if the name exists.
    pub fn create_directory(&self, name: &OsStr, mode: u32) -> Result<Self, FileError> {
        let created = self.make(name)?;
        created.change_mode(".", mode)?;
        Ok(created)
    }

    /// Creates a directory for the files that a command writes, and those above it that do not
    /// exist. Does nothing if it exists.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`] if one of them cannot be created, or is not a directory. For
    /// root, every directory and link on the path must belong to root.
    pub fn create_for_output(path: &Path) -> Result<(), FileError> {
        match Self::locate(path, DirectoryContent::Output) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path).map(drop),
            located => located.map(drop),
        }
    }

    /// Creates a directory, and those above it that do not exist.
    pub(super) fn create(path: &Path) -> Result<Self, FileError> {
        if is_root() {
            let created = open_as_root(path, MissingDirectories::Create)?;
            return Self::of(created.into(), path, DirectoryContent::State);
        }

        let Some(name) = path.file_name() else {
            return Err(FileError::io("create", path)(Errno::NOENT));
        };
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        let above = match Self::locate(above, DirectoryContent::State) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(above)?,
            located => located?,
        };

        match above.make(name) {
            Ok(created) => created.shared_like(&above),
            // Another process has created it since then.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::locate(path, DirectoryContent::State)
            }
            Err(error) => Err(error),
        }
    }

    /// Creates a file. Fails if it exists.
    pub(super) fn open_new(&self, name: &str, mode: NewFileMode) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE_FLAGS;
        let bits = match mode {
            NewFileMode::State | NewFileMode::Secret => PRIVATE_FILE,
            NewFileMode::Output => READABLE_FILE,
        };
        let created = openat(&self.descriptor, name, flags, Mode::from_raw_mode(bits))?;

        let group = self.trust.group.filter(|_| mode != NewFileMode::Secret);
        if group.is_some_and(|group| fstat(&created).is_ok_and(|found| found.st_gid == group)) {
            match fchmod(&created, Mode::from_raw_mode(SHARED_FILE)) {
                // The file system has fixed modes, so the umask had no effect either.
                Ok(()) | Err(Errno::PERM | Errno::NOTSUP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(created)
    }

    /// Creates a directory in this one that only this user can use.
    fn make(&self, name: &OsStr) -> Result<Self, FileError> {
        let path = self.path().join(name);
        mkdirat(&self.descriptor, name, Mode::RWXU).map_err(FileError::io("create", &path))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.descriptor, name, flags, Mode::empty());
        let opened = opened.map_err(FileError::io("open", &path))?;
        Self::of(opened, &path, self.trust.content)
    }

    /// Lets the group that shares the directory above use this new one too. A sticky directory such
    /// as `/tmp` is meant for users who share nothing.
    fn shared_like(mut self, above: &Self) -> Result<Self, FileError> {
        let (new, outer) = (metadata(&self.descriptor)?, metadata(&above.descriptor)?);
        let is_shared = above.trust.group == Some(new.gid()) && outer.mode() & STICKY == 0;
        if is_shared && new.uid() == self.trust.user {
            let mode = SHARED_DIRECTORY | (outer.mode() & SET_GROUP_ID);
            permit_fixed_mode(self.change_mode(".", mode))?;
            self.trust = Trust::in_directory(&metadata(&self.descriptor)?, self.trust.content);
        }
        Ok(self)
    }
}
