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
