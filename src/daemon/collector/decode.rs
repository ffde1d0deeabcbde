//! Decodes the documents of Graph, without secrets in the messages about them.
//!
//! A document is data, which must never be changed here. A message about it quotes the document,
//! though, and a server can write a secret into it that it has received. In a quoted text, which is
//! cut and has other characters in place of hidden ones, a secret could no longer be recognized.
//! Every message is therefore one about the document without the secrets, and one about a document
//! that is not searched for them quotes nothing. Start reading at [`SnapshotContext::accept`];
//! decision 0086 has the reasons.

use crate::{
    error::chain,
    foreign_text::{DocumentSecrets, RedactedDocument},
    ledger::{self, AcceptedSnapshot, Rejected, SnapshotOrigin},
    model::{DataFaults, Day, TenantId, UnixMillis},
    net,
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
    pub secrets: &'a DocumentSecrets<'a>,
}

impl SnapshotContext<'_> {
    /// Decodes a snapshot, and accepts or rejects it as [`ledger::accept`] does.
    pub(super) fn accept(&self, json: &str) -> Result<AcceptedSnapshot, Rejected> {
        let judged = self.judge(json);
        if judged.as_ref().is_ok_and(|snapshot| snapshot.faults.is_empty()) {
            return judged;
        }

        let (redacted, reason) = match net::redact_document(self.secrets, json.as_bytes()) {
            RedactedDocument::Unchanged => return judged,
            RedactedDocument::Changed(redacted) => {
                (Some(self.judge(&String::from_utf8_lossy(&redacted))), WireError::Hidden)
            }
            RedactedDocument::NotSearched => (None, WireError::NotSearched),
        };
        match judged {
            Ok(snapshot) => {
                let redacted = redacted.and_then(Result::ok);
                let faults = faults_of(redacted.map(|redacted| redacted.faults), &reason);
                Ok(AcceptedSnapshot { faults, ..snapshot })
            }
            Err(mut rejected) => {
                let redacted = redacted.and_then(Result::err);
                let details = redacted.map(|redacted| redacted.observation.details);
                rejected.observation.details = details.unwrap_or_else(|| reason.to_string());
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
    secrets: &DocumentSecrets<'_>,
) -> Result<Page<'a>, WireError> {
    parse(body)
        .map_err(|error| without_secrets(error, body, secrets, |redacted| parse(redacted).err()))
}

/// Divides a control profile as [`wire::split_profile`] does.
pub(super) fn profile(
    json: &str,
    secrets: &DocumentSecrets<'_>,
) -> Result<ProfileParts, WireError> {
    let split_redacted = |json: &[u8]| wire::split_profile(&String::from_utf8_lossy(json));
    let parts = wire::split_profile(json).map_err(|error| {
        without_secrets(error, json.as_bytes(), secrets, |json| split_redacted(json).err())
    })?;
    if parts.faults.is_empty() {
        return Ok(parts);
    }

    let faults = match net::redact_document(secrets, json.as_bytes()) {
        RedactedDocument::Unchanged => return Ok(parts),
        RedactedDocument::Changed(redacted) => {
            let redacted = split_redacted(&redacted).ok();
            faults_of(redacted.map(|redacted| redacted.faults), &WireError::Hidden)
        }
        RedactedDocument::NotSearched => faults_of(None, &WireError::NotSearched),
    };
    Ok(ProfileParts { faults, ..parts })
}

/// The faults of a document that has some, from the same document without secrets, which may have
/// none, or may not be usable; then the only fault is the reason why none is shown.
fn faults_of(redacted: Option<DataFaults>, reason: &WireError) -> DataFaults {
    redacted.filter(|faults| !faults.is_empty()).unwrap_or_else(|| {
        let mut faults = DataFaults::default();
        faults.add(reason.to_string());
        faults
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign_text::SentSecrets;

    const GUID: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
    const SECRET: &str = "canary-of-a-token";

    fn secrets() -> SentSecrets {
        let mut secrets = SentSecrets::default();
        secrets.add_temporary(SECRET);
        secrets
    }

    fn accept(json: &str) -> Result<AcceptedSnapshot, Rejected> {
        accept_with(json, &DocumentSecrets::new(&secrets()))
    }

    fn accept_with(
        json: &str,
        secrets: &DocumentSecrets<'_>,
    ) -> Result<AcceptedSnapshot, Rejected> {
        let (tenant, origin) = (TenantId::parse(GUID).unwrap(), SnapshotOrigin::Poll);
        let (today, observed_at) = (Day::parse("2026-11-22").unwrap(), UnixMillis::new(0));
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
        let secrets = secrets();
        let secrets = DocumentSecrets::new(&secrets);
        for secret in spellings() {
            for body in [
                format!("\"{secret}\""),
                format!(r#"{{"value":"{secret}"}}"#),
                format!(r#"{{"value":[],"value":"{secret}"}}"#),
                format!(r#"{{"value":{{"{secret}":1}}}}"#),
            ] {
                for parse in [wire::page as ParsePage, wire::bare_list] {
                    let error = page(body.as_bytes(), parse, &secrets).unwrap_err();
                    let message = chain(&error);
                    assert!(!letters(&message).contains("canary"), "{message}");
                }
            }
            let text = format!("\"{secret}\"");
            let error = page(text.as_bytes(), wire::page, &secrets).unwrap_err();
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
        let secrets = secrets();
        let secrets = DocumentSecrets::new(&secrets);
        for secret in spellings() {
            let parts = profile(&format!(r#"{{"id":"{secret}","maxScore":-1}}"#), &secrets);
            let parts = parts.unwrap();
            assert_redacted(&parts.faults.to_string());
            assert!(letters(&parts.id).starts_with("canary"), "{}", parts.id);

            let long = format!(r#"{{"id":"{secret}{}"}}"#, "x".repeat(2_000));
            assert_redacted(&chain(&profile(&long, &secrets).unwrap_err()));
        }
    }

    /// A secret can contain what makes a document invalid.
    #[test]
    fn faults_that_disappear_are_reported() {
        let mut secrets = SentSecrets::default();
        secrets.add("ab\\qdefgh");
        let json = r#"{"value":["ab\qdefgh"]}"#;
        let secrets = DocumentSecrets::new(&secrets);
        let error = page(json.as_bytes(), wire::page, &secrets).unwrap_err();
        assert!(matches!(error, WireError::Hidden), "{error}");

        for redacted in [None, Some(DataFaults::default())] {
            let faults = faults_of(redacted, &WireError::Hidden);
            assert_eq!(faults.to_string(), WireError::Hidden.to_string());
        }
    }

    /// Regression: a page of 16 MiB that mixed many encodings was searched for minutes, while it
    /// occupied half of the memory for pages.
    #[test]
    fn documents_above_the_limit_are_not_quoted() {
        let secrets = secrets();
        let exceeded = || DocumentSecrets::with_limit(&secrets, 0);
        let not_searched = WireError::NotSearched.to_string();

        for (body, expected) in [
            (r#"{"value":"text"}"#, not_searched.as_str()),
            (r#"{"value":["#, "not the expected JSON: EOF while parsing"),
            ("\u{1}", "not the expected JSON: expected value"),
        ] {
            let error = page(body.as_bytes(), wire::page, &exceeded()).unwrap_err();
            assert!(chain(&error).starts_with(expected), "{body}: {}", chain(&error));
        }

        let rejected = accept_with(r#"{"azureTenantId":"other"}"#, &exceeded()).unwrap_err();
        assert_eq!(rejected.observation.details, not_searched);
        let controls = r#""controlScores":[{"controlName":"A","score":-1}]"#;
        let accepted = accept_with(&snapshot(controls), &exceeded()).unwrap();
        assert_eq!(accepted.faults.to_string(), not_searched);

        let error = profile(&format!(r#"{{"id":"{}"}}"#, "x".repeat(2_000)), &exceeded());
        assert_eq!(error.unwrap_err().to_string(), not_searched);
        let parts = profile(r#"{"id":"a","maxScore":-1}"#, &exceeded()).unwrap();
        assert_eq!((parts.id.as_str(), parts.faults.to_string()), ("a", not_searched));
    }

    #[test]
    fn documents_without_secrets_keep_their_messages() {
        let json = r#"{"azureTenantId":"not a tenant"}"#;
        let details = accept(json).unwrap_err().observation.details;
        assert_eq!(details, "`azureTenantId` of the snapshot is `not a tenant`");
        let secrets = secrets();
        let error = profile(r#"{"id":1}"#, &DocumentSecrets::new(&secrets)).unwrap_err();
        assert_eq!(error.to_string(), "`id` is a number instead of a text");
    }
}
