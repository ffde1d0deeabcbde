//! Records: what sinks send.
//!
//! [`crate::derive`] makes them from entries of the log, and every format in [`crate::format`]
//! writes the same record. `record.schema.json` describes its canonical JSON. See decision 0040.

use std::borrow::Cow;

use super::{
    Additional, Average, ChangeRecord, Day, DecisionState, EventId, Number, ProfileSlot,
    QualityRecord, Seq, StateUpdate, Tenant, UnixMillis,
};

/// The name and version of the canonical record: the value of its `schema` field.
pub const SCHEMA: &str = "secure-score-forwarder/1";

/// The kinds of record: the values of the `kind` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The score of one control on one day.
    Control,
    /// The totals of one day.
    Summary,
    /// How one control differs from its base.
    Change,
    /// The begin or the end of an observation.
    Quality,
}

/// A record: the envelope that all kinds share, and the body of its kind.
#[derive(Debug)]
pub struct Record<'a> {
    /// The identifier, which is the same in every sink and after a replay.
    pub event_id: EventId,
    /// When the poll read the entry, as RFC 3339 in UTC. It is stored with the entry and is never
    /// the time of delivery.
    pub observed_time: &'a str,
    /// The same time as `observed_time`.
    pub observed_at: UnixMillis,
    /// The `time` field. For control and summary this is the start of the day; for change and
    /// quality it is `observed_at` or, for a historical change, the start of the day on which it
    /// happened.
    pub time: UnixMillis,
    /// The tenant with the name and the labels of the current configuration.
    pub tenant: &'a Tenant,
    /// The entry from which the record is derived. For an observation, only `day`, which is its
    /// first day, and `seq` are meaningful.
    pub snapshot: &'a SnapshotRef,
    /// Whether the record is sent again by a replay.
    pub replayed: bool,
    /// The fields of its kind.
    pub body: Body<'a>,
}

/// The content of a record, by kind.
#[derive(Debug)]
pub enum Body<'a> {
    Control(ControlRecord<'a>),
    Summary(SummaryRecord<'a>),
    Change(Box<ChangeRecord<'a>>),
    Quality(QualityRecord<'a>),
}

/// The entry from which a record is derived.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent flag of the entry")]
pub struct SnapshotRef {
    /// The `id` of Microsoft's snapshot; empty for an observation.
    pub id: String,
    /// The UTC date of the snapshot.
    pub day: Day,
    /// The revision of the day, starting at 1; 0 for an observation.
    pub revision: u32,
    /// The number of the entry in the tenant's log, starting at 1.
    pub seq: Seq,
    /// Whether the day was accepted after a later day was already in the log.
    pub late: bool,
    /// Whether the day is older than the newest days that a poll reads; Microsoft's copy of such a
    /// day is poorer.
    pub backfilled: bool,
    /// Whether the response or the catalog was incomplete.
    pub partial: bool,
    /// Whether the snapshot was read from an imported file.
    pub imported: bool,
}

/// The body of a `control` record: the score of a control, joined with its profile and decision.
#[derive(Debug)]
pub struct ControlRecord<'a> {
    /// The ID of the control.
    pub id: &'a str,
    /// The category from the snapshot or, if it has none, from the profile.
    pub category: Option<&'a str>,
    /// Microsoft's description, which can contain HTML; only the newest day has one.
    pub description: Option<&'a str>,
    /// Points.
    pub score: Option<Number>,
    /// The maximum number of points and its origin; `None` if it cannot be determined.
    pub max_score: Option<(Number, MaxScoreSource)>,
    /// 0 to 100.
    pub percentage: Option<Number>,
    /// An English sentence of Microsoft; see [`super::ControlScore::implementation_status`].
    pub implementation_status: Option<&'a str>,
    /// Users or devices that satisfy the control.
    pub count: Option<Number>,
    /// Users or devices in the scope of the control.
    pub total: Option<Number>,
    /// Whether the setting is on, for a control that has no count.
    pub on: Option<bool>,
    /// When Microsoft evaluated the control, as sent.
    pub last_synced: Option<&'a str>,
    /// The profile; `None` if the catalog does not contain the control.
    pub profile: Option<&'a ProfileSlot>,
    /// The decision in force; `None` if there is none.
    pub decision: Option<&'a StateUpdate>,
    /// Undocumented fields of the control.
    pub additional: &'a Additional<'a>,
}

/// The origin of a control's maximum score, which Microsoft's snapshots do not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxScoreSource {
    /// The control in the snapshot; only the original API sends it.
    Snapshot,
    /// The catalog that was read with the day.
    Catalog,
    /// Score × 100 / percentage, for a backfilled day or a control that the catalog does not
    /// contain.
    Percentage,
}

/// The result of a control, from its score and maximum score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlOutcome {
    /// The score is the maximum score.
    Pass,
    /// The score is between zero and the maximum score.
    Partial,
    /// The score is zero.
    Fail,
    /// The maximum score is zero.
    NotApplicable,
    /// The tenant accepted the risk.
    Accepted,
}

/// The body of a `summary` record: the totals of a day.
#[derive(Debug)]
pub struct SummaryRecord<'a> {
    /// The points of the tenant.
    pub current: Option<Number>,
    /// The maximum number of points.
    pub max: Option<Number>,
    /// Current score × 100 / maximum score.
    pub percentage: Option<Number>,
    /// The sum of the scores of all controls.
    pub sum_of_controls: Number,
    /// Points by category, sorted by the name of the category.
    pub categories: Vec<(Cow<'a, str>, Number)>,
    /// The number of active users.
    pub active_users: Option<Number>,
    /// The number of licensed users.
    pub licensed_users: Option<Number>,
    /// The services that the tenant's licenses include, such as `HasEXOP2`, as sent.
    pub enabled_services: &'a [Cow<'a, str>],
    /// The averages of peers.
    pub averages: Vec<&'a Average<'a>>,
    /// The number of controls of the day.
    pub controls_total: u32,
    /// The number of records of this entry that the sink is given, including the summary.
    pub records_sent: u32,
    /// Undocumented fields of the snapshot.
    pub additional: &'a Additional<'a>,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Control, Self::Summary, Self::Change, Self::Quality];

    /// The value of `kind` in a record. It must never change.
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
    /// The kind of the body.
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Control(_) => Kind::Control,
            Body::Summary(_) => Kind::Summary,
            Body::Change(_) => Kind::Change,
            Body::Quality(_) => Kind::Quality,
        }
    }

    /// The ID of the control; empty for a summary and for an observation.
    pub fn control_id(&self) -> &str {
        match &self.body {
            Body::Control(control) => control.id,
            Body::Change(change) => change.change.control,
            Body::Summary(_) | Body::Quality(_) => "",
        }
    }

    /// The `time` field as RFC 3339 in UTC.
    pub fn time_text(&self) -> String {
        if self.time == self.snapshot.day.start() {
            return format!("{}T00:00:00Z", self.snapshot.day);
        }
        if self.time == self.observed_at {
            return self.observed_time.to_owned();
        }
        jiff::Timestamp::from(self.time).to_string()
    }
}

impl SnapshotRef {
    /// The reference of an observation, which does not belong to a snapshot.
    pub fn of_observation(first_day: Day, seq: Seq) -> Self {
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

    /// Whether changes of this day were not observed when they happened.
    pub fn is_historical(&self) -> bool {
        self.backfilled || self.imported
    }
}

impl ControlRecord<'_> {
    /// The result; `None` if the score or the maximum score is absent.
    pub fn outcome(&self) -> Option<ControlOutcome> {
        if self.known_state() == Some(DecisionState::Ignored) {
            return Some(ControlOutcome::Accepted);
        }

        let (score, (max, _)) = (self.score?, self.max_score?);
        Some(match (score, max) {
            (_, max) if max <= Number::ZERO => ControlOutcome::NotApplicable,
            (score, max) if score >= max => ControlOutcome::Pass,
            (score, _) if score <= Number::ZERO => ControlOutcome::Fail,
            _ => ControlOutcome::Partial,
        })
    }

    /// The state of the decision in force, as Microsoft sent it.
    pub fn state(&self) -> Option<&str> {
        self.decision?.state.as_deref()
    }

    /// The state of the decision in force; `None` if it is not a documented one.
    pub fn known_state(&self) -> Option<DecisionState> {
        self.decision?.known_state()
    }

    /// Whether the profile is marked as deprecated; `false` without a profile.
    pub fn deprecated(&self) -> bool {
        self.profile.is_some_and(|p| p.profile.deprecated == Some(true))
    }

    /// The title of the profile, or the ID of the control if there is none.
    pub fn title(&self) -> &str {
        let title = self.profile.and_then(|p| p.profile.title.as_deref()).map(str::trim);
        title.filter(|t| !t.is_empty()).unwrap_or(self.id)
    }
}

impl MaxScoreSource {
    /// The value of `control.max_score_source` in a record. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Catalog => "catalog",
            Self::Percentage => "percentage",
        }
    }
}

impl ControlOutcome {
    /// The name in every format that contains the outcome. It must never change.
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
