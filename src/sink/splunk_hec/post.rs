//! Requests to collectors: where to, on which channel, with which cookies.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;

use super::{
    acks::Channel,
    config::{Acknowledgement, HecPlan},
    response,
};
use crate::{
    net,
    settings::SecretRef,
    sink::{Failure, chain},
};

/// Largest answer worth reading: a code and a sentence, or the acks of some thousand requests.
const MAX_ANSWER: usize = 256 << 10;

/// The collectors of one sink. A proof may outlive the sink.
pub(super) struct Collectors {
    client: reqwest::Client,
    token: SecretRef,
    gzip: bool,
    acknowledgement: Acknowledgement,
    targets: Vec<Target>,
    /// The one in use.
    current: AtomicUsize,
}

struct Target {
    url: url::Url,
    channel: Mutex<Arc<Channel>>,
}

/// A request that was accepted: on which channel, and under which number it is acknowledged.
pub(super) struct Accepted {
    pub channel: Arc<Channel>,
    pub ack: Option<u64>,
}

impl Collectors {
    pub(super) fn new(plan: &HecPlan) -> Result<Self, Failure> {
        let client = net::client(plan.ca_file.as_deref())
            .map_err(|error| Failure::misconfigured(chain(&error)))?;
        let target = |url: &url::Url| Target {
            url: url.clone(),
            channel: Mutex::new(Arc::new(Channel::new(url.clone()))),
        };
        Ok(Self {
            client,
            token: plan.token.clone(),
            gzip: plan.gzip,
            acknowledgement: plan.acknowledgement,
            targets: plan.urls.iter().map(target).collect(),
            current: AtomicUsize::new(0),
        })
    }

    /// Sends events, to the next collector if one cannot take them now.
    pub(super) async fn send(&self, body: &Bytes, events: usize) -> Result<Accepted, Failure> {
        let mut tries = 0;
        loop {
            let at = self.current.load(Ordering::Relaxed) % self.targets.len();
            let sent = self.send_to(&self.targets[at], body, events).await;
            tries += 1;
            match sent {
                Err(Failure::Retry { .. }) if tries < self.targets.len() => {
                    self.current.store(at + 1, Ordering::Relaxed);
                }
                sent => return sent,
            }
        }
    }

    async fn send_to(
        &self,
        target: &Target,
        body: &Bytes,
        events: usize,
    ) -> Result<Accepted, Failure> {
        let channel = target.channel();
        let mut request = self.request(&target.url, "event", &channel)?.body(body.clone());
        if self.gzip {
            request = request.header("Content-Encoding", "gzip");
        }
        let (status, headers, answer) = exchange(request).await?;
        let ack = response::read(status, &answer, net::retry_after(&headers), events)?;
        channel.keep_cookies(&headers);
        match (ack, self.acknowledgement) {
            (_, Acknowledgement::Off) | (None, Acknowledgement::Auto) => {
                Ok(Accepted { channel, ack: None })
            }
            (None, Acknowledgement::Required) => Err(Failure::retry(
                "the collector took the events and promised no acknowledgement of them",
            )),
            (Some(id), _) => {
                channel.promise(id);
                Ok(Accepted { channel, ack: Some(id) })
            }
        }
    }

    /// Asks for acknowledgements on a channel.
    pub(super) async fn ask_acks(
        &self,
        channel: &Channel,
        ids: &[u64],
    ) -> Result<Vec<u64>, Failure> {
        let question = serde_json::json!({ "acks": ids }).to_string();
        let request = self.request(&channel.url, "ack", channel)?.body(question);
        let (status, headers, answer) = exchange(request).await?;
        let acked = response::read_acks(status, &answer, net::retry_after(&headers))?;
        channel.keep_cookies(&headers);
        Ok(acked)
    }

    /// Finds out before anything is sent whether the token has what is asked of it.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        if self.acknowledgement != Acknowledgement::Required {
            return Ok(());
        }
        let at = self.current.load(Ordering::Relaxed) % self.targets.len();
        match self.ask_acks(&self.targets[at].channel(), &[]).await {
            Err(failure @ Failure::Misconfigured { .. }) => Err(failure),
            // Anything else will show when there is something to send.
            _ => Ok(()),
        }
    }

    /// Sends every collector a request without events: one that takes the token says that there is
    /// no data in it.
    pub(super) async fn greet(&self) -> Result<(), Failure> {
        for target in &self.targets {
            // Who reads it wants to know which of them it was.
            self.greet_one(target).await.map_err(|failure| {
                Failure::misconfigured(format!("{}: {failure}", target.url.authority()))
            })?;
        }
        Ok(())
    }

    async fn greet_one(&self, target: &Target) -> Result<(), Failure> {
        let request = self.request(&target.url, "event", &target.channel())?;
        let (status, headers, answer) = exchange(request.header("Content-Length", "0")).await?;
        match response::read(status, &answer, net::retry_after(&headers), 0) {
            Ok(_) | Err(Failure::TooLarge { .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Nothing sent on this channel will be acknowledged any more: what is sent next goes on
    /// another.
    pub(super) fn give_up(&self, channel: &Arc<Channel>) {
        for target in &self.targets {
            let mut used = target.channel.lock().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&used, channel) {
                *used = Arc::new(Channel::new(target.url.clone()));
            }
        }
    }

    fn request(
        &self,
        base: &url::Url,
        endpoint: &str,
        channel: &Channel,
    ) -> Result<reqwest::RequestBuilder, Failure> {
        let token = self.token.read().map_err(|error| Failure::misconfigured(chain(&error)))?;
        let mut authorization = HeaderValue::from_str(&format!("Splunk {}", token.expose_secret()))
            .map_err(|_| Failure::misconfigured("the token is not text for a header"))?;
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

impl Target {
    /// The channel in use; a new one if that was lost.
    fn channel(&self) -> Arc<Channel> {
        let mut used = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if used.is_lost() {
            *used = Arc::new(Channel::new(self.url.clone()));
        }
        Arc::clone(&used)
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<(u16, HeaderMap, Vec<u8>), Failure> {
    let response =
        request.send().await.map_err(|error| Failure::retry(chain(&error.without_url())))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // An answer that broke off is one without a code.
    let body = net::read_body(response, MAX_ANSWER).await.unwrap_or_default();
    Ok((status, headers, body))
}
