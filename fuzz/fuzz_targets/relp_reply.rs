//! Fuzzes the decoder for replies of a RELP server, which must reject any bytes without a panic.
//! The target contains no logic: start reading at `fuzzing::relp_reply`, which is also a unit test.

#![no_main]
#![allow(clippy::disallowed_methods, reason = "the macro opens a file with `std::fs`")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secure_score_forwarder::fuzzing::relp_reply(data));
