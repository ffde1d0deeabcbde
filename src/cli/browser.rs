//! Opens a page in a browser. The browser and its helpers get an environment without the secrets
//! and settings of this process; only [`INHERITED`] and [`INHERITED_PREFIX`] are passed on. A
//! command that root executes as another user starts no browser: that user could trace it, and
//! control the terminal of root.

use std::{
    ffi::OsString,
    io::IsTerminal,
    process::{Command, Stdio},
};

use crate::files;

/// The variables that a desktop requires to find and start a browser.
const INHERITED: &[&str] = &[
    "BROWSER",
    "DBUS_SESSION_BUS_ADDRESS",
    "DESKTOP_SESSION",
    "DISPLAY",
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "USER",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
];
/// The beginning of the names that freedesktop.org reserves, such as `XDG_RUNTIME_DIR`.
const INHERITED_PREFIX: &str = "XDG_";

/// Opens the page in a browser if a graphical desktop is available. A failure is ignored because
/// the caller also prints the URL.
pub(super) fn open(url: &str) {
    let has_display =
        std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some();
    if has_display && std::io::stderr().is_terminal() && !files::acts_for_root() {
        let _ = Command::new("xdg-open")
            .arg(url)
            .env_clear()
            .envs(std::env::vars_os().filter(is_inherited))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
    }
}

fn is_inherited((name, _): &(OsString, OsString)) -> bool {
    let is_reserved = name.as_encoded_bytes().starts_with(INHERITED_PREFIX.as_bytes());
    is_reserved || INHERITED.iter().any(|inherited| name == inherited)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the browser inherited every variable, also those with secrets.
    #[test]
    fn a_browser_inherits_no_secret() {
        let inherits = |name: &str| is_inherited(&(name.into(), "value".into()));
        for name in ["PATH", "DISPLAY", "XDG_RUNTIME_DIR", "XDG_CURRENT_DESKTOP", "LANG"] {
            assert!(inherits(name), "{name}");
        }
        for name in [
            "GRAPH_SECRET",
            "AZURE_CLIENT_SECRET",
            "SECURE_SCORE_FORWARDER_HANDED_DOWN",
            "CREDENTIALS_DIRECTORY",
            "LD_PRELOAD",
            "PATH_SECRET",
            "MY_XDG_SECRET",
        ] {
            assert!(!inherits(name), "{name}");
        }
    }
}
