//! Every hidden character in every medium.

use proptest::prelude::*;

use super::*;

/// The ranges of hidden characters by their first and last code points, independent of the
/// implementation: the general category Cc, `Default_Ignorable_Code_Point` without the joiners and
/// U+FE00 to U+FE0F, the separators of lines and paragraphs, and interlinear annotations.
const HIDDEN: [(u32, u32); 27] = [
    (0x00, 0x1f),
    (0x7f, 0x7f),
    (0x80, 0x9f),
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180d),
    (0x180e, 0x180e),
    (0x180f, 0x180f),
    (0x200b, 0x200b),
    (0x200e, 0x200f),
    (0x2028, 0x2029),
    (0x202a, 0x202e),
    (0x2060, 0x2065),
    (0x2066, 0x2069),
    (0x206a, 0x206f),
    (0x3164, 0x3164),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfff8),
    (0xfff9, 0xfffb),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe00ff),
    (0xe0100, 0xe0fff),
];

/// A method of [`ForeignText`] for one medium.
type Medium = (&'static str, fn(ForeignText<'_>) -> String);

/// The media that show one line.
const LINES: [Medium; 6] = [
    ("message", |text| text.for_message(usize::MAX)),
    ("terminal", |text| text.escaped().into_owned()),
    ("log", in_quotes),
    ("Markdown", |text| text.markdown(usize::MAX)),
    ("chat", |text| text.chat(usize::MAX)),
    ("CSV", cell),
];

/// The media that show several lines, of which only line feeds and tabs are kept.
const PAGES: [Medium; 3] = [
    ("page", |text| text.visible().into_owned()),
    ("output", |text| text.escaped_lines().into_owned()),
    ("journal", |text| text.escaped_field().into_owned()),
];

fn in_quotes(text: ForeignText<'_>) -> String {
    text.escaped_in_quotes()
}

fn cell(text: ForeignText<'_>) -> String {
    let mut out = Vec::new();
    text.write_csv_cell(&mut out);
    String::from_utf8(out).unwrap()
}

/// All characters that are hidden.
fn hidden() -> impl Iterator<Item = char> {
    HIDDEN.iter().flat_map(|(first, last)| (*first..=*last).filter_map(char::from_u32))
}

#[test]
fn hidden_characters_are_those_of_unicode() {
    let expected: std::collections::HashSet<char> = hidden().collect();
    for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
        assert_eq!(is_hidden(c), expected.contains(&c), "{c:?}");
    }
    for ordinary in ['a', '\u{a0}', 'é', '\u{5d0}', '東', '\u{301}', '\u{fe0f}', '🛡', '\u{200d}']
    {
        assert!(!is_hidden(ordinary), "{ordinary:?}");
    }
}

#[test]
fn no_medium_shows_a_hidden_character() {
    for c in hidden() {
        // At the beginning, in the middle and at the end.
        let text = format!("{c}a{c}{c}b{c}");
        for (medium, render) in LINES {
            let shown = render(ForeignText::new(&text));
            assert!(!shown.chars().any(is_hidden), "{medium}: {c:?}: {shown:?}");
            assert!(shown.contains('a') && shown.contains('b'), "{medium}: {c:?}: {shown:?}");
        }
        for (medium, render) in PAGES {
            let shown = render(ForeignText::new(&text));
            let is_kept = |c: char| matches!(c, '\n' | '\t');
            let found = shown.chars().any(|c| is_hidden(c) && !is_kept(c));
            assert!(!found, "{medium}: {c:?}: {shown:?}");
        }
    }
}

/// What hides nothing is shown as it was sent, in every medium that has no markup.
#[test]
fn ordinary_text_is_unchanged() {
    let joined = "\u{1f469}\u{200d}\u{1f4bb} \u{645}\u{6cc}\u{200c}\u{62e}";
    for text in ["", "Require MFA", "é 東京", joined, "5 < 6 (R&D), 71.2%"] {
        let foreign = ForeignText::new(text);
        assert_eq!(foreign.for_message(100), text);
        assert_eq!(foreign.visible(), text);
        assert_eq!(foreign.chat(100), text);
    }
    for text in ["Require MFA", "é 東京 ⚠\u{fe0f}"] {
        let foreign = ForeignText::new(text);
        assert_eq!(foreign.escaped(), text);
        assert_eq!(foreign.escaped_in_quotes(), format!("\"{text}\""));
        assert_eq!(foreign.markdown(100), text);
    }
}

#[test]
fn terminals_and_logs_lose_nothing() {
    let text = "a\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{e0041}\u{200d}\r\n\t\"\\";
    let foreign = ForeignText::new(text);
    let escapes = "a\\u{1b}[2J\\u{7}\\u{9b}31m\\u{202e}\\u{e0041}\\u{200d}";
    assert_eq!(foreign.escaped(), format!("{escapes}\\r\\n\\t\"\\"));
    assert_eq!(foreign.escaped_in_quotes(), format!("\"{escapes}\\r\\n\\t\\\"\\\\\""));
    assert_eq!(foreign.escaped_lines(), format!("{escapes}\\r\n\t\"\\"));
    assert_eq!(foreign.escaped_field(), format!("{escapes}\\r\n\\t\"\\"));
}

#[test]
fn messages_are_one_short_line() {
    for (text, line) in [
        ("", ""),
        (" no access\r\n", "no access"),
        ("a\nb\u{1b}[31mc", "a b\u{fffd}[31mc"),
        ("0123456789", "0123456789"),
        ("0123456789x", "012345678…"),
        ("äöüäöüäöüäö", "äöüäöüäöü…"),
        ("\u{202e}gpj.exe", "\u{fffd}gpj.exe"),
    ] {
        assert_eq!(ForeignText::new(text).for_message(10), line);
    }
}

#[test]
fn a_json_document_stays_valid() {
    let value = serde_json::json!({ "a\u{9b}": ["\u{1b}\u{7f}\u{202e}", "\u{e0041}\u{200d}\n"] });
    for document in [value.to_string(), format!("{value:#}\r\n")] {
        let shown = ForeignText::new(&document).escaped_json();
        assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n'), "{shown}");
        assert!(!shown.chars().any(is_joiner), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}

proptest! {
    #[test]
    fn json_documents_keep_their_values(text in any::<String>()) {
        let document = serde_json::to_string(&text).unwrap();
        let shown = ForeignText::new(&document).escaped_json();
        prop_assert!(!shown.chars().any(is_hidden));
        prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }

    #[test]
    fn any_text_is_safe_in_every_medium(text in any::<String>()) {
        for (medium, render) in LINES {
            let shown = render(ForeignText::new(&text));
            prop_assert!(!shown.chars().any(is_hidden), "{medium}: {shown:?}");
        }
    }
}
