//! A tenant's report, read from the checkpoint.

use super::deliverer::Catalogues;
use crate::{
    checkpoint::{Checkpoint, CheckpointError, PastEntry, in_force},
    config::TenantPlan,
    derive::{Against, Base, Entry},
    model::{Baseline, Catalogue, SnapshotRef, Tenant},
    report::{Building, Report, Window},
};

/// Reads reports, one tenant after the other; what their catalogues share is parsed once.
pub struct Reporter<'a> {
    checkpoint: &'a Checkpoint,
    catalogues: Catalogues,
}

impl<'a> Reporter<'a> {
    pub fn new(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, catalogues: Catalogues::default() }
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
        let mut building = Building::new(tenant.clone(), window, detail);
        let (mut seq, mut newest) = (0, None);
        loop {
            let entries = self.checkpoint.past(tenant.id, window.first, seq)?;
            let Some(last) = entries.last() else { break };
            seq = last.seq;
            for entry in &entries {
                self.entry(&mut building, tenant, plan, &baselines, entry)?;
                if entry.facts.day <= window.last {
                    newest = newest.max(entry.catalogue);
                }
            }
        }
        let catalogue = self.catalogues.get(self.checkpoint, newest)?;
        let owed = self.checkpoint.owed_days(tenant.id)?;
        Ok(building.finish(&catalogue, in_force(&baselines, u64::MAX), &plan.rules, |day| {
            owed.iter().any(|owed| owed.day == day && !owed.absent)
        }))
    }

    fn entry(
        &mut self,
        building: &mut Building,
        tenant: &Tenant,
        plan: &TenantPlan,
        baselines: &[Baseline],
        past: &PastEntry,
    ) -> Result<(), CheckpointError> {
        let own = self.catalogues.get(self.checkpoint, past.catalogue)?;
        let base_version = past.base.as_ref().and_then(|base| base.catalogue);
        let then = match base_version {
            Some(_) if base_version == past.catalogue => Some(own.clone()),
            Some(_) => Some(self.catalogues.get(self.checkpoint, base_version)?),
            None => None,
        };
        let flags = past.flags;
        let snapshot = SnapshotRef {
            id: String::new(),
            day: past.facts.day,
            revision: past.revision,
            seq: past.seq,
            late: flags.late,
            backfilled: flags.backfilled,
            partial: flags.partial,
            imported: flags.imported,
        };
        let entry = Entry {
            tenant,
            snapshot: &snapshot,
            observed_time: "",
            observed_ms: past.observed_ms,
            history: &[],
            catalogue: &own,
            against: Against {
                base: past.base.as_ref().map(|base| base_of(base, then.as_deref())),
                first_contact: past.first_contact,
                behind: past.behind,
                baseline: in_force(baselines, past.seq),
            },
            rules: &plan.rules,
            replayed: false,
        };
        building.entry(&entry, &past.facts);
        Ok(())
    }
}

fn base_of<'b>(
    base: &'b crate::checkpoint::StoredBase,
    catalogue: Option<&'b Catalogue>,
) -> Base<'b> {
    Base {
        seq: base.seq,
        facts: &base.facts,
        catalogue,
        backfilled: base.backfilled,
        earlier: &base.earlier,
    }
}
