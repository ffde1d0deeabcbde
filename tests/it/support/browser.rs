//! A headless browser.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Runs Chromium with a profile in this directory until it ends.
pub fn chromium(profile: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    command.arg(format!("--user-data-dir={}", profile.display())).args(arguments);
    command.output().expect("cannot start chromium: run `tests/run --all`")
}
