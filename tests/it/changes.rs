//! What changed, why, and who decided: from the API's answers to the records; baselines.

use std::fmt::Write as _;

use secure_score_forwarder::{
    derive::{Base, Comparison, Measured, Point, changes},
    model::{Day, DayFacts},
    source::simulated,
    wire,
};
use serde_json::{Value, json};

use crate::support::{
    TENANT, Workspace,
    faults::{Fault, FaultyApi},
    fs, ids, of_kinds,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

/// The control that is edited: the first of the newest day.
const SWITCH: usize = 0;

struct Tenant {
    api: FaultyApi,
    workspace: Workspace,
}

impl Tenant {
    fn new(head: &str) -> Self {
        let api = FaultyApi::new();
        let mut workspace = Workspace::against(&api.url);
        workspace.extra = "initial_backfill_days = 3".to_owned();
        workspace.head = head.to_owned();
        workspace.file_sink("local");
        Self { api, workspace }
    }

    /// One round; the changes and observations that it streamed.
    fn once(&self) -> Vec<Value> {
        let file = self.workspace.path("local.jsonl");
        let before = of_kinds(&file, &["change", "quality"]).len();
        self.workspace.run(&["once"]);
        of_kinds(&file, &["change", "quality"]).split_off(before)
    }

    /// The first control of the newest day, and what it scored.
    fn first_control(&self) -> (String, f64) {
        let last = of_kinds(&self.workspace.path("local.jsonl"), &["control"]);
        let day = last.last().unwrap()["snapshot"]["date"].clone();
        let page =
            simulated::snapshot_json(TENANT, Day::parse(day.as_str().unwrap()).unwrap(), true);
        let page: Value = serde_json::from_str(&page).unwrap();
        let control = &page["controlScores"][SWITCH];
        (control["controlName"].as_str().unwrap().to_owned(), control["score"].as_f64().unwrap())
    }
}

fn zero(page: &mut Value) {
    let control = &mut page["value"][0]["controlScores"][SWITCH];
    control["score"] = json!(0.0);
    control["scoreInPercentage"] = json!(0.0);
}

/// A score without its share, which would have to fit the control's weight.
fn points(page: &mut Value, score: f64) {
    let control = &mut page["value"][0]["controlScores"][SWITCH];
    control["score"] = json!(score);
    control["scoreInPercentage"] = Value::Null;
}

fn raise(page: &mut Value) {
    let control = &mut page["value"][0]["controlScores"][SWITCH];
    control["score"] = json!(5.0);
    control["scoreInPercentage"] = json!(62.5);
}

#[test]
fn a_fall_names_the_tenant_and_a_rule_says_how_much_it_matters() {
    let tenant = Tenant::new(
        "[[severity]]\nwhat = [\"regressed\"]\ncause = \"tenant\"\npoints = 5\nseverity = \"critical\"\n",
    );
    tenant.api.fail(SCORES, Fault::Edit(|page| points(page, 5.0)));
    tenant.once();
    let (control, _) = tenant.first_control();
    tenant.api.fail(SCORES, Fault::Edit(|page| points(page, 0.0)));
    let told = tenant.once();
    let change = told.iter().find(|r| r["control"]["id"] == control.as_str()).unwrap();
    assert_eq!(change["change"]["what"], "regressed");
    assert_eq!(change["change"]["cause"], "tenant");
    assert_eq!(
        (&change["change"]["before"]["score"], &change["change"]["delta"]),
        (&json!(5.0), &json!(-5.0))
    );
    assert_eq!(change["change"]["severity"], 10);
    assert_eq!(change["time"], change["observed_time"], "it was noticed then");
    assert_eq!(
        change["change"]["base"], change["snapshot"]["date"],
        "a revision's base is its day"
    );
}

#[test]
fn an_acceptance_is_told_once_with_who_and_whether_anybody_expected_it() {
    let expects = |tenants: &str| {
        format!(
            "[[expected_decisions]]\ncontrol = \"*\"\nstate = \"Ignored\"\nowner = \"anna@contoso.example\"\ntenants = [\"{tenants}\"]\n"
        )
    };
    for (tenants, expected, severity) in [("contoso", true, 1), ("other", false, 8)] {
        let tenant = Tenant::new(&expects(tenants));
        tenant.once();
        tenant.api.fail(SCORES, Fault::Edit(zero));
        tenant.api.fail(
            PROFILES,
            Fault::Edit(|page| {
                page["value"][7]["controlStateUpdates"] = json!([{
                    "assignedTo": "", "comment": "until the ERP is gone", "state": "Ignored",
                    "updatedBy": "ben@contoso.example", "updatedDateTime": "2026-11-20T10:00:00Z",
                }]);
            }),
        );
        let told = tenant.once();
        let decisions: Vec<&Value> =
            told.iter().filter(|r| r["change"]["what"] == "decision_changed").collect();
        assert_eq!(decisions.len(), 1, "{decisions:?}");
        let change = &decisions[0]["change"];
        assert_eq!(change["after"]["state_updated_by"], "ben@contoso.example");
        assert_eq!(change["after"]["state_comment"], "until the ERP is gone");
        assert_eq!(
            (&change["expected"], &change["severity"]),
            (&json!(expected), &json!(severity))
        );
        assert_eq!(change.get("owner").is_some(), expected);
    }
}

#[test]
fn an_acceptance_that_outlives_its_day_is_told_once() {
    let today = Day::of(secure_score_forwarder::clock::now());
    let until = today.plus(-1);
    let tenant = Tenant::new(&format!(
        "[[expected_decisions]]\ncontrol = \"*\"\nstate = \"Ignored\"\nowner = \"anna\"\nexpires = \"{until}\"\n"
    ));
    let told = tenant.once();
    let expired: Vec<&Value> =
        told.iter().filter(|r| r["change"]["what"] == "acceptance_expired").collect();
    assert!(!expired.is_empty());
    for record in &expired {
        let change = &record["change"];
        assert_eq!(record["snapshot"]["date"], json!(today.to_string()));
        assert_eq!(
            (&change["after"]["state"], &change["owner"]),
            (&json!("Ignored"), &json!("anna"))
        );
        assert_eq!((&change["expected"], &change["severity"]), (&json!(false), &json!(8)));
    }
    let mut ids: Vec<&str> = expired.iter().map(|r| r["event_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), expired.len());
    // A revision of the day does not tell it again.
    tenant.api.fail(SCORES, Fault::Edit(zero));
    let told = tenant.once();
    assert!(told.iter().all(|r| r["change"]["what"] != "acceptance_expired"));
}

#[test]
fn history_is_sent_only_to_those_who_want_it() {
    let api = FaultyApi::new();
    // Whatever day it is, something is new on it.
    api.fail(SCORES, Fault::Edit(raise));
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let fresh = workspace.file_sink("fresh");
    let all = workspace.path("all.jsonl");
    workspace.sink(
        "all",
        &format!("type = \"file\"\npath = \"{}\"\nhistorical_changes = true", all.display()),
    );
    workspace.run_ok(&["once"]);
    let changes = of_kinds(&all, &["change"]);
    let (old, new): (Vec<Value>, Vec<Value>) =
        changes.into_iter().partition(|r| r["change"]["historical"] == true);
    assert!(old.len() > 5 && !new.is_empty());
    assert!(old.iter().all(|r| r["change"]["severity"] == 1 && r["time"] != r["observed_time"]));
    let decisions = old.iter().filter(|r| r["change"]["what"] == "decision_changed").count();
    assert!(decisions > 0, "what was decided before the first contact");
    let fresh = of_kinds(&fresh, &["change"]);
    assert!(ids(&fresh).eq(ids(&new)));
}

#[test]
fn a_summary_counts_the_changes_that_a_sink_was_given() {
    let tenant = Tenant::new("");
    tenant.once();
    tenant.api.fail(SCORES, Fault::Edit(raise));
    tenant.once();
    let file = tenant.workspace.path("local.jsonl");
    let all = of_kinds(&file, &["control", "summary", "change"]);
    for summary in all.iter().filter(|r| r["kind"] == "summary") {
        let place = |r: &Value| (r["snapshot"]["date"].clone(), r["snapshot"]["revision"].clone());
        let given = all.iter().filter(|r| place(r) == place(summary)).count();
        assert_eq!(summary["score"]["records_sent"], json!(given));
    }
}

#[test]
fn a_late_day_changes_nothing() {
    let tenant = Tenant::new("");
    tenant
        .api
        .fail(SCORES, Fault::Edit(|page| drop(page["value"].as_array_mut().unwrap().remove(1))));
    let told = tenant.once();
    let gap = told.iter().find(|r| r["quality"]["what"] == "gap").unwrap();
    assert_eq!(gap["quality"]["phase"], "begin");
    assert!(gap.get("snapshot").is_none());
    let late = tenant.once();
    let whats: Vec<&Value> = late.iter().map(|r| &r["quality"]["phase"]).collect();
    assert_eq!(whats, ["end"], "the gap closes, and nothing else is told: {late:?}");
}

#[test]
fn a_poll_that_fails_is_noted_once_and_ends_once() {
    let tenant = Tenant::new("");
    let refused = || {
        Fault::Answer(
            403,
            vec![],
            b"{\"error\":{\"code\":\"Forbidden\",\"message\":\"no\"}}".to_vec(),
        )
    };
    let mut told = Vec::new();
    for _ in 0..2 {
        tenant.api.fail(SCORES, refused());
        told.extend(tenant.once());
        tenant.api.clear();
    }
    told.extend(tenant.once());
    let failed: Vec<&Value> =
        told.iter().filter(|r| r["quality"]["what"] == "poll_failed").collect();
    let phases: Vec<&Value> = failed.iter().map(|r| &r["quality"]["phase"]).collect();
    assert_eq!(phases, ["begin", "end"]);
    assert_ne!(failed[0]["event_id"], failed[1]["event_id"]);
    assert_eq!(
        (&failed[0]["quality"]["severity"], &failed[1]["quality"]["severity"]),
        (&json!(5), &json!(1))
    );
}

#[test]
fn what_begins_again_on_its_day_has_an_id_of_its_own() {
    let tenant = Tenant::new("");
    let refused = || Fault::Answer(403, vec![], b"{}".to_vec());
    let mut begins = Vec::new();
    for _ in 0..2 {
        tenant.api.fail(SCORES, refused());
        let told = tenant.once();
        begins.extend(told.into_iter().filter(|r| r["quality"]["what"] == "poll_failed"));
        tenant.api.clear();
        tenant.once();
    }
    assert_eq!(begins.len(), 2);
    assert_ne!(begins[0]["event_id"], begins[1]["event_id"]);
}

#[test]
fn kinds_of_record_and_of_change_are_a_sinks_choice() {
    let tenant = Tenant::new("");
    let mut workspace = tenant.workspace;
    let path = workspace.path("few.jsonl");
    workspace.sink(
        "few",
        &format!(
            "type = \"file\"\npath = \"{}\"\nrecords = [\"change\"]\nchanges = [\"decision_changed\"]\nhistorical_changes = true",
            path.display()
        ),
    );
    workspace.run_ok(&["once"]);
    let all = crate::support::records(&path);
    assert!(!all.is_empty() && all.iter().all(|r| r["change"]["what"] == "decision_changed"));
    let status = workspace.status();
    assert_eq!(status["sinks"][1]["backlog_days"], 0, "what it does not want is no backlog");
}

#[test]
fn a_baseline_is_set_shown_and_drifted_from() {
    let tenant = Tenant::new("");
    tenant.api.fail(SCORES, Fault::Edit(raise));
    tenant.once();
    let (control, _) = tenant.first_control();
    let workspace = &tenant.workspace;
    assert!(workspace.run_ok(&["baseline", "show"]).stderr.contains("no baseline is set"));
    workspace.run_ok(&["baseline", "set", "--name", "q4"]);
    let shown = workspace.run_ok(&["baseline", "show"]).stdout;
    assert!(
        shown.contains("baseline q4") && shown.contains(&format!("{control} 62.5%")),
        "{shown}"
    );
    assert_eq!(workspace.run(&["baseline", "diff", "--exit-code"]).code, 0);
    tenant.api.fail(SCORES, Fault::Edit(zero));
    let told = tenant.once();
    let drift = told.iter().find(|r| r["change"]["what"] == "baseline_drift").unwrap();
    assert_eq!(drift["control"]["id"], control.as_str());
    let baseline = &drift["change"]["baseline"];
    assert_eq!(
        (&baseline["name"], &baseline["target"], &baseline["below"]),
        (&json!("q4"), &json!("62.5%"), &json!(true))
    );
    let diff = workspace.run(&["baseline", "diff", "--exit-code"]);
    assert_eq!(diff.code, 1);
    assert!(diff.stdout.contains(&format!("contoso\t{control}\t62.5%\t0%")), "{}", diff.stdout);
    assert_eq!(workspace.run(&["baseline", "diff"]).code, 0);
}

#[test]
fn targets_from_a_file_go_through_a_running_daemon() {
    let tenant = Tenant::new("");
    tenant.once();
    let (control, _) = tenant.first_control();
    let workspace = &tenant.workspace;
    let file = workspace.path("ours.txt");
    fs(&file, &format!("# what we want\n{control}, 100%\n"));
    let path = file.display().to_string();
    let daemon = workspace.spawn(&["run"]);
    // Asked before it holds the checkpoint, the command would do it itself and stand in its way.
    crate::support::eventually("the daemon listens", || {
        workspace.state().join("control.sock").exists()
    });
    workspace.run_ok(&["baseline", "set", "--file", &path]);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert!(workspace.run_ok(&["baseline", "show"]).stdout.contains("baseline ours"));
    // A target that nobody has would never be missed.
    fs(&file, &format!("{control}X 100%\nNoSuchThing 5\n"));
    let refused = workspace.run(&["baseline", "set", "--file", &path]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains(&format!("the most similar control is `{control}`")),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("no tenant has a control `NoSuchThing`"), "{}", refused.stderr);
    fs(&file, "AdminMFAV2 much");
    let refused = workspace.run(&["baseline", "set", "--file", &path]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("ours.txt:1:"), "{}", refused.stderr);
}

/// Everything that changes in the simulated tenant's 90 days. `GOLDEN=write` writes it anew.
#[test]
fn ninety_simulated_days() {
    let last = Day::parse("2026-11-22").unwrap();
    let catalog = simulated::catalog(TENANT);
    let days: Vec<std::sync::Arc<DayFacts>> = (0..90)
        .rev()
        .map(|back| {
            let json = simulated::snapshot_json(TENANT, last.plus(-back), back == 0);
            DayFacts::of(&wire::snapshot(&json).unwrap()).unwrap().into()
        })
        .collect();
    let mut told = String::new();
    for (index, facts) in days.iter().enumerate() {
        let base = index.checked_sub(1).map(|base| Base {
            seq: base as u64 + 1,
            facts: &days[base],
            catalog: Some(&catalog),
            backfilled: true,
            earlier: &days[base.saturating_sub(12)..base],
        });
        let comparison = Comparison { base, first_contact: index == 0, ..Comparison::default() };
        let measured = Measured {
            day: facts.day,
            historical: index < 87,
            backfilled: index < 87,
            catalog: &catalog,
            comparison: &comparison,
        };
        let points: Vec<Point<'_>> = facts.controls.iter().map(Point::of).collect();
        for change in changes(&measured, &points) {
            let number = |n: Option<secure_score_forwarder::model::Number>| {
                n.map_or("-".to_owned(), |n| n.to_string())
            };
            let _ = writeln!(
                told,
                "{} {} {} {} {} -> {}{}{}",
                facts.day,
                change.what.as_str(),
                change.control,
                change.cause.as_str(),
                number(change.before.score),
                number(change.after.score),
                if change.historical { " historical" } else { "" },
                if change.flapping { " flapping" } else { "" },
            );
        }
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ninety_days.txt");
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(golden, &told).unwrap();
    }
    let kept = std::fs::read_to_string(golden).unwrap();
    let differing = kept.lines().zip(told.lines()).find(|(kept, told)| kept != told);
    assert!(kept == told, "the first line that differs: {differing:?}");
}
