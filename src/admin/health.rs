//! Classifies the health of tenants, sinks and the process. All functions are pure: they depend
//! only on their arguments, such as an [`Overview`]. See decision 0031.

use std::time::Duration;

use jiff::Timestamp;

use super::overview::{Overview, SinkLine, TenantLine};
use crate::{
    daemon::SinkState,
    model::{Day, UnixMillis},
};

/// The health of a tenant, a sink or the process, ordered from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Nothing failed, and no work is pending.
    Healthy,
    /// Work is pending, or a recent failure is being retried.
    Waiting,
    /// Needs an operator.
    Failing,
}

/// A tenant whose newest day is more than this many days old is behind. Microsoft publishes a day
/// during the following day, and the poll may run hours later.
const MAX_DAYS_BEHIND: i32 = 3;
/// A sink that retries is failing when it has had no acknowledgement for this time.
const MAX_RETRY: Duration = Duration::from_mins(15);

impl TenantLine {
    /// `Failing` if the newest day is more than [`MAX_DAYS_BEHIND`] days old, unless the tenant has
    /// never been polled. `Waiting` if only the last poll failed.
    pub(super) fn health(&self, today: Day) -> Health {
        let is_behind = self.status.newest_day.is_none_or(|day| day < today.plus(-MAX_DAYS_BEHIND));
        match (&self.status.last_error, is_behind) {
            (None, false) => Health::Healthy,
            (Some(_), false) => Health::Waiting,
            (None, true) if self.status.last_attempt.is_none() => Health::Waiting,
            (_, true) => Health::Failing,
        }
    }
}

impl SinkLine {
    /// `Failing` if the sink is parked, or if it retries and has had no acknowledgement for
    /// [`MAX_RETRY`] since `started`, the start of the process. `Healthy` without a backlog.
    pub(super) fn health(&self, started: Timestamp, now: Timestamp) -> Health {
        match self.state {
            SinkState::Parked => Health::Failing,
            _ if self.status.backlog == 0 => Health::Healthy,
            SinkState::Retrying => {
                let last = self.status.last_acknowledgement.unwrap_or_default();
                let since = last.max(started.into());
                if UnixMillis::from(now).saturating_duration_since(since) > MAX_RETRY {
                    Health::Failing
                } else {
                    Health::Waiting
                }
            }
            SinkState::Idle | SinkState::Working => Health::Waiting,
        }
    }
}

impl Overview {
    /// The worst health of all tenants, sinks and loops.
    pub(super) fn health(&self) -> Health {
        let tenants = self.tenants.iter().map(|tenant| tenant.health(self.today()));
        let sinks = self.sinks.iter().map(|sink| sink.health(self.started, self.now));
        let loops = if self.stalled.is_empty() { Health::Healthy } else { Health::Failing };
        tenants.chain(sinks).chain([loops]).max().unwrap_or(Health::Healthy)
    }

    /// Why this process is not ready: a stalled loop, a failing sink, or no tenant whose last poll
    /// succeeded. A single failing tenant does not make the process unready if others can be
    /// polled.
    pub(super) fn not_ready_reasons(&self) -> Vec<String> {
        let mut reasons = self.stalled.clone();

        for sink in &self.sinks {
            if sink.health(self.started, self.now) == Health::Failing {
                let name = &sink.status.name;
                let error = sink.status.last_error.as_ref();
                let why = error.map_or("no acknowledgement for 15 minutes", |e| &e.message);
                reasons.push(format!("sink `{name}`: {why}"));
            }
        }

        let failing = self.tenants.iter().filter(|tenant| tenant.status.last_error.is_some());
        if failing.count() == self.tenants.len()
            && let Some(first) = self.tenants.first()
        {
            let why = first.status.last_error.as_ref().map_or("", |error| &error.message);
            reasons.push(format!("no tenant can be polled; tenant `{}`: {why}", first.name));
        }
        reasons
    }

    /// The UTC day on which the state was read.
    pub(super) fn today(&self) -> Day {
        Day::of(self.now)
    }
}
