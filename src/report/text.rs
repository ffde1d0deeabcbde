//! Numbers as text: for people with thousands separators and at most two decimal places, for
//! programs unchanged.

use crate::model::Number;

/// Rounds a sum or a percentage to two decimal places.
pub(super) fn rounded(value: f64) -> Number {
    Number::new((value * 100.0).round() / 100.0).unwrap_or(Number::ZERO)
}

/// A number for a program; empty if it is absent.
pub(super) fn display(number: Option<Number>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// A number for people, such as `1,234.5` or `−0.25`.
pub(super) fn grouped(number: Number) -> String {
    let text = rounded(number.get()).to_string();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("−", digits),
        None => ("", text.as_str()),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (digits, String::new()),
    };
    format!("{sign}{}{fraction}", separated(whole))
}

/// A number for people; empty if it is absent.
pub(super) fn shown(number: Option<Number>) -> String {
    number.map(grouped).unwrap_or_default()
}

/// A number of points with its unit, such as `1 point` or `2.5 points`.
pub(super) fn points(number: Number) -> String {
    let unit = if number == Number::from(1_u32) { "point" } else { "points" };
    format!("{} {unit}", grouped(number))
}

/// A count for people, such as `1,234`.
pub(super) fn count(number: usize) -> String {
    separated(&number.to_string())
}

/// A count for people with commas between groups of three digits, such as `1,234`.
pub fn with_separators(number: u64) -> String {
    separated(&number.to_string())
}

/// A percentage with one decimal place, or `unknown`.
pub(super) fn percent(number: Option<Number>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| format!("{:.1}%", number.get()))
}

/// A difference with its sign; empty if it is absent.
pub(super) fn signed(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| {
        let value = rounded(value);
        let sign = if value > Number::ZERO { "+" } else { "" };
        format!("{sign}{}", grouped(value))
    })
}

fn separated(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_thousands_separators() {
        for (value, text) in [
            (0.0, "0"),
            (-0.001, "0"),
            (7.0, "7"),
            (999.99, "999.99"),
            (1_000.0, "1,000"),
            (-1_234.5, "−1,234.5"),
            (0.1 + 0.2, "0.3"),
            (1_234_567.89, "1,234,567.89"),
        ] {
            assert_eq!(grouped(Number::new(value).unwrap()), text);
        }
        assert_eq!((count(20_813), with_separators(u64::MAX).len()), ("20,813".to_owned(), 26));
        assert_eq!(points(Number::from(1_u32)), "1 point");
        assert_eq!(points(Number::ZERO), "0 points");
    }

    #[test]
    fn differences_have_a_sign() {
        for (value, text) in
            [(Some(2.5), "+2.5"), (Some(-1_000.0), "−1,000"), (Some(0.004), "0"), (None, "")]
        {
            assert_eq!(signed(value), text);
        }
    }
}
