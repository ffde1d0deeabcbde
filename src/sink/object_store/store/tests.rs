//! Tests of how errors of the client of an object store become failures of the sink.

use super::*;

#[test]
fn the_error_of_a_probe_is_classified() {
    let error = |status: u16, code: &str| {
        let message = format!(
            "Server returned non-2xx status code: {status} Word: <Error><Code>{code}</Code></Error>"
        );
        let (path, source) =
            (String::new(), format!("Error performing GET u in 1ms - {message}").into());
        match status {
            404 => Error::NotFound { path, source },
            401 => Error::Unauthenticated { path, source },
            409 => Error::AlreadyExists { path, source },
            403 => Error::PermissionDenied { path, source },
            _ => Error::Generic { store: "S3", source },
        }
    };

    for (status, code, expected) in [
        (404, "NoSuchKey", "ok"),
        (404, "BlobNotFound", "ok"),
        (404, "NoSuchBucket", "config"),
        (404, "ContainerNotFound", "config"),
        (404, "", "config"),
        (403, "AccessDenied", "ok"),
        (403, "AuthorizationPermissionMismatch", "ok"),
        (403, "InvalidAccessKeyId", "config"),
        (403, "SignatureDoesNotMatch", "config"),
        (403, "AuthorizationFailure", "config"),
        (401, "InvalidAuthenticationInfo", "config"),
        (400, "AuthorizationHeaderMalformed", "config"),
        (503, "SlowDown", "retry"),
        (400, "RequestTimeout", "retry"),
        (409, "OperationAborted", "retry"),
        (409, "ContainerDisabled", "config"),
    ] {
        let found = match probe_result(&error(status, code)) {
            Ok(_) => "ok",
            Err(Failure::Retry { .. }) => "retry",
            Err(_) => "config",
        };
        assert_eq!(found, expected, "{status} {code}");
    }
}

/// Regression: the error of the client was the whole message, without a hint.
#[test]
fn responses_without_an_object_have_a_hint() {
    let source = "Unable to extract metadata from headers: ETag Header missing from response";
    let error = Error::Generic { store: "S3", source: source.into() };
    let of_object = |request| failure(request, "a/b", &error);
    for failure in [
        of_object(ObjectRequest::Write),
        of_object(ObjectRequest::Check),
        probe_result(&error).unwrap_err(),
    ] {
        assert!(matches!(&failure, Failure::Retry { hint: Some(_), .. }), "{failure}");
        assert!(failure.to_string().ends_with(": the response has no headers of an object"));
    }
}

/// Regression: a firewall that denied an object because of its text parked the sink for all
/// tenants.
#[test]
fn only_a_store_can_deny_an_object() {
    let code = "<Error><Code>NoSuchBucket</Code><Message>m</Message></Error>";
    for (status, body, expected) in [
        ("404 Not Found", code, "config"),
        ("403 Forbidden", code, "config"),
        ("401 Unauthorized", code, "config"),
        ("400 Bad Request", code, "config"),
        ("404 Not Found", "<html>no</html>", "denied"),
        ("403 Forbidden", "blocked", "denied"),
        ("401 Unauthorized", "", "denied"),
        ("405 Method Not Allowed", "", "denied"),
        ("302 Found", "", "denied"),
        ("503 Service Unavailable", "", "retry"),
    ] {
        let message = format!("Server returned non-2xx status code: {status}: {body}");
        let (path, source) =
            (String::new(), format!("Error performing PUT u in 1ms - {message}").into());
        let error = match &status[..3] {
            "404" => Error::NotFound { path, source },
            "401" => Error::Unauthenticated { path, source },
            "403" => Error::PermissionDenied { path, source },
            _ => Error::Generic { store: "S3", source },
        };

        let failure = failure(ObjectRequest::Write, "a/b", &error);
        let found = match &failure {
            Failure::Misconfigured { .. } => "config",
            Failure::Denied { .. } => "denied",
            Failure::Retry { .. } => "retry",
            _ => "other",
        };
        assert_eq!(found, expected, "{status} {body}");
        assert!(failure.to_string().starts_with("cannot write object `a/b`: "), "{failure}");
    }

    // No response of a store has caused a failure to get a token.
    let source = "cannot get a token from Entra: no".into();
    let error = Error::Unauthenticated { path: String::new(), source };
    assert!(matches!(failure(ObjectRequest::Write, "a/b", &error), Failure::Misconfigured { .. }));
}

#[test]
fn redirects_have_a_hint() {
    for (summary, expected) in [
        ("307 Temporary Redirect:", true),
        ("301 Moved Permanently:", true),
        ("403 Forbidden: AccessDenied: no", false),
        ("3", false),
        ("Generic GCS error: no ETag", false),
    ] {
        assert_eq!(redirect_hint(summary).is_some(), expected, "{summary}");
    }
}

#[test]
fn summary_keeps_only_the_error_of_the_server() {
    for (message, expected, rejected) in [
        (
            "Generic S3 error: Error performing PUT http://h/b/k in 5ms - Server returned non-2xx status code: 400 Bad Request: <?xml?>\n<Error>\n  <Code>AuthorizationHeaderMalformed</Code>\n  <Message>the region is wrong\nRequestId:1</Message></Error>",
            "400 Bad Request: AuthorizationHeaderMalformed: the region is wrong",
            true,
        ),
        (
            "Generic GCS error: Error performing PUT http://h/b/k in 5ms - Server returned non-2xx status code: 503 Service Unavailable: \nslow\ndown",
            "503 Service Unavailable: slow down",
            false,
        ),
        (
            "Generic S3 error: Error performing PUT http://h/b/k in 5ms - HTTP error: error sending request: Connection refused",
            "HTTP error: error sending request: Connection refused",
            false,
        ),
        ("Generic GCS error: no ETag", "Generic GCS error: no ETag", false),
    ] {
        let found = summary(message);
        assert_eq!((found.as_str(), is_rejection(&found)), (expected, rejected));
    }
}
