//! The second cursor file, `cursors.json`: a copy of the cursors outside the database. It prevents
//! days from being sent again after the database is lost.
//!
//! The file is one line of JSON and one line with its SHA-256 hash in hexadecimal. It is replaced
//! as a whole: write a new file, fsync, rename, fsync the directory. See decision 0015.

use std::{collections::HashSet, fmt::Write as _, io::Write, path::Path};

use fs_err::os::unix::fs::OpenOptionsExt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::model::{Day, TenantId, UnixMillis};

const FILE: &str = "cursors.json";

/// The content of the second cursor file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorFile {
    /// The checkpoint that `cursors` belongs to.
    pub checkpoint_id: String,
    /// The cursors of all sinks and tenants of that checkpoint.
    pub cursors: Vec<SavedCursor>,
    /// Cursors of a checkpoint that was lost earlier, for sinks and tenants that do not have a
    /// cursor in the current one yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<SavedCursor>,
}

/// The cursor of one sink for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCursor {
    /// The name of the sink.
    pub sink: String,
    /// The GUID of the tenant.
    pub tenant: String,
    /// The entry in the tenant's log.
    pub seq: u64,
    /// The index of the next record in that entry.
    pub record_index: u32,
    /// The first day that the sink may not have received, as `YYYY-MM-DD`; earlier days are not
    /// sent again.
    pub sent_before: String,
    /// When the sink was removed from the configuration; `None` while it is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<UnixMillis>,
}

/// Why the second cursor file cannot be used. The daemon logs the error and rewrites the file.
#[derive(Debug, thiserror::Error)]
pub enum CursorFileError {
    #[error("cannot read the cursor file")]
    Read(#[source] std::io::Error),
    /// The file is not text, its hash is wrong, or its JSON has another form.
    #[error("the cursor file is damaged")]
    Damaged,
}

impl CursorFile {
    /// Reads the file; `None` if it does not exist. Fails if its hash is wrong.
    pub fn read(directory: &Path) -> Result<Option<Self>, CursorFileError> {
        let text = match fs_err::read_to_string(directory.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(CursorFileError::Damaged);
            }
            Err(error) => return Err(CursorFileError::Read(error)),
        };

        let (body, sum) = text.trim_end().rsplit_once('\n').ok_or(CursorFileError::Damaged)?;
        if sum != checksum(body) {
            return Err(CursorFileError::Damaged);
        }
        serde_json::from_str(body).map(Some).map_err(|_| CursorFileError::Damaged)
    }

    /// Replaces the file. It is on disk when this returns `Ok`.
    ///
    /// # Errors
    ///
    /// Fails if the new file cannot be written, synced or renamed; the previous file is then kept.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let body = serde_json::to_string(self)?;
        let temporary = directory.join("cursors.json.new");

        let mut options = fs_err::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(format!("{body}\n{}\n", checksum(&body)).as_bytes())?;
        file.sync_all()?;

        fs_err::rename(&temporary, directory.join(FILE))?;
        fs_err::File::open(directory)?.sync_all()
    }

    /// The first day that a sink had not received when an earlier checkpoint was lost; `None` if no
    /// checkpoint was lost, or if it did not have the cursor.
    pub(super) fn first_unsent_day(
        &self,
        checkpoint_id: &str,
        sink: &str,
        tenant: TenantId,
    ) -> Option<Day> {
        let tenant = tenant.to_string();
        let saved = self
            .lost_cursors(checkpoint_id)
            .into_iter()
            .find(|c| c.sink == sink && c.tenant == tenant)?;
        Day::parse(&saved.sent_before)
    }

    /// Removes the cursors of an erased tenant.
    pub(super) fn forget(&mut self, tenant: &str) {
        self.retain(|cursor| cursor.tenant != tenant);
    }

    /// Removes the cursors of a deleted sink.
    pub(super) fn forget_sink(&mut self, sink: &str) {
        self.retain(|cursor| cursor.sink != sink);
    }

    /// Removes the cursors of the sinks that were removed from the configuration at this time or
    /// earlier.
    pub(super) fn forget_removed(&mut self, until: UnixMillis) {
        self.retain(|cursor| cursor.removed_at.is_none_or(|removed| removed > until));
    }

    /// Moves the cursors of a sink to its new name, unless that name already has cursors.
    pub(super) fn rename_sink(&mut self, old: &str, new: &str) {
        for cursors in [&mut self.cursors, &mut self.carried] {
            let taken: HashSet<String> =
                cursors.iter().filter(|c| c.sink == new).map(|c| c.tenant.clone()).collect();
            cursors.retain(|cursor| cursor.sink != old || !taken.contains(&cursor.tenant));
            for cursor in cursors.iter_mut().filter(|cursor| cursor.sink == old) {
                new.clone_into(&mut cursor.sink);
            }
        }
    }

    fn retain(&mut self, is_kept: impl Fn(&SavedCursor) -> bool) {
        self.cursors.retain(&is_kept);
        self.carried.retain(&is_kept);
    }

    /// The cursors of checkpoints that were lost; `checkpoint_id` is the current one.
    pub(super) fn lost_cursors(&self, checkpoint_id: &str) -> Vec<&SavedCursor> {
        let is_current = self.checkpoint_id == checkpoint_id;
        self.cursors.iter().filter(|_| !is_current).chain(&self.carried).collect()
    }
}

fn checksum(body: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in digest(&SHA256, body.as_bytes()).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
