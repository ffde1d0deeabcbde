//! Conditions of a tenant: failed polls, late days, and the quality of its data.
//!
//! Each fact leads to at most one condition: an open observation that another fact reports as well
//! is left out. This module must never interpret the text of an error; what a condition depends on
//! is a field of [`TenantFacts`]. Start reading at [`conditions`].

use std::time::Duration;

use super::{
    Condition, ConditionFacts, ConditionKind, ConditionSeverity, ConditionSubject,
    ConfigurationFacts,
};
use crate::{
    error::Explanation,
    model::{Day, ObservationKind, OpenObservation, PollErrorClass, UnixMillis},
    text::count,
};

/// What the conditions of a tenant depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantFacts {
    /// The name in the configuration.
    pub name: String,
    /// The name of its credential in the configuration; `tenant NAME` if no other tenant uses it.
    pub credential: String,
    /// The newest stored day; `None` if no day is stored.
    pub newest_day: Option<Day>,
    /// The last poll, successful or not; `None` if there was none.
    pub last_attempt: Option<UnixMillis>,
    /// Why the last poll failed or was incomplete; `None` if it was complete.
    pub error: Option<PollErrorFacts>,
    /// When the snapshot of today was due; `None` if it is stored or not due yet.
    pub due_since: Option<UnixMillis>,
    /// Observations that have begun and have not ended.
    pub observations: Vec<OpenObservation>,
}

/// A poll that failed or was incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollErrorFacts {
    /// What failed and why, with the hint.
    pub reason: Explanation,
    /// `None` if the class is unknown; the poll then counts as retried.
    pub class: Option<PollErrorClass>,
    /// The first failure since the last success; `None` if it is unknown.
    pub since: Option<UnixMillis>,
}

/// A tenant whose newest day is more than this many days old is behind. A tenant without a day is
/// behind if its polls have failed for more than this many days. Microsoft publishes a day during
/// the following day, and the poll may run hours later.
const MAX_DAYS_BEHIND: u32 = 3;
/// Microsoft does not publish at a fixed time, so a day that is due may be missing for this time.
const LATE_DAY: Duration = Duration::from_hours(6);

/// The conditions of a tenant of `facts`. `today` is the day of `facts.now`, which is the same for
/// all tenants.
pub(super) fn conditions(
    tenant: &TenantFacts,
    facts: &ConditionFacts,
    today: Day,
) -> Vec<Condition> {
    let mut conditions = Vec::new();
    conditions.extend(poll_error(tenant));
    conditions.extend(missing_day(tenant, facts, today));
    let observations = tenant.observations.iter();
    conditions.extend(observations.filter_map(|open| observation(tenant, open)));
    conditions
}

fn poll_error(tenant: &TenantFacts) -> Option<Condition> {
    let PollErrorFacts { reason, class, since } = tenant.error.as_ref()?;

    let (kind, what) = match class {
        Some(PollErrorClass::Credential | PollErrorClass::Permission) => {
            (ConditionKind::CredentialRejected, "polls are failing")
        }
        Some(PollErrorClass::Incomplete) => {
            (ConditionKind::ResponseIncomplete, "the last poll was incomplete")
        }
        _ => (ConditionKind::PollFailing, "polls are failing"),
    };
    let needs_operator = class.is_some_and(PollErrorClass::needs_operator);
    let severity =
        if needs_operator { ConditionSeverity::Error } else { ConditionSeverity::Warning };
    Some(Condition {
        severity,
        kind,
        subject: tenant.subject(),
        sentence: format!("{what}: {}", reason.message),
        hint: reason.hint.clone(),
        since: *since,
    })
}

/// At most one condition about the age of the newest day.
fn missing_day(tenant: &TenantFacts, facts: &ConditionFacts, today: Day) -> Option<Condition> {
    let condition = |severity, kind, sentence, hint: Option<&str>, since| {
        let hint = hint.map(str::to_owned);
        Some(Condition { severity, kind, subject: tenant.subject(), sentence, hint, since })
    };
    let first_poll = match facts.configuration {
        // A tenant of the files may be unknown to the daemon.
        ConfigurationFacts::Changed => {
            "no poll has finished yet; the daemon may not have loaded this tenant"
        }
        _ => "the first poll has not finished yet",
    };
    let wait = "check in the Microsoft Defender portal whether the tenant has a score";

    match (tenant.newest_day, tenant.last_attempt) {
        (None, None) => condition(
            ConditionSeverity::Info,
            ConditionKind::NeverPolled,
            first_poll.to_owned(),
            None,
            None,
        ),
        // The error of the poll is a separate condition.
        (None, Some(_)) if tenant.error.is_some() => {
            let since = tenant.error.as_ref()?.since?;
            if age_in_days(since.day(), today) <= MAX_DAYS_BEHIND {
                return None;
            }
            let (severity, kind) = (ConditionSeverity::Error, ConditionKind::TenantBehind);
            condition(severity, kind, "no day is stored yet".to_owned(), None, Some(since))
        }
        (None, Some(attempt)) => {
            let (severity, kind) = (ConditionSeverity::Warning, ConditionKind::TenantBehind);
            let sentence = "Microsoft has not published a score yet".to_owned();
            condition(severity, kind, sentence, Some(wait), Some(attempt))
        }

        (Some(day), _) if age_in_days(day, today) > MAX_DAYS_BEHIND => {
            let age = count(age_in_days(day, today), "day");
            let sentence = format!("the newest day `{day}` is {age} old");
            let hint = if tenant.error.is_some() { None } else { Some(wait) };
            condition(ConditionSeverity::Error, ConditionKind::TenantBehind, sentence, hint, None)
        }
        (Some(day), _) => {
            let due = tenant.due_since?;
            let is_late = facts.now.saturating_duration_since(due) > LATE_DAY;
            let severity =
                if is_late { ConditionSeverity::Warning } else { ConditionSeverity::Info };
            let sentence = format!("the snapshot of today is missing; the newest day is `{day}`");
            condition(severity, ConditionKind::DayLate, sentence, None, Some(due))
        }
    }
}

fn observation(tenant: &TenantFacts, open: &OpenObservation) -> Option<Condition> {
    let OpenObservation { what, first_day, since, reason, .. } = open;

    match what {
        // Separate conditions report these.
        ObservationKind::PollFailed
        | ObservationKind::Stale
        | ObservationKind::DeadLetter
        | ObservationKind::CredentialExpiring => return None,
        ObservationKind::Gap
        | ObservationKind::Implausible
        | ObservationKind::ForeignTenant
        | ObservationKind::Partial
        | ObservationKind::CatalogStale => {}
    }

    let name = what.as_str().replace('_', " ");
    Some(Condition {
        severity: ConditionSeverity::of(what.severity(None)),
        kind: ConditionKind::DataQuality,
        subject: tenant.subject(),
        sentence: format!("{name} `{first_day}`: {}", reason.message),
        hint: reason.hint.clone(),
        since: Some(*since),
    })
}

/// The number of days from `day` to `today`; 0 if `day` is later.
fn age_in_days(day: Day, today: Day) -> u32 {
    // Computing the difference is expensive, and nearly all tenants have the snapshot of today.
    if day >= today {
        return 0;
    }
    u32::try_from(today.number() - day.number()).unwrap_or(0)
}

impl TenantFacts {
    fn subject(&self) -> ConditionSubject {
        ConditionSubject::Tenant(self.name.clone())
    }
}
