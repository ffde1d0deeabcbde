//! The requests to poll tenants now, which the commands `poll` and `backfill` send to the daemon.
//! `poll` respects a pause that the server requested with `Retry-After`: such a tenant is reported,
//! and not polled. Start reading at [`respond_to_poll`].

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::{
    Engine, Event, PollError, PollReport, RequestFailure, TenantState,
    control::send,
    once::{is_complete, poll_tenants},
};
use crate::{
    clock,
    error::Explanation,
    model::{DAYS_AT_SOURCE, Day, short_duration},
};

/// The result of a request to poll a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollOutcome {
    /// The tenant was polled.
    Polled(PollReport),
    /// The poll failed.
    Failed(Explanation),
    /// The tenant was not polled: the server has requested a pause.
    Paused {
        /// The rest of the pause, rounded up to whole seconds.
        rest: Duration,
    },
}

impl PollOutcome {
    /// The result of a poll that was carried out.
    pub fn of(result: &Result<PollReport, PollError>) -> Self {
        match result {
            Ok(report) => Self::Polled(report.clone()),
            Err(error) => Self::Failed(Explanation::of(error)),
        }
    }

    /// By how much the clock of this host differs from Microsoft's, if a poll has shown that.
    pub fn clock(&self) -> Option<&Explanation> {
        match self {
            Self::Polled(report) => report.clock.as_ref(),
            Self::Failed(_) | Self::Paused { .. } => None,
        }
    }

    /// Whether the tenant was polled and nothing is missing in the response.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Polled(report) if report.incomplete.is_none())
    }

    /// Why the tenant was not polled completely; `None` if it was.
    pub fn problem(&self) -> Option<Explanation> {
        match self {
            Self::Polled(report) => report.incomplete.clone(),
            Self::Failed(error) => Some(error.clone()),
            Self::Paused { rest } => {
                let rest = short_duration(*rest);
                let message = format!("not polled: Microsoft requested a pause of another {rest}");
                let hint = "wait: the daemon polls the tenant after the pause";
                Some(Explanation::new(message).with_hint(hint))
            }
        }
    }
}

/// Polls the tenants with these names, and sends an event for each of them as it finishes. Without
/// names, polls all tenants. Fails if the caller has disconnected.
pub(super) async fn respond_to_poll(
    engine: &Arc<Engine>,
    names: &[String],
    stream: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<()> {
    let selected = match selected(engine, names) {
        Ok(selected) => selected,
        Err(failure) => return send(stream, &Event::Error(failure)).await,
    };

    let is_ready = |state: &Arc<TenantState>| state.graph.paused_for().is_zero();
    let (ready, paused): (Vec<Arc<TenantState>>, Vec<Arc<TenantState>>) =
        selected.into_iter().partition(is_ready);
    for state in &paused {
        // The last second of a pause is not rounded down to zero.
        let rest = Duration::from_secs(state.graph.paused_for().as_secs().saturating_add(1));
        let outcome = PollOutcome::Paused { rest };
        send(stream, &Event::Polled { name: state.plan.name.clone(), outcome }).await?;
    }

    let failed = poll_and_report(engine, ready, None, stream).await?;
    let failed = failed.saturating_add(paused.len());
    send(stream, &Event::Done { failed }).await
}

/// Polls the tenants with these names back to a day, and sends an event for each of them as it
/// finishes. Without names, polls all tenants. Fails if the caller has disconnected.
pub(super) async fn respond_to_backfill(
    engine: &Arc<Engine>,
    first_day: Day,
    names: &[String],
    stream: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<()> {
    if let Some(reason) = why_not_kept(first_day, Day::of(clock::now())) {
        return send(stream, &Event::Error(RequestFailure::invalid(reason))).await;
    }
    let selected = match selected(engine, names) {
        Ok(selected) => selected,
        Err(failure) => return send(stream, &Event::Error(failure)).await,
    };

    let failed = poll_and_report(engine, selected, Some(first_day), stream).await?;
    send(stream, &Event::Done { failed }).await
}

/// Why no poll can read back to this day; `None` if Microsoft may keep it.
fn why_not_kept(first_day: Day, today: Day) -> Option<Explanation> {
    // The UTC day may have ended since the command computed its first day.
    if first_day >= today.oldest_possible_at_source() {
        return None;
    }

    let message =
        format!("cannot read back to `{first_day}`: Microsoft keeps {DAYS_AT_SOURCE} days");
    let hint = format!("request from 1 to {DAYS_AT_SOURCE} days");
    Some(Explanation::new(message).with_hint(hint))
}

/// The tenants with these names, or all tenants if there are no names. Fails if a tenant is
/// unknown.
fn selected(engine: &Engine, names: &[String]) -> Result<Vec<Arc<TenantState>>, RequestFailure> {
    if let Some(unknown) = names.iter().find(|name| engine.tenants().named(name).is_none()) {
        let reason = format!("the running configuration has no tenant `{unknown}`");
        let reason = Explanation::new(reason).with_hint("run `reload`");
        return Err(RequestFailure::invalid(reason));
    }
    let is_selected =
        |state: &&Arc<TenantState>| names.is_empty() || names.contains(&state.plan.name);
    Ok(engine.tenants().iter().filter(is_selected).cloned().collect())
}

/// Polls these tenants, and sends an event for each of them as it finishes. Returns the number of
/// polls that failed or are incomplete. Fails if the caller has disconnected.
async fn poll_and_report(
    engine: &Arc<Engine>,
    tenants: Vec<Arc<TenantState>>,
    back_to: Option<Day>,
    stream: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<usize> {
    let (sender, mut events) = mpsc::unbounded_channel();
    let polls = poll_tenants(engine, tenants, back_to, |name, result| {
        // Cannot fail: the receiver outlives this future.
        let outcome = PollOutcome::of(result);
        let _ = sender.send(Event::Polled { name: name.to_owned(), outcome });
    });

    let mut polls = std::pin::pin!(polls);
    let results = loop {
        tokio::select! {
            Some(event) = events.recv() => send(stream, &event).await?,
            results = &mut polls => break results,
        }
    };
    while let Ok(event) = events.try_recv() {
        send(stream, &event).await?;
    }
    Ok(results.iter().filter(|(_, result)| !is_complete(result)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_keep_their_form_in_json() {
        let report = PollReport { days: 2, newest: Day::from_number(0), ..PollReport::default() };
        let json = serde_json::to_string(&PollOutcome::Polled(report.clone())).unwrap();
        let expected = r#"{"polled":{"days":2,"revisions":0,"rejected":0,"held":0,"newest":"1970-01-01","incomplete":null}}"#;
        assert_eq!(json, expected);
        let read: PollOutcome = serde_json::from_str(expected).unwrap();
        assert_eq!(read, PollOutcome::Polled(report));
    }

    #[test]
    fn backfills_begin_with_a_kept_day() {
        let today = Day::parse("2026-11-22").unwrap();
        for days in [0, 89, 90] {
            assert_eq!(why_not_kept(today.plus(-days), today), None, "{days}");
        }
        let reason = why_not_kept(today.plus(-91), today).unwrap();
        assert_eq!(reason.message, "cannot read back to `2026-08-23`: Microsoft keeps 90 days");
    }

    #[test]
    fn every_incomplete_poll_has_a_reason() {
        let reason = Explanation::new("Microsoft returned a partial response");
        let report = PollReport { days: 1, ..PollReport::default() };
        let complete = PollOutcome::of(&Ok(report.clone()));
        assert!(complete.is_complete() && complete.problem().is_none());

        let partial = PollOutcome::of(&Ok(PollReport { incomplete: Some(reason), ..report }));
        let failed = PollOutcome::of(&Err(PollError::DiskFull));
        let paused = PollOutcome::Paused { rest: Duration::from_secs(750) };
        for (outcome, message) in [
            (partial, "Microsoft returned a partial response"),
            (failed, "the disk is nearly full: polling is paused; delivery continues"),
            (paused, "not polled: Microsoft requested a pause of another 12m30s"),
        ] {
            assert!(!outcome.is_complete());
            assert_eq!(outcome.problem().unwrap().message, message);
        }
    }
}
