//! Summaries of the conditions: one sentence, groups of equal conditions, and the reasons why the
//! process is not ready.
//!
//! A summary shortens the list of conditions, but never a sentence or a hint. It must not decide
//! what is healthy: everything follows from the list. Start reading at [`headline`].

use std::collections::{HashMap, HashSet};

use super::{
    Condition, ConditionFacts, ConditionKind, ConditionSeverity, ConditionSubject, TenantFacts,
};
use crate::{
    error::Explanation,
    model::PollErrorClass,
    text::{count, with_separators},
};

/// How many tenants and sinks have no condition above [`ConditionSeverity::Info`]: those that are
/// working count as current and healthy, except tenants without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// All counted tenants.
    pub tenants: usize,
    /// The tenants without a condition that needs attention.
    pub current_tenants: usize,
    /// All counted sinks.
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

impl Counts {
    /// Counts the tenants and sinks of `facts` by their conditions.
    pub fn of(facts: &ConditionFacts, conditions: &[Condition]) -> Self {
        let tenants = facts.tenants.iter().map(|tenant| tenant.name.as_str());
        let sinks = facts.sinks.iter().map(|sink| sink.name.as_str());
        Self::of_named(tenants, sinks, conditions)
    }

    /// Counts the tenants and sinks with these names by their conditions.
    pub fn of_named<'a>(
        tenants: impl Iterator<Item = &'a str>,
        sinks: impl Iterator<Item = &'a str>,
        conditions: impl IntoIterator<Item = &'a Condition>,
    ) -> Self {
        let (mut behind, mut unhealthy) = (HashSet::new(), HashSet::new());
        // A tenant without data is not current, although its first poll may only be waiting.
        let counts = |condition: &&Condition| {
            condition.needs_attention() || condition.kind == ConditionKind::NeverPolled
        };
        for condition in conditions.into_iter().filter(counts) {
            match &condition.subject {
                ConditionSubject::Tenant(name) => {
                    behind.insert(name.as_str());
                }
                ConditionSubject::Sink(name) => {
                    unhealthy.insert(name.as_str());
                }
                ConditionSubject::Daemon | ConditionSubject::Credential(_) => {}
            }
        }

        let (tenants, current_tenants) = tally(tenants, &behind);
        let (sinks, healthy_sinks) = tally(sinks, &unhealthy);
        Self { tenants, current_tenants, sinks, healthy_sinks }
    }
}

/// The number of names, and of those that are not in the set.
fn tally<'a>(names: impl Iterator<Item = &'a str>, excluded: &HashSet<&str>) -> (usize, usize) {
    names.fold((0, 0), |(all, others), name| {
        (all + 1, others + usize::from(!excluded.contains(name)))
    })
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

/// One sentence about everything, such as `998 of 1,000 tenants are current; 1 sink is healthy`. It
/// also names the conditions of the daemon and of credentials.
pub fn headline<'a>(counts: Counts, conditions: impl IntoIterator<Item = &'a Condition>) -> String {
    let Counts { tenants, current_tenants, sinks, healthy_sinks } = counts;
    let mut parts = Vec::new();
    parts.extend(share(current_tenants, tenants, "tenant", "current"));
    parts.extend(share(healthy_sinks, sinks, "sink", "healthy"));

    let mut expiring = Vec::new();
    for condition in conditions.into_iter().filter(|condition| condition.needs_attention()) {
        match &condition.subject {
            ConditionSubject::Daemon => parts.push(condition.sentence.clone()),
            ConditionSubject::Credential(name) => expiring.push(name.as_str()),
            ConditionSubject::Sink(_) | ConditionSubject::Tenant(_) => {}
        }
    }
    match expiring.as_slice() {
        [] => {}
        [name] => parts.push(format!("credential `{name}` expires soon")),
        names => parts.push(format!("{} expire soon", count(names.len(), "credential"))),
    }

    if parts.is_empty() {
        parts.push("no tenants and no sinks".to_owned());
    }
    parts.join("; ")
}

/// How many of the tenants or sinks have a property, such as `1 of 2 tenants is current`; `None` if
/// there are none.
fn share(number: usize, all: usize, noun: &str, property: &str) -> Option<String> {
    let verb = if number == 1 { "is" } else { "are" };
    match all {
        0 => None,
        _ if number < all => {
            let (number, all) = (with_separators(number), with_separators(all));
            Some(format!("{number} of {all} {noun}s {verb} {property}"))
        }
        _ => Some(format!("{} {verb} {property}", count(all, noun))),
    }
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

/// Why the process is not ready: a stalled loop, a checkpoint that cannot be used, a clock that is
/// wrong by more than a day, a sink that needs an operator, or polls of all tenants that fail. A
/// single failing tenant does not make the process unready.
pub fn not_ready_reasons(facts: &ConditionFacts, conditions: &[Condition]) -> Vec<Explanation> {
    let is_blocking = |condition: &&Condition| {
        condition.severity == ConditionSeverity::Error
            && matches!(
                condition.kind,
                ConditionKind::LoopStalled
                    | ConditionKind::StorageFailing
                    | ConditionKind::ClockWrong
                    | ConditionKind::SinkParked
                    | ConditionKind::SinkRetrying
            )
    };
    let mut reasons: Vec<Explanation> =
        conditions.iter().filter(is_blocking).map(Condition::explanation).collect();

    // An incomplete response is not a failure: its days are held, and requested again.
    let is_failing = |tenant: &TenantFacts| {
        let error = tenant.error.as_ref();
        error.is_some_and(|error| error.class != Some(PollErrorClass::Incomplete))
    };
    let are_all_failing = !facts.tenants.is_empty() && facts.tenants.iter().all(is_failing);
    if are_all_failing {
        let is_of_a_tenant =
            |condition: &&Condition| matches!(condition.subject, ConditionSubject::Tenant(_));
        let first = conditions.iter().find(is_of_a_tenant).map(Condition::explanation);
        reasons.extend(first.map(|first| first.within("polls of all tenants fail")));
    }
    reasons
}

/// Whether something needs an operator, is still missing or is unsent, which is the exit code 1 of
/// commands. A warning that is not about data, such as an expiring credential, does not count.
pub fn is_incomplete<'a>(conditions: impl IntoIterator<Item = &'a Condition>) -> bool {
    conditions.into_iter().any(|condition| {
        let is_of_data = match condition.kind {
            ConditionKind::SinkParked
            | ConditionKind::TargetParked
            | ConditionKind::SinkRetrying
            | ConditionKind::SinkSilent
            | ConditionKind::SinkDelivering
            | ConditionKind::SinkWaiting
            | ConditionKind::DeadLetters
            | ConditionKind::CredentialRejected
            | ConditionKind::PollFailing
            | ConditionKind::ResponseIncomplete
            | ConditionKind::TenantBehind
            | ConditionKind::NeverPolled => true,
            ConditionKind::LoopStalled
            | ConditionKind::DiskFull
            | ConditionKind::DiskLow
            | ConditionKind::StorageFailing
            | ConditionKind::CursorFileOutdated
            | ConditionKind::ClockWrong
            | ConditionKind::ConfigurationRejected
            | ConditionKind::ConfigurationInvalid
            | ConditionKind::ConfigurationChanged
            | ConditionKind::DaemonStopped
            | ConditionKind::DaemonSilent
            | ConditionKind::DayLate
            | ConditionKind::CredentialExpiring
            | ConditionKind::DataQuality => false,
        };
        is_of_data || condition.severity == ConditionSeverity::Error
    })
}
