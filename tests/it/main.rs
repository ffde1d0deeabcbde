//! The real binary as a process, against the simulated tenant and real receivers.

mod api;
mod check;
mod crash;
mod daemon;
mod formats;
mod hec;
mod kafka;
mod pipeline;
mod reference;
mod support;
mod syslog;
