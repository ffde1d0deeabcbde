//! The rule for paths: every path in a configuration or in an environment variable is absolute,
//! because the service, the commands and `check` have different working directories. Only
//! `tenants_file` is relative to the file that contains it, which it is a part of. Start reading at
//! [`require_absolute`]. See decision 0083.

use std::path::Path;

use crate::error::Explanation;

/// Checks the path that a key or a variable contains.
///
/// # Errors
///
/// Fails with the fault of a relative path.
pub fn require_absolute(name: &str, path: &Path) -> Result<(), Explanation> {
    if path.is_absolute() {
        return Ok(());
    }
    let hint = if path.starts_with("~") {
        "write the path of the home directory instead of `~`, which only a shell replaces"
    } else {
        "write the path from the root directory, because the service does not run in your working directory"
    };
    Err(Explanation::new(format!("`{name}` must be an absolute path")).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_refused() {
        for (path, hint) in [
            ("/", None),
            ("/etc/secret", None),
            ("/etc/../secret", None),
            ("secret", Some("from the root directory")),
            ("./secret", Some("from the root directory")),
            ("", Some("from the root directory")),
            ("~/secret", Some("the home directory")),
            ("~root", Some("from the root directory")),
        ] {
            let refused = require_absolute("file", Path::new(path)).err();
            assert_eq!(refused.is_some(), hint.is_some(), "{path}");
            let Some(refused) = refused else { continue };
            assert_eq!(refused.message, "`file` must be an absolute path");
            assert!(refused.hint.unwrap().contains(hint.unwrap()), "{path}");
        }
    }
}
