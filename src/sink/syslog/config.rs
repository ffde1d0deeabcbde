//! `type = "syslog"`.

use std::{fmt, path::PathBuf, str::FromStr};

use syslog::Facility;

use super::service::{open, probe};
use crate::{
    format::FormatName,
    settings::{Choice, Key, Section, Shape, optional, required},
    sink::{
        BoxFuture, Context, FORMAT, Failure, Limits, Plan, Sink, read_format, web::read_client_certificate,
    },
};

pub(in crate::sink) const KEYS: &[Key] = &[
    required(
        "address",
        Shape::Text,
        "tcp://, tls://, relp://, relps:// or udp:// with host:port, or unix:///path.",
    ),
    FORMAT,
    optional(
        "message",
        Shape::OneOf(&[Choice::now("rfc5424"), Choice::now("rfc3164")]),
        "The form of the header; default rfc5424.",
    ),
    optional(
        "framing",
        Shape::OneOf(&[Choice::now("octet-counting"), Choice::now("newline")]),
        "How TCP and TLS tell messages apart.",
    ),
    optional("facility", Shape::Text, "`local0` (default) to `local7`, `daemon`, `audit`, …"),
    optional("app_name", Shape::Text, "APP-NAME of every message; default `secure-score`."),
    optional("bom", Shape::Bool, "With rfc5424: the mark that declares UTF-8; default false."),
    optional(
        "structured_data",
        Shape::Text,
        "With rfc5424: the SD-ID, such as `score@12345` with your enterprise number, of an element with event_id and tenant.",
    ),
    optional(
        "timestamp",
        Shape::OneOf(&[Choice::now("local"), Choice::now("utc"), Choice::now("rfc3339")]),
        "With rfc3164: the header's time, which has no zone; default local.",
    ),
    optional(
        "tag",
        Shape::Bool,
        "With rfc3164: false leaves out `app_name:` before the message, as ArcSight expects CEF; default true.",
    ),
    optional(
        "max_message",
        Shape::Size,
        "Largest message that the receiver takes; default 8KiB, over UDP 1400B.",
    ),
    optional(
        "oversize",
        Shape::OneOf(&[Choice::now("reject"), Choice::now("truncate")]),
        "What becomes of a longer one: a dead letter (the default), or, in CEF and LEEF, a shorter one that says so.",
    ),
    optional(
        "window",
        Shape::Integer { min: 1, max: 100_000 },
        "RELP: messages that may be unanswered at a time; default 128.",
    ),
    optional(
        "replay_on_reconnect",
        Shape::Integer { min: 0, max: 1_000_000 },
        "TCP, TLS: confirmed records that go out once more after a connection was lost; default 1000.",
    ),
    optional("lossy", Shape::Bool, "UDP loses messages and nobody notices: say that you know."),
    optional(
        "server_name",
        Shape::Text,
        "The name in the server's certificate, if it is not the address.",
    ),
    optional(
        "ca_file",
        Shape::Text,
        "PEM file of the certificate authorities to trust instead of the system's.",
    ),
    optional(
        "client_certificate",
        Shape::Text,
        "PEM file of our certificate chain, for mutual TLS.",
    ),
    optional("client_key", Shape::Text, "PEM file of its private key."),
];

#[derive(Clone, Debug)]
pub(super) struct SyslogPlan {
    pub target: Target,
    pub format: FormatName,
    pub header: Header,
    pub newline: bool,
    pub facility: Facility,
    pub app_name: String,
    pub max_message: usize,
    pub oversize: Oversize,
    pub window: usize,
    pub replay_on_reconnect: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Udp { address: String },
    Stream { address: String, tls: Option<Tls> },
    Relp { address: String, tls: Option<Tls> },
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

#[derive(Clone, Debug)]
pub(super) enum Header {
    Rfc5424 { bom: bool, structured_data: Option<String> },
    Rfc3164 { stamp: Stamp, tagged: bool },
}

/// The time in an RFC 3164 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    Local,
    Utc,
    Rfc3339,
}

/// What becomes of a message that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oversize {
    Reject,
    Truncate,
}

#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub server_name: String,
    pub ca_file: Option<PathBuf>,
    pub client: Option<(PathBuf, PathBuf)>,
}

pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let target = read_target(section);
    let facility = read_facility(section);
    let header = read_header(section);
    let format = read_format(section, FormatName::Cef);
    let oversize = read_oversize(section, format);
    let is_udp = matches!(target, Some(Target::Udp { .. }));
    if is_udp && section.bool("lossy") != Some(true) {
        section.fault("address", "syslog over UDP loses messages without a word: set `lossy = true`, or use tcp://, tls:// or relp://");
        return None;
    }
    let default_size = if is_udp { 1_400 } else { 8 << 10 };
    let max_message =
        usize::try_from(section.size("max_message").unwrap_or(default_size)).unwrap_or(usize::MAX);
    if !(480..=16 << 20).contains(&max_message) || (is_udp && max_message > 65_507) {
        section
            .fault("max_message", "`max_message` must be from 480B to 16MiB, over UDP to 65507B");
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
    let (foreign, goes_with) = if is_3164 {
        (["bom", "structured_data"], "rfc5424")
    } else {
        (["timestamp", "tag"], "rfc3164")
    };
    for key in foreign.into_iter().filter(|key| section.has(key)) {
        section.fault(key, format!("`{key}` goes with `message = \"{goes_with}\"`"));
    }
    if is_3164 {
        let stamp = match section.text("timestamp") {
            Some("utc") => Stamp::Utc,
            Some("rfc3339") => Stamp::Rfc3339,
            _ => Stamp::Local,
        };
        return Some(Header::Rfc3164 { stamp, tagged: section.bool("tag").unwrap_or(true) });
    }
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
            "`structured_data` must be name@number, the number being your private enterprise number",
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
            "`oversize = \"truncate\"` goes with CEF and LEEF: others would be broken by a cut",
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
            section.fault("address", "`address` must be unix:///path, an absolute path");
            return None;
        }
        return Some(Target::Unix { path: rest.into() });
    }
    let host_and_port = rest
        .rsplit_once(':')
        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let Some((host, _)) = host_and_port else {
        section.fault("address", format!("`{address}` must be {scheme}://host:port"));
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
                format!("unknown scheme `{scheme}`: use tcp, tls, relp, relps, udp or unix"),
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
            format!("`{name}` is no syslog facility; `local0` to `local7` are free to use"),
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
            Target::Relp { .. } => "the receiver answered the message with 200",
            Target::Stream { .. } => {
                "the peer's kernel acknowledged every byte, and the connection still stood"
            }
            Target::Udp { .. } => "none: the kernel sent it",
            Target::Unix { .. } => "the local daemon's socket took it",
        }
    }

    fn limits(&self) -> Limits {
        match self.target {
            Target::Stream { .. } => Limits { records: 2_000, bytes: 1 << 20, in_flight: 3 },
            Target::Relp { .. } => Limits { records: 500, bytes: 1 << 20, in_flight: 2 },
            // Every message is a call of its own, and what is sent cannot be taken back.
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
