//! Converts the sections of the configuration files to typed plans.
//!
//! Reading continues after a fault, so that all faults are reported together. A configuration with
//! a fault is never returned.

mod credentials;
mod destinations;
mod placeholders;
mod rules;
mod selection;
mod tenants;
mod warnings;

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    path::PathBuf,
    sync::Arc,
};

use jiff::tz::TimeZone;
use url::Url;

use super::{
    AdminPlan, Configuration, Inspection, KEYS, ListenAddress, Outline, SignIn, SinkPlan,
    TenantPlan,
    keys::{self, admin, schedule, source, state},
    layers::Layers,
};
use crate::{
    error::Explanation,
    model::{Day, SinkName},
    net::{has_path_or_query, parse_base_url, parse_url},
    schedule::{DigestSchedule, Schedule},
    settings::{
        CA_FILE, Fault, FileUse, KeyWithDefault, Named, References, Section, Table, Text, Timespan,
        check, require_absolute,
    },
    sink::{
        self,
        common_keys::{
            CREDENTIAL, DISCARD_BACKLOG, ENTRA_TENANT, EXTRA_FIELDS, LOGIN_URL, MAX_RATE, NAME,
            RENAMED_FROM, START_FROM, TEXT_LENGTH, TYPE,
        },
    },
    source::GraphHttpOptions,
};

/// Reads the merged values of all sources. Fails with the faults of all sources, in their order.
pub(super) fn read(layers: &Layers) -> Result<Configuration, Vec<Fault>> {
    read_merged(layers).map(|(configuration, _)| configuration)
}

/// Like [`read`], but also returns the merged values.
pub(super) fn read_merged(layers: &Layers) -> Result<(Configuration, Table), Vec<Fault>> {
    let faults = &layers.faults;
    let Some(merged) = layers.merge() else { return Err(faults.sorted()) };
    let root = Section::root(&merged, faults);
    let references = check(&root, KEYS, faults);

    match configuration(&root, layers, references) {
        Some(configuration) if faults.is_empty() => {
            let inspection =
                Inspection { warnings: faults.sorted_warnings(), ..configuration.inspection };
            let outline = Outline { variables: layers.variable_names(), ..Outline::of(&merged) };
            Ok((Configuration { outline, inspection, ..configuration }, merged))
        }
        _ => Err(faults.sorted()),
    }
}

/// Reads all sections. Returns `None` if a required part could not be read.
fn configuration(
    root: &Section<'_>,
    layers: &Layers,
    references: References,
) -> Option<Configuration> {
    // Every part is read before the first `?`, so that the faults of all parts are reported.
    let schedule_section = root.get(&keys::SCHEDULE);
    let schedule = schedule(schedule_section.as_ref());
    if let (Some(section), Some(schedule)) = (&schedule_section, &schedule) {
        warnings::check_cron(section, schedule);
    }
    let http = root.get(&keys::SOURCE).map_or_else(GraphHttpOptions::default, |s| http_options(&s));
    let admin = root.get(&keys::ADMIN).and_then(|section| admin(&section));
    let state = root.get(&keys::STATE);
    let state_directory = state.and_then(|state| state_directory(&state));

    let mut read = tenants::read(root, state_directory.as_deref());
    rules::read(root, &mut read.tenants);
    placeholders::check(root);
    warnings::check_selections(root, &read.tenants);
    let sinks = sinks(root, &read, schedule.as_ref());

    let state = state?;
    Some(Configuration {
        state_directory: state_directory?,
        retention_days: state.get(&state::RETENTION_DAYS),
        max_size: state.get(&state::MAX_SIZE).and_then(|size| u64::try_from(size).ok()),
        removed_sinks: state.get(&state::REMOVED_SINKS),
        schedule: schedule?,
        partial_hold: schedule_section
            .map_or(schedule::PARTIAL_HOLD.default(), |s| s.get(&schedule::PARTIAL_HOLD)),
        http,
        admin,
        tenants: read.tenants,
        credentials: read.credentials,
        sinks,
        outline: Outline::default(),
        inspection: inspection(root, &state, layers, references.files),
        secrets: references.secrets,
    })
}

/// What `check` examines in addition, without the warnings: those of all parts are not known yet.
/// `files` are the ones that the configuration names.
fn inspection(
    root: &Section<'_>,
    state: &Section<'_>,
    layers: &Layers,
    files: Vec<FileUse>,
) -> Inspection {
    Inspection {
        sources: layers.paths(),
        files,
        warnings: Vec::new(),
        control_patterns: warnings::control_patterns(root),
        state_directory: state.origin(&state::DIRECTORY),
        listen: root.get(&keys::ADMIN).map(|admin| admin.origin(&admin::LISTEN)),
    }
}

fn state_directory(state: &Section<'_>) -> Option<PathBuf> {
    let directory = PathBuf::from(state.get(&state::DIRECTORY)?);

    if let Err(Explanation { message, hint }) = require_absolute("state.directory", &directory) {
        state.fault_with(&state::DIRECTORY, message, hint);
    }

    Some(directory)
}

/// Reads the listener. Metrics and errors name tenants, so a listener that other hosts can reach
/// must list the names under which it accepts requests.
fn admin(section: &Section<'_>) -> Option<AdminPlan> {
    let listen = match ListenAddress::parse(section.get(&admin::LISTEN)?) {
        Ok(listen) => listen,
        Err(Explanation { message: cause, hint }) => {
            let message = format!(
                "`admin.listen` must be an IP address and a port, such as 127.0.0.1:9633, or `unix:` and an absolute path: {cause}"
            );
            section.fault_with(&admin::LISTEN, message, hint);
            return None;
        }
    };

    let hosts = section.get(&admin::HOSTS).unwrap_or_default();
    if listen.is_remote() && hosts.is_empty() {
        section.fault_with(
            &admin::LISTEN,
            format!(
                "`{listen}` is reachable from other hosts without TLS and authentication, and `hosts` is not set"
            ),
            Some(
                "listen on 127.0.0.1 behind a proxy with TLS and authentication, or set `hosts` to the accepted host names"
                    .to_owned(),
            ),
        );
    }

    Some(AdminPlan {
        listen,
        hosts: hosts.into_iter().map(str::to_owned).collect(),
        tenant_series: section.get(&admin::TENANT_SERIES),
    })
}

fn http_options(section: &Section<'_>) -> GraphHttpOptions {
    // The password is a secret and must not be part of the URL.
    let proxy = section.get(&source::PROXY).map(|text| {
        let read = proxy_url(text).map_err(|Explanation { message, hint }| {
            section.fault_with(&source::PROXY, format!("`source.proxy` {message}"), hint);
        });
        read.ok()
    });
    if section.has(&source::PROXY_USER) != section.has(&source::PROXY_PASSWORD) {
        section
            .fault(&source::PROXY_USER, "`proxy_user` and `proxy_password` must be set together");
    }

    let is_unsafe = proxy.iter().flatten().any(|url| !crate::net::is_safe_url(url));
    if is_unsafe && section.has(&source::PROXY_PASSWORD) {
        let message = "`source.proxy` must use https, or http to a loopback address, because `proxy_password` would be sent in plain text";
        let hint = "use a proxy over https, or one that requires no password";
        section.fault_with(&source::PROXY, message.to_owned(), Some(hint.to_owned()));
    }

    GraphHttpOptions {
        proxy: proxy.flatten(),
        proxy_user: section.get(&source::PROXY_USER).map(str::to_owned),
        proxy_password: section.get(&source::PROXY_PASSWORD),
        ca_file: section.get(&CA_FILE),
        requests_per_second: section.get(&source::REQUESTS_PER_SECOND),
        bytes_in_flight: section.get(&source::BYTES_IN_FLIGHT) as u64,
    }
}

/// Reads the URL of a proxy, which can use another scheme than a server for which it has no
/// credential. Fails with the reason, as a predicate.
fn proxy_url(text: &str) -> Result<Url, Explanation> {
    const PROXY_URL: &str = "must be http://host:port, without user and password";
    let url = parse_url(text).map_err(|cause| Explanation {
        message: format!("{PROXY_URL}: it {}", cause.message),
        ..cause
    })?;

    if !matches!(url.scheme(), "http" | "https") {
        let message = format!("{PROXY_URL}: the scheme `{}` is not supported", url.scheme());
        return Err(message.into());
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user || !url.has_host() {
        return Err(PROXY_URL.into());
    }
    if has_path_or_query(&url) {
        return Err(format!("{PROXY_URL}: it has a path or a query").into());
    }
    Ok(url)
}

fn schedule(section: Option<&Section<'_>>) -> Option<Schedule> {
    let text =
        |key: &KeyWithDefault<Text>| section.map_or(key.default(), |s| s.get(key)).to_owned();
    let duration = |key: &KeyWithDefault<Timespan>| section.map_or(key.default(), |s| s.get(key));

    let name = text(&schedule::TIMEZONE);
    let zone = TimeZone::get(&name).unwrap_or_else(|_| {
        if let Some(section) = section {
            let message = format!("`schedule.timezone`: `{name}` is not a time zone");
            section.fault(&schedule::TIMEZONE, message);
        }
        TimeZone::UTC
    });

    let jitter = duration(&schedule::JITTER);
    let recheck_interval = duration(&schedule::RECHECK_INTERVAL);
    match Schedule::new(&text(&schedule::CRON), zone, jitter, recheck_interval) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            if let Some(section) = section {
                section.fault(&schedule::CRON, format!("`schedule.cron`: {error}"));
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
    let sections = root.get(&keys::SINKS).unwrap_or_default();
    if sections.is_empty() {
        let hint = "add a [[sinks]] section, or a file in `sinks.d`";
        root.fault_with(&keys::SINKS, "no sink is configured".to_owned(), Some(hint.to_owned()));
    }
    let plans = sections
        .iter()
        .filter_map(|section| Some((section, sink_plan(section, &read.shared, schedule)?)))
        .collect::<Vec<_>>();
    unique(&plans, &NAME, |plan| plan.name.clone());

    let mut old_names = HashSet::new();
    for (section, plan) in &plans {
        let Some(old) = &plan.renamed_from else { continue };
        if plans.iter().any(|(_, other)| other.name == *old) {
            let message = format!("`renamed_from = \"{old}\"` is the name of a configured sink");
            section.fault(&RENAMED_FROM, message);
        } else if !old_names.insert(old) {
            section.fault(&RENAMED_FROM, format!("duplicate `renamed_from = \"{old}\"`"));
        }
    }

    let mut claimed: HashMap<String, &SinkName> = HashMap::new();
    for (section, plan) in &plans {
        if let Some(claim) = plan.plan.exclusive_resource()
            && let Some(other) = claimed.insert(claim.clone(), &plan.name)
        {
            section
                .fault(&NAME, format!("sinks `{other}` and `{}` both write to {claim}", plan.name));
        }
    }

    let tenants = destinations::tenants(&read.tenants);
    for (section, plan) in &plans {
        check_labels(section, plan, &read.tenants);
        destinations::check(section, plan, &read.tenants, &tenants);
    }

    plans.into_iter().map(|(_, plan)| plan).collect()
}

/// Reads how a sink signs in to Entra. Returns `None` for a sink that does not sign in, and after a
/// fault.
fn sign_in(
    section: &Section<'_>,
    plan: &dyn sink::Plan,
    shared: &credentials::Shared,
) -> Option<SignIn> {
    let Some(resource) = plan.token_resource() else {
        for key in sink::common_keys::SIGN_IN_KEYS.iter().filter(|key| section.has(*key)) {
            section.fault(key, format!("`{}` requires a sink that signs in to Entra", key.name));
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
    let login_url = parse_base_url(section.get(&LOGIN_URL).unwrap_or(login));
    let login_url = login_url.map_err(|Explanation { message, hint }| {
        section.fault_with(&LOGIN_URL, format!("`login_url` {message}"), hint);
    });
    let login_url = login_url.ok();

    let (Some(name), Some(tenant)) = (section.get(&CREDENTIAL), section.get(&ENTRA_TENANT)) else {
        let message = "a sink that signs in to Entra requires `credential` and `entra_tenant`";
        section.fault(&CREDENTIAL, message);
        return None;
    };

    Some(SignIn {
        credential: credentials::named(section, &CREDENTIAL, name, shared)?.credential.clone(),
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
                &NAME,
                format!("sink `{}`: tenant `{}` has no label `{label}`", plan.name, tenant.name),
            );
        }
    }
}

/// Reads when a sink sends its digests. Returns `None` for a sink without digests, and after a
/// fault.
fn digest(section: &Section<'_>, schedule: Option<&Schedule>) -> Option<DigestSchedule> {
    let cron = section.get(&sink::DIGEST)?;
    let digest = schedule?.digest(cron);
    match &digest {
        Err(error) => section.fault(&sink::DIGEST, format!("`digest`: {error}")),
        Ok(digest) if digest.next(crate::clock::now()).is_none() => {
            section.fault(&sink::DIGEST, format!("`digest`: `{cron}` never occurs"));
        }
        Ok(_) => {}
    }
    digest.ok()
}

/// Reads one sink. This function reads the keys that all sinks share; the module of its type reads
/// the others.
fn sink_plan(
    section: &Section<'_>,
    shared: &credentials::Shared,
    schedule: Option<&Schedule>,
) -> Option<SinkPlan> {
    let name = section.get(&NAME)?;
    let name = SinkName::parse(name).unwrap_or_else(|| {
        section.fault(&NAME, "`name` must consist of at most 64 letters, digits, `.`, `_` and `-`");
        SinkName::new(name)
    });

    let kind = sink::KINDS.iter().find(|kind| Some(kind.name) == section.get(&TYPE))?;
    let today = Day::of(crate::clock::now());
    if section.get(&START_FROM).is_some_and(|day| day > today) {
        section.fault(&START_FROM, "`start_from` is in the future: nothing would be sent");
    }
    let plan: Arc<dyn sink::Plan> = (kind.read)(section)?.into();
    let default_start = (plan.history() == sink::History::Skipped).then_some(today);

    Some(SinkPlan {
        name,
        kind: kind.name,
        selection: Arc::new(selection::read(section, plan.default_records())),
        tenants: selection::tenants(section, &sink::common_keys::TENANTS),
        // A digest is one message, whose records must not be spread over time.
        max_rate: section.get(&MAX_RATE).filter(|_| !section.has(&sink::DIGEST)),
        texts: section.get(&TEXT_LENGTH).unwrap_or(plan.format().default_texts()),
        fields: tenants::record_fields(section, &EXTRA_FIELDS).into_iter().collect(),
        start_from: section.get(&START_FROM).or(default_start),
        digest: digest(section, schedule),
        sign_in: sign_in(section, plan.as_ref(), shared),
        renamed_from: section.get(&RENAMED_FROM).map(SinkName::new),
        discarded: section.get(&DISCARD_BACKLOG),
        plan,
    })
}

/// Reports a fault for every plan that has the same value of `key` as an earlier plan.
pub(super) fn unique<P, K: Hash + Eq + std::fmt::Display>(
    plans: &[(&Section<'_>, P)],
    key: &impl Named,
    of: impl Fn(&P) -> K,
) {
    let mut seen: HashMap<K, &Section<'_>> = HashMap::new();
    for (section, plan) in plans {
        let value = of(plan);
        if let Some(first) = seen.get(&value) {
            let (name, first) = (key.definition().name, first.origin(key));
            let message = format!("duplicate `{name} = \"{value}\"`: `{first}` has the same value");
            section.fault(key, message);
        } else {
            seen.insert(value, section);
        }
    }
}
