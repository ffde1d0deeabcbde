//! The application's own secret.

use secrecy::ExposeSecret;

use super::{BoxFuture, Credential, CredentialError, TokenRequestContext};
use crate::{settings::SecretRef, source::SourceError, wire::Token};

#[derive(Debug)]
pub struct ClientSecret {
    pub client_id: String,
    pub secret: SecretRef,
}

impl Credential for ClientSecret {
    fn token<'a>(
        &'a self,
        ask: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            // Read at each request, so that a rotated secret is picked up.
            let secret = self.secret.read().map_err(CredentialError::from)?;
            ask.redeem(&[
                ("grant_type", "client_credentials"),
                ("client_id", &self.client_id),
                ("client_secret", secret.expose_secret()),
            ])
            .await
        })
    }

    fn client_id(&self) -> Option<&str> {
        Some(&self.client_id)
    }
}
