//! The means to read a configuration: tables of keys, faults with their location, secrets by
//! reference. What the keys mean is said elsewhere: by `config`, and by each sink for itself.
//!
//! One table of [`Key`]s is the truth for a section. From it come the check of every key and
//! value (all faults at once, each with line and nearest known key), the refusal by name of what
//! this version does not honour yet, and the JSON Schema.

mod check;
mod fault;
mod key;
mod schema;
mod secret;
mod section;
mod units;

pub use check::check;
pub use fault::{Fault, Faults, Location};
pub use key::{Choice, Key, Many, Shape, Variant, optional, required, reserved};
pub use schema::schema;
pub use secret::{SecretError, SecretRef};
pub use section::{Document, SecretUse, Section};
pub use units::{parse_duration, parse_size};
