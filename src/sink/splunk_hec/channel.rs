//! A channel of the HTTP Event Collector: which of its requests are pending, acknowledged or lost.
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
    sync::{Mutex, MutexGuard, PoisonError},
};

use reqwest::header::HeaderMap;

use super::cookies::{CookieChange, Cookies};

/// The maximum number of ackIds of a channel, and thereby in one poll. At most 16 requests wait at
/// the same time; the others were abandoned.
const MAX_IDS: usize = 1_000;

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
    cookies: Cookies,
    /// Why no further acknowledgement can be expected on this channel.
    lost: Option<&'static str>,
}

/// The state of one request.
pub(super) enum RequestState {
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
        if state.pending.len().saturating_add(state.acknowledged.len()) >= MAX_IDS {
            state.lost.get_or_insert("the collector does not acknowledge requests");
        } else if state.acknowledged.contains(&ack_id) || !state.pending.insert(ack_id) {
            state.lost.get_or_insert("the collector restarted its count of ackIds");
        }
    }

    /// The value of the `Cookie` header, if there are cookies.
    pub(super) fn cookies(&self) -> Option<String> {
        self.state().cookies.header()
    }

    /// Stores the cookies by which a load balancer recognizes its clients. A changed value means
    /// that another node responds from now on.
    pub(super) fn store_cookies(&self, headers: &HeaderMap) {
        let host = self.url.host();
        let mut state = self.state();
        for header in headers.get_all("Set-Cookie") {
            let Ok(text) = header.to_str() else { continue };
            match state.cookies.store(text, host.as_ref()) {
                Ok(CookieChange::Kept) => {}
                Ok(CookieChange::Replaced) => {
                    state.lost.get_or_insert("the load balancer switched to another node");
                }
                Err(reason) => tracing::debug!(%reason, "a cookie of the collector is ignored"),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, ChannelState> {
        // After a panic, the deliverer opens the sink again, with other channels.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that no further acknowledgement can be expected; the first reason is kept.
    pub(super) fn set_lost(&self, reason: &'static str) {
        self.state().lost.get_or_insert(reason);
    }

    /// The state of a request. `Acknowledged` is returned once.
    pub(super) fn request_state(&self, ack_id: u64) -> RequestState {
        let mut state = self.state();
        if state.acknowledged.remove(&ack_id) {
            return RequestState::Acknowledged;
        }
        match state.lost {
            Some(reason) => RequestState::Lost(reason),
            None => RequestState::Pending(state.pending.iter().copied().collect()),
        }
    }

    /// Notes that the collector has acknowledged requests. Others than the pending ones are
    /// ignored.
    pub(super) fn set_acknowledged(&self, ack_ids: &[u64]) {
        let mut state = self.state();
        for id in ack_ids {
            if state.pending.remove(id) {
                state.acknowledged.insert(*id);
            }
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

    /// Regression: every cookie was stored, so the header grew with each response.
    #[test]
    fn new_cookies_do_not_lose_the_channel() {
        let channel = channel();
        for number in 0..10_000 {
            let value = "v".repeat(800);
            channel.store_cookies(&set_cookie(&format!("c{number}={value}; Path=/")));
        }
        assert!(channel.cookies().unwrap().len() <= 8 << 10);
        assert!(!channel.is_lost());
    }

    /// Regression: the ackIds of abandoned requests were stored without a limit.
    #[test]
    fn too_many_pending_requests_lose_the_channel() {
        let channel = channel();
        for ack_id in 0..1_000 {
            channel.add_pending(ack_id);
        }
        assert!(!channel.is_lost());
        channel.add_pending(1_000);
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
