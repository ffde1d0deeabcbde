//! Rules of the source tree: dependencies between modules, purity, hints, names of types and tests,
//! the files with the methods of a type, the documentation of modules, the length of files and
//! paragraphs, numbers and their types, addresses for credentials, the place that blocks for the
//! store, words to avoid, citations of decisions, the matrix of faults, and the form of Markdown.
//!
//! Every rule reports all violations as `file:line: description` and reads only text, so the crate
//! need not be built. `STYLE.md` and `docs/explanation/architecture.md` explain the rules.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::pedantic,
    clippy::disallowed_methods
)]

#[path = "architecture/blocking.rs"]
mod blocking;
#[path = "architecture/code.rs"]
mod code;
#[path = "architecture/comments.rs"]
mod comments;
#[path = "architecture/credentials.rs"]
mod credentials;
#[path = "architecture/decisions.rs"]
mod decisions;
#[path = "architecture/faults.rs"]
mod faults;
#[path = "architecture/files.rs"]
mod files;
#[path = "architecture/impls.rs"]
mod impls;
#[path = "architecture/layout.rs"]
mod layout;
#[path = "architecture/markdown.rs"]
mod markdown;
#[path = "architecture/messages.rs"]
mod messages;
#[path = "architecture/modules.rs"]
mod modules;
#[path = "architecture/names.rs"]
mod names;
#[path = "architecture/numbers.rs"]
mod numbers;
#[path = "architecture/sinks.rs"]
mod sinks;
#[path = "architecture/types.rs"]
mod types;
#[path = "architecture/words.rs"]
mod words;
