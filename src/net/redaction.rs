//! Removes secrets from foreign text without a delay of other tasks.
//!
//! The search for secrets decodes a text in many ways, so it takes far longer than other work on a
//! text of the same size. Code outside of `foreign_text` must not call its methods for a text of
//! more than a few KiB itself: it calls these functions. Start reading at [`off_worker_to_redact`].
//! See decision 0086.

use std::borrow::Cow;

use super::off_worker;
use crate::foreign_text::{CUT_MARGIN_BYTES, DocumentSecrets, RedactedDocument, SentSecrets};

/// How many times longer the search for secrets in a text takes than other work on it, at least.
const SEARCH_FACTOR: usize = 8;

/// Runs work that searches texts for secrets. `search_bytes` is the size of the search, as of
/// [`SentSecrets::search_bytes`].
pub(crate) fn off_worker_to_redact<T>(search_bytes: usize, work: impl FnOnce() -> T) -> T {
    off_worker(search_bytes.saturating_mul(SEARCH_FACTOR), work)
}

/// As [`SentSecrets::redact`].
pub(crate) fn redact<'a>(secrets: &SentSecrets, text: &'a str) -> Cow<'a, str> {
    off_worker_to_redact(secrets.search_bytes(text.len()), || secrets.redact(text))
}

/// As [`SentSecrets::redact_body`].
#[cfg(any(feature = "email", feature = "object_store"))]
pub(crate) fn redact_body(secrets: &SentSecrets, body: Vec<u8>) -> Vec<u8> {
    off_worker_to_redact(secrets.search_bytes(body.len()), || secrets.redact_body(body))
}

/// As [`SentSecrets::redact_beginning`].
pub(crate) fn redact_beginning(secrets: &SentSecrets, text: &[u8], max: usize) -> Vec<u8> {
    let searched = text.len().min(max.saturating_add(CUT_MARGIN_BYTES));
    off_worker_to_redact(secrets.search_bytes(searched), || secrets.redact_beginning(text, max))
}

/// As [`DocumentSecrets::redact_document`].
pub(crate) fn redact_document(secrets: &DocumentSecrets<'_>, document: &[u8]) -> RedactedDocument {
    let search_bytes = secrets.search_bytes(document.len());
    off_worker_to_redact(search_bytes, || secrets.redact_document(document))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the beginning of a token response was searched on a worker thread.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn searches_do_not_delay_other_tasks() {
        let mut secrets = SentSecrets::default();
        secrets.add("canary-token");
        let text = "x".repeat(4 << 10);

        // The only worker thread executes this task, so the other one runs only if it is replaced.
        let searched = tokio::spawn(async move {
            let (sender, receiver) = std::sync::mpsc::channel();
            tokio::spawn(async move { sender.send(()) });
            off_worker_to_redact(secrets.search_bytes(text.len()), || {
                assert_eq!(secrets.redact(&text), text);
                receiver.recv_timeout(std::time::Duration::from_mins(1))
            })
        });
        searched.await.unwrap().unwrap();
    }

    #[test]
    fn results_are_those_of_the_secrets() {
        let mut secrets = SentSecrets::default();
        secrets.add("canary-token");
        assert_eq!(redact(&secrets, "no canary-token"), "no [redacted]");
        assert_eq!(redact_beginning(&secrets, b"no canary-token", 5), b"no [redacted]");
        let document = redact_document(&DocumentSecrets::new(&secrets), b"no canary-token");
        assert_eq!(document, RedactedDocument::Changed(b"no [redacted]".to_vec()));
    }
}
