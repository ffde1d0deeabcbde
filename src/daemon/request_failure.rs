//! Why a request to the daemon was not carried out. A command derives its exit code from the kind,
//! so that it is the same with and without a daemon. See decision 0035.

use serde::{Deserialize, Serialize};

use super::{PollError, ReplayError};
use crate::{checkpoint::CheckpointError, error::Explanation};

/// A request that was not carried out, or not completely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFailure {
    #[serde(default)]
    pub kind: RequestFailureKind,
    #[serde(flatten)]
    pub reason: Explanation,
}

/// What can resolve a failure: another request, another attempt, or an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestFailureKind {
    /// The request is invalid, or conflicts with the running configuration.
    Invalid,
    /// The request failed or was aborted, and can be repeated.
    #[default]
    Incomplete,
    /// The checkpoint cannot be used until an operator has intervened.
    Unusable,
}

impl RequestFailure {
    /// A failure for a request that must be changed.
    pub fn invalid(reason: impl Into<Explanation>) -> Self {
        Self { kind: RequestFailureKind::Invalid, reason: reason.into() }
    }

    /// A failure for a request about a tenant that is not available under this name.
    pub(super) fn unknown_tenant(tenant: &str) -> Self {
        let reason = format!("unknown tenant `{tenant}`: not configured, or not resolved yet");
        Self::invalid(reason)
    }

    /// A failure for a request that can be repeated.
    pub fn incomplete(reason: impl Into<Explanation>) -> Self {
        Self { kind: RequestFailureKind::Incomplete, reason: reason.into() }
    }
}

impl RequestFailureKind {
    /// The kind of an error of the checkpoint.
    pub fn of(error: &CheckpointError) -> Self {
        match error {
            CheckpointError::SinkExists(..) | CheckpointError::InvalidBackup(..) => Self::Invalid,
            error if error.is_unusable() => Self::Unusable,
            _ => Self::Incomplete,
        }
    }
}

impl From<CheckpointError> for RequestFailure {
    fn from(error: CheckpointError) -> Self {
        Self { kind: RequestFailureKind::of(&error), reason: Explanation::of(&error) }
    }
}

impl From<ReplayError> for RequestFailure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Checkpoint(error) => error.into(),
            other => Self::invalid(Explanation::of(&other)),
        }
    }
}

impl From<PollError> for RequestFailure {
    fn from(error: PollError) -> Self {
        let kind = match &error {
            PollError::Checkpoint(error) => RequestFailureKind::of(error),
            _ => RequestFailureKind::Incomplete,
        };
        Self { kind, reason: Explanation::of(&error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_the_error() {
        use RequestFailureKind::{Incomplete, Invalid, Unusable};
        let damaged = || CheckpointError::Damaged("x".to_owned());
        for (failure, kind) in [
            (RequestFailure::from(damaged()), Unusable),
            (CheckpointError::SinkExists("a".into(), "b".into()).into(), Invalid),
            (CheckpointError::Busy.into(), Incomplete),
            (ReplayError::NoSink("a".into()).into(), Invalid),
            (ReplayError::Checkpoint(damaged()).into(), Unusable),
            (PollError::DiskFull.into(), Incomplete),
            (PollError::Checkpoint(damaged()).into(), Unusable),
        ] {
            assert_eq!(failure.kind, kind, "{failure:?}");
        }
    }

    #[test]
    fn a_failure_without_a_kind_can_be_repeated() {
        let reason = Explanation::new("the daemon is stopping").with_hint("run it again");
        let json = serde_json::to_string(&reason).unwrap();
        let failure: RequestFailure = serde_json::from_str(&json).unwrap();
        assert_eq!(failure, RequestFailure::incomplete(reason));
    }
}
