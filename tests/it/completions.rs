//! The completion scripts: bash runs the generated script as it does when the user presses the key.

use std::process::Command;

use crate::support::{OTHER, Workspace, write};

/// Loads the script, and calls the function that it registers with the words of a command line, of
/// which the last one is completed. Prints one suggestion per line.
const COMPLETE_LAST_WORD: &str = r#"
source "$SCRIPT"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
registered="$(complete -p secure-score-forwarder)"
completer="${registered#* -F }"
"${completer%% *}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
[[ ${#COMPREPLY[@]} -eq 0 ]] || printf '%s\n' "${COMPREPLY[@]}"
"#;

/// The suggestions for the last of the words that follow the name of the program.
fn suggestions(workspace: &Workspace, words: &[&str]) -> Vec<String> {
    let script = workspace.path("completions.bash");
    write(&script, &workspace.run_ok(&["completions", "bash"]).stdout);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_secure-score-forwarder"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());

    let output = Command::new("bash")
        .args(["--norc", "-c", COMPLETE_LAST_WORD, "bash", "secure-score-forwarder"])
        .args(words)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .env("SCRIPT", script)
        .env("SECURE_SCORE_FORWARDER_CONFIG", workspace.path("config.toml"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The tenants `contoso` and `con north`, and the sinks `splunk` and `archive`.
fn workspace() -> Workspace {
    let mut workspace = Workspace::against("http://127.0.0.1:1");
    workspace.tenants.push(("con north", OTHER));
    workspace.file_sink("splunk");
    workspace.file_sink("archive");
    workspace
}

#[test]
fn bash_completes_tenants_and_sinks() {
    let workspace = workspace();
    for (words, expected) in [
        (&["status", "--tenant", ""][..], &["contoso", r"con\ north"][..]),
        (&["baseline", "show", "--tenant", "cont"], &["contoso"]),
        (&["poll", "--tenant", "x"], &[]),
        (&["replay", "--sink", ""], &["splunk", "archive"]),
        (&["dead-letters", "list", "--sink", "s"], &["splunk"]),
        (&["test-sink", ""], &["splunk", "archive"]),
        (&["test-sink", "--json", "a"], &["archive"]),
        (&["state", "forget", "--tenant", "contoso"], &[]),
    ] {
        assert_eq!(suggestions(&workspace, words), expected, "{words:?}");
    }
}

/// Regression: the options of subcommands were not completed, because the name of the program
/// contains hyphens.
#[test]
fn bash_completes_options_of_subcommands() {
    let workspace = workspace();
    for (words, expected) in [
        (&["status", "--fail"][..], "--failing"),
        (&["test-sink", "--js"], "--json"),
        (&["dead-letters", "discard", "--ye"], "--yes"),
        (&["status", "--sort", "a"], "age"),
        (&["comp"], "completions"),
    ] {
        assert_eq!(suggestions(&workspace, words), [expected], "{words:?}");
    }
}

#[test]
fn names_are_read_from_the_given_configuration() {
    let workspace = workspace();
    let other = workspace.path("other.toml");
    write(&other, &workspace.configuration().replace("contoso", "fabrikam"));
    let other = other.display().to_string();
    let words = ["--config", &other, "status", "--tenant", ""];
    assert_eq!(suggestions(&workspace, &words), ["fabrikam", r"con\ north"]);
}

#[test]
fn an_invalid_configuration_completes_nothing() {
    let mut workspace = workspace();
    workspace.literal = Some("[state\n".to_owned());
    for names in ["tenants", "sinks"] {
        let run = workspace.run_ok(&["complete", names]);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    }
}
