//! The state of each sink, with its backlog. Reading must never write to the database. Start
//! reading at [`SinkStatus`].

use super::{
    CheckpointError, Position, SinkFailure, StatusDetail,
    backend::{Statements, StoredRow, values},
    fields::{day, unsigned},
    row_ids::{SinkRow, tenant_id},
    sql::{entry_day, is_sent_to_sink},
    tenant_status::last_error,
};
use crate::{
    error::Explanation,
    model::{Day, SinkName, TenantId, UnixMillis},
};

/// The state of one sink.
#[derive(Debug, Default)]
pub struct SinkStatus {
    /// The name in the configuration.
    pub name: SinkName,
    /// The number of acknowledged records since the sink was created.
    pub sent: u64,
    /// The number of rejected records since the sink was created.
    pub rejected: u64,
    /// How many of the sent records were truncated.
    pub truncated: u64,
    /// The number of stored dead letters.
    pub dead_letters: u64,
    /// The number of entries, over all tenants, that are not completely acknowledged.
    pub backlog: u64,
    /// The oldest day in the backlog.
    pub oldest_day: Option<Day>,
    /// The time of the last advance; `None` if there was none.
    pub last_acknowledgement: Option<UnixMillis>,
    /// Why the sink makes no progress; `None` if it makes progress.
    pub last_error: Option<Explanation>,
    /// How the sink fails; `None` if it makes progress.
    pub failure: Option<SinkFailure>,
    /// The first failed attempt since the last acknowledgement.
    pub failing_since: Option<UnixMillis>,
    /// One per tenant, including those that the sink no longer receives, with
    /// [`StatusDetail::Items`].
    pub cursors: Vec<CursorStatus>,
}

/// The live cursor of a sink for one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorStatus {
    /// The tenant in whose log the cursor is.
    pub tenant: TenantId,
    /// The next record to send.
    pub at: Position,
}

/// SQL: each sink that is not removed, with its counts of all shards.
const SINKS: &str = "SELECT s.id, s.name, CAST(coalesce(sum(h.sent), 0) AS BIGINT) AS sent,
        CAST(coalesce(sum(h.rejected), 0) AS BIGINT) AS rejected,
        CAST(coalesce(sum(h.truncated), 0) AS BIGINT) AS truncated,
        max(h.last_acknowledgement) AS last_acknowledgement,
        (SELECT count(*) FROM dead_letter d WHERE d.sink = s.id) AS dead_letters
     FROM sink s LEFT JOIN sink_shard h ON h.sink = s.id
     WHERE s.removed IS NULL GROUP BY s.id ORDER BY s.id";

/// SQL: the failure of the sink with the row `?1`: the one that began first, if it fails on several
/// hosts. An older release has stored failures without their beginning, which are first.
const FAILURE: &str = "SELECT h.last_error, h.last_hint, h.failure, h.failing_since
     FROM sink_host h
     WHERE h.sink = ?1 AND (h.failing_since IS NOT NULL OR h.last_error IS NOT NULL)
     ORDER BY h.failing_since IS NOT NULL, h.failing_since, h.host LIMIT 1";

/// SQL: the number of entries that the sink with the row `?1` has not received, and their oldest
/// day. The entries of a tenant without new ones are not searched, as in `pending`.
pub(super) const BACKLOG: &str = concat!(
    "SELECT count(*) AS backlog, min(",
    entry_day!(),
    ") AS oldest_day
     FROM sink s JOIN cursor c ON c.sink = s.id AND c.active
     JOIN tenant t ON t.id = c.tenant AND t.next_seq > c.seq
     JOIN entry e ON e.tenant = c.tenant AND e.seq >= c.seq AND ",
    entry_day!(),
    " >= c.floor AND ",
    is_sent_to_sink!(),
    " WHERE s.id = ?1"
);

/// SQL: the cursors of the sink with the row `?1`.
const CURSORS: &str = "SELECT t.guid, c.seq, c.record_index
     FROM cursor c JOIN tenant t ON t.id = c.tenant WHERE c.sink = ?1 ORDER BY t.id";

/// The state of all sinks that are not removed, in the order in which they were added. Fails with
/// [`CheckpointError::Damaged`] if a stored value is invalid.
pub(super) fn sink_status(
    store: &dyn Statements,
    detail: StatusDetail,
) -> Result<Vec<SinkStatus>, CheckpointError> {
    let found = store
        .query_all(SINKS, values![], |row| Ok((row.get::<SinkRow>("id")?, read_sink(row)?)))?;

    let mut sinks = Vec::with_capacity(found.len());
    for (row, sink) in found {
        let failing = store.query_optional(FAILURE, values![row], read_failure)?;
        let SinkStatus { last_error, failure, failing_since, .. } = failing.unwrap_or_default();
        let (backlog, oldest_day) = store.query_one(BACKLOG, values![row], |row| {
            Ok((unsigned(row, "backlog")?, day(row, "oldest_day")?))
        })?;
        let cursors = match detail {
            StatusDetail::Summary | StatusDetail::Groups => Vec::new(),
            StatusDetail::Items => store.query_all(CURSORS, values![row], read_cursor)?,
        };
        let state = SinkStatus { last_error, failure, failing_since, ..sink };
        sinks.push(SinkStatus { backlog, oldest_day, cursors, ..state });
    }
    Ok(sinks)
}

/// Without the failure, the backlog and the cursors.
fn read_sink(row: &dyn StoredRow) -> Result<SinkStatus, CheckpointError> {
    Ok(SinkStatus {
        name: row.get("name")?,
        sent: unsigned(row, "sent")?,
        rejected: unsigned(row, "rejected")?,
        truncated: unsigned(row, "truncated")?,
        dead_letters: unsigned(row, "dead_letters")?,
        last_acknowledgement: row.get("last_acknowledgement")?,
        ..SinkStatus::default()
    })
}

/// Only the failure.
fn read_failure(row: &dyn StoredRow) -> Result<SinkStatus, CheckpointError> {
    let last_error = last_error(row)?;
    let failure: Option<String> = row.get("failure")?;
    let failure = failure.as_deref().and_then(SinkFailure::parse);
    Ok(SinkStatus {
        last_error,
        failure,
        failing_since: row.get("failing_since")?,
        ..SinkStatus::default()
    })
}

fn read_cursor(row: &dyn StoredRow) -> Result<CursorStatus, CheckpointError> {
    Ok(CursorStatus {
        tenant: tenant_id(&row.get::<String>("guid")?)?,
        at: Position { seq: row.get("seq")?, record_index: row.get("record_index")? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, OtherTenants};

    /// Regression: databases sort a missing beginning differently, so the failure depended on the
    /// database.
    #[test]
    fn a_failure_without_a_beginning_is_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
        let day = Day::parse("2026-11-20").unwrap();
        checkpoint.register_sink(&"a".into(), &[], OtherTenants::Keep, day).unwrap();

        for (host, since, shown) in
            [("b", Some(5), "b"), ("c", Some(3), "c"), ("d", None, "d"), ("e", Some(1), "d")]
        {
            let insert = "INSERT INTO sink_host (sink, host, last_error, failure, failing_since)
                 SELECT id, ?1, ?1, 'retrying', ?2 FROM sink WHERE name = 'a'";
            let since = since.map(UnixMillis::new);
            checkpoint.administrative(|store| store.execute(insert, values![host, since])).unwrap();
            let status = checkpoint.status(StatusDetail::Summary).unwrap();
            let error = status.sinks[0].last_error.as_ref().unwrap();
            assert_eq!(error.message, shown, "{host}");
        }
    }
}
