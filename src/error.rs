//! How errors are explained to operators: a message that states what failed and why, and a hint
//! that states what to do about it.
//!
//! Errors carry both as data. Only code that shows errors to people combines them: the command
//! line, the log renderer, the HTTP endpoints and notifications. Each of these, and a JSON
//! document, can therefore show the hint differently. See decision 0041.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// An error that an operator may be able to resolve.
pub trait Hint: std::error::Error {
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
