//! Tests of the rules for missing days: one table for each rule, and properties of both functions.

use proptest::prelude::*;

use super::*;

/// 2026-11-22T10:00:00Z.
const NOW: UnixMillis = UnixMillis::new(1_795_341_600_000);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The day that is this number of days before [`NOW`].
fn ago(days: i32) -> Day {
    NOW.day().plus(-days)
}

fn missing(day: Day, requests: u32, last_requested: UnixMillis) -> MissingDay {
    MissingDay { day, requests, last_requested, presence: DayPresence::Expected }
}

fn absent(day: Day, requests: u32, last_requested: UnixMillis) -> MissingDay {
    MissingDay { presence: DayPresence::Absent, ..missing(day, requests, last_requested) }
}

/// A poll that begins ten days ago and has found nothing.
fn poll() -> RequestedDays<'static> {
    let requested_from = Some(ago(10));
    RequestedDays { released: &[], found: &[], missing: &[], requested_from, at: NOW }
}

/// An import of no days.
fn import() -> RequestedDays<'static> {
    RequestedDays { requested_from: None, ..poll() }
}

#[test]
fn days_are_due_seven_times_then_weekly() {
    let week_ago = NOW.saturating_sub(WEEK);
    let tolerated = NOW.saturating_add(CLOCK_TOLERANCE);
    for (requests, last_requested, expected) in [
        (0, NOW, true),
        (6, NOW, true),
        (7, NOW, false),
        (u32::MAX, NOW, false),
        (7, week_ago.saturating_add(MILLISECOND), false),
        (7, week_ago, true),
        (u32::MAX, UnixMillis::new(i64::MIN), true),
        // The clock was ahead, so it is unknown when the day was requested.
        (7, tolerated, false),
        (7, tolerated.saturating_add(MILLISECOND), true),
        (7, UnixMillis::new(i64::MAX), true),
    ] {
        let day = missing(ago(5), requests, last_requested);
        assert_eq!(!due_days(&[day], NOW).is_empty(), expected, "{day:?}");

        let absent = absent(ago(5), requests, last_requested);
        assert!(due_days(&[absent], NOW).is_empty(), "{absent:?}");
    }
}

#[test]
fn due_days_begin_with_the_oldest() {
    let days = [2, 40, 5].map(|days| missing(ago(days), 0, NOW));
    assert_eq!(due_days(&days, NOW), [ago(40), ago(5), ago(2)]);
    assert!(due_days(&[], NOW).is_empty());
}

/// There is no week before the first possible time, and no tolerance after the last one.
#[test]
fn due_days_cause_no_overflow() {
    let (first, last) = (UnixMillis::new(i64::MIN), UnixMillis::new(i64::MAX));
    for (now, last_requested, expected) in
        [(first, first, true), (first, last, true), (last, first, true), (last, last, false)]
    {
        let day = missing(ago(5), 7, last_requested);
        assert_eq!(!due_days(&[day], now).is_empty(), expected, "{now:?} {last_requested:?}");
    }
}

#[test]
fn a_request_counts_from_its_first_day() {
    let earlier = NOW.saturating_sub(WEEK);
    let before = [11, 10, 3].map(|days| missing(ago(days), 4, earlier));
    let requested = [10, 3].map(|days| missing(ago(days), 5, NOW));
    assert_eq!(after_poll(&before, &poll()), [before[0], requested[0], requested[1]]);
    assert_eq!(after_poll(&before, &import()), before);

    let often = missing(ago(3), u32::MAX, NOW);
    assert_eq!(after_poll(&[often], &poll()), [often]);
}

#[test]
fn new_missing_days_count_their_first_request() {
    let known = missing(ago(4), 3, NOW.saturating_sub(WEEK));
    let unlisted = [ago(2), ago(4), ago(12), ago(2)];

    // The poll has not requested the oldest of these days.
    let polled = after_poll(&[known], &RequestedDays { missing: &unlisted, ..poll() });
    let expected = [(12, 0), (4, 4), (2, 1)];
    assert_eq!(polled, expected.map(|(days, requests)| missing(ago(days), requests, NOW)));

    // Without a request, a known day is unchanged.
    let imported = after_poll(&[known], &RequestedDays { missing: &unlisted, ..import() });
    assert_eq!(imported, [missing(ago(12), 0, NOW), known, missing(ago(2), 0, NOW)]);
}

/// What was released, found and missing, and what is missing after an import and after a poll.
type Changes<'a> =
    (&'a [(Day, Completeness)], &'a [Day], &'a [Day], Option<MissingDay>, Option<MissingDay>);

#[test]
fn complete_days_are_no_longer_missing() {
    use Completeness::{Complete, Partial};

    let (day, earlier) = (ago(3), NOW.saturating_sub(WEEK));
    let (reset, new) = (missing(day, 0, earlier), missing(day, 0, NOW));
    let requested = missing(day, 1, NOW);
    let cases: [Changes<'_>; 8] = [
        (&[(day, Complete)], &[], &[], None, None),
        (&[], &[day], &[], None, None),
        // The requests of a partial day are counted again.
        (&[(day, Partial)], &[], &[], Some(reset), Some(requested)),
        (&[(day, Partial)], &[], &[day], Some(reset), Some(requested)),
        // Each step applies to the result of those before it.
        (&[(day, Partial), (day, Complete)], &[], &[], None, None),
        (&[(day, Partial)], &[day], &[], None, None),
        (&[(day, Complete)], &[], &[day], Some(new), Some(requested)),
        (&[], &[day], &[day], Some(new), Some(requested)),
    ];

    for (released, found, unlisted, after_import, after_request) in cases {
        let before = [missing(day, 7, earlier)];
        for (scope, expected) in [(import(), after_import), (poll(), after_request)] {
            let changes = RequestedDays { released, found, missing: unlisted, ..scope };
            let after = after_poll(&before, &changes);
            assert_eq!(after.first().copied(), expected, "{changes:?}");
        }
    }
}

/// A partial day that was not missing before is in [`RequestedDays::missing`] as well.
#[test]
fn a_partial_release_adds_no_day() {
    let released = [(ago(3), Completeness::Partial)];
    assert!(after_poll(&[], &RequestedDays { released: &released, ..poll() }).is_empty());
}

#[test]
fn only_responses_decide_which_days_are_absent() {
    for (day, expected) in [
        (ago(91), DayPresence::Absent),
        (ago(90), DayPresence::Expected),
        (ago(0), DayPresence::Expected),
        // The clock was ahead when the day became missing.
        (ago(-5), DayPresence::Expected),
    ] {
        for before in [missing(day, 2, NOW), absent(day, 2, NOW)] {
            assert_eq!(after_poll(&[before], &poll())[0].presence, expected, "{before:?}");
            assert_eq!(after_poll(&[before], &import()), [before]);
        }
    }

    // Days before the requested ones are marked as well.
    let request = RequestedDays { requested_from: Some(ago(0)), ..poll() };
    assert_eq!(after_poll(&[missing(ago(91), 2, NOW)], &request), [absent(ago(91), 2, NOW)]);
}

/// What a poll has found out about one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Nothing,
    Released(Completeness),
    Found,
    Unlisted,
}

/// For each day from 95 days before [`NOW`] on: the missing day before a poll, if it was missing,
/// and what the poll has found out about it.
fn arbitrary_days() -> impl Strategy<Value = Vec<(Day, Option<MissingDay>, Finding)>> {
    let known = prop::option::of((0_u32..10, -20_i32..20, any::<bool>()));
    let finding = prop::sample::select(vec![
        Finding::Nothing,
        Finding::Released(Completeness::Complete),
        Finding::Released(Completeness::Partial),
        Finding::Found,
        Finding::Unlisted,
    ]);

    prop::collection::vec((known, finding), 96).prop_map(|days| {
        let days = (0..).map(|index| ago(95 - index)).zip(days);
        let days = days.map(|(day, (known, finding))| {
            let known = known.map(|(requests, days, is_absent)| {
                let presence = if is_absent { DayPresence::Absent } else { DayPresence::Expected };
                MissingDay { presence, ..missing(day, requests, ago(days).start()) }
            });
            (day, known, finding)
        });
        days.collect()
    })
}

proptest! {
    #[test]
    fn due_days_are_expected_and_sorted(days in arbitrary_days()) {
        let known: Vec<MissingDay> = days.iter().rev().filter_map(|(_, known, _)| *known).collect();
        let due = due_days(&known, NOW);
        prop_assert!(due.is_sorted_by(|a, b| a < b), "{due:?}");
        for day in due {
            let known = known.iter().find(|missing| missing.day == day);
            prop_assert_eq!(known.map(|missing| missing.presence), Some(DayPresence::Expected));
        }
    }

    /// No day is lost, and requests are only counted up, except those of a partial release.
    #[test]
    fn polls_count_the_requests_of_every_day(
        days in arbitrary_days(),
        from in prop::option::of(0_i32..100),
    ) {
        let of = |finding: Finding| {
            let days = days.iter().filter(move |(.., found)| *found == finding);
            days.map(|(day, ..)| *day)
        };
        let released_as = |completeness| {
            of(Finding::Released(completeness)).map(move |day| (day, completeness))
        };
        let (complete, partial) = (Completeness::Complete, Completeness::Partial);
        let released: Vec<_> = released_as(complete).chain(released_as(partial)).collect();
        let found: Vec<Day> = of(Finding::Found).collect();
        let unlisted: Vec<Day> = of(Finding::Unlisted).collect();

        let known: Vec<MissingDay> = days.iter().filter_map(|(_, known, _)| *known).collect();
        let requested_from = from.map(ago);
        let after = after_poll(&known, &RequestedDays {
            released: &released, found: &found, missing: &unlisted, requested_from, at: NOW,
        });
        prop_assert!(after.is_sorted_by(|a, b| a.day < b.day), "{after:?}");

        for (day, known, finding) in days {
            let stays = match finding {
                Finding::Nothing | Finding::Released(Completeness::Partial) => known.is_some(),
                Finding::Released(Completeness::Complete) | Finding::Found => false,
                Finding::Unlisted => true,
            };
            let is_reset = finding == Finding::Released(Completeness::Partial);
            let is_requested = requested_from.is_some_and(|from| day >= from);
            let before = known.unwrap_or(missing(day, 0, NOW));
            let requests = if is_reset { 0 } else { before.requests } + u32::from(is_requested);
            let last_requested = if is_requested { NOW } else { before.last_requested };

            let found = after.iter().find(|missing| missing.day == day);
            let counted = found.map(|missing| (missing.requests, missing.last_requested));
            prop_assert_eq!(counted, stays.then_some((requests, last_requested)), "{}", day);
        }
    }
}
