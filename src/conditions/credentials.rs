//! Conditions of credentials: those that expire soon.
//!
//! Many tenants can share a credential, so it has one condition. That condition must never affect
//! the health of its tenants: they remain healthy until Microsoft rejects the credential. Start
//! reading at [`conditions`].

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Condition, ConditionKind, ConditionSeverity, ConditionSubject, TenantFacts};
use crate::{
    model::{Day, ObservationKind, OpenObservation},
    text::count,
};

/// A credential that expires within this time needs an operator now.
const NEAR_EXPIRY_DAYS: i32 = 7;

/// Whether a credential that expires on this day needs an operator now. With more time left, it is
/// only a warning.
pub fn is_near_expiry(end: Day, today: Day) -> bool {
    end <= today.plus(NEAR_EXPIRY_DAYS)
}

/// One condition for each credential that expires soon, sorted by name.
pub(super) fn conditions(tenants: &[TenantFacts], today: Day) -> Vec<Condition> {
    let mut expiring: BTreeMap<&str, Vec<&OpenObservation>> = BTreeMap::new();
    for tenant in tenants {
        let open = tenant.observations.iter();
        let open = open.filter(|open| open.what == ObservationKind::CredentialExpiring);
        for observation in open {
            expiring.entry(tenant.credential.as_str()).or_default().push(observation);
        }
    }

    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    for tenant in tenants {
        *users.entry(tenant.credential.as_str()).or_default() += 1;
    }
    let conditions = expiring.into_iter().filter_map(|(name, open)| {
        let users = users.get(name).copied().unwrap_or(0);
        condition(name, &open, users, today)
    });
    conditions.collect()
}

/// The condition of the credential with this name, which this number of tenants use. `None` without
/// observations.
fn condition(
    name: &str,
    open: &[&OpenObservation],
    tenants: usize,
    today: Day,
) -> Option<Condition> {
    let first = open.iter().min_by_key(|open| (open.expires.is_none(), open.expires))?;
    let is_near = first.expires.is_some_and(|end| is_near_expiry(end.day(), today));
    let severity = if is_near {
        ConditionSeverity::Error
    } else {
        ConditionSeverity::of(first.what.severity(None))
    };

    let state = match first.expires {
        Some(end) => format!("valid until `{}`", Timestamp::from(end)),
        None => first.reason.message.clone(),
    };
    Some(Condition {
        severity,
        kind: ConditionKind::CredentialExpiring,
        subject: ConditionSubject::Credential(name.to_owned()),
        sentence: format!("{state}, used by {}", count(tenants, "tenant")),
        hint: first.reason.hint.clone(),
        since: open.iter().map(|open| open.since).min(),
    })
}
