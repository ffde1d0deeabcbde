//! Why a file is not opened. Each variant contains the path, so a message that includes the error
//! must not repeat it. The kind of the error survives the conversion to [`io::Error`].

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

use crate::error::Hint;

/// Why a file or directory cannot be used, or is not used although it could be.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system rejected an operation, which is a verb such as `open`.
    #[error("cannot {} `{}`", .operation, .path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is a FIFO, a socket or a device.
    #[error("`{}` is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// The link is not followed.
    #[error("`{}` is a symbolic link", .0.display())]
    SymbolicLink(PathBuf),
    /// The file also has names outside its directory; contains their number.
    #[error("`{}` is one of {} names (hard links) of the same file", .0.display(), .1)]
    HardLinks(PathBuf, u64),
    /// The file or directory belongs to the user with this ID, who is not trusted.
    #[error("`{}` belongs to another user (ID {})", .0.display(), .1)]
    ForeignOwner(PathBuf, u32),
    /// The file belongs to the user with this ID, and has the group that shares its directory; but
    /// all users can write to the directory, so any user can have put the file there.
    #[error("`{}` belongs to another user (ID {}), and every user of this host can create such a file in its directory", .0.display(), .1)]
    UncertainMember(PathBuf, u32),
    /// The directory belongs to the user with this ID, whom root does not act as: in a directory on
    /// its path, users other than root can create such a directory, or replace what leads to it.
    #[error("`{}` belongs to another user (ID {}), and users other than root can create or replace it, because they can write to `{}`", .path.display(), .uid, .shared.display())]
    UncertainOwner { path: PathBuf, uid: u32, shared: PathBuf },
    /// Its permissions let all users change the file or directory.
    #[error("every user of this host can change `{}`", .0.display())]
    WritableByOthers(PathBuf),
    /// The file has more bytes than this limit.
    #[error("`{}` is larger than {} bytes", .0.display(), .1)]
    TooLarge(PathBuf, u64),
}

impl FileError {
    /// The function that converts an error of this operation on this path.
    pub fn io<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |error| Self::Io { operation, path: path.to_owned(), source: error.into() }
    }

    /// The kind that this error has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::ForeignOwner(..)
            | Self::UncertainMember(..)
            | Self::UncertainOwner { .. }
            | Self::WritableByOthers(_) => io::ErrorKind::PermissionDenied,
            Self::TooLarge(..) => io::ErrorKind::FileTooLarge,
            Self::NotRegular(_) | Self::SymbolicLink(_) | Self::HardLinks(..) => {
                io::ErrorKind::InvalidInput
            }
        }
    }
}

impl Hint for FileError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint: Cow<'static, str> = match self {
            Self::Io { .. } | Self::TooLarge(..) => return None,
            Self::NotRegular(_) => "use the path of a regular file".into(),
            Self::SymbolicLink(_) => {
                "use the path of the file itself, or replace the link with the file".into()
            }
            Self::HardLinks(..) => "replace the file with a copy, which has one name".into(),

            Self::ForeignOwner(path, user) => format!(
                "run the command as the user with the ID {user}, or run `chown` so that `{}` belongs to the user who runs the command",
                path.display()
            )
            .into(),
            Self::UncertainMember(path, user) => {
                let directory = path.parent().unwrap_or(path);
                format!(
                    "if you trust the user with the ID {user}, run `chmod o-w {}`, or run `chown` so that the file belongs to the user who runs the command; otherwise, remove the file",
                    directory.display()
                )
                .into()
            }
            Self::UncertainOwner { .. } => {
                "use a path on which only root can write to every directory above, such as `/var/lib/NAME`, and give the last directory to the user of the service".into()
            }
            Self::WritableByOthers(path) => format!("run `chmod o-w {}`", path.display()).into(),
        };
        Some(hint)
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        Self::new(error.kind(), error)
    }
}
