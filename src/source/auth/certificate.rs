//! A certificate: the application signs its own assertions.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{BoxFuture, Credential, CredentialError, TokenRequestContext, key_pair::KeyPair};
use crate::{clock, settings::SecretRef, source::SourceError, wire::Token};

#[derive(Debug)]
pub struct Certificate {
    pub client_id: String,
    /// PEM with certificate and key, or PFX.
    pub file: PathBuf,
    /// The key, where it has a PEM file of its own.
    pub key_file: Option<PathBuf>,
    /// Of the PFX.
    pub password: Option<SecretRef>,
    /// Sends the chain along, for apps that trust a subject and an issuer.
    pub send_chain: bool,
    held: Mutex<Option<(Stamp, Arc<KeyPair>)>>,
}

/// What tells that a file is not the one it was.
type Stamp = Vec<(Option<SystemTime>, u64)>;

impl Certificate {
    pub fn new(
        client_id: String,
        file: PathBuf,
        key_file: Option<PathBuf>,
        password: Option<SecretRef>,
        send_chain: bool,
    ) -> Self {
        Self { client_id, file, key_file, password, send_chain, held: Mutex::new(None) }
    }

    /// The key pair, read again when a file has changed.
    fn key_pair(&self) -> Result<Arc<KeyPair>, CredentialError> {
        let files: Vec<&Path> =
            std::iter::once(self.file.as_path()).chain(self.key_file.as_deref()).collect();
        let stamp = files.iter().map(|file| stamp(file)).collect::<Result<Stamp, _>>()?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, pair)) = held.as_ref()
            && *known == stamp
        {
            return Ok(pair.clone());
        }
        let mut bytes = Vec::new();
        for file in files {
            bytes.extend(std::fs::read(file).map_err(|error| read_error(file, error))?);
            bytes.push(b'\n');
        }
        // A PFX is read to its last byte and no further.
        bytes.truncate(bytes.len() - usize::from(self.key_file.is_none()));
        let password = self.password.as_ref().map(SecretRef::read).transpose()?;
        let password = password.as_ref().map_or("", |password| password.expose_secret());
        let pair = KeyPair::read(&bytes, password).map_err(|reason| self.fault(reason))?;
        let pair = Arc::new(pair);
        *held = Some((stamp, pair.clone()));
        Ok(pair)
    }

    fn fault(&self, reason: String) -> CredentialError {
        CredentialError::Certificate(self.file.display().to_string(), reason)
    }
}

impl Credential for Certificate {
    fn token<'a>(
        &'a self,
        ask: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            let pair = tokio::task::block_in_place(|| self.key_pair())?;
            let audience = ask.token_url();
            let assertion =
                pair.assertion(&self.client_id, audience.as_str(), self.send_chain, clock::now());
            let assertion = assertion.map_err(|reason| self.fault(reason))?;
            ask.redeem_assertion(&self.client_id, &assertion).await
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

fn stamp(file: &Path) -> Result<(Option<SystemTime>, u64), CredentialError> {
    let metadata = std::fs::metadata(file).map_err(|error| read_error(file, error))?;
    Ok((metadata.modified().ok(), metadata.len()))
}

fn read_error(file: &Path, error: std::io::Error) -> CredentialError {
    CredentialError::Read(file.display().to_string(), error)
}
