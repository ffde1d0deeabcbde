//! `check --online`: signs in with each tenant's credential and reads one snapshot, and contacts
//! each sink's receiver. It sends no record; `test-sink` does. See decision 0029.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::time::timeout;

use super::{CommandFailure, ExitCode, block_on, print, render};
use crate::{
    config::{Configuration, TenantName, TenantPlan},
    daemon::sink_context,
    error::{Explanation, chain},
    source::{Api, Clients, Collection, Graph, Probe},
    wire,
};

/// The tolerated difference between the clocks of this host and of Microsoft. With a larger one,
/// client assertions are rejected and the times in records are wrong.
const MAX_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// Limits the probe of one receiver, in addition to the time limits of its sink.
const PROBE_TIMEOUT: Duration = Duration::from_mins(1);

/// Prints the findings for every tenant. Returns `Incomplete` if at least one tenant cannot be
/// polled. Fails if the HTTP clients cannot be built.
pub(super) fn check_tenants(configuration: &Configuration) -> Result<ExitCode, CommandFailure> {
    let clients = Arc::new(Clients::new(&configuration.http)?);
    block_on(async {
        let mut exit = ExitCode::Done;
        for plan in &configuration.tenants {
            let graph = Graph::new(clients.clone(), plan.access.clone());
            let collection = match plan.access.api {
                Api::SecureScores => Collection::Scores { top: 1 },
                Api::LegacyReports => Collection::LegacyScores { period: 1 },
            };

            let (usable, findings) = match graph.probe(collection).await {
                Ok(probe) => judge_probe(plan, &probe),
                Err(error) => (false, vec![Explanation::of(&error)]),
            };
            for finding in findings {
                let finding = finding.within(&format!("tenant `{}`", plan.name));
                print(&format!("{}\n", render(&finding)))?;
            }
            if !usable {
                exit = ExitCode::Incomplete;
            }
        }
        Ok(exit)
    })?
}

/// Prints the response of every sink's receiver. Returns `Incomplete` if at least one cannot be
/// used. Fails if the HTTP clients cannot be built.
pub(super) fn check_receivers(configuration: &Configuration) -> Result<ExitCode, CommandFailure> {
    let clients = Arc::new(Clients::new(&configuration.http)?);
    block_on(async {
        let mut exit = ExitCode::Done;
        for plan in configuration.sinks.iter().filter(|plan| !plan.discarded) {
            let context = sink_context(plan, &clients);

            let finding = match timeout(PROBE_TIMEOUT, plan.plan.probe(&context)).await {
                Ok(Ok(response)) => Explanation::new(response),
                Ok(Err(failure)) => {
                    exit = ExitCode::Incomplete;
                    Explanation::of(&failure)
                }
                Err(_) => {
                    exit = ExitCode::Incomplete;
                    Explanation::new(format!("no response within {} s", PROBE_TIMEOUT.as_secs()))
                }
            };
            let finding = finding.within(&format!("sink `{}`", plan.name));
            print(&format!("{}\n", render(&finding)))?;
        }
        Ok(exit)
    })?
}

/// Whether the tenant can be polled, and one explanation per finding.
fn judge_probe(plan: &TenantPlan, probe: &Probe) -> (bool, Vec<Explanation>) {
    let (mut usable, mut findings) = (true, Vec::new());

    let page = match plan.access.api {
        Api::SecureScores => wire::page(&probe.body),
        Api::LegacyReports => wire::bare_list(&probe.body),
    };
    match page.map(|page| page.items.first().map(|item| wire::snapshot(item).map(|s| s.day()))) {
        Ok(Some(Ok(Some(day)))) => {
            let message = format!("signed in and read a snapshot; the newest day is `{day}`");
            findings.push(message.into());
        }
        Ok(None) => findings.push("signed in; the tenant has no score yet".into()),
        Ok(Some(Ok(None))) => {
            usable = false;
            findings.push("the newest snapshot has no date".into());
        }
        Ok(Some(Err(error))) | Err(error) => {
            usable = false;
            findings.push(chain(&error).into());
        }
    }

    if let Some(granted) = &probe.granted {
        usable &= judge_grants(plan, granted, &mut findings);
    }

    let skew = probe.clock_ahead.map_or(0, |ahead| ahead.as_secs());
    if skew.abs() > MAX_SKEW.as_secs() {
        usable = false;
        let relation = if skew > 0 { "ahead of" } else { "behind" };
        let message =
            format!("the clock of this host is {} s {relation} Microsoft's clock", skew.abs());
        findings.push(Explanation::new(message).with_hint("synchronize the clock with NTP"));
    }

    (usable, findings)
}

/// Compares the permissions of the token with the required one, and its tenant with the configured
/// one. Returns whether the token is sufficient; excess permissions are only reported.
fn judge_grants(
    plan: &TenantPlan,
    granted: &wire::TokenGrants,
    findings: &mut Vec<Explanation>,
) -> bool {
    let required = match plan.access.api {
        Api::SecureScores => "SecurityEvents.Read.All",
        Api::LegacyReports => "Reports.Read.All",
    };
    let accepted = [required, "SecurityEvents.ReadWrite.All"];
    // Entra adds these to every delegated token.
    let harmless = ["openid", "profile", "email", "offline_access", "User.Read"];
    let all: Vec<&str> = granted.roles.iter().chain(&granted.scopes).map(String::as_str).collect();
    let excess: Vec<&str> =
        all.iter().copied().filter(|g| *g != required && !harmless.contains(g)).collect();
    let mut sufficient = true;

    if !all.iter().any(|grant| accepted.contains(grant)) {
        sufficient = false;
        findings.push(
            Explanation::new(format!("the token does not grant `{required}`"))
                .with_hint("run `consent-url`, and have an administrator open the link"),
        );
    }

    if !excess.is_empty() {
        findings.push(
            Explanation::new(format!(
                "the token grants more permissions than required: `{}`",
                excess.join("`, `")
            ))
            .with_hint(format!("remove all permissions except `{required}`")),
        );
    }

    if let (Some(tid), TenantName::Guid(id)) = (&granted.tenant, &plan.id)
        && !tid.eq_ignore_ascii_case(&id.to_string())
    {
        sufficient = false;
        findings.push(format!("the token is for another tenant, `{tid}`").into());
    }
    sufficient
}
