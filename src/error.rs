//! How errors are explained to people: a message that names what failed and why, and a hint that
//! says what to do about it.
//!
//! Errors carry both as data. Only the command line and the log renderer put them together, so
//! that a log line, a status page and a JSON document can each show the hint in its own way.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// An error that may know what an operator can do about it.
pub trait Hint: std::error::Error {
    /// An imperative such as ``run `login` again``, without the word "hint".
    fn hint(&self) -> Option<Cow<'static, str>>;
}

/// What an operator reads about an error: one line that says what failed, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Explanation {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The message and causes of an error, and its hint.
    pub fn of(error: &impl Hint) -> Self {
        Self { message: chain(error), hint: error.hint().map(Cow::into_owned) }
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same explanation, with what failed in front of its message.
    #[must_use]
    pub fn within(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
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

/// An error with its causes, on one line: `cannot read the secret: no such file`. A cause whose
/// text already appears in the line is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
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
