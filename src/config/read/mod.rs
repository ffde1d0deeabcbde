//! Converts the sections of the configuration files to typed plans.
//!
//! Reading continues after a fault, so that all faults are reported together. A configuration with
//! a fault is never returned.

mod credentials;
mod rules;
mod selection;
mod tenants;
mod warnings;

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::tz::TimeZone;
use url::Url;

use super::{
    AdminPlan, Configuration, Inspection, KEYS, NamedCredential, Outline, SignIn, SinkPlan,
    TenantPlan, keys::TENANT_KEYS,
};
use crate::{
    format::Texts,
    model::Day,
    schedule::{DigestSchedule, Schedule},
    settings::{Document, Fault, Faults, Section, check, parse_duration},
    sink,
    source::GraphHttpOptions,
};

/// The default of `retention_days`.
const RETENTION_DAYS: i32 = 400;

/// The default and the maximum of `removed_sinks`. The cursors of a removed sink protect unsent
/// bodies from retention, so they must not be kept for an unlimited time.
const REMOVED_SINKS: Duration = Duration::from_hours(30 * 24);
const MAX_REMOVED_SINKS: Duration = Duration::from_hours(366 * 24);

/// The default of `partial_hold`.
const PARTIAL_HOLD: Duration = Duration::from_hours(6);

/// The default of `tenant_series`. A tenant has about ten series.
const TENANT_SERIES: usize = 1_000;

/// The default of `cron`.
const DAILY: &str = "15 6 * * *";

/// The smallest `recheck_interval`: a shorter one would put an unnecessary load on the API.
const MIN_RECHECK_INTERVAL: Duration = Duration::from_mins(1);

/// The text of a configuration file, and the faults found in it.
pub(super) struct SourceText {
    /// The faults that have been found in the text.
    pub faults: Faults,
    /// The content of the file, or the TOML text that was generated from it.
    pub text: String,
}

/// Reads the main file, and the files that contain only tenants and credentials. Fails with the
/// faults of all files, in the order of the files.
pub(super) fn parse(main: &SourceText, more: &[SourceText]) -> Result<Configuration, Vec<Fault>> {
    let documents: Vec<Option<Document<'_>>> = std::iter::once(main)
        .chain(more)
        .map(|text| Document::parse(&text.text, &text.faults))
        .collect();
    let all: Vec<&Faults> = std::iter::once(main).chain(more).map(|text| &text.faults).collect();
    let roots: Vec<Section<'_>> = documents
        .iter()
        .zip(&all)
        .filter_map(|(document, faults)| Some(document.as_ref()?.section(faults)))
        .collect();

    let mut files = Vec::new();
    for (index, root) in roots.iter().enumerate() {
        let keys = if index == 0 { KEYS } else { TENANT_KEYS };
        files.extend(check(root, keys, root.faults()));
    }

    let is_main_readable = documents.first().is_some_and(Option::is_some);
    let configuration = if is_main_readable { configuration(&roots) } else { None };
    match configuration {
        Some(configuration) if all.iter().all(|faults| faults.is_empty()) => {
            let texts = std::iter::once(main).chain(more).map(|text| text.text.as_str());
            let inspection = Inspection {
                files,
                warnings: all.iter().flat_map(|faults| faults.sorted_warnings()).collect(),
                ..configuration.inspection
            };
            Ok(Configuration { outline: Outline::of(texts), inspection, ..configuration })
        }
        _ => Err(all.iter().flat_map(|faults| faults.sorted()).collect()),
    }
}

/// Reads all sections. Returns `None` if a required part could not be read.
fn configuration(roots: &[Section<'_>]) -> Option<Configuration> {
    let root = roots.first()?;

    // Every part is read before the first `?`, so that the faults of all parts are reported.
    let schedule_section = root.section("schedule");
    let schedule = schedule(schedule_section.as_ref());
    let partial_hold = schedule_section.as_ref().and_then(|s| s.duration("partial_hold"));
    let state = root.section("state");
    let state_directory = state_directory(root);
    let removed_sinks = removed_sinks(state.as_ref());
    let mut read = tenants::read(roots, state_directory.as_deref());
    rules::read(root, &mut read.tenants);
    let http = root.section("source").map_or_else(GraphHttpOptions::default, |s| http_options(&s));
    let admin = root.section("admin").and_then(|section| admin(&section));
    if let (Some(section), Some(schedule)) = (&schedule_section, &schedule) {
        warnings::check_cron(section, schedule);
    }
    warnings::check_selections(root, &read.tenants);
    let sinks = sinks(root, &read, schedule.as_ref());

    Some(Configuration {
        state_directory: state_directory?,
        retention_days: state
            .as_ref()
            .and_then(|state| state.integer("retention_days"))
            .and_then(|days| i32::try_from(days).ok())
            .unwrap_or(RETENTION_DAYS),
        max_size: state.as_ref().and_then(|state| state.size("max_size")),
        removed_sinks,
        schedule: schedule?,
        partial_hold: partial_hold.unwrap_or(PARTIAL_HOLD),
        http,
        admin,
        tenants: read.tenants,
        credentials: read.credentials,
        sinks,
        outline: Outline::default(),
        inspection: inspection(roots)?,
        secrets: roots.iter().flat_map(Section::secrets).collect(),
    })
}

/// What `check` examines; the files and the warnings are added when all of them are known.
fn inspection(roots: &[Section<'_>]) -> Option<Inspection> {
    let root = roots.first()?;
    Some(Inspection {
        sources: roots.iter().map(|root| PathBuf::from(root.faults().file())).collect(),
        files: Vec::new(),
        warnings: Vec::new(),
        control_patterns: warnings::control_patterns(root),
        state_directory: root.section("state")?.origin("directory"),
        listen: root.section("admin").map(|admin| admin.origin("listen")),
    })
}

fn state_directory(root: &Section<'_>) -> Option<PathBuf> {
    let state = root.section("state")?;
    let directory = state.path("directory")?;

    if directory.is_relative() {
        state.fault("directory", "`state.directory` must be an absolute path");
    }

    Some(directory)
}

fn removed_sinks(state: Option<&Section<'_>>) -> Duration {
    let Some((state, kept)) = state.and_then(|s| Some((s, s.duration("removed_sinks")?))) else {
        return REMOVED_SINKS;
    };

    if kept > MAX_REMOVED_SINKS {
        state.fault("removed_sinks", "`state.removed_sinks` must be at most 366d");
    }
    kept
}

/// Reads the listener. Metrics and errors name tenants, so a listener that other hosts can reach
/// must list the names under which it accepts requests.
fn admin(section: &Section<'_>) -> Option<AdminPlan> {
    let listen = section.text("listen")?.parse::<SocketAddr>().ok();
    if listen.is_none() {
        section.fault(
            "listen",
            "`admin.listen` must be an IP address and a port, such as 127.0.0.1:9633",
        );
    }
    let listen = listen?;

    let hosts = section.texts("hosts").unwrap_or_default();
    if !listen.ip().is_loopback() && hosts.is_empty() {
        section.fault_with(
            "listen",
            format!(
                "`{listen}` is reachable from other hosts without TLS and authentication, and `hosts` is not set"
            ),
            Some(
                "listen on 127.0.0.1 behind a proxy with TLS and authentication, or set `hosts` to the accepted host names"
                    .to_owned(),
            ),
        );
    }

    let series = section.integer("tenant_series").and_then(|n| usize::try_from(n).ok());
    Some(AdminPlan {
        listen,
        hosts: hosts.into_iter().map(str::to_owned).collect(),
        tenant_series: series.unwrap_or(TENANT_SERIES),
    })
}

fn http_options(section: &Section<'_>) -> GraphHttpOptions {
    let default = GraphHttpOptions::default();

    // The password is a secret and must not be part of the URL.
    let proxy = section.text("proxy").map(|text| {
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        });
        if url.is_none() {
            section.fault(
                "proxy",
                "`source.proxy` must be http://host:port, without user and password",
            );
        }
        url
    });
    if section.has("proxy_user") != section.has("proxy_password") {
        section.fault("proxy_user", "`proxy_user` and `proxy_password` must be set together");
    }

    let bytes_in_flight = section.size("bytes_in_flight").unwrap_or(default.bytes_in_flight);
    if !(8 << 20..=4 << 30).contains(&bytes_in_flight) {
        section.fault("bytes_in_flight", "`bytes_in_flight` must be from 8MiB to 4GiB");
    }

    GraphHttpOptions {
        proxy: proxy.flatten(),
        proxy_user: section.text("proxy_user").map(str::to_owned),
        proxy_password: section.secret("proxy_password"),
        ca_file: section.path("ca_file"),
        requests_per_second: section
            .integer("requests_per_second")
            .and_then(|rate| u32::try_from(rate).ok())
            .unwrap_or(default.requests_per_second),
        bytes_in_flight,
    }
}

fn schedule(section: Option<&Section<'_>>) -> Option<Schedule> {
    let text =
        |key: &str, default: &str| section.and_then(|s| s.text(key)).unwrap_or(default).to_owned();
    let duration = |key: &str, default: &str| {
        let set = section.and_then(|s| s.duration(key));
        set.or_else(|| parse_duration(default)).unwrap_or_default()
    };

    let (jitter, recheck_interval) =
        (duration("jitter", "10m"), duration("recheck_interval", "2h"));
    if let Some(section) = section.filter(|_| recheck_interval < MIN_RECHECK_INTERVAL) {
        section.fault("recheck_interval", "`schedule.recheck_interval` must be at least 1m");
    }

    let name = text("timezone", "UTC");
    let zone = TimeZone::get(&name).unwrap_or_else(|_| {
        if let Some(section) = section {
            section.fault("timezone", format!("`schedule.timezone`: `{name}` is not a time zone"));
        }
        TimeZone::UTC
    });
    match Schedule::new(&text("cron", DAILY), zone, jitter, recheck_interval) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            if let Some(section) = section {
                section.fault("cron", format!("`schedule.cron`: {error}"));
            }
            None
        }
    }
}

/// Reads the sinks, and checks what they must not share: names, previous names and destinations.
fn sinks(
    root: &Section<'_>,
    read: &tenants::TenantsRead,
    schedule: Option<&Schedule>,
) -> Vec<SinkPlan> {
    let sections = root.sections("sinks");
    if sections.is_empty() && root.has("sinks") {
        root.fault("sinks", "`sinks` is empty");
    }
    let plans = sections
        .iter()
        .filter_map(|section| Some((section, sink_plan(section, &read.credentials, schedule)?)))
        .collect::<Vec<_>>();
    unique(&plans, "name", |plan| plan.name.clone());

    let mut old_names = HashSet::new();
    for (section, plan) in &plans {
        let Some(old) = &plan.renamed_from else { continue };
        if plans.iter().any(|(_, other)| other.name == *old) {
            let message = format!("`renamed_from = \"{old}\"` is the name of a configured sink");
            section.fault("renamed_from", message);
        } else if !old_names.insert(old) {
            section.fault("renamed_from", format!("duplicate `renamed_from = \"{old}\"`"));
        }
    }

    let mut claimed: HashMap<String, &str> = HashMap::new();
    for (section, plan) in &plans {
        if let Some(claim) = plan.plan.exclusive_resource()
            && let Some(other) = claimed.insert(claim.clone(), &plan.name)
        {
            section.fault(
                "name",
                format!("sinks `{other}` and `{}` both write to {claim}", plan.name),
            );
        }
    }

    for (section, plan) in &plans {
        check_labels(section, plan, &read.tenants);
    }

    plans.into_iter().map(|(_, plan)| plan).collect()
}

/// Reads how a sink signs in to Entra. Returns `None` for a sink that does not sign in, and after a
/// fault.
fn sign_in(
    section: &Section<'_>,
    plan: &dyn sink::Plan,
    credentials: &[NamedCredential],
) -> Option<SignIn> {
    let Some(resource) = plan.token_resource() else {
        let keys = ["credential", "entra_tenant", "login_url"];
        for key in keys.into_iter().filter(|key| section.has(key)) {
            section.fault(key, format!("`{key}` requires a sink that signs in to Entra"));
        }
        return None;
    };

    // A national cloud issues the tokens for its own services.
    let login = match resource.rsplit('.').next() {
        _ if resource.ends_with(".usgovcloudapi.net") => "https://login.microsoftonline.us",
        Some("us") => "https://login.microsoftonline.us",
        Some("cn") => "https://login.partner.microsoftonline.cn",
        _ => "https://login.microsoftonline.com",
    };
    let login_url = Url::parse(section.text("login_url").unwrap_or(login));
    let login_url = login_url.ok().filter(crate::net::is_safe_url);
    if login_url.is_none() {
        section
            .fault("login_url", "`login_url` must be https://host, or http to a loopback address");
    }

    let (Some(name), Some(tenant)) = (section.text("credential"), section.text("entra_tenant"))
    else {
        let message = "a sink that signs in to Entra requires `credential` and `entra_tenant`";
        section.fault("credential", message);
        return None;
    };
    let named = credentials.iter().find(|known| known.name == name);
    if named.is_none() {
        let hint = format!("add a section [credentials.{name}]");
        section.fault_with("credential", format!("unknown credential `{name}`"), Some(hint));
    }

    Some(SignIn {
        credential: named?.credential.clone(),
        tenant: tenant.to_owned(),
        login_url: login_url?,
        resource: Url::parse(resource).ok()?,
    })
}

/// Reports a fault if a name, such as that of a topic, contains a label that a tenant of the sink
/// does not have.
fn check_labels(section: &Section<'_>, plan: &SinkPlan, tenants: &[TenantPlan]) {
    for label in plan.plan.required_labels() {
        let has_no_label = |tenant: &&TenantPlan| {
            plan.tenants.matches(tenant) && !tenant.labels.contains_key(&label)
        };
        if let Some(tenant) = tenants.iter().find(has_no_label) {
            section.fault(
                "name",
                format!("sink `{}`: tenant `{}` has no label `{label}`", plan.name, tenant.name),
            );
        }
    }
}

/// Reads when a sink sends its digests. Returns `None` for a sink without digests, and after a
/// fault.
fn digest(section: &Section<'_>, schedule: Option<&Schedule>) -> Option<DigestSchedule> {
    let cron = section.text("digest")?;
    let digest = schedule?.digest(cron);
    match &digest {
        Err(error) => section.fault("digest", format!("`digest`: {error}")),
        Ok(digest) if digest.next(crate::clock::now()).is_none() => {
            section.fault("digest", format!("`digest`: `{cron}` never occurs"));
        }
        Ok(_) => {}
    }
    digest.ok()
}

/// Reads one sink. This function reads the keys that all sinks share; the module of its type reads
/// the others.
fn sink_plan(
    section: &Section<'_>,
    credentials: &[NamedCredential],
    schedule: Option<&Schedule>,
) -> Option<SinkPlan> {
    let name = section.text("name")?;
    if name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        section
            .fault("name", "`name` must consist of at most 64 letters, digits, `.`, `_` and `-`");
    }

    let kind = sink::KINDS.iter().find(|kind| Some(kind.name) == section.text("type"))?;
    let today = Day::of(crate::clock::now());
    if section.day("start_from").is_some_and(|day| day > today) {
        section.fault("start_from", "`start_from` is in the future: nothing would be sent");
    }
    let plan: Arc<dyn sink::Plan> = (kind.read)(section)?.into();
    let default_start = (plan.history() == sink::History::Skipped).then_some(today);

    Some(SinkPlan {
        name: name.to_owned(),
        kind: kind.name,
        selection: Arc::new(selection::read(section, plan.default_records())),
        tenants: selection::tenants(section),
        max_rate: section.integer("max_rate").and_then(|rate| u32::try_from(rate).ok()),
        texts: section
            .text("texts")
            .and_then(Texts::parse)
            .unwrap_or(plan.format().default_texts()),
        fields: tenants::record_fields(section, "extra_fields").into_iter().collect(),
        start_from: section.day("start_from").or(default_start),
        digest: digest(section, schedule),
        sign_in: sign_in(section, plan.as_ref(), credentials),
        renamed_from: section.text("renamed_from").map(str::to_owned),
        discarded: section.bool("discard_backlog") == Some(true),
        plan,
    })
}

/// Reports a fault for every plan that has the same value of `key` as an earlier plan.
pub(super) fn unique<P, K: Hash + Eq + std::fmt::Display>(
    plans: &[(&Section<'_>, P)],
    key: &str,
    of: impl Fn(&P) -> K,
) {
    let mut seen = HashSet::new();
    for (section, plan) in plans {
        let value = of(plan);
        let shown = value.to_string();
        if !seen.insert(value) {
            section.fault(key, format!("duplicate `{key} = \"{shown}\"`"));
        }
    }
}
