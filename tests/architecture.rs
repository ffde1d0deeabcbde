//! Rules about the source tree itself: which module may use which, what the pure modules may
//! touch, how long a file may be, which words are not used, and how Markdown is written.
//!
//! Every rule reports all violations as `file:line: what is wrong`, and does not need the crate to
//! be built. The rules are explained in `STYLE.md` and `docs/explanation/architecture.md`.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::pedantic,
    clippy::disallowed_methods
)]

#[path = "architecture/files.rs"]
mod files;
#[path = "architecture/layout.rs"]
mod layout;
#[path = "architecture/markdown.rs"]
mod markdown;
#[path = "architecture/modules.rs"]
mod modules;
#[path = "architecture/words.rs"]
mod words;
