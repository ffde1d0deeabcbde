//! A tenant's report, read from the checkpoint.

use super::deliverer::{Catalogs, compared_to};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, PastEntry, baseline_in_force},
    config::TenantPlan,
    derive::Entry,
    model::{Baseline, Tenant},
    report::{Report, ReportBuilder, Window},
};

/// Reads reports, one tenant after the other; what their catalogs share is parsed once.
pub struct Reporter<'a> {
    checkpoint: &'a Checkpoint,
    catalogs: Catalogs,
}

impl<'a> Reporter<'a> {
    pub fn new(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, catalogs: Catalogs::default() }
    }

    /// Everything known of a tenant within the window; without `detail`, what a line among many
    /// shows.
    pub fn report(
        &mut self,
        tenant: &Tenant,
        plan: &TenantPlan,
        window: Window,
        detail: bool,
    ) -> Result<Report, CheckpointError> {
        let baselines = self.checkpoint.baselines(tenant.id)?;
        let mut building = ReportBuilder::new(tenant.clone(), window, detail);
        let (mut seq, mut newest) = (0, None);
        loop {
            let entries = self.checkpoint.past_entries(tenant.id, window.first, seq)?;
            let Some(last) = entries.last() else { break };
            seq = last.snapshot.seq;
            for entry in &entries {
                self.entry(&mut building, tenant, plan, &baselines, entry)?;
                if entry.facts.day <= window.last {
                    newest = newest.max(entry.catalog);
                }
            }
        }
        let catalog = self.catalogs.get(self.checkpoint, newest)?;
        let missing = self.checkpoint.missing_days(tenant.id)?;
        Ok(building.finish(&catalog, baseline_in_force(&baselines, u64::MAX), &plan.rules, |day| {
            missing.iter().any(|missing| missing.day == day && !missing.absent)
        }))
    }

    fn entry(
        &mut self,
        building: &mut ReportBuilder,
        tenant: &Tenant,
        plan: &TenantPlan,
        baselines: &[Baseline],
        past: &PastEntry,
    ) -> Result<(), CheckpointError> {
        let (own, then) = self.catalogs.pair(self.checkpoint, past.catalog, &past.context)?;
        let baseline = baseline_in_force(baselines, past.snapshot.seq);
        let entry = Entry {
            tenant,
            snapshot: &past.snapshot,
            observed_time: "",
            observed_ms: past.observed_ms,
            history: &[],
            catalog: &own,
            comparison: compared_to(&past.context, then.as_deref(), baseline),
            rules: &plan.rules,
            replayed: false,
        };
        building.entry(&entry, &past.facts);
        Ok(())
    }
}
