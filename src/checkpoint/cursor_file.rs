//! The last cursors once more, in a small file of their own: if the database is lost, what was
//! sent need not be sent again. Replaced as a whole (write, fsync, rename, fsync the directory),
//! and checked by a digest.

use std::{fmt::Write as _, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::model::{Day, TenantId};

const FILE: &str = "cursors.json";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorFile {
    pub checkpoint_id: String,
    pub cursors: Vec<SavedCursor>,
    /// Of a checkpoint lost before this one, for tenants that have not been met again yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<SavedCursor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCursor {
    pub sink: String,
    pub tenant: String,
    pub seq: u64,
    pub record_index: u32,
    /// The first day that the sink may lack; it needs none of those before.
    pub sent_before: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CursorFileError {
    #[error("cannot read the cursor file")]
    Read(#[source] std::io::Error),
    #[error("the cursor file is damaged")]
    Damaged,
}

impl CursorFile {
    /// `None` if there is none yet.
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

    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let body = serde_json::to_string(self)?;
        let temporary = directory.join("cursors.json.new");
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(format!("{body}\n{}\n", checksum(&body)).as_bytes())?;
        file.sync_all()?;
        fs_err::rename(&temporary, directory.join(FILE))?;
        fs_err::File::open(directory)?.sync_all()
    }

    /// The first day that a sink may still lack, if the file of a checkpoint that was lost knows.
    pub(super) fn sent_before_loss(
        &self,
        checkpoint_id: &str,
        sink: &str,
        tenant: TenantId,
    ) -> Option<Day> {
        let tenant = tenant.to_string();
        let of_lost = self.of_lost(checkpoint_id);
        let kept = of_lost.into_iter().find(|c| c.sink == sink && c.tenant == tenant)?;
        Day::parse(&kept.sent_before)
    }

    pub(super) fn forget(&mut self, tenant: &str) {
        self.cursors.retain(|cursor| cursor.tenant != tenant);
        self.carried.retain(|cursor| cursor.tenant != tenant);
    }

    /// What is remembered of checkpoints that were lost.
    pub(super) fn of_lost(&self, checkpoint_id: &str) -> Vec<&SavedCursor> {
        let own = self.checkpoint_id == checkpoint_id;
        self.cursors.iter().filter(|_| !own).chain(&self.carried).collect()
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
