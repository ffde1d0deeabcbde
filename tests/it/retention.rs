//! Data that the checkpoint removes: bodies past their retention or above the size limit, and
//! tenants that an operator erases.

use crate::{
    state::{query, sql, with_days},
    support::{OTHER, TENANT, Workspace, eventually, summaries},
};

#[test]
fn completes_an_interrupted_erasure_with_its_receipt() {
    let (mut workspace, _) = with_days(5);
    let forget =
        |workspace: &Workspace| workspace.run(&["state", "forget", "--tenant", TENANT, "--yes"]);
    let configuration = workspace.configuration().replace(TENANT, OTHER);
    workspace.literal = Some(configuration);

    // Another process reads for longer than the command waits, so erased data remains on disk.
    let reader = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM entry").unwrap();
    let interrupted = forget(&workspace);
    assert_eq!(interrupted.code, 1, "{}", interrupted.stdout);
    assert!(
        interrupted.stderr.contains("hint: run `state forget` again"),
        "{}",
        interrupted.stderr
    );
    drop(reader);

    let run = forget(&workspace);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("\"snapshots\": 5"), "{}", run.stdout);
    assert_eq!(forget(&workspace).code, 2, "the tenant no longer exists");

    for file in ["checkpoint.db", "checkpoint.db-wal", "cursors.json"] {
        let bytes = std::fs::read(workspace.state().join(file)).unwrap_or_default();
        assert!(!crate::support::contains(&bytes, TENANT), "{file}");
    }
}

#[test]
fn pruning_keeps_unsent_bodies() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let file = workspace.file_sink("local");
    let port = crate::support::free_port();
    workspace.sink("far", &format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\""));
    assert_eq!(workspace.run(&["once"]).code, 1);
    let bodies =
        || query(&workspace, "SELECT count(*) FROM entry WHERE kind = 1 AND body IS NOT NULL");

    // All entries are moved 500 days into the past.
    sql(&workspace, "UPDATE entry SET day = day - 500; UPDATE cursor SET floor = floor - 500");
    let run = workspace.run_ok(&["state", "prune"]);
    assert!(run.stdout.starts_with("pruned the bodies of 0 days"), "{}", run.stdout);
    assert_eq!(bodies(), 20, "one sink has received none of them");

    sql(
        &workspace,
        "UPDATE cursor SET seq = 11 WHERE sink = (SELECT id FROM sink WHERE name = 'far')",
    );
    let run = workspace.run_ok(&["state", "prune", "--compact"]);
    assert!(run.stdout.starts_with("pruned the bodies of 10 days"), "{}", run.stdout);
    assert_eq!(bodies(), 10);
    workspace.run_ok(&["state", "verify"]);
    assert_eq!(workspace.status()["tenants"][0]["days"], 20, "facts are kept");
    assert_eq!(summaries(&file), 20);
}

#[test]
fn size_limit_prunes_all_but_the_newest_days() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 10".to_owned();
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    sql(
        &workspace,
        "UPDATE entry SET day = day - 100 WHERE seq <= 6; UPDATE cursor SET floor = floor - 200",
    );

    let configuration =
        workspace.configuration().replace("[state]\n", "[state]\nmax_size = \"1KiB\"\n");
    workspace.literal = Some(configuration);

    let run = workspace.run_ok(&["state", "prune"]);
    assert!(run.stdout.starts_with("pruned the bodies of 6 days"), "{}", run.stdout);
    assert!(run.stderr.contains("larger than `state.max_size`"), "{}", run.stderr);
}

#[test]
fn erases_a_tenant_completely_and_prints_a_receipt() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace.tenants.push(("fabrikam", OTHER));
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the days of both tenants are sent", || summaries(&file) == 10);

    let forget = ["state", "forget", "--tenant", OTHER, "--yes"];
    let run = workspace.run(&forget);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("remove the tenant from the configuration, and reload"),
        "{}",
        run.stderr
    );

    workspace.tenants.pop();
    workspace.write_configuration();
    let active = workspace.run(&forget);
    assert_eq!(active.code, 2);
    assert!(
        active.stderr.contains("the running configuration still contains the tenant"),
        "{}",
        active.stderr
    );

    daemon.signal("HUP");
    let unconfirmed = workspace.run(&forget[..4]);
    assert_eq!(unconfirmed.code, 2);
    assert!(unconfirmed.stderr.contains("nothing was erased"), "{}", unconfirmed.stderr);

    let mut receipt = String::new();
    eventually("the daemon has reloaded and erases the tenant", || {
        let run = workspace.run(&forget);
        receipt = run.stdout;
        run.code == 0
    });
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["erased"]["tenant"], OTHER);
    assert_eq!(receipt["erased"]["snapshots"], 5);

    workspace.run_ok(&["backfill", "--days", "6"]);
    eventually("a new day of the other tenant is sent", || summaries(&file) == 11);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    for entry in std::fs::read_dir(workspace.state()).unwrap() {
        let path = entry.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        assert!(
            !crate::support::contains(&content, OTHER),
            "the GUID is still in {}",
            path.display()
        );
    }
    workspace.run_ok(&["state", "verify"]);
    assert_eq!(workspace.status()["tenants"].as_array().unwrap().len(), 1);
    assert_eq!(workspace.status()["tenants"][0]["id"], TENANT);
    let unknown = workspace.run(&forget);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("the checkpoint contains no data of tenant"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn once_prunes_expired_bodies() {
    let (workspace, _) = with_days(5);
    sql(
        &workspace,
        "UPDATE entry SET day = day - 500; UPDATE cursor SET floor = floor - 500; DELETE FROM meta WHERE key = 'pruned'",
    );

    workspace.run_ok(&["once"]);
    let old = "SELECT count(*) FROM entry WHERE kind = 1 AND body IS NOT NULL AND seq <= 5";
    assert_eq!(query(&workspace, old), 0);
}

#[test]
fn status_ignores_errors_of_removed_tenants() {
    let (workspace, _) = with_days(3);
    assert_eq!(workspace.run(&["status"]).code, 0);
    sql(
        &workspace,
        "INSERT INTO tenant (guid, last_error) VALUES ('aaaaaaaa-0000-4000-8000-00000000c0de', 'no consent')",
    );
    let run = workspace.run(&["status"]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(run.stdout.contains("not configured"), "{}", run.stdout);
}

/// Regression: each pruned body scanned the whole log, which took minutes for a few hundred bodies
/// at a thousand tenants.
#[test]
fn pruning_uses_indexes() {
    let (workspace, _) = with_days(1);
    let connection = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    for (statement, index) in [
        ("SELECT 1 FROM entry WHERE body = 7", "entry_body"),
        ("SELECT 1 FROM entry WHERE catalog = 7", "entry_catalog"),
        (
            "SELECT 1 FROM entry e WHERE e.day < 7 AND e.kind = 1 AND e.body IS NOT NULL ORDER BY e.day LIMIT 500",
            "entry_body_day",
        ),
    ] {
        let plan: String = connection
            .query_row(&format!("EXPLAIN QUERY PLAN {statement}"), [], |row| row.get(3))
            .unwrap();
        assert!(plan.contains(index), "{plan}");
    }
}
