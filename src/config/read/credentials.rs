//! Reads credentials: shared ones, which have a name, and those of individual tenants.
//!
//! Only references to secrets are read here; the secrets themselves are read when they are used.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::NamedCredential,
    model::TenantId,
    settings::Section,
    source::{
        Certificate, CertificateChain, ClientSecret, Credential, ManagedIdentity,
        ManagedIdentityId, RefreshTokenStore, UserCredential, WorkloadIdentity, from_environment,
    },
};

/// The shared credentials by name.
pub(super) type Shared = HashMap<String, NamedCredential>;

/// Reads the `[credentials.NAME]` sections of all files.
pub(super) fn shared(roots: &[Section<'_>], state_directory: Option<&Path>) -> Shared {
    let mut shared = Shared::new();

    for root in roots {
        let Some(all) = root.section("credentials") else { continue };
        for (name, section) in root.named("credentials") {
            if let Some(credential) = read(&section, name, "organizations", state_directory)
                && shared.insert(name.to_owned(), credential).is_some()
            {
                all.fault(name, format!("duplicate `credentials.{name}`: another file defines it"));
            }
        }
    }

    shared
}

/// The shared credential with this name. Reports a fault if there is none.
pub(super) fn named(
    section: &Section<'_>,
    name: &str,
    shared: &Shared,
) -> Option<Arc<dyn Credential>> {
    let found = shared.get(name).map(|shared| shared.credential.clone());

    if found.is_none() {
        let mut known: Vec<&str> = shared.keys().map(String::as_str).collect();
        known.sort_unstable();
        let hint = match known.as_slice() {
            [] => format!("add a section [credentials.{name}]"),
            known => format!("use one of: {}", known.join(", ")),
        };
        section.fault_with("credential", format!("unknown credential `{name}`"), Some(hint));
    }

    found
}

/// Reads one credential. If the section is not valid, reports the faults and returns `None`.
///
/// `home` is the tenant in which a user signs in unless the section sets `home_tenant`.
pub(super) fn read(
    section: &Section<'_>,
    name: &str,
    home: &str,
    state_directory: Option<&Path>,
) -> Option<NamedCredential> {
    let credential: Arc<dyn Credential> = match section.text("kind")? {
        "client_secret" => {
            let secret = section.secret("client_secret");
            // The secret is valid until the end of its last day.
            let expires = section.day("expires").map(|day| day.plus(1).at(0));
            Arc::new(ClientSecret { client_id: client_id(section)?, secret: secret?, expires })
        }
        "certificate" => {
            let file = section.path("certificate");
            let key = section.path("private_key");
            let password = section.secret("password");
            let chain = match section.bool("send_chain") {
                Some(true) => CertificateChain::Include,
                _ => CertificateChain::Omit,
            };
            let client_id = client_id(section)?;
            Arc::new(Certificate::new(client_id, file?, key, password, chain))
        }

        "workload_identity" => Arc::new(workload_identity(section)?),
        "managed_identity" => Arc::new(managed_identity(section)?),
        "user" => {
            // A refresh token is stored in the state directory, encrypted with the token key.
            let directory = state_directory?.join("tokens");
            let store = RefreshTokenStore::new(&directory, name, section.secret("token_key"));
            let home = section.text("home_tenant").unwrap_or(home).to_owned();
            Arc::new(UserCredential::new(name.to_owned(), client_id(section)?, home, store))
        }

        "environment" => match from_environment(variable) {
            Ok(credential) => credential,
            Err(error) => {
                section.fault("kind", error.to_string());
                return None;
            }
        },
        _ => return None,
    };

    let (file, location) = (section.faults().file().to_owned(), section.location("kind"));
    Some(NamedCredential { name: name.to_owned(), credential, file, location })
}

fn client_id(section: &Section<'_>) -> Option<String> {
    let id = section.text("client_id")?;
    if TenantId::parse(id).is_err() {
        section.fault(
            "client_id",
            "`client_id` must be the GUID that Entra calls \"Application (client) ID\"",
        );
    }
    Some(id.to_owned())
}

fn workload_identity(section: &Section<'_>) -> Option<WorkloadIdentity> {
    let or_variable = |key: &str, name: &str, given: Option<String>| {
        let found = given.or_else(|| variable(name));
        if found.is_none() {
            section.fault(key, format!("neither `{key}` nor `${name}` is set"));
        }
        found
    };

    let given = if section.has("client_id") { client_id(section) } else { None };
    let client_id = or_variable("client_id", "AZURE_CLIENT_ID", given);
    let given = section.text("token_file").map(str::to_owned);
    let token_file = or_variable("token_file", "AZURE_FEDERATED_TOKEN_FILE", given);

    Some(WorkloadIdentity { client_id: client_id?, token_file: PathBuf::from(token_file?) })
}

fn managed_identity(section: &Section<'_>) -> Option<ManagedIdentity> {
    let text = |key: &str| section.text(key).map(str::to_owned);
    let identity = match (text("client_id"), text("object_id"), text("resource_id")) {
        (None, None, None) => ManagedIdentityId::System,
        (Some(id), None, None) => ManagedIdentityId::Client(id),
        (None, Some(id), None) => ManagedIdentityId::Object(id),
        (None, None, Some(id)) => ManagedIdentityId::Resource(id),
        _ => {
            section
                .fault("kind", "only one of `client_id`, `object_id` and `resource_id` can be set");
            return None;
        }
    };

    match ManagedIdentity::detect(identity, variable) {
        Ok(identity) => Some(identity),
        Err(error) => {
            section.fault("kind", error.to_string());
            None
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
