//! What the running daemon knows about itself and may be unable to store: stalled loops, a fault of
//! the storage, and the accuracy of the clock. `status` requests it over the control socket, so
//! that it shows the same conditions as the status page. Nothing here reads or writes the
//! checkpoint. Start reading at [`LiveFacts`]. See decision 0050.

use serde::{Deserialize, Serialize};

use super::Meters;
use crate::{conditions::StorageFacts, model::ClockDifference};

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
