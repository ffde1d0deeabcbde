//! `schema`: prints the JSON Schema of a record or of the configuration. The schema of a record is
//! a file that is written by hand, and tests compare it with records. That of the configuration is
//! generated from the tables of keys that validation uses.

use super::{CommandFailure, ExitCode, args, print_data};
use crate::{config, settings};

const RECORD: &str = include_str!("../model/record.schema.json");

/// Prints the schema as indented JSON. Fails only if standard output cannot be written.
pub(super) fn schema(args: args::Schema) -> Result<ExitCode, CommandFailure> {
    match args.of {
        args::SchemaOf::Record => print_data(RECORD)?,
        args::SchemaOf::Configuration => {
            let mut schema = settings::schema(config::KEYS);
            schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
            schema["title"] = "Configuration of secure-score-forwarder".into();
            print_data(&format!("{schema:#}\n"))?;
        }
    }
    Ok(ExitCode::Done)
}
