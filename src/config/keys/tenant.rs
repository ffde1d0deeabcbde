//! The keys of `[[tenants]]`, which are also columns of the CSV file that `tenants_file` names. A
//! key that `[defaults.tenants]` can set must also be in [`INHERITED_KEYS`]; the name and the ID
//! identify one tenant and must never be there. Start reading at [`KEYS`].

use super::credential::{self, CLIENT_SECRET, KIND};
use crate::{
    model::DAYS_AT_SOURCE,
    settings::{
        Choice, Choices, ExampleSection, Integer, Key, KeyDefinition, KeyWithDefault, MAP, Map,
        NameOrSection, OneOf, Shape, TEXT, Text, defaulted, integer, keys, name_or_section, one_of,
        optional, required,
    },
    source::Api,
};

keys! {
    /// All keys of the section.
    pub(in crate::config) const KEYS;
    NAME: Key<Text> = required("name", TEXT, "The name of the tenant in records.");
    ID: Key<Text> = required("id", TEXT, "The GUID of the tenant, or one of its verified domains.")
        .example("3f5c1d2e-0000-4000-8000-00000000c0de");
    CLOUD: KeyWithDefault<NameOrSection> = defaulted(
        "cloud",
        name_or_section(Shape::OneOfOrTable {
            choices: &["global", "us-gov-high", "us-gov-dod"],
            rejected: &["china", "bleu", "delos", "govsg"],
            keys: CLOUD_KEYS,
        })
        .or("global"),
        "The Microsoft cloud of the tenant. The clouds `china`, `bleu`, `delos` and `govsg` are rejected, because they do not offer Secure Score.",
    );
    API: KeyWithDefault<OneOf<Api>> = defaulted(
        "api",
        one_of(&[SECURE_SCORES.name, LEGACY_REPORTS.name]).or(SECURE_SCORES),
        "The API to read; `legacy_reports` is the original getTenantSecureScores.",
    );
    INITIAL_BACKFILL_DAYS: KeyWithDefault<Integer<i32>> = defaulted(
        "initial_backfill_days",
        integer::<i32>(1, DAYS_AT_SOURCE as i64).or(DAYS_AT_SOURCE),
        "The number of days that the first poll requests. A number below 3 has the effect of 3, because every poll requests the newest 3 days.",
    );
    LABELS: Key<Map> = optional(
        "labels",
        MAP,
        "no labels",
        "Custom names and values that are added to every record of the tenant: at most 16, with at most 128 characters in each name and value.",
    )
    .example("{ customer = \"c-17\" }");
    CREDENTIAL: Key<NameOrSection> = required(
        "credential",
        name_or_section(Shape::NameOrSection(&credential::SINGLE)),
        "The credential for signing in to the tenant: the name of one in [credentials], or a section [tenants.credential].",
    )
    .example("app");
}

keys! {
    /// The keys of a cloud that is not one of the known ones.
    pub(in crate::config) const CLOUD_KEYS;
    LOGIN_URL: Key<Text> = required("login_url", TEXT, "The base URL of the token endpoint.")
        .example("https://login.example.com");
    GRAPH_URL: Key<Text> = required("graph_url", TEXT, "The base URL of Microsoft Graph.")
        .example("https://graph.example.com");
}

/// The keys that `[defaults.tenants]` can set.
pub(in crate::config) const INHERITED_KEYS: &[KeyDefinition] = &[
    CLOUD.define().in_defaults(),
    API.define().in_defaults(),
    INITIAL_BACKFILL_DAYS.define().in_defaults(),
    CREDENTIAL.define().in_defaults(),
];

/// The sections in the example file.
pub(in crate::config) const EXAMPLES: &[ExampleSection] = &[
    ExampleSection { name: "contoso", sets: &[LABELS.define()], ..ExampleSection::SET },
    ExampleSection {
        name: "fabrikam",
        about: "A tenant with its own credential, in a cloud that this version does not know by name.",
        sets: &[
            ID.define().example("fabrikam.example"),
            LABELS.define().example("{ customer = \"c-42\" }"),
            CLOUD.define().example_table(),
            CREDENTIAL.define().example_table(),
            KIND.define().example("client_secret"),
            CLIENT_SECRET.define().example("{ credential = \"fabrikam-secret\" }"),
        ],
        ..ExampleSection::NOT_SET
    },
];

const SECURE_SCORES: Choice<Api> = Choice { name: "secure_scores", value: Api::SecureScores };
const LEGACY_REPORTS: Choice<Api> = Choice { name: "legacy_reports", value: Api::LegacyReports };

impl Choices for Api {
    fn from_name(name: &str) -> Option<Self> {
        let choices = [SECURE_SCORES, LEGACY_REPORTS];
        choices.into_iter().find(|choice| choice.name == name).map(|choice| choice.value)
    }
}
