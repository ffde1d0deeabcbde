//! Caches the token of one tenant and renews it before it expires. However many requests wait for
//! a token, at most one token request is in flight. See decision 0010.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Mutex, time::Instant};

use super::{Credential, TokenRequestContext};
use crate::{
    source::{
        SourceError,
        graph::{MAX_PAUSE, throttled},
        throttle::TenantThrottle,
    },
    wire::TokenLifetime,
};

/// A token is renewed this long before it expires.
const MARGIN: Duration = Duration::from_mins(5);

/// The cache. A token is renewed five minutes before it expires, or after half of its lifetime if
/// that is shorter.
#[derive(Debug, Default)]
pub(in crate::source) struct TokenCache {
    /// Locked during a token request, so that there is never more than one in flight.
    token: Mutex<Option<CachedToken>>,
}

#[derive(Debug, Clone)]
struct CachedToken {
    text: SecretString,
    renew_at: Instant,
}

impl TokenCache {
    /// The cached token, or a new one if there is none or it expires soon. Fails if Entra rejects
    /// the request or does not respond, or if the pause that a server demanded is longer than one
    /// minute.
    pub(in crate::source) async fn get(
        &self,
        credential: &dyn Credential,
        context: TokenRequestContext<'_>,
        throttle: &TenantThrottle,
    ) -> Result<SecretString, SourceError> {
        let mut cached = self.token.lock().await;
        if let Some(token) = cached.as_ref().filter(|token| token.renew_at > Instant::now()) {
            return Ok(token.text.clone());
        }

        // A pause that the token endpoint demands applies to all requests to the tenant, and so
        // does a pause that Graph demands.
        throttle.wait_for_pause(MAX_PAUSE).await.map_err(throttled)?;
        let _permit = context.clients.token_requests.acquire().await;
        let token = credential.token(context).await.inspect_err(|error| {
            if let Some(wait) = error.retry_after() {
                throttle.pause_for(wait);
            }
        })?;

        let renew_at = Instant::now().checked_add(renew_in(token.expires_in));
        // A token that cannot be kept is used once.
        let renew_at = renew_at.unwrap_or_else(Instant::now);
        let token = CachedToken { text: token.access_token, renew_at };
        Ok(cached.insert(token).text.clone())
    }

    /// Removes a token that the API rejected, unless it was renewed in the meantime.
    pub(in crate::source) async fn reject(&self, rejected: &SecretString) {
        let mut cached = self.token.lock().await;
        let is_same = |token: &CachedToken| token.text.expose_secret() == rejected.expose_secret();
        if cached.as_ref().is_some_and(is_same) {
            *cached = None;
        }
    }
}

/// How long after it was issued a token is renewed.
fn renew_in(lifetime: TokenLifetime) -> Duration {
    let lifetime = lifetime.get();
    let half = lifetime.checked_div(2).unwrap_or_default();
    lifetime.saturating_sub(MARGIN).max(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_before_they_expire() {
        for (expires_in, renewed_in) in [
            ("0", 0),
            ("-1", 0),
            ("60", 30),
            ("600", 300),
            ("3600", 3_300),
            ("9223372036854775807", 86_100),
            ("1e308", 86_100),
        ] {
            let lifetime = serde_json::from_str(expires_in).unwrap();
            assert_eq!(renew_in(lifetime), Duration::from_secs(renewed_in), "{expires_in}");
        }
    }
}
