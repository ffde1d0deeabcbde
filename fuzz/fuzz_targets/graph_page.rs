//! Fuzzes the decoder for pages of Microsoft Graph, which must reject any bytes without a panic.
//! The target contains no logic: start reading at `fuzzing::graph_page`, which is also a unit test.

#![no_main]
#![allow(clippy::disallowed_methods, reason = "the macro opens a file with `std::fs`")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secure_score_forwarder::fuzzing::graph_page(data));
