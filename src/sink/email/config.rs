//! The configuration of a sink with `type = "email"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use std::path::PathBuf;

use lettre::message::Mailbox;

use crate::{
    foreign_text::PeerSecrets,
    net::{CredentialChannel, HostPort},
    settings::{
        ExampleSection, FLAG, Flag, Key, KeyWithDefault, Named, OneOf, SECRET, Secret, SecretRef,
        Section, TEXT, TEXTS, Text, Texts, choices, defaulted, keys, one_of, optional, required,
    },
    sink::{
        address::has_no_user,
        notification::{DIGEST_KEYS, Mode},
        shared_keys::{AUTHORITY_KEYS, CA_FILE, SERVER_NAME, SERVER_NAME_KEYS},
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..DIGEST_KEYS;
    ..AUTHORITY_KEYS;
    ..SERVER_NAME_KEYS;
    SERVER: Key<Text> = required(
        "server",
        TEXT,
        "The mail server, as HOST or HOST:PORT. Without a port, it is 465, or 587 with `tls = \"starttls\"`, or 25 with `tls = \"none\"`.",
    )
    .example("mail.example.com");
    TLS: KeyWithDefault<OneOf<Encryption>> = defaulted(
        "tls",
        one_of(Encryption::NAMES).or(Encryption::Implicit.choice()),
        "When the connection is encrypted: from its beginning, with STARTTLS before anything is sent, or never, which requires a server on a loopback address.",
    );
    FROM: Key<Text> = required(
        "from",
        TEXT,
        "The sender, such as `Secure Score <score@contoso.example>`.",
    )
    .example("Secure Score <score@contoso.example>");
    TO: Key<Texts> =
        required("to", TEXTS, "The recipients.").example("[\"soc@contoso.example\"]");
    USERNAME: Key<Text> = optional(
        "username",
        TEXT,
        "no authentication",
        "The user name for the mail server; requires `password`.",
    )
    .example("score");
    PASSWORD: Key<Secret> = optional(
        "password",
        SECRET,
        "no authentication",
        "The password for the mail server; requires `username`.",
    )
    .example("{ credential = \"mail-password\" }");
    ATTACH_REPORT: KeyWithDefault<Flag> = defaulted(
        "attach_report",
        FLAG.or(true),
        "Attaches the report of the last 30 days, as an HTML page, to a digest.",
    );
}

/// The section in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "mail",
    about: "Email to a mailbox or a list, in builds with the feature `email`, which is on by default.",
    ..ExampleSection::NOT_SET
}];

choices! {
    /// When the connection is encrypted.
    pub(super) enum Encryption {
        /// From its beginning.
        Implicit = "implicit",
        /// After STARTTLS, before anything else is sent.
        StartTls = "starttls",
        /// Never: the server is on a loopback address.
        None = "none",
    }
}

/// The maximum number of parts of a message.
pub(super) const MAX_PARTS: usize = 100;

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct EmailPlan {
    pub server: Server,
    pub encryption: Encryption,
    /// The name that the certificate of the server must have.
    pub server_name: String,
    /// The PEM file of the certificate authorities; `None` means those of the system.
    pub ca_file: Option<PathBuf>,
    pub from: Mailbox,
    /// At least one.
    pub to: Vec<Mailbox>,
    /// The user name and the password; `None` for a server without authentication.
    pub credentials: Option<(String, SecretRef)>,
    /// Whether single messages or digests are sent.
    pub mode: Mode,
    /// Whether the report is attached to a digest.
    pub attach_report: bool,
    /// The secrets that were sent to the mail server.
    pub sent: PeerSecrets,
}

/// The address of the mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
}

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<EmailPlan> {
    let mode = Mode::read(section);
    let encryption = section.get(&TLS);
    let server = read_server(section, encryption);
    let from = section.get(&FROM).and_then(|text| read_mailbox(section, &FROM, text));
    let to = read_recipients(section);

    let credentials = section.get(&USERNAME).map(str::to_owned).zip(section.get(&PASSWORD));
    if section.has(&USERNAME) != section.has(&PASSWORD) {
        section.fault(&USERNAME, "`username` and `password` must be set together");
    }
    if section.has(&ATTACH_REPORT) && mode == Mode::Messages {
        section.fault(&ATTACH_REPORT, "`attach_report` requires `digest`");
    }

    let server = server?;
    let server_name = section.get(&SERVER_NAME).unwrap_or(&server.host).to_owned();
    Some(EmailPlan {
        server,
        encryption,
        server_name,
        ca_file: section.get(&CA_FILE),
        from: from?,
        to: to?,
        credentials,
        mode,
        attach_report: section.get(&ATTACH_REPORT),
        sent: PeerSecrets::default(),
    })
}

fn read_server(section: &Section<'_>, encryption: Encryption) -> Option<Server> {
    let text = section.get(&SERVER)?;
    if !has_no_user(section, &SERVER, text) {
        return None;
    }
    let Some(server) = Server::parse(text, encryption) else {
        let cause = HostPort::parse(text).err().map(|fault| format!(": {fault}"));
        let cause = cause.unwrap_or_default();
        section.fault(&SERVER, format!("`server` must be HOST or HOST:PORT{cause}"));
        return None;
    };
    // The password, but also the messages, would be readable on the network.
    let is_local = CredentialChannel::PlainText(&server.host).is_confidential();
    if encryption == Encryption::None && !is_local {
        let message = "`tls = \"none\"` requires a server on a loopback address";
        let hint = "use `tls = \"implicit\"` or `tls = \"starttls\"`".to_owned();
        section.fault_with(&TLS, message.to_owned(), Some(hint));
    }
    Some(server)
}

fn read_recipients(section: &Section<'_>) -> Option<Vec<Mailbox>> {
    let texts = section.get(&TO)?;
    if texts.is_empty() {
        section.fault(&TO, "`to` is empty");
        return None;
    }
    texts.into_iter().map(|text| read_mailbox(section, &TO, text)).collect()
}

/// Reads a mailbox. Addresses outside ASCII are rejected, because many servers do not accept them.
fn read_mailbox(section: &Section<'_>, key: &impl Named, text: &str) -> Option<Mailbox> {
    let mailbox: Option<Mailbox> = text.parse().ok();
    let is_ascii = |mailbox: &Mailbox| {
        let address: &str = mailbox.email.as_ref();
        address.is_ascii()
    };
    let mailbox = mailbox.filter(is_ascii);
    if mailbox.is_none() {
        let name = key.definition().name;
        section.fault(key, format!("`{name}`: `{text}` is not an email address"));
    }
    mailbox
}

impl Encryption {
    /// The port that is registered for this encryption.
    fn default_port(self) -> u16 {
        match self {
            Self::Implicit => 465,
            Self::StartTls => 587,
            Self::None => 25,
        }
    }
}

impl Server {
    /// Parses `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
    fn parse(text: &str, encryption: Encryption) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(is_name) {
            return None;
        }

        let ends_with_colon = text.ends_with(':');
        let port = match port {
            "" if !ends_with_colon => encryption.default_port(),
            port => port.parse().ok().filter(|port| *port > 0)?,
        };
        Some(Self { host: host.to_owned(), port })
    }

    /// `HOST:PORT`, with brackets around an IPv6 address.
    pub(super) fn address(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::with_section;

    /// The messages of the faults of a section.
    fn faults(keys: &str) -> Vec<String> {
        with_section(keys, KEYS, |section| read(section).is_some()).1
    }

    const MAILBOXES: &str =
        "from = \"Secure Score <score@contoso.example>\"\nto = [\"soc@contoso.example\"]\n";

    #[test]
    fn servers_have_a_port_for_each_encryption() {
        let parse = |text: &str, encryption| {
            Server::parse(text, encryption).map(|server| (server.host, server.port))
        };
        for (text, host, port) in [
            ("mail.example.com", "mail.example.com", 465),
            ("mail.example.com:2465", "mail.example.com", 2465),
            ("127.0.0.1:25", "127.0.0.1", 25),
            ("[::1]", "::1", 465),
            ("[::1]:2525", "::1", 2525),
        ] {
            assert_eq!(parse(text, Encryption::Implicit), Some((host.to_owned(), port)), "{text}");
        }

        for text in ["", ":25", "mail:", "mail:0", "mail:99999", "::1", "[::1", "[x]", "a b", "u@h"]
        {
            assert_eq!(parse(text, Encryption::Implicit), None, "{text}");
        }
        assert_eq!(parse("mail", Encryption::StartTls).unwrap().1, 587);
        assert_eq!(parse("localhost", Encryption::None).unwrap().1, 25);
    }

    #[test]
    fn plain_text_requires_a_loopback_address() {
        for (server, is_valid) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("mail.example.com", false),
            ("10.0.0.25", false),
            ("localhost.example.com", false),
        ] {
            let found = faults(&format!("server = \"{server}\"\ntls = \"none\"\n{MAILBOXES}"));
            assert_eq!(found.is_empty(), is_valid, "{server}: {found:?}");
        }
    }

    #[test]
    fn faults_name_the_key() {
        for (keys, message) in [
            (
                "from = \"score\"\nto = [\"soc@contoso.example\"]",
                "`from`: `score` is not an email address",
            ),
            ("from = \"s@c.example\"\nto = []", "`to` is empty"),
            (
                "from = \"s@c.example\"\nto = [\"séc@c.example\"]",
                "`to`: `séc@c.example` is not an email address",
            ),
            (
                "from = \"s@c.example\"\nto = [\"t@c.example\"]\nusername = \"s\"",
                "`username` and `password` must be set together",
            ),
            (
                "from = \"s@c.example\"\nto = [\"t@c.example\"]\nattach_report = false",
                "`attach_report` requires `digest`",
            ),
            (
                "from = \"s@c.example\"\nto = [\"t@c.example\"]\ntexts = \"full\"",
                "`texts` is not available for messages, which contain no descriptions",
            ),
        ] {
            let found = faults(&format!("server = \"mail.example.com\"\n{keys}"));
            assert!(found.iter().any(|fault| fault == message), "{keys}: {found:?}");
        }

        let valid = format!(
            "server = \"mail.example.com:587\"\ntls = \"starttls\"\nusername = \"score\"\npassword = {{ credential = \"mail\" }}\ndigest = \"0 8 * * 1\"\nattach_report = false\n{MAILBOXES}"
        );
        assert_eq!(faults(&valid), Vec::<String>::new());
    }
}
