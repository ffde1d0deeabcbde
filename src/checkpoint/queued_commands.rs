//! Commands that take longer than one transaction: backfills and imports. They are stored before
//! their work begins, and deleted in the transaction that stores the result, so that a restart
//! continues what it has interrupted.
//!
//! A command may be carried out more than once, because a day that is stored already does not
//! change. A command must never be deleted before its result is stored, unless its tenant is not
//! configured anymore or its content is damaged. Start reading at
//! [`Checkpoint::queue_backfills`] and [`Checkpoint::queue_import`]. See decision 0094.

use std::ops::ControlFlow;

use super::{
    Checkpoint, CheckpointError, PollCommit,
    backend::{Statements, values},
    body::{MAX_BODY_BYTES, compress},
    row_ids::{CommandId, TenantRow, tenant_id, tenant_row},
};
use crate::model::{Day, TenantId, UnixMillis};

/// An import that is not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedImport {
    pub id: CommandId,
    /// The tenant of all its snapshots.
    pub tenant: TenantId,
}

/// What is stored about a command.
enum CommandContent<'a> {
    /// The first day to read.
    Backfill(Day),
    /// The packed snapshots.
    Import(&'a [u8]),
}

/// The values of the column `command`.
const BACKFILL: &str = "backfill";
const IMPORT: &str = "import";

/// The largest import in bytes, before it is compressed: twice the largest request.
const MAX_IMPORT_BYTES: usize = MAX_BODY_BYTES;
/// Level 3 of zstd is fast, and the row is deleted soon.
const COMPRESSION_LEVEL: i32 = 3;

/// SQL: the first day of the oldest queued backfill of the tenant `?1`; no row if it has none.
const FIRST_DAY: &str = "SELECT q.first_day FROM queued_command q JOIN tenant t ON t.id = q.tenant
     WHERE t.guid = ?1 AND q.first_day IS NOT NULL ORDER BY q.first_day LIMIT 1";

/// SQL: queues a command.
const INSERT: &str = "INSERT INTO queued_command (tenant, command, first_day, snapshots, requested)
     VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id";

/// SQL: deletes the backfills of the tenant `?1` that begin on the day `?2` or later.
const FINISH_BACKFILLS: &str = "DELETE FROM queued_command WHERE tenant = ?1 AND first_day >= ?2";

/// SQL: the snapshots of the import `?1`. The database may assign the ID of a completed import to
/// another command, so the tenant `?2` is a condition as well.
const SNAPSHOTS: &str = "SELECT q.snapshots FROM queued_command q JOIN tenant t ON t.id = q.tenant
     WHERE q.id = ?1 AND t.guid = ?2";

/// SQL: deletes the import `?1` of the tenant `?2`.
const FINISH_IMPORT: &str = "DELETE FROM queued_command WHERE id = ?1 AND tenant = ?2";

/// SQL: deletes a command.
const DELETE: &str = "DELETE FROM queued_command WHERE id = ?1";

/// SQL: the imports, the oldest first.
const IMPORTS: &str = "SELECT q.id, t.guid FROM queued_command q JOIN tenant t ON t.id = q.tenant
     WHERE q.snapshots IS NOT NULL ORDER BY q.id";

impl Checkpoint {
    /// Queues a backfill of each of these tenants, before its first request. Writes nothing for a
    /// tenant whose queued backfill reads at least as far back.
    ///
    /// # Errors
    ///
    /// Fails, and queues nothing, if the database cannot be read or written.
    pub fn queue_backfills(
        &self,
        tenants: &[TenantId],
        first_day: Day,
        now: UnixMillis,
    ) -> Result<(), CheckpointError> {
        let missing = self.reading(|store| {
            let mut missing = Vec::new();
            for tenant in tenants {
                let queued = queued_first_day(store, *tenant)?;
                if queued.is_none_or(|queued| queued > first_day.number()) {
                    missing.push(*tenant);
                }
            }
            Ok(missing)
        })?;
        if missing.is_empty() {
            return Ok(());
        }

        self.claimed(|store| {
            for tenant in missing {
                let row = tenant_row(store, tenant)?;
                insert(store, row, &CommandContent::Backfill(first_day), now)?;
            }
            Ok(())
        })
    }

    /// Queues the snapshots of an import, one JSON document each. [`PollCommit::finished`] deletes
    /// the command.
    ///
    /// # Errors
    ///
    /// Fails, and queues nothing, with [`CheckpointError::TooLarge`] if the snapshots have more
    /// than 64 MiB, and if the database cannot be written.
    pub fn queue_import(
        &self,
        tenant: TenantId,
        items: &[&str],
        now: UnixMillis,
    ) -> Result<CommandId, CheckpointError> {
        let snapshots = pack(items)?;
        self.claimed(|store| {
            let row = tenant_row(store, tenant)?;
            insert(store, row, &CommandContent::Import(&snapshots), now)
        })
    }

    /// The imports that are not completed, the oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the GUID of a
    /// tenant is invalid.
    pub fn queued_imports(&self) -> Result<Vec<QueuedImport>, CheckpointError> {
        self.reading(|store| {
            store.query_all(IMPORTS, values![], |row| {
                let tenant = tenant_id(&row.get::<String>("guid")?)?;
                Ok(QueuedImport { id: row.get("id")?, tenant })
            })
        })
    }

    /// The snapshots of an import, one JSON document each; `None` if the import was completed.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the snapshots
    /// cannot be decoded.
    pub fn queued_snapshots(
        &self,
        import: QueuedImport,
    ) -> Result<Option<Vec<String>>, CheckpointError> {
        let QueuedImport { id, tenant } = import;
        let guid = tenant.to_string();
        let packed = self.reading(|store| {
            store.query_optional(SNAPSHOTS, values![id, guid], |row| {
                row.get::<Option<Vec<u8>>>("snapshots")
            })
        })?;
        packed.flatten().map(|packed| unpack(&packed)).transpose()
    }

    /// Deletes a command that cannot be carried out, for example because its tenant is not
    /// configured anymore.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn drop_command(&self, id: CommandId) -> Result<(), CheckpointError> {
        self.claimed(|store| delete(store, id))
    }
}

/// Deletes the commands that a poll or an import completes, in the transaction that commits it. A
/// backfill is complete if all days from its first day on were read; a first day that Microsoft no
/// longer keeps counts as read.
pub(super) fn finish(
    store: &dyn Statements,
    tenant: TenantRow,
    commit: &PollCommit<'_>,
) -> Result<(), CheckpointError> {
    if let Some(id) = commit.finished {
        store.execute(FINISH_IMPORT, values![id, tenant])?;
    }
    if let Some(read_from) = commit.polled_back_to {
        let has_read_all = read_from <= commit.observed_at.day().oldest_at_source();
        let first = if has_read_all { i32::MIN } else { read_from.number() };
        store.execute(FINISH_BACKFILLS, values![tenant, first])?;
    }
    Ok(())
}

/// The imports that cannot be decoded, each with the GUID of its tenant. Fails only if the database
/// cannot be read.
pub(super) fn damaged_imports(
    store: &dyn Statements,
) -> Result<Vec<(CommandId, String)>, CheckpointError> {
    let sql =
        "SELECT q.id, t.guid, q.snapshots FROM queued_command q JOIN tenant t ON t.id = q.tenant
               WHERE q.snapshots IS NOT NULL ORDER BY q.id";
    let mut damaged = Vec::new();
    store.query(sql, values![], &mut |row| {
        if unpack(&row.get::<Vec<u8>>("snapshots")?).is_err() {
            damaged.push((row.get("id")?, row.get("guid")?));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(damaged)
}

/// Deletes a command. Fails if the database cannot be written.
pub(super) fn delete(store: &dyn Statements, id: CommandId) -> Result<(), CheckpointError> {
    store.execute(DELETE, values![id])?;
    Ok(())
}

fn queued_first_day(
    store: &dyn Statements,
    tenant: TenantId,
) -> Result<Option<i32>, CheckpointError> {
    let guid = tenant.to_string();
    store.query_optional(FIRST_DAY, values![guid], |row| row.get("first_day"))
}

fn insert(
    store: &dyn Statements,
    tenant: TenantRow,
    content: &CommandContent<'_>,
    now: UnixMillis,
) -> Result<CommandId, CheckpointError> {
    let (name, first_day, snapshots) = match content {
        CommandContent::Backfill(day) => (BACKFILL, Some(day.number()), None),
        CommandContent::Import(packed) => (IMPORT, None, Some(*packed)),
    };
    store.query_one(INSERT, values![tenant, name, first_day, snapshots, now], |row| row.get("id"))
}

/// Compresses the JSON array of the snapshots, with a checksum.
fn pack(items: &[&str]) -> Result<Vec<u8>, CheckpointError> {
    let json = serde_json::to_vec(items).map_err(std::io::Error::from)?;
    if json.len() > MAX_IMPORT_BYTES {
        return Err(CheckpointError::TooLarge("import"));
    }
    Ok(compress(&json, COMPRESSION_LEVEL, &[])?)
}

fn unpack(packed: &[u8]) -> Result<Vec<String>, CheckpointError> {
    let damaged = || CheckpointError::Damaged("a queued import cannot be read".to_owned());

    // The size limit prevents a damaged header from reserving all memory.
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| *size <= MAX_IMPORT_BYTES).ok_or_else(damaged)?;
    let json = zstd::bulk::decompress(packed, size).map_err(|_| damaged())?;
    serde_json::from_slice(&json).map_err(|_| damaged())
}
