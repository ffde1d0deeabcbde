//! Reads the answers from standard input, and writes the questions to standard error. A separate
//! thread reads the lines, so that SIGINT ends the command while it waits for an answer. This
//! module must never print an answer, because it can be a secret. Start reading at [`Lines::ask`].

use std::io::{BufRead, IsTerminal, Write};

use tokio::sync::mpsc;

use crate::cli::print_message;

/// Standard input, by lines.
pub(super) struct Lines {
    received: mpsc::Receiver<std::io::Result<String>>,
    kind: InputKind,
}

/// What standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputKind {
    Terminal,
    /// A pipe or a file. Its end confirms everything that has a default.
    Script,
}

/// Whether a terminal shows the characters of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    Shown,
    Hidden,
}

/// Turns off the echo of the terminal until the value is dropped. Contains the attributes to
/// restore; `None` if standard input is not a terminal.
struct EchoOff(Option<rustix::termios::Termios>);

impl Lines {
    /// Starts to read. The thread ends with the process, because a read cannot be canceled.
    pub(super) fn read() -> Self {
        let (sender, received) = mpsc::channel(1);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let is_last = line.is_err();
                if sender.blocking_send(line).is_err() || is_last {
                    break;
                }
            }
        });

        let is_terminal = std::io::stdin().is_terminal();
        let kind = if is_terminal { InputKind::Terminal } else { InputKind::Script };
        Self { received, kind }
    }

    pub(super) fn kind(&self) -> InputKind {
        self.kind
    }

    /// Writes a question and waits for a line. Returns `None` at the end of the input.
    pub(super) async fn ask(
        &mut self,
        prompt: &str,
        echo: Echo,
    ) -> std::io::Result<Option<String>> {
        let echo_off = (echo == Echo::Hidden).then(EchoOff::new);
        {
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "{prompt}: ");
            let _ = stderr.flush();
        }

        let line = self.received.recv().await.transpose();
        // The line break of a hidden answer was not shown either.
        if echo_off.is_some() || self.kind == InputKind::Script {
            print_message("");
        }
        line
    }
}

impl EchoOff {
    fn new() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Self(None);
        }
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };

        let mut attributes = before.clone();
        attributes.local_modes.remove(LocalModes::ECHO);
        let _ = tcsetattr(&stdin, OptionalActions::Flush, &attributes);
        Self(Some(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(
                std::io::stdin(),
                rustix::termios::OptionalActions::Flush,
                before,
            );
        }
    }
}
