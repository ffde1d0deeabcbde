//! The two collections of Secure Score, page by page.

use std::{collections::HashSet, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Cloud, SourceError, token::TokenCache};
use crate::{model::TenantId, net, settings::SecretRef, wire};

const WHAT: &str = "Graph";
const MAX_BODY: usize = 64 << 20;
const MAX_PAGES: usize = 200;
const MAX_LINK: usize = 8 << 10;
/// Waits of the server's own wish that are sat out within a poll; longer ones end the poll.
const PATIENCE: Duration = Duration::from_mins(1);
const ATTEMPTS: usize = 3;

/// What is needed to read one tenant.
#[derive(Clone, Debug)]
pub struct Access {
    pub cloud: Cloud,
    /// GUID or verified domain, as the token endpoint takes either.
    pub tenant: String,
    pub client_id: String,
    pub client_secret: SecretRef,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// Daily snapshots, newest first; `top` is the size of a page, not a limit.
    Scores {
        top: u32,
    },
    Profiles,
}

/// What the reader of a page wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The page behind this link, which is followed as it is or not at all.
    Page(String),
    Enough,
}

/// A reader of one tenant.
#[derive(Debug)]
pub struct Graph {
    http: reqwest::Client,
    access: Access,
    token: TokenCache,
}

impl Graph {
    pub fn new(http: reqwest::Client, access: Access) -> Self {
        Self { http, access, token: TokenCache::default() }
    }

    /// Reads a collection, handing each body to `page` until it has enough.
    pub async fn read(
        &self,
        collection: Collection,
        mut page: impl FnMut(&[u8]) -> Result<Next, SourceError>,
    ) -> Result<(), SourceError> {
        let first = self.first_page(collection);
        let mut url = first.clone();
        let mut visited = HashSet::new();
        for _ in 0..MAX_PAGES {
            let body = self.fetch(&url).await?;
            let Next::Page(link) = page(&body)? else { return Ok(()) };
            if !visited.insert(link.clone()) {
                return Err(SourceError::NextLink("it has been read already"));
            }
            url = next_page(&first, &link)?;
        }
        Err(SourceError::NextLink("there are too many"))
    }

    /// The tenant that a verified domain belongs to, as its cloud publishes it.
    pub async fn resolve(&self) -> Result<TenantId, SourceError> {
        let mut url = self.access.cloud.login_url.clone();
        url.set_path(&format!("/{}/v2.0/.well-known/openid-configuration", self.access.tenant));
        let sent = self.http.get(url).send().await;
        let response = sent.map_err(|error| SourceError::Transport {
            what: "the sign-in service",
            source: error.without_url(),
        })?;
        if response.status().is_client_error() {
            return Err(SourceError::UnknownDomain(self.access.tenant.clone()));
        }
        let body = net::read_body(response, 1 << 20).await;
        let body =
            body.map_err(|source| SourceError::Body { what: "the sign-in service", source })?;
        wire::issuer_tenant(&body)
            .ok_or_else(|| SourceError::UnknownDomain(self.access.tenant.clone()))
    }

    fn first_page(&self, collection: Collection) -> Url {
        let mut url = self.access.cloud.graph_url.clone();
        match collection {
            Collection::Scores { top } => {
                url.set_path("/v1.0/security/secureScores");
                url.set_query(Some(&format!("$top={top}")));
            }
            Collection::Profiles => url.set_path("/v1.0/security/secureScoreControlProfiles"),
        }
        url
    }

    /// One page, with the patience that a busy server deserves.
    async fn fetch(&self, url: &Url) -> Result<Vec<u8>, SourceError> {
        let policy = ExponentialBuilder::default()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(Duration::from_secs(20))
            .with_jitter()
            .with_max_times(ATTEMPTS);
        (|| self.fetch_with_fresh_token(url))
            .retry(policy)
            .when(|error| {
                error.is_transient() && error.retry_after().is_none_or(|wait| wait <= PATIENCE)
            })
            .adjust(|error, delay| {
                delay.map(|delay| error.retry_after().map_or(delay, |wait| wait.max(delay)))
            })
            .notify(|error, wait| tracing::debug!(%error, ?wait, "trying again"))
            .await
    }

    /// A token may be taken back before its time: then this page is asked for once more with a
    /// new one.
    async fn fetch_with_fresh_token(&self, url: &Url) -> Result<Vec<u8>, SourceError> {
        let token = self.token.get(&self.http, &self.access).await?;
        match self.fetch_once(url, &token).await {
            Err(SourceError::Graph { status: 401, .. }) => {
                self.token.reject(&token).await;
                let token = self.token.get(&self.http, &self.access).await?;
                self.fetch_once(url, &token).await
            }
            other => other,
        }
    }

    async fn fetch_once(&self, url: &Url, token: &SecretString) -> Result<Vec<u8>, SourceError> {
        let client_request_id = uuid::Uuid::new_v4().to_string();
        let request = self.http.get(url.clone()).headers(headers(token, &client_request_id)?);
        let sent = request.send().await;
        let response = sent
            .map_err(|error| SourceError::Transport { what: WHAT, source: error.without_url() })?;
        let status = response.status().as_u16();
        let said = response.headers().clone();
        let body = net::read_body(response, MAX_BODY)
            .await
            .map_err(|source| SourceError::Body { what: WHAT, source })?;
        let body = net::inflate(&said, body, MAX_BODY)
            .map_err(|source| SourceError::Body { what: WHAT, source })?;
        match status {
            200 if is_json(&said) => Ok(body),
            200 => Err(SourceError::NotJson {
                what: WHAT,
                content_type: header(&said, "Content-Type"),
            }),
            // A success in which a provider behind Graph did not answer: a hole, not an answer.
            206 => Err(SourceError::Partial { warning: header(&said, "Warning") }),
            _ => Err(failure(status, &said, &body, &client_request_id)),
        }
    }
}

fn failure(status: u16, headers: &HeaderMap, body: &[u8], client_request_id: &str) -> SourceError {
    let request_id = header(headers, "request-id");
    tracing::warn!(status, request_id, client_request_id, "Graph refused a request");
    match status {
        429 | 503 | 504 | 509 => SourceError::Throttled { after: net::retry_after(headers) },
        300..=399 => {
            SourceError::Status { what: "Graph, with a redirect that is not followed,", status }
        }
        _ => SourceError::Graph {
            status,
            error: wire::GraphError::read(body).unwrap_or_default(),
            request_id,
        },
    }
}

fn headers(token: &SecretString, client_request_id: &str) -> Result<HeaderMap, SourceError> {
    let not_a_header = |_| {
        SourceError::Refused(wire::EntraError {
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

/// A link is followed only to the place that the token is for: the same origin and path.
fn next_page(first: &Url, link: &str) -> Result<Url, SourceError> {
    if link.len() > MAX_LINK {
        return Err(SourceError::NextLink("it is too long"));
    }
    let url = Url::parse(link).map_err(|_| SourceError::NextLink("it is no URL"))?;
    if url.origin() != first.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(SourceError::NextLink("it leads to another server"));
    }
    if !url.path().eq_ignore_ascii_case(first.path()) {
        return Err(SourceError::NextLink("it leads to another collection"));
    }
    Ok(url)
}

fn is_json(headers: &HeaderMap) -> bool {
    header(headers, "Content-Type").to_ascii_lowercase().contains("json")
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_never_leads_the_token_away() {
        let first: Url =
            "https://graph.microsoft.com/v1.0/security/secureScores?$top=3".parse().unwrap();
        let ok = "https://graph.microsoft.com/v1.0/security/secureScores?$top=3&$skiptoken=1a";
        assert_eq!(next_page(&first, ok).unwrap().as_str(), ok);
        let long = format!("{ok}{}", "x".repeat(MAX_LINK));
        for bad in [
            "https://graph.microsoft.com.evil.example/v1.0/security/secureScores",
            "http://graph.microsoft.com/v1.0/security/secureScores",
            "https://graph.microsoft.com:8443/v1.0/security/secureScores",
            "https://user@graph.microsoft.com/v1.0/security/secureScores",
            "https://169.254.169.254/v1.0/security/secureScores",
            "//evil.example/v1.0/security/secureScores",
            "/v1.0/security/secureScores?$skiptoken=1",
            "https://graph.microsoft.com/v1.0/users",
            "https://graph.microsoft.com/v1.0/security/secureScores/../../users",
            "",
            long.as_str(),
        ] {
            assert!(next_page(&first, bad).is_err(), "{bad}");
        }
    }
}
