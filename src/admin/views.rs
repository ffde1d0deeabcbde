//! What is shown of each tenant's past: a month of its score, and what has changed lately. Read
//! anew only where the log has grown.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    clock,
    daemon::{Engine, Reporter},
    model::{Day, Severity},
    report::{ReportedChange, Row, Window},
};

/// By the tenant's name.
#[derive(Clone, Debug, Default)]
pub(super) struct Views(HashMap<String, Arc<View>>);

#[derive(Debug)]
pub(super) struct View {
    /// The log's end when this was read.
    end: u64,
    pub row: Row,
    /// Of the last week, the newest first.
    pub changes: Vec<ReportedChange>,
}

/// Days of a trend.
const DAYS: i32 = 30;
/// How far back changes are shown, and how many of a tenant's.
const RECENT: i32 = 7;
const CHANGES: usize = 25;

impl Views {
    pub(super) fn get(&self, tenant: &str) -> Option<&View> {
        self.0.get(tenant).map(Arc::as_ref)
    }

    /// The changes of all tenants, the newest first, those that matter most first within a day.
    pub(super) fn changes(&self, at_most: usize) -> Vec<(&str, &ReportedChange)> {
        let all = self.0.iter().flat_map(|(name, view)| {
            view.changes.iter().map(move |change| (name.as_str(), change))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|(a, x), (b, y)| {
            let of = |change: &ReportedChange| (change.day, change.severity);
            of(y).cmp(&of(x)).then_with(|| (a, &x.control).cmp(&(b, &y.control)))
        });
        all.truncate(at_most);
        all
    }

    /// Brings everything in step with the log.
    pub(super) fn follow(&mut self, engine: &Engine) -> Result<(), CheckpointError> {
        let checkpoint = Checkpoint::inspect(engine.checkpoint.directory())?;
        let ends = checkpoint.log_ends()?;
        let names: BTreeSet<&str> =
            engine.configuration.tenants.iter().map(|plan| plan.name.as_str()).collect();
        self.0.retain(|name, _| names.contains(name.as_str()));
        let today = Day::of(clock::now());
        let window = Window { first: today.plus(1 - DAYS), last: today };
        let mut reporter = Reporter::new(&checkpoint);
        for state in &engine.tenants {
            let Some(tenant) = state.resolved() else { continue };
            let Some(end) = ends.get(&tenant.id).copied() else { continue };
            if self.get(&tenant.name).is_some_and(|view| view.end == end) {
                continue;
            }
            let report = reporter.report(&tenant, &state.plan, window, false)?;
            let recent = report.changes.iter().filter(|change| {
                change.day > today.plus(-RECENT) && change.severity > Severity::Informational
            });
            let changes = recent.take(CHANGES).cloned().collect();
            let view = View { end, row: Row::of(&report), changes };
            self.0.insert(tenant.name.clone(), Arc::new(view));
        }
        Ok(())
    }
}
