//! Entry points for the fuzz targets in `fuzz/`. Each one decodes bytes that a peer could send or
//! that a damaged file could contain. The decoder may reject them but must not panic.
//!
//! The tests below run each entry point over its seed corpus and over mutations of the seeds, so
//! that the targets keep working without a fuzzer. Start reading at `fuzz/README.md`.

use crate::{checkpoint, config::Configuration, sink, wire};

/// A page of Microsoft's JSON, and everything that is decoded from its items.
pub fn graph_page(data: &[u8]) {
    for page in [wire::page(data), wire::bare_list(data)].into_iter().flatten() {
        for item in page.items {
            let _ = wire::snapshot(item).map(|snapshot| snapshot.day());
            if let Ok(parts) = wire::split_profile(item) {
                let _ = wire::profile(&parts.shared);
                let _ = wire::state_updates(&parts.decisions);
            }
        }
    }
    let _ = wire::token(data, jiff::Timestamp::UNIX_EPOCH);
    let _ = wire::issuer_tenant(data);
    let _ = wire::EntraError::read(data);
    let _ = wire::GraphError::read(data);
}

/// A reply of Splunk's HTTP Event Collector, read both as the reply to events and as the reply to a
/// query for acknowledgements. The first byte determines the status.
pub fn hec_reply(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let status = [200, 400, 403, 404, 413, 429, 500, 503][usize::from(choice % 8)];
    sink::fuzz_hec_reply(status, body);
}

/// The bytes that a RELP receiver sends.
pub fn relp_reply(data: &[u8]) {
    sink::fuzz_relp_reply(data);
}

/// The packed facts of a day.
pub fn packed_facts(data: &[u8]) {
    checkpoint::fuzz_packed_facts(data);
}

/// A configuration file.
pub fn configuration(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(error) = Configuration::parse("fuzz.toml", text)
    {
        let _ = error.explanations();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The number of mutated inputs per corpus.
    const MUTATIONS: usize = 2_000;

    fn smoke(name: &str, target: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let entries = fs_err::read_dir(corpus).unwrap();
        let mut seeds: Vec<Vec<u8>> =
            entries.map(|entry| fs_err::read(entry.unwrap().path()).unwrap()).collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "the corpus of `{name}` is empty");

        for seed in &seeds {
            target(seed);
        }

        // The fixed seed makes a failure reproducible.
        let mut random = fastrand::Rng::with_seed(0x5ec0_5e00);
        for _ in 0..MUTATIONS {
            target(&mutated(&seeds, &mut random));
        }
    }

    /// A seed with a few bytes changed, removed, repeated, or taken from another seed.
    fn mutated(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
        let mut input = seeds[random.usize(..seeds.len())].clone();

        for _ in 0..random.usize(1..6) {
            let at = random.usize(..=input.len());

            match random.u8(..5) {
                0 if at < input.len() => input[at] = random.u8(..),
                1 if at < input.len() => {
                    let end = (at + random.usize(1..32)).min(input.len());
                    input.drain(at..end);
                }
                2 if at < input.len() => {
                    let end = (at + random.usize(1..64)).min(input.len());
                    let part = input[at..end].to_vec();
                    input.splice(at..at, part);
                }
                3 => {
                    let other = &seeds[random.usize(..seeds.len())];
                    input.truncate(at);
                    input.extend_from_slice(&other[at.min(other.len())..]);
                }
                _ => input.insert(at, *random.choice(b"\"{}[],:0-9eE\\\0\xff\n= .").unwrap()),
            }
        }
        input
    }

    #[test]
    fn microsofts_json_never_panics() {
        smoke("graph_page", graph_page);
    }

    #[test]
    fn hec_replies_never_panic() {
        smoke("hec_reply", hec_reply);
    }

    #[test]
    fn relp_replies_never_panic() {
        smoke("relp_reply", relp_reply);
    }

    #[test]
    fn packed_facts_never_panic() {
        smoke("packed_facts", packed_facts);
    }

    #[test]
    fn configurations_never_panic() {
        smoke("configuration", configuration);
    }
}
