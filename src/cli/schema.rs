//! `schema`: what a record is, what a configuration may say.

use super::{Exit, Failed, args, print};
use crate::{config, settings};

const RECORD: &str = include_str!("../model/record.schema.json");

pub(super) fn schema(what: args::Schema) -> Result<Exit, Failed> {
    match what.of {
        args::SchemaOf::Record => print(RECORD)?,
        args::SchemaOf::Configuration => {
            let mut schema = settings::schema(config::KEYS);
            schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
            schema["title"] = "Configuration of secure-score-forwarder".into();
            print(&format!("{schema:#}\n"))?;
        }
    }
    Ok(Exit::Done)
}
