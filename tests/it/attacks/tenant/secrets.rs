//! A server in the place of Microsoft that repeats the request in its error: the form of a token
//! request, or the token of a request to Graph. The secrets must not appear in any output or file.

use serde_json::json;

use crate::support::{
    CANARY, Workspace,
    endpoint::{Endpoint, Request, entra_token},
};

/// The body of an error in JSON, in which slashes may be escaped.
type Encoding = fn(serde_json::Value) -> String;

const ENCODINGS: [Encoding; 2] = [
    |json| json.to_string(),
    |json| json.to_string().replace('/', "\\/").replace("5e", "\\u0035e"),
];

/// Runs all commands that report a failed poll. The support code searches their output, and all
/// files, for secrets.
fn assert_redacted(rule: impl FnMut(&Request) -> Option<(u16, String)> + Send + 'static) {
    let endpoint = Endpoint::new("");
    endpoint.rule(rule);
    let mut workspace = Workspace::against(&endpoint.url);
    workspace.file_sink("local");

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("[redacted]"), "{}", run.stderr);
    assert!(!run.stderr.contains("5ecr3t"), "{}", run.stderr);

    let status = workspace.run(&["status", "--json"]).stdout;
    assert!(status.contains("[redacted]") && !status.contains("5ecr3t"), "{status}");
    workspace.run(&["status"]);
    workspace.run(&["check", "--online"]);
}

/// Regression: the description in the error of a token request was in the log and in `quality`
/// records, with the client secret that it quoted.
#[test]
fn token_endpoints_that_repeat_forms_disclose_nothing() {
    for encoding in ENCODINGS {
        assert_redacted(move |request| {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let fields = url::form_urlencoded::parse(&request.body);
            let secret: String = fields
                .filter(|(name, _)| name == "client_secret")
                .map(|(_, value)| value.into_owned())
                .collect();
            let description = format!("AADSTS7000215: the secret /{secret}/ in {form} is invalid");
            let error = json!({ "error": "invalid_client", "error_description": description });
            Some((401, encoding(error)))
        });
    }
}

/// Regression: the message of an error of Graph was in the log and in `status`, with the token that
/// it quoted.
#[test]
fn errors_of_graph_disclose_no_token() {
    for encoding in ENCODINGS {
        assert_redacted(move |request| {
            if request.path.ends_with("/oauth2/v2.0/token") {
                return Some(entra_token(&format!("{CANARY}-graph-token")));
            }
            let token = request.headers["authorization"].to_str().unwrap();
            let message = format!("the header `{token}` has no access to {}", request.path);
            let error = json!({ "code": "Authorization_RequestDenied", "message": message });
            Some((403, encoding(json!({ "error": error }))))
        });
    }
}
