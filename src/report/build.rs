//! From the log's entries, one after the other, to a report.

use std::collections::{BTreeMap, HashMap};

use super::{
    BaselineState, Category, DayLine, Decision, Drift, Improvement, MissingDay, Points, Report,
    ReportedChange, tidy,
};
use crate::{
    derive::{Entry, Rules, changes_from_facts},
    format::change_sentence,
    model::{
        Acceptance, Baseline, Catalog, ChangeKind, ControlFacts, Day, DayFacts, Number, Profile,
        ProfileSlot, Tenant, accepts_risk,
    },
};

/// The days that a report is about, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub first: Day,
    pub last: Day,
}

/// The category of controls that the catalog does not know.
const NO_PROFILE: &str = "Not in the catalog";

/// A report that is being made.
#[derive(Debug)]
pub struct Building {
    report: Report,
    /// `None` where nobody asks for them: a line among many has no place for them.
    categories: Option<HashMap<String, BTreeMap<Day, f64>>>,
    /// The newest day so far, by its date.
    newest: Option<DayFacts>,
}

impl Building {
    /// `detail` for a page of its own; without, what a line among many shows.
    pub fn new(tenant: Tenant, window: Window, detail: bool) -> Self {
        let report = Report {
            tenant,
            window,
            days: BTreeMap::new(),
            categories: Vec::new(),
            changes: Vec::new(),
            implementations: 0,
            improvements: Vec::new(),
            decisions: Vec::new(),
            missing: Vec::new(),
            baseline: None,
            points: Points::NONE,
        };
        Self { report, categories: detail.then(HashMap::new), newest: None }
    }

    /// Takes in the next entry of the log.
    pub fn entry(&mut self, entry: &Entry<'_>, facts: &DayFacts) {
        let Window { first, last } = self.report.window;
        if facts.day < first || facts.day > last {
            return;
        }
        self.day(entry, facts);
        self.changes(entry, facts);
    }

    fn day(&mut self, entry: &Entry<'_>, facts: &DayFacts) {
        let sum = facts.controls.iter().filter_map(|c| c.score).map(Number::get).sum();
        if let Some(categories) = &mut self.categories {
            add_day(categories, entry.catalog, facts);
        }
        let percentage = match (facts.current_score, facts.max_score) {
            (Some(current), Some(max)) if max > Number::ZERO => {
                Some(tidy(current.get() * 100.0 / max.get()))
            }
            _ => None,
        };
        let averages = facts.averages.iter().map(|a| (a.basis.clone(), a.score));
        let line = DayLine {
            current: facts.current_score,
            max: facts.max_score,
            percentage,
            sum_of_controls: tidy(sum),
            controls: facts.controls.len(),
            averages: averages.collect(),
            revision: entry.snapshot.revision,
            partial: entry.snapshot.partial,
        };
        self.report.days.insert(facts.day, line);
        if self.newest.as_ref().is_none_or(|newest| newest.day <= facts.day) {
            self.newest = Some(facts.clone());
        }
    }

    fn changes(&mut self, entry: &Entry<'_>, facts: &DayFacts) {
        for record in changes_from_facts(entry, facts) {
            let change = &record.change;
            if change.what == ChangeKind::ImplementationChanged {
                self.report.implementations += 1;
                continue;
            }
            self.report.changes.push(ReportedChange {
                day: facts.day,
                what: change.what,
                cause: change.cause,
                severity: record.severity,
                control: change.control.to_owned(),
                delta: change.delta,
                historical: change.historical,
                flapping: change.flapping,
                below_baseline: change.is_below_baseline(),
                sentence: change_sentence(&record),
            });
        }
    }

    /// The report, with what is true today: the newest catalog, baseline and rules.
    pub fn finish(
        mut self,
        catalog: &Catalog,
        baseline: Option<&Baseline>,
        rules: &Rules,
        missing: impl Fn(Day) -> bool,
    ) -> Report {
        let newest = self.newest.take();
        self.missing(missing);
        let report = &mut self.report;
        report
            .changes
            .sort_by(|a, b| (b.day, b.severity, &a.control).cmp(&(a.day, a.severity, &b.control)));
        if let Some(facts) = &newest {
            let controls: Vec<Known<'_>> = facts
                .controls
                .iter()
                .map(|facts| Known { facts, slot: catalog.find(&facts.name) })
                .collect();
            report.points = points(facts, &controls);
            report.improvements = improvements(&controls);
            report.categories = self.categories.map_or_else(Vec::new, |c| categories(&controls, c));
            report.baseline = baseline.map(|baseline| drift(baseline, &controls));
            report.decisions = decisions(catalog, facts, rules);
        }
        self.report
    }

    fn missing(&mut self, is_missing: impl Fn(Day) -> bool) {
        let days = &self.report.days;
        let (Some((first, _)), Some((last, _))) = (days.first_key_value(), days.last_key_value())
        else {
            return;
        };
        let all = (first.number()..last.number()).filter_map(Day::from_number);
        let missing = all.filter(|day| !days.contains_key(day));
        self.report.missing =
            missing.map(|day| MissingDay { day, absent: !is_missing(day) }).collect();
    }
}

/// A day's points by category.
fn add_day(
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

/// A control of the newest day, with what the catalog says of it.
struct Known<'a> {
    facts: &'a ControlFacts,
    slot: Option<&'a ProfileSlot>,
}

impl Known<'_> {
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

fn points(facts: &DayFacts, controls: &[Known<'_>]) -> Points {
    let sum = |which: &dyn Fn(&Known<'_>) -> bool| {
        tidy(controls.iter().filter(|c| which(c)).map(Known::score).sum())
    };
    let asserted = |c: &Known<'_>| c.state() == Some("ThirdParty");
    let provided = |c: &Known<'_>| {
        c.profile().and_then(|p| p.action_type.as_deref()) == Some("ProviderGenerated")
    };
    Points {
        total: facts.current_score,
        max: facts.max_score,
        sum_of_controls: sum(&|_| true),
        achieved: sum(&|c| !asserted(c) && !provided(c)),
        asserted: sum(&asserted),
        provided: sum(&|c| provided(c) && !asserted(c)),
    }
}

/// What is worth most first: points missing, over a cost of 1 (low), 2 (moderate or not said) or
/// 3 (high). What is retired, accepted or claimed is no longer open.
fn improvements(controls: &[Known<'_>]) -> Vec<Improvement> {
    let improvement = |control: &Known<'_>| {
        let profile = control.profile()?;
        let missing = tidy(control.max()?.get() - control.facts.score?.get());
        let closed = control.state().is_some_and(accepts_risk) || profile.deprecated == Some(true);
        if closed || missing <= Number::ZERO {
            return None;
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let cost = text(&profile.implementation_cost);
        // As Microsoft writes it: `low`, `Moderate`, `High`, `Unknown`.
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
    controls: &[Known<'_>],
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
            points: tidy(points),
            max: tidy(max),
        })
        .collect();
    let missing = |c: &Category| c.max.get() - c.points.get();
    categories.sort_by(|a, b| missing(b).total_cmp(&missing(a)));
    categories
}

fn drift(baseline: &Baseline, controls: &[Known<'_>]) -> BaselineState {
    let below = |control: &Known<'_>| {
        let ControlFacts { name, score, percentage, .. } = control.facts;
        let target = baseline.target(name)?;
        (target.is_missed(*score, *percentage) == Some(true)).then(|| Drift {
            control: name.to_string(),
            title: control.title(),
            target: target.to_string(),
            score: *score,
            percentage: *percentage,
        })
    };
    BaselineState {
        name: baseline.name.clone(),
        day: baseline.day,
        targets: baseline.targets.len(),
        below: controls.iter().filter_map(below).collect(),
    }
}

/// The decisions in force, of controls that are scored or not.
fn decisions(catalog: &Catalog, newest: &DayFacts, rules: &Rules) -> Vec<Decision> {
    let decision = |slot: &ProfileSlot| {
        let taken = slot.decision()?;
        let state = taken.state.clone().filter(|state| state != "Default")?;
        let score = newest.control(&slot.profile.id).and_then(|control| control.score);
        let points = match state.as_str() {
            "Ignored" => {
                slot.profile.max_score.map(|max| tidy(max.get() - score.map_or(0.0, Number::get)))
            }
            "ThirdParty" => score,
            _ => None,
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let acceptance = rules.acceptance(&slot.profile.id, Some(&state), newest.day);
        Some(Decision {
            control: slot.profile.id.clone(),
            title: title(Some(&slot.profile), &slot.profile.id),
            by: text(&taken.updated_by),
            at: text(&taken.updated),
            comment: text(&taken.comment),
            points,
            accepts: acceptance != Acceptance::None,
            expected: acceptance.by().map(|by| (by.owner.to_owned(), by.expires)),
            state,
        })
    };
    let mut decisions: Vec<Decision> = catalog.slots().iter().filter_map(decision).collect();
    decisions.sort_by(|a, b| b.at.cmp(&a.at));
    decisions
}
