//! The secrets that all requests and connections to one peer have sent, such as those of a sink or
//! of the source of a tenant.
//!
//! A peer can repeat a secret later than in the response to its request: in another response, in
//! the certificate of its next connection, or at another server of the same party. Every text of
//! the peer must therefore be redacted with all secrets that it may know. A peer can issue any
//! number of tokens, so these must never displace a secret from the configuration. Start reading at
//! [`PeerSecrets::remember`]. See decisions 0086 and 0092.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::SentSecrets;

/// How many bytes of temporary secrets are kept for a sink: about 15 tokens of 2 KiB.
const MAX_SINK_BYTES: usize = 32 << 10;
/// How many bytes of temporary secrets are kept for the source of a tenant, of which there can be
/// thousands: about 4 tokens of 2 KiB.
const MAX_TENANT_BYTES: usize = 8 << 10;

/// The newest secrets that were sent to a peer: those from the configuration, and, with a limit for
/// their size, temporary ones such as tokens. Clones share them.
#[derive(Clone)]
pub struct PeerSecrets {
    kept: Arc<Mutex<SentSecrets>>,
    max_temporary_bytes: usize,
}

impl PeerSecrets {
    /// Those of the source of one tenant.
    pub fn of_tenant() -> Self {
        Self { kept: Arc::default(), max_temporary_bytes: MAX_TENANT_BYTES }
    }

    /// Adds the secrets of a request or a connection before they are sent. Returns them together
    /// with the earlier ones, to redact everything that the peer returns.
    #[must_use]
    pub fn remember(&self, sent: &SentSecrets) -> SentSecrets {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remember(sent, self.max_temporary_bytes);
        kept.clone()
    }

    /// The secrets that were sent up to now, to redact the messages about a document of the peer.
    pub fn kept(&self) -> SentSecrets {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Default for PeerSecrets {
    /// Those of a sink, which its receiver and the token endpoint share.
    fn default() -> Self {
        Self { kept: Arc::default(), max_temporary_bytes: MAX_SINK_BYTES }
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

    /// A token with this number, which is different from all others in each of its parts.
    fn token(number: usize, length: usize) -> String {
        format!("{number:04}").repeat(length / 4)
    }

    fn issued(token: &str) -> SentSecrets {
        let mut sent = SentSecrets::default();
        sent.add_temporary(token);
        sent
    }

    #[test]
    fn the_oldest_tokens_are_forgotten() {
        let token = |number| token(number, 2_000);
        let peer = PeerSecrets::of_tenant();
        let _ = peer.remember(&issued(&token(0)));
        for number in 1..=20 {
            let secrets = peer.remember(&issued(&token(number)));
            // A secret that is sent again and again is never forgotten.
            let secrets = if number % 2 == 0 { peer.remember(&issued(&token(0))) } else { secrets };
            assert_eq!(secrets.redact(&token(number)), "[redacted]", "{number}");
            assert_eq!(secrets.redact(&token(0)), "[redacted]", "{number}");
        }
        let secrets = peer.remember(&SentSecrets::default());
        assert_eq!(secrets.redact(&token(1)), token(1));
    }

    /// Regression: a peer could issue one large token, or many tokens, until the client secret was
    /// forgotten, and then repeat it.
    #[test]
    fn tokens_displace_no_secret_from_the_configuration() {
        for (length, tokens) in [(9_000, 1), (16 << 10, 100), (8, 5_000)] {
            for peer in [PeerSecrets::of_tenant(), PeerSecrets::default()] {
                let _ = peer.remember(&sent("client-secret-canary"));
                for number in 0..tokens {
                    let _ = peer.remember(&issued(&token(number, length)));
                }
                let secrets = peer.remember(&SentSecrets::default());
                assert_eq!(secrets.redact("client-secret-canary"), "[redacted]", "{length}");
                let kept = peer.kept.lock().unwrap().kept_bytes();
                assert!(kept <= peer.max_temporary_bytes.max(4 * length) + 20, "{length}: {kept}");
            }
        }
    }

    /// The tokens that are in use are the newest ones, such as an access token and the refresh
    /// token before it.
    #[test]
    fn large_tokens_in_use_are_kept() {
        let peer = PeerSecrets::of_tenant();
        for number in 0..10 {
            let _ = peer.remember(&issued(&token(number, 16 << 10)));
        }
        let secrets = peer.remember(&SentSecrets::default());
        for number in 6..10 {
            assert_eq!(secrets.redact(&token(number, 100)), "[redacted]", "{number}");
        }
    }

    /// Regression: a peer could issue the client secret as a token, which was then forgotten like
    /// one.
    #[test]
    fn issued_secrets_stay_configured() {
        let peer = PeerSecrets::of_tenant();
        let _ = peer.remember(&sent("client-secret-canary"));
        let _ = peer.remember(&issued("client-secret-canary"));
        for number in 0..100 {
            let _ = peer.remember(&issued(&token(number, 4_000)));
        }
        let secrets = peer.remember(&SentSecrets::default());
        assert_eq!(secrets.redact("client-secret-canary"), "[redacted]");
    }

    #[test]
    fn all_secrets_of_a_request_are_kept() {
        for is_temporary in [false, true] {
            let mut many = SentSecrets::default();
            for number in 0..100 {
                many.add(&format!("{number:03}-canary").repeat(10));
            }
            let many = if is_temporary { many.into_temporary() } else { many };
            let secrets = PeerSecrets::of_tenant().remember(&many);
            assert_eq!(secrets.redact("000-canary 099-canary"), "[redacted] [redacted]");
        }
    }
}
