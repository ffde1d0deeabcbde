//! The second cursor file, `cursors.json`: a copy of the cursors outside the database. It prevents
//! days from being sent again after the database is lost.
//!
//! This module defines its content, as JSON; the module `state_directory` stores it with a hash.
//! Start reading at [`CursorFile`]; `saved_cursors` reads its content from the database. See
//! decision 0015.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Position;
use crate::{
    model::{CheckpointId, Day, Seq, SinkName, TenantId, UnixMillis},
    state_directory::{CursorFileError, StateDirectory},
};

/// The content of the second cursor file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorFile {
    /// The checkpoint that `cursors` belongs to.
    pub checkpoint_id: CheckpointId,
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
    pub sink: SinkName,
    /// The GUID of the tenant.
    pub tenant: String,
    /// The entry in the tenant's log.
    pub seq: Seq,
    /// The index of the next record in that entry.
    pub record_index: u32,
    /// The first day that the sink may not have received, as `YYYY-MM-DD`; earlier days are not
    /// sent again.
    pub sent_before: String,
    /// When the sink was removed from the configuration; `None` while it is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<UnixMillis>,
}

impl CursorFile {
    /// Reads the file; `None` if it does not exist. Fails if its hash is wrong, or if its JSON has
    /// another form.
    pub fn read(state: &StateDirectory) -> Result<Option<Self>, CursorFileError> {
        let Some(text) = state.read_cursors()? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|_| CursorFileError::Damaged)
    }

    /// Replaces the file. It is on disk when this returns `Ok`.
    ///
    /// # Errors
    ///
    /// Fails if the new file cannot be written, synced or renamed; the previous file is then kept.
    pub fn write(&self, state: &StateDirectory) -> std::io::Result<()> {
        state.write_cursors(&serde_json::to_string(self)?)
    }

    /// The first day that a sink had not received when an earlier checkpoint was lost; `None` if no
    /// checkpoint was lost, or if it did not have the cursor.
    pub(super) fn first_unsent_day(
        &self,
        checkpoint_id: &CheckpointId,
        sink: &SinkName,
        tenant: TenantId,
    ) -> Option<Day> {
        let tenant = tenant.to_string();
        let saved = self
            .lost_cursors(checkpoint_id)
            .into_iter()
            .find(|c| c.sink == *sink && c.tenant == tenant)?;
        Day::parse(&saved.sent_before)
    }

    /// The cursors of the current checkpoint, whose ID is `checkpoint_id`; none if the file belongs
    /// to another one.
    pub(super) fn current_cursors(
        &self,
        checkpoint_id: &CheckpointId,
    ) -> impl Iterator<Item = &SavedCursor> {
        let is_current = self.checkpoint_id == *checkpoint_id;
        self.cursors.iter().filter(move |_| is_current)
    }

    /// The position of a cursor of the current checkpoint; `None` if the file
    /// does not contain it.
    pub(super) fn position(
        &self,
        checkpoint_id: &CheckpointId,
        sink: &SinkName,
        tenant: &str,
    ) -> Option<Position> {
        let mut cursors = self.current_cursors(checkpoint_id);
        let saved = cursors.find(|cursor| cursor.sink == *sink && cursor.tenant == tenant)?;
        Some(Position { seq: saved.seq, record_index: saved.record_index })
    }

    /// Whether the file has a cursor of this tenant.
    pub(super) fn contains(&self, tenant: &str) -> bool {
        self.cursors.iter().chain(&self.carried).any(|cursor| cursor.tenant == tenant)
    }

    /// Removes the cursors of an erased tenant.
    pub(super) fn forget(&mut self, tenant: &str) {
        self.retain(|cursor| cursor.tenant != tenant);
    }

    /// Removes the cursors of a deleted sink.
    pub(super) fn forget_sink(&mut self, sink: &SinkName) {
        self.retain(|cursor| cursor.sink != *sink);
    }

    /// Removes the cursors of the sinks that were removed from the configuration at this time or
    /// earlier.
    pub(super) fn forget_removed(&mut self, until: UnixMillis) {
        self.retain(|cursor| cursor.removed_at.is_none_or(|removed| removed > until));
    }

    /// Moves the cursors of a sink to its new name, unless that name already has cursors.
    pub(super) fn rename_sink(&mut self, old: &SinkName, new: &SinkName) {
        if old == new {
            return;
        }
        for cursors in [&mut self.cursors, &mut self.carried] {
            let taken: HashSet<String> =
                cursors.iter().filter(|c| c.sink == *new).map(|c| c.tenant.clone()).collect();
            cursors.retain(|cursor| cursor.sink != *old || !taken.contains(&cursor.tenant));
            for cursor in cursors.iter_mut().filter(|cursor| cursor.sink == *old) {
                cursor.sink.clone_from(new);
            }
        }
    }

    fn retain(&mut self, is_kept: impl Fn(&SavedCursor) -> bool) {
        self.cursors.retain(&is_kept);
        self.carried.retain(&is_kept);
    }

    /// The cursors of checkpoints that were lost; `checkpoint_id` is the current one.
    pub(super) fn lost_cursors(&self, checkpoint_id: &CheckpointId) -> Vec<&SavedCursor> {
        let is_current = self.checkpoint_id == *checkpoint_id;
        self.cursors.iter().filter(|_| !is_current).chain(&self.carried).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number of a cursor, and whether the file can be read with it.
    const NUMBERS: &[(&str, bool)] = &[
        ("0", true),
        ("2147483648", true),
        ("4294967296", false),
        ("-1", false),
        ("-0.5", false),
        ("9223372036854775807", false),
        ("18446744073709551615", false),
        ("18446744073709551616", false),
        ("1e308", false),
        ("NaN", false),
        ("\"NaN\"", false),
        ("\"7\"", false),
    ];

    #[test]
    fn numbers_out_of_range_are_damage() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open_read_only(directory.path()).unwrap();
        let read = |seq: &str, record_index: &str, removed_at: &str| {
            let body = format!(
                r#"{{"checkpoint_id":"x","cursors":[{{"sink":"s","tenant":"t","seq":{seq},"record_index":{record_index},"sent_before":"2026-11-22","removed_at":{removed_at}}}]}}"#
            );
            state.write_cursors(&body).unwrap();
            CursorFile::read(&state)
        };

        for (number, is_valid) in NUMBERS {
            let found = read("1", number, "null");
            assert_eq!(found.is_ok(), *is_valid, "{number}");
        }
        for number in ["-1", "1e308", "18446744073709551616", "NaN"] {
            assert!(matches!(read(number, "0", "null"), Err(CursorFileError::Damaged)), "{number}");
        }
        for extreme in [i64::MIN, i64::MAX] {
            let read = read("18446744073709551615", "0", &extreme.to_string());
            let mut file = read.unwrap().unwrap();
            file.forget_removed(UnixMillis::new(0));
            assert_eq!(file.cursors.is_empty(), extreme < 0, "{extreme}");
        }
    }
}
