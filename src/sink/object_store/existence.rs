//! Whether a store has an object that it could not create.
//!
//! The library takes every response with HTTP 409, and most with 412, for the report that the
//! object exists. Stores return these statuses also for objects that they have not stored, and so
//! do proxies. Only the documented code of a store is such a report, and even then the object must
//! not count as written before a second request has confirmed it. Start reading at
//! [`is_reported`]. See decisions 0028 and 0070.

use object_store::{Error, ObjectMeta};

use super::{
    error_document::code_of,
    store::{self, ObjectRequest},
};
use crate::{error::chain, sink::Failure};

/// The statuses and codes with which a store reports that an object exists, because the condition
/// of the request was not met.
///
/// Sources: "Conditional writes" and "Error responses" of Amazon S3; "Status and error codes" of
/// Azure Blob Storage; "HTTP status and error codes" of both APIs of Google Cloud Storage.
const REPORTS: &[(u16, &str)] = &[
    // Amazon S3, and the XML API of Google.
    (412, "PreconditionFailed"),
    // The JSON API of Google.
    (412, "conditionNotMet"),
    // Azure.
    (409, "BlobAlreadyExists"),
    (412, "ConditionNotMet"),
];

/// What a store has returned about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundObject {
    /// In bytes.
    pub size: u64,
    /// The version of the content; `None` if there is none, or if it is empty.
    pub e_tag: Option<String>,
}

impl FoundObject {
    pub(super) fn of(object: ObjectMeta) -> Self {
        Self { size: object.size, e_tag: object.e_tag.filter(|tag| !tag.is_empty()) }
    }
}

/// Whether the store reports that it has the object already.
pub(super) fn is_reported(error: &Error) -> bool {
    if !matches!(error, Error::AlreadyExists { .. }) {
        return false;
    }
    let text = chain(error);
    let Some((status, body)) = store::quoted_response(&text) else { return false };
    code_of(body).is_some_and(|code| REPORTS.contains(&(status, code.as_str())))
}

/// Confirms that an object exists after its store has reported it. `found` is the result of a
/// request for its metadata.
///
/// The name contains a hash of the event IDs, so the object is from an earlier attempt. Neither its
/// content nor its size is compared, because a record also states when it was read and whether it
/// is replayed. Every store returns an `ETag` of an object; the library requires it only of Azure
/// and Google. A credential that may create objects need not have permission to read them; then the
/// report alone decides.
pub(super) fn confirm(name: &str, found: &Result<FoundObject, Error>) -> Result<(), Failure> {
    let contradiction =
        |found: &str| format!("the store reports that object `{name}` exists, but {found}");
    match found {
        Ok(FoundObject { e_tag: None, .. }) => {
            Err(store::not_a_store(&ObjectRequest::Check.failed(name)))
        }
        Ok(FoundObject { size: 0, .. }) => Err(Failure::Misconfigured {
            reason: contradiction("the object is empty"),
            hint: Some("delete the empty object, which is then written again".into()),
        }),
        Ok(_) | Err(Error::PermissionDenied { .. }) => Ok(()),
        Err(Error::NotFound { .. }) => Err(Failure::retry(contradiction("does not have it"))),
        Err(error) => Err(store::failure(ObjectRequest::Check, name, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of the library for a response to a request that creates an object.
    fn error(status: &str, body: &str) -> Error {
        let path = "a/b".to_owned();
        let source = format!(
            "Error performing PUT http://h/b/a/b in 1ms - Server returned non-2xx status code: {status}: {body}"
        );
        let source: Box<dyn std::error::Error + Send + Sync> = source.into();
        if status.starts_with("412") {
            // The library reports the condition as the cause.
            let source = Error::Precondition { path: path.clone(), source };
            return Error::AlreadyExists { path, source: Box::new(source) };
        }
        Error::AlreadyExists { path, source }
    }

    fn document(code: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>")
    }

    /// Regression: every response with HTTP 409 or 412 was an acknowledgement, so records were
    /// lost that the store, or a proxy before it, had refused.
    #[test]
    fn only_documented_codes_report_an_object() {
        let (exists, conflict) = ("412 Precondition Failed", "409 Conflict");
        for (status, code, expected) in [
            (exists, "PreconditionFailed", true),
            (exists, "ConditionNotMet", true),
            (conflict, "BlobAlreadyExists", true),
            (conflict, "PreconditionFailed", false),
            (exists, "BlobAlreadyExists", false),
            (exists, "LeaseIdMissing", false),
            (conflict, "ConditionalRequestConflict", false),
            (conflict, "OperationAborted", false),
            (conflict, "InvalidBucketState", false),
            (conflict, "ContainerBeingDeleted", false),
            (conflict, "ContainerDisabled", false),
            (conflict, "BlobImmutableDueToPolicy", false),
            (conflict, "PublicAccessNotPermitted", false),
        ] {
            assert_eq!(is_reported(&error(status, &document(code))), expected, "{status} {code}");
        }

        let json = "{\"error\":{\"errors\":[{\"reason\":\"conditionNotMet\"}]}}";
        assert!(is_reported(&error(exists, json)));
        for status in [exists, conflict] {
            for body in ["", "<html>PreconditionFailed</html>", "BlobAlreadyExists"] {
                assert!(!is_reported(&error(status, body)), "{status} {body}");
            }
        }

        let source = "Server returned non-2xx status code: 304 Not Modified: ".into();
        assert!(!is_reported(&Error::NotModified { path: String::new(), source }));
    }

    #[test]
    fn reported_objects_must_be_confirmed() {
        let missing = Error::NotFound { path: String::new(), source: "404".into() };
        let denied = Error::PermissionDenied { path: String::new(), source: "403".into() };
        for found in [Ok(found(1, "\"1\"")), Ok(found(9_000, "1")), Err(denied)] {
            assert_eq!(confirm("a/b", &found), Ok(()), "{found:?}");
        }

        let failure = confirm("a/b", &Err(missing)).unwrap_err();
        assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
        let failure = confirm("a/b", &Ok(found(0, "1"))).unwrap_err();
        assert!(matches!(failure, Failure::Misconfigured { hint: Some(_), .. }), "{failure:?}");
    }

    /// An object as its store describes it.
    fn found(size: u64, e_tag: &str) -> FoundObject {
        FoundObject { size, e_tag: (!e_tag.is_empty()).then(|| e_tag.to_owned()) }
    }

    /// Regression: any success with a length confirmed an object, such as that of a proxy, and the
    /// message about a failed check reported that the object could not be written.
    #[test]
    fn failed_checks_are_not_failed_writes() {
        for (found, expected) in [
            (Ok(found(9, "")), "the response has no headers of an object"),
            (Err(error("412 Precondition Failed", "")), "412 Precondition Failed"),
        ] {
            let failure = confirm("a/b", &found).unwrap_err();
            assert!(matches!(failure, Failure::Retry { hint: Some(_), .. }), "{failure:?}");
            let message = format!("cannot check whether the store has object `a/b`: {expected}");
            assert_eq!(failure.to_string(), message);
        }
    }

    /// Regression: a request that was too slow, and conflicts with other requests, parked the sink
    /// or counted as delivered.
    #[test]
    fn conflicts_are_classified_by_their_code() {
        let error = |status: &str, body: &str| {
            let message = format!("Server returned non-2xx status code: {status}: {body}");
            let source = format!("Error performing PUT u in 1ms - {message}").into();
            match &status[..3] {
                "409" => Error::AlreadyExists { path: String::new(), source },
                "412" => Error::Precondition { path: String::new(), source },
                "304" => Error::NotModified { path: String::new(), source },
                _ => Error::Generic { store: "S3", source },
            }
        };

        for (status, code, is_retried) in [
            ("409 Conflict", "ConditionalRequestConflict", true),
            ("409 Conflict", "OperationAborted", true),
            ("409 Conflict", "ContainerBeingDeleted", true),
            ("409 Conflict", "unknown", true),
            ("409 Conflict", "InvalidBucketState", false),
            ("409 Conflict", "ContainerDisabled", false),
            ("409 Conflict", "BlobImmutableDueToPolicy", false),
            ("409 Conflict", "PublicAccessNotPermitted", false),
            ("412 Precondition Failed", "LeaseIdMissing", true),
            ("400 Bad Request", "RequestTimeout", true),
            ("400 Bad Request", "IncompleteBody", true),
            ("400 Bad Request", "InvalidDigest", false),
        ] {
            let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
            let failure = store::failure(ObjectRequest::Write, "a/b", &error(status, &body));
            let found = matches!(failure, Failure::Retry { .. });
            assert_eq!((found, failure.needs_operator()), (is_retried, !is_retried), "{failure:?}");
            let message = format!("cannot write object `a/b`: {status}: {code}: m");
            assert_eq!(failure.to_string(), message);
        }

        for status in ["304 Not Modified", "409 Conflict", "412 Precondition Failed"] {
            for (body, expected) in [("<html>no</html>", ": <html>no</html>"), ("", "")] {
                let failure = store::failure(ObjectRequest::Write, "a/b", &error(status, body));
                assert!(matches!(failure, Failure::Retry { hint: Some(_), .. }), "{failure:?}");
                let message = format!("cannot write object `a/b`: {status}{expected}");
                assert_eq!(failure.to_string(), message);
            }
        }
    }
}
