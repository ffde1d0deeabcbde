//! Waits for indexer acknowledgement: polls the states of a channel's requests, and sends a request
//! again on a new channel if its channel is lost. Source: Splunk's documentation of indexer
//! acknowledgement. Start reading at [`wait_for_all`]. See decision 0026.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    channel::{Channel, RequestState},
    post::{Accepted, Collectors},
    requests::{EventRequest, RequestOutcomes},
};
use crate::sink::{Failure, Receipt};

/// The first interval between two polls for acknowledgements. It doubles after each poll.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(10);
/// How many times a request without an acknowledgement is sent again before the delivery fails.
const MAX_RESENDS: u32 = 2;

/// Waits until the accepted requests of a batch are acknowledged. Fails like
/// [`wait_for_acknowledgement`], or with what `outcomes` contains of the others.
pub(super) async fn wait_for_all(
    collectors: Arc<Collectors>,
    accepted: Vec<(EventRequest, Accepted)>,
    mut outcomes: RequestOutcomes,
    limit: Duration,
) -> Result<Receipt, Failure> {
    for (request, accepted) in accepted {
        match wait_for_acknowledgement(&collectors, &request, accepted, limit).await {
            Ok(()) => outcomes.arrived(&request),
            Err(failure) => outcomes.failed(&request, failure),
        }
    }
    outcomes.into_result()
}

/// Waits until a request is acknowledged, and sends it again on a new channel if its channel is
/// lost. `limit` is the time to wait for each attempt. Fails with `Retry` after three attempts
/// without an acknowledgement, and with the failure of a request.
pub(super) async fn wait_for_acknowledgement(
    collectors: &Collectors,
    request: &EventRequest,
    mut accepted: Accepted,
    limit: Duration,
) -> Result<(), Failure> {
    let mut resends: u32 = 0;
    loop {
        let Accepted { channel, ack_id: Some(ack_id) } = &accepted else { return Ok(()) };
        let Some(reason) = wait(collectors, channel, *ack_id, limit).await? else {
            return Ok(());
        };

        collectors.replace_channel(channel);
        resends = resends.saturating_add(1);
        if resends > MAX_RESENDS {
            return Err(Failure::retry(format!("events were not acknowledged: {reason}")));
        }
        let events = request.len();
        tracing::warn!(events, reason, "events were not acknowledged and are sent again");
        accepted = collectors.send(request).await?;
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
        pause = pause.saturating_mul(2).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL);

        match collectors.poll_acks(channel, &pending).await {
            Ok(acknowledged) => channel.set_acknowledged(&acknowledged),
            // The poll is repeated until the time limit is reached.
            Err(Failure::Retry { after, .. }) => {
                pause = after.unwrap_or(pause).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL);
            }
            Err(Failure::Host { .. }) => {}
            Err(Failure::Broken { .. }) => {
                channel.set_lost("the channel is unknown to the collector");
            }
            Err(failure) => return Err(failure),
        }
    }
}
