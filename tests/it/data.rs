//! Peculiarities of Microsoft's data: what is accepted, rejected, sent and observed.
//! `faulty_values` tests values that cannot be used or cannot be correct.

mod faulty_values;

use serde_json::{Value, json};

use crate::support::{
    OTHER, TENANT, Workspace,
    faults::{Fault, FaultyApi},
    scores,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

/// A tenant with three days, and an API whose responses can be edited.
pub struct EditedTenant {
    pub api: FaultyApi,
    pub workspace: Workspace,
}

impl EditedTenant {
    pub fn new() -> Self {
        let api = FaultyApi::new();
        let mut workspace = Workspace::against(&api.url);
        workspace.extra = "initial_backfill_days = 3".to_owned();
        workspace.file_sink("local");
        Self { api, workspace }
    }

    /// Edits the next page of scores.
    pub fn scores(&self, change: fn(&mut Value)) -> &Self {
        self.api.fail(SCORES, Fault::Edit(change));
        self
    }

    /// Edits the next page of profiles.
    fn profiles(&self, change: fn(&mut Value)) -> &Self {
        self.api.fail(PROFILES, Fault::Edit(change));
        self
    }

    /// Runs `once`, and returns the new control and summary records.
    pub fn once(&self) -> Vec<Value> {
        let before = scores(&self.workspace.path("local.jsonl")).len();
        self.workspace.run_ok(&["once"]);
        scores(&self.workspace.path("local.jsonl")).split_off(before)
    }

    /// The observations in the log, each with its phase, such as `gap begin`.
    fn observations(&self) -> Vec<String> {
        let path = self.workspace.state().join("checkpoint.db");
        let database = rusqlite::Connection::open(path).unwrap();
        let sql = "SELECT what || ' ' || phase FROM entry WHERE kind = 2 ORDER BY seq";
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<Vec<String>, _>>().unwrap()
    }
}

/// The summary of the newest day.
pub fn newest(records: &[Value]) -> &Value {
    records.iter().rfind(|r| r["kind"] == "summary").unwrap()
}

/// The newest record of a control.
pub fn control<'a>(records: &'a [Value], id: &str) -> Option<&'a Value> {
    records.iter().rfind(|r| r["control"]["id"] == id)
}

#[test]
fn omits_absent_and_negative_averages() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        page["value"][0]["averageComparativeScores"] = json!([
            { "basis": "AllTenants", "averageScore": 41.5 },
            { "basis": "TotalSeats", "averageScore": -1.0 },
            { "basis": "IndustryTypes", "averageScore": -1 },
        ]);
        page["value"][1]["averageComparativeScores"] = json!([]);
        page["value"][2]["averageComparativeScores"] = Value::Null;
    });
    let streamed = tenant.once();
    let averages: Vec<&Value> = streamed
        .iter()
        .filter(|r| r["kind"] == "summary")
        .map(|r| &r["score"]["averages"])
        .collect();
    assert_eq!(*averages[2], json!([{ "basis": "AllTenants", "score": 41.5 }]));
    assert!(averages[0].as_array().is_none_or(Vec::is_empty));
    assert!(averages[1].as_array().is_none_or(Vec::is_empty));
}

#[test]
fn forwards_user_counts_unchanged() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        page["value"][0]["licensedUserCount"] = json!(0);
        page["value"][0]["activeUserCount"] = json!("505785");
        page["value"][1]["activeUserCount"] = json!(-3);
    });
    let streamed = tenant.once();
    let score = &newest(&streamed)["score"];
    assert_eq!((&score["active_users"], &score["licensed_users"]), (&json!(505_785), &json!(0)));
    let before = streamed.iter().filter(|r| r["kind"] == "summary").nth(1).unwrap();
    assert_eq!(before["score"]["active_users"], json!(-3));
}

#[test]
fn accepts_numbers_and_switches_as_text() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        let day = &mut page["value"][0];
        day["currentScore"] = json!("53.25");
        let score = &mut day["controlScores"][0];
        score["controlName"] = json!("Odd");
        score["score"] = json!("7.83");
        score["scoreInPercentage"] = json!("97.875");
        score["count"] = json!("5");
        score["total"] = json!(5);
        score["on"] = json!("True");
        score["expiry"] = json!("never");
    });

    let streamed = tenant.once();
    assert_eq!(newest(&streamed)["score"]["current"], json!(53.25));
    let record = control(&streamed, "Odd").unwrap();
    let odd = &record["control"];
    assert_eq!(
        (&odd["score"], &odd["count"], &odd["total"], &odd["on"]),
        (&json!(7.83), &json!(5), &json!(5), &json!(true))
    );
    assert_eq!(record["additional"]["expiry"], "never");

    // The control has no profile, so its maximum is derived from score and percentage.
    assert_eq!((&odd["max_score"], &odd["max_score_source"]), (&json!(8.0), &json!("percentage")));
}

#[test]
fn accepts_scores_without_profile_and_profiles_without_score() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        let score = &mut page["value"][0]["controlScores"][0];
        *score = json!({ "controlName": "WithoutProfile", "controlCategory": "Apps", "score": 0.0, "scoreInPercentage": 0.0 });
    });
    tenant.profiles(|page| {
        let mut listed = page["value"][0].clone();
        listed["id"] = json!("NeverScored");
        page["value"].as_array_mut().unwrap().push(listed);
    });
    let streamed = tenant.once();
    let unknown = &control(&streamed, "WithoutProfile").unwrap()["control"];
    assert!(unknown.get("max_score").is_none_or(Value::is_null), "no value is invented: {unknown}");
    assert!(control(&streamed, "NeverScored").is_none());
}

#[test]
fn matches_profiles_without_regard_to_case() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        for (day, name) in [(0, "AdminMFAV3"), (1, "adminMFAV2"), (2, "AdminMFAV2")] {
            let scores = page["value"][day]["controlScores"].as_array_mut().unwrap();
            let admin = scores.iter_mut().find(|s| s["controlName"] == "AdminMFAV2").unwrap();
            admin["controlName"] = json!(name);
        }
        page["value"][0]["controlScores"][5]["controlName"] =
            json!("11770.MDA_Google_EnableTwoFactorAuth");
    });
    let streamed = tenant.once();
    let title = |id: &str| control(&streamed, id).unwrap()["control"]["title"].clone();
    assert_eq!(title("adminMFAV2"), title("AdminMFAV2"), "the case of names is ignored");
    assert!(control(&streamed, "AdminMFAV3").is_some(), "a new name is a new control");
    let prefixed = control(&streamed, "11770.MDA_Google_EnableTwoFactorAuth").unwrap();
    assert_eq!(prefixed["control"]["id"], "11770.MDA_Google_EnableTwoFactorAuth");
}

#[test]
fn rejects_snapshots_of_other_tenants() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        page["value"][0]["id"] = json!("NA");
        page["value"][0]["azureTenantId"] = json!("NA");
        page["value"][1]["azureTenantId"] = json!(OTHER);
    });
    let streamed = tenant.once();
    assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 1);
    assert!(streamed.iter().all(|r| r["tenant"]["id"] == TENANT));
    let observed = tenant.observations();
    assert_eq!(observed.iter().filter(|o| *o == "foreign_tenant begin").count(), 2);

    // The days are accepted when they contain the ID of this tenant.
    assert_eq!(tenant.once().iter().filter(|r| r["kind"] == "summary").count(), 2);
    assert_eq!(tenant.observations().iter().filter(|o| *o == "foreign_tenant end").count(), 2);
}

#[test]
fn rejects_a_day_with_two_dates() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| page["value"][1]["createdDateTime"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(tenant.once().iter().filter(|r| r["kind"] == "summary").count(), 2);
    assert!(tenant.observations().contains(&"implausible begin".to_owned()));
}

#[test]
fn observes_and_closes_a_gap() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| drop(page["value"].as_array_mut().unwrap().remove(1)));
    tenant.once();
    assert!(tenant.observations().contains(&"gap begin".to_owned()));

    tenant.scores(|page| drop(page["value"].as_array_mut().unwrap().remove(1)));
    assert!(tenant.once().is_empty());
    let late = tenant.once();
    assert!(!late.is_empty() && late.iter().all(|r| r["snapshot"]["late"] == true));
    let observed = tenant.observations();
    let gaps = observed.iter().filter(|o| o.starts_with("gap")).count();
    assert_eq!(gaps, 2, "one begin, one end: {observed:?}");
}

#[test]
fn accepts_a_duplicate_day_once() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        let mut duplicate = page["value"][0].clone();
        duplicate["currentScore"] = json!(1.0);
        let first = duplicate["controlScores"][0].clone();
        page["value"][1]["controlScores"].as_array_mut().unwrap().push(first.clone());
        page["value"].as_array_mut().unwrap().insert(1, duplicate);
    });

    let streamed = tenant.once();
    assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 3);
    assert_ne!(newest(&streamed)["score"]["current"], json!(1.0));

    let mut ids: Vec<&Value> = streamed.iter().map(|r| &r["event_id"]).collect();
    let count = ids.len();
    ids.sort_by_key(|id| id.as_str().unwrap());
    ids.dedup();
    assert_eq!(ids.len(), count, "event IDs are unique");
}

#[test]
fn accepts_days_in_any_order() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| page["value"].as_array_mut().unwrap().reverse());
    let streamed = tenant.once();
    let days: Vec<&str> = streamed
        .iter()
        .filter(|r| r["kind"] == "summary")
        .map(|r| r["snapshot"]["date"].as_str().unwrap())
        .collect();
    assert!(days.len() == 3 && days.is_sorted(), "{days:?}");

    tenant.api.clear();
    tenant.scores(|page| page["value"].as_array_mut().unwrap().reverse());
    let fetched = tenant.workspace.run_ok(&["fetch", "--days", "3", "--output", "csv"]).stdout;
    assert_eq!(fetched.lines().filter(|line| line.contains("(total)")).count(), 3);
}

/// Regression: a rejected copy of an accepted day left the day missing permanently.
#[test]
fn a_rejected_copy_leaves_no_missing_day() {
    let tenant = EditedTenant::new();
    tenant.once();
    tenant.scores(|page| page["value"][0]["azureTenantId"] = json!("NA"));
    tenant.once();
    assert_eq!(tenant.workspace.status()["tenants"][0]["missing_days"], 1);
    tenant.once();
    assert_eq!(tenant.workspace.status()["tenants"][0]["missing_days"], 0);
    assert!(tenant.observations().contains(&"foreign_tenant end".to_owned()));
}

#[test]
fn accepts_an_id_of_another_form() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| page["value"][0]["id"] = json!("7c1d-b"));
    let streamed = tenant.once();
    assert_eq!(newest(&streamed)["snapshot"]["id"], "7c1d-b");
    assert!(tenant.observations().is_empty());
}
