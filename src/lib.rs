//! The library behind the `secure-score-forwarder` binary. Its map is `ARCHITECTURE.md`.

pub mod checkpoint;
pub mod clock;
pub mod derive;
pub mod format;
pub mod model;
pub mod net;
pub mod schedule;
pub mod settings;
pub mod sink;
pub mod source;
pub mod wire;
