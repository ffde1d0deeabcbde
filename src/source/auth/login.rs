//! Signing in: by a browser on this host, or with a code on another one.
//!
//! Authorization code with PKCE on a loopback redirect (RFC 8252, RFC 7636) and device code
//! (RFC 8628), as Entra documents them. Whatever the tenant demands of a person, a second factor
//! or a compliant device, is between that person's browser and Entra.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{TokenRequestContext, exchange, refusal};
use crate::error::Hint;
use crate::{source::SourceError, wire};

/// How long somebody may take.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("cannot listen on 127.0.0.1 for the browser to come back")]
    Listen(#[source] std::io::Error),
    #[error("nobody came back from the browser within ten minutes")]
    TimedOut,
    #[error("{}", super::super::error::describe_entra(.0))]
    Refused(wire::EntraError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the code was not used in time; start again")]
    Expired,
    #[error("this host has no source of random numbers")]
    NoChance,
    #[error("Entra gave no refresh token: the scope `offline_access` was not granted")]
    NoRefreshToken,
}

impl Hint for LoginError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Refused(error) => super::super::error::entra_hint(error),
            Self::Source(error) => error.hint(),
            Self::Expired => Some("run `login` again".into()),
            _ => None,
        }
    }
}

/// Who signs in, and to what.
#[derive(Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    /// `tenant` is where that person signs in.
    pub context: TokenRequestContext<'a>,
    pub client_id: &'a str,
    /// Delegated permissions, without the address of Graph.
    pub permissions: &'a [&'a str],
}

impl AuthorizationRequest<'_> {
    fn scope(&self) -> String {
        let resource = self.context.resource();
        let scopes = self.permissions.iter().map(|name| format!("{resource}/{name} "));
        scopes.chain(["offline_access".to_owned()]).collect()
    }

    fn url(&self, last: &str) -> Url {
        let mut url = self.context.cloud.login_url.clone();
        url.set_path(&format!("/{}/oauth2/v2.0/{last}", self.context.tenant));
        url
    }
}

/// A sign-in under way in a browser on this host.
pub struct LoopbackLogin {
    /// To be opened in the browser.
    pub url: Url,
    redirect: String,
    verifier: String,
    coming: oneshot::Receiver<Result<String, wire::EntraError>>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

struct Waiting {
    state: String,
    come: Mutex<Option<oneshot::Sender<Result<String, wire::EntraError>>>>,
}

#[derive(serde::Deserialize)]
struct Return {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl LoopbackLogin {
    /// Listens, and makes the URL that leads there.
    pub async fn begin(prompt: AuthorizationRequest<'_>) -> Result<Self, LoginError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(LoginError::Listen)?;
        let port = listener.local_addr().map_err(LoginError::Listen)?.port();
        // Entra compares all of it but the port.
        let redirect = format!("http://localhost:{port}");
        let (verifier, state) = (random_text()?, random_text()?);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let mut url = prompt.url("authorize");
        url.query_pairs_mut()
            .append_pair("client_id", prompt.client_id)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", &redirect)
            .append_pair("response_mode", "query")
            .append_pair("scope", &prompt.scope())
            .append_pair("state", &state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("prompt", "select_account");
        let (come, coming) = oneshot::channel();
        let waiting = Arc::new(Waiting { state, come: Mutex::new(Some(come)) });
        let router = Router::new().fallback(come_back).with_state(waiting);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        });
        Ok(Self { url, redirect, verifier, coming, stop, serving })
    }

    /// Waits for the browser, and gives the refresh token.
    pub async fn finish(
        mut self,
        prompt: AuthorizationRequest<'_>,
    ) -> Result<SecretString, LoginError> {
        let back = tokio::time::timeout(PATIENCE, &mut self.coming).await;
        let back = back.map_err(|_| LoginError::TimedOut)?.map_err(|_| LoginError::TimedOut)?;
        // The browser gets its page to the end.
        self.stop.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(2), &mut self.serving).await;
        let code = back.map_err(LoginError::Refused)?;
        let token = prompt
            .context
            .redeem(&[
                ("grant_type", "authorization_code"),
                ("client_id", prompt.client_id),
                ("code", &code),
                ("redirect_uri", &self.redirect),
                ("code_verifier", &self.verifier),
                ("scope", &prompt.scope()),
            ])
            .await?;
        token.refresh_token.ok_or(LoginError::NoRefreshToken)
    }
}

impl Drop for LoopbackLogin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn come_back(State(waiting): State<Arc<Waiting>>, Query(back): Query<Return>) -> Response {
    if back.state.as_deref() != Some(&waiting.state) {
        return page(
            StatusCode::BAD_REQUEST,
            "Not this way",
            "This is not the sign-in that was begun.",
        );
    }
    let result = match (back.code, back.error) {
        (Some(code), None) => Ok(code),
        (_, error) => Err(wire::EntraError::of(
            error.as_deref().unwrap_or("no code"),
            back.error_description.as_deref().unwrap_or_default(),
        )),
    };
    let answer = match &result {
        Ok(_) => page(
            StatusCode::OK,
            "You are signed in",
            "The forwarder has what it needs. You may close this window.",
        ),
        Err(error) => page(
            StatusCode::OK,
            "You are not signed in",
            if error.description.is_empty() { &error.error } else { &error.description },
        ),
    };
    let come = waiting.come.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(come) = come {
        let _ = come.send(result);
    }
    answer
}

/// A page that needs nothing from anywhere.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let (title, text) = (escaped(title), escaped(text));
    let body = format!(
        r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · secure-score-forwarder</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root{{color-scheme:light dark}}body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:18vh auto 0;padding:0 1.5rem}}
h1{{font-size:1.6rem;font-weight:600;margin:0 0 .5rem}}p{{margin:0}}small{{display:block;margin-top:2.5rem;opacity:.65}}</style></head>
<body><main><h1>{title}</h1><p>{text}</p><small>secure-score-forwarder</small></main></body></html>"#
    );
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONNECTION, "close"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    (status, headers, Html(body)).into_response()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A sign-in under way on another device.
#[derive(serde::Deserialize)]
pub struct DeviceLogin {
    device_code: String,
    pub user_code: String,
    pub verification_uri: String,
    expires_in: u64,
    interval: Option<u64>,
}

impl DeviceLogin {
    pub async fn begin(prompt: AuthorizationRequest<'_>) -> Result<Self, LoginError> {
        let (scope, what) = (prompt.scope(), "the device code endpoint");
        let form = [("client_id", prompt.client_id), ("scope", scope.as_str())];
        let request = prompt.context.clients.pooled.post(prompt.url("devicecode")).form(&form);
        let (status, headers, body) = exchange(request, what).await?;
        if status != 200 {
            return Err(refusal(status, &headers, &body, what).into());
        }
        let not_json = |error| SourceError::Wire { what, source: wire::WireError::NotJson(error) };
        Ok(serde_json::from_slice(&body).map_err(not_json)?)
    }

    /// Waits until the code has been used, and gives the refresh token.
    pub async fn finish(
        self,
        prompt: AuthorizationRequest<'_>,
    ) -> Result<SecretString, LoginError> {
        let mut interval = Duration::from_secs(self.interval.unwrap_or(5).max(1));
        let until =
            tokio::time::Instant::now() + Duration::from_secs(self.expires_in).min(PATIENCE * 2);
        let scope = prompt.scope();
        let form = [
            ("scope", scope.as_str()),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", prompt.client_id),
            ("device_code", self.device_code.as_str()),
        ];
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(interval).await;
            match prompt.context.redeem(&form).await {
                Ok(token) => return token.refresh_token.ok_or(LoginError::NoRefreshToken),
                Err(SourceError::TokenRejected(error)) => match error.error.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval += Duration::from_secs(5),
                    "expired_token" => return Err(LoginError::Expired),
                    _ => return Err(LoginError::Refused(error)),
                },
                Err(error) if error.is_transient() => interval += Duration::from_secs(5),
                Err(error) => return Err(error.into()),
            }
        }
        Err(LoginError::Expired)
    }
}

/// 256 bits of chance, as 43 characters that may stand in a URL.
fn random_text() -> Result<String, LoginError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| LoginError::NoChance)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
