//! Opens files without trusting what is stored in their directories.
//!
//! State files and the files of sinks are opened relative to a descriptor of their directory
//! ([`OwnedDirectory`]): no symbolic link is followed, no FIFO or device is awaited, and a file of
//! another user or with a second name is rejected. Files of the administrator are read with
//! [`read_limited`], or with [`read_secret`] if they are confidential. Root uses nothing below a
//! directory of another user; [`owner_of`] returns the user as whom it must act instead. See
//! decision 0060.

mod directory;
mod encoding;
mod error;
mod exchange;
mod handed_down;
mod host_fault;
mod replacement;
mod secret;
mod socket_path;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    fs::Metadata,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use fs_err::File;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

pub use directory::{FileAccess, NewFileMode, OwnedDirectory};
pub use encoding::{BinaryFormat, EncodingError, WideEncoding, decode_text};
pub use error::FileError;
pub use exchange::{replaceable_part, require_fixed_for_root};
pub use handed_down::{
    HandedDown, VARIABLE, acts_for_root, list_directory, opened_by_root, receive_files,
};
pub use host_fault::{HostFault, error_number, require_descriptor};
pub use secret::{read_secret, require_protected, require_protected_name};
pub use socket_path::{SocketPath, require_socket_path};
pub use walk::{PathOwner, changeable_part, is_root, owner_of};

/// The bit of the mode of a directory with which users can replace only files of their own.
const STICKY: u32 = 0o1000;

/// Reads a file of the administrator, such as a configuration, a secret or a certificate. Links
/// are followed, because Kubernetes mounts files as links. Never waits for a FIFO or a device.
///
/// # Errors
///
/// Fails with [`FileError::NotRegular`] for anything but a regular file, with
/// [`FileError::TooLarge`] if the file has more than `limit` bytes, and otherwise with
/// [`FileError::Io`].
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    match opened_by_root(path) {
        Some(file) => read_all(file, limit),
        None => read_all(&open_regular(path)?, limit),
    }
}

/// Opens a regular file for reading. Links are followed. Never waits for a FIFO, and opens no
/// device, because that alone can have an effect.
///
/// # Errors
///
/// Fails in the same cases as [`read_limited`], regardless of the size.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    let open = |flags: OFlags| -> Result<File, FileError> {
        let opened = openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        let file = File::from_parts(opened.map_err(FileError::io("open", path))?.into(), path);
        require_regular(&metadata(&file)?, path)?;
        Ok(file)
    };
    // The first descriptor only represents the path.
    open(OFlags::PATH)?;
    open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Reads a file from its beginning, regardless of its position, which other descriptors of the file
/// may share.
#[derive(Debug)]
pub struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl<'a> FromStart<'a> {
    pub fn of(file: &'a File) -> Self {
        Self { file, offset: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.file().read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(count as u64);
        Ok(count)
    }
}

fn read_all(file: &File, limit: u64) -> Result<Vec<u8>, FileError> {
    let too_large = || FileError::TooLarge(file.path().to_owned(), limit);
    if metadata(file)?.len() > limit {
        return Err(too_large());
    }

    let mut bytes = Vec::new();
    // The file can grow while it is read.
    let read = FromStart::of(file).take(limit.saturating_add(1)).read_to_end(&mut bytes);
    let count = read.map_err(FileError::io("read", file.path()))?;
    if count as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// The metadata of an open file or directory, also of one that is opened only as a path.
fn metadata(file: &File) -> Result<Metadata, FileError> {
    file.file().metadata().map_err(FileError::io("read the metadata of", file.path()))
}

/// Fails for a link, a directory, a FIFO, a socket and a device.
fn require_regular(metadata: &Metadata, path: &Path) -> Result<(), FileError> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(FileError::io("open", path)(Errno::ISDIR))
    } else if metadata.is_symlink() {
        Err(FileError::SymbolicLink(path.to_owned()))
    } else {
        Err(FileError::NotRegular(path.to_owned()))
    }
}
