//! Fuzzes the decoder for the packed facts of a day, which must report damage and never panic. The
//! target contains no logic: start reading at `fuzzing::packed_facts`, which is also a unit test.

#![no_main]
#![allow(clippy::disallowed_methods, reason = "the macro opens a file with `std::fs`")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secure_score_forwarder::fuzzing::packed_facts(data));
