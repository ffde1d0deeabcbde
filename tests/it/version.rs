//! The options `-V` and `--version`.

use crate::support::Workspace;

const SHORT: &str = concat!("secure-score-forwarder ", env!("CARGO_PKG_VERSION"));

#[test]
fn the_short_option_prints_one_line() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    assert_eq!(workspace.run_ok(&["-V"]).stdout, format!("{SHORT}\n"));
}

#[test]
fn the_long_option_describes_the_build() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let text = workspace.run_ok(&["--version"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    let [version, commit, features, target] = lines.as_slice() else { panic!("{text}") };
    assert_eq!(*version, SHORT);
    // The build script has the same value for all crates of the package.
    assert_eq!(*commit, concat!("commit: ", env!("BUILD_COMMIT")));
    assert!(target.starts_with(&format!("target: {}-", std::env::consts::ARCH)), "{text}");

    for (name, is_enabled) in [
        ("email", cfg!(feature = "email")),
        ("jemalloc", cfg!(feature = "jemalloc")),
        ("kafka", cfg!(feature = "kafka")),
        ("object_store", cfg!(feature = "object_store")),
    ] {
        let mut listed = features.trim_start_matches("features: ").split(", ");
        assert_eq!(listed.any(|feature| feature == name), is_enabled, "{name}: {text}");
    }
}

/// A build from the repository states its commit, unless a variable replaces it.
#[test]
fn the_commit_is_that_of_the_repository() {
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let is_root = git(&["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix.is_empty());
    if is_root && option_env!("SECURE_SCORE_FORWARDER_COMMIT").unwrap_or_default().is_empty() {
        assert_eq!(
            git(&["rev-parse", "--short=12", "HEAD"]).as_deref(),
            Some(env!("BUILD_COMMIT"))
        );
    }
}
