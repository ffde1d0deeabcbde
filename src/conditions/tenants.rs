//! Conditions of a tenant: failed polls, late days, credentials, and the quality of its data.

use std::time::Duration;

use super::{Condition, ConditionKind, Severity, Subject, age_in_days, count};
use crate::{
    error::Explanation,
    model::{Day, ObservationKind, UnixMillis},
};

/// What the conditions of a tenant depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantFacts {
    pub name: String,
    /// The newest stored day; `None` if no day is stored.
    pub newest_day: Option<Day>,
    /// The last poll, successful or not; `None` if there was none.
    pub last_attempt: Option<UnixMillis>,
    /// The last poll that read everything; `None` if there was none.
    pub last_success: Option<UnixMillis>,
    /// Why the last poll failed or was incomplete; `None` if it was complete.
    pub error: Option<PollErrorFacts>,
    /// The next poll by the schedule; `None` without a daemon.
    pub next_poll: Option<UnixMillis>,
    /// When the snapshot of today was due; `None` if it is stored or not due yet.
    pub due_since: Option<UnixMillis>,
    /// Observations that have begun and have not ended.
    pub observations: Vec<OpenObservation>,
}

/// A poll that failed or was incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollErrorFacts {
    pub reason: Explanation,
    /// `credential` and `permission` need an operator, `incomplete` is a response without some of
    /// its parts, and every other class is retried.
    pub class: String,
    /// The first failure since the last success; `None` if it is unknown.
    pub since: Option<UnixMillis>,
}

/// An observation that has begun and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenObservation {
    pub what: ObservationKind,
    pub first_day: Day,
    /// When it was noticed.
    pub since: UnixMillis,
    /// The reason, and what an operator can do about it.
    pub reason: Explanation,
}

/// A tenant whose newest day is more than this many days old is behind. Microsoft publishes a day
/// during the following day, and the poll may run hours later.
const MAX_DAYS_BEHIND: i32 = 3;
/// Microsoft does not publish at a fixed time, so a day that is due may be missing for this time.
const LATE_DAY: Duration = Duration::from_hours(6);
/// A certificate that expires within this time needs an operator now.
const NEAR_EXPIRY_DAYS: i32 = 7;

pub(super) fn conditions(tenant: &TenantFacts, now: UnixMillis) -> Vec<Condition> {
    let mut conditions = Vec::new();
    conditions.extend(poll_error(tenant));
    conditions.extend(missing_day(tenant, now));
    conditions.extend(tenant.observations.iter().filter_map(|open| observation(tenant, open, now)));
    conditions
}

fn poll_error(tenant: &TenantFacts) -> Option<Condition> {
    let PollErrorFacts { reason, class, since } = tenant.error.as_ref()?;

    let (severity, kind, what) = match class.as_str() {
        "credential" | "permission" => {
            (Severity::Error, ConditionKind::CredentialRejected, "polls fail")
        }
        "incomplete" => {
            (Severity::Warning, ConditionKind::ResponseIncomplete, "the last poll was incomplete")
        }
        "configuration" => (Severity::Error, ConditionKind::PollFailing, "polls fail"),
        _ => (Severity::Warning, ConditionKind::PollFailing, "polls fail"),
    };
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
fn missing_day(tenant: &TenantFacts, now: UnixMillis) -> Option<Condition> {
    let condition = |severity, kind, sentence, hint: Option<&str>, since| {
        let hint = hint.map(str::to_owned);
        Some(Condition { severity, kind, subject: tenant.subject(), sentence, hint, since })
    };
    let first_poll = "the first poll has not ended yet";
    let wait = "check in the Microsoft Defender portal whether the tenant has a score";

    match (tenant.newest_day, tenant.last_attempt) {
        (None, None) => {
            condition(Severity::Info, ConditionKind::NeverPolled, first_poll.to_owned(), None, None)
        }
        // The error of the poll is a condition of its own.
        (None, Some(_)) if tenant.error.is_some() => None,
        (None, Some(attempt)) => {
            let (severity, kind) = (Severity::Warning, ConditionKind::TenantBehind);
            let sentence = "Microsoft has not published a score yet".to_owned();
            condition(severity, kind, sentence, Some(wait), Some(attempt))
        }

        (Some(day), _) if age_in_days(day, now) > MAX_DAYS_BEHIND => {
            let age = count(u64::try_from(age_in_days(day, now)).unwrap_or(0), "day");
            let sentence = format!("the newest day `{day}` is {age} old");
            let hint = if tenant.error.is_some() { None } else { Some(wait) };
            condition(Severity::Error, ConditionKind::TenantBehind, sentence, hint, None)
        }
        (Some(day), _) => {
            let due = tenant.due_since?;
            let is_late = now.saturating_duration_since(due) > LATE_DAY;
            let severity = if is_late { Severity::Warning } else { Severity::Info };
            let sentence = format!("the snapshot of today is missing; the newest day is `{day}`");
            condition(severity, ConditionKind::DayLate, sentence, None, Some(due))
        }
    }
}

fn observation(tenant: &TenantFacts, open: &OpenObservation, now: UnixMillis) -> Option<Condition> {
    let OpenObservation { what, first_day, since, reason } = open;

    let (severity, kind) = match what {
        // Conditions of their own report these.
        ObservationKind::PollFailed | ObservationKind::Stale | ObservationKind::DeadLetter => {
            return None;
        }
        ObservationKind::CredentialExpiring => {
            let is_near = expiry_in(&reason.message)
                .is_some_and(|day| day.number() - now.day().number() <= NEAR_EXPIRY_DAYS);
            let severity = if is_near { Severity::Error } else { Severity::Warning };
            (severity, ConditionKind::CredentialExpiring)
        }
        ObservationKind::ForeignTenant => (Severity::Error, ConditionKind::DataQuality),
        _ => (Severity::Warning, ConditionKind::DataQuality),
    };

    let sentence = match kind {
        ConditionKind::CredentialExpiring => reason.message.clone(),
        _ => format!("{} `{first_day}`: {}", what.as_str().replace('_', " "), reason.message),
    };
    Some(Condition {
        severity,
        kind,
        subject: tenant.subject(),
        sentence,
        hint: reason.hint.clone(),
        since: Some(*since),
    })
}

/// The first date in a text, such as the end of a certificate in the reason of its observation.
fn expiry_in(text: &str) -> Option<Day> {
    let starts = text.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(start, _)| start);
    starts.filter_map(|start| text.get(start..start + 10)).find_map(Day::parse)
}

impl TenantFacts {
    fn subject(&self) -> Subject {
        Subject::Tenant(self.name.clone())
    }
}
