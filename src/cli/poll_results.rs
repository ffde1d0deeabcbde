//! The results of polls as text and as JSON, for `once`, `poll`, `backfill` and `demo`. Polls that
//! are not complete are first, and a summary follows the last one, as in `check --online`. Start
//! reading at [`PollResults`].

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{count, json, print_explanation};
use crate::{
    config::Configuration,
    daemon::{OnceReport, PollOutcome, PollReport},
    error::Explanation,
    text::with_separators,
};

/// The names of tenants and the results of their polls; those that are not complete are first.
#[derive(Debug)]
pub(super) struct PollResults(Vec<(String, PollOutcome)>);

impl PollResults {
    /// The results of a round, in the order of the configuration.
    pub(super) fn of(report: &OnceReport) -> Self {
        let polls = report.polls.iter();
        Self::new(polls.map(|(name, poll)| (name.clone(), PollOutcome::of(poll))).collect())
    }

    /// The results that a daemon has sent, in any order.
    pub(super) fn received(
        mut results: Vec<(String, PollOutcome)>,
        configuration: &Configuration,
    ) -> Self {
        let names = configuration.tenants.iter().map(|plan| plan.name.as_str());
        let positions: HashMap<&str, usize> = names.zip(0..).collect();
        results.sort_by_key(|(name, _)| positions.get(name.as_str()).copied());
        Self::new(results)
    }

    fn new(mut results: Vec<(String, PollOutcome)>) -> Self {
        // The sort is stable.
        results.sort_by_key(|(_, outcome)| outcome.is_complete());
        Self(results)
    }

    /// Whether every poll was complete.
    pub(super) fn is_complete(&self) -> bool {
        self.0.iter().all(|(_, outcome)| outcome.is_complete())
    }

    /// Prints one line per tenant, with the hint of its problem.
    pub(super) fn print(&self) {
        for (tenant, outcome) in &self.0 {
            print_explanation(&explain(outcome).within(&format!("tenant `{tenant}`")));
        }
        // The clock is the same for all tenants.
        if let Some(clock) = self.0.iter().find_map(|(_, outcome)| outcome.clock()) {
            print_explanation(clock);
        }
    }

    /// How many polls were complete, such as `polls complete: 499 of 500 tenants`.
    pub(super) fn summary(&self) -> String {
        let complete = self.0.iter().filter(|(_, outcome)| outcome.is_complete()).count();
        let tenants = count(self.0.len(), "tenant");
        format!("polls complete: {} of {tenants}", with_separators(complete))
    }

    /// The list for a JSON document.
    pub(super) fn as_json(&self) -> Value {
        self.0.iter().map(|(tenant, outcome)| outcome_as_json(tenant, outcome)).collect()
    }
}

/// What a poll has read, and why its response is incomplete.
fn explain(outcome: &PollOutcome) -> Explanation {
    let PollOutcome::Polled(report) = outcome else {
        return outcome.problem().unwrap_or_default();
    };
    let PollReport { days, revisions, rejected, held, newest, incomplete, clock: _ } = report;

    let mut parts = vec![count(*days, "new day")];
    let newest = newest.map(|day| format!("newest `{day}`"));
    parts.push(newest.unwrap_or_else(|| "no day yet".to_owned()));
    if *revisions > 0 {
        parts.push(count(*revisions, "revision"));
    }
    if *rejected > 0 {
        parts.push(format!("{} rejected", count(*rejected, "snapshot")));
    }
    if *held > 0 {
        parts.push(format!("{} held", count(*held, "day")));
    }

    let line = parts.join(", ");
    match incomplete {
        Some(Explanation { message, hint }) => {
            Explanation { message: format!("{line}; {message}"), hint: hint.clone() }
        }
        None => Explanation::new(line),
    }
}

/// The result of a poll. The numbers are `null` if the tenant was not polled.
fn outcome_as_json(tenant: &str, outcome: &PollOutcome) -> Value {
    let mut document = json!({
        "name": tenant,
        "state": state(outcome),
        "new_days": null,
        "revisions": null,
        "rejected_snapshots": null,
        "held_days": null,
        "newest_day": null,
        "retry_after_seconds": null,
        "error": outcome.problem().map(|problem| json::error(&problem)),
    });

    match outcome {
        PollOutcome::Polled(report) => {
            document["new_days"] = json!(report.days);
            document["revisions"] = json!(report.revisions);
            document["rejected_snapshots"] = json!(report.rejected);
            document["held_days"] = json!(report.held);
            document["newest_day"] = json!(report.newest);
        }
        PollOutcome::Paused { rest } => document["retry_after_seconds"] = json!(rest.as_secs()),
        PollOutcome::Failed(_) => {}
    }
    document
}

/// The value of `state` in the document of a poll.
fn state(outcome: &PollOutcome) -> &'static str {
    match outcome {
        PollOutcome::Polled(report) if report.incomplete.is_none() => "complete",
        PollOutcome::Polled(_) => "incomplete",
        PollOutcome::Failed(_) => "failed",
        PollOutcome::Paused { .. } => "paused",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Day;

    fn polled(incomplete: Option<Explanation>) -> PollOutcome {
        let newest = Day::from_number(0);
        PollOutcome::Polled(PollReport { days: 1, newest, incomplete, ..PollReport::default() })
    }

    #[test]
    fn polls_have_the_same_members_in_every_state() {
        let reason = Explanation::new("partial").with_hint("wait");
        let members = |outcome: &PollOutcome| -> Vec<String> {
            outcome_as_json("t", outcome).as_object().unwrap().keys().cloned().collect()
        };

        let complete = polled(None);
        assert_eq!(outcome_as_json("t", &complete)["newest_day"], "1970-01-01");
        for (outcome, state) in [
            (polled(Some(reason.clone())), "incomplete"),
            (PollOutcome::Failed(reason), "failed"),
            (PollOutcome::Paused { rest: Duration::from_mins(1) }, "paused"),
        ] {
            assert_eq!(members(&outcome), members(&complete));
            let document = outcome_as_json("t", &outcome);
            assert_eq!(document["state"], state);
            assert!(document["error"]["message"].is_string());
        }
    }

    /// Regression: a failing tenant was printed among hundreds of lines, and there was no summary.
    #[test]
    fn incomplete_polls_are_first_and_counted() {
        let reason = || Explanation::new("no");
        let results = PollResults::new(vec![
            ("a".to_owned(), polled(None)),
            ("b".to_owned(), PollOutcome::Failed(reason())),
            ("c".to_owned(), polled(None)),
            ("d".to_owned(), polled(Some(reason()))),
        ]);
        let order: Vec<&str> = results.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
        assert_eq!(results.as_json()[0]["name"], "b");
        assert_eq!(results.summary(), "polls complete: 2 of 4 tenants");
        assert!(!results.is_complete());

        let results = PollResults::new(vec![("a".to_owned(), polled(None))]);
        assert_eq!(results.summary(), "polls complete: 1 of 1 tenant");
        assert!(results.is_complete());
    }
}
