//! Builds a report from the entries of a tenant's log, in log order. Changes must be derived only
//! by [`crate::derive`], so that a report and the sinks agree. Bodies are never read, so a report
//! also covers days whose body was pruned. Start reading at [`ReportBuilder::entry`] and
//! [`ReportBuilder::finish`].

use std::collections::{BTreeMap, HashMap};

use super::{
    BaselineState, Category, DayTotals, Decision, Drift, Improvement, MissingReportDay,
    PointTotals, PreviousPeriod, Report, ReportedChange, ScoreBreakdown, Window,
    period::percentage, text::rounded,
};
use crate::{
    derive::{Entry, Rules, changes_from_facts},
    model::{
        Acceptance, Baseline, Catalog, ChangeKind, ControlFacts, Day, DayFacts, DecisionState,
        Number, Profile, ProfileSlot, Target, Tenant, accepts_risk,
    },
};

/// How much of a tenant a report contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What the status page shows of each tenant: no categories, and no period before.
    Row,
    /// What a row in the overview of many tenants shows: no categories.
    ComparedRow,
    /// Everything, for the page of one tenant.
    Page,
}

/// The name of the category for controls without a profile or a category.
const NO_PROFILE: &str = "Not in the catalog";

/// A report under construction.
#[derive(Debug)]
pub struct ReportBuilder {
    /// Its `previous` is `None` only for [`Detail::Row`].
    report: Report,
    /// The points of each category and day; `None` unless the report is a [`Detail::Page`].
    categories: Option<HashMap<String, BTreeMap<Day, f64>>>,
    /// The facts of the newest day so far.
    newest: Option<DayFacts>,
}

impl ReportBuilder {
    /// Starts a report.
    pub fn new(tenant: Tenant, window: Window, detail: Detail) -> Self {
        let is_compared = detail != Detail::Row;
        let report = Report {
            title: None,
            tenant,
            window,
            previous: is_compared.then(|| PreviousPeriod::new(window.previous())),
            points: PointTotals::ZERO,
            days: BTreeMap::new(),
            categories: Vec::new(),
            changes: Vec::new(),
            implementation_changes: 0,
            improvements: Vec::new(),
            decisions: Vec::new(),
            missing: Vec::new(),
            baseline: None,
            breakdown: ScoreBreakdown::EMPTY,
        };
        Self { report, categories: (detail == Detail::Page).then(HashMap::new), newest: None }
    }

    /// The first day whose entries the report is built from.
    pub fn first_day(&self) -> Day {
        let previous = self.report.previous.as_ref();
        previous.map_or(self.report.window.first, |previous| previous.window.first)
    }

    /// Adds the next entry of the log. An entry outside the period and the period before is
    /// ignored.
    pub fn entry(&mut self, entry: &Entry<'_>, facts: &DayFacts) {
        if self.report.window.contains(facts.day) {
            self.add_day(entry, facts);
        } else {
            match &mut self.report.previous {
                Some(previous) if previous.window.contains(facts.day) => previous.add_day(facts),
                _ => return,
            }
        }
        self.add_changes(entry, facts);
    }

    fn add_day(&mut self, entry: &Entry<'_>, facts: &DayFacts) {
        if let Some(categories) = &mut self.categories {
            add_category_points(categories, entry.catalog, facts);
        }

        let sum = facts.controls.iter().filter_map(|c| c.score).map(Number::get).sum();
        let averages = facts.averages.iter().map(|a| (a.basis.clone(), a.score));
        let totals = DayTotals {
            current: facts.current_score,
            max: facts.max_score,
            percentage: percentage(facts),
            sum_of_controls: rounded(sum),
            controls: facts.controls.len(),
            averages: averages.collect(),
            revision: entry.snapshot.revision,
            partial: entry.snapshot.partial,
        };

        // A revision replaces the totals of its day.
        self.report.days.insert(facts.day, totals);
        if self.newest.as_ref().is_none_or(|newest| newest.day <= facts.day) {
            self.newest = Some(facts.clone());
        }
    }

    fn add_changes(&mut self, entry: &Entry<'_>, facts: &DayFacts) {
        for record in changes_from_facts(entry, facts) {
            if record.change.what == ChangeKind::ImplementationChanged {
                let is_current = self.report.window.contains(facts.day);
                self.report.implementation_changes += usize::from(is_current);
                continue;
            }

            let change = ReportedChange::of(&record, facts.day, entry.rules);
            if self.report.window.contains(change.day) {
                self.report.changes.push(change);
            } else if let Some(previous) = &mut self.report.previous
                && previous.window.contains(change.day)
            {
                previous.add_change(&change);
            }
        }
    }

    /// Finishes the report with the current state: the newest catalog, the baseline in force and
    /// the configured rules. `is_missing` returns whether a day that is not in the log is being
    /// requested again.
    pub fn finish(
        mut self,
        catalog: &Catalog,
        baseline: Option<&Baseline>,
        rules: &Rules,
        is_missing: impl Fn(Day) -> bool,
    ) -> Report {
        self.add_missing_days(is_missing);
        let report = &mut self.report;
        report
            .changes
            .sort_by(|a, b| (b.day, b.severity, &a.control).cmp(&(a.day, a.severity, &b.control)));
        report.points = PointTotals::of(&report.changes);
        if report.previous.as_ref().is_some_and(|previous| previous.days.is_empty()) {
            report.previous = None;
        }

        // Everything else describes the newest day.
        if let Some(facts) = &self.newest {
            let controls: Vec<ProfiledControl<'_>> = facts
                .controls
                .iter()
                .map(|facts| ProfiledControl { facts, slot: catalog.find(&facts.name) })
                .collect();
            report.breakdown = breakdown(facts, &controls);
            report.improvements = improvements(&controls);
            report.categories = self.categories.map_or_else(Vec::new, |c| categories(&controls, c));
            report.baseline = baseline.map(|baseline| drift(baseline, &controls));
            report.decisions = decisions(catalog, facts, rules);
        }
        self.report
    }

    fn add_missing_days(&mut self, is_missing: impl Fn(Day) -> bool) {
        let days = &self.report.days;
        let (Some((first, _)), Some((last, _))) = (days.first_key_value(), days.last_key_value())
        else {
            return;
        };

        let all = (first.number()..last.number()).filter_map(Day::from_number);
        let missing = all.filter(|day| !days.contains_key(day));
        self.report.missing =
            missing.map(|day| MissingReportDay { day, absent: !is_missing(day) }).collect();
    }
}

/// Adds the points of a day to each category.
fn add_category_points(
    categories: &mut HashMap<String, BTreeMap<Day, f64>>,
    catalog: &Catalog,
    facts: &DayFacts,
) {
    let mut sums: HashMap<&str, f64> = HashMap::new();
    for control in &facts.controls {
        let points = control.score.map_or(0.0, Number::get);
        *sums.entry(category(catalog.find(&control.name))).or_default() += points;
    }

    for (name, points) in sums {
        if !categories.contains_key(name) {
            categories.insert(name.to_owned(), BTreeMap::new());
        }
        if let Some(series) = categories.get_mut(name) {
            series.insert(facts.day, points);
        }
    }
}

/// A control of the newest day with its profile.
struct ProfiledControl<'a> {
    facts: &'a ControlFacts,
    slot: Option<&'a ProfileSlot>,
}

impl ProfiledControl<'_> {
    fn profile(&self) -> Option<&Profile> {
        self.slot.map(|slot| slot.profile.as_ref())
    }

    fn score(&self) -> f64 {
        self.facts.score.map_or(0.0, Number::get)
    }

    fn max(&self) -> Option<Number> {
        self.profile()?.max_score
    }

    fn state(&self) -> Option<&str> {
        self.slot?.decision()?.state.as_deref()
    }

    fn title(&self) -> String {
        title(self.profile(), &self.facts.name)
    }
}

fn title(profile: Option<&Profile>, control: &str) -> String {
    let title = profile.and_then(|profile| profile.title.as_deref()).map(str::trim);
    title.filter(|title| !title.is_empty()).unwrap_or(control).to_owned()
}

fn category(slot: Option<&ProfileSlot>) -> &str {
    slot.and_then(|slot| slot.profile.category.as_deref()).unwrap_or(NO_PROFILE)
}

fn breakdown(facts: &DayFacts, controls: &[ProfiledControl<'_>]) -> ScoreBreakdown {
    let sum = |include: &dyn Fn(&ProfiledControl<'_>) -> bool| {
        rounded(controls.iter().filter(|c| include(c)).map(ProfiledControl::score).sum())
    };
    let is_asserted = |c: &ProfiledControl<'_>| {
        c.state().and_then(DecisionState::parse) == Some(DecisionState::ThirdParty)
    };
    let is_provided = |c: &ProfiledControl<'_>| {
        c.profile().and_then(|p| p.action_type.as_deref()) == Some("ProviderGenerated")
    };

    ScoreBreakdown {
        total: facts.current_score,
        max: facts.max_score,
        sum_of_controls: sum(&|_| true),
        achieved: sum(&|c| !is_asserted(c) && !is_provided(c)),
        asserted: sum(&is_asserted),
        provided: sum(&|c| is_provided(c) && !is_asserted(c)),
    }
}

/// The open improvements, ordered by the missing points divided by a cost of 1 (low), 2 (moderate
/// or unknown) or 3 (high). A control that is deprecated, or has a decision that accepts its risk
/// or claims its points, is not open.
fn improvements(controls: &[ProfiledControl<'_>]) -> Vec<Improvement> {
    let improvement = |control: &ProfiledControl<'_>| {
        let profile = control.profile()?;
        let missing = rounded(control.max()?.get() - control.facts.score?.get());
        let is_closed =
            control.state().is_some_and(accepts_risk) || profile.deprecated == Some(true);
        if is_closed || missing <= Number::ZERO {
            return None;
        }

        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let cost = text(&profile.implementation_cost);
        // Microsoft sends `Low` or `low`, `Moderate`, `High` and `Unknown`.
        let weight = match cost.to_ascii_lowercase().as_str() {
            "low" => 1.0,
            "high" => 3.0,
            _ => 2.0,
        };

        Some(Improvement {
            control: control.facts.name.to_string(),
            title: control.title(),
            service: text(&profile.service),
            missing,
            max: control.max()?,
            cost,
            impact: text(&profile.user_impact),
            url: text(&profile.action_url),
            worth: missing.get() / weight,
        })
    };

    let mut open: Vec<Improvement> = controls.iter().filter_map(improvement).collect();
    open.sort_by(|a, b| b.worth.total_cmp(&a.worth).then_with(|| a.title.cmp(&b.title)));
    open
}

fn categories(
    controls: &[ProfiledControl<'_>],
    mut series: HashMap<String, BTreeMap<Day, f64>>,
) -> Vec<Category> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for control in controls {
        let sum = sums.entry(category(control.slot)).or_default();
        sum.0 += control.score();
        sum.1 += control.max().map_or(0.0, Number::get);
    }

    let mut categories: Vec<Category> = sums
        .into_iter()
        .map(|(name, (points, max))| Category {
            series: series.remove(name).unwrap_or_default().into_iter().collect(),
            name: name.to_owned(),
            points: rounded(points),
            max: rounded(max),
        })
        .collect();

    let missing = |c: &Category| c.max.get() - c.points.get();
    categories.sort_by(|a, b| missing(b).total_cmp(&missing(a)));
    categories
}

fn drift(baseline: &Baseline, controls: &[ProfiledControl<'_>]) -> BaselineState {
    let below = |control: &ProfiledControl<'_>| {
        let ControlFacts { name, score, percentage, .. } = control.facts;
        let target = baseline.target(name)?;
        let points = match target {
            Target::Points(points) => Some(points.get()),
            Target::Percent(percent) => control.max().map(|max| max.get() * percent.get() / 100.0),
        };
        let missing = points.zip(*score).map(|(points, score)| rounded(points - score.get()));

        (target.is_missed(*score, *percentage) == Some(true)).then(|| Drift {
            control: name.to_string(),
            title: control.title(),
            target: target.to_string(),
            score: *score,
            percentage: *percentage,
            missing,
        })
    };

    BaselineState {
        name: baseline.name.clone(),
        day: baseline.day,
        targets: baseline.targets.len(),
        below: controls.iter().filter_map(below).collect(),
    }
}

/// The decisions in force, including those on controls that the newest day does not contain.
fn decisions(catalog: &Catalog, newest: &DayFacts, rules: &Rules) -> Vec<Decision> {
    let decision = |slot: &ProfileSlot| {
        let current = slot.decision()?;
        let known = current.known_state();
        if known == Some(DecisionState::Default) {
            return None;
        }
        let state = DecisionState::spelled(current.state.as_deref()?).to_owned();

        let score = newest.control(&slot.profile.id).and_then(|control| control.score);
        let points = match known {
            Some(DecisionState::Ignored) => slot
                .profile
                .max_score
                .map(|max| rounded(max.get() - score.map_or(0.0, Number::get))),
            Some(DecisionState::ThirdParty) => score,
            _ => None,
        };

        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let acceptance = rules.acceptance(&slot.profile.id, Some(&state), newest.day);
        Some(Decision {
            control: slot.profile.id.clone(),
            title: title(Some(&slot.profile), &slot.profile.id),
            by: text(&current.updated_by),
            at: text(&current.updated),
            comment: text(&current.comment),
            points,
            accepts_risk: acceptance != Acceptance::None,
            expected: acceptance.expected_by().map(|by| (by.owner.to_owned(), by.expires)),
            state,
        })
    };

    let mut decisions: Vec<Decision> = catalog.slots().iter().filter_map(decision).collect();
    decisions.sort_by(|a, b| b.at.cmp(&a.at));
    decisions
}
