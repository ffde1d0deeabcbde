//! What systemd is told: that we are ready, what is going on, and that we get on.
//!
//! `Type=notify` as of systemd 252: `sd_notify(3)`. Without systemd there is nobody to tell.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::watch, task::block_in_place, time};

use super::{Engine, SinkState, TenantState};
use crate::error::chain;

/// How often the sentence of `systemctl status` is renewed, if it has changed.
const RENEWED: Duration = Duration::from_secs(15);

pub(super) fn ready(engine: &Engine) {
    let sentence = sentence(engine, true).unwrap_or_default();
    notify(&[NotifyState::Ready, NotifyState::Status(&sentence)]);
}

/// The new configuration has a fault: as before, and that is said until something changes.
pub(super) fn refused(engine: &Engine) {
    let before = sentence(engine, true).unwrap_or_default();
    let sentence = format!("The new configuration is refused, the log says why; {before}");
    notify(&[NotifyState::Ready, NotifyState::Status(&sentence)]);
}

pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Feeds the watchdog while scheduler and deliverers get on, and keeps the sentence up to date.
pub(super) async fn notify_systemd(current: watch::Receiver<Arc<Engine>>) {
    let watchdog = sd_notify::watchdog_enabled();
    let mut every = time::interval(watchdog.map_or(RENEWED, |limit| (limit / 3).min(RENEWED)));
    every.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        every.tick().await;
        let engine = current.borrow().clone();
        let stalled = engine.meters.stalled();
        if stalled.is_empty() && watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
        for what in &stalled {
            tracing::error!(what, "no progress: the watchdog is not fed");
        }
        let Some(sentence) = sentence(&engine, false) else { continue };
        if sentence != said {
            notify(&[NotifyState::Status(&sentence)]);
            said = sentence;
        }
    }
}

/// What is going on, in a sentence; `None` if the checkpoint is busy, and this is not to `wait`: who
/// feeds the watchdog does not.
fn sentence(engine: &Engine, wait: bool) -> Option<String> {
    let outline = match block_in_place(|| engine.checkpoint.outline(wait)) {
        Ok(outline) => outline?,
        Err(error) => return Some(format!("The checkpoint cannot be read: {}", chain(&error))),
    };
    let tenants = engine.tenants.len();
    let is_failing = |state: &&TenantState| match state.resolved() {
        Some(tenant) => outline.failing.contains(&tenant.id),
        None => state.resolution_failure().is_some(),
    };
    let failing = engine.tenants.iter().filter(is_failing).count();
    let newest = outline
        .newest_day
        .map_or_else(|| "No day yet".to_owned(), |day| format!("Newest day {day}"));
    let read = match failing {
        0 => format!("{tenants} of {tenants} tenants"),
        failing => format!("{} of {tenants} tenants, {failing} cannot be read", tenants - failing),
    };
    let meters = engine.meters.sinks();
    let states: Vec<(&str, SinkState)> = engine
        .sinks()
        .filter_map(|sink| Some((sink.name.as_str(), meters.get(&sink.name)?.state())))
        .collect();
    let of = |wanted: SinkState| -> Vec<&str> {
        states.iter().filter(|(_, state)| *state == wanted).map(|(name, _)| *name).collect()
    };
    let mut parts = vec![newest, read];
    for (state, words) in [
        (SinkState::Parked, "parked"),
        (SinkState::Retrying, "failing"),
        (SinkState::Working, "delivering"),
    ] {
        let names = of(state);
        if !names.is_empty() {
            parts.push(format!("{words}: {}", names.join(", ")));
        }
    }
    let idle = of(SinkState::Idle).len();
    parts.push(format!("{idle} of {} sinks up to date", engine.sinks().count()));
    Some(parts.join("; "))
}

fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
