//! Reads the rules for changes: `[[severity]]` and `[[expected_decisions]]`. The first matching
//! `[[severity]]` section applies, so this module must never change their order. Start reading at
//! [`read`].

use std::sync::Arc;

use super::selection::{globs, tenants};
use crate::{
    config::{
        TenantFilter, TenantPlan,
        keys::{
            self,
            rules::{
                CATEGORIES, CAUSE, CONTROL, CONTROLS, EXPIRES, OWNER, POINTS, SEVERITY, STATE,
                TENANTS, WHAT,
            },
        },
    },
    derive::{Expectation, Glob, Rules, SeverityRule},
    model::{ChangeKind, Number, ObservationKind},
    settings::Section,
};

/// Reads all rules, and assigns to each tenant the rules that apply to it.
pub(super) fn read(root: &Section<'_>, plans: &mut [TenantPlan]) {
    let severity: Vec<SeverityRule> =
        root.get(&keys::SEVERITY).unwrap_or_default().iter().filter_map(severity_rule).collect();
    let expected: Vec<(TenantFilter, Expectation)> = root
        .get(&keys::EXPECTED_DECISIONS)
        .unwrap_or_default()
        .iter()
        .filter_map(|section| Some((tenants(section, &TENANTS), expectation(section)?)))
        .collect();

    for plan in plans {
        let applicable = expected.iter().filter(|(filter, _)| filter.matches(plan));
        let expected = applicable.map(|(_, expectation)| expectation.clone()).collect();
        plan.rules = Arc::new(Rules { severity: severity.clone(), expected });
    }
}

fn severity_rule(section: &Section<'_>) -> Option<SeverityRule> {
    let what = section.get(&WHAT).unwrap_or_default();

    for name in &what {
        if ChangeKind::parse(name).is_none() && ObservationKind::parse(name).is_none() {
            let known = ChangeKind::ALL.iter().map(|kind| kind.as_str());
            let known = known.chain(ObservationKind::ALL.iter().map(|what| what.as_str()));
            let message = format!("`{name}` is not a kind of change or observation");
            section.fault_with(&WHAT, message, Some(format!("use one of: {}", list(known))));
        }
    }

    Some(SeverityRule {
        what: what.into_iter().map(str::to_owned).collect(),
        controls: globs(section, &CONTROLS),
        categories: globs(section, &CATEGORIES),
        cause: section.get(&CAUSE),
        points: section.get(&POINTS).map(Number::from),
        severity: section.get(&SEVERITY)?,
    })
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn expectation(section: &Section<'_>) -> Option<Expectation> {
    Some(Expectation {
        control: Glob::new(section.get(&CONTROL)?),
        state: section.get(&STATE)?.choice().name.to_owned(),
        owner: section.get(&OWNER)?.to_owned(),
        expires: section.get(&EXPIRES),
    })
}
