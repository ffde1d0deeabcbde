//! `baseline diff`: compares the newest day of each tenant with its baseline. A tenant that cannot
//! be compared is reported with a hint, because a CI job that compares nothing must not succeed.
//! Start reading at [`diff`].

use std::path::Path;

use serde_json::{Value, json};

use super::{SEARCHED_DAYS, TenantSelection, number_and_unit};
use crate::{
    cli::{
        CommandFailure, ExitCode, args, count,
        json::{self, Document},
        print, print_explanation, print_message,
        table::{Column, Content, Terminal, TextTable, Tone},
    },
    clock,
    config::TenantPlan,
    daemon::{Reporter, resolved_tenant},
    error::Explanation,
    model::{Day, Number, Target},
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
/// and `Usage` if a tenant cannot be compared. Fails if a pattern matches no tenant or the
/// checkpoint cannot be read.
pub(super) fn diff(config: &Path, args: &args::BaselineDiff) -> Result<ExitCode, CommandFailure> {
    let selection = TenantSelection::new(config, &args.tenant)?;
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
        Document::Omitted => print(&as_text(&results, Terminal::of_stdout()))?,
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
    let targets = count(*targets, "target");
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
        let target = Target::parse(&drift.target).map(number_and_unit);
        json!({
            "control": drift.control,
            "title": drift.title,
            "target": target.map(|(number, _)| number),
            "actual": actual(drift).map(Number::get),
            "unit": target.map(|(_, unit)| unit),
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
fn actual(drift: &Drift) -> Option<Number> {
    if is_percentage(drift) { drift.percentage } else { drift.score }
}

fn is_percentage(drift: &Drift) -> bool {
    drift.target.ends_with('%')
}

/// A table of the controls that are below their targets; empty if there are none.
fn as_text(results: &[(&str, Result<BaselineComparison, Problem>)], terminal: Terminal) -> String {
    let mut table = TextTable::new(vec![
        Column::new("tenant", Content::Label { min: 8 }, 0),
        Column::new("control", Content::Label { min: 16 }, 0),
        Column::new("target", Content::Number, 0),
        Column::new("actual", Content::Number, 0),
        Column::new("title", Content::Label { min: 16 }, 1),
    ]);

    let mut is_empty = true;
    for (tenant, result) in results {
        for drift in result.iter().flat_map(|comparison| &comparison.baseline.below) {
            is_empty = false;
            table.row(cells(tenant, drift));
        }
    }
    if is_empty { String::new() } else { table.render(terminal) }
}

fn cells(tenant: &str, drift: &Drift) -> Vec<(String, Tone)> {
    let unit = if is_percentage(drift) { "%" } else { "" };
    let actual = actual(drift).map(|number| format!("{number}{unit}"));
    let cells = [
        tenant.to_owned(),
        drift.control.clone(),
        drift.target.clone(),
        actual.unwrap_or_else(|| "unknown".to_owned()),
        drift.title.clone(),
    ];
    cells.map(|text| (text, Tone::Plain)).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(target: &str, score: f64, percentage: f64) -> Drift {
        Drift {
            control: "AdminMFAV2".to_owned(),
            title: "Ensure multifactor authentication is enabled for all administrators".to_owned(),
            target: target.to_owned(),
            score: Number::new(score),
            percentage: Number::new(percentage),
            missing: None,
        }
    }

    fn results(below: Vec<Drift>) -> [(&'static str, Result<BaselineComparison, Problem>); 1] {
        let baseline = BaselineState { name: "agreed".to_owned(), day: None, targets: 9, below };
        [("contoso", Ok(BaselineComparison { day: Day::from_number(0).unwrap(), baseline }))]
    }

    /// Regression: the output was separated by tabs and had no headings.
    #[test]
    fn drift_is_a_table_that_fits_the_terminal() {
        let results = results(vec![drift("100%", 3.469, 34.69), drift("8", 0.5, 5.0)]);
        let text = as_text(&results, Terminal { width: Some(70), is_colored: false });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("tenant   control     target  actual  title"), "{text}");
        assert!(lines[1].starts_with("contoso  AdminMFAV2    100%  34.69%  Ensure"), "{text}");
        assert!(lines[2].starts_with("contoso  AdminMFAV2       8     0.5  Ensure"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= 70), "{text}");

        let none = as_text(&self::results(Vec::new()), Terminal { width: None, is_colored: false });
        assert_eq!(none, "");
    }

    /// Regression: the values were text, such as `"34.69%"`.
    #[test]
    fn documents_have_numbers_with_a_unit() {
        let [(tenant, result)] = results(vec![drift("100%", 3.469, 34.69), drift("8", 0.5, 5.0)]);
        let document = comparison_as_json(tenant, &result);
        for (index, (target, actual, unit)) in
            [(100.0, 34.69, "percent"), (8.0, 0.5, "points")].into_iter().enumerate()
        {
            let below = &document["below"][index];
            assert_eq!((&below["target"], &below["actual"]), (&json!(target), &json!(actual)));
            assert_eq!(below["unit"], unit);
        }
    }
}
