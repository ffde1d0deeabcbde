//! Registers sinks: creates their cursors, and activates the cursors of the tenants that they
//! receive. It must never move a cursor, so that a sink whose tenants change continues where it
//! stopped. Start reading at [`Checkpoint::register_sink`].

use super::{
    Checkpoint, CheckpointError, Position,
    backend::{Statements, values},
    claims::HOST,
    row_ids::{TenantRow, tenant_row},
    start_days,
};
use crate::model::{Day, Seq, SinkName, TenantId};

/// SQL: creates the sink `?1`.
const CREATE_SINK: &str = "INSERT INTO sink (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";

/// SQL: creates the counts of the sink `?1` for the shard `?2`.
const CREATE_COUNTS: &str = "INSERT INTO sink_shard (sink, shard)
     SELECT s.id, ?2 FROM sink s WHERE s.name = ?1 ON CONFLICT (sink, shard) DO NOTHING";

/// SQL: creates the row of the sink `?1` for the host `?2`.
const CREATE_HOST: &str = "INSERT INTO sink_host (sink, host)
     SELECT s.id, ?2 FROM sink s WHERE s.name = ?1 ON CONFLICT (sink, host) DO NOTHING";

/// SQL: activates the cursor of the sink `?1` for the tenant `?2`.
const ACTIVATE_CURSOR: &str = "UPDATE cursor SET active = TRUE
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = ?2";

/// SQL: creates the cursor of the sink `?1` for the tenant `?2` with the first day `?3`, at the
/// entry `?4` and its record `?5`.
const CREATE_CURSOR: &str = "INSERT INTO cursor (sink, tenant, seq, record_index, floor, active)
     SELECT s.id, ?2, ?4, ?5, ?3, TRUE FROM sink s WHERE s.name = ?1";

/// What [`Checkpoint::register_sink`] does with the cursors of tenants that are not passed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherTenants {
    /// Their cursors do not change.
    Keep,
    /// The sink no longer receives these tenants.
    Deactivate,
}

impl Checkpoint {
    /// Creates a sink and its cursors for these tenants if they do not exist, and activates these
    /// cursors.
    ///
    /// A new cursor starts at the beginning of the log and sends no day before `start_from`. A
    /// cursor that was deleted by damage continues at its position in the second cursor file. If
    /// the database was lost, it also skips the days that the sink had received according to that
    /// file. Its first day is provisional; see [`Checkpoint::confirm_start_day`].
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn register_sink(
        &self,
        sink: &SinkName,
        tenants: &[TenantId],
        others: OtherTenants,
        start_from: Day,
    ) -> Result<(), CheckpointError> {
        self.administrative(|store| {
            store.execute(CREATE_SINK, values![sink])?;
            store.execute(CREATE_COUNTS, values![sink, self.claim.shard])?;
            store.execute(CREATE_HOST, values![sink, HOST])?;

            // The cursors of `tenants` become active again below. Entries of the other tenants do
            // not count as backlog of the sink.
            if others == OtherTenants::Deactivate {
                let deactivate = "UPDATE cursor SET active = FALSE
                    WHERE sink = (SELECT id FROM sink WHERE name = ?1)";
                store.execute(deactivate, values![sink])?;
            }

            let start_from = start_days::first_day(store, sink, start_from)?;
            let cursors_before = start_days::count_cursors(store, sink)?;
            for tenant in tenants {
                let row = tenant_row(store, *tenant)?;
                let activated = store.execute(ACTIVATE_CURSOR, values![sink, row])?;
                if activated == 0 {
                    self.create_cursor(store, sink, (*tenant, row), start_from)?;
                }
            }

            if start_days::count_cursors(store, sink)? > cursors_before {
                start_days::set_provisional(store, sink, start_from)?;
            }
            Ok(())
        })
    }

    /// Creates the cursor of a sink for a tenant, whose row is `row`. It continues at its position
    /// in the second cursor file, if that contains it.
    fn create_cursor(
        &self,
        store: &dyn Statements,
        sink: &SinkName,
        (tenant, row): (TenantId, TenantRow),
        start_from: Day,
    ) -> Result<(), CheckpointError> {
        let (unsent_from, position) = {
            let saved = self.saved_cursors();
            let position = saved.position(&self.id, sink, &tenant.to_string());
            (saved.first_unsent_day(&self.id, sink, tenant), position)
        };
        let floor = unsent_from.map_or(start_from, |day| day.max(start_from));

        let Position { seq, record_index } = match position {
            Some(position) => within_log(position, log_end(store, row)?),
            None => Position { seq: Seq::FIRST, record_index: 0 },
        };
        store.execute(CREATE_CURSOR, values![sink, row, floor.number(), seq, record_index])?;
        Ok(())
    }
}

/// A saved position, or the nearest one in a log whose next entry is `next`.
fn within_log(saved: Position, next: Seq) -> Position {
    if saved.seq > next {
        return Position { seq: next.max(Seq::FIRST), record_index: 0 };
    }
    Position { seq: saved.seq.max(Seq::FIRST), ..saved }
}

/// The next entry of a tenant's log.
fn log_end(store: &dyn Statements, tenant: TenantRow) -> Result<Seq, CheckpointError> {
    let sql = "SELECT next_seq FROM tenant WHERE id = ?1";
    store.query_one(sql, values![tenant], |row| row.get("next_seq"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_positions_stay_within_the_log() {
        let at = |(seq, record_index)| Position { seq: Seq::new(seq), record_index };
        for (saved, next, expected) in [
            ((3, 7), 5, (3, 7)),
            ((5, 0), 5, (5, 0)),
            ((6, 7), 5, (5, 0)),
            ((0, 7), 5, (1, 7)),
            ((u64::MAX, 1), 1, (1, 0)),
            // Damage.
            ((3, 7), 0, (1, 0)),
        ] {
            let found = within_log(at(saved), Seq::new(next));
            assert_eq!(found, at(expected), "{saved:?} {next}");
        }
    }
}
