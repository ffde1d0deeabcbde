//! Reads which records a sink receives: tenants, kinds and controls. Without `records`, the type of
//! the sink decides which kinds it receives.

use crate::{
    config::TenantFilter,
    derive::{ControlFilter, FullEvery, Glob, Selection},
    model::ChangeKind,
    settings::Section,
};

/// The default of `full_every`, in days.
const FULL_EVERY: i32 = 7;

/// Reads the kinds of record and the controls of a sink. `default_records` applies without
/// `records`.
pub(super) fn read(section: &Section<'_>, default_records: &[&'static str]) -> Selection {
    let records = section.texts("records").unwrap_or_else(|| default_records.to_vec());
    if records.is_empty() {
        section.fault("records", "`records` is empty");
    }
    if section.texts("changes").is_some_and(|changes| changes.is_empty()) {
        section.fault("changes", "`changes` is empty");
    }
    for key in ["changes", "historical_changes"] {
        if section.has(key) && !records.contains(&"change") {
            section.fault(key, format!("`{key}` requires `change` in `records`"));
        }
    }

    let changed = section.text("controls") == Some("changed");
    if section.has("full_every") && !changed {
        section.fault("full_every", "`full_every` requires `controls = \"changed\"`");
    }

    Selection {
        controls: records.contains(&"control"),
        summary: records.contains(&"summary"),
        changes: records.contains(&"change"),
        quality: records.contains(&"quality"),
        historical: section.bool("historical_changes") == Some(true),
        kinds: section
            .texts("changes")
            .unwrap_or_default()
            .into_iter()
            .filter_map(ChangeKind::parse)
            .collect(),
        control_filter: ControlFilter {
            ids: globs(section, "control_ids"),
            services: globs(section, "services"),
            categories: globs(section, "categories"),
            changed: changed.then(|| full_every(section)),
        },
    }
}

/// Reads the patterns of `tenants`.
pub(super) fn tenants(section: &Section<'_>) -> TenantFilter {
    TenantFilter::parse(patterns(section, "tenants"))
}

fn full_every(section: &Section<'_>) -> FullEvery {
    let Some(duration) = section.duration("full_every") else { return FullEvery(FULL_EVERY) };

    let days = duration.as_secs() / 86_400;
    if !duration.as_secs().is_multiple_of(86_400) || !(1..=366).contains(&days) {
        section.fault("full_every", "`full_every` must be a whole number of days from 1d to 366d");
    }

    FullEvery(i32::try_from(days).unwrap_or(FULL_EVERY))
}

/// The patterns of a key, compiled.
pub(super) fn globs(section: &Section<'_>, key: &str) -> Vec<Glob> {
    patterns(section, key).into_iter().map(Glob::new).collect()
}

/// The patterns of a key. An empty list would match nothing, so it is a fault.
fn patterns<'a>(section: &Section<'a>, key: &str) -> Vec<&'a str> {
    let patterns = section.texts(key).unwrap_or_default();

    if patterns.is_empty() && section.has(key) {
        section.fault(key, format!("`{key}` is empty"));
    }

    patterns
}
