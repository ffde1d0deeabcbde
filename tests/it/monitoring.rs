//! The alert rules and the dashboard cover what the daemon reports.

use std::{collections::BTreeSet, path::Path};

use secure_score_forwarder::conditions::ConditionKind;
use serde_json::Value;

fn read(path: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(folder.join(path)).unwrap()
}

/// The kinds of condition that have a separate alert.
const OWN_ALERTS: &[(ConditionKind, &str)] = &[
    (ConditionKind::LoopStalled, "SecureScoreForwarderStalled"),
    (ConditionKind::DiskFull, "SecureScoreDiskNearlyFull"),
    (ConditionKind::SinkParked, "SecureScoreSinkParked"),
    (ConditionKind::SinkRetrying, "SecureScoreSinkFailing"),
    (ConditionKind::DeadLetters, "SecureScoreRecordsRejected"),
    (ConditionKind::CredentialRejected, "SecureScoreSignInRejected"),
    (ConditionKind::TenantBehind, "SecureScoreTenantsBehind"),
    (ConditionKind::CredentialExpiring, "SecureScoreCredentialExpiring"),
];

/// Regression: no alert used the conditions with the severity `error`, and the one for rejected
/// records ended after an hour.
#[test]
fn every_error_condition_has_an_alert() {
    let alerts = read("deploy/monitoring/alerts.yml");
    let others = alerts.split("- alert: SecureScoreNeedsOperator").nth(1).unwrap();
    let excluded = others.split("kind!~\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(others.contains("severity=\"error\""), "{others}");

    let excluded: BTreeSet<&str> = excluded.split('|').collect();
    let own: BTreeSet<&str> = OWN_ALERTS.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(excluded, own, "a kind is excluded if it has a separate alert");
    for (kind, alert) in OWN_ALERTS {
        assert!(alerts.contains(&format!("- alert: {alert}\n")), "{kind:?}: no {alert}");
    }
    assert!(alerts.contains("expr: secure_score_forwarder_sink_dead_letters > 0"));
}

#[test]
fn every_alert_is_documented_and_tested() {
    let alerts = read("deploy/monitoring/alerts.yml");
    let (page, tests) =
        (read("docs/how-to/monitoring.md"), read("deploy/monitoring/alerts.test.yml"));
    let lines = alerts.lines();
    let names: Vec<&str> = lines.filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");

    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not documented");
        assert!(tests.contains(&format!("alertname: {name}")), "{name} is not tested");
    }
}

/// Regression: the dashboard showed neither the end of credentials, nor the next polls, nor the
/// process.
#[test]
fn the_dashboard_has_a_panel_for_each_subject() {
    let dashboard: Value =
        serde_json::from_str(&read("deploy/monitoring/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries: Vec<&str> =
        panels.iter().map(|panel| panel["targets"][0]["expr"].as_str().unwrap()).collect();
    for metric in [
        "secure_score_forwarder_conditions{",
        "secure_score_forwarder_tenant_credential_expiry_timestamp_seconds{",
        "secure_score_forwarder_tenant_next_poll_timestamp_seconds{",
        "process_resident_memory_bytes{",
        "process_cpu_seconds_total{",
        "process_open_fds{",
    ] {
        assert!(queries.iter().any(|query| query.contains(metric)), "no panel shows {metric}");
    }

    // Panels do not overlap: no two of them begin at the same place.
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    let place = |panel: &Value| (panel["gridPos"]["x"].as_i64(), panel["gridPos"]["y"].as_i64());
    let places: BTreeSet<_> = panels.iter().map(place).collect();
    assert_eq!((ids.len(), places.len()), (panels.len(), panels.len()));
}
