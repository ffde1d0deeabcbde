//! `once`: polls, delivers and exits, for cron, CI jobs and Kubernetes CronJobs.

use std::path::Path;

use super::{
    CommandFailure, ExitCode, act_as_owner, block_on, count, load_with_secrets, on_one_line,
    print_explanation, print_message,
};
use crate::{
    daemon::{Engine, OnceReport, PollReport, once as run_once},
    error::{Explanation, chain},
};

pub(super) fn once(config: &Path) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    let report = block_on(run_once(&engine))?;
    print_report(&report);
    Ok(if report.is_complete() { ExitCode::Done } else { ExitCode::Incomplete })
}

/// Prints one line per tenant and per sink.
pub(super) fn print_report(report: &OnceReport) {
    for (name, poll) in &report.polls {
        match poll {
            Ok(poll) => print_message(&format!("tenant {name}: {}", poll_line(poll))),
            Err(error) => {
                print_explanation(&Explanation::of(error).within(&format!("tenant {name}")));
            }
        }
    }

    for (name, delivered, stopped) in &report.sinks {
        let delivered = count(*delivered, "record");
        match stopped {
            None => print_message(&format!("sink {name}: {delivered} delivered")),
            Some(stopped) => print_message(&format!(
                "sink {name}: {delivered} delivered, then stopped: {}",
                chain(stopped)
            )),
        }
    }
}

fn poll_line(poll: &PollReport) -> String {
    let mut parts = vec![count(poll.days as u64, "new day")];
    parts.push(poll.newest.map_or_else(|| "no day yet".to_owned(), |day| format!("newest {day}")));
    if poll.revisions > 0 {
        parts.push(count(poll.revisions as u64, "revision"));
    }
    if poll.rejected > 0 {
        parts.push(format!("{} rejected", count(poll.rejected as u64, "snapshot")));
    }
    if poll.held > 0 {
        parts.push(format!("{} held", count(poll.held as u64, "day")));
    }

    let line = parts.join(", ");
    match &poll.incomplete {
        Some(reason) => format!("{line}; {}", on_one_line(reason)),
        None => line,
    }
}
