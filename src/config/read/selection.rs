//! Reads which records a sink receives: tenants, kinds and controls. Without `records`, a sink
//! receives all kinds.

use crate::{
    config::{TenantFilter, TenantPattern},
    derive::{ControlFilter, FullEvery, Glob, Selection},
    model::ChangeKind,
    settings::Section,
};

/// The default of `full_every`, in days.
const FULL_EVERY: i32 = 7;

/// Reads the kinds of record and the controls of a sink.
pub(super) fn read(section: &Section<'_>) -> Selection {
    let records =
        section.texts("records").unwrap_or(vec!["control", "summary", "change", "quality"]);
    if records.is_empty() {
        section.fault("records", "`records` is empty");
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
    let patterns = patterns(section, "tenants").into_iter();

    TenantFilter(
        patterns
            .map(|text| match text.split_once('=') {
                Some((label, value)) => {
                    TenantPattern::Label(label.trim().to_owned(), Glob::new(value.trim()))
                }
                None => TenantPattern::Name(Glob::new(text)),
            })
            .collect(),
    )
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
