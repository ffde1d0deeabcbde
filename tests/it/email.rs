//! The sink for email, against a mail server on the loopback interface.

use std::path::PathBuf;

use crate::{
    notifications::SELECTION,
    support::{
        CANARY, Workspace, eventually, records,
        rsyslog::write_pki,
        smtp::{Encryption, Mail, MailServer},
        sorted_ids,
    },
};

const MAILBOXES: &str = "from = \"Secure Score <score@contoso.example>\"\nto = [\"a@contoso.example\", \"b@contoso.example\"]";

/// A workspace with a sink for email, and the file of a sink that receives the same records.
fn workspace(server: &MailServer, keys: &str) -> (Workspace, PathBuf) {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 30".to_owned();
    let file = workspace.path("reference.jsonl");
    workspace
        .sink("reference", &format!("type = \"file\"\npath = \"{}\"\n{SELECTION}", file.display()));
    add_mail(&mut workspace, server, keys);
    (workspace, file)
}

fn add_mail(workspace: &mut Workspace, server: &MailServer, keys: &str) {
    let port = server.port;
    workspace.sink(
        "mail",
        &format!(
            "type = \"email\"\nserver = \"127.0.0.1:{port}\"\n{MAILBOXES}\n{keys}\n{SELECTION}"
        ),
    );
}

/// The event IDs in the texts of all emails, in alphabetical order.
fn sent(mails: &[Mail]) -> Vec<String> {
    let texts = mails.iter().map(|mail| mail.part("text/plain"));
    let ids = texts.flat_map(|text| {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines
            .into_iter()
            .filter_map(|line| Some(line.strip_prefix("Event ID: ")?.trim().to_owned()))
    });
    let mut sorted: Vec<String> = ids.collect();
    sorted.sort();
    sorted
}

#[test]
fn mail_is_encrypted_and_authenticated() {
    let pki = tempfile::tempdir().unwrap();
    write_pki(pki.path());
    for (encryption, name) in
        [(Encryption::Implicit, "implicit"), (Encryption::StartTls, "starttls")]
    {
        let server = MailServer::encrypted(encryption, pki.path());
        let (mut workspace, file) = workspace(&server, "");
        let password = workspace.secret("mail-secret", &format!("{CANARY}-mail"));
        let ca_file = pki.path().join("ca.pem").display().to_string();
        let keys = format!(
            "tls = \"{name}\"\nca_file = \"{ca_file}\"\nusername = \"score\"\npassword = {password}"
        );
        workspace.clear_sinks();
        workspace.sink(
            "reference",
            &format!("type = \"file\"\npath = \"{}\"\n{SELECTION}", file.display()),
        );
        add_mail(&mut workspace, &server, &keys);

        let check = workspace.run_ok(&["check", "--online"]);
        assert!(check.stdout.contains("sink `mail`: the mail server accepts the credentials"));
        assert!(server.mails().is_empty());

        workspace.run_ok(&["once"]);
        let mails = server.mails();
        assert_eq!(sent(&mails), sorted_ids(&records(&file)));
        for mail in &mails {
            assert!(
                mail.encrypted && mail.login == Some(format!("score {CANARY}-mail")),
                "{mail:?}"
            );
            assert_eq!(mail.from, "score@contoso.example");
            assert_eq!(mail.to, ["a@contoso.example", "b@contoso.example"]);
            assert!(mail.header("Subject").starts_with("Secure Score: "), "{mail:?}");
            assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
            assert!(mail.part("text/html").contains("</html>"));
        }
    }
}

#[test]
fn an_untrusted_server_receives_nothing() {
    let pki = tempfile::tempdir().unwrap();
    write_pki(pki.path());
    for (encryption, name) in
        [(Encryption::Implicit, "implicit"), (Encryption::StartTls, "starttls")]
    {
        let server = MailServer::encrypted(encryption, pki.path());
        let (workspace, _) = workspace(&server, &format!("tls = \"{name}\""));
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains("parked"), "{}", run.stderr);
        assert!(server.mails().is_empty());
    }
}

/// A server that does not offer STARTTLS, as if an attacker on the network had removed it.
#[test]
fn nothing_is_sent_without_encryption() {
    let server = MailServer::new();
    let (workspace, _) = workspace(&server, "tls = \"starttls\"");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("the mail server does not offer STARTTLS"), "{}", run.stderr);
    assert!(server.mails().is_empty());
}

#[test]
fn mail_is_retried_after_a_transient_reply() {
    let server = MailServer::new();
    server.reply_once("RCPT TO:<b@", "450 4.2.0 greylisted");
    server.reply_once("DATA.", "451 4.3.0 try again");
    let (workspace, file) = workspace(&server, "tls = \"none\"");
    workspace.run_ok(&["once"]);

    let mails = server.mails();
    assert_eq!(sent(&mails), sorted_ids(&records(&file)));
    assert!(mails.iter().all(|mail| mail.to.len() == 2 && !mail.encrypted));
}

/// Regression: `354` as the reply to a complete message counted as its acknowledgement.
#[test]
fn an_unexpected_reply_acknowledges_nothing() {
    let server = MailServer::new();
    server.reply_once("DATA.", "354 end with a dot");
    server.reply_once("MAIL", "354 end with a dot");
    let (workspace, file) = workspace(&server, "tls = \"none\"");
    workspace.run_ok(&["once"]);
    assert_eq!(sent(&server.mails()), sorted_ids(&records(&file)));
}

#[test]
fn a_rejected_recipient_parks_the_sink() {
    let server = MailServer::new();
    server.reject("b@contoso.example");
    let (workspace, file) = workspace(&server, "tls = \"none\"");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    let message =
        "cannot send to `b@contoso.example`: 550 5.1.1 the recipient 5.1.1 does not exist";
    assert!(run.stderr.contains(message) && run.stderr.contains("parked"), "{}", run.stderr);
    assert!(server.mails().is_empty());

    server.reject_none();
    workspace.run_ok(&["once"]);
    assert_eq!(sent(&server.mails()), sorted_ids(&records(&file)));
}

#[test]
fn a_mail_that_is_too_large_is_split() {
    let server = MailServer::new();
    server.reply_once("DATA.", "552 5.3.4 the message is too large");
    let (workspace, file) = workspace(&server, "tls = \"none\"");
    workspace.run_ok(&["once"]);
    assert_eq!(sent(&server.mails()), sorted_ids(&records(&file)));
    assert_eq!(workspace.status()["dead_letters"].as_array().map(Vec::len), Some(0));
}

/// The server rejects the first email as too large, so the report of the second one is left out.
#[test]
fn a_digest_has_the_report_as_an_attachment() {
    for is_too_large in [false, true] {
        let server = MailServer::new();
        if is_too_large {
            server.reply_once("DATA.", "552 5.3.4 the message is too large");
        }
        let (workspace, _) = workspace(&server, "tls = \"none\"\ndigest = \"* * * * *\"");
        // The digest is due in the next minute, when all days are in the log.
        workspace.run(&["once"]);
        let daemon = workspace.spawn(&["run"]);
        eventually("the digest is sent", || !server.mails().is_empty());
        daemon.signal("TERM");
        assert_eq!(daemon.end().code, 0);

        let mail = server.mails().remove(0);
        assert!(mail.header("Subject").starts_with("Secure Score digest: "), "{mail:?}");
        assert_eq!(mail.data.contains("filename=\"secure-score-"), !is_too_large);
        let text = mail.part("text/plain");
        assert!(text.contains("Largest changes"), "{text}");
        assert_eq!(text.contains("The report is too large to attach"), is_too_large);
    }
}
