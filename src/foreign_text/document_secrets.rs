//! The secrets that are removed from the messages about documents, such as the items of a page.
//!
//! A document has up to several MiB, and a page many of them, but only a short message about some
//! is ever shown. All of them therefore share one limit for the search. A text that is not searched
//! within this limit must not be shown. Start reading at [`DocumentSecrets`]. See decision 0086.

use std::borrow::Cow;

use super::{SentSecrets, search_budget::SearchBudget};

/// How many bytes of all documents together are searched: about as many as ten large snapshots
/// need.
const MAX_SEARCHED_BYTES: usize = 32 << 20;

/// The secrets that a server may repeat in its documents, with one limit for the search in all of
/// them.
#[derive(Debug)]
pub struct DocumentSecrets<'a> {
    secrets: &'a SentSecrets,
    budget: SearchBudget,
}

/// A document without secrets.
#[derive(Debug, PartialEq, Eq)]
pub enum RedactedDocument {
    /// The document contains none.
    Unchanged,
    /// The document with `[redacted]` in place of every secret.
    Changed(Vec<u8>),
    /// The limit is exceeded, so it is unknown whether the document contains one.
    NotSearched,
}

impl<'a> DocumentSecrets<'a> {
    /// These secrets, with the limit for the documents of one response.
    pub const fn new(secrets: &'a SentSecrets) -> Self {
        Self { secrets, budget: SearchBudget::new(MAX_SEARCHED_BYTES) }
    }

    /// These secrets, with another limit.
    #[cfg(test)]
    pub const fn with_limit(secrets: &'a SentSecrets, bytes: usize) -> Self {
        Self { secrets, budget: SearchBudget::new(bytes) }
    }

    /// A document without the secrets.
    pub fn redact_document(&self, document: &[u8]) -> RedactedDocument {
        self.secrets.redact_document(document, &self.budget)
    }

    /// A text with `[redacted]` in place of every secret, and in place of everything if the limit
    /// is exceeded.
    pub fn redact_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.secrets.redact_within(text, &self.budget)
    }

    /// The size of the search in a document of this size, as of [`SentSecrets::search_bytes`].
    pub fn search_bytes(&self, document_bytes: usize) -> usize {
        self.secrets.search_bytes(document_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_share_one_limit() {
        let mut secrets = SentSecrets::default();
        secrets.add("canary-token");
        let [plain, quoting] = [&b"plain text"[..], b"no canary-token"];

        let documents = DocumentSecrets::with_limit(&secrets, 30);
        assert_eq!(documents.redact_document(plain), RedactedDocument::Unchanged);
        let redacted = RedactedDocument::Changed(b"no [redacted]".to_vec());
        assert_eq!(documents.redact_document(quoting), redacted);
        for document in [plain, quoting] {
            assert_eq!(documents.redact_document(document), RedactedDocument::NotSearched);
        }
        assert_eq!(documents.redact_text("plain text"), "[redacted]");

        let none = SentSecrets::default();
        let documents = DocumentSecrets::with_limit(&none, 0);
        assert_eq!(documents.redact_document(plain), RedactedDocument::Unchanged);
        assert_eq!(documents.redact_text("plain text"), "plain text");
    }

    #[test]
    fn texts_are_redacted_within_the_limit() {
        let mut secrets = SentSecrets::default();
        secrets.add("canary-token");
        let documents = DocumentSecrets::new(&secrets);
        assert_eq!(documents.redact_text("no canary%2Dtoken"), "no [redacted]");
        assert_eq!(documents.redact_text("plain text"), "plain text");
    }
}
