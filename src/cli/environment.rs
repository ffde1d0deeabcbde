//! The environment variables that affect the program, except those that only a secret of the
//! configuration names. The man pages and the reference of commands are generated from this table.

use std::ffi::OsString;

/// The variables that the libraries of the program and the system read.
const OF_LIBRARIES: &[&str] =
    &["HOME", "LANG", "PATH", "RUST_BACKTRACE", "SERVICE_ACCOUNT", "SQLITE_TMPDIR", "TZ"];
/// The beginnings of the names of variables that set keys, that the clients of object stores read,
/// and that select the texts and the directories of a user.
const PREFIXES: &[&str] =
    &["SECURE_SCORE_FORWARDER__", "AWS_", "GCE_METADATA_", "GOOGLE_", "LC_", "XDG_"];

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

/// The variables of this process that the program uses, and those with these names.
pub(super) fn used_variables(secrets: &[&str]) -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
        .filter(move |(name, _)| name.to_str().is_some_and(|name| is_used(name, secrets)))
}

fn is_used(name: &str, secrets: &[&str]) -> bool {
    ENVIRONMENT.iter().any(|(known, _)| *known == name)
        || OF_LIBRARIES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || secrets.contains(&name)
}

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

    /// Regression: a command that root runs as the user of the service inherited every variable of
    /// root, which that user could read.
    #[test]
    fn only_used_variables_are_inherited() {
        for name in ["PATH", "NO_COLOR", "AZURE_CLIENT_ID", "SECURE_SCORE_FORWARDER__STATE__X"] {
            assert!(is_used(name, &[]), "{name}");
        }
        for name in ["VAULT_TOKEN", "SSH_AUTH_SOCK", "LD_PRELOAD", "GRAPH_SECRET"] {
            assert!(!is_used(name, &[]), "{name}");
        }
        assert!(is_used("GRAPH_SECRET", &["GRAPH_SECRET"]));
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
