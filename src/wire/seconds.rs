//! Times in seconds that a server states. They are bounded where they are read, so that no later
//! calculation can overflow, however large the number is. Start reading at [`StatedSeconds`].

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

use super::lenient::NumberOrText;
use crate::model::Number;

/// A time of zero to `MAX` whole seconds, sent as a number or as numeric text. A number outside of
/// these bounds becomes the nearest one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatedSeconds<const MAX: u64>(Duration);

/// The time until a token expires: at most a day. No service that this program signs in to issues
/// tokens for a longer time, and a shorter time only means that a token is renewed earlier.
pub type TokenLifetime = StatedSeconds<{ 24 * 60 * 60 }>;

impl<const MAX: u64> StatedSeconds<MAX> {
    /// The time, of which at most `MAX` seconds are left.
    pub fn get(self) -> Duration {
        self.0
    }

    pub(super) fn of(seconds: Number) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "fractions are discarded, and a number out of range becomes the nearest bound"
        )]
        let seconds = seconds.get() as u64;
        Self(Duration::from_secs(seconds.min(MAX)))
    }

    /// `None` if the value is not a number.
    pub(super) fn read(value: &NumberOrText) -> Option<Self> {
        value.number().map(Self::of)
    }
}

/// Fails if the value is not a number.
impl<'de, const MAX: u64> Deserialize<'de> for StatedSeconds<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = NumberOrText::deserialize(deserializer)?;
        Self::read(&value).ok_or_else(|| D::Error::custom("not a number of seconds"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Option<u64> {
        let seconds = serde_json::from_str::<StatedSeconds<100>>(json).ok()?;
        Some(seconds.get().as_secs())
    }

    #[test]
    fn every_number_is_within_the_bounds() {
        let cases = [
            ("0", Some(0)),
            ("-1", Some(0)),
            ("-0.5", Some(0)),
            ("59.9", Some(59)),
            ("2147483648", Some(100)),
            ("9223372036854775807", Some(100)),
            ("-9223372036854775808", Some(0)),
            ("18446744073709551615", Some(100)),
            ("18446744073709551616", Some(100)),
            ("1e308", Some(100)),
            ("-1e308", Some(0)),
            ("1e999", None),
            ("\" 60 \"", Some(60)),
            ("\"-1\"", Some(0)),
            ("\"18446744073709551616\"", Some(100)),
            ("\"1e308\"", Some(100)),
            ("\"1e999\"", None),
            ("\"NaN\"", None),
            ("\"inf\"", None),
            ("\"\"", None),
            ("NaN", None),
            ("null", None),
            ("true", None),
            ("[60]", None),
        ];

        for (json, seconds) in cases {
            assert_eq!(read(json), seconds, "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_number_can_be_added_to_a_time(number in proptest::num::f64::ANY) {
            let seconds = Number::new(number).map(TokenLifetime::of).unwrap_or_default();
            prop_assert!(seconds.get() <= Duration::from_hours(24));
        }
    }
}
