//! Ways to a token, one file each. A credential knows how to ask; keeping the token and renewing
//! it in time is [`cache`]'s.

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

pub(super) use aadsts::is_passing;
pub use aadsts::remedy;
pub use certificate::Certificate;
pub use client_secret::ClientSecret;
pub use environment::from_environment;
use jiff::Timestamp;
pub use login::{AuthorizationRequest, DeviceLogin, LoginError, LoopbackLogin};
pub use managed_identity::{ManagedIdentity, ManagedIdentityHost, ManagedIdentityId};
pub use refresh_token_store::{RefreshTokenError, RefreshTokenStore};
use reqwest::header::HeaderMap;
pub use user::UserCredential;
pub use workload_identity::WorkloadIdentity;

use super::{Clients, Cloud, SourceError};
use crate::{
    error::Hint,
    net,
    settings::SecretError,
    wire::{self, Token},
};

pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A way to tokens, for any number of tenants.
pub trait Credential: Send + Sync + fmt::Debug {
    /// Asks for a token. Never called twice at once for one tenant.
    fn token<'a>(
        &'a self,
        ask: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>>;

    /// What can be found out without asking anybody: files that are there, keys that fit.
    fn check(&self) -> Result<(), CredentialError> {
        Ok(())
    }

    /// When it stops working, where that is known.
    fn expires(&self) -> Option<Timestamp> {
        None
    }

    /// The application that signs in, where it is known.
    fn client_id(&self) -> Option<&str> {
        None
    }

    /// Somebody who has to sign in, if it is that kind of credential.
    fn user(&self) -> Option<&UserCredential> {
        None
    }
}

/// What is asked for, and where.
#[derive(Clone, Copy)]
pub struct TokenRequestContext<'a> {
    pub clients: &'a Clients,
    pub cloud: &'a Cloud,
    /// GUID or domain, as the token endpoint takes either.
    pub tenant: &'a str,
    /// What the API demanded of the next token, passed on as it came.
    pub claims: Option<&'a str>,
}

/// Why a credential could not even be presented.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("cannot read the secret")]
    Secret(#[from] SecretError),
    #[error("cannot read `{0}`")]
    Read(String, #[source] std::io::Error),
    #[error("the certificate in `{0}`: {1}")]
    Certificate(String, String),
    #[error("the certificate in `{0}` has expired on {1}")]
    Expired(String, Timestamp),
    #[error("the token file `{0}` holds no token")]
    TokenFile(String),
    #[error("{0}")]
    Environment(String),
    #[error("the managed identity's key file is refused: {0}")]
    KeyFile(String),
    #[error(transparent)]
    Sealed(#[from] RefreshTokenError),
    #[error("no user has signed in as `{0}` yet")]
    NotSignedIn(String),
}

impl CredentialError {
    /// It is so now, and may be otherwise in an hour: no fault of the configuration.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Expired(..) | Self::TokenFile(_) | Self::Read(..))
    }
}

impl Hint for CredentialError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Sealed(error) => error.hint(),
            Self::NotSignedIn(name) => {
                Some(format!("run `secure-score-forwarder login --credential {name}`").into())
            }
            _ => None,
        }
    }
}

const WHAT: &str = "the token endpoint";
const MAX_ANSWER: usize = 1 << 20;

impl TokenRequestContext<'_> {
    fn scope(&self) -> String {
        format!("{}/.default", self.resource())
    }

    /// The address of Graph, without a slash at its end.
    fn resource(&self) -> &str {
        self.cloud.graph_url.as_str().trim_end_matches('/')
    }

    /// The token endpoint of the tenant.
    fn token_url(&self) -> url::Url {
        let mut url = self.cloud.login_url.clone();
        url.set_path(&format!("/{}/oauth2/v2.0/token", self.tenant));
        url
    }

    /// Posts a form to the token endpoint; scope and claims are added.
    async fn redeem(&self, form: &[(&str, &str)]) -> Result<Token, SourceError> {
        let scope = self.scope();
        let mut form = form.to_vec();
        if !form.iter().any(|(key, _)| *key == "scope") {
            form.push(("scope", &scope));
        }
        if let Some(claims) = self.claims {
            form.push(("claims", claims));
        }
        let request = self.clients.pooled.post(self.token_url()).form(&form);
        answer(request, WHAT).await
    }

    /// As the application, with an assertion signed by its own key or by another issuer.
    async fn redeem_assertion(&self, client_id: &str, jwt: &str) -> Result<Token, SourceError> {
        self.redeem(&[
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", jwt),
        ])
        .await
    }
}

/// Sends a request for a token and reads what comes back.
async fn answer(
    request: reqwest::RequestBuilder,
    what: &'static str,
) -> Result<Token, SourceError> {
    let (status, headers, body) = exchange(request, what).await?;
    match status {
        200 => wire::token(&body, crate::clock::now())
            .map_err(|source| SourceError::Wire { what, source }),
        _ => Err(refusal(status, &headers, &body, what)),
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
    what: &'static str,
) -> Result<(u16, HeaderMap, Vec<u8>), SourceError> {
    let sent = request.send().await;
    let response =
        sent.map_err(|error| SourceError::Transport { what, source: error.without_url() })?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = net::read_body(response, MAX_ANSWER).await;
    Ok((status, headers, body.map_err(|source| SourceError::Body { what, source })?))
}

fn refusal(status: u16, headers: &HeaderMap, body: &[u8], what: &'static str) -> SourceError {
    if matches!(status, 429 | 503 | 504) {
        return SourceError::Throttled { what, status, after: net::retry_after(headers) };
    }
    match wire::EntraError::read(body) {
        Some(error) => SourceError::TokenRejected(error),
        None => SourceError::Status { what, status },
    }
}
