//! What is wrong with data that was accepted nevertheless.
//!
//! A document of Microsoft can contain thousands of faults, and lists its elements in any order.
//! What is kept here never grows with their number and never depends on their order, so that the
//! same data is described by the same text at every poll. Start reading at [`DataFaults`]. See
//! decision 0077.

use std::{collections::BTreeMap, fmt};

/// How many different faults are kept.
const MAX_NAMED: usize = 10;

/// The faults of one document, each as a phrase that names the element and the reason. Equal
/// phrases are counted, and only the first ones in alphabetical order are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFaults {
    named: BTreeMap<String, usize>,
    /// The number of all faults.
    count: usize,
}

impl DataFaults {
    /// Adds a fault, such as `` `enabledServices[]` was removed: null instead of a text ``.
    pub fn add(&mut self, fault: String) {
        self.add_times(fault, 1);
        self.count = self.count.saturating_add(1);
    }

    /// Adds the faults of another document.
    pub fn append(&mut self, other: &Self) {
        for (fault, times) in &other.named {
            self.add_times(fault.clone(), *times);
        }
        self.count = self.count.saturating_add(other.count);
    }

    /// Whether there are no faults.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of faults.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The last one is removed if there are too many. If it is added again, it is removed again, so
    /// the result does not depend on the order.
    fn add_times(&mut self, fault: String, times: usize) {
        let counted = self.named.entry(fault).or_default();
        *counted = counted.saturating_add(times);
        if self.named.len() > MAX_NAMED {
            self.named.pop_last();
        }
    }
}

/// One line: the faults in alphabetical order, and the number of those that are not kept.
impl fmt::Display for DataFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (fault, times) in &self.named {
            write!(f, "{separator}{fault}")?;
            if *times > 1 {
                write!(f, " ({times} times)")?;
            }
            separator = "; ";
        }

        let named: usize = self.named.values().sum();
        match self.count.saturating_sub(named) {
            0 => Ok(()),
            1 => write!(f, "; and 1 more fault"),
            more => write!(f, "; and {more} more faults"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(faults: &[String]) -> DataFaults {
        let mut collected = DataFaults::default();
        for fault in faults {
            collected.add(fault.clone());
        }
        collected
    }

    #[test]
    fn equal_faults_are_counted_once() {
        let faults = ["`b` was removed", "`a` was removed", "`b` was removed"];
        let faults = of(&faults.map(str::to_owned));
        assert_eq!(faults.to_string(), "`a` was removed; `b` was removed (2 times)");
        assert_eq!((faults.count(), faults.is_empty()), (3, false));
        assert!(DataFaults::default().is_empty());
    }

    #[test]
    fn further_faults_are_only_counted() {
        let faults: Vec<String> = (0..1_000).map(|number| format!("fault {number:04}")).collect();
        let text = of(&faults).to_string();
        assert!(text.starts_with("fault 0000; fault 0001; "), "{text}");
        assert!(text.ends_with("; fault 0009; and 990 more faults"), "{text}");
        assert!(of(&faults[..=MAX_NAMED]).to_string().ends_with("; and 1 more fault"));
    }

    proptest! {
        #[test]
        fn faults_do_not_depend_on_order(
            faults in proptest::collection::vec("[a-d]{1,2}", 0..40),
            split in 0_usize..40,
        ) {
            let mut reversed = faults.clone();
            reversed.reverse();
            prop_assert_eq!(of(&faults), of(&reversed));

            let (first, rest) = faults.split_at(split.min(faults.len()));
            let mut merged = of(rest);
            merged.append(&of(first));
            prop_assert_eq!(merged.count(), faults.len());
            prop_assert!(merged.named.len() <= MAX_NAMED);
        }
    }
}
