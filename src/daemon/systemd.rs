//! Notifications to systemd: readiness, reloads, the watchdog, and the status line that
//! `systemctl status` shows.
//!
//! Implements the service's side of `Type=notify` and `Type=notify-reload`, as described in
//! `sd_notify(3)` of systemd 252. Without systemd, all functions do nothing. See decision 0031.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::watch, task::block_in_place, time};

use super::{Engine, SinkState, TenantState};
use crate::{checkpoint::WhenBusy, error::chain};

/// The interval at which the status line is compared with the last one that was sent.
const STATUS_INTERVAL: Duration = Duration::from_secs(15);

/// Reports that the daemon is ready, after its start or at the end of a reload.
pub(super) fn ready(engine: &Engine) {
    let status = status_line(engine, WhenBusy::Wait).unwrap_or_default();
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Reports the end of a reload whose configuration was rejected. The status line shows the
/// rejection until it changes for another reason.
pub(super) fn rejected(engine: &Engine) {
    let status = status_line(engine, WhenBusy::Wait).unwrap_or_default();
    let status = format!("new configuration rejected, see the log; {status}");
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Reports the beginning of a reload, with the monotonic time that `Type=notify-reload` requires.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Reports that the daemon is stopping.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Notifies the watchdog while all loops make progress, and updates the status line. Never returns.
pub(super) async fn notify_systemd(current: watch::Receiver<Arc<Engine>>) {
    let watchdog = sd_notify::watchdog_enabled();
    let interval = watchdog.map_or(STATUS_INTERVAL, |limit| (limit / 3).min(STATUS_INTERVAL));
    let mut interval = time::interval(interval);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);

    let mut last_status = String::new();
    loop {
        interval.tick().await;
        let engine = current.borrow().clone();

        let stalled = engine.meters.stalled();
        if stalled.is_empty() && watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
        for what in &stalled {
            tracing::error!(what, "a loop makes no progress; the watchdog is not notified");
        }

        // This task must not wait for the checkpoint: a long write would look like a stalled loop.
        let Some(status) = status_line(&engine, WhenBusy::Skip) else { continue };
        if status != last_status {
            notify(&[NotifyState::Status(&status)]);
            last_status = status;
        }
    }
}

/// One line about the newest day, the tenants and the sinks; `None` if the checkpoint is busy and
/// the caller does not wait.
fn status_line(engine: &Engine, when_busy: WhenBusy) -> Option<String> {
    let summary = match block_in_place(|| engine.checkpoint.status_summary(when_busy)) {
        Ok(summary) => summary?,
        Err(error) => return Some(format!("cannot read the checkpoint: {}", chain(&error))),
    };

    let newest = summary
        .newest_day
        .map_or_else(|| "no day yet".to_owned(), |day| format!("newest day {day}"));
    let is_failing = |state: &&TenantState| match state.resolved() {
        Some(tenant) => summary.failing.contains(&tenant.id),
        None => state.resolution_failure().is_some(),
    };
    let tenants = engine.tenants.len();
    let failing = engine.tenants.iter().filter(is_failing).count();
    let healthy = format!("{} of {tenants} tenants without errors", tenants - failing);
    let mut parts = vec![newest, healthy];

    let meters = engine.meters.sinks();
    let states: Vec<(&str, SinkState)> = engine
        .sinks()
        .filter_map(|sink| Some((sink.name.as_str(), meters.get(&sink.name)?.state())))
        .collect();
    let names = |selected: SinkState| -> Vec<&str> {
        states.iter().filter(|(_, state)| *state == selected).map(|(name, _)| *name).collect()
    };
    for (state, label) in [
        (SinkState::Parked, "parked"),
        (SinkState::Retrying, "failing"),
        (SinkState::Working, "delivering"),
    ] {
        let names = names(state);
        if !names.is_empty() {
            parts.push(format!("{label}: {}", names.join(", ")));
        }
    }
    let idle = names(SinkState::Idle).len();
    parts.push(format!("{idle} of {} sinks up to date", engine.sinks().count()));

    Some(parts.join("; "))
}

/// Sends a notification. An error means that no process is listening, so it is ignored.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
