//! Ignores the signal that ends a process whose file would exceed the limit of its size. The write
//! then fails with an error, which every command explains. The module has `unsafe` code, because no
//! crate wraps the function.

#![allow(unsafe_code, reason = "no safe wrapper exists")]

use std::ffi::c_int;

use rustix::process::Signal;

/// `SIG_IGN` of `signal.h`.
const IGNORE: usize = 1;

unsafe extern "C" {
    /// See `signal(2)`.
    fn signal(number: c_int, handler: usize) -> usize;
}

/// Ignores `SIGXFSZ`. Must be called before a file is written.
pub(super) fn ignore_file_size_signal() {
    // SAFETY: the function is called with a number of a signal and with `SIG_IGN`, so no handler of
    // this process is ever called.
    let _ = unsafe { signal(Signal::XFSZ.as_raw(), IGNORE) };
}
