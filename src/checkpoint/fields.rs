//! Converts values of parameters and columns from and to the types of the model and of the schema.
//!
//! A database stores numbers, days and times as signed integers, so a value can be out of range,
//! which only damage can cause. Nothing here names a table or a driver. Start reading at
//! [`EntryKind`] and [`unsigned`].

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use super::{
    CheckpointError,
    backend::{FromValue, SqlValue, StoredRow, ToValue, ValueFault},
};
use crate::model::{CheckpointId, Day, Seq, SinkName, UnixMillis};

/// The kind of an entry, as stored in the column `entry.kind`. Conditions in SQL contain the number
/// itself, because SQLite uses a partial index only for a condition on a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Snapshot,
    Observation,
}

impl EntryKind {
    /// The number in the column.
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Snapshot => 1,
            Self::Observation => 2,
        }
    }

    /// The kind with this number; `None` if there is none.
    pub(super) const fn of_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Snapshot),
            2 => Some(Self::Observation),
            _ => None,
        }
    }
}

/// A number that is never negative. Fails with [`CheckpointError::Damaged`] if it is negative, NULL
/// or not an integer.
pub(super) fn unsigned(row: &dyn StoredRow, column: &'static str) -> Result<u64, CheckpointError> {
    let number: i64 = row.get(column)?;
    u64::try_from(number)
        .map_err(|_| CheckpointError::Damaged(format!("the number `{number}` is out of range")))
}

/// A day; `None` if the column is NULL or is not the number of a day. Fails with
/// [`CheckpointError::Damaged`] if it is not a 32-bit integer.
pub(super) fn day(
    row: &dyn StoredRow,
    column: &'static str,
) -> Result<Option<Day>, CheckpointError> {
    Ok(row.get::<Option<i32>>(column)?.and_then(Day::from_number))
}

/// The column `day` of an entry. Fails with [`CheckpointError::Damaged`] if it is not a valid day.
pub(super) fn entry_day(row: &dyn StoredRow) -> Result<Day, CheckpointError> {
    day(row, "day")?.ok_or_else(|| CheckpointError::Damaged("an entry has no valid day".to_owned()))
}

impl FromValue for i64 {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        match value {
            SqlValue::Int(number) => Ok(number),
            _ => Err(ValueFault::Type),
        }
    }
}

impl ToValue for i64 {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Int(*self)
    }
}

/// Integers that columns and parameters contain as signed integers with 64 bits.
macro_rules! small_integers {
    ($($integer:ty)*) => {$(
        impl FromValue for $integer {
            fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
                let number = i64::from_value(value)?;
                Self::try_from(number).map_err(|_| ValueFault::Range(number))
            }
        }

        impl ToValue for $integer {
            fn to_value(&self) -> SqlValue<'_> {
                SqlValue::Int(i64::from(*self))
            }
        }
    )*};
}

small_integers! { i32 u32 }

impl FromValue for bool {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        match value {
            SqlValue::Bool(flag) => Ok(flag),
            // SQLite has no type for it.
            SqlValue::Int(number) => Ok(number != 0),
            _ => Err(ValueFault::Type),
        }
    }
}

impl ToValue for bool {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Bool(*self)
    }
}

impl FromValue for String {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        match value {
            SqlValue::Text(text) => Ok(text.to_owned()),
            _ => Err(ValueFault::Type),
        }
    }
}

impl ToValue for String {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Text(self)
    }
}

impl ToValue for str {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Text(self)
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        match value {
            SqlValue::Blob(bytes) => Ok(bytes.to_owned()),
            _ => Err(ValueFault::Type),
        }
    }
}

impl ToValue for Vec<u8> {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Blob(self)
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Blob(self)
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        match value {
            SqlValue::Blob(bytes) => bytes.try_into().map_err(|_| ValueFault::Type),
            _ => Err(ValueFault::Type),
        }
    }
}

impl<const N: usize> ToValue for [u8; N] {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Blob(self)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        match value {
            SqlValue::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> SqlValue<'_> {
        self.as_ref().map_or(SqlValue::Null, T::to_value)
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> SqlValue<'_> {
        T::to_value(self)
    }
}

impl FromValue for UnixMillis {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        i64::from_value(value).map(Self::new)
    }
}

impl ToValue for UnixMillis {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Int(self.as_i64())
    }
}

impl FromValue for Seq {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        let number = i64::from_value(value)?;
        u64::try_from(number).map(Self::new).map_err(|_| ValueFault::Range(number))
    }
}

/// A number that no column can contain becomes the largest one.
impl ToValue for Seq {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Int(i64::try_from(self.get()).unwrap_or(i64::MAX))
    }
}

impl FromValue for SinkName {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        match value {
            SqlValue::Text(text) => Ok(Self::new(text)),
            _ => Err(ValueFault::Type),
        }
    }
}

impl ToValue for SinkName {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Text(self.as_str())
    }
}

impl FromValue for CheckpointId {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        match value {
            SqlValue::Text(text) => Ok(Self::new(text)),
            _ => Err(ValueFault::Type),
        }
    }
}

impl FromValue for EntryKind {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        let number = i64::from_value(value)?;
        Self::of_number(number).ok_or(ValueFault::Range(number))
    }
}

impl ToValue for EntryKind {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Int(self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row whose columns all have the same value.
    struct SameValue(SqlValue<'static>);

    impl StoredRow for SameValue {
        fn value(&self, _: &'static str) -> Result<SqlValue<'_>, CheckpointError> {
            Ok(self.0)
        }
    }

    /// The result of reading a value as a type, with the message of the error.
    fn read<T: FromValue>(value: SqlValue<'static>) -> Result<T, String> {
        let row: &dyn StoredRow = &SameValue(value);
        row.get("c").map_err(|error| error.to_string())
    }

    const WRONG_TYPE: &str =
        "the checkpoint is damaged: a value of the column `c` has a wrong type";

    fn out_of_range(number: i64) -> String {
        format!("the checkpoint is damaged: the number `{number}` is out of range")
    }

    #[test]
    fn values_keep_their_type_and_range() {
        use SqlValue::{Blob, Bool, Int, Null, Text};

        assert_eq!(read::<i64>(Int(i64::MIN)), Ok(i64::MIN));
        assert_eq!(read::<i32>(Int(-1)), Ok(-1));
        assert_eq!(read::<i32>(Int(2_147_483_648)), Err(out_of_range(2_147_483_648)));
        assert_eq!(read::<u32>(Int(4_294_967_295)), Ok(u32::MAX));
        assert_eq!(read::<u32>(Int(-1)), Err(out_of_range(-1)));
        assert_eq!(read::<bool>(Bool(true)), Ok(true));
        assert_eq!((read::<bool>(Int(0)), read::<bool>(Int(2))), (Ok(false), Ok(true)));
        assert_eq!(read::<String>(Text("ä")), Ok("ä".to_owned()));
        assert_eq!(read::<Vec<u8>>(Blob(b"ab")), Ok(b"ab".to_vec()));
        assert_eq!(read::<[u8; 2]>(Blob(b"ab")), Ok(*b"ab"));
        assert_eq!(read::<Option<i64>>(Null), Ok(None));
        assert_eq!(read::<Option<i64>>(Int(1)), Ok(Some(1)));
        assert_eq!(read::<UnixMillis>(Int(5)), Ok(UnixMillis::new(5)));
        assert_eq!(read::<Seq>(Int(i64::MAX)), Ok(Seq::new(9_223_372_036_854_775_807)));
        assert_eq!(read::<Seq>(Int(-1)), Err(out_of_range(-1)));
        assert_eq!(read::<SinkName>(Text("a b")), Ok(SinkName::new("a b")));
        assert_eq!(read::<CheckpointId>(Text("a b")), Ok(CheckpointId::new("a b")));
        assert_eq!(read::<EntryKind>(Int(2)), Ok(EntryKind::Observation));
        assert_eq!(read::<EntryKind>(Int(3)), Err(out_of_range(3)));
    }

    #[test]
    fn other_types_are_damage() {
        use SqlValue::{Blob, Bool, Int, Null, Text};

        for value in [Null, Bool(true), Text("1"), Blob(b"1")] {
            assert_eq!(read::<i64>(value), Err(WRONG_TYPE.to_owned()), "{value:?}");
            assert_eq!(read::<u32>(value), Err(WRONG_TYPE.to_owned()), "{value:?}");
            assert_eq!(read::<Seq>(value), Err(WRONG_TYPE.to_owned()), "{value:?}");
            assert_eq!(read::<EntryKind>(value), Err(WRONG_TYPE.to_owned()), "{value:?}");
        }
        for value in [Null, Int(1), Blob(b"1")] {
            assert_eq!(read::<String>(value), Err(WRONG_TYPE.to_owned()), "{value:?}");
            assert_eq!(read::<SinkName>(value), Err(WRONG_TYPE.to_owned()), "{value:?}");
        }
        for value in [Null, Int(1), Text("1")] {
            assert_eq!(read::<Vec<u8>>(value), Err(WRONG_TYPE.to_owned()), "{value:?}");
            assert_eq!(read::<[u8; 1]>(value), Err(WRONG_TYPE.to_owned()), "{value:?}");
        }
        assert_eq!(read::<[u8; 2]>(Blob(b"abc")), Err(WRONG_TYPE.to_owned()));
        assert_eq!(read::<bool>(Text("true")), Err(WRONG_TYPE.to_owned()));
        assert_eq!(read::<Option<i64>>(Text("1")), Err(WRONG_TYPE.to_owned()));
    }

    #[test]
    fn parameters_have_the_value_of_their_type() {
        let (text, bytes, sink) = ("a".to_owned(), vec![1], SinkName::new("a"));
        let borrowed = &text;
        for (value, expected) in [
            (7_i64.to_value(), SqlValue::Int(7)),
            ((-7_i32).to_value(), SqlValue::Int(-7)),
            (u32::MAX.to_value(), SqlValue::Int(4_294_967_295)),
            (true.to_value(), SqlValue::Bool(true)),
            ("a".to_value(), SqlValue::Text("a")),
            (text.to_value(), SqlValue::Text("a")),
            (ToValue::to_value(&borrowed), SqlValue::Text("a")),
            (sink.to_value(), SqlValue::Text("a")),
            (bytes.to_value(), SqlValue::Blob(&[1])),
            ([1_u8].to_value(), SqlValue::Blob(&[1])),
            (Some("a").to_value(), SqlValue::Text("a")),
            (None::<i64>.to_value(), SqlValue::Null),
            (UnixMillis::new(5).to_value(), SqlValue::Int(5)),
            (Seq::FIRST.to_value(), SqlValue::Int(1)),
            (Seq::MAX.to_value(), SqlValue::Int(i64::MAX)),
            (EntryKind::Snapshot.to_value(), SqlValue::Int(1)),
        ] {
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn days_and_counts_report_damage() {
        let row = |number| SameValue(SqlValue::Int(number));
        let (counted, negative) = (unsigned(&row(5), "c").unwrap(), unsigned(&row(-5), "c"));
        assert_eq!((counted, negative.unwrap_err().to_string()), (5, out_of_range(-5)));

        assert_eq!(day(&row(0), "c").unwrap(), Day::parse("1970-01-01"));
        assert_eq!(day(&SameValue(SqlValue::Null), "c").unwrap(), None);
        assert_eq!(day(&row(i64::from(i32::MAX)), "c").unwrap(), None);
        assert!(day(&row(i64::MAX), "c").is_err());

        assert_eq!(entry_day(&row(1)).unwrap(), Day::parse("1970-01-02").unwrap());
        let missing = entry_day(&SameValue(SqlValue::Null)).unwrap_err().to_string();
        assert_eq!(missing, "the checkpoint is damaged: an entry has no valid day");
    }
}
