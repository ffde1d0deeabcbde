//! The HTTP clients and the limits that all tenants share for requests to Microsoft. A reload
//! builds other clients, so no connection outlives its configuration. Start reading at [`Clients`].

use std::path::PathBuf;

use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::{SourceError, memory_budget::MemoryBudget, throttle::RateLimiter};
use crate::{
    foreign_text::SentSecrets,
    net::{self, ClientError, CredentialChannel, ProxyAccess, ProxyFault},
    settings::SecretRef,
};

/// Concurrent token requests, over all tenants.
const MAX_CONCURRENT_TOKEN_REQUESTS: usize = 8;

/// The addresses to which [`net::is_safe_url`] permits plain HTTP, as a list of exceptions for a
/// proxy.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

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
    /// The proxy, which is asked why it does not connect; `None` if there is none.
    proxy_access: Option<ProxyAccess>,
    /// The password for the proxy, which the client adds to requests.
    proxy_secrets: SentSecrets,
}

impl Clients {
    /// Builds the clients.
    ///
    /// # Errors
    ///
    /// Fails if `ca_file` or the password of the proxy cannot be read.
    pub fn new(options: &GraphHttpOptions) -> Result<Self, SourceError> {
        let proxy_access = proxy_access(options)?;
        let mut proxy_secrets = SentSecrets::default();
        if let Some((_, password)) = proxy_access.as_ref().and_then(|proxy| proxy.login.as_ref()) {
            proxy_secrets.add(password.expose_secret());
        }

        let build = |configure: fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder| {
            let mut builder = net::builder(options.ca_file.as_deref())?;
            if let Some(access) = &proxy_access {
                builder = builder.proxy(proxy(access)?);
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
            proxy_access,
            proxy_secrets,
        })
    }

    /// The error of a request to `what` at this URL that has no complete response, as
    /// [`SourceError::no_response`] returns it. A proxy that did not connect is asked why.
    pub(super) async fn no_response(
        &self,
        what: &'static str,
        url: &url::Url,
        error: reqwest::Error,
        secrets: &SentSecrets,
    ) -> SourceError {
        let error = SourceError::no_response(what, error, secrets);
        match (error, &self.proxy_access) {
            (SourceError::Proxy { source: ProxyFault::NotConnected, .. }, Some(proxy)) => {
                SourceError::Proxy { what, source: Box::pin(proxy.fault(url)).await }
            }
            (error, _) => error,
        }
    }

    /// The secrets that a server, or the proxy, may repeat in the response to a request.
    pub(super) fn secrets_of(&self, request: &reqwest::Request) -> SentSecrets {
        let mut secrets = net::request_secrets(request);
        secrets.extend(&self.proxy_secrets);
        secrets
    }

    /// The secrets that every request through the proxy contains.
    pub(super) fn proxy_secrets(&self) -> &SentSecrets {
        &self.proxy_secrets
    }
}

/// The proxy and its login, if one is used.
fn proxy_access(options: &GraphHttpOptions) -> Result<Option<ProxyAccess>, SourceError> {
    let Some(url) = options.proxy.clone() else { return Ok(None) };
    let login = match (&options.proxy_user, &options.proxy_password) {
        (Some(user), Some(password)) => {
            Some((user.clone(), password.read().map_err(super::CredentialError::from)?))
        }
        _ => None,
    };
    Ok(Some(ProxyAccess { url, login, ca_file: options.ca_file.clone() }))
}

/// The proxy. Requests to loopback addresses, which may use plain HTTP, never leave this host: they
/// use only a proxy on this host.
fn proxy(access: &ProxyAccess) -> Result<reqwest::Proxy, ClientError> {
    let mut proxy = reqwest::Proxy::all(access.url.clone()).map_err(ClientError::Build)?;
    let host = access.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if !CredentialChannel::PlainText(host).is_confidential() {
        proxy = proxy.no_proxy(reqwest::NoProxy::from_string(LOOPBACK));
    }
    if let Some((user, password)) = &access.login {
        proxy = proxy.basic_auth(user, password.expose_secret());
    }
    Ok(proxy)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A server that responds to each connection with this status. Returns its URL.
    async fn server(host: &str, status: u16) -> url::Url {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1_024];
                if stream.read(&mut request).await.unwrap_or(0) == 0 {
                    continue;
                }
                let response = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(response.as_bytes()).await;
            }
        });
        format!("http://{host}:{port}").parse().unwrap()
    }

    /// Regression: a request to a loopback address was sent to the proxy, with its credential in
    /// plain text.
    #[tokio::test]
    async fn loopback_requests_stay_on_this_host() {
        let target = server("127.0.0.1", 204).await;
        let through = async |proxy: url::Url| {
            let options = GraphHttpOptions { proxy: Some(proxy), ..GraphHttpOptions::default() };
            let clients = Clients::new(&options).unwrap();
            let sent = clients.fresh.get(target.clone()).send().await;
            sent.map(|response| response.status().as_u16())
        };

        // No host has an address of this network, so a request through the proxy would fail.
        let remote = "http://192.0.2.1:3128".parse().unwrap();
        assert_eq!(through(remote).await.unwrap(), 204);
        let local = server("127.0.0.1", 418).await;
        assert_eq!(through(local).await.unwrap(), 418);
    }
}
