//! The second cursor file, `cursors.json`: one line of text, and one line with its SHA-256 hash in
//! hexadecimal.
//!
//! It is replaced as a whole: write a new file, fsync, rename, fsync the directory. The text is a
//! document of the checkpoint, which nothing here reads. Start reading at
//! [`StateDirectory::read_cursors`]. See decision 0015.

use std::io::{self, ErrorKind};

use aws_lc_rs::digest::{SHA256, digest};

use super::StateDirectory;
use crate::{
    files::{FileError, NewFileMode, OwnedDirectory},
    model::hex,
};

/// The name of the file in the state directory.
pub const CURSOR_FILE: &str = "cursors.json";
/// The maximum size of the file: more than a million cursors.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// Why the second cursor file cannot be used. The daemon logs the error and rewrites the file.
#[derive(Debug, thiserror::Error)]
pub enum CursorFileError {
    #[error("cannot read the cursor file")]
    Read(#[source] FileError),
    /// The file is not text, its hash is wrong, or its JSON has another form.
    #[error("the cursor file is damaged")]
    Damaged,
}

impl StateDirectory {
    /// Reads the text of the second cursor file; `None` if the file does not exist.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, and with [`CursorFileError::Damaged`] if its hash is
    /// wrong.
    pub fn read_cursors(&self) -> Result<Option<String>, CursorFileError> {
        let bytes = match self.files.read(CURSOR_FILE, MAX_FILE_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(CursorFileError::Read)?,
        };
        let mut content = String::from_utf8(bytes).map_err(|_| CursorFileError::Damaged)?;

        let (text, sum) = content.trim_end().rsplit_once('\n').ok_or(CursorFileError::Damaged)?;
        if sum != checksum(text) {
            return Err(CursorFileError::Damaged);
        }
        let length = text.len();
        content.truncate(length);
        Ok(Some(content))
    }

    /// Replaces the second cursor file by one with this text. It is on disk when this returns `Ok`.
    ///
    /// # Errors
    ///
    /// Fails if the new file cannot be written, synced or renamed; the previous file is then kept.
    pub fn write_cursors(&self, text: &str) -> io::Result<()> {
        let content = format!("{text}\n{}\n", checksum(text));
        // The directory is created again if it was removed: without this file, the next start could
        // not notice that the database is lost.
        let directory = OwnedDirectory::prepare(self.path())?;
        Ok(directory.replace(CURSOR_FILE, content.as_bytes(), NewFileMode::State)?)
    }
}

fn checksum(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}
