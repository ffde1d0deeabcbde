//! `backfill`: reads older days into the checkpoint, through the daemon if one is running. Without
//! a daemon, the command polls in its own process and delivers nothing: the days are sent after the
//! next start of the daemon. Start reading at `backfill_through_daemon` and
//! `backfill_without_daemon`.

use std::{io::IsTerminal, path::Path, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    CommandFailure, ExitCode, args, block_on, load_with_secrets, lock_holder, once::print_report,
    poll::request_polls, selection::selected_names,
};
use crate::{
    clock,
    config::Configuration,
    daemon::{self, Engine, OnceReport, Request},
    model::Day,
    state_directory::Holder,
};

/// Runs the command. Returns `Incomplete` if a poll failed or its response is partial. Fails if a
/// pattern matches no tenant, or if the daemon does not respond.
pub(super) fn backfill(config: &Path, args: &args::Backfill) -> Result<ExitCode, CommandFailure> {
    let configuration = Configuration::load(config)?;
    let names = selected_names(&configuration, &args.tenant)?;
    let tenants = if names.is_empty() { configuration.tenants.len() } else { names.len() };
    let first_day = Day::of(clock::now()).plus(1 - args.days);
    match lock_holder(&configuration.state_directory) {
        Some(holder) => {
            let request = Request::Backfill { first_day, tenants: names };
            backfill_through_daemon(&configuration, &holder, &request, tenants)
        }
        None => backfill_without_daemon(config, first_day, &names, tenants),
    }
}

/// Requests the days from the daemon, and prints the results. The deliverers of the daemon send the
/// days.
fn backfill_through_daemon(
    configuration: &Configuration,
    holder: &Holder,
    request: &Request,
    tenants: usize,
) -> Result<ExitCode, CommandFailure> {
    let results = request_polls(configuration, holder, request, tenants)?;
    Ok(if results.is_complete() { ExitCode::Done } else { ExitCode::Incomplete })
}

fn backfill_without_daemon(
    config: &Path,
    first_day: Day,
    names: &[String],
    tenants: usize,
) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    let engine = Engine::build(configuration)?;

    let bar = progress_bar(tenants as u64);
    let backfill = daemon::backfill(&engine, Some(first_day), names, |_, _| bar.inc(1));
    let polls = block_on(backfill)?;
    bar.finish_and_clear();

    let report = OnceReport { polls, ..OnceReport::default() };
    print_report(&report);
    Ok(if report.is_complete() { ExitCode::Done } else { ExitCode::Incomplete })
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
