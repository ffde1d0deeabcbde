//! A token kept: used until shortly before it expires, asked for once however many requests wait.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Mutex, time::Instant};

use super::{Credential, TokenRequestContext};
use crate::source::{
    SourceError,
    graph::{PATIENCE, left_alone},
    throttle::TenantThrottle,
};

/// A token is renewed this long before it expires.
const MARGIN: Duration = Duration::from_mins(5);

#[derive(Debug, Default)]
pub(in crate::source) struct TokenCache {
    /// Held across the request, so that there is never more than one in flight.
    token: Mutex<Option<Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    text: SecretString,
    renew_at: Instant,
}

impl TokenCache {
    /// A token that is good for some time yet.
    pub(in crate::source) async fn get(
        &self,
        credential: &dyn Credential,
        ask: TokenRequestContext<'_>,
        throttle: &TenantThrottle,
    ) -> Result<SecretString, SourceError> {
        let mut held = self.token.lock().await;
        if let Some(kept) = held.as_ref().filter(|kept| kept.renew_at > Instant::now()) {
            return Ok(kept.text.clone());
        }
        // The word of the token endpoint counts like that of Graph, for all who wait here too.
        throttle.open(PATIENCE).await.map_err(left_alone)?;
        let _turn = ask.clients.tokens.acquire().await;
        let token = credential.token(ask).await.inspect_err(|error| {
            if let Some(wait) = error.retry_after() {
                throttle.close_for(wait);
            }
        })?;
        let life = Duration::from_secs(token.expires_in);
        let renew_in = life.saturating_sub(MARGIN).max(life / 2);
        let kept = Kept { text: token.access_token, renew_at: Instant::now() + renew_in };
        Ok(held.insert(kept).text.clone())
    }

    /// Forgets a token that the API did not take, unless it has been renewed meanwhile.
    pub(in crate::source) async fn reject(&self, rejected: &SecretString) {
        let mut held = self.token.lock().await;
        if held.as_ref().is_some_and(|kept| kept.text.expose_secret() == rejected.expose_secret()) {
            *held = None;
        }
    }
}
