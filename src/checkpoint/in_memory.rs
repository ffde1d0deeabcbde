//! Checkpoints whose database is in memory, for tests: they need no lock, and open fast. Only the
//! second cursor file is in a directory.

use std::{path::Path, sync::Arc};

use super::{Checkpoint, CheckpointError, backend::Backend, sqlite::SqliteBackend};
use crate::state_directory::StateDirectory;

impl Checkpoint {
    /// An empty checkpoint.
    pub(crate) fn in_memory(directory: &Path) -> Result<Self, CheckpointError> {
        Self::with_backend(directory, |sqlite| sqlite)
    }

    /// An empty checkpoint over the backend that `wrap` makes of the database.
    pub(super) fn with_backend(
        directory: &Path,
        wrap: impl FnOnce(Arc<SqliteBackend>) -> Arc<dyn Backend>,
    ) -> Result<Self, CheckpointError> {
        let sqlite = Arc::new(SqliteBackend::in_memory()?);
        let backend = wrap(Arc::clone(&sqlite));
        Self::over(StateDirectory::open_read_only(directory)?, sqlite, backend)
    }

    /// The same checkpoint as a new process finds it: nothing that this one knows is kept, except
    /// the database and its backend.
    pub(crate) fn restarted(&self) -> Result<Self, CheckpointError> {
        let (sqlite, backend) = (Arc::clone(&self.sqlite), Arc::clone(&self.backend));
        Self::over(StateDirectory::open_read_only(self.state.path())?, sqlite, backend)
    }
}
