//! The baselines of tenants: the targets that a tenant must not fall below. A new
//! baseline applies only to later entries, so a replay of an old entry compares it with the same
//! targets again. See decision 0037.

use std::ops::ControlFlow;

use super::{
    Checkpoint, CheckpointError,
    backend::{Statements, values},
    fields::day,
    row_ids::TenantRow,
    tenant_row,
};
use crate::model::{Baseline, Day, Seq, TenantId, UnixMillis};

impl Checkpoint {
    /// Sets the baseline for all later entries of a tenant, and returns the first of them. Entries
    /// that are already in the log keep the baseline under which they were released.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn set_baseline(
        &self,
        tenant: TenantId,
        baseline: &Baseline,
        now: UnixMillis,
    ) -> Result<Seq, CheckpointError> {
        let targets = baseline.to_text();
        self.claimed(|store| {
            let row = tenant_row(store, tenant)?;
            let sql = "SELECT next_seq FROM tenant WHERE id = ?1";
            let since: Seq = store.query_one(sql, values![row], |row| row.get("next_seq"))?;

            let sql = "INSERT INTO baseline (tenant, since, name, day, made, targets) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                       ON CONFLICT (tenant, since) DO UPDATE SET name = ?3, day = ?4, made = ?5, targets = ?6";
            let (name, day) = (&baseline.name, baseline.day.map(Day::number));
            store.execute(sql, values![row, since, name, day, now, targets])?;
            Ok(since)
        })
    }

    /// All baselines of a tenant in the order in which they were set; the last one is in force.
    /// Logs and skips damaged ones.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read; a baseline that cannot be parsed is not an error.
    pub fn baselines(&self, tenant: TenantId) -> Result<Vec<Baseline>, CheckpointError> {
        let guid = tenant.to_string();
        let sql = "SELECT b.since, b.name, b.day, b.targets FROM baseline b JOIN tenant t ON t.id = b.tenant
                   WHERE t.guid = ?1 ORDER BY b.since";
        let mut baselines = Vec::new();

        self.reading(|store| {
            store.query(sql, values![guid], &mut |row| {
                let text: String = row.get("targets")?;
                let Ok(targets) = Baseline::parse_targets(&text) else {
                    tracing::error!(
                        %tenant,
                        hint = "run `state repair`, which removes it",
                        "a stored baseline cannot be read and is ignored"
                    );
                    return Ok(ControlFlow::Continue(()));
                };
                baselines.push(Baseline {
                    since: row.get("since")?,
                    name: row.get("name")?,
                    day: day(row, "day")?,
                    targets,
                });
                Ok(ControlFlow::Continue(()))
            })
        })?;
        Ok(baselines)
    }
}

/// The baseline that applies to the entry `seq`. `baselines` has the order of
/// [`Checkpoint::baselines`]. `None` if the entry precedes all of them.
pub fn baseline_in_force(baselines: &[Baseline], seq: Seq) -> Option<&Baseline> {
    baselines.iter().rev().find(|baseline| baseline.since <= seq)
}

/// The baselines that are damaged: the row of the tenant, the first `seq` of the baseline, the
/// GUID of the tenant, and the name of the baseline. Fails only if the database cannot be read.
pub(super) fn damaged_baselines(
    store: &dyn Statements,
) -> Result<Vec<(TenantRow, i64, String, String)>, CheckpointError> {
    let sql = "SELECT b.tenant, b.since, t.guid, b.name, b.targets FROM baseline b JOIN tenant t ON t.id = b.tenant";
    let mut damaged = Vec::new();
    store.query(sql, values![], &mut |row| {
        if Baseline::parse_targets(&row.get::<String>("targets")?).is_err() {
            let (tenant, since) = (row.get("tenant")?, row.get("since")?);
            damaged.push((tenant, since, row.get("guid")?, row.get("name")?));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(damaged)
}
