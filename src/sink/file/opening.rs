//! Opens the file of a sink: relative to a descriptor of its directory, through no link, and as the
//! owner of the file. The caller passes the mark of the last batch, to which the file is truncated.
//! Start reading at [`open`]. See decision 0060.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use fs_err::File;

use super::{FileIdentity, Mark};
use crate::{
    clock,
    files::{FileAccess, FileError, NewFileMode, OwnedDirectory},
    format::FormatName,
    model::Day,
};

/// The UTC day of the last modification; today if it is unknown.
pub(super) fn last_written(file: &File) -> Day {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    let time = modified.ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
    Day::of(time.unwrap_or_else(clock::now))
}

/// The directory of a file, opened, and the name of the file.
pub(super) fn locate(path: &Path) -> Result<(OwnedDirectory, &str), FileError> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(directory), Some(name)) => Ok((OwnedDirectory::open_for_output(directory)?, name)),
        // The path is `/`, or ends with `..`.
        _ => Err(FileError::io("open", path)(rustix::io::Errno::ISDIR)),
    }
}

/// Checks that this process may write to the file or, if it does not exist, create it in its
/// directory. Neither the file nor the directory is changed.
pub(super) fn may_write(path: &Path) -> io::Result<()> {
    let (directory, name) = locate(path)?;
    Ok(directory.check_writable(name)?)
}

/// Opens and locks the file for appending, and truncates it to the mark if the mark belongs to this
/// file. Returns the file, its length and its identity.
pub(super) fn open(path: &Path, mark: Option<Mark>) -> io::Result<(File, u64, FileIdentity)> {
    let (directory, name) = locate(path)?;
    let is_new = directory.inspect(name)?.is_none();
    let mut file = directory.open_file(name, FileAccess::Create(NewFileMode::Output))?;
    file.try_lock().map_err(|_| io::Error::other("another process has locked the file"))?;

    // A new directory entry is durable only after the directory itself is synchronized.
    if is_new {
        directory.sync()?;
    }

    let metadata = file.metadata()?;
    let (mut length, identity) = (metadata.len(), FileIdentity::of(&metadata));
    match mark {
        Some(mark) if mark.identity == identity && mark.length <= length => {
            length = mark.length;
            file.set_len(length)?;
        }
        // The content of an unknown file is kept, and its last line is terminated.
        other => {
            if other.is_some() {
                let path = path.display().to_string();
                tracing::warn!(
                    path,
                    "the file was replaced or truncated since the last batch; appending at its end"
                );
            }
            length = end_last_line(&mut file, length)?;
        }
    }

    Ok((file, length, identity))
}

/// Writes the header line to an empty file, if the format has one. Returns the new length.
pub(super) fn write_header_line(
    file: &mut File,
    length: u64,
    format: FormatName,
) -> io::Result<u64> {
    match format.header_line() {
        Some(line) if length == 0 => {
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_data()?;
            Ok(line.len() as u64 + 1)
        }
        _ => Ok(length),
    }
}

/// Terminates the last line if it is incomplete. Returns the new length.
fn end_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    if length == 0 {
        return Ok(0);
    }

    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }

    file.write_all(b"\n")?;
    Ok(length + 1)
}
