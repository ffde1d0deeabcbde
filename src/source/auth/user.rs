//! A person who has signed in: the refresh token, redeemed at every tenant where that person may
//! look, and replaced at each use.

use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Mutex, task::block_in_place};

use super::{
    BoxFuture, Credential, CredentialError, RefreshTokenError, RefreshTokenStore,
    TokenRequestContext,
};
use crate::{error::chain, source::SourceError, wire::Token};

#[derive(Debug)]
pub struct UserCredential {
    /// As the configuration names the credential.
    pub name: String,
    pub client_id: String,
    /// Where that person signs in: a GUID, a domain or `organizations`.
    pub home: String,
    store: RefreshTokenStore,
    /// Held across the request: each use replaces the token.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    token: Option<SecretString>,
    plaintext: bool,
}

impl UserCredential {
    pub fn new(name: String, client_id: String, home: String, store: RefreshTokenStore) -> Self {
        Self { name, client_id, home, store, held: Mutex::default() }
    }

    /// Whether a token can be sealed.
    pub fn has_key(&self) -> bool {
        self.store.key().is_some()
    }

    /// Takes the token of somebody who has just signed in.
    pub async fn accept(
        &self,
        token: SecretString,
        plaintext: bool,
    ) -> Result<(), RefreshTokenError> {
        let mut held = self.held.lock().await;
        block_in_place(|| self.store.write(&token, plaintext))?;
        *held = Held { token: Some(token), plaintext };
        Ok(())
    }

    async fn redeem(&self, ask: TokenRequestContext<'_>) -> Result<Token, SourceError> {
        let mut held = self.held.lock().await;
        if held.token.is_none() {
            held.token = block_in_place(|| self.store.read()).map_err(CredentialError::from)?;
            held.plaintext = !self.has_key();
        }
        let Some(refresh) = held.token.clone() else {
            return Err(CredentialError::NotSignedIn(self.name.clone()).into());
        };
        let scope = format!("{} offline_access", ask.scope());
        let mut token = ask
            .redeem(&[
                ("grant_type", "refresh_token"),
                ("client_id", &self.client_id),
                ("refresh_token", refresh.expose_secret()),
                ("scope", &scope),
            ])
            .await?;
        if let Some(next) = token.refresh_token.take() {
            // The old one works for a while yet; the new one must not be lost.
            if let Err(error) = block_in_place(|| self.store.write(&next, held.plaintext)) {
                tracing::error!(
                    credential = self.name,
                    error = chain(&error),
                    "the refresh token could not be replaced on the disk"
                );
            }
            held.token = Some(next);
        }
        Ok(token)
    }
}

impl Credential for UserCredential {
    fn token<'a>(
        &'a self,
        ask: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(self.redeem(ask))
    }

    fn client_id(&self) -> Option<&str> {
        Some(&self.client_id)
    }

    fn user(&self) -> Option<&UserCredential> {
        Some(self)
    }
}
