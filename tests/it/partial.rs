//! Partial responses: days are held, released as partial and completed later.

use serde_json::Value;

use crate::support::{
    Workspace,
    faults::{Fault, FaultyApi},
    scores,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

/// A page without some controls of its newest day, as when a provider behind Graph does not
/// respond.
fn truncated(text: &str) -> Vec<u8> {
    let mut page: Value = serde_json::from_str(text).unwrap();
    let controls = page["value"][0]["controlScores"].as_array_mut().unwrap();
    controls.truncate(100);
    page.to_string().into_bytes()
}

fn partial(body: Vec<u8>) -> Fault {
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("warning", "199 - \"Microsoft/SecureScore/504/10000\"".to_owned()),
    ];
    Fault::Respond(206, headers, body)
}

/// The complete response of the API.
fn complete_page(workspace: &Workspace) -> String {
    let raw = workspace.run_ok(&["fetch", "--days", "3", "--output", "raw"]).stdout;
    let days: Vec<Value> = raw.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    serde_json::json!({ "value": days }).to_string()
}

fn observations(workspace: &Workspace) -> Vec<String> {
    let database = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    let mut statement = database
        .prepare("SELECT what || ' ' || phase FROM entry WHERE kind = 2 ORDER BY tenant, seq")
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<Vec<String>, _>>().unwrap()
}

#[test]
fn holds_releases_and_completes_a_partial_day() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let complete = complete_page(&workspace);
    let fail = || {
        for _ in 0..4 {
            api.fail(SCORES, partial(truncated(&complete)));
        }
    };

    fail();
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    let warning = "199 - \"Microsoft/SecureScore/504/10000\"";
    for part in ["0 new days, no day yet, 3 days held; ", warning] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert!(scores(&file).is_empty(), "the days are not released");
    let status = workspace.status();
    assert!(status["tenants"][0]["error"]["message"].as_str().unwrap().contains(warning));

    // `partial_hold` has passed, and the response is partial again.
    workspace.head = "[schedule]\npartial_hold = \"1ms\"".to_owned();
    fail();
    assert_eq!(workspace.run(&["once"]).code, 1);
    let streamed = scores(&file);
    let summaries = |records: &[Value]| {
        records.iter().filter(|r| r["kind"] == "summary").cloned().collect::<Vec<_>>()
    };
    assert_eq!(summaries(&streamed).len(), 3);
    assert!(
        streamed.iter().all(|r| r["snapshot"]["partial"] == true && r["snapshot"]["revision"] == 1)
    );

    // Now the response is complete.
    workspace.run_ok(&["once"]);
    let more = scores(&file)[streamed.len()..].to_vec();
    assert!(
        more.iter().all(|r| r["snapshot"]["partial"] == false && r["snapshot"]["revision"] == 2)
    );
    assert_eq!(summaries(&more).len(), 3);
    let newest = summaries(&more)[2]["snapshot"]["date"].clone();
    let controls = more.iter().filter(|r| r["kind"] == "control").collect::<Vec<_>>();
    let total = summaries(&more)[2]["score"]["controls_total"].as_u64().unwrap() as usize;
    assert_eq!(controls.len(), total - 100, "only the controls that were absent");
    assert!(controls.iter().all(|r| r["snapshot"]["date"] == newest));
    let observed = observations(&workspace);
    assert_eq!(observed.iter().filter(|o| *o == "partial begin").count(), 3);
    assert_eq!(observed.iter().filter(|o| *o == "partial end").count(), 3);
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 0);

    // Another poll sends nothing.
    workspace.run_ok(&["once"]);
    assert_eq!(scores(&file).len(), streamed.len() + more.len());
}

#[test]
fn holds_days_without_a_catalog() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");

    // Complete pages of profiles, none of which has an ID.
    let broken = |text: String| text.replace("\"id\":\"", "\"id\":null,\"no\":\"");
    for _ in 0..20 {
        api.fail(PROFILES, Fault::Change(broken));
    }
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    for part in ["3 days held; ", "unexpected response from secureScoreControlProfiles"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert!(scores(&file).is_empty());
    assert!(observations(&workspace).contains(&"catalog_stale begin".to_owned()));

    api.clear();
    workspace.run_ok(&["once"]);
    let streamed = scores(&file);
    assert!(
        streamed
            .iter()
            .all(|r| r["snapshot"]["partial"] == false && r["snapshot"]["revision"] == 1)
    );
    assert!(observations(&workspace).contains(&"catalog_stale end".to_owned()));
}

/// Held days are released after `partial_hold`, even if the API returns only errors.
#[test]
fn releases_held_days_without_the_api() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    api.fail(PROFILES, Fault::Respond(403, vec![], b"{}".to_vec()));
    assert_eq!(workspace.run(&["once"]).code, 1);

    workspace.head = "[schedule]\npartial_hold = \"1ms\"".to_owned();
    api.fail(SCORES, Fault::Respond(403, vec![], b"{}".to_vec()));
    api.fail(PROFILES, Fault::Respond(403, vec![], b"{}".to_vec()));
    assert_eq!(workspace.run(&["once"]).code, 1);
    let streamed = scores(&file);
    assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 3);
    assert!(streamed.iter().all(|r| r["snapshot"]["partial"] == true));

    // The days are missing until they are read completely, so they are requested again.
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 3);
    workspace.run_ok(&["once"]);
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 0);
    assert_eq!(scores(&file).iter().filter(|r| r["snapshot"]["revision"] == 2).count(), 3);
}

/// Regression: after seven requests, held days were released as partial although a complete copy
/// was available.
#[test]
fn requests_held_days_at_every_poll() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let file = workspace.file_sink("local");
    api.fail(PROFILES, Fault::Respond(403, vec![], b"{}".to_vec()));
    assert_eq!(workspace.run(&["once"]).code, 1);
    let database = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    assert_eq!(database.execute("UPDATE missing SET requests = 7", []).unwrap(), 20);
    drop(database);

    workspace.run_ok(&["once"]);
    let streamed = scores(&file);
    assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 20);
    assert!(streamed.iter().all(|r| r["snapshot"]["partial"] == false));
}
