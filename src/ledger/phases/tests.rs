//! Tests of the begin and the end of observations: one table for each rule, and one property.

use proptest::prelude::*;

use super::*;
use crate::model::ObservationKind::{ForeignTenant, Gap, Implausible, PollFailed};

const UNDATED: &str = RejectedSnapshots::Undated.as_str();
const FURTHER: &str = RejectedSnapshots::Further.as_str();
const SCORES: &str = AcceptedData::Scores.as_str();
const CATALOG: &str = AcceptedData::Catalog.as_str();

/// The day of the polls.
fn today() -> Day {
    Day::parse("2026-11-22").unwrap()
}

fn observation(what: ObservationKind, subject: &str, phase: Phase) -> Observation {
    Observation {
        what,
        subject: ObservationSubject::parse(what, subject.to_owned()),
        first_day: today(),
        phase,
        details: "a".to_owned(),
        hint: Some("run `check`".to_owned()),
    }
}

fn begin(what: ObservationKind, subject: &str) -> Observation {
    observation(what, subject, Phase::Begin)
}

fn end(what: ObservationKind, subject: &str) -> Observation {
    observation(what, subject, Phase::End)
}

/// An open observation that began two days ago.
fn open(what: ObservationKind, subject: &str) -> OpenCondition {
    OpenCondition {
        what: what.as_str().to_owned(),
        subject: ObservationSubject::parse(what, subject.to_owned()),
        first_day: today().plus(-2),
        details: "a".to_owned(),
    }
}

#[test]
fn only_changes_of_the_phase_are_appended() {
    let mut conditions = OpenConditions::new(vec![open(Gap, "2026-11-20")]);
    for (observed, is_change) in [
        (begin(Gap, "2026-11-20"), false),
        (end(Gap, "2026-11-21"), false),
        (begin(Gap, "2026-11-21"), true),
        // The kind and the subject identify an observation, and nothing else does.
        (Observation { details: "b".to_owned(), hint: None, ..begin(Gap, "2026-11-21") }, false),
        (end(PollFailed, "2026-11-21"), false),
        (end(Gap, "2026-11-21"), true),
        (end(Gap, "2026-11-21"), false),
        (begin(Gap, "2026-11-21"), true),
    ] {
        let expected: Vec<_> = is_change.then(|| observed.clone()).into_iter().collect();
        assert_eq!(conditions.observe(&observed), expected, "{observed:?}");
    }
}

#[test]
fn ends_have_the_first_day_of_their_begin() {
    let mut conditions = OpenConditions::new(vec![open(Gap, "2026-11-20")]);
    let ended = Observation { first_day: today().plus(-2), ..end(Gap, "2026-11-20") };
    assert_eq!(conditions.observe(&end(Gap, "2026-11-20")), [ended]);

    let earlier = Observation { first_day: today().plus(-9), ..begin(PollFailed, "poll") };
    assert_eq!(conditions.observe(&earlier), std::slice::from_ref(&earlier));
    let ended = Observation { first_day: today().plus(-9), ..end(PollFailed, "poll") };
    assert_eq!(conditions.observe(&end(PollFailed, "poll")), [ended]);
}

/// Regression: the faults of the scores began again with every day, although they were the same.
#[test]
fn only_changed_faults_begin_again() {
    for (what, subject, other_faults) in [
        (Implausible, SCORES, Some("a snapshot has other faults")),
        (Implausible, CATALOG, Some("the catalog has other faults")),
        // These have no faults of accepted data.
        (Implausible, "2026-11-20", None),
        (Implausible, FURTHER, None),
        (ForeignTenant, SCORES, None),
    ] {
        let mut conditions = OpenConditions::new(vec![open(what, subject)]);
        assert!(conditions.observe(&begin(what, subject)).is_empty(), "{subject}: the same faults");

        let changed = Observation { details: "b".to_owned(), ..begin(what, subject) };
        let expected = other_faults.map(|details| {
            let (first_day, details) = (today().plus(-2), details.to_owned());
            let ended = Observation { first_day, details, hint: None, ..end(what, subject) };
            [ended, changed.clone()]
        });
        let expected: Vec<_> = expected.into_iter().flatten().collect();
        assert_eq!(conditions.observe(&changed), expected, "{what:?} {subject}");
        assert!(conditions.observe(&changed).is_empty(), "{subject}: known now");

        // An end has no faults.
        let ended = Observation { details: "c".to_owned(), ..end(what, subject) };
        let phases: Vec<Phase> = conditions.observe(&ended).iter().map(|o| o.phase).collect();
        assert_eq!(phases, [Phase::End], "{subject}");
    }
}

/// Regression: observations with a subject of an earlier release never ended.
#[test]
fn former_subjects_end_with_their_cause() {
    const GUID: &str = "3f5c1d2e-0000-4000-8000-00000000c0de_x";
    let conditions = OpenConditions::new(vec![
        open(Implausible, "unreadable, 812 bytes"),
        open(Implausible, "2026-11-23"),
        open(Implausible, GUID),
        open(Implausible, ""),
        // Each of these ends with another observation.
        open(Implausible, UNDATED),
        open(Implausible, "2026-11-22"),
        open(Implausible, FURTHER),
        open(Implausible, SCORES),
        open(Implausible, CATALOG),
        open(ForeignTenant, "9999-12-31"),
        open(Gap, "unreadable, 812 bytes"),
    ]);

    for (observed, ended) in [
        (
            end(Implausible, UNDATED),
            &["", "2026-11-23", GUID, "unreadable, 812 bytes", UNDATED][..],
        ),
        (end(ForeignTenant, UNDATED), &["9999-12-31"]),
        // The day is that of the poll.
        (
            Observation { first_day: today().plus(1), ..end(Implausible, UNDATED) },
            &["", GUID, "unreadable, 812 bytes", UNDATED],
        ),
        (begin(Implausible, UNDATED), &[]),
        (end(Implausible, FURTHER), &[FURTHER]),
        (end(PollFailed, UNDATED), &[]),
    ] {
        let first_day = today().plus(-2);
        let of = |subject: &&str| {
            let subject = ObservationSubject::parse(observed.what, (*subject).to_owned());
            Observation { subject, first_day, ..observed.clone() }
        };
        let expected: Vec<Observation> = ended.iter().map(of).collect();
        assert_eq!(conditions.clone().observe(&observed), expected, "{observed:?}");
    }
}

/// Regression: a server could add conditions and entries of the log with every response.
#[test]
fn rejected_snapshots_cannot_fill_the_log() {
    let subject = |number: u32| format!("unreadable, {number} bytes");
    for (what, expected) in [(Implausible, 126), (ForeignTenant, 126), (Gap, 999)] {
        // Stored observations count, also those about accepted data.
        let mut conditions = OpenConditions::new(vec![open(what, SCORES), open(what, &subject(0))]);
        let mut begun = 0;
        for number in 0..1_000 {
            begun += conditions.observe(&begin(what, &subject(number))).len();
        }
        assert_eq!(begun, expected, "{what:?}");

        // The subjects of accepted data are not limited, and an end permits another begin.
        assert_eq!(conditions.observe(&begin(what, CATALOG)).len(), 1, "{what:?}");
        let other = begin(what, "another");
        assert_eq!(conditions.observe(&other).len(), usize::from(what == Gap), "{what:?}");
        for ended in [CATALOG, SCORES] {
            assert_eq!(conditions.observe(&end(what, ended)).len(), 1, "{what:?}");
        }
        assert_eq!(conditions.observe(&other).len(), usize::from(what != Gap), "{what:?}");
    }
}

/// The kinds and subjects of random observations.
const KINDS: [ObservationKind; 4] = [Implausible, ForeignTenant, Gap, PollFailed];
const SUBJECTS: [&str; 6] = [SCORES, CATALOG, UNDATED, FURTHER, "2026-11-20", "former"];

fn arbitrary_observation() -> impl Strategy<Value = Observation> {
    let kind = prop::sample::select(KINDS.to_vec());
    let subject = prop::sample::select(SUBJECTS.to_vec());
    let phase = prop::sample::select(vec![Phase::Begin, Phase::End]);
    (kind, subject, phase, 0_i32..5, "[ab]").prop_map(|(what, subject, phase, days, details)| {
        let first_day = today().plus(-days);
        Observation { first_day, details, ..observation(what, subject, phase) }
    })
}

proptest! {
    #[test]
    fn begins_and_ends_of_subjects_alternate(
        stored in proptest::collection::btree_set((0..KINDS.len(), 0..SUBJECTS.len()), 0..10),
        observed in proptest::collection::vec(arbitrary_observation(), 0..80),
    ) {
        let stored = stored.into_iter().map(|(kind, subject)| open(KINDS[kind], SUBJECTS[subject]));
        let stored: Vec<OpenCondition> = stored.collect();
        let key = |stored: &OpenCondition| (stored.what.clone(), stored.subject.clone());
        let mut begun: BTreeMap<(String, ObservationSubject), Day> =
            stored.iter().map(|stored| (key(stored), stored.first_day)).collect();
        let mut conditions = OpenConditions::new(stored);

        for observation in observed {
            let changes = conditions.observe(&observation);
            for Observation { what, subject, first_day, phase, .. } in changes {
                let key = (what.as_str().to_owned(), subject);
                match phase {
                    Phase::Begin => prop_assert_eq!(begun.insert(key, first_day), None),
                    Phase::End => prop_assert_eq!(begun.remove(&key), Some(first_day)),
                }
            }

            // The observation itself is known now.
            let key = (observation.what.as_str().to_owned(), observation.subject.clone());
            prop_assert_eq!(begun.contains_key(&key), observation.phase == Phase::Begin);
            prop_assert!(conditions.observe(&observation).is_empty());
        }
    }
}
