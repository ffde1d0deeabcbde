//! Finds new sinks that may be renamed ones, and estimates what they will receive again. `check`,
//! `reload` and the log report them; nothing is rejected, because a new sink may replace another
//! one on purpose. Reads only the checkpoint. See decision 0051.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Estimate, ReplayExtent,
    apply::kept_sinks,
    estimate,
    sink_steps::{ConfiguredSink, Successor, possible_successors},
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    clock,
    config::{Configuration, SinkPlan},
    error::Explanation,
    model::{Day, SinkName},
    source::Clients,
    text::{count, size},
};

/// A new sink that will receive days which a removed sink of its type has received already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PossibleRename {
    /// The name of the new sink.
    pub added: SinkName,
    /// The names of the removed sinks of the same type; at least one.
    pub removed: Vec<SinkName>,
    /// The first day that the new sink receives; `None` means the last 90 days.
    pub start_from: Option<Day>,
    /// The estimated number of records that the new sink will receive.
    pub records: u64,
    /// The estimated size of these records in bytes.
    pub bytes: u64,
}

impl PossibleRename {
    /// What will be sent again, and how to prevent it.
    pub fn explanation(&self) -> Explanation {
        let Self { added, removed, start_from, records, bytes } = self;
        let (noun, verb) = if removed.len() == 1 { ("sink", "was") } else { ("sinks", "were") };
        let days = match start_from {
            Some(day) => format!("the days since `{day}`"),
            None => "the last 90 days".to_owned(),
        };

        let message = format!(
            "{noun} {} {verb} removed and sink `{added}` is new: `{added}` will receive {days}, about {} ({})",
            joined(removed, "and"),
            count(*records, "record"),
            size(*bytes)
        );
        let hint = match removed.as_slice() {
            [old] => format!(
                "set `renamed_from = \"{old}\"` in the section of `{added}` to continue at its cursors"
            ),
            several => format!(
                "set `renamed_from` in the section of `{added}` to continue at the cursors of {}",
                joined(several, "or")
            ),
        };
        Explanation::new(message).with_hint(hint)
    }
}

/// The new sinks that may be renamed ones. Sinks that will not receive anything again are left out.
///
/// # Errors
///
/// Fails if the checkpoint cannot be read.
pub fn possible_renames(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
    clients: &Arc<Clients>,
) -> Result<Vec<PossibleRename>, CheckpointError> {
    let configured: Vec<ConfiguredSink> =
        configuration.sinks.iter().map(ConfiguredSink::from).collect();
    let successors = possible_successors(&kept_sinks(configuration, checkpoint)?, &configured);

    // A sink that starts today receives no history.
    let today = Day::of(clock::now());
    let has_history = |plan: &&SinkPlan| plan.start_from.is_none_or(|day| day < today);

    let mut renames = Vec::new();
    for Successor { added, removed } in successors {
        let plan = configuration.sink_named(&added);
        let Some(plan) = plan.filter(has_history) else { continue };
        let Estimate { extent, .. } = estimate(configuration, checkpoint, plan, clients)?;
        let ReplayExtent { records, bytes, .. } = extent;
        if records > 0 {
            let start_from = plan.start_from;
            renames.push(PossibleRename { added, removed, start_from, records, bytes });
        }
    }
    Ok(renames)
}

/// The names in backticks, with `conjunction` before the last one.
fn joined(names: &[SinkName], conjunction: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} {conjunction} {last}", first.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename(removed: &[&str]) -> PossibleRename {
        PossibleRename {
            added: "b".into(),
            removed: removed.iter().map(|name| SinkName::new(name)).collect(),
            start_from: None,
            records: 20_813,
            bytes: 17_600_000,
        }
    }

    #[test]
    fn suggests_the_key_for_one_removed_sink() {
        let explanation = rename(&["a"]).explanation();
        assert_eq!(
            explanation.message,
            "sink `a` was removed and sink `b` is new: `b` will receive the last 90 days, about 20,813 records (18 MB)"
        );
        assert_eq!(
            explanation.hint.as_deref(),
            Some("set `renamed_from = \"a\"` in the section of `b` to continue at its cursors")
        );
    }

    #[test]
    fn names_all_removed_sinks() {
        let start_from = Day::parse("2026-01-01");
        let rename = PossibleRename { start_from, ..rename(&["a", "c", "d"]) };
        let Explanation { message, hint } = rename.explanation();
        let start = "sinks `a`, `c` and `d` were removed and sink `b` is new: `b` will receive the days since `2026-01-01`, ";
        assert!(message.starts_with(start), "{message}");
        assert!(hint.unwrap().ends_with("the cursors of `a`, `c` or `d`"));
    }
}
