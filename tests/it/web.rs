//! The sinks over HTTP: a webhook, Elasticsearch, OpenTelemetry; against servers and verifiers of
//! other people's making where there are any.

use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::{
    readers::{python, read_by},
    support::{
        Workspace, but_quality, counts,
        endpoint::{Endpoint, entra_token},
        ids, records,
        servers::OpenSearch,
    },
};

fn workspace(section: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace.sink("web", section);
    workspace
}

fn dead_letters(workspace: &Workspace) -> u64 {
    let status = workspace.status();
    let sinks = status["sinks"].as_array().unwrap().clone();
    sinks.iter().find(|sink| sink["name"] == "web").unwrap()["dead_letters"].as_u64().unwrap()
}

/// The records in requests that hold arrays of them.
fn arrays(endpoint: &Endpoint) -> Vec<Value> {
    endpoint
        .taken()
        .iter()
        .flat_map(|request| serde_json::from_slice::<Vec<Value>>(&request.body).unwrap())
        .collect()
}

#[test]
fn a_webhook_is_signed_and_a_verifier_agrees() {
    let endpoint = Endpoint::new("");
    let mut workspace = workspace("");
    let (new, old) = ("whsec_Q0FOQVJZLTVlY3IzdC1uZXc=", "CANARY-5ecr3t-old");
    let [new_secret, old_secret, key] =
        [("new-secret", new), ("old-secret", old), ("key-secret", "CANARY-5ecr3t-key")]
            .map(|(name, text)| workspace.secret(name, text));
    workspace.replace_sinks().sink(
        "web",
        &format!(
            "type = \"http\"\nurl = \"{}/hook?x=1\"\nsigning_secret = {new_secret}\nold_signing_secret = {old_secret}\nheaders = {{ X-Api-Key = {key} }}\nbatch_records = 100",
            endpoint.url
        ),
    );
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_eq!(arrays(&endpoint), records(&file));
    let script = "
import json, sys, base64
from standardwebhooks.webhooks import Webhook
for line in sys.stdin:
    request = json.loads(line)
    for secret in request['secrets']:
        Webhook(secret.encode() if not secret.startswith('whsec_') else secret).verify(request['body'], request['headers'])
    print(request['headers']['webhook-id'])
";
    let requests: Vec<String> = endpoint
        .taken()
        .iter()
        .map(|request| {
            assert_eq!((request.path.as_str(), &request.headers["x-api-key"]), ("/hook", &"CANARY-5ecr3t-key".parse().unwrap()));
            assert_eq!(request.headers["content-type"], "application/json");
            let header = |name: &str| request.headers[name].to_str().unwrap();
            let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
            let headers: Value = names.iter().map(|name| (*name, header(name))).collect::<std::collections::HashMap<_, _>>().into_iter().map(|(k, v)| (k.to_owned(), Value::from(v))).collect::<serde_json::Map<_, _>>().into();
            json!({ "headers": headers, "body": String::from_utf8_lossy(&request.body), "secrets": [new, old] }).to_string()
        })
        .collect();
    let ids = read_by(&mut python(script), &requests);
    assert!(ids.len() == requests.len() && ids.len() > 10);
    assert!(counts(ids.iter().map(String::as_str)).values().all(|count| *count == 1));
}

#[test]
fn a_webhook_that_fails_for_a_while_gets_everything_once_under_the_same_ids() {
    let endpoint = Endpoint::new("");
    endpoint.answer(429, "slow down").answer(503, "").answer(500, "<html>");
    let mut workspace = workspace(&format!("type = \"http\"\nurl = \"{}\"", endpoint.url));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_eq!(arrays(&endpoint), records(&file));
}

#[test]
fn a_webhook_isolates_what_it_will_not_take() {
    let endpoint = Endpoint::new("");
    endpoint.rule(|request| {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        if request.body.len() > 200 << 10 {
            return Some((413, "too large".to_owned()));
        }
        text.contains("\"id\":\"OneAdmin\"").then(|| (422, "no such control here".to_owned()))
    });
    let mut workspace = workspace(&format!("type = \"http\"\nurl = \"{}\"", endpoint.url));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let wanted: Vec<Value> =
        but_quality(&file).into_iter().filter(|r| r["control"]["id"] != "OneAdmin").collect();
    assert_eq!(arrays(&endpoint), wanted);
    assert_eq!(dead_letters(&workspace), 5);
    let status = workspace.status();
    assert!(status["dead_letters"][0]["reason"].as_str().unwrap().contains("no such control here"));
}

#[test]
fn a_webhook_that_is_gone_parks_the_sink() {
    for (status, words) in
        [(410, "gone for good"), (401, "HTTP 401: who are you"), (301, "HTTP 301")]
    {
        let endpoint = Endpoint::new("");
        endpoint.answer(status, "who are you");
        let workspace = workspace(&format!("type = \"http\"\nurl = \"{}\"", endpoint.url));
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(words), "{}", run.stderr);
        assert!(run.stderr.contains("parked"));
    }
}

#[test]
fn a_webhook_of_cloudevents_and_one_of_lines() {
    let endpoint = Endpoint::new("");
    let section =
        format!("type = \"http\"\nurl = \"{}/events\"\nformat = \"cloudevents\"", endpoint.url);
    let mut workspace = workspace(&section);
    workspace.sink(
        "lines",
        &format!(
            "type = \"http\"\nurl = \"{}/lines\"\nformat = \"csv\"\ngzip = false",
            endpoint.url
        ),
    );
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let (events, lines): (Vec<_>, Vec<_>) =
        endpoint.taken().into_iter().partition(|request| request.path == "/events");
    let mut got = Vec::new();
    for request in events {
        assert_eq!(request.headers["content-type"], "application/cloudevents-batch+json");
        let batch: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
        got.extend(batch.into_iter().map(|event| event["data"].clone()));
    }
    assert_eq!(got, expected);
    let rows: usize = lines
        .iter()
        .map(|request| {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            assert!(text.starts_with("kind,event_id,time,"));
            text.lines().count() - 1
        })
        .sum();
    assert_eq!(rows, expected.len());
}

#[test]
fn opensearch_has_every_document_once_whatever_is_sent_again() {
    let server = OpenSearch::shared();
    let mut workspace = workspace(&format!(
        "type = \"elasticsearch\"\nurl = \"{}\"\nindex = \"score-{{label.customer}}\"",
        server.url
    ));
    workspace.extra += "\nlabels = { customer = \"C 17\" }";
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let count = |server: &OpenSearch| server.fresh("/score-__17/_count")["count"].as_u64().unwrap();
    assert_eq!(count(server), expected.len() as u64);
    // Once more, all of it: 409 for each, which is as good.
    workspace.run_ok(&["replay", "--sink", "web", "--from", "2020-01-01"]);
    assert_eq!(count(server), expected.len() as u64);
    let last = expected.last().unwrap();
    let found = server.get(&format!("/score-__17/_doc/{}", last["event_id"].as_str().unwrap()));
    assert_eq!(found["_source"]["event"]["id"], last["event_id"]);
    assert_eq!(found["_source"]["organization"]["name"], "contoso");
    assert_eq!(dead_letters(&workspace), 0);
}

/// A cluster that answers for each item as a rule says; keeps what it answers 201.
fn bulk(
    endpoint: &Endpoint,
    rule: impl Fn(&str, usize) -> u16 + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let stored = Arc::<Mutex<Vec<String>>>::default();
    let keep = Arc::clone(&stored);
    let mut requests = 0;
    endpoint.rule(move |request| {
        assert_eq!(request.path, "/_bulk");
        requests += 1;
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let mut errors = false;
        let items: Vec<Value> = lines
            .chunks(2)
            .map(|pair| {
                let action: Value = serde_json::from_str(pair[0]).unwrap();
                let id = action["create"]["_id"].as_str().unwrap().to_owned();
                let mut keep = keep.lock().unwrap();
                let status = if keep.contains(&id) { 409 } else { rule(pair[1], requests) };
                if status == 201 {
                    keep.push(id);
                }
                errors |= status != 201;
                json!({ "create": { "status": status, "error": { "type": "mapper_parsing_exception", "reason": "failed to parse" } } })
            })
            .collect();
        Some((200, json!({ "errors": errors, "items": items }).to_string()))
    });
    stored
}

#[test]
fn each_document_has_its_own_answer() {
    let endpoint = Endpoint::new("");
    // Busy in the middle of the first requests, and one control that the mapping refuses.
    let stored = bulk(&endpoint, |document, request| {
        let is = |id: &str| document.contains(&format!("\"rule\":{{\"id\":\"{id}\""));
        if is("OneAdmin") {
            400
        } else if request < 3 && is("aad_mfa_all") {
            429
        } else {
            201
        }
    });
    let mut workspace = workspace(&format!("type = \"elasticsearch\"\nurl = \"{}\"", endpoint.url));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = but_quality(&file);
    let refused = expected.iter().filter(|r| r["control"]["id"] == "OneAdmin").count();
    assert_eq!(stored.lock().unwrap().len(), expected.len() - refused);
    assert_eq!(dead_letters(&workspace), refused as u64);
}

#[test]
fn a_missing_index_or_right_parks_the_sink() {
    for (status, words) in
        [(404, "create the index or its template"), (403, "allow this user or key")]
    {
        let endpoint = Endpoint::new("");
        bulk(&endpoint, move |_, _| status);
        let mut workspace = workspace("");
        let key = workspace.secret("key-secret", "CANARY-5ecr3t-key");
        workspace.replace_sinks().sink(
            "web",
            &format!("type = \"elasticsearch\"\nurl = \"{}\"\napi_key = {key}", endpoint.url),
        );
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(words) && run.stderr.contains("parked"), "{}", run.stderr);
    }
}

#[test]
fn opentelemetry_reads_every_log_record() {
    let endpoint = Endpoint::new("{}");
    endpoint.answer(503, "").answer(429, "");
    let mut workspace = workspace(&format!("type = \"otlp\"\nurl = \"{}\"", endpoint.url));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let script = "
import json, sys
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
for line in sys.stdin:
    request = Parse(line, ExportLogsServiceRequest())
    for log in request.resource_logs[0].scope_logs[0].log_records:
        attributes = {a.key: a.value.string_value for a in log.attributes}
        print(json.dumps([log.time_unix_nano, log.observed_time_unix_nano, log.severity_number, log.event_name, attributes['event_id'], json.loads(log.body.string_value)]))
";
    let requests: Vec<String> = endpoint
        .taken()
        .iter()
        .map(|request| {
            assert_eq!(request.path, "/v1/logs");
            String::from_utf8(request.body.clone()).unwrap()
        })
        .collect();
    let read = read_by(&mut python(script), &requests);
    let expected = records(&file);
    assert_eq!(read.len(), expected.len());
    for (line, record) in read.iter().zip(&expected) {
        let log: Value = serde_json::from_str(line).unwrap();
        let nanos = |text: &Value| {
            text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_nanosecond() as u64
        };
        assert_eq!(log[0], nanos(&record["time"]));
        assert_eq!(
            log[1].as_u64().unwrap() / 1_000_000,
            nanos(&record["observed_time"]) / 1_000_000
        );
        assert_eq!(log[4], record["event_id"]);
        assert_eq!(&log[5], record);
    }
}

/// Nobody says which records were rejected: they are found out, and the rest goes on.
#[test]
fn what_opentelemetry_rejects_in_part_is_a_dead_letter() {
    let endpoint = Endpoint::new("{}");
    let rejected = "\\\"id\\\":\\\"OneAdmin\\\"";
    endpoint.rule(move |request| {
        let count = String::from_utf8_lossy(&request.body).matches(rejected).count();
        (count > 0).then(|| {
            let answer = json!({ "partialSuccess": { "rejectedLogRecords": count.to_string(), "errorMessage": "no" } });
            (200, answer.to_string())
        })
    });
    let mut workspace = workspace(&format!("type = \"otlp\"\nurl = \"{}\"", endpoint.url));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let refused = records(&file).iter().filter(|r| r["control"]["id"] == "OneAdmin").count();
    assert_eq!(dead_letters(&workspace), refused as u64);
    assert!(ids(&records(&file)).count() > refused);
}

/// What `check --online` says of the sink, and whether it is content.
fn greeted(workspace: &Workspace) -> (bool, String) {
    let run = workspace.run(&["check", "--online"]);
    let said = run.stdout.lines().find_map(|line| line.strip_prefix("sink web: "));
    (run.code == 0, said.unwrap_or_else(|| panic!("{}", run.stderr)).to_owned())
}

/// Whoever stands in between and answers in the receiver's place is no welcome.
#[test]
fn a_receiver_is_told_from_what_stands_in_front_of_it() {
    let clusters =
        r#"{"error":{"type":"parse_exception","reason":"request body is required"},"status":400}"#;
    for (kind, status, body, welcome) in [
        ("http", 200, "", true),
        ("http", 405, "", true),
        ("http", 401, "who are you?", false),
        ("http", 407, "", false),
        ("http", 410, "", false),
        ("http", 502, "", false),
        ("elasticsearch", 400, clusters, true),
        ("elasticsearch", 400, "<html>Bad Request</html>", false),
        ("elasticsearch", 401, clusters, false),
        ("elasticsearch", 503, "", false),
    ] {
        let endpoint = Endpoint::new("");
        endpoint.answer(status, body);
        let workspace = workspace(&format!("type = \"{kind}\"\nurl = \"{}\"", endpoint.url));
        let (content, said) = greeted(&workspace);
        assert_eq!(content, welcome, "{kind} {status} {body}: {said}");
    }
}

/// A workspace with a sink for the Logs Ingestion API, whose endpoint gives tokens too.
fn sentinel(endpoint: &Endpoint) -> Workspace {
    let mut workspace = workspace("");
    let signing_in = workspace.entra_credential(&endpoint.url);
    workspace.replace_sinks().sink(
        "web",
        &format!(
            "type = \"sentinel\"\nurl = \"{}\"\nrule_id = \"dcr-0123456789abcdef\"\nstream = \"Custom-SecureScore_CL\"\n{signing_in}",
            endpoint.url
        ),
    );
    workspace
}

/// Gives tokens, numbered; `rule` answers what comes with the newest of them.
fn entra(
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
        assert_eq!(
            request.path,
            "/dataCollectionRules/dcr-0123456789abcdef/streams/Custom-SecureScore_CL"
        );
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
fn sentinel_gets_arrays_with_a_token_of_its_own() {
    let endpoint = Endpoint::new("");
    let mut requests = 0;
    entra(&endpoint, move |_, tokens| {
        requests += 1;
        match requests {
            1 => Some((429, String::new())),
            // Taken back before its time.
            3 if tokens == 1 => Some((401, "expired".to_owned())),
            _ => None,
        }
    });
    let mut workspace = sentinel(&endpoint);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let got: Vec<Value> = arrays(&endpoint)
        .into_iter()
        .map(|mut record| {
            let generated = record.as_object_mut().unwrap().remove("TimeGenerated").unwrap();
            assert_eq!(generated, record["observed_time"]);
            record
        })
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn sentinel_is_asked_whether_it_would_take_a_record() {
    let error = |code: &str| json!({ "error": { "code": code, "message": "no" } }).to_string();
    for (status, body, welcome, words) in [
        (204, String::new(), true, "lets us in"),
        (400, error("InvalidPayload"), true, "InvalidPayload"),
        (400, error("InvalidStream"), false, "check `stream`"),
        (403, String::new(), false, "Monitoring Metrics Publisher"),
    ] {
        let endpoint = Endpoint::new("");
        entra(&endpoint, move |_, _| Some((status, body.clone())));
        let (content, said) = greeted(&sentinel(&endpoint));
        assert!(content == welcome && said.contains(words), "{status}: {said}");
        assert!(endpoint.taken().is_empty());
    }
}

#[test]
fn sentinel_says_what_is_missing() {
    for (status, words) in [
        (403, "the role Monitoring Metrics Publisher on the data collection rule"),
        (404, "check `url`, `rule_id` and `stream`"),
    ] {
        let endpoint = Endpoint::new("");
        entra(&endpoint, move |_, _| Some((status, "no".to_owned())));
        let run = sentinel(&endpoint).run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(words) && run.stderr.contains("parked"), "{}", run.stderr);
    }
    let endpoint = Endpoint::new("");
    endpoint.rule(|_| {
        Some((401, json!({ "error": "invalid_client", "error_codes": [7_000_215], "error_description": "AADSTS7000215: Invalid client secret provided." }).to_string()))
    });
    let run = sentinel(&endpoint).run(&["once"]);
    assert!(
        run.stderr.contains("cannot get a token from Entra") && run.stderr.contains("parked"),
        "{}",
        run.stderr
    );
    let workspace = sentinel(&endpoint);
    let text = workspace.configuration().replace("credential = \"siem\"", "credential = \"sime\"");
    crate::support::fs(workspace.path("other.toml"), &text);
    let other = workspace.path("other.toml").display().to_string();
    let run = crate::support::Run::of(
        Command::new(env!("CARGO_BIN_EXE_secure-score-forwarder"))
            .args(["check", "--config", &other])
            .output()
            .unwrap(),
    );
    assert!(
        run.code == 2 && run.stderr.contains("there is no [credentials.sime]"),
        "{}",
        run.stderr
    );
}
