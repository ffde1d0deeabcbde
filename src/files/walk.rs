//! Follows a path as root: one component after another, from descriptor to descriptor, so that
//! another user cannot redirect root with a link, or replace a directory between a check and its
//! use. Start reading at [`owner_of`].

use std::{
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use fs_err::File;
use rustix::{
    fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, mkdirat, openat, readlinkat},
    io::Errno,
    process::geteuid,
};

use super::{FileError, metadata, secret::is_replaceable};

/// The number of links that a path may contain, as in the kernel.
const MAX_LINKS: usize = 40;

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
}

/// A directory or link of another user than root.
#[derive(Debug)]
struct ForeignComponent {
    path: PathBuf,
    uid: u32,
    kind: ComponentKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ComponentKind {
    Directory,
    Link,
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
/// Fails with [`FileError::ForeignOwner`] if the directory is below one of another user, or behind
/// a link of another user: that user could exchange it at any time.
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

        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(&walk.directory, name, flags, Mode::empty());
        let found = File::from_parts(found.map_err(FileError::io("open", &path))?.into(), &path);
        if !metadata(&found)?.is_symlink() {
            return Ok((walk.directory, name.to_owned()));
        }
        let target = readlinkat(&found, "", Vec::<u8>::new());
        let target = target.map_err(FileError::io("read", &path))?;
        path = parent.join(OsString::from_vec(target.into_bytes()));
    }
    Err(FileError::io("open", &path)(Errno::LOOP))
}

/// Opens a file of any kind for reading, without waiting, after checking that everything that leads
/// to it belongs to root.
pub(super) fn open_input_as_root(path: &Path) -> Result<File, FileError> {
    let mut path = std::path::absolute(path).map_err(FileError::io("resolve", path))?;
    for _ in 0..MAX_LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FileError::NotRegular(path));
        };
        let directory = open_as_root(parent, MissingDirectories::Fail)?;

        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(&directory, name, flags, Mode::empty());
        let found = File::from_parts(found.map_err(FileError::io("open", &path))?.into(), &path);
        let properties = metadata(&found)?;
        if properties.is_symlink() {
            if properties.uid() != 0 {
                return Err(FileError::ForeignOwner(path, properties.uid()));
            }
            // A pipe of this process, such as `/dev/stdin`, has no path.
            let system = fstatfs(&directory).map_err(FileError::io("examine", parent))?;
            if system.f_type == PROC_SUPER_MAGIC && parent.ends_with("fd") {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
                let opened = openat(&directory, name, flags, Mode::empty());
                let opened = opened.map_err(FileError::io("open", &path))?;
                return Ok(File::from_parts(opened.into(), path));
            }

            let target = readlinkat(&found, "", Vec::<u8>::new());
            let target = target.map_err(FileError::io("read", &path))?;
            path = parent.join(OsString::from_vec(target.into_bytes()));
            continue;
        }

        // In a directory of all users, another name of a file of root can be planted.
        let is_shared = metadata(&directory)?.mode() & 0o022 != 0;
        if is_shared && properties.is_file() && properties.nlink() > 1 {
            return Err(FileError::HardLinks(path, properties.nlink()));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&directory, name, flags | OFlags::NOCTTY, Mode::empty());
        let opened = File::from_parts(opened.map_err(FileError::io("open", &path))?.into(), &path);
        let is_same = (metadata(&opened)?.dev(), metadata(&opened)?.ino())
            == (properties.dev(), properties.ino());
        return if is_same { Ok(opened) } else { Err(FileError::NotRegular(path)) };
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
        let path = self.directory.path().join(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // With this flag, the kernel also mounts a directory of an automounter. A link is opened
        // without it.
        let opened = openat(&self.directory, name, flags | OFlags::DIRECTORY, Mode::empty());
        let opened = match opened {
            Err(Errno::NOTDIR | Errno::LOOP) => openat(&self.directory, name, flags, Mode::empty()),
            opened => opened,
        };
        let opened = match opened {
            Err(Errno::NOENT) => return Ok(Existence::Missing),
            opened => opened.map_err(FileError::io("open", &path))?,
        };

        let opened = File::from_parts(opened.into(), path);
        let found = metadata(&opened)?;
        if found.is_symlink() {
            self.note_owner(&opened, found.uid(), ComponentKind::Link);
            self.follow(&opened)?;
        } else if found.is_dir() {
            self.note_owner(&opened, found.uid(), ComponentKind::Directory);
            self.directory = opened;
        } else {
            return Err(FileError::io("open", opened.path())(Errno::NOTDIR));
        }
        Ok(Existence::Found)
    }

    fn note_replaceable(&mut self) -> Result<(), FileError> {
        if self.replaceable.is_none() && is_replaceable(&self.directory)? {
            self.replaceable = Some(self.directory.path().to_owned());
        }
        Ok(())
    }

    fn note_owner(&mut self, component: &File, uid: u32, kind: ComponentKind) {
        if uid != 0 {
            let path = component.path().to_owned();
            self.foreign.push(ForeignComponent { path, uid, kind });
        }
    }

    fn follow(&mut self, link: &File) -> Result<(), FileError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(FileError::io("open", link.path())(Errno::LOOP));
        }

        let target = readlinkat(link, "", Vec::<u8>::new());
        let target = target.map_err(FileError::io("read", link.path()))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.directory = root_directory()?;
        }
        self.remaining.extend(components(&target));
        Ok(())
    }

    /// The owner of the last directory that exists. Below a directory of another user, root uses
    /// nothing; and no user uses what is behind a link of a third one.
    fn owner(&self) -> Result<PathOwner, FileError> {
        let found = metadata(&self.directory)?;
        let (owner, group) = (found.uid(), found.gid());
        let is_obstacle = |component: &&ForeignComponent| {
            component.uid != owner && (owner == 0 || component.kind == ComponentKind::Link)
        };

        match self.foreign.iter().find(is_obstacle) {
            Some(ForeignComponent { path, uid, .. }) => {
                Err(FileError::ForeignOwner(path.clone(), *uid))
            }
            None if owner == 0 => Ok(PathOwner::Root),
            None => Ok(PathOwner::User { uid: owner, gid: group }),
        }
    }
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
