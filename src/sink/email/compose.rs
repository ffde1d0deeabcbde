//! A message as Internet mail (RFC 5322): plain text and HTML, and a report as an attachment.
//!
//! The crate for mail encodes headers and bodies, so no text of a record can add a header or a
//! recipient. A message that is sent again has the same `Message-ID`, by which clients recognize
//! the repetition. Start reading at [`compose`].

use std::time::SystemTime;

use jiff::Timestamp;
use lettre::message::{
    Attachment as AttachedPart, MultiPart,
    header::{ContentType, HeaderName, HeaderValue},
};

use super::{config::EmailPlan, html};
use crate::sink::{
    Attachment,
    notification::{EventIdLines, Message},
};

/// What an email contains besides the text of the message.
pub(super) struct MailMetadata<'a> {
    /// The part of `Message-ID` before the domain of the sender: the same for a repeated message.
    pub id: &'a str,
    /// The time in the header `Date`.
    pub time: Timestamp,
    /// The name of this host, for the last line.
    pub host: &'a str,
    /// The report.
    pub attachment: Option<&'a Attachment>,
}

/// The bytes of the email, with lines that end in CRLF. Fails if the crate for mail rejects the
/// headers.
pub(super) fn compose(
    plan: &EmailPlan,
    message: &Message,
    metadata: &MailMetadata<'_>,
) -> Result<Vec<u8>, lettre::error::Error> {
    let id = format!("<{}@{}>", metadata.id, plan.from.email.domain());
    // Servers and clients do not send automatic replies to such an email (RFC 3834, section 5).
    let automatic = HeaderValue::new(
        HeaderName::new_from_ascii_str("Auto-Submitted"),
        "auto-generated".to_owned(),
    );
    let mut mail = lettre::Message::builder()
        .from(plan.from.clone())
        .subject(message.title.clone())
        .date(SystemTime::from(metadata.time))
        .message_id(Some(id))
        .raw_header(automatic);
    for recipient in &plan.to {
        mail = mail.to(recipient.clone());
    }

    let footer = format!("Sent by secure-score-forwarder on {}", metadata.host);
    let text = format!("{}\n-- \n{footer}\n", message.text(EventIdLines::Included));
    let body = MultiPart::alternative_plain_html(text, html::page(message, &footer));
    let mail = match metadata.attachment {
        None => mail.multipart(body)?,
        Some(file) => {
            let part = AttachedPart::new(file.name.clone())
                .body(file.content.clone(), ContentType::TEXT_HTML);
            mail.multipart(MultiPart::mixed().multipart(body).singlepart(part))?
        }
    };
    Ok(mail.formatted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        foreign_text::PeerSecrets,
        sink::{
            email::config::{Encryption, Server},
            notification::{Mode, tests::change},
        },
    };

    fn plan() -> EmailPlan {
        EmailPlan {
            server: Server { host: "mail.example.com".to_owned(), port: 465 },
            encryption: Encryption::Implicit,
            server_name: "mail.example.com".to_owned(),
            ca_file: None,
            from: "Secure Score <score@contoso.example>".parse().unwrap(),
            to: vec![
                "soc@contoso.example".parse().unwrap(),
                "Ops <ops@contoso.example>".parse().unwrap(),
            ],
            credentials: None,
            mode: Mode::Messages,
            attach_report: true,
            sent: PeerSecrets::default(),
        }
    }

    fn composed(attachment: Option<&Attachment>) -> String {
        let message = Mode::Messages.message(&[change("contoso", "regressed", -10.0, 8)], &[]);
        let time = "2026-11-23T08:00:00Z".parse().unwrap();
        let metadata = MailMetadata { id: "0123abcd", time, host: "collector", attachment };
        String::from_utf8(compose(&plan(), &message, &metadata).unwrap()).unwrap()
    }

    #[test]
    fn headers_identify_an_automatic_email() {
        let mail = composed(None);
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        for expected in [
            "From: \"Secure Score\" <score@contoso.example>",
            "To: soc@contoso.example, Ops <ops@contoso.example>",
            "Subject: Secure Score: 1 change in contoso",
            "Date: Mon, 23 Nov 2026 08:00:00 +0000",
            "Message-ID: <0123abcd@contoso.example>",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
        ] {
            // The form of a name with a space depends on the version of the crate.
            let plain = |text: &str| text.replace('"', "");
            assert!(head.lines().any(|line| plain(line) == plain(expected)), "{expected}\n{head}");
        }
        assert!(head.contains("multipart/alternative"), "{head}");
    }

    #[test]
    fn an_email_has_plain_text_and_html() {
        let mail = composed(None);
        assert!(mail.is_ascii() && mail.lines().all(|line| line.len() < 998));
        assert!(mail.contains("Content-Type: text/plain; charset=utf-8"), "{mail}");
        assert!(mail.contains("Content-Type: text/html; charset=utf-8"), "{mail}");
        assert!(!mail.contains("multipart/mixed"));
    }

    #[test]
    fn a_report_is_attached_with_its_name() {
        let report =
            Attachment { name: "secure-score-2026-11-23.html".into(), content: "<p>é</p>".into() };
        let mail = composed(Some(&report));
        assert!(mail.contains("multipart/mixed"), "{mail}");
        assert!(mail.contains("filename=\"secure-score-2026-11-23.html\""), "{mail}");
    }
}
