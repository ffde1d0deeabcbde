//! From what is written to what is meant. Every fault is noted; nothing stops at the first.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use url::Url;

use super::{Configuration, KEYS, SinkPlan, TenantName, TenantPlan};
use crate::{
    derive::Selection,
    format::Texts,
    model::TenantId,
    net,
    schedule::Schedule,
    settings::{Document, Fault, Faults, Section, check, parse_duration},
    sink,
    source::{Access, Cloud},
};

pub(super) fn parse(file: &str, text: &str) -> Result<Configuration, Vec<Fault>> {
    let faults = Faults::new(file, text);
    let configuration = Document::parse(text, &faults).and_then(|document| {
        let root = document.section(&faults);
        check(&root, KEYS, &faults);
        configuration(&root)
    });
    match configuration {
        Some(configuration) if faults.is_empty() => Ok(configuration),
        _ => Err(faults.into_sorted()),
    }
}

fn configuration(root: &Section<'_>) -> Option<Configuration> {
    // All parts are read before any of them is missed.
    let schedule = schedule(root.section("schedule").as_ref());
    let tenants = tenants(root);
    let sinks = sinks(root);
    let state_directory = root.section("state").and_then(|state| {
        let directory = state.path("directory")?;
        if directory.is_relative() {
            state.fault(
                "directory",
                "`state.directory` must be absolute: the service does not run where you do",
            );
        }
        Some(directory)
    });
    Some(Configuration { state_directory: state_directory?, schedule: schedule?, tenants, sinks })
}

fn schedule(section: Option<&Section<'_>>) -> Option<Schedule> {
    let text =
        |key: &str, default: &str| section.and_then(|s| s.text(key)).unwrap_or(default).to_owned();
    let duration = |key: &str, default: &str| {
        let set = section.and_then(|s| s.duration(key));
        set.or_else(|| parse_duration(default)).unwrap_or_default()
    };
    let (jitter, look_again) = (duration("jitter", "10m"), duration("look_again", "2h"));
    let (cron, zone) = (text("cron", DAILY), text("timezone", "UTC"));
    // Each alone, so that a fault of one does not hide that of the other.
    for (key, tried) in [
        ("cron", Schedule::new(&cron, "UTC", jitter, look_again)),
        ("timezone", Schedule::new(DAILY, &zone, jitter, look_again)),
    ] {
        if let (Err(error), Some(section)) = (tried, section) {
            section.fault(key, format!("`schedule.{key}`: {error}"));
        }
    }
    Schedule::new(&cron, &zone, jitter, look_again).ok()
}

/// The daily poll, where nothing else is said.
const DAILY: &str = "15 6 * * *";

fn tenants(root: &Section<'_>) -> Vec<TenantPlan> {
    let sections = root.sections("tenants");
    if sections.is_empty() && root.has("tenants") {
        root.fault("tenants", "there is no tenant to read");
    }
    let plans =
        sections.iter().filter_map(|section| Some((section, tenant(section)?))).collect::<Vec<_>>();
    unique(&plans, "name", |plan| plan.name.clone());
    unique(&plans, "id", |plan| match &plan.id {
        TenantName::Guid(guid) => guid.to_string(),
        TenantName::Domain(domain) => domain.clone(),
    });
    plans.into_iter().map(|(_, plan)| plan).collect()
}

fn tenant(section: &Section<'_>) -> Option<TenantPlan> {
    let id = section.text("id").and_then(|id| tenant_name(section, id));
    let cloud = cloud(section);
    let labels = section.map("labels");
    let bounded =
        |text: &String| text.chars().count() <= 128 && !text.chars().any(char::is_control);
    if labels.len() > 16 || !labels.iter().all(|(name, value)| bounded(name) && bounded(value)) {
        section.fault(
            "labels",
            "there may be 16 labels, each name and text of at most 128 characters on one line",
        );
    }
    let name = section.text("name")?.to_owned();
    if !bounded(&name) {
        section.fault("name", "a tenant's name has at most 128 characters, on one line");
    }
    let credential = section.section("credential")?;
    let client_id = credential.text("client_id")?;
    if TenantId::parse(client_id).is_err() {
        credential.fault(
            "client_id",
            "`client_id` must be the GUID that Entra calls \"Application (client) ID\"",
        );
    }
    let id = id?;
    let tenant = match &id {
        TenantName::Guid(guid) => guid.to_string(),
        TenantName::Domain(domain) => domain.clone(),
    };
    Some(TenantPlan {
        name,
        id,
        labels,
        access: Access {
            cloud: cloud?,
            tenant,
            client_id: client_id.to_owned(),
            client_secret: credential.secret("client_secret")?,
        },
        initial_backfill_days: section
            .integer("initial_backfill_days")
            .and_then(|days| i32::try_from(days).ok())
            .unwrap_or(90),
    })
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
        return Cloud::named(section.text("cloud").unwrap_or("global"));
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
        url
    };
    let (login_url, graph_url) = (url("login_url"), url("graph_url"));
    Some(Cloud { login_url: login_url?, graph_url: graph_url? })
}

fn sinks(root: &Section<'_>) -> Vec<SinkPlan> {
    let sections = root.sections("sinks");
    if sections.is_empty() && root.has("sinks") {
        root.fault("sinks", "there is no sink to send to");
    }
    let plans = sections
        .iter()
        .filter_map(|section| Some((section, sink_plan(section)?)))
        .collect::<Vec<_>>();
    unique(&plans, "name", |plan| plan.name.clone());
    let mut claimed: HashMap<String, &str> = HashMap::new();
    for (section, plan) in &plans {
        if let Some(claim) = plan.plan.claims()
            && let Some(other) = claimed.insert(claim.clone(), &plan.name)
        {
            section.fault(
                "name",
                format!("sinks `{other}` and `{}` both write to {claim}", plan.name),
            );
        }
    }
    plans.into_iter().map(|(_, plan)| plan).collect()
}

fn sink_plan(section: &Section<'_>) -> Option<SinkPlan> {
    let name = section.text("name")?;
    if name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        section.fault("name", "a sink's name has at most 64 letters, digits, `.`, `_` and `-`");
    }
    let kind = sink::KINDS.iter().find(|kind| Some(kind.name) == section.text("type"))?;
    let plan: Arc<dyn sink::Plan> = (kind.read)(section)?.into();
    let records = section.texts("records").unwrap_or(vec!["control", "summary"]);
    let selection =
        Selection { controls: records.contains(&"control"), summary: records.contains(&"summary") };
    if records.is_empty() {
        section.fault("records", "`records` names nothing to send");
    }
    Some(SinkPlan {
        name: name.to_owned(),
        kind: kind.name,
        selection,
        texts: section
            .text("texts")
            .and_then(Texts::parse)
            .unwrap_or(plan.format().default_texts()),
        start_from: section.day("start_from"),
        plan,
    })
}

/// Notes every plan that shares its `key` with an earlier one.
fn unique<P, K: Hash + Eq + std::fmt::Display>(
    plans: &[(&Section<'_>, P)],
    key: &str,
    of: impl Fn(&P) -> K,
) {
    let mut seen = std::collections::HashSet::new();
    for (section, plan) in plans {
        let value = of(plan);
        let shown = value.to_string();
        if !seen.insert(value) {
            section.fault(key, format!("`{key} = \"{shown}\"` stands twice"));
        }
    }
}
