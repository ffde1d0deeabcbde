//! The configuration of a sink with `type = "syslog"`. Reading a section opens no connection and
//! reads no certificate; faults are added to the section.

use std::{fmt, path::PathBuf, str::FromStr};

use syslog::Facility;

use super::service::{open, probe};
use crate::{
    format::{FormatName, SyslogTag},
    settings::{Key, Section, Shape, optional, required},
    sink::{
        BoxFuture, Context, FORMAT, Failure, Limits, Plan, Sink, read_format,
        web::{CA_FILE, CLIENT_CERTIFICATE, CLIENT_KEY, read_client_certificate},
    },
};

/// The keys of this sink, besides those of all sinks.
pub(in crate::sink) const KEYS: &[Key] = &[
    required(
        "address",
        Shape::Text,
        "The receiver: tcp://, tls://, relp://, relps:// or udp:// with host:port, or unix:///path.",
    ),
    Key { doc: "The format of a record; default: cef.", ..FORMAT },
    optional(
        "message",
        Shape::OneOf(&["rfc5424", "rfc3164"]),
        "The standard of the message header; default: rfc5424.",
    ),
    optional(
        "framing",
        Shape::OneOf(&["octet-counting", "newline"]),
        "How messages are delimited over TCP and TLS (RFC 6587); default: octet-counting.",
    ),
    optional(
        "facility",
        Shape::Text,
        "The facility: `local0` to `local7`, `daemon`, `audit`, …; default: `local0`.",
    ),
    optional("app_name", Shape::Text, "The APP-NAME of every message; default: `secure-score`."),
    optional(
        "bom",
        Shape::Bool,
        "With rfc5424: begins each message with a byte order mark, which declares UTF-8; default: false.",
    ),
    optional(
        "structured_data",
        Shape::Text,
        "With rfc5424: adds an element with event_id and tenant under this SD-ID, such as `score@12345`, where 12345 is your private enterprise number.",
    ),
    optional(
        "timestamp",
        Shape::OneOf(&["local", "utc", "rfc3339"]),
        "With rfc3164: the form of the time in the header. `local` and `utc` contain no time zone; default: local.",
    ),
    optional(
        "tag",
        Shape::Bool,
        "With rfc3164: writes `app_name:` before the message. ArcSight expects CEF without it; default: true.",
    ),
    optional(
        "max_message",
        Shape::Size,
        "The maximum size of a message that the receiver accepts; default: 8KiB, or 1400B over UDP.",
    ),
    optional(
        "oversize",
        Shape::OneOf(&["reject", "truncate"]),
        "What happens to a message that is larger than `max_message`: `reject` makes it a dead letter; `truncate`, for CEF and LEEF only, shortens and marks it; default: reject.",
    ),
    optional(
        "window",
        Shape::Integer { min: 1, max: 100_000 },
        "RELP: the maximum number of unacknowledged messages; default: 128.",
    ),
    optional(
        "replay_on_reconnect",
        Shape::Integer { min: 0, max: 1_000_000 },
        "TCP and TLS: the number of confirmed records that are sent again after a lost connection; default: 1000.",
    ),
    optional(
        "lossy",
        Shape::Bool,
        "UDP: must be set to true, to accept that messages can be lost unnoticed.",
    ),
    optional(
        "server_name",
        Shape::Text,
        "The name in the server's certificate; default: the host of `address`.",
    ),
    CA_FILE,
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
];

/// A validated syslog section.
#[derive(Clone, Debug)]
pub(super) struct SyslogPlan {
    /// The receiver and its transport.
    pub target: Target,
    pub format: FormatName,
    /// The form of the message header.
    pub header: Header,
    /// Whether stream messages end with a newline, instead of beginning with their length.
    pub newline: bool,
    pub facility: Facility,
    /// APP-NAME of RFC 5424, or TAG of RFC 3164.
    pub app_name: String,
    /// The maximum number of bytes of a message, without the framing.
    pub max_message: usize,
    /// What happens to a longer message.
    pub oversize: Oversize,
    /// The maximum number of unacknowledged messages of a RELP session.
    pub window: usize,
    /// The number of confirmed records that are sent again after a lost connection.
    pub replay_on_reconnect: usize,
}

/// The receiver. An `address` is `host:port`.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// One datagram per message, which can be lost unnoticed.
    Udp { address: String },
    /// A TCP connection, with TLS if `tls` is set.
    Stream { address: String, tls: Option<Tls> },
    /// A RELP session over TCP, with TLS if `tls` is set.
    Relp { address: String, tls: Option<Tls> },
    /// The socket of the local syslog daemon.
    Unix { path: PathBuf },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { address } | Self::Stream { address, .. } | Self::Relp { address, .. } => {
                f.write_str(address)
            }
            Self::Unix { path } => path.display().fmt(f),
        }
    }
}

/// The message header, by its standard.
#[derive(Clone, Debug)]
pub(super) enum Header {
    /// The current standard.
    Rfc5424 {
        /// Whether a byte order mark precedes the record.
        bom: bool,
        /// The SD-ID of an element with the event ID and the tenant; `None` means no element.
        structured_data: Option<String>,
    },
    /// The older form, without a version number.
    Rfc3164 { timestamp: TimestampFormat, tag: SyslogTag },
}

/// The time in an RFC 3164 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimestampFormat {
    /// `Mmm dd hh:mm:ss` in the time zone of this host.
    Local,
    /// `Mmm dd hh:mm:ss` in UTC.
    Utc,
    /// RFC 3339 in UTC, with milliseconds.
    Rfc3339,
}

/// What happens to a message that is longer than `max_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oversize {
    /// It becomes a dead letter.
    Reject,
    /// It is truncated, and the record is counted as truncated.
    Truncate,
}

/// TLS options of a stream or RELP target.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// The name that the server's certificate must contain.
    pub server_name: String,
    /// The PEM file of the certificate authorities; `None` means those of the system.
    pub ca_file: Option<PathBuf>,
    /// The paths of the client certificate and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Reads a section. Returns `None` if it is not valid.
pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let target = read_target(section);
    let facility = read_facility(section);
    let header = read_header(section);
    let format = read_format(section, FormatName::Cef);
    let oversize = read_oversize(section, format);

    let is_udp = matches!(target, Some(Target::Udp { .. }));
    if is_udp && section.bool("lossy") != Some(true) {
        section.fault_with(
            "address",
            "syslog over UDP can lose messages unnoticed".to_owned(),
            Some("set `lossy = true` to accept this, or use tcp://, tls:// or relp://".to_owned()),
        );
        return None;
    }

    let default_size = if is_udp { 1_400 } else { 8 << 10 };
    let max_message =
        usize::try_from(section.size("max_message").unwrap_or(default_size)).unwrap_or(usize::MAX);
    if !(480..=16 << 20).contains(&max_message) || (is_udp && max_message > 65_507) {
        section.fault(
            "max_message",
            "`max_message` must be from 480B to 16MiB, and over UDP at most 65507B",
        );
        return None;
    }

    let count = |key: &str, default: usize| {
        section.integer(key).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    };

    Some(Box::new(SyslogPlan {
        target: target?,
        format,
        header: header?,
        newline: section.text("framing") == Some("newline"),
        facility: facility?,
        app_name: section.text("app_name").unwrap_or("secure-score").to_owned(),
        max_message,
        oversize,
        window: count("window", 128),
        replay_on_reconnect: count("replay_on_reconnect", 1_000),
    }))
}

fn read_header(section: &Section<'_>) -> Option<Header> {
    let is_3164 = section.text("message") == Some("rfc3164");

    let (other_keys, other_standard) = if is_3164 {
        (["bom", "structured_data"], "rfc5424")
    } else {
        (["timestamp", "tag"], "rfc3164")
    };
    for key in other_keys.into_iter().filter(|key| section.has(key)) {
        section.fault(key, format!("`{key}` requires `message = \"{other_standard}\"`"));
    }

    if is_3164 {
        let timestamp = match section.text("timestamp") {
            Some("utc") => TimestampFormat::Utc,
            Some("rfc3339") => TimestampFormat::Rfc3339,
            _ => TimestampFormat::Local,
        };
        let tag = match section.bool("tag") {
            Some(false) => SyslogTag::Omitted,
            _ => SyslogTag::AppName,
        };
        return Some(Header::Rfc3164 { timestamp, tag });
    }

    // RFC 5424, 6.3.2: an SD-ID that is not registered with IANA is `name@number`, where the number
    // is a private enterprise number.
    let structured_data = section.text("structured_data").map(str::to_owned);
    let is_private = |id: &String| {
        let (name, number) = id.split_once('@').unwrap_or(("", ""));
        let name_char = |b: u8| b.is_ascii_graphic() && !b"=]\"@".contains(&b);
        id.len() <= 32
            && !name.is_empty()
            && name.bytes().all(name_char)
            && number.parse::<u32>().is_ok()
    };
    if structured_data.as_ref().is_some_and(|id| !is_private(id)) {
        section.fault(
            "structured_data",
            "`structured_data` must be name@number, where number is a private enterprise number",
        );
        return None;
    }

    Some(Header::Rfc5424 { bom: section.bool("bom").unwrap_or(false), structured_data })
}

fn read_oversize(section: &Section<'_>, format: FormatName) -> Oversize {
    if section.text("oversize") != Some("truncate") {
        return Oversize::Reject;
    }
    if !format.can_be_shortened() {
        section.fault(
            "oversize",
            "`oversize = \"truncate\"` requires `format = \"cef\"`, `\"leef\"` or `\"leef2\"`: truncated records of other formats cannot be parsed",
        );
    }
    Oversize::Truncate
}

fn read_target(section: &Section<'_>) -> Option<Target> {
    let address = section.text("address")?;
    let Some((scheme, rest)) = address.split_once("://") else {
        section.fault(
            "address",
            "`address` must begin with tcp://, tls://, relp://, relps://, udp:// or unix://",
        );
        return None;
    };

    if scheme == "unix" {
        if !rest.starts_with('/') {
            section.fault("address", "`address` must be unix:///path with an absolute path");
            return None;
        }
        return Some(Target::Unix { path: rest.into() });
    }

    let host_and_port = rest
        .rsplit_once(':')
        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let Some((host, _)) = host_and_port else {
        section.fault("address", format!("`{address}` must be `{scheme}://host:port`"));
        return None;
    };

    let address = rest.to_owned();
    match scheme {
        "udp" => Some(Target::Udp { address }),
        "tcp" => Some(Target::Stream { address, tls: None }),
        "tls" => Some(Target::Stream { address, tls: Some(read_tls(section, host)) }),
        "relp" => Some(Target::Relp { address, tls: None }),
        "relps" => Some(Target::Relp { address, tls: Some(read_tls(section, host)) }),
        _ => {
            section.fault(
                "address",
                format!("unknown scheme `{scheme}`: expected tcp, tls, relp, relps, udp or unix"),
            );
            None
        }
    }
}

fn read_tls(section: &Section<'_>, host: &str) -> Tls {
    let client = read_client_certificate(section);
    let server_name =
        section.text("server_name").unwrap_or(host.trim_matches(['[', ']'])).to_owned();
    Tls { server_name, ca_file: section.path("ca_file"), client }
}

fn read_facility(section: &Section<'_>) -> Option<Facility> {
    let name = section.text("facility").unwrap_or("local0");
    let facility = Facility::from_str(name).ok();
    if facility.is_none() {
        section.fault(
            "facility",
            format!(
                "unknown syslog facility `{name}`: expected a name such as `local0` or `daemon`"
            ),
        );
    }
    facility
}

impl Plan for SyslogPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        match self.target {
            Target::Relp { .. } => "the receiver replied 200 to the message",
            Target::Stream { .. } => {
                "the peer's kernel acknowledged every byte, and the connection remained open"
            }
            Target::Udp { .. } => "none: the local kernel sent the message",
            Target::Unix { .. } => "the local daemon's socket accepted the message",
        }
    }

    fn limits(&self) -> Limits {
        match self.target {
            Target::Stream { .. } => Limits { records: 2_000, bytes: 1 << 20, in_flight: 3 },
            Target::Relp { .. } => Limits { records: 500, bytes: 1 << 20, in_flight: 2 },
            // These transports acknowledge immediately, so no batch is ever pending. A batch is
            // small, because all of it can be sent again after a fault.
            Target::Udp { .. } | Target::Unix { .. } => {
                Limits { records: 500, bytes: 1 << 20, in_flight: 1 }
            }
        }
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(probe(self))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(Ok(open(self, context))))
    }
}
