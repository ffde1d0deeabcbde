//! Reads the URLs of a configuration, and explains why a text is not one. No explanation contains
//! the text, because a URL can contain a secret. Whether a credential may be sent to a URL is
//! decided in `credentials`. Start reading at [`parse_url`].

use url::Url;

use super::is_safe_url;
use crate::{
    error::Explanation,
    foreign_text::{is_hidden, is_joiner},
};

/// What the URL of a server without a path must be.
const BASE_URL: &str = "must be https://host, or http to a loopback address";

/// Parses a URL of any scheme.
///
/// # Errors
///
/// Fails with the reason, as a predicate. The parser itself would ignore spaces, and the rest of
/// this program would ignore a fragment.
pub fn parse_url(text: &str) -> Result<Url, Explanation> {
    let invalid = |cause: &str| Explanation::new(format!("is not a URL: {cause}"));
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid("it contains a space").with_hint("remove the space, or write `%20`"));
    }
    if !has_scheme(text) {
        let (cause, hint) = without_scheme(text);
        return Err(invalid(cause).with_hint(hint));
    }

    let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
    if url.fragment().is_some() {
        let hint = "remove the part that begins with `#`, or write `%23` for this character";
        return Err(Explanation::new("has a fragment, which is never sent").with_hint(hint));
    }
    Ok(url)
}

/// Whether a text begins with a scheme and `://` (RFC 3986, section 3.1).
fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

/// What is wrong with the beginning of a text that does not begin with a scheme, and a hint.
fn without_scheme(text: &str) -> (&'static str, &'static str) {
    let before = text.split_once("://").map_or("", |(before, _)| before);
    match text.chars().next() {
        Some(first) if is_hidden(first) || is_joiner(first) => {
            ("it begins with an invisible character", "write it again, without this character")
        }
        Some('"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}') => {
            ("it begins with a quotation mark", "remove the quotation marks")
        }
        _ if before.contains('=') => {
            ("it has the form `NAME=value`", "write only the value, without its name")
        }
        _ => (
            "it does not begin with `https://`",
            "write the scheme before the host, such as `https://host:8088`",
        ),
    }
}

/// Parses the URL of a server to which a credential may be sent, and to which the caller adds
/// paths. A slash at its end has no effect.
///
/// # Errors
///
/// Fails with the reason, as a predicate.
pub fn parse_base_url(text: &str) -> Result<Url, Explanation> {
    let explained = |cause: Explanation| Explanation {
        message: format!("{BASE_URL}: it {}", cause.message),
        ..cause
    };

    let url = parse_url(text).map_err(explained)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(explained("contains a user name or a password".into()));
    }
    if has_path_or_query(&url) {
        let cause = Explanation::new("has a path or a query");
        return Err(explained(cause.with_hint("remove everything after the host and the port")));
    }
    if is_safe_url(&url) { Ok(url) } else { Err(BASE_URL.into()) }
}

/// Whether a URL has a path other than `/`, or a query.
pub fn has_path_or_query(url: &Url) -> bool {
    !matches!(url.path(), "" | "/") || url.query().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: an address without a scheme, or with a quotation mark, an invisible character or
    /// the name of a variable before it, was reported as `relative URL without a base`, or as one
    /// that must use https, and a fragment was ignored.
    #[test]
    fn texts_that_are_no_url_are_explained() {
        let cases = [
            ("https://h", None),
            ("https://h:8088/a/?b=c", None),
            ("s3://bucket/prefix", None),
            ("h", Some("is not a URL: it does not begin with `https://`")),
            ("h:8088", Some("is not a URL: it does not begin with `https://`")),
            ("https:/h", Some("is not a URL: it does not begin with `https://`")),
            ("", Some("is not a URL: it does not begin with `https://`")),
            ("1https://h", Some("is not a URL: it does not begin with `https://`")),
            ("://h", Some("is not a URL: it does not begin with `https://`")),
            ("\"https://h\"", Some("is not a URL: it begins with a quotation mark")),
            ("\u{201c}https://h\u{201d}", Some("is not a URL: it begins with a quotation mark")),
            ("\u{ab}https://h\u{bb}", Some("is not a URL: it begins with a quotation mark")),
            ("\u{feff}https://h", Some("is not a URL: it begins with an invisible character")),
            ("\u{200b}https://h", Some("is not a URL: it begins with an invisible character")),
            ("URL=https://h", Some("is not a URL: it has the form `NAME=value`")),
            (" https://h", Some("is not a URL: it contains a space")),
            ("https://h/a\u{a0}", Some("is not a URL: it contains a space")),
            ("https://", Some("is not a URL: empty host")),
            ("https://h:99999", Some("is not a URL: invalid port number")),
            ("https://h#f", Some("has a fragment, which is never sent")),
        ];

        for (text, message) in cases {
            let found = parse_url(text).map(drop).map_err(|fault| fault.message);
            assert_eq!(found.err().as_deref(), message, "{text}");
        }
    }

    #[test]
    fn base_urls_have_no_path() {
        for (text, cause) in [
            ("https://h", None),
            ("https://h/", None),
            ("http://127.0.0.1:8080", None),
            ("http://h", Some("")),
            ("ftp://h", Some("")),
            ("h", Some(": it is not a URL: it does not begin with `https://`")),
            ("https://h/v1.0", Some(": it has a path or a query")),
            ("https://h/?a", Some(": it has a path or a query")),
            ("https://u@h", Some(": it contains a user name or a password")),
        ] {
            let found = parse_base_url(text).map(drop).map_err(|fault| fault.message);
            let expected = cause.map(|cause| format!("{BASE_URL}{cause}"));
            assert_eq!(found.err(), expected, "{text}");
        }
    }
}
