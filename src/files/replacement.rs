//! Replaces a file as a whole and durably. This is the only place that does: readers get the old or
//! the new content, never a part, and the new content survives a power failure once the function
//! has returned. Start reading at [`OwnedDirectory::replace_through`].

use std::{fs::Permissions, io::Write};

use super::{FileAccess, FileError, NewFileMode, OwnedDirectory};

impl OwnedDirectory {
    /// Replaces a file through a new one whose name ends with `.new`.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::replace_through`].
    pub fn replace(&self, name: &str, bytes: &[u8], mode: NewFileMode) -> Result<(), FileError> {
        self.replace_through(&format!("{name}.new"), name, bytes, mode, None)
    }

    /// Replaces a file through a new one with the name `new`, which is synchronized and then
    /// renamed. With `permissions`, the new file has these instead of those of `mode`.
    ///
    /// # Errors
    ///
    /// Fails if the new file cannot be written, synchronized or renamed; the previous file is then
    /// kept, and the new one is removed.
    pub fn replace_through(
        &self,
        new: &str,
        name: &str,
        bytes: &[u8],
        mode: NewFileMode,
        permissions: Option<Permissions>,
    ) -> Result<(), FileError> {
        // An interrupted process may have left it.
        self.remove_if_exists(new)?;
        let renamed =
            self.write_new(new, bytes, mode, permissions).and_then(|()| self.rename(new, name));
        if renamed.is_err() {
            let _ = self.remove_if_exists(new);
        }
        renamed?;
        // The rename is durable only when the directory is synchronized too.
        self.sync()
    }

    fn write_new(
        &self,
        name: &str,
        bytes: &[u8],
        mode: NewFileMode,
        permissions: Option<Permissions>,
    ) -> Result<(), FileError> {
        let file = self.open_file(name, FileAccess::CreateNew(mode))?;
        let written = file.file().write_all(bytes).and_then(|()| match permissions {
            Some(permissions) => file.file().set_permissions(permissions),
            None => Ok(()),
        });
        let synchronized = written.and_then(|()| file.file().sync_all());
        synchronized.map_err(FileError::io("write", file.path()))
    }
}
