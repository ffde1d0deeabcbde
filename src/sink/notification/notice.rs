//! What a message contains about one record. The foreign text in a notice is inert and has a
//! limited length, so that the size of a message is limited too. Start reading at [`Notice::of`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    foreign_text::ForeignText,
    format::{cef_severity, sentence},
    model::{Body, Number, Phase, Record, Severity},
    text::{count, minute, plural},
};

/// The maximum number of characters of the parts of a notice.
const MAX_SENTENCE: usize = 500;
pub(super) const MAX_NAME: usize = 80;
const MAX_HINT: usize = 300;

/// What a message or a digest contains about one record. A batch contains it as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::sink) struct Notice {
    pub event_id: String,
    pub kind: NoticeKind,
    /// `change.what` or `quality.what`; `control` or `summary` for a score.
    pub what: String,
    /// From 0 to 10, as in CEF.
    pub severity: u8,
    /// The name of the tenant.
    pub tenant: String,
    /// The ID of the control, or the subject of the observation; empty for a summary.
    pub subject: String,
    /// The `time` of the record, in UTC with minutes, so that times sort as text.
    pub time: String,
    /// One sentence that describes the record.
    pub sentence: String,
    /// Points gained or lost by a change.
    pub points: Option<f64>,
    /// What an operator can do about a problem.
    pub hint: Option<String>,
    pub replayed: bool,
}

/// The kinds of record as messages count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(in crate::sink) enum NoticeKind {
    Change,
    ProblemBegan,
    ProblemEnded,
    /// A control or a summary, which only a sink with such a selection receives.
    Score,
}

impl Notice {
    /// Describes a record. Its texts are made inert and cut.
    pub(in crate::sink) fn of(record: &Record<'_>) -> Self {
        let (kind, what, points, hint) = match &record.body {
            Body::Control(_) | Body::Summary(_) => {
                (NoticeKind::Score, record.kind().as_str(), None, None)
            }
            Body::Change(record) => {
                let change = &record.change;
                (NoticeKind::Change, change.what.as_str(), change.delta.map(Number::get), None)
            }
            Body::Quality(quality) => {
                let kind = match quality.phase {
                    Phase::Begin => NoticeKind::ProblemBegan,
                    Phase::End => NoticeKind::ProblemEnded,
                };
                (kind, quality.what.as_str(), None, quality.hint)
            }
        };
        let subject = match &record.body {
            Body::Quality(quality) => quality.subject.text(),
            _ => record.control_id().into(),
        };

        Self {
            event_id: record.event_id.to_string(),
            kind,
            what: what.to_owned(),
            severity: cef_severity(record),
            tenant: ForeignText::new(&record.tenant.name).chat(MAX_NAME),
            subject: ForeignText::new(&subject).chat(MAX_NAME),
            time: minute(record.time),
            sentence: ForeignText::new(&sentence(record)).chat(MAX_SENTENCE),
            points,
            hint: hint.map(|hint| ForeignText::new(hint).chat(MAX_HINT)),
            replayed: record.replayed,
        }
    }

    /// The severity by name. It is the inverse of [`Severity::cef`] for changes and problems.
    pub(in crate::sink) fn severity(&self) -> Severity {
        match self.severity {
            0..=2 => Severity::Informational,
            3..=4 => Severity::Low,
            5..=6 => Severity::Medium,
            7..=8 => Severity::High,
            _ => Severity::Critical,
        }
    }

    /// The kind of change or problem in words.
    pub(super) fn what_in_words(&self) -> String {
        self.what.replace('_', " ")
    }
}

/// The title of a message with these notices: `Secure Score: 2 changes, 1 problem in contoso`.
pub(super) fn title(notices: &[Notice]) -> String {
    let counts = [
        (NoticeKind::Change, "change", "changes"),
        (NoticeKind::ProblemBegan, "problem", "problems"),
        (NoticeKind::ProblemEnded, "resolved problem", "resolved problems"),
        (NoticeKind::Score, "score", "scores"),
    ];
    let counted = counts.into_iter().filter_map(|(kind, one, many)| {
        match notices.iter().filter(|notice| notice.kind == kind).count() {
            0 => None,
            number => Some(plural(number, one, many)),
        }
    });
    let counted: Vec<String> = counted.collect();

    format!("Secure Score: {} in {}", counted.join(", "), tenants(notices))
}

/// The name of the tenant, or the number of tenants.
fn tenants(notices: &[Notice]) -> String {
    let names: BTreeSet<&str> = notices.iter().map(|notice| notice.tenant.as_str()).collect();
    match names.len() {
        1 => names.first().copied().unwrap_or_default().to_owned(),
        number => count(number, "tenant"),
    }
}

/// The name of a severity with an initial capital.
pub(super) fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Informational => "Informational",
        Severity::Low => "Low",
        Severity::Medium => "Medium",
        Severity::High => "High",
        Severity::Critical => "Critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        derive::{ObservationEntry, Rules, quality},
        model::{
            Day, Observation, ObservationKind, ObservationSubject, Seq, SnapshotRef, Tenant,
            TenantId, UnixMillis,
        },
    };

    #[test]
    fn severities_are_those_of_the_record() {
        for severity in Severity::ALL {
            let notice = super::super::tests::change("a", "added", 1.0, severity.cef());
            assert_eq!(notice.severity(), severity);
        }
    }

    /// A name that tries to mention a channel, and a reason that contains a link.
    #[test]
    fn texts_of_a_record_are_inert() {
        let tenant = Tenant {
            id: TenantId::TEST,
            name: "@channel".to_owned(),
            labels: std::collections::BTreeMap::new(),
        };
        let observation = Observation {
            what: ObservationKind::PollFailed,
            subject: ObservationSubject::RetriedPolls,
            first_day: Day::parse("2026-11-22").unwrap(),
            phase: Phase::Begin,
            details: "[help](https://evil.example)\n*now*".to_owned(),
            hint: Some("ask @here".to_owned()),
        };
        let entry = ObservationEntry {
            tenant: &tenant,
            observation: &observation,
            snapshot: &SnapshotRef::of_observation(observation.first_day, Seq::FIRST),
            observed_time: "2026-11-22T06:15:00Z",
            observed_at: UnixMillis::new(1_795_328_100_000),
            repeats: 0,
            replayed: false,
            rules: Rules::none(),
        };

        let notice = Notice::of(&quality(&entry));
        assert_eq!(notice.tenant, "＠channel");
        assert_eq!(
            notice.sentence,
            "the poll of the tenant failed: [help] (https: //evil .example) ∗now∗"
        );
        assert_eq!(notice.hint.as_deref(), Some("ask ＠here"));
        assert_eq!(notice.time, "2026-11-22 06:15 UTC");
        assert_eq!((notice.kind, notice.severity()), (NoticeKind::ProblemBegan, Severity::Medium));

        let json = serde_json::to_string(&notice).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notice);
    }
}
