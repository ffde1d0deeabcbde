//! `baseline`: what tenants want to keep, and what has drifted from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{Exit, Failed, act_as_owner, args, block_on, count, load, no_tenant, print, say};
use crate::{
    checkpoint::Checkpoint,
    config::{Configuration, TenantPlan},
    daemon::{self, Engine, Event, Reporter, Request, resolved_tenant},
    model::{Baseline, Day, KeptDay, Target, Tenant},
    report::{Drift, Window},
};

pub(super) fn baseline(config: &Path, args: &args::Baseline) -> Result<Exit, Failed> {
    match args {
        args::Baseline::Set(args) => set(config, args),
        args::Baseline::Show(args) => show(config, args),
        args::Baseline::Diff(args) => diff(config, args),
    }
}

/// The configured tenants that are asked for, as far as the checkpoint knows them.
struct Opened {
    configuration: Configuration,
    checkpoint: Checkpoint,
    wanted: Option<String>,
}

impl Opened {
    fn new(config: &Path, tenant: Option<&str>) -> Result<Self, Failed> {
        let configuration = Configuration::load(config)?;
        if let Some(name) = tenant
            && !configuration.tenants.iter().any(|plan| plan.name == name)
        {
            return Err(no_tenant(&configuration, name));
        }
        let checkpoint = Checkpoint::inspect(&configuration.state_directory)?;
        Ok(Self { configuration, checkpoint, wanted: tenant.map(str::to_owned) })
    }

    fn tenants(&self) -> Vec<(&TenantPlan, Tenant)> {
        let plans = self.configuration.tenants.iter();
        let wanted =
            |plan: &&TenantPlan| self.wanted.as_ref().is_none_or(|wanted| *wanted == plan.name);
        plans
            .filter(wanted)
            .filter_map(|plan| Some((plan, resolved_tenant(plan, &self.checkpoint)?)))
            .collect()
    }

    fn in_force(&self, tenant: &Tenant) -> Result<Option<Baseline>, Failed> {
        Ok(self.checkpoint.baselines(tenant.id)?.pop())
    }
}

/// What is to be set for one tenant.
struct Setting {
    tenant: String,
    name: String,
    day: Option<Day>,
    targets: Vec<(String, Target)>,
}

fn set(config: &Path, args: &args::BaselineSet) -> Result<Exit, Failed> {
    let opened = Opened::new(config, args.tenant.as_deref())?;
    let from_file = args.file.as_deref().map(read_targets).transpose()?;
    let mut settings = Vec::new();
    for (plan, tenant) in opened.tenants() {
        let setting = match &from_file {
            Some(targets) => Setting {
                tenant: plan.name.clone(),
                name: name_of(args),
                day: None,
                targets: targets.clone(),
            },
            None => match of_day(&opened, plan, &tenant, args)? {
                Some(setting) => setting,
                None => continue,
            },
        };
        settings.push(setting);
    }
    if settings.is_empty() {
        let message = "there is no such day of any of these tenants: no baseline was set";
        return Err(Failed::new(Exit::Usage, message.to_owned()));
    }
    if let (Some(targets), Some(file)) = (&from_file, &args.file) {
        refuse_strangers(&opened, targets, file)?;
    }
    let holder = super::holder_of(&opened.configuration.state_directory);
    drop(opened);
    match holder {
        Some(holder) => through_daemon(super::socket_of(&holder)?, &settings)?,
        None => alone(config, &settings)?,
    }
    for Setting { tenant, name, targets, .. } in &settings {
        let targets = count(targets.len() as u64, "target");
        say(&format!("tenant {tenant}: baseline {name} with {targets}, from the next day on"));
    }
    Ok(Exit::Done)
}

/// A target of a control that no tenant has would never be missed.
fn refuse_strangers(
    opened: &Opened,
    targets: &[(String, Target)],
    file: &Path,
) -> Result<(), Failed> {
    let mut known = BTreeSet::new();
    for (_, tenant) in opened.tenants() {
        let Some(newest) = opened.checkpoint.newest_day(tenant.id)? else { continue };
        let kept = opened.checkpoint.ledger(tenant.id, newest)?;
        let controls = kept.values().flat_map(|day| &day.facts.controls);
        known.extend(controls.map(|control| control.name.to_string()));
    }
    let strangers: Vec<String> = targets
        .iter()
        .filter(|(name, _)| !known.is_empty() && !known.contains(name))
        .map(|(name, _)| {
            let near = known.iter().map(|known| {
                (strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase()), known)
            });
            let near = near.min().filter(|(distance, _)| *distance <= 3);
            let hint = near.map(|(_, near)| format!("; did you mean `{near}`?"));
            format!("there is no control `{name}`{}", hint.unwrap_or_default())
        })
        .collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let message = format!("{}: {}", file.display(), strangers.join("\n"));
    Err(Failed::new(Exit::Usage, message))
}

fn name_of(args: &args::BaselineSet) -> String {
    let stem = args.file.as_deref().and_then(Path::file_stem);
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
    args.name.clone().or(stem).unwrap_or_default()
}

fn read_targets(path: &Path) -> Result<Vec<(String, Target)>, Failed> {
    let text = fs_err::read_to_string(path)
        .map_err(|error| Failed::new(Exit::Usage, error.to_string()))?;
    let targets = Baseline::parse_targets(&text).map_err(|line| {
        let file = path.display();
        format!("{file}:{line}: a line is a control and its target, such as `AdminMFAV2 100%` or `AdminMFAV2 10`; each control once")
    });
    match targets {
        Ok(targets) if targets.is_empty() => Err(format!("{}: no target in it", path.display())),
        other => other,
    }
    .map_err(|message| Failed::new(Exit::Usage, message))
}

/// A day's scores as targets: shares where the day has them, points where it has not.
fn of_day(
    opened: &Opened,
    plan: &TenantPlan,
    tenant: &Tenant,
    args: &args::BaselineSet,
) -> Result<Option<Setting>, Failed> {
    let first = args.day.unwrap_or_else(|| Day::of(crate::clock::now()).plus(-400));
    let kept: BTreeMap<Day, KeptDay> = opened.checkpoint.ledger(tenant.id, first)?;
    let found = match args.day {
        Some(day) => kept.get_key_value(&day),
        None => kept.last_key_value(),
    };
    let Some((day, kept)) = found else {
        let wanted = args.day.map_or("any day".to_owned(), |day| day.to_string());
        say(&format!("tenant {}: {wanted} is not in the checkpoint", plan.name));
        return Ok(None);
    };
    let target = |control: &crate::model::ControlFacts| {
        let target = control.percentage.map(Target::Percent).or(control.score.map(Target::Points));
        let pair = (control.name.to_string(), target?);
        // A name that a line cannot carry has no target.
        let read = Baseline::parse_targets(&format!("{} {}", pair.0, pair.1));
        (read.as_deref() == Ok(std::slice::from_ref(&pair))).then_some(pair)
    };
    Ok(Some(Setting {
        tenant: plan.name.clone(),
        name: args.name.clone().unwrap_or_else(|| day.to_string()),
        day: Some(*day),
        targets: kept.facts.controls.iter().filter_map(target).collect(),
    }))
}

impl Setting {
    fn text(&self) -> String {
        let Self { name, day, targets, .. } = self;
        Baseline { name: name.clone(), day: *day, since: 0, targets: targets.clone() }.to_text()
    }
}

fn through_daemon(socket: &Path, settings: &[Setting]) -> Result<(), Failed> {
    for setting in settings {
        let request = Request::Baseline {
            tenant: setting.tenant.clone(),
            name: setting.name.clone(),
            day: setting.day.map(Day::number),
            targets: setting.text(),
        };
        match daemon::send_request(socket, &request, |_| {})? {
            Event::Done { .. } => {}
            Event::Error(message) => return Err(Failed::new(Exit::Usage, message)),
            _ => {
                let message = "the daemon did not understand".to_owned();
                return Err(Failed::new(Exit::Incomplete, message));
            }
        }
    }
    Ok(())
}

fn alone(config: &Path, settings: &[Setting]) -> Result<(), Failed> {
    let configuration = load(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    block_on(async {
        for setting in settings {
            let day = setting.day.map(Day::number);
            engine
                .set_baseline(&setting.tenant, &setting.name, day, &setting.text())
                .map_err(|message| Failed::new(Exit::Usage, message))?;
        }
        Ok(())
    })?
}

fn show(config: &Path, args: &args::BaselineOf) -> Result<Exit, Failed> {
    let opened = Opened::new(config, args.tenant.as_deref())?;
    for (plan, tenant) in opened.tenants() {
        let Some(baseline) = opened.in_force(&tenant)? else {
            say(&format!("tenant {}: no baseline is set", plan.name));
            continue;
        };
        let day = baseline.day.map(|day| format!(", from {day}")).unwrap_or_default();
        print(&format!("# tenant {}: baseline {}{day}\n", plan.name, baseline.name))?;
        print(&baseline.to_text())?;
    }
    Ok(Exit::Done)
}

fn diff(config: &Path, args: &args::BaselineDiff) -> Result<Exit, Failed> {
    let opened = Opened::new(config, args.tenant.as_deref())?;
    let last = Day::of(crate::clock::now());
    // Only the newest day counts, however long ago it was.
    let window = Window { first: last.plus(-400), last };
    let mut reporter = Reporter::new(&opened.checkpoint);
    let mut below = 0;
    for (plan, tenant) in opened.tenants() {
        let report = reporter.report(&tenant, plan, window, false)?;
        let (Some(baseline), Some((day, _))) = (&report.baseline, report.newest()) else {
            say(&format!("tenant {}: no baseline is set", plan.name));
            continue;
        };
        below += baseline.below.len();
        say(&format!(
            "tenant {}: {} of {} below baseline {} on {day}",
            plan.name,
            baseline.below.len(),
            count(baseline.targets as u64, "target"),
            baseline.name
        ));
        for drift in &baseline.below {
            print(&line(&plan.name, drift))?;
        }
    }
    Ok(if args.exit_code && below > 0 { Exit::Incomplete } else { Exit::Done })
}

/// Tenant, control, target, and how far it is; divided by tabs, for programs.
fn line(tenant: &str, drift: &Drift) -> String {
    let is = match (drift.target.ends_with('%'), drift.percentage, drift.score) {
        (true, Some(percentage), _) => format!("{percentage}%"),
        (_, _, Some(score)) => score.to_string(),
        _ => "unknown".to_owned(),
    };
    let title: String = drift.title.chars().filter(|c| !c.is_control()).collect();
    format!("{tenant}\t{}\t{}\t{is}\t{title}\n", drift.control, drift.target)
}
