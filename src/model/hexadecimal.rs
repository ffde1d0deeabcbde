//! Bytes as hexadecimal digits: hashes and IDs in files, names and messages. This is the only place
//! that writes or reads them; the escapes of characters in foreign texts and in JSON are read where
//! those are decoded. Start reading at [`hex`].

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The bytes as lower-case digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| digits(*byte)).map(char::from).collect()
}

/// The two lower-case digits of a byte, in ASCII.
pub(super) fn digits(byte: u8) -> [u8; 2] {
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Parses exactly `N` bytes, as digits in lower or upper case. `None` for any other text.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }

    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (value(*high)? << 4) | value(*low)?;
    }
    Some(bytes)
}

/// The value of a digit.
fn value(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_pairs_of_digits_are_read() {
        assert_eq!(hex(&[0, 9, 10, 255]), "00090aff");
        assert_eq!(parse_hex("00090aFF"), Some([0, 9, 10, 255]));
        assert_eq!(hex(&[]), "");
        // The standard library accepts a sign.
        for text in ["0", "000", "+f", "-1", "g0", " 1", "é"] {
            assert_eq!(parse_hex::<1>(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_survive_a_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(parse_hex(&hex(&bytes)), Some(bytes));
        }
    }
}
