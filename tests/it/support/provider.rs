//! `oidc-provider`, the certified OpenID provider from npm, as a token endpoint.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub const TENANT: &str = "tenant";

pub struct Provider {
    pub url: String,
    child: Child,
}

impl Provider {
    /// Starts a provider with one app that has a secret and one that has a certificate.
    pub fn start(certificate: &Path, secret: &str) -> Self {
        let modules = std::env::var_os("OIDC_PROVIDER").map_or_else(
            || {
                let home = std::env::var_os("HOME").unwrap();
                PathBuf::from(home).join(".cache/secure-score-forwarder/oidc-provider")
            },
            PathBuf::from,
        );
        assert!(
            modules.join("node_modules/oidc-provider").exists(),
            "oidc-provider is not installed: run `tests/run --all` to install it"
        );

        // Node resolves modules relative to the script, so the script is copied next to them.
        let script = modules.join("provider.mjs");
        std::fs::copy("tests/oidc-provider/provider.mjs", &script).unwrap();

        let mut child = Command::new("node")
            .arg(script)
            .arg(certificate)
            .env("TEST_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start node");

        // The script prints its URL when it is ready.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("http://127.0.0.1:"), "{line}");
        Self { url: line.trim().to_owned(), child }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
