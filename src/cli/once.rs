//! `once`: polls, delivers and exits, for cron, CI jobs and Kubernetes CronJobs. The command uses
//! the checkpoint exclusively, so it fails while a daemon is running. [`print_report`] also prints
//! the results of `backfill` and `demo`, and [`print_poll`] those of `poll`.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    CommandFailure, ExitCode, act_as_owner, args, block_on, count,
    json::{self, Document},
    load_with_secrets, print_explanation, print_possible_renames,
};
use crate::{
    daemon::{Engine, OnceReport, PollOutcome, SinkReport, once as run_once},
    error::Explanation,
};

/// Runs the command. Returns `Incomplete` if a poll or a delivery is incomplete, or if a sink has
/// dead letters. Fails if the engine cannot be built, for example because a daemon uses the
/// checkpoint.
pub(super) fn once(config: &Path, args: args::Once) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        let configuration = load_with_secrets(config)?;
        document.check_stdout(&configuration.sinks)?;
        act_as_owner(&configuration.state_directory)?;
        let engine = Engine::build(configuration)?;
        print_possible_renames(engine.possible_renames());

        let report = block_on(run_once(&engine))?;
        print_report(&report);
        document.print(|| as_json(&report))?;
        Ok(if report.is_complete() { ExitCode::Done } else { ExitCode::Incomplete })
    })
}

/// Prints one line per tenant and per sink with the hints of their errors, and how to handle dead
/// letters.
pub(super) fn print_report(report: &OnceReport) {
    for (name, poll) in &report.polls {
        print_poll(name, &PollOutcome::of(poll));
    }

    for sink in &report.sinks {
        print_explanation(&explain_delivery(sink));
    }
    if let Some(explanation) = explain_dead_letters(&report.sinks) {
        print_explanation(&explanation);
    }
}

/// Prints the result of a poll.
pub(super) fn print_poll(tenant: &str, outcome: &PollOutcome) {
    print_explanation(&explain_poll(outcome).within(&format!("tenant `{tenant}`")));
}

/// What a poll has read, and why its response is incomplete.
fn explain_poll(outcome: &PollOutcome) -> Explanation {
    let PollOutcome::Polled { days, revisions, rejected, held, newest, incomplete } = outcome
    else {
        return outcome.problem().unwrap_or_default();
    };

    let mut parts = vec![count(*days as u64, "new day")];
    let newest = newest.map(|day| format!("newest `{day}`"));
    parts.push(newest.unwrap_or_else(|| "no day yet".to_owned()));
    if *revisions > 0 {
        parts.push(count(*revisions as u64, "revision"));
    }
    if *rejected > 0 {
        parts.push(format!("{} rejected", count(*rejected as u64, "snapshot")));
    }
    if *held > 0 {
        parts.push(format!("{} held", count(*held as u64, "day")));
    }

    let line = parts.join(", ");
    match incomplete {
        Some(Explanation { message, hint }) => {
            Explanation { message: format!("{line}; {message}"), hint: hint.clone() }
        }
        None => Explanation::new(line),
    }
}

/// What was delivered to a sink, and why the delivery stopped.
pub(super) fn explain_delivery(sink: &SinkReport) -> Explanation {
    let SinkReport { name, delivered, rejected, dead_letters, stopped } = sink;
    let mut parts = vec![format!("sink `{name}`: {} delivered", count(*delivered, "record"))];
    if *rejected > 0 {
        parts.push(format!("{rejected} rejected (dead letters)"));
    }
    if *dead_letters > *rejected {
        parts.push(format!("{} in total", count(*dead_letters, "dead letter")));
    }

    let line = parts.join(", ");
    match stopped {
        None => Explanation::new(line),
        Some(stopped) => Explanation::of(stopped).within(&format!("{line}, then stopped")),
    }
}

/// How many dead letters the sinks have, and what to do about them; `None` if there are none.
pub(super) fn explain_dead_letters(sinks: &[SinkReport]) -> Option<Explanation> {
    let total: u64 = sinks.iter().map(|sink| sink.dead_letters).sum();
    let explanation = Explanation::new(format!(
        "{}: a receiver rejected these records permanently",
        count(total, "dead letter")
    ));
    let hint = "run `dead-letters list`, and then `dead-letters retry` or `dead-letters discard`";
    (total > 0).then(|| explanation.with_hint(hint))
}

fn as_json(report: &OnceReport) -> Value {
    let polls = report.polls.iter();
    let tenants = polls.map(|(name, poll)| poll_as_json(name, &PollOutcome::of(poll)));
    json!({
        "complete": report.is_complete(),
        "tenants": tenants.collect::<Vec<_>>(),
        "sinks": report.sinks.iter().map(delivery_as_json).collect::<Vec<_>>(),
    })
}

/// The result of a poll. The numbers are `null` if the tenant was not polled.
pub(super) fn poll_as_json(tenant: &str, outcome: &PollOutcome) -> Value {
    let mut document = json!({
        "name": tenant,
        "state": poll_state(outcome),
        "new_days": null,
        "revisions": null,
        "rejected_snapshots": null,
        "held_days": null,
        "newest_day": null,
        "retry_after_seconds": null,
        "error": outcome.problem().map(|problem| json::error(&problem)),
    });

    match outcome {
        PollOutcome::Polled { days, revisions, rejected, held, newest, .. } => {
            document["new_days"] = json!(days);
            document["revisions"] = json!(revisions);
            document["rejected_snapshots"] = json!(rejected);
            document["held_days"] = json!(held);
            document["newest_day"] = json!(newest);
        }
        PollOutcome::Paused { rest } => document["retry_after_seconds"] = json!(rest.as_secs()),
        PollOutcome::Failed(_) => {}
    }
    document
}

/// The value of `state` in the document of a poll.
fn poll_state(outcome: &PollOutcome) -> &'static str {
    match outcome {
        PollOutcome::Polled { incomplete: None, .. } => "complete",
        PollOutcome::Polled { incomplete: Some(_), .. } => "incomplete",
        PollOutcome::Failed(_) => "failed",
        PollOutcome::Paused { .. } => "paused",
    }
}

/// The result of the delivery to a sink.
pub(super) fn delivery_as_json(sink: &SinkReport) -> Value {
    json!({
        "name": sink.name,
        "records_delivered": sink.delivered,
        "records_rejected": sink.rejected,
        "dead_letters": sink.dead_letters,
        "error": sink.stopped.as_ref().map(|stopped| json::error(&Explanation::of(stopped))),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Day;

    fn report(delivered: u64, rejected: u64, dead_letters: u64) -> SinkReport {
        SinkReport { name: "x".to_owned(), delivered, rejected, dead_letters, stopped: None }
    }

    /// Regression: the summary did not mention dead letters, and the exit code was 0.
    #[test]
    fn the_summary_names_dead_letters() {
        for (delivered, rejected, dead_letters, line) in [
            (118, 0, 0, "sink `x`: 118 records delivered"),
            (118, 2, 2, "sink `x`: 118 records delivered, 2 rejected (dead letters)"),
            (0, 0, 5, "sink `x`: 0 records delivered, 5 dead letters in total"),
            (
                1,
                2,
                7,
                "sink `x`: 1 record delivered, 2 rejected (dead letters), 7 dead letters in total",
            ),
        ] {
            let sink = report(delivered, rejected, dead_letters);
            assert_eq!(explain_delivery(&sink).message, line);
            assert_eq!(sink.is_complete(), dead_letters == 0);
            assert_eq!(explain_dead_letters(&[sink]).is_some(), dead_letters > 0);
        }
    }

    #[test]
    fn polls_have_the_same_members_in_every_state() {
        let reason = Explanation::new("partial").with_hint("wait");
        let polled = |incomplete| PollOutcome::Polled {
            days: 1,
            revisions: 0,
            rejected: 0,
            held: 0,
            newest: Day::from_number(0),
            incomplete,
        };
        let members = |outcome: &PollOutcome| -> Vec<String> {
            poll_as_json("t", outcome).as_object().unwrap().keys().cloned().collect()
        };

        let complete = polled(None);
        assert_eq!(poll_as_json("t", &complete)["newest_day"], "1970-01-01");
        for (outcome, state) in [
            (polled(Some(reason.clone())), "incomplete"),
            (PollOutcome::Failed(reason), "failed"),
            (PollOutcome::Paused { rest: Duration::from_mins(1) }, "paused"),
        ] {
            assert_eq!(members(&outcome), members(&complete));
            let document = poll_as_json("t", &outcome);
            assert_eq!(document["state"], state);
            assert!(document["error"]["message"].is_string());
        }
    }
}
