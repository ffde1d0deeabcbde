//! State directories that other users can exchange, because all users can write to a directory that
//! leads to them and is not sticky. Root uses none of them. Every other user does, and is warned,
//! because the volume of a container can have such a mode. Start reading at [`replaceable_part`].
//! See decision 0060.

use std::path::{Path, PathBuf};

use super::{FileError, require_protected_name, walk::is_root};

/// The first directory in which all users can replace a directory with state, whether it exists or
/// not: one above it, or one through which a link leads, to which they can write and that is not
/// sticky. A replacement between two steps redirects a library that opens its files by path.
///
/// `None` if there is none, and if the path cannot be followed, which is reported when the
/// directory is opened.
pub fn replaceable_part(directory: &Path) -> Option<PathBuf> {
    // A path that ends with `..` has no name that could be examined in the directory above.
    let resolved = match directory.file_name() {
        Some(_) => None,
        None => directory.canonicalize().ok(),
    };
    match require_protected_name(resolved.as_deref().unwrap_or(directory)) {
        Err(FileError::WritableByOthers(part)) => Some(part),
        _ => None,
    }
}

/// Fails if this process is root, and all users can replace a directory with state: root must not
/// use what any user has put there.
///
/// # Errors
///
/// Fails with [`FileError::WritableByOthers`] for the [`replaceable_part`].
pub fn require_fixed_for_root(directory: &Path) -> Result<(), FileError> {
    let part = if is_root() { replaceable_part(directory) } else { None };
    part.map_or(Ok(()), |part| Err(FileError::WritableByOthers(part)))
}
