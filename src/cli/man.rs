//! `man` and `completions`: made from the table of arguments, so that they never say anything else.

use std::path::Path;

use clap::CommandFactory;

use super::{Args, Exit, Failed, args, print, say};

const NAME: &str = "secure-score-forwarder";

/// What the generated pages cannot know.
const MORE: &str = r#".SH "EXIT STATUS"
0 all done; 1 something is still missing, and stays queued; 2 the configuration or the command line is wrong; 3 the checkpoint is unusable; 130 interrupted.
.SH FILES
.TP
\fI/etc/secure\-score\-forwarder/config.toml\fR
The configuration, if neither \fB\-\-config\fR nor \fB$SECURE_SCORE_FORWARDER_CONFIG\fR names another.
.TP
\fI/etc/secure\-score\-forwarder/secrets/\fR
A file for each { credential = "name" }.
.TP
\fI/var/lib/secure\-score\-forwarder/\fR
The checkpoint.
.TP
\fI/usr/share/doc/secure\-score\-forwarder/\fR
The manual and an example configuration.
.SH SIGNALS
SIGHUP reads the configuration anew, whole or not at all. SIGTERM and SIGINT end the daemon; what is not confirmed then is sent at the next start.
"#;

pub(super) fn man(args: &args::Man) -> Result<Exit, Failed> {
    let command = Args::command().name(NAME);
    match &args.directory {
        None => print(&page(command)?)?,
        Some(directory) => {
            fs_err::create_dir_all(directory)?;
            let pages = write_all(command, NAME.to_owned(), directory)?;
            say(&format!("{} in {}", super::count(pages, "page"), directory.display()));
        }
    }
    Ok(Exit::Done)
}

pub(super) fn completions(args: args::Completions) -> Result<Exit, Failed> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// The page of a command and, below it, of its own. Gives their number.
fn write_all(command: clap::Command, name: String, directory: &Path) -> Result<u64, Failed> {
    let mut pages = 1;
    let below: Vec<clap::Command> =
        command.get_subcommands().filter(|c| c.get_name() != "help").cloned().collect();
    for subcommand in below {
        let name = format!("{name}-{}", subcommand.get_name());
        pages += write_all(subcommand, name, directory)?;
    }
    // The name of a page is leaked: clap wants it to live for ever, and this process ends.
    let title: &'static str = Box::leak(name.into_boxed_str());
    let spoken: &'static str =
        Box::leak(title.replacen(&format!("{NAME}-"), &format!("{NAME} "), 1).into_boxed_str());
    let command = command.name(title).bin_name(spoken).disable_help_subcommand(true);
    fs_err::write(directory.join(format!("{title}.1")), page(command)?)?;
    Ok(pages)
}

fn page(command: clap::Command) -> Result<String, Failed> {
    let is_main = command.get_name() == NAME;
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    let page = String::from_utf8_lossy(&page).into_owned();
    Ok(if is_main { page + MORE } else { page })
}
