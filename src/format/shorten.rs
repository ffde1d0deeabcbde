//! Shortens a CEF or LEEF record to the size that a receiver accepts.
//!
//! Complete pairs are removed from the end. In CEF, if the first pair that does not fit is a long
//! text, it is cut at a character boundary, outside an escape, and ends in `…`. A marker is
//! appended, so that a receiver can recognize a shortened record. The event ID must never be
//! removed. See decision 0025.

use super::FormatName;

/// The marker at the end of a shortened CEF record.
const CEF_MARKER: &str = " secureScoreTruncated=true";
/// The marker at the end of a shortened LEEF record.
const LEEF_MARKER: &str = "\ttruncated=true";
const ELLIPSIS: &str = "…";
/// A text is removed if fewer than this many bytes of it would remain.
const MIN_TEXT_BYTES: usize = 32;

/// Shortens a record to at most `max` bytes. Returns `false` and leaves the record unchanged if
/// that is not possible: the format does not allow it, or the part up to the event ID is longer.
pub fn shorten(format: FormatName, record: &mut Vec<u8>, max: usize) -> bool {
    match format {
        FormatName::Cef => shorten_cef(record, max),
        FormatName::Leef | FormatName::Leef2 => shorten_leef(record, max),
        _ => false,
    }
}

fn shorten_cef(record: &mut Vec<u8>, max: usize) -> bool {
    let Some(budget) = max.checked_sub(CEF_MARKER.len()) else { return false };

    // The record may be cut before each pair after the first, or remain whole.
    let starts = pair_starts(record);
    let ends = starts.iter().skip(1).copied().chain([record.len()]);
    let Some(kept) = ends.take_while(|end| *end <= budget).last() else { return false };
    if !has_event_id(&record[..kept]) {
        return false;
    }

    // The first pair that does not fit may be a text of which a part fits.
    let mut end = kept;
    let next = starts.iter().position(|start| *start == kept);
    if let Some(next) = next {
        let pair_end = starts.get(next + 1).copied().unwrap_or(record.len());
        end = cut_text(&record[..pair_end], kept, budget).unwrap_or(kept);
    }

    let is_cut = end > kept;
    record.truncate(end);
    if is_cut {
        record.extend_from_slice(ELLIPSIS.as_bytes());
    } else {
        remove_lone_label(record);
    }
    record.extend_from_slice(CEF_MARKER.as_bytes());
    true
}

/// Attributes are ordered by importance and separated by tabs, so the last ones are removed.
fn shorten_leef(record: &mut Vec<u8>, max: usize) -> bool {
    let Some(budget) = max.checked_sub(LEEF_MARKER.len()) else { return false };

    let ends = record.iter().enumerate().filter(|(_, b)| **b == b'\t').map(|(at, _)| at);
    let Some(kept) = ends.chain([record.len()]).take_while(|end| *end <= budget).last() else {
        return false;
    };
    if !record[..kept].windows(10).any(|window| window == b"\trecordId=") {
        return false;
    }
    record.truncate(kept);
    record.extend_from_slice(LEEF_MARKER.as_bytes());
    true
}

/// The indexes of the space before `key=`, for every pair after the first.
fn pair_starts(record: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut escaped, mut pipes, mut space) = (false, 0, 0);

    for (at, byte) in record.iter().enumerate() {
        match byte {
            b'|' if !escaped => pipes += 1,
            b' ' => space = at,
            b'=' if !escaped && pipes >= 7 && space > 0 => starts.push(space),
            _ => {}
        }
        escaped = *byte == b'\\' && !escaped;
    }

    starts.dedup();
    starts
}

/// The index at which the pair that begins at `start` can be cut so that the record is at most
/// `budget` bytes long. `None` for a label, for JSON, and if too little of the text would remain.
fn cut_text(record: &[u8], start: usize, budget: usize) -> Option<usize> {
    let pair = &record[start..];
    let value = start + pair.iter().position(|b| *b == b'=')? + 1;
    let key = &record[start + 1..value - 1];
    if key.ends_with(b"Label") || record.get(value) == Some(&b'{') {
        return None;
    }

    // Do not cut inside a UTF-8 sequence or between a backslash and the character that it escapes.
    let mut end = budget.checked_sub(ELLIPSIS.len())?.clamp(value, record.len());
    while end > value && std::str::from_utf8(&record[value..end]).is_err() {
        end -= 1;
    }
    let backslashes = record[value..end].iter().rev().take_while(|b| **b == b'\\').count();
    end -= backslashes % 2;
    (end >= value + MIN_TEXT_BYTES).then_some(end)
}

/// Removes a label at the end of the record whose value was removed.
fn remove_lone_label(record: &mut Vec<u8>) {
    if let Some(last) = pair_starts(record).last() {
        let key_end = record[*last..].iter().position(|b| *b == b'=').map_or(*last, |at| last + at);
        if record[..key_end].ends_with(b"Label") {
            record.truncate(*last);
        }
    }
}

fn has_event_id(record: &[u8]) -> bool {
    let needle = b" externalId=";
    record.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = r#"CEF:0|Microsoft|Secure Score|1.0|ControlSnapshot|a \| b|6|rt=1 dvchost=h externalId=0123 act=snapshot msg=A sentence with \= and \\ of some length, long enough to cut cfp1Label=score cfp1=5 cs6Label=rest cs6={"a":"b c"}"#;

    fn shortened(max: usize) -> Option<String> {
        let mut record = LINE.as_bytes().to_vec();
        shorten(FormatName::Cef, &mut record, max).then(|| String::from_utf8(record).unwrap())
    }

    #[test]
    fn removes_pairs_before_cutting_text() {
        let without_rest = LINE.split(" cs6Label").next().unwrap();
        assert_eq!(shortened(LINE.len() - 1).unwrap(), format!("{without_rest}{CEF_MARKER}"));

        let text = LINE.split(" cfp1Label").next().unwrap();
        assert_eq!(
            shortened(text.len() + CEF_MARKER.len() + 20).unwrap(),
            format!("{text}{CEF_MARKER}"),
        );

        let cut = shortened(text.len() + CEF_MARKER.len() - 5).unwrap();
        assert!(cut.contains(r"msg=A sentence with \= and \\ of some") && cut.contains('…'));
        assert_eq!(shortened(100), None, "the event ID must not be removed");
    }

    #[test]
    fn removes_the_last_leef_attributes() {
        let line = "LEEF:1.0|a|b|1|C|devTime=1\tsev=2\trecordId=0123\tpolicy=x\tmsg=long";
        let mut record = line.as_bytes().to_vec();
        assert!(shorten(FormatName::Leef, &mut record, line.len()));
        let expected = "LEEF:1.0|a|b|1|C|devTime=1\tsev=2\trecordId=0123\ttruncated=true";
        assert_eq!(String::from_utf8(record).unwrap(), expected);

        assert!(!shorten(FormatName::Leef, &mut line.as_bytes().to_vec(), 50));
    }

    #[test]
    fn leaves_json_unchanged() {
        let mut record = b"{\"a\":1}".to_vec();
        assert!(!shorten(FormatName::Json, &mut record, 3));
        assert_eq!(record, b"{\"a\":1}");
    }

    proptest! {
        #[test]
        fn shortened_record_fits_and_is_marked(max in 0_usize..300, text in "[a-z =\\\\é€]{0,80}") {
            let mut value = Vec::new();
            super::super::write_extension(&[("msg", text.as_str()), ("cs5", text.as_str())], &mut value);
            let line = format!("CEF:0|a|b|c|d|e|1|rt=1 externalId=0123 {}", String::from_utf8(value).unwrap());

            let mut record = line.clone().into_bytes();
            if shorten(FormatName::Cef, &mut record, max) {
                prop_assert!(record.len() <= max);
                let text = String::from_utf8(record).unwrap();
                prop_assert!(text.ends_with(CEF_MARKER));
                let body = text.strip_suffix(CEF_MARKER).unwrap();
                let body = body.strip_suffix(ELLIPSIS).unwrap_or(body);
                prop_assert!(line.starts_with(body));
                let tail = body.bytes().rev().take_while(|b| *b == b'\\').count();
                prop_assert!(tail % 2 == 0, "{body}");
            } else {
                prop_assert_eq!(record, line.into_bytes());
            }
        }
    }
}
