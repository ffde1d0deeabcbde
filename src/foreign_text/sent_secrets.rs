//! The secrets that a request or a connection sends, and their removal from the replies of the
//! peer, which may quote what it has received.
//!
//! A text of a reply must be redacted before it is escaped or shown, and while it is cut, because a
//! part of a secret would not be found afterwards. The code that sends a request collects its
//! secrets, so that no reader of a reply has to know them. The work of a search is limited, and a
//! text that exceeds the limit is removed. Start reading at [`SentSecrets`]. See decision 0086.

use std::{
    borrow::Cow,
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

use super::{
    document_secrets::RedactedDocument,
    echo_escapes::percent_decoded,
    echo_patterns::{EchoPatterns, FoundSecrets, MAX_ENCODED_BYTES},
    search_budget::SearchBudget,
};

/// The maximum size of the body of an error that is searched for secrets and for a message. Only a
/// short message of it is ever shown, so the rest is dropped.
pub const MAX_ERROR_BODY_BYTES: usize = 64 << 10;
/// How many bytes after a cut are searched for the rest of a secret; see
/// [`SentSecrets::redact_beginning`].
pub const CUT_MARGIN_BYTES: usize = MAX_ENCODED_BYTES;

/// What replaces a secret.
const REDACTED: &str = "[redacted]";
/// The minimum length of a segment of a secret URL that is treated as a secret.
const MIN_SEGMENT_BYTES: usize = 8;
/// The minimum length of a value in the query of a secret URL that is a secret.
const MIN_VALUE_BYTES: usize = 4;
/// How many secrets of each origin are kept of earlier requests to the same peer.
const MAX_KEPT_SECRETS: usize = 64;
/// How many of the newest temporary secrets are always kept, regardless of their size: the tokens
/// that are in use, and those before them.
const MIN_KEPT_TEMPORARY: usize = 4;
/// The maximum length of a segment that consists of letters and is taken for a word.
const MAX_WORD_BYTES: usize = 15;

/// Schemes of the header `Authorization` whose credential is the rest of the value.
const SCHEMES: &[&str] = &["apikey", "basic", "bearer", "key", "splunk", "token"];

/// The fields of forms and queries whose values are secrets: those of OAuth 2.0, and the signatures
/// and tokens in the URLs of object stores.
const SECRET_FIELDS: &[&str] = &[
    "assertion",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "password",
    "refresh_token",
    "sig",
    "webidentitytoken",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-signature",
];

/// The fields of [`SECRET_FIELDS`] that contain a secret from the configuration.
const CONFIGURED_FIELDS: &[&str] = &["client_secret", "password"];

/// The secrets of one request or connection.
///
/// Every encoding of a secret that a server may use is found: plain, escaped as in URLs, JSON,
/// HTML, source code or mail, in Latin-1 or UTF-16, with invisible characters in it, several of
/// these one within the other, and in Base64 within any other data, each regardless of the case. Of
/// a secret of at least eight bytes, every part of eight bytes is found too; one of less than four
/// bytes is found only as a whole word.
#[derive(Clone, Default)]
pub struct SentSecrets {
    secrets: Vec<SentSecret>,
    /// What is searched for. It is only built if a text is redacted.
    patterns: OnceLock<Arc<EchoPatterns>>,
}

/// One secret, whether a part of it is secret too, and where it is from.
#[derive(Clone)]
struct SentSecret {
    value: Arc<SecretString>,
    parts: SecretParts,
    origin: SecretOrigin,
}

/// Where a secret is from, which determines what it can displace from the memory of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SecretOrigin {
    /// The configuration, such as a password. A peer cannot choose how many there are.
    Configured,
    /// Issued by a peer, such as a token, or made for one request, such as a signature.
    Temporary,
}

/// What must be removed of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SecretParts {
    /// Also parts of the value.
    Secret,
    /// Only the complete value, such as a URL, whose beginning is not secret.
    Public,
}

impl SentSecrets {
    /// Adds a secret from the configuration, such as a password.
    pub fn add(&mut self, secret: &str) {
        self.push(secret, SecretParts::Secret, SecretOrigin::Configured);
    }

    /// Adds a secret that a peer has issued, such as a token, or that was made for one request.
    pub fn add_temporary(&mut self, secret: &str) {
        self.push(secret, SecretParts::Secret, SecretOrigin::Temporary);
    }

    /// The same secrets, all of which are temporary: those of a request whose only secrets are
    /// tokens, or whose URL the peer has chosen.
    #[must_use]
    pub fn into_temporary(mut self) -> Self {
        for secret in &mut self.secrets {
            secret.origin = SecretOrigin::Temporary;
        }
        self
    }

    /// Adds the secrets of another request, or of the connection.
    pub fn extend(&mut self, other: &Self) {
        self.secrets.extend(other.secrets.iter().cloned());
        self.patterns = OnceLock::new();
    }

    /// Adds secrets as the newest ones. Then removes the oldest of the others while there are too
    /// many of the same origin: more than [`MAX_KEPT_SECRETS`] or, of temporary ones, more than
    /// `max_temporary_bytes` in total. The newest [`MIN_KEPT_TEMPORARY`] are never removed.
    pub(super) fn remember(&mut self, sent: &Self, max_temporary_bytes: usize) {
        let mut new = sent.clone();
        for secret in &mut new.secrets {
            // A peer can issue a secret from the configuration as a token.
            if self.secrets.iter().any(|kept| kept.is_configured() && kept.has_same_value(secret)) {
                secret.origin = SecretOrigin::Configured;
            }
        }
        self.secrets.retain(|kept| !new.secrets.iter().any(|new| new.is_same(kept)));
        let older = self.secrets.len();
        self.extend(&new);

        self.forget(older, SecretOrigin::Configured, 0, usize::MAX);
        let older = self.secrets.len().saturating_sub(new.secrets.len());
        self.forget(older, SecretOrigin::Temporary, MIN_KEPT_TEMPORARY, max_temporary_bytes);
    }

    /// Removes the oldest of the first `older` secrets that are of this origin, while there are
    /// more than [`MAX_KEPT_SECRETS`], or more than `max_bytes` and more than `min` secrets.
    fn forget(&mut self, older: usize, origin: SecretOrigin, min: usize, max_bytes: usize) {
        let of_origin = self.secrets.iter().filter(|secret| secret.origin == origin);
        let mut bytes: usize = of_origin.clone().map(SentSecret::len).sum();
        let mut count = of_origin.count();

        let mut index = 0;
        self.secrets.retain(|secret| {
            let is_older = index < older;
            index += 1;
            let are_too_many = count > MAX_KEPT_SECRETS || (bytes > max_bytes && count > min);
            let is_removed = is_older && secret.origin == origin && are_too_many;
            if is_removed {
                bytes -= secret.len();
                count -= 1;
            }
            !is_removed
        });
        self.patterns = OnceLock::new();
    }

    /// Adds the value of a header that contains a credential: without its scheme and, if it is
    /// `Basic`, also the password. Of a signed request, only the signature is secret.
    pub fn add_header(&mut self, value: &str) {
        let value = value.trim();
        let Some((scheme, rest)) = value.split_once(' ') else { return self.add(value) };

        if let Some((_, signature)) = rest.split_once("Signature=") {
            return self.add_temporary(signature.split(',').next().unwrap_or_default());
        }
        if scheme.eq_ignore_ascii_case("SharedKey") {
            return self.add_temporary(rest.rsplit(':').next().unwrap_or_default());
        }
        if !SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            self.add(value);
        }
        self.add(rest);
        if scheme.eq_ignore_ascii_case("basic") {
            self.add_password(rest);
        }
    }

    /// Adds the values of the header `Cookie` (RFC 6265, section 4.2.1), which the peer has issued.
    pub fn add_cookies(&mut self, header: &str) {
        for (_, value) in header.split(';').filter_map(|pair| pair.split_once('=')) {
            self.add_segment(value.trim(), SecretOrigin::Temporary);
        }
    }

    /// Adds a secret URL: the URL, its path and query, each long segment of the path, and each
    /// value of the query.
    pub fn add_url(&mut self, url: &str) {
        let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
        let start = after_scheme.find(['/', '?']).unwrap_or(after_scheme.len());
        let target = &after_scheme[start..];
        let (path, query) = target.split_once('?').unwrap_or((target, ""));

        for whole in [url, target, path, query] {
            // Shorter ones, such as `/`, are not secret.
            if whole.len() >= MIN_SEGMENT_BYTES {
                self.push(whole, SecretParts::Public, SecretOrigin::Configured);
            }
        }
        for segment in path.split('/') {
            self.add_segment(segment, SecretOrigin::Configured);
        }
        for field in query.split('&') {
            let value = field.split_once('=').map_or(field, |(_, value)| value);
            match value.len() {
                // Such values are flags and versions.
                0..MIN_VALUE_BYTES => {}
                MIN_VALUE_BYTES..MIN_SEGMENT_BYTES => self.add(&percent_decoded(value)),
                _ => self.add_segment(value, SecretOrigin::Configured),
            }
        }
    }

    /// Adds the secret fields of a form or of a query (`application/x-www-form-urlencoded`).
    pub fn add_form(&mut self, form: &str) {
        for (name, value) in form_urlencoded::parse(form.as_bytes()) {
            let is_one_of =
                |fields: &[&str]| fields.iter().any(|known| name.eq_ignore_ascii_case(known));
            if is_one_of(CONFIGURED_FIELDS) {
                self.add(&value);
            } else if is_one_of(SECRET_FIELDS) {
                self.add_temporary(&value);
            }
        }
    }

    /// A text with `[redacted]` in place of every secret. If the search would take too long,
    /// because the text mixes many encodings, also in place of everything from that point on.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact_within(text, &SearchBudget::of_text(text.len()))
    }

    /// Like [`Self::redact`], for a body or another text of any encoding.
    pub fn redact_body(&self, body: Vec<u8>) -> Vec<u8> {
        let FoundSecrets { ranges, .. } = self.find(&body, &SearchBudget::of_text(body.len()));
        if ranges.is_empty() { body } else { replaced(&body, &ranges, body.len()) }
    }

    /// The first `max` bytes of a text of any encoding, with `[redacted]` in place of every secret,
    /// also of one that begins before the end and does not end there. Searches only these bytes and
    /// the next [`CUT_MARGIN_BYTES`], which a caller that limits the text itself must include.
    pub fn redact_beginning(&self, text: &[u8], max: usize) -> Vec<u8> {
        let end = text.len().min(max.saturating_add(CUT_MARGIN_BYTES));
        let searched = &text[..end];
        let FoundSecrets { ranges, .. } = self.find(searched, &SearchBudget::of_text(end));
        replaced(searched, &ranges, max.min(end))
    }

    /// Like [`Self::redact`], within a budget that several texts share.
    pub(super) fn redact_within<'a>(&self, text: &'a str, budget: &SearchBudget) -> Cow<'a, str> {
        let FoundSecrets { ranges, .. } = self.find(text.as_bytes(), budget);
        if ranges.is_empty() {
            return Cow::Borrowed(text);
        }
        let redacted = replaced(text.as_bytes(), &ranges, text.len());
        Cow::Owned(String::from_utf8_lossy(&redacted).into_owned())
    }

    /// A document without the secrets, within a budget that several documents share.
    pub(super) fn redact_document(
        &self,
        document: &[u8],
        budget: &SearchBudget,
    ) -> RedactedDocument {
        match self.find(document, budget) {
            FoundSecrets { is_complete: false, .. } => RedactedDocument::NotSearched,
            FoundSecrets { ranges, .. } if ranges.is_empty() => RedactedDocument::Unchanged,
            FoundSecrets { ranges, .. } => {
                RedactedDocument::Changed(replaced(document, &ranges, document.len()))
            }
        }
    }

    /// The size of the search in a text of this size: that of the text and, before the first
    /// search, that of the secrets.
    pub fn search_bytes(&self, text_bytes: usize) -> usize {
        if self.secrets.is_empty() {
            return 0;
        }
        let is_prepared = self.patterns.get().is_some();
        let secrets = self.secrets.iter().map(SentSecret::len);
        text_bytes.saturating_add(if is_prepared { 0 } else { secrets.sum() })
    }

    /// The total size of all secrets.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.secrets.iter().map(SentSecret::len).sum()
    }

    /// Adds the password of credentials in Base64 (RFC 7617).
    fn add_password(&mut self, credentials: &str) {
        let decoded = STANDARD.decode(credentials.trim()).unwrap_or_default();
        let decoded = String::from_utf8_lossy(&decoded);
        if let Some((_, password)) = decoded.split_once(':') {
            self.add(password);
        }
    }

    /// Adds a part of a URL, as it is sent and decoded. A word, such as `workflows`, is only
    /// replaced as a whole, because messages contain similar words.
    fn add_segment(&mut self, segment: &str, origin: SecretOrigin) {
        if segment.len() < MIN_SEGMENT_BYTES {
            return;
        }
        let is_word = segment.len() <= MAX_WORD_BYTES
            && segment.bytes().all(|byte| byte.is_ascii_alphabetic());
        let parts = if is_word { SecretParts::Public } else { SecretParts::Secret };

        self.push(segment, parts, origin);
        let decoded = percent_decoded(segment);
        if decoded != segment {
            self.push(&decoded, parts, origin);
        }
    }

    fn push(&mut self, value: &str, parts: SecretParts, origin: SecretOrigin) {
        if !value.is_empty() {
            let value = Arc::new(SecretString::from(value));
            self.secrets.push(SentSecret { value, parts, origin });
            self.patterns = OnceLock::new();
        }
    }

    /// The positions of all secrets in a text.
    fn find(&self, text: &[u8], budget: &SearchBudget) -> FoundSecrets {
        if self.secrets.is_empty() || text.is_empty() {
            return FoundSecrets { ranges: Vec::new(), is_complete: true };
        }
        self.patterns.get_or_init(|| Arc::new(self.patterns())).find(text, budget)
    }

    fn patterns(&self) -> EchoPatterns {
        let mut patterns = EchoPatterns::default();
        for SentSecret { value, parts, .. } in &self.secrets {
            let value = value.expose_secret().as_bytes();
            match parts {
                SecretParts::Secret => patterns.add_secret(value),
                SecretParts::Public => patterns.add_whole(value),
            }
        }
        patterns
    }
}

impl SentSecret {
    fn len(&self) -> usize {
        self.value.expose_secret().len()
    }

    fn is_configured(&self) -> bool {
        self.origin == SecretOrigin::Configured
    }

    fn has_same_value(&self, other: &Self) -> bool {
        self.value.expose_secret() == other.value.expose_secret()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.parts == other.parts && self.has_same_value(other)
    }
}

impl fmt::Debug for SentSecrets {
    /// Prints no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentSecrets").field("count", &self.secrets.len()).finish_non_exhaustive()
    }
}

/// The first `max` bytes of a text, which has at least as many, with `[redacted]` in place of each
/// range that begins in them.
fn replaced(text: &[u8], ranges: &[Range<usize>], max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(max);
    let mut end = 0;
    for range in ranges.iter().take_while(|range| range.start < max) {
        out.extend_from_slice(&text[end..range.start]);
        out.extend_from_slice(REDACTED.as_bytes());
        end = range.end;
    }
    if let Some(rest) = text.get(end..max) {
        out.extend_from_slice(rest);
    }
    out
}

#[cfg(test)]
mod tests;
