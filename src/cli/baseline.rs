//! `baseline`: sets and prints the targets that tenants must not fall below, and compares the
//! newest day with them. `show` and `diff` only read the checkpoint; `set` sends the targets to the
//! daemon if one is running.

mod diff;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    CommandFailure, ExitCode, args, block_on,
    caller::read_text,
    count,
    daemon_client::{request, unexpected_response},
    json::Document,
    load_with_secrets, lock_holder, print_data, print_explanation, print_message,
    selection::selected_names,
};
use crate::{
    checkpoint::Checkpoint,
    clock,
    config::{Configuration, TenantPlan},
    daemon::{Engine, Event, Request, resolved_tenant},
    error::Explanation,
    model::{Baseline, ControlFacts, Day, KeptDay, Seq, Target, Tenant},
    state_directory::Holder,
    text::nearest,
};

/// The number of days before today that are searched for the newest stored day.
const SEARCHED_DAYS: i32 = 400;

/// The checkpoint, and the tenants that the arguments select.
struct TenantSelection {
    configuration: Configuration,
    checkpoint: Checkpoint,
    /// Empty if all tenants are selected.
    names: Vec<String>,
}

/// The baseline that is set for one tenant.
struct NewBaseline {
    /// The configured name of the tenant.
    tenant: String,
    name: String,
    /// The day from which the targets were derived; `None` for targets from a file.
    day: Option<Day>,
    targets: Vec<(String, Target)>,
}

/// Runs a subcommand. Fails if a pattern matches no tenant or the checkpoint cannot be read; `set`
/// also fails if a line of the file is not a target, or if no tenant has a control that it names.
pub(super) fn baseline(
    config: &Path,
    args: &args::BaselineCommand,
) -> Result<ExitCode, CommandFailure> {
    match args {
        args::BaselineCommand::Set(args) => set(config, args),
        args::BaselineCommand::Show(args) => {
            Document::from_flag(args.json).run(|| show(config, args))
        }
        args::BaselineCommand::Diff(args) => {
            Document::from_flag(args.json).run(|| diff::diff(config, args))
        }
    }
}

impl TenantSelection {
    fn new(config: &Path, patterns: &[String]) -> Result<Self, CommandFailure> {
        let configuration = Configuration::load(config)?;
        let names = selected_names(&configuration, patterns)?;
        let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
        Ok(Self { configuration, checkpoint, names })
    }

    /// The selected tenants.
    fn plans(&self) -> impl Iterator<Item = &TenantPlan> {
        let plans = self.configuration.tenants.iter();
        plans.filter(|plan| self.names.is_empty() || self.names.contains(&plan.name))
    }

    /// The selected tenants whose ID is known.
    fn tenants(&self) -> Vec<(&TenantPlan, Tenant)> {
        let resolved = |plan| Some((plan, resolved_tenant(plan, &self.checkpoint)?));
        self.plans().filter_map(resolved).collect()
    }

    fn current_baseline(&self, tenant: &Tenant) -> Result<Option<Baseline>, CommandFailure> {
        Ok(self.checkpoint.baselines(tenant.id)?.pop())
    }
}

impl NewBaseline {
    fn targets_as_text(&self) -> String {
        let Self { name, day, targets, .. } = self;
        let (since, targets) = (Seq::ZERO, targets.clone());
        Baseline { name: name.clone(), day: *day, since, targets }.to_text()
    }
}

fn set(config: &Path, args: &args::BaselineSet) -> Result<ExitCode, CommandFailure> {
    let selection = TenantSelection::new(config, &args.tenant)?;
    let from_file = args.file.as_deref().map(read_targets).transpose()?;

    let mut baselines = Vec::new();
    for (plan, tenant) in selection.tenants() {
        let baseline = match &from_file {
            Some(targets) => NewBaseline {
                tenant: plan.name.clone(),
                name: name_of(args),
                day: None,
                targets: targets.clone(),
            },
            None => match from_day(&selection, plan, &tenant, args)? {
                Some(baseline) => baseline,
                None => continue,
            },
        };
        baselines.push(baseline);
    }
    if baselines.is_empty() {
        let message = "no baseline was set: no selected tenant has a stored day to derive it from";
        return Err(CommandFailure::new(ExitCode::Usage, message));
    }
    if let (Some(targets), Some(file)) = (&from_file, &args.file) {
        reject_unknown_controls(&selection, targets, file)?;
    }

    // The checkpoint is closed before it is opened for writing.
    let holder = lock_holder(&selection.configuration.state_directory);
    drop(selection);
    match holder {
        Some(holder) => set_through_daemon(&holder, &baselines)?,
        None => set_without_daemon(config, &baselines)?,
    }

    for NewBaseline { tenant, name, targets, .. } in &baselines {
        let targets = count(targets.len(), "target");
        print_message(&format!(
            "tenant `{tenant}`: set baseline `{name}` with {targets}, effective from the next new day"
        ));
    }
    Ok(ExitCode::Done)
}

/// Rejects a target for a control that no selected tenant has, because it could never be missed.
fn reject_unknown_controls(
    selection: &TenantSelection,
    targets: &[(String, Target)],
    file: &Path,
) -> Result<(), CommandFailure> {
    let mut known = BTreeSet::new();
    for (_, tenant) in selection.tenants() {
        let Some(newest) = selection.checkpoint.newest_day(tenant.id)? else { continue };
        let kept = selection.checkpoint.stored_days(tenant.id, newest)?;
        let controls = kept.values().flat_map(|day| &day.facts.controls);
        known.extend(controls.map(|control| control.name.to_string()));
    }

    let explain = |(name, _): &(String, Target)| {
        let message = format!("`{}`: no tenant has a control `{name}`", file.display());
        match nearest(name, known.iter().map(String::as_str)) {
            Some(similar) => Explanation::new(message)
                .with_hint(format!("check the name; the most similar control is `{similar}`")),
            None => Explanation::new(message),
        }
    };
    let explanations: Vec<Explanation> = targets
        .iter()
        .filter(|(name, _)| !known.is_empty() && !known.contains(name))
        .map(explain)
        .collect();
    if explanations.is_empty() {
        return Ok(());
    }
    Err(CommandFailure { code: ExitCode::Usage, explanations })
}

/// The name in the arguments, else the name of the file without its extension.
fn name_of(args: &args::BaselineSet) -> String {
    let stem = args.file.as_deref().and_then(Path::file_stem);
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
    args.name.clone().or(stem).unwrap_or_default()
}

fn read_targets(path: &Path) -> Result<Vec<(String, Target)>, CommandFailure> {
    let text =
        read_text(path).map_err(|error| CommandFailure::new(ExitCode::Usage, error.to_string()))?;
    let file = path.display();
    let targets = Baseline::parse_targets(&text).map_err(|line| {
        let message =
            format!("{file}:{line}: expected a control and its target, one line per control");
        let hint = "write lines such as `AdminMFAV2 100%` or `AdminMFAV2 10`";
        CommandFailure::new(ExitCode::Usage, Explanation::new(message).with_hint(hint))
    })?;
    if targets.is_empty() {
        let message = format!("`{file}` contains no targets");
        return Err(CommandFailure::new(ExitCode::Usage, message));
    }
    Ok(targets)
}

/// The scores of a stored day as targets: percentages where the day has them, else points. `None`
/// if the day is not stored.
fn from_day(
    selection: &TenantSelection,
    plan: &TenantPlan,
    tenant: &Tenant,
    args: &args::BaselineSet,
) -> Result<Option<NewBaseline>, CommandFailure> {
    let first = args.day.unwrap_or_else(|| Day::of(clock::now()).plus(-SEARCHED_DAYS));
    let kept: BTreeMap<Day, KeptDay> = selection.checkpoint.stored_days(tenant.id, first)?;
    let found = match args.day {
        Some(day) => kept.get_key_value(&day),
        None => kept.last_key_value(),
    };
    let Some((day, kept)) = found else {
        let missing = match args.day {
            Some(day) => format!("`{day}` is not in the checkpoint"),
            None => "the checkpoint contains no days".to_owned(),
        };
        print_message(&format!("tenant `{}`: {missing}", plan.name));
        return Ok(None);
    };

    let target = |control: &ControlFacts| {
        let target = control.percentage.map(Target::Percent).or(control.score.map(Target::Points));
        let pair = (control.name.to_string(), target?);
        // A control is omitted if its name cannot be written to a line and read back.
        let parsed = Baseline::parse_targets(&format!("{} {}", pair.0, pair.1));
        (parsed.as_deref() == Ok(std::slice::from_ref(&pair))).then_some(pair)
    };
    Ok(Some(NewBaseline {
        tenant: plan.name.clone(),
        name: args.name.clone().unwrap_or_else(|| day.to_string()),
        day: Some(*day),
        targets: kept.facts.controls.iter().filter_map(target).collect(),
    }))
}

fn set_through_daemon(holder: &Holder, baselines: &[NewBaseline]) -> Result<(), CommandFailure> {
    for baseline in baselines {
        let change = Request::Baseline {
            tenant: baseline.tenant.clone(),
            name: baseline.name.clone(),
            day: baseline.day,
            targets: baseline.targets_as_text(),
        };
        let Event::Done { .. } = request(holder, &change)? else {
            return Err(unexpected_response());
        };
    }
    Ok(())
}

fn set_without_daemon(config: &Path, baselines: &[NewBaseline]) -> Result<(), CommandFailure> {
    let configuration = load_with_secrets(config)?;
    let engine = Engine::build(configuration)?;
    block_on(async {
        for baseline in baselines {
            let NewBaseline { tenant, name, day, .. } = baseline;
            engine.operations().set_baseline(tenant, name, *day, &baseline.targets_as_text())?;
        }
        Ok(())
    })?
}

fn show(config: &Path, args: &args::BaselineOf) -> Result<ExitCode, CommandFailure> {
    let selection = TenantSelection::new(config, &args.tenant)?;
    let document = Document::from_flag(args.json);

    let mut tenants = Vec::new();
    for (plan, tenant) in selection.tenants() {
        let baseline = selection.current_baseline(&tenant)?;
        if baseline.is_none() {
            print_explanation(&diff::Problem::NoBaseline.explanation(&plan.name));
        }
        tenants.push((plan.name.as_str(), baseline));
    }

    match document {
        Document::Omitted => {
            for (tenant, baseline) in &tenants {
                let Some(baseline) = baseline else { continue };
                let day = baseline.day.map(|day| format!(", from {day}")).unwrap_or_default();
                print_data(&format!("# tenant {tenant}: baseline {}{day}\n", baseline.name))?;
                print_data(&baseline.to_text())?;
            }
        }
        Document::Printed => document.print(|| {
            let tenants = tenants.iter().map(|(tenant, baseline)| {
                json!({ "tenant": tenant, "baseline": baseline.as_ref().map(baseline_as_json) })
            });
            json!({ "tenants": tenants.collect::<Value>() })
        })?,
    }
    Ok(ExitCode::Done)
}

fn baseline_as_json(baseline: &Baseline) -> Value {
    let targets = baseline.targets.iter().map(|(control, target)| {
        let (number, unit) = number_and_unit(*target);
        json!({ "control": control, "target": number, "unit": unit })
    });
    json!({
        "name": baseline.name,
        "day": baseline.day.map(|day| day.to_string()),
        "targets": targets.collect::<Value>(),
    })
}

/// The number of a target and its unit, as they are in documents.
fn number_and_unit(target: Target) -> (f64, &'static str) {
    match target {
        Target::Points(points) => (points.get(), "points"),
        Target::Percent(percent) => (percent.get(), "percent"),
    }
}
