//! The table of all keys of a configuration. The validation, the JSON Schema and the reference page
//! are derived from it.
//!
//! The keys of one type of sink are in the module of that sink; this table contains those that all
//! sinks share. The `doc` of a key is its description in the schema and in the reference.

use crate::{
    settings::{Key, Many, Shape, Variant, optional, required, reserved},
    sink,
};

/// The keys at the top level of the main file.
pub const KEYS: &[Key] = &[
    required("state", Shape::Table(STATE), "The location and the retention of the checkpoint."),
    optional("schedule", Shape::Table(SCHEDULE), "When tenants are polled."),
    optional(
        "source",
        Shape::Table(SOURCE),
        "The connection to Microsoft Graph: proxy, certificate authorities and limits.",
    ),
    optional(
        "credentials",
        CREDENTIALS,
        "Credentials that tenants and sinks refer to by name: [credentials.NAME].",
    ),
    optional("tenants", Shape::Tables(TENANT), "The tenants to poll."),
    optional(
        "tenants_file",
        Shape::Text,
        "A CSV file with more tenants, relative to this file. Its header names the columns: `name`, `id`, `credential`, `cloud`, `api`, `initial_backfill_days`, `label.NAME`.",
    ),
    required(
        "sinks",
        Shape::Tagged { tag: "type", many: Many::List, keys: SINK, variants: sink::variants },
        "The destinations of records.",
    ),
    optional(
        "admin",
        Shape::Table(ADMIN),
        "The HTTP listener for metrics, health checks and the status page. Without this section, there is no listener.",
    ),
    optional(
        "severity",
        Shape::Tables(SEVERITY),
        "Rules that set the severity of changes and observations; the first matching rule applies.",
    ),
    optional(
        "expected_decisions",
        Shape::Tables(EXPECTED),
        "Decisions that are expected, such as accepted risks, each with an owner and an optional expiration date. Any other acceptance is a change of high severity.",
    ),
];

/// The keys of a file in `tenants.d`, and of the TOML text into which a CSV file is converted.
pub(super) const TENANT_KEYS: &[Key] = &[
    optional(
        "credentials",
        CREDENTIALS,
        "Credentials that tenants and sinks refer to by name: [credentials.NAME].",
    ),
    required("tenants", Shape::Tables(TENANT), "The tenants to poll."),
];

const CREDENTIALS: Shape =
    Shape::Tagged { tag: "kind", many: Many::Named, keys: CREDENTIAL, variants: credentials };

const SOURCE: &[Key] = &[
    optional(
        "proxy",
        Shape::Text,
        "The proxy for requests to Microsoft, as http://host:port. Requests to the Azure Instance Metadata Service never use it.",
    ),
    optional("proxy_user", Shape::Text, "The user name for the proxy; requires `proxy_password`."),
    optional("proxy_password", Shape::Secret, "The password for the proxy; requires `proxy_user`."),
    optional(
        "ca_file",
        Shape::File,
        "A PEM file of certificate authorities that are trusted instead of those of the system.",
    ),
    optional(
        "requests_per_second",
        Shape::Integer { min: 1, max: 1_000 },
        "The maximum number of requests to Graph per second, for all tenants together; default: 50.",
    ),
    optional(
        "bytes_in_flight",
        Shape::Size,
        "The memory for responses from Graph, for all tenants together, from 8MiB to 4GiB. A response that is larger than half of it is rejected; default: 32MiB.",
    ),
];

const STATE: &[Key] = &[
    required(
        "directory",
        Shape::Text,
        "The state directory, as an absolute path. It contains the checkpoint.",
    ),
    optional(
        "retention_days",
        Shape::Integer { min: 90, max: 36_500 },
        "The age in days above which the body of a snapshot is pruned if every sink has received it. Facts are never pruned; default: 400.",
    ),
    optional(
        "max_size",
        Shape::Size,
        "The size of the checkpoint above which the oldest bodies are pruned before they reach `retention_days`; default: no limit.",
    ),
    optional(
        "removed_sinks",
        Shape::Duration,
        "How long the cursors and dead letters of a sink are kept after its section was removed, at most 366d. If the name returns in this time, delivery continues from the cursors; `0d` deletes them with the section; default: 30d.",
    ),
    reserved("url"),
];

const ADMIN: &[Key] = &[
    required(
        "listen",
        Shape::Text,
        "The IP address and port to listen on, such as 127.0.0.1:9633; port 0 selects a free port. An address other than loopback requires `hosts`.",
    ),
    optional(
        "hosts",
        Shape::Texts,
        "The values of the `Host` header that are accepted in addition to those of loopback.",
    ),
    optional(
        "tenant_series",
        Shape::Integer { min: 0, max: 100_000 },
        "With more tenants than this, metrics have no series per tenant; default: 1000.",
    ),
];

const SCHEDULE: &[Key] = &[
    optional(
        "cron",
        Shape::Text,
        "The time of the daily poll, as a cron expression with five fields; default: `15 6 * * *`.",
    ),
    optional(
        "timezone",
        Shape::Text,
        "The time zone of `cron`, such as Europe/Berlin; default: UTC.",
    ),
    optional(
        "jitter",
        Shape::Duration,
        "The time span over which the polls of different tenants are spread. The delay of each tenant is constant; default: 10m.",
    ),
    optional(
        "recheck_interval",
        Shape::Duration,
        "The time until a tenant is polled again if today's snapshot is not available yet, at least 1m. This is also the longest delay between retries of a failed poll; default: 2h.",
    ),
    optional(
        "partial_hold",
        Shape::Duration,
        "How long a partial day is held before it is released as partial; default: 6h.",
    ),
];

const TENANT: &[Key] = &[
    required("name", Shape::Text, "The name of the tenant in records."),
    required("id", Shape::Text, "The GUID of the tenant, or one of its verified domains."),
    optional(
        "cloud",
        Shape::OneOfOrTable {
            choices: &["global", "us-gov-high", "us-gov-dod"],
            rejected: &["china", "bleu", "delos", "govsg"],
            keys: CLOUD,
        },
        "The Microsoft cloud of the tenant; default: global. The clouds `china`, `bleu`, `delos` and `govsg` are rejected, because they do not offer Secure Score.",
    ),
    optional(
        "api",
        Shape::OneOf(&["secure_scores", "legacy_reports"]),
        "The API to read; `legacy_reports` is the original getTenantSecureScores; default: secure_scores.",
    ),
    optional(
        "initial_backfill_days",
        Shape::Integer { min: 1, max: 90 },
        "The number of days that the first poll requests; default: 90.",
    ),
    optional(
        "labels",
        Shape::Map,
        "Custom names and values that are added to every record of the tenant: at most 16, with at most 128 characters in each name and value.",
    ),
    required(
        "credential",
        Shape::NameOr(&Shape::Tagged {
            tag: "kind",
            many: Many::One,
            keys: CREDENTIAL,
            variants: credentials,
        }),
        "The credential for signing in to the tenant: the name of one in [credentials], or a section [tenants.credential].",
    ),
];

const CLOUD: &[Key] = &[
    required("login_url", Shape::Text, "The base URL of the token endpoint."),
    required("graph_url", Shape::Text, "The base URL of Microsoft Graph."),
];

const CREDENTIAL: &[Key] = &[required("kind", Shape::Text, "The kind of credential.")];

const CLIENT_ID: Key =
    required("client_id", Shape::Text, "The application (client) ID of the app registration.");

const CLIENT_SECRET: &[Key] = &[
    CLIENT_ID,
    required("client_secret", Shape::Secret, "The value of the client secret."),
    optional(
        "expires",
        Shape::Day,
        "The last day on which the client secret is valid, for a warning 30 days before; default: none.",
    ),
];

const CERTIFICATE: &[Key] = &[
    CLIENT_ID,
    required(
        "certificate",
        Shape::File,
        "The path of a PEM file with the certificate and its private key, or of a PFX file.",
    ),
    optional(
        "private_key",
        Shape::File,
        "The path of a PEM file with the private key, if it is not in the file of the certificate.",
    ),
    optional("password", Shape::Secret, "The password of the PFX file."),
    optional(
        "send_chain",
        Shape::Bool,
        "Sends the certificate chain, for app registrations that trust certificates by subject name and issuer; default: false.",
    ),
];

const WORKLOAD_IDENTITY: &[Key] = &[
    optional("client_id", Shape::Text, "The application (client) ID; default: $AZURE_CLIENT_ID."),
    optional(
        "token_file",
        Shape::File,
        "The path of the file that contains the federated token; default: $AZURE_FEDERATED_TOKEN_FILE.",
    ),
];

const MANAGED_IDENTITY: &[Key] = &[
    optional(
        "client_id",
        Shape::Text,
        "The client ID of a user-assigned identity; default: the system-assigned identity.",
    ),
    optional(
        "object_id",
        Shape::Text,
        "The object ID of a user-assigned identity, instead of `client_id`.",
    ),
    optional(
        "resource_id",
        Shape::Text,
        "The Azure resource ID of a user-assigned identity, instead of `client_id`.",
    ),
];

const USER: &[Key] = &[
    CLIENT_ID,
    optional(
        "home_tenant",
        Shape::Text,
        "The tenant in which the user signs in, by GUID or domain; default: the `id` of the tenant whose section contains the credential, or `organizations` for a shared credential.",
    ),
    optional(
        "token_key",
        Shape::Secret,
        "The key that encrypts the stored refresh token: a long random string.",
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
    required("name", Shape::Text, "The name of the sink, under which its cursors are stored."),
    required("type", Shape::Text, "The type of sink."),
    optional(
        "records",
        Shape::ManyOf(RECORDS),
        "The kinds of record to send; default: all four, but for `chat` and `email` only `change` and `quality`.",
    ),
    optional(
        "controls",
        Shape::OneOf(&["all", "changed"]),
        "The controls of a day that are sent: all, or those that differ from the base; default: all.",
    ),
    optional(
        "full_every",
        Shape::Duration,
        "With `controls = \"changed\"`, how often all controls are sent, in whole days; default: 7d.",
    ),
    optional(
        "tenants",
        Shape::Texts,
        "Sends only records of these tenants: patterns for names or IDs with `*` and `?`, or `label=pattern`; default: all tenants.",
    ),
    optional(
        "control_ids",
        Shape::Texts,
        "Sends only controls whose ID matches one of these patterns; default: all.",
    ),
    optional(
        "services",
        Shape::Texts,
        "Sends only controls whose service matches one of these patterns; default: all.",
    ),
    optional(
        "categories",
        Shape::Texts,
        "Sends only controls whose category matches one of these patterns; default: all.",
    ),
    optional(
        "credential",
        Shape::Text,
        "The name of a credential in [credentials], for sinks that sign in to Entra.",
    ),
    optional(
        "entra_tenant",
        Shape::Text,
        "The tenant to sign in to, by GUID or domain, for sinks that sign in to Entra.",
    ),
    optional(
        "login_url",
        Shape::Text,
        "The base URL of the token endpoint; default: the endpoint of the receiver's cloud.",
    ),
    optional(
        "extra_fields",
        Shape::Map,
        "Custom names and values that are added to every record of this sink: at most 16, with at most 128 characters in each name and value.",
    ),
    optional(
        "max_rate",
        Shape::Integer { min: 1, max: 10_000_000 },
        "The maximum number of records per second; default: no limit.",
    ),
    optional(
        "start_from",
        Shape::Day,
        "The first day that is sent; default: 90 days before the day on which the sink was added, but for `chat` and `email` that day.",
    ),
    optional(
        "texts",
        Shape::OneOf(&["none", "short", "full"]),
        "How much of Microsoft's text the records contain; default: none for CEF and LEEF, short for other formats.",
    ),
    optional(
        "changes",
        Shape::ManyOf(CHANGES),
        "The kinds of change to send; requires `change` in `records`; default: all.",
    ),
    optional(
        "historical_changes",
        Shape::Bool,
        "Also sends historical changes: those of backfilled or imported days, and decisions made before the first poll; default: false.",
    ),
    optional(
        "renamed_from",
        Shape::Text,
        "The previous name of the sink: delivery continues from its cursors.",
    ),
    optional(
        "discard_backlog",
        Shape::Bool,
        "Stops delivery to this sink and drops its backlog. Set it before you remove a sink; default: false.",
    ),
];

const RECORDS: &[&str] = &["control", "summary", "change", "quality"];

const CHANGES: &[&str] = &[
    "regressed",
    "improved",
    "added",
    "removed",
    "max_score_changed",
    "decision_changed",
    "deprecated",
    "implementation_changed",
    "baseline_drift",
    "acceptance_expired",
];

const SEVERITY: &[Key] = &[
    optional(
        "what",
        Shape::Texts,
        "The kinds of change or observation that the rule matches, as in `change.what` and `quality.what`; default: all changes.",
    ),
    optional(
        "controls",
        Shape::Texts,
        "Matches controls whose ID matches one of these patterns; default: all.",
    ),
    optional(
        "categories",
        Shape::Texts,
        "Matches controls whose category matches one of these patterns; default: all.",
    ),
    optional(
        "cause",
        Shape::OneOf(&["tenant", "microsoft", "unknown"]),
        "Matches changes with this cause; default: any.",
    ),
    optional(
        "points",
        Shape::Integer { min: 0, max: 1_000 },
        "The minimum number of points gained or lost; default: any.",
    ),
    required(
        "severity",
        Shape::OneOf(&["informational", "low", "medium", "high", "critical"]),
        "The severity of matching changes and observations.",
    ),
];

const EXPECTED: &[Key] = &[
    required("control", Shape::Text, "A pattern for control IDs, with `*` and `?`."),
    required(
        "state",
        Shape::OneOf(&["Ignored", "ThirdParty"]),
        "The expected decision: `Ignored` is an accepted risk, `ThirdParty` claims points for another product.",
    ),
    required("owner", Shape::Text, "The person or team that is responsible for the decision."),
    optional(
        "expires",
        Shape::Day,
        "The last day on which the decision is expected; default: no expiration.",
    ),
    optional(
        "tenants",
        Shape::Texts,
        "The tenants to which the entry applies, in the syntax of a sink's `tenants`; default: all tenants.",
    ),
];

fn credentials() -> Vec<Variant> {
    CREDENTIAL_KINDS.iter().map(|(name, keys)| Variant { name, keys: Some(keys) }).collect()
}
