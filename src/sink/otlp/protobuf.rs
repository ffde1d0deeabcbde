//! Reads the fields of a protobuf message, without a schema and without a copy.
//!
//! This program sends JSON and needs protobuf only for the short replies of receivers that always
//! respond with it. Groups, which protobuf has deprecated, are not supported. Start reading at
//! [`read_fields`]. Source: "Encoding" in the documentation of Protocol Buffers.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldValue<'a> {
    /// An integer of any type, before it is interpreted.
    Integer(u64),
    /// A text, a nested message, or a packed list.
    Bytes(&'a [u8]),
    /// A value with a fixed size of 32 or 64 bits, which is skipped.
    Fixed,
}

/// Passes the number and the value of every field to `accept`. Returns `None` if the bytes are not
/// a complete message, or as soon as `accept` does.
pub(super) fn read_fields<'a>(
    mut bytes: &'a [u8],
    mut accept: impl FnMut(u64, FieldValue<'a>) -> Option<()>,
) -> Option<()> {
    while !bytes.is_empty() {
        let (tag, rest) = read_integer(bytes)?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 {
            return None;
        }

        let (value, rest) = match wire_type {
            0 => read_integer(rest).map(|(value, rest)| (FieldValue::Integer(value), rest))?,
            1 => (FieldValue::Fixed, rest.get(8..)?),
            2 => {
                let (length, rest) = read_integer(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (FieldValue::Bytes(value), rest)
            }
            5 => (FieldValue::Fixed, rest.get(4..)?),
            _ => return None,
        };
        accept(number, value)?;
        bytes = rest;
    }
    Some(())
}

/// Reads an integer of up to ten bytes with seven bits each, the lowest first. Returns it with the
/// bytes after it.
fn read_integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let shift = u32::try_from(index).ok()?.checked_mul(7)?;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has only one bit of a 64-bit integer.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits.checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index.checked_add(1)?..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(bytes: &[u8]) -> Option<Vec<(u64, FieldValue<'_>)>> {
        let mut fields = Vec::new();
        read_fields(bytes, |number, value| {
            fields.push((number, value));
            Some(())
        })?;
        Some(fields)
    }

    #[test]
    fn every_wire_type_is_read() {
        let largest = [&[0x08_u8][..], &[0xff; 9], &[0x01]].concat();
        for (bytes, expected) in [
            (&b""[..], vec![]),
            (b"\x08\x96\x01", vec![(1, FieldValue::Integer(150))]),
            (b"\x12\x02no", vec![(2, FieldValue::Bytes(b"no"))]),
            (b"\x0a\x00\x0a\x00", vec![(1, FieldValue::Bytes(b"")); 2]),
            (b"\x1900000000\x25\0\0\0\0", vec![(3, FieldValue::Fixed), (4, FieldValue::Fixed)]),
            (&largest, vec![(1, FieldValue::Integer(u64::MAX))]),
        ] {
            assert_eq!(fields(bytes), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn incomplete_messages_are_rejected() {
        let too_long = [&[0x08_u8][..], &[0xff; 10], &[0x01]].concat();
        let too_large = [&[0x08_u8][..], &[0xff; 9], &[0x02]].concat();
        for bytes in [
            &b"\x08"[..],
            b"\x08\x96",
            b"\x12\x03no",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x190000",
            b"\x250",
            b"\x0b\x0c",
            b"\x00\x00",
            b"{}",
            b"<html>",
            &too_long,
            &too_large,
        ] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = fields(&bytes);
        }
    }
}
