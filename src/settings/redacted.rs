//! Texts of the configuration without the parts of a URL that can be secret: user information, such
//! as `user:password@`, and the query, which contains the keys of some receivers. This module
//! changes only what is shown, never a value that is used. Start reading at [`redacted`].

/// What is shown instead of a text that can be secret.
pub(super) const REDACTED: &str = "[redacted]";

/// A text whose user information and query are replaced if it is a URL. Other texts are unchanged.
pub(super) fn redacted(text: &str) -> String {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let url = text
        .split_once("://")
        .filter(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(is_of_scheme));
    let Some((scheme, rest)) = url else { return text.to_owned() };

    let (before_query, query) = match rest.split_once('?') {
        Some((before, _)) => (before, format!("?{REDACTED}")),
        None => (rest, String::new()),
    };
    let end = before_query.find(['/', '#']).unwrap_or(before_query.len());
    let (authority, path) = before_query.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: `check --show-effective` printed the query of a URL, which can contain a key.
    #[test]
    fn only_secret_parts_of_urls_are_replaced() {
        for (text, shown) in [
            ("https://h:4318/v1/logs?api-key=canary", "https://h:4318/v1/logs?[redacted]"),
            ("https://canary:canary@h/a?b=canary#c", "https://[redacted]@h/a?[redacted]"),
            ("tcp://canary@ca@nary@h:514", "tcp://[redacted]@h:514"),
            ("s3://bucket/a@b", "s3://bucket/a@b"),
            ("unix:///run/log", "unix:///run/log"),
            ("https://h?canary@canary", "https://h?[redacted]"),
            ("what is a://b?", "what is a://b?"),
            ("a@b.example", "a@b.example"),
            ("", ""),
        ] {
            assert_eq!(redacted(text), shown);
            assert!(!redacted(text).contains("canary"), "{text}");
        }
    }
}
