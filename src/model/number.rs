//! Numbers as Microsoft sends them: floats, integers and decimals as text. All scores, percentages
//! and counts have this type, so that the form in which Microsoft sends a number never appears as a
//! change.

use std::io::Write;

/// A finite decimal number. Two numbers are equal if they are the same decimal, no matter whether
/// Microsoft sent `4`, `4.0` or `"4"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Number(f64);

impl Number {
    /// Zero, for comparisons.
    pub const ZERO: Self = Self(0.0);

    /// `None` for NaN and infinities.
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero turns -0 into 0, so that both are printed in the same way.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// Parses a decimal that was sent as text, as in `"count": "5"`. Returns `None` for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let numeric = text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));

        if text.is_empty() || !numeric {
            return None;
        }

        Self::new(text.parse().ok()?)
    }

    /// The value as a double, always finite.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Whether the number is less than zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0.0
    }

    /// The number as an integer, if it is a whole number below 10^15.
    pub fn as_integer(self) -> Option<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the comparison before it")]
        (self.0.fract() == 0.0 && self.0.abs() < EXACT).then_some(self.0 as i64)
    }

    /// Appends the shortest decimal that parses to this number, without an exponent and without an
    /// empty fraction: `7.83`, `10`.
    pub fn write_plain(self, out: &mut Vec<u8>) {
        if let Some(hundredths) = self.hundredths() {
            if self.is_negative() {
                out.push(b'-');
            }
            write_hundredths(hundredths, out);
        } else {
            // `Display` of `f64` never uses an exponent, and writing to a `Vec` cannot fail.
            let _ = write!(out, "{}", self.0);
        }
    }

    /// Like [`Self::write_plain`], but a whole number has one decimal place: `10.0`. The canonical
    /// JSON writes scores in this form, so that no receiver maps their field to an integer.
    pub fn write_float(self, out: &mut Vec<u8>) {
        self.write_plain(out);
        if self.0.fract() == 0.0 {
            out.extend_from_slice(b".0");
        }
    }

    /// The number of hundredths without the sign, if it is exact. Scores have at most two decimal
    /// places. A decimal of fewer than 16 digits is the only one of its length that parses to its
    /// double, so the hundredths are the shortest decimal.
    fn hundredths(self) -> Option<u64> {
        let scaled = (self.0.abs() * 100.0).round();
        #[expect(clippy::float_cmp, reason = "tests whether the scaling is exact")]
        let exact = scaled < EXACT && scaled / 100.0 == self.0.abs();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number in 0..EXACT"
        )]
        exact.then_some(scaled as u64)
    }
}

/// Every integer below this number is exactly representable as a double and has at most 15 digits.
const EXACT: f64 = 1e15;

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self(f64::from(value))
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn write_hundredths(hundredths: u64, out: &mut Vec<u8>) {
    write_integer(hundredths / 100, out);

    let rest = u8::try_from(hundredths % 100).unwrap_or(0);
    if rest != 0 {
        out.push(b'.');
        out.push(b'0' + rest / 10);
        if !rest.is_multiple_of(10) {
            out.push(b'0' + rest % 10);
        }
    }
}

/// Appends a whole number in decimal.
pub(crate) fn write_integer(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value;

    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }

    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(value: f64) -> String {
        let mut out = Vec::new();
        Number::new(value).unwrap().write_plain(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_the_shortest_decimal() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (10.0, "10"),
            (7.83, "7.83"),
            (0.5, "0.5"),
            (0.05, "0.05"),
            (815.22, "815.22"),
            (-1.0, "-1"),
            (-0.25, "-0.25"),
            (33.333_333, "33.333333"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e22, "10000000000000000000000"),
            (1e-7, "0.0000001"),
        ] {
            assert_eq!(plain(value), text);
        }
    }

    #[test]
    fn float_form_has_a_decimal_place() {
        let mut out = Vec::new();
        Number::new(10.0).unwrap().write_float(&mut out);
        out.push(b' ');
        Number::new(7.83).unwrap().write_float(&mut out);
        assert_eq!(out, b"10.0 7.83");
    }

    #[test]
    fn parses_only_decimal_text() {
        assert_eq!(Number::parse(" 5 "), Number::new(5.0));
        assert_eq!(Number::parse("4.0"), Number::new(4.0));
        for text in ["", "five", "NaN", "inf", "1,5", "0x10", "-"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn printed_numbers_round_trip(value in proptest::num::f64::NORMAL) {
            prop_assert_eq!(plain(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn hundredths_print_like_the_standard_library(hundredths in 0_u32..100_000_000) {
            let value = f64::from(hundredths) / 100.0;
            prop_assert_eq!(plain(value), format!("{value}"));
        }
    }
}
