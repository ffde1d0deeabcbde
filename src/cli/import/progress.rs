//! What has become of the parts of an import, and what the command reports about them: the totals
//! of each tenant as soon as its last part is finished, and, if the daemon ends in between, what it
//! has stored. Start reading at [`ImportProgress`].

use super::{
    super::{CommandFailure, ExitCode, count, print_explanation, print_message},
    ImportPart,
};
use crate::{daemon::ImportEvent, error::Explanation, text::with_separators};

/// The state of all parts, which have the order in which they are sent.
pub(super) struct ImportProgress<'a> {
    parts: Vec<PartProgress<'a>>,
    exit: ExitCode,
    /// The tenant and the explanations of the last failure, which are printed once.
    last_failure: Option<(&'a str, Vec<Explanation>)>,
}

/// The state of a part.
struct PartProgress<'a> {
    tenant: &'a str,
    snapshots: usize,
    state: PartState,
    has_failed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartState {
    /// The daemon has not confirmed that the part is stored.
    NotConfirmed,
    Queued,
    Imported {
        days: usize,
        rejected: usize,
    },
}

impl<'a> ImportProgress<'a> {
    /// Nothing has been stored of these parts.
    pub(super) fn new(parts: &[ImportPart<'a>]) -> Self {
        let progress = |part: &ImportPart<'a>| PartProgress {
            tenant: part.tenant,
            snapshots: part.items.len(),
            state: PartState::NotConfirmed,
            has_failed: false,
        };
        let parts = parts.iter().map(progress).collect();
        Self { parts, exit: ExitCode::Done, last_failure: None }
    }

    /// Notes what the daemon reports.
    pub(super) fn note(&mut self, event: &ImportEvent) {
        match event {
            ImportEvent::NextPart => {}
            ImportEvent::Queued { part } => self.queued(*part),
            ImportEvent::Imported { part, days, rejected } => {
                self.imported(*part, *days, *rejected);
            }
            ImportEvent::Failed { part, failure } => self.failed(*part, failure.clone().into()),
        }
    }

    /// Notes that the part with this number is stored.
    pub(super) fn queued(&mut self, number: usize) {
        if let Some(part) = self.parts.get_mut(number) {
            part.state = PartState::Queued;
        }
    }

    /// Notes the result of a part: the numbers of new days and of rejected snapshots.
    pub(super) fn imported(&mut self, number: usize, days: usize, rejected: usize) {
        let Some(part) = self.parts.get_mut(number) else { return };
        part.state = PartState::Imported { days, rejected };
        let tenant = part.tenant;
        if rejected > 0 && self.exit == ExitCode::Done {
            self.exit = ExitCode::Incomplete;
        }
        self.print_if_finished(tenant);
    }

    /// Notes and prints why a part was not imported.
    pub(super) fn failed(&mut self, number: usize, failure: CommandFailure) {
        let Some(part) = self.parts.get_mut(number) else { return };
        part.has_failed = true;
        let (tenant, CommandFailure { code, explanations }) = (part.tenant, failure);
        self.exit = code;

        let last = self.last_failure.as_ref();
        let is_printed =
            last.is_some_and(|(name, reasons)| *name == tenant && *reasons == explanations);
        if !is_printed {
            for explanation in &explanations {
                print_explanation(&explanation.clone().within(&format!("tenant `{tenant}`")));
            }
            self.last_failure = Some((tenant, explanations));
        }
        self.print_if_finished(tenant);
    }

    /// The exit code of a command that has carried out all parts.
    pub(super) fn exit_code(&self) -> ExitCode {
        self.exit
    }

    /// The failure of an import that the daemon has not finished, with what it has stored.
    pub(super) fn interrupted(&self, failure: CommandFailure) -> CommandFailure {
        let snapshots = |is_counted: fn(PartState) -> bool| {
            let counted = self.parts.iter().filter(|part| is_counted(part.state));
            counted.map(|part| part.snapshots).sum::<usize>()
        };
        let missing = snapshots(|state| state == PartState::NotConfirmed);
        let queued = snapshots(|state| state == PartState::Queued);
        let imported = snapshots(|state| matches!(state, PartState::Imported { .. }));

        let with_progress = |explanation: Explanation| {
            if imported + queued == 0 {
                let has_hint = explanation.hint.is_some();
                let hint = "run the same import again, which changes no stored day";
                return if has_hint { explanation } else { explanation.with_hint(hint) };
            }
            let [imported, queued, missing] = [imported, queued, missing].map(with_separators);
            let message = format!(
                "the import was interrupted (snapshots imported: {imported}, queued: {queued}, not confirmed: {missing})"
            );
            let hint = "run the same import again, which changes no stored day; the daemon, or `once`, also imports the queued snapshots without it";
            explanation.within(&message).with_hint(hint)
        };
        let CommandFailure { code, explanations } = failure;
        CommandFailure { code, explanations: explanations.into_iter().map(with_progress).collect() }
    }

    /// Prints the totals of a tenant after its last part.
    fn print_if_finished(&self, tenant: &str) {
        if let Some((imported, rejected)) = self.totals(tenant) {
            let rejected = match rejected {
                0 => String::new(),
                rejected => format!(", {} rejected", count(rejected, "snapshot")),
            };
            let imported = count(imported, "new day");
            print_message(&format!("tenant `{tenant}`: {imported} imported{rejected}"));
        }
    }

    /// The numbers of new days and of rejected snapshots of a tenant; `None` if not all of its
    /// parts are finished.
    fn totals(&self, tenant: &str) -> Option<(usize, usize)> {
        let mut totals = (0, 0);
        for part in self.parts.iter().filter(|part| part.tenant == tenant) {
            match part.state {
                PartState::Imported { days, rejected } => {
                    totals = (totals.0 + days, totals.1 + rejected);
                }
                PartState::NotConfirmed | PartState::Queued if part.has_failed => {}
                PartState::NotConfirmed | PartState::Queued => return None,
            }
        }
        Some(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<ImportPart<'static>> {
        [("a", 3), ("a", 2), ("b", 4)]
            .map(|(tenant, items)| ImportPart { tenant, items: vec!["{}"; items] })
            .into()
    }

    fn lost() -> CommandFailure {
        CommandFailure::new(ExitCode::Incomplete, "no response from the daemon")
    }

    /// Regression: after the end of the daemon, the command printed only `Connection refused` for
    /// each part, without a hint, although most parts were not stored.
    #[test]
    fn an_interruption_states_what_is_stored() {
        let parts = parts();
        let mut progress = ImportProgress::new(&parts);
        let failure = progress.interrupted(lost());
        assert_eq!(failure.explanations[0].message, "no response from the daemon");
        assert!(failure.explanations[0].hint.as_deref().unwrap().contains("run the same import"));

        progress.note(&ImportEvent::NextPart);
        progress.note(&ImportEvent::Queued { part: 0 });
        progress.note(&ImportEvent::Queued { part: 1 });
        progress.note(&ImportEvent::Imported { part: 0, days: 3, rejected: 0 });
        let failure = progress.interrupted(lost());
        assert_eq!(failure.code, ExitCode::Incomplete);
        assert_eq!(
            failure.explanations[0].message,
            "the import was interrupted (snapshots imported: 3, queued: 2, not confirmed: 4): no response from the daemon"
        );
        assert!(failure.explanations[0].hint.as_deref().unwrap().contains("`once`"));
    }

    #[test]
    fn totals_are_complete_after_the_last_part() {
        let parts = parts();
        let mut progress = ImportProgress::new(&parts);
        for part in 0..3 {
            progress.queued(part);
        }
        progress.imported(1, 2, 0);
        assert_eq!((progress.totals("a"), progress.exit_code()), (None, ExitCode::Done));
        progress.imported(0, 1, 2);
        assert_eq!(progress.totals("a"), Some((3, 2)));
        assert_eq!((progress.totals("b"), progress.exit_code()), (None, ExitCode::Incomplete));

        progress.failed(2, CommandFailure::new(ExitCode::Unusable, "the disk is full"));
        assert_eq!(
            (progress.totals("b"), progress.exit_code()),
            (Some((0, 0)), ExitCode::Unusable)
        );
        // A daemon of another version may report a part that does not exist.
        progress.imported(7, 1, 1);
        assert_eq!(progress.totals("a"), Some((3, 2)));
    }
}
