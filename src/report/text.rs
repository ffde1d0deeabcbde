//! Numbers of a report: as display text through [`crate::text`], and for programs unchanged.
//!
//! Points and percentages are [`Number`]s and may be absent; this module decides what is shown
//! then. Everything else about the form of a number is decided in [`crate::text`]. A number for
//! programs must never have thousands separators, because programs cannot parse them.

use crate::{
    model::Number,
    text::{self, decimal},
};

/// Rounds a sum or a percentage to two decimal places.
pub(super) fn rounded(value: f64) -> Number {
    Number::new((value * 100.0).round() / 100.0).unwrap_or(Number::ZERO)
}

/// A number for a program; empty if it is absent.
pub(super) fn display(number: Option<Number>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// A number as display text, such as `1,234.5` or `−0.25`.
pub(super) fn grouped(number: Number) -> String {
    decimal(number.get())
}

/// A number as display text; empty if it is absent.
pub(super) fn shown(number: Option<Number>) -> String {
    number.map(grouped).unwrap_or_default()
}

/// A number of points with its unit, such as `1 point` or `2.5 points`.
pub(super) fn points(number: Number) -> String {
    text::points(number.get())
}

/// A percentage with one decimal place, or `unknown`.
pub(super) fn percent(number: Option<Number>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| text::percent(number.get()))
}

/// A difference with its sign; empty if it is absent.
pub(super) fn signed(value: Option<f64>) -> String {
    value.map(text::signed).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_numbers_are_empty_or_unknown() {
        assert_eq!([display(None), shown(None), signed(None)], [""; 3]);
        assert_eq!(percent(None), "unknown");
        assert_eq!(percent(Number::new(71.25)), "71.2%");
    }

    #[test]
    fn displayed_numbers_are_grouped() {
        assert_eq!(points(Number::from(1_u32)), "1 point");
        assert_eq!(grouped(Number::from(1_234_u32)), "1,234");
        assert_eq!(signed(Some(2.5)), "+2.5");
    }
}
