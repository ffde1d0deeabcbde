//! Halves of surrogate pairs in JSON text: `\ud83d` without the `\ude00` that must follow it.
//!
//! A text that was cut in the middle of a character contains such a half. It is valid JSON
//! (RFC 8259, section 8.2), but not valid Unicode, so no receiver is expected to accept it. The
//! functions read only the escapes of valid JSON text, and never decode it. Start reading at
//! [`replaced`].

use std::borrow::Cow;

/// The escape of U+FFFD, which replaces a half.
const REPLACEMENT: &str = "\\ufffd";
/// The length of an escape such as `\ud83d` in bytes.
const ESCAPE_BYTES: usize = 6;

/// Whether valid JSON text contains half of a surrogate pair.
pub(super) fn has_half(json: &str) -> bool {
    halves(json).next().is_some()
}

/// The JSON text with U+FFFD in place of every half of a surrogate pair; borrowed if it has none.
pub(super) fn replaced(json: &str) -> Cow<'_, str> {
    let mut replaced = String::new();
    let mut kept = 0_usize;
    for at in halves(json) {
        replaced.push_str(&json[kept..at]);
        replaced.push_str(REPLACEMENT);
        kept = at.saturating_add(ESCAPE_BYTES);
    }

    if kept == 0 {
        return Cow::Borrowed(json);
    }
    replaced.push_str(&json[kept..]);
    Cow::Owned(replaced)
}

/// The offsets of all halves. Every one is that of an escape of six ASCII characters.
fn halves(json: &str) -> impl Iterator<Item = usize> + '_ {
    let mut from = 0_usize;
    std::iter::from_fn(move || {
        loop {
            let at = from.saturating_add(json.get(from..)?.find('\\')?);
            let Some(code) = unit(json, at) else {
                // The escaped character may be a backslash.
                from = at.saturating_add(2);
                continue;
            };

            from = at.saturating_add(ESCAPE_BYTES);
            match code {
                0xd800..=0xdbff if is_second_half(json, from) => {
                    from = from.saturating_add(ESCAPE_BYTES);
                }
                0xd800..=0xdfff => return Some(at),
                _ => {}
            }
        }
    })
}

fn is_second_half(json: &str, at: usize) -> bool {
    unit(json, at).is_some_and(|code| matches!(code, 0xdc00..=0xdfff))
}

/// The UTF-16 code unit of the escape at an offset; `None` if there is none.
fn unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..)?.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_halves_are_replaced() {
        for (json, expected) in [
            (r#""""#, r#""""#),
            (r#""accepted \ud83d""#, r#""accepted \ufffd""#),
            (r#""\uD83D\uDE00""#, r#""\uD83D\uDE00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ud83d\u0041""#, r#""\ufffd\u0041""#),
            (r#""\ud83d\n\udc00""#, r#""\ufffd\n\ufffd""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#"{"\ud83d":["\"\udfff"]}"#, r#"{"\ufffd":["\"\ufffd"]}"#),
        ] {
            assert_eq!(replaced(json), expected, "{json}");
            assert_eq!(has_half(json), json != expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn replaced_texts_can_be_decoded(units in proptest::collection::vec(any::<u16>(), 0..20)) {
            let escapes: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let escapes = escapes.concat();
            let json = format!("\"{escapes}\"");
            let decoded: String = serde_json::from_str(&replaced(&json)).unwrap();
            prop_assert_eq!(decoded, String::from_utf16_lossy(&units));
        }

        #[test]
        fn any_text_can_be_searched(text: String) {
            let _ = replaced(&text);
        }
    }
}
