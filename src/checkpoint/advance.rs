//! Moves the cursors of a sink after its receiver has acknowledged records.
//!
//! A cursor only moves by compare-and-set, together with everything that belongs to the move, in
//! one transaction: the mark, the counts and the dead letters. Start reading at
//! [`Checkpoint::advance`].

use super::{
    Checkpoint, CheckpointError, DeadLetter, Lane, LogGrowth, Position, SinkFailure,
    backend::{Epoch, ShardId, Statements, values},
    claims::HOST,
    dead_letter_records::{clear_dead_letter, record_dead_letter},
    marks,
    row_ids::{DeadLetterId, SinkRow},
};
use crate::model::{SinkName, TenantId, UnixMillis};

/// The move of a lane's cursor for one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorMove {
    pub tenant: TenantId,
    /// The position that the cursor must have; otherwise the advance fails.
    pub from: Position,
    /// The position after the last acknowledged record.
    pub to: Position,
}

/// An advance of a lane's cursors, with everything that is stored together with it.
#[derive(Debug)]
pub struct Advance<'a> {
    pub sink: &'a SinkName,
    pub lane: Lane,
    /// At most one move for each tenant; empty in the lane of dead letters.
    pub moves: &'a [CursorMove],
    /// The sink's new mark; `None` keeps the stored one.
    pub mark: Option<&'a [u8]>,
    /// The number of acknowledged records.
    pub sent: u64,
    /// How many of them were truncated to fit the receiver's limit.
    pub truncated: u64,
    /// Records that the receiver rejected.
    pub dead_letters: &'a [DeadLetter],
    /// The IDs of retried dead letters that were acknowledged.
    pub delivered_dead_letters: &'a [DeadLetterId],
    /// The time of the acknowledgement.
    pub now: UnixMillis,
}

/// SQL: counts an advance of the sink `?1` for the tenants of the shard `?2`.
const COUNT: &str =
    "UPDATE sink_shard SET sent = sent + ?3, rejected = rejected + ?4, truncated = truncated + ?5,
        last_acknowledgement = ?6
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND shard = ?2";

/// SQL: ends the failure of the sink `?1` on the host `?2`, unless it is `?3` or `?4`. In the usual
/// case, it changes no row.
const END_FAILURE: &str =
    "UPDATE sink_host SET last_error = NULL, last_hint = NULL, failure = NULL, failing_since = NULL
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND host = ?2
       AND (last_error IS NOT NULL OR failing_since IS NOT NULL)
       AND failure IS DISTINCT FROM ?3 AND failure IS DISTINCT FROM ?4";

/// SQL: moves the live cursor of the sink `?1` for the tenant `?2`.
const MOVE_LIVE: &str = "UPDATE cursor SET seq = ?5, record_index = ?6, epoch = ?7
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = (SELECT id FROM tenant WHERE guid = ?2)
       AND seq = ?3 AND record_index = ?4";

/// SQL: moves the cursor of the replay `?1` for the tenant `?2`.
const MOVE_REPLAY: &str = "UPDATE replay_cursor SET seq = ?5, record_index = ?6
     WHERE replay = ?1 AND tenant = (SELECT id FROM tenant WHERE guid = ?2) AND seq = ?3 AND record_index = ?4";

impl Checkpoint {
    /// Moves cursors and stores everything that belongs to the move in one transaction. Returns
    /// whether the log has grown by an observation about dead letters.
    ///
    /// Fails with [`CheckpointError::CursorMoved`], and changes nothing, if a cursor is not at the
    /// position that its move starts from.
    pub fn advance(&self, advance: &Advance<'_>) -> Result<LogGrowth, CheckpointError> {
        self.claimed(|store| {
            for cursor_move in advance.moves {
                move_cursor(store, advance, cursor_move, self.claim.epoch)?;
            }
            count(store, advance, self.claim.shard)?;
            if let Some(mark) = advance.mark {
                marks::store(store, advance.sink, mark)?;
            }
            end_failure(store, advance.sink)?;

            let mut growth = LogGrowth::Unchanged;
            for dead_letter in advance.dead_letters {
                growth = growth.and(record_dead_letter(store, advance, dead_letter)?);
            }
            for id in advance.delivered_dead_letters {
                growth = growth.and(clear_dead_letter(store, advance, *id)?);
            }
            Ok(growth)
        })
    }
}

/// Adds the records of an advance to the counts of its sink.
fn count(
    store: &dyn Statements,
    advance: &Advance<'_>,
    shard: ShardId,
) -> Result<(), CheckpointError> {
    let counted = store.execute(
        COUNT,
        values![
            advance.sink,
            shard,
            advance.sent.cast_signed(),
            (advance.dead_letters.len() as u64).cast_signed(),
            advance.truncated.cast_signed(),
            advance.now
        ],
    )?;
    if counted == 1 {
        return Ok(());
    }

    let sql = "SELECT id FROM sink WHERE name = ?1";
    match store.query_optional(sql, values![advance.sink], |row| row.get::<SinkRow>("id"))? {
        // The sink was removed, and its cursors with it.
        None => Err(CheckpointError::CursorMoved(advance.sink.clone())),
        Some(_) => Err(CheckpointError::Damaged(format!("sink `{}` has no counts", advance.sink))),
    }
}

/// Ends the failure of a sink, except that of parked targets or withheld tenants.
fn end_failure(store: &dyn Statements, sink: &SinkName) -> Result<(), CheckpointError> {
    let (parked, withheld) = (SinkFailure::TargetsParked, SinkFailure::TenantsWithheld);
    store.execute(END_FAILURE, values![sink, HOST, parked.as_str(), withheld.as_str()])?;
    Ok(())
}

fn move_cursor(
    store: &dyn Statements,
    advance: &Advance<'_>,
    cursor_move: &CursorMove,
    epoch: Epoch,
) -> Result<(), CheckpointError> {
    let tenant = cursor_move.tenant.to_string();
    let (from, to) = (cursor_move.from, cursor_move.to);
    let (from_seq, to_seq) = (from.seq, to.seq);

    let moved = match advance.lane {
        Lane::Live => store.execute(
            MOVE_LIVE,
            values![
                advance.sink,
                tenant,
                from_seq,
                from.record_index,
                to_seq,
                to.record_index,
                epoch
            ],
        )?,
        Lane::Replay(job) => store.execute(
            MOVE_REPLAY,
            values![job, tenant, from_seq, from.record_index, to_seq, to.record_index],
        )?,
        Lane::DeadLetters => 1,
    };

    if moved == 1 { Ok(()) } else { Err(CheckpointError::CursorMoved(advance.sink.clone())) }
}
