//! Follows a path as root: one component after another, from descriptor to descriptor, so that
//! another user cannot redirect root with a link, or replace a directory between a check and its
//! use. Start reading at [`owner_of`].

use std::{
    ffi::{OsStr, OsString},
    fs::Metadata,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use fs_err::File;
use rustix::{
    fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, mkdirat, openat, readlinkat},
    io::Errno,
    process::geteuid,
};

use super::{FileError, STICKY, metadata, require_regular, secret::is_replaceable};

/// The number of links that a path may contain, as in the kernel.
const MAX_LINKS: usize = 40;
/// The flags that open anything only as a path: nothing is awaited, and no link is followed.
const PATH_FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The permission bits with which others than the owner can change a file or directory.
const WRITE_BY_GROUP_OR_OTHERS: u32 = 0o022;

/// The user as whom root must act to use a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathOwner {
    /// The directories and links on the path belong to root.
    Root,
    /// The directory belongs to this user and this group.
    User { uid: u32, gid: u32 },
}

/// What to do about directories that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MissingDirectories {
    /// An error of the kind `NotFound`.
    Fail,
    /// They are created with mode 0700.
    Create,
}

/// Which files are opened for reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputFileKind {
    /// Regular files. Nothing else is opened, because opening a device can have an effect.
    Regular,
    /// Files of every kind, such as pipes.
    Any,
}

/// A path that has been followed as far as it exists.
#[derive(Debug)]
struct Walk {
    /// The last directory that exists, opened as a path.
    directory: File,
    /// The components after it, the next one last.
    remaining: Vec<OsString>,
    /// The directories and links that do not belong to root, in the order of the path.
    foreign: Vec<ForeignComponent>,
    /// The number of links that have been followed.
    links: usize,
    /// The first directory in which all users can replace what the path leads through.
    replaceable: Option<PathBuf>,
    /// The first directory in which users other than its owner and root can replace what the path
    /// leads through, or create it if it does not exist.
    shared: Option<PathBuf>,
}

/// A directory or link of another user than root.
#[derive(Debug)]
struct ForeignComponent {
    path: PathBuf,
    uid: u32,
}

/// Whether the next component of a path exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existence {
    Found,
    Missing,
}

/// Whether this thread is root, and there are other users. In a user namespace with a single user,
/// root has no more permissions than that user has outside.
pub fn is_root() -> bool {
    static HAS_OTHER_USERS: OnceLock<bool> = OnceLock::new();
    let has_other_users = || {
        // Each line is a range: its first user inside, its first user outside, and its length.
        let Ok(map) = fs_err::read_to_string("/proc/self/uid_map") else { return true };
        let length = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
        map.lines().filter_map(length).fold(0, u64::saturating_add) > 1
    };
    geteuid().is_root() && *HAS_OTHER_USERS.get_or_init(has_other_users)
}

/// The owner of a directory or, if it does not exist, of the last directory on its path that does.
///
/// # Errors
///
/// Fails with [`FileError::ForeignOwner`] if the directory is below one of a third user, or behind
/// a link of a third user: that user could exchange it at any time. Fails with
/// [`FileError::UncertainOwner`] if the directory does not belong to root, and users other than
/// root can create or replace what leads to it: its owner can be any of them.
pub fn owner_of(directory: &Path) -> Result<PathOwner, FileError> {
    Walk::along(directory)?.owner()
}

/// Opens a directory as a path, after checking that everything that leads to it belongs to root.
pub(super) fn open_as_root(
    directory: &Path,
    missing: MissingDirectories,
) -> Result<File, FileError> {
    let mut walk = Walk::along(directory)?;
    loop {
        // Checked again after each new directory: another user can win a race in a directory to
        // which all users may write.
        if let PathOwner::User { uid, .. } = walk.owner()? {
            return Err(FileError::ForeignOwner(walk.directory.path().to_owned(), uid));
        }
        let Some(name) = walk.remaining.pop() else { return Ok(walk.directory) };
        if missing == MissingDirectories::Fail {
            return Err(FileError::io("open", directory)(Errno::NOENT));
        }

        match mkdirat(&walk.directory, &name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(FileError::io("create", directory)(error)),
        }
        if walk.enter(&name)? == Existence::Missing {
            return Err(FileError::io("open", directory)(Errno::NOENT));
        }
    }
}

/// Opens the directory that contains a file, as a path, and returns it with the name of the file
/// there, which is not a link. Follows the links of any user.
///
/// # Errors
///
/// Fails with [`FileError::WritableByOthers`] if all users can replace the file, or a directory or
/// link that leads to it. In a sticky directory, users can replace only what belongs to them.
pub(super) fn open_protected_parent(path: &Path) -> Result<(File, OsString), FileError> {
    let mut path = std::path::absolute(path).map_err(FileError::io("resolve", path))?;
    for _ in 0..MAX_LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FileError::NotRegular(path));
        };
        let mut walk = Walk::along(parent)?;
        walk.note_replaceable()?;
        if let Some(replaceable) = walk.replaceable {
            return Err(FileError::WritableByOthers(replaceable));
        }
        if !walk.remaining.is_empty() {
            return Err(FileError::io("open", &path)(Errno::NOENT));
        }

        let found = open_entry(&walk.directory, name, &path)?;
        if !metadata(&found)?.is_symlink() {
            return Ok((walk.directory, name.to_owned()));
        }
        path = parent.join(target_of(&found)?);
    }
    Err(FileError::io("open", &path)(Errno::LOOP))
}

/// Opens a file for reading, without waiting, after checking that everything that leads to it
/// belongs to root. Until its kind is known, the file is opened only as a path.
pub(super) fn open_input_as_root(path: &Path, kind: InputFileKind) -> Result<File, FileError> {
    let mut path = std::path::absolute(path).map_err(FileError::io("resolve", path))?;
    for _ in 0..MAX_LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FileError::NotRegular(path));
        };
        let directory = open_as_root(parent, MissingDirectories::Fail)?;

        let mut found = open_entry(&directory, name, &path)?;
        let mut properties = metadata(&found)?;
        if properties.is_symlink() {
            if properties.uid() != 0 {
                return Err(FileError::ForeignOwner(path, properties.uid()));
            }
            if !has_descriptors(&directory)? {
                path = parent.join(target_of(&found)?);
                continue;
            }
            found = open_descriptor(&directory, name, &path)?;
            properties = metadata(&found)?;
        }

        // In a directory of all users, another name of a file of root can be planted.
        let is_shared = metadata(&directory)?.mode() & WRITE_BY_GROUP_OR_OTHERS != 0;
        if is_shared && properties.is_file() && properties.nlink() > 1 {
            return Err(FileError::HardLinks(path, properties.nlink()));
        }
        if kind == InputFileKind::Regular {
            require_regular(&properties, &path)?;
        }
        return reopen(&found);
    }
    Err(FileError::io("open", &path)(Errno::LOOP))
}

/// The first directory, link or file on a path that another user than root can change, or in which
/// another user can create what does not exist yet. `None` if there is none: then, only root can
/// change what the path leads to, replace it, or create it. The files in a directory at the end of
/// the path are not examined.
///
/// # Errors
///
/// Fails if the path cannot be followed for another reason than a missing file or directory.
pub fn changeable_part(path: &Path) -> Result<Option<PathBuf>, FileError> {
    let mut path = std::path::absolute(path).map_err(FileError::io("resolve", path))?;
    for _ in 0..MAX_LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FileError::NotRegular(path));
        };
        let mut walk = Walk::along(parent)?;
        let mut found = if walk.remaining.is_empty() { walk.find(name)? } else { None };
        if let Some(changeable) = walk.changeable() {
            return Ok(Some(changeable.to_owned()));
        }

        if let Some(link) = &found
            && metadata(link)?.is_symlink()
        {
            if metadata(link)?.uid() != 0 {
                return Ok(Some(path));
            }
            if !has_descriptors(&walk.directory)? {
                path = parent.join(target_of(link)?);
                continue;
            }
            found = Some(open_descriptor(&walk.directory, name, &path)?);
        }
        let Some(found) = found else { return Ok(None) };
        let properties = metadata(&found)?;
        let is_closed = properties.mode() & WRITE_BY_GROUP_OR_OTHERS == 0;
        return Ok((properties.uid() != 0 || !is_closed).then_some(path));
    }
    Err(FileError::io("open", &path)(Errno::LOOP))
}

impl Walk {
    fn along(path: &Path) -> Result<Self, FileError> {
        let absolute = std::path::absolute(path).map_err(FileError::io("resolve", path))?;
        let mut walk = Self {
            directory: root_directory()?,
            remaining: components(&absolute),
            foreign: Vec::new(),
            links: 0,
            replaceable: None,
            shared: None,
        };

        while let Some(name) = walk.remaining.pop() {
            if walk.enter(&name)? == Existence::Missing {
                walk.remaining.push(name);
                break;
            }
        }
        Ok(walk)
    }

    /// Enters a directory, or replaces a link by the components of its target.
    fn enter(&mut self, name: &OsStr) -> Result<Existence, FileError> {
        self.note_replaceable()?;
        let Some(opened) = self.find(name)? else { return Ok(Existence::Missing) };

        let found = metadata(&opened)?;
        if found.is_symlink() {
            self.note_owner(&opened, found.uid());
            self.follow(&opened)?;
        } else if found.is_dir() {
            self.note_owner(&opened, found.uid());
            self.directory = opened;
        } else {
            return Err(FileError::io("open", opened.path())(Errno::NOTDIR));
        }
        Ok(Existence::Found)
    }

    /// Opens an entry of the last directory as a path; `None` if it does not exist. Notes the
    /// directory if another user can replace or create the entry.
    fn find(&mut self, name: &OsStr) -> Result<Option<File>, FileError> {
        let path = self.directory.path().join(name);
        // With this flag, the kernel also mounts a directory of an automounter. Anything else is
        // opened without it.
        let flags = PATH_FLAGS | OFlags::DIRECTORY;
        let opened = match openat(&self.directory, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                openat(&self.directory, name, PATH_FLAGS, Mode::empty())
            }
            opened => opened,
        };
        let opened = match opened {
            Err(Errno::NOENT) => {
                self.note_shared(None)?;
                return Ok(None);
            }
            opened => opened.map_err(FileError::io("open", &path))?,
        };

        let opened = File::from_parts(opened.into(), path);
        self.note_shared(Some(&metadata(&opened)?))?;
        Ok(Some(opened))
    }

    /// Notes the last directory if other users than its owner and root can replace its entry, or
    /// create it. In a sticky directory, they can neither remove a directory of root nor move one
    /// there; but they can move there a file or a link of root from a directory of their own. The
    /// directory of another user is also noted because of its owner, who decides about its group.
    fn note_shared(&mut self, entry: Option<&Metadata>) -> Result<(), FileError> {
        let directory = metadata(&self.directory)?;
        let is_closed = directory.mode() & WRITE_BY_GROUP_OR_OTHERS == 0;
        let is_kept = directory.mode() & STICKY != 0
            && entry.is_some_and(|entry| entry.is_dir() && entry.uid() == 0);
        let is_shared = match directory.uid() {
            0 => !is_closed && !is_kept,
            _ => is_replaceable(&self.directory)?,
        };
        if self.shared.is_none() && is_shared {
            self.shared = Some(self.directory.path().to_owned());
        }
        Ok(())
    }

    /// The first directory or link that another user than root can change, so that the path leads
    /// to something else.
    fn changeable(&self) -> Option<&Path> {
        let foreign = self.foreign.first().map(|component| component.path.as_path());
        foreign.or(self.shared.as_deref())
    }

    fn note_replaceable(&mut self) -> Result<(), FileError> {
        if self.replaceable.is_none() && is_replaceable(&self.directory)? {
            self.replaceable = Some(self.directory.path().to_owned());
        }
        Ok(())
    }

    fn note_owner(&mut self, component: &File, uid: u32) {
        if uid != 0 {
            self.foreign.push(ForeignComponent { path: component.path().to_owned(), uid });
        }
    }

    fn follow(&mut self, link: &File) -> Result<(), FileError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(FileError::io("open", link.path())(Errno::LOOP));
        }

        let target = target_of(link)?;
        if target.is_absolute() {
            self.directory = root_directory()?;
        }
        self.remaining.extend(components(&target));
        Ok(())
    }

    /// The owner of the last directory that exists. Nothing is used below a directory of a third
    /// user, or behind a link of a third user; and the owner must not be any user who can create or
    /// replace what leads to the directory.
    fn owner(&self) -> Result<PathOwner, FileError> {
        let found = metadata(&self.directory)?;
        let (owner, group) = (found.uid(), found.gid());

        let third = self.foreign.iter().find(|component| component.uid != owner);
        if let Some(ForeignComponent { path, uid }) = third {
            return Err(FileError::ForeignOwner(path.clone(), *uid));
        }
        match &self.shared {
            _ if owner == 0 => Ok(PathOwner::Root),
            None => Ok(PathOwner::User { uid: owner, gid: group }),
            Some(shared) => Err(FileError::UncertainOwner {
                path: self.directory.path().to_owned(),
                uid: owner,
                shared: shared.clone(),
            }),
        }
    }
}

/// Opens an entry of a directory as a path. A link is not followed.
fn open_entry(directory: &File, name: &OsStr, path: &Path) -> Result<File, FileError> {
    let opened = openat(directory, name, PATH_FLAGS, Mode::empty());
    Ok(File::from_parts(opened.map_err(FileError::io("open", path))?.into(), path))
}

/// Opens for reading what is open as a path, without waiting. The path is not followed again, so
/// that it cannot lead to another file.
fn reopen(found: &File) -> Result<File, FileError> {
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = openat(CWD, link.as_str(), flags, Mode::empty());
    let opened = opened.map_err(FileError::io("open", found.path()))?;
    Ok(File::from_parts(opened.into(), found.path()))
}

/// Whether the links in a directory are the descriptors of a process, such as `/dev/stdin`. What
/// they lead to, such as a pipe, can have no path.
fn has_descriptors(directory: &File) -> Result<bool, FileError> {
    let system = fstatfs(directory).map_err(FileError::io("examine", directory.path()))?;
    Ok(system.f_type == PROC_SUPER_MAGIC && directory.path().ends_with("fd"))
}

/// Opens what a descriptor of a process refers to, as a path.
fn open_descriptor(directory: &File, name: &OsStr, path: &Path) -> Result<File, FileError> {
    let opened = openat(directory, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    Ok(File::from_parts(opened.map_err(FileError::io("open", path))?.into(), path))
}

/// The target of a link that is open as a path.
fn target_of(link: &File) -> Result<PathBuf, FileError> {
    let target = readlinkat(link, "", Vec::<u8>::new());
    let target = target.map_err(FileError::io("read", link.path()))?;
    Ok(OsString::from_vec(target.into_bytes()).into())
}

fn root_directory() -> Result<File, FileError> {
    let root = Path::new("/");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, root, flags, Mode::empty()).map_err(FileError::io("open", root))?;
    Ok(File::from_parts(opened.into(), root))
}

/// The components of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let is_step =
        |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    let steps = path.components().filter(is_step).map(|part| part.as_os_str().to_owned());
    let mut steps: Vec<OsString> = steps.collect();
    steps.reverse();
    steps
}
