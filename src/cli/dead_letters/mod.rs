//! `dead-letters`: lists, shows, retries and discards the records that a receiver rejected. If a
//! daemon is running, it carries out a retry or a discard; otherwise, the command does so itself.
//! Start reading at [`dead_letters`].

mod groups;
mod list;

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use super::{
    CommandFailure, ExitCode, args, block_on, count,
    daemon_client::{request, unexpected_response},
    json::{Document, ResendState},
    load_with_secrets, lock_holder,
    once::{delivery_as_json, explain_dead_letters, explain_delivery, update_cursor_file},
    print, print_explanation, print_message,
    selection::selected_sink,
    unknown_sink,
};
use crate::{
    checkpoint::{Checkpoint, DeadLetterFilter, DeadLetterKey, QueuedDeadLetter},
    clock,
    config::Configuration,
    daemon::{self, Engine, Event, Request, SinkReport},
    error::Explanation,
    model::SinkName,
    state_directory::Holder,
};

/// Runs a subcommand. `retry` returns `Incomplete` if the delivery stopped early, or if the
/// receiver rejected a record again. Fails if an ID or a sink does not exist, or if the checkpoint
/// cannot be used.
pub(super) fn dead_letters(
    config: &Path,
    args: &args::DeadLetters,
) -> Result<ExitCode, CommandFailure> {
    match args {
        args::DeadLetters::List(args) => list::list(config, args),
        args::DeadLetters::Show(args) => list::show(config, args),
        args::DeadLetters::Retry(args) => retry(config, args),
        args::DeadLetters::Discard(args) => discard(config, args),
    }
}

/// Sends the selected dead letters again. `replay --rejected` is the same command.
pub(super) fn retry(
    config: &Path,
    args: &args::DeadLettersRetry,
) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        let configuration = Configuration::load(config)?;
        if let Some(sink) = &args.sink {
            selected_sink(&configuration, sink)?;
        }
        match lock_holder(&configuration.state_directory) {
            Some(holder) => retry_through_daemon(&configuration, &holder, args, document),
            None => retry_without_daemon(config, args, document),
        }
    })
}

fn retry_through_daemon(
    configuration: &Configuration,
    holder: &Holder,
    args: &args::DeadLettersRetry,
    document: Document,
) -> Result<ExitCode, CommandFailure> {
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let letters = select_to_send(&checkpoint, configuration, args)?;
    if letters.is_empty() {
        return nothing_to_send(document);
    }

    let queued = changed_by(holder, &Request::RetryDeadLetters { letters: keys(&letters) })?;
    let explanation = Explanation::new(queued_line(queued));
    print_explanation(&explanation.with_hint("run `status` to see the progress"));
    document.print(|| retry_as_json(ResendState::Queued, queued, &[]))?;
    Ok(ExitCode::Done)
}

fn retry_without_daemon(
    config: &Path,
    args: &args::DeadLettersRetry,
    document: Document,
) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    document.check_stdout(&configuration.sinks)?;
    let engine = Engine::build(configuration)?;
    let letters = select_to_send(engine.store().checkpoint(), engine.configuration(), args)?;
    if letters.is_empty() {
        return nothing_to_send(document);
    }

    block_on(async {
        let queued = engine.operations().retry_dead_letters(&keys(&letters))?;
        print_message(&queued_line(queued));

        let sinks: BTreeSet<&SinkName> = letters.iter().map(|letter| &letter.sink).collect();
        let mut reports = Vec::new();
        for sink in sinks {
            let report = daemon::deliver_queued(&engine, sink).await;
            print_explanation(&explain_delivery(&report));
            reports.push(report);
        }
        if let Some(explanation) = explain_dead_letters(&reports) {
            print_explanation(&explanation);
        }
        update_cursor_file(&engine);

        let is_complete = reports.iter().all(SinkReport::has_sent_all);
        let state = if is_complete { ResendState::Delivered } else { ResendState::Incomplete };
        document.print(|| retry_as_json(state, queued, &reports))?;
        Ok(if is_complete { ExitCode::Done } else { ExitCode::Incomplete })
    })?
}

fn nothing_to_send(document: Document) -> Result<ExitCode, CommandFailure> {
    print_message("the sink has no dead letters: there is nothing to send");
    document.print(|| retry_as_json(ResendState::NothingToSend, 0, &[]))?;
    Ok(ExitCode::Done)
}

fn queued_line(queued: u64) -> String {
    format!("queued {} to be sent again", count(queued, "dead letter"))
}

/// The document of `retry`.
fn retry_as_json(state: ResendState, queued: u64, sinks: &[SinkReport]) -> Value {
    json!({
        "state": state.as_str(),
        "queued": queued,
        "sinks": sinks.iter().map(delivery_as_json).collect::<Vec<_>>(),
    })
}

/// Discards the selected dead letters.
fn discard(config: &Path, args: &args::DeadLettersDiscard) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        let configuration = Configuration::load(config)?;
        let directory = &configuration.state_directory;
        let holder = lock_holder(directory);
        let stored = Checkpoint::open_read_only(directory)?;
        let ids: &[String] = if args.all { &[] } else { &args.ids };
        let letters = select(&stored, &configuration, ids, args.sink.as_ref())?;
        drop(stored);
        confirm(&letters, args)?;

        let letters = keys(&letters);
        let discarded = if let Some(holder) = holder {
            changed_by(&holder, &Request::DiscardDeadLetters { letters: letters.clone() })?
        } else {
            let checkpoint = Checkpoint::open(directory)?;
            checkpoint.discard_dead_letters(&letters, clock::now().into())?.0
        };
        match document {
            Document::Printed => document.print(|| discard_as_json(discarded, &letters))?,
            Document::Omitted => {
                print(&format!("discarded {}\n", count(discarded, "dead letter")))?;
            }
        }
        Ok(ExitCode::Done)
    })
}

/// Fails if the operator has not confirmed that more than one dead letter is discarded.
fn confirm(
    letters: &[QueuedDeadLetter],
    args: &args::DeadLettersDiscard,
) -> Result<(), CommandFailure> {
    if letters.len() <= 1 || args.yes {
        return Ok(());
    }
    let explanation = Explanation::new(format!(
        "nothing was discarded: a discard of {} cannot be undone",
        count(letters.len(), "dead letter")
    ));
    let hint = "run `dead-letters list` to read the receiver's messages, and pass --yes to discard the records";
    Err(CommandFailure::new(ExitCode::Usage, explanation.with_hint(hint)))
}

fn discard_as_json(discarded: u64, letters: &[DeadLetterKey]) -> Value {
    let letter = |key: &DeadLetterKey| json!({ "sink": key.sink, "event_id": key.event_id });
    json!({
        "discarded": discarded,
        "dead_letters": letters.iter().map(letter).collect::<Vec<_>>(),
    })
}

/// Sends a request to the daemon. Returns the number of dead letters that it has queued or
/// discarded.
fn changed_by(holder: &Holder, change: &Request) -> Result<u64, CommandFailure> {
    match request(holder, change)? {
        Event::DeadLetters { count } => Ok(count),
        _ => Err(unexpected_response()),
    }
}

/// The dead letters to retry. Fails if a sink of one of them is not configured, because it would
/// never be sent.
fn select_to_send(
    checkpoint: &Checkpoint,
    configuration: &Configuration,
    args: &args::DeadLettersRetry,
) -> Result<Vec<QueuedDeadLetter>, CommandFailure> {
    let letters = select(checkpoint, configuration, &args.ids, args.sink.as_ref())?;
    let is_configured = |letter: &&QueuedDeadLetter| {
        configuration.sink_named(&letter.sink).is_some_and(|plan| !plan.discarded)
    };
    match letters.iter().find(|letter| !is_configured(letter)) {
        Some(letter) => Err(unknown_sink(configuration, &letter.sink)),
        None => Ok(letters),
    }
}

/// The dead letters with one of these IDs or, without IDs, all dead letters of the sink. An event
/// ID selects the dead letters of all sinks if `sink` is `None`.
fn select(
    checkpoint: &Checkpoint,
    configuration: &Configuration,
    ids: &[String],
    sink: Option<&SinkName>,
) -> Result<Vec<QueuedDeadLetter>, CommandFailure> {
    let of_sink = DeadLetterFilter { sink: sink.cloned(), ..DeadLetterFilter::default() };
    if ids.is_empty() {
        let letters = checkpoint.find_dead_letters(&of_sink, u32::MAX)?;
        return match sink {
            Some(sink) if letters.is_empty() => selected_sink(configuration, sink).map(|_| letters),
            _ => Ok(letters),
        };
    }

    let mut letters: Vec<QueuedDeadLetter> = Vec::new();
    for id in ids {
        let event_id_prefix = prefix(id).ok_or_else(|| invalid_id(id))?;
        let filter = DeadLetterFilter { event_id_prefix, ..of_sink.clone() };
        let found = unambiguous(id, checkpoint.find_dead_letters(&filter, u32::MAX)?)?;
        let is_new = |letter: &QueuedDeadLetter| letters.iter().all(|known| known.id != letter.id);
        let new: Vec<QueuedDeadLetter> = found.into_iter().filter(is_new).collect();
        letters.extend(new);
    }
    Ok(letters)
}

fn keys(letters: &[QueuedDeadLetter]) -> Vec<DeadLetterKey> {
    letters.iter().map(QueuedDeadLetter::key).collect()
}

/// The number of hex digits of an event ID.
const EVENT_ID_DIGITS: usize = 40;

/// The first digits of an event ID in lower case; `None` if the text cannot be a part of one.
fn prefix(id: &str) -> Option<String> {
    let is_valid = (1..=EVENT_ID_DIGITS).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_valid.then(|| id.to_ascii_lowercase())
}

fn invalid_id(id: &str) -> CommandFailure {
    let explanation = Explanation::new(format!("`{id}` is not an event ID"))
        .with_hint("run `dead-letters list`, and pass the digits in its first column");
    CommandFailure::new(ExitCode::Usage, explanation)
}

/// The dead letters that an ID has found. Fails if there is none, and if they have different event
/// IDs. Several sinks can have a dead letter with the same event ID.
fn unambiguous(
    id: &str,
    letters: Vec<QueuedDeadLetter>,
) -> Result<Vec<QueuedDeadLetter>, CommandFailure> {
    let ids: BTreeSet<[u8; 40]> = letters.iter().map(|letter| letter.event_id.hex()).collect();
    let explanation = match ids.len() {
        1 => return Ok(letters),
        0 => Explanation::new(format!("there is no dead letter `{id}`"))
            .with_hint("run `dead-letters list`"),
        several => Explanation::new(format!("`{id}` matches {several} dead letters"))
            .with_hint("pass more digits of the event ID"),
    };
    Err(CommandFailure::new(ExitCode::Usage, explanation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_prefix_in_hexadecimal() {
        assert_eq!(prefix("3F2a").as_deref(), Some("3f2a"));
        assert_eq!(prefix(&"a".repeat(40)).map(|id| id.len()), Some(40));
        for invalid in ["", "x", "3f 2a", "%", &"a".repeat(41)] {
            assert_eq!(prefix(invalid), None, "{invalid}");
        }
    }
}
