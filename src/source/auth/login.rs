//! Signs a user in, through a browser on this host or with a device code on another device.
//!
//! A browser on this host uses the authorization code flow with PKCE and a loopback redirect
//! (RFC 6749, RFC 7636, RFC 8252); a device code uses the device authorization grant (RFC 8628).
//! Both follow Entra's documentation. The user's browser and Entra handle the requirements of a
//! tenant, such as a second factor or a compliant device. Start reading at
//! [`LoopbackLogin::begin`] and [`DeviceLogin::begin`].

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

use super::{TokenRequestContext, send};
use crate::{
    error::Hint,
    foreign_text::ForeignText,
    source::SourceError,
    text::html_escaped,
    wire::{self, StatedSeconds},
};

/// The maximum number of characters of a text in the page that the browser shows at the end.
const MAX_PAGE_CHARS: usize = 1_000;
/// How long a user has to complete the sign-in in the browser.
const SIGN_IN_TIMEOUT: Duration = Duration::from_mins(10);
/// The time between two token requests if the server states none, and by which a server extends it
/// (RFC 8628, sections 3.2 and 3.5).
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Why a user could not be signed in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("cannot listen on 127.0.0.1 for the redirect of the browser")]
    Listen(#[source] std::io::Error),
    #[error("no redirect from the browser within 10 minutes")]
    TimedOut,
    #[error("{}", super::super::error::describe_entra(.0))]
    Rejected(wire::EntraError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the code expired before it was used")]
    Expired,
    #[error("cannot generate random numbers on this host")]
    Random,
    #[error("Entra returned no refresh token: the scope `offline_access` was not granted")]
    NoRefreshToken,
}

impl Hint for LoginError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Rejected(error) => super::super::error::entra_hint(error),
            Self::Source(error) => error.hint(),
            Self::TimedOut | Self::Expired => Some("run `login` again".into()),
            _ => None,
        }
    }
}

/// The app that the user signs in to, and the permissions that it requests.
#[derive(Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    /// `tenant` is the user's home tenant.
    pub context: TokenRequestContext<'a>,
    /// The ID of the app registration.
    pub client_id: &'a str,
    /// Delegated permissions such as `SecurityEvents.Read.All`, without the URL of Graph.
    pub permissions: &'a [&'a str],
}

impl AuthorizationRequest<'_> {
    fn scope(&self) -> String {
        let resource = self.context.resource();
        let scopes = self.permissions.iter().map(|name| format!("{resource}/{name} "));
        scopes.chain(["offline_access".to_owned()]).collect()
    }

    fn url(&self, endpoint: &str) -> Url {
        let mut url = self.context.cloud.login_url.clone();
        url.set_path(&format!("/{}/oauth2/v2.0/{endpoint}", self.context.tenant));
        url
    }
}

/// A sign-in that is in progress in a browser on this host.
pub struct LoopbackLogin {
    /// The URL for the browser to open.
    pub url: Url,
    redirect_uri: String,
    code_verifier: String,
    code: oneshot::Receiver<Result<String, wire::EntraError>>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

/// The `state` that the browser's redirect must have, and the channel that receives its code.
struct PendingLogin {
    state: String,
    code: Mutex<Option<oneshot::Sender<Result<String, wire::EntraError>>>>,
}

/// The query of the redirect (RFC 6749, sections 4.1.2 and 4.1.2.1).
#[derive(serde::Deserialize)]
struct RedirectQuery {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl LoopbackLogin {
    /// Listens on a free loopback port and builds the URL for the browser.
    ///
    /// # Errors
    ///
    /// Fails if no port can be opened or the host cannot generate random numbers.
    pub async fn begin(request: AuthorizationRequest<'_>) -> Result<Self, LoginError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(LoginError::Listen)?;
        let port = listener.local_addr().map_err(LoginError::Listen)?.port();
        // Entra ignores the port of a registered loopback URI (RFC 8252, section 7.3).
        let redirect_uri = format!("http://localhost:{port}");

        let (code_verifier, state) = (random_text()?, random_text()?);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, code_verifier.as_bytes()));
        let mut url = request.url("authorize");
        url.query_pairs_mut()
            .append_pair("client_id", request.client_id)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", &redirect_uri)
            .append_pair("response_mode", "query")
            .append_pair("scope", &request.scope())
            .append_pair("state", &state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("prompt", "select_account");

        let (sender, code) = oneshot::channel();
        let pending = Arc::new(PendingLogin { state, code: Mutex::new(Some(sender)) });
        let router = Router::new().fallback(handle_redirect).with_state(pending);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        });

        Ok(Self { url, redirect_uri, code_verifier, code, stop, server })
    }

    /// Waits for the redirect of the browser and returns the refresh token.
    ///
    /// # Errors
    ///
    /// Fails after 10 minutes, or if Entra rejects the sign-in or the code.
    pub async fn finish(
        mut self,
        request: AuthorizationRequest<'_>,
    ) -> Result<SecretString, LoginError> {
        let redirect = tokio::time::timeout(SIGN_IN_TIMEOUT, &mut self.code).await;
        let redirect =
            redirect.map_err(|_| LoginError::TimedOut)?.map_err(|_| LoginError::TimedOut)?;

        // The shutdown is graceful, so that the browser receives the complete page.
        self.stop.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(2), &mut self.server).await;

        let code = redirect.map_err(LoginError::Rejected)?;
        let token = request
            .context
            .request_token(&[
                ("grant_type", "authorization_code"),
                ("client_id", request.client_id),
                ("code", &code),
                ("redirect_uri", &self.redirect_uri),
                ("code_verifier", &self.code_verifier),
                ("scope", &request.scope()),
            ])
            .await?;
        token.refresh_token.ok_or(LoginError::NoRefreshToken)
    }
}

impl Drop for LoopbackLogin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Responds to the browser and passes the code, or the error, to [`LoopbackLogin::finish`].
async fn handle_redirect(
    State(pending): State<Arc<PendingLogin>>,
    Query(query): Query<RedirectQuery>,
) -> Response {
    // A redirect with another `state` may be forged (RFC 6749, section 10.12). It must not end
    // the sign-in.
    if query.state.as_deref() != Some(&pending.state) {
        return page(
            StatusCode::BAD_REQUEST,
            "Unknown sign-in",
            "This request does not belong to the sign-in that is in progress.",
        );
    }

    let result = match (query.code, query.error) {
        (Some(code), None) => Ok(code),
        (_, error) => Err(wire::EntraError::of(
            error.as_deref().unwrap_or("no code"),
            query.error_description.as_deref().unwrap_or_default(),
        )),
    };
    let response = match &result {
        Ok(_) => page(
            StatusCode::OK,
            "You are signed in",
            "The forwarder has received your sign-in. You can close this window.",
        ),
        Err(error) => page(
            StatusCode::OK,
            "You are not signed in",
            if error.description.is_empty() { &error.error } else { &error.description },
        ),
    };

    let sender = pending.code.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(sender) = sender {
        let _ = sender.send(result);
    }
    response
}

/// A page that loads no resources from any server and that must not be cached.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let shown = |text| html_escaped(&ForeignText::new(text).for_message(MAX_PAGE_CHARS));
    let [title, text] = [title, text].map(shown);
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

/// A sign-in that is in progress on another device: the device authorization response of RFC
/// 8628, section 3.2.
#[derive(serde::Deserialize)]
pub struct DeviceLogin {
    device_code: String,
    /// The code that the user enters.
    pub user_code: String,
    /// The URL at which the user enters it.
    pub verification_uri: String,
    /// The time until the code expires.
    expires_in: StatedSeconds<{ 20 * 60 }>,
    /// The minimum time between two token requests.
    interval: Option<StatedSeconds<60>>,
}

impl DeviceLogin {
    /// Requests a code for the user.
    ///
    /// # Errors
    ///
    /// Fails if Entra rejects the request or does not respond.
    pub async fn begin(request: AuthorizationRequest<'_>) -> Result<Self, LoginError> {
        let (scope, what) = (request.scope(), "the device code endpoint");
        let form = [("client_id", request.client_id), ("scope", scope.as_str())];
        let post = request.context.clients.pooled.post(request.url("devicecode")).form(&form);

        let reply = send(request.context, post, what).await?;
        if reply.status != 200 {
            return Err(reply.error(what).into());
        }
        let login =
            reply.parse(|body| serde_json::from_slice(body).map_err(wire::WireError::not_json));
        Ok(login.map_err(|source| SourceError::Wire { what, source })?)
    }

    /// Polls until the user has entered the code, and returns the refresh token.
    ///
    /// # Errors
    ///
    /// Fails if the code expires, or if the user or Entra rejects the sign-in.
    pub async fn finish(
        self,
        request: AuthorizationRequest<'_>,
    ) -> Result<SecretString, LoginError> {
        let began = tokio::time::Instant::now();
        let interval = self.interval.map_or(DEFAULT_INTERVAL, StatedSeconds::get);
        let mut interval = interval.max(MIN_INTERVAL);
        let scope = request.scope();
        let form = [
            ("scope", scope.as_str()),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", request.client_id),
            ("device_code", self.device_code.as_str()),
        ];

        while began.elapsed() < self.expires_in.get() {
            tokio::time::sleep(interval).await;
            // RFC 8628, section 3.5, defines these errors.
            match request.context.request_token(&form).await {
                Ok(token) => return token.refresh_token.ok_or(LoginError::NoRefreshToken),
                Err(SourceError::TokenRejected(error)) => match error.error.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval = interval.saturating_add(DEFAULT_INTERVAL),
                    "expired_token" => return Err(LoginError::Expired),
                    _ => return Err(LoginError::Rejected(error)),
                },
                Err(error) if error.is_transient() => {
                    interval = interval.saturating_add(DEFAULT_INTERVAL);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(LoginError::Expired)
    }
}

/// 256 random bits as 43 characters that need no escaping in a URL.
fn random_text() -> Result<String, LoginError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| LoginError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
