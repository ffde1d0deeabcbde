//! What can go wrong with the store, by what is to be done.

use std::{borrow::Cow, path::PathBuf};

use rusqlite::ErrorCode;

use super::lock::Holder;
use crate::error::Hint;

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot make the state directory `{}`", .0.display())]
    Directory(PathBuf, #[source] std::io::Error),
    #[error("the checkpoint is held by another process{}", .0.as_ref().map(|h| format!(" (pid {})", h.pid)).unwrap_or_default())]
    Locked(Option<Holder>),
    #[error("there is no checkpoint at `{}`", .0.display())]
    Absent(PathBuf),
    #[error("`{}` is not a checkpoint of this program", .0.display())]
    Foreign(PathBuf),
    #[error("the checkpoint is of version {0}, which only a newer release can read")]
    Newer(i32),
    #[error(
        "the checkpoint is of version {0}: it will be brought to today's when `run` or `once` opens it next"
    )]
    Older(i32),
    #[error("the checkpoint is damaged: {0}")]
    Damaged(String),
    #[error("`{}` is no backup that could be restored; nothing was changed", .0.display())]
    InvalidBackup(PathBuf, #[source] Box<CheckpointError>),
    #[error("sink `{0}` cannot go on as `{1}`: there is one of that name already")]
    SinkExists(String, String),
    #[error("the cursor of sink `{0}` is not where it was thought to be")]
    CursorMoved(String),
    #[error("the {0} is too large to be kept")]
    TooLarge(&'static str),
    #[error(
        "another process is reading the checkpoint, so that what it freed is not off the disk yet: do it once more"
    )]
    Busy,
    #[error(
        "the tenant is erased, but traces of it are left in the file: say `state forget` once more"
    )]
    ErasureIncomplete(#[source] Box<CheckpointError>),
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    #[error("the database failed")]
    Database(#[source] rusqlite::Error),
    #[error("a file of the checkpoint failed")]
    File(#[from] std::io::Error),
}

impl CheckpointError {
    /// The store cannot be used until somebody has looked at it.
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
        ) || matches!(self, Self::Database(error) if !matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy)))
    }
}

impl Hint for CheckpointError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Damaged(_) | Self::Foreign(_) => {
                "run `state repair`, which sets the file aside: the next start reads the days that Microsoft still has, and `cursors.json` prevents duplicates; or run `state restore` with a backup"
            }
            Self::Absent(_) => "run `once` or `run`, which create it",
            Self::Newer(_) => "run the release that wrote it, or a later one",
            Self::SinkExists(..) => {
                "remove `renamed_from`: both names have sent records already; keep the old sink or remove it with `discard_backlog = true`"
            }
            Self::Locked(_) => {
                "stop the daemon first if this is `once`, `state restore`, `state repair` or `state prune --compact`; all other commands work while it is running"
            }
            Self::File(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                "run the command as root or as the service's own user"
            }
            _ => return None,
        };
        Some(hint.into())
    }
}

impl From<rusqlite::Error> for CheckpointError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Database(error),
        }
    }
}
