//! `check --online`: what Microsoft says to each tenant's credential, and each sink's receiver to us.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Exit, Failed, block_on, print, rendered};
use crate::{
    config::{Configuration, TenantPlan},
    daemon::sink_context,
    error::{Explanation, chain},
    source::{Api, Clients, Collection, Graph, Probe},
    wire,
};

/// A clock further off than this makes assertions fail and records lie.
const MAX_SKEW_SECONDS: i64 = 60;
/// Longer than any receiver takes to answer nothing.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) fn check_online(configuration: &Configuration) -> Result<Exit, Failed> {
    let clients = Arc::new(Clients::new(&configuration.reach)?);
    block_on(async {
        let mut exit = Exit::Done;
        for plan in &configuration.tenants {
            let graph = Graph::new(clients.clone(), plan.access.clone());
            let collection = match plan.access.api {
                Api::SecureScores => Collection::Scores { top: 1 },
                Api::LegacyReports => Collection::LegacyScores { period: 1 },
            };
            let (fine, findings) = match graph.probe(collection).await {
                Ok(probe) => verdict(plan, &probe),
                Err(error) => (false, vec![Explanation::of(&error)]),
            };
            for finding in findings {
                let finding = finding.within(&format!("tenant {}", plan.name));
                print(&format!("{}\n", rendered(&finding)))?;
            }
            if !fine {
                exit = Exit::Incomplete;
            }
        }
        Ok(exit)
    })?
}

/// Asks every sink's receiver whether it is there. It gets no record: that is `test-sink`.
pub(super) fn try_sinks(configuration: &Configuration) -> Result<Exit, Failed> {
    let clients = Arc::new(Clients::new(&configuration.reach)?);
    block_on(async {
        let mut exit = Exit::Done;
        for plan in configuration.sinks.iter().filter(|plan| !plan.discarded) {
            let context = sink_context(plan, &clients);
            let finding = match timeout(PATIENCE, plan.plan.probe(&context)).await {
                Ok(Ok(seen)) => Explanation::new(seen),
                Ok(Err(failure)) => {
                    exit = Exit::Incomplete;
                    let hint = failure.hint().map(Cow::into_owned);
                    Explanation { message: failure.to_string(), hint }
                }
                Err(_) => {
                    exit = Exit::Incomplete;
                    Explanation::new("no response")
                }
            };
            let finding = finding.within(&format!("sink {}", plan.name));
            print(&format!("{}\n", rendered(&finding)))?;
        }
        Ok(exit)
    })?
}

/// Whether the probe of a tenant found no fault, and a line for each thing found.
fn verdict(plan: &TenantPlan, probe: &Probe) -> (bool, Vec<Explanation>) {
    let (mut fine, mut findings) = (true, Vec::new());

    let legacy = plan.access.api == Api::LegacyReports;
    let page = if legacy { wire::bare_list(&probe.body) } else { wire::page(&probe.body) };
    match page.map(|page| page.items.first().map(|item| wire::snapshot(item).map(|s| s.day()))) {
        Ok(Some(Ok(Some(day)))) => {
            findings.push(format!("signed in and read; the newest day is {day}").into());
        }
        Ok(None) => findings.push("signed in and read; there is no score yet".into()),
        Ok(Some(Ok(None))) => {
            fine = false;
            findings.push("the newest snapshot has no date".into());
        }
        Ok(Some(Err(error))) | Err(error) => {
            fine = false;
            findings.push(chain(&error).into());
        }
    }

    if let Some(granted) = &probe.granted {
        fine &= judge_grants(plan, granted, legacy, &mut findings);
    }

    let skew = probe.clock_ahead.map_or(0, |ahead| ahead.as_secs());
    if skew.abs() > MAX_SKEW_SECONDS {
        fine = false;
        let way = if skew > 0 { "ahead of" } else { "behind" };
        let message = format!("the clock of this host is {} s {way} Microsoft's", skew.abs());
        findings.push(Explanation::new(message).with_hint("set the clock by NTP"));
    }

    (fine, findings)
}

/// Compares what the token grants with what is needed: no less, and preferably no more.
fn judge_grants(
    plan: &TenantPlan,
    granted: &wire::Granted,
    legacy: bool,
    findings: &mut Vec<Explanation>,
) -> bool {
    let needed = if legacy { "Reports.Read.All" } else { "SecurityEvents.Read.All" };
    let enough = [needed, "SecurityEvents.ReadWrite.All"];
    // Every delegated token carries these.
    let harmless = ["openid", "profile", "email", "offline_access", "User.Read"];
    let all: Vec<&str> = granted.roles.iter().chain(&granted.scopes).map(String::as_str).collect();
    let beyond: Vec<&str> =
        all.iter().copied().filter(|g| *g != needed && !harmless.contains(g)).collect();
    let mut fine = true;

    if !all.iter().any(|grant| enough.contains(grant)) {
        fine = false;
        findings.push(
            Explanation::new(format!("the token does not grant {needed}"))
                .with_hint("run `consent-url` and let an administrator open the link"),
        );
    }

    if !beyond.is_empty() {
        findings.push(
            Explanation::new(format!("more is granted than is needed: {}", beyond.join(", ")))
                .with_hint(format!("remove all permissions except {needed}")),
        );
    }

    if let (Some(tid), crate::config::TenantName::Guid(id)) = (&granted.tenant, &plan.id)
        && !tid.eq_ignore_ascii_case(&id.to_string())
    {
        fine = false;
        findings.push(format!("the token is for another tenant: {tid}").into());
    }
    fine
}
