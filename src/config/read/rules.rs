//! Reads the rules for changes: `[[severity]]` and `[[expected_decisions]]`. The first matching
//! `[[severity]]` section applies, so their order is kept.

use std::sync::Arc;

use super::selection::{globs, tenants};
use crate::{
    config::{TenantFilter, TenantPlan},
    derive::{Expectation, Glob, Rules, SeverityRule},
    model::{Cause, ChangeKind, Number, ObservationKind, Severity},
    settings::Section,
};

/// Reads all rules, and assigns to each tenant the rules that apply to it.
pub(super) fn read(root: &Section<'_>, plans: &mut [TenantPlan]) {
    let severity: Vec<SeverityRule> =
        root.sections("severity").iter().filter_map(severity_rule).collect();
    let expected: Vec<(TenantFilter, Expectation)> = root
        .sections("expected_decisions")
        .iter()
        .filter_map(|section| Some((tenants(section), expectation(section)?)))
        .collect();

    for plan in plans {
        let applicable = expected.iter().filter(|(filter, _)| filter.matches(plan));
        let expected = applicable.map(|(_, expectation)| expectation.clone()).collect();
        plan.rules = Arc::new(Rules { severity: severity.clone(), expected });
    }
}

fn severity_rule(section: &Section<'_>) -> Option<SeverityRule> {
    let what = section.texts("what").unwrap_or_default();

    for name in &what {
        if ChangeKind::parse(name).is_none() && ObservationKind::parse(name).is_none() {
            let known = ChangeKind::ALL.iter().map(|kind| kind.as_str());
            let known = known.chain(ObservationKind::ALL.iter().map(|what| what.as_str()));
            let message = format!("`{name}` is not a kind of change or observation");
            section.fault_with("what", message, Some(format!("use one of: {}", list(known))));
        }
    }

    Some(SeverityRule {
        what: what.into_iter().map(str::to_owned).collect(),
        controls: globs(section, "controls"),
        categories: globs(section, "categories"),
        cause: section.text("cause").and_then(Cause::parse),
        points: section
            .integer("points")
            .and_then(|points| u32::try_from(points).ok())
            .map(Number::from),
        severity: section.text("severity").and_then(Severity::parse)?,
    })
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn expectation(section: &Section<'_>) -> Option<Expectation> {
    Some(Expectation {
        control: Glob::new(section.text("control")?),
        state: section.text("state")?.to_owned(),
        owner: section.text("owner")?.to_owned(),
        expires: section.day("expires"),
    })
}
