//! Reads credentials: shared ones, which have a name, and those of individual tenants.
//!
//! Only references to secrets are read here; the secrets themselves are read when they are used.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        NamedCredential,
        keys::{
            CREDENTIALS,
            credential::{
                CERTIFICATE, CLIENT_ID, CLIENT_SECRET, CredentialKind, EXPIRES, HOME_TENANT,
                IDENTITY_CLIENT_ID, KIND, OBJECT_ID, PASSWORD, PRIVATE_KEY, RESOURCE_ID,
                SEND_CHAIN, TOKEN_FILE, TOKEN_KEY, WORKLOAD_CLIENT_ID,
            },
        },
    },
    error::Explanation,
    model::TenantId,
    settings::{Key, KeyDefinition, Named, Section, Text, require_absolute},
    source::{
        Certificate, CertificateChain, ClientSecret, Credential, ManagedIdentity,
        ManagedIdentityId, RefreshTokenStore, UserCredential, WorkloadIdentity, from_environment,
    },
};

/// The beginning of the name of a credential in the section of a tenant; the tenant's name follows.
pub(super) const OF_TENANT: &str = "tenant ";

/// The shared credentials by name.
pub(super) type Shared = HashMap<String, NamedCredential>;

/// Reads the `[credentials.NAME]` sections.
pub(super) fn shared(root: &Section<'_>, state_directory: Option<&Path>) -> Shared {
    let sections = root.get(&CREDENTIALS).unwrap_or_default().into_iter();
    let read = sections.filter_map(|(name, section)| {
        // Otherwise, a user of one customer and that of a tenant would share a refresh token.
        if name.starts_with(OF_TENANT) {
            let message = format!(
                "the name of the credential `{name}` begins like that of a credential in the section of a tenant"
            );
            let hint = "use a name that does not begin with `tenant `";
            section.fault_with(&KIND, message, Some(hint.to_owned()));
        }
        let credential = read(&section, name, "organizations", state_directory)?;
        Some((name.to_owned(), credential))
    });
    read.collect()
}

/// The shared credential with this name, which is the value of a key. Reports a fault if there is
/// none.
pub(super) fn named<'a>(
    section: &Section<'_>,
    key: &impl Named,
    name: &str,
    shared: &'a Shared,
) -> Option<&'a NamedCredential> {
    let found = shared.get(name);

    if found.is_none() {
        let mut known: Vec<&str> = shared.keys().map(String::as_str).collect();
        known.sort_unstable();
        let hint = match known.as_slice() {
            [] => format!("add a section [credentials.{name}]"),
            known => format!("use one of: {}", known.join(", ")),
        };
        section.fault_with(key, format!("unknown credential `{name}`"), Some(hint));
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
    let credential: Arc<dyn Credential> = match section.get(&KIND)? {
        CredentialKind::ClientSecret => {
            let secret = section.get(&CLIENT_SECRET);
            // The secret is valid until the end of its last day.
            let expires = section.get(&EXPIRES).map(|day| day.plus(1).at(0));
            let client_id = client_id(section, &CLIENT_ID)?;
            Arc::new(ClientSecret { client_id, secret: secret?, expires })
        }
        CredentialKind::Certificate => {
            let file = section.get(&CERTIFICATE);
            let key = section.get(&PRIVATE_KEY);
            let password = section.get(&PASSWORD);
            let chain = if section.get(&SEND_CHAIN) {
                CertificateChain::Include
            } else {
                CertificateChain::Omit
            };
            let client_id = client_id(section, &CLIENT_ID)?;
            Arc::new(Certificate::new(client_id, file?, key, password, chain))
        }

        CredentialKind::WorkloadIdentity => Arc::new(workload_identity(section)?),
        CredentialKind::ManagedIdentity => Arc::new(managed_identity(section)?),
        CredentialKind::User => {
            // A refresh token is stored in the state directory, encrypted with the token key.
            let directory = state_directory?.join("tokens");
            let store = RefreshTokenStore::new(&directory, name, section.get(&TOKEN_KEY));
            let home = section.get(&HOME_TENANT).unwrap_or(home).to_owned();
            let client_id = client_id(section, &CLIENT_ID)?;
            Arc::new(UserCredential::new(name.to_owned(), client_id, home, store))
        }

        CredentialKind::Environment => match from_environment(variable) {
            Ok(credential) => credential,
            Err(error) => {
                section.fault(&KIND, error.to_string());
                return None;
            }
        },
    };

    Some(NamedCredential { name: name.to_owned(), credential, origin: section.origin(&KIND) })
}

fn client_id(section: &Section<'_>, key: &Key<Text>) -> Option<String> {
    let id = section.get(key)?;
    if TenantId::parse(id).is_err() {
        section.fault(
            key,
            "`client_id` must be the GUID that Entra calls \"Application (client) ID\"",
        );
    }
    Some(id.to_owned())
}

fn workload_identity(section: &Section<'_>) -> Option<WorkloadIdentity> {
    let or_variable = |key: KeyDefinition, name: &str, given: Option<String>| {
        let found = given.or_else(|| variable(name));
        if found.is_none() {
            section.fault(&key, format!("neither `{}` nor `${name}` is set", key.name));
        }
        found
    };

    let given = client_id(section, &WORKLOAD_CLIENT_ID);
    let client_id = or_variable(WORKLOAD_CLIENT_ID.define(), "AZURE_CLIENT_ID", given);
    let given = section.get(&TOKEN_FILE).map(|path| path.display().to_string());
    let token_file = or_variable(TOKEN_FILE.define(), "AZURE_FEDERATED_TOKEN_FILE", given);
    let token_file = token_file.map(PathBuf::from);
    let relative = token_file
        .as_deref()
        .and_then(|file| require_absolute("$AZURE_FEDERATED_TOKEN_FILE", file).err());
    // The path in the configuration has already been checked.
    if let Some(Explanation { message, hint }) = relative.filter(|_| !section.has(&TOKEN_FILE)) {
        section.fault_with(&TOKEN_FILE, message, hint);
    }

    Some(WorkloadIdentity { client_id: client_id?, token_file: token_file? })
}

fn managed_identity(section: &Section<'_>) -> Option<ManagedIdentity> {
    let text = |key: &Key<Text>| section.get(key).map(str::to_owned);
    let identity = match (text(&IDENTITY_CLIENT_ID), text(&OBJECT_ID), text(&RESOURCE_ID)) {
        (None, None, None) => ManagedIdentityId::System,
        (Some(id), None, None) => ManagedIdentityId::Client(id),
        (None, Some(id), None) => ManagedIdentityId::Object(id),
        (None, None, Some(id)) => ManagedIdentityId::Resource(id),
        _ => {
            section
                .fault(&KIND, "only one of `client_id`, `object_id` and `resource_id` can be set");
            return None;
        }
    };

    match ManagedIdentity::detect(identity, variable) {
        Ok(identity) => Some(identity),
        Err(error) => {
            section.fault(&KIND, error.to_string());
            None
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
