//! A control whose element could not be used is not a removed control, and not an added one when it
//! returns.

use super::*;

fn lossy(facts: DayFacts) -> DayFacts {
    DayFacts { has_lost_controls: true, ..facts }
}

fn a() -> ControlFacts {
    facts("A", 8.0, 100.0)
}

fn b(score: f64) -> ControlFacts {
    facts("B", score, score * 12.5)
}

/// Regression: a null in the place of a control was a removed control.
#[test]
fn a_lost_control_is_not_removed() {
    let complete = Case::new(vec![a(), b(8.0)], vec![a()]);
    assert_eq!(complete.lines(), ["removed B unknown"]);

    let case = Case { after: lossy(complete.after.clone()), ..complete };
    assert!(case.lines().is_empty());
    let added = Case { before: day("2026-11-21", vec![b(8.0)]), ..case };
    assert_eq!(added.lines(), ["added A unknown"]);
}

/// Regression: a control that returned after such a day was an added control.
#[test]
fn returned_controls_are_compared_with_their_last_day() {
    let earlier = |days: Vec<DayFacts>| days.into_iter().map(Arc::new).collect::<Vec<_>>();
    let case = |before: DayFacts, after: Vec<ControlFacts>, days: Vec<DayFacts>| {
        Case { before, earlier: earlier(days), ..Case::new(vec![], after) }.lines()
    };
    let base = || lossy(day("2026-11-21", vec![a()]));
    let complete = |controls| day("2026-11-19", controls);
    let between = || lossy(day("2026-11-20", vec![]));
    let returned = || vec![a(), b(8.0)];

    for days in [vec![complete(vec![b(8.0)])], vec![complete(vec![b(8.0)]), between()]] {
        assert!(case(base(), returned(), days).is_empty());
    }
    let fell = case(base(), vec![a(), b(0.0)], vec![complete(vec![a(), b(8.0)])]);
    assert_eq!(fell.len(), 1, "{fell:?}");
    assert!(fell[0].starts_with("regressed B "), "{fell:?}");

    // It was neither there before, nor is it there again.
    assert_eq!(case(base(), returned(), vec![complete(vec![a()])]), ["added B unknown"]);
    assert_eq!(case(base(), vec![a()], vec![complete(returned())]), ["removed B unknown"]);
    // Nothing is known about a control before the first complete day.
    assert!(case(base(), returned(), vec![between()]).is_empty());
    assert!(case(base(), returned(), vec![]).is_empty());
}
