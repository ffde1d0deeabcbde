//! Subjects of observations: what distinguishes observations of one kind. The checkpoint and the
//! record contain the text of a subject, and only this module knows which text a subject has.
//!
//! Start reading at [`ObservationSubject`] and [`ObservationSubject::parse`].

use std::{borrow::Cow, fmt};

use super::{AcceptedData, Day, ObservationKind, PollErrorClass, RejectedSnapshots, SinkName};

/// What an observation is about, among those of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObservationSubject {
    /// A day: one that is missing or incomplete, or that a rejected snapshot names.
    Day(Day),
    /// The newest day.
    Newest,
    /// Data that was accepted although it has faults.
    Accepted(AcceptedData),
    /// Rejected snapshots that are reported together.
    Rejected(RejectedSnapshots),
    /// Polls whose failure is retried.
    RetriedPolls,
    /// Polls whose failure needs an operator. A separate subject for each class, because the
    /// severity differs from that of [`Self::RetriedPolls`].
    FailedPolls(PollErrorClass),
    /// The catalog of the tenant.
    Catalog,
    /// The credential of the tenant.
    Credential,
    /// A sink, by its name.
    Sink(SinkName),
    /// Any other text: the subject of an observation that another release has stored.
    Other(String),
}

/// The texts of the subjects that have no other name. They must never change.
const NEWEST: &str = "newest";
const RETRIED_POLLS: &str = "poll";
const CATALOG: &str = "catalog";
const CREDENTIAL: &str = "credential";

impl ObservationSubject {
    /// The subjects of all failed polls, which end when a poll succeeds.
    pub const OF_FAILED_POLLS: [Self; 5] = [
        Self::RetriedPolls,
        Self::FailedPolls(PollErrorClass::Clock),
        Self::FailedPolls(PollErrorClass::Configuration),
        Self::FailedPolls(PollErrorClass::Credential),
        Self::FailedPolls(PollErrorClass::Permission),
    ];

    /// The subject of the observation that polls fail with an error of this class.
    pub const fn of_failed_poll(class: PollErrorClass) -> Self {
        if class.needs_operator() { Self::FailedPolls(class) } else { Self::RetriedPolls }
    }

    /// The subject of an observation of this kind that has this text. Its [text](Self::text) is the
    /// same.
    pub fn parse(what: ObservationKind, text: String) -> Self {
        let known = match what {
            ObservationKind::Gap | ObservationKind::Partial => Self::parse_day(&text),
            ObservationKind::Stale => (text == NEWEST).then_some(Self::Newest),
            ObservationKind::Implausible | ObservationKind::ForeignTenant => {
                let accepted = AcceptedData::parse(&text).map(Self::Accepted);
                let rejected = RejectedSnapshots::parse(&text).map(Self::Rejected);
                accepted.or(rejected).or_else(|| Self::parse_day(&text))
            }
            ObservationKind::PollFailed if text == RETRIED_POLLS => Some(Self::RetriedPolls),
            ObservationKind::PollFailed => PollErrorClass::parse(&text).map(Self::FailedPolls),
            ObservationKind::CatalogStale => (text == CATALOG).then_some(Self::Catalog),
            ObservationKind::CredentialExpiring => (text == CREDENTIAL).then_some(Self::Credential),
            ObservationKind::DeadLetter => return Self::Sink(SinkName::new(&text)),
        };
        known.unwrap_or(Self::Other(text))
    }

    fn parse_day(text: &str) -> Option<Self> {
        Day::parse(text).filter(|day| day.to_string() == text).map(Self::Day)
    }

    /// The value of `quality.subject` in a record and in the checkpoint.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Day(day) => Cow::Owned(day.to_string()),
            Self::Newest => Cow::Borrowed(NEWEST),
            Self::Accepted(data) => Cow::Borrowed(data.as_str()),
            Self::Rejected(snapshots) => Cow::Borrowed(snapshots.as_str()),
            Self::RetriedPolls => Cow::Borrowed(RETRIED_POLLS),
            Self::FailedPolls(class) => Cow::Borrowed(class.as_str()),
            Self::Catalog => Cow::Borrowed(CATALOG),
            Self::Credential => Cow::Borrowed(CREDENTIAL),
            Self::Sink(name) => Cow::Borrowed(name.as_str()),
            Self::Other(text) => Cow::Borrowed(text),
        }
    }

    /// Whether this is the sink with this name. Such an observation is not sent to that sink.
    pub fn is_sink(&self, name: &SinkName) -> bool {
        matches!(self, Self::Sink(sink) if sink == name)
    }

    /// Whether an earlier release has observed snapshots of [`RejectedSnapshots::Undated`] with
    /// this subject: the length of a snapshot that could not be decoded, an ID, or a day after
    /// `today`. No observation of this release has such a subject, so none would end one that is
    /// open.
    pub fn is_former(&self, today: Day) -> bool {
        match self {
            Self::Accepted(_) | Self::Rejected(_) => false,
            Self::Day(day) => *day > today,
            _ => true,
        }
    }
}

impl fmt::Display for ObservationSubject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Severity, *};

    const TEXTS: [&str; 14] = [
        "2026-11-22",
        "20261122",
        "2026-13-01",
        NEWEST,
        "secureScores",
        "secureScoreControlProfiles",
        "snapshots without a usable day",
        "further snapshots",
        RETRIED_POLLS,
        "permission",
        CATALOG,
        CREDENTIAL,
        "siem",
        "",
    ];

    #[test]
    fn every_text_survives_a_round_trip() {
        for what in ObservationKind::ALL {
            for text in TEXTS {
                let subject = ObservationSubject::parse(what, text.to_owned());
                assert_eq!(subject.text(), text, "{what:?}: {subject:?}");
            }
        }
    }

    #[test]
    fn texts_are_subjects_of_their_kind() {
        use ObservationKind::{
            CatalogStale, CredentialExpiring, DeadLetter, ForeignTenant, Gap, Implausible, Partial,
            PollFailed, Stale,
        };

        let day = Day::parse("2026-11-22").unwrap();
        let subject = |what, text: &str| ObservationSubject::parse(what, text.to_owned());
        for what in [Gap, Partial, Implausible, ForeignTenant] {
            assert_eq!(subject(what, "2026-11-22"), ObservationSubject::Day(day), "{what:?}");
        }
        for data in [AcceptedData::Scores, AcceptedData::Catalog] {
            let expected = ObservationSubject::Accepted(data);
            assert_eq!(subject(Implausible, data.as_str()), expected);
        }
        for snapshots in [RejectedSnapshots::Undated, RejectedSnapshots::Further] {
            let expected = ObservationSubject::Rejected(snapshots);
            assert_eq!(subject(ForeignTenant, snapshots.as_str()), expected);
        }
        assert_eq!(subject(Stale, "newest"), ObservationSubject::Newest);
        assert_eq!(subject(CatalogStale, "catalog"), ObservationSubject::Catalog);
        assert_eq!(subject(CredentialExpiring, "credential"), ObservationSubject::Credential);
        assert_eq!(subject(PollFailed, "poll"), ObservationSubject::RetriedPolls);

        let failed = ObservationSubject::FailedPolls(PollErrorClass::Credential);
        assert_eq!(subject(PollFailed, "credential"), failed);
        // Any text is the name of a sink.
        assert!(subject(DeadLetter, "2026-11-22").is_sink(&"2026-11-22".into()));
        assert!(!subject(Gap, "siem").is_sink(&"siem".into()));
    }

    /// Regression: a rejected secret was an error on the status page, and a problem of medium
    /// severity in a chat.
    #[test]
    fn failures_for_an_operator_have_high_severity() {
        for class in PollErrorClass::ALL {
            let subject = ObservationSubject::of_failed_poll(class);
            assert!(ObservationSubject::OF_FAILED_POLLS.contains(&subject), "{class:?}");
            let stored =
                ObservationSubject::parse(ObservationKind::PollFailed, subject.to_string());
            assert_eq!(stored, subject, "{class:?}");

            let expected = if class.needs_operator() { Severity::High } else { Severity::Medium };
            let severity = ObservationKind::PollFailed.severity(Some(&subject));
            assert_eq!(severity, expected, "{class:?}");
        }
    }
}
