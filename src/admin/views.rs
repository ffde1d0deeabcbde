//! The part of each tenant's history that the status page shows: the scores of a month and the
//! changes of a week.
//!
//! It is read again only for tenants whose log has grown, and never by a request, because it takes
//! much longer than the rest of the page. Start reading at [`Views::update`].

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    clock,
    daemon::{ContainedTask, Engine, Reporter, contained, report_panic},
    model::{Day, Seq, Severity},
    report::{Detail, Report, ReportedChange, Row, Window},
};

/// The views of all tenants by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Views(HashMap<String, Arc<TenantView>>);

/// What the status page shows of one tenant's history.
#[derive(Debug)]
pub(super) struct TenantView {
    /// The next entry of the tenant's log when the view was read.
    end: Seq,
    /// The row of the overview, computed over the last [`TREND_DAYS`] days.
    pub row: Row,
    /// The newest change first.
    pub changes: Vec<ReportedChange>,
}

/// The number of days of the score trend.
const TREND_DAYS: i32 = 30;
/// The number of days whose changes are shown, and the maximum number of changes per tenant.
const CHANGE_DAYS: i32 = 7;
const MAX_CHANGES: usize = 25;

impl Views {
    /// The view of the tenant with this name; `None` until an entry of its log has been read.
    pub(super) fn get(&self, tenant: &str) -> Option<&TenantView> {
        self.0.get(tenant).map(Arc::as_ref)
    }

    /// The newest changes of all tenants; within a day, the most severe change first.
    pub(super) fn changes(&self, limit: usize) -> Vec<(&str, &ReportedChange)> {
        let all = self.0.iter().flat_map(|(name, view)| {
            view.changes.iter().map(move |change| (name.as_str(), change))
        });
        let mut all: Vec<_> = all.collect();

        // A thousand tenants have thousands of changes, and only the first ones are sorted.
        if limit < all.len() {
            all.select_nth_unstable_by(limit, newest_first);
            all.truncate(limit);
        }
        all.sort_by(newest_first);
        all
    }

    /// Updates the views of all tenants whose log has grown, and removes those of tenants that are
    /// no longer configured. Reads the checkpoint through a separate connection. Fails if the
    /// checkpoint cannot be read.
    pub(super) fn update(&mut self, engine: &Engine) -> Result<(), CheckpointError> {
        let checkpoint =
            Checkpoint::open_read_only(engine.store().checkpoint().state_directory().path())?;
        let ends = checkpoint.log_ends()?;
        let names: BTreeSet<&str> =
            engine.configuration().tenants.iter().map(|plan| plan.name.as_str()).collect();
        self.0.retain(|name, _| names.contains(name.as_str()));

        let today = Day::of(clock::now());
        let window = Window { first: today.plus(1 - TREND_DAYS), last: today };
        let mut reporter = Reporter::new(&checkpoint);
        for state in engine.tenants() {
            let Some(tenant) = state.resolved() else { continue };
            let Some(end) = ends.get(&tenant.id).copied() else { continue };
            if self.get(&tenant.name).is_some_and(|view| view.end == end) {
                continue;
            }

            let read = contained(|| {
                let report = reporter.report(&tenant, &state.plan, window, Detail::Row)?;
                Ok::<_, CheckpointError>(TenantView::of(&report, end, today))
            });
            match read {
                Ok(view) => {
                    self.0.insert(tenant.name.clone(), Arc::new(view?));
                }
                Err(panic) => {
                    report_panic(engine.meters(), ContainedTask::Request, &tenant.name, &panic);
                    reporter = Reporter::new(&checkpoint);
                }
            }
        }
        Ok(())
    }
}

impl TenantView {
    /// The view of a report that covers the log up to `end`.
    fn of(report: &Report, end: Seq, today: Day) -> Self {
        // The first poll reads many historical changes, which were not observed recently.
        let shown = report.changes.iter().filter(|change| {
            change.day > today.plus(-CHANGE_DAYS)
                && change.severity > Severity::Informational
                && !change.historical
        });
        let changes = shown.take(MAX_CHANGES).cloned().collect();
        Self { end, row: Row::of(report), changes }
    }
}

/// The order of changes, each with the name of its tenant.
fn newest_first((a, x): &(&str, &ReportedChange), (b, y): &(&str, &ReportedChange)) -> Ordering {
    let rank = |change: &ReportedChange| (change.day, change.severity);
    rank(y).cmp(&rank(x)).then_with(|| (a, &x.control).cmp(&(b, &y.control)))
}
