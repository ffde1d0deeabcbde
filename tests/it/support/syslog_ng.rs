//! A real syslog-ng, which accepts octet counting on one port and newline framing on another.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{cache, eventually, free_port, is_listening, write};

pub struct SyslogNg {
    directory: tempfile::TempDir,
    child: Child,
    /// The port for octet counting.
    pub counted: u16,
    /// The port for newline framing.
    pub lines: u16,
}

impl SyslogNg {
    pub fn new() -> Self {
        let root = cache("SYSLOG_NG", "syslog-ng");
        let directory = tempfile::tempdir().unwrap();

        let (counted, lines) = (free_port(), free_port());
        let d = directory.path().display();
        write(
            directory.path().join("syslog-ng.conf"),
            &format!(
                r#"@version: 3.38
options {{ keep-hostname(yes); stats-freq(0); log-msg-size(65536); log-fifo-size(200000); }};
source counted {{ syslog(ip("127.0.0.1") transport("tcp") port({counted})); }};
source lines {{ network(ip("127.0.0.1") transport("tcp") port({lines})); }};
destination out {{ file("{d}/out.jsonl" template("$(format-json pri=$PRI host=$HOST app=$PROGRAM msgid=$MSGID ts=$ISODATE msg=$MESSAGE)\n")); }};
log {{ source(counted); source(lines); destination(out); }};
"#
            ),
        );

        // The package is unpacked below `root`, so the paths of its libraries are given explicitly.
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let libraries: Vec<String> = ["usr/lib/syslog-ng", "usr/lib", "lib"]
            .into_iter()
            .flat_map(|at| {
                ["", "/x86_64-linux-gnu", "/aarch64-linux-gnu"]
                    .map(|triplet| format!("{}/{at}{triplet}", root.display()))
            })
            .collect();
        let file = |name: &str| format!("{d}/{name}");
        let child = Command::new(root.join("usr/sbin/syslog-ng"))
            .env("LD_LIBRARY_PATH", libraries.join(":"))
            .arg("--module-path")
            .arg(root.join("usr/lib/syslog-ng/3.38"))
            .args(["-F", "--no-caps", "-f", &file("syslog-ng.conf"), "-R", &file("persist")])
            .args(["-c", &file("control"), "-p", &file("pid")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();

        let server = Self { directory, child, counted, lines };
        for port in [counted, lines] {
            eventually("syslog-ng listens", || is_listening(port));
        }
        server
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out.jsonl")
    }

    /// Waits for at least this many messages, and returns all of them.
    pub fn expect(&self, count: usize) -> Vec<serde_json::Value> {
        let lines = || std::fs::read_to_string(self.out()).unwrap_or_default();
        eventually(&format!("syslog-ng has {count} messages"), || {
            lines().matches('\n').count() >= count
        });
        lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for SyslogNg {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
