//! Texts of the configuration without the parts of a URL that can be secret: user information, such
//! as `user:password@`, and the query, which contains the keys of some receivers. This module
//! changes only what is shown, never a value that is used. Start reading at [`redacted`].

/// What is shown instead of a text that can be secret.
pub(super) const REDACTED: &str = "[redacted]";

/// A text whose user information and query are replaced if it is a URL. Other texts are unchanged.
pub(super) fn redacted(text: &str) -> String {
    // The parser is the one that the sinks use, which ignores spaces and accepts other slashes.
    match url::Url::parse(text) {
        Ok(url)
            if url.query().is_some() || !url.username().is_empty() || url.password().is_some() =>
        {
            let user = if url.username().is_empty() && url.password().is_none() {
                String::new()
            } else {
                format!("{REDACTED}@")
            };
            let host = url.host_str().unwrap_or_default();
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let query = url.query().map(|_| format!("?{REDACTED}")).unwrap_or_default();
            format!("{}://{user}{host}{port}{}{query}", url.scheme(), url.path())
        }
        Ok(_) => text.to_owned(),
        // A text that is rejected later, such as one with an invalid port.
        Err(_) => without_user_and_query(text),
    }
}

/// Like [`redacted`], for a text that only resembles a URL.
fn without_user_and_query(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    }) else {
        return text.to_owned();
    };

    let (before_query, query) = match rest.split_once('?') {
        Some((before, _)) => (before, format!("?{REDACTED}")),
        None => (rest, String::new()),
    };
    let before_query = match before_query.rsplit_once('@') {
        Some((_, after)) => format!("{REDACTED}@{after}"),
        None => before_query.to_owned(),
    };
    format!("{scheme}://{before_query}{query}")
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
            ("https://h?canary@canary", "https://h/?[redacted]"),
            (" https://h/?key=canary", "https://h/?[redacted]"),
            ("https:/\\h/?key=canary", "https://h/?[redacted]"),
            ("https://canary@h:99999/?canary", "https://[redacted]@h:99999/?[redacted]"),
            ("what is a://b?", "what is a://b?"),
            ("a@b.example", "a@b.example"),
            ("", ""),
        ] {
            assert_eq!(redacted(text), shown);
            assert!(!redacted(text).contains("canary"), "{text}");
        }
    }
}
