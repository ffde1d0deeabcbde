//! The only module that reads the wall clock. All other modules receive the time as a value.

/// The current time.
#[expect(clippy::disallowed_methods, reason = "the only permitted call")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
