//! Configured domains: the tenants that they were resolved to, and the attempts that failed.

use proptest::{option, prelude::*, sample::select};

use super::{
    calls::{any_tenant, time},
    run::Run,
    *,
};

const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];

/// An attempt to resolve the domain with this number.
#[derive(Clone, Debug)]
pub(super) enum DomainCall {
    Resolve { domain: usize, tenant: usize },
    Fail { domain: usize, at: usize, class: PollErrorClass, not_before: Option<usize> },
}

/// A domain that could not be resolved.
#[derive(Debug)]
pub(super) struct ModelResolution {
    last_attempt: UnixMillis,
    pub(super) failing_since: UnixMillis,
    reason: Explanation,
    class: PollErrorClass,
    not_before: Option<UnixMillis>,
}

pub(super) fn call() -> impl Strategy<Value = DomainCall> {
    let domain = 0..DOMAINS.len();
    let resolve = (domain.clone(), any_tenant())
        .prop_map(|(domain, tenant)| DomainCall::Resolve { domain, tenant });
    let class = select(PollErrorClass::ALL.to_vec());
    let fail =
        (domain, time(), class, option::of(time())).prop_map(|(domain, at, class, not_before)| {
            DomainCall::Fail { domain, at, class, not_before }
        });
    prop_oneof![1 => resolve, 2 => fail]
}

impl Run {
    pub(super) fn resolve(&mut self, call: &DomainCall) {
        match call {
            DomainCall::Resolve { domain, tenant } => {
                let (domain, id) = (DOMAINS[*domain], tenant_at(*tenant));
                let found = self.write(|checkpoint| checkpoint.store_resolved_domain(domain, id));
                self.follow(found, |model| {
                    model.domains.insert(domain, id);
                    model.unresolved.remove(domain);
                });
            }
            DomainCall::Fail { domain, at, class, not_before } => {
                let (domain, at) = (DOMAINS[*domain], time_at(*at));
                let reason = Explanation::new(class.as_str()).with_hint("check the name");
                let (class, not_before) = (*class, not_before.map(time_at));
                let failure = ResolutionFailure { at, reason: &reason, class, not_before };
                let found =
                    self.write(|checkpoint| checkpoint.record_resolution_failure(domain, &failure));
                self.follow(found, |model| model.fail_resolution(domain, &failure));
            }
        }
    }

    /// Compares the domains that could not be resolved.
    pub(super) fn check_unresolved(&self, found: &[UnresolvedDomain]) {
        assert_eq!(found.len(), self.model.unresolved.len());
        for (found, (domain, expected)) in found.iter().zip(&self.model.unresolved) {
            assert_eq!(found.domain, *domain);
            let times = [found.last_attempt, found.failing_since];
            assert_eq!(times, [expected.last_attempt, expected.failing_since], "{domain}");
            assert_eq!((&found.error, found.class), (&expected.reason, Some(expected.class)));
            assert_eq!(found.not_before, expected.not_before, "{domain}");
        }
    }

    /// Compares what domains were resolved to.
    pub(super) fn check_domains(&self) {
        for domain in DOMAINS {
            let found = self.checkpoint.tenant_of_domain(domain).unwrap();
            assert_eq!(found, self.model.domains.get(domain).copied(), "{domain}");
        }
    }
}

impl Model {
    fn fail_resolution(&mut self, domain: &'static str, failure: &ResolutionFailure<'_>) {
        let ResolutionFailure { at, reason, class, not_before } = *failure;
        let earlier = self.unresolved.get(domain);
        let failing_since = earlier.map_or(at, |earlier| earlier.failing_since);
        let reason = reason.clone();
        let failure =
            ModelResolution { last_attempt: at, failing_since, reason, class, not_before };
        self.unresolved.insert(domain, failure);
    }
}
