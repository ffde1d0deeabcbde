//! Reads the report of a tenant from the checkpoint. It only reads facts, catalogs and baselines,
//! never bodies, so a report also covers days whose body was pruned. Start reading at
//! [`Reporter::report`].

use super::deliverer::{Catalogs, compared_to};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, PastEntry, baseline_in_force},
    config::TenantPlan,
    derive::Entry,
    ledger::DayPresence,
    model::{Baseline, Day, Seq, Tenant},
    report::{Detail, Report, ReportBuilder, Window},
};

/// Reads the reports of several tenants. A catalog profile that they share is parsed only once.
pub struct Reporter<'a> {
    checkpoint: &'a Checkpoint,
    catalogs: Catalogs,
}

impl<'a> Reporter<'a> {
    /// A reporter without cached catalogs.
    pub fn new(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, catalogs: Catalogs::default() }
    }

    /// The report of a tenant for a window of days. Unless it is a [`Detail::Row`], the days of the
    /// period before are read too.
    ///
    /// # Errors
    ///
    /// Fails if the checkpoint cannot be read.
    pub fn report(
        &mut self,
        tenant: &Tenant,
        plan: &TenantPlan,
        window: Window,
        detail: Detail,
    ) -> Result<Report, CheckpointError> {
        let baselines = self.checkpoint.baselines(tenant.id)?;
        let mut builder = ReportBuilder::new(tenant.clone(), window, detail);
        let first = builder.first_day();

        let (mut seq, mut newest_catalog) = (Seq::ZERO, None);
        loop {
            let entries = self.checkpoint.past_entries(tenant.id, first, seq)?;
            let Some(last) = entries.last() else { break };
            seq = last.snapshot.seq;
            for entry in &entries {
                self.add_entry(&mut builder, tenant, plan, &baselines, entry)?;
                if entry.facts.day <= window.last {
                    newest_catalog = newest_catalog.max(entry.catalog);
                }
            }
        }

        let catalog = self.catalogs.get(self.checkpoint, newest_catalog)?;
        let missing = self.checkpoint.missing_days(tenant.id)?;
        let expected = missing.iter().filter(|missing| missing.presence == DayPresence::Expected);
        let expected: Vec<Day> = expected.map(|missing| missing.day).collect();
        let baseline = baseline_in_force(&baselines, Seq::MAX);
        Ok(builder.finish(&catalog, baseline, &plan.rules, |day| expected.contains(&day)))
    }

    fn add_entry(
        &mut self,
        builder: &mut ReportBuilder,
        tenant: &Tenant,
        plan: &TenantPlan,
        baselines: &[Baseline],
        past: &PastEntry,
    ) -> Result<(), CheckpointError> {
        let (catalog, base_catalog) =
            self.catalogs.pair(self.checkpoint, past.catalog, &past.context)?;
        let baseline = baseline_in_force(baselines, past.snapshot.seq);

        let entry = Entry {
            tenant,
            snapshot: &past.snapshot,
            observed_time: "",
            observed_at: past.observed_at,
            history: &[],
            catalog: &catalog,
            comparison: compared_to(&past.context, base_catalog.as_deref(), baseline),
            rules: &plan.rules,
            replayed: false,
        };
        builder.entry(&entry, &past.facts);
        Ok(())
    }
}
