//! How errors are explained to operators: a message that states what failed and why, and a hint
//! that states what to do about it.
//!
//! Errors carry both as data. Only code that shows errors to people combines them: the command
//! line, the log renderer, the HTTP endpoints and notifications. Each of these, and a JSON
//! document, can therefore show the hint differently. See decision 0041.

use std::{borrow::Cow, error::Error, io};

use serde::{Deserialize, Serialize};

/// An error that an operator may be able to resolve.
pub trait Hint: Error {
    /// An imperative fragment such as ``run `login` again``, without the prefix `hint:`; `None` if
    /// there is no general remedy.
    fn hint(&self) -> Option<Cow<'static, str>>;
}

/// An error as it is shown to an operator. It is also stored in the checkpoint, and sent over the
/// control socket as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// One line: what failed, and why.
    pub message: String,
    /// See [`Hint::hint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Explanation {
    /// An explanation without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The message of an error with its causes, as [`chain`] joins them, and its hint.
    pub fn of(error: &impl Hint) -> Self {
        Self { message: chain(error), hint: error.hint().map(Cow::into_owned) }
    }

    /// Returns the same message with this hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Returns the same explanation with the prefix `what: `, such as a tenant's name, before its
    /// message.
    #[must_use]
    pub fn within(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The same explanation with `[path]` in place of every absolute path. Records contain this
    /// one, because receivers must not learn where files are stored on this host.
    #[must_use]
    pub fn without_paths(&self) -> Self {
        Self {
            message: without_paths(&self.message),
            hint: self.hint.as_deref().map(without_paths),
        }
    }
}

impl From<String> for Explanation {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Explanation {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

/// Joins an error and its causes into one line: `cannot read the secret: no such file`. Omits a
/// cause whose text the line already contains.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();

    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = cause.source();
    }

    text
}

/// The error and its causes, in order.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&current| match current.downcast_ref::<io::Error>() {
        // The source of such an error is that of the error that it contains, not this error itself.
        Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => current.source(),
    })
}

/// The text with `[path]` in place of every absolute path.
fn without_paths(text: &str) -> String {
    let (mut out, mut end) = (String::with_capacity(text.len()), 0);
    for (start, _) in text.match_indices('/') {
        if start < end || !begins_path(text, start) {
            continue;
        }
        out.push_str(&text[end..start]);
        out.push_str("[path]");
        end = start + path_length(text, start);
    }
    out.push_str(&text[end..]);
    out
}

/// Whether an absolute path begins with the slash at this index. In a URL other than that of a
/// file, the first slash is followed by another one, and the others do not begin a word.
fn begins_path(text: &str, slash: usize) -> bool {
    let (before, path) = text.split_at(slash);
    let begins_word = before.chars().next_back().is_none_or(|c| {
        c.is_whitespace() || matches!(c, '`' | '"' | '\'' | '(' | '[' | '=' | ',' | ':')
    });
    let has_name =
        path.chars().nth(1).is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-'));
    (begins_word || before.ends_with("file://")) && has_name
}

/// The length of the path that begins at an index. A path in backticks or quotation marks ends with
/// them, and any other one before whitespace.
fn path_length(text: &str, start: usize) -> usize {
    let (before, path) = text.split_at(start);
    let is_in_backticks = before.matches('`').count() % 2 == 1;
    let quotation_mark = || before.chars().next_back().filter(|c| matches!(c, '"' | '\''));
    let mark = if is_in_backticks { Some('`') } else { quotation_mark() };

    let word = path.split_whitespace().next().unwrap_or(path);
    let bare = word.trim_end_matches([':', ',', ';', '.', ')', ']', '`', '"', '\'']);
    mark.and_then(|mark| path.find(mark)).unwrap_or(bare.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a `quality` record about a failed poll named the file of the secret.
    #[test]
    fn records_contain_no_path_of_the_host() {
        for (text, expected) in [
            ("cannot read `/etc/a/secret`: no access", "cannot read `[path]`: no access"),
            ("the certificate in `/a b/c.pem` expired", "the certificate in `[path]` expired"),
            ("failed to open file \"/run/x\": no", "failed to open file \"[path]\": no"),
            ("unable to open database file: /var/lib/c.db", "unable to open database file: [path]"),
            ("`/a` and `/b/.c`, (/d), /e.", "`[path]` and `[path]`, ([path]), [path]."),
            ("in `file:/a b/c` or file:///a/b", "in `file:[path]` or file://[path]"),
            ("no response from https://host/a/b and 1/2 HTTP/1.1 and/or", ""),
            ("`AADSTS7000215`: check `client_secret`", ""),
            ("", ""),
            ("/", ""),
        ] {
            let expected = if expected.is_empty() { text } else { expected };
            let explanation = Explanation::new(text).with_hint(text).without_paths();
            assert_eq!(explanation, Explanation::new(expected).with_hint(expected));
        }
    }
}
