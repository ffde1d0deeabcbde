//! What `check` has found: errors, which make the exit code 2 or 3, and warnings. Both have a
//! location if they are in a configuration file. Without `--strict`, a warning must never change
//! the exit code. Start reading at [`Findings::exit_code`].

use serde_json::{Value, json};

use super::{CommandFailure, ExitCode, count, print_message, render};
use crate::{
    error::Explanation,
    settings::{Fault, FaultGroup, Location},
};

/// Whether warnings make the configuration unacceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WarningPolicy {
    Accept,
    /// `--strict`.
    Reject,
}

/// The findings of one run.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
    /// The exit code of the first failure that is not a fault of the configuration.
    code: Option<ExitCode>,
}

impl Findings {
    /// Adds faults that make the configuration invalid.
    pub(super) fn add_errors(&mut self, errors: impl IntoIterator<Item = Fault>) {
        self.errors.extend(errors);
    }

    /// Adds faults that only `--strict` rejects.
    pub(super) fn add_warnings(&mut self, warnings: impl IntoIterator<Item = Fault>) {
        self.warnings.extend(warnings);
    }

    /// Adds warnings that are not in a configuration file.
    pub(super) fn add_notes(&mut self, notes: impl IntoIterator<Item = Explanation>) {
        self.warnings.extend(notes.into_iter().map(Fault::elsewhere));
    }

    /// Adds the errors of a failed step, whose exit code is kept.
    pub(super) fn add_failure(&mut self, failure: CommandFailure) {
        self.code.get_or_insert(failure.code);
        self.errors.extend(failure.explanations.into_iter().map(Fault::elsewhere));
    }

    /// Whether an error was added. Later steps rely on a configuration without errors.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether an error has the location of this fault, if it has one.
    pub(super) fn has_error_at(&self, fault: &Fault) -> bool {
        let is_at = |known: &Fault| known.file == fault.file && known.location == fault.location;
        fault.location.is_some() && self.errors.iter().any(is_at)
    }

    /// Whether an error names this path, so that another message about it would be a repetition.
    pub(super) fn has_error_about(&self, text: &str) -> bool {
        self.errors.iter().any(|error| {
            let named = error.message.split('`').skip(1).step_by(2);
            named.filter(|part| part.starts_with('/')).any(|path| text.contains(path))
        })
    }

    /// `None` if nothing was found that the policy rejects.
    pub(super) fn exit_code(&self, policy: WarningPolicy) -> Option<ExitCode> {
        let rejects_warnings = policy == WarningPolicy::Reject && !self.warnings.is_empty();
        match (self.has_errors(), rejects_warnings) {
            (true, _) => Some(self.code.unwrap_or(ExitCode::Usage)),
            (false, true) => Some(ExitCode::Usage),
            (false, false) => None,
        }
    }

    /// Prints all errors, then all warnings, to standard error. Those that occur on many lines are
    /// printed once.
    pub(super) fn print(&self, policy: WarningPolicy) {
        for (kind, faults) in [("error", &self.errors), ("warning", &self.warnings)] {
            for group in Fault::group(faults) {
                print_message(&format!("{kind}: {}", render(&group.explanation())));
            }
        }

        if !self.has_errors() && self.exit_code(policy).is_some() {
            let warnings = count(self.warnings.len(), "warning");
            print_message(&format!("error: {warnings}, which `--strict` rejects"));
        }
    }

    /// The errors, and the warnings, for a JSON document.
    pub(super) fn as_json(&self) -> (Value, Value) {
        let list = |faults: &[Fault]| Fault::group(faults).iter().map(as_json).collect();
        (list(&self.errors), list(&self.warnings))
    }
}

fn as_json(group: &FaultGroup) -> Value {
    let FaultGroup { first: Fault { file, location, message, hint }, lines } = group;
    let line = location.map(|Location { line, .. }| line);
    let column = location.map(|Location { column, .. }| column).filter(|column| *column > 0);
    json!({
        "message": message,
        "hint": hint,
        "file": (!file.is_empty()).then_some(file),
        "line": line,
        "column": column,
        "lines": lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: usize) -> Fault {
        let location = Some(Location { line, column: 5 });
        Fault { file: "c.toml".to_owned(), location, message: "`x`".to_owned(), hint: None }
    }

    #[test]
    fn exit_code_depends_on_the_policy() {
        use WarningPolicy::{Accept, Reject};
        let mut findings = Findings::default();
        assert_eq!((findings.exit_code(Accept), findings.exit_code(Reject)), (None, None));

        findings.add_warnings([fault(1)]);
        assert_eq!(findings.exit_code(Accept), None);
        assert_eq!(findings.exit_code(Reject), Some(ExitCode::Usage));

        findings.add_errors([fault(2)]);
        assert_eq!(findings.exit_code(Accept), Some(ExitCode::Usage));
        findings.add_failure(CommandFailure::new(ExitCode::Unusable, "damaged"));
        assert_eq!(findings.exit_code(Accept), Some(ExitCode::Unusable));
    }

    #[test]
    fn documents_have_locations_and_groups() {
        let mut findings = Findings::default();
        findings.add_errors((1..=3).map(fault));
        findings.add_notes(["no location".into()]);
        let (errors, warnings) = findings.as_json();
        assert_eq!(
            errors,
            json!([{ "message": "`x`", "hint": null, "file": "c.toml", "line": 1, "column": 5, "lines": 3 }])
        );
        assert_eq!(
            warnings,
            json!([{ "message": "no location", "hint": null, "file": null, "line": null, "column": null, "lines": 1 }])
        );
    }

    #[test]
    fn errors_about_a_path_are_found() {
        let mut findings = Findings::default();
        findings.add_notes(["`/a/key.pem` is readable".into()]);
        assert!(!findings.has_error_about("cannot read `/a/key.pem`"));

        let message = "the service cannot read `/a/key.pem`: it runs as the user `x`";
        findings.add_errors([Fault::elsewhere(message.into())]);
        assert!(findings.has_error_about("cannot read `/a/key.pem`: Permission denied"));
        assert!(!findings.has_error_about("`tenant x`: cannot read `/a/other.pem`"));
    }
}
