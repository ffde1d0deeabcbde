//! Fuzzes the reader of the configuration, which must report faults and never panic. The target
//! contains no logic: start reading at `fuzzing::configuration`, which is also a unit test.

#![no_main]
#![allow(clippy::disallowed_methods, reason = "the macro opens a file with `std::fs`")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secure_score_forwarder::fuzzing::configuration(data));
