//! `once`: polls, delivers and exits, for cron, CI jobs and Kubernetes CronJobs. The command uses
//! the checkpoint exclusively, so it fails while a daemon is running. [`print_report`] also prints
//! the results of `backfill` and `demo`.

use std::path::Path;

use super::{
    CommandFailure, ExitCode, act_as_owner, block_on, count, load_with_secrets, print_explanation,
    print_message,
};
use crate::{
    daemon::{Engine, OnceReport, PollReport, once as run_once},
    error::Explanation,
};

/// Runs the command. Returns `Incomplete` if a poll or a delivery is incomplete. Fails if the
/// engine cannot be built, for example because a daemon uses the checkpoint.
pub(super) fn once(config: &Path) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    let report = block_on(run_once(&engine))?;
    print_report(&report);
    Ok(if report.is_complete() { ExitCode::Done } else { ExitCode::Incomplete })
}

/// Prints one line per tenant and per sink, and the hints of their errors.
pub(super) fn print_report(report: &OnceReport) {
    for (name, poll) in &report.polls {
        match poll {
            Ok(poll) => print_explanation(&explain_poll(poll).within(&format!("tenant `{name}`"))),
            Err(error) => {
                print_explanation(&Explanation::of(error).within(&format!("tenant `{name}`")));
            }
        }
    }

    for (name, delivered, stopped) in &report.sinks {
        let delivered = count(*delivered, "record");
        match stopped {
            None => print_message(&format!("sink `{name}`: {delivered} delivered")),
            Some(stopped) => {
                let what = format!("sink `{name}`: {delivered} delivered, then stopped");
                print_explanation(&Explanation::of(stopped).within(&what));
            }
        }
    }
}

/// What a poll has read, and why its response is incomplete.
fn explain_poll(poll: &PollReport) -> Explanation {
    let mut parts = vec![count(poll.days as u64, "new day")];
    let newest = poll.newest.map(|day| format!("newest `{day}`"));
    parts.push(newest.unwrap_or_else(|| "no day yet".to_owned()));
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
        Some(Explanation { message, hint }) => {
            Explanation { message: format!("{line}; {message}"), hint: hint.clone() }
        }
        None => Explanation::new(line),
    }
}
