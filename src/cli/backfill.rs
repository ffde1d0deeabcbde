//! `backfill`: reads older days into the checkpoint, through the daemon if one is running. Without
//! a daemon, the command polls in its own process and delivers nothing: the days are sent after the
//! next start of the daemon. Start reading at `backfill_through_daemon` and
//! `backfill_without_daemon`.

use std::{io::IsTerminal, path::Path, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    CommandFailure, ExitCode, act_as_owner, args, block_on, control_socket, count,
    load_with_secrets, lock_holder, once::print_report, print_explanation, print_message,
    unknown_tenant,
};
use crate::{
    checkpoint::Holder,
    clock,
    config::Configuration,
    daemon::{self, Engine, Event, OnceReport, Request},
    error::chain,
    model::Day,
};

/// Runs the command. Returns `Incomplete` if a poll failed or its response is partial. Fails if the
/// tenant is not configured, or if the daemon does not respond.
pub(super) fn backfill(config: &Path, args: &args::Backfill) -> Result<ExitCode, CommandFailure> {
    let configuration = Configuration::load(config)?;
    if let Some(name) = &args.tenant
        && !configuration.tenants.iter().any(|tenant| tenant.name == *name)
    {
        return Err(unknown_tenant(&configuration, name));
    }

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
    let socket = control_socket(holder)?;
    let bar =
        progress_bar(if args.tenant.is_some() { 1 } else { configuration.tenants.len() as u64 });
    let request = Request::Backfill { days: args.days, tenant: args.tenant.clone() };

    let end = daemon::send_request(socket, &request, |event| {
        if let Event::Tenant { name, days, error } = event {
            bar.suspend(|| match error {
                None => {
                    print_message(&format!("tenant `{name}`: {}", count(*days as u64, "new day")));
                }
                Some(error) => {
                    print_explanation(&error.clone().within(&format!("tenant `{name}`")));
                }
            });
            bar.inc(1);
        }
    });
    bar.finish_and_clear();

    match end {
        Ok(Event::Done { failed: 0 }) => Ok(ExitCode::Done),
        Ok(Event::Error(message)) => Err(CommandFailure::new(ExitCode::Usage, message)),
        Ok(_) => Ok(ExitCode::Incomplete),
        Err(error) => Err(CommandFailure::new(
            ExitCode::Incomplete,
            format!("no response from the daemon: {}", chain(&error)),
        )),
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
    let first = Day::of(clock::now()).plus(1 - args.days);
    let polls =
        block_on(daemon::backfill(&engine, Some(first), args.tenant.as_deref(), |_, _| {
            bar.inc(1);
        }))?;
    bar.finish_and_clear();

    let report = OnceReport { polls, sinks: Vec::new() };
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
