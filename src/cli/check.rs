//! `check`: validates everything that can be validated without a connection; with `--online`, also
//! signs in to Microsoft and contacts the receivers. It leaves nothing changed, except that it
//! migrates a checkpoint of an older release. All errors and warnings are reported, not only the
//! first one. Start reading at [`check`].

use std::{fmt::Write as _, path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{
    CommandFailure, ExitCode, args, effective,
    findings::{Findings, WarningPolicy},
    host_checks::HostChecks,
    json::Document,
    known_controls::KnownControls,
    online::{self, OnlineReport},
    print, print_data, print_message, replay,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    config::{ConfigError, Configuration},
    daemon::{self, Estimate, ReplayExtent},
    model::{SinkName, Tenant},
    settings::EffectiveTable,
    source::Clients,
    state_directory::{Holder, StateDirectory},
    text::count,
};

/// A configuration without errors, and what is known about it.
struct CheckReport {
    configuration: Configuration,
    /// `None` without `--show-effective`.
    effective: Option<Vec<EffectiveTable>>,
    /// The sinks that are new or have a backlog, with what they will receive.
    estimates: Vec<(SinkName, Estimate)>,
    /// `None` without `--online`.
    online: Option<OnlineReport>,
}

/// Runs the command. Returns `Usage` if the configuration, a secret or the state directory cannot
/// be used, `Unusable` if that is the checkpoint, and `Incomplete` if a tenant or a receiver cannot
/// be used. With `--strict`, warnings have the same result as errors.
pub(super) fn check(config: &Path, args: &args::Check) -> Result<ExitCode, CommandFailure> {
    let policy = if args.strict { WarningPolicy::Reject } else { WarningPolicy::Accept };
    let mut findings = Findings::default();
    let report = match examine(config, args, &mut findings) {
        Ok(report) => report,
        Err(failure) if failure.code == ExitCode::Interrupted => return Err(failure),
        Err(failure) => {
            findings.add_failure(failure);
            None
        }
    };
    findings.print(policy);

    let exit = findings.exit_code(policy).or_else(|| {
        let online = report.as_ref()?.online.as_ref()?;
        (!online.is_usable()).then_some(ExitCode::Incomplete)
    });
    let exit = exit.unwrap_or(ExitCode::Done);
    match (Document::from_flag(args.json), &report) {
        (Document::Printed, _) => {
            let document = || as_json(config, &findings, policy, report.as_ref());
            Document::Printed.print(document)?;
        }
        (Document::Omitted, Some(report)) => {
            print(&as_text(config, report))?;
            if let Some(tables) = &report.effective {
                print_data(&effective::as_toml(tables))?;
            }
        }
        (Document::Omitted, None) => {}
    }
    Ok(exit)
}

/// Adds everything that is wrong to the findings. Returns `None` if the configuration has errors,
/// because the later steps rely on the earlier ones.
fn examine(
    config: &Path,
    args: &args::Check,
    findings: &mut Findings,
) -> Result<Option<CheckReport>, CommandFailure> {
    let loaded = if args.show_effective {
        Configuration::load_with_values(config).map(|(loaded, values)| (loaded, Some(values)))
    } else {
        Configuration::load(config).map(|loaded| (loaded, None))
    };
    let (configuration, effective) = match loaded {
        Ok(loaded) => loaded,
        Err(ConfigError(faults)) => {
            findings.add_errors(faults);
            return Ok(None);
        }
    };

    let host = HostChecks::new(&configuration);
    host.check_files(findings);
    host.check_sources(findings);
    host.check_state_directory(findings);
    host.check_sink_files(findings);
    check_values(&configuration, &host, findings);

    let holder = StateDirectory::holder(&configuration.state_directory);
    match &holder {
        Some(holder) => {
            print_message(&format!("the checkpoint is in use by process {}", holder.pid));
        }
        None => host.check_listener(findings),
    }
    if findings.has_errors() {
        return Ok(None);
    }

    // Building the clients reads the certificate files that the configuration names.
    let clients = Arc::new(Clients::new(&configuration.http)?);
    let estimates = match open_checkpoint(&configuration, holder.as_ref())? {
        Some(checkpoint) => examine_checkpoint(&configuration, &checkpoint, &clients, findings)?,
        None => Vec::new(),
    };

    let online = args.online.then(|| online::contact(&configuration)).transpose()?;
    Ok(Some(CheckReport { configuration, effective, estimates, online }))
}

/// Reads every secret and every key, and adds the warnings about the configuration.
fn check_values(configuration: &Configuration, host: &HostChecks<'_>, findings: &mut Findings) {
    let read = configuration.check_secrets().err().map(|ConfigError(faults)| faults);
    let unreadable = configuration.unreadable_credentials();
    let unusable = configuration.unusable_certificates();
    for fault in read.into_iter().flatten().chain(unreadable).chain(unusable) {
        if !findings.has_error_at(&fault) && !findings.has_error_about(&fault.message) {
            findings.add_errors([fault]);
        }
    }

    findings.add_warnings(configuration.inspection.warnings.clone());
    host.check_secrets(findings);
    let notes = configuration.warnings().into_iter();
    let notes: Vec<_> = notes.filter(|note| !findings.has_error_about(&note.message)).collect();
    findings.add_notes(notes);
}

/// The checkpoint, if there is one. Without another process that holds it, it is opened for writing
/// once, which verifies and migrates it.
fn open_checkpoint(
    configuration: &Configuration,
    holder: Option<&Holder>,
) -> Result<Option<Checkpoint>, CommandFailure> {
    let directory = &configuration.state_directory;
    let database = directory.join("checkpoint.db");
    // A link that leads nowhere is rejected like any other link.
    if !database.exists() && !database.is_symlink() {
        return match Checkpoint::probe(directory) {
            Err(error @ CheckpointError::DatabaseLost(..)) => Err(error.into()),
            _ => Ok(None),
        };
    }
    if holder.is_none() {
        drop(Checkpoint::open(directory)?);
    }

    match Checkpoint::open_read_only(directory) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        // The process that holds it is of an older release.
        Err(CheckpointError::Older(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Compares the configuration with the checkpoint. Returns what each sink will receive. Fails if a
/// sink with a backlog is no longer configured.
fn examine_checkpoint(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
    clients: &Arc<Clients>,
    findings: &mut Findings,
) -> Result<Vec<(SinkName, Estimate)>, CommandFailure> {
    daemon::check_sinks(configuration, checkpoint)?;
    let renames = daemon::possible_renames(configuration, checkpoint, clients)?;
    findings.add_notes(renames.iter().map(daemon::PossibleRename::explanation));

    let patterns = &configuration.inspection.control_patterns;
    if !patterns.is_empty() {
        let resolved = |tenant| daemon::resolved_tenant(tenant, checkpoint);
        let tenants: Vec<Tenant> = configuration.tenants.iter().filter_map(resolved).collect();
        findings.add_warnings(KnownControls::read(checkpoint, &tenants)?.unmatched(patterns));
    }

    let mut estimates = Vec::new();
    for plan in configuration.sinks.iter().filter(|plan| !plan.discarded) {
        let estimate = daemon::estimate(configuration, checkpoint, plan, clients)?;
        // A renamed sink is not new: it continues from the cursors of its old name.
        if estimate.extent.tenant_days > 0 && !(plan.renamed_from.is_some() && estimate.is_new) {
            estimates.push((plan.name.clone(), estimate));
        }
    }
    Ok(estimates)
}

fn as_text(config: &Path, report: &CheckReport) -> String {
    let CheckReport { configuration, effective: _, estimates, online } = report;
    let tenants = count(configuration.tenants.len(), "tenant");
    let sinks = count(configuration.sinks.len(), "sink");
    let mut text = format!("`{}` is valid: {tenants}, {sinks}\n", config.display());

    for (name, Estimate { extent, is_new }) in estimates {
        let what = if *is_new { "is new and will receive" } else { "will receive" };
        let _ = writeln!(text, "sink `{name}` {what} {}", replay::describe(extent));
    }
    if let Some(online) = online {
        text += &online.as_text();
    }
    text
}

fn as_json(
    config: &Path,
    findings: &Findings,
    policy: WarningPolicy,
    report: Option<&CheckReport>,
) -> Value {
    let (errors, warnings) = findings.as_json();
    let estimate = |(name, estimate): &(SinkName, Estimate)| {
        let Estimate { extent, is_new } = estimate;
        let ReplayExtent { days, tenants, tenant_days, records, bytes } = extent;
        json!({
            "sink": name,
            "is_new": is_new,
            "days": days,
            "tenants": tenants,
            "tenant_days": tenant_days,
            "records": records,
            "bytes": bytes,
        })
    };

    json!({
        "configuration": config.display().to_string(),
        "valid": findings.exit_code(policy).is_none(),
        "errors": errors,
        "warnings": warnings,
        "tenants": report.map(|report| report.configuration.tenants.len()),
        "sinks": report.map(|report| report.configuration.sinks.len()),
        "estimates": report.map(|report| report.estimates.iter().map(estimate).collect::<Value>()),
        "effective": report
            .and_then(|report| report.effective.as_deref())
            .map(effective::as_json),
        "online": report.and_then(|report| report.online.as_ref()).map(OnlineReport::as_json),
    })
}
