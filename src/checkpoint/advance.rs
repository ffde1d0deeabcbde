//! Moves the cursors of a sink after its receiver has acknowledged records.
//!
//! A cursor only moves by compare-and-set, together with everything that belongs to the move, in
//! one transaction: the mark, the counts and the dead letters. Start reading at
//! [`Checkpoint::advance`].

use super::{
    Checkpoint, CheckpointError, DeadLetter, Lane, LogGrowth, Position, SinkFailure,
    backend::{Statements, values},
    dead_letter_records::{clear_dead_letter, record_dead_letter},
    registration::EPOCH,
    row_ids::DeadLetterId,
};
use crate::model::{TenantId, UnixMillis};

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
    pub sink: &'a str,
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

/// SQL: counts an advance of the sink `?1`, and ends its failure unless that is `?7` or `?8`.
const COUNT: &str =
    "UPDATE sink SET sent = sent + ?2, rejected = rejected + ?3, truncated = truncated + ?6,
        mark = coalesce(?4, mark), last_acknowledgement = ?5,
        last_error = CASE WHEN failure IN (?7, ?8) THEN last_error END,
        last_hint = CASE WHEN failure IN (?7, ?8) THEN last_hint END,
        failure = CASE WHEN failure IN (?7, ?8) THEN failure END,
        failing_since = CASE WHEN failure IN (?7, ?8) THEN failing_since END
     WHERE name = ?1";

/// SQL: moves the live cursor of the sink `?1` for the tenant `?2`.
const MOVE_LIVE: &str = "UPDATE cursor SET seq = ?5, record_index = ?6
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = (SELECT id FROM tenant WHERE guid = ?2)
       AND epoch = ?7 AND seq = ?3 AND record_index = ?4";

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
                move_cursor(store, advance, cursor_move)?;
            }
            count(store, advance)?;

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

/// Adds the records of an advance to the counts of its sink, stores its mark, and ends the failure
/// of the sink, except that of parked targets.
fn count(store: &dyn Statements, advance: &Advance<'_>) -> Result<(), CheckpointError> {
    store.execute(
        COUNT,
        values![
            advance.sink,
            advance.sent.cast_signed(),
            (advance.dead_letters.len() as u64).cast_signed(),
            advance.mark,
            advance.now,
            advance.truncated.cast_signed(),
            SinkFailure::TargetsParked.as_str(),
            SinkFailure::TenantsWithheld.as_str()
        ],
    )?;
    Ok(())
}

fn move_cursor(
    store: &dyn Statements,
    advance: &Advance<'_>,
    cursor_move: &CursorMove,
) -> Result<(), CheckpointError> {
    let tenant = cursor_move.tenant.to_string();
    let (from, to) = (cursor_move.from, cursor_move.to);
    let (from_seq, to_seq) = (from.seq.cast_signed(), to.seq.cast_signed());

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
                EPOCH
            ],
        )?,
        Lane::Replay(job) => store.execute(
            MOVE_REPLAY,
            values![job, tenant, from_seq, from.record_index, to_seq, to.record_index],
        )?,
        Lane::DeadLetters => 1,
    };

    if moved == 1 { Ok(()) } else { Err(CheckpointError::CursorMoved(advance.sink.to_owned())) }
}
