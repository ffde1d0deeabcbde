//! Runs work that blocks a thread for the checkpoint, the only such place in the daemon and in the
//! admin endpoints.
//!
//! The store is synchronous: a call returns when its disk operation has finished. On a runtime with
//! several threads, another thread continues with the other tasks in the meantime; a runtime with
//! one thread, which tests with a paused clock use, waits. Start reading at [`StoreExecutor::run`].
//! See decision 0090.

use std::sync::Arc;

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use crate::checkpoint::Checkpoint;

/// Runs calls of the checkpoint, which block until their disk operation has finished.
#[derive(Clone, Debug)]
pub struct StoreExecutor {
    checkpoint: Arc<Checkpoint>,
}

impl StoreExecutor {
    pub(super) fn new(checkpoint: Arc<Checkpoint>) -> Self {
        Self { checkpoint }
    }

    /// The checkpoint, for callers that do not run on a thread of the runtime or that run all of
    /// their work in [`blocking`], and for what does not wait for the disk.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Runs `work` with the checkpoint, and lets the other tasks of a runtime with several threads
    /// continue on another thread.
    pub fn run<T>(&self, work: impl FnOnce(&Checkpoint) -> T) -> T {
        blocking(|| work(&self.checkpoint))
    }
}

/// Runs `work`, which blocks for a checkpoint, on this thread, and returns its result. The other
/// tasks of a runtime with several threads continue on another one. For work that is a method of
/// the caller, or that opens the checkpoint itself; for all other work, use [`StoreExecutor::run`].
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    // `block_in_place` panics on a runtime with one thread.
    let has_other_threads = Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_other_threads { block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tempfile::TempDir;

    use super::*;

    fn store() -> (TempDir, StoreExecutor) {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        (directory, StoreExecutor::new(Arc::new(checkpoint)))
    }

    #[test]
    fn work_runs_without_a_runtime() {
        let (_directory, store) = store();
        store.run(Checkpoint::confirm_writable).unwrap();
    }

    /// A runtime with one thread, as a paused clock requires.
    #[tokio::test(start_paused = true)]
    async fn work_runs_while_time_is_paused() {
        let (_directory, store) = store();
        store.run(Checkpoint::confirm_writable).unwrap();

        let task = tokio::spawn(async move { store.run(Checkpoint::confirm_writable) });
        task.await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_continue_during_the_work() {
        let (_directory, store) = store();
        let (sender, receiver) = mpsc::channel();

        let task = tokio::spawn(async move {
            // This task is queued on the only worker thread, on which the work waits for it.
            tokio::spawn(async move { sender.send(()) });
            store.run(|checkpoint| {
                receiver.recv_timeout(Duration::from_mins(1)).unwrap();
                checkpoint.confirm_writable()
            })
        });
        task.await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn work_may_contain_other_work() {
        let (_directory, store) = store();
        let work = move || store.run(Checkpoint::confirm_writable);
        tokio::spawn(async move { blocking(work) }).await.unwrap().unwrap();
    }
}
