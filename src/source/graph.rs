//! Sends the requests of one tenant to Microsoft Graph.
//!
//! [`Graph`] adds a token to every request, obeys the throttle of the tenant, retries transient
//! failures, and compares the clock of this host with Graph's; `pages` reads collections with it.
//! Bodies are returned as they were received, and [`crate::wire`] parses them. The work on a large
//! body must never delay the other tasks of the process; see `net::off_worker`. See decisions 0063
//! and 0079.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    Clients, Cloud, Collection, Credential, SourceError, TokenRequestContext,
    auth::cache::TokenCache,
    headers::{
        claims_challenge, clock_offset, header, in_utf8, is_json, redact_headers, request_headers,
        without_byte_order_mark,
    },
    memory_budget::Share,
    paging::PagingMethod,
    throttle::TenantThrottle,
};
use crate::{
    clock,
    foreign_text::{MAX_ERROR_BODY_BYTES, PeerSecrets, SentSecrets},
    model::{ClockOffset, TenantId},
    net::{self, BodyError},
    wire,
};

/// The server's name in error messages.
const WHAT: &str = "Graph";
/// The name of the sign-in service in error messages.
const SIGN_IN: &str = "the sign-in service";
/// The longest pause that a poll waits for; a longer one ends the poll.
pub(super) const MAX_PAUSE: Duration = Duration::from_mins(1);
/// The maximum number of retries of one page.
const MAX_RETRIES: usize = 3;

/// The settings for reading one tenant.
#[derive(Clone, Debug)]
pub struct Access {
    pub cloud: Cloud,
    /// GUID or verified domain; the token endpoint accepts both.
    pub tenant: String,
    /// The credential that tokens are requested with.
    pub credential: Arc<dyn Credential>,
    pub api: Api,
}

/// The API that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// The current API: `security/secureScores`.
    #[default]
    SecureScores,
    /// The original API of 2017: `getTenantSecureScores(period=N)`.
    LegacyReports,
}

/// The client of one tenant.
#[derive(Debug)]
pub struct Graph {
    clients: Arc<Clients>,
    access: Access,
    token: TokenCache,
    throttle: TenantThrottle,
    /// From the last response of Graph; see [`Self::take_clock_offset`].
    clock_offset: Mutex<Option<ClockOffset>>,
    /// The secrets that were sent for the tenant, to Graph and to the token endpoint.
    sent: PeerSecrets,
}

/// The result of one request for `check --online`.
#[derive(Debug)]
pub struct Probe {
    /// The permissions in the token, if the token is readable.
    pub granted: Option<wire::TokenGrants>,
    /// How far the clock of this host is ahead; `None` if the response has no valid `Date`.
    pub clock_offset: Option<ClockOffset>,
    /// The first page, uncompressed.
    pub body: Vec<u8>,
    /// The secrets that the token and the body may repeat. Every text of them must be redacted
    /// before a message quotes it.
    pub secrets: SentSecrets,
}

/// The connection that a request uses. Each retry opens a new one; see [`Clients::fresh`].
#[derive(Clone, Copy)]
enum Connection {
    Pooled,
    New,
}

/// A response with any status. The body is uncompressed and without a byte-order mark.
struct RawResponse {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    client_request_id: String,
}

/// A body as received, uncompressed.
pub(super) struct GraphResponse {
    pub(super) body: Vec<u8>,
    /// The `Warning` header that names what is missing in the body (HTTP 206).
    pub(super) warning: Option<String>,
    /// The body's share of the memory budget, which is returned when the response is dropped.
    _share: Option<Share>,
}

/// The body of an incomplete response, uncompressed. It holds its share of the memory budget, as
/// any other body does, until the response is used or the error is dropped.
#[derive(Debug, Default)]
pub struct PartialBody {
    bytes: Vec<u8>,
    share: Option<Share>,
}

impl Graph {
    /// A client without a token; it sends no request.
    pub fn new(clients: Arc<Clients>, access: Access) -> Self {
        let (token, throttle) = (TokenCache::default(), TenantThrottle::new());
        let sent = PeerSecrets::of_tenant();
        Self { clients, access, token, throttle, clock_offset: Mutex::default(), sent }
    }

    /// The settings of the tenant.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The remaining pause that the server demanded; zero if there is none.
    pub fn paused_for(&self) -> Duration {
        self.throttle.remaining_pause()
    }

    /// Continues a pause that the server demanded before this process started.
    pub fn restore_pause(&self, wait: Duration) {
        self.throttle.restore_pause(wait);
    }

    /// The offset that [`Self::take_clock_offset`] returns next.
    pub(super) fn clock_offset(&self) -> Option<ClockOffset> {
        *self.clock_offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the clock of this host was ahead when the last response of Graph arrived; `None` if
    /// there was no response with a valid `Date` since the last call.
    pub fn take_clock_offset(&self) -> Option<ClockOffset> {
        self.clock_offset.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The ID of the tenant that owns the verified domain in [`Access::tenant`], from the OpenID
    /// configuration that the sign-in service publishes.
    ///
    /// # Errors
    ///
    /// Returns [`SourceError::UnknownDomain`] if no tenant of the cloud has the domain.
    pub async fn resolve(&self) -> Result<TenantId, SourceError> {
        let (what, secrets) = (SIGN_IN, self.public_request_secrets());
        let unknown = || SourceError::UnknownDomain(self.access.tenant.clone());
        let response = self.openid_configuration().await?;

        match response.status().as_u16() {
            200 => {}
            400 | 404 => return Err(unknown()),
            status => return Err(SourceError::Status { what, status, reason: String::new() }),
        }

        let body = net::read_body(response, 1 << 20).await;
        let body = body.map_err(|source| SourceError::unreadable(what, source, &secrets))?;
        let body = without_byte_order_mark(body);
        net::off_worker(body.len(), || wire::issuer_tenant(&body)).ok_or_else(unknown)
    }

    /// How far the clock of this host is ahead of that of the sign-in service; `None` if its
    /// response has no valid `Date`. The request requires no token and no permit of the throttle.
    ///
    /// # Errors
    ///
    /// Fails if there is no response.
    pub async fn measure_clock(&self) -> Result<Option<ClockOffset>, SourceError> {
        let response = self.openid_configuration().await?;
        Ok(clock_offset(response.headers(), clock::now()))
    }

    /// Requests the OpenID configuration of the tenant, which is public.
    async fn openid_configuration(&self) -> Result<reqwest::Response, SourceError> {
        let mut url = self.access.cloud.login_url.clone();
        url.set_path(&format!("/{}/v2.0/.well-known/openid-configuration", self.access.tenant));
        let secrets = self.public_request_secrets();
        match self.clients.pooled.get(url.clone()).send().await {
            Ok(response) => Ok(response),
            Err(error) => Err(self.clients.no_response(SIGN_IN, &url, error, &secrets).await),
        }
    }

    /// The secrets that were sent for the tenant, and that a server may repeat in a document.
    pub fn sent_secrets(&self) -> SentSecrets {
        self.sent.kept()
    }

    /// The secrets that a server may repeat in the response to a request without a token: those of
    /// the proxy, and those of earlier requests.
    fn public_request_secrets(&self) -> SentSecrets {
        self.sent.remember(self.clients.proxy_secrets())
    }

    /// Requests a token and the first page, without retries, for diagnosis.
    ///
    /// # Errors
    ///
    /// Fails if no token can be obtained, or if the request fails or is rejected.
    pub async fn probe(&self, collection: Collection) -> Result<Probe, SourceError> {
        let token = self.get_token(None).await?;
        let url = collection.first_page(&self.access.cloud.graph_url, PagingMethod::Links);
        let response = self.fetch_once(&url, &token, Connection::Pooled).await?;

        Ok(Probe {
            granted: wire::granted(token.expose_secret()),
            clock_offset: self.take_clock_offset(),
            body: response.body,
            secrets: self.sent_secrets(),
        })
    }

    /// Requests one page, with retries.
    pub(super) async fn fetch(&self, url: &Url) -> Result<GraphResponse, SourceError> {
        let policy = ExponentialBuilder::default()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(Duration::from_secs(20))
            .with_jitter()
            .with_max_times(MAX_RETRIES);
        let is_retry = AtomicBool::new(false);
        let connection = || {
            if is_retry.load(Ordering::Relaxed) { Connection::New } else { Connection::Pooled }
        };

        let fetched = (|| self.fetch_authorized(url, connection()))
            .retry(policy)
            .when(|error| {
                error.is_transient() && error.retry_after().is_none_or(|wait| wait <= MAX_PAUSE)
            })
            .notify(|error, wait| {
                is_retry.store(true, Ordering::Relaxed);
                tracing::debug!(error = crate::error::chain(error), ?wait, "retrying a request");
            })
            .await;

        match fetched {
            // The response is still incomplete after all retries. The days that it contains are
            // accepted as partial.
            Err(SourceError::Partial { warning, body: PartialBody { bytes, share } }) => {
                Ok(GraphResponse { body: bytes, warning: Some(warning), _share: share })
            }
            other => other,
        }
    }

    /// Requests a page, and requests it again with a new token if Graph rejects the token. A token
    /// may be revoked before it expires, or may lack claims that a policy introduced after the
    /// token was issued.
    async fn fetch_authorized(
        &self,
        url: &Url,
        connection: Connection,
    ) -> Result<GraphResponse, SourceError> {
        let token = self.get_token(None).await?;
        let fetched = self.fetch_once(url, &token, connection).await;

        let claims = match &fetched {
            Err(SourceError::Graph { status: 401, claims, .. }) => claims.clone(),
            Err(SourceError::Graph { status: 403, claims: Some(claims), .. }) => {
                Some(claims.clone())
            }
            _ => return fetched,
        };

        self.token.reject(&token).await;
        let token = self.get_token(claims.as_deref()).await?;
        self.fetch_once(url, &token, connection).await
    }

    async fn get_token(&self, claims: Option<&str>) -> Result<SecretString, SourceError> {
        let Access { cloud, tenant, credential, .. } = &self.access;
        let context =
            TokenRequestContext { clients: &self.clients, cloud, tenant, claims, sent: &self.sent };
        self.token.get(credential.as_ref(), context, &self.throttle).await
    }

    /// Sends a request, and reads its response regardless of the status. A body that is not a page
    /// is cut to [`MAX_ERROR_BODY_BYTES`], without the secrets of the request. Fails with
    /// [`BodyError::Postponed`] if another large body is being read.
    async fn exchange(
        &self,
        url: &Url,
        token: &SecretString,
        connection: Connection,
        share: &mut Share,
    ) -> Result<RawResponse, SourceError> {
        let client_request_id = uuid::Uuid::new_v4().to_string();
        let client = match connection {
            Connection::Pooled => &self.clients.pooled,
            Connection::New => &self.clients.fresh,
        };
        let request = client.get(url.clone()).headers(request_headers(token, &client_request_id)?);
        let request = request
            .build()
            .map_err(|error| SourceError::no_response(WHAT, error, self.clients.proxy_secrets()))?;
        // The only secret of this client is a token, and Graph chooses the URLs of further pages.
        let mut secrets = net::request_secrets(&request).into_temporary();
        secrets.extend(self.clients.proxy_secrets());
        let secrets = self.sent.remember(&secrets);
        let response = match client.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(client_request_id, "no response from Graph");
                return Err(self.clients.no_response(WHAT, url, error, &secrets).await);
            }
        };

        let status = response.status().as_u16();
        let mut headers = response.headers().clone();
        if let Some(offset) = clock_offset(&headers, clock::now()) {
            *self.clock_offset.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
        }
        let limit = share.limit();
        let body_error = |source| SourceError::unreadable(WHAT, source, &secrets);
        let body = net::read_growing(response, limit, share).await.map_err(body_error)?;
        let body = net::inflate(&headers, body, limit, share).map_err(body_error)?;
        let mut body = without_byte_order_mark(body);

        let is_error = is_reported_error(&body);
        if status != 200 || is_error || !is_json(&headers) {
            redact_headers(&mut headers, &secrets);
        }
        if is_error || !matches!(status, 200 | 206) {
            let redacted = net::redact_beginning(&secrets, &in_utf8(&body), MAX_ERROR_BODY_BYTES);
            body = redacted;
        }
        Ok(RawResponse { status, headers, body, client_request_id })
    }

    async fn fetch_once(
        &self,
        url: &Url,
        token: &SecretString,
        connection: Connection,
    ) -> Result<GraphResponse, SourceError> {
        let permit = self.throttle.acquire(MAX_PAUSE).await;
        let _permit = permit.map_err(throttled)?;
        let mut share = self.clients.memory.share().await;

        let response = loop {
            self.clients.rate.acquire().await;
            match self.exchange(url, token, connection, &mut share).await {
                Err(SourceError::Body { source: BodyError::Postponed, .. }) => {
                    share.reserve_large().await;
                }
                other => break other?,
            }
        };
        let RawResponse { status, headers, body, client_request_id } = response;

        match status {
            200 if is_reported_error(&body) => {
                Err(self.failure(status, &headers, &body, &client_request_id))
            }
            200 if is_json(&headers) => {
                Ok(GraphResponse { body, warning: None, _share: Some(share) })
            }
            200 => Err(SourceError::NotJson {
                what: WHAT,
                content_type: header(&headers, "Content-Type"),
            }),
            // A provider behind Graph did not respond, so a part of the body is missing.
            206 => {
                let warning = header(&headers, "Warning");
                log_failure(status, &headers, &client_request_id, &warning);
                let body = PartialBody { bytes: body, share: Some(share) };
                Err(SourceError::Partial { warning, body })
            }
            _ => Err(self.failure(status, &headers, &body, &client_request_id)),
        }
    }

    /// The error of an unsuccessful response. Starts a pause if the response demands one.
    fn failure(
        &self,
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
        client_request_id: &str,
    ) -> SourceError {
        let error = net::off_worker(body.len(), || wire::GraphError::of_body(body));
        log_failure(status, headers, client_request_id, &error.code);

        match status {
            429 | 503 | 504 | 509 => {
                let after = net::retry_after(headers);
                if let Some(wait) = after {
                    self.throttle.pause_for(wait);
                }
                SourceError::Throttled { what: WHAT, status, after }
            }
            300..=399 => SourceError::Redirect { what: WHAT, status },
            _ => SourceError::Graph {
                status,
                error,
                request_id: header(headers, "request-id"),
                claims: claims_challenge(headers),
            },
        }
    }
}

/// Whether the body is an error of Graph instead of a page. A gateway may return it with HTTP 200.
/// A longer one is a page.
fn is_reported_error(body: &[u8]) -> bool {
    body.len() <= MAX_ERROR_BODY_BYTES
        && wire::GraphError::read(body).is_some()
        && wire::page(body).is_err()
}

/// The error for a request that is not sent because the pause lasts too long.
pub(super) fn throttled(wait: Duration) -> SourceError {
    SourceError::Throttled { what: WHAT, status: 429, after: Some(wait) }
}

/// Logs the fields that Microsoft's support needs to find a failed request.
fn log_failure(status: u16, headers: &HeaderMap, client_request_id: &str, reason: &str) {
    let request_id = header(headers, "request-id");
    let diagnostic = header(headers, "x-ms-ags-diagnostic");
    let date = header(headers, "Date");

    // The level of a tracing event must be a constant.
    macro_rules! log_at {
        ($level:ident) => {
            tracing::$level!(
                status,
                reason,
                request_id,
                client_request_id,
                diagnostic,
                date,
                "Graph returned an error or an incomplete response"
            )
        };
    }

    // Transient failures are retried; if they persist, the poll fails and logs the error.
    if matches!(status, 408 | 429 | 500..) { log_at!(debug) } else { log_at!(warn) }
}

/// When the credential expires, if that is less than 30 days away.
pub fn expires_soon(credential: &dyn Credential, now: Timestamp) -> Option<Timestamp> {
    const NOTICE: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);
    credential.expires().filter(|end| end.duration_since(now) < NOTICE)
}

#[cfg(test)]
mod tests;
