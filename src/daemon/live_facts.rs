//! What the running daemon knows about itself and may be unable to store: stalled loops, a fault of
//! the storage, and the accuracy of the clock. `status` requests it over the control socket, so
//! that it shows the same conditions as the status page. Nothing here reads or writes the
//! checkpoint. Start reading at [`LiveFacts`]. See decision 0050.

use serde::{Deserialize, Serialize};

use super::Meters;
use crate::{conditions::StorageFacts, error::Explanation, model::ClockDifference};

/// What the daemon knows at one moment. The control socket carries it as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFacts {
    /// A description of each loop that makes no progress.
    pub stalled: Vec<String>,
    /// Why the checkpoint cannot be read or written; `None` if it can.
    pub storage: Option<StorageFacts>,
    /// The last comparison of the clock, also if the clock was accurate; `None` if this process has
    /// not compared it.
    pub clock: Option<ClockDifference>,
}

/// Why another process does not know what the running daemon knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLiveFacts {
    /// Only root and the user of the daemon may ask it. The daemon is not at fault.
    NotPermitted,
    /// It does not respond, for this reason.
    NoResponse(Explanation),
}

/// Whether a status contains what only the running daemon knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LiveFactsState {
    /// No daemon is running.
    #[default]
    NoDaemon,
    Included,
    /// It does not, for [`NoLiveFacts::NotPermitted`].
    NotPermitted,
    /// It does not, for [`NoLiveFacts::NoResponse`].
    NoResponse,
}

impl NoLiveFacts {
    /// What is wrong with the daemon; `None` if it may only not be asked.
    pub(super) fn fault(&self) -> Option<&Explanation> {
        match self {
            Self::NotPermitted => None,
            Self::NoResponse(reason) => Some(reason),
        }
    }
}

impl LiveFactsState {
    /// The state for what a daemon in another process has reported.
    pub(super) fn of(live: &Result<LiveFacts, NoLiveFacts>) -> Self {
        match live {
            Ok(_) => Self::Included,
            Err(NoLiveFacts::NotPermitted) => Self::NotPermitted,
            Err(NoLiveFacts::NoResponse(_)) => Self::NoResponse,
        }
    }
}

impl LiveFacts {
    /// The facts of this process. Never waits for the checkpoint.
    pub(super) fn of(meters: &Meters) -> Self {
        Self {
            stalled: meters.stalled(),
            storage: meters.storage.current(),
            clock: meters.clock.difference(),
        }
    }
}
