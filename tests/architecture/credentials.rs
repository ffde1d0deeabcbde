//! One module decides to which addresses a credential may be sent. See decision 0066.

use crate::{
    code::{names, production_code},
    files::{expect_none, rust_files},
};

/// Methods that decide whether an address is within this host or its platform.
const DECISIONS: &[&str] = &["is_loopback", "is_link_local", "is_unicast_link_local"];

/// Files that may call them: the rule itself, and the admin server, which sends no credential and
/// examines the addresses of its clients.
const PLACES: &[&str] = &["src/net/credentials.rs", "src/admin/server.rs", "src/config/listen.rs"];

#[test]
fn addresses_for_credentials_are_decided_once() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        if PLACES.contains(&file.path.as_str()) {
            continue;
        }
        for (line, text) in production_code(&file) {
            for name in DECISIONS.iter().filter(|name| names(&text, name)) {
                violations.push(format!("{}:{line}: `{name}`: use `CredentialChannel`", file.path));
            }
        }
    }
    expect_none(&violations, "a sender decides itself where a credential may be sent");
}
