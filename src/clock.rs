//! The one place that reads the wall clock. What needs the time gets it as a value.

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
