//! Summaries of the conditions: the overall health, one sentence, groups of equal conditions, and
//! the reasons why the process is not ready.
//!
//! A summary shortens the list of conditions, but never a sentence or a hint. It must not decide by
//! itself what is healthy: everything follows from the list. Start reading at [`Health`] and
//! [`headline`].

use std::collections::{HashMap, HashSet};

use super::{Condition, ConditionFacts, ConditionKind, ConditionSeverity, ConditionSubject};
use crate::{
    error::Explanation,
    text::{count, with_separators},
};

/// The overall health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// There are no conditions.
    Healthy,
    /// Work is in progress.
    Working,
    /// Something is retried, and clears by itself.
    Degraded,
    /// Something needs an operator.
    NeedsAttention,
}

/// How many tenants and sinks have no condition above [`ConditionSeverity::Info`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// All configured tenants.
    pub tenants: usize,
    /// The tenants without a condition that needs attention.
    pub healthy_tenants: usize,
    /// All configured sinks.
    pub sinks: usize,
    /// The sinks without a condition that needs attention.
    pub healthy_sinks: usize,
}

/// Conditions that differ only in their subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The first one.
    pub condition: &'a Condition,
    /// The subjects of all of them, in the order of the list.
    pub subjects: Vec<&'a ConditionSubject>,
}

/// At most this many subjects of a group are named.
const MAX_NAMES: usize = 3;
/// At most this many groups are named in one line.
const MAX_GROUPS_PER_LINE: usize = 3;

impl Health {
    /// The health that follows from a list of conditions.
    pub fn of(conditions: &[Condition]) -> Self {
        match conditions.iter().map(|condition| condition.severity).max() {
            None => Self::Healthy,
            Some(ConditionSeverity::Info) => Self::Working,
            Some(ConditionSeverity::Warning) => Self::Degraded,
            Some(ConditionSeverity::Error) => Self::NeedsAttention,
        }
    }

    /// The words for the health.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Working => "Working",
            Self::Degraded => "Degraded",
            Self::NeedsAttention => "Needs attention",
        }
    }

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Working => "working",
            Self::Degraded => "degraded",
            Self::NeedsAttention => "needs_attention",
        }
    }
}

impl Counts {
    /// Counts the tenants and sinks of `facts` by their conditions.
    pub fn of(facts: &ConditionFacts, conditions: &[Condition]) -> Self {
        let unhealthy: HashSet<&ConditionSubject> = conditions
            .iter()
            .filter(|condition| condition.needs_attention())
            .map(|condition| &condition.subject)
            .collect();
        let tenants = unhealthy.iter().filter(|s| matches!(s, ConditionSubject::Tenant(_))).count();
        let sinks = unhealthy.iter().filter(|s| matches!(s, ConditionSubject::Sink(_))).count();

        Self {
            tenants: facts.tenants.len(),
            healthy_tenants: facts.tenants.len().saturating_sub(tenants),
            sinks: facts.sinks.len(),
            healthy_sinks: facts.sinks.len().saturating_sub(sinks),
        }
    }
}

impl Group<'_> {
    /// One line about all members, with the hint as the hint.
    pub fn explanation(&self) -> Explanation {
        if self.subjects.len() == 1 {
            return self.condition.explanation();
        }

        let names: Vec<String> = self
            .subjects
            .iter()
            .take(MAX_NAMES)
            .filter_map(|subject| Some(format!("`{}`", subject.name()?)))
            .collect();
        let rest = self.subjects.len() - names.len();
        let more = match rest {
            0 => String::new(),
            rest => format!(" and {} more", with_separators(rest)),
        };

        let members = count(self.subjects.len(), self.condition.subject.kind());
        let message =
            format!("{members}: {} ({}{more})", self.condition.sentence, names.join(", "));
        Explanation { message, hint: self.condition.hint.clone() }
    }
}

/// Groups conditions that differ only in their subject, in the order of their first members.
pub fn grouped<'a>(conditions: impl IntoIterator<Item = &'a Condition>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut known: HashMap<(ConditionKind, ConditionSeverity, &str, Option<&str>), usize> =
        HashMap::new();

    for condition in conditions {
        let Condition { kind, severity, sentence, hint, subject, .. } = condition;
        // Without the type of the subject, the sentence of a tenant could equal that of a sink;
        // the kind determines the type.
        let key = (*kind, *severity, sentence.as_str(), hint.as_deref());
        let index = *known.entry(key).or_insert_with(|| {
            groups.push(Group { condition, subjects: Vec::new() });
            groups.len() - 1
        });
        groups[index].subjects.push(subject);
    }
    groups
}

/// One sentence about everything, such as `499 of 500 tenants are healthy; 1 sink is healthy`.
pub fn headline(counts: Counts, conditions: &[Condition]) -> String {
    let part = |healthy: usize, all: usize, noun: &str| {
        let verb = if healthy == 1 { "is" } else { "are" };
        match all {
            0 => format!("no {noun}s"),
            _ if healthy < all => {
                let (healthy, all) = (with_separators(healthy), with_separators(all));
                format!("{healthy} of {all} {noun}s {verb} healthy")
            }
            1 => format!("{} is healthy", count(all, noun)),
            _ => format!("all {} are healthy", count(all, noun)),
        }
    };
    let mut parts = vec![
        part(counts.healthy_tenants, counts.tenants, "tenant"),
        part(counts.healthy_sinks, counts.sinks, "sink"),
    ];

    let of_daemon = conditions.iter().filter(|condition| {
        condition.subject == ConditionSubject::Daemon && condition.needs_attention()
    });
    parts.extend(of_daemon.map(|condition| condition.sentence.clone()));
    parts.join("; ")
}

/// The headline and the most urgent conditions on one line, for the status line of systemd.
pub fn status_line(counts: Counts, conditions: &[Condition]) -> String {
    let urgent = conditions.iter().filter(|condition| {
        condition.subject != ConditionSubject::Daemon && condition.needs_attention()
    });
    let groups = grouped(urgent);

    let mut parts = vec![headline(counts, conditions)];
    let shown = groups.iter().take(MAX_GROUPS_PER_LINE).map(|group| group.explanation().message);
    parts.extend(shown);
    if groups.len() > MAX_GROUPS_PER_LINE {
        let more = with_separators(groups.len() - MAX_GROUPS_PER_LINE);
        parts.push(format!("{more} more in `status`"));
    }
    parts.join("; ")
}

/// Why the process is not ready: a stalled loop, a sink that needs an operator, or polls of all
/// tenants that fail. A single failing tenant does not make the process unready.
pub fn not_ready_reasons(facts: &ConditionFacts, conditions: &[Condition]) -> Vec<Explanation> {
    let is_blocking = |condition: &&Condition| {
        condition.severity == ConditionSeverity::Error
            && matches!(
                condition.kind,
                ConditionKind::LoopStalled
                    | ConditionKind::SinkParked
                    | ConditionKind::SinkRetrying
            )
    };
    let mut reasons: Vec<Explanation> =
        conditions.iter().filter(is_blocking).map(Condition::explanation).collect();

    let are_all_failing =
        !facts.tenants.is_empty() && facts.tenants.iter().all(|tenant| tenant.error.is_some());
    if are_all_failing {
        let is_of_a_tenant =
            |condition: &&Condition| matches!(condition.subject, ConditionSubject::Tenant(_));
        let first = conditions.iter().find(is_of_a_tenant).map(Condition::explanation);
        reasons.extend(first.map(|first| first.within("polls of all tenants fail")));
    }
    reasons
}

/// Whether something is still missing or unsent, which is the exit code 1 of commands.
pub fn is_incomplete(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| match condition.kind {
        ConditionKind::SinkParked
        | ConditionKind::SinkRetrying
        | ConditionKind::SinkSilent
        | ConditionKind::SinkDelivering
        | ConditionKind::DeadLetters
        | ConditionKind::CredentialRejected
        | ConditionKind::PollFailing
        | ConditionKind::ResponseIncomplete
        | ConditionKind::TenantBehind => true,
        ConditionKind::NeverPolled
        | ConditionKind::LoopStalled
        | ConditionKind::DiskFull
        | ConditionKind::DiskLow
        | ConditionKind::ConfigurationRejected
        | ConditionKind::DayLate
        | ConditionKind::CredentialExpiring
        | ConditionKind::DataQuality => false,
    })
}
