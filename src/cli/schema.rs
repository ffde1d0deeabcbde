//! `schema`: prints the JSON Schema of a record or of the configuration.

use super::{CommandFailure, ExitCode, args, print};
use crate::{config, settings};

const RECORD: &str = include_str!("../model/record.schema.json");

pub(super) fn schema(args: args::Schema) -> Result<ExitCode, CommandFailure> {
    match args.of {
        args::SchemaOf::Record => print(RECORD)?,
        args::SchemaOf::Configuration => {
            let mut schema = settings::schema(config::KEYS);
            schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
            schema["title"] = "Configuration of secure-score-forwarder".into();
            print(&format!("{schema:#}\n"))?;
        }
    }
    Ok(ExitCode::Done)
}
