//! Parses durations and sizes with a unit. A number without a unit is rejected, because its unit
//! would have to be guessed.

use std::time::Duration;

/// Parses a duration: a whole number and `ms`, `s`, `m`, `h` or `d`, such as `"10m"`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// Parses a size in bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`, such as `"32MiB"`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The largest unit of which a duration is a whole number, as it is written in the configuration.
/// `None` for a duration that means no limit: zero, or the longest one.
pub(super) fn show_duration(duration: Duration) -> Option<String> {
    let seconds = duration.as_secs();
    let unit = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    match duration {
        Duration::ZERO | Duration::MAX => None,
        _ if duration.subsec_millis() > 0 => Some(format!("{}ms", duration.as_millis())),
        _ => unit
            .into_iter()
            .find(|(factor, _)| seconds.is_multiple_of(*factor))
            .map(|(factor, unit)| format!("{}{unit}", seconds / factor)),
    }
}

/// The largest unit of which a size is a whole number, as it is written in the configuration.
/// `None` for a size that means no limit: zero, or the largest one.
pub(super) fn show_size(bytes: u64) -> Option<String> {
    let unit = [(30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
    let is_limit = bytes != 0 && bytes != u64::MAX;
    let unit = unit.into_iter().find(|(shift, _)| bytes.is_multiple_of(1 << shift));
    unit.filter(|_| is_limit).map(|(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Splits a value into its number and its unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_largest_whole_unit() {
        for text in ["1ms", "90s", "10m", "6h", "36h", "7d", "366d"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()).as_deref(), Some(text));
        }
        for text in ["480B", "8KiB", "1MiB", "4GiB", "1025B"] {
            assert_eq!(show_size(parse_size(text).unwrap()).as_deref(), Some(text));
        }
        assert_eq!((show_duration(Duration::MAX), show_size(u64::MAX)), (None, None));
    }

    #[test]
    fn accepts_whole_numbers_with_a_known_unit() {
        assert_eq!(parse_duration("10m"), Some(Duration::from_mins(10)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_size("32MiB"), Some(32 << 20));
        assert_eq!(parse_size("900 B"), Some(900));
        for bad in ["", "10", "m", "10 minutes", "-1s", "1.5h", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        for bad in ["32", "32MB", "1TiB", "99999999999999999GiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
