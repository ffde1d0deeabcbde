//! `baseline diff`: compares the newest day of each tenant with its baseline. A tenant that cannot
//! be compared is reported with a hint, because a CI job that compares nothing must not succeed.
//! Start reading at [`diff`].

use std::path::Path;

use serde_json::{Value, json};

use super::{SEARCHED_DAYS, TenantSelection};
use crate::{
    cli::{
        CommandFailure, ExitCode, args, count,
        json::{self, Document},
        print, print_explanation, print_message,
    },
    clock,
    config::TenantPlan,
    daemon::{Reporter, resolved_tenant},
    error::Explanation,
    model::Day,
    report::{BaselineState, Detail, Drift, Window},
};

/// Why a tenant cannot be compared with its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The ID of the tenant is not known yet, or no day is stored.
    NoDay,
    NoBaseline,
}

/// The newest day of a tenant, and the controls that are below their targets on it.
struct BaselineComparison {
    day: Day,
    baseline: BaselineState,
}

impl Problem {
    /// The problem, and how to resolve it.
    pub(super) fn explanation(self, tenant: &str) -> Explanation {
        let (message, hint) = match self {
            Self::NoDay => ("no day is stored", "run `once`, and check its errors".to_owned()),
            Self::NoBaseline => {
                ("no baseline is set", format!("run `baseline set --tenant {tenant}`"))
            }
        };
        Explanation::new(format!("tenant `{tenant}`: {message}")).with_hint(hint)
    }
}

/// Runs the subcommand. With `--exit-code`, returns `Incomplete` if a control is below its target,
/// and `Usage` if a tenant cannot be compared. Fails if the tenant is not configured or the
/// checkpoint cannot be read.
pub(super) fn diff(config: &Path, args: &args::BaselineDiff) -> Result<ExitCode, CommandFailure> {
    let selection = TenantSelection::new(config, args.tenant.as_deref())?;
    let document = Document::from_flag(args.json);

    let mut reporter = Reporter::new(&selection.checkpoint);
    let mut results = Vec::new();
    for plan in selection.plans() {
        let result = compare(&selection, plan, &mut reporter)?;
        match &result {
            Ok(comparison) => print_message(&summary(&plan.name, comparison)),
            Err(problem) => print_explanation(&problem.explanation(&plan.name)),
        }
        results.push((plan.name.as_str(), result));
    }

    match document {
        Document::Omitted => {
            for (tenant, result) in &results {
                let drifts = result.as_ref().map(|comparison| &comparison.baseline.below);
                for drift in drifts.into_iter().flatten() {
                    print(&drift_line(tenant, drift))?;
                }
            }
        }
        Document::Printed => document.print(|| {
            let tenants = results.iter().map(|(tenant, result)| comparison_as_json(tenant, result));
            json!({ "tenants": tenants.collect::<Value>() })
        })?,
    }

    // A job that compares nothing must not succeed.
    let is_incomplete = results.iter().any(|(_, result)| result.is_err());
    let is_below = |result: &Result<BaselineComparison, Problem>| {
        result.as_ref().is_ok_and(|comparison| !comparison.baseline.below.is_empty())
    };
    let exit = if is_incomplete {
        ExitCode::Usage
    } else if results.iter().any(|(_, result)| is_below(result)) {
        ExitCode::Incomplete
    } else {
        ExitCode::Done
    };
    Ok(if args.exit_code { exit } else { ExitCode::Done })
}

/// Compares the newest day of a tenant with its baseline, even if the day is not recent. Fails if
/// the checkpoint cannot be read.
fn compare(
    selection: &TenantSelection,
    plan: &TenantPlan,
    reporter: &mut Reporter<'_>,
) -> Result<Result<BaselineComparison, Problem>, CommandFailure> {
    let Some(tenant) = resolved_tenant(plan, &selection.checkpoint) else {
        return Ok(Err(Problem::NoDay));
    };
    if selection.current_baseline(&tenant)?.is_none() {
        return Ok(Err(Problem::NoBaseline));
    }

    let last = Day::of(clock::now());
    let window = Window { first: last.plus(-SEARCHED_DAYS), last };
    let report = reporter.report(&tenant, plan, window, Detail::Row)?;
    let Some(day) = report.newest().map(|(day, _)| day) else { return Ok(Err(Problem::NoDay)) };
    Ok(report
        .baseline
        .map(|baseline| BaselineComparison { day, baseline })
        .ok_or(Problem::NoBaseline))
}

fn summary(tenant: &str, comparison: &BaselineComparison) -> String {
    let BaselineComparison { day, baseline: BaselineState { name, targets, below, .. } } =
        comparison;
    let targets = count(*targets as u64, "target");
    format!("tenant `{tenant}`: {} of {targets} below baseline `{name}` on `{day}`", below.len())
}

fn comparison_as_json(tenant: &str, result: &Result<BaselineComparison, Problem>) -> Value {
    let comparison = match result {
        Ok(comparison) => comparison,
        Err(problem) => {
            return json!({ "tenant": tenant, "error": json::error(&problem.explanation(tenant)) });
        }
    };
    let below = comparison.baseline.below.iter().map(|drift| {
        json!({
            "control": drift.control,
            "title": drift.title,
            "target": drift.target,
            "actual": actual(drift),
        })
    });
    json!({
        "tenant": tenant,
        "day": comparison.day.to_string(),
        "baseline": comparison.baseline.name,
        "targets": comparison.baseline.targets,
        "below": below.collect::<Value>(),
    })
}

/// The value that is compared with the target, in the unit of the target; `None` if it is unknown.
fn actual(drift: &Drift) -> Option<String> {
    match (drift.target.ends_with('%'), drift.percentage, drift.score) {
        (true, Some(percentage), _) => Some(format!("{percentage}%")),
        (_, _, score) => score.map(|score| score.to_string()),
    }
}

/// Tenant, control, target, actual value and title, separated by tabs.
fn drift_line(tenant: &str, drift: &Drift) -> String {
    let actual = actual(drift).unwrap_or_else(|| "unknown".to_owned());
    let title: String = drift.title.chars().filter(|c| !c.is_control()).collect();
    format!("{tenant}\t{}\t{}\t{actual}\t{title}\n", drift.control, drift.target)
}
