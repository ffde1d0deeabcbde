//! The bodies of failures: Graph's `{"error":{…}}` and Entra's `{"error":"…","error_codes":[…]}`.

use serde::Deserialize;

/// What Graph says of a request that failed. Messages are for people; `code` is for programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GraphError {
    pub code: String,
    pub message: String,
}

/// What the token endpoint says of a request that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntraError {
    /// `invalid_client`, `invalid_scope`, …
    pub error: String,
    /// The numbers of `AADSTS…`, most telling first.
    pub codes: Vec<u32>,
    /// The first line of the description, which carries no secret.
    pub description: String,
    pub trace_id: String,
}

impl GraphError {
    /// `None` if the body is not Graph's.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            error: Inner,
        }
        #[derive(Deserialize)]
        struct Inner {
            code: Option<String>,
            message: Option<String>,
        }
        let Envelope { error } = serde_json::from_slice(body).ok()?;
        Some(Self {
            code: error.code.unwrap_or_default(),
            message: first_line(&error.message.unwrap_or_default()),
        })
    }
}

impl EntraError {
    /// `None` if the body is not Entra's.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            error: String,
            #[serde(default)]
            error_codes: Vec<u32>,
            #[serde(default)]
            error_description: String,
            #[serde(default)]
            trace_id: String,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        let told = Self::of(&body.error, &body.error_description);
        let codes = if body.error_codes.is_empty() { told.codes } else { body.error_codes };
        Some(Self { codes, trace_id: first_line(&body.trace_id), ..told })
    }

    /// From the two texts that every OAuth error has.
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

/// One line, bounded, without control characters: somebody else's words in our log.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graph_and_entra_bodies() {
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
