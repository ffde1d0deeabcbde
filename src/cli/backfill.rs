//! `backfill`: read days back, through a running daemon or on our own.

use std::{io::IsTerminal, path::Path};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    Exit, Failed, act_as_owner, args, block_on, count, load, once::say_report, say, say_explained,
};
use crate::{
    clock,
    config::Configuration,
    daemon::{self, Engine, Event, OnceReport, Request},
    error::chain,
    model::Day,
};

pub(super) fn backfill(config: &Path, args: &args::Backfill) -> Result<Exit, Failed> {
    let configuration = Configuration::load(config)?;
    if let Some(name) = &args.tenant
        && !configuration.tenants.iter().any(|tenant| tenant.name == *name)
    {
        return Err(super::no_tenant(&configuration, name));
    }
    match super::holder_of(&configuration.state_directory) {
        Some(holder) => through_daemon(&configuration, &holder, args),
        None => alone(config, args),
    }
}

/// The daemon does the work, and delivers what it brings by itself.
fn through_daemon(
    configuration: &Configuration,
    holder: &crate::checkpoint::Holder,
    args: &args::Backfill,
) -> Result<Exit, Failed> {
    let socket = super::socket_of(holder)?;
    let bar = progress(if args.tenant.is_some() { 1 } else { configuration.tenants.len() as u64 });
    let request = Request::Backfill { days: args.days, tenant: args.tenant.clone() };
    let end = daemon::send_request(socket, &request, |event| {
        if let Event::Tenant { name, days, error } = event {
            bar.suspend(|| match error {
                None => say(&format!("tenant {name}: {}", count(*days as u64, "new day"))),
                Some(error) => say_explained(&error.clone().within(&format!("tenant {name}"))),
            });
            bar.inc(1);
        }
    });
    bar.finish_and_clear();
    match end {
        Ok(Event::Done { failed: 0 }) => Ok(Exit::Done),
        Ok(Event::Error(message)) => Err(Failed::new(Exit::Usage, message)),
        Ok(_) => Ok(Exit::Incomplete),
        Err(error) => Err(Failed::new(
            Exit::Incomplete,
            format!("the daemon does not answer: {}", chain(&error)),
        )),
    }
}

fn alone(config: &Path, args: &args::Backfill) -> Result<Exit, Failed> {
    let configuration = load(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    let bar = progress(if args.tenant.is_some() { 1 } else { engine.tenants.len() as u64 });
    let back_to = Day::of(clock::now()).plus(1 - args.days);
    let polls =
        block_on(daemon::backfill(&engine, Some(back_to), args.tenant.as_deref(), |_, _| {
            bar.inc(1);
        }))?;
    bar.finish_and_clear();
    let report = OnceReport { polls, sinks: Vec::new() };
    say_report(&report);
    Ok(if report.is_complete() { Exit::Done } else { Exit::Incomplete })
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn progress(tenants: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(tenants), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tenants, {elapsed}");
    let bar = ProgressBar::new(tenants)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
