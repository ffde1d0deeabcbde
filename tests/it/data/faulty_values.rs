//! Values that cannot be used or cannot be correct: each costs only itself, and is reported once.

use serde_json::{Value, json};

use super::{EditedTenant, PROFILES, control, newest};
use crate::support::{faults::Fault, records_of_kinds};

/// A change of a page.
type Edit = fn(&mut Value);
/// Each costs only an element or a field, with the fault that reports it.
const EDITS: &[(Edit, &str)] = &[
    (
        |page| page["value"][1]["controlScores"][1] = Value::Null,
        "`controlScores[]` was removed: null instead of an object",
    ),
    (
        |page| page["value"][1]["controlScores"][1]["controlName"] = Value::Null,
        "`controlScores[]` was removed: `controlName` is null instead of a text",
    ),
    (
        |page| page["value"][1]["controlScores"][1]["score"] = Value::Null,
        ".score` is null instead of a number",
    ),
    (
        |page| page["value"][1]["currentScore"] = Value::Null,
        "`currentScore` is null instead of a number",
    ),
    (
        |page| page["value"][1]["enabledServices"][1] = Value::Null,
        "`enabledServices[]` was removed: null instead of a text",
    ),
    (
        |page| page["value"][1]["averageComparativeScores"][0] = Value::Null,
        "`averageComparativeScores[]` was removed: null instead of an object",
    ),
    (
        |page| {
            page["value"][1]["controlScores"][1]["description"] = json!("x".repeat(1_100_000));
        },
        ".description` was removed: more than 1,048,576 bytes in a text",
    ),
];

/// The only `quality` record that implausible data begins, of those with this subject: its details.
fn only_begin(tenant: &EditedTenant, subject: &str) -> String {
    let records = records_of_kinds(&tenant.workspace.path("local.jsonl"), &["quality"]);
    let quality = records.iter().map(|record| &record["quality"]);
    let begins: Vec<&Value> = quality
        .filter(|q| q["what"] == "implausible" && q["phase"] == "begin" && q["subject"] == subject)
        .collect();
    assert_eq!(begins.len(), 1, "{begins:?}");
    begins[0]["details"].as_str().unwrap().to_owned()
}

/// Regression: each of these elements cost the whole day, which was then reported as not listed by
/// Microsoft.
#[test]
fn a_bad_element_does_not_cost_a_day() {
    for (edit, expected) in EDITS {
        let tenant = EditedTenant::new();
        let streamed = tenant.scores(*edit).once();
        assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 3, "{expected}");
        let details = only_begin(&tenant, "secureScores");
        assert!(details.contains(expected), "{details}");
        assert!(!tenant.observations().iter().any(|o| o.starts_with("gap")), "{expected}");

        // The next poll reads the same days again.
        assert!(tenant.scores(*edit).once().is_empty(), "{expected}");
        only_begin(&tenant, "secureScores");
        tenant.once();
        assert!(tenant.observations().contains(&"implausible end".to_owned()), "{expected}");
    }
}

/// Regression: one profile that could not be used made the catalog partial, so every day was held.
#[test]
fn a_bad_profile_costs_only_itself() {
    let tenant = EditedTenant::new();
    tenant.profiles(|page| {
        let profiles = page["value"].as_array_mut().unwrap();
        let mut listed = profiles[0].clone();
        listed["id"] = json!("NeverScored");
        listed["threats"] = json!(["Account breach", null]);
        let mut unnamed = profiles[0].clone();
        unnamed["id"] = Value::Null;
        profiles.extend([Value::Null, listed.clone(), unnamed, listed]);
    });

    let streamed = tenant.once();
    assert!(control(&streamed, "AdminMFAV2").unwrap()["control"]["title"].is_string());
    let details = only_begin(&tenant, "secureScoreControlProfiles");
    for expected in [
        "a profile was removed: null instead of an object",
        "a profile was removed: `id` is null instead of a text",
        "`NeverScored.threats[]` was removed: null instead of a text (2 times)",
        "profile `NeverScored` appears more than once",
    ] {
        assert!(details.contains(expected), "{expected}: {details}");
    }
    assert!(!tenant.observations().contains(&"catalog_stale begin".to_owned()));

    tenant.once();
    assert_eq!(tenant.observations(), ["implausible begin", "implausible end"]);
}

/// Regression: a decision was invisible if its comment ended in the middle of a character, and one
/// whose state was spelled in another case was not an acceptance.
#[test]
fn a_decision_with_half_a_character_is_reported() {
    let accept = |text: String| {
        let mut page: Value = serde_json::from_str(&text).unwrap();
        let profiles = page["value"].as_array_mut().unwrap();
        let admin = profiles.iter_mut().find(|profile| profile["id"] == "AdminMFAV2").unwrap();
        admin["controlStateUpdates"] = json!([{
            "assignedTo": 7,
            "comment": "accepted HALF",
            "state": "ignored",
            "updatedBy": "anna@contoso.example",
            "updatedDateTime": "2026-11-01T00:00:01Z",
        }]);
        page.to_string().replace("HALF", "\\ud83d")
    };

    let tenant = EditedTenant::new();
    tenant.scores(|page| drop(page["value"].as_array_mut().unwrap().remove(0)));
    tenant.once();
    tenant.api.fail(PROFILES, Fault::Change(accept));
    tenant.once();

    let changes = records_of_kinds(&tenant.workspace.path("local.jsonl"), &["change"]);
    let decision = changes.iter().find(|r| r["change"]["what"] == "decision_changed").unwrap();
    assert_eq!(decision["change"]["severity"], 8, "{decision}");
    assert_eq!(decision["change"]["after"]["state_comment"], "accepted \u{fffd}");
    let details = only_begin(&tenant, "secureScoreControlProfiles");
    assert!(details.contains("contains half of a character"), "{details}");
    assert!(details.contains("assignedTo` is a number instead of a text"), "{details}");
}

/// Regression: impossible values were sent without a report.
#[test]
fn impossible_values_are_sent_and_reported_once() {
    let impossible = |page: &mut Value| {
        let day = &mut page["value"][0];
        day["currentScore"] = json!(1_000_000.5);
        day["controlScores"][0]["score"] = json!(-1.0);
        day["controlScores"][0]["scoreInPercentage"] = json!(-50.0);
        day["controlScores"][1]["score"] = json!(1_000.0);
        day["controlScores"][1]["scoreInPercentage"] = json!(150.0);
    };
    let tenant = EditedTenant::new();
    let streamed = tenant.scores(impossible).once();
    assert_eq!(newest(&streamed)["score"]["current"], json!(1_000_000.5));
    assert!(streamed.iter().any(|r| r["control"]["score"] == json!(-1.0)));

    let details = only_begin(&tenant, "secureScores");
    for expected in [
        "the score is negative",
        "the percentage is not between 0 and 100",
        "the tenant: the score is above the maximum score",
    ] {
        assert!(details.contains(expected), "{expected}: {details}");
    }
    assert!(tenant.scores(impossible).once().is_empty());
    only_begin(&tenant, "secureScores");
}

/// Regression: a fault of every day ended and began again with each day.
#[test]
fn a_lasting_fault_is_reported_once() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        for day in page["value"].as_array_mut().unwrap() {
            day["controlScores"][0]["scoreInPercentage"] = json!(150.0);
        }
    });
    tenant.once();
    assert_eq!(tenant.observations(), ["implausible begin"]);
}

/// Regression: a fault whose number changed from day to day ended and began again with each day.
#[test]
fn a_fault_with_another_number_is_the_same() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        page["value"].as_array_mut().unwrap().remove(0);
        page["value"][0]["controlScores"][0]["scoreInPercentage"] = json!(150.0);
    });
    tenant.once();
    tenant.scores(|page| {
        for (number, percentage) in [155.0, 150.0].into_iter().enumerate() {
            page["value"][number]["controlScores"][0]["scoreInPercentage"] = json!(percentage);
        }
    });
    tenant.once();
    assert_eq!(tenant.observations(), ["implausible begin"]);
}

/// Regression: with a control that was listed twice, the result depended on the order of the list,
/// so every poll could send another revision.
#[test]
fn repeated_controls_give_one_result_in_any_order() {
    fn repeat(page: &mut Value) {
        let scores = page["value"][0]["controlScores"].as_array_mut().unwrap();
        let mut other = scores[0].clone();
        other["score"] = json!(0.25);
        scores.push(other);
    }
    let reversed = |page: &mut Value| {
        repeat(page);
        page["value"][0]["controlScores"].as_array_mut().unwrap().reverse();
    };

    let tenant = EditedTenant::new();
    assert!(!tenant.scores(repeat).once().is_empty());
    assert!(only_begin(&tenant, "secureScores").contains("appears more than once"));
    assert!(tenant.scores(reversed).once().is_empty());
    assert!(tenant.scores(repeat).once().is_empty());
    only_begin(&tenant, "secureScores");
}
