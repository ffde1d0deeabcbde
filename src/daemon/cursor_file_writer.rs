//! Writes the second cursor file when cursors have moved.
//!
//! The file is a copy: the cursors themselves are in the database, so a failure loses nothing, and
//! the next call tries again. It contains only the live cursors of sinks, so the positions of
//! replays do not count. Start reading at [`CursorFileWriter::update`]. See decision 0015.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{Meters, StoreExecutor};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    error::Explanation,
};

/// Writes the second cursor file of one engine.
#[derive(Debug)]
pub struct CursorFileWriter {
    store: StoreExecutor,
    meters: Arc<Meters>,
    /// Whether cursors have moved since the file was written.
    has_moved: AtomicBool,
}

impl CursorFileWriter {
    /// A writer for which no cursor has moved. It notes a fault of the storage in `meters`.
    pub(super) fn new(store: StoreExecutor, meters: Arc<Meters>) -> Self {
        Self { store, meters, has_moved: AtomicBool::new(false) }
    }

    /// Makes the next call of [`Self::update`] write the file.
    pub(super) fn mark_moved(&self) {
        self.has_moved.store(true, Relaxed);
    }

    /// Writes the file if cursors have moved since it was last written. If it fails, the next call
    /// tries again.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written. The cursors themselves are in the database.
    pub fn update(&self) -> Result<(), CheckpointError> {
        if !self.has_moved.swap(false, Relaxed) {
            return Ok(());
        }
        let written = self.store.run(Checkpoint::write_cursor_file);
        written.inspect_err(|_| self.mark_moved())
    }

    /// Like [`Self::update`], but logs a failure.
    pub(super) fn update_or_log(&self) {
        if let Err(error) = self.update() {
            self.meters.storage.note_error(&error);
            let error = Explanation::of(&error);
            tracing::warn!(
                error = error.message,
                hint = error.hint,
                "cannot write the second cursor file"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_file_is_written_when_cursors_move() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
        let meters = Arc::new(Meters::new(clock::now()));
        let writer = CursorFileWriter::new(StoreExecutor::new(checkpoint), meters);
        let file = directory.path().join("cursors.json");
        // Whether an update count_writes the file.
        let count_writes = || {
            writer.update().unwrap();
            fs_err::remove_file(&file).is_ok()
        };

        assert!(!count_writes(), "no cursor has moved");
        writer.mark_moved();
        assert!(count_writes());
        assert!(!count_writes(), "no cursor has moved since");

        // A failed update is repeated without another movement.
        let obstacle = directory.path().join("cursors.json.new");
        fs_err::create_dir(&obstacle).unwrap();
        writer.mark_moved();
        assert!(writer.update().is_err());
        fs_err::remove_dir(&obstacle).unwrap();
        assert!(count_writes());
    }
}
