//! Reads which records a sink receives: tenants, kinds and controls. Without `records`, the type of
//! the sink decides which kinds it receives. An empty list must never be accepted, because it would
//! select nothing. Start reading at [`read`].

use std::time::Duration;

use crate::{
    config::TenantFilter,
    derive::{ControlFilter, FullEvery, Glob, Selection},
    model::Kind,
    settings::{Key, Named, Section, Texts},
    sink::common_keys::{
        CATEGORIES, CHANGES, CONTROL_IDS, CONTROLS, Controls, FULL_EVERY, HISTORICAL_CHANGES,
        RECORDS, SERVICES,
    },
};

const ONE_DAY: Duration = Duration::from_hours(24);

/// Reads the kinds of record and the controls of a sink. `default_records` applies without
/// `records`.
pub(super) fn read(section: &Section<'_>, default_records: &[Kind]) -> Selection {
    let records = section.get(&RECORDS).unwrap_or_else(|| default_records.to_vec());
    if records.is_empty() {
        section.fault(&RECORDS, "`records` is empty");
    }
    let kinds = section.get(&CHANGES);
    if kinds.as_ref().is_some_and(Vec::is_empty) {
        section.fault(&CHANGES, "`changes` is empty");
    }

    // A default of all sinks has no effect on those that it does not apply to.
    for key in [CHANGES.definition(), HISTORICAL_CHANGES.definition()] {
        if section.sets(&key) && !records.contains(&Kind::Change) {
            section.fault(&key, format!("`{}` requires `change` in `records`", key.name));
        }
    }
    let changed = section.get(&CONTROLS) == Controls::Changed;
    if section.sets(&FULL_EVERY) && !changed {
        section.fault(&FULL_EVERY, "`full_every` requires `controls = \"changed\"`");
    }

    Selection {
        controls: records.contains(&Kind::Control),
        summary: records.contains(&Kind::Summary),
        changes: records.contains(&Kind::Change),
        quality: records.contains(&Kind::Quality),
        historical: section.get(&HISTORICAL_CHANGES),
        kinds: kinds.unwrap_or_default(),
        control_filter: ControlFilter {
            ids: globs(section, &CONTROL_IDS),
            services: globs(section, &SERVICES),
            categories: globs(section, &CATEGORIES),
            changed: changed.then(|| full_every(section)),
        },
    }
}

/// Reads the patterns of a list of tenants.
pub(super) fn tenants(section: &Section<'_>, key: &Key<Texts>) -> TenantFilter {
    TenantFilter::parse(patterns(section, key))
}

fn full_every(section: &Section<'_>) -> FullEvery {
    let duration = section.get(&FULL_EVERY);

    if !duration.as_secs().is_multiple_of(ONE_DAY.as_secs()) {
        section.fault(&FULL_EVERY, "`full_every` must be a whole number of days");
    }

    FullEvery(i32::try_from(duration.as_secs() / ONE_DAY.as_secs()).unwrap_or(i32::MAX))
}

/// The patterns of a key, compiled.
pub(super) fn globs(section: &Section<'_>, key: &Key<Texts>) -> Vec<Glob> {
    patterns(section, key).into_iter().map(Glob::new).collect()
}

/// The patterns of a key. An empty list would match nothing, so it is a fault.
fn patterns<'a>(section: &Section<'a>, key: &Key<Texts>) -> Vec<&'a str> {
    let patterns = section.get(key).unwrap_or_default();

    if patterns.is_empty() && section.has(key) {
        section.fault(key, format!("`{}` is empty", key.name()));
    }

    patterns
}
