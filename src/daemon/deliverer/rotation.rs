//! The order in which a deliverer serves tenants. A tenant with a large backlog must not delay the
//! others, so every round starts after the tenant that was served last. A tenant whose target is
//! busy is served after all others.

use crate::{checkpoint::Pending, model::TenantId};

/// Sorts tenants whose next day is new before those whose next day is backfilled. Within both
/// groups, the order rotates: it starts with the tenant after `last`. Tenants whose target
/// `is_busy` are last, because the failure of their records ends the attempt.
pub(super) fn rotate(
    pending: &mut [Pending],
    last: Option<TenantId>,
    is_busy: impl Fn(TenantId) -> bool,
) {
    let is_served = |tenant: TenantId| last.is_some_and(|last| tenant <= last);
    pending.sort_by_key(|p| (is_busy(p.tenant), p.backfilled, is_served(p.tenant), p.tenant));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::Position,
        model::{Day, Seq},
    };

    #[test]
    fn tenants_rotate_and_new_days_are_sent_first() {
        let tenant =
            |n: u8| TenantId::parse(&format!("{n:02x}000000-0000-4000-8000-000000000000")).unwrap();
        let pending = |n: u8, backfilled: bool| Pending {
            tenant: tenant(n),
            at: Position { seq: Seq::FIRST, record_index: 0 },
            first_day: Day::parse("2026-01-01").unwrap(),
            last_day: None,
            last_seq: Seq::FIRST,
            entries: 1,
            backfilled,
        };
        let mut all = [pending(1, false), pending(2, false), pending(3, true), pending(4, false)];

        let mut served = Vec::new();
        let mut last = None;
        for _ in 0..4 {
            rotate(&mut all, last, |_| false);
            last = Some(all[0].tenant);
            served.push(last);
        }
        assert_eq!(served, [1, 2, 4, 1].map(|n| Some(tenant(n))));

        // Regression: the new days of a tenant with a busy target delayed the backfill of others.
        rotate(&mut all, None, |busy| [1, 2, 4].map(tenant).contains(&busy));
        assert_eq!(all.map(|pending| pending.tenant), [3, 1, 2, 4].map(tenant));
    }
}
