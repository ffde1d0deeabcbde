//! Tokens for a resource other than Graph, such as a sink's receiver that accepts Entra tokens.
//! They share the clients and the cache of the source, so the limits for token requests apply to
//! sinks too.

use std::sync::Arc;

use secrecy::SecretString;

use super::{
    Clients, Cloud, Credential, SourceError, TokenRequestContext, auth::cache::TokenCache,
    throttle::TenantThrottle,
};
use crate::foreign_text::PeerSecrets;

/// Requests tokens for one resource, and caches them while they are valid.
#[derive(Debug)]
pub struct ResourceTokens {
    clients: Arc<Clients>,
    credential: Arc<dyn Credential>,
    /// The tenant to sign in to.
    tenant: String,
    /// The sign-in service, and the resource in place of Graph.
    cloud: Cloud,
    cache: TokenCache,
    throttle: TenantThrottle,
    /// The secrets that were sent to the token endpoint, and to the resource.
    sent: PeerSecrets,
}

impl ResourceTokens {
    /// `resource` is a URL without a path, such as `https://monitor.azure.com`.
    pub fn new(
        clients: Arc<Clients>,
        credential: Arc<dyn Credential>,
        tenant: String,
        login_url: url::Url,
        resource: url::Url,
    ) -> Self {
        let cloud = Cloud { login_url, graph_url: resource };
        let (cache, throttle) = (TokenCache::default(), TenantThrottle::new());
        let sent = PeerSecrets::default();
        Self { clients, credential, tenant, cloud, cache, throttle, sent }
    }

    /// A token that is valid for at least a few minutes.
    ///
    /// # Errors
    ///
    /// Fails if the credential cannot be read, or if Entra rejects the request or does not respond.
    pub async fn get(&self) -> Result<SecretString, SourceError> {
        let context = TokenRequestContext {
            clients: &self.clients,
            cloud: &self.cloud,
            tenant: &self.tenant,
            claims: None,
            sent: &self.sent,
        };
        self.cache.get(self.credential.as_ref(), context, &self.throttle).await
    }

    /// The secrets that were sent to the token endpoint. Those of requests to the resource must be
    /// added to them, and its texts must be redacted with all of them, because both can be the same
    /// party.
    pub fn sent(&self) -> &PeerSecrets {
        &self.sent
    }

    /// Removes a token from the cache after the resource rejected it.
    pub async fn reject(&self, rejected: &SecretString) {
        self.cache.reject(rejected).await;
    }
}
