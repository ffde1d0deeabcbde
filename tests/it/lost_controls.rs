//! Days of which some or all controls cannot be used: nothing is reported as removed or added that
//! still exists.

use serde_json::Value;

use crate::{data::EditedTenant, support::records_of_kinds};

/// The controls that were reported as removed or added.
fn removed_and_added(tenant: &EditedTenant) -> Vec<String> {
    let records = records_of_kinds(&tenant.workspace.path("local.jsonl"), &["change"]);
    let is_listed =
        |r: &&Value| ["removed", "added"].iter().any(|what| r["change"]["what"] == *what);
    records.iter().filter(is_listed).map(|r| r["change"].to_string()).collect()
}

/// Regression: a null in the place of a control was a removed control, and an added one when it
/// returned.
#[test]
fn a_lost_control_is_neither_removed_nor_added() {
    let unedited = EditedTenant::new();
    unedited.once();

    let tenant = EditedTenant::new();
    tenant.scores(|page| page["value"][0]["controlScores"][1] = Value::Null).once();
    assert_eq!(removed_and_added(&tenant).len(), removed_and_added(&unedited).len());
    // The control returns.
    assert!(!tenant.once().is_empty());
    assert_eq!(removed_and_added(&tenant).len(), removed_and_added(&unedited).len());
}

/// Regression: a day with an empty list of controls reported all of them as removed.
#[test]
fn an_emptied_day_is_rejected() {
    const REASON: &str = "`controlScores` is an empty list, although an earlier day has controls";

    let tenant = EditedTenant::new();
    let summaries = |records: &[Value]| records.iter().filter(|r| r["kind"] == "summary").count();
    assert_eq!(summaries(&tenant.once()), 3);
    let before = removed_and_added(&tenant).len();

    // The copies of all days are empty, those of the stored ones too.
    tenant.scores(|page| {
        for day in page["value"].as_array_mut().unwrap() {
            day["controlScores"] = serde_json::json!([]);
        }
    });
    assert_eq!(summaries(&tenant.once()), 0);
    let records = records_of_kinds(&tenant.workspace.path("local.jsonl"), &["quality"]);
    let is_reported = |r: &&Value| r["quality"].to_string().contains(REASON);
    assert_eq!(records.iter().filter(is_reported).count(), 3, "{records:?}");
    assert_eq!(removed_and_added(&tenant).len(), before);

    // The days are read again.
    assert_eq!(summaries(&tenant.once()), 0);
    assert_eq!(tenant.workspace.status()["tenants"][0]["missing_days"], 0);
}

/// A tenant that has never had a control has empty days.
#[test]
fn a_tenant_without_controls_is_accepted() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        for day in page["value"].as_array_mut().unwrap() {
            day["controlScores"] = serde_json::json!([]);
        }
    });
    let summaries = tenant.once().iter().filter(|r| r["kind"] == "summary").count();
    assert_eq!(summaries, 3);
}

/// Regression: a day without its list of controls reported all of them as removed.
#[test]
fn a_day_without_usable_controls_is_rejected() {
    /// A change of a page.
    type Edit = fn(&mut Value);
    const EDITS: [Edit; 2] = [
        |page| page["value"][0]["controlScores"] = Value::Null,
        |page| page["value"][0]["controlScores"] = serde_json::json!([null, { "score": 1 }]),
    ];

    for edit in EDITS {
        let tenant = EditedTenant::new();
        let summaries =
            |records: &[Value]| records.iter().filter(|r| r["kind"] == "summary").count();
        assert_eq!(summaries(&tenant.scores(edit).once()), 2);
        let records = records_of_kinds(&tenant.workspace.path("local.jsonl"), &["quality"]);
        let reason = "no control can be used";
        let is_reported = records.iter().any(|r| r["quality"].to_string().contains(reason));
        assert!(is_reported, "{records:?}");

        // The day is accepted as soon as it has its controls.
        assert_eq!(summaries(&tenant.once()), 1);
    }
}
