//! Numbers, sizes, times and lists as display text: on the command line, on the status page, in
//! conditions, in reports and in messages.
//!
//! A number looks the same in all of these, because they format it here. Times are different: pages
//! and reports show [`minute`], and commands print RFC 3339, which can be copied into other
//! commands. Text for programs must not be formatted here, because they cannot parse separators.
//! This module is pure: it performs no I/O and reads no clock. Start reading at [`count`].

use std::borrow::Cow;

use jiff::Timestamp;

/// A whole number of items, such as records. `u32`, `u64` and `usize` convert to it, so callers
/// need no cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(u64);

const MEGABYTE: u64 = 1_000_000;
const GIGABYTE: u64 = 1_000 * MEGABYTE;

/// A number with a noun whose plural is formed with `s`: `1 record`, `20,813 records`.
pub fn count(number: impl Into<Count>, noun: &str) -> String {
    let number = number.into();
    let ending = if number.is_one() { "" } else { "s" };
    format!("{} {noun}{ending}", with_separators(number))
}

/// A number with a noun whose plural is irregular, or with a phrase: `1 body`, `2 bodies`.
pub fn plural(number: impl Into<Count>, one: &str, many: &str) -> String {
    let number = number.into();
    format!("{} {}", with_separators(number), if number.is_one() { one } else { many })
}

/// A number with commas between groups of three digits, such as `1,234`.
pub fn with_separators(number: impl Into<Count>) -> String {
    separated(&number.into().0.to_string())
}

/// A decimal with separators and at most two decimal places, such as `1,234.5` or `−0.25`. A value
/// that is not finite is shown as `0`.
pub fn decimal(value: f64) -> String {
    let rounded = rounded(value);
    let sign = if rounded < 0.0 { "−" } else { "" };
    let digits = rounded.abs().to_string();
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    format!("{sign}{}{fraction}", separated(whole))
}

/// A difference with its sign, like [`decimal`]: `+2.5`, `−1,000`; `0` if it rounds to zero.
pub fn signed(value: f64) -> String {
    let sign = if rounded(value) > 0.0 { "+" } else { "" };
    format!("{sign}{}", decimal(value))
}

/// A percentage with one decimal place, such as `71.2%`.
pub fn percent(value: f64) -> String {
    format!("{value:.1}%")
}

/// A number of points with its unit, such as `1 point` or `2.5 points`.
pub fn points(value: f64) -> String {
    let shown = decimal(value);
    let unit = if shown == "1" { "point" } else { "points" };
    format!("{shown} {unit}")
}

/// A size in decimal units: `1.8 MB`, `18 MB` from 10 MB, and `31 GB` from 10 GB.
pub fn size(bytes: u64) -> String {
    let rounded_to = |unit: u64| bytes.saturating_add(unit / 2) / unit;

    let tenths = rounded_to(MEGABYTE / 10);
    if tenths < 100 {
        return format!("{}.{} MB", tenths / 10, tenths % 10);
    }
    match rounded_to(MEGABYTE) {
        megabytes @ ..10_000 => format!("{} MB", with_separators(megabytes)),
        _ => format!("{} GB", with_separators(rounded_to(GIGABYTE))),
    }
}

/// A time in UTC, to the minute: `2026-11-22 06:15 UTC`.
pub fn minute(time: impl Into<Timestamp>) -> String {
    time.into().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// At most `max` of the items, separated by commas, and the number of the others:
/// `a, b and 1,998 more`.
pub fn listed(items: &[impl AsRef<str>], max: usize) -> String {
    let shown: Vec<&str> = items.iter().take(max).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match items.len().saturating_sub(max) {
        0 => shown,
        more => format!("{shown} and {} more", with_separators(more)),
    }
}

/// The known name that is most similar to a mistyped one, for a hint; `None` if none is so similar
/// that it is probably the intended one. Upper and lower case are equal.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    let scored = known.into_iter().map(|known| (distance(known), known));
    let (distance, near) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(name.len() / 3)).then_some(near)
}

/// Cuts a text to at most `max` characters. A text that was cut ends in `…`, which counts as one of
/// them.
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max || text.chars().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let mut kept: String = text.chars().take(max.saturating_sub(1)).collect();
    kept.push('…');
    Cow::Owned(kept)
}

/// A text that is safe in the content and in the quoted attributes of an HTML page.
pub fn html_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

impl Count {
    fn is_one(self) -> bool {
        self.0 == 1
    }
}

impl From<u32> for Count {
    fn from(number: u32) -> Self {
        Self(number.into())
    }
}

impl From<u64> for Count {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<usize> for Count {
    fn from(number: usize) -> Self {
        Self(number as u64)
    }
}

/// The value with two decimal places; zero if it is not finite.
fn rounded(value: f64) -> f64 {
    let rounded = (value * 100.0).round() / 100.0;
    if rounded.is_finite() { rounded } else { 0.0 }
}

fn separated(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators_and_a_noun() {
        for (number, text) in [
            (0_u64, "0 records"),
            (1, "1 record"),
            (2, "2 records"),
            (999, "999 records"),
            (20_813, "20,813 records"),
            (1_234_567, "1,234,567 records"),
        ] {
            assert_eq!(count(number, "record"), text);
        }
        assert_eq!(plural(1_usize, "body", "bodies"), "1 body");
        assert_eq!(plural(1_000_u32, "body", "bodies"), "1,000 bodies");
        assert_eq!(with_separators(u64::MAX).len(), 26);
    }

    #[test]
    fn decimals_have_at_most_two_places() {
        for (value, text) in [
            (0.0, "0"),
            (-0.001, "0"),
            (7.0, "7"),
            (999.99, "999.99"),
            (1_000.0, "1,000"),
            (-1_234.5, "−1,234.5"),
            (0.1 + 0.2, "0.3"),
            (1_234_567.89, "1,234,567.89"),
            (f64::NAN, "0"),
            (f64::INFINITY, "0"),
        ] {
            assert_eq!(decimal(value), text);
        }
    }

    #[test]
    fn points_and_percentages_have_a_unit() {
        for (value, text) in [
            (0.0, "0 points"),
            (0.999, "1 point"),
            (1.0, "1 point"),
            (1.5, "1.5 points"),
            (-1_234.5, "−1,234.5 points"),
        ] {
            assert_eq!(points(value), text);
        }
        assert_eq!(percent(71.25), "71.2%");
        assert_eq!(percent(100.0), "100.0%");
    }

    #[test]
    fn differences_have_a_sign() {
        for (value, text) in
            [(2.5, "+2.5"), (-7.83, "−7.83"), (-1_000.0, "−1,000"), (0.004, "0"), (-0.004, "0")]
        {
            assert_eq!(signed(value), text);
        }
    }

    #[test]
    fn sizes_have_a_fitting_unit() {
        for (bytes, text) in [
            (0, "0.0 MB"),
            (1_840_000, "1.8 MB"),
            (9_949_999, "9.9 MB"),
            (9_950_000, "10 MB"),
            (9_999_499_999, "9,999 MB"),
            (9_999_500_000, "10 GB"),
            (31_000_000_000, "31 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn cuts_at_characters_with_ellipsis() {
        for (text, max, expected) in [
            ("東京", 2, "東京"),
            ("東京都", 2, "東…"),
            ("abc", 3, "abc"),
            ("", 0, ""),
            ("a", 0, "…"),
        ] {
            assert_eq!(cut(text, max), expected);
        }
    }

    #[test]
    fn long_lists_end_in_a_number() {
        let items: Vec<String> = (1..=1_002).map(|number| number.to_string()).collect();
        assert_eq!(listed(&items, 2), "1, 2 and 1,000 more");
        assert_eq!(listed(&items[..2], 2), "1, 2");
        assert_eq!(listed(&items[..0], 2), "");
    }

    #[test]
    fn only_similar_names_are_offered() {
        let known = ["cef", "json", "AdminMFAV2", "OneAdmin"];
        for (name, expected) in [
            ("ceff", Some("cef")),
            ("JSON", Some("json")),
            ("adminmfa2", Some("AdminMFAV2")),
            ("parquet", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }

    #[test]
    fn markup_is_escaped() {
        let escaped = html_escaped("<a href=\"x\" title='&'>é</a>");
        assert_eq!(escaped, "&lt;a href=&quot;x&quot; title=&#39;&amp;&#39;&gt;é&lt;/a&gt;");
    }

    #[test]
    fn times_are_shown_to_the_minute() {
        let time: Timestamp = "2026-11-22T06:15:59Z".parse().unwrap();
        assert_eq!(minute(time), "2026-11-22 06:15 UTC");
    }
}
