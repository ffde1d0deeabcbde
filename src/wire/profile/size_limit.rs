//! Shortens a control profile that is too large. Its longest parts are removed and reported, and
//! its ID is always kept. Start reading at [`within_size`].

use std::borrow::Cow;

use super::DECISIONS;
use crate::{
    model::DataFaults,
    wire::{
        WireError,
        budget::DecodeLimit,
        decision,
        salvage::{RawMembers, first_items, path, removed},
    },
};

/// More bytes than the quotation marks, escapes and separators of a profile have.
const PROFILE_SYNTAX_BYTES: usize = 64 << 10;

/// The list of decisions. Until the profile is short enough, the longest field, or the longest
/// field of the longest decision, is removed.
pub(super) fn within_size<'a>(
    fields: &mut RawMembers<'_>,
    decisions: &'a str,
    owner: &str,
    faults: &mut DataFaults,
) -> Result<Cow<'a, str>, WireError> {
    let max = DecodeLimit::PROFILE.max.saturating_sub(PROFILE_SYNTAX_BYTES);
    // Anything but a list is not stored.
    let is_list = decisions.starts_with('[');
    let decision_bytes = if is_list { decisions.len() } else { 0 };
    if bytes(fields).saturating_add(decision_bytes) <= max {
        return Ok(Cow::Borrowed(decisions));
    }

    let list = path(owner, DECISIONS);
    let mut entries: Vec<Cow<'a, str>> = Vec::new();
    if is_list {
        let listed = first_items(decisions, DecodeLimit::DECISIONS, &list, faults)?;
        entries.extend(listed.into_iter().map(Cow::Borrowed));
    }
    loop {
        let entry_bytes = entries.iter().map(|entry| entry.len()).sum::<usize>();
        if bytes(fields).saturating_add(entry_bytes) <= max {
            break;
        }

        let named = fields.iter().filter(|(key, _)| key.as_ref() != "id");
        let field = named.max_by_key(|(_, raw)| raw.get().len());
        let field = field.map(|(key, raw)| (key.clone(), raw.get().len()));
        let entry = entries.iter_mut().max_by_key(|entry| entry.len());
        match (field, entry) {
            (Some((key, length)), entry) if entry.as_ref().is_none_or(|e| e.len() <= length) => {
                removed(&path(owner, &key), &DecodeLimit::PROFILE.to_string(), faults);
                fields.remove(&key);
            }
            (_, Some(entry)) => {
                *entry = Cow::Owned(decision::shortened(entry, &list, faults));
            }
            (_, None) => break,
        }
    }

    if is_list {
        Ok(Cow::Owned(format!("[{}]", entries.join(","))))
    } else {
        Ok(Cow::Borrowed(decisions))
    }
}

/// The bytes of the keys and values of fields.
fn bytes(fields: &RawMembers<'_>) -> usize {
    fields.iter().map(|(key, raw)| key.len().saturating_add(raw.get().len())).sum()
}
