//! Words to avoid. They are not used in code, comments, messages, documentation or deployment
//! files.

use crate::files::{expect_none, files};

/// Words and phrases, each with its replacement. They match whole words without regard to case,
/// also in identifiers: `new_days_come_first` and `LastSay` contain words to avoid.
const AVOIDED: &[(&str, &str)] = &[
    ("anew", "again; re-read, rewrite"),
    ("once more", "again"),
    ("as is", "unchanged"),
    ("beside", "next to; while … is running"),
    ("want", "need, require, expect"),
    ("wants", "needs, requires, expects"),
    ("wanted", "requested, required"),
    ("stand", "be, appear, represent"),
    ("stands", "is, appears, represents"),
    ("stood", "was, appeared, represented"),
    ("lie", "be stored"),
    ("lies", "is stored"),
    ("lying", "stored"),
    ("say", "report"),
    ("says", "reports"),
    ("said", "reported"),
    ("told", "reported, notified"),
    ("tell", "report, distinguish"),
    ("tells", "reports"),
    ("somebody", "another process, a person"),
    ("nobody", "no other process"),
    ("anybody", "any process, any person"),
    ("someone", "a person, another page"),
    ("anyone", "every person, any process"),
    ("its words", "its message"),
    ("their words", "their messages"),
    ("come", "are sent, are derived, are read"),
    ("comes", "is sent, is derived, is read"),
    ("came", "was sent, was derived, was read"),
    ("goes on", "continues"),
    ("go on", "continue"),
    ("gets on", "makes progress"),
    ("get on", "make progress"),
    ("goes out", "is sent"),
    ("go out", "are sent"),
    ("let go", "removed, released"),
    ("lets go", "releases"),
    ("given up", "abandoned"),
    ("mend", "repair"),
    ("mends", "repairs"),
    ("mended", "repaired"),
    ("mending", "repairing"),
    ("well again", "recovered"),
    ("all is well", "no problems found"),
    ("unwell", "failing"),
    ("owed", "missing"),
    ("owes", "is missing"),
    ("proof", "acknowledgement"),
    ("proofs", "acknowledgements"),
    ("proven", "acknowledged, confirmed"),
    ("octet", "byte"),
    ("octets", "bytes"),
    ("at rest", "idle"),
    ("whatever", "every, any"),
    ("whoever", "the person who, the process that"),
    ("room", "module, memory, space"),
    ("rooms", "modules"),
    ("house", "crate"),
    ("houses", "crates"),
    ("wish", "request"),
    ("wishes", "requests"),
    ("bell", "notification"),
    ("bells", "notifications"),
    ("for ever", "indefinitely"),
    ("at hand", "available"),
    ("manners", "throttle"),
    ("herald", "notify"),
    ("catalogue", "catalog"),
    ("catalogues", "catalogs"),
    ("licence", "license"),
    ("licences", "licenses"),
    ("colour", "color"),
    ("behaviour", "behavior"),
    ("honour", "honor"),
    ("honours", "honors"),
    ("recognise", "recognize"),
    ("neighbour", "neighbor"),
    ("neighbouring", "neighboring"),
];

/// Files that may contain these words: a path or its beginning, and the permitted words (an empty
/// list permits all).
const QUOTATIONS: &[(&str, &[&str])] = &[
    // This list.
    ("tests/architecture/words.rs", &[]),
    // Titles of Microsoft's controls.
    ("src/source/simulated/controls.txt", &[]),
    ("tests/golden/", &[]),
    ("tests/vectors/", &[]),
    // Published names of old database versions, and the migration that renames them.
    ("src/checkpoint/sqlite/schema", &["catalogue", "owed", "proof"]),
    ("src/checkpoint/tests/downgrade-to-1.sql", &["catalogue", "owed", "proof"]),
    ("src/checkpoint/tests/versions/", &["catalogue", "owed", "proof"]),
    ("CHANGELOG.md", &["catalogue", "catalogues", "owed", "proof", "licences"]),
    // A key of `tests/vectors/rfc5424-encode.jsonl`.
    ("tests/it/formats.rs", &["octet"]),
    // Names of modules of Go.
    ("tests/servers/go.", &[]),
    // A directory of systemd.
    ("tests/rpm", &["wants"]),
    // `Wants=` and `WantedBy=` of systemd.
    ("systemd/", &["wants", "wanted"]),
    // `supportOctetCountedFraming` of rsyslog.
    ("deploy/compose/rsyslog.conf", &["octet"]),
    ("deploy/siem/rsyslog/", &["octet"]),
];

/// The files and folders that are checked.
const PLACES: &[&str] = &[
    "src",
    "tests",
    "benches",
    "deploy",
    "systemd",
    "docs",
    "fuzz",
    ".github",
    ".cargo",
    ".ci",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "STYLE.md",
    "Cargo.toml",
    "build.rs",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

#[test]
fn words_to_avoid_are_not_used() {
    let mut violations = Vec::new();
    for file in PLACES.iter().flat_map(|place| files(place)) {
        let quotation = QUOTATIONS.iter().find(|(path, _)| file.path.starts_with(path));
        if quotation.is_some_and(|(_, words)| words.is_empty()) {
            continue;
        }

        for (number, line) in file.lines() {
            let line = lowercase_words(line);
            // The name of RFC 6587's framing.
            let line = line
                .replace("octet-counting", "")
                .replace("octet counting", "")
                .replace("octet_counting", "");

            if contains_denial(&line) {
                violations.push(format!("{}:{number}: `is no`: write `is not a`", file.path));
            }
            for (word, instead) in AVOIDED.iter().filter(|(word, _)| line.contains(word)) {
                let is_quoted = quotation.is_some_and(|(_, words)| words.contains(word));
                if !is_quoted && is_used(&line, word) {
                    violations.push(format!("{}:{number}: `{word}`: write {instead}", file.path));
                }
            }
        }
    }
    expect_none(&violations, "a word to avoid is used");
}

/// The line in lower case, with a space between the words of a CamelCase identifier: `TlsSetting`
/// becomes `tls setting`, and `TLSSetting` as well.
fn lowercase_words(line: &str) -> String {
    let mut words = String::with_capacity(line.len());
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let is_acronym_before =
            before.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase());
        let ends_word = before.is_lowercase() || before.is_ascii_digit() || is_acronym_before;
        if c.is_uppercase() && ends_word {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
        before = c;
    }
    words
}

/// Whether the line denies a noun (`is no backup`); `there is no` and `is no longer` are allowed.
fn contains_denial(line: &str) -> bool {
    ["is no ", "are no "].iter().any(|verb| {
        line.match_indices(verb).any(|(at, _)| {
            let (before, after) = (line[..at].trim_end(), &line[at + verb.len()..]);
            let begins_word = !line[..at].ends_with(char::is_alphanumeric);
            let is_idiom = before.ends_with("there") || after.starts_with("longer");
            // The line before may end in `there`.
            let is_first = !before.contains(char::is_alphanumeric);
            begins_word && !is_idiom && !is_first
        })
    })
}

/// Regression: only names in snake_case were separated into words.
#[test]
fn names_are_separated_into_words() {
    for name in ["new_days_come_first", "NewDaysComeFirst", "newDaysCome", "HTTPCome"] {
        assert!(is_used(&lowercase_words(name), "come"), "{name}");
    }
    for name in ["Command-line", "incoming", "become", "Comet"] {
        assert!(!is_used(&lowercase_words(name), "come"), "{name}");
    }
}

fn is_used(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        !is_letter(line[..at].chars().next_back())
            && !is_letter(line[at + word.len()..].chars().next())
    })
}
