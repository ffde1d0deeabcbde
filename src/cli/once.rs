//! `once`: polls, delivers and exits, for cron, CI jobs and Kubernetes CronJobs. The command uses
//! the checkpoint exclusively, so it fails while a daemon is running. [`print_report`] also prints
//! the results of `backfill` and `demo`.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    CommandFailure, ExitCode, args, block_on, count,
    json::{self, Document},
    load_with_secrets,
    poll_results::PollResults,
    print_explanation, print_message, print_possible_renames, render,
};
use crate::{
    conditions::outdated_cursor_file,
    daemon::{Engine, OnceReport, SinkReport, once as run_once},
    error::Explanation,
    state_directory::exchange_warning,
    text::with_separators,
};

/// Runs the command. Returns `Incomplete` if a poll or a delivery is incomplete, or if a sink has
/// dead letters; a second cursor file that cannot be written is only a warning. Fails if the engine
/// cannot be built, for example because a daemon uses the checkpoint.
pub(super) fn once(config: &Path, args: args::Once) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        let configuration = load_with_secrets(config)?;
        document.check_stdout(&configuration.sinks)?;
        let engine = Engine::build(configuration)?;
        if let Some(warning) =
            exchange_warning(engine.store().checkpoint().state_directory().path())
        {
            print_message(&format!("warning: {}", render(&warning)));
        }
        print_possible_renames(engine.sinks().possible_renames());

        let report = block_on(run_once(&engine))?;
        print_report(&report);
        document.print(|| as_json(&report))?;
        Ok(if report.is_complete() { ExitCode::Done } else { ExitCode::Incomplete })
    })
}

/// Prints one line per tenant and per sink with the hints of their errors, how to handle dead
/// letters, whether the second cursor file is outdated, and a summary. Those that are not complete
/// are first.
pub(super) fn print_report(report: &OnceReport) {
    let polls = PollResults::of(report);
    polls.print();
    for sink in sorted(&report.sinks) {
        print_explanation(&explain_delivery(sink));
    }
    if let Some(explanation) = explain_dead_letters(&report.sinks) {
        print_explanation(&explanation);
    }
    if let Some(reason) = &report.outdated_cursor_file {
        warn_about_cursor_file(reason);
    }
    print_message(&summary(&polls, &report.sinks));
}

/// Writes the second cursor file after a delivery. A failure is only a warning: everything that was
/// delivered is recorded in the database.
pub(super) fn update_cursor_file(engine: &Engine) {
    if let Err(error) = engine.cursor_file().update() {
        warn_about_cursor_file(&Explanation::of(&error));
    }
}

fn warn_about_cursor_file(reason: &Explanation) {
    print_message(&format!("warning: {}", render(&outdated_cursor_file(reason))));
}

/// The deliveries, those that are not complete first.
fn sorted(sinks: &[SinkReport]) -> Vec<&SinkReport> {
    let mut sorted: Vec<&SinkReport> = sinks.iter().collect();
    sorted.sort_by_key(|sink| sink.is_complete());
    sorted
}

/// How many polls and deliveries were complete, and how many records were rejected if there are
/// any.
fn summary(polls: &PollResults, sinks: &[SinkReport]) -> String {
    let polls = polls.summary();
    if sinks.is_empty() {
        return polls;
    }
    let complete = sinks.iter().filter(|sink| sink.is_complete()).count();
    let rejected: u64 = sinks.iter().map(|sink| sink.rejected).sum();
    let sinks = count(sinks.len(), "sink");
    let deliveries = format!("deliveries complete: {} of {sinks}", with_separators(complete));
    if rejected == 0 {
        return format!("{polls}; {deliveries}");
    }
    format!("{polls}; {deliveries}; {} rejected", count(rejected, "record"))
}

/// What was delivered to a sink, and why the delivery stopped.
pub(super) fn explain_delivery(sink: &SinkReport) -> Explanation {
    let SinkReport { name, delivered, rejected, dead_letters, stopped } = sink;
    let mut parts = vec![format!("sink `{name}`: {} delivered", count(*delivered, "record"))];
    if *rejected > 0 {
        parts.push(format!("{} rejected (dead letters)", with_separators(*rejected)));
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
    let sinks = sorted(&report.sinks).into_iter();
    json!({
        "complete": report.is_complete(),
        "tenants": PollResults::of(report).as_json(),
        "sinks": sinks.map(delivery_as_json).collect::<Vec<_>>(),
        "cursor_file_error": report.outdated_cursor_file.as_ref().map(json::error),
    })
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
    use super::*;

    fn report(delivered: u64, rejected: u64, dead_letters: u64) -> SinkReport {
        SinkReport { name: "x".into(), delivered, rejected, dead_letters, stopped: None }
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
    fn incomplete_deliveries_are_first_and_counted() {
        let sinks = ["a", "b", "c"].map(|name| {
            let dead_letters = u64::from(name == "b");
            SinkReport { name: name.into(), ..report(1, 0, dead_letters) }
        });
        let order: Vec<&str> = sorted(&sinks).iter().map(|sink| sink.name.as_str()).collect();
        assert_eq!(order, ["b", "a", "c"]);

        let polls = PollResults::of(&OnceReport::default());
        let line = "polls complete: 0 of 0 tenants; deliveries complete: 2 of 3 sinks";
        assert_eq!(summary(&polls, &sinks), line);
        assert_eq!(summary(&polls, &[]), "polls complete: 0 of 0 tenants");

        let rejecting = [report(1, 1_499, 1_499), report(0, 1, 1)];
        let line = "polls complete: 0 of 0 tenants; deliveries complete: 0 of 2 sinks; 1,500 records rejected";
        assert_eq!(summary(&polls, &rejecting), line);
    }

    #[test]
    fn a_delivery_with_rejections_is_not_complete() {
        assert!(report(118, 0, 0).is_complete());
        assert!(!report(118, 0, 1).is_complete());
        // The dead letters may already have been discarded.
        assert!(!report(118, 1, 0).is_complete());
    }
}
