//! `man`: prints the man pages. They are generated from the definitions in `args`, so that they are
//! always current. Only the sections in `MORE_SECTIONS` are written by hand.

use std::path::Path;

use clap::CommandFactory;

use super::{Args, CommandFailure, ExitCode, args, count, print, print_message};

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
        None => print(&page(command)?)?,
        Some(directory) => {
            fs_err::create_dir_all(directory)?;
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
    fs_err::write(directory.join(format!("{title}.1")), page(command)?)?;
    Ok(pages)
}

/// A man page in roff. The examples of the help text are a section.
fn page(command: clap::Command) -> Result<String, CommandFailure> {
    let is_main = command.get_name() == NAME;
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    let page = String::from_utf8_lossy(&page).replace(EXTRA_WITH_EXAMPLES, ".SH EXAMPLES\n");
    Ok(if is_main { page + &exit_status() + MORE_SECTIONS } else { page })
}

/// The section about exit codes, as the reference describes them.
fn exit_status() -> String {
    let codes = ExitCode::ALL.map(|exit| format!("{}: {}.\n", exit as i32, exit.description()));
    format!(".SH \"EXIT STATUS\"\n{}", codes.join(".br\n"))
}
