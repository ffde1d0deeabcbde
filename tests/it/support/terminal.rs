//! Commands on a terminal, which `script` of util-linux provides.

use std::process::{Command, Stdio};

use super::{Run, Workspace};

/// Runs a command whose standard output and standard error are a terminal, and returns what the
/// terminal receives. `arguments` are words of a shell command, and can end in a redirection. The
/// terminal changes each line feed to a carriage return and a line feed; this is reverted.
pub fn on_terminal(workspace: &Workspace, arguments: &str) -> String {
    workspace.write_configuration();
    let binary = env!("CARGO_BIN_EXE_secure-score-forwarder");
    let config = workspace.path("config.toml").display().to_string();
    let line = format!("{binary} --config {config} {arguments}");

    let mut command = Command::new("script");
    command.args(["--quiet", "--command", &line, "/dev/null"]);
    command.env("NO_COLOR", "1").env("COLUMNS", "200").stdin(Stdio::null());
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stdout);

    // `script` shows the end of its input as `^D`, and then moves the cursor back.
    run.stdout.replace("\r\n", "\n").replace("^D\u{8}\u{8}", "")
}
