//! The steps of `state repair`, in their order. Each step repairs what the next one depends on: the
//! structure, the texts, the identity, and at last the content. A database that SQLite cannot use
//! is replaced by a new one. Start reading at [`Checkpoint::repair_all`]. See decision 0074.

use std::path::{Path, PathBuf};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, Repaired, SetAside, StructureRepair, VerifyReport},
    model::{DayFacts, UnixMillis},
};

/// A completed step of a repair.
#[derive(Debug)]
pub enum RepairStep {
    /// All rows were copied into a new database; the damaged one has this path.
    Rebuilt(PathBuf),
    /// Neither the database nor a copy of it can be used, for this reason.
    Unusable(String),
    /// The database was renamed, and replaced by a new one.
    Replaced(SetAside),
    /// The number of texts that were replaced or removed, because they were not valid UTF-8.
    Texts(usize),
    /// The database has a new ID, and this number of cursors from the second cursor file.
    Adopted(usize),
    /// The content was repaired.
    Content(Repaired),
}

/// What [`Checkpoint::repair_all`] leaves.
#[derive(Debug)]
pub enum RepairResult {
    /// A checkpoint without damage.
    Intact,
    /// A new, empty checkpoint.
    Replaced,
    /// Damage that prevents the repair of everything else, with its reason.
    Unrepaired(String),
    /// Damage that is not repaired.
    Damaged(VerifyReport),
}

impl Checkpoint {
    /// Repairs all damage that can be repaired, and reports each step that has changed or found
    /// something to `report`. The paths of databases that are renamed end with `stamp`; see
    /// [`Self::repair`] for `facts_of`.
    ///
    /// # Errors
    ///
    /// Fails if another process holds the checkpoint, or if the operating system cannot read or
    /// write its files. What was reported before has been changed.
    pub fn repair_all(
        directory: &Path,
        now: UnixMillis,
        stamp: &str,
        facts_of: impl Fn(&str) -> Option<DayFacts>,
        mut report: impl FnMut(RepairStep),
    ) -> Result<RepairResult, CheckpointError> {
        let is_usable = match Self::repair_structure(directory, stamp) {
            Ok(StructureRepair::Unchanged) => true,
            Ok(StructureRepair::Rebuilt(damaged)) => {
                report(RepairStep::Rebuilt(damaged));
                true
            }
            Ok(StructureRepair::Unusable(reason)) => {
                report(RepairStep::Unusable(reason));
                false
            }
            // There is no database, or an empty file.
            Err(CheckpointError::DatabaseLost(..)) => false,
            Err(error) => return Err(error),
        };
        if !is_usable {
            report(RepairStep::Replaced(Self::set_aside(directory, stamp)?));
            return Ok(RepairResult::Replaced);
        }

        match repair_usable(directory, now, facts_of, &mut report) {
            Err(CheckpointError::Damaged(reason)) => Ok(RepairResult::Unrepaired(reason)),
            repaired => repaired,
        }
    }
}

/// Repairs what is stored in a database whose structure is intact.
fn repair_usable(
    directory: &Path,
    now: UnixMillis,
    facts_of: impl Fn(&str) -> Option<DayFacts>,
    report: &mut impl FnMut(RepairStep),
) -> Result<RepairResult, CheckpointError> {
    let texts = Checkpoint::repair_texts(directory)?;
    if texts > 0 {
        report(RepairStep::Texts(texts));
    }

    let checkpoint = match Checkpoint::open_with_any_cursors(directory) {
        Err(CheckpointError::DatabaseLost(..)) => {
            report(RepairStep::Adopted(Checkpoint::adopt(directory)?));
            Checkpoint::open_with_any_cursors(directory)?
        }
        opened => opened?,
    };
    report(RepairStep::Content(checkpoint.repair(now, facts_of)?));

    let verified = checkpoint.verify()?;
    let is_intact = verified.findings.is_empty();
    Ok(if is_intact { RepairResult::Intact } else { RepairResult::Damaged(verified) })
}
