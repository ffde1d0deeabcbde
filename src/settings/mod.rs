//! The components for reading a configuration: typed keys, the values of all files and of the
//! environment with their origins, faults, and references to secrets.
//!
//! A list of keys describes a section. The validation, the JSON Schema, the reference page, the
//! example file and the list of effective values are derived from it, so they cannot diverge. This
//! module does not interpret any key; `config` and the module of each sink do. Start reading at
//! [`Key`] and [`Section`], and see decision 0044.

mod absolute;
mod authority_keys;
mod check;
mod effective;
mod environment;
mod example;
mod fault;
mod hidden;
mod key;
mod node;
mod parse;
mod redacted;
mod reference;
mod schema;
mod secret;
mod secret_check;
mod section;
mod toml_text;
mod typed;
mod units;

pub use absolute::require_absolute;
pub use authority_keys::{AUTHORITY_KEYS, CA_FILE};
pub use check::{References, check, check_names};
pub use effective::{EffectiveTable, EffectiveValue, ValueOrigin, effective};
pub use environment::{apply_variables, variable_of};
pub use example::{ExampleSection, ExampleState, ExampleTable, example};
pub use fault::{Fault, FaultGroup, Faults, Location, Origin, Source};
pub use hidden::is_unusual;
pub use key::{
    DefaultValue, ExampleValue, KeyDefinition, Many, Presence, Shape, Variant, count_keys,
    join_keys,
};
pub use node::{Node, Span, Table};
pub use parse::parse;
pub use reference::reference;
pub use schema::schema;
pub use secret::{NotALine, SecretError, SecretRef};
pub use secret_check::{GENERATE_KEY, SecretCheck, check_key, check_variety};
pub use section::{FileUse, SecretUse, Section, SectionText};
pub use toml_text::{toml_key, toml_string};
pub use typed::{
    Choice, Choices, DAY, Date, FILE, FLAG, FilePath, Flag, HasDefault, Integer, Key,
    KeyWithDefault, MAP, ManyOf, Map, NameOrSection, NameOrSectionValue, Named, NamedSections,
    OneOf, Readable, SECRET, SECRETS, Secret, Secrets, Sections, Size, SubSection, TEXT, TEXTS,
    Text, TextOrSecret, TextOrSecretValue, Texts, Timespan, Typed, checked_secret, defaulted,
    duration, integer, many_of, name_or_section, named_sections, one_of, optional, required,
    section, sections, size, tagged_sections, text_or_secret,
};
pub(crate) use typed::{choices, keys, names};
pub use units::{parse_duration, parse_size};

/// Reads a section of this text with a function, after its values were checked. Returns the result
/// and the messages of all faults.
#[cfg(test)]
pub(crate) fn with_section<T>(
    text: &str,
    keys: &[KeyDefinition],
    read: impl FnOnce(&Section<'_>) -> T,
) -> (T, Vec<String>) {
    let faults = Faults::of_file("c.toml", text);
    let table = parse(&faults, 0).unwrap_or_default();
    let section = Section::root(&table, &faults);
    check(&section, keys, &faults);

    let result = read(&section);
    (result, faults.sorted().into_iter().map(|fault| fault.message).collect())
}
