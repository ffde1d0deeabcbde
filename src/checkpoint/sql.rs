//! Fragments of SQL for `concat!`, which names the numbers and the kinds of the schema: SQLite uses
//! a partial index only for a condition on a constant, so such a number cannot be a parameter.
//!
//! A fragment is text without parameters, and has the same meaning for every database. Start
//! reading at `entry_day!`. See decision 0089.

/// The number of [`EntryKind::Snapshot`](super::fields::EntryKind::Snapshot).
macro_rules! snapshot {
    () => {
        "1"
    };
}

/// The number of [`EntryKind::Observation`](super::fields::EntryKind::Observation).
macro_rules! observation {
    () => {
        "2"
    };
}

/// The number of the codec of a body that is compressed alone.
macro_rules! plain_codec {
    () => {
        "1"
    };
}

/// The bit of [`EntryFlags::backfilled`](super::EntryFlags::backfilled).
macro_rules! backfilled_flag {
    () => {
        "2"
    };
}

/// The number of milliseconds of a day, which divides a time into days since 1970-01-01.
macro_rules! day_millis {
    () => {
        "86400000"
    };
}

/// The largest [`Position::record_index`](super::Position::record_index).
macro_rules! max_record_index {
    () => {
        "4294967295"
    };
}

/// The name of [`ObservationKind::Gap`](crate::model::ObservationKind::Gap), as a text of SQL.
macro_rules! gap {
    () => {
        "'gap'"
    };
}

/// The name of [`ObservationKind::DeadLetter`](crate::model::ObservationKind::DeadLetter), as a
/// text of SQL.
macro_rules! dead_letter {
    () => {
        "'dead_letter'"
    };
}

/// The day of an entry `e`. An observation belongs to the day on which it was noticed, not to its
/// first day.
macro_rules! entry_day {
    () => {
        concat!(
            "CASE WHEN e.kind = ",
            $crate::checkpoint::sql::snapshot!(),
            " THEN e.day ELSE e.observed / ",
            $crate::checkpoint::sql::day_millis!(),
            " END"
        )
    };
}

/// Whether an entry `e` is sent to a sink `s`. A sink does not receive observations about its own
/// dead letters.
macro_rules! is_sent_to_sink {
    () => {
        concat!(
            "(e.kind = ",
            $crate::checkpoint::sql::snapshot!(),
            " AND e.body IS NOT NULL OR e.kind = ",
            $crate::checkpoint::sql::observation!(),
            " AND s.quality AND NOT (e.what = ",
            $crate::checkpoint::sql::dead_letter!(),
            " AND e.subject = s.name))"
        )
    };
}

pub(super) use {
    backfilled_flag, day_millis, dead_letter, entry_day, gap, is_sent_to_sink, max_record_index,
    observation, plain_codec, snapshot,
};

#[cfg(test)]
mod tests {
    use crate::{
        checkpoint::{EntryFlags, Position, body::Codec, fields::EntryKind},
        model::{Day, ObservationKind, Seq},
    };

    #[test]
    fn fragments_have_the_numbers_they_name() {
        let backfilled = EntryFlags { backfilled: true, ..EntryFlags::default() };
        for (fragment, number) in [
            (snapshot!(), EntryKind::Snapshot.number()),
            (observation!(), EntryKind::Observation.number()),
            (plain_codec!(), Codec::Plain.number()),
            (backfilled_flag!(), backfilled.bits()),
        ] {
            assert_eq!(fragment, number.to_string());
        }
    }

    #[test]
    fn fragments_have_the_limits_they_name() {
        let second_day = Day::from_number(1).unwrap().start();
        assert_eq!(day_millis!(), second_day.as_i64().to_string());
        let last = Position { seq: Seq::FIRST, record_index: u32::MAX };
        assert_eq!(max_record_index!(), last.record_index.to_string());
    }

    #[test]
    fn fragments_have_the_names_of_kinds() {
        for (fragment, what) in
            [(gap!(), ObservationKind::Gap), (dead_letter!(), ObservationKind::DeadLetter)]
        {
            assert_eq!(fragment, format!("'{}'", what.as_str()));
        }
    }

    #[test]
    fn fragments_form_one_literal() {
        const DAYS: &str = concat!("SELECT ", entry_day!(), " AS day FROM entry e");
        assert_eq!(
            DAYS,
            "SELECT CASE WHEN e.kind = 1 THEN e.day ELSE e.observed / 86400000 END AS day FROM entry e"
        );
        assert!(is_sent_to_sink!().contains("OR e.kind = 2 AND s.quality"));
    }
}
