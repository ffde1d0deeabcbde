//! `replay`: days, or dead letters, once more to one sink.

use std::path::Path;

use super::{Exit, Failed, act_as_owner, args, block_on, count, load, say};
use crate::{
    config::Configuration,
    daemon::{self, Engine, Event, ReplayError, ReplaySelection, Request},
    error::chain,
    model::Day,
};

pub(super) fn replay(config: &Path, args: &args::Replay) -> Result<Exit, Failed> {
    let configuration = Configuration::load(config)?;
    if !configuration.sinks.iter().any(|sink| sink.name == args.sink) {
        return Err(super::no_sink(&configuration, &args.sink));
    }
    let again = wanted(args)?;
    match super::holder_of(&configuration.state_directory) {
        Some(holder) => {
            let request = Request::Replay { sink: args.sink.clone(), selection: again };
            match daemon::send_request(super::socket_of(&holder)?, &request, |_| {})? {
                Event::Queued { entries } => {
                    let progress = if entries > 0 { "; `status` shows how far it is" } else { "" };
                    say(&format!("{}{progress}", queued(again, entries)));
                    Ok(Exit::Done)
                }
                Event::Error(message) => Err(Failed::new(Exit::Usage, message)),
                _ => Ok(Exit::Incomplete),
            }
        }
        None => alone(config, &args.sink, again),
    }
}

fn wanted(args: &args::Replay) -> Result<ReplaySelection, Failed> {
    if args.rejected {
        return Ok(ReplaySelection::DeadLetters);
    }
    let first = args.from.ok_or_else(|| usage("say from which day, or --rejected"))?;
    let last = args.to.unwrap_or_else(|| Day::of(crate::clock::now()));
    if first > last {
        return Err(usage("`--from` is after `--to`"));
    }
    Ok(ReplaySelection::Days(first.number(), last.number()))
}

fn alone(config: &Path, sink: &str, again: ReplaySelection) -> Result<Exit, Failed> {
    let configuration = load(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    block_on(async {
        let entries = engine.replay(sink, again).map_err(|error| match error {
            ReplayError::Checkpoint(error) => error.into(),
            other => usage(&chain(&other)),
        })?;
        say(&queued(again, entries));
        match daemon::deliver_queued(&engine, sink).await {
            Ok(records) => {
                say(&format!("sink {sink}: {} delivered", count(records, "record")));
                Ok(Exit::Done)
            }
            Err(stopped) => {
                say(&format!("sink {sink}: {}", chain(&stopped)));
                Ok(Exit::Incomplete)
            }
        }
    })?
}

fn queued(again: ReplaySelection, entries: u64) -> String {
    let noun = match again {
        ReplaySelection::Days(..) => "day",
        ReplaySelection::DeadLetters => "dead letter",
    };
    match entries {
        0 => format!("the checkpoint has no {noun} like that for this sink: nothing is sent again"),
        _ => format!("{} to be sent again", count(entries, noun)),
    }
}

fn usage(message: &str) -> Failed {
    Failed::new(Exit::Usage, message.to_owned())
}
