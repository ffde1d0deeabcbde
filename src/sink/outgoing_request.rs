//! A request of an HTTP sink with its secrets, which are removed from everything that the server
//! returns.
//!
//! The secrets in its headers are found when it is sent. A URL that is a secret can only be used
//! through a [`RequestUrl`], so that no sink can omit it. Start reading at [`OutgoingRequest`]. See
//! decision 0086.

use crate::foreign_text::SentSecrets;

/// A request that has not been sent.
pub(super) struct OutgoingRequest {
    pub builder: reqwest::RequestBuilder,
    /// The secrets in its URL.
    pub secrets: SentSecrets,
    pub credential: RequestCredential,
}

/// Where the secrets in the headers of a request are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestCredential {
    /// The configuration.
    Configured,
    /// A token endpoint, which can issue any number of tokens.
    Issued,
}

/// The URL of a request, which may be a secret.
pub(super) struct RequestUrl {
    url: url::Url,
    secrets: SentSecrets,
}

impl OutgoingRequest {
    /// Changes the request.
    pub(super) fn map(
        self,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Self {
        Self { builder: change(self.builder), ..self }
    }

    /// The same request, whose headers contain a token that was issued, and no other secret.
    pub(super) fn with_issued_token(self) -> Self {
        Self { credential: RequestCredential::Issued, ..self }
    }

    /// A request with these secrets in its URL.
    fn new(builder: reqwest::RequestBuilder, secrets: SentSecrets) -> Self {
        Self { builder, secrets, credential: RequestCredential::Configured }
    }
}

impl From<reqwest::RequestBuilder> for OutgoingRequest {
    /// A request whose URL is not secret.
    fn from(builder: reqwest::RequestBuilder) -> Self {
        Self::new(builder, SentSecrets::default())
    }
}

impl RequestUrl {
    /// A URL from the configuration.
    pub(super) fn plain(url: url::Url) -> Self {
        Self { url, secrets: SentSecrets::default() }
    }

    /// A URL that is a secret.
    pub(super) fn secret(url: url::Url) -> Self {
        let mut secrets = SentSecrets::default();
        secrets.add_url(url.as_str());
        Self { url, secrets }
    }

    /// A POST request.
    pub(super) fn post(&self, client: &reqwest::Client) -> OutgoingRequest {
        self.request(client.post(self.url.clone()))
    }

    /// A HEAD request.
    pub(super) fn head(&self, client: &reqwest::Client) -> OutgoingRequest {
        self.request(client.head(self.url.clone()))
    }

    fn request(&self, builder: reqwest::RequestBuilder) -> OutgoingRequest {
        OutgoingRequest::new(builder, self.secrets.clone())
    }

    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        self.url.as_str()
    }
}
