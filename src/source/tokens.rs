//! Tokens for somebody else than Graph, who takes Entra's word too.

use std::sync::Arc;

use secrecy::SecretString;

use super::{
    Clients, Cloud, Credential, SourceError, TokenRequestContext, auth::cache::TokenCache,
    throttle::TenantThrottle,
};

/// Asks for tokens for one resource, and keeps them while they are good.
#[derive(Debug)]
pub struct ResourceTokens {
    clients: Arc<Clients>,
    credential: Arc<dyn Credential>,
    /// The tenant to sign in to.
    tenant: String,
    /// Where tokens come from, and, in the place of Graph, what they are for.
    cloud: Cloud,
    cache: TokenCache,
    throttle: TenantThrottle,
}

impl ResourceTokens {
    /// `resource` is a URL without a path.
    pub fn new(
        clients: Arc<Clients>,
        credential: Arc<dyn Credential>,
        tenant: String,
        login_url: url::Url,
        resource: url::Url,
    ) -> Self {
        let cloud = Cloud { login_url, graph_url: resource };
        let (cache, throttle) = (TokenCache::default(), TenantThrottle::new());
        Self { clients, credential, tenant, cloud, cache, throttle }
    }

    pub async fn get(&self) -> Result<SecretString, SourceError> {
        let ask = TokenRequestContext {
            clients: &self.clients,
            cloud: &self.cloud,
            tenant: &self.tenant,
            claims: None,
        };
        self.cache.get(self.credential.as_ref(), ask, &self.throttle).await
    }

    /// Forgets a token that was not taken.
    pub async fn reject(&self, rejected: &SecretString) {
        self.cache.reject(rejected).await;
    }
}
