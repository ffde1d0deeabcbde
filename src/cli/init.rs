//! `init`: asks, writes a configuration, proves that it works. The questions go to standard error and
//! the answers come from standard input, so a script may give them too.

use std::{
    io::{BufRead, IsTerminal, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};

use super::{Exit, Failed, args, check, print, say, test_sink};
use crate::config::{Configuration, DEFAULT_PATH};
use crate::error::Explanation;

/// What was answered.
struct Answers {
    name: String,
    id: String,
    client_id: String,
    /// A file with certificate and key, or the secret itself, if it is not kept already.
    credential: Result<PathBuf, Option<SecretString>>,
    sink: SinkAnswer,
}

enum SinkAnswer {
    Syslog { address: String, format: String },
    Splunk { url: String, token: Option<SecretString> },
    File { path: String },
}

const SINK: &str = "siem";

pub(super) fn init(config: &Path, args: &args::Init) -> Result<Exit, Failed> {
    if config.exists() {
        let explanation =
            Explanation::new(format!("`{}` exists and is not overwritten", config.display()));
        return Err(usage(explanation.with_hint("pass --config FILE to write another file")));
    }
    let directory = config.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).to_owned();
    if !directory.is_dir() {
        return Err(usage(format!("there is no directory `{}`", directory.display())));
    }
    let secrets = Secrets::beside(config, &directory);
    let answers = ask(&mut std::io::stdin().lock(), &secrets)?;
    let text = written(&answers, args, &secrets);
    Configuration::parse(&config.display().to_string(), &text)?;
    keep_secrets(&answers, &secrets)?;
    write_new(config, &text)?;
    if let Some(file) = answers.credential.as_ref().ok().filter(|f| f.parent() != config.parent())
        && config == Path::new(DEFAULT_PATH)
    {
        // Root can read it; the service runs as a user of its own, without /root and /home.
        say(&format!(
            "\nThe service must be able to read `{}`: put it into {} (chmod 640, chgrp secure-score-forwarder), and its new path into the configuration.",
            file.display(),
            directory.display()
        ));
    }
    say(&format!("\n{} is written. Now the acknowledgement.\n", config.display()));
    prove(config, args)
}

const GRAPH_SECRET: &str = "graph-secret";
const HEC_TOKEN: &str = "hec-token";

/// Sign-in, one read, one record: each says by itself what is wrong and what to do.
fn prove(config: &Path, args: &args::Init) -> Result<Exit, Failed> {
    let mut exit = Exit::Done;
    if !args.offline {
        exit = check::check(config, &args::Check { online: true })?;
        match test_sink::test_sink(config, &args::TestSink { name: SINK.to_owned() }) {
            Ok(_) => {}
            Err(failed) => {
                say(&format!("error: {failed}"));
                exit = Exit::Incomplete;
            }
        }
    }
    if exit == Exit::Done && config == Path::new(DEFAULT_PATH) {
        print("\nTo start: systemctl enable --now secure-score-forwarder\n")?;
    } else if exit == Exit::Done {
        print(&format!("\nTo start: secure-score-forwarder run --config {}\n", config.display()))?;
    } else {
        say(&format!(
            "\nMend what is said above in `{}`, or in the files of secrets that it names, and try `check --online` again.",
            config.display()
        ));
    }
    Ok(exit)
}

fn ask(input: &mut impl BufRead, secrets: &Secrets) -> Result<Answers, Failed> {
    let id = question(input, "Tenant: its GUID, or a verified domain", None)?;
    let short = id.split('.').next().filter(|name| *name != id).unwrap_or("main").to_owned();
    let name = question(input, "A name for it, which records carry", Some(&short))?;
    let client_id = question(input, "The app's client id", None)?;
    let file = question(
        input,
        "A file with the app's certificate and key (PEM or PFX); nothing for a client secret",
        Some(""),
    )?;
    let credential = match file.as_str() {
        "" => Err(secrets.ask(input, GRAPH_SECRET, "The client secret's value")?),
        file => Ok(absolute(file)?),
    };
    let sink = loop {
        let to = question(
            input,
            "Where to: tls://host:6514, tcp://, relp:// or udp:// for syslog; https://host:8088 for Splunk HEC; a path for a file",
            Some("/var/log/secure-score/records.jsonl"),
        )?;
        match to.split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => {
                break SinkAnswer::Splunk {
                    url: to,
                    token: secrets.ask(input, HEC_TOKEN, "The HEC token")?,
                };
            }
            Some("tls" | "tcp" | "udp" | "relp" | "relps" | "unix") => {
                break SinkAnswer::Syslog { address: to, format: format(input)? };
            }
            None if to.starts_with('/') => break SinkAnswer::File { path: to },
            _ => {
                say("that is none of these; more kinds of sink stand in the example configuration");
            }
        }
    };
    Ok(Answers { name, id, client_id, credential, sink })
}

fn format(input: &mut impl BufRead) -> Result<String, Failed> {
    const FORMATS: [&str; 5] = ["cef", "leef", "json", "ecs", "ocsf"];
    let what = format!(
        "Format: {} (the receiving files for rsyslog and syslog-ng in this package want json)",
        FORMATS.join(", ")
    );
    loop {
        let format = question(input, &what, Some("cef"))?;
        if FORMATS.contains(&format.as_str()) {
            return Ok(format);
        }
        say("that is none of these");
    }
}

/// One line; `default` where nothing is typed.
fn question(input: &mut impl BufRead, what: &str, default: Option<&str>) -> Result<String, Failed> {
    loop {
        let shown = default.filter(|text| !text.is_empty()).map(|text| format!(" [{text}]"));
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{what}{}: ", shown.unwrap_or_default());
        let _ = stderr.flush();
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err(usage(
                "the answers ended before the questions did; nothing is written".to_owned(),
            ));
        }
        match (line.trim(), default) {
            ("", Some(default)) => return Ok(default.to_owned()),
            ("", None) => {}
            (line, _) if line.chars().any(char::is_control) => {
                say("that has characters that nobody can see");
            }
            (line, _) => return Ok(line.to_owned()),
        }
    }
}

/// As a question, without an echo on a terminal.
fn secret(input: &mut impl BufRead, what: &str) -> Result<SecretString, Failed> {
    let _quiet = Quiet::begin();
    let answer = question(input, what, None);
    say("");
    answer.map(SecretString::from)
}

/// A terminal that does not show what is typed, until this goes.
struct Quiet(Option<rustix::termios::Termios>);

impl Quiet {
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Self(None);
        }
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        let _ = tcsetattr(&stdin, OptionalActions::Flush, &quiet);
        Self(Some(before))
    }
}

impl Drop for Quiet {
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

/// Where secrets go, and how the configuration names them.
struct Secrets {
    directory: PathBuf,
    /// The service has them as credentials.
    as_credentials: bool,
}

impl Secrets {
    /// Asks for a secret, unless its file is there.
    fn ask(
        &self,
        input: &mut impl BufRead,
        name: &str,
        what: &str,
    ) -> Result<Option<SecretString>, Failed> {
        let file = self.directory.join(name);
        if file.exists() {
            say(&format!("{what}: the one in `{}` is used", file.display()));
            return Ok(None);
        }
        secret(input, what).map(Some)
    }

    fn beside(config: &Path, directory: &Path) -> Self {
        Self {
            directory: directory.join("secrets"),
            as_credentials: config == Path::new(DEFAULT_PATH),
        }
    }

    fn reference(&self, name: &str) -> String {
        if self.as_credentials {
            format!("{{ credential = {} }}", quoted(name))
        } else {
            let path = std::path::absolute(self.directory.join(name)).unwrap_or_default();
            format!("{{ file = {} }}", quoted(&path.display().to_string()))
        }
    }
}

fn keep_secrets(answers: &Answers, secrets: &Secrets) -> Result<(), Failed> {
    let mut kept: Vec<(&str, &Option<SecretString>)> = Vec::new();
    if let Err(secret) = &answers.credential {
        kept.push((GRAPH_SECRET, secret));
    }
    if let SinkAnswer::Splunk { token, .. } = &answers.sink {
        kept.push((HEC_TOKEN, token));
    }
    if kept.is_empty() {
        return Ok(());
    }
    fs_err::create_dir_all(&secrets.directory)?;
    for (name, secret) in kept {
        let Some(secret) = secret else { continue };
        let path = secrets.directory.join(name);
        write_new(&path, &format!("{}\n", secret.expose_secret()))?;
    }
    Ok(())
}

fn written(answers: &Answers, args: &args::Init, secrets: &Secrets) -> String {
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
        Ok(file) => format!(
            "kind = \"certificate\"\nclient_id = {}\ncertificate = {}",
            quoted(client_id),
            quoted(&file.display().to_string())
        ),
        Err(_) => format!(
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

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn absolute(file: &str) -> Result<PathBuf, Failed> {
    let path = std::path::absolute(file)?;
    if path.is_file() { Ok(path) } else { Err(usage(format!("there is no file `{file}`"))) }
}

/// For its owner and the group of its directory, which is the service's where it was installed.
fn write_new(path: &Path, text: &str) -> Result<(), Failed> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file =
        opened.map_err(|error| usage(format!("cannot write `{}`: {error}", path.display())))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let group = path.parent().and_then(|parent| std::fs::metadata(parent).ok()).map(|m| m.gid());
    if let Some(group) = group.filter(|group| *group != 0)
        && std::os::unix::fs::chown(path, None, Some(group)).is_ok()
    {
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o640))?;
    }
    Ok(())
}

fn usage(message: impl Into<Explanation>) -> Failed {
    Failed::new(Exit::Usage, message)
}
