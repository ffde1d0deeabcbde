//! Whether output is colored: one rule for the log and for the tables of the command line. Output
//! to a file or a pipe is never colored. Start reading at [`is_colored`].

use std::{ffi::OsStr, io::IsTerminal};

/// Whether an output is colored: it is a terminal, `$NO_COLOR` is not set or is empty, and `$TERM`
/// is not `dumb`. See <https://no-color.org>.
pub fn is_colored(output: &impl IsTerminal) -> bool {
    let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
    output.is_terminal() && permits_color(no_color.as_deref(), term.as_deref())
}

fn permits_color(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: an empty `NO_COLOR` disabled the colors of the log, but not those of tables, and
    /// a terminal without colors got them.
    #[test]
    fn variables_disable_colors() {
        for (no_color, term, expected) in [
            (None, None, true),
            (Some(""), Some("xterm-256color"), true),
            (Some("1"), Some("xterm-256color"), false),
            (Some("0"), None, false),
            (None, Some("dumb"), false),
            (Some(""), Some("dumb"), false),
        ] {
            let permitted = permits_color(no_color.map(OsStr::new), term.map(OsStr::new));
            assert_eq!(permitted, expected, "{no_color:?} {term:?}");
        }
    }
}
