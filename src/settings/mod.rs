//! The means to read a configuration file: tables of keys, faults with their location, and
//! references to secrets.
//!
//! A table of [`Key`]s describes a section. The check of every key and value and the JSON Schema
//! are derived from it, so that they cannot differ. This module does not interpret any key: `config`
//! and the folder of each sink do.

mod check;
mod fault;
mod key;
mod reference;
mod schema;
mod secret;
mod section;
mod units;

pub use check::check;
pub use fault::{Fault, Faults, Location};
pub use key::{Choice, Key, Many, Shape, Variant, optional, required, reserved};
pub use reference::reference;
pub use schema::schema;
pub use secret::{SecretError, SecretRef};
pub use section::{Document, SecretUse, Section};
pub use units::{parse_duration, parse_size};
