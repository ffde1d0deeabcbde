//! Where threads of the runtime are blocked. In the daemon and in the modules above it, that is
//! only the executor of the store, and no task reaches the checkpoint past it; the search for
//! secrets blocks only through `net`. See decisions 0086 and 0090.

use crate::{
    code::{names, production_code},
    files::{expect_none, rust_files},
};

/// The function of the runtime that lets a task block its thread.
const FUNCTION: &str = "block_in_place";

/// The files and folders that may name it: the executor, and the modules that block for files, for
/// librdkafka and for large bodies.
const PLACES: &[&str] = &["src/daemon/store_executor.rs", "src/net.rs", "src/sink/", "src/source/"];

/// The folders whose code runs on threads of the runtime.
const TASKS: &[&str] = &["src/admin", "src/daemon"];
/// The access to the checkpoint without the executor, and the use of it that does not wait.
const CHECKPOINT: &str = ".checkpoint()";
const WITHOUT_WAIT: &str = ".checkpoint().state_directory()";

/// The methods that search a text for secrets.
const SEARCHES: &[&str] =
    &[".redact(", ".redact_body(", ".redact_beginning(", ".redact_document(", ".redact_text("];

/// The files and folders that may call them: the search itself, the functions that move it off the
/// worker threads, and code whose callers do so.
const SEARCH_PLACES: &[&str] = &[
    "src/foreign_text/",
    "src/net/redaction.rs",
    "src/ledger/plausibility.rs",
    "src/daemon/collector/distinct_profiles.rs",
];

/// Regression: the end of an aborted poll wrote to the checkpoint on a thread of the runtime, while
/// the other tasks of that thread waited.
#[test]
fn no_task_uses_the_checkpoint_directly() {
    let mut violations = Vec::new();
    for file in rust_files(TASKS) {
        // The indentation of the item that the lines belong to, until it ends.
        let mut item: Option<usize> = None;
        for (line, text) in production_code(&file) {
            let indentation = text.len() - text.trim_start().len();
            if item.is_none() && runs_in_a_task(&text) {
                item = Some(indentation);
            } else if item == Some(indentation) && text.trim() == "}" {
                item = None;
            }
            if item.is_some() && text.replace(WITHOUT_WAIT, "").contains(CHECKPOINT) {
                violations.push(format!("{}:{line}: `{}`", file.path, text.trim()));
            }
        }
    }
    expect_none(&violations, "use `StoreExecutor::run` or `blocking`");
}

/// Whether an item begins whose code is a part of a task: an asynchronous function, or what is
/// dropped at its end.
fn runs_in_a_task(line: &str) -> bool {
    let is_function = line.contains("async fn ") && !line.trim_end().ends_with(';');
    is_function || line.starts_with("impl") && line.contains(" Drop for ")
}

#[test]
fn one_place_blocks_for_the_store() {
    let mut violations = Vec::new();
    let mut used = Vec::new();
    for file in rust_files(&["src"]) {
        let place = PLACES.iter().find(|place| file.path.starts_with(**place));
        for (line, _) in production_code(&file).iter().filter(|(_, text)| names(text, FUNCTION)) {
            match place {
                Some(place) => used.push(*place),
                None => violations.push(format!("{}:{line}: `{FUNCTION}`", file.path)),
            }
        }
    }

    let unused = PLACES.iter().filter(|place| !used.contains(place));
    violations.extend(unused.map(|place| format!("{place} does not name it: remove it")));
    expect_none(&violations, "use `StoreExecutor::run` or `blocking`");
}

/// Regression: a token endpoint could block both worker threads with a response of many encodings.
#[test]
fn secrets_are_searched_off_the_workers() {
    let mut violations = Vec::new();
    let mut used = Vec::new();
    for file in rust_files(&["src"]) {
        let place = SEARCH_PLACES.iter().find(|place| file.path.starts_with(**place));
        for (line, text) in production_code(&file) {
            let called = SEARCHES.iter().filter(|method| text.contains(**method));
            for method in called {
                match place {
                    Some(place) => used.push(*place),
                    None => violations.push(format!("{}:{line}: `{method}…)`", file.path)),
                }
            }
        }
    }

    let unused = SEARCH_PLACES.iter().filter(|place| !used.contains(place));
    violations.extend(unused.map(|place| format!("{place} calls none of them: remove it")));
    expect_none(&violations, "use the functions of `net`");
}
