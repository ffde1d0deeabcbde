//! The requests with the records of one tenant that a receiver rejects or denies, such as with HTTP
//! 403, 401 or 404. A firewall can respond like this to the text of one tenant, but the cause can
//! also be the configuration, which parks the sink.
//!
//! Only the records of other tenants show which one it is: if they arrive in the same attempt, or
//! later, the tenant is withheld. This module decides nothing about records. Start reading at
//! [`Denials::unexplained`]. See decision 0087.

use std::collections::{BTreeSet, HashSet};

use super::{rejection_limits::MAX_SUSPECTED_TENANTS, rejections::RecordOutcome};
use crate::{error::Explanation, model::TenantId};

/// What usually causes a reply that rejects a whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsualCause {
    /// The texts of the records.
    Records,
    /// The configuration: the request is denied.
    Configuration,
}

/// A tenant whose request was rejected alone, and which was not withheld before.
#[derive(Clone, Debug)]
pub(super) struct RejectedAlone {
    pub tenant: TenantId,
    pub cause: UsualCause,
    /// The message of the receiver.
    pub problem: Explanation,
}

/// What has arrived in an attempt, and what was rejected.
#[derive(Debug, Default)]
pub(super) struct Denials {
    /// The tenants whose records have arrived in this attempt.
    arrived: HashSet<TenantId>,
    /// The requests that were rejected, and that no arrival of another tenant explains, oldest
    /// first.
    rejected: Vec<RejectedAlone>,
}

impl Denials {
    /// Forgets what has arrived in the previous attempt.
    pub(super) fn begin_attempt(&mut self) {
        self.arrived.clear();
    }

    /// Notes what happened to a batch.
    pub(super) fn note(&mut self, outcomes: &[RecordOutcome], rejected: Vec<RejectedAlone>) {
        let arrived = outcomes.iter().filter(|outcome| outcome.has_arrived());
        self.arrived.extend(arrived.map(|outcome| outcome.tenant));
        self.rejected.extend(rejected);

        let arrived = &self.arrived;
        self.rejected.retain(|of| arrived.iter().all(|tenant| *tenant == of.tenant));
    }

    /// The message of the receiver, at the end of an attempt, if the configuration must be the
    /// cause: nothing of others has arrived, and a request was denied, or those of more than two
    /// tenants were rejected. Only tenants that are `withheld` count.
    pub(super) fn unexplained(&mut self, withheld: &BTreeSet<TenantId>) -> Option<Explanation> {
        self.rejected.retain(|of| withheld.contains(&of.tenant));
        let denied = self.rejected.iter().find(|of| of.cause == UsualCause::Configuration);
        let is_of_many = self.rejected.len() > MAX_SUSPECTED_TENANTS;
        let first = denied.or_else(|| self.rejected.first().filter(|_| is_of_many));
        first.map(|of| of.problem.clone())
    }

    /// Forgets the tenants whose rejected requests are not explained, and returns them.
    pub(super) fn take_tenants(&mut self) -> impl Iterator<Item = TenantId> + use<> {
        std::mem::take(&mut self.rejected).into_iter().map(|of| of.tenant)
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

    /// The message of the denial or rejection that is not explained at the end of an attempt. Each
    /// batch is the number of a tenant, and `a` for an arrived record, `r` for a rejected one, `d`
    /// for a denied request, or `x` for a rejected one.
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

            let cause = match &batch[1..] {
                "d" => Some(UsualCause::Configuration),
                "x" => Some(UsualCause::Records),
                _ => None,
            };
            let problem = Explanation::new(format!("no {batch}"));
            let rejected = cause.map(|cause| RejectedAlone { tenant, cause, problem });
            denials.note(&[outcome], rejected.into_iter().collect());
        }
        let all: BTreeSet<TenantId> = (1..=9).map(tenant).collect();
        denials.unexplained(&all).map(|problem| problem.message)
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
            // The texts of up to two tenants can be the cause of a rejection.
            ("1x 2x", None),
            ("1x 2x 3x", Some("no 1x")),
            ("1x 2x 3x 4x 5a", None),
            ("5a 1x 2x 3x 4x", None),
            ("1x 2d", Some("no 2d")),
        ] {
            let mut denials = Denials::default();

            let found = unexplained(&mut denials, batches);
            assert_eq!(found.as_deref(), expected, "{batches}");
            let _ = denials.take_tenants();
            assert!(unexplained(&mut denials, "").is_none(), "{batches}");
        }
    }

    /// What has arrived before does not show that the configuration is still correct.
    #[test]
    fn each_attempt_is_judged_separately() {
        let mut denials = Denials::default();
        assert_eq!(unexplained(&mut denials, "2a"), None);
        denials.begin_attempt();
        assert_eq!(unexplained(&mut denials, "1d"), Some("no 1d".to_owned()));
        assert!(denials.take_tenants().eq([tenant(1)]));
        denials.begin_attempt();
        assert_eq!(unexplained(&mut denials, ""), None);

        // Nothing has arrived since the rejections of an earlier attempt.
        assert_eq!(unexplained(&mut denials, "1x 2x"), None);
        denials.begin_attempt();
        assert_eq!(unexplained(&mut denials, "3x"), Some("no 1x".to_owned()));
        assert!(denials.unexplained(&BTreeSet::from([tenant(3)])).is_none(), "it was released");
    }
}
