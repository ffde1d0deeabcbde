//! The documents with which stores explain an error: XML of Amazon S3, Azure Blob Storage and
//! Google Cloud Storage, and JSON of Google's other API.
//!
//! Only such a document has a code of a store; the page of a proxy, or any other text, has none. A
//! code is not shown unless its response was redacted before. Start reading at [`code_of`].
//!
//! Sources: the lists of error codes in the documentation of each store.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    sink::reply_json::{LimitedText, ReplyObject, list},
    text::cut,
};

/// The maximum number of characters of a code, and of a summary.
const MAX_CODE_CHARS: usize = 100;
const MAX_SUMMARY_CHARS: usize = 300;
/// The maximum number of errors in a document of JSON. Google returns one.
const MAX_ERRORS: usize = 10;

/// A document of JSON: `{"error": {"errors": [{"reason": "conditionNotMet"}]}}`.
#[derive(Debug, Deserialize)]
struct JsonDocument<'a> {
    #[serde(borrow)]
    error: ReplyObject<JsonErrors<'a>>,
}

#[derive(Debug, Deserialize)]
struct JsonErrors<'a> {
    /// An array of [`JsonError`].
    #[serde(borrow)]
    errors: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct JsonError {
    reason: LimitedText<MAX_CODE_CHARS>,
}

/// The code of the error that a body explains; `None` if the body is not a document of a store.
pub(super) fn code_of(body: &str) -> Option<String> {
    let text = body.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('{') {
        return reason_in(text);
    }

    let root = match text.strip_prefix("<?xml") {
        Some(declared) => declared.split_once("?>")?.1.trim_start(),
        None => text,
    };
    if !root.starts_with("<Error") {
        return None;
    }
    let code = element(root, "Code")?.trim();
    (!code.is_empty()).then(|| cut(code, MAX_CODE_CHARS).into_owned())
}

/// The code and the message of a document, or the beginning of any other body, on one line.
pub(super) fn summary_of(body: &str) -> String {
    let summary = match code_of(body) {
        Some(code) => match element(body, "Message") {
            Some(message) => format!("{code}: {message}"),
            None => code,
        },
        None => body.to_owned(),
    };
    let words: Vec<&str> = summary.split_whitespace().collect();
    cut(&words.join(" "), MAX_SUMMARY_CHARS).into_owned()
}

/// The first line of the text in the first element with this name, which has no attributes.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content.lines().next().unwrap_or_default())
}

/// The first reason in a document of JSON.
fn reason_in(text: &str) -> Option<String> {
    let ReplyObject(document): ReplyObject<JsonDocument<'_>> = serde_json::from_str(text).ok()?;
    let errors: Vec<ReplyObject<JsonError>> = list(document.error.0.errors, MAX_ERRORS).ok()?;
    let ReplyObject(first) = errors.into_iter().next()?;
    Some(first.reason.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_of_stores_have_codes() {
        for (body, expected) in [
            ("<Error><Code>SlowDown</Code></Error>", Some("SlowDown")),
            ("\u{feff}<?xml version=\"1.0\"?>\r\n<Error>\n <Code>A</Code>", Some("A")),
            ("<?xml version=\"1.0\"?><Error xmlns=\"x\"><Code>A</Code></Error>", Some("A")),
            (
                "{\"error\":{\"errors\":[{\"reason\":\"conditionNotMet\"}]}}",
                Some("conditionNotMet"),
            ),
            ("<Error><Code></Code></Error>", None),
            ("<Error><Message>no</Message></Error>", None),
            ("<html><Error><Code>A</Code></Error></html>", None),
            ("<?xml", None),
            ("{\"error\":{\"code\":412}}", None),
            ("{\"error\":{\"errors\":[]}}", None),
            ("{", None),
            ("<Code>A</Code>", None),
            ("A", None),
            ("", None),
        ] {
            assert_eq!(code_of(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn summaries_are_one_short_line() {
        for (body, expected) in [
            ("<Error><Code>A</Code><Message>m\nRequestId: 7</Message></Error>", "A: m"),
            ("<Error><Code>A</Code></Error>", "A"),
            ("{\n \"status\": 1\n}", "{ \"status\": 1 }"),
        ] {
            assert_eq!(summary_of(body), expected);
        }
        assert_eq!(summary_of(&"x ".repeat(1_000)).chars().count(), MAX_SUMMARY_CHARS);
    }
}
