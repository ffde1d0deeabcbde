//! How a record is written. Pure: a record in, bytes appended; one file a format.
//!
//! What stands where, in every format:
//!
//! | record | JSON | CEF |
//! |---|---|---|
//! | `event_id` | `event_id` | `externalId` |
//! | `time` (the day) | `time` | `deviceCustomDate1`, label `snapshotTime` |
//! | `observed_time` | `observed_time` | `rt` |
//! | kind | `kind` | class id: `ControlSnapshot`, `TenantScore` |
//! | tenant id, name, labels | `tenant` | `deviceExternalId`; name and labels in `cs6` |
//!
//! A formatter keeps what is the same for a control on every day, and for every record of an
//! entry, so that each is rendered once. What it writes does not depend on what it kept: the
//! tests hold it, byte for byte, to a plain formatter that keeps nothing.

mod cache;
mod cef;
mod json;
mod rfc5424;
mod severity;
mod shorten;
mod text;

pub use cef::{Cef, Header as CefHeader, write_extension, write_header};
pub use json::Json;
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
}

/// What a formatter has to know beside the record.
#[derive(Clone, Debug)]
pub struct Options {
    pub texts: Texts,
    /// The collector host, as the receivers should see it.
    pub host: String,
}

/// A formatter, with what it has rendered so far.
#[derive(Debug)]
pub enum Formatter {
    Json(Json),
    Cef(Cef),
}

impl FormatName {
    pub const ALL: [(&'static str, Self); 2] = [("json", Self::Json), ("cef", Self::Cef)];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    /// Whether a record can lose its end and still be read.
    pub fn can_be_shortened(self) -> bool {
        matches!(self, Self::Cef)
    }

    /// CEF has little room, and few SIEMs keep what goes beyond it.
    pub fn default_texts(self) -> Texts {
        match self {
            Self::Json => Texts::Short,
            Self::Cef => Texts::None,
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
        }
    }

    /// Appends the record, on one line, without a line end.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json(json) => json.write(record, out),
            Self::Cef(cef) => cef.write(record, out),
        }
    }
}
