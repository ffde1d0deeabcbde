//! Workload identity federation: an external issuer signs the assertion and renews it in a file.
//! This program has no secret in this case, and never writes to the file.

use std::path::{Path, PathBuf};

use super::{BoxFuture, Credential, CredentialError, TokenRequestContext};
use crate::{files, source::SourceError, wire::Token};

/// The maximum size of a token file in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// The client credentials grant with a JWT from an external issuer as the assertion (RFC 7523).
#[derive(Debug)]
pub struct WorkloadIdentity {
    /// The ID of the app registration.
    pub client_id: String,
    /// The file in which the issuer stores the JWT.
    pub token_file: PathBuf,
}

impl Credential for WorkloadIdentity {
    fn token<'a>(
        &'a self,
        context: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            // The file is read for each request, because the issuer replaces the JWT in it.
            let assertion = tokio::task::block_in_place(|| read(&self.token_file))?;
            context.request_token_with_assertion(&self.client_id, &assertion).await
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
    let invalid = || CredentialError::TokenFile(file.display().to_string());
    let text = String::from_utf8(files::read_secret(file, MAX_TOKEN_BYTES)?);
    let text = text.map_err(|_| invalid())?;
    let token = text.trim();

    // A JWT has three parts (RFC 7519, section 3). Entra verifies the rest.
    if token.split('.').count() != 3 || token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid());
    }
    Ok(token.to_owned())
}
