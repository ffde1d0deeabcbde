//! Days, or dead letters, to be sent once more.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError, Engine};
use crate::{checkpoint::CheckpointError, clock, model::Day};

/// What is to be sent to a sink once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplaySelection {
    /// Days by their number since 1970-01-01, first and last.
    Days(i32, i32),
    DeadLetters,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("there is no sink `{0}`")]
    NoSink(String),
    #[error("a day is out of range")]
    NoDay,
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Engine {
    /// Queues what is to be sent again; gives the number of snapshots, or of dead letters.
    pub fn replay(&self, sink: &str, selection: ReplaySelection) -> Result<u64, ReplayError> {
        if !self.sinks().any(|plan| plan.name == sink) {
            return Err(ReplayError::NoSink(sink.to_owned()));
        }
        let queued = match selection {
            ReplaySelection::DeadLetters => block_in_place(|| self.checkpoint.retry_letters(sink))?,
            ReplaySelection::Days(first, last) => {
                let day = |number| Day::from_number(number).ok_or(ReplayError::NoDay);
                let (first, last) = (day(first)?, day(last)?);
                let now = clock::now().as_millisecond();
                block_in_place(|| self.checkpoint.add_replay(sink, first, last, now))?
            }
        };
        self.notify_log_grown();
        Ok(queued)
    }
}

/// Delivers all that is queued for one sink. Gives the number of records.
pub async fn deliver_queued(engine: &Arc<Engine>, sink: &str) -> Result<u64, DeliveryError> {
    let Some(plan) = engine.sinks().find(|plan| plan.name == sink) else { return Ok(0) };
    let mut deliverer = Deliverer::new(engine.clone(), plan.clone());
    let result = deliverer.run_once(&CancellationToken::new()).await;
    deliverer.close().await;
    engine.write_cursor_file();
    result.map(|()| deliverer.delivered)
}
