//! Requirements for the texts of secrets that protect data themselves, such as keys. A secret that
//! another service has generated is never checked, because only that service knows its form. No
//! explanation contains any part of a secret. Start reading at [`check_key`].

use crate::error::Explanation;

/// Checks the text of a secret. Fails with the reason why it cannot be used, as a predicate, such
/// as "has fewer than 32 characters".
pub type SecretCheck = fn(&str) -> Result<(), Explanation>;

/// The minimum number of characters of a key. 32 random hexadecimal digits have 128 bits.
const MIN_KEY_CHARS: usize = 32;
/// The minimum number of different characters or bytes of a key. A random one has more, except with
/// negligible probability.
const MIN_DIFFERENT: usize = 8;

/// The hint for a key that is not acceptable.
pub const GENERATE_KEY: &str = "generate a key with `openssl rand -base64 32`";

/// Checks that a text from which a key is derived cannot be guessed.
///
/// # Errors
///
/// Fails if the text has fewer than 32 characters, or if it repeats a few characters.
pub fn check_key(text: &str) -> Result<(), Explanation> {
    if text.chars().count() < MIN_KEY_CHARS {
        let problem = format!("has fewer than {MIN_KEY_CHARS} characters");
        return Err(Explanation::new(problem).with_hint(GENERATE_KEY));
    }
    check_variety(text.as_bytes()).map_err(|problem| problem.with_hint(GENERATE_KEY))
}

/// Checks that the bytes of a key are not a repetition of a few.
///
/// # Errors
///
/// Fails without a hint if they are.
pub fn check_variety(bytes: &[u8]) -> Result<(), Explanation> {
    let mut different = bytes.to_vec();
    different.sort_unstable();
    different.dedup();
    if different.len() < MIN_DIFFERENT {
        let problem = format!("consists of fewer than {MIN_DIFFERENT} different characters");
        return Err(Explanation::new(problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a key of one character was accepted.
    #[test]
    fn keys_that_can_be_guessed_are_refused() {
        for (text, problem) in [
            ("k", Some("fewer than 32 characters")),
            ("correct horse battery staple", Some("fewer than 32 characters")),
            ("0123456789abcdef0123456789abcde", Some("fewer than 32 characters")),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Some("fewer than 8 different")),
            ("abcabcabcabcabcabcabcabcabcabcabcabc", Some("fewer than 8 different")),
            ("0123456789abcdef0123456789abcdef", None),
            ("3q2+7wABIjRWeJCrze8BIzRFVmeJmrvM3e7/ABEiM0Q=", None),
            ("correct horse battery staple again", None),
            ("þætti röð af löngum og góðum orðum", None),
        ] {
            let found = check_key(text).err();
            assert_eq!(found.is_some(), problem.is_some(), "{text}: {found:?}");
            let Some(found) = found else { continue };
            assert!(problem.is_some_and(|problem| found.message.contains(problem)), "{found:?}");
            assert_eq!(found.hint.as_deref(), Some(GENERATE_KEY));
            assert!(!found.message.contains(text), "{found:?}");
        }
    }
}
