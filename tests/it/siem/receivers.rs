//! The configurations for rsyslog and syslog-ng, tested with the real programs.

use std::{
    collections::BTreeSet,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{deploy, read};
use crate::support::{
    Workspace, cache, eventually, free_port, ids, records, records_of_kinds, write,
};

/// The directory to which the configurations write.
const RECEIVED: &str = "/var/log/secure-score-received";

/// A receiver with its configuration from `deploy/`, which writes to `received` below a scratch
/// directory. It is killed when the test ends.
struct Receiver {
    directory: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Receiver {
    fn rsyslog() -> Self {
        let program = ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"];
        let program = program.into_iter().find(|path| Path::new(path).exists()).unwrap();
        Self::start("rsyslog", |d, snippet| {
            let head = format!("global(maxMessageSize=\"128k\" workDirectory=\"{d}\")");
            write(format!("{d}/conf"), &format!("{head}\n{snippet}"));
            let mut command = Command::new(program);
            command.args(["-n", "-f", &format!("{d}/conf"), "-i", &format!("{d}/pid")]);
            command
        })
    }

    fn syslog_ng() -> Self {
        let root = cache("SYSLOG_NG", "syslog-ng");
        let libraries: Vec<String> = ["usr/lib/syslog-ng", "usr/lib", "lib"]
            .into_iter()
            .flat_map(|at| {
                ["", "/x86_64-linux-gnu", "/aarch64-linux-gnu"]
                    .map(|t| format!("{}/{at}{t}", root.display()))
            })
            .collect();

        Self::start("syslog-ng", |d, snippet| {
            let head = "@version: 3.38\noptions { stats-freq(0); };";
            write(format!("{d}/conf"), &format!("{head}\n{snippet}"));
            let mut command = Command::new(root.join("usr/sbin/syslog-ng"));
            command
                .env("LD_LIBRARY_PATH", libraries.join(":"))
                .arg("--module-path")
                .arg(root.join("usr/lib/syslog-ng/3.38"))
                .args([
                    "-F",
                    "--no-caps",
                    "-f",
                    &format!("{d}/conf"),
                    "-R",
                    &format!("{d}/persist"),
                ])
                .args(["-c", &format!("{d}/control"), "-p", &format!("{d}/pid")]);
            command
        })
    }

    fn start(name: &str, command: impl FnOnce(&str, &str) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let received = directory.path().join("received");
        std::fs::create_dir(&received).unwrap();

        let port = free_port();
        let snippet = read(&format!("siem/{name}/secure-score.conf"))
            .replace(RECEIVED, &received.display().to_string())
            .replace("10514", &port.to_string());
        let child = command(&directory.path().display().to_string(), &snippet)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("stderr")).unwrap())
            .spawn();

        let receiver = Self { directory, port, child: child.unwrap() };
        eventually(&format!("{name} listens"), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        receiver
    }

    fn received(&self, name: &str) -> PathBuf {
        self.directory.path().join("received").join(name)
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read(self.received(name)).unwrap_or_default().split(|b| *b == b'\n').count() - 1
    }

    /// The paths of all files below the scratch directory, relative to it.
    fn files(&self) -> BTreeSet<String> {
        fn gather(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { gather(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        gather(self.directory.path(), &mut found);
        let relative =
            |path: PathBuf| path.strip_prefix(self.directory.path()).unwrap().display().to_string();
        found.into_iter().map(relative).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a week to the receiver, and asserts that it writes every record to the file of its kind,
/// and nothing else.
fn assert_one_file_per_kind(receiver: &Receiver) {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 7".to_owned();
    let file = workspace.file_sink("local");
    let address = format!("tcp://127.0.0.1:{}", receiver.port);
    workspace.sink(
        "siem",
        &format!("type = \"syslog\"\naddress = \"{address}\"\nformat = \"json\"\ntexts = \"full\""),
    );
    workspace.run_ok(&["once"]);

    for kind in ["control", "summary"] {
        let expected: BTreeSet<String> =
            ids(&records_of_kinds(&file, &[kind])).map(str::to_owned).collect();
        let path = receiver.received(&format!("{kind}.jsonl"));
        eventually(&format!("every {kind} record arrives"), || {
            std::fs::read_to_string(&path)
                .is_ok_and(|text| text.lines().count() >= expected.len() && text.ends_with('\n'))
        });
        let found: BTreeSet<String> = ids(&records(&path)).map(str::to_owned).collect();
        assert_eq!(found, expected, "{kind}");
    }
    let other = std::fs::read_to_string(receiver.received("other.log")).unwrap_or_default();
    assert_eq!(other, "", "no record is in another file");
}

/// Sends messages whose host name, program and fields are paths, and asserts that no file is
/// written except those that the configuration names.
fn assert_fixed_names(receiver: &Receiver) {
    let mut stream = TcpStream::connect(("127.0.0.1", receiver.port)).unwrap();
    let mut send = |host: &str, program: &str, text: &str| {
        let message = format!("<134>1 2026-11-22T06:15:00.000Z {host} {program} - - - {text}");
        write!(stream, "{} {message}", message.len()).unwrap();
    };
    for (host, program) in [("../../x", "../../y"), ("/tmp/x", "%2e%2e"), ("h", "secure-score")] {
        for kind in ["control", "summary", "change", "quality"] {
            send(host, program, &format!("{{\"kind\":\"{kind}\",\"name\":\"../../n\"}}"));
        }
        for kind in ["../../z", "x/../../../z", "control/../../z", "/tmp/z", "CONTROL", ""] {
            send(host, program, &format!("{{\"kind\":\"{kind}\"}}"));
        }
        send(host, program, "../../not-json");
    }

    eventually("every message arrives", || {
        let kinds = ["control", "summary", "change", "quality"];
        receiver.lines("other.log") >= 21
            && kinds.iter().all(|kind| receiver.lines(&format!("{kind}.jsonl")) >= 3)
    });
    let own = ["conf", "stderr", "pid", "persist", "control"];
    let mut files = receiver.files();
    files.retain(|path| !own.contains(&path.as_str()));
    let expected = ["change.jsonl", "control.jsonl", "other.log", "quality.jsonl", "summary.jsonl"];
    assert_eq!(files, BTreeSet::from(expected.map(|name| format!("received/{name}"))));
}

#[test]
fn rsyslog_writes_one_file_per_kind() {
    assert_one_file_per_kind(&Receiver::rsyslog());
}

#[test]
fn syslog_ng_writes_one_file_per_kind() {
    assert_one_file_per_kind(&Receiver::syslog_ng());
}

/// Regression: a field of a message was part of the name of a file, so a sender could write to any
/// file of the receiver whose name ends in `.jsonl`.
#[test]
fn rsyslog_writes_only_to_fixed_names() {
    assert_fixed_names(&Receiver::rsyslog());
}

/// Regression: see [`rsyslog_writes_only_to_fixed_names`].
#[test]
fn syslog_ng_writes_only_to_fixed_names() {
    assert_fixed_names(&Receiver::syslog_ng());
}

/// Whether a line makes a part of a message part of the name of a file: for rsyslog a `dynaFile`, a
/// property in `file=`, or a template that is a path; for syslog-ng a macro in `file()`.
fn has_variable_name(line: &str) -> bool {
    const TEMPLATE: &str = "string=\"";
    let after = |start: &str, variable: &[char]| {
        line.split(start).skip(1).any(|rest| {
            let value = rest.split('"').next().unwrap();
            let is_path = start != TEMPLATE || value.starts_with('/');
            is_path && value.contains(variable)
        })
    };
    line.to_lowercase().contains("dynafile")
        || after(" file=\"", &['%', '$'])
        || after(TEMPLATE, &['%'])
        || after("file(\"", &['$'])
}

/// Every configuration of a receiver in the packages and in the manual. Scripts are not checked,
/// because their variables are not those of messages.
#[test]
fn shipped_receivers_have_fixed_names() {
    let root = deploy("..");
    let mut folders = vec![root.join("deploy"), root.join("docs")];
    let mut lines = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if !path.extension().is_some_and(|end| end == "conf" || end == "md") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for line in text.lines() {
                assert!(!has_variable_name(line), "{}: {line}", path.display());
                lines += usize::from(line.contains("file=\"/") || line.contains("file(\"/"));
            }
        }
    }
    assert!(lines >= 11, "only {lines} files of receivers were found");
}

#[test]
fn variable_names_of_files_are_recognized() {
    for (line, expected) in [
        ("action(type=\"omfile\" dynaFile=\"by-host\")", true),
        ("template(name=\"f\" type=\"string\" string=\"/var/log/%HOSTNAME%.log\")", true),
        ("file(\"/var/log/${HOST}/$PROGRAM.log\");", true),
        ("action(type=\"omfile\" file=\"/var/log/%$!kind%\")", true),
        ("action(type=\"omfile\" file=\"/var/log/x\" template=\"line\")", false),
        ("template(name=\"line\" type=\"string\" string=\"%msg%\\n\")", false),
        ("file(\"/var/log/x\" template(\"${MSG}\\n\"));", false),
    ] {
        assert_eq!(has_variable_name(line), expected, "{line}");
    }
}
