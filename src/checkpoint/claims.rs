//! The claim of this process, as the database stores it: the right to write for its tenants.
//!
//! Every claimed transaction begins with [`fence`], which counts it, and which changes nothing if
//! another process has written for the shard. The count also shows whether a commit with an unknown
//! outcome has happened. A single host never writes a claim except by this count, because the lock
//! of the state directory makes it the owner. Start reading at [`stored`]. See decision 0094.

use super::{
    CheckpointError, ShardId,
    backend::{Claim, CommitOutcome, Epoch, Statements, values},
};

/// The ID of this host in the table `sink_host`. A single host has the ID `-`.
pub(super) const HOST: &str = "-";

/// No process writes more often than this; only damage can cause a larger number.
const MAX_WRITES: i64 = i64::MAX / 2;

/// SQL: the claim of the shard `?1`.
const SELECT: &str = "SELECT epoch, writes FROM shard WHERE id = ?1";

/// SQL: counts a write of the shard `?1`, unless its epoch is not `?2`, or another write has been
/// committed since the write `?3`.
const FENCE: &str =
    "UPDATE shard SET writes = writes + 1 WHERE id = ?1 AND epoch = ?2 AND writes = ?3";

/// SQL: replaces the claim of the shard `?1` with one that has the epoch `?2` and no writes.
const REPLACE: &str = "INSERT INTO shard (id, epoch, writes) VALUES (?1, ?2, 0)
     ON CONFLICT (id) DO UPDATE SET epoch = ?2, writes = 0";

/// The stored claim of a shard. Fails with [`CheckpointError::Damaged`] if it does not exist or its
/// numbers are not valid.
pub(super) fn stored(store: &dyn Statements, shard: ShardId) -> Result<Claim, CheckpointError> {
    let found = store.query_optional(SELECT, values![shard], |row| {
        Ok((row.get::<Epoch>("epoch")?, row.get::<i64>("writes")?))
    })?;
    let is_valid = |(epoch, writes): &(Epoch, i64)| {
        *epoch >= Epoch::FIRST && (0..=MAX_WRITES).contains(writes)
    };

    match found.filter(is_valid) {
        Some((epoch, writes)) => Ok(Claim::new(shard, epoch, writes)),
        None => Err(CheckpointError::Damaged(format!("the claim of shard `{shard}` is not valid"))),
    }
}

/// Counts the write that begins. Fails with [`CheckpointError::ClaimLost`] if another process has
/// written with the same claim or with a newer one.
pub(super) fn fence(store: &dyn Statements, claim: &Claim) -> Result<(), CheckpointError> {
    let counted = store.execute(FENCE, values![claim.shard, claim.epoch, claim.writes()])?;
    if counted == 1 { Ok(()) } else { Err(CheckpointError::ClaimLost(claim.shard)) }
}

/// Determines whether the last write of a claim was committed, and updates the number of its
/// writes. Fails with [`CheckpointError::ClaimLost`] if another process has written since, or if
/// the stored claim is not valid.
pub(super) fn resolve(
    store: &dyn Statements,
    claim: &Claim,
) -> Result<CommitOutcome, CheckpointError> {
    let found = match stored(store, claim.shard) {
        Err(CheckpointError::Damaged(_)) => Err(CheckpointError::ClaimLost(claim.shard)),
        found => found,
    }?;
    if found.epoch != claim.epoch {
        return Err(CheckpointError::ClaimLost(claim.shard));
    }

    let before = claim.writes();
    match found.writes().checked_sub(before) {
        Some(0) => Ok(CommitOutcome::NotApplied),
        Some(1) => {
            claim.count_write();
            Ok(CommitOutcome::Applied)
        }
        _ => Err(CheckpointError::ClaimLost(claim.shard)),
    }
}

/// Replaces a claim that damage has changed or deleted. The caller holds the lock of the state
/// directory, so no other process uses the claim. Fails if the database cannot be read or written.
pub(super) fn repair(store: &dyn Statements) -> Result<(), CheckpointError> {
    match stored(store, ShardId::ONLY) {
        Err(CheckpointError::Damaged(_)) => {
            store.execute(REPLACE, values![ShardId::ONLY, Epoch::FIRST])?;
            Ok(())
        }
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn change(checkpoint: &Checkpoint, sql: &'static str) {
        checkpoint.administrative(|store| store.execute(sql, values![])).unwrap();
    }

    fn writes(checkpoint: &Checkpoint) -> i64 {
        checkpoint.reading(|store| stored(store, ShardId::ONLY)).unwrap().writes()
    }

    #[test]
    fn only_committed_claimed_transactions_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
        let failed = || CheckpointError::Damaged("interrupted".to_owned());

        checkpoint.claimed(|_| Ok(())).unwrap();
        checkpoint.claimed(|_| Err::<(), _>(failed())).unwrap_err();
        checkpoint.administrative(|_| Ok(())).unwrap();
        checkpoint.unsynced(|_| Ok(())).unwrap();
        checkpoint.reading(|_| Ok(())).unwrap();
        assert_eq!(writes(&checkpoint), 1);

        // The next process continues with the stored number.
        let restarted = checkpoint.restarted().unwrap();
        restarted.claimed(|_| Ok(())).unwrap();
        assert_eq!(writes(&restarted), 2);
    }

    #[test]
    fn a_claim_that_another_process_used_is_lost() {
        for taken_over in [
            "UPDATE shard SET writes = writes + 1",
            "UPDATE shard SET epoch = epoch + 1",
            "UPDATE shard SET writes = writes - 1",
            "DELETE FROM shard",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
            checkpoint.claimed(|_| Ok(())).unwrap();
            change(&checkpoint, taken_over);

            let unreachable = || -> Result<(), CheckpointError> { panic!("the work has begun") };
            let error = checkpoint.claimed(|_| unreachable()).unwrap_err();
            assert!(matches!(error, CheckpointError::ClaimLost(_)), "{taken_over}: {error:?}");
        }
    }

    #[test]
    fn outcomes_follow_from_the_number_of_writes() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();

        for (change_of_shard, expected) in [
            ("UPDATE shard SET owner = NULL", Some((CommitOutcome::NotApplied, 0))),
            ("UPDATE shard SET writes = 1", Some((CommitOutcome::Applied, 1))),
            ("UPDATE shard SET writes = 2", None),
            ("UPDATE shard SET epoch = 1", None),
            ("UPDATE shard SET writes = -1", None),
            ("DELETE FROM shard", None),
        ] {
            checkpoint
                .administrative(|store| {
                    store.execute("UPDATE shard SET epoch = 0, writes = 0", values![])?;
                    let claim = stored(store, ShardId::ONLY)?;
                    store.execute(change_of_shard, values![])?;
                    let resolved = resolve(store, &claim);
                    let is_lost = matches!(resolved, Err(CheckpointError::ClaimLost(_)));
                    let found = resolved.ok().map(|outcome| (outcome, claim.writes()));
                    assert_eq!(found, expected, "{change_of_shard}");
                    assert_eq!(is_lost, expected.is_none(), "{change_of_shard}");
                    Ok(())
                })
                .unwrap();
        }
    }

    #[test]
    fn an_invalid_claim_is_found_and_repaired() {
        for damage in [
            "UPDATE shard SET id = 64",
            "UPDATE shard SET epoch = -1",
            "UPDATE shard SET writes = -1",
            "UPDATE shard SET writes = 9223372036854775807",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
            change(&checkpoint, damage);
            let error = checkpoint.restarted().unwrap_err();
            assert!(matches!(error, CheckpointError::Damaged(_)), "{damage}: {error:?}");

            checkpoint.administrative(repair).unwrap();
            checkpoint.restarted().unwrap().claimed(|_| Ok(())).unwrap();
        }
    }
}
