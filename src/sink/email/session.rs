//! An SMTP session with a mail server: authentication, recipients, and a message (RFC 5321).
//!
//! A message is either accepted for all recipients or not sent: if the server rejects one of them,
//! the others do not receive it either, and the sink parks until the configuration is corrected.
//! Start reading at [`SmtpSession::open`].

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{
    config::EmailPlan,
    connection::{ExpectedReply, SmtpConnection, connect},
};
use crate::{foreign_text::SentSecrets, sink::Failure};

/// How long the end of a session may take. Nothing depends on it.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The reply to a message that is larger than the server accepts.
const TOO_LARGE: u16 = 552;

/// A session in which the client is authenticated, if the plan has credentials.
pub(super) struct SmtpSession(SmtpConnection);

impl SmtpSession {
    /// Connects and authenticates. `host` is the name of this host. Fails with `Misconfigured` if
    /// the server rejects the credentials or offers no supported mechanism.
    pub(super) async fn open(plan: &EmailPlan, host: &str) -> Result<Self, Failure> {
        let mut secrets = SentSecrets::default();
        let credentials = match &plan.credentials {
            Some((user, password)) => {
                let password =
                    password.read().map_err(|error| Failure::misconfigured_by(&error))?;
                secrets.add(password.expose_secret());
                Some((user, password))
            }
            None => None,
        };

        let secrets = plan.sent.remember(&secrets);
        let (connection, extensions) = connect(plan, hello(host), secrets).await?;
        let mut session = Self(connection);
        if let Some((user, password)) = credentials {
            session.authenticate(user, &password, &extensions).await?;
        }
        Ok(session)
    }

    /// Authenticates with PLAIN (RFC 4616), or with LOGIN at servers that offer nothing else.
    async fn authenticate(
        &mut self,
        user: &str,
        password: &SecretString,
        extensions: &[String],
    ) -> Result<(), Failure> {
        let password = password.expose_secret();
        let reply = if offers(extensions, "PLAIN") {
            let credentials = STANDARD.encode(format!("\0{user}\0{password}"));
            self.0.command(&format!("AUTH PLAIN {credentials}")).await?
        } else if offers(extensions, "LOGIN") {
            let what = "the mail server rejected AUTH LOGIN";
            let challenge = ExpectedReply::Challenge;
            self.0.command("AUTH LOGIN").await?.require(challenge, what)?;
            self.0.command(&STANDARD.encode(user)).await?.require(challenge, what)?;
            self.0.command(&STANDARD.encode(password)).await?
        } else {
            return Err(Failure::misconfigured(
                "the mail server offers neither AUTH PLAIN nor AUTH LOGIN on this connection",
            ));
        };

        let what = format!("cannot authenticate as `{user}`");
        let hint = "correct `username` and the secret of `password`";
        reply
            .require(ExpectedReply::Authentication, &what)
            .map(drop)
            .map_err(|failure| with_hint(failure, hint))
    }

    /// Sends a message to all recipients. Fails with `TooLarge` if the server limits the size of a
    /// message, with `Misconfigured` if it rejects an address, with `RejectsAll` if it rejects the
    /// message, and with `Retry` after a transient reply.
    pub(super) async fn send(&mut self, plan: &EmailPlan, message: &[u8]) -> Result<(), Failure> {
        let sender = &plan.from.email;
        let reply = self.0.command(&format!("MAIL FROM:<{sender}>")).await?;
        let hint = "set `from` to an address that the server accepts";
        reply
            .require(ExpectedReply::Completion, &format!("cannot send from `{sender}`"))
            .map_err(|failure| with_hint(failure, hint))?;

        for mailbox in &plan.to {
            let recipient = &mailbox.email;
            let reply = self.0.command(&format!("RCPT TO:<{recipient}>")).await?;
            let hint = "correct the address in `to`, or remove it";
            reply
                .require(ExpectedReply::Completion, &format!("cannot send to `{recipient}`"))
                .map_err(|failure| with_hint(failure, hint))?;
        }

        let what = "the mail server rejected the message";
        self.0.command("DATA").await?.require(ExpectedReply::MessageStart, what)?;
        let reply = self.0.message(message).await?;
        if reply.code == TOO_LARGE {
            let reason = reply.failure(what).to_string();
            return Err(Failure::TooLarge { reason, arrived: Vec::new() });
        }
        reply.require(ExpectedReply::Completion, what).map(drop).map_err(rejected_content)
    }

    /// Ends the session. The outcome has no effect on what was sent.
    pub(super) async fn close(mut self) {
        let _ = timeout(QUIT_TIMEOUT, self.0.command("QUIT")).await;
    }
}

/// The name with which this host introduces itself. A name that is not valid in a command is
/// replaced with an address literal.
fn hello(host: &str) -> &str {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if !host.is_empty() && host.chars().all(is_valid) { host } else { "[127.0.0.1]" }
}

/// Whether the server offers a mechanism of authentication.
fn offers(extensions: &[String], mechanism: &str) -> bool {
    let mut offered = extensions.iter().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| word.eq_ignore_ascii_case("AUTH")).map(|_| words)
    });
    offered.any(|mut words| words.any(|word| word.eq_ignore_ascii_case(mechanism)))
}

/// The failure of a message that was rejected permanently: a filter may reject the text of a single
/// tenant.
fn rejected_content(failure: Failure) -> Failure {
    match failure {
        Failure::Misconfigured { reason, hint } => Failure::RejectsAll { reason, hint },
        other => other,
    }
}

/// Adds a hint to a failure that needs an operator.
fn with_hint(failure: Failure, hint: &'static str) -> Failure {
    match failure {
        Failure::Misconfigured { reason, .. } => {
            Failure::Misconfigured { reason, hint: Some(hint.into()) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        error::Hint,
        foreign_text::PeerSecrets,
        sink::{
            email::config::{Encryption, Server},
            notification::Mode,
        },
    };

    fn plan() -> EmailPlan {
        EmailPlan {
            server: Server { host: "localhost".to_owned(), port: 25 },
            encryption: Encryption::None,
            server_name: "localhost".to_owned(),
            ca_file: None,
            from: "score@contoso.example".parse().unwrap(),
            to: vec!["a@contoso.example".parse().unwrap(), "b@contoso.example".parse().unwrap()],
            credentials: None,
            mode: Mode::Messages,
            attach_report: false,
            sent: PeerSecrets::default(),
        }
    }

    /// Sends a message to a server with these replies. Returns the outcome and what it received.
    async fn send(replies: &str) -> (Result<(), Failure>, String) {
        let (client, mut server) = tokio::io::duplex(1 << 16);
        server.write_all(replies.as_bytes()).await.unwrap();
        server.shutdown().await.unwrap();
        let mut session = SmtpSession(SmtpConnection::over(client));
        let outcome = session.send(&plan(), b"Subject: x\r\n\r\n.\r\n").await;
        drop(session);

        let mut received = String::new();
        server.read_to_string(&mut received).await.unwrap();
        (outcome, received)
    }

    #[tokio::test]
    async fn a_message_is_sent_to_all_recipients() {
        let (outcome, received) = send("250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 queued\r\n").await;
        outcome.unwrap();
        assert_eq!(
            received,
            "MAIL FROM:<score@contoso.example>\r\nRCPT TO:<a@contoso.example>\r\nRCPT TO:<b@contoso.example>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\n"
        );
    }

    #[tokio::test]
    async fn a_rejected_recipient_stops_the_message() {
        let (outcome, received) = send("250 a\r\n250 b\r\n550 5.1.1 no such user\r\n").await;
        let failure = outcome.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "cannot send to `b@contoso.example`: 550 5.1.1 no such user"
        );
        assert!(failure.hint().unwrap().contains("correct the address in `to`"));
        assert!(!received.contains("DATA"), "{received}");
    }

    #[tokio::test]
    async fn replies_decide_what_happens_to_the_message() {
        let accepted = "250 a\r\n250 b\r\n250 c\r\n354 d\r\n";
        for (reply, expected) in [
            ("450 greylisted\r\n", "retry"),
            ("354 continue\r\n", "retry"),
            ("334 continue\r\n", "retry"),
            ("552 too large\r\n", "too large"),
            ("554 spam\r\n", "rejects all"),
            ("", "retry"),
        ] {
            let (outcome, _) = send(&format!("{accepted}{reply}")).await;
            let found = match outcome.unwrap_err() {
                Failure::Retry { .. } => "retry",
                Failure::TooLarge { .. } => "too large",
                Failure::RejectsAll { .. } => "rejects all",
                other => panic!("{other}"),
            };
            assert_eq!(found, expected, "{reply}");
        }
    }

    /// Regression: a reply of another class to any command counted as success, so a message was
    /// delivered although the server had not accepted it.
    #[tokio::test]
    async fn unexpected_replies_stop_the_message() {
        for replies in [
            "354 a\r\n",
            "250 a\r\n354 b\r\n",
            "250 a\r\n250 b\r\n334 c\r\n",
            "250 a\r\n250 b\r\n250 c\r\n250 d\r\n",
        ] {
            let (outcome, received) = send(replies).await;
            let failure = outcome.unwrap_err();
            assert!(matches!(failure, Failure::Retry { .. }), "{replies}: {failure}");
            assert!(failure.to_string().contains("unexpected reply"), "{replies}: {failure}");
            assert!(!received.contains("Subject"), "{replies}: {received}");
        }
    }

    /// Regression: the session continued without authentication after a challenge.
    #[tokio::test]
    async fn authentication_ends_with_its_own_reply() {
        for (mechanism, replies, expected) in [
            ("PLAIN", "235 yes\r\n", "accepted"),
            ("PLAIN", "334 \r\n", "retry"),
            ("PLAIN", "250 yes\r\n", "retry"),
            ("PLAIN", "454 later\r\n", "retry"),
            ("PLAIN", "535 no\r\n", "misconfigured"),
            ("LOGIN", "334 a\r\n334 b\r\n235 yes\r\n", "accepted"),
            ("LOGIN", "334 a\r\n334 b\r\n334 c\r\n", "retry"),
            ("LOGIN", "235 yes\r\n", "retry"),
            ("LOGIN", "334 a\r\n250 b\r\n", "retry"),
            ("LOGIN", "334 a\r\n535 no\r\n", "misconfigured"),
        ] {
            let (client, mut server) = tokio::io::duplex(1 << 16);
            server.write_all(replies.as_bytes()).await.unwrap();
            let mut session = SmtpSession(SmtpConnection::over(client));
            let extensions = [format!("AUTH {mechanism}")];
            let password = SecretString::from("canary");

            let found = match session.authenticate("score", &password, &extensions).await {
                Ok(()) => "accepted",
                Err(Failure::Retry { .. }) => "retry",
                Err(Failure::Misconfigured { .. }) => "misconfigured",
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, expected, "{mechanism}: {replies}");
        }
    }

    #[test]
    fn mechanisms_are_read_from_the_extensions() {
        let extensions = ["mail.example.com", "SIZE 1000", "auth LOGIN plain"].map(str::to_owned);
        assert!(offers(&extensions, "PLAIN") && offers(&extensions, "LOGIN"));
        assert!(!offers(&extensions, "XOAUTH2") && !offers(&extensions[..2], "PLAIN"));
    }

    #[test]
    fn names_that_are_not_valid_are_replaced() {
        assert_eq!(hello("collector-1.example.com"), "collector-1.example.com");
        for host in ["", "a b", "x\r\nRCPT TO:<a@b>", "höst"] {
            assert_eq!(hello(host), "[127.0.0.1]", "{host}");
        }
    }
}
