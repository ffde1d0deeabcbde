//! The requests of an attempt that a receiver denies, such as with HTTP 401 or 404. The usual cause
//! is the configuration, which parks the sink, but a firewall can respond like this to the text of
//! one tenant.
//!
//! Only the records of other tenants show which one it is: if they arrive in the same attempt, the
//! denied tenant is withheld; otherwise, the sink parks. This module decides nothing about records.
//! Start reading at [`Denials::take_unexplained`]. See decision 0087.

use std::collections::HashSet;

use super::rejections::RecordOutcome;
use crate::{error::Explanation, model::TenantId};

/// What has arrived in an attempt, and what was denied.
#[derive(Debug, Default)]
pub(super) struct Denials {
    /// The tenants whose records have arrived.
    arrived: HashSet<TenantId>,
    /// The first tenant whose request was denied alone, with the message of the receiver. It was
    /// not withheld before.
    denied: Option<(TenantId, Explanation)>,
}

impl Denials {
    /// Forgets the previous attempt.
    pub(super) fn begin_attempt(&mut self) {
        *self = Self::default();
    }

    /// Notes what happened to a batch. `denied` is the first tenant whose request was denied.
    pub(super) fn note(
        &mut self,
        outcomes: &[RecordOutcome],
        denied: Option<(TenantId, Explanation)>,
    ) {
        let arrived = outcomes.iter().filter(|outcome| outcome.has_arrived());
        self.arrived.extend(arrived.map(|outcome| outcome.tenant));
        self.denied = self.denied.take().or(denied);
    }

    /// The message of the receiver, at the end of an attempt, if nothing shows that the texts of a
    /// tenant are the cause: no record of another tenant has arrived. It is returned once.
    pub(super) fn take_unexplained(&mut self) -> Option<Explanation> {
        let (tenant, problem) = self.denied.take()?;
        let is_explained = self.arrived.iter().any(|arrived| *arrived != tenant);
        (!is_explained).then_some(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::Position,
        daemon::deliverer::rejections::DeliveryOutcome,
        model::{EventId, Seq},
    };

    fn tenant(n: u32) -> TenantId {
        TenantId::parse(&format!("{n:02}000000-0000-4000-8000-000000000000")).unwrap()
    }

    /// The tenant whose denial is not explained at the end of an attempt. Each batch is the number
    /// of a tenant, and `a` for an arrived record, `r` for a rejected one, or `d` for a denied
    /// request.
    fn unexplained(denials: &mut Denials, batches: &str) -> Option<String> {
        for batch in batches.split_whitespace() {
            let tenant = tenant(batch[..1].parse().unwrap());
            let outcome = match &batch[1..] {
                "a" => DeliveryOutcome::Arrived,
                "r" => DeliveryOutcome::Rejected("no".to_owned()),
                _ => DeliveryOutcome::Withheld,
            };
            let outcome = RecordOutcome {
                tenant,
                at: Position { seq: Seq::FIRST, record_index: 0 },
                event_id: EventId::from_bytes([0; 20]),
                target: None,
                outcome,
            };
            let is_denied = batch.ends_with('d');
            let denied = is_denied.then(|| (tenant, Explanation::new(format!("no {batch}"))));
            denials.note(&[outcome], denied);
        }
        denials.take_unexplained().map(|problem| problem.message)
    }

    #[test]
    fn arrivals_of_others_explain_a_denial() {
        for (batches, expected) in [
            ("1d", Some("no 1d")),
            ("1d 2d", Some("no 1d")),
            ("1a 1d", Some("no 1d")),
            ("1d 2r", Some("no 1d")),
            ("2a 1d", None),
            ("1d 2a", None),
            ("1d 2d 3a", None),
            ("1a 2a", None),
            ("", None),
        ] {
            let mut denials = Denials::default();
            let found = unexplained(&mut denials, batches);
            assert_eq!(found.as_deref(), expected, "{batches}");
            assert!(denials.take_unexplained().is_none(), "{batches}");
        }
    }

    /// What has arrived before does not show that the configuration is still correct.
    #[test]
    fn each_attempt_is_judged_separately() {
        let mut denials = Denials::default();
        assert_eq!(unexplained(&mut denials, "2a"), None);
        denials.begin_attempt();
        assert_eq!(unexplained(&mut denials, "1d"), Some("no 1d".to_owned()));
        denials.begin_attempt();
        assert_eq!(unexplained(&mut denials, ""), None);
    }
}
