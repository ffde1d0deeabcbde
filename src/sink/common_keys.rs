//! The keys that all types of sinks share. `config` reads most of them; a sink may read them too. A
//! key that only one type of sink uses must never be declared here, because all types would accept
//! it. Start reading at [`COMMON_KEYS`].

use std::time::Duration;

use crate::{
    format::Texts,
    model::{ChangeKind, Kind},
    settings::{
        Choices, DAY, Date, FLAG, Flag, Integer, Key, KeyDefinition, KeyWithDefault, MAP, ManyOf,
        Map, OneOf, TEXT, TEXTS, Text, Texts as TextList, Timespan, choices, defaulted, duration,
        integer, keys, many_of, names, one_of, optional, required,
    },
};

keys! {
    /// The keys of every sink.
    pub const COMMON_KEYS;
    ..GENERAL_KEYS;
    ..SIGN_IN_KEYS;
}

keys! {
    /// The keys of every sink, whether it signs in to Entra or not.
    pub const GENERAL_KEYS;
    ..IDENTITY_KEYS;
    ..SELECTION_KEYS;
}

keys! {
    /// The keys that only one sink can have, so they have no common default.
    pub const IDENTITY_KEYS;
    NAME: Key<Text> =
        required("name", TEXT, "The name of the sink, under which its cursors are stored.");
    TYPE: Key<Text> = required("type", TEXT, "The type of sink.");
    RENAMED_FROM: Key<Text> = optional(
        "renamed_from",
        TEXT,
        "the sink was not renamed",
        "The previous name of the sink: delivery continues from its cursors.",
    )
    .example("old-siem");
    DISCARD_BACKLOG: KeyWithDefault<Flag> = defaulted(
        "discard_backlog",
        FLAG.or(false),
        "Stops delivery to this sink and drops its backlog. Set it before you remove a sink.",
    );
}

keys! {
    /// The keys that decide which records a sink receives, and what they contain.
    /// `[defaults.sinks]` can set them.
    pub const SELECTION_KEYS;
    RECORDS: Key<ManyOf<Kind>> = optional(
        "records",
        many_of(names!(Kind)),
        "`change` and `quality` for `chat` and `email`; otherwise all four",
        "The kinds of record to send.",
    );
    CONTROLS: KeyWithDefault<OneOf<Controls>> = defaulted(
        "controls",
        one_of(Controls::NAMES).or(Controls::All.choice()),
        "The controls of a day that are sent: all, or those that differ from the base.",
    )
    .example("changed");
    FULL_EVERY: KeyWithDefault<Timespan> = defaulted(
        "full_every",
        duration(ONE_DAY, Duration::from_hours(366 * 24)).or(Duration::from_hours(7 * 24)),
        "With `controls = \"changed\"`, how often all controls are sent, in whole days.",
    );
    TENANTS: Key<TextList> = optional(
        "tenants",
        TEXTS,
        "all tenants",
        "Sends only records of these tenants: patterns for names or IDs with `*` and `?`, or `label=pattern`.",
    )
    .example("[\"contoso\", \"customer=c-*\"]");
    CONTROL_IDS: Key<TextList> = optional(
        "control_ids",
        TEXTS,
        "all controls",
        "Sends only controls whose ID matches one of these patterns.",
    )
    .example("[\"*MFA*\"]");
    SERVICES: Key<TextList> = optional(
        "services",
        TEXTS,
        "all controls",
        "Sends only controls whose service matches one of these patterns.",
    )
    .example("[\"AzureAD\", \"Exchange*\"]");
    CATEGORIES: Key<TextList> = optional(
        "categories",
        TEXTS,
        "all controls",
        "Sends only controls whose category matches one of these patterns.",
    )
    .example("[\"Identity\"]");
    EXTRA_FIELDS: Key<Map> = optional(
        "extra_fields",
        MAP,
        "no additional fields",
        "Custom names and values that are added to every record of this sink: at most 16, with at most 128 characters in each name and value.",
    )
    .example("{ env = \"production\" }");
    MAX_RATE: Key<Integer<u32>> = optional(
        "max_rate",
        integer::<u32>(1, 10_000_000),
        "no limit",
        "The maximum number of records per second.",
    )
    .example("1000");
    START_FROM: Key<Date> = optional(
        "start_from",
        DAY,
        "the day on which the sink was added for `chat` and `email`; otherwise 90 days before it",
        "The first day that is sent.",
    )
    .example("2026-09-01");
    TEXT_LENGTH: Key<OneOf<Texts>> = optional(
        "texts",
        one_of(names!(Texts)),
        "`none` for CEF and LEEF, `short` for other formats",
        "How much of Microsoft's text the records contain.",
    )
    .example("short");
    CHANGES: Key<ManyOf<ChangeKind>> = optional(
        "changes",
        many_of(names!(ChangeKind)),
        "all kinds",
        "The kinds of change to send; requires `change` in `records`.",
    )
    .example("[\"regressed\", \"decision_changed\"]");
    HISTORICAL_CHANGES: KeyWithDefault<Flag> = defaulted(
        "historical_changes",
        FLAG.or(false),
        "Also sends historical changes: those of backfilled or imported days, and decisions made before the first poll.",
    );
}

keys! {
    /// The keys of sinks that sign in to Entra.
    pub const SIGN_IN_KEYS;
    CREDENTIAL: Key<Text> = optional(
        "credential",
        TEXT,
        "the sink does not sign in to Entra",
        "The name of a credential in [credentials], for sinks that sign in to Entra.",
    )
    .example("app");
    ENTRA_TENANT: Key<Text> = optional(
        "entra_tenant",
        TEXT,
        "the sink does not sign in to Entra",
        "The tenant to sign in to, by GUID or domain, for sinks that sign in to Entra.",
    )
    .example("contoso.example");
    LOGIN_URL: Key<Text> = optional(
        "login_url",
        TEXT,
        "the endpoint of the receiver's cloud",
        "The base URL of the token endpoint.",
    )
    .example("https://login.microsoftonline.com");
}

choices! {
    /// The controls of a day that are sent.
    pub enum Controls {
        /// All controls, every day.
        All = "all",
        /// Controls that differ from the base; all controls in the interval `full_every`.
        Changed = "changed",
    }
}

const ONE_DAY: Duration = Duration::from_hours(24);

/// The keys that `[defaults.sinks]` can set.
pub const INHERITED_KEYS: &[KeyDefinition] = &in_defaults::<{ SELECTION_KEYS.len() }>();

const fn in_defaults<const COUNT: usize>() -> [KeyDefinition; COUNT] {
    let mut inherited = [SELECTION_KEYS[0]; COUNT];
    let mut index = 0;
    while index < COUNT {
        inherited[index] = SELECTION_KEYS[index].in_defaults();
        index += 1;
    }
    inherited
}

impl Choices for Kind {
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Choices for ChangeKind {
    fn from_name(name: &str) -> Option<Self> {
        Self::parse(name)
    }
}

impl Choices for Texts {
    fn from_name(name: &str) -> Option<Self> {
        Self::parse(name)
    }
}
