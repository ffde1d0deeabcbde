//! A receiver that refuses single targets, such as one of many indices, and accepts the records for
//! the others. Only the records for the refused targets wait; see decision 0081. Start reading at
//! [`Refusal`].

use std::{borrow::Cow, fmt};

use super::{Failure, Item, TargetName};
use crate::text::listed;

/// The maximum number of other targets that a message names.
const MAX_NAMES: usize = 5;

/// The result of a batch some of whose targets the receiver refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The refused targets; each one needs an operator.
    pub targets: Vec<RefusedTarget>,
    /// The indexes of the records that have arrived.
    pub arrived: Vec<usize>,
    /// The failure of all other records, without indexes of records; `None` if they are to be sent
    /// again at once.
    pub rest: Option<Box<Failure>>,
}

/// A record that a receiver refuses because of its target.
pub(super) struct RefusedRecord {
    /// The index of the record in the batch.
    pub index: usize,
    /// The receiver's message.
    pub reason: String,
    pub hint: Option<Cow<'static, str>>,
}

/// A target that the receiver refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedTarget {
    pub name: TargetName,
    /// The message, which contains the name of the target.
    pub reason: String,
    pub hint: Option<Cow<'static, str>>,
}

impl Refusal {
    /// The failure of a batch after the receiver has refused records because of their targets, each
    /// of which is a `noun`, such as `index`. If a record has no separate target, the sink has
    /// only one, so that the whole sink is misconfigured.
    pub(super) fn of_records(
        noun: &str,
        items: &[Item],
        refused: Vec<RefusedRecord>,
        arrived: Vec<usize>,
        rest: Option<Failure>,
    ) -> Failure {
        let mut refusal = Self { targets: Vec::new(), arrived, rest: rest.map(Box::new) };
        for RefusedRecord { index, reason, hint } in refused {
            let Some(name) = items.get(index).and_then(|item| item.target.clone()) else {
                return Failure::Misconfigured { reason, hint };
            };
            refusal.add(RefusedTarget { reason: format!("{noun} `{name}`: {reason}"), name, hint });
        }
        Failure::Refused(refusal)
    }

    /// Adds a target, unless it has been added already.
    pub(super) fn add(&mut self, target: RefusedTarget) {
        if !self.contains(&target.name) {
            self.targets.push(target);
        }
    }

    /// Whether the target of a record is refused.
    pub fn applies_to(&self, item: &Item) -> bool {
        item.target.as_ref().is_some_and(|name| self.contains(name))
    }

    fn contains(&self, name: &TargetName) -> bool {
        self.targets.iter().any(|target| target.name == *name)
    }
}

impl RefusedTarget {
    /// The failure of a sink that has only this target.
    pub(super) fn into_failure(self) -> Failure {
        Failure::Misconfigured { reason: self.reason, hint: self.hint }
    }
}

impl fmt::Display for Refusal {
    /// Prints the reason of the first target, and the names of the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.targets.split_first() else {
            return f.write_str("the receiver refuses a target");
        };
        f.write_str(&first.reason)?;
        if others.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = others.iter().map(|other| format!("`{}`", other.name)).collect();
        write!(f, "; also refused: {}", listed(&names, MAX_NAMES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_every_refused_target() {
        let mut refusal = Refusal::default();
        for (name, reason) in [("a", "index `a` is missing"), ("a", "again"), ("b", "no `b`")] {
            let (name, reason) = (TargetName::new(name), reason.to_owned());
            refusal.add(RefusedTarget { name, reason, hint: None });
        }
        assert_eq!(refusal.to_string(), "index `a` is missing; also refused: `b`");

        for n in 0..9 {
            let name = TargetName::new(&format!("c{n}"));
            refusal.add(RefusedTarget { name, reason: String::new(), hint: None });
        }
        assert!(refusal.to_string().ends_with("`c3` and 5 more"), "{refusal}");
    }
}
