//! Reports a state directory that other users of this host can exchange. Such a directory is used,
//! because a container has no other users; see decision 0060. Start reading at
//! [`exchange_warning`].

use std::path::Path;

use crate::{error::Explanation, files::replaceable_part};

/// The warning about a state directory that other users can exchange, whether it exists or not.
/// Root does not use such a directory.
pub fn exchange_warning(directory: &Path) -> Option<Explanation> {
    let part = replaceable_part(directory)?;
    let (directory, part) = (directory.display(), part.display());

    let message = format!(
        "other users can exchange the state directory `{directory}`, because all users can write to `{part}`, which is not sticky"
    );
    let hint = format!(
        "run `chmod o-w {part}`; or, if all users must be able to write to this directory, run `chmod +t {part}`"
    );
    Some(Explanation::new(message).with_hint(hint))
}
