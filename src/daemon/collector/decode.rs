//! Decodes the documents of Graph, without secrets in the messages about them.
//!
//! A document is data, which must never be changed here. A message about it quotes the document,
//! though, and a server can write a secret into it that it has received. In a quoted text, which is
//! cut and has other characters in place of hidden ones, a secret could no longer be recognized.
//! Every message is therefore one about the document without the secrets. Start reading at
//! [`SnapshotContext::accept`]; decision 0086 has the reasons.

use std::borrow::Cow;

use crate::{
    error::chain,
    foreign_text::SentSecrets,
    ledger::{self, AcceptedSnapshot, Rejected, SnapshotOrigin},
    model::{DataFaults, Day, TenantId, UnixMillis},
    source::without_secrets,
    wire::{self, Page, ProfileParts, WireError},
};

/// A function that parses a page.
pub(super) type ParsePage = fn(&[u8]) -> Result<Page<'_>, WireError>;

/// What is known about a snapshot before it is decoded.
pub(super) struct SnapshotContext<'a> {
    pub tenant: TenantId,
    pub today: Day,
    pub origin: SnapshotOrigin,
    pub observed_at: UnixMillis,
    /// The secrets that the server may repeat.
    pub secrets: &'a SentSecrets,
}

impl SnapshotContext<'_> {
    /// Decodes a snapshot, and accepts or rejects it as [`ledger::accept`] does.
    pub(super) fn accept(&self, json: &str) -> Result<AcceptedSnapshot, Rejected> {
        let judged = self.judge(json);
        if judged.as_ref().is_ok_and(|snapshot| snapshot.faults.is_empty()) {
            return judged;
        }

        let redacted = match self.secrets.redact(json) {
            Cow::Borrowed(_) => return judged,
            Cow::Owned(redacted) => self.judge(&redacted),
        };
        match judged {
            Ok(snapshot) => {
                let faults = faults_of(redacted.ok().map(|redacted| redacted.faults));
                Ok(AcceptedSnapshot { faults, ..snapshot })
            }
            Err(mut rejected) => {
                let details = redacted.err().map(|redacted| redacted.observation.details);
                rejected.observation.details = details.unwrap_or_else(hidden);
                Err(rejected)
            }
        }
    }

    fn judge(&self, json: &str) -> Result<AcceptedSnapshot, Rejected> {
        let Self { tenant, today, origin, observed_at, .. } = *self;
        let snapshot = wire::snapshot(json)
            .map_err(|error| ledger::unreadable(&chain(&error), wire::listed_day(json), today))?;
        ledger::accept(&snapshot, json, tenant, today, origin, observed_at)
    }
}

/// Parses a page.
pub(super) fn page<'a>(
    body: &'a [u8],
    parse: ParsePage,
    secrets: &SentSecrets,
) -> Result<Page<'a>, WireError> {
    parse(body)
        .map_err(|error| without_secrets(error, body, secrets, |redacted| parse(redacted).err()))
}

/// Divides a control profile as [`wire::split_profile`] does.
pub(super) fn profile(json: &str, secrets: &SentSecrets) -> Result<ProfileParts, WireError> {
    let split = wire::split_profile(json);
    if split.as_ref().is_ok_and(|parts| parts.faults.is_empty()) {
        return split;
    }

    let redacted = match secrets.redact(json) {
        Cow::Borrowed(_) => return split,
        Cow::Owned(redacted) => wire::split_profile(&redacted),
    };
    match split {
        Ok(parts) => {
            let faults = faults_of(redacted.ok().map(|redacted| redacted.faults));
            Ok(ProfileParts { faults, ..parts })
        }
        Err(_) => Err(redacted.err().unwrap_or(WireError::Hidden)),
    }
}

/// The faults of a document that has some, from the same document without secrets, which may have
/// none, or may not be usable.
fn faults_of(redacted: Option<DataFaults>) -> DataFaults {
    redacted.filter(|faults| !faults.is_empty()).unwrap_or_else(|| {
        let mut faults = DataFaults::default();
        faults.add(hidden());
        faults
    })
}

/// The reason in place of one that quotes a secret.
fn hidden() -> String {
    WireError::Hidden.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
    const SECRET: &str = "canary-of-a-token";

    fn secrets() -> SentSecrets {
        let mut secrets = SentSecrets::default();
        secrets.add_temporary(SECRET);
        secrets
    }

    fn accept(json: &str) -> Result<AcceptedSnapshot, Rejected> {
        let tenant = TenantId::parse(GUID).unwrap();
        let (today, observed_at) = (Day::parse("2026-11-22").unwrap(), UnixMillis::new(0));
        let (origin, secrets) = (SnapshotOrigin::Poll, &secrets());
        SnapshotContext { tenant, today, origin, observed_at, secrets }.accept(json)
    }

    /// The spellings of the secret in JSON: unchanged, as an escape sequence, and with characters
    /// that are replaced before a message shows them.
    fn spellings() -> [String; 4] {
        let separated = |separator: &str| {
            let parts: Vec<&str> = SECRET.split('a').collect();
            parts.join(&format!("a{separator}"))
        };
        let escaped = SECRET.replace('a', "\\u0061");
        [SECRET.to_owned(), escaped, separated("\\n"), separated("\\u200b")]
    }

    /// The text as it would be compared with the secret.
    fn letters(message: &str) -> String {
        message.chars().filter(char::is_ascii_alphabetic).collect()
    }

    fn assert_redacted(message: &str) {
        assert!(message.contains("[redacted]"), "{message}");
        assert!(!letters(message).contains("canary"), "{message}");
    }

    fn snapshot(fields: &str) -> String {
        format!(
            r#"{{"id":"{GUID}_2026-11-21","azureTenantId":"{GUID}","createdDateTime":"2026-11-21T00:00:00Z",{fields}}}"#
        )
    }

    /// Regression: the message about a response that is not a page contained the token that the
    /// response repeated.
    #[test]
    fn errors_about_pages_contain_no_secret() {
        for secret in spellings() {
            for body in [
                format!("\"{secret}\""),
                format!(r#"{{"value":"{secret}"}}"#),
                format!(r#"{{"value":[],"value":"{secret}"}}"#),
                format!(r#"{{"value":{{"{secret}":1}}}}"#),
            ] {
                for parse in [wire::page as ParsePage, wire::bare_list] {
                    let error = page(body.as_bytes(), parse, &secrets()).unwrap_err();
                    let message = chain(&error);
                    assert!(!letters(&message).contains("canary"), "{message}");
                }
            }
            let text = format!("\"{secret}\"");
            let error = page(text.as_bytes(), wire::page, &secrets()).unwrap_err();
            assert_redacted(&chain(&error));
        }
    }

    /// Regression: the observation about a rejected snapshot quoted the token that the snapshot
    /// repeated.
    #[test]
    fn rejections_of_snapshots_contain_no_secret() {
        for secret in spellings() {
            for (json, is_quoted) in [
                (format!(r#"{{"azureTenantId":"{secret}"}}"#), true),
                (format!(r#"{{"azureTenantId":"{GUID}","createdDateTime":"{secret}"}}"#), true),
                (format!(r#"{{"id":"aaaaaaaa-{secret}"}}"#), false),
                (snapshot(&format!(r#""controlScores":[{{"{secret}":1}}]"#)), false),
                (snapshot(&format!(r#""controlScores":"{secret}""#)), false),
                (format!("\"{secret}\""), false),
                (format!("[\"{secret}\""), false),
            ] {
                let details = accept(&json).unwrap_err().observation.details;
                assert!(!letters(&details).contains("canary"), "{json}: {details}");
                assert_eq!(details.contains("[redacted]"), is_quoted, "{json}: {details}");
            }
        }
    }

    #[test]
    fn faults_of_snapshots_contain_no_secret() {
        for secret in spellings() {
            for fields in [
                format!(r#""controlScores":[{{"controlName":"{secret}","score":-1}}]"#),
                format!(r#""enabledServices":["{secret}","{secret}"],"controlScores":[]"#),
                format!(r#""controlScores":[{{"controlName":"{secret}","score":true}}]"#),
            ] {
                let json = snapshot(&fields);
                let accepted = accept(&json).unwrap();
                assert_redacted(&accepted.faults.to_string());
                // What is stored is what was received.
                assert_eq!(accepted.body.decompress().unwrap(), json);
            }
        }
    }

    #[test]
    fn messages_about_profiles_contain_no_secret() {
        for secret in spellings() {
            let parts = profile(&format!(r#"{{"id":"{secret}","maxScore":-1}}"#), &secrets());
            let parts = parts.unwrap();
            assert_redacted(&parts.faults.to_string());
            assert!(letters(&parts.id).starts_with("canary"), "{}", parts.id);

            let long = format!(r#"{{"id":"{secret}{}"}}"#, "x".repeat(2_000));
            assert_redacted(&chain(&profile(&long, &secrets()).unwrap_err()));
        }
    }

    /// A secret can contain what makes a document invalid.
    #[test]
    fn faults_that_disappear_are_reported() {
        let mut secrets = SentSecrets::default();
        secrets.add("ab\\qdefgh");
        let json = r#"{"value":["ab\qdefgh"]}"#;
        let error = page(json.as_bytes(), wire::page, &secrets).unwrap_err();
        assert!(matches!(error, WireError::Hidden), "{error}");

        assert_eq!(faults_of(None).to_string(), hidden());
        assert_eq!(faults_of(Some(DataFaults::default())).to_string(), hidden());
    }

    #[test]
    fn documents_without_secrets_keep_their_messages() {
        let json = r#"{"azureTenantId":"not a tenant"}"#;
        let details = accept(json).unwrap_err().observation.details;
        assert_eq!(details, "`azureTenantId` of the snapshot is `not a tenant`");
        let error = profile(r#"{"id":1}"#, &secrets()).unwrap_err();
        assert_eq!(error.to_string(), "`id` is a number instead of a text");
    }
}
