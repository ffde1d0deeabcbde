//! Notifications to systemd: readiness, reloads, the watchdog, and the status line that
//! `systemctl status` shows.
//!
//! Implements the service's side of `Type=notify` and `Type=notify-reload`, as described in
//! `sd_notify(3)` of systemd 252. Without systemd, all functions do nothing. See decision 0031.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::watch, time};

use super::{CurrentStatus, DaemonState, Engine, blocking, self_report::ReportOutcome};
use crate::{
    checkpoint::{Checkpoint, StatusDetail},
    clock,
    conditions::{self, Counts},
    error::chain,
    foreign_text::ForeignText,
};

/// The longest interval between two notifications of the watchdog.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(15);
/// The interval at which the status line is compared with the last one that was sent.
const STATUS_INTERVAL: Duration = Duration::from_secs(30);

/// Reports that the daemon is ready: after its start, or at the end of a reload, whether its
/// configuration was accepted or not.
pub(super) fn ready(engine: &Engine) {
    notify(&[NotifyState::Ready, NotifyState::Status(&status_line(engine))]);
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

/// Notifies the watchdog while all loops make progress. Never returns.
pub(super) async fn notify_watchdog(current: watch::Receiver<Arc<Engine>>) {
    let watchdog = sd_notify::watchdog_enabled();
    let interval = watchdog.map_or(WATCHDOG_INTERVAL, |limit| (limit / 3).min(WATCHDOG_INTERVAL));
    let mut interval = time::interval(interval);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);

    loop {
        interval.tick().await;
        let stalled = current.borrow().meters().stalled();
        if stalled.is_empty() && watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
        for what in &stalled {
            tracing::error!(what, "a loop makes no progress; the watchdog is not notified");
        }
    }
}

/// Updates the status line, and stores which loops are stalled. This is a separate task, because
/// the checkpoint must not delay the watchdog. Never returns.
pub(super) async fn update_status_line(current: watch::Receiver<Arc<Engine>>) {
    let mut interval = time::interval(STATUS_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);

    let mut last_status = String::new();
    let mut stored = None;
    loop {
        interval.tick().await;
        let engine = current.borrow().clone();

        // A failed attempt, and a report that a reload has overtaken, are repeated at the next
        // tick.
        let report = engine.self_report().current();
        if stored.as_ref() != Some(&report)
            && engine.self_report().store(&report) == ReportOutcome::Stored
        {
            stored = Some(report);
        }
        let status = status_line(&engine);
        if status != last_status {
            notify(&[NotifyState::Status(&status)]);
            last_status = status;
        }
    }
}

/// The summary as one line. A line break in it would add a variable to the notification, and
/// `systemctl status` shows it on a terminal.
fn status_line(engine: &Engine) -> String {
    ForeignText::new(&summary(engine)).escaped().into_owned()
}

/// The newest day, and the conditions of the daemon.
fn summary(engine: &Engine) -> String {
    let read = blocking(|| {
        let checkpoint =
            Checkpoint::open_read_only(engine.store().checkpoint().state_directory().path())?;
        let daemon = DaemonState::Here(engine);
        let detail = StatusDetail::Summary;
        CurrentStatus::read(engine.configuration(), &checkpoint, detail, daemon, clock::now())
    });
    let CurrentStatus { facts, conditions, .. } = match read {
        Ok(current) => current,
        Err(error) => return format!("cannot read the checkpoint: {}", chain(&error)),
    };

    let newest = facts.tenants.iter().filter_map(|tenant| tenant.newest_day).max();
    let newest =
        newest.map_or_else(|| "no day yet".to_owned(), |day| format!("newest day `{day}`"));
    format!("{}; {newest}", conditions::status_line(Counts::of(&facts, &conditions), &conditions))
}

/// Sends a notification. An error means that no process is listening, so it is ignored.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
