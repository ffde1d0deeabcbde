//! `completions`: prints the completion script for a shell. `clap_complete` generates it from the
//! definitions in `args`; the hooks in `completions/` add the names of tenants and sinks, which the
//! hidden command `complete` reads from the configuration when the user presses the key. `complete`
//! never prints a message, because that would appear in the middle of a command line.

use std::path::Path;

use clap::{Arg, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::{Args, CommandFailure, ExitCode, args, print_data};
use crate::config::Configuration;

const NAME: &str = "secure-score-forwarder";

const BASH_HOOK: &str = include_str!("completions/hook.bash");
const ZSH_HOOK: &str = include_str!("completions/hook.zsh");
const FISH_HOOK: &str = include_str!("completions/hook.fish");

/// `clap_complete` cannot call a function of the hooks. Arguments that take the name of a tenant or
/// a sink therefore have a hint for other names, whose function is replaced in the script.
const TENANT_PLACEHOLDER: ValueHint = ValueHint::Username;
const SINK_PLACEHOLDER: ValueHint = ValueHint::Hostname;

/// The functions of the placeholders in zsh and fish, and the functions that replace them. Without
/// a hint, a value is not a path, so no files are offered for it.
const REPLACEMENTS: [(&str, &str); 6] = [
    (":_users'", ":_secure_score_forwarder_tenants'"),
    (":_hosts'", ":_secure_score_forwarder_sinks'"),
    (":_default'", ": '"),
    ("(__fish_complete_users)", "(__secure_score_forwarder_names tenants)"),
    ("(__fish_print_hostnames)", "(__secure_score_forwarder_names sinks)"),
    (" -r\n", " -r -f\n"),
];

/// `clap_complete` 4.6 sets the path of a subcommand with the second prefix, and compares it with
/// the first one, because the name of the program contains hyphens. Without a correction, bash does
/// not complete the options of subcommands.
const BASH_WRONG_PREFIX: &str = "secure__subcmd__score__subcmd__forwarder";
const BASH_PREFIX: &str = "secure__score__forwarder";

/// Prints the completion script for a shell.
pub(super) fn completions(args: args::Completions) -> Result<ExitCode, CommandFailure> {
    print_data(&script(args.shell))?;
    Ok(ExitCode::Done)
}

/// Prints the configured names, one per line. Prints nothing if the configuration cannot be read;
/// `cli::identity` ends the command before if root must not use it.
pub(super) fn complete(config: &Path, args: args::Complete) -> ExitCode {
    if let Ok(configuration) = Configuration::load(config) {
        // The shell may close the pipe early.
        let _ = print_data(&names(&configuration, args.names));
    }
    ExitCode::Done
}

fn names(configuration: &Configuration, kind: args::Names) -> String {
    let names: Vec<&str> = match kind {
        args::Names::Tenants => configuration.tenants.iter().map(|plan| &*plan.name).collect(),
        args::Names::Sinks => configuration.sinks.iter().map(|plan| plan.name.as_str()).collect(),
    };
    names.into_iter().flat_map(|name| [name, "\n"]).collect()
}

/// The generated script with its hook.
fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible_command(), NAME, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();

    match shell {
        Shell::Bash => script.replace(BASH_WRONG_PREFIX, BASH_PREFIX) + BASH_HOOK,
        Shell::Fish => replace_placeholders(&script) + FISH_HOOK,
        Shell::Zsh => {
            // The first line registers the script. Its last lines call the generated function.
            let mut script = replace_placeholders(&script);
            let end = script.find('\n').map_or(0, |at| at + 1);
            script.insert_str(end, ZSH_HOOK);
            script
        }
        _ => script,
    }
}

fn replace_placeholders(script: &str) -> String {
    REPLACEMENTS.iter().fold(script.to_owned(), |script, (from, to)| script.replace(from, to))
}

/// The command line without hidden commands, which `clap_complete` would offer, and with the
/// placeholders.
fn visible_command() -> clap::Command {
    let command = Args::command();
    let visible = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(visible.cloned().map(with_placeholders))
}

fn with_placeholders(command: clap::Command) -> clap::Command {
    let hint = |argument: Arg| match argument.get_id().as_str() {
        "tenant" => argument.value_hint(TENANT_PLACEHOLDER),
        "sink" => argument.value_hint(SINK_PLACEHOLDER),
        _ => argument,
    };
    command.mut_args(hint).mut_subcommands(with_placeholders)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/it/completions.rs` runs the scripts for bash, zsh and fish.
    #[test]
    fn every_name_is_completed_from_the_configuration() {
        for (shell, tenants, sinks) in [
            (Shell::Zsh, ":_secure_score_forwarder_tenants'", ":_secure_score_forwarder_sinks'"),
            (
                Shell::Fish,
                "(__secure_score_forwarder_names tenants)",
                "(__secure_score_forwarder_names sinks)",
            ),
        ] {
            let script = script(shell);
            let lines = |text: &str| script.lines().filter(|line| line.contains(text)).count();
            assert!(lines(tenants) >= 10, "{shell}: {}", lines(tenants));
            assert!(lines(sinks) >= 7, "{shell}: {}", lines(sinks));

            for other in ["_users", "_hosts", "hostnames", ":_default'", " -r\n"] {
                assert!(!script.contains(other), "{shell}: {other}");
            }
            // The GUID of a tenant that is no longer configured is not completed.
            let guid = script.lines().find(|line| line.contains("The GUID of the tenant")).unwrap();
            assert!(!guid.contains("secure_score_forwarder_tenants"), "{guid}");
            assert!(!guid.contains("names tenants"), "{guid}");
        }
    }

    #[test]
    fn only_visible_commands_are_completed() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let script = script(shell);
            assert!(script.contains("test-sink"), "{shell}");
            assert!(!script.contains("Write the pages of the reference"), "{shell}");
            assert!(!script.contains("forwarder,reference)"), "{shell}");
        }
        assert!(script(Shell::Zsh).starts_with("#compdef secure-score-forwarder\n"));
    }
}
