//! The components for reading a configuration file: tables of keys, faults with their location, and
//! references to secrets.
//!
//! A table of [`Key`]s describes a section. The validation, the JSON Schema and the reference page
//! are derived from it, so they cannot diverge. This module does not interpret any key; `config`
//! and the module of each sink do. See decision 0044.

mod check;
mod fault;
mod key;
mod reference;
mod schema;
mod secret;
mod section;
mod units;

pub use check::check;
pub use fault::{Fault, FaultGroup, Faults, Location, Origin};
pub use key::{Key, Many, Shape, Variant, optional, required, reserved};
pub use reference::reference;
pub use schema::schema;
pub use secret::{SecretError, SecretRef};
pub use section::{Document, FileUse, SecretUse, Section};
pub use units::{parse_duration, parse_size};
