//! The keys of `[[severity]]` and `[[expected_decisions]]`. The names of severities, causes and
//! states are those that records contain, so they must never change. The rules themselves are in
//! `derive`. Start reading at [`SEVERITY_KEYS`].

use crate::{
    model::{Cause, Severity},
    settings::{
        Choices, DAY, Date, Integer, Key, OneOf, TEXT, TEXTS, Text, Texts, choices, integer, keys,
        names, one_of, optional, required,
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
    );
    CONTROLS: Key<Texts> = optional(
        "controls",
        TEXTS,
        "all controls",
        "Matches controls whose ID matches one of these patterns.",
    );
    CATEGORIES: Key<Texts> = optional(
        "categories",
        TEXTS,
        "all controls",
        "Matches controls whose category matches one of these patterns.",
    );
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
    );
    SEVERITY: Key<OneOf<Severity>> = required(
        "severity",
        one_of(names!(Severity)),
        "The severity of matching changes and observations.",
    );
}

keys! {
    /// All keys of `[[expected_decisions]]`.
    pub(in crate::config) const EXPECTED_KEYS;
    CONTROL: Key<Text> =
        required("control", TEXT, "A pattern for control IDs, with `*` and `?`.");
    STATE: Key<OneOf<ExpectedState>> = required(
        "state",
        one_of(ExpectedState::NAMES),
        "The expected decision: `Ignored` is an accepted risk, `ThirdParty` claims points for another product.",
    );
    OWNER: Key<Text> =
        required("owner", TEXT, "The person or team that is responsible for the decision.");
    EXPIRES: Key<Date> = optional(
        "expires",
        DAY,
        "no expiration",
        "The last day on which the decision is expected.",
    );
    TENANTS: Key<Texts> = optional(
        "tenants",
        TEXTS,
        "all tenants",
        "The tenants to which the entry applies, in the syntax of a sink's `tenants`.",
    );
}

choices! {
    /// A decision that can be expected, as Microsoft names it.
    pub(in crate::config) enum ExpectedState {
        Ignored = "Ignored",
        ThirdParty = "ThirdParty",
    }
}

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
