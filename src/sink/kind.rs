//! A type of sink, as the table of all sinks in `sink` contains it. The configuration, its JSON
//! Schema, the reference and the example file are derived from that table, so a type of sink must
//! not be named anywhere else in them. Start reading at [`SinkKind`].

use super::{DIGEST, Plan};
use crate::settings::{ExampleSection, KeyDefinition, Section};

/// A type of sink: its name in the configuration, its keys, and the function that reads them.
#[derive(Clone, Copy)]
pub struct SinkKind {
    /// The value of `type` in `[[sinks]]`.
    pub name: &'static str,
    /// The keys of a section of this type, besides the keys that all sinks have.
    pub keys: &'static [KeyDefinition],
    /// Reads a `[[sinks]]` section. If the section is not valid, adds the faults to it and returns
    /// `None`.
    pub read: fn(&Section<'_>) -> Option<Box<dyn Plan>>,
    /// What the sink guarantees, one row for each variant of its configuration.
    pub guarantees: &'static [Guarantee],
    /// The sections in the example file. The first one has all keys of the sink that it does not
    /// omit; the others set those.
    pub examples: &'static [ExampleSection],
}

/// What a sink guarantees, as `docs/reference/delivery-guarantees.md` shows it. The contract tests
/// check each row.
#[derive(Clone, Copy, Debug)]
pub struct Guarantee {
    /// The configuration that the row applies to, such as `tcp, tls`; empty for the default one.
    pub variant: &'static str,
    /// What confirms a batch, as a clause for the reference.
    pub acknowledgement: &'static str,
    /// When acknowledged records may be lost nevertheless, as a clause for the reference.
    pub may_be_lost: &'static str,
    /// When records may be sent twice, as a clause for the reference.
    pub may_be_repeated: &'static str,
}

impl SinkKind {
    /// Whether this is a notification sink (`chat` or `email`), which can also send digests.
    pub fn is_notification(&self) -> bool {
        self.keys.iter().any(|key| key.name == DIGEST.name())
    }
}
