//! The HTTP clients and the limits that all tenants share for requests to Microsoft. A reload
//! builds other clients, so no connection outlives its configuration. Start reading at [`Clients`].

use std::path::PathBuf;

use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::{SourceError, memory_budget::MemoryBudget, throttle::RateLimiter};
use crate::{
    net::{self, ClientError},
    settings::SecretRef,
};

/// Concurrent token requests, over all tenants.
const MAX_CONCURRENT_TOKEN_REQUESTS: usize = 8;

/// How HTTP requests to Microsoft are made: the `[source]` table of the configuration.
#[derive(Clone, Debug)]
pub struct GraphHttpOptions {
    /// The proxy for all requests except those to the host's metadata service.
    pub proxy: Option<url::Url>,
    /// The user name for the proxy; `None` if it requires none.
    pub proxy_user: Option<String>,
    /// The password for the proxy; `None` if it requires none.
    pub proxy_password: Option<SecretRef>,
    /// A PEM file of certificate authorities that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Requests to Graph per second, over all tenants.
    pub requests_per_second: u32,
    /// Bytes of response bodies in memory at the same time, over all tenants.
    pub bytes_in_flight: u64,
}

impl Default for GraphHttpOptions {
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

/// HTTP clients and limits, built once per configuration.
#[derive(Debug)]
pub struct Clients {
    /// Keeps connections open and reuses them.
    pub(super) pooled: reqwest::Client,
    /// Opens a new connection for every request. Used for retries, so that a retry does not reach
    /// the server instance that has just failed.
    pub(super) fresh: reqwest::Client,
    /// Never uses the proxy. Used for the host's metadata service.
    pub(super) direct: reqwest::Client,
    /// Requests per second.
    pub(super) rate: RateLimiter,
    /// Bytes of response bodies.
    pub(super) memory: MemoryBudget,
    /// Concurrent token requests.
    pub(super) token_requests: Semaphore,
}

impl Clients {
    /// Builds the clients.
    ///
    /// # Errors
    ///
    /// Fails if `ca_file` or the password of the proxy cannot be read.
    pub fn new(options: &GraphHttpOptions) -> Result<Self, SourceError> {
        let build = |configure: fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder| {
            let mut builder = net::builder(options.ca_file.as_deref())?;
            if let Some(proxy) = proxy(options)? {
                builder = builder.proxy(proxy);
            }
            configure(builder).build().map_err(|e| SourceError::from(ClientError::Build(e)))
        };

        let per_second = options.requests_per_second;
        Ok(Self {
            pooled: build(|builder| builder)?,
            fresh: build(|builder| builder.pool_max_idle_per_host(0))?,
            direct: net::client(None)?,
            rate: RateLimiter::new(f64::from(per_second), per_second),
            memory: MemoryBudget::new(options.bytes_in_flight),
            token_requests: Semaphore::new(MAX_CONCURRENT_TOKEN_REQUESTS),
        })
    }
}

fn proxy(options: &GraphHttpOptions) -> Result<Option<reqwest::Proxy>, SourceError> {
    let Some(url) = &options.proxy else { return Ok(None) };

    let mut proxy = reqwest::Proxy::all(url.clone()).map_err(ClientError::Build)?;
    if let (Some(user), Some(password)) = (&options.proxy_user, &options.proxy_password) {
        let password = password.read().map_err(super::CredentialError::from)?;
        proxy = proxy.basic_auth(user, password.expose_secret());
    }
    Ok(Some(proxy))
}
