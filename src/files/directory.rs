//! A directory whose files are opened relative to its descriptor, so that each path is resolved
//! only once.
//!
//! A file is opened only if it is a regular file with one name, and if its owner is trusted: the
//! user of this process, root, or another member of a group that shares the directory. Nothing here
//! follows a link, waits for a FIFO, or changes the owner of a file. Start reading at
//! [`OwnedDirectory::open_file`].

mod creation;
mod socket;

use std::{
    fs::Metadata,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use fs_err::File;
use rustix::{
    fs::{
        Access, AtFlags, CWD, Dir, Mode, OFlags, accessat, chmodat, chownat, fcntl_getfl,
        fcntl_setfl, fsync, openat, renameat, unlinkat,
    },
    io::Errno,
    process::{Gid, Uid, getegid, geteuid, getgroups},
};

use super::{
    FileError, STICKY, metadata, read_all, require_fixed_for_root, require_regular,
    walk::{MissingDirectories, is_root, open_as_root},
};

/// The flags with which every file is opened: a link is an error, and neither a FIFO nor a terminal
/// makes the process wait.
const FILE_FLAGS: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// The permission bits of a mode, with those for set-group-ID and deletion.
const ALL_BITS: u32 = 0o7777;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const SET_GROUP_ID: u32 = 0o2000;

/// How a file is opened, and what happens if it does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// For reading.
    Read,
    /// For reading and writing.
    ReadWrite,
    /// For reading and writing. The file is created if it does not exist, and never truncated.
    Create(NewFileMode),
    /// For reading and writing. Fails if the file exists.
    CreateNew(NewFileMode),
}

/// The permissions of a new file, which the umask of the process can reduce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewFileMode {
    /// Its owner can use the file and, regardless of the umask, the group that shares its
    /// directory.
    State,
    /// Only its owner can use the file.
    Secret,
    /// Its owner can use the file, and its group can read it. The group that shares its directory
    /// can use it regardless of the umask, so that another user of the group can continue.
    Output,
}

/// An open directory.
#[derive(Debug)]
pub struct OwnedDirectory {
    /// Opened as a path, which does not require the permission to list the directory. Contains the
    /// path as it is configured, for messages.
    descriptor: File,
    trust: Trust,
}

/// Which files of a directory are used. See decision 0088.
#[derive(Clone, Copy, Debug)]
struct Trust {
    /// The effective user of this process.
    user: u32,
    /// The group that shares the directory, and new names in it. `None` if only the owner can write
    /// to it, and for root, who trusts no group.
    group: Option<u32>,
    evidence: GroupEvidence,
    content: DirectoryContent,
}

/// What the group of a file shows about its owner, if that is the group that shares its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupEvidence {
    /// The owner is a member of the group. No other user can put a file into the directory; or all
    /// users can, but can also replace every file in it, so nothing would be gained by distrusting
    /// the group, which they cannot give to a file there.
    Membership,
    /// Nothing, because all users can put files into the directory, and its set-group-ID bit gives
    /// the group to them; or its sticky bit keeps users from replacing the files of others, which
    /// must not be possible with a file that was moved there from a directory with the first bit.
    Nothing,
}

/// What is stored in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DirectoryContent {
    /// Nothing that all users can change is used.
    State,
    /// The operator decides who can change it.
    Output,
}

impl OwnedDirectory {
    /// Opens a directory with state.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::ForeignOwner`] if the directory belongs to another user, and is not
    /// one that a group of this process shares; with [`FileError::WritableByOthers`] if all users
    /// can write to it; and with [`FileError::Io`] if it does not exist. For root, every directory
    /// and link on the path must belong to root, and no other user may be able to replace it by
    /// renaming; for any other user, see [`super::replaceable_part`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        require_fixed_for_root(path)?;
        Self::locate(path, DirectoryContent::State)?.checked()
    }

    /// Like [`Self::open`], but creates a directory that does not exist: for this user and, in a
    /// directory that a group of this process shares, for that group. An existing one keeps its
    /// mode.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Self::open`], and if the directory cannot be created.
    pub fn prepare(path: &Path) -> Result<Self, FileError> {
        require_fixed_for_root(path)?;
        let directory = match Self::locate(path, DirectoryContent::State) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path)?,
            located => located?,
        };
        directory.checked()
    }

    /// Opens a directory with files that other programs read, such as the file of a sink. Other
    /// users may own it or write to it; if all users can, its other permissions decide whether its
    /// group shows which files are trusted.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`] if it does not exist. For root, every directory and link on the
    /// path must belong to root.
    pub fn open_for_output(path: &Path) -> Result<Self, FileError> {
        Self::locate(path, DirectoryContent::Output)
    }

    /// The path with which the directory was opened.
    pub fn path(&self) -> &Path {
        self.descriptor.path()
    }

    /// The path of a file in the directory, for messages.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Opens a file of this directory.
    ///
    /// # Errors
    ///
    /// Fails with the variant of [`FileError`] that states why the file is not used.
    pub fn open_file(&self, name: &str, access: FileAccess) -> Result<File, FileError> {
        let path = self.path_of(name);
        let opened = match access {
            FileAccess::Read => self.open_existing(name, OFlags::RDONLY),
            FileAccess::ReadWrite => self.open_existing(name, OFlags::RDWR),
            FileAccess::CreateNew(mode) => self.open_new(name, mode),
            FileAccess::Create(mode) => match self.open_existing(name, OFlags::RDWR) {
                Err(Errno::NOENT) => match self.open_new(name, mode) {
                    // Another process has created it since then.
                    Err(Errno::EXIST) => self.open_existing(name, OFlags::RDWR),
                    created => created,
                },
                opened => opened,
            },
        };
        let opened = opened.map_err(|error| match error {
            Errno::LOOP => FileError::SymbolicLink(path.clone()),
            // A socket, or a device without a driver.
            Errno::NXIO => FileError::NotRegular(path.clone()),
            error => FileError::io("open", &path)(error),
        })?;

        let file = File::from_parts(opened.into(), path);
        self.check(&metadata(&file)?, file.path())?;
        let flags = fcntl_getfl(&file);
        let cleared = flags.and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK));
        cleared.map_err(FileError::io("open", file.path()))?;
        Ok(file)
    }

    /// The metadata of a file that [`Self::open_file`] accepts, without opening it; `None` if it
    /// does not exist. Unlike closing an open file, this releases no lock of SQLite on the file.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Self::open_file`].
    pub fn inspect(&self, name: &str) -> Result<Option<Metadata>, FileError> {
        let path = self.path_of(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(&self.descriptor, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(FileError::io("open", &path))?,
        };

        let file = File::from_parts(opened.into(), path);
        let found = metadata(&file)?;
        self.check(&found, file.path())?;
        Ok(Some(found))
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Self::open_file`], and with [`FileError::TooLarge`].
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        read_all(&self.open_file(name, FileAccess::Read)?, limit)
    }

    /// Renames a file within the directory. A file with the new name is replaced.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        let renamed = renameat(&self.descriptor, from, &self.descriptor, to);
        renamed.map_err(FileError::io("rename", &self.path_of(from)))
    }

    /// Removes a file, or a link itself.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`], also if the file does not exist.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        let removed = unlinkat(&self.descriptor, name, AtFlags::empty());
        removed.map_err(FileError::io("remove", &self.path_of(name)))
    }

    /// Like [`Self::remove`], but succeeds if the file does not exist.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`].
    pub fn remove_if_exists(&self, name: &str) -> Result<(), FileError> {
        match self.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Synchronizes the directory, so that new names survive a power failure.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`].
    pub fn sync(&self) -> Result<(), FileError> {
        self.listable().and_then(fsync).map_err(FileError::io("synchronize", self.path()))
    }

    /// The names of everything in the directory that are valid UTF-8, in no particular order.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`].
    pub fn names(&self) -> Result<Vec<String>, FileError> {
        let read = || -> Result<Vec<String>, Errno> {
            let mut names = Vec::new();
            for entry in Dir::new(self.listable()?)? {
                names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
            }
            names.retain(|name| name != "." && name != "..");
            Ok(names)
        };
        read().map_err(FileError::io("list", self.path()))
    }

    /// Checks that this process may write to a file or, if it does not exist, create it. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Self::open_file`].
    pub fn check_writable(&self, name: &str) -> Result<(), FileError> {
        let target = if self.inspect(name)?.is_some() { name } else { "." };
        let permitted = accessat(&self.descriptor, target, Access::WRITE_OK, AtFlags::empty());
        permitted.map_err(FileError::io("write", &self.path_of(name)))
    }

    /// Lets only its owner use a file and, in a shared directory, the group. Does nothing if the
    /// file does not exist or belongs to another user.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Self::inspect`], and if the mode cannot be changed.
    pub fn restrict_file(&self, name: &str) -> Result<(), FileError> {
        let Some(found) = self.inspect(name)? else { return Ok(()) };
        let kept = if self.trust.group.is_some() { 0o660 } else { 0o600 };
        let mode = found.mode() & ALL_BITS;
        let private = (mode & kept) | 0o600;

        let is_own = found.uid() == self.trust.user;
        if is_own && mode != private {
            permit_fixed_mode(self.change_mode(name, private))
        } else {
            Ok(())
        }
    }

    /// Assigns the directory itself to a group and, unless it is `None`, to a user.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`].
    pub fn assign(&self, user: Option<u32>, group: u32) -> Result<(), FileError> {
        let (user, group) = (user.map(Uid::from_raw), Some(Gid::from_raw(group)));
        let assigned = chownat(&self.descriptor, "", user, group, AtFlags::EMPTY_PATH);
        assigned.map_err(FileError::io("change the owner of", self.path()))
    }

    /// The path of the directory without links, for a library that can open files only by their
    /// paths.
    ///
    /// # Errors
    ///
    /// Fails with [`FileError::Io`], also if the path leads to another directory now.
    pub fn real_path(&self) -> Result<PathBuf, FileError> {
        let real = self.path().canonicalize().map_err(FileError::io("resolve", self.path()))?;
        let found = real.metadata().map_err(FileError::io("resolve", self.path()))?;
        let own = metadata(&self.descriptor)?;
        if (own.dev(), own.ino()) == (found.dev(), found.ino()) {
            return Ok(real);
        }
        let replaced = io::Error::other("another process has replaced the directory");
        Err(FileError::io("resolve", self.path())(replaced))
    }

    fn locate(path: &Path, content: DirectoryContent) -> Result<Self, FileError> {
        if is_root() {
            let opened = open_as_root(path, MissingDirectories::Fail)?;
            return Self::of(opened.into(), path, content);
        }

        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, path, flags, Mode::empty());
        Self::of(opened.map_err(FileError::io("open", path))?, path, content)
    }

    fn of(opened: OwnedFd, path: &Path, content: DirectoryContent) -> Result<Self, FileError> {
        let descriptor = File::from_parts(opened.into(), path);
        let trust = Trust::in_directory(&metadata(&descriptor)?, content);
        Ok(Self { descriptor, trust })
    }

    /// Fails if the directory itself is not trusted.
    fn checked(self) -> Result<Self, FileError> {
        self.trust.check(&metadata(&self.descriptor)?, self.path())?;
        Ok(self)
    }

    fn change_mode(&self, name: &str, mode: u32) -> Result<(), FileError> {
        let mode = Mode::from_raw_mode(mode);
        let changed = chmodat(&self.descriptor, name, mode, AtFlags::empty());
        changed.map_err(FileError::io("change the mode of", &self.path_of(name)))
    }

    fn open_existing(&self, name: &str, access: OFlags) -> Result<OwnedFd, Errno> {
        openat(&self.descriptor, name, access | FILE_FLAGS, Mode::empty())
    }

    /// The directory, opened for reading.
    fn listable(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.descriptor, ".", flags, Mode::empty())
    }

    fn check(&self, found: &Metadata, path: &Path) -> Result<(), FileError> {
        require_regular(found, path)?;
        if found.nlink() > 1 {
            return Err(FileError::HardLinks(path.to_owned(), found.nlink()));
        }
        self.trust.check(found, path)
    }
}

impl Trust {
    fn in_directory(directory: &Metadata, content: DirectoryContent) -> Self {
        let (user, group, mode) = (geteuid().as_raw(), directory.gid(), directory.mode());
        let is_shared = !is_root() && mode & GROUP_WRITE != 0 && is_own_group(group);

        // A directory with state to which all users can write is rejected itself.
        let is_open = content == DirectoryContent::Output && mode & OTHERS_WRITE != 0;
        let evidence = if is_open && mode & (SET_GROUP_ID | STICKY) != 0 {
            GroupEvidence::Nothing
        } else {
            GroupEvidence::Membership
        };
        Self { user, group: is_shared.then_some(group), evidence, content }
    }

    /// Fails if a file or directory is not used.
    fn check(self, found: &Metadata, path: &Path) -> Result<(), FileError> {
        let owner = found.uid();
        // Root can do everything that this process can do.
        if owner != self.user && owner != 0 {
            self.check_group(found.gid(), owner, path)?;
        }

        let is_state = self.content == DirectoryContent::State;
        if is_state && found.mode() & OTHERS_WRITE != 0 {
            return Err(FileError::WritableByOthers(path.to_owned()));
        }
        Ok(())
    }

    /// Fails if the group of a file or directory of another user does not show that this user is a
    /// member of the group that shares the directory.
    fn check_group(self, group: u32, owner: u32, path: &Path) -> Result<(), FileError> {
        match self.evidence {
            _ if self.group != Some(group) => Err(FileError::ForeignOwner(path.to_owned(), owner)),
            GroupEvidence::Nothing => Err(FileError::UncertainMember(path.to_owned(), owner)),
            GroupEvidence::Membership => Ok(()),
        }
    }
}

/// A successful result if the file system does not support other modes, like those that are shared
/// with Windows. What the mode permits is examined separately.
fn permit_fixed_mode(changed: Result<(), FileError>) -> Result<(), FileError> {
    match changed {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        changed => changed,
    }
}

/// Whether this process is a member of a group.
fn is_own_group(group: u32) -> bool {
    let is_member = |groups: Vec<Gid>| groups.iter().any(|own| own.as_raw() == group);
    getegid().as_raw() == group || getgroups().is_ok_and(is_member)
}
