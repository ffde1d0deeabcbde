//! Who we are for the cluster, where Entra says so: `OAUTHBEARER`, as Azure Event Hubs wants it.
//!
//! librdkafka asks for a token through its callbacks, and only while somebody polls. Its client
//! for administration does not, so topics cannot be made this way.
//!
//! Source: learn.microsoft.com, "Authenticate an application with Microsoft Entra ID to access
//! Event Hubs"; RFC 7628.

use std::{error::Error, sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, client::OAuthToken, config::RDKafkaLogLevel, consumer::ConsumerContext,
};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use crate::{
    clock,
    sink::{Context, Failure, Tokens},
};

/// Asks for tokens, if the cluster takes them.
#[derive(Clone)]
pub(super) struct Account {
    tokens: Option<Arc<dyn Tokens>>,
    runtime: Handle,
}

/// A token is good for this long at least; then it is asked for again, and may be the same.
const LIFETIME: Duration = Duration::from_mins(5);

impl Account {
    /// With a token at hand, or the reason why there is none.
    pub(super) async fn new(context: &Context) -> Result<Self, Failure> {
        if let Some(tokens) = &context.tokens {
            tokens.token().await?;
        }
        Ok(Self { tokens: context.tokens.clone(), runtime: Handle::current() })
    }

    pub(super) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Called on threads that may block.
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let tokens = self.tokens.as_ref().ok_or("this sink has no credential of Entra")?;
        let token = self.runtime.block_on(tokens.token()).map_err(|failure| failure.to_string())?;
        let until = clock::now().as_millisecond() + i64::try_from(LIFETIME.as_millis())?;
        Ok(OAuthToken {
            token: token.expose_secret().to_owned(),
            // The cluster goes by what the token says.
            principal_name: "secure-score-forwarder".to_owned(),
            lifetime_ms: until,
        })
    }
}

impl ClientContext for Account {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(severity = ?level, facility, said = message, "librdkafka");
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token()
    }
}

impl ConsumerContext for Account {}
