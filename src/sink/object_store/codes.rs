//! The error codes of the stores that decide what a rejection means, because their status does not.
//!
//! A code is read from the summary of an error, and must never decide that an object exists; see
//! `existence`. Start reading at [`has_transient_code`].

use crate::sink::Failure;

/// The hint for a response that need not be from a store.
pub(super) const NOT_STORE: &str = "check that `endpoint` is the address of the API of the store, and that no proxy responds instead";

/// Error codes for conflicts that remain until an operator changes the bucket or the container.
const PERMANENT_CONFLICTS: [&str; 5] = [
    "BlobImmutableDueToPolicy",
    "ContainerDisabled",
    "InvalidBlobType",
    "InvalidBucketState",
    "PublicAccessNotPermitted",
];
/// Error codes for a request that can succeed unchanged, whose status can be one of a rejection.
/// Sources: the lists of error codes of Amazon S3 and Azure.
const TRANSIENT_CODES: [&str; 13] = [
    "AccountBeingCreated",
    "ConditionalRequestConflict",
    "ContainerBeingDeleted",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServerBusy",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
];

/// Whether the same request can succeed later, although its status is one of a rejection.
pub(super) fn has_transient_code(summary: &str) -> bool {
    TRANSIENT_CODES.contains(&code(summary))
}

/// The failure for a status that a store also returns for an object that exists. Without a code of
/// a store, the response can be that of a proxy, which can pass.
pub(super) fn conflict(reason: String, summary: &str) -> Failure {
    if PERMANENT_CONFLICTS.contains(&code(summary)) {
        let hint = "correct the state or the policies of the bucket or container";
        return Failure::Misconfigured { reason, hint: Some(hint.into()) };
    }
    Failure::Retry { reason, after: None, hint: Some(NOT_STORE.into()) }
}

/// The error code in a summary; any other text, or nothing, if it has none.
fn code(summary: &str) -> &str {
    summary.split(": ").nth(1).unwrap_or_default()
}
