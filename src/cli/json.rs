//! The documents that commands print with `--json`: one JSON document on standard output, even if
//! the command fails. Messages are printed to standard error as they are without `--json`.
//! `docs/how-to/automate-with-json.md` describes the members, which must not be renamed. Start
//! reading at [`Document`].

use serde_json::{Value, json};

use super::{CommandFailure, ExitCode, format_time, print_json};
use crate::{checkpoint::QueuedDeadLetter, config::SinkPlan, error::Explanation};

/// Whether a command prints a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// The command prints text.
    Omitted,
    /// The command prints a document.
    Printed,
}

/// What has happened to the records that a command sends again: the member `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResendState {
    /// Nothing was queued, because the command only estimates.
    Estimated,
    /// The daemon delivers the records.
    Queued,
    /// The command has delivered all records.
    Delivered,
    /// The command has not delivered all records.
    Incomplete,
    /// No record is selected.
    NothingToSend,
}

impl ResendState {
    /// The name in JSON. It must never change.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Estimated => "estimated",
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Incomplete => "incomplete",
            Self::NothingToSend => "nothing_to_send",
        }
    }
}

impl Document {
    /// What the option `--json` requests.
    pub(super) fn from_flag(json: bool) -> Self {
        if json { Self::Printed } else { Self::Omitted }
    }

    /// Runs a command. If the command fails, prints a document with its errors.
    pub(super) fn run(
        self,
        command: impl FnOnce() -> Result<ExitCode, CommandFailure>,
    ) -> Result<ExitCode, CommandFailure> {
        let result = command();
        if let Err(failure) = &result
            && self == Self::Printed
            && failure.code != ExitCode::Done
        {
            // If this fails, the caller still prints the failure to standard error.
            let _ = print_json(&text(&failure_document(&failure.explanations)));
        }
        result
    }

    /// Prints the document of a command that did not fail. Does nothing if none was requested.
    pub(super) fn print(self, document: impl FnOnce() -> Value) -> Result<(), CommandFailure> {
        match self {
            Self::Omitted => Ok(()),
            Self::Printed => print_json(&text(&document())),
        }
    }

    /// Fails if a document is requested and one of these sinks writes its records to standard
    /// output too.
    pub(super) fn check_stdout<'a>(
        self,
        sinks: impl IntoIterator<Item = &'a SinkPlan>,
    ) -> Result<(), CommandFailure> {
        let is_mixed = |plan: &&SinkPlan| plan.kind == "stdout" && !plan.discarded;
        match sinks.into_iter().find(is_mixed) {
            Some(plan) if self == Self::Printed => {
                let message = format!(
                    "cannot print a JSON document: sink `{}` writes its records to standard output",
                    plan.name
                );
                let hint = "omit --json, or use another type of sink";
                let explanation = Explanation::new(message).with_hint(hint);
                Err(CommandFailure::new(ExitCode::Usage, explanation))
            }
            _ => Ok(()),
        }
    }
}

/// An error and its hint; the hint is `null` if there is none.
pub(super) fn error(explanation: &Explanation) -> Value {
    json!({ "message": explanation.message, "hint": explanation.hint })
}

/// A stored dead letter. Some commands add members.
pub(super) fn dead_letter(letter: &QueuedDeadLetter) -> Value {
    json!({
        "sink": letter.sink,
        "tenant": letter.tenant.to_string(),
        "day": letter.day.map(|day| day.to_string()),
        "event_id": letter.event_id.to_string(),
        "reason": letter.reason,
        "rejected_at": format_time(letter.rejected_at),
        "retry_queued": letter.retry,
    })
}

fn failure_document(explanations: &[Explanation]) -> Value {
    json!({ "errors": explanations.iter().map(error).collect::<Vec<_>>() })
}

fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_message_and_a_hint() {
        let explanations =
            [Explanation::new("no sink `x`").with_hint("use one of: y"), "no day".into()];
        let expected = json!({ "errors": [
            { "message": "no sink `x`", "hint": "use one of: y" },
            { "message": "no day", "hint": null },
        ] });
        assert_eq!(failure_document(&explanations), expected);
    }
}
