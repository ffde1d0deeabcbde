//! The keys of `[[severity]]` and `[[expected_decisions]]`. The names of severities, causes and
//! states are those that records contain, so they must never change. The rules themselves are in
//! `derive`. Start reading at [`SEVERITY_KEYS`].

use crate::{
    model::{Cause, Severity},
    settings::{
        Choices, DAY, Date, ExampleSection, Integer, Key, OneOf, TEXT, TEXTS, Text, Texts, choices,
        integer, keys, names, one_of, optional, required,
    },
};

keys! {
    /// All keys of `[[severity]]`.
    pub(in crate::config) const SEVERITY_KEYS;
    WHAT: Key<Texts> = optional(
        "what",
        TEXTS,
        "all changes",
        "The kinds of change or observation that the rule matches, as in `change.what` and `quality.what`.",
    )
    .example("[\"regressed\"]");
    CONTROLS: Key<Texts> = optional(
        "controls",
        TEXTS,
        "all controls",
        "Matches controls whose ID matches one of these patterns.",
    )
    .example("[\"*MFA*\"]");
    CATEGORIES: Key<Texts> = optional(
        "categories",
        TEXTS,
        "all controls",
        "Matches controls whose category matches one of these patterns.",
    )
    .example("[\"Identity\"]");
    CAUSE: Key<OneOf<Cause>> = optional(
        "cause",
        one_of(names!(Cause)),
        "any cause",
        "Matches changes with this cause.",
    );
    POINTS: Key<Integer<u32>> = optional(
        "points",
        integer::<u32>(0, 1_000),
        "any number",
        "The minimum number of points gained or lost.",
    )
    .example("5");
    SEVERITY: Key<OneOf<Severity>> = required(
        "severity",
        one_of(names!(Severity)),
        "The severity of matching changes and observations.",
    )
    .example("critical");
}

keys! {
    /// All keys of `[[expected_decisions]]`.
    pub(in crate::config) const EXPECTED_KEYS;
    CONTROL: Key<Text> =
        required("control", TEXT, "A pattern for control IDs, with `*` and `?`.")
            .example("BlockLegacyAuthentication");
    STATE: Key<OneOf<ExpectedState>> = required(
        "state",
        one_of(ExpectedState::NAMES),
        "The expected decision: `Ignored` is an accepted risk, `ThirdParty` claims points for another product.",
    );
    OWNER: Key<Text> =
        required("owner", TEXT, "The person or team that is responsible for the decision.")
            .example("anna@contoso.example");
    EXPIRES: Key<Date> = optional(
        "expires",
        DAY,
        "no expiration",
        "The last day on which the decision is expected.",
    )
    .example("2027-01-31");
    TENANTS: Key<Texts> = optional(
        "tenants",
        TEXTS,
        "all tenants",
        "The tenants to which the entry applies, in the syntax of a sink's `tenants`.",
    )
    .example("[\"contoso\"]");
}

choices! {
    /// A decision that can be expected, as Microsoft names it.
    pub(in crate::config) enum ExpectedState {
        Ignored = "Ignored",
        ThirdParty = "ThirdParty",
    }
}

/// The section of `[[severity]]` in the example file.
pub(in crate::config) const SEVERITY_EXAMPLES: &[ExampleSection] = &[ExampleSection {
    about: "The severity of changes and observations. The first section that matches applies; a key that is not set matches everything. `what` can contain kinds of change (`improved`, `added`, …) and of observation (`gap`, `poll_failed`, …); without it, a section matches all changes and no observations.",
    sets: &[WHAT.define(), CONTROLS.define()],
    ..ExampleSection::NOT_SET
}];

/// The section of `[[expected_decisions]]` in the example file.
pub(in crate::config) const EXPECTED_EXAMPLES: &[ExampleSection] = &[ExampleSection {
    about: "Decisions that are expected, such as accepted risks. An acceptance that is not expected, or whose expectation has expired, is a change of high severity.",
    sets: &[EXPIRES.define()],
    ..ExampleSection::NOT_SET
}];

impl Choices for Cause {
    fn from_name(name: &str) -> Option<Self> {
        Self::parse(name)
    }
}

impl Choices for Severity {
    fn from_name(name: &str) -> Option<Self> {
        Self::parse(name)
    }
}
