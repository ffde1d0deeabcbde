//! Tests of the example file of a few keys. The tests of the configuration check that of all keys.

use std::time::Duration;

use super::*;
use crate::settings::{
    SECRET, TEXT, TEXTS, Variant, defaulted, duration, integer, optional, required,
    section as table_of,
};

const STATE: &[KeyDefinition] = &[
    KeyDefinition::reserved("url"),
    optional("hosts", TEXTS, "no hosts", "The names of hosts.").example("[\"a\"]").define(),
    required("directory", TEXT, "The directory.").example("/var/lib/x").define(),
    DAYS,
];
const DAYS: KeyDefinition = defaulted("days", integer::<i32>(1, 90).or(30), "The days.").define();

const COMMON: &[KeyDefinition] = &[
    required("name", TEXT, "The name of the sink.").define(),
    required("type", TEXT, "The type of sink.").define(),
    RATE,
    CREDENTIAL,
];
const RATE: KeyDefinition =
    optional("rate", integer::<u32>(1, 10), "no limit", "The rate.").example("5").define();
const CREDENTIAL: KeyDefinition =
    optional("credential", TEXT, "no sign-in", "The credential.").example("app").define();

const FILE: &[KeyDefinition] =
    &[required("path", TEXT, "The path.").example("C:\\\"x\"").define(), INTERVAL];
const INTERVAL: KeyDefinition =
    defaulted("interval", duration(Duration::ZERO, Duration::MAX).or(Duration::ZERO), "The time.")
        .define();

const LOGIN: &[KeyDefinition] = &[
    required("user", TEXT, "The user.").example("u").define(),
    required("pass_word", SECRET, "The password.").define(),
    optional("token", SECRET, "no token", "The token.").define(),
];
const QUEUE: &[KeyDefinition] = &[
    optional("login", table_of(LOGIN), "no login", "The login.").define(),
    required("topic", TEXT, "The topic.").example("scores").define(),
    INTERVAL,
];

const KEYS: &[KeyDefinition] = &[
    required("state", table_of(STATE), "The state.").define(),
    optional("more", TEXT, "nothing more", "A file with more.").example("more.csv").define(),
    SINKS,
];
const SINKS: KeyDefinition = KeyDefinition {
    shape: Shape::Tagged { tag: "type", many: Many::List, keys: COMMON, variants },
    ..optional("sinks", TEXT, "no sinks", "The sinks.").define()
};

const TABLES: &[ExampleTable] = &[
    ExampleTable {
        path: &[KEYS[0]],
        about: "",
        sections: &[ExampleSection { about: "Where data is stored.", ..ExampleSection::SET }],
    },
    ExampleTable { path: &[SINKS], about: "All sinks.", sections: &[] },
];

fn variants() -> Vec<Variant> {
    const FILE_SECTIONS: &[ExampleSection] =
        &[ExampleSection { name: "local", about: "A file.", ..ExampleSection::NOT_SET }];
    const QUEUE_SECTIONS: &[ExampleSection] = &[
        ExampleSection {
            name: "events",
            omits: &[LOGIN[2]],
            lists: &[RATE],
            about_listed: "Keys of all sinks:",
            ..ExampleSection::SET
        },
        ExampleSection {
            name: "cloud",
            about: "With a token.",
            sets: &[CREDENTIAL, QUEUE[0], LOGIN[2].example("{ env = \"T\" }")],
            ..ExampleSection::NOT_SET
        },
    ];
    vec![
        Variant { name: "file", keys: Some(FILE), examples: FILE_SECTIONS },
        Variant { name: "absent", keys: None, examples: FILE_SECTIONS },
        Variant { name: "queue", keys: Some(QUEUE), examples: QUEUE_SECTIONS },
    ]
}

const EXPECTED: &str = r#"## Two
##
## paragraphs.

## A file with more. If it is not set: nothing more.
# more = "more.csv"

## Where data is stored.
[state]
## The directory.
directory = "/var/lib/x"
## The names of hosts. If it is not set: no hosts.
# hosts = ["a"]
## The days.
# days = 30

## All sinks.

[[sinks]]
## The name of the sink.
name = "events"
## The type of sink.
type = "queue"
## The topic.
topic = "scores"
## The time.
# interval = "0s"
## Keys of all sinks:
## The rate. If it is not set: no limit.
# rate = 5
## The login. If it is not set: no login.
# [sinks.login]
## The user.
# user = "u"
## The password.
# pass_word = { credential = "pass-word" }

## With a token.
# [[sinks]]
# name = "cloud"
# type = "queue"
# topic = "scores"
## The credential. If it is not set: no sign-in.
# credential = "app"
# [sinks.login]
# user = "u"
# pass_word = { credential = "pass-word" }
## The token. If it is not set: no token.
# token = { env = "T" }

## A file.
# [[sinks]]
# name = "local"
# type = "file"
## The path.
# path = 'C:\"x"'
# # interval = "0s"
"#;

#[test]
fn sections_have_their_keys_and_descriptions() {
    assert_eq!(example("Two\n\nparagraphs.", KEYS, TABLES), EXPECTED);
}

#[test]
fn comments_are_wrapped_between_words() {
    let word = "x".repeat(48);
    assert_eq!(comment(&format!("{word} {word}")), format!("## {word} {word}\n"));
    assert_eq!(comment(&format!("{word} {word}x")), format!("## {word}\n## {word}x\n"));
    // A code span is not wrapped.
    let span = format!("`{word} = 1`");
    assert_eq!(comment(&format!("{word} {span}, x")), format!("## {word}\n## {span}, x\n"));

    let long = word.repeat(3);
    assert_eq!(comment(&long), format!("## {long}\n"));
    assert_eq!(comment(""), "");
}

#[test]
fn comments_name_choices_and_defaults() {
    let key = |doc| KeyDefinition { shape: Shape::OneOf(&["all", "some"]), doc, ..DAYS };
    assert_eq!(description(&key("The rows.")), "The rows. Values: `all`, `some`.");
    assert_eq!(description(&key("`all` or `some`.")), "`all` or `some`.");

    assert_eq!(effect_of_absence(&DAYS), "");
    assert_eq!(effect_of_absence(&DAYS.example("7")), " Default: `30`.");
    assert_eq!(effect_of_absence(&DAYS.in_defaults()), "");
    assert_eq!(value(&DAYS.in_defaults()).as_deref(), Some("30"));
}
