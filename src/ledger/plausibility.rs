//! Values that cannot be correct, in a snapshot that is accepted nevertheless: it is delivered as
//! Microsoft sent it, and the faults are reported.
//!
//! Only what is impossible is a fault. A total that differs from the sum of the controls, or user
//! counts that contradict each other, occur in genuine data and must not be reported. A
//! fault never contains the number: the record does, and a number that changes every day would
//! begin the same observation every day. Start reading at [`check`] and [`CatalogMaxima`]. See
//! decision 0078.

use std::collections::BTreeMap;

use super::AcceptedSnapshot;
use crate::{
    foreign_text::{DocumentSecrets, ForeignText, is_hidden, is_joiner},
    model::{ControlScore, DataFaults, DayFacts, Number, Snapshot},
};

/// The largest number of characters of a control's ID in a fault.
const MAX_QUOTED_CHARS: usize = 64;
/// The key of the score of an average.
const SCORE: &str = "averageScore";
/// What Microsoft sends if there is no average.
const NO_AVERAGE: i64 = -1;
/// The largest difference between two numbers of which each may be rounded, in points or percent.
const TOLERANCE: f64 = 0.011;

/// The maximum scores of a catalog.
#[derive(Debug, Default)]
pub struct CatalogMaxima {
    /// By the ID of the control in lower case.
    by_folded_id: BTreeMap<String, Number>,
}

impl CatalogMaxima {
    /// The maximum scores of these controls. Of two IDs that differ only in case, the larger one is
    /// used. A maximum of zero states that the control is not applicable, so it limits nothing.
    pub fn new<'a>(controls: impl IntoIterator<Item = (&'a str, Number)>) -> Self {
        let mut by_folded_id: BTreeMap<String, Number> = BTreeMap::new();
        for (id, max) in controls.into_iter().filter(|(_, max)| *max > Number::ZERO) {
            let known = by_folded_id.entry(id.to_ascii_lowercase()).or_insert(max);
            if max > *known {
                *known = max;
            }
        }
        Self { by_folded_id }
    }

    /// Adds a fault for every control whose score is above its maximum, without the secrets that
    /// the server may have written into its name. The catalog describes the day on which it was
    /// read, so an older day must not be checked against it.
    pub fn check(&self, snapshot: &mut AcceptedSnapshot, secrets: &DocumentSecrets<'_>) {
        for control in &snapshot.facts.controls {
            let max = self.by_folded_id.get(&control.name.to_ascii_lowercase());
            if let (Some(score), Some(max)) = (control.score, max) {
                let name = || named("control", &secrets.redact_text(&control.name));
                check_maximum(name, score, *max, &mut snapshot.faults);
            }
        }
    }
}

/// Adds a fault for every value of a snapshot that is impossible, and for every control, average
/// and service that occurs more than once, or whose name shows nothing.
pub(super) fn check(snapshot: &Snapshot<'_>, facts: &DayFacts, faults: &mut DataFaults) {
    for control in &snapshot.controls {
        check_control(control, faults);
    }
    for average in &snapshot.averages {
        let score = average.score.filter(|score| score.as_integer() != Some(NO_AVERAGE));
        let name = || named("average", &average.basis);
        check_sign(name, "score", score, faults);
        // A score of another type is a fault of the decoder.
        if average.score.is_none() && !average.additional.iter().any(|(key, _)| key == SCORE) {
            faults.add(format!("{} was not used: it has no score", name()));
        }
    }

    let controls = snapshot.controls.iter().map(|control| &*control.name);
    check_names("control", controls, faults);
    let averages = snapshot.averages.iter().map(|average| &*average.basis);
    check_names("average", averages, faults);
    let services = snapshot.enabled_services.iter().map(|service| &**service);
    check_names("service", services, faults);

    check_totals(facts, faults);
}

fn check_control(control: &ControlScore<'_>, faults: &mut DataFaults) {
    let name = || named("control", &control.name);
    for (what, number) in
        [("score", control.score), ("count", control.count), ("total", control.total)]
    {
        check_sign(name, what, number, faults);
    }

    if control.percentage.is_some_and(|share| !is_share(share)) {
        faults.add(format!("{}: the percentage is not between 0 and 100", name()));
    }
    if let (Some(count), Some(total)) = (control.count, control.total)
        && count > total
    {
        faults.add(format!("{}: the count is above the total", name()));
    }
    if let (Some(score), Some(max)) = (control.score, control.max_score) {
        check_maximum(name, score, max, faults);
    }
}

fn check_totals(facts: &DayFacts, faults: &mut DataFaults) {
    for (name, total) in [
        ("the current score", facts.current_score),
        ("the maximum score", facts.max_score),
        ("the number of active users", facts.active_users),
        ("the number of licensed users", facts.licensed_users),
    ] {
        if total.is_some_and(Number::is_negative) {
            faults.add(format!("{name} is negative"));
        }
    }

    let Some(max) = facts.max_score.filter(|max| !max.is_negative()) else { return };
    if let Some(current) = facts.current_score {
        check_maximum(|| "the tenant".to_owned(), current, max, faults);
    }
    let above = |score: Option<Number>| score.is_some_and(|s| s.get() > max.get() + TOLERANCE);
    // The sum of all scores is not compared: there are tenants whose maximum is that of fewer
    // controls than Microsoft lists.
    for control in facts.controls.iter().filter(|control| above(control.score)) {
        let control = named("control", &control.name);
        faults.add(format!("{control}: the score is above the maximum score of the tenant"));
    }
}

fn check_maximum(
    subject: impl FnOnce() -> String,
    score: Number,
    max: Number,
    faults: &mut DataFaults,
) {
    if score.get() > max.get() + TOLERANCE {
        faults.add(format!("{}: the score is above the maximum score", subject()));
    }
}

fn check_sign(
    subject: impl FnOnce() -> String,
    what: &str,
    number: Option<Number>,
    faults: &mut DataFaults,
) {
    if number.is_some_and(Number::is_negative) {
        faults.add(format!("{}: the {what} is negative", subject()));
    }
}

/// Adds a fault for every name that shows nothing, and for every one that a list contains more than
/// once, in any case. The fault contains the spelling that is first in the order of bytes.
fn check_names<'a>(element: &str, names: impl Iterator<Item = &'a str>, faults: &mut DataFaults) {
    let mut by_folded_name: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for name in names {
        if name.chars().all(|c| c.is_whitespace() || is_hidden(c) || is_joiner(c)) {
            faults.add(format!("the name of one {element} has no visible character"));
        }
        let (first, count) = by_folded_name.entry(name.to_ascii_lowercase()).or_insert((name, 0));
        *first = name.min(*first);
        *count = count.saturating_add(1);
    }
    for (name, _) in by_folded_name.into_values().filter(|(_, count)| *count > 1) {
        faults.add(format!("{} appears more than once", named(element, name)));
    }
}

fn is_share(percentage: Number) -> bool {
    !percentage.is_negative() && percentage.get() <= 100.0 + TOLERANCE
}

/// An element of a list, such as `` control `AdminMFAV2` ``.
fn named(element: &str, name: &str) -> String {
    format!("{element} `{}`", ForeignText::new(name).for_message(MAX_QUOTED_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        foreign_text::SentSecrets,
        ledger::{SnapshotOrigin, accept},
        model::{Day, TenantId, UnixMillis},
        wire,
    };

    /// The faults of a snapshot with these totals and controls.
    fn faults(totals: &str, controls: &str) -> String {
        let json = format!(
            r#"{{"createdDateTime":"2026-11-22T00:00:00Z",{totals}"controlScores":[{controls}]}}"#
        );
        let snapshot = wire::snapshot(&json).unwrap();
        let mut faults = DataFaults::default();
        check(&snapshot, &DayFacts::of(&snapshot).unwrap(), &mut faults);
        faults.to_string()
    }

    /// An accepted snapshot with one control.
    fn accepted(control: &str, score: &str) -> AcceptedSnapshot {
        let tenant = "3f5c1d2e-0000-4000-8000-00000000c0de";
        let json = format!(
            r#"{{"id":"{tenant}_2026-11-22","azureTenantId":"{tenant}","createdDateTime":"2026-11-22T00:00:00Z","controlScores":[{{"controlName":"{control}","score":{score}}}]}}"#
        );
        let tenant = TenantId::parse(tenant).unwrap();
        let today = Day::parse("2026-11-22").unwrap();
        let (origin, now) = (SnapshotOrigin::Poll, UnixMillis::new(1_795_341_600_000));
        accept(&wire::snapshot(&json).unwrap(), &json, tenant, today, origin, now).unwrap()
    }

    #[test]
    fn impossible_values_are_faults() {
        let control = |fields: &str| format!(r#"{{"controlName":"A",{fields}}}"#);

        let of_controls = [
            ("", control(r#""score":-1"#), "control `A`: the score is negative"),
            (
                "",
                control(r#""scoreInPercentage":150"#),
                "control `A`: the percentage is not between 0 and 100",
            ),
            (
                "",
                control(r#""scoreInPercentage":-0.5"#),
                "control `A`: the percentage is not between 0 and 100",
            ),
            (
                "",
                control(r#""score":3,"maxScore":2"#),
                "control `A`: the score is above the maximum score",
            ),
        ];

        let of_totals = [
            (r#""currentScore":-3,"#, String::new(), "the current score is negative"),
            (r#""maxScore":-3,"#, String::new(), "the maximum score is negative"),
            (
                r#""currentScore":12.5,"maxScore":10,"#,
                String::new(),
                "the tenant: the score is above the maximum score",
            ),
            (
                r#""currentScore":3,"maxScore":10,"#,
                control(r#""score":110"#),
                "control `A`: the score is above the maximum score of the tenant",
            ),
        ];

        for (totals, controls, expected) in of_controls.into_iter().chain(of_totals) {
            assert_eq!(faults(totals, &controls), expected, "{totals} {controls}");
        }
    }

    /// Genuine tenants have controls with more points together than their maximum.
    #[test]
    fn sums_above_the_maximum_are_possible() {
        let control = |name| format!(r#"{{"controlName":"{name}","score":9}}"#);
        let controls = ["A", "B"].map(control).join(",");
        assert_eq!(faults(r#""currentScore":3,"maxScore":10,"#, &controls), "");
    }

    /// Regression: an impossible value that changed every day was reported every day.
    #[test]
    fn faults_do_not_depend_on_the_number() {
        for fields in [
            r#""score":-N"#,
            r#""scoreInPercentage":1N"#,
            r#""scoreInPercentage":-N"#,
            r#""score":N,"maxScore":2"#,
            r#""count":N,"total":5"#,
            r#""count":-N"#,
            r#""score":9N"#,
        ] {
            let of = |number: &str| {
                let fields = fields.replace('N', number);
                let controls = format!(r#"{{"controlName":"A",{fields}}}"#);
                faults(&format!(r#""currentScore":-{number},"maxScore":40,"#), &controls)
            };
            assert_eq!(of("50"), of("55"), "{fields}");
            assert!(of("50").contains("control `A`"), "{fields}: {}", of("50"));
        }
    }

    /// Genuine responses contain all of these.
    #[test]
    fn unusual_values_are_not_faults() {
        for (totals, controls) in [
            ("", ""),
            (r#""currentScore":289,"maxScore":400,"#, r#"{"controlName":"A","score":163}"#),
            (
                r#""currentScore":5,"#,
                r#"{"controlName":"A","score":7.83,"scoreInPercentage":97.875}"#,
            ),
            (r#""currentScore":0,"maxScore":0,"#, r#"{"controlName":"A","score":0}"#),
            (r#""activeUserCount":9,"licensedUserCount":0,"#, r#"{"controlName":"A"}"#),
            ("", r#"{"controlName":"A","score":1,"scoreInPercentage":100.0000001}"#),
            (
                r#""currentScore":10,"maxScore":9.995,"#,
                r#"{"controlName":"A","score":9},{"controlName":"B","score":1}"#,
            ),
        ] {
            assert_eq!(faults(totals, controls), "", "{totals} {controls}");
        }
    }

    #[test]
    fn repeated_controls_are_faults_in_any_order() {
        let [a, b] = [r#"{"controlName":"A","score":1}"#, r#"{"controlName":"B","score":2}"#];
        let lower = r#"{"controlName":"a","score":3}"#;
        let expected = "control `A` appears more than once";
        for controls in [[a, a, b], [a, b, a], [b, a, a], [b, lower, a], [a, b, lower]] {
            assert_eq!(faults("", &controls.join(",")), expected);
        }
    }

    /// Regression: repeated averages and services were not reported.
    #[test]
    fn repeated_elements_of_each_list_are_faults() {
        let average = |basis: &str| format!(r#"{{"basis":"{basis}","averageScore":1}}"#);
        let averages = [average("AllTenants"), average("TotalSeats"), average("allTenants")];
        let averages = format!(r#""averageComparativeScores":[{}],"#, averages.join(","));
        assert_eq!(faults(&averages, ""), "average `AllTenants` appears more than once");
        let services = r#""enabledServices":["HasEOP","HasSPOP1","HasEOP"],"#;
        assert_eq!(faults(services, ""), "service `HasEOP` appears more than once");
    }

    /// Regression: a control whose ID was a space was delivered without a report.
    #[test]
    fn names_that_show_nothing_are_faults() {
        for (name, is_fault) in [("  ", true), ("\u{200b}", true), ("\u{a0}", true), (" x ", false)]
        {
            let control = format!(r#"{{"controlName":"{name}","score":1}}"#);
            let fault = "the name of one control has no visible character";
            assert_eq!(faults("", &control), if is_fault { fault } else { "" }, "{name:?}");
        }
        let services = r#""enabledServices":[" ","HasEOP"],"#;
        assert_eq!(faults(services, ""), "the name of one service has no visible character");
    }

    /// Regression: an average without a score disappeared without a report.
    #[test]
    fn averages_without_a_score_are_faults() {
        let fault = "average `AllTenants` was not used: it has no score";
        let of_type = "`averageComparativeScores[AllTenants].averageScore` is";
        for (score, expected) in [
            (r#","averageScore":3"#, String::new()),
            (r#","averageScore":-1"#, String::new()),
            (r#","averageScore":null"#, fault.to_owned()),
            ("", fault.to_owned()),
            (r#","averageScore":"abc""#, String::new()),
        ] {
            let averages =
                format!(r#""averageComparativeScores":[{{"basis":"AllTenants"{score}}}],"#);
            assert_eq!(faults(&averages, ""), expected, "{score}");
        }

        let text = r#""averageComparativeScores":[{"basis":"AllTenants","averageScore":{}}],"#;
        let json =
            format!(r#"{{"createdDateTime":"2026-11-22T00:00:00Z",{text}"controlScores":[]}}"#);
        let read = wire::snapshot(&json).unwrap().faults.to_string();
        assert!(read.starts_with(of_type), "{read}");
    }

    /// Regression: negative averages and numbers of users, and impossible counts, were not
    /// reported.
    #[test]
    fn impossible_counts_are_faults() {
        let control = |fields: &str| format!(r#"{{"controlName":"A",{fields}}}"#);
        let none = String::new;
        let cases = [
            (r#""activeUserCount":-5,"#, none(), "the number of active users is negative"),
            (r#""licensedUserCount":-5,"#, none(), "the number of licensed users is negative"),
            (
                r#""averageComparativeScores":[{"basis":"AllTenants","averageScore":-5}],"#,
                none(),
                "average `AllTenants`: the score is negative",
            ),
            (
                r#""averageComparativeScores":[{"basis":"AllTenants","averageScore":-1}],"#,
                none(),
                "",
            ),
            ("", control(r#""count":-1,"total":5"#), "control `A`: the count is negative"),
            ("", control(r#""total":-5"#), "control `A`: the total is negative"),
            ("", control(r#""count":10,"total":5"#), "control `A`: the count is above the total"),
            ("", control(r#""count":5,"total":5"#), ""),
        ];

        for (totals, controls, expected) in cases {
            assert_eq!(faults(totals, &controls), expected, "{totals} {controls}");
        }
    }

    #[test]
    fn maxima_ignore_the_case_of_ids() {
        let number = |value: f64| Number::new(value).unwrap();
        let maxima = CatalogMaxima::new([
            ("adminMFAV2", number(10.0)),
            ("AdminMFAV2", number(8.0)),
            ("NotApplicable", number(0.0)),
        ]);
        let above = "control `ADMINMFAV2`: the score is above the maximum score";
        for (id, score, expected) in [
            ("ADMINMFAV2", "10.5", above),
            ("AdminMFAV2", "10.0", ""),
            ("NotApplicable", "1.0", ""),
            ("Unknown", "1.0", ""),
        ] {
            let mut snapshot = accepted(id, score);
            maxima.check(&mut snapshot, &DocumentSecrets::new(&SentSecrets::default()));
            assert_eq!(snapshot.faults.to_string(), expected, "{id} {score}");
        }
    }

    /// Regression: a fault contained the token that was the name of a control.
    #[test]
    fn faults_of_maxima_contain_no_secret() {
        let mut secrets = SentSecrets::default();
        secrets.add_temporary("canary-of-a-token");
        let id = "canary\\u000a-of-a-token";
        let mut snapshot = accepted(id, "10.5");
        let maxima = CatalogMaxima::new([("canary\n-of-a-token", Number::new(10.0).unwrap())]);
        maxima.check(&mut snapshot, &DocumentSecrets::new(&secrets));
        let expected = "control `[redacted]`: the score is above the maximum score";
        assert_eq!(snapshot.faults.to_string(), expected);
    }
}
