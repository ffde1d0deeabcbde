//! Workload identity federation: the assertion comes from another issuer, in a file that it
//! keeps fresh.

use std::path::{Path, PathBuf};

use super::{BoxFuture, Credential, CredentialError, TokenRequestContext};
use crate::{source::SourceError, wire::Token};

#[derive(Debug)]
pub struct WorkloadIdentity {
    pub client_id: String,
    pub token_file: PathBuf,
}

impl Credential for WorkloadIdentity {
    fn token<'a>(
        &'a self,
        ask: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            // Read at each request: it is replaced long before it expires.
            let assertion = tokio::task::block_in_place(|| read(&self.token_file))?;
            ask.redeem_assertion(&self.client_id, &assertion).await
        })
    }

    fn check(&self) -> Result<(), CredentialError> {
        read(&self.token_file).map(drop)
    }

    fn client_id(&self) -> Option<&str> {
        Some(&self.client_id)
    }
}

fn read(file: &Path) -> Result<String, CredentialError> {
    let name = || file.display().to_string();
    let text =
        std::fs::read_to_string(file).map_err(|error| CredentialError::Read(name(), error))?;
    let token = text.trim();
    if token.split('.').count() != 3 || token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(CredentialError::TokenFile(name()));
    }
    Ok(token.to_owned())
}
