//! What is well and what is not, from what is known. Pure.

use jiff::Timestamp;

use super::overview::{Overview, SinkLine, TenantLine};
use crate::{daemon::SinkState, model::Day};

/// How much something wants a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Well,
    /// Passes by itself, or has only just begun.
    Waiting,
    Unwell,
}

/// Microsoft publishes a day during the next one, and the poll has its hour: a tenant whose newest
/// day is older than this is behind.
const BEHIND: i32 = 3;
/// Nothing proven for so long, with a backlog, is no hiccup.
const HICCUP_MS: i64 = 15 * 60 * 1_000;

impl TenantLine {
    pub(super) fn level(&self, today: Day) -> Level {
        let behind = self.status.newest_day.is_none_or(|day| day < today.plus(-BEHIND));
        match (&self.status.last_error, behind) {
            (None, false) => Level::Well,
            (Some(_), false) => Level::Waiting,
            (None, true) if self.status.last_attempt_ms.is_none() => Level::Waiting,
            (_, true) => Level::Unwell,
        }
    }
}

impl SinkLine {
    pub(super) fn level(&self, started: Timestamp, now: Timestamp) -> Level {
        match self.state {
            SinkState::Parked => Level::Unwell,
            _ if self.status.backlog == 0 => Level::Well,
            SinkState::Retrying => {
                let since =
                    self.status.last_acknowledgement_ms.unwrap_or(0).max(started.as_millisecond());
                if now.as_millisecond() - since > HICCUP_MS {
                    Level::Unwell
                } else {
                    Level::Waiting
                }
            }
            SinkState::Idle | SinkState::Working => Level::Waiting,
        }
    }
}

impl Overview {
    /// The worst of all.
    pub(super) fn level(&self) -> Level {
        let tenants = self.tenants.iter().map(|tenant| tenant.level(self.today()));
        let sinks = self.sinks.iter().map(|sink| sink.level(self.started, self.now));
        let stalled = if self.stalled.is_empty() { Level::Well } else { Level::Unwell };
        tenants.chain(sinks).chain([stalled]).max().unwrap_or(Level::Well)
    }

    /// Why this process does not get on, if it does not: a loop that hangs, a sink that nothing
    /// arrives at, no tenant that can be read.
    pub(super) fn hindrances(&self) -> Vec<String> {
        let mut hindrances = self.stalled.clone();
        for sink in &self.sinks {
            if sink.level(self.started, self.now) == Level::Unwell {
                let name = &sink.status.name;
                let why = sink
                    .status
                    .last_error
                    .as_ref()
                    .map_or("nothing arrives", |error| &error.message);
                hindrances.push(format!("sink `{name}`: {why}"));
            }
        }
        let failing = self.tenants.iter().filter(|tenant| tenant.status.last_error.is_some());
        if failing.count() == self.tenants.len()
            && let Some(first) = self.tenants.first()
        {
            let why = first.status.last_error.as_ref().map_or("", |error| &error.message);
            hindrances.push(format!("no tenant can be read; `{}`: {why}", first.name));
        }
        hindrances
    }

    pub(super) fn today(&self) -> Day {
        Day::of(self.now)
    }
}
