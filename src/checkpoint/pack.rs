//! The binary encoding of facts in the column `entry.facts`.
//!
//! Version 1, before compression with zstd, is a sequence of:
//!
//! - the version, one byte;
//! - the presence of the four scores and counts of the day (bits 0 to 3), the flag `rich` (bit 4)
//!   and the flag `has_lost_controls` (bit 5), one byte, then the numbers that are present;
//! - the averages: their count, then for each the length and text of the basis, and the score;
//! - the controls: their count, then for each the ID of the name, the presence of its four numbers
//!   (bits 0 to 3) and `on` (bits 4 and 5), and the numbers that are present.
//!
//! Counts, lengths and IDs are unsigned LEB128. A number that is a whole count of hundredths is
//! stored as the zig-zag encoding of that count, shifted left by one, in LEB128; any other number
//! is stored as the byte 1 and an IEEE 754 double in little-endian order.

use std::sync::Arc;

use super::CheckpointError;
use crate::model::{AverageFacts, ControlFacts, Day, DayFacts, Number};

const VERSION: u8 = 1;
/// Facts are smaller than the body that they were read from.
const MAX_UNPACKED_BYTES: usize = super::body::MAX_BODY_BYTES;

/// Encodes and compresses facts. `name_id` returns the ID of a control's name. Fails if `name_id`
/// fails or the facts cannot be compressed.
pub(super) fn pack(
    facts: &DayFacts,
    mut name_id: impl FnMut(&str) -> Result<u32, CheckpointError>,
) -> Result<Vec<u8>, CheckpointError> {
    let mut out = vec![VERSION];
    let fields = [facts.current_score, facts.max_score, facts.active_users, facts.licensed_users];
    let flags = u8::from(facts.rich) << 4 | u8::from(facts.has_lost_controls) << 5;
    out.push(presence(&fields) | flags);
    fields.into_iter().flatten().for_each(|n| write_number(n, &mut out));

    write_count(facts.averages.len() as u64, &mut out);
    for average in &facts.averages {
        write_count(average.basis.len() as u64, &mut out);
        out.extend_from_slice(average.basis.as_bytes());
        write_number(average.score, &mut out);
    }

    write_count(facts.controls.len() as u64, &mut out);
    for control in &facts.controls {
        write_count(name_id(&control.name)?.into(), &mut out);
        let fields = [control.score, control.percentage, control.count, control.total];
        out.push(presence(&fields) | on_bits(control.on) << 4);
        fields.into_iter().flatten().for_each(|n| write_number(n, &mut out));
    }

    super::body::compress(&out, 3, &[]).map_err(CheckpointError::File)
}

/// Decodes facts. `name` returns the name with an ID. Fails with [`CheckpointError::Damaged`] if
/// the checksum is wrong or the encoding is invalid.
pub(super) fn unpack(
    bytes: &[u8],
    day: Day,
    name: impl Fn(u32) -> Option<Arc<str>>,
) -> Result<DayFacts, CheckpointError> {
    let damaged = || CheckpointError::Damaged(format!("the facts of `{day}` cannot be read"));

    // The buffer has the size from the frame header: a buffer of the maximum size would be mapped
    // and unmapped for every day.
    let size = zstd::zstd_safe::get_frame_content_size(bytes)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size <= MAX_UNPACKED_BYTES)
        .ok_or_else(damaged)?;
    let plain = zstd::bulk::decompress(bytes, size).map_err(|_| damaged())?;
    Reader { rest: &plain }.facts(day, name).ok_or_else(damaged)
}

/// Decodes uncompressed facts.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_unpack(plain: &[u8]) {
    if let Some(day) = Day::from_number(20_000) {
        let _ = Reader { rest: plain }.facts(day, |_| Some("control".into()));
    }
}

/// One bit for each field that is present.
fn presence(fields: &[Option<Number>; 4]) -> u8 {
    fields
        .iter()
        .enumerate()
        .fold(0, |bits, (index, field)| bits | u8::from(field.is_some()) << index)
}

fn on_bits(on: Option<bool>) -> u8 {
    match on {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    }
}

/// Writes a number as the module documentation describes.
fn write_number(number: Number, out: &mut Vec<u8>) {
    if let Some(hundredths) = hundredths(number) {
        #[expect(clippy::cast_sign_loss, reason = "zig-zag makes it non-negative")]
        let zigzag = ((hundredths << 1) ^ (hundredths >> 63)) as u64;
        write_count(zigzag << 1, out);
    } else {
        write_count(1, out);
        out.extend_from_slice(&number.get().to_le_bytes());
    }
}

/// The number in hundredths, if it is a whole count of them that fits the encoding.
fn hundredths(number: Number) -> Option<i64> {
    let scaled = Number::new((number.get() * 100.0).round())?.as_integer()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "the next line compares the result with the number"
    )]
    let decoded = Number::new(scaled as f64 / 100.0)?;
    (decoded == number && scaled.abs() < 1 << 60).then_some(scaled)
}

/// Writes unsigned LEB128.
fn write_count(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Decodes version 1. Every method returns `None` if the bytes end early or are invalid.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn facts(mut self, day: Day, name: impl Fn(u32) -> Option<Arc<str>>) -> Option<DayFacts> {
        if self.byte()? != VERSION {
            return None;
        }

        let bits = self.byte()?;
        let rich = bits & 1 << 4 != 0;
        let has_lost_controls = bits & 1 << 5 != 0;
        let [current_score, max_score, active_users, licensed_users] = self.fields(bits)?;

        let mut averages = Vec::new();
        for _ in 0..self.count()? {
            let length = usize::try_from(self.count()?).ok()?;
            let basis = String::from_utf8(self.take(length)?.to_vec()).ok()?;
            averages.push(AverageFacts { basis, score: self.number()? });
        }

        // A control takes at least two bytes, so a damaged count cannot reserve more than that.
        let count = self.count()?;
        let capacity = usize::try_from(count).unwrap_or(0).min(self.rest.len() / 2);
        let mut controls = Vec::with_capacity(capacity);
        for _ in 0..count {
            let name = name(u32::try_from(self.count()?).ok()?)?;
            let bits = self.byte()?;
            let [score, percentage, count, total] = self.fields(bits)?;
            let on = match bits >> 4 & 3 {
                0 => None,
                on => Some(on == 2),
            };
            controls.push(ControlFacts { name, score, percentage, count, total, on });
        }

        Some(DayFacts {
            day,
            current_score,
            max_score,
            active_users,
            licensed_users,
            averages,
            controls,
            rich,
            has_lost_controls,
        })
    }

    fn fields(&mut self, bits: u8) -> Option<[Option<Number>; 4]> {
        let mut fields = [None; 4];
        for (index, field) in fields.iter_mut().enumerate() {
            if bits & 1 << index != 0 {
                *field = Some(self.number()?);
            }
        }
        Some(fields)
    }

    fn number(&mut self) -> Option<Number> {
        let first = self.count()?;
        if first & 1 == 1 {
            let bytes = self.take(8)?.try_into().ok()?;
            return Number::new(f64::from_le_bytes(bytes));
        }

        let zigzag = first >> 1;
        let magnitude = i64::try_from(zigzag >> 1).ok()?;
        let hundredths = if zigzag & 1 == 1 { -magnitude - 1 } else { magnitude };
        #[expect(clippy::cast_precision_loss, reason = "`hundredths` has checked that it is exact")]
        Number::new(hundredths as f64 / 100.0)
    }

    /// Reads unsigned LEB128.
    fn count(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = Option<Number>> {
        prop_oneof![
            Just(None),
            (-10_000_i32..1_000_000).prop_map(|cents| Number::new(f64::from(cents) / 100.0)),
            proptest::num::f64::NORMAL.prop_map(Number::new),
        ]
    }

    fn control() -> impl Strategy<Value = ControlFacts> {
        (0_u32..500, number(), number(), number(), number(), any::<Option<bool>>()).prop_map(
            |(id, score, percentage, count, total, on)| ControlFacts {
                name: format!("c{id}").into(),
                score,
                percentage,
                count,
                total,
                on,
            },
        )
    }

    #[expect(clippy::unnecessary_wraps, reason = "`pack` expects a function that can fail")]
    fn id_of(name: &str) -> Result<u32, CheckpointError> {
        Ok(name[1..].parse().unwrap())
    }

    proptest! {
        #[test]
        fn unpacks_the_facts_that_were_packed(controls in proptest::collection::vec(control(), 0..50), total in number(), rich: bool, has_lost_controls: bool) {
            let day = Day::parse("2026-11-22").unwrap();
            let averages = vec![AverageFacts { basis: "AllTenants".into(), score: Number::new(52.86).unwrap() }];
            let facts = DayFacts { day, current_score: total, max_score: None, active_users: total, licensed_users: None, averages, controls, rich, has_lost_controls };
            let packed = pack(&facts, id_of).unwrap();
            prop_assert_eq!(unpack(&packed, day, |id| Some(format!("c{id}").into())).unwrap(), facts);
        }

        #[test]
        fn damaged_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let day = Day::parse("2026-11-22").unwrap();
            let _ = unpack(&bytes, day, |_| None);
            let _ = Reader { rest: &bytes }.facts(day, |id| Some(id.to_string().into()));
        }
    }
}
