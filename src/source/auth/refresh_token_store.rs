//! Stores one refresh token in a file, encrypted with a key that is not in the state directory.
//!
//! The first line of the file names the format, and the second line is the content. An encrypted
//! token is the base64 encoding of nonce, AES-256-GCM ciphertext and tag. HKDF-SHA-256 derives the
//! key from `token_key`; the name of the credential is additional authenticated data, so that the
//! file of one credential cannot be used for another. The file is always replaced as a whole. With
//! a key, a plaintext token is never used before it is encrypted.

use std::{
    borrow::Cow,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    error::Hint,
    files::{FileError, NewFileMode, OwnedDirectory},
    settings::{GENERATE_KEY, SecretError, SecretRef, check_key},
};

/// The first line of a file with an encrypted token.
const SEALED_FORMAT: &str = "secure-score-forwarder sealed token 1";
/// The first line of a file with a plaintext token.
const PLAIN_FORMAT: &str = "secure-score-forwarder plain token 1";
/// The size of an AES-GCM nonce (NIST SP 800-38D).
const NONCE_BYTES: usize = 12;
/// The maximum size of a file. Refresh tokens have a few thousand characters.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The file of one credential's refresh token, and the key that encrypts it.
#[derive(Debug)]
pub struct RefreshTokenStore {
    directory: PathBuf,
    /// The name of the file in the directory.
    file: String,
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
    #[error("cannot write the refresh token")]
    Write(#[source] FileError),
    #[error("cannot read the refresh token")]
    Read(#[source] FileError),
    #[error("cannot read `token_key`")]
    Key(#[source] SecretError),
    /// The text is the reason, as a predicate.
    #[error("cannot use `token_key`: it {0}")]
    WeakKey(String),
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
            Self::WeakKey(_) => Some(format!("{GENERATE_KEY}, and run `login` again").into()),
            Self::NoKey => Some("set `token_key`, or pass --plaintext".into()),
            Self::Write(error) | Self::Read(error) => error.hint(),
            Self::Key(error) => error.hint(),
            Self::Encrypt(_) => None,
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
        let (directory, file) = (directory.to_owned(), format!("{file}.token"));
        Self { directory, file, name: name.to_owned(), key }
    }

    /// The reference to the encryption key; `None` if tokens are stored in plaintext.
    pub fn key(&self) -> Option<&SecretRef> {
        self.key.as_ref()
    }

    /// The stored token, or `None` if no file exists. If a key is configured and the token is
    /// stored in plaintext, it is first replaced with the encrypted token.
    ///
    /// # Errors
    ///
    /// Fails if the file or the key cannot be read, with [`RefreshTokenError::Decrypt`] if the
    /// content is damaged or was encrypted with another key, or if a plaintext token cannot be
    /// replaced.
    pub fn read(&self) -> Result<Option<SecretString>, RefreshTokenError> {
        let directory = OwnedDirectory::open(&self.directory);
        let bytes = match directory.and_then(|opened| opened.read(&self.file, MAX_FILE_BYTES)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(RefreshTokenError::Read)?,
        };

        let invalid = || RefreshTokenError::Decrypt(self.path_text());
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        let (format, content) = text.trim_end().split_once('\n').ok_or_else(invalid)?;
        let token = match format {
            PLAIN_FORMAT => SecretString::from(content),
            SEALED_FORMAT => SecretString::from(self.decrypt(content)?),
            _ => return Err(invalid()),
        };

        if format == PLAIN_FORMAT && self.key.is_some() {
            self.write(&token, PlaintextPolicy::Forbid)?;
            tracing::warn!(
                credential = self.name,
                hint = "run `login` again if another person could read the file or a copy of it",
                "encrypted a refresh token that was stored in plaintext"
            );
        }
        Ok(Some(token))
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
        let directory = OwnedDirectory::prepare(&self.directory);
        let replaced = directory.and_then(|directory| {
            directory.replace(&self.file, text.as_bytes(), NewFileMode::Secret)
        });
        replaced.map_err(RefreshTokenError::Write)
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
        // The secret may have been replaced since the configuration was loaded.
        check_key(secret.expose_secret())
            .map_err(|problem| RefreshTokenError::WeakKey(problem.message))?;

        let mut key = [0; 32];
        Salt::new(HKDF_SHA256, b"secure-score-forwarder")
            .extract(secret.expose_secret().as_bytes())
            .expand(&[b"refresh token"], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .and_then(|()| RandomizedNonceKey::new(&AES_256_GCM, &key))
            .map_err(|_| RefreshTokenError::Decrypt(self.path_text()))
    }

    fn path_text(&self) -> String {
        self.directory.join(&self.file).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "correct horse battery staple again";
    const OTHER_KEY: &str = "3q2+7wABIjRWeJCrze8BIzRFVmeJmrvM";

    #[test]
    fn decrypts_only_with_same_key_and_name() {
        let directory = tempfile::tempdir().unwrap();
        let key = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
            Some(SecretRef::File(directory.path().join(name)))
        };
        let tokens = directory.path().join("tokens");
        let store = RefreshTokenStore::new(&tokens, "mssp/../x", key("a", KEY));

        assert!(store.read().unwrap().is_none());
        for token in ["first", "second"] {
            store.write(&SecretString::from(token), PlaintextPolicy::Forbid).unwrap();
            assert_eq!(store.read().unwrap().unwrap().expose_secret(), token);
        }
        let file = tokens.join("mssp%2f%2e%2e%2fx.token");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("second"));

        let other = RefreshTokenStore::new(&tokens, "mssp/../x", key("b", OTHER_KEY));
        assert!(matches!(other.read(), Err(RefreshTokenError::Decrypt(_))));

        // The name is authenticated: the file of another credential is rejected.
        std::fs::copy(&file, tokens.join("other.token")).unwrap();
        let moved = RefreshTokenStore::new(&tokens, "other", key("a", KEY));
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

    /// Regression: a plaintext token was used, and remained in its file, although `token_key` was
    /// configured.
    #[test]
    fn a_plaintext_token_is_encrypted_before_use() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let plain = RefreshTokenStore::new(directory.path(), "x", None);
        plain.write(&SecretString::from("canary"), PlaintextPolicy::Allow).unwrap();
        let stored = || std::fs::read_to_string(directory.path().join("x.token")).unwrap();
        assert!(stored().contains("canary"));

        // Without a usable key, the token is not used.
        let sealed =
            RefreshTokenStore::new(directory.path(), "x", Some(SecretRef::File(key.clone())));
        assert!(matches!(sealed.read(), Err(RefreshTokenError::Key(_))));
        std::fs::write(&key, "short").unwrap();
        assert!(matches!(sealed.read(), Err(RefreshTokenError::WeakKey(_))));
        assert!(stored().contains("canary"));

        std::fs::write(&key, KEY).unwrap();
        assert_eq!(sealed.read().unwrap().unwrap().expose_secret(), "canary");
        assert!(stored().starts_with(SEALED_FORMAT) && !stored().contains("canary"));
        assert_eq!(sealed.read().unwrap().unwrap().expose_secret(), "canary");
    }

    /// Regression: every key was accepted, also one of a single character.
    #[test]
    fn weak_keys_neither_encrypt_nor_decrypt() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let store =
            RefreshTokenStore::new(directory.path(), "x", Some(SecretRef::File(key.clone())));
        let token = SecretString::from("t");
        for weak in ["k", "correct horse battery staple", &"a".repeat(64)] {
            std::fs::write(&key, weak).unwrap();
            let error = store.write(&token, PlaintextPolicy::Forbid).unwrap_err();
            assert!(matches!(error, RefreshTokenError::WeakKey(_)), "{error}");
            assert!(error.hint().unwrap().contains("openssl rand -base64 32"), "{error}");
        }

        std::fs::write(&key, KEY).unwrap();
        store.write(&token, PlaintextPolicy::Forbid).unwrap();
        std::fs::write(&key, "k").unwrap();
        assert!(matches!(store.read(), Err(RefreshTokenError::WeakKey(_))));
    }
}
