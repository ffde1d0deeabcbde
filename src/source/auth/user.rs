//! A signed-in user: a refresh token that is redeemed for every tenant that the user may read, and
//! replaced at each use. If the new token cannot be stored, it is kept in memory, because Entra
//! accepts the old one only for a limited time. Start reading at [`UserCredential`].

use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Mutex, task::block_in_place};

use super::{
    BoxFuture, Credential, CredentialError, PlaintextPolicy, RefreshTokenError, RefreshTokenStore,
    TokenRequestContext,
};
use crate::{error::chain, source::SourceError, wire::Token};

/// The refresh token grant (RFC 6749, section 6).
#[derive(Debug)]
pub struct UserCredential {
    /// The name of the credential in the configuration.
    pub name: String,
    /// The ID of the app registration.
    pub client_id: String,
    /// The tenant in which the user signs in: a GUID, a domain or `organizations`.
    pub home: String,
    store: RefreshTokenStore,
    /// Locked during a token request, because each use replaces the refresh token.
    current: Mutex<CurrentToken>,
}

#[derive(Debug, Default)]
struct CurrentToken {
    /// `None` until the token is read from the store.
    token: Option<SecretString>,
    plaintext: PlaintextPolicy,
}

impl UserCredential {
    /// A credential; the stored refresh token is read before the first use.
    pub fn new(name: String, client_id: String, home: String, store: RefreshTokenStore) -> Self {
        Self { name, client_id, home, store, current: Mutex::default() }
    }

    /// Whether `token_key` is configured, so that the refresh token can be encrypted.
    pub fn has_key(&self) -> bool {
        self.store.key().is_some()
    }

    /// Stores the refresh token of a user who has just signed in.
    ///
    /// # Errors
    ///
    /// Fails if the token cannot be encrypted or written.
    pub async fn accept(
        &self,
        token: SecretString,
        plaintext: PlaintextPolicy,
    ) -> Result<(), RefreshTokenError> {
        let mut current = self.current.lock().await;
        block_in_place(|| self.store.write(&token, plaintext))?;
        *current = CurrentToken { token: Some(token), plaintext };
        Ok(())
    }

    async fn redeem(&self, context: TokenRequestContext<'_>) -> Result<Token, SourceError> {
        let mut current = self.current.lock().await;
        if current.token.is_none() {
            current.token = block_in_place(|| self.store.read()).map_err(CredentialError::from)?;
            current.plaintext =
                if self.has_key() { PlaintextPolicy::Forbid } else { PlaintextPolicy::Allow };
        }
        let Some(refresh) = current.token.clone() else {
            return Err(CredentialError::NotSignedIn(self.name.clone()).into());
        };

        let scope = format!("{} offline_access", context.scope());
        let mut token = context
            .request_token(&[
                ("grant_type", "refresh_token"),
                ("client_id", &self.client_id),
                ("refresh_token", refresh.expose_secret()),
                ("scope", &scope),
            ])
            .await?;

        // A failure to store the new refresh token does not fail the poll: this process keeps the
        // new token in memory, and Entra continues to accept the old one for a limited time.
        if let Some(next) = token.refresh_token.take() {
            if let Err(error) = block_in_place(|| self.store.write(&next, current.plaintext)) {
                tracing::error!(
                    credential = self.name,
                    error = chain(&error),
                    "cannot store the new refresh token"
                );
            }
            current.token = Some(next);
        }
        Ok(token)
    }
}

impl Credential for UserCredential {
    fn token<'a>(
        &'a self,
        context: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(self.redeem(context))
    }

    fn client_id(&self) -> Option<&str> {
        Some(&self.client_id)
    }

    fn user(&self) -> Option<&UserCredential> {
        Some(self)
    }
}
