//! A user of the tenant's directory who prepares an app registration before the administrator does.
//! By default, every user can create one, with any name and any list of permissions. See decision
//! 0061.

use serde_json::{Value, json};

use crate::support::registration::{
    ADMINISTRATOR, GRAPH, GRAPH_PRINCIPAL, ROLE, Registration, SCRIPTS, Script,
};

/// The app role `RoleManagement.ReadWrite.Directory`, with which an application can make itself
/// administrator of the tenant.
const POWERFUL_ROLE: &str = "9e3f62cf-ca93-4989-b6ce-bf83c28f9fe8";
const ATTACKER: &str = "bbbbbbbb-0000-4000-8000-000000000002";
const PLANTED_OBJECT: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
const PLANTED_CLIENT: &str = "aaaaaaaa-0000-4000-8000-00000000000b";

/// An application with the name that the scripts use by default, a permission more than they
/// require, and a secret that the attacker knows. Names are not case-sensitive in Entra. The name
/// of the owner contains an escape sequence.
fn planted() -> Value {
    json!({
        "id": PLANTED_OBJECT,
        "appId": PLANTED_CLIENT,
        "displayName": "Secure-Score-Forwarder",
        "signInAudience": "AzureADMyOrg",
        "requiredResourceAccess": [{
            "resourceAppId": GRAPH,
            "resourceAccess": [{ "id": ROLE, "type": "Role" }, { "id": POWERFUL_ROLE, "type": "Role" }],
        }],
        "keyCredentials": [],
        "passwordCredentials": [{ "keyId": "dddddddd-0000-4000-8000-000000000004" }],
        "owners": [{ "id": ATTACKER, "userPrincipalName": "m\u{1b}[31m@contoso.example" }],
    })
}

/// What a script must never do to the directory: any change, or any command of the Azure CLI other
/// than requests to Microsoft Graph, such as `az ad app permission admin-consent`.
fn assert_unchanged(registration: &Registration, script: Script) {
    let directory = registration.directory();
    assert_eq!(directory["applications"], json!([planted()]), "{script:?}");
    assert_eq!(directory["commands"], Value::Null, "{script:?}");
    let principals = directory["servicePrincipals"].as_array().unwrap();
    assert!(principals.iter().all(|one| one["id"] == GRAPH_PRINCIPAL), "{script:?}");
}

/// Regression: an attacker plants an application with the expected name, which requires powerful
/// permissions. The scripts adopted it, added a credential to it, and granted everything that it
/// requires. They now refuse a name that is taken, and change nothing.
#[test]
fn a_planted_application_is_refused() {
    for script in SCRIPTS {
        let registration = Registration::new(&json!({ "applications": [planted()] }));
        let run = registration.run(script, &[]);
        assert_eq!(run.code, 1, "{script:?}: {run:?}");

        let message = "another application is named `secure-score-forwarder`: nothing was changed";
        for part in [message, PLANTED_CLIENT, ATTACKER, "  hint: "] {
            assert!(run.stderr.contains(part), "{script:?}: {part}: {}", run.stderr);
        }
        assert!(!run.stderr.contains('\u{1b}'), "{script:?}: {}", run.stderr);

        assert_unchanged(&registration, script);
        assert_eq!(registration.changes(), Vec::<String>::new(), "{script:?}");
        assert!(!registration.key().exists(), "{script:?}");
    }
}

/// Regression: an attacker plants the application between the check of the name and the creation.
/// The scripts detect that the name is not unique before they grant anything, and delete their own
/// application.
#[test]
fn an_application_that_appears_meanwhile_is_detected() {
    for script in SCRIPTS {
        let registration = Registration::new(&json!({ "appears": planted() }));
        let run = registration.run(script, &[]);
        assert_eq!(run.code, 1, "{script:?}: {run:?}");
        for part in ["it appeared during the registration", PLANTED_CLIENT, ATTACKER] {
            assert!(run.stderr.contains(part), "{script:?}: {part}: {}", run.stderr);
        }

        assert_unchanged(&registration, script);
        let changes = registration.changes();
        assert!(changes[1].starts_with("DELETE applications/"), "{script:?}: {changes:?}");
        assert_eq!((changes[0].as_str(), changes.len()), ("POST applications", 2), "{script:?}");
        assert!(!registration.key().exists(), "{script:?}");

        // If its own application cannot be deleted, it has no permission, and its ID is printed.
        let denied = json!({ "appears": planted(), "denied": ["DELETE applications"] });
        registration.set_directory(&denied);
        let run = registration.run(script, &[]);
        let directory = registration.directory();
        let own = directory["applications"][1]["appId"].as_str().unwrap();
        assert!(run.stderr.contains(&format!("`{own}` could not be deleted")), "{}", run.stderr);
        assert_eq!(directory["servicePrincipals"].as_array().unwrap().len(), 1, "{script:?}");
    }
}

/// The application of the scripts has one required permission, one credential and one granted
/// permission, also if a new object is not visible at first.
#[test]
fn registration_grants_exactly_one_role() {
    for (script, replication) in SCRIPTS.into_iter().flat_map(|script| [(script, 0), (script, 2)]) {
        let registration = Registration::new(&json!({ "replication": replication }));
        let run = registration.run(script, &[]);
        assert_eq!(run.code, 0, "{script:?}: {run:?}");

        let directory = registration.directory();
        let [app] = directory["applications"].as_array().unwrap().as_slice() else {
            panic!("{script:?}: {directory}")
        };
        let access = json!([{ "id": ROLE, "type": "Role" }]);
        let required = json!([{ "resourceAppId": GRAPH, "resourceAccess": access }]);
        assert_eq!(app["requiredResourceAccess"], required, "{script:?}");
        assert_eq!(app["passwordCredentials"], json!([]), "{script:?}");
        assert_eq!(app["keyCredentials"].as_array().unwrap().len(), 1, "{script:?}");

        let principal = &directory["servicePrincipals"][1];
        let granted = json!([{ "principalId": principal["id"], "resourceId": GRAPH_PRINCIPAL, "appRoleId": ROLE }]);
        assert_eq!(principal["appId"], app["appId"], "{script:?}");
        assert_eq!(principal["assignments"], granted, "{script:?}");
        assert_eq!(directory["commands"], Value::Null, "{script:?}");

        for part in [app["appId"].as_str().unwrap(), ADMINISTRATOR] {
            assert!(run.stdout.contains(part), "{script:?}: {part}: {}", run.stdout);
        }
        if replication == 0 {
            let grant = format!("POST servicePrincipals/{GRAPH_PRINCIPAL}/appRoleAssignedTo");
            let expected = ["POST applications", "POST servicePrincipals", &grant];
            assert_eq!(registration.changes(), expected, "{script:?}");
        }
    }
}

/// A new application that never becomes visible ends the script, before anything is granted.
#[test]
fn an_invisible_application_ends_the_script() {
    for script in SCRIPTS {
        let registration = Registration::new(&json!({ "replication": 1_000 }));
        let run = registration.run(script, &[]);
        let directory = registration.directory();
        let client = directory["applications"][0]["appId"].as_str().unwrap();
        let hint = match script {
            Script::Shell => format!("--app-id {client}`"),
            Script::PowerShell => format!("-AppId {client}`"),
        };
        assert_eq!(run.code, 1, "{script:?}: {run:?}");
        assert!(run.stderr.contains(&hint), "{script:?}: {}", run.stderr);
        assert_eq!(registration.changes(), ["POST applications"], "{script:?}");
        assert!(directory["requests"].as_array().unwrap().len() <= 8, "{script:?}: {directory}");
    }
}

/// A registration that stopped before the permission was granted: the host, and the ID of the
/// application.
fn interrupted(script: Script) -> (Registration, String) {
    let registration = Registration::new(&json!({ "denied": ["POST servicePrincipals/"] }));
    let run = registration.run(script, &[]);
    assert_eq!(run.code, 1, "{script:?}: {run:?}");
    assert!(run.stderr.contains("Privileged Role Administrator"), "{}", run.stderr);

    let mut directory = registration.directory();
    directory["denied"] = json!([]);
    registration.set_directory(&directory);
    let client = directory["applications"][0]["appId"].as_str().unwrap().to_owned();
    (registration, client)
}

/// What an attacker who could change the application in the meantime would do: the member of the
/// application, its new value, and the message.
fn tampered() -> [(&'static str, Value, &'static str); 8] {
    let [role, powerful] = [ROLE, POWERFUL_ROLE].map(|id| json!({ "id": id, "type": "Role" }));
    let delegated = json!({ "id": ROLE, "type": "Scope" });
    let requires = |access: Value| json!([{ "resourceAppId": GRAPH, "resourceAccess": access }]);
    let permissions = "requires other permissions than SecurityEvents.Read.All";
    let credentials = "has other credentials than one certificate";
    let attacker = json!([{ "id": ADMINISTRATOR }, { "id": ATTACKER }]);

    [
        ("requiredResourceAccess", requires(json!([role, powerful])), permissions),
        ("requiredResourceAccess", requires(json!([delegated])), permissions),
        ("requiredResourceAccess", json!([]), permissions),
        ("passwordCredentials", json!([{ "keyId": "1" }]), credentials),
        ("keyCredentials", json!([{ "key": "AAAA" }]), "is not the one in"),
        ("keyCredentials", json!([{ "key": "AAAA" }, { "key": "BBBB" }]), credentials),
        ("federated", json!([{ "id": "1" }]), "federated credentials"),
        ("owners", attacker, "has another owner than"),
    ]
}

/// An attacker names the ID of a prepared application, or changes an application between the
/// creation and the grant. A registration is completed only if the application is exactly what the
/// script has created, and belongs to the administrator.
#[test]
fn a_changed_application_is_not_completed() {
    for script in SCRIPTS {
        let (registration, client) = interrupted(script);
        let untouched = registration.directory();
        let changes = registration.changes();

        for (member, value, message) in tampered() {
            let mut directory = untouched.clone();
            directory["applications"][0][member] = value;
            registration.set_directory(&directory);
            let run = registration.run(script, &["--app-id", &client]);
            assert_eq!(run.code, 1, "{script:?}: {member}: {run:?}");
            assert!(run.stderr.contains(message), "{script:?}: {message}: {}", run.stderr);
            assert_eq!(registration.changes(), changes, "{script:?}: {member}");
        }

        // An owner or a credential of the service principal has the same effect.
        let granted = json!([{ "resourceId": GRAPH_PRINCIPAL, "appRoleId": POWERFUL_ROLE }]);
        for (member, value, message) in [
            ("passwordCredentials", json!([{ "keyId": "1" }]), "has a credential"),
            ("owners", json!([{ "id": ATTACKER }]), "has another owner than"),
            ("assignments", granted, "has other permissions than"),
        ] {
            let mut directory = untouched.clone();
            directory["servicePrincipals"][1][member] = value;
            registration.set_directory(&directory);
            let run = registration.run(script, &["--app-id", &client]);
            assert_eq!(run.code, 1, "{script:?}: {member}: {run:?}");
            assert!(run.stderr.contains(message), "{script:?}: {message}: {}", run.stderr);
            assert_eq!(registration.changes(), changes, "{script:?}: {member}");
        }

        // An application of another user, with the same name, is not completed either.
        let mut directory = untouched.clone();
        directory["applications"].as_array_mut().unwrap().push(planted());
        registration.set_directory(&directory);
        for id in [client.as_str(), PLANTED_CLIENT] {
            let run = registration.run(script, &["--app-id", id]);
            assert_eq!(run.code, 1, "{script:?}: {run:?}");
            assert_eq!(registration.changes(), changes, "{script:?}");
        }

        registration.set_directory(&untouched);
        let run = registration.run(script, &["--app-id", &client]);
        assert_eq!(run.code, 0, "{script:?}: {run:?}");
        let directory = registration.directory();
        assert_eq!(directory["applications"], untouched["applications"], "{script:?}");
        assert_eq!(directory["servicePrincipals"][1]["assignments"][0]["appRoleId"], ROLE);

        // A second run finds nothing to do.
        let changes = registration.changes();
        assert_eq!(registration.run(script, &["--app-id", &client]).code, 0, "{script:?}");
        assert_eq!(registration.changes(), changes, "{script:?}");
    }
}

/// A colleague has registered the application, so the administrator names the colleague as its
/// owner.
#[test]
fn an_expected_owner_is_named_explicitly() {
    for script in SCRIPTS {
        let (registration, client) = interrupted(script);
        let mut directory = registration.directory();
        for collection in ["applications", "servicePrincipals"] {
            let index = usize::from(collection == "servicePrincipals");
            directory[collection][index]["owners"] = json!([{ "id": ATTACKER }]);
        }
        registration.set_directory(&directory);

        assert_eq!(registration.run(script, &["--app-id", &client]).code, 1, "{script:?}");
        let run = registration.run(script, &["--app-id", &client, "--owner", ATTACKER]);
        assert_eq!(run.code, 0, "{script:?}: {run:?}");
        assert!(run.stdout.contains(ATTACKER), "{script:?}: {}", run.stdout);
    }
}
