//! The errors of the checkpoint. Each variant requires a different action of the operator or the
//! caller.

use std::{borrow::Cow, path::PathBuf};

use rusqlite::ErrorCode;

use super::lock::Holder;
use crate::{error::Hint, files::FileError};

/// Why an operation on the checkpoint failed. A failed operation has changed nothing, unless its
/// variant states otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot create the state directory `{}`", .0.display())]
    Directory(PathBuf, #[source] std::io::Error),
    /// The lock file is locked; the holder is `None` if it has not written its process ID yet.
    #[error("the checkpoint is held by another process{}", .0.as_ref().map(|h| format!(" (pid {})", h.pid)).unwrap_or_default())]
    Locked(Option<Holder>),
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
    #[error("cannot restore `{}`: not a valid backup ({}); nothing was changed", .0.display(), .1)]
    InvalidBackup(PathBuf, String),
    /// The old and the new name of a sink that cannot be renamed.
    #[error("cannot rename sink `{0}` to `{1}`: a sink with that name already exists")]
    SinkExists(String, String),
    /// The compare-and-set of a cursor failed: it is not at the position that the move starts from.
    #[error("the cursor of sink `{0}` is not at the expected position")]
    CursorMoved(String),
    /// A value exceeds the size that can be read again; the text names the value.
    #[error("the {0} is too large to be stored")]
    TooLarge(&'static str),
    /// The write-ahead log could not be truncated while another connection was reading.
    #[error("freed data remains in the write-ahead log: another process is reading the checkpoint")]
    Busy,
    /// The rows of the tenant are deleted, but the freed space could not be overwritten.
    #[error("the tenant is erased, but traces of it remain in the file")]
    ErasureIncomplete(#[source] Box<CheckpointError>),
    /// The disk has no space for the transaction, which was rolled back.
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    /// Any other error of SQLite, such as a lock that another process holds for more than five
    /// seconds.
    #[error("cannot use the database")]
    Database(#[source] rusqlite::Error),
    /// A file other than the database cannot be used, or data cannot be compressed.
    #[error("cannot use a file of the checkpoint")]
    File(#[from] std::io::Error),
    /// The state directory or one of its files is a link, belongs to another user, or can be
    /// changed by all users.
    #[error("cannot trust the files of the checkpoint")]
    Untrusted(#[source] FileError),
}

impl CheckpointError {
    /// Whether the checkpoint cannot be used until an operator has intervened; the exit code of
    /// commands is 3 in this case.
    pub fn is_unusable(&self) -> bool {
        matches!(
            self,
            Self::Absent(_)
                | Self::Damaged(_)
                | Self::Newer(_)
                | Self::Older(_)
                | Self::Foreign(_)
                | Self::Locked(_)
                | Self::Directory(..)
                | Self::File(_)
                | Self::Untrusted(_)
        ) || matches!(self, Self::Database(error) if !matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy)))
    }
}

impl Hint for CheckpointError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Damaged(_) | Self::Foreign(_) => {
                "run `state repair`, which renames a database that cannot be used: the next start reads the days that Microsoft still keeps, and `cursors.json` prevents duplicates; or run `state restore` with a backup"
            }
            Self::Absent(_) => "run `once` or `run`, which create it",
            Self::Newer(_) => "run the release that wrote it, or a later one",
            Self::Older(_) => "run `once` or `run`, which migrate it",
            Self::SinkExists(..) => {
                "remove `renamed_from`, because records were sent under both names; keep the old sink or remove it with `discard_backlog = true`"
            }
            Self::Locked(_) => {
                "stop the daemon first if this command is `once`, `state restore`, `state repair` or `state prune --compact`; all other commands work while it is running"
            }
            Self::Busy => "run the command again when the other process has finished",
            Self::ErasureIncomplete(_) => "run `state forget` again, which completes the erasure",
            Self::File(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                "run the command as root or as the user of the service"
            }
            Self::Untrusted(error) => return distrust_hint(error),
            _ => return None,
        };
        Some(hint.into())
    }
}

/// The mode of a volume of a container may be fixed, but not that of a directory in it.
fn distrust_hint(error: &FileError) -> Option<Cow<'static, str>> {
    match error {
        FileError::WritableByOthers(path) if path.is_dir() => {
            let path = path.display();
            let hint = format!(
                "run `chmod o-w {path}` or, if the directory is a volume whose mode cannot be changed, set `state.directory` to a new directory in it, which the program creates"
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

impl From<rusqlite::Error> for CheckpointError {
    fn from(error: rusqlite::Error) -> Self {
        if let rusqlite::Error::IntegralValueOutOfRange(_, number) = error {
            return Self::Damaged(format!("the number `{number}` is out of range"));
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Database(error),
        }
    }
}
