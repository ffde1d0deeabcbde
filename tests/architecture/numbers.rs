//! Numbers: the modules that read numbers from servers, receivers, callers and the checkpoint deny
//! every operation that can overflow or panic (see decision 0062), SQL names the numbers that mean
//! something else, and sequence numbers and times have a type.

use crate::{
    code::production_code,
    files::{expect_none, files, rust_files},
};

/// The attribute, which also applies to the modules inside.
const ATTRIBUTE: &str = "#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]";

const MODULES: &[&str] = &[
    "src/checkpoint/fields.rs",
    "src/daemon/control.rs",
    "src/daemon/poll.rs",
    "src/model/day.rs",
    "src/net.rs",
    "src/sink/chat/mod.rs",
    "src/sink/elasticsearch/mod.rs",
    "src/sink/email/mod.rs",
    "src/sink/http/mod.rs",
    "src/sink/kafka/progress.rs",
    "src/sink/object_store/mod.rs",
    "src/sink/otlp/mod.rs",
    "src/sink/progress.rs",
    "src/sink/reply.rs",
    "src/sink/reply_json.rs",
    "src/sink/sentinel/mod.rs",
    "src/sink/splunk_hec/mod.rs",
    "src/sink/syslog/relp/mod.rs",
    "src/sink/web.rs",
    "src/source/mod.rs",
    "src/wire/mod.rs",
];

/// The columns whose numbers mean a kind, flags, or yes and no.
const NAMED_COLUMNS: &[&str] = &["absent", "active", "codec", "flags", "kind", "quality", "retry"];
/// A number in SQL with this many digits is a unit or a limit. Numbers in Rust have separators.
const LARGE_DIGITS: usize = 5;
/// The operators between a column and a number.
const OPERATORS: &[&str] = &["=", "<>", "!=", "&", "IN (", "NOT IN ("];
/// The file that gives the numbers their names.
const FRAGMENTS: &str = "src/checkpoint/sql.rs";

/// Declarations of numbers that need a type of the model, and that type.
const BARE_NUMBERS: &[(&str, &str)] = &[
    ("seq: u64", "Seq"),
    ("seq: i64", "Seq"),
    ("_ms: u64", "UnixMillis"),
    ("_ms: i64", "UnixMillis"),
];

#[test]
fn modules_with_foreign_numbers_deny_overflows() {
    let mut violations = Vec::new();
    for path in MODULES {
        let found = files(path);
        let is_denied = |text: &str| text.lines().any(|line| line == ATTRIBUTE);
        if !found.iter().any(|file| is_denied(&file.text)) {
            violations.push(format!("{path}:1: the attribute is missing"));
        }
    }
    expect_none(&violations, &format!("add `{ATTRIBUTE}`"));
}

#[test]
fn sql_names_the_numbers_of_columns() {
    let mut violations = Vec::new();
    for file in rust_files(&["src/checkpoint"]).iter().filter(|file| file.path != FRAGMENTS) {
        for (line, text) in production_code(file) {
            if let Some(column) = numbered_column(&text) {
                violations.push(format!("{}:{line}: a number of `{column}`", file.path));
            }
            if let Some(number) = large_number(&text) {
                violations.push(format!("{}:{line}: the number `{number}`", file.path));
            }
        }
    }
    expect_none(&violations, &format!("use a fragment of `{FRAGMENTS}`, TRUE, FALSE or NOT"));
}

/// The column that a line of SQL compares with a number, or sets to one.
fn numbered_column(line: &str) -> Option<&'static str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    NAMED_COLUMNS.iter().copied().find(|column| {
        line.match_indices(*column).any(|(at, _)| {
            let rest = line[at + column.len()..].trim_start();
            let value = OPERATORS.iter().find_map(|operator| rest.strip_prefix(*operator));
            let is_number = |value: &str| value.trim_start().starts_with(|c: char| c.is_numeric());
            !line[..at].ends_with(is_word) && value.is_some_and(is_number)
        })
    })
}

/// A number without separators that needs a name. The settings of a connection are not statements.
fn large_number(line: &str) -> Option<&str> {
    if line.contains("PRAGMA") {
        return None;
    }
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
    words.find(|word| word.len() >= LARGE_DIGITS && is_number(word))
}

#[test]
fn numbers_of_columns_are_found() {
    for (line, column) in [
        ("\"SELECT day FROM entry e WHERE e.kind = 1 AND x = 2\"", Some("kind")),
        (" AND flags & 2 <> 0", Some("flags")),
        ("kind NOT IN (1, 2)", Some("kind")),
        ("SET retry=0", Some("retry")),
        (" AND flags & ?2 = 0", None),
        ("SET absent = FALSE, requests = 0", None),
        ("any_kind = 1", None),
    ] {
        assert_eq!(numbered_column(line), column, "{line}");
    }
    for (line, number) in [
        (" THEN e.day ELSE e.observed / 86400000 END", Some("86400000")),
        ("seq BETWEEN 1 AND 9999 AND key_12345 = x'12ab34567'", None),
        ("const LIMIT: u64 = 86_400_000;", None),
        ("PRAGMA journal_size_limit = 8388608", None),
    ] {
        assert_eq!(large_number(line), number, "{line}");
    }
}

#[test]
fn sequence_numbers_and_times_have_a_type() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        for (line, text) in production_code(&file) {
            for (bare, name) in BARE_NUMBERS.iter().filter(|(bare, _)| text.contains(bare)) {
                violations.push(format!("{}:{line}: `{bare}` instead of `{name}`", file.path));
            }
        }
    }
    expect_none(&violations, "use the type of the model");
}
