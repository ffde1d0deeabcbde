//! What all tenants share on the way to Microsoft: connections, and the budgets that keep one
//! forwarder from being a burden.

use std::path::PathBuf;

use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::{SourceError, memory_budget::MemoryBudget, throttle::Bucket};
use crate::{
    net::{self, ClientError},
    settings::SecretRef,
};

/// How Microsoft is reached.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// A proxy for everything but a machine's own metadata service.
    pub proxy: Option<url::Url>,
    pub proxy_user: Option<String>,
    pub proxy_password: Option<SecretRef>,
    /// Trusted instead of the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// Requests to Graph a second, over all tenants.
    pub requests_per_second: u32,
    /// Bytes of answers in memory at a time, over all tenants.
    pub bytes_in_flight: u64,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            proxy: None,
            proxy_user: None,
            proxy_password: None,
            ca_file: None,
            requests_per_second: 50,
            bytes_in_flight: 32 << 20,
        }
    }
}

/// Token requests at a time, over all tenants.
const TOKENS_AT_ONCE: usize = 8;

#[derive(Debug)]
pub struct Clients {
    /// Connections are kept and used again.
    pub(super) pooled: reqwest::Client,
    /// A new connection for every request: for after a server said it could not go on.
    pub(super) fresh: reqwest::Client,
    /// Never through a proxy: for a machine's own metadata service.
    pub(super) direct: reqwest::Client,
    pub(super) pace: Bucket,
    pub(super) budget: MemoryBudget,
    pub(super) tokens: Semaphore,
}

impl Clients {
    pub fn new(reach: &HttpOptions) -> Result<Self, SourceError> {
        let build = |configure: fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder| {
            let mut builder = net::builder(reach.ca_file.as_deref())?;
            if let Some(proxy) = proxy(reach)? {
                builder = builder.proxy(proxy);
            }
            configure(builder).build().map_err(|e| SourceError::from(ClientError::Build(e)))
        };
        Ok(Self {
            pooled: build(|builder| builder)?,
            fresh: build(|builder| builder.pool_max_idle_per_host(0))?,
            direct: net::client(None)?,
            pace: Bucket::new(f64::from(reach.requests_per_second), reach.requests_per_second),
            budget: MemoryBudget::new(reach.bytes_in_flight),
            tokens: Semaphore::new(TOKENS_AT_ONCE),
        })
    }
}

fn proxy(reach: &HttpOptions) -> Result<Option<reqwest::Proxy>, SourceError> {
    let Some(url) = &reach.proxy else { return Ok(None) };
    let mut proxy = reqwest::Proxy::all(url.clone()).map_err(ClientError::Build)?;
    if let (Some(user), Some(password)) = (&reach.proxy_user, &reach.proxy_password) {
        let password = password.read().map_err(super::CredentialError::from)?;
        proxy = proxy.basic_auth(user, password.expose_secret());
    }
    Ok(Some(proxy))
}
