//! Removes repeated control profiles from a catalog.
//!
//! A profile is repeated if its ID is, in any case. That is a fault of the catalog, which names the
//! ID without secrets. Start reading at [`distinct`].

use std::{cmp::Reverse, collections::HashSet};

use crate::{
    foreign_text::{DocumentSecrets, ForeignText},
    model::DataFaults,
    wire,
};

/// The largest number of characters of a control's ID in a message.
const MAX_ID_CHARS: usize = 64;

/// The profiles, sorted by ID. Of several with one ID in any case, which are a fault, the one with
/// the most decisions is kept, in whichever order Microsoft lists them.
pub(super) fn distinct(
    mut parts: Vec<wire::ProfileParts>,
    faults: &mut DataFaults,
    secrets: &DocumentSecrets<'_>,
) -> Vec<wire::ProfileParts> {
    parts.sort_by(|a, b| {
        let rank = |part: &wire::ProfileParts| Reverse(part.decisions.len());
        rank(a)
            .cmp(&rank(b))
            .then_with(|| (&a.id, &a.decisions, &a.shared).cmp(&(&b.id, &b.decisions, &b.shared)))
    });

    let mut folded_ids = HashSet::with_capacity(parts.len());
    parts.retain(|part| {
        let is_first = folded_ids.insert(part.id.to_ascii_lowercase());
        if !is_first {
            let id = secrets.redact_text(&part.id);
            let id = ForeignText::new(&id).for_message(MAX_ID_CHARS);
            faults.add(format!("profile `{id}` appears more than once"));
        }
        is_first
    });

    parts.sort_by(|a, b| a.id.cmp(&b.id));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign_text::SentSecrets;

    /// Regression: two profiles whose IDs differed only in case were both part of the catalog.
    #[test]
    fn profiles_are_equal_in_any_case() {
        let accepted = r#""controlStateUpdates":[{"state":"Ignored"}]"#;
        let mut profiles = [
            r#"{"id":"C"}"#.to_owned(),
            format!(r#"{{"id":"c",{accepted}}}"#),
            r#"{"id":"a"}"#.to_owned(),
            r#"{"id":"A"}"#.to_owned(),
            r#"{"id":"B"}"#.to_owned(),
        ];

        for _ in 0..2 {
            let parts = profiles.iter().map(|json| wire::split_profile(json).unwrap()).collect();
            let (mut faults, secrets) = (DataFaults::default(), SentSecrets::default());
            let used = distinct(parts, &mut faults, &DocumentSecrets::new(&secrets));
            // A decision is never lost.
            assert_eq!(used.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["A", "B", "c"]);
            let expected = "profile `C` appears more than once; profile `a` appears more than once";
            assert_eq!(faults.to_string(), expected);
            profiles.reverse();
        }
    }
}
