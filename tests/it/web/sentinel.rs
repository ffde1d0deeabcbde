//! The sink for Microsoft Sentinel, against an endpoint that behaves like the Logs Ingestion API.

use serde_json::{Value, json};

use super::{arrays, check_online, dead_letters, workspace};
use crate::support::{
    Workspace,
    endpoint::{Endpoint, entra_token},
    records,
};

/// A workspace with a sink for the Logs Ingestion API, whose endpoint also issues tokens.
fn sentinel(endpoint: &Endpoint) -> Workspace {
    let mut workspace = workspace("");
    let credential = workspace.entra_credential(&endpoint.url);
    workspace.clear_sinks().sink(
        "web",
        &format!(
            "type = \"sentinel\"\nurl = \"{}\"\nrule_id = \"dcr-0123456789abcdef\"\nstream = \"Custom-SecureScore_CL\"\n{credential}",
            endpoint.url
        ),
    );
    workspace
}

/// Makes the endpoint issue numbered tokens. `rule` receives the body of each request with the
/// newest token, and the number of that token.
fn serve_ingestion_api(
    endpoint: &Endpoint,
    mut rule: impl FnMut(&[u8], usize) -> Option<(u16, String)> + Send + 'static,
) {
    let mut tokens = 0;
    endpoint.rule(move |request| {
        if request.path == "/siem.example/oauth2/v2.0/token" {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            assert!(form.contains("scope=https%3A%2F%2Fmonitor.azure.com%2F.default"), "{form}");
            tokens += 1;
            return Some(entra_token(&format!("CANARY-5ecr3t-{tokens}")));
        }

        let stream = "/dataCollectionRules/dcr-0123456789abcdef/streams/Custom-SecureScore_CL";
        assert_eq!(request.path, stream);
        if request.headers["authorization"] != format!("Bearer CANARY-5ecr3t-{tokens}") {
            return Some((401, "token".to_owned()));
        }
        assert!(request.headers.contains_key("x-ms-client-request-id"));

        if request.body.len() > 1_048_576 {
            return Some((413, "{\"error\":{\"code\":\"ContentLengthLimitExceeded\"}}".to_owned()));
        }
        rule(&request.body, tokens)
    });
}

#[test]
fn sentinel_receives_arrays_with_a_token() {
    let endpoint = Endpoint::with_status(204, "");
    let mut requests = 0;
    serve_ingestion_api(&endpoint, move |_, tokens| {
        requests += 1;
        match requests {
            1 => Some((429, String::new())),
            // The first token is revoked before it expires.
            3 if tokens == 1 => Some((401, "expired".to_owned())),
            _ => None,
        }
    });
    let mut workspace = sentinel(&endpoint);
    let file = workspace.file_sink("local");

    workspace.run_ok(&["once"]);

    let expected = records(&file);
    let received: Vec<Value> = arrays(&endpoint)
        .into_iter()
        .map(|mut record| {
            let generated = record.as_object_mut().unwrap().remove("TimeGenerated").unwrap();
            assert_eq!(generated, record["observed_time"]);
            record
        })
        .collect();
    assert_eq!(received, expected);
}

#[test]
fn the_online_check_covers_role_and_stream() {
    let error = |code: &str| json!({ "error": { "code": code, "message": "no" } }).to_string();
    for (status, body, expected, text) in [
        (204, String::new(), true, "the ingestion API accepts it"),
        (400, error("InvalidPayload"), true, "InvalidPayload"),
        (400, error("InvalidStream"), false, "check `stream`"),
        (403, String::new(), false, "Monitoring Metrics Publisher"),
    ] {
        let endpoint = Endpoint::new("");
        serve_ingestion_api(&endpoint, move |_, _| Some((status, body.clone())));

        let (accepted, report) = check_online(&sentinel(&endpoint));
        assert!(accepted == expected && report.contains(text), "{status}: {report}");
        assert!(endpoint.accepted().is_empty());
    }
}

#[test]
fn sentinel_errors_name_the_missing_permission() {
    for (status, text) in [
        (403, "the role Monitoring Metrics Publisher on the data collection rule"),
        (404, "check `url`, `rule_id` and `stream`"),
    ] {
        let endpoint = Endpoint::new("");
        serve_ingestion_api(&endpoint, move |_, _| Some((status, "no".to_owned())));
        let run = sentinel(&endpoint).run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(text) && run.stderr.contains("parked"), "{}", run.stderr);
    }
}

/// Regression: each record became a dead letter, and `once` reported success.
#[test]
fn an_unknown_stream_parks_the_sink() {
    let endpoint = Endpoint::new("");
    let message = "Stream 'Custom-SecureScore_CL' not configured for DCR.";
    let body = json!({ "error": { "code": "InvalidStream", "message": message } }).to_string();
    serve_ingestion_api(&endpoint, move |_, _| Some((400, body.clone())));
    let mut workspace = sentinel(&endpoint);
    workspace.extra = "initial_backfill_days = 1".to_owned();

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    for text in ["parked", message, "check `stream`"] {
        assert!(run.stderr.contains(text), "{text}: {}", run.stderr);
    }
    assert_eq!(dead_letters(&workspace), 0);
}

/// Regression: a fault of the rule whose code is not known made each record a dead letter.
#[test]
fn one_reason_for_all_records_parks_the_sink() {
    for (code, message) in
        [("InvalidTransformQuery", "the transformation failed"), ("", "no"), ("BadRequest", "no")]
    {
        let endpoint = Endpoint::new("");
        let body = json!({ "error": { "code": code, "message": message } }).to_string();
        serve_ingestion_api(&endpoint, move |_, _| Some((400, body.clone())));
        let mut workspace = sentinel(&endpoint);
        workspace.extra = "initial_backfill_days = 1".to_owned();

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{code}: {}", run.stderr);
        for text in ["parked", message, "the transformation of the rule"] {
            assert!(run.stderr.contains(text), "{code}: {text}: {}", run.stderr);
        }
        assert_eq!(dead_letters(&workspace), 0, "{code}");
    }
}

#[test]
fn a_rejected_client_secret_parks_the_sink() {
    let endpoint = Endpoint::new("");
    endpoint.rule(|_| {
        Some((401, json!({ "error": "invalid_client", "error_codes": [7_000_215], "error_description": "AADSTS7000215: Invalid client secret provided." }).to_string()))
    });

    let run = sentinel(&endpoint).run(&["once"]);
    let text = &run.stderr;
    assert!(text.contains("cannot get a token from Entra") && text.contains("parked"), "{text}");
}

#[test]
fn rejects_an_unknown_credential() {
    let mut workspace = sentinel(&Endpoint::new(""));
    let text = workspace.configuration();
    workspace.literal = Some(text.replace("credential = \"siem\"", "credential = \"sime\""));

    let run = workspace.run(&["check"]);
    let text = &run.stderr;
    assert!(run.code == 2 && text.contains("unknown credential `sime`"), "{text}");
}
