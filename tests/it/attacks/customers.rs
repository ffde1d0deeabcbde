//! Other customers of a provider: names that become the same index or topic. See decision 0066.

use crate::support::{
    OTHER, Run, Workspace, endpoint::Endpoint, eventually, records, summaries, write,
};

/// A workspace with a second tenant, whose records a sink sends to an index with this name.
fn workspace(endpoint: &Endpoint, index: &str, second: &'static str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 2".to_owned();
    workspace.tenants.push((second, OTHER));
    workspace.file_sink("local");
    workspace.sink(
        "siem",
        &format!("type = \"elasticsearch\"\nurl = \"{}\"\nindex = \"{index}\"", endpoint.url),
    );
    workspace
}

/// Adds a file with a tenant that the provider has accepted from a customer.
fn add_tenant(workspace: &Workspace, name: &str, labels: &str) {
    let directory = workspace.path("tenants.d");
    std::fs::create_dir_all(&directory).unwrap();
    let tenant = format!(
        "[[tenants]]\nname = \"{name}\"\nid = \"bbbbbbbb-0000-4000-8000-00000000c0de\"\nlabels = {{ {labels} }}\n\
         [tenants.credential]\nkind = \"managed_identity\"\n"
    );
    write(directory.join("new.toml"), &tenant);
}

fn assert_rejected(run: &Run, parts: &[&str]) {
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    for part in parts {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
}

/// Regression: a customer chooses a name that differs from that of another customer only in
/// characters that an index cannot contain. Both names became the same index, and each customer
/// could read the records of the other. A name is now part of an index unchanged or not at all.
#[test]
fn a_similar_name_never_shares_an_index() {
    for second in ["Contoso", "con toso", "con/toso", "cöntoso"] {
        let endpoint = Endpoint::new("");
        let workspace = workspace(&endpoint, "score-{tenant.name}", second);
        let fault = format!(
            "sink `siem`: `index = \"score-{{tenant.name}}\"`: the name of tenant `{second}` contains "
        );
        let hint = "hint: use `{tenant.id}`, or add a label";
        for args in [["check"], ["once"], ["run"]] {
            assert_rejected(&workspace.run(&args), &[fault.as_str(), hint]);
        }
        assert!(endpoint.accepted().is_empty());
    }
}

/// Regression: a customer of which the provider records a label chooses its value so that, together
/// with the text around it, the name of the index is that of another customer.
#[test]
fn a_composed_name_never_shares_an_index() {
    let endpoint = Endpoint::new("");
    let mut workspace = workspace(&endpoint, "{label.group}-{label.site}", "fabrikam");
    workspace.extra += "\nlabels = { group = \"acme-north\", site = \"1\" }";
    assert_eq!(workspace.run(&["check"]).code, 0, "equal labels are meant to share an index");

    add_tenant(&workspace, "hostile", "group = \"acme\", site = \"north-1\"");
    let name = "result in the same name, `acme-north-1`";
    let tenants = "the tenants `contoso` and `hostile`";
    assert_rejected(&workspace.run(&["check"]), &["sink `siem`", tenants, name, "hint: "]);
}

/// A customer is added while the daemon is running: the configuration is rejected as a whole, and
/// the records of the other customers are still delivered.
#[test]
fn a_reload_rejects_a_shared_index() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3\nlabels = { site = \"north\" }".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("three days are delivered", || summaries(&file) == 3);

    workspace.sink(
        "siem",
        "type = \"elasticsearch\"\nurl = \"https://127.0.0.1:1\"\nindex = \"score-{label.site}\"",
    );
    add_tenant(&workspace, "hostile", "site = \"NORTH\"");
    let part = "the label `site` of tenant `hostile` contains `N`";
    assert_rejected(&workspace.run(&["reload"]), &[part]);

    workspace.clear_sinks();
    let file = workspace.file_sink("local");
    std::fs::remove_dir_all(workspace.path("tenants.d")).unwrap();
    workspace.run_ok(&["reload"]);
    eventually("the backfill has finished", || {
        workspace.run(&["backfill", "--days", "4"]).code == 0
    });
    eventually("four days are delivered", || summaries(&file) == 4);
    assert!(records(&file).iter().all(|record| record["tenant"]["name"] == "contoso"));
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Regression: the shared credential `tenant contoso` and the credential in the section of the
/// tenant `contoso` stored their refresh tokens in the same file.
#[test]
fn credentials_of_customers_never_share_a_token() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let client = "client_id = \"11111111-2222-4333-8444-555555555555\"";
    workspace.head = format!("[credentials.\"tenant contoso\"]\nkind = \"user\"\n{client}\n");
    workspace.credential = Some(format!("[tenants.credential]\nkind = \"user\"\n{client}"));
    let part = "begins like that of a credential in the section of a tenant";
    assert_rejected(&workspace.run(&["check"]), &["`tenant contoso`", part, "hint: "]);
}
