//! Decides what a configuration changes about the sinks of the checkpoint: which of them are
//! renamed, taken up again, removed and discarded, and which new sink may be a renamed one.
//!
//! The functions are pure: `apply` reads the checkpoint before them, and carries the steps out.
//! Start reading at [`steps`]. See decision 0051.

use std::collections::HashSet;

use crate::{checkpoint::StoredSink, config::SinkPlan, model::SinkName};

/// The part of a configured sink on which its cursors depend.
#[derive(Clone, Debug)]
pub(super) struct ConfiguredSink {
    pub name: SinkName,
    /// The value of `type`.
    pub kind: &'static str,
    pub renamed_from: Option<SinkName>,
    /// Whether `discard_backlog` is set.
    pub is_discarded: bool,
}

/// A change of the sinks in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SinkStep {
    /// The cursors of `from` belong to `to` from now on.
    Rename { from: SinkName, to: SinkName },
    /// A removed sink returns, and continues from its cursors.
    Restore(SinkName),
    /// The sink is deleted with its cursors and its backlog.
    Discard(SinkName),
    /// The sink is no longer configured; its cursors are kept.
    Remove(SinkName),
}

/// Why a sink cannot be renamed: both names belong to sinks that have been configured until now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameConflict {
    pub old: SinkName,
    pub new: SinkName,
}

/// A new sink that may be a renamed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Successor {
    /// The name of the new sink.
    pub added: SinkName,
    /// The sinks of its type that are not configured anymore; at least one.
    pub removed: Vec<SinkName>,
}

impl From<&SinkPlan> for ConfiguredSink {
    fn from(plan: &SinkPlan) -> Self {
        Self {
            name: plan.name.clone(),
            kind: plan.kind,
            renamed_from: plan.renamed_from.clone(),
            is_discarded: plan.discarded,
        }
    }
}

/// The steps that change the stored sinks into the configured ones, in the order in which they are
/// carried out. New sinks need no step. The stored sinks must not include those whose time of being
/// kept has passed.
pub(super) fn steps(
    stored: &[StoredSink],
    configured: &[ConfiguredSink],
) -> Result<Vec<SinkStep>, NameConflict> {
    let find = |name: &SinkName| stored.iter().find(|sink| sink.name == *name);
    let is_removed = |sink: &StoredSink| sink.removed_at.is_some();
    let (mut renames, mut others) = (Vec::new(), Vec::new());
    let mut carried_over = HashSet::new();

    for sink in configured {
        let old = sink.renamed_from.as_ref().and_then(find);
        let new = find(&sink.name);
        if let Some(old) = old {
            if !is_removed(old) && new.is_some_and(|new| !is_removed(new)) {
                return Err(NameConflict { old: old.name.clone(), new: sink.name.clone() });
            }
            carried_over.insert(&old.name);
            renames.push(SinkStep::Rename { from: old.name.clone(), to: sink.name.clone() });
        }

        // A sink that has just been renamed is as configured or removed as it was before, except
        // that a configured one replaces or absorbs a removed one.
        let returns = match (old, new) {
            (Some(old), Some(new)) => is_removed(old) && is_removed(new),
            (Some(only), None) | (None, Some(only)) => is_removed(only),
            (None, None) => false,
        };
        let is_stored = old.is_some() || new.is_some();
        if sink.is_discarded && is_stored {
            others.push(SinkStep::Discard(sink.name.clone()));
        } else if returns && !sink.is_discarded {
            others.push(SinkStep::Restore(sink.name.clone()));
        }
    }

    let names: HashSet<&SinkName> = configured.iter().map(|sink| &sink.name).collect();
    let is_dropped = |sink: &&StoredSink| {
        !is_removed(sink) && !names.contains(&sink.name) && !carried_over.contains(&sink.name)
    };
    let removed = stored.iter().filter(is_dropped).map(|sink| SinkStep::Remove(sink.name.clone()));
    Ok(renames.into_iter().chain(others).chain(removed).collect())
}

/// The new sinks for which `renamed_from` may be missing: a sink of the same type is stored, and is
/// not configured anymore.
pub(super) fn possible_successors(
    stored: &[StoredSink],
    configured: &[ConfiguredSink],
) -> Vec<Successor> {
    let is_stored = |name: &SinkName| stored.iter().any(|sink| sink.name == *name);
    let named: HashSet<&SinkName> = configured
        .iter()
        .flat_map(|sink| [Some(&sink.name), sink.renamed_from.as_ref()])
        .flatten()
        .collect();

    let is_new = |sink: &&ConfiguredSink| {
        let is_renamed = sink.renamed_from.as_ref().is_some_and(is_stored);
        !sink.is_discarded && !is_stored(&sink.name) && !is_renamed
    };
    let predecessors = |kind: &str| -> Vec<SinkName> {
        // The type of a sink that only an older release has registered is unknown.
        let is_same_kind = |sink: &StoredSink| sink.kind.as_deref().is_none_or(|k| k == kind);
        let unnamed = stored.iter().filter(|sink| !named.contains(&sink.name));
        unnamed.filter(|sink| is_same_kind(sink)).map(|sink| sink.name.clone()).collect()
    };

    let new = configured.iter().filter(is_new);
    let successors =
        new.map(|sink| Successor { added: sink.name.clone(), removed: predecessors(sink.kind) });
    successors.filter(|successor| !successor.removed.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMillis;

    type Names = &'static [&'static str];
    type Successors = &'static [(&'static str, Names)];

    /// A stored sink of the type `file`; a name in parentheses is a removed sink.
    fn stored(names: &[&str]) -> Vec<StoredSink> {
        let sink = |text: &&str| {
            let name = text.trim_matches(['(', ')']);
            let removed_at = (name != *text).then(|| UnixMillis::new(1));
            StoredSink { name: name.into(), kind: Some("file".to_owned()), removed_at }
        };
        names.iter().map(sink).collect()
    }

    /// A configured sink of the type `file`: `name`, `name<old` for a renamed sink, or `name!` for
    /// a sink with `discard_backlog`.
    fn configured(texts: &[&str]) -> Vec<ConfiguredSink> {
        let sink = |text: &&str| {
            let (name, old) = match text.split_once('<') {
                Some((name, old)) => (name, Some(old)),
                None => (*text, None),
            };
            ConfiguredSink {
                name: name.trim_end_matches('!').into(),
                kind: "file",
                renamed_from: old.map(SinkName::new),
                is_discarded: name.ends_with('!'),
            }
        };
        texts.iter().map(sink).collect()
    }

    fn shown(step: &SinkStep) -> String {
        match step {
            SinkStep::Rename { from, to } => format!("rename {from} {to}"),
            SinkStep::Restore(name) => format!("restore {name}"),
            SinkStep::Discard(name) => format!("discard {name}"),
            SinkStep::Remove(name) => format!("remove {name}"),
        }
    }

    /// The stored sinks, the configured sinks, and the steps between them.
    const STEPS: &[(Names, Names, Names)] = &[
        (&[], &["a"], &[]),
        (&["a"], &["a"], &[]),
        (&["a", "b"], &["b"], &["remove a"]),
        (&["a"], &["b"], &["remove a"]),
        (&["(a)"], &["b"], &[]),
        (&["(a)"], &["a"], &["restore a"]),
        (&["a"], &["b<a"], &["rename a b"]),
        (&["b"], &["b<a"], &[]),
        (&["(a)"], &["b<a"], &["rename a b", "restore b"]),
        (&["(a)", "b"], &["b<a"], &["rename a b"]),
        (&["a", "(b)"], &["b<a"], &["rename a b"]),
        (&["(a)", "(b)"], &["b<a"], &["rename a b", "restore b"]),
        (&["a"], &["a!"], &["discard a"]),
        (&["(a)"], &["a!"], &["discard a"]),
        (&[], &["a!"], &[]),
        (&["a"], &["b<a", "c"], &["rename a b"]),
        (&["a"], &["b!<a"], &["rename a b", "discard b"]),
    ];

    /// The stored sinks, the configured sinks, and the possible successors among them.
    const SUCCESSORS: &[(Names, Names, Successors)] = &[
        (&["a"], &["a"], &[]),
        (&["a"], &["b"], &[("b", &["a"])]),
        (&["(a)"], &["b"], &[("b", &["a"])]),
        (&["a"], &["b<a"], &[]),
        // The key names a sink that does not exist.
        (&["a"], &["b<x"], &[("b", &["a"])]),
        (&["a", "b"], &["b"], &[]),
        (&[], &["b"], &[]),
        (&["a"], &["b!"], &[]),
        (&["a", "c"], &["b", "d"], &[("b", &["a", "c"]), ("d", &["a", "c"])]),
        (&["a", "c"], &["b<a", "d"], &[("d", &["c"])]),
    ];

    #[test]
    fn steps_lead_to_the_configured_sinks() {
        for (before, after, expected) in STEPS {
            let steps = steps(&stored(before), &configured(after)).unwrap();
            let steps: Vec<String> = steps.iter().map(shown).collect();
            assert_eq!(steps, *expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn two_configured_names_conflict() {
        let conflict = NameConflict { old: "a".into(), new: "b".into() };
        assert_eq!(steps(&stored(&["a", "b"]), &configured(&["b<a"])), Err(conflict));
    }

    #[test]
    fn new_sinks_of_one_type_are_successors() {
        for (before, after, expected) in SUCCESSORS {
            let found = possible_successors(&stored(before), &configured(after));
            let found: Vec<(&str, Vec<&str>)> = found
                .iter()
                .map(|s| (s.added.as_str(), s.removed.iter().map(SinkName::as_str).collect()))
                .collect();
            let expected: Vec<(&str, Vec<&str>)> =
                expected.iter().map(|(added, removed)| (*added, removed.to_vec())).collect();
            assert_eq!(found, expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn another_type_is_not_a_successor() {
        let mut before = stored(&["a"]);
        before[0].kind = Some("syslog".to_owned());
        assert!(possible_successors(&before, &configured(&["b"])).is_empty());
        before[0].kind = None;
        assert_eq!(possible_successors(&before, &configured(&["b"])).len(), 1);
    }
}
