#![no_main]
#![allow(clippy::disallowed_methods, reason = "the macro opens a file with `std::fs`")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secure_score_forwarder::fuzzing::packed_facts(data));
