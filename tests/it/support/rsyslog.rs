//! A real rsyslog with inputs for TCP, TLS with client certificates, UDP, RELP and a Unix socket,
//! all on the loopback address. It writes each message as one line of JSON to a file.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{eventually, free_port, is_listening, write};

pub struct Rsyslog {
    directory: tempfile::TempDir,
    child: Child,
    pub tcp: u16,
    pub tls: u16,
    pub udp: u16,
    pub relp: u16,
    pub relps: u16,
}

impl Rsyslog {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_pki(directory.path());

        let [tcp, tls, udp, relp, relps] = std::array::from_fn(|_| free_port());
        let d = directory.path().display();
        let text = configuration(&d.to_string(), tcp, tls, udp)
            + &relp_inputs(&d.to_string(), relp, relps);
        write(directory.path().join("rsyslog.conf"), &text);

        let child = Self::spawn(directory.path());
        let server = Self { directory, child, tcp, tls, udp, relp, relps };
        server.wait_until_up();
        server
    }

    fn spawn(directory: &Path) -> Child {
        let d = directory.display();
        let log = std::fs::File::create(directory.join("rsyslog.log")).unwrap();
        let program =
            ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"].into_iter().find(|p| Path::new(p).exists());
        Command::new(program.expect("rsyslogd is not installed: run `tests/run --all`"))
            .args(["-n", "-f", &format!("{d}/rsyslog.conf"), "-i", &format!("{d}/pid")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait_until_up(&self) {
        for port in [self.tcp, self.tls, self.relp, self.relps] {
            eventually("rsyslog listens", || is_listening(port));
        }
        eventually("rsyslog has created its Unix socket", || self.unix().exists());
    }

    /// Kills rsyslog and starts it again. Messages in its memory are lost.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.unix());
        let _ = std::fs::remove_file(self.file("pid"));
        self.remove_incomplete_line();
        self.child = Self::spawn(self.directory.path());
        self.wait_until_up();
    }

    /// Removes an incomplete last line, to which rsyslog would append the next message.
    fn remove_incomplete_line(&self) {
        let Ok(text) = std::fs::read(self.file("out.jsonl")) else { return };
        let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        std::fs::write(self.file("out.jsonl"), &text[..complete]).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn unix(&self) -> PathBuf {
        self.file("log.sock")
    }

    /// The messages that have arrived so far, as rsyslog parsed them: objects with `input`, `pri`,
    /// `ts`, `host`, `app`, `msgid` and `msg`.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.file("out.jsonl")).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |at| &text[..=at]);
        complete
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// Waits for at least this many messages, and returns all of them.
    pub fn expect(&self, count: usize) -> Vec<serde_json::Value> {
        eventually(&format!("rsyslog has {count} messages"), || self.messages().len() >= count);
        self.messages()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(d: &str, tcp: u16, tls: u16, udp: u16) -> String {
    format!(
        r#"global(workDirectory="{d}" maxMessageSize="64k"
  defaultNetstreamDriverCAFile="{d}/ca.pem" defaultNetstreamDriverCertFile="{d}/server.pem" defaultNetstreamDriverKeyFile="{d}/server.key")
main_queue(queue.size="200000")
template(name="j" type="list" option.jsonf="on") {{
  property(outname="input" name="inputname" format="jsonf") property(outname="pri" name="pri" format="jsonf")
  property(outname="ts" name="timereported" dateFormat="rfc3339" format="jsonf") property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf") property(outname="msgid" name="msgid" format="jsonf")
  property(outname="msg" name="msg" format="jsonf") }}
module(load="imudp") module(load="imtcp")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{d}/log.sock" CreatePath="on" RateLimit.Interval="0" ruleset="all")
ruleset(name="all") {{ action(type="omfile" file="{d}/out.jsonl" template="j") }}
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="all" name="udp")
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="all" name="tcp" maxframesize="200000")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="all" name="tls" streamDriver.name="ossl" streamDriver.mode="1"
  streamDriver.authMode="x509/name" permittedPeer=["client.test"])
"#
    )
}

fn relp_inputs(d: &str, relp: u16, relps: u16) -> String {
    format!(
        r#"module(load="imrelp" tls.tlslib="openssl")
input(type="imrelp" address="127.0.0.1" port="{relp}" ruleset="all" name="relp" maxdatasize="64k")
input(type="imrelp" address="127.0.0.1" port="{relps}" ruleset="all" name="relps" tls="on" tls.cacert="{d}/ca.pem"
  tls.mycert="{d}/server.pem" tls.myprivkey="{d}/server.key" tls.authmode="name" tls.permittedpeer=["client.test"])
"#
    )
}

/// Writes `ca.pem`, and a certificate and key for each of `server`, `client` and `rogue`. The
/// certificate of `rogue` is issued by another CA.
pub fn write_pki(directory: &Path) {
    let ca = authority();
    let other = authority();

    write(directory.join("ca.pem"), &ca.0);
    for (name, issuer) in [("server", &ca.1), ("client", &ca.1), ("rogue", &other.1)] {
        let mut params = CertificateParams::new(vec![
            format!("{name}.test"),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ])
        .unwrap();
        // Without a common name, the certificate has the same name as its issuer and is taken for a
        // self-signed one.
        params.distinguished_name.push(DnType::CommonName, format!("{name}.test"));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        write(directory.join(format!("{name}.pem")), &certificate.pem());
        write(directory.join(format!("{name}.key")), &key.serialize_pem());
    }
}

/// A new certificate authority: its certificate as PEM, and the issuer.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}
