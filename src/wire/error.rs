//! Error bodies: `{"error":{…}}` of Graph, and `{"error":"…","error_codes":[…]}` of Entra. A body
//! can also be HTML from a proxy, so it may not be an error of this form at all. All texts are cut
//! to one line, because they are logged.

use serde::Deserialize;

use crate::text::one_line;

/// The maximum number of characters of a text.
const MAX_MESSAGE_CHARS: usize = 300;

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
            code: Option<String>,
            message: Option<String>,
        }

        let ErrorEnvelope { error } = serde_json::from_slice(body).ok()?;
        Some(Self {
            code: error.code.unwrap_or_default(),
            message: first_line(&error.message.unwrap_or_default()),
        })
    }
}

impl EntraError {
    /// Parses the body of an error response; `None` if it is not an error of Entra.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct ErrorBody {
            error: String,
            #[serde(default)]
            error_codes: Vec<u32>,
            #[serde(default)]
            error_description: String,
            #[serde(default)]
            trace_id: String,
        }

        let body: ErrorBody = serde_json::from_slice(body).ok()?;
        let described = Self::of(&body.error, &body.error_description);
        let codes = if body.error_codes.is_empty() { described.codes } else { body.error_codes };
        Some(Self { codes, trace_id: first_line(&body.trace_id), ..described })
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
    one_line(text.lines().next().unwrap_or_default(), MAX_MESSAGE_CHARS)
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

        assert_eq!(GraphError::read(b"<html>"), None);
        assert_eq!(EntraError::read(br#"{"error":{"code":"x"}}"#), None);
    }
}
