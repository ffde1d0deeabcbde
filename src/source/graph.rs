//! Reads the collections of one tenant, page by page.
//!
//! [`Graph`] adds a token to every request, obeys the throttle of the tenant, retries transient
//! failures, and works around links to a next page that Graph rejects. It returns bodies as they
//! were received; [`crate::wire`] parses them. The work on a large body must never delay the other
//! tasks of the process; see `net::off_worker`. See decision 0063.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    Clients, Cloud, Collection, Credential, SourceError, TokenRequestContext,
    auth::cache::TokenCache,
    headers::{claims_challenge, header, is_json, request_headers},
    paging::{PAGING_METHODS, PagingMethod, next_page, skip_to},
    throttle::TenantThrottle,
};
use crate::{clock, model::TenantId, net, wire};

/// The server's name in error messages.
const WHAT: &str = "Graph";
/// The maximum number of pages of one collection; a collection with more is rejected.
const MAX_PAGES: usize = 200;
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

/// An event that [`Graph::read`] passes to its callback.
#[derive(Clone, Copy)]
pub enum ReadEvent<'a> {
    /// Reading starts at the first page, possibly for a second time. The callback must discard
    /// everything that it received before.
    Start,
    /// A complete page.
    Page {
        /// The JSON as Microsoft sent it, uncompressed.
        body: &'a [u8],
        /// The `Warning` header that names what is missing in the body (HTTP 206).
        warning: Option<&'a str>,
    },
}

/// What the callback of [`Graph::read`] found in a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PageOutcome {
    /// The number of items in the page; a page may have none.
    pub item_count: usize,
    /// The page's `@odata.nextLink`, unchanged.
    pub next_link: Option<String>,
    /// Whether the callback requires no further page.
    pub done: bool,
}

/// The client of one tenant.
#[derive(Debug)]
pub struct Graph {
    clients: Arc<Clients>,
    access: Access,
    token: TokenCache,
    throttle: TenantThrottle,
}

/// The result of one request for `check --online`.
#[derive(Debug)]
pub struct Probe {
    /// The permissions in the token, if the token is readable.
    pub granted: Option<wire::TokenGrants>,
    /// The local time minus the `Date` of the response.
    pub clock_ahead: Option<jiff::SignedDuration>,
    /// The first page, uncompressed.
    pub body: Vec<u8>,
}

/// The connection that a request uses. Each retry opens a new one; see [`Clients::fresh`].
#[derive(Clone, Copy)]
enum Connection {
    Pooled,
    New,
}

/// A body as received, uncompressed.
struct GraphResponse {
    body: Vec<u8>,
    warning: Option<String>,
    /// The body's share of the memory budget, which is returned when the response is dropped.
    _share: super::memory_budget::Share,
}

impl Graph {
    /// A client without a token; it sends no request.
    pub fn new(clients: Arc<Clients>, access: Access) -> Self {
        Self { clients, access, token: TokenCache::default(), throttle: TenantThrottle::new() }
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

    /// Reads a collection and passes each page to `on_event` until it reports `done` or there is no
    /// further page.
    ///
    /// # Errors
    ///
    /// Fails if a page cannot be read after retries, if `on_event` fails, or if a link to a next
    /// page must not be followed.
    pub async fn read(
        &self,
        collection: Collection,
        mut on_event: impl FnMut(ReadEvent<'_>) -> Result<PageOutcome, SourceError>,
    ) -> Result<(), SourceError> {
        let mut last_error = SourceError::NextLink("no paging method works");

        for method in PAGING_METHODS {
            let Some(first) = collection.first_page(&self.access.cloud.graph_url, method) else {
                break;
            };
            on_event(ReadEvent::Start)?;
            match self.read_pages(&first, method, &mut on_event).await {
                Err(error @ SourceError::BrokenLink(_)) => {
                    tracing::debug!(%error, "cannot read the next page; trying another method");
                    last_error = error;
                }
                other => return other,
            }
        }

        Err(last_error)
    }

    async fn read_pages(
        &self,
        first: &Url,
        method: PagingMethod,
        on_event: &mut impl FnMut(ReadEvent<'_>) -> Result<PageOutcome, SourceError>,
    ) -> Result<(), SourceError> {
        let mut url = first.clone();
        let mut visited = HashSet::new();
        let mut item_count = 0;

        for number in 0..MAX_PAGES {
            let response = match self.fetch(&url).await {
                Err(SourceError::Graph { status: 400, error, .. })
                    if number > 0 && method != PagingMethod::Skip =>
                {
                    return Err(SourceError::BrokenLink(error));
                }
                other => other?,
            };
            let warning = response.warning.as_deref();
            let page = net::off_worker(response.body.len(), || {
                on_event(ReadEvent::Page { body: &response.body, warning })
            })?;
            item_count = page.item_count.saturating_add(item_count);

            let next = match (method, page.next_link) {
                _ if page.done => return Ok(()),
                (PagingMethod::Skip, _) if page.item_count == 0 => return Ok(()),
                (PagingMethod::Skip, _) => skip_to(first, item_count),
                (_, None) => return Ok(()),
                (_, Some(link)) => next_page(first, &link)?,
            };

            // A server that ignores `$skip` returns the same page again and again, so pages that
            // are requested by offset are compared by content.
            let key = match method {
                PagingMethod::Skip => digest(&SHA256, &response.body).as_ref().to_vec(),
                _ => next.as_str().as_bytes().to_vec(),
            };
            if !visited.insert(key) {
                return Err(SourceError::NextLink("that page was already read"));
            }
            url = next;
        }

        Err(SourceError::NextLink("the collection has more than 200 pages"))
    }

    /// The ID of the tenant that owns the verified domain in [`Access::tenant`], from the OpenID
    /// configuration that the sign-in service publishes.
    ///
    /// # Errors
    ///
    /// Returns [`SourceError::UnknownDomain`] if no tenant of the cloud has the domain.
    pub async fn resolve(&self) -> Result<TenantId, SourceError> {
        let what = "the sign-in service";
        let unknown = || SourceError::UnknownDomain(self.access.tenant.clone());

        let mut url = self.access.cloud.login_url.clone();
        url.set_path(&format!("/{}/v2.0/.well-known/openid-configuration", self.access.tenant));
        let sent = self.clients.pooled.get(url).send().await;
        let response = sent.map_err(|error| SourceError::no_response(what, error))?;

        match response.status().as_u16() {
            200 => {}
            400 | 404 => return Err(unknown()),
            status => return Err(SourceError::Status { what, status }),
        }

        let body = net::read_body(response, 1 << 20).await;
        let body = body.map_err(|source| SourceError::Body { what, source })?;
        wire::issuer_tenant(&body).ok_or_else(unknown)
    }

    /// Requests a token and the first page, without retries, for diagnosis.
    ///
    /// # Errors
    ///
    /// Fails if no token can be obtained, or if the request fails or is rejected.
    pub async fn probe(&self, collection: Collection) -> Result<Probe, SourceError> {
        let token = self.get_token(None).await?;
        let url = collection.first_page(&self.access.cloud.graph_url, PagingMethod::Links);
        let url = url.ok_or(SourceError::NextLink("the collection has no first page"))?;
        let (response, headers) = self.fetch_once(&url, &token, Connection::Pooled).await?;

        let date = headers.get("Date").and_then(|value| value.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());

        Ok(Probe {
            granted: wire::granted(token.expose_secret()),
            clock_ahead: date.map(|date| clock::now().duration_since(date.timestamp())),
            body: response.body,
        })
    }

    /// Requests one page, with retries.
    async fn fetch(&self, url: &Url) -> Result<GraphResponse, SourceError> {
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
            Err(SourceError::Partial { warning, body }) => Ok(GraphResponse {
                body,
                warning: Some(warning),
                _share: self.clients.memory.share().await,
            }),
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
            _ => return fetched.map(|(response, _)| response),
        };

        self.token.reject(&token).await;
        let token = self.get_token(claims.as_deref()).await?;
        self.fetch_once(url, &token, connection).await.map(|(response, _)| response)
    }

    async fn get_token(&self, claims: Option<&str>) -> Result<SecretString, SourceError> {
        let Access { cloud, tenant, credential, .. } = &self.access;
        let context = TokenRequestContext { clients: &self.clients, cloud, tenant, claims };
        self.token.get(credential.as_ref(), context, &self.throttle).await
    }

    async fn fetch_once(
        &self,
        url: &Url,
        token: &SecretString,
        connection: Connection,
    ) -> Result<(GraphResponse, HeaderMap), SourceError> {
        let permit = self.throttle.acquire(MAX_PAUSE).await;
        let _permit = permit.map_err(throttled)?;
        self.clients.rate.acquire().await;
        let mut share = self.clients.memory.share().await;

        let client_request_id = uuid::Uuid::new_v4().to_string();
        let client = match connection {
            Connection::Pooled => &self.clients.pooled,
            Connection::New => &self.clients.fresh,
        };
        let request = client.get(url.clone()).headers(request_headers(token, &client_request_id)?);
        let sent = request.send().await;
        let response = sent.map_err(|error| {
            tracing::debug!(client_request_id, "no response from Graph");
            SourceError::no_response(WHAT, error)
        })?;

        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let limit = share.limit();
        let body_error = |source| SourceError::Body { what: WHAT, source };
        let body = net::read_growing(response, limit, &mut share).await;
        let body = body.map_err(body_error)?;
        let body = net::inflate(&headers, body, limit, &mut share).await;
        let body = body.map_err(body_error)?;

        match status {
            200 if is_json(&headers) => {
                Ok((GraphResponse { body, warning: None, _share: share }, headers))
            }
            200 => Err(SourceError::NotJson {
                what: WHAT,
                content_type: header(&headers, "Content-Type"),
            }),
            // A provider behind Graph did not respond, so a part of the body is missing.
            206 => {
                let warning = header(&headers, "Warning");
                log_failure(status, &headers, &client_request_id, &warning);
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
        let error = net::off_worker(body.len(), || wire::GraphError::read(body));
        let error = error.unwrap_or_default();
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
