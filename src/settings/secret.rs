//! Secrets by reference. The text of a secret never stands in the configuration, is read when it
//! is needed (so that a rotated file is picked up), and is printed by nothing.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// Where a secret is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// systemd's `LoadCredential=`: see [`credential`].
    Credential(String),
    File(PathBuf),
    /// For containers; under systemd a credential is safer, for the environment is inherited.
    Env(String),
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "there is no credential `{0}`: neither systemd gave one, nor is there a file `{SECRETS}/{0}`"
    )]
    NoCredential(String),
    #[error("cannot read the secret")]
    Read(#[source] std::io::Error),
    #[error("the secret in `{0}` is empty")]
    Empty(String),
    #[error("environment variable `{0}` is not set")]
    NoVariable(String),
    #[error("the secret in `{0}` is not text of one line")]
    NotALine(String),
}

impl SecretRef {
    /// Reads the secret. One line end at its end is not part of it.
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
    /// The reference, which is no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "${name}"),
        }
    }
}

/// Where files lie that the shipped unit loads as credentials, and where commands outside of it look.
const SECRETS: &str = "/etc/secure-score-forwarder/secrets";
/// What systemd puts before the names of files that are loaded by their directory, which is loaded as
/// `secrets`.
const OF_DIRECTORY: &str = "secrets_";

/// The file of a credential: one that was loaded by its own name, else with its directory; outside of
/// the unit the file itself.
fn credential(name: &str) -> Result<PathBuf, SecretError> {
    let candidates = match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => {
            let directory = Path::new(&directory);
            // A file that has come since the start was not loaded with the others.
            vec![
                directory.join(name),
                directory.join(format!("{OF_DIRECTORY}{name}")),
                Path::new(SECRETS).join(name),
            ]
        }
        None => vec![Path::new(SECRETS).join(name)],
    };
    // One that is there and must not be looked at shows in the reading.
    let is_there = |path: &PathBuf| !matches!(path.try_exists(), Ok(false));
    candidates.into_iter().find(is_there).ok_or_else(|| SecretError::NoCredential(name.to_owned()))
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    // fs-err names the file in the error.
    fs_err::read_to_string(path).map_err(SecretError::Read)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_a_secret() {
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
