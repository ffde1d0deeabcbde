//! The errors of the checkpoint. Each variant requires a different action of the operator or the
//! caller.

use std::{borrow::Cow, path::PathBuf};

use super::{
    backend::{DriverError, ShardId},
    storage_fault::StorageFault,
};
use crate::{error::Hint, files::FileError, model::SinkName, state_directory::StateDirectoryError};

/// Why an operation on the checkpoint failed. A failed operation has changed nothing, unless its
/// variant states otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The state directory cannot be created, or another process holds its lock. Its files that
    /// cannot be used are [`Self::File`] or [`Self::Untrusted`], like those of the database.
    #[error(transparent)]
    StateDirectory(StateDirectoryError),
    /// The state directory contains no database; the path is the one that was expected.
    #[error("no checkpoint at `{}`", .0.display())]
    Absent(PathBuf),
    /// The application ID of the file is not the one of this program.
    #[error("`{}` is not a checkpoint of this program", .0.display())]
    Foreign(PathBuf),
    /// A later release has migrated the database to this schema version.
    #[error("the checkpoint has version {0}, which requires a newer release")]
    Newer(i32),
    /// Returned only when a checkpoint is opened for reading: opening it for writing migrates it.
    #[error("the checkpoint has version {0}, which this release has not migrated yet")]
    Older(i32),
    /// The database, or a value in it, cannot be decoded; the text states which one.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(String),
    /// The path of a file that is not a backup that can be restored, and the reason. The reason is
    /// text, because the message of a source would describe the checkpoint.
    #[error("cannot restore `{}`: {}; nothing was changed", .0.display(), .1)]
    InvalidBackup(PathBuf, String),
    /// The old and the new name of a sink that cannot be renamed.
    #[error("cannot rename sink `{0}` to `{1}`: a sink with that name already exists")]
    SinkExists(SinkName, SinkName),
    /// The compare-and-set of a cursor failed: it is not at the position that the move starts from.
    #[error("the cursor of sink `{0}` is not at the expected position")]
    CursorMoved(SinkName),
    /// A value exceeds the size that can be read again; the text names the value.
    #[error("the {0} is too large to be stored")]
    TooLarge(&'static str),
    /// The write-ahead log could not be truncated while another connection was reading.
    #[error("freed data remains in the write-ahead log: another process is reading the checkpoint")]
    Busy,
    /// The rows of the tenant are deleted, but the freed space could not be overwritten.
    #[error("the tenant is erased, but traces of it remain in the file")]
    ErasureIncomplete(#[source] Box<CheckpointError>),
    /// The database cannot be read or written, although nothing in it is damaged.
    #[error("{0}")]
    Storage(StorageFault, #[source] DriverError),
    /// The connection was lost during the commit, so the operation may have happened.
    #[error("cannot determine whether the last change of shard {0} was stored")]
    Indeterminate(ShardId),
    /// The claim of this process is not valid anymore. The operation has changed nothing.
    #[error("another process has taken over shard {0} of the checkpoint")]
    ClaimLost(ShardId),
    /// The path of the database that the second cursor file belongs to, and what has happened to
    /// it. See decision 0075.
    #[error("the database `{}` {}", .0.display(), .1.description())]
    DatabaseLost(PathBuf, DatabaseLoss),
    /// A file other than the database cannot be used, or data cannot be compressed.
    #[error("{}", file_fault(.0))]
    File(#[from] std::io::Error),
    /// The state directory or one of its files is a link, belongs to another user, or can be
    /// changed by all users.
    #[error("cannot trust the files of the checkpoint")]
    Untrusted(#[source] FileError),
}

/// What has happened to a database that the second cursor file remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseLoss {
    /// The file does not exist.
    Absent(CursorCopy),
    /// The file contains nothing.
    Empty(CursorCopy),
    /// It is the database of another checkpoint.
    Replaced,
    /// It is an earlier copy of the same database.
    Outdated,
    /// Another process has removed, replaced or emptied the file while this one was using it.
    Gone,
    /// The lock file was removed or replaced, so another process can use the database too.
    Unlocked,
}

/// The second cursor file of a lost database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorCopy {
    /// It contains the cursors.
    Usable,
    /// It only shows that there was a database: it is empty, damaged, or cannot be read.
    Unusable,
}

impl CheckpointError {
    /// Whether the checkpoint cannot be used until an operator has intervened; the exit code of
    /// commands is 3 in this case.
    pub fn is_unusable(&self) -> bool {
        match (self, self.storage_fault()) {
            (_, Some(fault)) => fault.needs_operator(),
            (
                Self::Absent(_)
                | Self::Damaged(_)
                | Self::Newer(_)
                | Self::Older(_)
                | Self::Foreign(_)
                | Self::StateDirectory(_)
                | Self::DatabaseLost(..)
                | Self::ClaimLost(_)
                | Self::File(_)
                | Self::Untrusted(_),
                None,
            ) => true,
            (_, None) => false,
        }
    }

    /// Whether this process must not continue with the checkpoint: its database is lost, or another
    /// process writes to it. Only a restart can continue.
    pub fn ends_process(&self) -> bool {
        matches!(self, Self::DatabaseLost(..) | Self::ClaimLost(_))
    }

    /// Whether the same operation may succeed later without a change of the database, because its
    /// cause is a lock, the disk, or the memory of this host. The operation has changed nothing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy | Self::File(_) => true,
            Self::Storage(fault, _) => *fault != StorageFault::Unexpected,
            _ => false,
        }
    }

    /// Why the files of the checkpoint, or its database, cannot be used although nothing in them is
    /// damaged; `None` for every other error.
    pub fn storage_fault(&self) -> Option<StorageFault> {
        match self {
            Self::Storage(fault, _) => Some(*fault),
            // No other write begins before the outcome is known.
            Self::Indeterminate(_) => Some(StorageFault::Unavailable),
            Self::StateDirectory(StateDirectoryError::Create(_, error)) | Self::File(error) => {
                fault_of_file(error)
            }
            Self::ErasureIncomplete(error) => error.storage_fault(),
            _ => None,
        }
    }

    /// The damage that an error reports. Returns every other error, such as a fault of the disk,
    /// which does not show that anything is damaged.
    pub(super) fn into_damage(self) -> Result<String, Self> {
        match self {
            Self::Damaged(reason) => Ok(reason),
            other => Err(other),
        }
    }

    /// Whether the content of the database is the cause: setting the database aside removes it.
    pub(super) fn is_about_content(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Foreign(_) | Self::Newer(_) => true,
            // A damaged schema can also cause any other error of a statement.
            Self::Storage(fault, _) => *fault == StorageFault::Unexpected,
            _ => false,
        }
    }
}

impl DatabaseLoss {
    /// The rest of the sentence that begins with the path.
    const fn description(self) -> &'static str {
        match self {
            Self::Absent(CursorCopy::Usable) => {
                "does not exist, but `cursors.json` contains its cursors"
            }
            Self::Absent(CursorCopy::Unusable) => {
                "does not exist, and `cursors.json`, which shows that it did, cannot be used"
            }
            Self::Empty(CursorCopy::Usable) => "is empty, but `cursors.json` contains its cursors",
            Self::Empty(CursorCopy::Unusable) => {
                "is empty, and `cursors.json`, which shows that it was in use, cannot be used"
            }
            Self::Replaced => "is not the one whose cursors `cursors.json` contains",
            Self::Outdated => {
                "is an old copy: `cursors.json` contains cursors of later log entries"
            }
            Self::Gone => "was removed, replaced or emptied while this process was using it",
            Self::Unlocked => {
                "is no longer protected from other processes: the file `lock` was removed or replaced"
            }
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Absent(CursorCopy::Unusable) | Self::Empty(CursorCopy::Unusable) => {
                "check that the file system of the state directory is mounted; if the database is lost, run `state restore FILE` to restore a backup, or `state repair` to start with a new checkpoint: the 90 days that Microsoft keeps are then sent again"
            }
            Self::Absent(CursorCopy::Usable) | Self::Empty(CursorCopy::Usable) => {
                "check that the file system of the state directory is mounted; if the database is lost, run `state restore FILE` to restore a backup, or `state repair` to start with a new checkpoint and the 90 days that Microsoft keeps"
            }
            Self::Replaced | Self::Outdated => {
                "put the newest database back; if it is lost, run `state repair` to continue with this one: `cursors.json` prevents duplicates"
            }
            Self::Gone => {
                "put the database back, or run `state repair`; then start the daemon again"
            }
            Self::Unlocked => "start the daemon again, which creates the file `lock`",
        }
    }
}

impl Hint for CheckpointError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Damaged(_) | Self::Foreign(_) => {
                "run `state repair`, which renames a database that cannot be used: the next start reads the days that Microsoft still keeps, and an intact `cursors.json` prevents duplicates; or run `state restore` with a backup"
            }
            Self::Absent(_) => "run `once` or `run`, which create it",
            Self::Newer(_) => "run the release that wrote it, or a later one",
            Self::Older(_) => "run `once` or `run`, which migrate it",
            Self::SinkExists(..) => {
                "remove `renamed_from`, because records were sent under both names; keep the old sink or remove it with `discard_backlog = true`"
            }
            Self::StateDirectory(StateDirectoryError::Locked(_)) => {
                "stop the daemon first if this command is `once`, `state restore`, `state repair` or `state prune --compact`; all other commands work while it is running"
            }
            Self::Busy => "run the command again when the other process has finished",
            Self::ErasureIncomplete(_) => "run `state forget` again, which completes the erasure",
            Self::DatabaseLost(_, loss) => loss.remedy(),

            Self::Indeterminate(_) => {
                "check that the database is running and can be reached; the next operation determines the outcome"
            }
            Self::ClaimLost(_) => {
                "stop the other process that writes to the checkpoint, and start this one again"
            }
            Self::File(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                "run the command as root or as the user of the service"
            }
            Self::File(cause) if cause.kind() == std::io::ErrorKind::IsADirectory => {
                "move the directory to another place"
            }
            Self::Untrusted(error) => return distrust_hint(error),
            other => return other.storage_fault()?.remedy().map(Into::into),
        };

        Some(hint.into())
    }
}

/// Why a file other than the database cannot be used; `None` for a reason that is not one of these
/// faults.
fn fault_of_file(error: &std::io::Error) -> Option<StorageFault> {
    // A file that does not exist may be one that the command line names.
    StorageFault::of_io(error).filter(|fault| *fault != StorageFault::Missing)
}

/// The same message as for a fault of the database that has this cause.
fn file_fault(error: &std::io::Error) -> Cow<'static, str> {
    match fault_of_file(error) {
        Some(fault) => fault.to_string().into(),
        None => "cannot use a file of the checkpoint".into(),
    }
}

/// All users may have to write to the volume of a container. They can exchange a directory in it
/// only if the volume is not sticky.
fn distrust_hint(error: &FileError) -> Option<Cow<'static, str>> {
    match error {
        FileError::WritableByOthers(path) if path.is_dir() => {
            let path = path.display();
            let hint = format!(
                "run `chmod o-w {path}`; or, if all users must be able to write to this directory, run `chmod +t {path}` and set `state.directory` to a new directory in it, which the program creates"
            );
            Some(hint.into())
        }
        other => other.hint(),
    }
}

impl From<FileError> for CheckpointError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { .. } => Self::File(error.into()),
            error => Self::Untrusted(error),
        }
    }
}

impl From<StateDirectoryError> for CheckpointError {
    fn from(error: StateDirectoryError) -> Self {
        match error {
            StateDirectoryError::File(error) => error.into(),
            error => Self::StateDirectory(error),
        }
    }
}
