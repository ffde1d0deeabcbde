//! The completion scripts: each shell runs the generated script as it does when the user presses
//! the key.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::support::{OTHER, Workspace, write};

/// Loads the script, and calls the function that it registers with the words of a command line, of
/// which the last one is completed. Prints one suggestion per line.
const BASH: &str = r#"
source "$SCRIPT"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
registered="$(complete -p secure-score-forwarder)"
completer="${registered#* -F }"
"${completer%% *}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
[[ ${#COMPREPLY[@]} -eq 0 ]] || printf '%s\n' "${COMPREPLY[@]}"
"#;

/// Starts an interactive shell in a pseudoterminal, because zsh completes only in its line editor,
/// and prints what that shell has recorded.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'source "$DIRECTORY/record.zsh"'
while zpty -r shell line; do :; done 2>/dev/null
cat "$DIRECTORY/suggestions"
"#;

/// Completes a line when the line editor starts. Records the matches and the errors of the
/// functions that add them.
const ZSH_RECORDER: &str = r#"
fpath=("$DIRECTORY" $fpath)
autoload -Uz compinit
compinit -u -d "$DIRECTORY/dump"
compadd() {
    # With these options, the function fills an array and adds no match.
    if [[ ${@[1,(i)(-|--)]} = *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a matches
    builtin compadd -A matches "$@"
    (( $#matches )) && print -rl -- $matches >>"$DIRECTORY/suggestions"
    builtin compadd "$@"
}
complete_line() {
    _main_complete 2>>"$DIRECTORY/suggestions"
    exit
}
zle -C complete-line complete-word complete_line
zle-line-init() {
    BUFFER=$COMMAND_LINE CURSOR=$#COMMAND_LINE
    zle complete-line
}
zle -N zle-line-init
"#;

/// Names that every shell completes: the words after the name of the program, of which the last one
/// is completed, and the suggestions in alphabetical order.
const NAMES: &[(&[&str], &[&str])] = &[
    (&["status", "--tenant", ""], &["con north", "contoso"]),
    (&["baseline", "show", "--tenant", "cont"], &["contoso"]),
    (&["poll", "--tenant", "x"], &[]),
    (&["poll", "--tenant=cont"], &["contoso"]),
    (&["replay", "--sink", ""], &["archive", "splunk"]),
    (&["replay", "--sink="], &["archive", "splunk"]),
    (&["dead-letters", "list", "--sink", "s"], &["splunk"]),
    (&["test-sink", ""], &["archive", "splunk"]),
    (&["test-sink", "--json", "a"], &["archive"]),
    (&["state", "forget", "--tenant", "contoso"], &[]),
];

/// Options, commands and values that every shell completes.
const DEFINITIONS: &[(&[&str], &str)] = &[
    (&["status", "--fail"], "--failing"),
    (&["test-sink", "--js"], "--json"),
    (&["dead-letters", "discard", "--ye"], "--yes"),
    (&["status", "--sort", "a"], "age"),
    (&["comp"], "completions"),
    (&["completions", "fi"], "fish"),
];

#[derive(Clone, Copy, Debug)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Shell {
    /// The suggestions for the last of the words, in alphabetical order and without quotes.
    fn suggestions(self, workspace: &Workspace, words: &[&str]) -> Vec<String> {
        let output = self.run(workspace, words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{words:?}: {errors}");

        let text = String::from_utf8(output.stdout).unwrap();
        let mut suggestions: Vec<String> = text.lines().map(plain).collect();
        suggestions.sort();
        suggestions
    }

    fn run(self, workspace: &Workspace, words: &[&str]) -> Output {
        let directory = workspace.path("completions");
        std::fs::create_dir_all(&directory).unwrap();
        let (name, file) = match self {
            Self::Bash => ("bash", "completions.bash"),
            Self::Fish => ("fish", "completions.fish"),
            // The file of a function has the name of the function.
            Self::Zsh => ("zsh", "_secure-score-forwarder"),
        };
        let script = directory.join(file);
        write(&script, &workspace.run_ok(&["completions", name]).stdout);
        let line = format!("secure-score-forwarder {}", words.join(" "));

        // A shell that waits for input fails the test instead of blocking it.
        let mut command = Command::new("timeout");
        command.args(["60", name]);
        match self {
            Self::Bash => {
                command.args(["--norc", "-c", BASH, "bash", "secure-score-forwarder"]);
                command.args(words.iter().flat_map(|word| separated(word)));
            }
            Self::Fish => {
                let complete = "source $argv[1]; complete -C $argv[2]";
                command.args(["--no-config", "-c", complete]).arg(&script).arg(line);
            }
            Self::Zsh => {
                write(directory.join("record.zsh"), ZSH_RECORDER);
                write(directory.join("suggestions"), "");
                command.args(["-f", "-c", ZSH]).env("COMMAND_LINE", line);
            }
        }

        let program = Path::new(env!("CARGO_BIN_EXE_secure-score-forwarder")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        command
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env("HOME", &directory)
            .env("SCRIPT", script)
            .env("DIRECTORY", directory)
            .env("SECURE_SCORE_FORWARDER_CONFIG", workspace.path("config.toml"))
            .output()
            .unwrap()
    }
}

/// The words into which bash separates a word of a command line: `--sink=a` is three words.
fn separated(word: &str) -> Vec<&str> {
    match word.split_once('=') {
        Some((option, "")) => vec![option, "="],
        Some((option, value)) => vec![option, "=", value],
        None => vec![word],
    }
}

/// A suggestion without its description, its option and its escapes. fish adds the description
/// after a tab, and repeats the option of `--sink=a`.
fn plain(line: &str) -> String {
    let value = line.split('\t').next().unwrap();
    value.rsplit('=').next().unwrap().replace('\\', "")
}

/// The tenants `contoso` and `con north`, and the sinks `splunk` and `archive`.
fn workspace() -> Workspace {
    let mut workspace = Workspace::against("http://127.0.0.1:1");
    workspace.tenants.push(("con north", OTHER));
    workspace.file_sink("splunk");
    workspace.file_sink("archive");
    workspace
}

fn assert_completes_names(shell: Shell) {
    let workspace = workspace();
    for (words, expected) in NAMES {
        assert_eq!(shell.suggestions(&workspace, words), *expected, "{shell:?}: {words:?}");
    }
}

fn assert_completes_definitions(shell: Shell) {
    let workspace = workspace();
    for (words, expected) in DEFINITIONS {
        assert_eq!(shell.suggestions(&workspace, words), [*expected], "{shell:?}: {words:?}");
    }
}

/// Regression: an option and its value in one word, such as `--config=FILE`, were not recognized.
fn assert_reads_the_given_configuration(shell: Shell) {
    let workspace = workspace();
    let other = workspace.path("other.toml");
    write(&other, &workspace.configuration().replace("contoso", "fabrikam"));
    let home = workspace.path("completions");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::copy(&other, home.join("home.toml")).unwrap();

    let (other, option) = (other.display().to_string(), "--config".to_owned());
    for config in [
        vec![format!("{option}={other}")],
        vec![option.clone(), other],
        vec![option, "~/home.toml".to_owned()],
    ] {
        let mut words: Vec<&str> = config.iter().map(String::as_str).collect();
        words.extend(["status", "--tenant", ""]);
        let expected = ["con north", "fabrikam"];
        assert_eq!(shell.suggestions(&workspace, &words), expected, "{shell:?}: {words:?}");
    }
}

#[test]
fn bash_completes_tenants_and_sinks() {
    assert_completes_names(Shell::Bash);
}

#[test]
fn fish_completes_tenants_and_sinks() {
    assert_completes_names(Shell::Fish);
}

#[test]
fn zsh_completes_tenants_and_sinks() {
    assert_completes_names(Shell::Zsh);
}

/// Regression: the options of subcommands were not completed, because the name of the program
/// contains hyphens.
#[test]
fn bash_completes_options_of_subcommands() {
    assert_completes_definitions(Shell::Bash);
}

/// Regression: the names of shells were not completed.
#[test]
fn fish_completes_options_of_subcommands() {
    assert_completes_definitions(Shell::Fish);
}

#[test]
fn zsh_completes_options_of_subcommands() {
    assert_completes_definitions(Shell::Zsh);
}

#[test]
fn bash_reads_names_from_the_given_configuration() {
    assert_reads_the_given_configuration(Shell::Bash);
}

#[test]
fn fish_reads_names_from_the_given_configuration() {
    assert_reads_the_given_configuration(Shell::Fish);
}

#[test]
fn zsh_reads_names_from_the_given_configuration() {
    assert_reads_the_given_configuration(Shell::Zsh);
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
