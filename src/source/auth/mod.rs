//! The ways to get a token, one file each.
//!
//! A [`Credential`] requests a token; [`cache`] stores the token and renews it before it expires. A
//! secret must never appear in an error or a log line. Start reading at [`TokenRequestContext`],
//! which sends the requests that most credentials share.

mod aadsts;
pub(super) mod cache;
mod certificate;
mod client_secret;
mod environment;
mod key_pair;
mod login;
mod managed_identity;
mod refresh_token_store;
mod user;
mod workload_identity;

use std::{borrow::Cow, fmt, future::Future, pin::Pin};

pub(super) use aadsts::{aadsts_hint, is_transient_code};
pub use certificate::Certificate;
pub use client_secret::ClientSecret;
pub use environment::from_environment;
use jiff::Timestamp;
pub use key_pair::{CertificateChain, KeyPairError};
pub use login::{AuthorizationRequest, DeviceLogin, LoginError, LoopbackLogin};
pub use managed_identity::{ManagedIdentity, ManagedIdentityHost, ManagedIdentityId};
pub use refresh_token_store::{PlaintextPolicy, RefreshTokenError, RefreshTokenStore};
use reqwest::header::HeaderMap;
pub use user::UserCredential;
pub use workload_identity::WorkloadIdentity;

use super::{
    Clients, Cloud, SourceError,
    error::{code_and_message, without_secrets},
    headers::{in_utf8, redact_headers, without_byte_order_mark},
};
use crate::{
    error::Hint,
    files::FileError,
    foreign_text::{DocumentSecrets, MAX_ERROR_BODY_BYTES, PeerSecrets, SentSecrets},
    net,
    settings::SecretError,
    wire::{self, Token, WireError},
};

/// The server's name in error messages.
const WHAT: &str = "the token endpoint";
const MAX_BODY_BYTES: usize = 1 << 20;

/// The future of a credential's operation, boxed so that [`Credential`] can be used as a trait
/// object.
pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A way to get tokens, for any number of tenants.
pub trait Credential: Send + Sync + fmt::Debug {
    /// Requests a token. At most one call per tenant is in progress at a time.
    fn token<'a>(
        &'a self,
        context: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>>;

    /// Checks the credential without sending a request: whether files exist and keys match.
    fn check(&self) -> Result<(), CredentialError> {
        Ok(())
    }

    /// When the credential expires, if that is known.
    fn expires(&self) -> Option<Timestamp> {
        None
    }

    /// The ID of the app that signs in, if it is known.
    fn client_id(&self) -> Option<&str> {
        None
    }

    /// This credential as a user credential, if a user must sign in for it.
    fn user(&self) -> Option<&UserCredential> {
        None
    }
}

/// The tenant and the resource that a token is requested for, and the clients for the request.
#[derive(Clone, Copy)]
pub struct TokenRequestContext<'a> {
    pub clients: &'a Clients,
    /// The cloud whose token endpoint is used.
    pub cloud: &'a Cloud,
    /// GUID or domain; the token endpoint accepts both.
    pub tenant: &'a str,
    /// The claims that the API requires in the next token, unchanged.
    pub claims: Option<&'a str>,
    /// The secrets that were sent for the tenant, to the token endpoint and to the resource.
    pub sent: &'a PeerSecrets,
}

/// Why a credential cannot be used; detected before a request is sent.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("cannot read the secret")]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Read(#[from] FileError),
    #[error("cannot use the certificate in `{0}`")]
    Certificate(String, #[source] KeyPairError),
    #[error("the certificate in `{0}` expired on `{1}`")]
    Expired(String, Timestamp),
    #[error("the token file `{0}` does not contain a JWT")]
    TokenFile(String),
    /// An environment variable is absent or not valid; the text names it.
    #[error("{0}")]
    Environment(String),
    /// The text is the reason.
    #[error("cannot use the key file of the managed identity: {0}")]
    KeyFile(String),
    #[error(transparent)]
    RefreshToken(#[from] RefreshTokenError),
    #[error("no user is signed in for the credential `{0}`")]
    NotSignedIn(String),
}

impl CredentialError {
    /// Whether the cause is the current state of the host, which may change while the daemon is
    /// running. The configuration is not rejected because of such an error.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Expired(..) | Self::TokenFile(_) | Self::Read(..))
    }
}

impl Hint for CredentialError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Secret(error) => error.hint(),
            Self::Read(error) => error.hint(),
            Self::Certificate(_, error) => error.hint(),
            Self::Expired(..) => {
                Some("create a new certificate and upload it to the app registration".into())
            }
            Self::RefreshToken(error) => error.hint(),
            Self::NotSignedIn(name) => {
                // A credential in the section of a tenant has a name of this form.
                let option = match name.strip_prefix("tenant ") {
                    Some(tenant) => format!("--tenant {tenant}"),
                    None => format!("--credential {name}"),
                };
                Some(format!("run `secure-score-forwarder login {option}`").into())
            }
            _ => None,
        }
    }
}

impl TokenRequestContext<'_> {
    fn scope(&self) -> String {
        format!("{}/.default", self.resource())
    }

    /// The URL of Graph, without a trailing slash.
    fn resource(&self) -> &str {
        self.cloud.graph_url.as_str().trim_end_matches('/')
    }

    /// The token endpoint of the tenant.
    fn token_url(&self) -> url::Url {
        let mut url = self.cloud.login_url.clone();
        url.set_path(&format!("/{}/oauth2/v2.0/token", self.tenant));
        url
    }

    /// Posts a form to the token endpoint, with the default scope unless the form has one, and
    /// with the required claims.
    async fn request_token(&self, form: &[(&str, &str)]) -> Result<Token, SourceError> {
        let scope = self.scope();
        let mut form = form.to_vec();
        if !form.iter().any(|(key, _)| *key == "scope") {
            form.push(("scope", &scope));
        }
        if let Some(claims) = self.claims {
            form.push(("claims", claims));
        }

        let request = self.clients.pooled.post(self.token_url()).form(&form);
        send_token_request(*self, request, WHAT).await
    }

    /// Requests a token for an app that presents a signed JWT (RFC 7523).
    async fn request_token_with_assertion(
        &self,
        client_id: &str,
        jwt: &str,
    ) -> Result<Token, SourceError> {
        self.request_token(&[
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", jwt),
        ])
        .await
    }
}

/// A response of a token endpoint, which may repeat the request.
struct TokenReply {
    status: u16,
    headers: HeaderMap,
    /// The body: of a success as it was received, of any other response its beginning without the
    /// secrets of the request.
    body: Vec<u8>,
    /// The secrets of this request and of earlier ones.
    secrets: SentSecrets,
}

/// Sends a token request and parses the token in its response.
async fn send_token_request(
    context: TokenRequestContext<'_>,
    request: reqwest::RequestBuilder,
    what: &'static str,
) -> Result<Token, SourceError> {
    let reply = send(context, request, what).await?;
    match reply.status {
        200 => reply
            .parse(|body| wire::token(body, crate::clock::now()))
            .map_err(|source| SourceError::Wire { what, source }),
        _ => Err(reply.error(what)),
    }
}

/// Sends a request and reads its response.
async fn send(
    context: TokenRequestContext<'_>,
    request: reqwest::RequestBuilder,
    what: &'static str,
) -> Result<TokenReply, SourceError> {
    let TokenRequestContext { clients, sent, .. } = context;
    let (client, request) = request.build_split();
    let request =
        request.map_err(|error| SourceError::no_response(what, error, &SentSecrets::default()))?;
    let secrets = sent.remember(&clients.secrets_of(&request));
    let url = request.url().clone();
    let response = match client.execute(request).await {
        Ok(response) => response,
        Err(error) => return Err(clients.no_response(what, &url, error, &secrets).await),
    };

    let (status, mut headers) = (response.status().as_u16(), response.headers().clone());
    let body = net::read_body(response, MAX_BODY_BYTES).await;
    let body = body.map_err(|source| SourceError::unreadable(what, source, &secrets))?;
    let mut body = without_byte_order_mark(body);

    if status != 200 {
        redact_headers(&mut headers, &secrets);
        body = redacted_beginning(&body, &secrets);
    }
    Ok(TokenReply { status, headers, body, secrets })
}

/// The beginning of a body in UTF-8, without the secrets of the request.
fn redacted_beginning(body: &[u8], secrets: &SentSecrets) -> Vec<u8> {
    net::redact_beginning(secrets, &in_utf8(body), MAX_ERROR_BODY_BYTES)
}

impl TokenReply {
    /// Parses the body of a successful response. An error may quote the body, so it is that of the
    /// body without the secrets of the request.
    fn parse<T>(&self, parse: impl Fn(&[u8]) -> Result<T, WireError>) -> Result<T, WireError> {
        let (body, secrets) = (&self.body, &DocumentSecrets::new(&self.secrets));
        net::off_worker(body.len(), || parse(body))
            .map_err(|error| without_secrets(error, body, secrets, |body| parse(body).err()))
    }

    /// The error of a response that is not the expected one. The body of a success is redacted
    /// here, that of any other response already is.
    fn error(&self, what: &'static str) -> SourceError {
        let status = self.status;
        if matches!(status, 429 | 503 | 504) {
            let after = net::retry_after(&self.headers);
            return SourceError::Throttled { what, status, after };
        }

        let redacted = (status == 200).then(|| redacted_beginning(&self.body, &self.secrets));
        let body = redacted.as_deref().unwrap_or(&self.body);
        if let Some(error) = wire::EntraError::read(body) {
            return SourceError::TokenRejected(error);
        }
        let reason = code_and_message(&wire::GraphError::of_body(body));
        SourceError::Status { what, status, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: an unexpected success, such as that of Azure Arc in place of a challenge, was
    /// quoted with the secrets that it repeated.
    #[test]
    fn unexpected_successes_contain_no_secret() {
        let mut secrets = SentSecrets::default();
        secrets.add("canary-of-a-key");
        for (body, expected) in [
            (
                r#"{"error":"x","error_description":"canary-of-a-key"}"#,
                "cannot get a token: [redacted]",
            ),
            ("it was canary-of-a-key", "the token endpoint returned HTTP 200: it was [redacted]"),
        ] {
            let (headers, secrets) = (HeaderMap::new(), secrets.clone());
            let reply = TokenReply { status: 200, headers, body: body.into(), secrets };
            assert_eq!(reply.error(WHAT).to_string(), expected);
        }
    }

    #[test]
    fn errors_about_tokens_contain_no_secret() {
        let mut secrets = SentSecrets::default();
        secrets.add("canary-of-a-key");
        let cut = r#"{"access_token":"canary-of-a-key"#;
        for (body, expected) in [
            ("<title>canary-of-a-key</title>", "an HTML page, `[redacted]` instead of a token"),
            (cut, "JSON that ends too early instead of a token"),
            (r#"{"error":"canary-of-a-key"}"#, "the response contains no token"),
        ] {
            let (headers, secrets) = (HeaderMap::new(), secrets.clone());
            let reply = TokenReply { status: 200, headers, body: body.into(), secrets };
            let parsed = reply.parse(|body| wire::token(body, crate::clock::now()));
            assert_eq!(parsed.unwrap_err().to_string(), expected);
        }
    }
}
