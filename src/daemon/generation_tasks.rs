//! The tasks of a generation of the daemon, with what each of them does.
//!
//! When a generation ends, the messages about tasks that do not end in time name these tasks, so
//! that an operator learns which records or days will be sent or read again. Start reading at
//! [`GenerationTasks`]. See decision 0030.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GenerationTask {
    /// Delivers to the sink with this name.
    Sink(String),
    /// Polls the tenants, and imports snapshots.
    Polls,
    /// Serves the control socket.
    Control,
}

/// The tasks of a generation that are running. They are aborted when this value is dropped.
#[derive(Default)]
pub(super) struct GenerationTasks {
    tasks: JoinSet<()>,
    running: HashMap<Id, GenerationTask>,
}

impl GenerationTasks {
    /// Starts a task.
    pub(super) fn spawn(
        &mut self,
        task: GenerationTask,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn(work).id();
        self.running.insert(id, task);
    }

    /// Waits until all tasks have ended.
    pub(super) async fn join(&mut self) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let id = match ended {
                Ok((id, ())) => id,
                Err(error) => error.id(),
            };
            self.running.remove(&id);
        }
    }

    /// Aborts all tasks, and waits for the end of each one that does not block its thread.
    pub(super) async fn abort(&mut self) {
        self.tasks.shutdown().await;
        self.running.clear();
    }

    /// One sentence for each kind of task that has not ended, although it should have.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let mut running: Vec<&GenerationTask> = self.running.values().collect();
        running.sort();
        let sinks = running.iter().filter_map(|task| match task {
            GenerationTask::Sink(name) => Some(format!("`{name}`")),
            GenerationTask::Polls | GenerationTask::Control => None,
        });
        let sinks = sinks.collect::<Vec<String>>().join(", ");

        let mut sentences = Vec::new();
        if !sinks.is_empty() {
            sentences.push(format!(
                "these sinks did not stop in time: {sinks}; unacknowledged records will be sent again"
            ));
        }
        if running.contains(&&GenerationTask::Polls) {
            sentences.push("polls did not stop in time; they will be repeated".to_owned());
        }
        if running.contains(&&GenerationTask::Control) {
            sentences.push("the control socket did not stop in time".to_owned());
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::time::timeout;

    use super::*;

    /// Regression: the message about a stop that waited only for a poll named a sink.
    #[tokio::test(start_paused = true)]
    async fn only_unfinished_tasks_are_named() {
        let sink = |name: &str| GenerationTask::Sink(name.to_owned());
        for (unfinished, expected) in [
            (vec![], vec![]),
            (
                vec![GenerationTask::Polls],
                vec!["polls did not stop in time; they will be repeated"],
            ),
            (
                vec![GenerationTask::Control, sink("b"), sink("a")],
                vec![
                    "these sinks did not stop in time: `a`, `b`; unacknowledged records will be sent again",
                    "the control socket did not stop in time",
                ],
            ),
        ] {
            let mut tasks = GenerationTasks::default();
            let are_unfinished = !unfinished.is_empty();
            for task in unfinished {
                tasks.spawn(task, pending());
            }
            tasks.spawn(sink("done"), async {});
            tasks.spawn(GenerationTask::Control, async {});
            tasks.spawn(sink("failed"), async { panic!("a panic of the test") });

            let joined = timeout(Duration::from_secs(1), tasks.join()).await;
            assert_eq!(joined.is_err(), are_unfinished);
            assert_eq!(tasks.unfinished(), expected);
            tasks.abort().await;
            assert!(tasks.unfinished().is_empty());
        }
    }
}
