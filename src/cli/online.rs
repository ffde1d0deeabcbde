//! `check --online`: signs in with each tenant's credential and reads one snapshot, and contacts
//! each sink's receiver. It sends no record; `test-sink` does. Several tenants are contacted at the
//! same time, and those that fail are shown first. Start reading at [`contact`]. See decision 0029.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::{CommandFailure, block_on, json, render};
use crate::{
    config::{Configuration, SinkPlan, TenantName, TenantPlan},
    daemon::sink_context,
    error::{Explanation, chain},
    foreign_text::{DocumentSecrets, SentSecrets},
    model::{CLOCK_HINT, Day},
    source::{Api, Clients, Collection, Graph, Probe, text_without_secrets, without_secrets},
    text::{count, with_separators},
    wire::{self, WireError},
};

/// The number of tenants, and of receivers, that are contacted at the same time.
const MAX_CONCURRENT_PROBES: usize = 8;
/// The tolerated difference between the clocks of this host and of Microsoft. With a larger one,
/// client assertions are rejected and the times in records are wrong.
const MAX_SKEW: Duration = Duration::from_mins(1);
/// Limits the probe of one receiver, in addition to the time limits of its sink.
const PROBE_TIMEOUT: Duration = Duration::from_mins(1);

/// What all tenants and receivers returned; those that failed are first.
#[derive(Debug)]
pub(super) struct OnlineReport {
    tenants: Vec<ProbeResult>,
    sinks: Vec<ProbeResult>,
}

/// The result for one tenant or receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ProbeResult {
    /// The configured name.
    name: String,
    usability: Usability,
    findings: Vec<Explanation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Usability {
    Unusable,
    Usable,
}

/// The first snapshot of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstSnapshot {
    /// The page has none.
    Absent,
    /// It names no day.
    Undated,
    Of(Day),
}

/// Contacts every tenant and every receiver. Fails if the HTTP clients cannot be built.
pub(super) fn contact(configuration: &Configuration) -> Result<OnlineReport, CommandFailure> {
    let clients = Arc::new(Clients::new(&configuration.http)?);
    block_on(async {
        let tenants = configuration.tenants.iter().cloned();
        let tenants = tenants.map(|plan| contact_tenant(Arc::clone(&clients), plan));
        let sinks = configuration.sinks.iter().filter(|plan| !plan.discarded).cloned();
        let sinks = sinks.map(|plan| contact_receiver(Arc::clone(&clients), plan));
        OnlineReport { tenants: all(tenants).await, sinks: all(sinks).await }
    })
}

impl OnlineReport {
    /// Whether every tenant can be polled and every receiver responded as expected.
    pub(super) fn is_usable(&self) -> bool {
        let mut results = self.tenants.iter().chain(&self.sinks);
        results.all(|result| result.usability == Usability::Usable)
    }

    /// The findings, one per line with their hints, and a summary as the last line.
    pub(super) fn as_text(&self) -> String {
        let mut text = String::new();
        for (kind, results) in [("tenant", &self.tenants), ("sink", &self.sinks)] {
            for ProbeResult { name, findings, .. } in results {
                for finding in findings {
                    let finding = finding.clone().within(&format!("{kind} `{name}`"));
                    let _ = writeln!(text, "{}", render(&finding));
                }
            }
        }

        let (tenants, sinks) = (usable(&self.tenants), usable(&self.sinks));
        let _ = writeln!(
            text,
            "{} of {} can be polled; {} of {} responded as expected",
            with_separators(tenants),
            count(self.tenants.len(), "tenant"),
            with_separators(sinks),
            count(self.sinks.len(), "sink")
        );
        text
    }

    /// The results for a JSON document.
    pub(super) fn as_json(&self) -> Value {
        let list = |results: &[ProbeResult]| results.iter().map(ProbeResult::as_json).collect();
        let (tenants, sinks): (Value, Value) = (list(&self.tenants), list(&self.sinks));
        json!({ "tenants": tenants, "sinks": sinks })
    }
}

impl ProbeResult {
    fn as_json(&self) -> Value {
        json!({
            "name": self.name,
            "usable": self.usability == Usability::Usable,
            "findings": self.findings.iter().map(json::error).collect::<Value>(),
        })
    }
}

/// The number of results that can be used.
fn usable(results: &[ProbeResult]) -> usize {
    results.iter().filter(|result| result.usability == Usability::Usable).count()
}

/// Runs probes, several at a time. Returns their results in the order of the probes, with those
/// first that cannot be used.
async fn all<P>(probes: impl Iterator<Item = P>) -> Vec<ProbeResult>
where
    P: Future<Output = ProbeResult> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_PROBES));
    let mut running = JoinSet::new();
    for (index, probe) in probes.enumerate() {
        let permits = Arc::clone(&permits);
        running.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            (index, probe.await)
        });
    }

    // A probe that panics ends the process, so every probe has a result.
    let mut results = running.join_all().await;
    results.sort_by_key(|(index, result)| (result.usability, *index));
    results.into_iter().map(|(_, result)| result).collect()
}

async fn contact_tenant(clients: Arc<Clients>, plan: TenantPlan) -> ProbeResult {
    let graph = Graph::new(clients, plan.access.clone());
    let collection = match plan.access.api {
        Api::SecureScores => Collection::Scores { top: 1 },
        Api::LegacyReports => Collection::LegacyScores { period: 1 },
    };

    let (is_usable, findings) = match graph.probe(collection).await {
        Ok(probe) => judge_probe(&plan, &probe),
        Err(error) => (false, vec![Explanation::of(&error)]),
    };
    let usability = if is_usable { Usability::Usable } else { Usability::Unusable };
    ProbeResult { name: plan.name, usability, findings }
}

async fn contact_receiver(clients: Arc<Clients>, plan: SinkPlan) -> ProbeResult {
    let context = sink_context(&plan, &clients);
    let (usability, finding) = match timeout(PROBE_TIMEOUT, plan.plan.probe(&context)).await {
        Ok(Ok(response)) => (Usability::Usable, Explanation::new(response)),
        Ok(Err(failure)) => (Usability::Unusable, Explanation::of(&failure)),
        Err(_) => {
            let message = format!("no response within {} s", PROBE_TIMEOUT.as_secs());
            (Usability::Unusable, Explanation::new(message))
        }
    };
    ProbeResult { name: plan.name.to_string(), usability, findings: vec![finding] }
}

/// Whether the tenant can be polled, and one explanation per finding.
fn judge_probe(plan: &TenantPlan, probe: &Probe) -> (bool, Vec<Explanation>) {
    let (mut usable, mut findings) = (true, Vec::new());

    let (api, secrets) = (plan.access.api, &probe.secrets);
    let first = first_snapshot(&probe.body, api).map_err(|error| {
        let secrets = &DocumentSecrets::new(secrets);
        without_secrets(error, &probe.body, secrets, |body| first_snapshot(body, api).err())
    });
    match first {
        Ok(FirstSnapshot::Of(day)) => {
            let message = format!("signed in and read a snapshot; the newest day is `{day}`");
            findings.push(message.into());
        }
        Ok(FirstSnapshot::Absent) => {
            findings.push("signed in; the tenant has no score yet".into());
        }
        Ok(FirstSnapshot::Undated) => {
            usable = false;
            findings.push("the newest snapshot has no date".into());
        }
        Err(error) => {
            usable = false;
            findings.push(chain(&error).into());
        }
    }

    if let Some(granted) = &probe.granted {
        usable &= judge_grants(plan, granted, secrets, &mut findings);
    }

    if let Some(offset) = probe.clock_offset.filter(|offset| offset.size() > MAX_SKEW) {
        usable = false;
        let message = format!("the clock of this host is {offset}");
        findings.push(Explanation::new(message).with_hint(CLOCK_HINT));
    }

    (usable, findings)
}

/// The first snapshot of a page, which is that of the newest day.
fn first_snapshot(body: &[u8], api: Api) -> Result<FirstSnapshot, WireError> {
    let page = match api {
        Api::SecureScores => wire::page(body),
        Api::LegacyReports => wire::bare_list(body),
    };
    let Some(item) = page?.items.first().copied() else { return Ok(FirstSnapshot::Absent) };
    Ok(wire::snapshot(item)?.day().map_or(FirstSnapshot::Undated, FirstSnapshot::Of))
}

/// Compares the permissions of the token with the required one, and its tenant with the configured
/// one. Returns whether the token is sufficient; excess permissions are only reported. `secrets`
/// are those that the token endpoint may have written into the token.
fn judge_grants(
    plan: &TenantPlan,
    granted: &wire::TokenGrants,
    secrets: &SentSecrets,
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
                text_without_secrets(&excess.join("`, `"), secrets)
            ))
            .with_hint(format!("remove all permissions except `{required}`")),
        );
    }

    if let (Some(tid), TenantName::Guid(id)) = (&granted.tenant, &plan.id)
        && !tid.eq_ignore_ascii_case(&id.to_string())
    {
        sufficient = false;
        let tid = text_without_secrets(tid, secrets);
        findings.push(format!("the token is for another tenant, `{tid}`").into());
    }
    sufficient
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::sync::Barrier;

    use super::*;

    fn result(name: &str, usability: Usability) -> ProbeResult {
        let findings = vec![Explanation::new("found").with_hint("do it")];
        ProbeResult { name: name.to_owned(), usability, findings }
    }

    #[tokio::test]
    async fn failing_results_are_first() {
        let names = ["a", "b", "c", "d"];
        let probes = names.map(|name| async move {
            // The results arrive in another order than the probes.
            tokio::time::sleep(Duration::from_millis(if name == "a" { 20 } else { 0 })).await;
            let is_usable = matches!(name, "a" | "c");
            result(name, if is_usable { Usability::Usable } else { Usability::Unusable })
        });

        let results = all(probes.into_iter()).await;
        let order: Vec<&str> = results.iter().map(|result| result.name.as_str()).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }

    /// A probe ends only when the permitted number of probes is running.
    #[tokio::test]
    async fn eight_probes_run_at_a_time() {
        let probes = 3 * MAX_CONCURRENT_PROBES;
        let shared = Arc::new((Barrier::new(MAX_CONCURRENT_PROBES), AtomicUsize::new(0)));
        let probe = |_| {
            let shared = Arc::clone(&shared);
            async move {
                let (barrier, running) = &*shared;
                assert!(running.fetch_add(1, SeqCst) < MAX_CONCURRENT_PROBES, "too many probes");
                barrier.wait().await;
                running.fetch_sub(1, SeqCst);
                result("a", Usability::Usable)
            }
        };

        let results = timeout(Duration::from_mins(1), all((0..probes).map(probe))).await;
        assert_eq!(results.unwrap().len(), probes);
    }

    /// Regression: the finding about a page that cannot be decoded contained the token that the
    /// page repeated.
    #[test]
    fn errors_about_pages_contain_no_secret() {
        let mut secrets = SentSecrets::default();
        secrets.add_temporary("canary-of-a-token");
        for (body, expected) in [
            (r#"{"value":"canary-of-a-token"}"#, "[redacted]"),
            (r#"{"value":["canary-of-a-token"]}"#, "a text instead of an object"),
        ] {
            let error = first_snapshot(body.as_bytes(), Api::SecureScores).unwrap_err();
            let secrets = &DocumentSecrets::new(&secrets);
            let error = without_secrets(error, body.as_bytes(), secrets, |body| {
                first_snapshot(body, Api::SecureScores).err()
            });
            let message = chain(&error);
            assert!(message.contains(expected) && !message.contains("canary"), "{message}");
        }
        let empty = first_snapshot(br#"{"value":[]}"#, Api::SecureScores);
        assert!(matches!(empty, Ok(FirstSnapshot::Absent)));
    }

    #[test]
    fn reports_end_with_a_summary() {
        let report = OnlineReport {
            tenants: vec![result("b", Usability::Unusable), result("a", Usability::Usable)],
            sinks: vec![result("siem", Usability::Usable)],
        };
        let text = report.as_text();
        assert!(text.starts_with("tenant `b`: found\n  hint: do it\ntenant `a`: found"), "{text}");
        let summary = "1 of 2 tenants can be polled; 1 of 1 sink responded as expected\n";
        assert!(text.ends_with(summary), "{text}");
        assert!(!report.is_usable());
        assert_eq!(report.as_json()["tenants"][0]["usable"], false);
    }
}
