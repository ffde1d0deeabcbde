//! Files that root opens before it becomes another user: those of the configuration that only root
//! can read, and those that its caller names.
//!
//! The descriptors survive the execution of the program as the other user, and [`VARIABLE`] lists
//! them with their paths. A file is handed down only if everything that leads to it belongs to
//! root. Root ignores the variable, and names of directories cannot lead out of them. Start reading
//! at [`HandedDown`].

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use fs_err::File;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    process::geteuid,
};
use serde::{Deserialize, Serialize};

use super::{
    FileError,
    walk::{InputFileKind, open_input_as_root},
};

/// The environment variable with the descriptors that a process has received. No other process may
/// inherit it.
pub const VARIABLE: &str = "SECURE_SCORE_FORWARDER_HANDED_DOWN";

/// The number of files that are handed down; the process reports the others as unreadable.
const MAX_FILES: usize = 256;
/// The number of names of a directory that are handed down, which limits the size of the variable.
const MAX_NAMES: usize = 400;
/// Lower numbers are those of the standard streams.
const FIRST_DESCRIPTOR: RawFd = 3;

/// Open files by their paths, and the names in directories by their paths.
#[derive(Debug, Default)]
pub struct HandedDown {
    files: HashMap<PathBuf, File>,
    directories: HashMap<PathBuf, Vec<String>>,
}

/// The value of [`VARIABLE`], as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct DescriptorTable {
    files: BTreeMap<String, RawFd>,
    directories: BTreeMap<String, Vec<String>>,
}

/// The files that this process has opened for another user that it acts as in some of its threads.
static KEPT: OnceLock<HandedDown> = OnceLock::new();
/// The files that this process has received.
static RECEIVED: OnceLock<HandedDown> = OnceLock::new();

impl HandedDown {
    /// Opens a regular file. Does nothing if that fails, or if another user could have planted it
    /// or what leads to it, because the reader reports it then.
    pub fn add_file(&mut self, path: &Path) {
        if let Ok(file) = open_input_as_root(path, InputFileKind::Regular) {
            self.insert(path, file);
        }
    }

    /// Opens a file of any kind, such as a pipe, that the caller of a command names. A pipe is
    /// opened without waiting for its writer. Does nothing if another user could have planted what
    /// leads to the file.
    pub fn add_input(&mut self, path: &Path) {
        let open = || -> io::Result<File> {
            let opened = open_input_as_root(path, InputFileKind::Any)?;
            fcntl_setfl(&opened, fcntl_getfl(&opened)? - OFlags::NONBLOCK)?;
            Ok(opened)
        };
        if let Ok(file) = open() {
            self.insert(path, file);
        }
    }

    /// Lists a directory of the configuration. Does nothing if it cannot be listed.
    pub fn add_directory(&mut self, path: &Path) {
        let Ok(paths) = list_directory(path) else { return };
        let name = |path: PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        let names: Vec<String> = paths.into_iter().filter_map(name).collect();
        if names.len() <= MAX_NAMES {
            self.directories.insert(path.to_owned(), names);
        }
    }

    /// The value of [`VARIABLE`] for a program that is executed next. It inherits exactly these
    /// descriptors and the standard streams, and none that the caller of this process left open.
    ///
    /// # Errors
    ///
    /// Fails if a descriptor cannot be changed.
    pub fn variable(&self) -> io::Result<String> {
        close_all_when_executed()?;
        let mut table = DescriptorTable::default();
        for (path, file) in &self.files {
            let Some(path) = path.to_str() else { continue };
            fcntl_setfd(file, FdFlags::empty())?;
            table.files.insert(path.to_owned(), file.as_raw_fd());
        }
        for (path, names) in &self.directories {
            let Some(path) = path.to_str() else { continue };
            table.directories.insert(path.to_owned(), names.clone());
        }
        Ok(serde_json::to_string(&table)?)
    }

    /// Keeps the files for the threads of this process that act as the other user. Has no effect a
    /// second time.
    pub fn keep(self) {
        let _ = KEPT.set(self);
    }

    fn insert(&mut self, path: &Path, file: File) {
        if self.files.len() < MAX_FILES {
            self.files.insert(path.to_owned(), file);
        }
    }

    /// What this process has received.
    fn received() -> Self {
        if !acts_for_root() {
            return Self::default();
        }
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let table: DescriptorTable = serde_json::from_str(&text).unwrap_or_default();

        let files = table.files.into_iter().filter_map(|(path, descriptor)| {
            let path = PathBuf::from(path);
            Some((path.clone(), receive(descriptor, path)?))
        });
        let directories = table.directories.into_iter();
        Self {
            files: files.collect(),
            directories: directories
                .map(|(path, names)| (path.into(), names.into_iter().filter(is_name).collect()))
                .collect(),
        }
    }
}

/// Takes over the files that root has opened for this process, so that no child inherits them.
/// Called before the process opens other files.
pub fn receive_files() {
    let _ = current();
}

/// Whether root has executed this program as another user.
pub fn acts_for_root() -> bool {
    !geteuid().is_root() && std::env::var_os(VARIABLE).is_some()
}

/// The file with this path that root opened for this process, at an unknown position.
pub fn opened_by_root(path: &Path) -> Option<&'static File> {
    current().files.get(path)
}

/// The paths of everything in a directory, in no particular order; empty if it does not exist.
///
/// # Errors
///
/// Fails with [`FileError::Io`] if the directory cannot be read.
pub fn list_directory(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if let Some(names) = current().directories.get(path) {
        return Ok(names.iter().map(|name| path.join(name)).collect());
    }

    let entries = match path.read_dir() {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        entries => entries.map_err(FileError::io("list", path))?,
    };
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.collect::<io::Result<_>>().map_err(FileError::io("list", path))
}

/// Whether a name refers to something in its directory.
#[expect(clippy::ptr_arg, reason = "the signature of a filter")]
fn is_name(name: &String) -> bool {
    !name.contains('/') && !matches!(name.as_str(), "" | "." | "..")
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn current() -> &'static HandedDown {
    KEPT.get().unwrap_or_else(|| RECEIVED.get_or_init(HandedDown::received))
}

/// Marks all descriptors of this process, except the standard streams, so that a program that is
/// executed does not inherit them.
fn close_all_when_executed() -> io::Result<()> {
    for entry in fs_err::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let descriptor = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(descriptor) = descriptor.filter(|number| *number >= FIRST_DESCRIPTOR) {
            // The descriptor of the listing itself is closed afterwards.
            set_close_on_exec(descriptor)?;
        }
    }
    Ok(())
}

fn set_close_on_exec(descriptor: RawFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe function refers to a descriptor by its number")]
    // SAFETY: The number is used only for this call, and the kernel rejects one that is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    match fcntl_setfd(descriptor, FdFlags::CLOEXEC) {
        // Another thread has closed it.
        Ok(()) | Err(Errno::BADF) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Duplicates a descriptor that this process has received. No child inherits either of the two.
pub(super) fn receive(descriptor: RawFd, path: PathBuf) -> Option<File> {
    if descriptor < FIRST_DESCRIPTOR {
        return None;
    }
    #[expect(unsafe_code, reason = "no safe function refers to a received descriptor")]
    // SAFETY: The process that executed this one left the descriptor open, and nothing closes it.
    // The kernel rejects a number that is not open.
    let received = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl_setfd(received, FdFlags::CLOEXEC).ok()?;
    let own = fcntl_dupfd_cloexec(received, FIRST_DESCRIPTOR).ok()?;
    Some(File::from_parts(own.into(), path))
}

#[cfg(test)]
mod tests {
    use rustix::io::fcntl_getfd;

    use super::*;

    /// Regression: a program that root executed as another user inherited the files that the shell
    /// of root had left open.
    #[test]
    fn only_handed_files_are_inherited() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs_err::write(&path, "content").unwrap();
        let left_open = File::open(&path).unwrap();
        fcntl_setfd(&left_open, FdFlags::empty()).unwrap();

        let mut handed_down = HandedDown::default();
        handed_down.insert(&path, File::open(&path).unwrap());
        let variable = handed_down.variable().unwrap();
        assert_eq!(fcntl_getfd(&left_open).unwrap(), FdFlags::CLOEXEC);
        let handed = &handed_down.files[&path];
        assert_eq!(fcntl_getfd(handed).unwrap(), FdFlags::empty());
        assert!(variable.contains(&format!(":{}", handed.as_raw_fd())), "{variable}");
    }
}
