//! `check --online`: what Microsoft says to each tenant's credential, and each sink's receiver to us.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Exit, Failed, block_on, print};
use crate::{
    config::{Configuration, TenantPlan},
    daemon::context_of,
    error::chain,
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
            let (fine, said) = match graph.probe(collection).await {
                Ok(probe) => verdict(plan, &probe),
                Err(error) => (false, format!("tenant {}: {}\n", plan.name, chain(&error))),
            };
            print(&said)?;
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
            let context = context_of(plan, &clients);
            let said = match timeout(PATIENCE, plan.plan.probe(&context)).await {
                Ok(Ok(seen)) => Ok(seen),
                Ok(Err(failure)) => Err(failure.to_string()),
                Err(_) => Err("nobody answers".to_owned()),
            };
            if said.is_err() {
                exit = Exit::Incomplete;
            }
            let said = said.unwrap_or_else(|failure| failure);
            print(&format!("sink {}: {said}\n", plan.name))?;
        }
        Ok(exit)
    })?
}

/// Whether all is well, and a line for each thing found.
fn verdict(plan: &TenantPlan, probe: &Probe) -> (bool, String) {
    let (mut fine, mut said) = (true, String::new());
    let name = &plan.name;
    let legacy = plan.access.api == Api::LegacyReports;
    let page = if legacy { wire::bare_list(&probe.body) } else { wire::page(&probe.body) };
    match page.map(|page| page.items.first().map(|item| wire::snapshot(item).map(|s| s.day()))) {
        Ok(Some(Ok(Some(day)))) => {
            let _ = writeln!(said, "tenant {name}: signed in, and read; the newest day is {day}");
        }
        Ok(None) => {
            let _ = writeln!(said, "tenant {name}: signed in, and read; there is no score yet");
        }
        Ok(Some(Ok(None))) => {
            fine = false;
            let _ = writeln!(said, "tenant {name}: the newest snapshot names no day");
        }
        Ok(Some(Err(error))) | Err(error) => {
            fine = false;
            let _ = writeln!(said, "tenant {name}: {}", chain(&error));
        }
    }
    if let Some(granted) = &probe.granted {
        fine &= judge_grants(plan, granted, legacy, &mut said);
    }
    let skew = probe.clock_ahead.map_or(0, |ahead| ahead.as_secs());
    if skew.abs() > MAX_SKEW_SECONDS {
        fine = false;
        let way = if skew > 0 { "ahead" } else { "behind" };
        let _ = writeln!(
            said,
            "tenant {name}: this host's clock is {} s {way} of Microsoft's\n  hint: set it by NTP",
            skew.abs()
        );
    }
    (fine, said)
}

/// Compares what the token grants with what is needed: no less, and better no more.
fn judge_grants(
    plan: &TenantPlan,
    granted: &wire::Granted,
    legacy: bool,
    said: &mut String,
) -> bool {
    let name = &plan.name;
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
        let _ = writeln!(
            said,
            "tenant {name}: the token does not grant {needed}\n  hint: `consent-url` prints the link by which an administrator grants it"
        );
    }
    if !beyond.is_empty() {
        let _ = writeln!(
            said,
            "tenant {name}: more is granted than is needed: {}\n  hint: {needed} alone is enough; take the rest away",
            beyond.join(", ")
        );
    }
    if let (Some(tid), crate::config::TenantName::Guid(id)) = (&granted.tenant, &plan.id)
        && !tid.eq_ignore_ascii_case(&id.to_string())
    {
        fine = false;
        let _ = writeln!(said, "tenant {name}: the token is for another tenant: {tid}");
    }
    fine
}
