//! Client credentials: one token, used until shortly before it expires, asked for once however
//! many requests wait for it.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::{Access, SourceError};
use crate::{net, wire};

const WHAT: &str = "the token endpoint";
const MAX_ANSWER: usize = 1 << 20;
/// A token is renewed this long before it expires.
const MARGIN: Duration = Duration::from_mins(5);

#[derive(Debug, Default)]
pub(super) struct TokenCache {
    /// Held across the request, so that there is never more than one in flight.
    token: Mutex<Option<Token>>,
}

#[derive(Debug, Clone)]
struct Token {
    text: SecretString,
    renew_at: Instant,
}

impl TokenCache {
    /// A token that is good for some time yet.
    pub(super) async fn get(
        &self,
        http: &reqwest::Client,
        access: &Access,
    ) -> Result<SecretString, SourceError> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref().filter(|token| token.renew_at > Instant::now()) {
            return Ok(token.text.clone());
        }
        let token = request(http, access).await?;
        let text = token.text.clone();
        *held = Some(token);
        Ok(text)
    }

    /// Forgets a token that the API did not take, unless it has been renewed meanwhile.
    pub(super) async fn reject(&self, rejected: &SecretString) {
        let mut held = self.token.lock().await;
        if held.as_ref().is_some_and(|token| token.text.expose_secret() == rejected.expose_secret())
        {
            *held = None;
        }
    }
}

async fn request(http: &reqwest::Client, access: &Access) -> Result<Token, SourceError> {
    // Read at each request, so that a rotated secret is picked up.
    let secret = access.client_secret.read()?;
    let scope = format!("{}/.default", access.cloud.graph_url.as_str().trim_end_matches('/'));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", access.client_id.as_str()),
        ("client_secret", secret.expose_secret()),
        ("scope", scope.as_str()),
    ];
    let url = token_url(&access.cloud.login_url, &access.tenant);
    let response = http.post(url).form(&form).send().await;
    let response = response
        .map_err(|error| SourceError::Transport { what: WHAT, source: error.without_url() })?;
    let status = response.status().as_u16();
    let wait = net::retry_after(response.headers());
    let body = net::read_body(response, MAX_ANSWER)
        .await
        .map_err(|source| SourceError::Body { what: WHAT, source })?;
    if status == 429 {
        return Err(SourceError::Throttled { after: wait });
    }
    if status != 200 {
        return Err(match wire::EntraError::read(&body) {
            Some(error) => SourceError::Refused(error),
            None => SourceError::Status { what: WHAT, status },
        });
    }
    let answer = wire::token(&body).map_err(|source| SourceError::Wire { what: WHAT, source })?;
    let life = Duration::from_secs(answer.expires_in);
    let renew_in = life.saturating_sub(MARGIN).max(life / 2);
    Ok(Token { text: SecretString::from(answer.access_token), renew_at: Instant::now() + renew_in })
}

fn token_url(login: &Url, tenant: &str) -> Url {
    let mut url = login.clone();
    url.set_path(&format!("/{tenant}/oauth2/v2.0/token"));
    url
}
