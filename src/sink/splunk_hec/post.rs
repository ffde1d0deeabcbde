//! Sends requests to the collectors of a sink, and selects the collector, the channel and the
//! cookies.
//!
//! If a collector cannot accept events, the next one is used. `response` interprets the responses.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;

use super::{
    channel::Channel,
    config::{AcknowledgementMode, HecPlan},
    requests::EventRequest,
    response,
};
use crate::{
    error::Hint,
    settings::SecretRef,
    sink::{Failure, web::HttpReceiverOptions},
};

/// A response contains a code and a message, or the acknowledgement states of up to 1,000 requests.
const MAX_RESPONSE_BYTES: usize = 256 << 10;

/// The name of the server in messages.
const COLLECTOR: &str = "the collector";

/// The collectors of one sink. A pending acknowledgement may outlive the sink and keeps them alive.
pub(super) struct Collectors {
    client: reqwest::Client,
    token: SecretRef,
    web: HttpReceiverOptions,
    acknowledgement: AcknowledgementMode,
    targets: Vec<CollectorTarget>,
    /// The index of the target in use; taken modulo the number of targets.
    current: AtomicUsize,
}

/// One collector and the channel in use.
struct CollectorTarget {
    url: url::Url,
    channel: Mutex<Arc<Channel>>,
}

/// Why a request with events was not accepted.
#[derive(Debug)]
pub(super) enum EventFailure {
    /// The collector rejects at least one of the events, with this message. The failure isolates
    /// it.
    Rejected { message: String, failure: Failure },
    /// Any other failure.
    Other(Failure),
}

/// An accepted request: its channel and, if the collector will acknowledge it, its ackId.
pub(super) struct Accepted {
    /// The channel that the request was sent on.
    pub channel: Arc<Channel>,
    /// `None` means that the response is the acknowledgement.
    pub ack_id: Option<u64>,
}

impl From<Failure> for EventFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<EventFailure> for Failure {
    fn from(failure: EventFailure) -> Self {
        match failure {
            EventFailure::Rejected { failure, .. } | EventFailure::Other(failure) => failure,
        }
    }
}

impl Collectors {
    /// Creates one channel per collector, without a request. Fails with `Misconfigured` if
    /// `ca_file` cannot be read.
    pub(super) fn new(plan: &HecPlan) -> Result<Self, Failure> {
        let target = |url: &url::Url| CollectorTarget {
            url: url.clone(),
            channel: Mutex::new(Arc::new(Channel::new(url.clone()))),
        };
        Ok(Self {
            client: plan.web.client()?,
            token: plan.token.clone(),
            web: plan.web.clone(),
            acknowledgement: plan.acknowledgement,
            targets: plan.urls.iter().map(target).collect(),
            current: AtomicUsize::new(0),
        })
    }

    /// Sends events. If a collector cannot accept them, the next one is used, until each has been
    /// tried once. Fails with the failure of the last collector.
    pub(super) async fn send(&self, request: &EventRequest) -> Result<Accepted, EventFailure> {
        let mut attempts: usize = 0;
        loop {
            let at = self.index_in_use();
            let sent = self.send_to(&self.targets[at], request).await;
            attempts = attempts.saturating_add(1);

            match sent {
                // The certificate, the token or the index can be invalid for a single collector.
                Err(EventFailure::Other(
                    Failure::Retry { .. }
                    | Failure::Misconfigured { .. }
                    | Failure::RejectsAll { .. }
                    | Failure::Denied { .. }
                    | Failure::Refused(_),
                )) if attempts < self.targets.len() => {
                    self.current.store(at.wrapping_add(1), Ordering::Relaxed);
                }
                sent => return sent,
            }
        }
    }

    /// Requests the state of acknowledgements on a channel. Returns the ackIds that are
    /// acknowledged; fails with `Broken` if the channel is unknown to the collector.
    pub(super) async fn poll_acks(
        &self,
        channel: &Channel,
        ack_ids: &[u64],
    ) -> Result<Vec<u64>, Failure> {
        let body = serde_json::json!({ "acks": ack_ids }).to_string();
        let request = self.request(&channel.url, "ack", channel)?.body(body);
        let response = self.web.exchange(request, COLLECTOR, MAX_RESPONSE_BYTES).await?;
        let acknowledged = response::read_acks(&response, ack_ids.len())?;
        channel.store_cookies(&response.headers);
        Ok(acknowledged)
    }

    /// With `acknowledgement = true`, checks that the token has indexer acknowledgement, so that
    /// the sink fails before anything is sent.
    pub(super) async fn check_acknowledgement(&self) -> Result<(), Failure> {
        if self.acknowledgement != AcknowledgementMode::Required {
            return Ok(());
        }

        let channel = self.targets[self.index_in_use()].channel();
        match self.poll_acks(&channel, &[]).await {
            Err(failure @ Failure::Misconfigured { .. }) => Err(failure),
            // Other failures are reported when there is something to send.
            _ => Ok(()),
        }
    }

    /// Checks that every collector accepts the token, with a request without events. The failure
    /// contains the address of the first collector that does not.
    pub(super) async fn check_token(&self) -> Result<(), Failure> {
        for target in &self.targets {
            self.check_token_at(target).await.map_err(|failure| Failure::Misconfigured {
                reason: format!("`{}`: {failure}", target.url.authority()),
                hint: failure.hint(),
            })?;
        }
        Ok(())
    }

    /// Replaces a channel on which no further request will be acknowledged.
    pub(super) fn replace_channel(&self, channel: &Arc<Channel>) {
        for target in &self.targets {
            let mut used = target.channel.lock().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&used, channel) {
                *used = Arc::new(Channel::new(target.url.clone()));
            }
        }
    }

    /// The index of the target in use. The configuration has at least one.
    fn index_in_use(&self) -> usize {
        let current = self.current.load(Ordering::Relaxed);
        current.checked_rem(self.targets.len()).unwrap_or(0)
    }

    async fn send_to(
        &self,
        target: &CollectorTarget,
        events: &EventRequest,
    ) -> Result<Accepted, EventFailure> {
        let channel = target.channel();
        let mut request = self.request(&target.url, "event", &channel)?.body(events.body.clone());
        if self.web.gzip {
            request = request.header("Content-Encoding", "gzip");
        }
        let response = self.web.exchange(request, COLLECTOR, MAX_RESPONSE_BYTES).await?;
        let ack_id = match response::read(&response, events.len()) {
            Ok(ack_id) => ack_id,
            Err(failure) if response::refuses_index(&response) => {
                return Err(events.refused(failure).into());
            }
            Err(failure) => {
                return Err(match response::rejection(&response) {
                    Some(message) => EventFailure::Rejected { message, failure },
                    None => failure.into(),
                });
            }
        };
        channel.store_cookies(&response.headers);

        match (ack_id, self.acknowledgement) {
            (_, AcknowledgementMode::Off) | (None, AcknowledgementMode::Auto) => {
                Ok(Accepted { channel, ack_id: None })
            }
            (None, AcknowledgementMode::Required) => {
                let reason = "the collector accepted the events but returned no ackId";
                Err(Failure::retry(reason).into())
            }
            (Some(ack_id), _) => {
                channel.add_pending(ack_id);
                Ok(Accepted { channel, ack_id: Some(ack_id) })
            }
        }
    }

    /// A collector that accepts the token responds that the request has no data.
    async fn check_token_at(&self, target: &CollectorTarget) -> Result<(), Failure> {
        let request = self.request(&target.url, "event", &target.channel())?;
        let request = request.header("Content-Length", "0");
        let response = self.web.exchange(request, COLLECTOR, MAX_RESPONSE_BYTES).await?;
        match response::read(&response, 0) {
            Ok(_) | Err(Failure::TooLarge { .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn request(
        &self,
        base: &url::Url,
        endpoint: &str,
        channel: &Channel,
    ) -> Result<reqwest::RequestBuilder, Failure> {
        let token = self.token.read().map_err(|error| Failure::misconfigured_by(&error))?;
        let mut authorization = HeaderValue::from_str(&format!("Splunk {}", token.expose_secret()))
            .map_err(|_| Failure::misconfigured("the token is not a valid header value"))?;
        authorization.set_sensitive(true);

        let mut url = base.clone();
        url.set_path(&format!("/services/collector/{endpoint}"));
        let mut request = self
            .client
            .post(url)
            .header("Authorization", authorization)
            .header("Content-Type", "application/json")
            .header("X-Splunk-Request-Channel", &channel.id);
        if let Some(cookies) = channel.cookies() {
            request = request.header("Cookie", cookies);
        }
        Ok(request)
    }
}

impl CollectorTarget {
    /// The channel in use. A lost channel is replaced.
    fn channel(&self) -> Arc<Channel> {
        let mut used = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if used.is_lost() {
            *used = Arc::new(Channel::new(self.url.clone()));
        }
        Arc::clone(&used)
    }
}
