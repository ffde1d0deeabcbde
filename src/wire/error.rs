//! Error bodies: `{"error":{…}}` of Graph, and `{"error":"…","error_codes":[…]}` of Entra. A body
//! can also be HTML from a proxy, so it may not be an error of this form at all. All texts are cut
//! to one line while they are read, because they are logged.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use crate::foreign_text::ForeignText;

/// The maximum number of characters of a text.
const MAX_MESSAGE_CHARS: usize = 300;
/// The maximum number of `AADSTS…` codes; the others are skipped.
const MAX_CODES: usize = 16;

/// The error of a failed request to Graph. Programs evaluate only `code`; `message` is only
/// displayed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GraphError {
    /// A code such as `Authorization_RequestDenied`; empty if there is none.
    pub code: String,
    /// Microsoft's description in English.
    pub message: String,
}

/// The error of a failed request to the token endpoint (RFC 6749, section 5.2, with the fields
/// that Entra adds).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntraError {
    /// The error code of OAuth 2.0, such as `invalid_client` or `invalid_scope`.
    pub error: String,
    /// The numbers of the `AADSTS…` codes, the most specific first.
    pub codes: Vec<u32>,
    /// The first line of the description. It contains no secret.
    pub description: String,
    /// The ID by which Microsoft's support finds the request; empty if there is none.
    pub trace_id: String,
}

impl GraphError {
    /// Parses the body of an error response; `None` if it is not an error of Graph.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct ErrorEnvelope {
            error: Inner,
        }
        #[derive(Deserialize)]
        struct Inner {
            code: Option<FirstLine>,
            message: Option<FirstLine>,
        }

        let ErrorEnvelope { error } = serde_json::from_slice(body).ok()?;
        Some(Self {
            code: error.code.unwrap_or_default().0,
            message: error.message.unwrap_or_default().0,
        })
    }
}

impl EntraError {
    /// Parses the body of an error response; `None` if it is not an error of Entra.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct ErrorBody {
            error: FirstLine,
            #[serde(default)]
            error_codes: ErrorCodes,
            #[serde(default)]
            error_description: FirstLine,
            #[serde(default)]
            trace_id: FirstLine,
        }

        let body: ErrorBody = serde_json::from_slice(body).ok()?;
        let described = Self::of(&body.error.0, &body.error_description.0);
        let ErrorCodes(codes) = body.error_codes;
        let codes = if codes.is_empty() { described.codes } else { codes };
        Some(Self { codes, trace_id: body.trace_id.0, ..described })
    }

    /// The error with the two fields that every OAuth error has.
    pub fn of(error: &str, description: &str) -> Self {
        Self {
            error: first_line(error),
            codes: code_in(description).into_iter().collect(),
            description: first_line(description),
            trace_id: String::new(),
        }
    }
}

/// The number after `AADSTS` in a description.
fn code_in(description: &str) -> Option<u32> {
    let (_, rest) = description.split_once("AADSTS")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The beginning of the first line of a text from a server, for messages.
fn first_line(text: &str) -> String {
    ForeignText::new(text.lines().next().unwrap_or_default()).for_message(MAX_MESSAGE_CHARS)
}

/// The beginning of a text; the rest of it is not stored.
#[derive(Default)]
struct FirstLine(String);

impl<'de> Deserialize<'de> for FirstLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LineVisitor;
        impl Visitor<'_> for LineVisitor {
            type Value = FirstLine;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<FirstLine, E> {
                Ok(FirstLine(first_line(text)))
            }
        }
        deserializer.deserialize_str(LineVisitor)
    }
}

/// The first [`MAX_CODES`] codes of a list.
#[derive(Default)]
struct ErrorCodes(Vec<u32>);

impl<'de> Deserialize<'de> for ErrorCodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CodesVisitor;
        impl<'de> Visitor<'de> for CodesVisitor {
            type Value = ErrorCodes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ErrorCodes, A::Error> {
                let mut codes = Vec::new();
                while codes.len() < MAX_CODES {
                    let Some(code) = seq.next_element()? else { return Ok(ErrorCodes(codes)) };
                    codes.push(code);
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(ErrorCodes(codes))
            }
        }
        deserializer.deserialize_seq(CodesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_errors_of_graph_and_entra() {
        let graph = GraphError::read(
            br#"{"error":{"code":"AccessDenied","message":"No access.\nMore","innerError":{}}}"#,
        );
        assert_eq!(
            graph,
            Some(GraphError { code: "AccessDenied".into(), message: "No access.".into() })
        );

        let entra = EntraError::read(
            br#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: x","trace_id":"t"}"#,
        )
        .unwrap();
        assert_eq!(entra.codes, [7_000_215]);
        assert_eq!(entra.description, "AADSTS7000215: Invalid client secret provided.");

        let long = "1".repeat(MAX_MESSAGE_CHARS * 2);
        let graph = format!(r#"{{"error":{{"code":"{long}","message":"{long}"}}}}"#);
        let graph = GraphError::read(graph.as_bytes()).unwrap();
        let entra = format!(r#"{{"error":"{long}","error_codes":[{}0]}}"#, "1,".repeat(MAX_CODES));
        let entra = EntraError::read(entra.as_bytes()).unwrap();
        assert_eq!(entra.codes, [1; MAX_CODES]);
        for text in [&graph.code, &graph.message, &entra.error] {
            assert_eq!(text.chars().count(), MAX_MESSAGE_CHARS);
        }

        assert_eq!(GraphError::read(b"<html>"), None);
        assert_eq!(EntraError::read(br#"{"error":{"code":"x"}}"#), None);
    }
}
