//! Tests of the limit for the work of a search.

use super::*;

/// What is decoded differently in each encoding, up to the maximum depth, and in two ways because
/// of an invisible character.
const MIX: &str = "%2525252541 \\0\u{200b}75 %5C0%E2%80%8B75 %255C0%25E2%2580%258B75 \
                   =\u{200b}\r\n41=\r\n41 \\= \0 ";

/// A text of at least this size that mixes all encodings. Most of it does not become shorter when
/// it is decoded.
fn mixed(bytes: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < bytes {
        text.extend_from_slice(MIX.as_bytes());
        text.resize(text.len() + 1_000, b'x');
    }
    text
}

/// Whether a text was searched completely, and how many bytes were searched.
fn search(secrets: &SentSecrets, text: &[u8]) -> (bool, usize) {
    let budget = SearchBudget::of_text(text.len());
    let limit = budget.left();
    let found = secrets.find(text, &budget);
    (found.is_complete, limit - budget.left())
}

/// Regression: a text with escapes in escapes was decoded in hundreds of ways, for seconds.
#[test]
fn texts_above_the_limit_are_removed() {
    let secrets = secrets(&["canary-token"]);
    let mut text = b"no canary-token ".to_vec();
    text.extend(mixed(40_000));
    text.extend_from_slice(b" canary%2dtoken, and the rest");

    let (is_complete, searched) = search(&secrets, &text);
    assert!(!is_complete, "{searched}");
    let redacted = secrets.redact_body(text.clone());
    assert!(redacted.ends_with(REDACTED.as_bytes()));
    for secret in ["canary", "the rest"] {
        assert!(!contains(&redacted, secret), "{secret}");
    }

    let beginning = secrets.redact_beginning(&text, 20_000);
    assert!(beginning.len() <= 20_000 + REDACTED.len() && !contains(&beginning, "canary"));
}

#[test]
fn ordinary_texts_are_searched_completely() {
    let secrets = secrets(&["canary-token"]);
    for line in [
        "a plain text of an error, which is not encoded at all\n",
        "{\"title\":\"Enable \\u003cb\\u003eMFA\\u003c/b\\u003e\",\"url\":\"https:\\/\\/h\\/?a=bc\"}\r\n",
        "<p class=\"a\">Sign in &amp; continue&nbsp;at <a href=\"/x%20y?a=b\">b\u{e4}ck</a></p>\r\n",
    ] {
        let text = line.repeat(20_000 / line.len());
        let (is_complete, searched) = search(&secrets, text.as_bytes());
        assert!(is_complete && searched <= 12 * text.len(), "{line}: {searched}");
        assert_eq!(secrets.redact(&text), text);
    }
}

#[test]
fn no_limit_shows_a_secret() {
    let secrets = secrets(&["canary-token"]);
    let text = "x canary%2Dtoken \\u0063anary-token =63anary-token y";
    for limit in 0..500 {
        let redacted = secrets.redact_within(text, &SearchBudget::new(limit));
        assert!(!redacted.contains("anary"), "{limit}: {redacted}");
        assert!(redacted.contains(REDACTED), "{limit}: {redacted}");
    }
    let redacted = secrets.redact_within(text, &SearchBudget::of_text(text.len()));
    assert_eq!(redacted, "x [redacted] [redacted] [redacted] y");
}
