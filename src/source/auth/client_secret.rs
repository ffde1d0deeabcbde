//! A client secret of the app registration. Source: Microsoft identity platform, "OAuth 2.0 client
//! credentials flow". The secret is read for every request and is never stored.

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{BoxFuture, Credential, CredentialError, TokenRequestContext};
use crate::{settings::SecretRef, source::SourceError, wire::Token};

/// The client credentials grant with a shared secret (RFC 6749, section 4.4).
#[derive(Debug)]
pub struct ClientSecret {
    /// The ID of the app registration.
    pub client_id: String,
    pub secret: SecretRef,
    /// The end of the secret as the operator stated it, because Entra does not report it.
    pub expires: Option<Timestamp>,
}

impl Credential for ClientSecret {
    fn token<'a>(
        &'a self,
        context: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            // The secret is read for each request, so that a rotated secret is used immediately.
            let secret = self.secret.read().map_err(CredentialError::from)?;
            context
                .request_token(&[
                    ("grant_type", "client_credentials"),
                    ("client_id", &self.client_id),
                    ("client_secret", secret.expose_secret()),
                ])
                .await
        })
    }

    fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    fn client_id(&self) -> Option<&str> {
        Some(&self.client_id)
    }
}
