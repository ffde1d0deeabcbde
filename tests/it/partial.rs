//! Answers of which a part is missing: held back, released as what they are, completed later.

use serde_json::Value;

use crate::support::{
    Workspace,
    faults::{Fault, FaultyApi},
    scores,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

/// A page that lacks some controls of its newest day, as when a provider has not answered.
fn half(text: &str) -> Vec<u8> {
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
    Fault::Answer(206, headers, body)
}

/// What the API answers in truth.
fn truth(workspace: &Workspace) -> String {
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
fn a_partial_day_is_held_released_and_completed() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let truth = truth(&workspace);
    let fail = || {
        for _ in 0..4 {
            api.fail(SCORES, partial(half(&truth)));
        }
    };
    fail();
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("0 new days, no day yet, 3 days held back; Microsoft returned a partial response: 199 - \"Microsoft/SecureScore/504/10000\""), "{}", run.stderr);
    assert!(scores(&file).is_empty(), "taken is not released");
    let status = workspace.status();
    assert!(status["tenants"][0]["last_error"].as_str().unwrap().contains("part of the answer"));

    // The time it is held for is over, and Microsoft is still not whole.
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

    // Now it is.
    workspace.run_ok(&["once"]);
    let more = scores(&file)[streamed.len()..].to_vec();
    assert!(
        more.iter().all(|r| r["snapshot"]["partial"] == false && r["snapshot"]["revision"] == 2)
    );
    assert_eq!(summaries(&more).len(), 3);
    let newest = summaries(&more)[2]["snapshot"]["date"].clone();
    let controls = more.iter().filter(|r| r["kind"] == "control").collect::<Vec<_>>();
    let whole = summaries(&more)[2]["score"]["controls_total"].as_u64().unwrap() as usize;
    assert_eq!(controls.len(), whole - 100, "only those that were absent");
    assert!(controls.iter().all(|r| r["snapshot"]["date"] == newest));
    let noted = observations(&workspace);
    assert_eq!(noted.iter().filter(|o| *o == "partial begin").count(), 3);
    assert_eq!(noted.iter().filter(|o| *o == "partial end").count(), 3);
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 0);
    // And then nothing.
    workspace.run_ok(&["once"]);
    assert_eq!(scores(&file).len(), streamed.len() + more.len());
}

#[test]
fn a_day_without_its_catalog_waits_for_it() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    // A whole page of profiles, but one that cannot be read.
    let broken = |text: String| text.replacen("\"id\":\"", "\"id\":7,\"no\":\"", 1);
    api.fail(PROFILES, Fault::Change(broken));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr
            .contains("3 days held back; cannot read the catalog: secureScoreControlProfiles"),
        "{}",
        run.stderr
    );
    assert!(scores(&file).is_empty());
    assert!(observations(&workspace).contains(&"catalog_stale begin".to_owned()));
    workspace.run_ok(&["once"]);
    let streamed = scores(&file);
    assert!(
        streamed
            .iter()
            .all(|r| r["snapshot"]["partial"] == false && r["snapshot"]["revision"] == 1)
    );
    assert!(observations(&workspace).contains(&"catalog_stale end".to_owned()));
}

/// When nothing can be had at all, what is held goes out in its time.
#[test]
fn a_held_day_goes_out_though_the_api_is_gone() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    api.fail(PROFILES, Fault::Answer(403, vec![], b"{}".to_vec()));
    assert_eq!(workspace.run(&["once"]).code, 1);
    workspace.head = "[schedule]\npartial_hold = \"1ms\"".to_owned();
    api.fail(SCORES, Fault::Answer(403, vec![], b"{}".to_vec()));
    api.fail(PROFILES, Fault::Answer(403, vec![], b"{}".to_vec()));
    assert_eq!(workspace.run(&["once"]).code, 1);
    let streamed = scores(&file);
    assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 3);
    assert!(streamed.iter().all(|r| r["snapshot"]["partial"] == true));
    // And they are wanted whole, still.
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 3);
    workspace.run_ok(&["once"]);
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 0);
    assert_eq!(scores(&file).iter().filter(|r| r["snapshot"]["revision"] == 2).count(), 3);
}

/// Once asked for seven times, held days went out in part though a whole copy was to be had.
#[test]
fn held_days_are_asked_for_at_every_poll() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let file = workspace.file_sink("local");
    api.fail(PROFILES, Fault::Answer(403, vec![], b"{}".to_vec()));
    assert_eq!(workspace.run(&["once"]).code, 1);
    let database = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    assert_eq!(database.execute("UPDATE missing SET requests = 7", []).unwrap(), 20);
    drop(database);
    workspace.run_ok(&["once"]);
    let streamed = scores(&file);
    assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 20);
    assert!(streamed.iter().all(|r| r["snapshot"]["partial"] == false));
}
