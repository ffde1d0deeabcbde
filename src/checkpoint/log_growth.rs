//! Whether a transaction has appended entries to the log of a tenant. Idle deliverers wait for new
//! entries, so every function that can append one returns this value, and the compiler reports a
//! caller that drops it.

/// Whether entries were appended. `LogSignal::notify` passes it on to the deliverers.
#[must_use = "idle deliverers must be notified of new entries"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogGrowth {
    /// No entry was appended.
    Unchanged,
    /// At least one entry was appended.
    Grown,
}

impl LogGrowth {
    /// The growth of several steps of one transaction.
    pub fn and(self, other: Self) -> Self {
        if self == Self::Grown { self } else { other }
    }
}
