//! The tenants, from whichever file they stand in.

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

/// The tenants of all files, and the credentials they name.
#[derive(Default)]
pub(super) struct Read {
    pub tenants: Vec<TenantPlan>,
    pub credentials: Vec<NamedCredential>,
}

pub(super) fn read(roots: &[Section<'_>], state_directory: Option<&Path>) -> Read {
    let shared = credentials::shared(roots, state_directory);
    let mut read = Read::default();
    let mut plans = Vec::new();
    let sections: Vec<Section<'_>> =
        roots.iter().flat_map(|root| root.sections("tenants")).collect();
    if sections.is_empty()
        && let Some(root) = roots.first()
    {
        let hint = "write a [[tenants]] section, a file in `tenants.d`, or a `tenants_file`";
        root.fault_with("tenants", "there is no tenant to read".to_owned(), Some(hint.to_owned()));
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

/// Names and texts of the operator's own, that stand in every record: not too many, nor too long.
pub(super) fn words(
    section: &Section<'_>,
    key: &str,
) -> std::collections::BTreeMap<String, String> {
    let words = section.map(key);
    if words.len() > 16 || !words.iter().all(|(name, value)| bounded(name) && bounded(value)) {
        section.fault(
            key,
            format!(
                "there may be 16 {key}, each name and text of at most 128 characters on one line"
            ),
        );
    }
    words
}

fn bounded(text: &str) -> bool {
    text.chars().count() <= 128 && !text.chars().any(char::is_control)
}

/// One tenant, and its credential if it is its own.
fn tenant(
    section: &Section<'_>,
    shared: &Shared,
    state_directory: Option<&Path>,
) -> Option<(TenantPlan, Option<NamedCredential>)> {
    let id = section.text("id").and_then(|id| tenant_name(section, id));
    let cloud = cloud(section);
    let labels = words(section, "labels");
    let name = section.text("name")?.to_owned();
    if !bounded(&name) {
        section.fault("name", "a tenant's name has at most 128 characters, on one line");
    }
    let own = section.section("credential").and_then(|own| {
        let home = section.text("id").unwrap_or("organizations");
        credentials::read(&own, &format!("tenant {name}"), home, state_directory)
    });
    let credential = match (&own, section.text("credential")) {
        (Some(own), _) => own.credential.clone(),
        (None, Some(name)) => credentials::named(section, name, shared)?,
        (None, None) => return None,
    };
    let id = id?;
    let tenant = match &id {
        TenantName::Guid(guid) => guid.to_string(),
        TenantName::Domain(domain) => domain.clone(),
    };
    let legacy = section.text("api") == Some("legacy_reports");
    let plan = TenantPlan {
        name,
        id,
        labels,
        access: Access {
            cloud: cloud?,
            tenant,
            credential,
            api: if legacy { Api::LegacyReports } else { Api::SecureScores },
        },
        rules: std::sync::Arc::default(),
        initial_backfill_days: section
            .integer("initial_backfill_days")
            .and_then(|days| i32::try_from(days).ok())
            .unwrap_or(90),
    };
    Some((plan, own))
}

fn tenant_name(section: &Section<'_>, id: &str) -> Option<TenantName> {
    if let Ok(guid) = TenantId::parse(id) {
        return Some(TenantName::Guid(guid));
    }
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let domain = id.to_ascii_lowercase();
    // `common` and `organizations` are no tenant.
    if domain.contains('.') && domain.len() <= 253 && domain.split('.').all(label) {
        return Some(TenantName::Domain(domain));
    }
    section.fault("id", format!("`{id}` is neither a tenant GUID nor a domain"));
    None
}

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
        format!("the cloud `{cloud}` has no Secure Score"),
        Some(
            "Microsoft's Graph has this API in global, us-gov-high and us-gov-dod only".to_owned(),
        ),
    );
}
