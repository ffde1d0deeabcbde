//! Receivers that refuse the index of one tenant, or reject or fail for all of its records, and
//! brokers that do not support transactions: faults of the receiver that `check`, `test-sink` and
//! `once` must name.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    OTHER, TENANT, Workspace,
    endpoint::Endpoint,
    old_broker::{OldBroker, REFUSAL},
    records,
};

/// The event IDs that a receiver has stored, and the index or the ID of the tenant that it refuses.
#[derive(Clone, Default)]
struct Store {
    stored: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<&'static str>>,
}

impl Store {
    fn refuse(&self, name: &'static str) {
        *self.refused.lock().unwrap() = name;
    }

    fn refuses(&self, name: &Value) -> bool {
        name.as_str() == Some(*self.refused.lock().unwrap())
    }

    fn add(&self, id: &Value) {
        self.stored.lock().unwrap().push(id.as_str().unwrap().to_owned());
    }

    fn sorted(&self) -> Vec<String> {
        let mut stored = self.stored.lock().unwrap().clone();
        stored.sort();
        stored
    }
}

/// Two tenants. The index of a record is `posture-` and the name of its tenant.
fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.tenants = vec![("fabrikam", OTHER), ("contoso", TENANT)];
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace
}

/// The sorted event IDs of a tenant, or of all, in the file of another sink.
fn expected(workspace: &Workspace, tenant: Option<&str>) -> Vec<String> {
    let records = records(&workspace.path("local.jsonl"));
    let matching =
        records.iter().filter(|record| tenant.is_none_or(|id| record["tenant"]["id"] == id));
    let mut ids: Vec<String> =
        matching.map(|record| record["event_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// Runs `once` while the index of the first tenant is refused, twice, and then while it is not.
fn assert_isolated(mut workspace: Workspace, store: &Store, section: &str) {
    workspace.file_sink("local");
    workspace.sink("siem", section);

    store.refuse("posture-fabrikam");
    for _ in 0..2 {
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains("index `posture-fabrikam`: "), "{}", run.stderr);
        // All records of the other tenant have arrived, and none of them twice.
        assert_eq!(store.sorted(), expected(&workspace, Some(TENANT)));
    }

    let status = workspace.status();
    let sinks = status["sinks"].as_array().unwrap();
    let sink = sinks.iter().find(|sink| sink["name"] == "siem").unwrap();
    assert_eq!(sink["state"], "target_parked");
    let conditions = status["conditions"].as_array().unwrap();
    let parked = conditions.iter().find(|condition| condition["kind"] == "target_parked").unwrap();
    assert!(parked.to_string().contains("posture-fabrikam"), "{parked}");

    store.refuse("");
    workspace.run_ok(&["once"]);
    assert_eq!(store.sorted(), expected(&workspace, None));
}

/// Regression: an index that the token does not permit parked the sink for all tenants, and the
/// message did not name it.
#[test]
fn hec_delivers_to_all_other_indices() {
    let store = Store::default();
    let reply = json!({ "text": "Incorrect index", "code": 7, "invalid-event-number": 0 });
    let collector = failing_collector(&store, 400, &reply);
    let workspace = workspace();
    let section = hec_index_per_tenant(&workspace, &collector);
    assert_isolated(workspace, &store, &section);
}

/// Regression: an index that did not exist parked the sink for all tenants.
#[test]
fn elasticsearch_delivers_to_all_other_indices() {
    let store = Store::default();
    let error = json!({ "type": "index_not_found_exception", "reason": "no such index" });
    let endpoint = failing_index(&store, 404, error);
    assert_isolated(workspace(), &store, &index_per_tenant(&endpoint));
}

/// A collector that responds to every request with an event for a refused index with this status
/// and reply, and stores the events of all others.
fn failing_collector(store: &Store, status: u16, reply: &Value) -> Endpoint {
    let (endpoint, shared, reply) = (Endpoint::new(""), store.clone(), reply.to_string());
    endpoint.rule(move |request| {
        let lines = request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let events: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        if events.iter().any(|event| shared.refuses(&event["index"])) {
            return Some((status, reply.clone()));
        }
        events.iter().for_each(|event| shared.add(&event["event"]["event_id"]));
        Some((200, json!({ "text": "Success", "code": 0 }).to_string()))
    });
    endpoint
}

/// A sink for a collector with an index for each tenant.
fn hec_index_per_tenant(workspace: &Workspace, collector: &Endpoint) -> String {
    let token = workspace.secret("hec-secret", crate::support::hec::TOKEN);
    format!(
        "type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}\nacknowledgement = false\nindex = \"posture-{{tenant.name}}\"",
        collector.url
    )
}

/// A cluster that answers every document for a refused index with this status and error, and
/// stores all others.
fn failing_index(store: &Store, status: u16, error: Value) -> Endpoint {
    let (shared, endpoint) = (store.clone(), Endpoint::new(""));
    endpoint.rule(move |request| {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let item = |pair: &[&str]| {
            let action: Value = serde_json::from_str(pair[0]).unwrap();
            if shared.refuses(&action["create"]["_index"]) {
                return json!({ "create": { "status": status, "error": error.clone() } });
            }
            shared.add(&action["create"]["_id"]);
            json!({ "create": { "status": 201 } })
        };
        let items: Vec<Value> = lines.chunks(2).map(item).collect();
        Some((200, json!({ "errors": true, "items": items }).to_string()))
    });
    endpoint
}

fn index_per_tenant(endpoint: &Endpoint) -> String {
    let url = &endpoint.url;
    format!("type = \"elasticsearch\"\nurl = \"{url}\"\nindex = \"posture-{{tenant.name}}\"")
}

/// Runs `once` while the index of the tenant that is served first is busy, and then while it is
/// not.
fn assert_not_delayed(mut workspace: Workspace, store: &Store, section: &str) {
    workspace.file_sink("local");
    workspace.sink("siem", section);

    store.refuse("posture-contoso");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    // All records of the other tenant have arrived, and none of them twice.
    assert_eq!(store.sorted(), expected(&workspace, Some(OTHER)));

    store.refuse("");
    workspace.run_ok(&["once"]);
    assert_eq!(store.sorted(), expected(&workspace, None));
}

/// Regression: while the shards of one tenant's index were unavailable, the records of all tenants
/// were sent again with every attempt.
#[test]
fn a_busy_elasticsearch_index_delays_no_other() {
    let store = Store::default();
    let error = json!({ "type": "unavailable_shards_exception", "reason": "not active" });
    for status in [429, 503] {
        store.stored.lock().unwrap().clear();
        let endpoint = failing_index(&store, status, error.clone());
        assert_not_delayed(workspace(), &store, &index_per_tenant(&endpoint));
    }
}

/// Regression: while a collector was busy for one tenant's index, no other tenant received
/// anything.
#[test]
fn a_busy_hec_index_delays_no_other() {
    let store = Store::default();
    let reply = json!({ "text": "Server is busy", "code": 9 });
    let collector = failing_collector(&store, 503, &reply);
    let workspace = workspace();
    let section = hec_index_per_tenant(&workspace, &collector);
    assert_not_delayed(workspace, &store, &section);
}

/// Regression: a mapping fault of one tenant's index parked the sink for all tenants, and all
/// records of the tenant became dead letters.
#[test]
fn a_mapping_fault_parks_only_its_index() {
    let store = Store::default();
    let error = json!({ "type": "strict_dynamic_mapping_exception", "reason": "not allowed" });
    let endpoint = failing_index(&store, 400, error);
    let mut workspace = workspace();
    workspace.file_sink("local");
    workspace.sink("siem", &index_per_tenant(&endpoint));

    store.refuse("posture-contoso");
    for _ in 0..2 {
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        // Alone in a batch, the records have one reason; together with accepted ones, too many of
        // them are rejected.
        for part in ["target `posture-contoso`: ", "strict_dynamic_mapping_exception: not allowed"]
        {
            assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
        }
        assert_eq!(store.sorted(), expected(&workspace, Some(OTHER)));
    }
    assert_eq!(state(&workspace), ("target_parked".to_owned(), 0));

    store.refuse("");
    workspace.run_ok(&["once"]);
    assert_eq!(store.sorted(), expected(&workspace, None));
}

/// A receiver that responds to every request with a record of the refused tenant with this status,
/// and stores the records of all others.
fn rejecting_receiver(store: &Store, status: u16) -> Endpoint {
    let (endpoint, shared) = (Endpoint::new(""), store.clone());
    endpoint.rule(move |request| {
        let lines = request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let records = lines.map(|line| {
            let mut line: Value = serde_json::from_slice(line).unwrap();
            if line["event"].is_null() { line } else { line["event"].take() }
        });
        let records: Vec<Value> = records.collect();
        if records.iter().any(|record| shared.refuses(&record["tenant"]["id"])) {
            return Some((status, "not this record".to_owned()));
        }
        records.iter().for_each(|record| shared.add(&record["event_id"]));
        Some((200, json!({ "text": "Success", "code": 0 }).to_string()))
    });
    endpoint
}

/// A sink without an index for each tenant.
fn hec(workspace: &Workspace, receiver: &Endpoint) -> String {
    let token = workspace.secret("hec-secret", crate::support::hec::TOKEN);
    let url = &receiver.url;
    format!("type = \"splunk_hec\"\nurl = \"{url}\"\ntoken = {token}\nacknowledgement = false")
}

/// A sink whose requests have at most this number of records, one per line.
fn webhook(receiver: &Endpoint, records: u32) -> String {
    let keys = format!("batch_records = {records}\nbatch_size = \"64MiB\"\nbody = \"lines\"");
    format!("type = \"http\"\nurl = \"{}\"\n{keys}", receiver.url)
}

/// The state of the sink `siem`, and the number of its rejected records.
fn state(workspace: &Workspace) -> (String, u64) {
    let status = workspace.status();
    let sinks = status["sinks"].as_array().unwrap();
    let sink = sinks.iter().find(|sink| sink["name"] == "siem").unwrap();
    (sink["state"].as_str().unwrap().to_owned(), sink["rejected"].as_u64().unwrap())
}

/// Regression: a tenant all of whose records were rejected, for example because of their size,
/// parked the sink for all tenants.
#[test]
fn rejected_records_withhold_only_their_tenant() {
    // The records of both tenants fit into one large request; contoso is served first.
    let (small, large) = (Some(100), Some(100_000));
    let (contoso, fabrikam) = (("contoso", TENANT), ("fabrikam", OTHER));
    for (webhook_records, status, (name, rejected), (_, accepted)) in [
        (None, 413, contoso, fabrikam),
        (small, 400, contoso, fabrikam),
        (large, 413, contoso, fabrikam),
        (large, 400, fabrikam, contoso),
    ] {
        let store = Store::default();
        let receiver = rejecting_receiver(&store, status);
        let mut workspace = workspace();
        workspace.file_sink("local");
        let section = webhook_records
            .map_or_else(|| hec(&workspace, &receiver), |records| webhook(&receiver, records));
        workspace.sink("siem", &section);

        store.refuse(rejected);
        for _ in 0..2 {
            let run = workspace.run(&["once"]);
            assert_eq!(run.code, 1, "{section}: {}", run.stderr);
            let message = format!("tenant `{name}`: the ");
            assert!(run.stderr.contains(&message), "{section}: {}", run.stderr);
            assert!(!run.stderr.contains("sink parked"), "{section}: {}", run.stderr);
            // All records of the other tenant have arrived, and none of them twice.
            assert_eq!(store.sorted(), expected(&workspace, Some(accepted)), "{section}");
        }
        assert_eq!(state(&workspace), ("target_parked".to_owned(), 0), "{section}");

        store.refuse("");
        workspace.run_ok(&["once"]);
        assert_eq!(store.sorted(), expected(&workspace, None), "{section}");
    }
}

/// Regression: a receiver, or a firewall before it, that failed for each request with the text of
/// one tenant stopped the delivery to all tenants.
#[test]
fn failed_requests_withhold_only_their_tenant() {
    let (contoso, fabrikam) = (("contoso", TENANT), ("fabrikam", OTHER));
    for (status, (name, failing), (_, others)) in
        [(500, contoso, fabrikam), (502, fabrikam, contoso), (503, contoso, fabrikam)]
    {
        let store = Store::default();
        let receiver = rejecting_receiver(&store, status);
        let mut workspace = workspace();
        workspace.file_sink("local");
        // The records of both tenants fit into one request.
        workspace.sink("siem", &webhook(&receiver, 100_000));

        store.refuse(failing);
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{status}: {}", run.stderr);
        let message = format!(
            "tenant `{name}`: each request with its records fails: the endpoint returned HTTP {status}"
        );
        assert!(run.stderr.contains(&message), "{status}: {}", run.stderr);
        // All records of the other tenant have arrived, and none of them twice.
        assert_eq!(store.sorted(), expected(&workspace, Some(others)), "{status}");
        assert_eq!(state(&workspace), ("target_parked".to_owned(), 0), "{status}");
        let conditions = workspace.status()["conditions"].to_string();
        assert!(conditions.contains("records of a tenant are withheld, "), "{conditions}");

        store.refuse("");
        workspace.run_ok(&["once"]);
        assert_eq!(store.sorted(), expected(&workspace, None), "{status}");
    }
}

/// A receiver that fails for every request is the cause, and no tenant is withheld.
#[test]
fn an_outage_withholds_no_tenant() {
    let receiver = Endpoint::new("");
    receiver.rule(move |_| Some((502, "bad gateway".to_owned())));
    let mut workspace = workspace();
    workspace.sink("siem", &webhook(&receiver, 100_000));

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(!run.stderr.contains("tenant withheld"), "{}", run.stderr);
    assert_eq!(state(&workspace).0, "waiting");

    receiver.rule(|_| None);
    workspace.run_ok(&["once"]);
    assert!(workspace.is_delivered());
}

/// If the records of all tenants are rejected, the cause is the configuration.
#[test]
fn rejected_records_of_all_tenants_park_the_sink() {
    for status in [413, 400] {
        let receiver = Endpoint::new("");
        receiver.rule(move |_| Some((status, "not this record".to_owned())));
        let mut workspace = workspace();
        workspace.sink("siem", &webhook(&receiver, 100));

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{status}: {}", run.stderr);
        assert!(run.stderr.contains("not this record"), "{status}: {}", run.stderr);
        assert_eq!(state(&workspace), ("parked".to_owned(), 0), "{status}");

        receiver.rule(|_| None);
        workspace.run_ok(&["once"]);
        assert!(workspace.is_delivered());
    }
}

/// Regression: `test-sink` reported a committed transaction, `check --online` did not look for
/// transactions, and `once` failed after minutes without naming the cause.
#[test]
fn brokers_without_transactions_are_named() {
    for (broker, cause) in
        [(OldBroker::WithoutCalls, "not supported"), (OldBroker::WithoutCoordinator, REFUSAL)]
    {
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 1".to_owned();
        let address = broker.start();
        workspace.sink(
            "lake",
            &format!("type = \"kafka\"\nbrokers = [\"{address}\"]\ntopic = \"secure-score\""),
        );

        for command in [&["test-sink", "lake"][..], &["check", "--online"], &["once"]] {
            let start = Instant::now();
            let run = workspace.run(command);
            let output = run.stdout + &run.stderr;
            assert_ne!(run.code, 0, "{command:?}: {output}");
            for text in ["do not support transactions", cause, "set `exactly_once = false`"] {
                assert!(output.contains(text), "{command:?}: {output}");
            }
            assert!(!output.contains("committed"), "{command:?}: {output}");
            assert!(start.elapsed() < Duration::from_secs(40), "{command:?} took too long");
        }
    }
}
