//! A refresh token at rest: a file of its own, sealed with a key that lies elsewhere, and replaced
//! as a whole each time.
//!
//! Form: a first line that names the form, a second with the content. RefreshTokenStore: base64 of nonce,
//! AES-256-GCM ciphertext and tag; the key is HKDF-SHA-256 over the configured secret, the name of
//! the credential is authenticated too.

use std::{
    borrow::Cow,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use crate::error::Hint;
use crate::settings::{SecretError, SecretRef};

/// Where one credential's refresh token lies.
#[derive(Debug)]
pub struct RefreshTokenStore {
    path: PathBuf,
    name: String,
    key: Option<SecretRef>,
}

#[derive(Debug, thiserror::Error)]
pub enum RefreshTokenError {
    #[error("cannot keep the refresh token in `{0}`")]
    Write(String, #[source] std::io::Error),
    #[error("cannot read the refresh token in `{0}`")]
    Read(String, #[source] std::io::Error),
    #[error("cannot read the key of the refresh token")]
    Key(#[source] SecretError),
    #[error("the refresh token in `{0}` cannot be opened with this `token_key`")]
    Closed(String),
    #[error("no `token_key` is configured to seal the refresh token with")]
    NoKey,
}

impl Hint for RefreshTokenError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Closed(_) => Some("run `login` again".into()),
            Self::NoKey => Some("set `token_key`, or pass --plaintext".into()),
            Self::Write(..) | Self::Read(..) | Self::Key(_) => None,
        }
    }
}

const SEALED: &str = "secure-score-forwarder sealed token 1";
const PLAIN: &str = "secure-score-forwarder plain token 1";

impl RefreshTokenStore {
    /// `name` is the credential's; it may hold anything.
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

    pub fn key(&self) -> Option<&SecretRef> {
        self.key.as_ref()
    }

    /// The token, if there is one.
    pub fn read(&self) -> Result<Option<SecretString>, RefreshTokenError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RefreshTokenError::Read(self.shown(), error)),
        };
        let closed = || RefreshTokenError::Closed(self.shown());
        let (form, content) = text.trim_end().split_once('\n').ok_or_else(closed)?;
        let token = match form {
            PLAIN => content.to_owned(),
            SEALED => self.open(content)?,
            _ => return Err(closed()),
        };
        Ok(Some(SecretString::from(token)))
    }

    /// Replaces the token: written, synced, renamed, and the directory synced.
    pub fn write(&self, token: &SecretString, plaintext: bool) -> Result<(), RefreshTokenError> {
        let text = match (&self.key, plaintext) {
            (Some(_), _) => format!("{SEALED}\n{}\n", self.close(token)?),
            (None, true) => format!("{PLAIN}\n{}\n", token.expose_secret()),
            (None, false) => return Err(RefreshTokenError::NoKey),
        };
        self.replace(&text).map_err(|error| RefreshTokenError::Write(self.shown(), error))
    }

    fn replace(&self, text: &str) -> std::io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        if !directory.exists() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let temporary = self.path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        std::fs::File::open(directory)?.sync_all()
    }

    fn close(&self, token: &SecretString) -> Result<String, RefreshTokenError> {
        let closed = || RefreshTokenError::Closed(self.shown());
        let mut bytes = token.expose_secret().as_bytes().to_vec();
        let nonce = self
            .sealing_key()?
            .seal_in_place_append_tag(Aad::from(self.name.as_bytes()), &mut bytes)
            .map_err(|_| closed())?;
        Ok(STANDARD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    fn open(&self, content: &str) -> Result<String, RefreshTokenError> {
        let closed = || RefreshTokenError::Closed(self.shown());
        let bytes = STANDARD.decode(content).map_err(|_| closed())?;
        let (nonce, sealed) = bytes.split_at_checked(12).ok_or_else(closed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| closed())?;
        let mut sealed = sealed.to_vec();
        let opened = self
            .sealing_key()?
            .open_in_place(nonce, Aad::from(self.name.as_bytes()), &mut sealed)
            .map_err(|_| closed())?;
        String::from_utf8(opened.to_vec()).map_err(|_| closed())
    }

    fn sealing_key(&self) -> Result<RandomizedNonceKey, RefreshTokenError> {
        let secret = self.key.as_ref().ok_or_else(|| RefreshTokenError::Closed(self.shown()))?;
        let secret = secret.read().map_err(RefreshTokenError::Key)?;
        let mut key = [0; 32];
        Salt::new(HKDF_SHA256, b"secure-score-forwarder")
            .extract(secret.expose_secret().as_bytes())
            .expand(&[b"refresh token"], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .and_then(|()| RandomizedNonceKey::new(&AES_256_GCM, &key))
            .map_err(|_| RefreshTokenError::Closed(self.shown()))
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_and_opened_by_its_own_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let key = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
            Some(SecretRef::File(directory.path().join(name)))
        };
        let tokens = directory.path().join("tokens");
        let store = RefreshTokenStore::new(&tokens, "mssp/../x", key("a", "correct horse"));
        assert!(store.read().unwrap().is_none());
        for token in ["first", "second"] {
            store.write(&SecretString::from(token), false).unwrap();
            assert_eq!(store.read().unwrap().unwrap().expose_secret(), token);
        }
        let file = tokens.join("mssp%2f%2e%2e%2fx.token");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("second"));
        let other = RefreshTokenStore::new(&tokens, "mssp/../x", key("b", "battery staple"));
        assert!(matches!(other.read(), Err(RefreshTokenError::Closed(_))));
        // The name is sealed in: a file given to another credential is not taken.
        std::fs::copy(&file, tokens.join("other.token")).unwrap();
        let moved = RefreshTokenStore::new(&tokens, "other", key("a", "correct horse"));
        assert!(matches!(moved.read(), Err(RefreshTokenError::Closed(_))));
    }

    #[test]
    fn in_the_open_only_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let store = RefreshTokenStore::new(directory.path(), "x", None);
        let token = SecretString::from("t");
        assert!(matches!(store.write(&token, false), Err(RefreshTokenError::NoKey)));
        store.write(&token, true).unwrap();
        assert_eq!(store.read().unwrap().unwrap().expose_secret(), "t");
    }
}
