//! What a configuration may say: one table, from which the check, the refusals and the JSON
//! Schema come. What a sink takes beyond the common keys stands in its own folder.

use crate::{
    settings::{Choice, Key, Shape, Variant, later, optional, required},
    sink,
};

pub const KEYS: &[Key] = &[
    required("state", Shape::Table(STATE), "Where the checkpoint is kept."),
    optional("schedule", Shape::Table(SCHEDULE), "When the API is polled."),
    required("tenants", Shape::Tables(TENANT), "The tenants to read."),
    required(
        "sinks",
        Shape::Tagged { tag: "type", list: true, keys: SINK, variants: sink::variants },
        "Where the records go.",
    ),
    later("admin"),
    later("credentials"),
    later("tenants_file"),
    later("severity"),
    later("baseline"),
];

const STATE: &[Key] = &[
    required("directory", Shape::Text, "The directory of the checkpoint."),
    later("retention_days"),
    later("url"),
    later("max_size"),
];

const SCHEDULE: &[Key] = &[
    optional("cron", Shape::Text, "The daily poll, five fields; default `15 6 * * *`."),
    optional("timezone", Shape::Text, "The zone of `cron`, such as Europe/Berlin; default UTC."),
    optional(
        "jitter",
        Shape::Duration,
        "The polls of different tenants are spread over this span; default 10m.",
    ),
    optional(
        "look_again",
        Shape::Duration,
        "How long until a snapshot that has not appeared is looked for again; default 2h.",
    ),
    later("partial_hold"),
];

const TENANT: &[Key] = &[
    required("name", Shape::Text, "The name that records carry."),
    required("id", Shape::Text, "The tenant's GUID, or a verified domain of it."),
    optional(
        "cloud",
        Shape::OneOfOrTable(
            &[Choice::now("global"), Choice::now("us-gov-high"), Choice::now("us-gov-dod")],
            CLOUD,
        ),
        "The Microsoft cloud; default global.",
    ),
    optional(
        "api",
        Shape::OneOf(&[Choice::now("secure_scores"), Choice::later("legacy_reports")]),
        "The API to read.",
    ),
    optional(
        "initial_backfill_days",
        Shape::Integer { min: 1, max: 90 },
        "Days that the first poll reads back; default 90.",
    ),
    optional("labels", Shape::Map, "Names and texts of your own that stand in every record."),
    required(
        "credential",
        Shape::Tagged { tag: "kind", list: false, keys: CREDENTIAL, variants: credentials },
        "How to sign in: [tenants.credential].",
    ),
];

const CLOUD: &[Key] = &[
    required("login_url", Shape::Text, "Where tokens come from."),
    required("graph_url", Shape::Text, "Where Graph is."),
];

const CREDENTIAL: &[Key] = &[required("kind", Shape::Text, "The kind of credential.")];

const CLIENT_SECRET: &[Key] = &[
    required("client_id", Shape::Text, "The application (client) id of the app registration."),
    required("client_secret", Shape::Secret, "The client secret's value."),
];

const SINK: &[Key] = &[
    required("name", Shape::Text, "The sink's identity: its cursors are kept under this name."),
    required("type", Shape::Text, "The type of sink."),
    optional(
        "records",
        Shape::ManyOf(RECORDS),
        "The kinds of record to send; default control and summary.",
    ),
    optional(
        "controls",
        Shape::OneOf(&[Choice::now("all"), Choice::later("changed")]),
        "Which controls of a day are sent.",
    ),
    optional(
        "start_from",
        Shape::Day,
        "No day before this one is sent; default: 90 days before the sink was new.",
    ),
    optional(
        "texts",
        Shape::OneOf(&[Choice::now("none"), Choice::now("short"), Choice::now("full")]),
        "How much of Microsoft's prose goes along.",
    ),
    later("max_rate"),
    later("tenants"),
    later("full_every"),
    later("historical_changes"),
    later("renamed_from"),
    later("discard_backlog"),
];

const RECORDS: &[Choice] = &[
    Choice::now("control"),
    Choice::now("summary"),
    Choice::later("change"),
    Choice::later("quality"),
];

fn credentials() -> Vec<Variant> {
    let later = ["certificate", "managed_identity", "workload_identity", "user", "environment"];
    let later = later.into_iter().map(|name| Variant { name, keys: None });
    std::iter::once(Variant { name: "client_secret", keys: Some(CLIENT_SECRET) })
        .chain(later)
        .collect()
}
