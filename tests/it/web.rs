//! The sinks over HTTP: webhooks, Elasticsearch, OpenTelemetry and Microsoft Sentinel, against
//! third-party servers and verifiers where they exist.

mod sentinel;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::{
    readers::{python, read_by},
    support::{
        Workspace, counts, endpoint::Endpoint, records, servers::OpenSearch, without_observations,
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

/// The records of requests whose bodies are arrays of records.
fn arrays(endpoint: &Endpoint) -> Vec<Value> {
    let bodies = endpoint.accepted().into_iter().map(|request| request.body);
    bodies.flat_map(|body| serde_json::from_slice::<Vec<Value>>(&body).unwrap()).collect()
}

#[test]
fn a_verifier_accepts_the_signature_of_a_webhook() {
    let endpoint = Endpoint::new("");
    let mut workspace = workspace("");
    let (new, old) = ("whsec_Q0FOQVJZLTVlY3IzdC1uZXctc2lnbmlu", "CANARY-5ecr3t-old-signing-secret");
    let [new_secret, old_secret, key] =
        [("new-secret", new), ("old-secret", old), ("key-secret", "CANARY-5ecr3t-key")]
            .map(|(name, text)| workspace.secret(name, text));
    workspace.clear_sinks().sink(
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
        .accepted()
        .iter()
        .map(|request| {
            assert_eq!((request.path.as_str(), &request.headers["x-api-key"]), ("/hook", &"CANARY-5ecr3t-key".parse().unwrap()));
            assert_eq!(request.headers["content-type"], "application/json");
            let header = |name: &str| request.headers[name].to_str().unwrap();
            let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
            let headers: serde_json::Map<_, _> =
                names.iter().map(|name| ((*name).to_owned(), Value::from(header(name)))).collect();
            json!({ "headers": headers, "body": String::from_utf8_lossy(&request.body), "secrets": [new, old] }).to_string()
        })
        .collect();

    let ids = read_by(&mut python(script), &requests);
    assert!(ids.len() == requests.len() && ids.len() > 10);
    assert!(counts(ids.iter().map(String::as_str)).values().all(|count| *count == 1));
}

#[test]
fn a_webhook_is_retried_after_a_failure() {
    let endpoint = Endpoint::new("");
    endpoint.respond_once(429, "slow down").respond_once(503, "").respond_once(500, "<html>");
    let mut workspace = workspace(&format!("type = \"http\"\nurl = \"{}\"", endpoint.url));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_eq!(arrays(&endpoint), records(&file));
}

#[test]
fn isolates_a_record_that_a_webhook_rejects() {
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
    assert_eq!(workspace.run(&["once"]).code, 1, "dead letters make a run incomplete");

    let mut expected = without_observations(&file);
    expected.retain(|record| record["control"]["id"] != "OneAdmin");
    assert_eq!(arrays(&endpoint), expected);
    assert_eq!(dead_letters(&workspace), 5);
    let status = workspace.status();
    assert!(status["dead_letters"][0]["reason"].as_str().unwrap().contains("no such control here"));
}

#[test]
fn a_webhook_that_rejects_requests_parks_the_sink() {
    for (status, text) in
        [(410, "removed permanently"), (401, "HTTP 401: who are you"), (301, "HTTP 301")]
    {
        let endpoint = Endpoint::new("");
        endpoint.respond_once(status, "who are you");
        let workspace = workspace(&format!("type = \"http\"\nurl = \"{}\"", endpoint.url));
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(text), "{}", run.stderr);
        assert!(run.stderr.contains("parked"));
    }
}

#[test]
fn webhooks_receive_cloudevents_and_csv() {
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
        endpoint.accepted().into_iter().partition(|request| request.path == "/events");

    let mut received = Vec::new();
    for request in events {
        assert_eq!(request.headers["content-type"], "application/cloudevents-batch+json");
        let batch: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
        received.extend(batch.into_iter().map(|event| event["data"].clone()));
    }
    assert_eq!(received, expected);

    let mut rows = 0;
    for request in lines {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        assert!(text.starts_with("kind,event_id,time,"));
        rows += text.lines().count() - 1;
    }
    assert_eq!(rows, expected.len());
}

#[test]
fn opensearch_stores_every_document_once() {
    let server = OpenSearch::shared();
    let mut workspace = workspace(&format!(
        "type = \"elasticsearch\"\nurl = \"{}\"\nindex = \"score-{{label.customer}}\"",
        server.url
    ));
    workspace.extra += "\nlabels = { customer = \"c-17\" }";
    let file = workspace.file_sink("local");

    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let count = |server: &OpenSearch| server.fresh("/score-c-17/_count")["count"].as_u64().unwrap();
    assert_eq!(count(server), expected.len() as u64);

    // A replay of all records returns 409 for each, which also acknowledges it.
    workspace.run_ok(&["replay", "--sink", "web", "--from", "2020-01-01"]);
    assert_eq!(count(server), expected.len() as u64);

    let last = expected.last().unwrap();
    let found = server.get(&format!("/score-c-17/_doc/{}", last["event_id"].as_str().unwrap()));
    assert_eq!(found["_source"]["event"]["id"], last["event_id"]);
    assert_eq!(found["_source"]["organization"]["name"], "contoso");
    assert_eq!(dead_letters(&workspace), 0);
}

/// Makes the endpoint respond like a cluster. `rule` returns the status of a document; its second
/// argument is the number of the request. Returns the IDs of the documents with status 201.
fn bulk(
    endpoint: &Endpoint,
    rule: impl Fn(&str, usize) -> u16 + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let stored = Arc::<Mutex<Vec<String>>>::default();
    let shared = Arc::clone(&stored);
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
                let mut stored = shared.lock().unwrap();
                let status = if stored.contains(&id) { 409 } else { rule(pair[1], requests) };
                if status == 201 {
                    stored.push(id);
                }
                errors |= status != 201;
                let kind = match status {
                    201 => return json!({ "create": { "status": 201 } }),
                    409 => "version_conflict_engine_exception",
                    _ => "mapper_parsing_exception",
                };
                let error = json!({ "type": kind, "reason": "failed to parse" });
                json!({ "create": { "status": status, "error": error } })
            })
            .collect();

        Some((200, json!({ "errors": errors, "items": items }).to_string()))
    });
    stored
}

#[test]
fn each_document_has_a_separate_result() {
    let endpoint = Endpoint::new("");
    // The cluster is busy for one control in the first requests, and rejects another control.
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
    assert_eq!(workspace.run(&["once"]).code, 1, "dead letters make a run incomplete");

    let expected = without_observations(&file);
    let rejected = expected.iter().filter(|r| r["control"]["id"] == "OneAdmin").count();
    assert_eq!(stored.lock().unwrap().len(), expected.len() - rejected);
    assert_eq!(dead_letters(&workspace), rejected as u64);
}

#[test]
fn a_missing_index_or_permission_parks_the_sink() {
    for (status, text) in
        [(404, "create the index or its template"), (403, "allow this user or API key")]
    {
        let endpoint = Endpoint::new("");
        bulk(&endpoint, move |_, _| status);
        let mut workspace = workspace("");
        let key = workspace.secret("key-secret", "CANARY-5ecr3t-key");
        workspace.clear_sinks().sink(
            "web",
            &format!("type = \"elasticsearch\"\nurl = \"{}\"\napi_key = {key}", endpoint.url),
        );

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(text) && run.stderr.contains("parked"), "{}", run.stderr);
    }
}

#[test]
fn opentelemetry_parses_every_log_record() {
    let endpoint = Endpoint::new("{}");
    endpoint.respond_once(503, "").respond_once(429, "");
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
        .accepted()
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

/// The response does not name the rejected records, so the sink has to isolate them.
#[test]
fn isolates_records_that_opentelemetry_rejects() {
    let endpoint = Endpoint::new("{}");
    let rejected = "\\\"id\\\":\\\"OneAdmin\\\"";
    endpoint.rule(move |request| {
        let count = String::from_utf8_lossy(&request.body).matches(rejected).count();
        (count > 0).then(|| {
            let body = json!({ "partialSuccess": { "rejectedLogRecords": count.to_string(), "errorMessage": "no" } });
            (200, body.to_string())
        })
    });
    let mut workspace = workspace(&format!("type = \"otlp\"\nurl = \"{}\"", endpoint.url));
    let file = workspace.file_sink("local");
    assert_eq!(workspace.run(&["once"]).code, 1, "dead letters make a run incomplete");

    let all = records(&file);
    let expected = all.iter().filter(|r| r["control"]["id"] == "OneAdmin").count();
    assert_eq!(dead_letters(&workspace), expected as u64);
    assert!(all.len() > expected);
}

/// Regression: with a mapping that no document matched, each document became a dead letter. The
/// reason of a real cluster contains a position in the document.
#[test]
fn one_error_for_all_documents_parks_the_sink() {
    for (kind, reason) in [
        ("strict_dynamic_mapping_exception", "mapping set to strict"),
        ("document_parsing_exception", "object mapping for [event] found a concrete value"),
        ("illegal_argument_exception", "Limit of total fields [5] has been exceeded"),
        ("illegal_argument_exception", "data stream timestamp field [@timestamp] is missing"),
    ] {
        let endpoint = Endpoint::new("");
        endpoint.rule(move |request| {
            let documents = request.body.split(|byte| *byte == b'\n').count() / 2;
            let items = (0..documents).map(|at| {
                let error = json!({ "type": kind, "reason": format!("[1:{at}] {reason}") });
                json!({ "create": { "status": 400, "error": error } })
            });
            let items: Vec<Value> = items.collect();
            Some((200, json!({ "errors": true, "items": items }).to_string()))
        });
        let url = &endpoint.url;
        let workspace = workspace(&format!(
            "type = \"elasticsearch\"\nurl = \"{url}\"\nrecords = [\"summary\"]"
        ));

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{reason}");
        for part in ["parked", reason, "correct the mapping of the index"] {
            assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
        }
        assert_eq!(dead_letters(&workspace), 0, "{reason}");
    }
}

/// Regression: with a stream that did not exist, each record of a small batch became a dead letter.
#[test]
fn one_reason_for_all_records_parks_the_sink() {
    let error = "{\"error\":\"unknown stream\"}";
    let partial = "{\"partialSuccess\":{\"rejectedLogRecords\":\"COUNT\",\"errorMessage\":\"unknown stream\"}}";
    for (kind, status, reply) in
        [("http", 400, error), ("http", 422, error), ("otlp", 400, error), ("otlp", 200, partial)]
    {
        let endpoint = Endpoint::new("");
        endpoint.rule(move |request| {
            let count = String::from_utf8_lossy(&request.body).matches("\"timeUnixNano\"").count();
            Some((status, reply.replace("COUNT", &count.to_string())))
        });
        let url = &endpoint.url;
        let workspace =
            workspace(&format!("type = \"{kind}\"\nurl = \"{url}\"\nrecords = [\"summary\"]"));

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{kind} {status}");
        assert!(run.stderr.contains("unknown stream"), "{kind} {status}: {}", run.stderr);
        assert!(run.stderr.contains("parked"), "{kind} {status}: {}", run.stderr);
        assert_eq!(dead_letters(&workspace), 0, "{kind} {status}");
    }
}

/// Whether `check --online` succeeds, and what it reports about the sink.
fn check_online(workspace: &Workspace) -> (bool, String) {
    let run = workspace.run(&["check", "--online"]);
    let report = run.stdout.split_once("sink `web`: ").map(|(_, report)| report);
    (run.code == 0, report.unwrap_or_else(|| panic!("{}", run.stderr)).to_owned())
}

/// A proxy in front of a receiver may respond in its place.
#[test]
fn the_online_check_recognizes_the_receiver() {
    let from_cluster =
        r#"{"error":{"type":"parse_exception","reason":"request body is required"},"status":400}"#;
    for (kind, status, body, expected) in [
        ("http", 200, "", true),
        ("http", 405, "", true),
        ("http", 401, "who are you?", false),
        ("http", 407, "", false),
        ("http", 410, "", false),
        ("http", 502, "", false),
        ("otlp", 200, "{}", true),
        ("otlp", 200, "", false),
        ("otlp", 200, "<html>Sign in</html>", false),
        ("elasticsearch", 200, "<html>Sign in</html>", false),
        ("elasticsearch", 400, from_cluster, true),
        ("elasticsearch", 400, "<html>Bad Request</html>", false),
        ("elasticsearch", 401, from_cluster, false),
        ("elasticsearch", 503, "", false),
    ] {
        let endpoint = Endpoint::new("");
        endpoint.respond_once(status, body);
        let workspace = workspace(&format!("type = \"{kind}\"\nurl = \"{}\"", endpoint.url));

        let (accepted, report) = check_online(&workspace);
        assert_eq!(accepted, expected, "{kind} {status} {body}: {report}");
    }
}

/// Regression: a page of a proxy was an acknowledgement, or parked the sink.
#[test]
fn the_page_of_a_proxy_is_an_outage() {
    let page = "<!DOCTYPE html><title>Sign in</title>";
    for kind in ["otlp", "elasticsearch", "http"] {
        let endpoint = Endpoint::new("");
        let mut requests = 0;
        endpoint.rule(move |request| {
            requests += 1;
            let items = request.body.split(|byte| *byte == b'\n').count() / 2;
            let item = json!({ "create": { "status": 201 } });
            let body = json!({ "errors": false, "items": vec![item; items] }).to_string();

            match kind {
                _ if requests < 3 => Some((200, page.to_owned())),
                "elasticsearch" => Some((200, body)),
                _ => Some((200, "{}".to_owned())),
            }
        });
        let workspace = workspace(&format!("type = \"{kind}\"\nurl = \"{}\"", endpoint.url));
        workspace.run_ok(&["once"]);
        assert_eq!(dead_letters(&workspace), 0, "{kind}");
    }
}
