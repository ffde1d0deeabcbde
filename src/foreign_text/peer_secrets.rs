//! The secrets that all requests and connections to one peer have sent, such as those of a sink or
//! of the source of a tenant.
//!
//! A peer can repeat a secret later than in the response to its request: in another response, in
//! the certificate of its next connection, or at another server of the same party. Every text of
//! the peer must therefore be redacted with all secrets that it may know. Start reading at
//! [`PeerSecrets::remember`]. See decisions 0086 and 0092.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::SentSecrets;

/// How many bytes of secrets are kept for a sink: about 15 tokens.
const MAX_SINK_BYTES: usize = 32 << 10;
/// How many bytes of secrets are kept for the source of a tenant, of which there can be thousands.
const MAX_TENANT_BYTES: usize = 8 << 10;

/// The newest secrets that were sent to a peer. Clones share them.
#[derive(Clone)]
pub struct PeerSecrets {
    kept: Arc<Mutex<SentSecrets>>,
    max_bytes: usize,
}

impl PeerSecrets {
    /// Those of the source of one tenant, or of the tokens of one sink.
    pub fn of_tenant() -> Self {
        Self { kept: Arc::default(), max_bytes: MAX_TENANT_BYTES }
    }

    /// Adds the secrets of a request or a connection before they are sent. Returns them together
    /// with the earlier ones, to redact everything that the peer returns.
    #[must_use]
    pub fn remember(&self, sent: &SentSecrets) -> SentSecrets {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remember(sent, self.max_bytes);
        kept.clone()
    }
}

impl Default for PeerSecrets {
    /// Those of a sink.
    fn default() -> Self {
        Self { kept: Arc::default(), max_bytes: MAX_SINK_BYTES }
    }
}

impl fmt::Debug for PeerSecrets {
    /// Prints no secret, and always the same text, because plans are printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerSecrets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(secret: &str) -> SentSecrets {
        let mut sent = SentSecrets::default();
        sent.add(secret);
        sent
    }

    /// Regression: a secret was removed only from the response to its own request.
    #[test]
    fn secrets_of_earlier_requests_are_removed() {
        let peer = PeerSecrets::default();
        let _ = peer.remember(&sent("canary-of-yesterday"));
        let secrets = peer.clone().remember(&sent("canary-of-today"));
        let text = "it was canary-of-yesterday, it is canary-of-today";
        assert_eq!(secrets.redact(text), "it was [redacted], it is [redacted]");
    }

    #[test]
    fn the_oldest_secrets_are_forgotten() {
        let token = |number: usize| format!("{number:04}").repeat(500);
        let peer = PeerSecrets::of_tenant();
        let _ = peer.remember(&sent(&token(0)));
        for number in 1..=20 {
            let secrets = peer.remember(&sent(&token(number)));
            // A secret that is sent again and again is never forgotten.
            let secrets = if number % 2 == 0 { peer.remember(&sent(&token(0))) } else { secrets };
            assert_eq!(secrets.redact(&token(number)), "[redacted]", "{number}");
            assert_eq!(secrets.redact(&token(0)), "[redacted]", "{number}");
        }
        let secrets = peer.remember(&SentSecrets::default());
        assert_eq!(secrets.redact(&token(1)), token(1));
    }

    #[test]
    fn all_secrets_of_a_request_are_kept() {
        let mut many = SentSecrets::default();
        for number in 0..100 {
            many.add(&format!("{number:03}-canary").repeat(10));
        }
        let secrets = PeerSecrets::of_tenant().remember(&many);
        assert_eq!(secrets.redact("000-canary 099-canary"), "[redacted] [redacted]");
    }
}
