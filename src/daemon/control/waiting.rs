//! Limits the commands whose response takes as long as a poll.
//!
//! Such commands must never occupy all connections of the control socket: `status` waits only two
//! seconds for what the daemon knows, and could then not show a fault of the storage. Start reading
//! at [`WaitingCommands::admit`].

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Request, RequestFailure};
use crate::error::Explanation;

/// How many commands can wait for polls at the same time.
pub(super) const MAX_WAITING: usize = 8;

/// The commands that wait for polls. Clones share the limit.
#[derive(Clone, Debug)]
pub(super) struct WaitingCommands(Arc<Semaphore>);

impl WaitingCommands {
    /// No command is waiting.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WAITING)))
    }

    /// Admits a request. The permit is held until the response is complete; it is `None` for a
    /// request that waits for no poll. Fails if too many commands are waiting.
    pub(super) fn admit(
        &self,
        request: &Request,
    ) -> Result<Option<OwnedSemaphorePermit>, RequestFailure> {
        if !request.waits_for_polls() {
            return Ok(None);
        }
        Arc::clone(&self.0).try_acquire_owned().map(Some).map_err(|_| too_many())
    }
}

fn too_many() -> RequestFailure {
    let message = format!("{MAX_WAITING} other commands are waiting for polls");
    let hint = "run the command again when one of them has finished";
    RequestFailure::incomplete(Explanation::new(message).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_returned_with_the_response() {
        let waiting = WaitingCommands::new();
        let poll = Request::Poll { tenants: Vec::new() };
        let mut permits: Vec<_> =
            (0..MAX_WAITING).map(|_| waiting.admit(&poll).unwrap().unwrap()).collect();
        for _ in 0..2 {
            let failure = waiting.admit(&poll).unwrap_err();
            assert_eq!(failure.reason.message, "8 other commands are waiting for polls");
            for other in [Request::LiveFacts, Request::Prune] {
                assert!(waiting.admit(&other).unwrap().is_none());
            }
            permits.pop();
            permits.push(waiting.admit(&poll).unwrap().unwrap());
        }
    }
}
