//! The environment variables that affect the program, except those that only a secret of the
//! configuration names. The man pages and the reference of commands are generated from this table.

/// Each variable with its effect, as a sentence without a period.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "SECURE_SCORE_FORWARDER_CONFIG",
        "The configuration file, unless `--config` names another one",
    ),
    (
        "SECURE_SCORE_FORWARDER__SECTION__KEY",
        "Sets a key of the configuration, here `key` in `[section]`",
    ),
    ("NO_COLOR", "If it is set and not empty, tables and the log have no colors"),
    ("TERM", "If it is `dumb`, tables and the log have no colors"),
    ("COLUMNS", "The width of tables on a terminal that does not report its size"),
    (
        "CREDENTIALS_DIRECTORY",
        "The directory in which `{ credential = \"name\" }` finds secrets; systemd sets it",
    ),
    (
        "RUNTIME_DIRECTORY",
        "The directory of the control socket instead of the state directory; systemd sets it",
    ),
    ("NOTIFY_SOCKET", "The socket that receives the state of the daemon; systemd sets it"),
    ("WATCHDOG_USEC", "The time limit of the watchdog in microseconds; systemd sets it"),
    (
        "JOURNAL_STREAM",
        "Selects the log format `journal` if it identifies standard error; systemd sets it",
    ),
    (
        "INVOCATION_ID",
        "If it is set, secrets in environment variables cause a warning; systemd sets it",
    ),
    (
        "AZURE_CLIENT_ID",
        "The client ID for credentials of the kinds `environment` and `workload_identity`",
    ),
    ("AZURE_CLIENT_SECRET", "The client secret for credentials of the kind `environment`"),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "The certificate with its key for credentials of the kind `environment`",
    ),
    (
        "AZURE_CLIENT_CERTIFICATE_PASSWORD",
        "The password of the certificate for credentials of the kind `environment`",
    ),
    (
        "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN",
        "If it is `1` or `true`, credentials of the kind `environment` send the certificate chain",
    ),
    (
        "AZURE_FEDERATED_TOKEN_FILE",
        "The file with the token for credentials of the kinds `environment` and `workload_identity`",
    ),
    (
        "IDENTITY_ENDPOINT",
        "The endpoint for credentials of the kind `managed_identity`; Azure sets it",
    ),
    (
        "IDENTITY_HEADER",
        "Selects the endpoint of App Service for credentials of the kind `managed_identity`; Azure sets it",
    ),
    (
        "IMDS_ENDPOINT",
        "Selects the endpoint of Azure Arc for credentials of the kind `managed_identity`; Azure sets it",
    ),
    (
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "The metadata service for credentials of the kind `managed_identity`",
    ),
    (
        "SSL_CERT_FILE",
        "The trusted certificate authorities instead of those of the system, where no `ca_file` is set",
    ),
    (
        "SSL_CERT_DIR",
        "The directory of these certificate authorities, instead of or in addition to the file",
    ),
    ("DISPLAY", "If it is set, `login` opens a browser"),
    ("WAYLAND_DISPLAY", "If it is set, `login` opens a browser"),
    ("TMPDIR", "The directory for the temporary files of `demo`"),
    ("SECURE_SCORE_DEMO_SECRET", "The client secret that `demo --serve` accepts"),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The beginnings of expressions that read a variable.
    const READS: &[&str] = &["var(\"", "var_os(\"", "variable(\"", "value_of(\"", "secret_of(\""];

    /// The concatenated code of a folder.
    fn code(folder: &Path) -> String {
        let paths = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let text = |path: std::path::PathBuf| match path.extension() {
            _ if path.is_dir() => code(&path),
            Some(extension) if extension == "rs" => fs_err::read_to_string(&path).unwrap(),
            _ => String::new(),
        };
        paths.map(text).collect()
    }

    /// Regression: no page mentioned `NO_COLOR` and `COLUMNS`.
    #[test]
    fn every_variable_that_is_read_is_listed() {
        let code = code(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let mut count = 0;
        for start in READS {
            for (at, _) in code.match_indices(*start) {
                let name = code[at + start.len()..].split('"').next().unwrap();
                let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
                // Only tests read this variable, and names with `__` set keys.
                if !is_name || name == "GOLDEN" || name.contains("__") {
                    continue;
                }
                assert!(ENVIRONMENT.iter().any(|(known, _)| *known == name), "{name}");
                count += 1;
            }
        }
        assert!(count >= 15, "only {count} variables were found");
    }
}
