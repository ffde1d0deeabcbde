//! `backfill`: reads older days into the checkpoint, through the daemon if one is running. Without
//! a daemon, the command polls in its own process and delivers nothing: the days are sent after the
//! next start of the daemon. Start reading at `backfill_through_daemon` and
//! `backfill_without_daemon`.

use std::{io::IsTerminal, path::Path, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    CommandFailure, ExitCode, act_as_owner, args, block_on,
    daemon_client::{request_with_progress, unexpected_response},
    load_with_secrets, lock_holder,
    once::{print_poll, print_report},
    selection::check_tenant,
};
use crate::{
    checkpoint::Holder,
    clock,
    config::Configuration,
    daemon::{self, Engine, Event, OnceReport, Request},
    model::Day,
};

/// Runs the command. Returns `Incomplete` if a poll failed or its response is partial. Fails if the
/// tenant is not configured, or if the daemon does not respond.
pub(super) fn backfill(config: &Path, args: &args::Backfill) -> Result<ExitCode, CommandFailure> {
    let configuration = Configuration::load(config)?;
    check_tenant(&configuration, args.tenant.as_deref())?;
    match lock_holder(&configuration.state_directory) {
        Some(holder) => backfill_through_daemon(&configuration, &holder, args),
        None => backfill_without_daemon(config, args),
    }
}

/// Requests the days from the daemon, and prints its progress. The deliverers of the daemon send
/// the days.
fn backfill_through_daemon(
    configuration: &Configuration,
    holder: &Holder,
    args: &args::Backfill,
) -> Result<ExitCode, CommandFailure> {
    let bar =
        progress_bar(if args.tenant.is_some() { 1 } else { configuration.tenants.len() as u64 });
    let request = Request::Backfill { first_day: first_day(args), tenant: args.tenant.clone() };

    let response = request_with_progress(holder, &request, |event| {
        if let Event::Polled { name, outcome } = event {
            bar.suspend(|| print_poll(name, outcome));
            bar.inc(1);
        }
    });
    bar.finish_and_clear();

    match response? {
        Event::Done { failed: 0 } => Ok(ExitCode::Done),
        Event::Done { .. } => Ok(ExitCode::Incomplete),
        _ => Err(unexpected_response()),
    }
}

fn backfill_without_daemon(
    config: &Path,
    args: &args::Backfill,
) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;

    let bar = progress_bar(if args.tenant.is_some() { 1 } else { engine.tenants.len() as u64 });
    let first = Some(first_day(args));
    let polls = block_on(daemon::backfill(&engine, first, args.tenant.as_deref(), |_, _| {
        bar.inc(1);
    }))?;
    bar.finish_and_clear();

    let report = OnceReport { polls, sinks: Vec::new() };
    print_report(&report);
    Ok(if report.is_complete() { ExitCode::Done } else { ExitCode::Incomplete })
}

/// The first of the days to read, which include today.
fn first_day(args: &args::Backfill) -> Day {
    Day::of(clock::now()).plus(1 - args.days)
}

/// A progress bar that counts tenants; hidden if standard error is not a terminal.
pub(super) fn progress_bar(tenants: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(tenants), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tenants, {elapsed}");
    let bar = ProgressBar::new(tenants)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
