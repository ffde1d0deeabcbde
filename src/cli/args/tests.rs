//! What every command shows in its help text: examples that are valid, defaults, and the global
//! options in a group.

use clap::{CommandFactory, Parser};

use super::{Args, GLOBAL_OPTIONS};

const NAME: &str = "secure-score-forwarder";

/// Options that take a value, are not required, and have no default: `replay` without `--rejected`
/// requires `--from`.
const WITHOUT_DEFAULT: &[(&str, &str)] = &[("replay", "from")];

/// The visible commands with their full names, beginning with the program itself.
fn commands() -> Vec<(String, clap::Command)> {
    fn collect(name: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        found.push((name.to_owned(), command.clone()));
        let visible = |subcommand: &&clap::Command| {
            !subcommand.is_hide_set() && subcommand.get_name() != "help"
        };
        for subcommand in command.get_subcommands().filter(visible) {
            collect(&format!("{name} {}", subcommand.get_name()), subcommand, found);
        }
    }

    let mut found = Vec::new();
    collect(NAME, &Args::command(), &mut found);
    found
}

#[test]
fn definitions_are_consistent() {
    Args::command().debug_assert();
}

#[test]
fn every_command_has_two_valid_examples() {
    for (name, command) in commands() {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = text.strip_prefix("Examples:\n");
        let lines: Vec<&str> = lines.unwrap_or_else(|| panic!("{name}: {text}")).lines().collect();
        assert!(lines.len() >= 2, "{name}: {lines:?}");

        for line in lines {
            assert!(line.starts_with(&format!("  {name}")), "{name}: {line}");
            assert!(line.len() <= 100, "{name}: {line}");
            // No example has a value with spaces.
            let words = line.split_whitespace().map(|word| word.trim_matches('\''));
            if let Err(error) = Args::try_parse_from(words) {
                panic!("{name}: {line}\n{error}");
            }
        }
    }
}

#[test]
fn every_optional_value_shows_its_default() {
    for (name, command) in commands() {
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            let is_optional = argument.get_long().is_some()
                && argument.get_action().takes_values()
                && !argument.is_required_set();
            let is_exception =
                WITHOUT_DEFAULT.iter().any(|known| *known == (command.get_name(), id));
            if !is_optional || is_exception {
                continue;
            }

            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let is_shown = help.contains("[default: ") || !argument.get_default_values().is_empty();
            assert!(is_shown, "{name} --{id}: {help}");
        }
    }
}

#[test]
fn global_options_are_a_separate_group() {
    let mut root = Args::command();
    root.build();
    for argument in root.get_arguments().filter(|argument| argument.is_global_set()) {
        assert_eq!(argument.get_help_heading(), Some(GLOBAL_OPTIONS), "{argument}");
    }

    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        let help = command.clone().render_help().to_string();
        let (before, group) = help.split_once(&format!("{GLOBAL_OPTIONS}:\n")).unwrap();
        for option in ["--config", "--log", "--log-format"] {
            assert!(group.contains(option) && !before.contains(option), "{option}: {help}");
        }
    }
}
