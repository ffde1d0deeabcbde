//! Indexer acknowledgement: which requests of a channel are pending, acknowledged or lost.
//!
//! Source: Splunk's documentation of indexer acknowledgement. The ackIds count from 0 on each
//! channel and each node. A collector reports `true` for an ackId once and then discards it, and
//! reports `false` for pending, lost and unknown requests alike.
//!
//! A channel is therefore replaced, and its pending requests are sent again on a new one, when its
//! node may no longer have the state of the channel: the load balancer sets another cookie, an
//! ackId is returned twice, the channel is unknown to the collector, or the time limit is reached.
//! See decision 0026.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::time::{Instant, sleep};

use super::post::{Accepted, Collectors};
use crate::sink::{Failure, Receipt};

/// The first interval between two polls for acknowledgements. It doubles after each poll.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(10);
/// How many times a request without an acknowledgement is sent again before the delivery fails.
const MAX_RESENDS: u32 = 2;
/// The maximum number of ackIds in one poll.
const MAX_IDS_PER_POLL: usize = 1_000;

/// A channel of HEC: a client of one collector, identified by a GUID.
pub(super) struct Channel {
    /// The GUID in the header `X-Splunk-Request-Channel`.
    pub id: String,
    /// The URL of the collector.
    pub url: url::Url,
    state: Mutex<ChannelState>,
}

#[derive(Default)]
struct ChannelState {
    /// The ackIds of requests that wait for their acknowledgement.
    pending: BTreeSet<u64>,
    /// The ackIds that the collector has acknowledged, until the waiting request reads them.
    acknowledged: BTreeSet<u64>,
    cookies: Vec<(String, String)>,
    /// Why no further acknowledgement can be expected on this channel.
    lost: Option<&'static str>,
}

/// The state of one request.
enum RequestState {
    Acknowledged,
    /// It will not be acknowledged, for this reason.
    Lost(&'static str),
    /// It is not acknowledged yet. Contains the ackIds of the channel's pending requests.
    Pending(Vec<u64>),
}

impl Channel {
    /// A channel with a random GUID and without requests.
    pub(super) fn new(url: url::Url) -> Self {
        Self { id: uuid::Uuid::new_v4().to_string(), url, state: Mutex::default() }
    }

    /// Whether no further acknowledgement can be expected on this channel.
    pub(super) fn is_lost(&self) -> bool {
        self.state().lost.is_some()
    }

    /// Adds a request that the collector accepted under this ackId.
    pub(super) fn add_pending(&self, ack_id: u64) {
        let mut state = self.state();
        if state.acknowledged.contains(&ack_id) || !state.pending.insert(ack_id) {
            state.lost.get_or_insert("the collector restarted its count of ackIds");
        }
    }

    /// The value of the `Cookie` header, if there are cookies.
    pub(super) fn cookies(&self) -> Option<String> {
        let state = self.state();
        let pairs = state.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        Some(pairs.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    }

    /// Stores the cookies by which a load balancer recognizes its clients. A changed value means
    /// that another node responds from now on.
    pub(super) fn store_cookies(&self, headers: &HeaderMap) {
        let mut state = self.state();
        for header in headers.get_all("Set-Cookie") {
            let Ok(text) = header.to_str() else { continue };
            let pair = text.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            let (name, value) = (name.trim().to_owned(), value.trim().to_owned());

            match state.cookies.iter_mut().find(|(known, _)| *known == name) {
                None => state.cookies.push((name, value)),
                Some((_, known)) if *known == value => {}
                Some((_, known)) => {
                    *known = value;
                    state.lost.get_or_insert("the load balancer switched to another node");
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, ChannelState> {
        // A panic ends the process, so no lock is ever poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_lost(&self, reason: &'static str) {
        self.state().lost.get_or_insert(reason);
    }

    /// The state of a request. `Acknowledged` is returned once.
    fn request_state(&self, ack_id: u64) -> RequestState {
        let mut state = self.state();
        if state.acknowledged.remove(&ack_id) {
            return RequestState::Acknowledged;
        }
        match state.lost {
            Some(reason) => RequestState::Lost(reason),
            None => RequestState::Pending(
                state.pending.iter().copied().take(MAX_IDS_PER_POLL).collect(),
            ),
        }
    }

    fn set_acknowledged(&self, ack_ids: &[u64]) {
        let mut state = self.state();
        for id in ack_ids {
            if state.pending.remove(id) {
                state.acknowledged.insert(*id);
            }
        }
    }
}

/// Waits until a request is acknowledged, and sends it again on a new channel if its channel is
/// lost. `limit` is the time to wait for each attempt. Fails with `Retry` after three attempts
/// without an acknowledgement, and with the failure of a request.
pub(super) async fn wait_for_acknowledgement(
    collectors: Arc<Collectors>,
    body: Bytes,
    events: usize,
    mut accepted: Accepted,
    limit: Duration,
) -> Result<Receipt, Failure> {
    let mut resends = 0;
    loop {
        let Accepted { channel, ack_id: Some(ack_id) } = &accepted else {
            return Ok(Receipt::default());
        };
        let Some(reason) = wait(&collectors, channel, *ack_id, limit).await? else {
            return Ok(Receipt::default());
        };

        collectors.replace_channel(channel);
        resends += 1;
        if resends > MAX_RESENDS {
            return Err(Failure::retry(format!("events were not acknowledged: {reason}")));
        }
        tracing::warn!(events, reason, "events were not acknowledged and are sent again");
        accepted = collectors.send(&body, events).await?;
    }
}

/// Returns `None` when the request is acknowledged, or the reason why it can no longer be.
async fn wait(
    collectors: &Collectors,
    channel: &Channel,
    ack_id: u64,
    limit: Duration,
) -> Result<Option<&'static str>, Failure> {
    let (began, mut pause) = (Instant::now(), Duration::ZERO);
    loop {
        let pending = match channel.request_state(ack_id) {
            RequestState::Acknowledged => return Ok(None),
            RequestState::Lost(reason) => return Ok(Some(reason)),
            RequestState::Pending(pending) => pending,
        };
        if began.elapsed() >= limit {
            channel.set_lost("the acknowledgement timed out");
            continue;
        }

        // The first poll is immediate, because even an elapsed timer costs a millisecond.
        if !pause.is_zero() {
            sleep(pause.min(limit.saturating_sub(began.elapsed()))).await;
        }
        pause = (pause * 2).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL);

        match collectors.poll_acks(channel, &pending).await {
            Ok(acknowledged) => channel.set_acknowledged(&acknowledged),
            // The poll is repeated until the time limit is reached.
            Err(Failure::Retry { after, .. }) => {
                pause = after.unwrap_or(pause).min(MAX_POLL_INTERVAL);
            }
            Err(Failure::Broken { .. }) => {
                channel.set_lost("the channel is unknown to the collector");
            }
            Err(failure) => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        Channel::new("https://splunk.example.com:8088".parse().unwrap())
    }

    fn set_cookie(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("Set-Cookie", text.parse().unwrap());
        headers
    }

    #[test]
    fn a_changed_cookie_loses_the_channel() {
        let channel = channel();
        channel.store_cookies(&set_cookie("AWSELB=one; Path=/; HttpOnly"));
        channel.store_cookies(&HeaderMap::new());
        channel.store_cookies(&set_cookie("AWSELB=one"));
        assert_eq!(channel.cookies().as_deref(), Some("AWSELB=one"));
        assert!(!channel.is_lost());

        channel.store_cookies(&set_cookie("AWSELB=two"));
        assert!(channel.is_lost());
    }

    #[test]
    fn a_repeated_ack_id_loses_the_channel() {
        let channel = channel();
        channel.add_pending(0);
        channel.add_pending(1);
        channel.set_acknowledged(&[0, 7]);
        assert!(matches!(channel.request_state(0), RequestState::Acknowledged));
        assert!(
            matches!(channel.request_state(1), RequestState::Pending(pending) if pending == [1])
        );

        channel.add_pending(1);
        assert!(matches!(channel.request_state(1), RequestState::Lost(_)));
    }
}
