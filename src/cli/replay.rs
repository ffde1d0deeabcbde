//! `replay`: resends stored days or dead letters to one sink. If a daemon is running, the command
//! only queues them and the daemon delivers; otherwise, the command also delivers them. A replay
//! never moves the live cursor of the sink. The queue itself is in `daemon::replay`.

use std::path::Path;

use super::{
    CommandFailure, ExitCode, act_as_owner, args, block_on, control_socket, count,
    load_with_secrets, lock_holder, print_explanation, print_message, unknown_sink,
};
use crate::{
    config::Configuration,
    daemon::{self, Engine, Event, ReplayError, ReplaySelection, Request},
    error::{Explanation, chain},
    model::Day,
};

/// Runs the command. Returns `Incomplete` if the delivery stopped early. Fails if the sink is not
/// configured, or if the arguments select no valid range of days.
pub(super) fn replay(config: &Path, args: &args::Replay) -> Result<ExitCode, CommandFailure> {
    let configuration = Configuration::load(config)?;
    if !configuration.sinks.iter().any(|sink| sink.name == args.sink) {
        return Err(unknown_sink(&configuration, &args.sink));
    }
    let selection = selection(args)?;

    let Some(holder) = lock_holder(&configuration.state_directory) else {
        return replay_without_daemon(config, &args.sink, selection);
    };
    let request = Request::Replay { sink: args.sink.clone(), selection };
    match daemon::send_request(control_socket(&holder)?, &request, |_| {})? {
        Event::Queued { entries } => {
            let explanation = Explanation::new(queued_line(selection, entries));
            let hint = "run `status` to see the progress";
            print_explanation(&if entries > 0 { explanation.with_hint(hint) } else { explanation });
            Ok(ExitCode::Done)
        }
        Event::Error(message) => Err(CommandFailure::new(ExitCode::Usage, message)),
        _ => Ok(ExitCode::Incomplete),
    }
}

/// The days or dead letters that the arguments select.
fn selection(args: &args::Replay) -> Result<ReplaySelection, CommandFailure> {
    if args.rejected {
        return Ok(ReplaySelection::DeadLetters);
    }
    let first = args.from.ok_or_else(|| usage("`--from` or `--rejected` is required"))?;
    let last = args.to.unwrap_or_else(|| Day::of(crate::clock::now()));
    if first > last {
        return Err(usage("`--from` is after `--to`"));
    }
    Ok(ReplaySelection::Days(first.number(), last.number()))
}

fn replay_without_daemon(
    config: &Path,
    sink: &str,
    selection: ReplaySelection,
) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;

    block_on(async {
        let entries = engine.replay(sink, selection).map_err(|error| match error {
            ReplayError::Checkpoint(error) => error.into(),
            other => usage(&chain(&other)),
        })?;
        print_message(&queued_line(selection, entries));

        match daemon::deliver_queued(&engine, sink).await {
            Ok(records) => {
                print_message(&format!("sink `{sink}`: {} delivered", count(records, "record")));
                Ok(ExitCode::Done)
            }
            Err(stopped) => {
                print_message(&format!("sink `{sink}`: {}", chain(&stopped)));
                Ok(ExitCode::Incomplete)
            }
        }
    })?
}

/// What was queued: the number of days or of dead letters.
fn queued_line(selection: ReplaySelection, entries: u64) -> String {
    match (selection, entries) {
        (ReplaySelection::Days(..), 0) => {
            "no stored days in this range: there is nothing to send".to_owned()
        }
        (ReplaySelection::Days(..), _) => {
            format!("queued {} to be sent again", count(entries, "day"))
        }
        (ReplaySelection::DeadLetters, 0) => {
            "the sink has no dead letters: there is nothing to send".to_owned()
        }
        (ReplaySelection::DeadLetters, _) => {
            format!("queued {} to be sent again", count(entries, "dead letter"))
        }
    }
}

fn usage(message: &str) -> CommandFailure {
    CommandFailure::new(ExitCode::Usage, message)
}
