//! Pages that must not be requested, and pages without items.

use serde_json::json;

use crate::{
    support::faults::{Fault, FaultyApi},
    throttling::against,
};

const SCORES: &str = "/secureScores";

/// Parts of the paths of all requests with a token or a secret.
const PATHS: [&str; 3] = ["/token", SCORES, "/secureScoreControlProfiles"];

/// Neither a link to the next page nor a redirect sends a token or a secret to another server.
#[test]
fn no_other_server_receives_a_request() {
    let other = FaultyApi::new();
    let address = format!("{}/v1.0/security/secureScores?$skiptoken=1", other.url);
    let page = format!(r#"{{"value":[],"@odata.nextLink":"{address}"}}"#);
    let content_type = ("content-type", "application/json".to_owned());
    let link = Fault::Respond(200, vec![content_type], page.into_bytes());

    let mut faults = vec![(SCORES, link)];
    for status in [301, 302, 303, 307, 308] {
        let redirect = Fault::Respond(status, vec![("location", address.clone())], Vec::new());
        faults.extend(PATHS.map(|path| (path, redirect.clone())));
    }
    for (path, fault) in faults {
        let api = FaultyApi::new();
        let workspace = against(&api, 3);
        api.fail(path, fault.clone());
        workspace.run(&["once"]);

        let is_requested = api.requests().iter().any(|request| request.contains(path));
        assert!(is_requested, "{path} {fault:?}");
        assert!(other.requests().is_empty(), "{path} {fault:?}: {:?}", other.requests());
    }
}

#[test]
fn an_empty_page_does_not_end_the_read() {
    let api = FaultyApi::new();
    let workspace = against(&api, 20);
    let days = || workspace.status()["tenants"][0]["days"].clone();

    // The first page of ten days is empty, and has a link to the second one.
    api.fail(SCORES, Fault::Edit(|page| page["value"] = json!([])));
    workspace.run(&["once"]);
    assert_eq!(days(), 10);

    workspace.run(&["once"]);
    assert_eq!(days(), 20);
}
