//! A certificate of the app registration. The app signs assertions with its key. The files are read
//! again when their size or time changes, so a renewed certificate takes effect without a restart.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{
    BoxFuture, CertificateChain, Credential, CredentialError, KeyPairError, TokenRequestContext,
    key_pair::KeyPair,
};
use crate::{
    clock,
    files::{self, FileError},
    settings::SecretRef,
    source::SourceError,
    wire::Token,
};

/// The maximum size of each file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The client credentials grant with an assertion that the app signs itself (RFC 7523).
#[derive(Debug)]
pub struct Certificate {
    /// The ID of the app registration.
    pub client_id: String,
    /// PEM with the certificate and, without `key_file`, its key; or PFX.
    pub file: PathBuf,
    /// The PEM file of the key, if the key is in a separate file.
    pub key_file: Option<PathBuf>,
    /// The password of the PFX.
    pub password: Option<SecretRef>,
    /// Whether assertions contain the chain of the certificate.
    pub chain: CertificateChain,
    loaded: Mutex<Option<(FileVersions, Arc<KeyPair>)>>,
}

/// Modification time and size in bytes of each file, to detect that a file was replaced.
type FileVersions = Vec<(Option<SystemTime>, u64)>;

impl Certificate {
    /// A credential; no file is read before it is used.
    pub fn new(
        client_id: String,
        file: PathBuf,
        key_file: Option<PathBuf>,
        password: Option<SecretRef>,
        chain: CertificateChain,
    ) -> Self {
        Self { client_id, file, key_file, password, chain, loaded: Mutex::new(None) }
    }

    /// The key pair, re-read when a file has changed.
    fn key_pair(&self) -> Result<Arc<KeyPair>, CredentialError> {
        let paths = std::iter::once(self.file.as_path()).chain(self.key_file.as_deref());
        let versions = paths.map(version).collect::<Result<Vec<_>, _>>()?;

        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, pair)) = loaded.as_ref()
            && *known == versions
        {
            return Ok(pair.clone());
        }

        let (bytes, key) = match &self.key_file {
            None => (files::read_secret(&self.file, MAX_FILE_BYTES)?, None),
            Some(key_file) => {
                let certificate = files::read_limited(&self.file, MAX_FILE_BYTES)?;
                (certificate, Some(files::read_secret(key_file, MAX_FILE_BYTES)?))
            }
        };

        let password = self.password.as_ref().map(SecretRef::read).transpose()?;
        let password = password.as_ref().map_or("", |password| password.expose_secret());
        let pair =
            KeyPair::read(bytes, key, password).map_err(|reason| self.certificate_error(reason))?;
        let pair = Arc::new(pair);
        *loaded = Some((versions, pair.clone()));
        Ok(pair)
    }

    fn certificate_error(&self, reason: KeyPairError) -> CredentialError {
        CredentialError::Certificate(self.file.display().to_string(), reason)
    }
}

impl Credential for Certificate {
    fn token<'a>(
        &'a self,
        context: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            let pair = tokio::task::block_in_place(|| self.key_pair())?;
            let audience = context.token_url();
            let assertion =
                pair.assertion(&self.client_id, audience.as_str(), self.chain, clock::now());
            let assertion = assertion.map_err(|reason| self.certificate_error(reason))?;
            context.request_token_with_assertion(&self.client_id, &assertion).await
        })
    }

    fn check(&self) -> Result<(), CredentialError> {
        let pair = self.key_pair()?;
        if pair.not_after <= clock::now() {
            return Err(CredentialError::Expired(self.file.display().to_string(), pair.not_after));
        }
        Ok(())
    }

    fn expires(&self) -> Option<Timestamp> {
        self.key_pair().ok().map(|pair| pair.not_after)
    }

    fn client_id(&self) -> Option<&str> {
        Some(&self.client_id)
    }
}

fn version(file: &Path) -> Result<(Option<SystemTime>, u64), FileError> {
    let metadata = match files::opened_by_root(file) {
        Some(opened) => opened.file().metadata(),
        None => file.metadata(),
    };
    let metadata = metadata.map_err(FileError::io("open", file))?;
    Ok((metadata.modified().ok(), metadata.len()))
}
