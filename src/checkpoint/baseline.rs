//! What tenants want to keep.

use rusqlite::{Connection, params};

use super::{Checkpoint, CheckpointError, tenant_row};
use crate::model::{Baseline, Day, TenantId};

impl Checkpoint {
    /// Puts a baseline in force for the entries to come; gives the first of them. What was
    /// released before stays measured as it was.
    pub fn set_baseline(
        &self,
        tenant: TenantId,
        baseline: &Baseline,
        now_ms: i64,
    ) -> Result<u64, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let row = tenant_row(&transaction, &tenant.to_string())?;
        let since: i64 =
            transaction
                .query_row("SELECT next_seq FROM tenant WHERE id = ?1", [row], |row| row.get(0))?;
        transaction.execute(
            "INSERT INTO baseline (tenant, since, name, day, made, targets) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET name = ?3, day = ?4, made = ?5, targets = ?6",
            params![
                row,
                since,
                baseline.name,
                baseline.day.map(Day::number),
                now_ms,
                baseline.to_text()
            ],
        )?;
        transaction.commit()?;
        Ok(since.cast_unsigned())
    }

    /// A tenant's baselines, the one in force last.
    pub fn baselines(&self, tenant: TenantId) -> Result<Vec<Baseline>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT b.since, b.name, b.day, b.targets FROM baseline b JOIN tenant t ON t.id = b.tenant
             WHERE t.guid = ?1 ORDER BY b.since",
        )?;
        let mut rows = statement.query([tenant.to_string()])?;
        let mut baselines = Vec::new();
        while let Some(row) = rows.next()? {
            let text: String = row.get(3)?;
            let Ok(targets) = Baseline::parse_targets(&text) else {
                tracing::error!(
                    %tenant,
                    "a stored baseline makes no sense and is passed over: `state repair` lets go of it"
                );
                continue;
            };
            baselines.push(Baseline {
                since: row.get::<_, i64>(0)?.cast_unsigned(),
                name: row.get(1)?,
                day: row.get::<_, Option<i32>>(2)?.and_then(Day::from_number),
                targets,
            });
        }
        Ok(baselines)
    }
}

/// The baseline that an entry is measured against.
pub fn baseline_in_force(baselines: &[Baseline], seq: u64) -> Option<&Baseline> {
    baselines.iter().rev().find(|baseline| baseline.since <= seq)
}

/// Baselines that cannot be read: tenant, the entry they are in force from, the tenant's GUID, name.
pub(super) fn unreadable(
    connection: &Connection,
) -> Result<Vec<(i64, i64, String, String)>, CheckpointError> {
    let mut unreadable = Vec::new();
    let mut statement = connection.prepare(
        "SELECT b.tenant, b.since, t.guid, b.name, b.targets FROM baseline b JOIN tenant t ON t.id = b.tenant",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if Baseline::parse_targets(&row.get::<_, String>(4)?).is_err() {
            unreadable.push((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        }
    }
    Ok(unreadable)
}
