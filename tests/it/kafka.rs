//! The Kafka sink, against a real broker.

use std::sync::OnceLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secure_score_forwarder::clock;
use serde_json::json;

use crate::support::{
    OTHER, TENANT, Workspace,
    broker::{Broker, broker},
    counts,
    endpoint::{Endpoint, Request, entra_token},
    eventually,
    faults::{Fault, FaultyApi},
    hec::{Hec, TOKEN},
    ids, records,
    rsyslog::Rsyslog,
    without_observations,
};

fn section(topic: &str) -> String {
    format!("type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"{topic}\"", broker().address)
}

#[test]
fn every_record_has_its_key_and_headers() {
    broker().create_topic("plain", 1 << 20);
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace.sink("lake", &section("plain"));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    let expected = records(&file);
    let consumed = broker().consume_at_least("plain", expected.len());
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

/// Regression: a broker that creates topics automatically created one when `check --online`
/// requested its metadata.
#[test]
fn the_online_check_creates_no_topic() {
    let auto_creating = Broker::start_with("auto.create.topics.enable=true");
    let mut workspace = Workspace::new();
    let section = section("probed").replace(&broker().address, &auto_creating.address);
    workspace.sink("lake", &section);

    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    let explanation = "topic `probed` does not exist\n  hint: create the topic, unless";
    assert!(run.stdout.contains(explanation), "{}", run.stdout);

    // The broker creates topics in the order in which they are requested.
    auto_creating.request_metadata("requested");
    eventually("the broker creates topics", || auto_creating.has_topic("requested"));
    assert!(!auto_creating.has_topic("probed"));
}

#[test]
fn a_missing_topic_parks_the_sink() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.sink("lake", &section("nowhere"));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    for text in ["topic `nowhere` does not exist", "create the topic"] {
        assert!(run.stderr.contains(text), "{}", run.stderr);
    }
    assert_eq!(workspace.status()["sinks"][0]["backlog_entries"], 3);

    broker().create_topic("nowhere", 1 << 20);
    workspace.run_ok(&["once"]);
}

/// Regression: a missing topic of one tenant parked the sink for all, and the records for the other
/// topics were produced again with every attempt.
#[test]
fn a_missing_topic_parks_only_its_tenants() {
    for (mode, exactly_once) in [("exactly", ""), ("atleast", "\nexactly_once = false")] {
        let topic_of = |tenant: &str| format!("{mode}-{tenant}");
        broker().create_topic(&topic_of("contoso"), 1 << 20);
        let mut workspace = Workspace::new();
        workspace.tenants = vec![("fabrikam", OTHER), ("contoso", TENANT)];
        workspace.extra = "initial_backfill_days = 2".to_owned();
        workspace.sink("lake", &(section(&topic_of("{tenant.name}")) + exactly_once));
        let file = workspace.file_sink("local");

        let expected = |id: &str| {
            let records = records(&file);
            records.iter().filter(|record| record["tenant"]["id"] == id).count()
        };
        let received =
            |tenant: &str, count| broker().consume_at_least(&topic_of(tenant), count).len();
        for _ in 0..2 {
            let run = workspace.run(&["once"]);
            assert_eq!(run.code, 1, "{}", run.stderr);
            let message = format!("topic `{mode}-fabrikam` does not exist");
            assert!(run.stderr.contains(&message), "{}", run.stderr);
            assert_eq!(received("contoso", expected(TENANT)), expected(TENANT), "{mode}");
        }

        broker().create_topic(&topic_of("fabrikam"), 1 << 20);
        workspace.run_ok(&["once"]);
        assert_eq!(received("fabrikam", expected(OTHER)), expected(OTHER), "{mode}");
        assert_eq!(received("contoso", expected(TENANT)), expected(TENANT), "{mode}");
    }
}

/// A probe adds a partition to a transaction, and a test commits one, while a daemon is running.
#[test]
fn tests_use_a_transaction_of_their_own() {
    broker().create_topic("tested", 1 << 20);
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.sink("lake", &section("tested"));
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon has delivered", || {
        !records(&file).is_empty() && workspace.is_delivered()
    });

    let run = workspace.run_ok(&["check", "--online"]);
    assert!(run.stdout.contains("the brokers support transactions"), "{}", run.stdout);
    let delivered = records(&file).len();
    assert_eq!(broker().consume_at_least("tested", delivered).len(), delivered);
    let run = workspace.run_ok(&["test-sink", "lake"]);
    assert!(run.stdout.contains("the cluster committed the transaction"), "{}", run.stdout);
    assert_eq!(broker().consume_at_least("tested", delivered + 1).len(), delivered + 1);

    daemon.signal("TERM");
    let run = daemon.end();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(!run.stderr.contains("another instance"), "{}", run.stderr);
}

/// `message.max.bytes` shows that properties take effect: most records are larger.
#[test]
fn properties_of_librdkafka_are_passed_through() {
    broker().create_topic("tuned", 1 << 20);
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let properties = "properties = { \"linger.ms\" = \"50\", \"client.id\" = \"posture\" }";
    workspace.sink("lake", &format!("{}\n{properties}", section("tuned")));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let delivered = records(&file).len();
    assert_eq!(broker().consume_at_least("tuned", delivered).len(), delivered);

    broker().create_topic("limited", 1 << 20);
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let properties = "properties = { \"message.max.bytes\" = \"1000\" }\ntexts = \"full\"";
    workspace.sink("limited", &format!("{}\n{properties}", section("limited")));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("MessageSizeTooLarge"), "{}", run.stderr);
}

#[test]
fn properties_that_break_guarantees_are_refused() {
    for (property, message, hint) in [
        ("acks", "all in-sync replicas confirm it", "remove this property"),
        ("topic.acks", "all in-sync replicas confirm it", "remove this property"),
        ("ssl.ca.location", "authorities are trusted", "set `ca_file` in `tls` instead"),
        ("lingerms", "librdkafka has no such property", "use a name from the page"),
    ] {
        let mut workspace = Workspace::against("http://127.0.0.1:1");
        let properties = format!("properties = {{ \"{property}\" = \"1\" }}");
        workspace.sink("lake", &format!("{}\n{properties}", section("refused")));
        let run = workspace.run(&["check"]);
        assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
        for text in [format!("cannot contain `{property}`: "), message.into(), hint.into()] {
            assert!(run.stderr.contains(&text), "{text}: {}", run.stderr);
        }
    }
}

/// The topic accepts only small messages. All other records must still arrive.
#[test]
fn an_oversize_record_becomes_a_dead_letter() {
    broker().create_topic("small", 4_000);
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 1".to_owned();
    // Two controls contain random text that is too large for the topic even after compression.
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
    assert_eq!(run.code, 1, "{} {status}", run.stderr);
    assert_eq!(status["sinks"][0]["rejected"], 2);
    let accepted = without_observations(&file).len() - 2;
    assert_eq!(broker().consume_at_least("small", accepted).len(), accepted);
}

/// Ninety days of one tenant are sent to four sinks. A second run sends nothing.
#[test]
fn four_sinks_receive_the_same_records() {
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
    let expected_ids = counts(ids(&expected));
    assert!(expected_ids.len() == expected.len() && expected.len() > 20_000);
    let arrived = || {
        let kafka = broker().consume_at_least("together", expected.len());
        let payloads: Vec<serde_json::Value> =
            kafka.iter().map(|m| serde_json::from_slice(&m.payload).unwrap()).collect();
        (
            rsyslog.expect(expected.len()).len(),
            counts(hec.ids().iter().map(String::as_str)),
            counts(ids(&payloads)),
        )
    };
    assert_eq!(arrived(), (expected.len(), expected_ids.clone(), expected_ids.clone()));

    let again = workspace.run_ok(&["once"]);
    for sink in ["local", "siem", "splunk", "lake"] {
        assert!(
            again.stderr.contains(&format!("sink `{sink}`: 0 records delivered")),
            "{}",
            again.stderr
        );
    }
    assert_eq!(arrived(), (expected.len(), expected_ids.clone(), expected_ids));
}

/// A workspace with a sink that authenticates with Entra tokens, and the token endpoint, which
/// responds according to `rule`.
fn with_token(topic: &str, rule: fn(&Request) -> Option<(u16, String)>) -> (Workspace, Endpoint) {
    let endpoint = Endpoint::new("");
    endpoint.rule(rule);
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let credential = workspace.entra_credential(&endpoint.url);
    workspace.sink(
        "lake",
        &format!(
            "type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"{topic}\"\n\
             sasl = {{ mechanism = \"oauthbearer\", resource = \"https://contoso.servicebus.windows.net\" }}\n{credential}",
            broker().oauthbearer
        ),
    );
    (workspace, endpoint)
}

/// Entra's response with an unsigned token for the subject `sub`, which expires in `seconds`.
fn token(sub: &str, seconds: i64) -> Option<(u16, String)> {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let now = clock::now().as_second();
    let claims = json!({ "sub": sub, "iat": now, "exp": now + seconds });
    Some(entra_token(&format!("{}.{}.", part(json!({ "alg": "none" })), part(claims))))
}

#[test]
fn authenticates_with_an_entra_token() {
    broker().create_topic("entra", 1 << 20);
    let (mut workspace, _entra) = with_token("entra", |request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let scope = "scope=https%3A%2F%2Fcontoso.servicebus.windows.net%2F.default";
        assert!(form.contains(scope), "{form}");
        token("forwarder", 3_600)
    });
    let file = workspace.file_sink("local");

    // With tokens, the sink cannot create the progress topic.
    let run = workspace.run(&["once"]);
    let progress = "secure-score-forwarder.entra.lake.progress";
    let message = format!("topic `{progress}` does not exist");
    assert!(run.code == 1 && run.stderr.contains(&message), "{}", run.stderr);
    assert!(run.stderr.contains("create the topic with cleanup.policy=compact"), "{}", run.stderr);
    broker().create_topic(progress, 1 << 20);
    workspace.run_ok(&["once"]);
    let delivered = records(&file).len();
    assert_eq!(broker().consume_at_least("entra", delivered).len(), delivered);

    // The consumer of the progress topic authenticates with a token, too.
    std::fs::remove_dir_all(workspace.state()).unwrap();
    workspace.run_ok(&["once"]);
    assert_eq!(broker().consume_at_least("entra", delivered).len(), delivered);
}

#[test]
fn a_missing_or_rejected_token_parks_the_sink() {
    let rejection = json!({ "error": "invalid_client", "error_codes": [7_000_215], "error_description": "AADSTS7000215: Invalid client secret provided." });
    static REJECTION: OnceLock<String> = OnceLock::new();
    REJECTION.get_or_init(|| rejection.to_string());

    for (rule, text) in [
        (
            (|_| Some((401, REJECTION.get()?.clone()))) as fn(&Request) -> _,
            "cannot get a token from Entra",
        ),
        (
            (|_| token("forwarder", -3_600)) as fn(&Request) -> _,
            "the cluster rejects the credential",
        ),
    ] {
        let (workspace, _entra) = with_token("elsewhere", rule);
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(text) && run.stderr.contains("parked"), "{}", run.stderr);
        assert_eq!(workspace.status()["sinks"][0]["backlog_entries"], 5);
    }
}
