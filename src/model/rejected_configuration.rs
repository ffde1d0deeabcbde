//! A reload of the configuration that was rejected. The checkpoint stores it, so that a command can
//! report it while the daemon runs with the previous configuration.

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use crate::error::Explanation;

/// A reload whose configuration was rejected, so that the previous one remains in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedConfiguration {
    /// The time of the reload.
    pub at: UnixMillis,
    /// The first fault of the configuration.
    pub reason: Explanation,
}
