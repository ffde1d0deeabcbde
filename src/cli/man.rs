//! `man`: prints the man pages. They are generated from the definitions in `args` and from tables,
//! so that they are always current. Only the sections in `MORE_SECTIONS` are written by hand. A
//! page must never contain the commit or the features of the build. Start reading at [`man`].

use std::path::Path;

use clap::CommandFactory;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::{
    Args, CommandFailure, ExitCode, args, count,
    environment::ENVIRONMENT,
    output_file::{self, not_written},
    print_data, print_message,
};

const NAME: &str = "secure-score-forwarder";

/// How `clap_mangen` begins the section of a text that follows the options.
const EXTRA_WITH_EXAMPLES: &str = ".SH EXTRA\nExamples:\n";

/// The sections of the main page that cannot be generated from the arguments.
const MORE_SECTIONS: &str = r#".SH FILES
.TP
\fI/etc/secure\-score\-forwarder/config.toml\fR
The configuration, unless \fB\-\-config\fR or \fB$SECURE_SCORE_FORWARDER_CONFIG\fR names another file.
.TP
\fI/etc/secure\-score\-forwarder/secrets/\fR
One file for each { credential = "name" }.
.TP
\fI/var/lib/secure\-score\-forwarder/\fR
The checkpoint.
.TP
\fI/usr/share/doc/secure\-score\-forwarder/\fR
The documentation and an example configuration.
.SH SIGNALS
SIGHUP reloads the configuration; an invalid one is rejected and nothing changes. SIGTERM and SIGINT stop the daemon; records that are not acknowledged by then are sent again after the next start.
"#;

/// Prints the main page, or writes all pages into a directory, which is created. Fails if a page
/// cannot be written.
pub(super) fn man(args: &args::Man) -> Result<ExitCode, CommandFailure> {
    // A page is the same for every build of a version.
    let command = Args::command().name(NAME).long_version(env!("CARGO_PKG_VERSION"));
    match &args.directory {
        None => print_data(&page(command)?)?,
        Some(directory) => {
            let created = output_file::create_directory(directory);
            created.map_err(|error| not_written(&error))?;
            let pages = write_all(command, NAME.to_owned(), directory)?;
            let pages = count(pages, "page");
            print_message(&format!("wrote {pages} to `{}`", directory.display()));
        }
    }
    Ok(ExitCode::Done)
}

/// Writes the page of a command and the pages of its subcommands. Returns the number of pages.
fn write_all(
    command: clap::Command,
    name: String,
    directory: &Path,
) -> Result<u64, CommandFailure> {
    let mut pages = 1;
    let subcommands: Vec<clap::Command> = command
        .get_subcommands()
        .filter(|c| c.get_name() != "help" && !c.is_hide_set())
        .cloned()
        .collect();
    for subcommand in subcommands {
        let name = format!("{name}-{}", subcommand.get_name());
        pages += write_all(subcommand, name, directory)?;
    }

    // clap requires static names. The process ends after this command, so leaking them is harmless.
    let title: &'static str = Box::leak(name.into_boxed_str());
    let usage_name = title.replacen(&format!("{NAME}-"), &format!("{NAME} "), 1);
    let usage_name: &'static str = Box::leak(usage_name.into_boxed_str());

    let command = command.name(title).bin_name(usage_name).disable_help_subcommand(true);
    let file = directory.join(format!("{title}.1"));
    let written = output_file::replace(&file, &page(command)?);
    written.map_err(|error| not_written(&error))?;
    Ok(pages)
}

/// A man page in roff. The examples of the help text are a section, and so are the global options,
/// which are defined for the main command.
fn page(command: clap::Command) -> Result<String, CommandFailure> {
    let is_main = command.get_name() == NAME;
    let main = Args::command();
    let global = main.get_arguments().filter(|argument| argument.is_global_set());
    let command = if is_main { command } else { command.args(global.cloned()) };

    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    let page = String::from_utf8_lossy(&page).replace(EXTRA_WITH_EXAMPLES, ".SH EXAMPLES\n");
    let environment = environment();
    Ok(if is_main {
        page + &exit_status() + &environment + MORE_SECTIONS
    } else {
        page + &environment
    })
}

/// The section about environment variables.
fn environment() -> String {
    let mut section = Roff::new();
    section.control("SH", ["ENVIRONMENT"]);
    for (name, effect) in ENVIRONMENT {
        section.control("TP", []);
        section.text([bold(*name)]);
        section.text(inlines(&format!("{effect}.")));
    }
    section.to_roff()
}

/// A text whose parts in backticks are bold.
fn inlines(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| if index.is_multiple_of(2) { roman(part) } else { bold(part) })
        .collect()
}

/// The section about exit codes, as the reference describes them.
fn exit_status() -> String {
    let codes = ExitCode::ALL.map(|exit| format!("{}: {}.\n", exit as i32, exit.description()));
    format!(".SH \"EXIT STATUS\"\n{}", codes.join(".br\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the pages of commands had no global options, and no page had the environment.
    #[test]
    fn every_page_has_options_and_environment() {
        let directory = tempfile::tempdir().unwrap();
        let pages = write_all(Args::command().name(NAME), NAME.to_owned(), directory.path());
        assert!(pages.unwrap() >= 30);

        for entry in fs_err::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            let page = fs_err::read_to_string(&path).unwrap();
            for text in [
                ".SH \"GLOBAL OPTIONS\"\n",
                "\\fB\\-\\-log\\-format\\fR ",
                ".SH ENVIRONMENT\n.TP\n\\fBSECURE_SCORE_FORWARDER_CONFIG\\fR\n",
                "\\fBNO_COLOR\\fR\nIf it is set and not empty, ",
            ] {
                assert_eq!(page.matches(text).count(), 1, "{}: {text}\n{page}", path.display());
            }
        }
    }
}
