//! Making a record shorter where a receiver takes only so much, by rule: whole pairs are left out
//! from the end; if the last that is left is a long text, it is cut on a character boundary, never
//! inside an escape, and ends in `…`. A pair at the end says that it was done.

use super::FormatName;

/// What stands at the end of a record that was shortened.
const CEF_MARK: &str = " secureScoreTruncated=true";
const LEEF_MARK: &str = "\ttruncated=true";
const ELLIPSIS: &str = "…";
/// A text with less than this left of it says nothing.
const WORTH_KEEPING: usize = 32;

/// Shortens a record to at most `max` bytes. `false`, and nothing done, if it cannot be: its
/// format does not allow it, or what must stand is already longer.
pub fn shorten(format: FormatName, record: &mut Vec<u8>, max: usize) -> bool {
    match format {
        FormatName::Cef => shorten_cef(record, max),
        FormatName::Leef | FormatName::Leef2 => shorten_leef(record, max),
        _ => false,
    }
}

fn shorten_cef(record: &mut Vec<u8>, max: usize) -> bool {
    let Some(budget) = max.checked_sub(CEF_MARK.len()) else { return false };
    let starts = pair_starts(record);
    // By the end of its pair each start gives a place where the record may end.
    let ends = starts.iter().skip(1).copied().chain([record.len()]);
    let Some(kept) = ends.take_while(|end| *end <= budget).last() else { return false };
    if !has_event_id(&record[..kept]) {
        return false;
    }
    let mut end = kept;
    let next = starts.iter().position(|start| *start == kept);
    if let Some(next) = next {
        let pair_end = starts.get(next + 1).copied().unwrap_or(record.len());
        end = cut_text(&record[..pair_end], kept, budget).unwrap_or(kept);
    }
    let cut = end > kept;
    record.truncate(end);
    if cut {
        record.extend_from_slice(ELLIPSIS.as_bytes());
    } else {
        drop_lone_label(record);
    }
    record.extend_from_slice(CEF_MARK.as_bytes());
    true
}

/// Attributes are separated by tabs, and stand by their worth: the last ones go.
fn shorten_leef(record: &mut Vec<u8>, max: usize) -> bool {
    let Some(budget) = max.checked_sub(LEEF_MARK.len()) else { return false };
    let ends = record.iter().enumerate().filter(|(_, b)| **b == b'\t').map(|(at, _)| at);
    let Some(kept) = ends.chain([record.len()]).take_while(|end| *end <= budget).last() else {
        return false;
    };
    if !record[..kept].windows(10).any(|window| window == b"\trecordId=") {
        return false;
    }
    record.truncate(kept);
    record.extend_from_slice(LEEF_MARK.as_bytes());
    true
}

/// Where ` key=` begins, for every pair after the first.
fn pair_starts(record: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut escaped, mut pipes, mut blank) = (false, 0, 0);
    for (at, byte) in record.iter().enumerate() {
        match byte {
            b'|' if !escaped => pipes += 1,
            b' ' => blank = at,
            b'=' if !escaped && pipes >= 7 && blank > 0 => starts.push(blank),
            _ => {}
        }
        escaped = *byte == b'\\' && !escaped;
    }
    starts.dedup();
    starts
}

/// Where the pair that begins at `start` can be cut so that it ends before `room`; `None` for a
/// label, for JSON, and for what would leave too little.
fn cut_text(record: &[u8], start: usize, budget: usize) -> Option<usize> {
    let pair = &record[start..];
    let value = start + pair.iter().position(|b| *b == b'=')? + 1;
    let key = &record[start + 1..value - 1];
    if key.ends_with(b"Label") || record.get(value) == Some(&b'{') {
        return None;
    }
    let mut end = budget.checked_sub(ELLIPSIS.len())?.clamp(value, record.len());
    while end > value && std::str::from_utf8(&record[value..end]).is_err() {
        end -= 1;
    }
    let backslashes = record[value..end].iter().rev().take_while(|b| **b == b'\\').count();
    end -= backslashes % 2;
    (end >= value + WORTH_KEEPING).then_some(end)
}

/// A label stands only beside its value.
fn drop_lone_label(record: &mut Vec<u8>) {
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

    const LINE: &str = r#"CEF:0|Microsoft|Secure Score|1.0|ControlSnapshot|a \| b|6|rt=1 dvchost=h externalId=0123 act=snapshot msg=A sentence with \= and \\ of some length, that goes on and on cfp1Label=score cfp1=5 cs6Label=rest cs6={"a":"b c"}"#;

    fn shortened(max: usize) -> Option<String> {
        let mut record = LINE.as_bytes().to_vec();
        shorten(FormatName::Cef, &mut record, max).then(|| String::from_utf8(record).unwrap())
    }

    #[test]
    fn whole_pairs_go_first_and_labels_with_their_values() {
        let without_rest = LINE.split(" cs6Label").next().unwrap();
        assert_eq!(shortened(LINE.len() - 1).unwrap(), format!("{without_rest}{CEF_MARK}"));
        let text = LINE.split(" cfp1Label").next().unwrap();
        assert_eq!(
            shortened(text.len() + CEF_MARK.len() + 20).unwrap(),
            format!("{text}{CEF_MARK}"),
        );
        let cut = shortened(text.len() + CEF_MARK.len() - 5).unwrap();
        assert!(cut.contains(r"msg=A sentence with \= and \\ of some") && cut.contains('…'));
        assert_eq!(shortened(100), None, "the event id must stand");
    }

    #[test]
    fn of_leef_the_last_attributes_go() {
        let line = "LEEF:1.0|a|b|1|C|devTime=1\tsev=2\trecordId=0123\tpolicy=x\tmsg=long";
        let mut record = line.as_bytes().to_vec();
        assert!(shorten(FormatName::Leef, &mut record, line.len()));
        let want = "LEEF:1.0|a|b|1|C|devTime=1\tsev=2\trecordId=0123\ttruncated=true";
        assert_eq!(String::from_utf8(record).unwrap(), want);
        assert!(!shorten(FormatName::Leef, &mut line.as_bytes().to_vec(), 50));
    }

    #[test]
    fn other_formats_are_not_cut() {
        let mut record = b"{\"a\":1}".to_vec();
        assert!(!shorten(FormatName::Json, &mut record, 3));
        assert_eq!(record, b"{\"a\":1}");
    }

    proptest! {
        #[test]
        fn what_is_left_fits_reads_and_says_so(max in 0_usize..300, text in "[a-z =\\\\é€]{0,80}") {
            let mut value = Vec::new();
            super::super::write_extension(&[("msg", text.as_str()), ("cs5", text.as_str())], &mut value);
            let line = format!("CEF:0|a|b|c|d|e|1|rt=1 externalId=0123 {}", String::from_utf8(value).unwrap());
            let mut record = line.clone().into_bytes();
            if shorten(FormatName::Cef, &mut record, max) {
                prop_assert!(record.len() <= max);
                let text = String::from_utf8(record).unwrap();
                prop_assert!(text.ends_with(CEF_MARK));
                let body = text.strip_suffix(CEF_MARK).unwrap();
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
