//! Stores one refresh token in a file, encrypted with a key that is not in the state directory.
//!
//! The first line of the file names the format, and the second line is the content. An encrypted
//! token is the base64 encoding of nonce, AES-256-GCM ciphertext and tag. HKDF-SHA-256 derives the
//! key from `token_key`; the name of the credential is additional authenticated data, so that the
//! file of one credential cannot be used for another. The file is always replaced as a whole.

use std::{
    borrow::Cow,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use fs_err::os::unix::fs::OpenOptionsExt;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    error::Hint,
    settings::{SecretError, SecretRef},
};

/// The first line of a file with an encrypted token.
const SEALED_FORMAT: &str = "secure-score-forwarder sealed token 1";
/// The first line of a file with a plaintext token.
const PLAIN_FORMAT: &str = "secure-score-forwarder plain token 1";
/// The size of an AES-GCM nonce (NIST SP 800-38D).
const NONCE_BYTES: usize = 12;

/// The file of one credential's refresh token, and the key that encrypts it.
#[derive(Debug)]
pub struct RefreshTokenStore {
    path: PathBuf,
    name: String,
    key: Option<SecretRef>,
}

/// Whether a refresh token may be stored without encryption if no key is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaintextPolicy {
    /// A token without a key is not stored: [`RefreshTokenError::NoKey`].
    #[default]
    Forbid,
    /// A token without a key is stored unencrypted.
    Allow,
}

/// Why a refresh token cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum RefreshTokenError {
    #[error("cannot write the refresh token to `{0}`")]
    Write(String, #[source] std::io::Error),
    #[error("cannot read the refresh token from `{0}`")]
    Read(String, #[source] std::io::Error),
    #[error("cannot read `token_key`")]
    Key(#[source] SecretError),
    #[error(
        "cannot decrypt the refresh token in `{0}`: `token_key` differs or the file is damaged"
    )]
    Decrypt(String),
    #[error("cannot encrypt the refresh token for `{0}`")]
    Encrypt(String),
    #[error("cannot encrypt the refresh token: no `token_key` is configured")]
    NoKey,
}

impl Hint for RefreshTokenError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Decrypt(_) => Some("run `login` again".into()),
            Self::NoKey => Some("set `token_key`, or pass --plaintext".into()),
            Self::Write(..) | Self::Read(..) | Self::Key(_) | Self::Encrypt(_) => None,
        }
    }
}

impl PlaintextPolicy {
    /// The policy that the flag `--plaintext` sets.
    pub fn from_flag(is_set: bool) -> Self {
        if is_set { Self::Allow } else { Self::Forbid }
    }
}

impl RefreshTokenStore {
    /// `name` is the name of the credential, which may contain any characters.
    pub fn new(directory: &Path, name: &str, key: Option<SecretRef>) -> Self {
        let file: String = name
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02x}"),
            })
            .collect();
        Self { path: directory.join(format!("{file}.token")), name: name.to_owned(), key }
    }

    /// The reference to the encryption key; `None` if tokens are stored in plaintext.
    pub fn key(&self) -> Option<&SecretRef> {
        self.key.as_ref()
    }

    /// The stored token, or `None` if no file exists.
    ///
    /// # Errors
    ///
    /// Fails if the file or the key cannot be read, or with [`RefreshTokenError::Decrypt`] if the
    /// content is damaged or was encrypted with another key.
    #[expect(clippy::disallowed_methods, reason = "`RefreshTokenError` names the file")]
    pub fn read(&self) -> Result<Option<SecretString>, RefreshTokenError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RefreshTokenError::Read(self.path_text(), error)),
        };

        let invalid = || RefreshTokenError::Decrypt(self.path_text());
        let (format, content) = text.trim_end().split_once('\n').ok_or_else(invalid)?;
        let token = match format {
            PLAIN_FORMAT => content.to_owned(),
            SEALED_FORMAT => self.decrypt(content)?,
            _ => return Err(invalid()),
        };
        Ok(Some(SecretString::from(token)))
    }

    /// Replaces the stored token durably.
    ///
    /// # Errors
    ///
    /// Returns [`RefreshTokenError::NoKey`] if no key is configured and the policy forbids
    /// plaintext. Fails if the key cannot be read or the file cannot be written.
    pub fn write(
        &self,
        token: &SecretString,
        plaintext: PlaintextPolicy,
    ) -> Result<(), RefreshTokenError> {
        let text = match (&self.key, plaintext) {
            (Some(_), _) => format!("{SEALED_FORMAT}\n{}\n", self.encrypt(token)?),
            (None, PlaintextPolicy::Allow) => {
                format!("{PLAIN_FORMAT}\n{}\n", token.expose_secret())
            }
            (None, PlaintextPolicy::Forbid) => return Err(RefreshTokenError::NoKey),
        };
        self.replace(&text).map_err(|error| RefreshTokenError::Write(self.path_text(), error))
    }

    fn replace(&self, text: &str) -> std::io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        if !directory.exists() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }

        let temporary = self.path.with_extension("new");
        let mut options = fs_err::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;

        // The rename is durable only when the directory is synced too.
        fs_err::rename(&temporary, &self.path)?;
        fs_err::File::open(directory)?.sync_all()
    }

    fn encrypt(&self, token: &SecretString) -> Result<String, RefreshTokenError> {
        let mut bytes = token.expose_secret().as_bytes().to_vec();
        let nonce = self
            .derived_key()?
            .seal_in_place_append_tag(Aad::from(self.name.as_bytes()), &mut bytes)
            .map_err(|_| RefreshTokenError::Encrypt(self.path_text()))?;
        Ok(STANDARD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    fn decrypt(&self, content: &str) -> Result<String, RefreshTokenError> {
        let failed = || RefreshTokenError::Decrypt(self.path_text());
        let bytes = STANDARD.decode(content).map_err(|_| failed())?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;

        let mut buffer = ciphertext.to_vec();
        let plaintext = self
            .derived_key()?
            .open_in_place(nonce, Aad::from(self.name.as_bytes()), &mut buffer)
            .map_err(|_| failed())?;
        String::from_utf8(plaintext.to_vec()).map_err(|_| failed())
    }

    fn derived_key(&self) -> Result<RandomizedNonceKey, RefreshTokenError> {
        let secret =
            self.key.as_ref().ok_or_else(|| RefreshTokenError::Decrypt(self.path_text()))?;
        let secret = secret.read().map_err(RefreshTokenError::Key)?;

        let mut key = [0; 32];
        Salt::new(HKDF_SHA256, b"secure-score-forwarder")
            .extract(secret.expose_secret().as_bytes())
            .expand(&[b"refresh token"], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .and_then(|()| RandomizedNonceKey::new(&AES_256_GCM, &key))
            .map_err(|_| RefreshTokenError::Decrypt(self.path_text()))
    }

    fn path_text(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decrypts_only_with_same_key_and_name() {
        let directory = tempfile::tempdir().unwrap();
        let key = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
            Some(SecretRef::File(directory.path().join(name)))
        };
        let tokens = directory.path().join("tokens");
        let store = RefreshTokenStore::new(&tokens, "mssp/../x", key("a", "correct horse"));

        assert!(store.read().unwrap().is_none());
        for token in ["first", "second"] {
            store.write(&SecretString::from(token), PlaintextPolicy::Forbid).unwrap();
            assert_eq!(store.read().unwrap().unwrap().expose_secret(), token);
        }
        let file = tokens.join("mssp%2f%2e%2e%2fx.token");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("second"));

        let other = RefreshTokenStore::new(&tokens, "mssp/../x", key("b", "battery staple"));
        assert!(matches!(other.read(), Err(RefreshTokenError::Decrypt(_))));

        // The name is authenticated: the file of another credential is rejected.
        std::fs::copy(&file, tokens.join("other.token")).unwrap();
        let moved = RefreshTokenStore::new(&tokens, "other", key("a", "correct horse"));
        assert!(matches!(moved.read(), Err(RefreshTokenError::Decrypt(_))));
    }

    #[test]
    fn stores_plaintext_only_when_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let store = RefreshTokenStore::new(directory.path(), "x", None);
        let token = SecretString::from("t");

        let forbidden = store.write(&token, PlaintextPolicy::Forbid);
        assert!(matches!(forbidden, Err(RefreshTokenError::NoKey)));
        store.write(&token, PlaintextPolicy::Allow).unwrap();
        assert_eq!(store.read().unwrap().unwrap().expose_secret(), "t");
    }
}
