//! One place in the daemon and in the modules above it blocks a thread of the runtime: the executor
//! of the store. See decision 0090.

use crate::{
    code::{names, production_code},
    files::{expect_none, rust_files},
};

/// The function of the runtime that lets a task block its thread.
const FUNCTION: &str = "block_in_place";

/// The files and folders that may name it: the executor, and the modules that block for files, for
/// librdkafka and for large bodies.
const PLACES: &[&str] = &["src/daemon/store_executor.rs", "src/net.rs", "src/sink/", "src/source/"];

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
