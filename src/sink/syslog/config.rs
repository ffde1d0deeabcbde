//! `type = "syslog"`.

use std::{path::PathBuf, str::FromStr};

use syslog::Facility;

use super::service::open;
use crate::{
    format::FormatName,
    settings::{Choice, Key, Section, Shape, optional, required},
    sink::{BoxFuture, Context, FORMAT, Failure, Limits, Plan, Sink, read_format},
};

pub(in crate::sink) const KEYS: &[Key] = &[
    required(
        "address",
        Shape::Text,
        "tcp://host:port, tls://host:port, udp://host:port or unix:///path.",
    ),
    FORMAT,
    optional(
        "message",
        Shape::OneOf(&[Choice::now("rfc5424"), Choice::later("rfc3164")]),
        "The form of the header.",
    ),
    optional(
        "framing",
        Shape::OneOf(&[Choice::now("octet-counting"), Choice::now("newline")]),
        "How TCP and TLS tell messages apart.",
    ),
    optional("facility", Shape::Text, "`local0` (default) to `local7`, `daemon`, `audit`, …"),
    optional("app_name", Shape::Text, "APP-NAME of every message; default `secure-score`."),
    optional(
        "max_message",
        Shape::Size,
        "Largest message that the receiver takes; default 8KiB, over UDP 1400B.",
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
    pub newline: bool,
    pub facility: Facility,
    pub app_name: String,
    pub max_message: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Udp { address: String },
    Tcp { address: String },
    Tls { address: String, tls: Tls },
    Unix { path: PathBuf },
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
    let is_udp = matches!(target, Some(Target::Udp { .. }));
    if is_udp && section.bool("lossy") != Some(true) {
        section.fault("address", "syslog over UDP loses messages without a word: set `lossy = true`, or use tcp:// or tls://");
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
    Some(Box::new(SyslogPlan {
        target: target?,
        format: read_format(section, FormatName::Cef),
        newline: section.text("framing") == Some("newline"),
        facility: facility?,
        app_name: section.text("app_name").unwrap_or("secure-score").to_owned(),
        max_message,
    }))
}

fn read_target(section: &Section<'_>) -> Option<Target> {
    let address = section.text("address")?;
    let Some((scheme, rest)) = address.split_once("://") else {
        section.fault("address", "`address` must begin with tcp://, tls://, udp:// or unix://");
        return None;
    };
    if matches!(scheme, "relp" | "relps") {
        section.fault("address", format!("`{scheme}://` is not in this version"));
        return None;
    }
    if scheme == "unix" {
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
        "tcp" => Some(Target::Tcp { address }),
        "tls" => Some(Target::Tls { address, tls: read_tls(section, host)? }),
        _ => {
            section
                .fault("address", format!("unknown scheme `{scheme}`: use tcp, tls, udp or unix"));
            None
        }
    }
}

fn read_tls(section: &Section<'_>, host: &str) -> Option<Tls> {
    let client = match (section.path("client_certificate"), section.path("client_key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            section
                .fault("client_certificate", "`client_certificate` and `client_key` go together");
            return None;
        }
    };
    let server_name =
        section.text("server_name").unwrap_or(host.trim_matches(['[', ']'])).to_owned();
    Some(Tls { server_name, ca_file: section.path("ca_file"), client })
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

    fn limits(&self) -> Limits {
        Limits { records: 2_000, octets: 1 << 20, in_flight: 1 }
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(Ok(open(self, context))))
    }
}
