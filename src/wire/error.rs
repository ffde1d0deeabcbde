//! Error bodies: `{"error":{…}}` of Graph, and `{"error":"…","error_codes":[…]}` of Entra. A body
//! can also be HTML from a proxy, so it may not be an error of this form at all. All texts are cut
//! to one line while they are read, because they are logged.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
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
    /// Parses the JSON body of an error response of Graph or of a gateway in front of it; `None` if
    /// the body is not JSON, or states nothing.
    ///
    /// The message is in `error`, or in the body itself, under the names that gateways use; in
    /// `innerError` if it is nowhere else; and `error` may be a text.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Described { code, message } = serde_json::from_slice(body).ok()?;
        let error = Self { code, message };
        (error != Self::default()).then_some(error)
    }

    /// The error in the body of an unsuccessful response. Of a body that is not JSON, the message
    /// is the first line or, of an HTML page, the title. Empty if the body contains no text.
    pub fn of_body(body: &[u8]) -> Self {
        let of_text = || Self { code: String::new(), message: text_of(body).unwrap_or_default() };
        Self::read(body).unwrap_or_else(of_text)
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

/// What a body that is not an error in JSON states, for messages: the first line of a text, or the
/// title of an HTML page. `None` if the body is not text, or has no letter and no digit.
pub(super) fn text_of(body: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        // The body was cut in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(body.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let text = text.trim();
    if !text.contains(char::is_alphanumeric) || text.contains('\0') {
        return None;
    }
    if !text.starts_with('<') {
        return Some(first_line(text));
    }

    let title = page_title(text).map(str::trim).filter(|title| !title.is_empty());
    Some(title.map_or_else(
        || "an HTML page".to_owned(),
        |title| format!("an HTML page, `{}`", first_line(title)),
    ))
}

/// The text of the element `title` of an HTML page.
fn page_title(page: &str) -> Option<&str> {
    let folded = page.to_ascii_lowercase();
    let tag = folded.find("<title")?;
    let start = tag.checked_add(folded.get(tag..)?.find('>')?)?.checked_add(1)?;
    let length = folded.get(start..)?.find('<')?;
    page.get(start..start.checked_add(length)?)
}

/// The beginning of the first line of a text from a server, for messages.
fn first_line(text: &str) -> String {
    ForeignText::new(text.lines().next().unwrap_or_default()).for_message(MAX_MESSAGE_CHARS)
}

/// What an error in JSON states, as an object of any of the known shapes or as a text. Everything
/// else is skipped.
#[derive(Default)]
struct Described {
    code: String,
    message: String,
}

impl Described {
    /// Adds what another object states, if this one does not.
    fn or(self, other: Self) -> Self {
        let first = |own: String, other: String| if own.is_empty() { other } else { own };
        Self { code: first(self.code, other.code), message: first(self.message, other.message) }
    }
}

impl<'de> Deserialize<'de> for Described {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DescribedVisitor;
        impl<'de> Visitor<'de> for DescribedVisitor {
            type Value = Described;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an error")
            }

            fn visit_unit<E>(self) -> Result<Described, E> {
                Ok(Described::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Described, E> {
                Ok(Described::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Described, E> {
                Ok(Described::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Described, E> {
                Ok(Described::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Described, E> {
                Ok(Described::default())
            }

            fn visit_str<E>(self, text: &str) -> Result<Described, E> {
                Ok(Described { message: first_line(text.trim()), ..Described::default() })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Described, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Described::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Described, A::Error> {
                let (mut own, mut inner) = (Described::default(), Described::default());
                while let Some(key) = map.next_key::<String>()? {
                    match key.to_ascii_lowercase().as_str() {
                        "code" => own.code = map.next_value::<Described>()?.message,
                        "message" | "error_description" | "detail" => {
                            let Described { message, .. } = map.next_value()?;
                            own = own.or(Described { message, ..Described::default() });
                        }
                        "error" | "innererror" => inner = inner.or(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(own.or(inner))
            }
        }
        deserializer.deserialize_any(DescribedVisitor)
    }
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

    /// Regression: a message in another shape than `{"error":{"message":…}}` was lost.
    #[test]
    fn every_shape_of_an_error_is_read() {
        const REASON: &str = "Because reasons";
        let cases = [
            (r#"{"error":{"code":"A","message":"Because reasons"}}"#, "A", REASON),
            (r#"{"error":"Because reasons"}"#, "", REASON),
            (r#"{"Message":"Because reasons"}"#, "", REASON),
            (r#"{"code":"A","message":"Because reasons"}"#, "A", REASON),
            (r#"{"error":"invalid","error_description":"Because reasons"}"#, "", REASON),
            (
                r#"{"error":{"code":"","message":"","innerError":{"message":"Because reasons"}}}"#,
                "",
                REASON,
            ),
            (r#"{"error":{"code":"A","innererror":{"code":"B"}}}"#, "A", ""),
            (r#"{"error":{"code":7,"message":["x"],"detail":"Because reasons"}}"#, "", REASON),
            ("Because reasons\r\nmore", "", REASON),
            ("  \n Because reasons", "", REASON),
            ("<html><body>x</body></html>", "", "an HTML page"),
            ("<!doctype html><TITLE lang=en>\n Sign in</title>", "", "an HTML page, `Sign in`"),
            ("<title", "", "an HTML page"),
            ("", "", ""),
            ("{}", "", ""),
            (r#"{"reason":"x"}"#, "", r#"{"reason":"x"}"#),
            ("\0\0", "", ""),
        ];

        for (body, code, message) in cases {
            let expected = GraphError { code: code.to_owned(), message: message.to_owned() };
            assert_eq!(GraphError::of_body(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(GraphError::of_body(b"\xff\xfe"), GraphError::default());
        for other in ["[]", "7", r#"{"value":5}"#, r#"{"value":[]}"#, r#"{"error":{}}"#, "null"] {
            assert_eq!(GraphError::read(other.as_bytes()), None, "{other}");
        }
    }
}
