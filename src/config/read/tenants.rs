//! Reads the tenants of all files. A name or an ID that occurs twice, even in different files, is a
//! fault. Start reading at [`read`].

use std::path::Path;

use super::{
    credentials::{self, OF_TENANT, Shared},
    unique,
};
use crate::{
    config::{
        NamedCredential, TenantName, TenantPlan,
        keys::{
            TENANTS,
            tenant::{
                API, CLOUD, CREDENTIAL, GRAPH_URL, ID, INITIAL_BACKFILL_DAYS, LABELS, LOGIN_URL,
                NAME,
            },
        },
    },
    error::Explanation,
    model::{REREAD_DAYS, TenantId},
    net,
    settings::{Key, Map, NameOrSectionValue, Named, Section, Text},
    source::{Access, CLOUDS_WITHOUT_SECURE_SCORE, Cloud},
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
    /// The shared ones among them, by name.
    pub shared: Shared,
}

/// Reads the tenants and credentials.
pub(super) fn read(root: &Section<'_>, state_directory: Option<&Path>) -> TenantsRead {
    let shared = credentials::shared(root, state_directory);
    let mut read = TenantsRead::default();
    let mut plans = Vec::new();

    let sections = root.get(&TENANTS).unwrap_or_default();
    if sections.is_empty() {
        let hint = "add a [[tenants]] section, a file in `tenants.d`, or a `tenants_file`";
        root.fault_with(&TENANTS, "no tenant is configured".to_owned(), Some(hint.to_owned()));
    }

    for section in &sections {
        let plan = tenant(section, &shared, state_directory);
        if let Some((plan, own)) = plan {
            read.credentials.extend(own);
            plans.push((section, plan));
        }
    }

    unique(&plans, &NAME, |plan| plan.name.clone());
    unique(&plans, &ID, |plan| plan.id.to_string());

    read.tenants = plans.into_iter().map(|(_, plan)| plan).collect();
    read.credentials.extend(shared.values().cloned());
    read.credentials.sort_by(|a, b| a.name.cmp(&b.name));
    read.shared = shared;
    read
}

/// Reads a table of names and values that are added to every record. Their number and length are
/// limited, because each record contains all of them.
pub(super) fn record_fields(
    section: &Section<'_>,
    key: &Key<Map>,
) -> std::collections::BTreeMap<String, String> {
    let fields = section.get(key).unwrap_or_default();

    if fields.iter().flat_map(|(name, value)| [name, value]).any(|text| has_control_character(text))
    {
        let message = "has a name or a value with a control character, such as a line break";
        section.fault(key, format!("`{}` {message}", key.name()));
    }
    if fields.len() > MAX_RECORD_FIELDS
        || !fields.iter().all(|(name, value)| is_bounded(name) && is_bounded(value))
    {
        section.fault(
            key,
            format!(
                "`{}` can have at most {MAX_RECORD_FIELDS} entries; each name and value can have at most {MAX_FIELD_LENGTH} characters",
                key.name()
            ),
        );
    }

    fields
}

fn is_bounded(text: &str) -> bool {
    text.chars().count() <= MAX_FIELD_LENGTH
}

fn has_control_character(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Reads one tenant, and its credential if the section contains it.
fn tenant(
    section: &Section<'_>,
    shared: &Shared,
    state_directory: Option<&Path>,
) -> Option<(TenantPlan, Option<NamedCredential>)> {
    let id = section.get(&ID).and_then(|id| tenant_name(section, id));
    let cloud = cloud(section);
    let initial_backfill_days = initial_backfill_days(section);
    let labels = record_fields(section, &LABELS);
    let name = section.get(&NAME)?.to_owned();
    if has_control_character(&name) {
        section.fault(&NAME, "`name` contains a control character, such as a line break");
    } else if !is_bounded(&name) {
        section.fault(&NAME, format!("`name` has more than {MAX_FIELD_LENGTH} characters"));
    }

    let (used, is_own) = match section.get(&CREDENTIAL)? {
        NameOrSectionValue::Name(name) => {
            (credentials::named(section, &CREDENTIAL, name, shared)?.clone(), false)
        }
        NameOrSectionValue::Section(inner) => {
            let home = section.get(&ID).unwrap_or("organizations");
            let name = format!("{OF_TENANT}{name}");
            (credentials::read(&inner, &name, home, state_directory)?, true)
        }
    };

    let id = id?;
    let tenant = id.to_string();
    let credential = used.credential.clone();
    let plan = TenantPlan {
        name,
        id,
        labels,
        credential: used.name.clone(),
        access: Access { cloud: cloud?, tenant, credential, api: section.get(&API) },
        rules: std::sync::Arc::default(),
        initial_backfill_days,
    };

    Some((plan, is_own.then_some(used)))
}

/// The number of days that the first poll requests. A smaller number than every poll requests has
/// no effect, which is a warning.
fn initial_backfill_days(section: &Section<'_>) -> i32 {
    let days = section.get(&INITIAL_BACKFILL_DAYS);
    if days < REREAD_DAYS {
        let name = INITIAL_BACKFILL_DAYS.name();
        let message = format!(
            "`{name} = {days}` has the effect of {REREAD_DAYS}, because every poll requests the newest {REREAD_DAYS} days"
        );
        let hint = format!("set `{name} = {REREAD_DAYS}`");
        section.warn_with(&INITIAL_BACKFILL_DAYS, message, Some(hint));
    }
    days.max(REREAD_DAYS)
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

    // A spreadsheet may write a text as a formula: `="…"`.
    let inner = id.trim_matches(['=', '"', '\'', '\u{201c}', '\u{201d}', ' ']);
    let hint = TenantId::parse_any_form(inner).map(|guid| format!("write `{guid}`"));
    section.fault_with(&ID, format!("`{id}` is neither a tenant GUID nor a domain"), hint);
    None
}

/// The cloud of a tenant: one of the known names, or a table of URLs. Reports a fault for a cloud
/// that does not offer the API.
fn cloud(section: &Section<'_>) -> Option<Cloud> {
    let custom = match section.get(&CLOUD) {
        NameOrSectionValue::Section(custom) => custom,
        NameOrSectionValue::Name(name) => {
            if CLOUDS_WITHOUT_SECURE_SCORE.iter().any(|(known, _)| *known == name) {
                no_api(section, &CLOUD, name);
            }
            return Cloud::named(name);
        }
    };

    let url = |key: &Key<Text>| {
        let read = net::parse_base_url(custom.get(key)?);
        let url = read.map_err(|Explanation { message, hint }| {
            custom.fault_with(key, format!("`cloud.{}` {message}", key.name()), hint);
        });
        let url = url.ok();
        if let Some(cloud) = url.as_ref().and_then(Cloud::without_secure_score) {
            no_api(&custom, key, cloud);
        }
        url
    };

    let (login_url, graph_url) = (url(&LOGIN_URL), url(&GRAPH_URL));
    Some(Cloud { login_url: login_url?, graph_url: graph_url? })
}

fn no_api(section: &Section<'_>, key: &impl Named, cloud: &str) {
    section.fault_with(
        key,
        format!("the cloud `{cloud}` does not offer the Secure Score API"),
        Some("use one of: global, us-gov-high, us-gov-dod".to_owned()),
    );
}
