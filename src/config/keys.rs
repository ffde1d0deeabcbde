//! What a configuration may say: one table, from which the check, the refusals and the JSON
//! Schema come. What a sink takes beyond the common keys stands in its own folder.

use crate::{
    settings::{Choice, Key, Many, Shape, Variant, optional, required, reserved},
    sink,
};

pub const KEYS: &[Key] = &[
    required("state", Shape::Table(STATE), "Where the checkpoint is kept."),
    optional("schedule", Shape::Table(SCHEDULE), "When the API is polled."),
    optional("source", Shape::Table(SOURCE), "How Microsoft is reached."),
    optional("credentials", CREDENTIALS, "Credentials that tenants share: [credentials.NAME]."),
    optional("tenants", Shape::Tables(TENANT), "The tenants to read."),
    optional(
        "tenants_file",
        Shape::Text,
        "More tenants: a CSV with a header of `name`, `id`, `credential`, `cloud`, `api`, `initial_backfill_days`, `label.NAME`.",
    ),
    required(
        "sinks",
        Shape::Tagged { tag: "type", many: Many::List, keys: SINK, variants: sink::variants },
        "Where the records go.",
    ),
    optional("admin", Shape::Table(ADMIN), "Metrics, health and the status page."),
    optional(
        "severity",
        Shape::Tables(SEVERITY),
        "How much changes and observations matter: the first rule that fits counts.",
    ),
    optional(
        "expected_decisions",
        Shape::Tables(EXPECTED),
        "Decisions that are no surprise: accepted risks with an owner and an expiry.",
    ),
];

/// What a file in `tenants.d` may hold, and a CSV comes to.
pub(super) const TENANT_KEYS: &[Key] = &[
    optional("credentials", CREDENTIALS, "Credentials that tenants share: [credentials.NAME]."),
    required("tenants", Shape::Tables(TENANT), "The tenants to read."),
];

const CREDENTIALS: Shape =
    Shape::Tagged { tag: "kind", many: Many::Named, keys: CREDENTIAL, variants: credentials };

const SOURCE: &[Key] = &[
    optional(
        "proxy",
        Shape::Text,
        "http://host:port of a proxy; a machine's metadata service is never asked through it.",
    ),
    optional("proxy_user", Shape::Text, "Its user, with `proxy_password`."),
    optional("proxy_password", Shape::Secret, "The password of `proxy_user`."),
    optional(
        "ca_file",
        Shape::Text,
        "Certificate authorities in PEM, trusted instead of the system's.",
    ),
    optional(
        "requests_per_second",
        Shape::Integer { min: 1, max: 1_000 },
        "Requests to Graph over all tenants; default 50.",
    ),
    optional(
        "bytes_in_flight",
        Shape::Size,
        "Memory for answers over all tenants, at least 8MiB; default 32MiB. No answer may be larger than half of it.",
    ),
];

const STATE: &[Key] = &[
    required("directory", Shape::Text, "The directory of the checkpoint."),
    optional(
        "retention_days",
        Shape::Integer { min: 90, max: 36_500 },
        "How long the texts of a day are kept that every sink has had; its facts stay for ever; default 400.",
    ),
    optional(
        "max_size",
        Shape::Size,
        "What the checkpoint may use before older texts go earlier; default: no limit.",
    ),
    reserved("url"),
];

const ADMIN: &[Key] = &[
    required(
        "listen",
        Shape::Text,
        "Address and port, such as 127.0.0.1:9633; 0 is any free port. Beyond loopback it wants `hosts`.",
    ),
    optional(
        "hosts",
        Shape::Texts,
        "Names or addresses under which it may be asked, beside those of loopback.",
    ),
    optional(
        "tenant_series",
        Shape::Integer { min: 0, max: 100_000 },
        "With more tenants than this, metrics have no series of single tenants; default 1000.",
    ),
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
    optional(
        "partial_hold",
        Shape::Duration,
        "How long a day is held back of which Microsoft gave only a part; default 6h.",
    ),
];

const TENANT: &[Key] = &[
    required("name", Shape::Text, "The name that records carry."),
    required("id", Shape::Text, "The tenant's GUID, or a verified domain of it."),
    optional(
        "cloud",
        Shape::OneOfOrTable(
            &[
                Choice::now("global"),
                Choice::now("us-gov-high"),
                Choice::now("us-gov-dod"),
                Choice::now("china"),
                Choice::now("bleu"),
                Choice::now("delos"),
                Choice::now("govsg"),
            ],
            CLOUD,
        ),
        "The Microsoft cloud; default global.",
    ),
    optional(
        "api",
        Shape::OneOf(&[Choice::now("secure_scores"), Choice::now("legacy_reports")]),
        "The API to read; `legacy_reports` is the original getTenantSecureScores.",
    ),
    optional(
        "initial_backfill_days",
        Shape::Integer { min: 1, max: 90 },
        "Days that the first poll reads back; default 90.",
    ),
    optional("labels", Shape::Map, "Names and texts of your own that stand in every record."),
    required(
        "credential",
        Shape::NameOr(&Shape::Tagged {
            tag: "kind",
            many: Many::One,
            keys: CREDENTIAL,
            variants: credentials,
        }),
        "How to sign in: the name of one of [credentials], or [tenants.credential].",
    ),
];

const CLOUD: &[Key] = &[
    required("login_url", Shape::Text, "Where tokens come from."),
    required("graph_url", Shape::Text, "Where Graph is."),
];

const CREDENTIAL: &[Key] = &[required("kind", Shape::Text, "The kind of credential.")];

const CLIENT_ID: Key =
    required("client_id", Shape::Text, "The application (client) id of the app registration.");

const CLIENT_SECRET: &[Key] =
    &[CLIENT_ID, required("client_secret", Shape::Secret, "The client secret's value.")];

const CERTIFICATE: &[Key] = &[
    CLIENT_ID,
    required("certificate", Shape::Text, "PEM with certificate and key, or PFX."),
    optional("private_key", Shape::Text, "The key, where it has a PEM file of its own."),
    optional("password", Shape::Secret, "The password of the PFX."),
    optional(
        "send_chain",
        Shape::Bool,
        "Sends the certificate's chain, for apps that trust a subject and an issuer.",
    ),
];

const WORKLOAD_IDENTITY: &[Key] = &[
    optional("client_id", Shape::Text, "The application's id; default $AZURE_CLIENT_ID."),
    optional(
        "token_file",
        Shape::Text,
        "Where the other issuer leaves its token; default $AZURE_FEDERATED_TOKEN_FILE.",
    ),
];

const MANAGED_IDENTITY: &[Key] = &[
    optional("client_id", Shape::Text, "Of a user-assigned identity, by client id,"),
    optional("object_id", Shape::Text, "or by object id,"),
    optional("resource_id", Shape::Text, "or by its resource id in Azure."),
];

const USER: &[Key] = &[
    CLIENT_ID,
    optional(
        "home_tenant",
        Shape::Text,
        "Where that person signs in, by GUID or domain; default: the tenant, or `organizations` if shared.",
    ),
    optional(
        "token_key",
        Shape::Secret,
        "What the refresh token is sealed with: any long random text.",
    ),
];

/// The kinds of credential, and their keys.
const CREDENTIAL_KINDS: &[(&str, &[Key])] = &[
    ("client_secret", CLIENT_SECRET),
    ("certificate", CERTIFICATE),
    ("managed_identity", MANAGED_IDENTITY),
    ("workload_identity", WORKLOAD_IDENTITY),
    ("user", USER),
    ("environment", &[]),
];

const SINK: &[Key] = &[
    required("name", Shape::Text, "The sink's identity: its cursors are kept under this name."),
    required("type", Shape::Text, "The type of sink."),
    optional("records", Shape::ManyOf(RECORDS), "The kinds of record to send; default all four."),
    optional(
        "controls",
        Shape::OneOf(&[Choice::now("all"), Choice::now("changed")]),
        "Which controls of a day are sent: `changed` are those that differ from the day before.",
    ),
    optional(
        "full_every",
        Shape::Duration,
        "With `controls = \"changed\"`, how often all of them are sent; default 7d.",
    ),
    optional(
        "tenants",
        Shape::Texts,
        "Only these tenants: names or ids, where `*` and `?` stand for others, or `label=pattern`.",
    ),
    optional("control_ids", Shape::Texts, "Only controls whose id fits one of these patterns."),
    optional("services", Shape::Texts, "Only controls of services that fit one of these patterns."),
    optional(
        "categories",
        Shape::Texts,
        "Only controls of categories that fit one of these patterns.",
    ),
    optional("credential", Shape::Text, "One of [credentials], for sinks that sign in to Entra."),
    optional("entra_tenant", Shape::Text, "The tenant to sign in to, by GUID or domain."),
    optional(
        "login_url",
        Shape::Text,
        "Where tokens come from; default: the login of the receiver's own cloud.",
    ),
    optional(
        "extra_fields",
        Shape::Map,
        "Names and texts of your own for every record of this sink.",
    ),
    optional(
        "max_rate",
        Shape::Integer { min: 1, max: 10_000_000 },
        "Records a second, at most; default: no limit.",
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
    optional(
        "changes",
        Shape::ManyOf(CHANGES),
        "Only these kinds of change, with `change` among `records`; default all.",
    ),
    optional(
        "historical_changes",
        Shape::Bool,
        "Changes of days read back or imported, and decisions older than the forwarder, too; default false.",
    ),
    optional(
        "renamed_from",
        Shape::Text,
        "The name that this sink had: it goes on where that one was.",
    ),
    optional(
        "discard_backlog",
        Shape::Bool,
        "Nothing more goes to this sink, and what waits for it is forgotten: set it before you remove a sink.",
    ),
];

const RECORDS: &[Choice] = &[
    Choice::now("control"),
    Choice::now("summary"),
    Choice::now("change"),
    Choice::now("quality"),
];

const CHANGES: &[Choice] = &[
    Choice::now("regressed"),
    Choice::now("improved"),
    Choice::now("added"),
    Choice::now("removed"),
    Choice::now("max_score_changed"),
    Choice::now("decision_changed"),
    Choice::now("deprecated"),
    Choice::now("implementation_changed"),
    Choice::now("baseline_drift"),
    Choice::now("acceptance_expired"),
];

const SEVERITY: &[Key] = &[
    optional(
        "what",
        Shape::Texts,
        "Kinds of change or observation, as `change.what` and `quality.what` name them; default all changes.",
    ),
    optional("controls", Shape::Texts, "Controls whose id fits one of these patterns."),
    optional("categories", Shape::Texts, "Controls of categories that fit one of these patterns."),
    optional(
        "cause",
        Shape::OneOf(&[Choice::now("tenant"), Choice::now("microsoft"), Choice::now("unknown")]),
        "Only changes of this cause.",
    ),
    optional("points", Shape::Integer { min: 0, max: 1_000 }, "Points gained or lost, at least."),
    required(
        "severity",
        Shape::OneOf(&[
            Choice::now("informational"),
            Choice::now("low"),
            Choice::now("medium"),
            Choice::now("high"),
            Choice::now("critical"),
        ]),
        "How much it matters.",
    ),
];

const EXPECTED: &[Key] = &[
    required("control", Shape::Text, "A control's id, where `*` and `?` stand for others."),
    required(
        "state",
        Shape::OneOf(&[Choice::now("Ignored"), Choice::now("ThirdParty")]),
        "`Ignored` is an accepted risk, `ThirdParty` points claimed for another product.",
    ),
    required("owner", Shape::Text, "Who answers for it."),
    optional("expires", Shape::Day, "The last day on which it is expected; default: no end."),
    optional("tenants", Shape::Texts, "Only of these tenants, as a sink's `tenants`."),
];

fn credentials() -> Vec<Variant> {
    CREDENTIAL_KINDS.iter().map(|(name, keys)| Variant { name, keys: Some(keys) }).collect()
}
