//! The connection to a mail server: TCP, STARTTLS, TLS, and the commands and replies of SMTP.
//!
//! The size of a reply is limited, and its texts are untrusted. The secrets of the connection are
//! removed from every reply; see decision 0086. Start reading at [`connect`]; the session in
//! `session` sends the commands.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::config::{EmailPlan, Encryption};
use crate::{
    foreign_text::{ForeignText, SentSecrets},
    net::{self, ByteStream, TlsFault, TlsSettings},
    sink::Failure,
};

/// The maximum size of a reply. Servers list their extensions in a few hundred bytes.
const MAX_REPLY_BYTES: usize = 16 << 10;
/// The maximum number of characters of a reply in a message.
const MAX_MESSAGE_CHARS: usize = 300;

/// What failed if the greeting is negative.
const NOT_GREETED: &str = "the mail server rejected the connection";

/// A connection on which commands can be sent.
pub(super) struct SmtpConnection {
    stream: Box<dyn ByteStream>,
    /// What this client sends and the server may repeat in a message.
    secrets: SentSecrets,
}

/// A reply of the mail server (RFC 5321, section 4.2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The three digits of its last line.
    pub code: u16,
    /// The text of each line, without the code.
    pub lines: Vec<String>,
}

/// The reply to a command that has succeeded (RFC 5321, section 4.3.2, and RFC 4954, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedReply {
    /// Any code from 200 to 299: the command is completed.
    Completion,
    /// 235: the client is authenticated.
    Authentication,
    /// 334: the server requests a user name or a password.
    Challenge,
    /// 354: the server waits for the message.
    MessageStart,
}

/// Connects to the mail server, encrypts the connection as the plan requires, and returns it with
/// the extensions of the server. `hello` is the name of this host, and `secrets` are those of this
/// connection and of earlier ones. Fails with `Misconfigured` if
/// TLS is not possible or the certificate is not trusted, and with `Retry` if the server cannot be
/// reached.
pub(super) async fn connect(
    plan: &EmailPlan,
    hello: &str,
    secrets: SentSecrets,
) -> Result<(SmtpConnection, Vec<String>), Failure> {
    let mut tcp = net::connect_tcp(&plan.server.address()).await?;
    let mut connection = match plan.encryption {
        Encryption::None => {
            plain_greeting(plan, &mut tcp, &secrets).await?;
            SmtpConnection::over(tcp)
        }
        Encryption::Implicit => {
            let mut connection = SmtpConnection::over(handshake(plan, tcp, &secrets).await?);
            greeting(&mut connection.stream, &secrets)
                .await?
                .require(ExpectedReply::Completion, NOT_GREETED)?;
            connection
        }
        Encryption::StartTls => {
            plain_greeting(plan, &mut tcp, &secrets).await?;
            request_tls(&mut tcp, hello, &secrets).await?;
            SmtpConnection::over(handshake(plan, tcp, &secrets).await?)
        }
    };

    connection.secrets = secrets;
    // What the server announced in clear text is not trusted.
    let extensions = connection.introduce(hello).await?;
    Ok((connection, extensions))
}

async fn handshake(
    plan: &EmailPlan,
    tcp: TcpStream,
    secrets: &SentSecrets,
) -> Result<TlsStream<TcpStream>, Failure> {
    let settings = TlsSettings {
        server_name: &plan.server_name,
        ca_file: plan.ca_file.as_deref(),
        client: None,
    };
    let connected = net::connect_tls(&plan.server.address(), settings, tcp).await;
    connected.map_err(|error| error.redacted(secrets).into())
}

/// Requests TLS after the greeting (RFC 3207). Only the handshake may follow: if the server, or an
/// attacker on the network, sends anything else in clear text, the handshake fails.
async fn request_tls(
    stream: &mut impl ByteStream,
    hello: &str,
    secrets: &SentSecrets,
) -> Result<(), Failure> {
    let extensions = exchange(stream, &format!("EHLO {hello}"), secrets).await?;
    let is_offered = extensions.lines.iter().any(|line| line.eq_ignore_ascii_case("STARTTLS"));
    if !is_offered {
        let hint =
            "set `tls = \"implicit\"`, and `server` to the port of SMTP over TLS, usually 465";
        return Err(Failure::Misconfigured {
            reason: "the mail server does not offer STARTTLS".to_owned(),
            hint: Some(hint.into()),
        });
    }

    let reply = exchange(stream, "STARTTLS", secrets).await?;
    let what = "the mail server rejected STARTTLS";
    reply.require(ExpectedReply::Completion, what).map(drop)
}

/// Reads the greeting of a server in plain text. A server that sends none is probed once, because
/// it may expect TLS; a mail server rejects the beginning of a TLS handshake as a command.
async fn plain_greeting(
    plan: &EmailPlan,
    stream: &mut TcpStream,
    secrets: &SentSecrets,
) -> Result<(), Failure> {
    let failure = match greeting(stream, secrets).await {
        Ok(reply) => return reply.require(ExpectedReply::Completion, NOT_GREETED).map(drop),
        Err(failure) => failure,
    };
    let address = plan.server.address();
    Err(failure.unless_tls_expected("cannot connect to the mail server", Some(&address)).await)
}

/// Reads the first reply of a server. A server that expects TLS sends none.
async fn greeting(stream: &mut impl ByteStream, secrets: &SentSecrets) -> Result<Reply, Failure> {
    match timeout(net::READ_TIMEOUT, read_reply(stream, secrets)).await {
        Ok(reply) => reply,
        Err(_) => Err(Failure::Retry {
            reason: "the mail server did not send a greeting".to_owned(),
            after: None,
            hint: Some("set `tls = \"implicit\"` if `server` is a port of SMTP over TLS".into()),
        }),
    }
}

async fn exchange(
    stream: &mut impl ByteStream,
    command: &str,
    secrets: &SentSecrets,
) -> Result<Reply, Failure> {
    write(stream, format!("{command}\r\n").as_bytes()).await?;
    read_reply(stream, secrets).await
}

async fn write(stream: &mut impl ByteStream, bytes: &[u8]) -> Result<(), Failure> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    written.await.map_err(|error| lost(&error))
}

/// Reads a reply, which may have several lines, and removes the secrets. Reads single bytes,
/// because the bytes after the reply to STARTTLS belong to TLS.
async fn read_reply(stream: &mut impl ByteStream, secrets: &SentSecrets) -> Result<Reply, Failure> {
    let mut bytes = Vec::new();
    while !is_complete(&bytes) {
        if bytes.len() == MAX_REPLY_BYTES {
            let limit = MAX_REPLY_BYTES >> 10;
            let reason = format!("the mail server sent a reply of more than {limit} KiB");
            return Err(Failure::retry(reason));
        }
        bytes.push(stream.read_u8().await.map_err(|error| lost(&error))?);
    }
    let search_bytes = secrets.search_bytes(bytes.len());
    net::off_worker_to_redact(search_bytes, || Reply::parse(&bytes, secrets))
}

/// Whether the last line is complete: a `-` after the code continues the reply.
fn is_complete(reply: &[u8]) -> bool {
    let Some(lines) = reply.strip_suffix(b"\n") else { return false };
    let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    last.get(3) != Some(&b'-')
}

/// The failure of a connection that ended. With TLS 1.3, a server rejects the client certificate
/// only after the handshake.
fn lost(error: &io::Error) -> Failure {
    match TlsFault::of(error) {
        Some(fault) => {
            Failure::tls_without_client_certificate("TLS with the mail server failed", &fault)
        }
        None => Failure::retry(format!("the connection to the mail server was lost: {error}")),
    }
}

impl SmtpConnection {
    pub(super) fn over(stream: impl ByteStream + 'static) -> Self {
        Self { stream: Box::new(stream), secrets: SentSecrets::default() }
    }

    /// Sends a command, without its line break, and reads the reply.
    pub(super) async fn command(&mut self, command: &str) -> Result<Reply, Failure> {
        exchange(&mut self.stream, command, &self.secrets).await
    }

    /// Sends the bytes of a message and its end, and reads the reply. The lines of the message end
    /// in CRLF.
    pub(super) async fn message(&mut self, message: &[u8]) -> Result<Reply, Failure> {
        write(&mut self.stream, &transparent(message)).await?;
        read_reply(&mut self.stream, &self.secrets).await
    }

    /// Introduces this host, and returns the extensions of the server.
    async fn introduce(&mut self, hello: &str) -> Result<Vec<String>, Failure> {
        let reply = self.command(&format!("EHLO {hello}")).await?;
        Ok(reply.require(ExpectedReply::Completion, "the mail server rejected EHLO")?.lines)
    }
}

/// A message as it is sent after DATA: a `.` at the beginning of a line is doubled, and a line with
/// a single `.` ends it (RFC 5321, section 4.5.2).
fn transparent(message: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(message.len().saturating_add(64));
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            sent.push(b'.');
        }
        sent.extend_from_slice(line);
    }
    if !sent.ends_with(b"\r\n") {
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b".\r\n");
    sent
}

impl Reply {
    /// Parses complete lines, and removes the secrets from their texts. Fails if the last line does
    /// not begin with a code.
    fn parse(reply: &[u8], secrets: &SentSecrets) -> Result<Self, Failure> {
        // The text may not be valid UTF-8, because a server may repeat a password in Latin-1.
        let redacted = |text: &[u8]| {
            String::from_utf8_lossy(&net::redact_body(secrets, text.to_vec())).into_owned()
        };
        let lines = reply.split_inclusive(|byte| *byte == b'\n');

        let code = lines.clone().next_back().and_then(|line| line.get(..3));
        let code = code.and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        let Some(code @ 200..=599) = code else {
            let text = ForeignText::new(&redacted(reply)).for_message(MAX_MESSAGE_CHARS);
            return Err(Failure::retry(format!("the mail server sent an invalid reply: {text}")));
        };
        let texts = lines.map(|line| line.get(4..).unwrap_or_default().trim_ascii());
        Ok(Self { code, lines: texts.map(redacted).collect() })
    }

    /// The reply if it is the expected one. Otherwise fails as [`Self::failure`] does.
    pub(super) fn require(self, expected: ExpectedReply, what: &str) -> Result<Self, Failure> {
        if expected.includes(self.code) { Ok(self) } else { Err(self.failure(what)) }
    }

    /// The failure for any other than the expected reply: a permanent one needs an operator, and a
    /// transient one is retried. After a positive one, the outcome is unknown, so it is retried
    /// too. `what` is the operation that failed.
    pub(super) fn failure(&self, what: &str) -> Failure {
        let message = ForeignText::new(&self.lines.join(" ")).for_message(MAX_MESSAGE_CHARS);
        let reply = format!("{} {message}", self.code);
        match self.code {
            500.. => Failure::misconfigured(format!("{what}: {reply}")),
            400..500 => Failure::retry(format!("{what}: {reply}")),
            _ => Failure::retry(format!("{what}: unexpected reply {reply}")),
        }
    }
}

impl ExpectedReply {
    const fn includes(self, code: u16) -> bool {
        match self {
            Self::Completion => matches!(code, 200..=299),
            Self::Authentication => code == 235,
            Self::Challenge => code == 334,
            Self::MessageStart => code == 354,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::DuplexStream;

    use super::*;
    use crate::error::Hint;

    fn parse(text: &str) -> Result<Reply, Failure> {
        Reply::parse(text.as_bytes(), &SentSecrets::default())
    }

    /// A client, and the server's end with this text already sent.
    async fn server(text: &str) -> (DuplexStream, DuplexStream) {
        let (client, mut server) = tokio::io::duplex(1 << 20);
        server.write_all(text.as_bytes()).await.unwrap();
        (client, server)
    }

    #[tokio::test]
    async fn reads_replies_of_several_lines_and_no_more() {
        let (mut client, server) = server("220-one\r\n220-two\r\n220 three\r\n\x16rest").await;
        let reply = read_reply(&mut client, &SentSecrets::default()).await.unwrap();
        assert_eq!((reply.code, reply.lines.join(",").as_str()), (220, "one,two,three"));
        assert_eq!(client.read_u8().await.unwrap(), 0x16);

        drop(server);
        let failure = read_reply(&mut client, &SentSecrets::default()).await.unwrap_err();
        assert!(
            failure.to_string().contains("connection to the mail server was lost"),
            "{failure}"
        );
    }

    /// Regression: a reply was converted to UTF-8 before its secrets were removed.
    #[test]
    fn passwords_in_latin_1_are_removed() {
        let mut secrets = SentSecrets::default();
        secrets.add("p\u{e4}sswort");
        let reply = Reply::parse(b"535-no\r\n535 p\xe4sswort\r\n", &secrets).unwrap();
        assert_eq!((reply.code, reply.lines.join(",").as_str()), (535, "no,[redacted]"));
    }

    #[tokio::test]
    async fn the_size_of_a_reply_is_limited() {
        let (mut client, _server) = server(&"x".repeat(20 << 10)).await;
        let failure = read_reply(&mut client, &SentSecrets::default()).await.unwrap_err();
        assert_eq!(failure.to_string(), "the mail server sent a reply of more than 16 KiB");
    }

    #[tokio::test]
    async fn tls_is_requested_only_if_it_is_offered() {
        let offered = "220 hi\r\n250-mail\r\n250-SIZE\r\n250 starttls\r\n220 go\r\n";
        let (mut client, _server) = server(offered).await;
        greeting(&mut client, &SentSecrets::default()).await.unwrap();
        request_tls(&mut client, "collector", &SentSecrets::default()).await.unwrap();

        let (mut client, _server) = server("220 hi\r\n250-mail\r\n250 AUTH PLAIN\r\n").await;
        greeting(&mut client, &SentSecrets::default()).await.unwrap();
        let failure =
            request_tls(&mut client, "collector", &SentSecrets::default()).await.unwrap_err();
        assert!(matches!(&failure, Failure::Misconfigured { hint: Some(_), .. }), "{failure}");

        // Regression: only replies after the authentication were redacted, and a server that knew
        // the password from an earlier connection disclosed it in its greeting.
        let mut secrets = SentSecrets::default();
        secrets.add("canary-password");
        let (mut client, _server) = server("554 it was canary-password\r\n").await;
        let reply = greeting(&mut client, &secrets).await.unwrap();
        let failure = reply.require(ExpectedReply::Completion, NOT_GREETED).unwrap_err();
        assert!(failure.to_string().ends_with("554 it was [redacted]"), "{failure}");

        let (mut client, _server) = server("421 try later\r\n").await;
        let reply = greeting(&mut client, &SentSecrets::default()).await.unwrap();
        let failure = reply.require(ExpectedReply::Completion, NOT_GREETED).unwrap_err();
        assert!(matches!(&failure, Failure::Retry { .. }), "{failure}");
    }

    #[test]
    fn replies_without_a_code_are_invalid() {
        for text in [
            "\n",
            "hello\n",
            "25\n",
            "-25 x\n",
            "2e2 x\n",
            "999 no\n",
            "2é0 x\n",
            "250 fine\nno code\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let reply = parse("550-5.1.1 no\r\n550 \u{1b}[31msuch user\r\n").unwrap();
        let failure = reply.failure("cannot send to `a@b`");
        assert_eq!(failure.to_string(), "cannot send to `a@b`: 550 5.1.1 no \u{fffd}[31msuch user");
        assert!(matches!(failure, Failure::Misconfigured { .. }));
        assert!(matches!(parse("450 later\n").unwrap().failure("x"), Failure::Retry { .. }));
    }

    /// Regression: any reply below 400 was a success, such as 354 after a message.
    #[test]
    fn each_command_expects_its_own_reply() {
        use ExpectedReply::{Authentication, Challenge, Completion, MessageStart};

        for (code, accepted) in [
            (200, &[Completion][..]),
            (235, &[Completion, Authentication]),
            (250, &[Completion]),
            (251, &[Completion]),
            (300, &[]),
            (334, &[Challenge]),
            (354, &[MessageStart]),
            (399, &[]),
            (400, &[]),
            (599, &[]),
        ] {
            for expected in [Completion, Authentication, Challenge, MessageStart] {
                let is_accepted = accepted.contains(&expected);
                assert_eq!(expected.includes(code), is_accepted, "{code} {expected:?}");
            }
        }

        let reply = parse("354 continue\n").unwrap();
        let failure = reply.require(Completion, "x").unwrap_err();
        assert_eq!(failure.to_string(), "x: unexpected reply 354 continue");
        assert!(matches!(failure, Failure::Retry { .. }));
    }

    /// Regression: a server that repeated the password wrote it to the log.
    #[tokio::test]
    async fn replies_never_contain_the_password() {
        let (client, _server) =
            server("535 wrong: canary+pass\r\n535 x Y2FuYXJ5K3Bhc3M=\r\n").await;
        let mut connection = SmtpConnection::over(client);
        connection.secrets.add("canary+pass");
        for expected in ["x: 535 wrong: [redacted]", "x: 535 x [redacted]"] {
            let reply = connection.command("AUTH PLAIN").await.unwrap();
            assert_eq!(reply.failure("x").to_string().trim_end_matches("M="), expected);
        }
    }

    /// Regression: an alert after the handshake was a lost connection, without a hint.
    #[test]
    fn alerts_after_the_handshake_name_the_cause() {
        let required = rustls::AlertDescription::CertificateRequired;
        let error = io::Error::other(rustls::Error::AlertReceived(required));
        let failure = lost(&error);
        assert!(matches!(&failure, Failure::Misconfigured { hint: Some(_), .. }), "{failure}");
        assert!(failure.to_string().contains("requires a client certificate"), "{failure}");
        assert!(failure.hint().unwrap().contains("requires no client certificate"), "{failure}");

        let ended = lost(&io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(&ended, Failure::Retry { .. }), "{ended}");
    }

    #[test]
    fn dots_at_the_beginning_of_lines_are_doubled() {
        for (message, sent) in [
            (&b"a\r\n.\r\nb\r\n"[..], &b"a\r\n..\r\nb\r\n.\r\n"[..]),
            (b".x\r\n..y", b"..x\r\n...y\r\n.\r\n"),
            (b"", b"\r\n.\r\n"),
        ] {
            assert_eq!(transparent(message), sent);
        }
    }

    proptest! {
        #[test]
        fn no_reply_causes_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_complete(&bytes);
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
