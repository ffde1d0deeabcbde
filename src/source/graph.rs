//! One tenant's collections, page by page.

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
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    Clients, Cloud, Collection, Credential, SourceError, TokenRequestContext,
    auth::cache::TokenCache,
    paging::{WAYS, Way, next_page, skip_to},
    throttle::TenantThrottle,
};
use crate::{clock, model::TenantId, net, wire};

const WHAT: &str = "Graph";
const MAX_PAGES: usize = 200;
/// Waits of the server's own wish that are sat out within a poll; longer ones end the poll.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
const ATTEMPTS: usize = 3;

/// What is needed to read one tenant.
#[derive(Clone, Debug)]
pub struct Access {
    pub cloud: Cloud,
    /// GUID or verified domain, as the token endpoint takes either.
    pub tenant: String,
    pub credential: Arc<dyn Credential>,
    pub api: Api,
}

/// Which API is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    #[default]
    SecureScores,
    /// The original one, of 2017: `getTenantSecureScores(period=N)`.
    LegacyReports,
}

/// What the reader of a collection is told.
#[derive(Clone, Copy)]
pub enum ReadEvent<'a> {
    /// From the first page on, perhaps once more: what was read before is void.
    Start,
    Page {
        body: &'a [u8],
        /// What Graph says is missing in it, where it says so (HTTP 206).
        warning: Option<&'a str>,
    },
}

/// What a page came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PageOutcome {
    pub items: usize,
    /// Followed as it is, or not at all.
    pub next_link: Option<String>,
    /// No further page is wanted.
    pub enough: bool,
}

/// A reader of one tenant.
#[derive(Debug)]
pub struct Graph {
    clients: Arc<Clients>,
    access: Access,
    token: TokenCache,
    throttle: TenantThrottle,
}

/// A body as it came.
struct GraphResponse {
    body: Vec<u8>,
    warning: Option<String>,
    /// The share of memory that the body has.
    _share: super::memory_budget::Share,
}

/// What one look at the API shows, for `check --online`.
#[derive(Debug)]
pub struct Probe {
    pub granted: Option<wire::Granted>,
    /// How far this host's clock is ahead of the server's.
    pub clock_ahead: Option<jiff::SignedDuration>,
    pub body: Vec<u8>,
}

impl Graph {
    pub fn new(clients: Arc<Clients>, access: Access) -> Self {
        Self { clients, access, token: TokenCache::default(), throttle: TenantThrottle::new() }
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    /// How long the server still wants to be left alone.
    pub fn paused_for(&self) -> Duration {
        self.throttle.wait()
    }

    /// Keeps a server's word from before this process began.
    pub fn restore_pause(&self, wait: Duration) {
        self.throttle.stay_closed_for(wait);
    }

    /// Reads a collection, handing each body to `page` until it has enough.
    pub async fn read(
        &self,
        collection: Collection,
        mut page: impl FnMut(ReadEvent<'_>) -> Result<PageOutcome, SourceError>,
    ) -> Result<(), SourceError> {
        let mut last = SourceError::NextLink("Graph follows none of its own");
        for way in WAYS {
            let Some(first) = collection.first_page(&self.access.cloud.graph_url, way) else {
                break;
            };
            page(ReadEvent::Start)?;
            match self.walk(&first, way, &mut page).await {
                Err(error @ SourceError::BrokenLink(_)) => {
                    tracing::debug!(%error, "a next page cannot be had; trying another way");
                    last = error;
                }
                other => return other,
            }
        }
        Err(last)
    }

    async fn walk(
        &self,
        first: &Url,
        way: Way,
        page: &mut impl FnMut(ReadEvent<'_>) -> Result<PageOutcome, SourceError>,
    ) -> Result<(), SourceError> {
        let mut url = first.clone();
        let mut visited = HashSet::new();
        let mut items = 0;
        for number in 0..MAX_PAGES {
            let answer = match self.fetch(&url).await {
                Err(SourceError::Graph { status: 400, error, .. })
                    if number > 0 && way != Way::Skip =>
                {
                    return Err(SourceError::BrokenLink(error));
                }
                other => other?,
            };
            let step = ReadEvent::Page { body: &answer.body, warning: answer.warning.as_deref() };
            let read = page(step)?;
            items += read.items;
            let next = match (way, read.next_link) {
                _ if read.enough => return Ok(()),
                (Way::Skip, _) if read.items == 0 => return Ok(()),
                (Way::Skip, _) => skip_to(first, items),
                (_, None) => return Ok(()),
                (_, Some(link)) => next_page(first, &link)?,
            };
            // By number a server that takes no numbers shows the same page for ever.
            let mark = match way {
                Way::Skip => digest(&SHA256, &answer.body).as_ref().to_vec(),
                _ => next.as_str().as_bytes().to_vec(),
            };
            if !visited.insert(mark) {
                return Err(SourceError::NextLink("it has been read already"));
            }
            url = next;
        }
        Err(SourceError::NextLink("there are too many"))
    }

    /// The tenant that a verified domain belongs to, as its cloud publishes it.
    pub async fn resolve(&self) -> Result<TenantId, SourceError> {
        let what = "the sign-in service";
        let mut url = self.access.cloud.login_url.clone();
        url.set_path(&format!("/{}/v2.0/.well-known/openid-configuration", self.access.tenant));
        let sent = self.clients.pooled.get(url).send().await;
        let response =
            sent.map_err(|error| SourceError::Transport { what, source: error.without_url() })?;
        match response.status().as_u16() {
            200 => {}
            400 | 404 => return Err(SourceError::UnknownDomain(self.access.tenant.clone())),
            status => return Err(SourceError::Status { what, status }),
        }
        let body = net::read_body(response, 1 << 20).await;
        let body = body.map_err(|source| SourceError::Body { what, source })?;
        wire::issuer_tenant(&body)
            .ok_or_else(|| SourceError::UnknownDomain(self.access.tenant.clone()))
    }

    /// A token and one page, looked at rather than kept.
    pub async fn probe(&self, collection: Collection) -> Result<Probe, SourceError> {
        let token = self.get_token(None).await?;
        let url = collection.first_page(&self.access.cloud.graph_url, Way::Links);
        let url = url.ok_or(SourceError::NextLink("there is no first page"))?;
        let (answer, headers) = self.fetch_once(&url, &token, false).await?;
        let date = headers.get("Date").and_then(|value| value.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        Ok(Probe {
            granted: wire::granted(token.expose_secret()),
            clock_ahead: date.map(|date| clock::now().duration_since(date.timestamp())),
            body: answer.body,
        })
    }

    /// One page, with the patience that a busy server deserves.
    async fn fetch(&self, url: &Url) -> Result<GraphResponse, SourceError> {
        let policy = ExponentialBuilder::default()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(Duration::from_secs(20))
            .with_jitter()
            .with_max_times(ATTEMPTS);
        // After a failure of the server's own, on a connection of its own.
        let fresh = AtomicBool::new(false);
        let fetched = (|| self.fetch_authorized(url, fresh.load(Ordering::Relaxed)))
            .retry(policy)
            .when(|error| {
                error.is_transient() && error.retry_after().is_none_or(|wait| wait <= PATIENCE)
            })
            .notify(|error, wait| {
                fresh.store(true, Ordering::Relaxed);
                tracing::debug!(error = crate::error::chain(error), ?wait, "trying again");
            })
            .await;
        match fetched {
            // Still no whole answer: what there is of it is better than nothing.
            Err(SourceError::Partial { warning, body }) => Ok(GraphResponse {
                body,
                warning: Some(warning),
                _share: self.clients.budget.share().await,
            }),
            other => other,
        }
    }

    /// A token may be taken back before its time, or not be good enough: then this page is asked
    /// for once more with a new one.
    async fn fetch_authorized(&self, url: &Url, fresh: bool) -> Result<GraphResponse, SourceError> {
        let token = self.get_token(None).await?;
        let answered = self.fetch_once(url, &token, fresh).await;
        let claims = match &answered {
            Err(SourceError::Graph { status: 401, claims, .. }) => claims.clone(),
            Err(SourceError::Graph { status: 403, claims: Some(claims), .. }) => {
                Some(claims.clone())
            }
            _ => return answered.map(|(answer, _)| answer),
        };
        self.token.reject(&token).await;
        let token = self.get_token(claims.as_deref()).await?;
        self.fetch_once(url, &token, fresh).await.map(|(answer, _)| answer)
    }

    async fn get_token(&self, claims: Option<&str>) -> Result<SecretString, SourceError> {
        let Access { cloud, tenant, credential, .. } = &self.access;
        let ask = TokenRequestContext { clients: &self.clients, cloud, tenant, claims };
        self.token.get(credential.as_ref(), ask, &self.throttle).await
    }

    async fn fetch_once(
        &self,
        url: &Url,
        token: &SecretString,
        fresh: bool,
    ) -> Result<(GraphResponse, HeaderMap), SourceError> {
        let entered = self.throttle.enter(PATIENCE).await;
        let _turn = entered.map_err(left_alone)?;
        self.clients.pace.take().await;
        let mut share = self.clients.budget.share().await;
        let client_request_id = uuid::Uuid::new_v4().to_string();
        let client = if fresh { &self.clients.fresh } else { &self.clients.pooled };
        let request = client.get(url.clone()).headers(headers(token, &client_request_id)?);
        let sent = request.send().await;
        let response = sent.map_err(|error| {
            tracing::debug!(client_request_id, "Graph did not answer a request");
            SourceError::Transport { what: WHAT, source: error.without_url() }
        })?;
        let status = response.status().as_u16();
        let said = response.headers().clone();
        let limit = share.limit();
        let body_error = |source| SourceError::Body { what: WHAT, source };
        let body = net::read_growing(response, limit, &mut share).await;
        let body = body.map_err(body_error)?;
        let body = net::inflate(&said, body, limit, &mut share).await;
        let body = body.map_err(body_error)?;
        match status {
            200 if is_json(&said) => {
                Ok((GraphResponse { body, warning: None, _share: share }, said))
            }
            200 => Err(SourceError::NotJson {
                what: WHAT,
                content_type: header(&said, "Content-Type"),
            }),
            // A success in which a provider behind Graph did not answer: a hole in it.
            206 => {
                let warning = header(&said, "Warning");
                log_failure(status, &said, &client_request_id, &warning);
                Err(SourceError::Partial { warning, body })
            }
            _ => Err(self.failure(status, &said, &body, &client_request_id)),
        }
    }

    fn failure(
        &self,
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
        client_request_id: &str,
    ) -> SourceError {
        let error = wire::GraphError::read(body).unwrap_or_default();
        log_failure(status, headers, client_request_id, &error.code);
        match status {
            429 | 503 | 504 | 509 => {
                let after = net::retry_after(headers);
                if let Some(wait) = after {
                    self.throttle.close_for(wait);
                }
                SourceError::Throttled { what: WHAT, status, after }
            }
            300..=399 => {
                SourceError::Status { what: "Graph, with a redirect that is not followed,", status }
            }
            _ => SourceError::Graph {
                status,
                error,
                request_id: header(headers, "request-id"),
                claims: challenge(headers),
            },
        }
    }
}

/// Nobody was asked, for the server wants none of it for so long.
pub(super) fn left_alone(wait: Duration) -> SourceError {
    SourceError::Throttled { what: WHAT, status: 429, after: Some(wait) }
}

/// What Microsoft's support wants to know of a failure.
fn log_failure(status: u16, headers: &HeaderMap, client_request_id: &str, reason: &str) {
    let request_id = header(headers, "request-id");
    let diagnostic = header(headers, "x-ms-ags-diagnostic");
    let date = header(headers, "Date");
    macro_rules! told {
        ($level:ident) => {
            tracing::$level!(
                status,
                reason,
                request_id,
                client_request_id,
                diagnostic,
                date,
                "Graph did not give a whole answer"
            )
        };
    }
    // What passes by itself is tried again; the poll that fails for it in the end says so.
    if matches!(status, 408 | 429 | 500..) { told!(debug) } else { told!(warn) }
}

/// The claims that a challenge demands, decoded: `WWW-Authenticate: Bearer …, claims="<base64>"`.
fn challenge(headers: &HeaderMap) -> Option<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = headers.get("WWW-Authenticate")?.to_str().ok()?;
    if !text.contains("insufficient_claims") {
        return None;
    }
    let (_, claims) = text.split_once("claims=\"")?;
    let claims = STANDARD.decode(claims.split('"').next()?).ok()?;
    // It goes to the token endpoint; what is no JSON object goes nowhere.
    let claims = String::from_utf8(claims).ok()?;
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&claims).ok()?;
    Some(claims)
}

fn headers(token: &SecretString, client_request_id: &str) -> Result<HeaderMap, SourceError> {
    let not_a_header = |_| {
        SourceError::TokenRejected(wire::EntraError {
            error: "the token is not text for a header".into(),
            ..Default::default()
        })
    };
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(not_a_header)?;
    bearer.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(
        "client-request-id",
        HeaderValue::from_str(client_request_id).map_err(not_a_header)?,
    );
    Ok(headers)
}

fn is_json(headers: &HeaderMap) -> bool {
    header(headers, "Content-Type").to_ascii_lowercase().contains("json")
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// When the credential's last day is near enough to say so.
pub fn expires_soon(credential: &dyn Credential, now: Timestamp) -> Option<Timestamp> {
    const NOTICE: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);
    credential.expires().filter(|end| end.duration_since(now) < NOTICE)
}
