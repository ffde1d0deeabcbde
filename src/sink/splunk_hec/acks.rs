//! Indexer acknowledgement: what was promised on a channel, and what has come of it.
//!
//! Source: Splunk's documentation of indexer acknowledgement. Numbers count from 0 on each channel
//! and each node; `true` is said once and then forgotten; `false` is said of what is pending, lost
//! and unknown alike. So a channel is given up, and what is open on it sent again on another, when
//! its node can no longer be the one that knows: a load balancer's cookie has changed, a number
//! comes a second time, the channel is not known there any more, or the time is over.

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

/// Between two questions: at first, and at last.
const FIRST_POLL: Duration = Duration::from_millis(50);
const LAST_POLL: Duration = Duration::from_secs(10);
/// A request that was not acknowledged is sent again so often before somebody hears of it.
const RESENDS: u32 = 2;
/// Numbers in one question.
const MOST_AT_ONCE: usize = 1_000;

/// A client of one collector, by its GUID.
pub(super) struct Channel {
    pub id: String,
    pub url: url::Url,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    cookies: Vec<(String, String)>,
    lost: Option<&'static str>,
}

/// How it stands with one request.
enum Standing {
    Acked,
    Lost(&'static str),
    Open(Vec<u64>),
}

impl Channel {
    pub(super) fn new(url: url::Url) -> Self {
        Self { id: uuid::Uuid::new_v4().to_string(), url, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state().lost.is_some()
    }

    fn lose(&self, why: &'static str) {
        self.state().lost.get_or_insert(why);
    }

    /// The collector will acknowledge this number.
    pub(super) fn promise(&self, id: u64) {
        let mut state = self.state();
        if state.acked.contains(&id) || !state.open.insert(id) {
            state.lost.get_or_insert("the collector began to count anew");
        }
    }

    pub(super) fn cookies(&self) -> Option<String> {
        let state = self.state();
        let pairs = state.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        Some(pairs.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    }

    /// Keeps what a load balancer tells its clients by. If it tells them something else than
    /// before, another node answers from now on.
    pub(super) fn keep_cookies(&self, headers: &HeaderMap) {
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
                    state.lost.get_or_insert("the load balancer turned to another node");
                }
            }
        }
    }

    fn standing(&self, id: u64) -> Standing {
        let mut state = self.state();
        if state.acked.remove(&id) {
            return Standing::Acked;
        }
        match state.lost {
            Some(why) => Standing::Lost(why),
            None => Standing::Open(state.open.iter().copied().take(MOST_AT_ONCE).collect()),
        }
    }

    fn settle(&self, acked: &[u64]) {
        let mut state = self.state();
        for id in acked {
            if state.open.remove(id) {
                state.acked.insert(*id);
            }
        }
    }
}

/// Waits until a request is acknowledged, sending it again where the promise is void.
pub(super) async fn acknowledged(
    collectors: Arc<Collectors>,
    body: Bytes,
    events: usize,
    mut accepted: Accepted,
    patience: Duration,
) -> Result<Receipt, Failure> {
    let mut resends = 0;
    loop {
        let Accepted { channel, ack: Some(id) } = &accepted else {
            return Ok(Receipt::default());
        };
        let Some(why) = wait(&collectors, channel, *id, patience).await? else {
            return Ok(Receipt::default());
        };
        collectors.give_up(channel);
        resends += 1;
        if resends > RESENDS {
            return Err(Failure::retry(format!("events were not acknowledged: {why}")));
        }
        tracing::warn!(events, why, "events were not acknowledged, and are sent again");
        accepted = collectors.send(&body, events).await?;
    }
}

/// `None` when the request is acknowledged, else why it never will be.
async fn wait(
    collectors: &Collectors,
    channel: &Channel,
    id: u64,
    patience: Duration,
) -> Result<Option<&'static str>, Failure> {
    let (began, mut pause) = (Instant::now(), Duration::ZERO);
    loop {
        let open = match channel.standing(id) {
            Standing::Acked => return Ok(None),
            Standing::Lost(why) => return Ok(Some(why)),
            Standing::Open(open) => open,
        };
        if began.elapsed() >= patience {
            channel.lose("the time for it is over");
            continue;
        }
        // The first question is asked at once; a timer would cost a millisecond.
        if !pause.is_zero() {
            sleep(pause.min(patience.saturating_sub(began.elapsed()))).await;
        }
        pause = (pause * 2).clamp(FIRST_POLL, LAST_POLL);
        match collectors.ask_acks(channel, &open).await {
            Ok(acked) => channel.settle(&acked),
            // It can be asked again, as long as there is time.
            Err(Failure::Retry { after, .. }) => pause = after.unwrap_or(pause).min(LAST_POLL),
            Err(Failure::Broken { .. }) => channel.lose("the collector does not know the channel"),
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
    fn another_cookie_means_another_node() {
        let channel = channel();
        channel.keep_cookies(&set_cookie("AWSELB=one; Path=/; HttpOnly"));
        channel.keep_cookies(&HeaderMap::new());
        channel.keep_cookies(&set_cookie("AWSELB=one"));
        assert_eq!(channel.cookies().as_deref(), Some("AWSELB=one"));
        assert!(!channel.is_lost());
        channel.keep_cookies(&set_cookie("AWSELB=two"));
        assert!(channel.is_lost());
    }

    #[test]
    fn a_number_that_comes_again_means_that_counting_began_anew() {
        let channel = channel();
        channel.promise(0);
        channel.promise(1);
        channel.settle(&[0, 7]);
        assert!(matches!(channel.standing(0), Standing::Acked));
        assert!(matches!(channel.standing(1), Standing::Open(open) if open == [1]));
        channel.promise(1);
        assert!(matches!(channel.standing(1), Standing::Lost(_)));
    }
}
