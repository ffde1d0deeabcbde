//! The registration scripts, and the requests in the guide to signing in, do what the manual
//! describes, in a substitute for the directory of a tenant. `attacks/directory_user.rs` tests what
//! the scripts refuse.

use std::{os::unix::fs::PermissionsExt, process::Command};

use serde_json::json;

use super::{commands, pages};
use crate::support::{
    Run, Workspace,
    registration::{GRAPH_PRINCIPAL, ROLE, Registration, SCRIPTS, Script},
};

#[test]
fn registration_prints_a_valid_configuration() {
    for script in SCRIPTS {
        let registration = Registration::new(&json!({}));
        let run = registration.run(script, &[]);
        assert_eq!(run.code, 0, "{script:?}: {run:?}");

        // Only the certificate is uploaded.
        let directory = registration.directory();
        let app = &directory["applications"][0];
        let uploaded = app["keyCredentials"][0]["key"].as_str().unwrap();
        let pem = std::fs::read_to_string(registration.key()).unwrap();
        assert!(pem.contains("-----BEGIN PRIVATE KEY-----"), "{script:?}");
        assert!(pem.replace('\n', "").contains(uploaded), "{script:?}: {directory}");
        assert!(!directory.to_string().contains("PRIVATE KEY"), "{script:?}: {directory}");
        assert_eq!(app["signInAudience"], "AzureADMyOrg", "{script:?}");
        let mode = std::fs::metadata(registration.key()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{script:?}");

        // The section of the configuration is valid with the new key.
        let target = "/etc/secure-score-forwarder/secure-score-forwarder.pem";
        let (_, section) = run.stdout.split_once("[[tenants]]").unwrap();
        let section = section.replace(target, &registration.key().display().to_string());
        let mut workspace = Workspace::against("http://127.0.0.1:1");
        let configuration = format!(
            "[state]\ndirectory = \"{}\"\n[[sinks]]\nname = \"out\"\ntype = \"stdout\"\n[[tenants]]{section}",
            workspace.state().display()
        );
        workspace.literal = Some(configuration);
        workspace.run_ok(&["check"]);

        let again = registration.run(script, &[]);
        assert_eq!(again.code, 1, "{script:?}: an existing key is not overwritten");
        assert!(again.stderr.contains("is not overwritten"), "{script:?}: {}", again.stderr);
        assert_eq!(registration.directory()["requests"], directory["requests"], "{script:?}");
    }
}

#[test]
fn options_change_the_application_and_the_cloud() {
    let uri = "https://portal.example.com/consent";
    for script in SCRIPTS {
        for (cloud, host) in
            [("us-gov-high", "graph.microsoft.us"), ("us-gov-dod", "dod-graph.microsoft.us")]
        {
            let registration = Registration::new(&json!({ "cloud": "AzureUSGovernment" }));
            let options = ["--cloud", cloud, "--multi-tenant", "--redirect-uri", uri];
            let run = registration.run(script, &options);
            assert_eq!(run.code, 0, "{script:?}: {run:?}");
            assert!(run.stdout.contains(&format!("cloud = \"{cloud}\"")), "{}", run.stdout);

            let directory = registration.directory();
            let app = &directory["applications"][0];
            assert_eq!(directory["host"], host, "{script:?}");
            assert_eq!(app["signInAudience"], "AzureADMultipleOrgs", "{script:?}");
            assert_eq!(app["web"]["redirectUris"], json!([uri]), "{script:?}");
        }
    }

    // The Azure CLI would send the token of one cloud to another one.
    let registration = Registration::new(&json!({ "cloud": "AzureCloud" }));
    let run = registration.run(Script::Shell, &["--cloud", "us-gov-high"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("az cloud set --name AzureUSGovernment"), "{}", run.stderr);
    assert_eq!(registration.directory()["requests"], json!(null));
}

/// A value becomes a part of a request and of a path, so it is checked before the first request.
#[test]
fn invalid_values_cause_no_request() {
    for script in SCRIPTS {
        for options in [
            ["--name", "../other"],
            ["--name", "a' or 'b"],
            ["--name", "-x"],
            ["--days", "0"],
            ["--redirect-uri", "http://portal.example.com"],
            ["--redirect-uri", "https://portal.example.com/\"], \"x\": [\""],
            ["--cloud", "china"],
            ["--app-id", "secure-score-forwarder"],
            ["--owner", "admin@contoso.example"],
        ] {
            let registration = Registration::new(&json!({}));
            let run = registration.run(script, &options);
            assert_eq!(run.code, 1, "{script:?}: {options:?}: {run:?}");
            assert_eq!(registration.directory()["requests"], json!(null), "{script:?}");
        }
    }

    let registration = Registration::new(&json!({}));
    assert_eq!(registration.run(Script::Shell, &["--unknown"]).code, 2);
}

/// Without a response, the application may exist, and its key must not get lost.
#[test]
fn the_key_is_kept_unless_creation_was_rejected() {
    for script in SCRIPTS {
        let registration = Registration::new(&json!({ "lost": ["POST applications"] }));
        let run = registration.run(script, &[]);
        assert_eq!(run.code, 1, "{script:?}: {run:?}");
        assert!(run.stderr.contains("may not have been created"), "{script:?}: {}", run.stderr);
        assert!(registration.key().exists(), "{script:?}");

        let mut directory = registration.directory();
        directory["lost"] = json!([]);
        registration.set_directory(&directory);
        let client = directory["applications"][0]["appId"].as_str().unwrap();
        let run = registration.run(script, &["--app-id", client]);
        assert_eq!(run.code, 0, "{script:?}: {run:?}");

        let registration = Registration::new(&json!({ "denied": ["POST applications"] }));
        let run = registration.run(script, &[]);
        assert_eq!(run.code, 1, "{script:?}: {run:?}");
        assert!(run.stderr.contains("Application Administrator"), "{script:?}: {}", run.stderr);
        assert!(!registration.key().exists(), "{script:?}");
    }
}

/// The key would become readable by the owner of the target of the link.
#[test]
fn the_key_is_not_written_through_links() {
    for script in SCRIPTS {
        let registration = Registration::new(&json!({}));
        let target = registration.path("target");
        std::fs::create_dir(registration.path("out")).unwrap();
        std::os::unix::fs::symlink(&target, registration.key()).unwrap();

        let run = registration.run(script, &[]);
        assert_eq!(run.code, 1, "{script:?}: {run:?}");
        assert!(!target.exists(), "{script:?}");
        assert_eq!(registration.changes(), Vec::<String>::new(), "{script:?}");
    }
}

#[test]
fn documented_requests_to_graph_succeed() {
    const IDENTITY: &str = "cccccccc-0000-4000-8000-000000000005";
    let identity = json!({ "id": IDENTITY, "appId": "cccccccc-0000-4000-8000-000000000006" });
    let registration = Registration::new(&json!({ "servicePrincipals": [identity] }));
    assert_eq!(registration.run(Script::Shell, &[]).code, 0);
    let before = registration.directory();
    let client = before["applications"][0]["appId"].as_str().unwrap();

    let page = pages().remove("docs/how-to/sign-in.md").unwrap();
    let is_request = |command: &String| command.contains("az rest ");
    let requests: Vec<String> = commands(&page).into_iter().filter(is_request).collect();
    assert_eq!(requests.len(), 3, "{requests:?}");
    let text = requests.join("\n").replace("CLIENT_ID", client);
    let text = text.replace("IDENTITY_OBJECT_ID", IDENTITY);
    let mut shell = Command::new("sh");
    shell.args(["-ec", &text]);
    let run = Run::of(registration.on_host(&mut shell).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("secret-of-the-application"), "{}", run.stdout);

    // The secret is added to the certificate, and the identity gets one permission.
    let after = registration.directory();
    let app = &after["applications"][0];
    assert_eq!(app["passwordCredentials"].as_array().unwrap().len(), 1);
    assert_eq!(app["keyCredentials"], before["applications"][0]["keyCredentials"]);
    let granted =
        json!([{ "principalId": IDENTITY, "resourceId": GRAPH_PRINCIPAL, "appRoleId": ROLE }]);
    assert_eq!(after["servicePrincipals"][0]["assignments"], granted);
}
