//! Queues stored days or dead letters so that a sink receives them again. Both are stored in the
//! checkpoint, so they survive a restart, and neither moves a live cursor. Start reading at
//! `Engine::replay`.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError, Engine};
use crate::{checkpoint::CheckpointError, clock, error::Hint, model::Day};

/// What to send to a sink again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplaySelection {
    /// The first and the last day, as numbers of days since 1970-01-01.
    Days(i32, i32),
    /// All dead letters of the sink.
    DeadLetters,
}

/// Why a replay was not queued. Nothing has changed in the checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("there is no sink `{0}`")]
    NoSink(String),
    /// A number of [`ReplaySelection::Days`] is outside the range of calendar dates.
    #[error("a day is out of range")]
    NoDay,
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Hint for ReplayError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NoSink(_) | Self::NoDay => None,
            Self::Checkpoint(error) => error.hint(),
        }
    }
}

impl Engine {
    /// Queues a replay and notifies the deliverers. Returns the number of queued snapshots or dead
    /// letters.
    ///
    /// Fails if no such sink is configured, or if a day is not a calendar date.
    pub fn replay(&self, sink: &str, selection: ReplaySelection) -> Result<u64, ReplayError> {
        if !self.sinks().any(|plan| plan.name == sink) {
            return Err(ReplayError::NoSink(sink.to_owned()));
        }

        let queued = match selection {
            ReplaySelection::DeadLetters => {
                block_in_place(|| self.checkpoint.retry_dead_letters(sink))?
            }
            ReplaySelection::Days(first, last) => {
                let day = |number| Day::from_number(number).ok_or(ReplayError::NoDay);
                let (first, last) = (day(first)?, day(last)?);
                let now = clock::now().into();
                block_in_place(|| self.checkpoint.add_replay(sink, first, last, now))?
            }
        };

        self.notify_log_grown();
        Ok(queued)
    }
}

/// Delivers everything that is queued for one sink, without a daemon. Returns the number of
/// acknowledged records. It is 0 if no such sink is configured.
///
/// # Errors
///
/// Fails with the error that stopped the delivery; records that were acknowledged before it are not
/// sent again.
pub async fn deliver_queued(engine: &Arc<Engine>, sink: &str) -> Result<u64, DeliveryError> {
    let Some(plan) = engine.sinks().find(|plan| plan.name == sink) else { return Ok(0) };
    let mut deliverer = Deliverer::new(engine.clone(), plan.clone());
    let result = deliverer.run_once(&CancellationToken::new()).await;
    deliverer.close().await;
    engine.write_cursor_file();
    result.map(|()| deliverer.delivered)
}
