//! The configuration of a sink with `type = "syslog"`. Reading a section opens no connection and
//! reads no certificate; faults are added to the section.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use syslog::Facility;

use crate::{
    error::Explanation,
    files::require_socket_path,
    format::{FormatName, SyslogTag},
    net::{AddressFault, HostPort},
    settings::{
        Choice, ExampleSection, FLAG, Flag, Integer, Key, KeyWithDefault, Named, OneOf, Section,
        Size, TEXT, Text, choices, defaulted, integer, keys, one_of, optional, required, size,
    },
    sink::{
        address::has_no_user,
        common_keys::GENERAL_KEYS,
        shared_keys::{FORMATS, SERVER_NAME, SERVER_NAME_KEYS, TLS_KEYS, TlsFiles},
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..TLS_KEYS;
    ..SERVER_NAME_KEYS;
    ADDRESS: Key<Text> = required(
        "address",
        TEXT,
        "The receiver: tcp://, tls://, relp://, relps:// or udp:// with host:port, or unix:///path.",
    )
    .example("tls://siem.example.com:6514");
    FORMAT: KeyWithDefault<OneOf<FormatName>> =
        defaulted("format", one_of(FORMATS).or(CEF), "The format of a record.");
    MESSAGE: KeyWithDefault<OneOf<Standard>> = defaulted(
        "message",
        one_of(Standard::NAMES).or(Standard::Rfc5424.choice()),
        "The standard of the message header.",
    );
    FRAMING: KeyWithDefault<OneOf<Framing>> = defaulted(
        "framing",
        one_of(Framing::NAMES).or(Framing::OctetCounting.choice()),
        "How messages are delimited over TCP and TLS (RFC 6587).",
    );
    FACILITY: KeyWithDefault<Text> = defaulted(
        "facility",
        TEXT.or("local0"),
        "The facility: `local0` to `local7`, `daemon`, `audit`, ….",
    );
    APP_NAME: KeyWithDefault<Text> =
        defaulted("app_name", TEXT.or("secure-score"), "The APP-NAME of every message.");
    BOM: KeyWithDefault<Flag> = defaulted(
        "bom",
        FLAG.or(false),
        "With rfc5424: begins each message with a byte order mark, which declares UTF-8.",
    );
    STRUCTURED_DATA: Key<Text> = optional(
        "structured_data",
        TEXT,
        "no element",
        "With rfc5424: adds an element with event_id and tenant under this SD-ID, such as `score@12345`, where 12345 is your private enterprise number.",
    )
    .example("score@12345");
    TIMESTAMP: KeyWithDefault<OneOf<TimestampFormat>> = defaulted(
        "timestamp",
        one_of(TimestampFormat::NAMES).or(TimestampFormat::Local.choice()),
        "With rfc3164: the form of the time in the header. `local` and `utc` contain no time zone.",
    );
    TAG: KeyWithDefault<Flag> = defaulted(
        "tag",
        FLAG.or(true),
        "With rfc3164: writes `app_name:` before the message. ArcSight expects CEF without it.",
    );
    MAX_MESSAGE: Key<Size> = optional(
        "max_message",
        size(480, 16 << 20),
        "`8KiB`, or `1400B` over UDP",
        "The maximum size of a message that the receiver accepts.",
    )
    .example("8KiB");
    OVERSIZE: KeyWithDefault<OneOf<Oversize>> = defaulted(
        "oversize",
        one_of(Oversize::NAMES).or(Oversize::Reject.choice()),
        "What happens to a message that is larger than `max_message`: `reject` makes it a dead letter; `truncate`, for CEF and LEEF only, shortens and marks it.",
    );
    WINDOW: KeyWithDefault<Integer<usize>> = defaulted(
        "window",
        integer::<usize>(1, 100_000).or(128),
        "RELP: the maximum number of unacknowledged messages.",
    );
    REPLAY_ON_RECONNECT: KeyWithDefault<Integer<usize>> = defaulted(
        "replay_on_reconnect",
        integer::<usize>(0, 1_000_000).or(1_000),
        "TCP and TLS: the number of confirmed records that are sent again after a lost connection.",
    );
    LOSSY: KeyWithDefault<Flag> = defaulted(
        "lossy",
        FLAG.or(false),
        "UDP: must be set to true, to accept that messages can be lost unnoticed.",
    );
}

/// The sections in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[
    ExampleSection {
        name: "arcsight",
        about: "Syslog over TLS, in the format CEF.",
        omits: &[TIMESTAMP.define(), TAG.define(), LOSSY.define()],
        lists: GENERAL_KEYS,
        about_listed: "All types of sink share the following keys. `chat` and `email` reject `texts`, and `max_rate` together with `digest`.",
        ..ExampleSection::SET
    },
    ExampleSection {
        name: "legacy-siem",
        about: "Syslog over UDP, with the older message header.",
        sets: &[
            ADDRESS.define().example("udp://siem.example.com:514"),
            MESSAGE.define().example("rfc3164"),
            TIMESTAMP.define(),
            TAG.define(),
            LOSSY.define().example("true"),
        ],
        ..ExampleSection::NOT_SET
    },
];

/// The default format.
const CEF: Choice<FormatName> = Choice { name: FormatName::Cef.as_str(), value: FormatName::Cef };

choices! {
    /// The standard of the message header.
    pub(super) enum Standard {
        /// The current standard.
        Rfc5424 = "rfc5424",
        /// The older form, without a version number.
        Rfc3164 = "rfc3164",
    }
}

choices! {
    /// How messages of a stream are delimited (RFC 6587).
    pub(super) enum Framing {
        /// Each message begins with its length.
        OctetCounting = "octet-counting",
        /// Each message ends with a newline.
        Newline = "newline",
    }
}

choices! {
    /// The time in an RFC 3164 header.
    pub(super) enum TimestampFormat {
        /// `Mmm dd hh:mm:ss` in the time zone of this host.
        Local = "local",
        /// `Mmm dd hh:mm:ss` in UTC.
        Utc = "utc",
        /// RFC 3339 in UTC, with milliseconds.
        Rfc3339 = "rfc3339",
    }
}

choices! {
    /// What happens to a message that is longer than `max_message`.
    pub(super) enum Oversize {
        /// It becomes a dead letter.
        Reject = "reject",
        /// It is truncated, and the record is counted as truncated.
        Truncate = "truncate",
    }
}

/// A validated syslog section.
#[derive(Clone, Debug)]
pub(super) struct SyslogPlan {
    /// The receiver and its transport.
    pub target: SyslogTarget,
    pub format: FormatName,
    /// The form of the message header.
    pub header: Header,
    pub framing: Framing,
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
pub(super) enum SyslogTarget {
    /// One datagram per message, which can be lost unnoticed.
    Udp { address: String },
    /// A TCP connection, with TLS if `tls` is set.
    Stream { address: String, tls: Option<Tls> },
    /// A RELP session over TCP, with TLS if `tls` is set.
    Relp { address: String, tls: Option<Tls> },
    /// The socket of the local syslog daemon.
    Unix { path: PathBuf },
}

impl fmt::Display for SyslogTarget {
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

/// TLS options of a stream or RELP target.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// The name that the server's certificate must contain.
    pub server_name: String,
    pub files: TlsFiles,
}

/// The usual port of each transport, for the hint about a forgotten one.
const DEFAULT_PORTS: [(&str, u16); 5] =
    [("udp", 514), ("tcp", 514), ("tls", 6_514), ("relp", 2_514), ("relps", 2_514)];

/// The default of `max_message` in bytes, and that over UDP.
const DEFAULT_MESSAGE: usize = 8 << 10;
const DEFAULT_DATAGRAM: usize = 1_400;

/// The largest UDP payload over IPv4 in bytes.
const MAX_DATAGRAM: usize = 65_507;

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<SyslogPlan> {
    let target = read_target(section);
    let facility = read_facility(section);
    let header = read_header(section);
    let format = section.get(&FORMAT);
    let oversize = read_oversize(section, format);

    let is_udp = matches!(target, Some(SyslogTarget::Udp { .. }));
    if is_udp && !section.get(&LOSSY) {
        section.fault_with(
            &ADDRESS,
            "syslog over UDP can lose messages unnoticed".to_owned(),
            Some("set `lossy = true` to accept this, or use tcp://, tls:// or relp://".to_owned()),
        );
        return None;
    }

    let default_size = if is_udp { DEFAULT_DATAGRAM } else { DEFAULT_MESSAGE };
    let max_message = section.get(&MAX_MESSAGE).unwrap_or(default_size);
    if is_udp && max_message > MAX_DATAGRAM {
        let message = format!("`max_message` must be at most {MAX_DATAGRAM}B over UDP");
        section.fault(&MAX_MESSAGE, message);
        return None;
    }

    Some(SyslogPlan {
        target: target?,
        format,
        header: header?,
        framing: section.get(&FRAMING),
        facility: facility?,
        app_name: section.get(&APP_NAME).to_owned(),
        max_message,
        oversize,
        window: section.get(&WINDOW),
        replay_on_reconnect: section.get(&REPLAY_ON_RECONNECT),
    })
}

fn read_header(section: &Section<'_>) -> Option<Header> {
    let standard = section.get(&MESSAGE);

    let (other_keys, other_standard) = match standard {
        Standard::Rfc3164 => ([BOM.definition(), STRUCTURED_DATA.definition()], "rfc5424"),
        Standard::Rfc5424 => ([TIMESTAMP.definition(), TAG.definition()], "rfc3164"),
    };
    for key in other_keys.into_iter().filter(|key| section.has(key)) {
        section.fault(&key, format!("`{}` requires `message = \"{other_standard}\"`", key.name));
    }

    if standard == Standard::Rfc3164 {
        let tag = if section.get(&TAG) { SyslogTag::AppName } else { SyslogTag::Omitted };
        return Some(Header::Rfc3164 { timestamp: section.get(&TIMESTAMP), tag });
    }

    // RFC 5424, 6.3.2: an SD-ID that is not registered with IANA is `name@number`, where the number
    // is a private enterprise number.
    let structured_data = section.get(&STRUCTURED_DATA).map(str::to_owned);
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
            &STRUCTURED_DATA,
            "`structured_data` must be name@number, where number is a private enterprise number",
        );
        return None;
    }

    Some(Header::Rfc5424 { bom: section.get(&BOM), structured_data })
}

fn read_oversize(section: &Section<'_>, format: FormatName) -> Oversize {
    let oversize = section.get(&OVERSIZE);
    if oversize == Oversize::Truncate && !format.can_be_shortened() {
        section.fault(
            &OVERSIZE,
            "`oversize = \"truncate\"` requires `format = \"cef\"`, `\"leef\"` or `\"leef2\"`: truncated records of other formats cannot be parsed",
        );
    }
    oversize
}

fn read_target(section: &Section<'_>) -> Option<SyslogTarget> {
    let address = section.get(&ADDRESS)?;
    let Some((scheme, rest)) = address.split_once("://") else {
        let is_socket = address.starts_with("unix:") || address.starts_with('/');
        let hint = if is_socket { "write `unix:///dev/log`" } else { "write `tls://host:6514`" };
        section.fault_with(
            &ADDRESS,
            "`address` must begin with tcp://, tls://, relp://, relps://, udp:// or unix://"
                .to_owned(),
            Some(hint.to_owned()),
        );
        return None;
    };

    if scheme == "unix" {
        return read_socket(section, rest);
    }
    if !has_no_user(section, &ADDRESS, address) {
        return None;
    }
    let port = DEFAULT_PORTS.iter().find(|(name, _)| *name == scheme).map(|(_, port)| port);
    let parsed = HostPort::parse(rest);
    if let (Err(fault), Some(port)) = (parsed, port) {
        let message = format!("`address` must be `{scheme}://host:port`: {fault}");
        let forgotten = fault == AddressFault::NoPort;
        let host = rest.trim_end_matches(':');
        let hint = forgotten.then(|| format!("add the port, such as `{scheme}://{host}:{port}`"));
        section.fault_with(&ADDRESS, message, hint);
        return None;
    }

    let (address, host) = (rest.to_owned(), parsed.map_or("", |parsed| parsed.host));
    match scheme {
        "udp" => Some(SyslogTarget::Udp { address }),
        "tcp" => Some(SyslogTarget::Stream { address, tls: None }),
        "tls" => Some(SyslogTarget::Stream { address, tls: Some(read_tls(section, host)) }),
        "relp" => Some(SyslogTarget::Relp { address, tls: None }),
        "relps" => Some(SyslogTarget::Relp { address, tls: Some(read_tls(section, host)) }),
        _ => {
            section.fault(
                &ADDRESS,
                format!("unknown scheme `{scheme}`: expected tcp, tls, relp, relps, udp or unix"),
            );
            None
        }
    }
}

/// Reads the path of the local syslog daemon's socket.
fn read_socket(section: &Section<'_>, path: &str) -> Option<SyslogTarget> {
    if !path.starts_with('/') {
        section.fault_with(
            &ADDRESS,
            "`address` must be unix:///path with an absolute path".to_owned(),
            Some("write three slashes before the path, such as `unix:///dev/log`".to_owned()),
        );
        return None;
    }
    if let Err(Explanation { message, hint }) = require_socket_path(Path::new(path)) {
        section.fault_with(&ADDRESS, format!("the path in `address` {message}"), hint);
        return None;
    }
    Some(SyslogTarget::Unix { path: path.into() })
}

fn read_tls(section: &Section<'_>, host: &str) -> Tls {
    let server_name = section.get(&SERVER_NAME).unwrap_or(host).to_owned();
    Tls { server_name, files: TlsFiles::read(section) }
}

fn read_facility(section: &Section<'_>) -> Option<Facility> {
    let name = section.get(&FACILITY);
    let facility = Facility::from_str(name).ok();
    if facility.is_none() {
        section.fault(
            &FACILITY,
            format!(
                "unknown syslog facility `{name}`: expected a name such as `local0` or `daemon`"
            ),
        );
    }
    facility
}
