//! Reads the tenants of all files. A name or an ID that occurs twice, even in different files, is a
//! fault. Start reading at [`read`].

use std::path::Path;

use url::Url;

use super::{
    credentials::{self, Shared},
    unique,
};
use crate::{
    config::{NamedCredential, TenantName, TenantPlan},
    model::TenantId,
    net,
    settings::Section,
    source::{Access, Api, CLOUDS_WITHOUT_SECURE_SCORE, Cloud},
};

/// The maximum number of entries of `labels` or of `extra_fields`.
const MAX_RECORD_FIELDS: usize = 16;

/// The maximum number of characters of a name or a value in `labels` or `extra_fields`, and of a
/// tenant's name.
const MAX_FIELD_LENGTH: usize = 128;

/// The tenants of all files, and all credentials: shared ones and those of individual tenants.
#[derive(Default)]
pub(super) struct TenantsRead {
    /// The tenants, in the order of the files.
    pub tenants: Vec<TenantPlan>,
    /// The credentials, sorted by name.
    pub credentials: Vec<NamedCredential>,
}

/// Reads the tenants and credentials of all files. `roots` begins with the main file.
pub(super) fn read(roots: &[Section<'_>], state_directory: Option<&Path>) -> TenantsRead {
    let shared = credentials::shared(roots, state_directory);
    let mut read = TenantsRead::default();
    let mut plans = Vec::new();

    let sections: Vec<Section<'_>> =
        roots.iter().flat_map(|root| root.sections("tenants")).collect();
    if sections.is_empty()
        && let Some(root) = roots.first()
    {
        let hint = "add a [[tenants]] section, a file in `tenants.d`, or a `tenants_file`";
        root.fault_with("tenants", "no tenant is configured".to_owned(), Some(hint.to_owned()));
    }

    for section in &sections {
        let plan = tenant(section, &shared, state_directory);
        if let Some((plan, own)) = plan {
            read.credentials.extend(own);
            plans.push((section, plan));
        }
    }

    unique(&plans, "name", |plan| plan.name.clone());
    unique(&plans, "id", |plan| match &plan.id {
        TenantName::Guid(guid) => guid.to_string(),
        TenantName::Domain(domain) => domain.clone(),
    });

    read.tenants = plans.into_iter().map(|(_, plan)| plan).collect();
    read.credentials.extend(shared.into_values());
    read.credentials.sort_by(|a, b| a.name.cmp(&b.name));
    read
}

/// Reads a table of names and values that are added to every record. Their number and length are
/// limited, because each record contains all of them.
pub(super) fn record_fields(
    section: &Section<'_>,
    key: &str,
) -> std::collections::BTreeMap<String, String> {
    let fields = section.map(key);

    if fields.len() > MAX_RECORD_FIELDS
        || !fields.iter().all(|(name, value)| is_bounded(name) && is_bounded(value))
    {
        section.fault(
            key,
            format!(
                "`{key}` can have at most {MAX_RECORD_FIELDS} entries; each name and value must be on one line and have at most {MAX_FIELD_LENGTH} characters"
            ),
        );
    }

    fields
}

fn is_bounded(text: &str) -> bool {
    text.chars().count() <= MAX_FIELD_LENGTH && !text.chars().any(char::is_control)
}

/// Reads one tenant, and its credential if the section contains it.
fn tenant(
    section: &Section<'_>,
    shared: &Shared,
    state_directory: Option<&Path>,
) -> Option<(TenantPlan, Option<NamedCredential>)> {
    let id = section.text("id").and_then(|id| tenant_name(section, id));
    let cloud = cloud(section);
    let labels = record_fields(section, "labels");
    let name = section.text("name")?.to_owned();
    if !is_bounded(&name) {
        section.fault("name", "`name` must be on one line and have at most 128 characters");
    }

    let own_credential = section.section("credential").and_then(|inner| {
        let home = section.text("id").unwrap_or("organizations");
        credentials::read(&inner, &format!("tenant {name}"), home, state_directory)
    });
    let credential = match (&own_credential, section.text("credential")) {
        (Some(own), _) => own.credential.clone(),
        (None, Some(name)) => credentials::named(section, name, shared)?,
        (None, None) => return None,
    };

    let id = id?;
    let tenant = match &id {
        TenantName::Guid(guid) => guid.to_string(),
        TenantName::Domain(domain) => domain.clone(),
    };
    let is_legacy = section.text("api") == Some("legacy_reports");
    let plan = TenantPlan {
        name,
        id,
        labels,
        access: Access {
            cloud: cloud?,
            tenant,
            credential,
            api: if is_legacy { Api::LegacyReports } else { Api::SecureScores },
        },
        rules: std::sync::Arc::default(),
        initial_backfill_days: section
            .integer("initial_backfill_days")
            .and_then(|days| i32::try_from(days).ok())
            .unwrap_or(90),
    };

    Some((plan, own_credential))
}

/// A tenant GUID or a domain. Reports a fault for any other text.
fn tenant_name(section: &Section<'_>, id: &str) -> Option<TenantName> {
    if let Ok(guid) = TenantId::parse(id) {
        return Some(TenantName::Guid(guid));
    }

    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let domain = id.to_ascii_lowercase();
    // A domain has a dot, so `common` and `organizations`, which are not tenants, are rejected.
    if domain.contains('.') && domain.len() <= 253 && domain.split('.').all(is_label) {
        return Some(TenantName::Domain(domain));
    }

    section.fault("id", format!("`{id}` is neither a tenant GUID nor a domain"));
    None
}

/// The cloud of a tenant: one of the known names, or a table of URLs. Reports a fault for a cloud
/// that does not offer the API.
fn cloud(section: &Section<'_>) -> Option<Cloud> {
    let Some(custom) = section.section("cloud") else {
        let name = section.text("cloud").unwrap_or("global");
        if CLOUDS_WITHOUT_SECURE_SCORE.iter().any(|(known, _)| *known == name) {
            no_api(section, "cloud", name);
        }
        return Cloud::named(name);
    };

    let url = |key: &str| {
        let url = Url::parse(custom.text(key)?)
            .ok()
            .filter(|url| net::is_safe_url(url) && url.path() == "/" && url.query().is_none());
        if url.is_none() {
            custom.fault(
                key,
                format!("`cloud.{key}` must be https://host, or http to a loopback address"),
            );
        }
        if let Some(cloud) = url.as_ref().and_then(Cloud::without_secure_score) {
            no_api(&custom, key, cloud);
        }
        url
    };

    let (login_url, graph_url) = (url("login_url"), url("graph_url"));
    Some(Cloud { login_url: login_url?, graph_url: graph_url? })
}

fn no_api(section: &Section<'_>, key: &str, cloud: &str) {
    section.fault_with(
        key,
        format!("the cloud `{cloud}` does not offer the Secure Score API"),
        Some("use one of: global, us-gov-high, us-gov-dod".to_owned()),
    );
}
