//! How a record is written. Pure: a record in, bytes appended; one file a format.
//!
//! What stands where, for every kind of record and in every format:
//!
//! | record | JSON | CEF | LEEF | ECS | OCSF | CSV | CloudEvents |
//! |---|---|---|---|---|---|---|---|
//! | `event_id` | `event_id` | `externalId` | `recordId` | `event.id` | `metadata.uid` | `event_id` | `id` |
//! | `time` | `time` | `deviceCustomDate1`, label `snapshotTime` | `snapshotTime` | `@timestamp` | `metadata.original_time` | `time` | `time` |
//! | `observed_time` | `observed_time` | `rt` | `devTime` | `event.created` | `time` | `observed_time` | `data.observed_time` |
//! | kind | `kind` | class id: `ControlSnapshot`, `TenantScore`, `Control…` by what has changed, `DataQuality` | event id, as CEF; `kind` | `event.dataset` | `unmapped.kind` | `kind` | `type` |
//! | tenant id | `tenant.id` | `deviceExternalId` | `resource` | `organization.id` | `metadata.tenant_uid` | `tenant_id` | `source` |
//! | tenant name | `tenant.name` | `cs6` | `domain` | `organization.name` | `resources[0].name` | `tenant_name` | `data` |
//! | labels | `tenant.labels` | `cs6` | `label…` | `labels` | `resources[0].labels` | no | `data` |
//! | severity | no | header | `sev` | `event.severity` | `severity_id` | `severity` | no |
//! | `replayed` | `replayed` | `cs6` | `replayed` | `microsoft.secure_score.replayed` | `unmapped.replayed` | `replayed` | `data` |
//! | `change.what`, `quality.what` | `change.what` | `act` | `what` | `event.action` | `status_detail` | `what` | `data` |
//! | cause | `change.cause` | `flexString2` | `cause` | `microsoft.secure_score.change.cause` | `unmapped.change.cause` | `cause` | `data` |
//! | before, after | `change.before`, `.after` | `cs6`; after in `cfp1` to `cfp3` | `score`, `maxScore`; `change` | `microsoft.secure_score.change` | `unmapped.change` | `before`, `after` | `data` |
//! | delta | `change.delta` | `cfp4` | `scoreDelta` | `microsoft.secure_score.change.delta` | `unmapped.change.delta` | `delta` | `data` |
//! | decided by | `change.after.state_updated_by` | `suser` | `usrName` | `user.name` | `unmapped.change.after` | `state_updated_by` | `data` |
//! | `extra_fields` | `fields` | `cs6` | `field…` | `labels` | `unmapped.fields` | no | `data` |
//!
//! `time` is the day for control and summary, the time of observation for change and quality, the
//! day where a change is historical.
//!
//! `tests/it/readers.rs` holds each cell to it.
//!
//! A formatter keeps what is the same for a control on every day, and for every record of an
//! entry, so that each is rendered once. What it writes does not depend on what it kept: the
//! tests hold it, byte for byte, to a plain formatter that keeps nothing.

mod cache;
mod cef;
mod change;
mod class;
mod cloudevents;
mod csv;
mod ecs;
mod json;
mod leef;
mod members;
mod ocsf;
mod rfc5424;
mod severity;
mod shorten;
mod text;

pub use cef::{Cef, Header as CefHeader, write_extension, write_header};
pub use change::{change_sentence, quality_sentence};
pub use cloudevents::CloudEvents;
pub use csv::{COLUMNS, Csv, csv_cell};
pub use ecs::Ecs;
pub use json::Json;
pub use leef::{Leef, LeefHeader, write_leef_attribute, write_leef_header};
pub use ocsf::Ocsf;
pub use rfc5424::{Header as SyslogHeader, Sd, write_message, write_message_3164};
pub use severity::{cef_severity, syslog_severity};
pub use shorten::shorten;
pub use text::{cut, json_string, plain};

use crate::model::Record;

/// How much of Microsoft's prose goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// No descriptions, no remediation.
    None,
    /// As plain text, at most [`SHORT_TEXT`] characters each.
    Short,
    /// As sent, HTML and all.
    Full,
}

/// Characters that `texts = "short"` leaves of a text.
pub const SHORT_TEXT: usize = 256;

/// The formats that this version writes, by their name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatName {
    Json,
    Cef,
    Leef,
    Leef2,
    Ecs,
    Ocsf,
    Csv,
    CloudEvents,
}

/// What a formatter has to know beside the record.
#[derive(Clone, Debug)]
pub struct Options {
    pub texts: Texts,
    /// The collector host, as the receivers should see it.
    pub host: String,
    /// Names and texts of the operator's own, for every record.
    pub fields: Vec<(String, String)>,
}

/// A formatter, with what it has rendered so far.
#[derive(Debug)]
pub enum Formatter {
    Json(Json),
    Cef(Cef),
    Leef(Leef),
    Ecs(Ecs),
    Ocsf(Ocsf),
    Csv(Csv),
    CloudEvents(CloudEvents),
}

impl FormatName {
    pub const ALL: [(&'static str, Self); 8] = [
        ("json", Self::Json),
        ("cef", Self::Cef),
        ("leef", Self::Leef),
        ("leef2", Self::Leef2),
        ("ecs", Self::Ecs),
        ("ocsf", Self::Ocsf),
        ("csv", Self::Csv),
        ("cloudevents", Self::CloudEvents),
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    /// Whether a record can lose its end and still be read.
    pub fn can_be_shortened(self) -> bool {
        matches!(self, Self::Cef | Self::Leef | Self::Leef2)
    }

    /// Whether a record is one JSON object.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Ecs | Self::Ocsf | Self::CloudEvents)
    }

    /// How the names of files of such records end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json | Self::Ecs | Self::Ocsf | Self::CloudEvents => "jsonl",
            Self::Cef | Self::Leef | Self::Leef2 => "log",
        }
    }

    /// The line that a file of such records begins with.
    pub fn heading(self) -> Option<String> {
        (self == Self::Csv).then(|| COLUMNS.join(","))
    }

    /// CEF and LEEF have little budget, and few SIEMs keep what goes beyond it.
    pub fn default_texts(self) -> Texts {
        match self {
            Self::Cef | Self::Leef | Self::Leef2 => Texts::None,
            _ => Texts::Short,
        }
    }
}

impl Texts {
    pub const NAMES: [&'static str; 3] = ["none", "short", "full"];

    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "short" => Some(Self::Short),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

impl Formatter {
    pub fn new(format: FormatName, options: Options) -> Self {
        match format {
            FormatName::Json => Self::Json(Json::new(options)),
            FormatName::Cef => Self::Cef(Cef::new(options)),
            FormatName::Leef => Self::Leef(Leef::new(options, LeefHeader::V1)),
            FormatName::Leef2 => Self::Leef(Leef::new(options, LeefHeader::V2)),
            FormatName::Ecs => Self::Ecs(Ecs::new(options)),
            FormatName::Ocsf => Self::Ocsf(Ocsf::new(options)),
            FormatName::Csv => Self::Csv(Csv::new(options)),
            FormatName::CloudEvents => Self::CloudEvents(CloudEvents::new(options)),
        }
    }

    /// Appends the record, on one line, without a line end.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json(json) => json.write(record, out),
            Self::Cef(cef) => cef.write(record, out),
            Self::Leef(leef) => leef.write(record, out),
            Self::Ecs(ecs) => ecs.write(record, out),
            Self::Ocsf(ocsf) => ocsf.write(record, out),
            Self::Csv(csv) => csv.write(record, out),
            Self::CloudEvents(events) => events.write(record, out),
        }
    }
}
