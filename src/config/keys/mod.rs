//! The keys of a configuration, one module per section. The validation, the JSON Schema, the
//! reference page and the example file are derived from [`KEYS`].
//!
//! The keys of one type of sink are in the module of that sink. The description of a key is the one
//! in the schema, in the reference and in the example file, whose sections and introductions are
//! also declared here. The modules of the sections must never read the configuration: they only
//! declare its keys.

pub(super) mod admin;
pub(super) mod credential;
pub(super) mod rules;
pub(super) mod schedule;
pub(super) mod source;
pub(super) mod state;
pub(super) mod tenant;

use crate::{
    settings::{
        ExampleSection, ExampleTable, Key, KeyDefinition, Many, NamedSections, Sections, Shape,
        SubSection, TEXT, Text, keys, named_sections, optional, required, section, sections,
        tagged_sections,
    },
    sink,
};

/// The keys at the top level of the configuration.
pub const KEYS: &[KeyDefinition] = TOP_LEVEL;

keys! {
    pub(super) const TOP_LEVEL;
    STATE: Key<SubSection> = required(
        "state",
        section(state::KEYS),
        "The location and the retention of the checkpoint.",
    );
    SCHEDULE: Key<SubSection> = optional(
        "schedule",
        section(schedule::KEYS),
        "the defaults of its keys",
        "When tenants are polled.",
    );
    SOURCE: Key<SubSection> = optional(
        "source",
        section(source::KEYS),
        "the defaults of its keys",
        "The connection to Microsoft Graph: proxy, certificate authorities and limits.",
    );
    DEFAULTS: Key<SubSection> = optional(
        "defaults",
        section(DEFAULTS_KEYS),
        "no common values",
        "Values for all tenants and all sinks that do not set the key themselves.",
    );
    CREDENTIALS: Key<NamedSections> = optional(
        "credentials",
        named_sections(credential::NAMED),
        "no shared credentials",
        "Credentials that tenants and sinks refer to by name: [credentials.NAME].",
    );
    TENANTS: Key<Sections> = optional(
        "tenants",
        sections(tenant::KEYS),
        "those of `tenants.d` and `tenants_file`",
        "The tenants to poll.",
    );
    TENANTS_FILE: Key<Text> = optional(
        "tenants_file",
        TEXT,
        "no CSV file",
        "A CSV file with more tenants, relative to this file. Its header names the columns: `name`, `id`, `credential`, `cloud`, `api`, `initial_backfill_days`, `label.NAME`.",
    )
    .example("tenants.csv");
    SINKS: Key<Sections> = optional(
        "sinks",
        tagged_sections(SINK_LIST),
        "those of `sinks.d`",
        "The destinations of records.",
    );
    ADMIN: Key<SubSection> = optional(
        "admin",
        section(admin::KEYS),
        "no listener",
        "The HTTP listener for metrics, health checks and the status page.",
    );
    SEVERITY: Key<Sections> = optional(
        "severity",
        sections(rules::SEVERITY_KEYS),
        "the severities of the program",
        "Rules that set the severity of changes and observations; the first matching rule applies.",
    );
    EXPECTED_DECISIONS: Key<Sections> = optional(
        "expected_decisions",
        sections(rules::EXPECTED_KEYS),
        "no decision is expected",
        "Decisions that are expected, such as accepted risks, each with an owner and an optional expiration date. Any other acceptance is a change of high severity.",
    );
}

keys! {
    /// The sections of `[defaults]`.
    pub(super) const DEFAULTS_KEYS;
    TENANT_DEFAULTS: Key<SubSection> = optional(
        "tenants",
        section(tenant::INHERITED_KEYS),
        "no common values",
        "Values for the keys of all tenants.",
    );
    SINK_DEFAULTS: Key<SubSection> = optional(
        "sinks",
        section(INHERITED_SINK_KEYS),
        "no common values",
        "Values for the keys of all sinks. A sink whose type does not have the key ignores the value. Notification sinks (`chat` and `email`) also ignore `records`, `controls`, `full_every`, `historical_changes` and `start_from`.",
    );
}

/// The shape of `[[sinks]]`.
const SINK_LIST: Shape = Shape::Tagged {
    tag: "type",
    many: Many::List,
    keys: sink::COMMON_KEYS,
    variants: sink::variants,
};

keys! {
    /// The keys that `[defaults.sinks]` can set.
    pub(super) const INHERITED_SINK_KEYS;
    ..sink::INHERITED_COMMON_KEYS;
    ..sink::INHERITED_KEYS;
}

/// The tables of the example file, in their order. The sections of credentials and sinks are those
/// of their variants.
pub(super) const EXAMPLE_TABLES: &[ExampleTable] = &[
    ExampleTable { path: &[STATE.define()], about: "", sections: state::EXAMPLES },
    ExampleTable { path: &[SCHEDULE.define()], about: "", sections: schedule::EXAMPLES },
    ExampleTable { path: &[SOURCE.define()], about: "", sections: source::EXAMPLES },
    ExampleTable { path: &[ADMIN.define()], about: "", sections: admin::EXAMPLES },
    ExampleTable {
        path: &[CREDENTIALS.define()],
        about: "Credentials, one section for each: tenants and sinks refer to them by name, such as `credential = \"app\"`. Several tenants can share a credential. The kinds follow.",
        sections: &[],
    },
    ExampleTable {
        path: &[TENANTS.define()],
        about: "The tenants to poll, one section for each.",
        sections: tenant::EXAMPLES,
    },
    ExampleTable { path: &[SEVERITY.define()], about: "", sections: rules::SEVERITY_EXAMPLES },
    ExampleTable {
        path: &[EXPECTED_DECISIONS.define()],
        about: "",
        sections: rules::EXPECTED_EXAMPLES,
    },
    ExampleTable {
        path: &[SINKS.define()],
        about: "The destinations of records, one section for each. The first one also has the keys that every sink can have; the types of sink follow. The cursors of a sink are stored under its name: to rename it, set `renamed_from`.",
        sections: &[],
    },
    ExampleTable {
        path: &[DEFAULTS.define(), TENANT_DEFAULTS.define()],
        about: "",
        sections: &[ExampleSection {
            about: "Values for all tenants that do not set the key themselves.",
            ..ExampleSection::SET
        }],
    },
    ExampleTable {
        path: &[DEFAULTS.define(), SINK_DEFAULTS.define()],
        about: "",
        sections: &[ExampleSection {
            about: "Values for all sinks that do not set the key themselves. A sink whose type does not have the key ignores the value. Notification sinks (`chat` and `email`) also ignore `records`, `controls`, `full_every`, `historical_changes` and `start_from`.",
            ..ExampleSection::SET
        }],
    },
];

/// The keys of a file in `tenants.d`, and of the table into which a CSV file is converted.
pub(super) const TENANT_FILE_KEYS: &[KeyDefinition] = &[CREDENTIALS.define(), TENANTS.define()];

/// The keys of a file in `sinks.d`.
pub(super) const SINK_FILE_KEYS: &[KeyDefinition] = &[CREDENTIALS.define(), SINKS.define()];
