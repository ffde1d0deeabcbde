//! Dependencies between modules. The table lists every module, and its dependencies have no cycles.

use crate::files::{SourceFile, expect_none, rust_files};

/// Every module of the crate with the modules that it may use. A module follows those it uses.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("clock", &[]),
    ("net", &[]),
    ("compressed", &[]),
    ("model", &[]),
    ("schedule", &["model"]),
    ("wire", &["model"]),
    ("ledger", &["model", "compressed"]),
    ("derive", &["model"]),
    ("format", &["model"]),
    ("report", &["derive", "format", "model"]),
    ("telemetry", &["clock"]),
    ("settings", &["error", "model"]),
    ("checkpoint", &["error", "model", "compressed"]),
    ("source", &["clock", "error", "model", "net", "settings", "wire"]),
    ("sink", &["clock", "error", "format", "model", "net", "settings"]),
    (
        "config",
        &[
            "clock", "derive", "error", "format", "model", "net", "schedule", "settings", "sink",
            "source",
        ],
    ),
    (
        "daemon",
        &[
            "checkpoint",
            "clock",
            "config",
            "derive",
            "error",
            "format",
            "ledger",
            "model",
            "net",
            "compressed",
            "report",
            "schedule",
            "sink",
            "source",
            "telemetry",
            "wire",
        ],
    ),
    ("admin", &["checkpoint", "clock", "daemon", "error", "model", "report"]),
    // The command line is the root of the tree: it may use everything.
    (
        "cli",
        &[
            "admin",
            "checkpoint",
            "clock",
            "config",
            "daemon",
            "derive",
            "error",
            "format",
            "ledger",
            "model",
            "report",
            "schedule",
            "settings",
            "sink",
            "source",
            "telemetry",
            "wire",
        ],
    ),
    ("fuzzing", &["checkpoint", "config", "sink", "wire"]),
    ("lib", &[]),
    ("main", &[]),
];

/// Modules without I/O, without a clock and without an asynchronous runtime.
const PURE: &[&str] = &["model", "wire", "ledger", "derive", "format", "schedule", "compressed"];

/// Paths that a pure module must not use.
const IMPURE: &[&str] = &[
    "tokio",
    "reqwest",
    "rusqlite",
    "tracing",
    "fs_err",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
];

/// Crates that only the module of their protocol or store may use.
const CONFINED: &[(&str, &[&str])] = &[
    ("rusqlite", &["src/checkpoint/"]),
    ("rdkafka", &["src/sink/kafka/"]),
    ("object_store", &["src/sink/object_store/"]),
    ("parquet", &["src/sink/object_store/"]),
    ("syslog", &["src/sink/syslog/"]),
    ("axum", &["src/source/simulated/", "src/source/auth/"]),
    ("hyper", &["src/admin/"]),
    ("clap", &["src/cli/"]),
    ("toml", &["src/settings/", "src/config/", "src/cli/"]),
    ("maud", &["src/report/", "src/admin/"]),
];

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        let module = module_of(&file);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            violations.push(format!("{}:1: `{module}` is not in the table", file.path));
            continue;
        };
        for (line, used) in uses(&file) {
            let known = used == module || ALLOWED.iter().any(|(name, _)| *name == used);
            if used != module && known && !allowed.contains(&used.as_str()) {
                violations.push(format!("{}:{line}: `{module}` uses `{used}`", file.path));
            }
        }
    }
    expect_none(&violations, "a module uses another one that the table does not allow");
}

#[test]
fn the_table_has_no_cycle_or_unused_entry() {
    let files = rust_files(&["src"]);
    let mut below: Vec<&str> = Vec::new();
    let mut violations = Vec::new();
    for (module, allowed) in ALLOWED {
        for used in *allowed {
            if !below.contains(used) {
                violations.push(format!("`{module}` may use `{used}`, which is not above it"));
            }
            let is_used = files
                .iter()
                .filter(|file| module_of(file) == *module)
                .any(|file| uses(file).iter().any(|(_, name)| name == used));
            if !is_used {
                violations.push(format!("`{module}` does not use `{used}`: remove it"));
            }
        }
        below.push(module);
    }
    expect_none(&violations, "the table of modules has a cycle or an unused entry");
}

#[test]
fn pure_modules_use_no_io_or_clock() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]).iter().filter(|file| PURE.contains(&module_of(file).as_str()))
    {
        for (line, text) in production_code(file) {
            for path in IMPURE.iter().filter(|path| names(&text, path)) {
                violations.push(format!("{}:{line}: a pure module names `{path}`", file.path));
            }
        }
    }
    expect_none(&violations, "pure modules have no I/O, no clock and no runtime");
}

#[test]
fn protocols_and_stores_stay_in_their_modules() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        for (line, text) in production_code(&file) {
            for (name, folders) in CONFINED {
                let is_used =
                    names(&text, &format!("use {name}")) || names(&text, &format!("{name}::"));
                let is_ours = text.contains(&format!("super::{name}"))
                    || text.contains(&format!("crate::{name}"))
                    || text.contains(&format!("sink::{name}"));
                let is_allowed = folders.iter().any(|folder| file.path.starts_with(folder))
                    || file.path == "src/sink/mod.rs";
                if is_used && !is_ours && !is_allowed {
                    violations
                        .push(format!("{}:{line}: only {folders:?} may use `{name}`", file.path));
                }
            }
        }
    }
    expect_none(&violations, "a crate is used outside its module");
}

/// Files whose errors name the file that could not be read. With `fs_err`, the cause would name it
/// a second time.
const NAME_THEIR_FILES: &[&str] = &[
    "src/source/auth/certificate.rs",
    "src/source/auth/managed_identity.rs",
    "src/source/auth/refresh_token_store.rs",
    "src/source/auth/workload_identity.rs",
];

/// An error of `std::fs` does not name the file; an error of `fs_err` does.
#[test]
fn files_are_opened_through_fs_err() {
    // Types whose operations do not open files, and the one builder that `fs_err` does not wrap.
    let types = ["Permissions", "TryLockError", "Metadata", "DirBuilder"];
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        // The library's root allows `std::fs` in unit tests.
        if file.path == "src/lib.rs" || NAME_THEIR_FILES.contains(&file.path.as_str()) {
            continue;
        }
        for (line, text) in production_code(&file) {
            let is_type = types.iter().any(|name| text.contains(&format!("std::fs::{name}")));
            if names(&text, "std::fs") && !is_type {
                violations.push(format!("{}:{line}: use `fs_err`", file.path));
            }
        }
    }
    expect_none(&violations, "`std::fs` is used");
}

/// The first part of the path below `src`.
fn module_of(file: &SourceFile) -> String {
    let below = file.path.strip_prefix("src/").unwrap();
    below.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules that a file uses, each with its line number. Tests may use every module.
fn uses(file: &SourceFile) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // The depth of the braces inside `use crate::{…}`.
    let mut depth: Option<usize> = None;
    for (line, text) in production_code(file) {
        let mut rest = text.as_str();
        if depth.is_none() {
            while let Some(at) = rest.find("crate::") {
                let before = rest[..at].chars().next_back();
                rest = &rest[at + "crate::".len()..];
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                if let Some(list) = rest.strip_prefix('{') {
                    depth = Some(1);
                    rest = list;
                    break;
                }
                found.push((line, identifier(rest).to_owned()));
            }
        }
        if let Some(mut open) = depth {
            let mut at_start = true;
            for (at, c) in rest.char_indices() {
                match c {
                    '{' => open += 1,
                    '}' => open -= 1,
                    ',' if open == 1 => at_start = true,
                    c if c.is_whitespace() => {}
                    _ if open == 1 && at_start => {
                        found.push((line, identifier(&rest[at..]).to_owned()));
                        at_start = false;
                    }
                    _ => {}
                }
                if open == 0 {
                    break;
                }
            }
            depth = (open > 0).then_some(open);
        }
    }
    found
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The lines of a file without comments and without its tests.
fn production_code(file: &SourceFile) -> Vec<(usize, String)> {
    if file.path.contains("/tests/") || file.path.ends_with("tests.rs") {
        return Vec::new();
    }
    let lines = file.lines().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    lines.map(|(number, line)| (number, line.split("//").next().unwrap().to_owned())).collect()
}

/// Whether the text contains a path that is not a part of a longer name.
fn names(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + path.len()..].chars().next();
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_word(before) && (path.ends_with("::") || !is_word(after))
    })
}
