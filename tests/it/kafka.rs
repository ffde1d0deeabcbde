//! Kafka, against a real broker.

use std::sync::OnceLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secure_score_forwarder::clock;
use serde_json::json;

use crate::support::{
    Workspace,
    broker::{Broker, broker},
    but_quality, counts,
    endpoint::{Endpoint, Request, entra_token},
    eventually,
    faults::{Fault, FaultyApi},
    hec::{Hec, TOKEN},
    ids, records,
    rsyslog::Rsyslog,
};

fn section(topic: &str) -> String {
    format!("type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"{topic}\"", broker().address)
}

#[test]
fn every_record_once_with_key_and_headers() {
    broker().create_topic("plain", 1 << 20);
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace.sink("lake", &section("plain"));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let consumed = broker().consume("plain");
    let expected = records(&file);
    assert_eq!(consumed.len(), expected.len());
    for message in &consumed {
        let record: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (tenant, kind, id) =
            (text(&record["tenant"]["id"]), text(&record["kind"]), text(&record["event_id"]));
        assert_eq!(message.key, format!("{tenant}/{kind}/{}", text(&record["control"]["id"])));
        assert_eq!(
            message.headers,
            [
                format!("event_id={id}"),
                format!("kind={kind}"),
                format!("tenant={tenant}"),
                "schema=secure-score-forwarder/1".to_owned()
            ]
        );
    }
}

/// Brokers that make whatever topic is asked for made it for the question.
#[test]
fn trying_a_cluster_makes_no_topic() {
    let own = Broker::start_with("auto.create.topics.enable=true");
    let mut workspace = Workspace::new();
    let section = section("tried").replace(&broker().address, &own.address);
    workspace.sink("lake", &section);
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.contains("topic `tried` does not exist: create it, if"), "{}", run.stdout);
    // What is asked for after it is made after it.
    own.ask_for_topic("asked-for");
    eventually("the broker makes topics", || own.has_topic("asked-for"));
    assert!(!own.has_topic("tried"));
}

#[test]
fn a_topic_that_does_not_exist_parks_the_sink() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.sink("lake", &section("nowhere"));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("topic `nowhere` does not exist: create it"), "{}", run.stderr);
    assert_eq!(workspace.status()["sinks"][0]["backlog_days"], 3);
    broker().create_topic("nowhere", 1 << 20);
    workspace.run_ok(&["once"]);
}

/// The topic takes small messages only: the others are dead letters, and all the rest arrives.
#[test]
fn a_record_that_the_broker_refuses_is_a_dead_letter() {
    broker().create_topic("small", 4_000);
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 1".to_owned();
    // Two controls grow beyond what the topic takes, whatever zstd makes of them.
    api.fail(
        "/secureScores",
        Fault::Change(|text| {
            let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
            for at in [3, 90] {
                let noise: String =
                    std::iter::repeat_with(fastrand::alphanumeric).take(6_000).collect();
                page["value"][0]["controlScores"][at]["implementationStatus"] = noise.into();
            }
            page.to_string()
        }),
    );
    workspace.sink("lake", &section("small"));
    let file = workspace.file_sink("local");
    let run = workspace.run(&["once"]);
    let status = workspace.status();
    assert_eq!(run.code, 0, "{} {status}", run.stderr);
    assert_eq!(status["sinks"][0]["rejected"], 2);
    assert_eq!(broker().consume("small").len(), but_quality(&file).len() - 2);
}

/// One tenant, four sinks, ninety days; and, run again, nothing.
#[test]
fn file_syslog_hec_and_kafka_together() {
    broker().create_topic("together", 1 << 20);
    let (rsyslog, hec) = (Rsyslog::new(), Hec::new());
    let mut workspace = Workspace::new();
    let file = workspace.file_sink("local");
    workspace
        .sink("siem", &format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"", rsyslog.tcp));
    let token = workspace.secret("hec-secret", TOKEN);
    workspace
        .sink("splunk", &format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", hec.url));
    workspace.sink("lake", &section("together"));
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let wanted = counts(ids(&expected));
    assert!(wanted.len() == expected.len() && expected.len() > 20_000);
    let arrived = || {
        let kafka = broker().consume("together");
        let payloads: Vec<serde_json::Value> =
            kafka.iter().map(|m| serde_json::from_slice(&m.payload).unwrap()).collect();
        (
            rsyslog.expect(expected.len()).len(),
            counts(hec.ids().iter().map(String::as_str)),
            counts(ids(&payloads)),
        )
    };
    assert_eq!(arrived(), (expected.len(), wanted.clone(), wanted.clone()));
    let again = workspace.run_ok(&["once"]);
    for sink in ["local", "siem", "splunk", "lake"] {
        assert!(
            again.stderr.contains(&format!("sink {sink}: 0 records delivered")),
            "{}",
            again.stderr
        );
    }
    assert_eq!(arrived(), (expected.len(), wanted.clone(), wanted));
}

/// A sink that signs in to Entra, which answers each request for a token by this rule.
fn with_token(topic: &str, rule: fn(&Request) -> Option<(u16, String)>) -> (Workspace, Endpoint) {
    let endpoint = Endpoint::new("");
    endpoint.rule(rule);
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let signing_in = workspace.entra_credential(&endpoint.url);
    workspace.sink(
        "lake",
        &format!(
            "type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"{topic}\"\n\
             sasl = {{ mechanism = \"oauthbearer\", resource = \"https://contoso.servicebus.windows.net\" }}\n{signing_in}",
            broker().entra
        ),
    );
    (workspace, endpoint)
}

/// A token for whoever `sub` is, good from now for so long.
fn token(sub: &str, seconds: i64) -> Option<(u16, String)> {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let now = clock::now().as_second();
    let claims = json!({ "sub": sub, "iat": now, "exp": now + seconds });
    Some(entra_token(&format!("{}.{}.", part(json!({ "alg": "none" })), part(claims))))
}

#[test]
fn a_token_of_entra_signs_in() {
    broker().create_topic("entra", 1 << 20);
    let (mut workspace, _entra) = with_token("entra", |request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let scope = "scope=https%3A%2F%2Fcontoso.servicebus.windows.net%2F.default";
        assert!(form.contains(scope), "{form}");
        token("forwarder", 3_600)
    });
    let file = workspace.file_sink("local");
    // Topics cannot be made this way.
    let run = workspace.run(&["once"]);
    let progress = "secure-score-forwarder.entra.lake.progress";
    let words = format!("topic `{progress}` does not exist: create it with cleanup.policy=compact");
    assert!(run.code == 1 && run.stderr.contains(&words), "{}", run.stderr);
    broker().create_topic(progress, 1 << 20);
    workspace.run_ok(&["once"]);
    let consumed = broker().consume("entra");
    assert_eq!(consumed.len(), records(&file).len());
    // What is committed is found again by a consumer that signs in too.
    std::fs::remove_dir_all(workspace.state()).unwrap();
    workspace.run_ok(&["once"]);
    assert_eq!(broker().consume("entra").len(), consumed.len());
}

#[test]
fn a_token_that_nobody_gives_or_takes_parks_the_sink() {
    let none = json!({ "error": "invalid_client", "error_codes": [7_000_215], "error_description": "AADSTS7000215: Invalid client secret provided." });
    static NONE: OnceLock<String> = OnceLock::new();
    NONE.get_or_init(|| none.to_string());
    for (rule, words) in [
        (
            (|_| Some((401, NONE.get()?.clone()))) as fn(&Request) -> _,
            "cannot get a token from Entra",
        ),
        (
            (|_| token("forwarder", -3_600)) as fn(&Request) -> _,
            "the cluster refuses the credential",
        ),
    ] {
        let (workspace, _entra) = with_token("elsewhere", rule);
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(words) && run.stderr.contains("parked"), "{}", run.stderr);
        assert_eq!(workspace.status()["sinks"][0]["backlog_days"], 5);
    }
}
