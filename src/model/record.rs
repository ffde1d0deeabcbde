//! The one thing that is streamed. Every format is a way to write this.

use std::borrow::Cow;

use super::{
    Additional, Average, ChangeRecord, Day, EventId, Number, ProfileSlot, QualityRecord,
    StateUpdate, Tenant,
};

/// The name and version of the canonical record, as its `schema` field says it.
pub const SCHEMA: &str = "secure-score-forwarder/1";

/// The kinds of record, as `kind` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Control,
    Summary,
    Change,
    Quality,
}

#[derive(Debug)]
pub struct Record<'a> {
    pub event_id: EventId,
    /// When the poll read it (RFC 3339, UTC); stored, never the time of delivery.
    pub observed_time: &'a str,
    /// The same in milliseconds since 1970-01-01.
    pub observed_ms: i64,
    /// `time`, in milliseconds since 1970-01-01: the day for control and summary; for change and
    /// quality when it was observed, or the day where that was long before.
    pub time_ms: i64,
    pub tenant: &'a Tenant,
    /// Of an observation only `day` (its first) and `seq` are true.
    pub snapshot: &'a SnapshotRef,
    /// Sent once more, because somebody asked.
    pub replayed: bool,
    pub body: Body<'a>,
}

#[derive(Debug)]
pub enum Body<'a> {
    Control(ControlRecord<'a>),
    Summary(SummaryRecord<'a>),
    Change(Box<ChangeRecord<'a>>),
    Quality(QualityRecord<'a>),
}

/// The entry that a record comes from.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own in the log")]
pub struct SnapshotRef {
    pub id: String,
    pub day: Day,
    pub revision: u32,
    pub seq: u64,
    /// Taken after a newer day had been.
    pub late: bool,
    /// Read back from history, where Microsoft's copy is poorer.
    pub backfilled: bool,
    pub partial: bool,
    /// From a saved answer.
    pub imported: bool,
}

#[derive(Debug)]
pub struct ControlRecord<'a> {
    pub id: &'a str,
    pub category: Option<&'a str>,
    pub description: Option<&'a str>,
    pub score: Option<Number>,
    pub max_score: Option<(Number, MaxScoreSource)>,
    pub percentage: Option<Number>,
    pub implementation_status: Option<&'a str>,
    pub count: Option<Number>,
    pub total: Option<Number>,
    pub on: Option<bool>,
    pub last_synced: Option<&'a str>,
    pub profile: Option<&'a ProfileSlot>,
    pub decision: Option<&'a StateUpdate>,
    pub additional: &'a Additional<'a>,
}

/// Where a control's maximum comes from, for scores carry none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxScoreSource {
    /// The score itself, as the original API sends it.
    Snapshot,
    /// Read with the day.
    Catalog,
    /// Score x 100 / percentage, for a day whose catalog nobody kept.
    Percentage,
}

/// What a control's score amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Partial,
    Fail,
    NotApplicable,
    /// The tenant accepted the risk.
    Accepted,
}

#[derive(Debug)]
pub struct SummaryRecord<'a> {
    pub current: Option<Number>,
    pub max: Option<Number>,
    pub percentage: Option<Number>,
    pub sum_of_controls: Number,
    /// Points attained by category, in the order of the names.
    pub categories: Vec<(Cow<'a, str>, Number)>,
    pub active_users: Option<Number>,
    pub licensed_users: Option<Number>,
    pub enabled_services: &'a [Cow<'a, str>],
    pub averages: Vec<&'a Average<'a>>,
    /// Controls that the day has.
    pub controls_total: u32,
    /// Records of this entry that this sink was given, the summary included.
    pub records_sent: u32,
    pub additional: &'a Additional<'a>,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Control, Self::Summary, Self::Change, Self::Quality];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Summary => "summary",
            Self::Change => "change",
            Self::Quality => "quality",
        }
    }
}

impl Record<'_> {
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Control(_) => Kind::Control,
            Body::Summary(_) => Kind::Summary,
            Body::Change(_) => Kind::Change,
            Body::Quality(_) => Kind::Quality,
        }
    }

    /// The control's id; empty for a summary and for an observation.
    pub fn control_id(&self) -> &str {
        match &self.body {
            Body::Control(control) => control.id,
            Body::Change(change) => change.change.control,
            Body::Summary(_) | Body::Quality(_) => "",
        }
    }

    /// `time` as RFC 3339 in UTC, to the second where it is one.
    pub fn time(&self) -> String {
        if self.time_ms == self.snapshot.day.epoch_ms() {
            return format!("{}T00:00:00Z", self.snapshot.day);
        }
        if self.time_ms == self.observed_ms {
            return self.observed_time.to_owned();
        }
        jiff::Timestamp::from_millisecond(self.time_ms).map(|at| at.to_string()).unwrap_or_default()
    }
}

impl SnapshotRef {
    /// What stands for the snapshot that an observation is not of.
    pub fn of_observation(first_day: Day, seq: u64) -> Self {
        Self {
            id: String::new(),
            day: first_day,
            revision: 0,
            seq,
            late: false,
            backfilled: false,
            partial: false,
            imported: false,
        }
    }

    /// Nobody was looking when it happened.
    pub fn is_historical(&self) -> bool {
        self.backfilled || self.imported
    }
}

impl ControlRecord<'_> {
    /// `None` where the facts do not say.
    pub fn outcome(&self) -> Option<Outcome> {
        if self.state() == Some("Ignored") {
            return Some(Outcome::Accepted);
        }
        let (score, (max, _)) = (self.score?, self.max_score?);
        Some(match (score, max) {
            (_, max) if max <= Number::ZERO => Outcome::NotApplicable,
            (score, max) if score >= max => Outcome::Pass,
            (score, _) if score <= Number::ZERO => Outcome::Fail,
            _ => Outcome::Partial,
        })
    }

    pub fn state(&self) -> Option<&str> {
        self.decision?.state.as_deref()
    }

    pub fn deprecated(&self) -> bool {
        self.profile.is_some_and(|p| p.profile.deprecated == Some(true))
    }

    /// The profile's title, else the id: the name that people know the control by.
    pub fn title(&self) -> &str {
        let title = self.profile.and_then(|p| p.profile.title.as_deref()).map(str::trim);
        title.filter(|t| !t.is_empty()).unwrap_or(self.id)
    }
}

impl MaxScoreSource {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Catalog => "catalog",
            Self::Percentage => "percentage",
        }
    }
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Partial => "partial",
            Self::Fail => "fail",
            Self::NotApplicable => "not_applicable",
            Self::Accepted => "accepted",
        }
    }
}
