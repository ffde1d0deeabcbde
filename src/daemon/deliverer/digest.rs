//! Digests: a sink with the key `digest` delivers only when a digest is due, and then everything
//! that is unsent.
//!
//! Nothing else differs from other sinks: the cursors move when the receiver has acknowledged the
//! message, so a digest that could not be sent stays due, also after a restart. The time of the
//! last digest is the mark of the sink. Start reading at [`Deliverer::wait_until_due`]. See
//! decision 0052.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError};
use crate::{
    checkpoint::CheckpointError,
    clock,
    daemon::{Reporter, blocking},
    error::chain,
    model::{Day, UnixMillis},
    report::{Detail, Format, Overview, Row, Window},
    sink::Attachment,
    text::minute,
};

/// The longest time between two checks, because the clock can be set and the host suspended.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// The number of days that an attached report covers.
const REPORT_DAYS: i32 = 30;

impl Deliverer {
    /// Returns when the sink may deliver: immediately, unless it sends digests. Returns the time up
    /// to which the delivery counts as the digest; see [`Self::complete_digest`].
    pub(super) async fn wait_until_due(&mut self) -> Timestamp {
        while !self.is_due() {
            // Nothing is sent for hours or days.
            if self.sink.is_some() {
                self.release_resources().await;
            }
            tokio::time::sleep(self.time_to_next_check()).await;
        }
        clock::now()
    }

    /// Delivers everything as [`Self::run_once`] does, unless the sink sends digests and none is
    /// due.
    pub async fn run_once_if_due(
        &mut self,
        cancel: &CancellationToken,
    ) -> Result<(), DeliveryError> {
        if self.is_due() { self.run_once(cancel).await } else { Ok(()) }
    }

    /// Whether the sink may deliver now.
    fn is_due(&self) -> bool {
        let Some(schedule) = &self.plan.digest else { return true };
        let now = clock::now();
        match blocking(|| self.last_digest(now)) {
            Ok(last) => schedule.is_due(last, now),
            // The delivery that follows fails for the same reason, and reports it.
            Err(_) => true,
        }
    }

    /// The time of the last digest. For a new sink, and after the clock was set back, it is `now`,
    /// which is stored: the first digest is sent at the next time of the schedule.
    fn last_digest(&self, now: Timestamp) -> Result<Timestamp, CheckpointError> {
        let stored = self.engine.store().checkpoint().mark(&self.plan.name)?;
        if let Some(last) = stored.as_deref().and_then(time_of_mark).filter(|last| *last <= now) {
            return Ok(last);
        }
        self.engine.store().checkpoint().set_mark(&self.plan.name, &mark_of_time(now))?;
        Ok(now)
    }

    /// Stores that the digest that was due at this time was delivered, or had nothing to deliver.
    pub(super) fn complete_digest(&self, time: Timestamp) {
        if self.plan.digest.is_none() {
            return;
        }
        let mark = mark_of_time(time);
        let store = self.engine.store();
        let stored = store.run(|checkpoint| checkpoint.set_mark(&self.plan.name, &mark));
        if let Err(error) = stored {
            tracing::warn!(
                sink = self.plan.name.as_str(),
                error = chain(&error),
                "cannot store the time of the digest; the next records are sent early"
            );
        }
    }

    fn time_to_next_check(&self) -> Duration {
        let now = clock::now();
        let next = self.plan.digest.as_ref().and_then(|schedule| schedule.next(now));
        let left = next
            .map(|next| UnixMillis::from(next).saturating_duration_since(UnixMillis::from(now)));
        // Both times are rounded down to milliseconds.
        left.map_or(MAX_WAIT, |left| (left + Duration::from_millis(1)).min(MAX_WAIT))
    }

    /// The report of the sink's tenants, as an HTML page: with all details for a single tenant, or
    /// the overview of several. `None` if no tenant has been polled yet.
    pub(super) fn report(&self) -> Result<Option<Attachment>, CheckpointError> {
        let now = clock::now();
        let last = Day::of(now);
        let window = Window { first: last.plus(1 - REPORT_DAYS), last };
        let generated = minute(now);

        let states = self.engine.tenants().iter();
        let selected = states.filter(|state| self.plan.tenants.matches(&state.plan));
        let tenants: Vec<_> =
            selected.filter_map(|state| Some((&state.plan, state.resolved()?))).collect();
        let mut reporter = Reporter::new(self.engine.store().checkpoint());
        let content = match tenants.as_slice() {
            [] => return Ok(None),
            [(plan, tenant)] => {
                let report = reporter.report(tenant, plan, window, Detail::Page)?;
                report.write(Format::Html, &generated)
            }
            several => {
                let mut rows = Vec::with_capacity(several.len());
                for (plan, tenant) in several {
                    let report = reporter.report(tenant, plan, window, Detail::ComparedRow)?;
                    rows.push(Row::of(&report));
                    // With many tenants, this loop takes minutes.
                    self.engine.meters().progress(&self.meter);
                }
                Overview::new(rows, window).write(Format::Html, &generated)
            }
        };

        Ok(Some(Attachment { name: format!("secure-score-{last}.html"), content }))
    }
}

/// The mark of a sink that sends digests: a time in milliseconds since 1970, in decimal.
fn mark_of_time(time: Timestamp) -> Vec<u8> {
    UnixMillis::from(time).as_i64().to_string().into_bytes()
}

/// `None` for the mark of a sink of another type, or without digests.
fn time_of_mark(mark: &[u8]) -> Option<Timestamp> {
    let milliseconds = std::str::from_utf8(mark).ok()?.parse().ok()?;
    Some(UnixMillis::new(milliseconds).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_round_trip_and_others_are_ignored() {
        let time: Timestamp = "2026-11-23T08:00:00.123Z".parse().unwrap();
        assert_eq!(time_of_mark(&mark_of_time(time)), Some(time));
        for mark in [&b""[..], b"{\"length\":7}", b"\xff", b"12 "] {
            assert_eq!(time_of_mark(mark), None);
        }
    }
}
