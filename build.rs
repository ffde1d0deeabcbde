//! Passes the commit of the sources and the target triple to the compiler, for `--version`.
//!
//! The commit is the value of `SECURE_SCORE_FORWARDER_COMMIT`, which a build without the repository
//! can set; otherwise what Git reports; otherwise `unknown`. The script runs again only if the
//! variable or the commit changes, because the crate is compiled again each time.

use std::{env, path::Path, process::Command};

const COMMIT_VARIABLE: &str = "SECURE_SCORE_FORWARDER_COMMIT";

fn main() {
    println!("cargo::rerun-if-env-changed={COMMIT_VARIABLE}");
    let given = env::var(COMMIT_VARIABLE).ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit_of_repository).unwrap_or_else(|| "unknown".to_owned());

    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
}

/// The commit of the repository whose root is this folder; `None` if this folder is not the root of
/// a repository, or if Git is not available.
fn commit_of_repository() -> Option<String> {
    // The prefix is empty only in the root: sources in a subfolder belong to another project.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }

    // Git changes at least one of these files with the commit. A file that does not exist is
    // omitted, because Cargo would run the script at every build.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The output of a Git command; `None` if it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
