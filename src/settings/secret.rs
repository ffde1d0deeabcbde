//! References to secrets.
//!
//! The configuration contains only the reference. The secret is read when it is used, so that a
//! rotated file takes effect without a restart, and it is never part of an error or a log line.
//! See decision 0034.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// Where a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// The name of a credential that systemd has loaded (`LoadCredential=`), or of a file in
    /// [`SECRETS`].
    Credential(String),
    /// The path of a file.
    File(PathBuf),
    /// The name of an environment variable, for containers. Under systemd a credential is safer,
    /// because child processes inherit the environment.
    Env(String),
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "no credential `{0}`: systemd did not load it, and the file `{SECRETS}/{0}` does not exist"
    )]
    NoCredential(String),
    #[error("cannot read the secret")]
    Read(#[source] std::io::Error),
    #[error("the secret in `{0}` is empty")]
    Empty(String),
    #[error("environment variable `{0}` is not set")]
    NoVariable(String),
    #[error("the secret in `{0}` is not a single line of text")]
    NotALine(String),
}

impl SecretRef {
    /// Reads the secret, without a trailing line break.
    ///
    /// # Errors
    ///
    /// Fails with [`SecretError::NoCredential`], [`SecretError::NoVariable`] or
    /// [`SecretError::Read`] if there is no such secret, and with [`SecretError::Empty`] or
    /// [`SecretError::NotALine`] if its text is not usable. No error contains the secret.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let text = match self {
            Self::Credential(name) => read_file(&credential(name)?)?,
            Self::File(path) => read_file(path)?,
            Self::Env(name) => {
                std::env::var(name).map_err(|_| SecretError::NoVariable(name.clone()))?
            }
        };

        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);

        if line.is_empty() {
            return Err(SecretError::Empty(self.to_string()));
        }
        if line.chars().any(char::is_control) {
            return Err(SecretError::NotALine(self.to_string()));
        }
        Ok(SecretString::from(line))
    }
}

impl std::fmt::Display for SecretRef {
    /// Prints the reference, which is not secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "${name}"),
        }
    }
}

/// The directory whose files the systemd unit loads as credentials, and where commands that run
/// outside the unit look for them.
const SECRETS: &str = "/etc/secure-score-forwarder/secrets";
/// The prefix that systemd adds to the file names of a directory that is loaded with
/// `LoadCredential=secrets:…`.
const DIRECTORY_PREFIX: &str = "secrets_";

/// The path of a credential. In the unit it is the credential that was loaded under this name, or
/// as part of its directory; outside the unit it is the file itself.
fn credential(name: &str) -> Result<PathBuf, SecretError> {
    let candidates = match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => {
            let directory = Path::new(&directory);
            vec![
                directory.join(name),
                directory.join(format!("{DIRECTORY_PREFIX}{name}")),
                // systemd loads credentials only when the unit starts, so a file that was added
                // later is read directly.
                Path::new(SECRETS).join(name),
            ]
        }
        None => vec![Path::new(SECRETS).join(name)],
    };

    // A file that exists but is not accessible counts as found, so that the read error is reported.
    let may_exist = |path: &PathBuf| !matches!(path.try_exists(), Ok(false));
    candidates.into_iter().find(may_exist).ok_or_else(|| SecretError::NoCredential(name.to_owned()))
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    fs_err::read_to_string(path).map_err(SecretError::Read)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn strips_a_trailing_line_break() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let read = |text: &str| {
            fs_err::write(&path, text).unwrap();
            SecretRef::File(path.clone()).read().map(|s| s.expose_secret().to_owned())
        };

        assert_eq!(read("abc~ 1\n").unwrap(), "abc~ 1");
        assert_eq!(read("abc\r\n").unwrap(), "abc");
        assert!(matches!(read(""), Err(SecretError::Empty(_))));
        assert!(matches!(read("a\nb\n"), Err(SecretError::NotALine(_))));

        let debug = format!("{:?}", SecretRef::File(path.clone()).read());
        fs_err::write(&path, "canary").unwrap();
        assert!(!debug.contains("canary"));
    }
}
