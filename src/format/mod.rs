//! Formats a record as bytes, one file per format.
//!
//! Formatting is a pure function of the record and the options. A formatter caches the parts that
//! are the same for a control on every day, or for all records of an entry, and renders them only
//! once. The cache must never change the output: a test compares it byte for byte with a reference
//! formatter that caches nothing. Start with [`Formatter`].
//!
//! This table lists the field of each format for each part of a record:
//!
//! | record | JSON | CEF | LEEF | ECS | OCSF | CSV | CloudEvents |
//! |---|---|---|---|---|---|---|---|
//! | `event_id` | `event_id` | `externalId` | `recordId` | `event.id` | `metadata.uid` | `event_id` | `id` |
//! | `time` | `time` | `deviceCustomDate1`, label `snapshotTime` | `snapshotTime` | `@timestamp` | `metadata.original_time` | `time` | `time` |
//! | `observed_time` | `observed_time` | `rt` | `devTime` | `event.created` | `time` | `observed_time` | `data.observed_time` |
//! | kind | `kind` | class ID: `ControlSnapshot`, `TenantScore`, `Control…` by kind of change, `DataQuality` | event ID, as in CEF; `kind` | `event.dataset` | `unmapped.kind` | `kind` | `type` |
//! | tenant ID | `tenant.id` | `deviceExternalId` | `resource` | `organization.id` | `metadata.tenant_uid` | `tenant_id` | `source` |
//! | tenant name | `tenant.name` | `cs6` | `domain` | `organization.name` | `resources[0].name` | `tenant_name` | `data` |
//! | labels | `tenant.labels` | `cs6` | `label…` | `labels` | `resources[0].labels` | none | `data` |
//! | severity | none | header | `sev` | `event.severity` | `severity_id` | `severity` | none |
//! | `replayed` | `replayed` | `cs6` | `replayed` | `microsoft.secure_score.replayed` | `unmapped.replayed` | `replayed` | `data` |
//! | `change.what`, `quality.what` | `change.what` | `act` | `what` | `event.action` | `compliance.status_detail` | `what` | `data` |
//! | cause | `change.cause` | `flexString2` | `cause` | `microsoft.secure_score.change.cause` | `unmapped.change.cause` | `cause` | `data` |
//! | before, after | `change.before`, `.after` | `cs6`; after in `cfp1` to `cfp3` | `score`, `maxScore`; `change` | `microsoft.secure_score.change` | `unmapped.change` | `before`, `after` | `data` |
//! | delta | `change.delta` | `cfp4` | `scoreDelta` | `microsoft.secure_score.change.delta` | `unmapped.change.delta` | `delta` | `data` |
//! | author of a decision | `change.after.state_updated_by` | `suser` | `usrName` | `user.name` | `unmapped.change.after` | `state_updated_by` | `data` |
//! | hint of an observation | `quality.hint` | `cs6` | `hint` | `microsoft.secure_score.quality.hint` | `remediation.desc`, `unmapped.quality.hint` | `hint` | `data` |
//! | `extra_fields` | `fields` | `cs6` | `field…` | `labels` | `unmapped.fields` | none | `data` |
//!
//! `tests/it/readers.rs` checks the table with readers of each format.

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

pub use cef::{Cef, CefHeader, write_extension, write_header};
pub use change::{change_sentence, quality_sentence};
pub use class::sentence;
pub use cloudevents::CloudEvents;
pub use csv::{COLUMNS, Csv};
pub use ecs::Ecs;
pub use json::Json;
pub use leef::{AttributePosition, Leef, LeefHeader, write_leef_attribute, write_leef_header};
pub use ocsf::Ocsf;
pub use rfc5424::{Sd, SyslogHeader, SyslogTag, write_message, write_message_3164};
pub use severity::{cef_severity, syslog_severity};
pub use shorten::shorten;
pub use text::{cut, json_string, plain};

use crate::model::Record;

/// How much of Microsoft's descriptions and remediation texts a record includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// No descriptions and no remediation texts.
    None,
    /// Each text without its HTML, cut to [`SHORT_TEXT`] characters.
    Short,
    /// Each text unchanged, including its HTML.
    Full,
}

/// The maximum number of characters of a text with `texts = "short"`.
pub const SHORT_TEXT: usize = 256;

/// The formats, as `format` in the configuration names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatName {
    /// The canonical record, one JSON object per line.
    Json,
    /// ArcSight Common Event Format.
    Cef,
    /// LEEF with a header of version 1.0.
    Leef,
    /// LEEF with a header of version 2.0; the attributes are the same.
    Leef2,
    /// Elastic Common Schema, one JSON object per line.
    Ecs,
    /// Open Cybersecurity Schema Framework, one JSON object per line.
    Ocsf,
    /// Comma-separated values; the columns are [`COLUMNS`].
    Csv,
    /// CloudEvents in the structured JSON mode; `data` is the canonical record.
    CloudEvents,
}

/// The settings of a formatter.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much of Microsoft's texts records include.
    pub texts: Texts,
    /// The name of the collector host that records contain.
    pub host: String,
    /// `extra_fields`: names and values that the operator adds to every record.
    pub fields: Vec<(String, String)>,
}

/// A formatter of one format, with its cache.
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
    /// All formats; the last one has a header line.
    pub const ALL: [Self; 8] = [
        Self::Json,
        Self::Cef,
        Self::Leef,
        Self::Leef2,
        Self::Ocsf,
        Self::Ecs,
        Self::CloudEvents,
        Self::Csv,
    ];

    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cef => "cef",
            Self::Leef => "leef",
            Self::Leef2 => "leef2",
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
            Self::Csv => "csv",
            Self::CloudEvents => "cloudevents",
        }
    }

    /// The format with this name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// Whether [`shorten()`] supports the format: a record without its last fields is still valid.
    pub fn can_be_shortened(self) -> bool {
        matches!(self, Self::Cef | Self::Leef | Self::Leef2)
    }

    /// Whether a record is one JSON object.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Ecs | Self::Ocsf | Self::CloudEvents)
    }

    /// The file name extension for records of this format, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json | Self::Ecs | Self::Ocsf | Self::CloudEvents => "jsonl",
            Self::Cef | Self::Leef | Self::Leef2 => "log",
        }
    }

    /// The first line of a file of such records, without a newline, if the format has a header
    /// line.
    pub fn header_line(self) -> Option<String> {
        (self == Self::Csv).then(|| COLUMNS.join(","))
    }

    /// The default of `texts` for this format. Receivers of CEF and LEEF limit the size of a
    /// record, and few SIEMs store the data that exceeds it.
    pub fn default_texts(self) -> Texts {
        match self {
            Self::Cef | Self::Leef | Self::Leef2 => Texts::None,
            _ => Texts::Short,
        }
    }
}

impl Texts {
    /// All values.
    pub const ALL: [Self; 3] = [Self::None, Self::Short, Self::Full];

    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Short => "short",
            Self::Full => "full",
        }
    }

    /// The value with this name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|texts| texts.as_str() == name)
    }
}

impl Formatter {
    /// A formatter with an empty cache.
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

    /// Appends the record as one line, without a trailing newline.
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

#[cfg(test)]
mod tests;
