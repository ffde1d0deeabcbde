//! `init`: asks for the tenant, the application and the receiver, writes a configuration, and tests
//! it. The questions are written to standard error and the answers are read from standard input, so
//! that a script can supply them. Existing files are never overwritten, and secrets are written to
//! separate files.

use std::{
    io::{BufRead, IsTerminal, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use fs_err::os::unix::fs::OpenOptionsExt;
use secrecy::{ExposeSecret, SecretString};

use super::{
    CommandFailure, ExitCode, args, check, print, print_explanation, print_message, render,
    test_sink,
};
use crate::{
    config::{Configuration, DEFAULT_PATH},
    error::Explanation,
};

/// The name of the sink in the new configuration.
const SINK: &str = "siem";

/// The names of the secrets, which are the names of their files and of the systemd credentials.
const GRAPH_SECRET: &str = "graph-secret";
const HEC_TOKEN: &str = "hec-token";

/// The answers to all questions.
struct Answers {
    name: String,
    id: String,
    client_id: String,
    credential: CredentialAnswer,
    sink: SinkAnswer,
}

enum CredentialAnswer {
    /// A file with the certificate and its key.
    Certificate(PathBuf),
    /// The client secret; `None` if its file already exists.
    ClientSecret(Option<SecretString>),
}

enum SinkAnswer {
    Syslog {
        address: String,
        format: String,
    },
    /// The token is `None` if its file already exists.
    Splunk {
        url: String,
        token: Option<SecretString>,
    },
    File {
        path: String,
    },
}

/// Where secrets are stored, and how the configuration refers to them.
struct SecretStore {
    directory: PathBuf,
    /// Whether the configuration is that of the service, which receives the files as systemd
    /// credentials.
    as_credentials: bool,
}

/// Runs the command. Returns `Incomplete` if the written configuration failed a test. Fails, before
/// anything is written, if the file exists or the answers are not a valid configuration.
pub(super) fn init(config: &Path, args: &args::Init) -> Result<ExitCode, CommandFailure> {
    if config.exists() {
        let explanation = Explanation::new(format!(
            "`{}` already exists and is not overwritten",
            config.display()
        ));
        return Err(usage(explanation.with_hint("pass --config with the path of a new file")));
    }
    let directory = config.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).to_owned();
    if !directory.is_dir() {
        return Err(usage(format!("the directory `{}` does not exist", directory.display())));
    }

    let secrets = SecretStore::next_to(config, &directory);
    let answers = ask_all(&mut std::io::stdin().lock(), &secrets)?;

    // An invalid configuration is rejected before anything is written.
    let text = configuration_text(&answers, args, &secrets);
    Configuration::parse(&config.display().to_string(), &text)?;
    store_secrets(&answers, &secrets)?;
    write_new(config, &text)?;

    if let CredentialAnswer::Certificate(file) = &answers.credential
        && file.parent() != config.parent()
        && config == Path::new(DEFAULT_PATH)
    {
        print_message(&format!("\nwarning: {}", render(&unreadable(file, &directory))));
    }
    let next_step = if args.offline { "" } else { "; testing it:\n" };
    print_message(&format!("\nwrote `{}`{next_step}", config.display()));
    test(config, args)
}

/// Explains that the service cannot read the certificate. Root can read the file, but the service
/// runs as a different user, without access to `/root` and `/home`.
fn unreadable(certificate: &Path, directory: &Path) -> Explanation {
    let message = format!(
        "the service may be unable to read `{}`: it runs as a different user",
        certificate.display()
    );
    let hint = format!(
        "move the file to `{}`, run `chgrp secure-score-forwarder` and `chmod 640` for it, and change its path in the configuration",
        directory.display()
    );
    Explanation::new(message).with_hint(hint)
}

/// Signs in, reads one snapshot, and sends one test record. Each step reports its faults, and the
/// configuration is kept, so that the operator can correct it.
fn test(config: &Path, args: &args::Init) -> Result<ExitCode, CommandFailure> {
    let mut exit = ExitCode::Done;
    if !args.offline {
        exit = check::check(config, &args::Check { online: true, ..args::Check::default() })?;
        if let Err(failure) =
            test_sink::test_sink(config, &args::TestSink { name: SINK.to_owned(), json: false })
        {
            print_message(&format!("error: {failure}"));
            exit = ExitCode::Incomplete;
        }
    }

    let config_file = config.display();
    if exit != ExitCode::Done {
        let explanation = Explanation::new(format!("the test of `{config_file}` failed"));
        let hint = "correct the errors above in this file or in the secret files that it refers to, and run `check --online` again";
        print_message(&format!("\nerror: {}", render(&explanation.with_hint(hint))));
        return Ok(exit);
    }

    let explanation = if config == Path::new(DEFAULT_PATH) {
        Explanation::new("the service is ready to start")
            .with_hint("run `systemctl enable --now secure-score-forwarder`")
    } else {
        Explanation::new("the daemon is ready to start")
            .with_hint(format!("run `secure-score-forwarder run --config {config_file}`"))
    };
    print(&format!("\n{}\n", render(&explanation)))?;
    Ok(exit)
}

fn ask_all(input: &mut impl BufRead, secrets: &SecretStore) -> Result<Answers, CommandFailure> {
    let id = ask(input, "Tenant (GUID or verified domain)", None)?;
    let default_name = id.split('.').next().filter(|name| *name != id).unwrap_or("main").to_owned();
    let name = ask(input, "Name of the tenant in records", Some(&default_name))?;
    let client_id = ask(input, "Client ID of the application", None)?;
    let file = ask(
        input,
        "File with the certificate and key of the application (PEM or PFX); leave empty to use a client secret",
        Some(""),
    )?;
    let credential = match file.as_str() {
        "" => CredentialAnswer::ClientSecret(secrets.ask(
            input,
            GRAPH_SECRET,
            "Value of the client secret",
        )?),
        file => CredentialAnswer::Certificate(absolute(file)?),
    };

    let sink = ask_sink(input, secrets)?;
    Ok(Answers { name, id, client_id, credential, sink })
}

/// Asks for the address of the receiver until it is one that `init` supports.
fn ask_sink(input: &mut impl BufRead, secrets: &SecretStore) -> Result<SinkAnswer, CommandFailure> {
    loop {
        let target = ask(
            input,
            "Receiver: tls://HOST:6514, tcp://, relp:// or udp:// for syslog; https://HOST:8088 for Splunk HEC; a path for a file",
            Some("/var/log/secure-score/records.jsonl"),
        )?;
        match target.split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => {
                let token = secrets.ask(input, HEC_TOKEN, "HEC token")?;
                return Ok(SinkAnswer::Splunk { url: target, token });
            }
            Some("tls" | "tcp" | "udp" | "relp" | "relps" | "unix") => {
                return Ok(SinkAnswer::Syslog { address: target, format: ask_format(input)? });
            }
            None if target.starts_with('/') => return Ok(SinkAnswer::File { path: target }),
            // The message omits the answer: a script may have supplied a secret at the wrong
            // prompt.
            _ => print_explanation(&Explanation::new("unsupported receiver").with_hint(
                "enter one of the forms above; the example configuration shows other types of sink",
            )),
        }
    }
}

fn ask_format(input: &mut impl BufRead) -> Result<String, CommandFailure> {
    const FORMATS: [&str; 5] = ["cef", "leef", "json", "ecs", "ocsf"];
    let prompt = format!(
        "Format: {} (the rsyslog and syslog-ng configurations in this package require json)",
        FORMATS.join(", ")
    );
    loop {
        let format = ask(input, &prompt, Some("cef"))?;
        if FORMATS.contains(&format.as_str()) {
            return Ok(format);
        }
        let explanation = Explanation::new("unsupported format");
        print_explanation(&explanation.with_hint("enter one of the formats above"));
    }
}

/// Reads one line. An empty line selects the default, or repeats the question if there is none.
fn ask(
    input: &mut impl BufRead,
    prompt: &str,
    default: Option<&str>,
) -> Result<String, CommandFailure> {
    loop {
        let shown = default.filter(|text| !text.is_empty()).map(|text| format!(" [{text}]"));
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{prompt}{}: ", shown.unwrap_or_default());
        let _ = stderr.flush();

        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err(usage("the input ended before the last question; nothing was written"));
        }
        match (line.trim(), default) {
            ("", Some(default)) => return Ok(default.to_owned()),
            ("", None) => {}
            (line, _) if line.chars().any(char::is_control) => {
                let explanation = Explanation::new("the answer contains control characters");
                print_explanation(&explanation.with_hint("enter it again without them"));
            }
            (line, _) => return Ok(line.to_owned()),
        }
    }
}

/// Reads one line without echo on a terminal.
fn ask_secret(input: &mut impl BufRead, prompt: &str) -> Result<SecretString, CommandFailure> {
    let _echo_off = EchoOff::new();
    let answer = ask(input, prompt, None);
    print_message("");
    answer.map(SecretString::from)
}

/// Turns off the echo of the terminal until the value is dropped. Contains the attributes to
/// restore; `None` if standard input is not a terminal.
struct EchoOff(Option<rustix::termios::Termios>);

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

impl SecretStore {
    fn next_to(config: &Path, directory: &Path) -> Self {
        Self {
            directory: directory.join("secrets"),
            as_credentials: config == Path::new(DEFAULT_PATH),
        }
    }

    /// Asks for a secret, unless its file exists.
    fn ask(
        &self,
        input: &mut impl BufRead,
        name: &str,
        prompt: &str,
    ) -> Result<Option<SecretString>, CommandFailure> {
        let file = self.directory.join(name);
        if file.exists() {
            print_message(&format!("{prompt}: using the existing file `{}`", file.display()));
            return Ok(None);
        }
        ask_secret(input, prompt).map(Some)
    }

    /// The reference to a secret in the configuration.
    fn reference(&self, name: &str) -> String {
        if self.as_credentials {
            format!("{{ credential = {} }}", quoted(name))
        } else {
            let path = std::path::absolute(self.directory.join(name)).unwrap_or_default();
            format!("{{ file = {} }}", quoted(&path.display().to_string()))
        }
    }
}

/// Writes the secrets that were asked for.
fn store_secrets(answers: &Answers, store: &SecretStore) -> Result<(), CommandFailure> {
    let mut secrets: Vec<(&str, &Option<SecretString>)> = Vec::new();
    if let CredentialAnswer::ClientSecret(secret) = &answers.credential {
        secrets.push((GRAPH_SECRET, secret));
    }
    if let SinkAnswer::Splunk { token, .. } = &answers.sink {
        secrets.push((HEC_TOKEN, token));
    }
    if secrets.is_empty() {
        return Ok(());
    }

    fs_err::create_dir_all(&store.directory)?;
    for (name, secret) in secrets {
        let Some(secret) = secret else { continue };
        let path = store.directory.join(name);
        write_new(&path, &format!("{}\n", secret.expose_secret()))?;
    }
    Ok(())
}

/// The configuration in TOML.
fn configuration_text(answers: &Answers, args: &args::Init, secrets: &SecretStore) -> String {
    let Answers { name, id, client_id, credential, sink } = answers;
    let state = quoted(&args.state_directory.display().to_string());
    let cloud = match args.cloud.split_once(',') {
        _ if args.cloud == "global" => String::new(),
        Some((login, graph)) => {
            format!("cloud = {{ login_url = {}, graph_url = {} }}\n", quoted(login), quoted(graph))
        }
        None => format!("cloud = {}\n", quoted(&args.cloud)),
    };

    let credential = match credential {
        CredentialAnswer::Certificate(file) => format!(
            "kind = \"certificate\"\nclient_id = {}\ncertificate = {}",
            quoted(client_id),
            quoted(&file.display().to_string())
        ),
        CredentialAnswer::ClientSecret(_) => format!(
            "kind = \"client_secret\"\nclient_id = {}\nclient_secret = {}",
            quoted(client_id),
            secrets.reference(GRAPH_SECRET)
        ),
    };

    let sink = match sink {
        SinkAnswer::Syslog { address, format } => {
            let lossy = if address.starts_with("udp:") { "\nlossy = true" } else { "" };
            format!(
                "type = \"syslog\"\naddress = {}\nformat = {}{lossy}",
                quoted(address),
                quoted(format)
            )
        }
        SinkAnswer::Splunk { url, .. } => format!(
            "type = \"splunk_hec\"\nurl = {}\ntoken = {}",
            quoted(url),
            secrets.reference(HEC_TOKEN)
        ),
        SinkAnswer::File { path } => format!("type = \"file\"\npath = {}", quoted(path)),
    };

    format!(
        "[state]\ndirectory = {state}\n\n[admin]\nlisten = {}\n\n[[tenants]]\nname = {}\nid = {}\n{cloud}[tenants.credential]\n{credential}\n\n[[sinks]]\nname = \"{SINK}\"\n{sink}\n",
        quoted(&args.listen),
        quoted(name),
        quoted(id)
    )
}

/// A TOML basic string. The answers contain no control characters, which would also require
/// escapes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn absolute(file: &str) -> Result<PathBuf, CommandFailure> {
    let path = std::path::absolute(file)?;
    if path.is_file() { Ok(path) } else { Err(usage(format!("the file `{file}` does not exist"))) }
}

/// Creates a file that its owner and the group of its directory can read; the package assigns this
/// directory to the group of the service. Fails if the file exists.
fn write_new(path: &Path, text: &str) -> Result<(), CommandFailure> {
    let mut options = fs_err::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| usage(error.to_string()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;

    let group = path.parent().and_then(|parent| fs_err::metadata(parent).ok()).map(|m| m.gid());
    if let Some(group) = group.filter(|group| *group != 0)
        && std::os::unix::fs::chown(path, None, Some(group)).is_ok()
    {
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o640))?;
    }
    Ok(())
}

fn usage(explanation: impl Into<Explanation>) -> CommandFailure {
    CommandFailure::new(ExitCode::Usage, explanation)
}
