//! Authentication with Entra tokens: SASL `OAUTHBEARER`, which Azure Event Hubs requires.
//!
//! librdkafka requests a token through a callback of the client, and only while the client is
//! polled. Its administration client has no such callback, so with `oauthbearer` no topic can be
//! created. Texts of librdkafka can quote a broker, so [`TokenContext::without_secrets`] removes
//! the secrets of the client from them; see decision 0086.
//!
//! Sources: learn.microsoft.com, "Authenticate an application with Microsoft Entra ID to access
//! Event Hubs"; RFC 7628.

use std::{
    borrow::Cow,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, client::OAuthToken, config::RDKafkaLogLevel,
    consumer::ConsumerContext,
};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use crate::{
    clock,
    foreign_text::{PeerSecrets, SentSecrets},
    model::UnixMillis,
    net,
    sink::{Context, Failure, Tokens},
};

/// A client context that supplies Entra tokens, if the sink has a credential for them, and that
/// knows the secrets of the client.
#[derive(Clone)]
pub(super) struct TokenContext {
    tokens: Option<Arc<dyn Tokens>>,
    runtime: Handle,
    /// The passwords in the configuration of the client.
    passwords: SentSecrets,
    /// The passwords, the last tokens, and what was sent to the token endpoint.
    sent: PeerSecrets,
    /// The same, to redact texts.
    secrets: Arc<Mutex<SentSecrets>>,
}

/// The properties of librdkafka that contain a secret.
const SECRET_PROPERTIES: [&str; 4] =
    ["sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem"];

/// The maximum size of statistics in the log. They grow with the number of brokers and partitions
/// that the cluster reports.
const MAX_STATISTICS_BYTES: usize = 1 << 20;
/// The lifetime of a token as reported to librdkafka. Every token is valid for at least this long.
/// After that, librdkafka requests a token again and may receive the same one.
const LIFETIME: Duration = Duration::from_mins(5);

impl TokenContext {
    /// A context with the tokens of the sink, if it has any, and with the secrets of the client's
    /// configuration. Fails if the sink has a credential and no token can be obtained with it.
    pub(super) async fn new(context: &Context, config: &ClientConfig) -> Result<Self, Failure> {
        if let Some(tokens) = &context.tokens {
            tokens.token().await?;
        }

        let mut passwords = SentSecrets::default();
        for name in SECRET_PROPERTIES {
            passwords.add(config.get(name).unwrap_or_default());
        }
        let sent = context.tokens.as_ref().map(|tokens| tokens.sent().clone()).unwrap_or_default();
        Ok(Self {
            tokens: context.tokens.clone(),
            runtime: Handle::current(),
            secrets: Arc::new(Mutex::new(sent.remember(&passwords))),
            sent,
            passwords,
        })
    }

    /// A text of librdkafka, which can quote a broker, without the secrets of the client.
    pub(super) fn without_secrets<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        net::redact(&secrets, text)
    }

    /// Logs the statistics that the property `statistics.interval.ms` requests, which are JSON. Of
    /// larger statistics, only the size is logged.
    pub(super) fn log_statistics(&self, statistics: &[u8]) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        if let Some(detail) = self.statistics_text(statistics) {
            tracing::debug!(detail = %detail, "librdkafka statistics");
        } else {
            let bytes = statistics.len();
            tracing::debug!(bytes, "the statistics of librdkafka are too large for the log");
        }
    }

    /// The statistics without the secrets of the client, because they contain names that a broker
    /// has chosen, such as those of its hosts. `None` if they are too large.
    fn statistics_text(&self, statistics: &[u8]) -> Option<String> {
        if statistics.len() > MAX_STATISTICS_BYTES {
            return None;
        }
        let statistics = String::from_utf8_lossy(statistics);
        Some(self.without_secrets(&statistics).into_owned())
    }

    /// Whether the sink authenticates with Entra tokens.
    pub(super) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// The current token. Blocks, so it is only called on threads of librdkafka and on threads that
    /// may block. Fails if the sink has no credential, or if no token can be obtained.
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let tokens = self.tokens.as_ref().ok_or("this sink has no `credential`")?;
        let token = self.runtime.block_on(tokens.token()).map_err(|failure| failure.to_string())?;
        let mut secrets = self.passwords.clone();
        secrets.add_temporary(token.expose_secret());
        let secrets = self.sent.remember(&secrets);
        *self.secrets.lock().unwrap_or_else(PoisonError::into_inner) = secrets;

        let until = UnixMillis::from(clock::now()).saturating_add(LIFETIME);
        Ok(OAuthToken {
            token: token.expose_secret().to_owned(),
            // The cluster takes the principal from the token itself.
            principal_name: "secure-score-forwarder".to_owned(),
            lifetime_ms: until.as_i64(),
        })
    }
}

impl ClientContext for TokenContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let detail = self.without_secrets(message);
        tracing::debug!(severity = ?level, facility, detail = %detail, "librdkafka");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.log_statistics(statistics);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token()
    }
}

impl ConsumerContext for TokenContext {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Texts;

    /// Regression: the statistics were logged with the password of the client, which a broker can
    /// report as the name of its host.
    #[tokio::test]
    async fn statistics_contain_no_secret() {
        let context = Context {
            name: "lake".into(),
            host: "h".into(),
            texts: Texts::None,
            fields: vec![],
            tokens: None,
        };
        let mut config = ClientConfig::new();
        config.set("sasl.password", "canary-of-a-password");
        let tokens = TokenContext::new(&context, &config).await.unwrap();

        for (statistics, expected) in [
            (r#"{"brokers":{"b:9092/1":{}}}"#, r#"{"brokers":{"b:9092/1":{}}}"#),
            (
                r#"{"brokers":{"canary-of-a-password:9092/1":{}}}"#,
                r#"{"brokers":{"[redacted]:9092/1":{}}}"#,
            ),
            (r#"{"name":"canary\u002dof-a-password"}"#, r#"{"name":"[redacted]"}"#),
        ] {
            assert_eq!(tokens.statistics_text(statistics.as_bytes()).as_deref(), Some(expected));
        }
        assert_eq!(tokens.statistics_text(&vec![b' '; MAX_STATISTICS_BYTES + 1]), None);
    }
}
