//! A mail server on the loopback interface, with TLS and AUTH PLAIN, whose replies follow a script.
//! It stores the messages that it accepts, and discards an incomplete one.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// When the server encrypts a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    Never,
    StartTls,
    Implicit,
}

/// An accepted message.
#[derive(Clone, Debug)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// The header and the body, with lines that end in `\n`.
    pub data: String,
    /// The user name and the password of the session.
    pub login: Option<String>,
    pub encrypted: bool,
}

#[derive(Default)]
struct Inner {
    mails: Vec<Mail>,
    /// The beginning of a command, and the reply to the next such command.
    script: VecDeque<(String, String)>,
    /// Recipients that are rejected permanently.
    rejected: Vec<String>,
}

pub struct MailServer {
    pub port: u16,
    inner: Arc<Mutex<Inner>>,
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

/// One session.
struct Session {
    tcp: TcpStream,
    stream: Box<dyn Duplex>,
    encryption: Encryption,
    tls: Option<Arc<rustls::ServerConfig>>,
    encrypted: bool,
    login: Option<String>,
    from: String,
    to: Vec<String>,
}

impl MailServer {
    /// A server without encryption.
    pub fn new() -> Self {
        Self::start(Encryption::Never, None)
    }

    /// A server with the certificate `server.pem` and its key in a directory.
    pub fn encrypted(encryption: Encryption, pki: &Path) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let chain = CertificateDer::pem_file_iter(pki.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(pki.join("server.key")).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        Self::start(encryption, Some(Arc::new(config)))
    }

    fn start(encryption: Encryption, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::<Mutex<Inner>>::default();
        let shared = Arc::clone(&inner);

        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (tls, inner) = (tls.clone(), Arc::clone(&shared));
                std::thread::spawn(move || Session::new(tcp, encryption, tls)?.serve(&inner));
            }
        });
        Self { port, inner }
    }

    /// Replies to the next command that begins with this text. `DATA.` is the end of a message.
    pub fn reply_once(&self, command: &str, reply: &str) {
        let entry = (command.to_owned(), reply.to_owned());
        self.inner.lock().unwrap().script.push_back(entry);
    }

    /// Rejects a recipient permanently.
    pub fn reject(&self, recipient: &str) {
        self.inner.lock().unwrap().rejected.push(recipient.to_owned());
    }

    /// Accepts all recipients again.
    pub fn reject_none(&self) {
        self.inner.lock().unwrap().rejected.clear();
    }

    /// The accepted messages, in order.
    pub fn mails(&self) -> Vec<Mail> {
        self.inner.lock().unwrap().mails.clone()
    }
}

impl Session {
    fn new(
        tcp: TcpStream,
        encryption: Encryption,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Option<Self> {
        let stream = Box::new(tcp.try_clone().ok()?);
        let mut session = Self {
            tcp,
            stream,
            encryption,
            tls,
            encrypted: false,
            login: None,
            from: String::new(),
            to: Vec::new(),
        };
        if encryption == Encryption::Implicit {
            session.encrypt()?;
        }
        Some(session)
    }

    fn encrypt(&mut self) -> Option<()> {
        let connection = rustls::ServerConnection::new(self.tls.clone()?).ok()?;
        let tcp = self.tcp.try_clone().ok()?;
        self.stream = Box::new(rustls::StreamOwned::new(connection, tcp));
        self.encrypted = true;
        Some(())
    }

    /// Serves the session until the client ends it.
    fn serve(mut self, inner: &Mutex<Inner>) -> Option<()> {
        self.write("220-mail.test\r\n220 ready\r\n")?;
        loop {
            let line = self.read_line()?;
            if let Some(reply) = scripted(inner, &line) {
                self.write(&format!("{reply}\r\n"))?;
                continue;
            }

            let upper = line.to_ascii_uppercase();
            match upper.split([' ', ':']).next()? {
                "EHLO" => self.list_extensions()?,
                "STARTTLS" => {
                    self.write("220 go ahead\r\n")?;
                    self.encrypt()?;
                }
                "AUTH" => self.authenticate(&line)?,
                "MAIL" => {
                    (self.from, self.to) = (address(&line), Vec::new());
                    self.write("250 sender ok\r\n")?;
                }
                "RCPT" => self.add_recipient(&address(&line), inner)?,
                "DATA" => self.receive(inner)?,
                "QUIT" => return self.write("221 bye\r\n"),
                _ => self.write("500 unknown command\r\n")?,
            }
        }
    }

    fn list_extensions(&mut self) -> Option<()> {
        let mut reply = "250-mail.test\r\n".to_owned();
        if self.encryption == Encryption::StartTls && !self.encrypted {
            reply += "250-STARTTLS\r\n";
        } else {
            reply += "250-AUTH PLAIN\r\n";
        }
        self.write(&format!("{reply}250 SIZE 10000000\r\n"))
    }

    fn authenticate(&mut self, line: &str) -> Option<()> {
        let encoded = line.split(' ').nth(2).unwrap_or_default();
        let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        self.login = Some(decoded.trim_start_matches('\0').replace('\0', " "));
        self.write("235 2.7.0 accepted\r\n")
    }

    fn add_recipient(&mut self, recipient: &str, inner: &Mutex<Inner>) -> Option<()> {
        if inner.lock().unwrap().rejected.iter().any(|rejected| rejected == recipient) {
            return self.write("550-5.1.1 the recipient\r\n550 5.1.1 does not exist\r\n");
        }
        self.to.push(recipient.to_owned());
        self.write("250 recipient ok\r\n")
    }

    fn receive(&mut self, inner: &Mutex<Inner>) -> Option<()> {
        self.write("354 end with a dot\r\n")?;
        let mut data = String::new();
        loop {
            let line = self.read_line()?;
            if line == "." {
                break;
            }
            data += line.strip_prefix('.').unwrap_or(&line);
            data.push('\n');
        }

        if let Some(reply) = scripted(inner, "DATA.") {
            return self.write(&format!("{reply}\r\n"));
        }
        inner.lock().unwrap().mails.push(Mail {
            from: self.from.clone(),
            to: self.to.clone(),
            data,
            login: self.login.clone(),
            encrypted: self.encrypted,
        });
        self.write("250 2.0.0 queued\r\n")
    }

    fn write(&mut self, text: &str) -> Option<()> {
        self.stream.write_all(text.as_bytes()).ok()?;
        self.stream.flush().ok()
    }

    /// A line without its line break; `None` at the end of the connection.
    fn read_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).ok()
    }
}

impl Mail {
    /// The value of a header, unfolded.
    pub fn header(&self, name: &str) -> String {
        let (head, _) = self.data.split_once("\n\n").unwrap();
        let head = head.replace("\n ", " ");
        let prefix = format!("{name}: ");
        let line = head.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("no `{name}`: {head}")).to_owned()
    }

    /// The decoded content of the part with this type, such as `text/plain`.
    pub fn part(&self, content_type: &str) -> String {
        let at = self.data.find(&format!("Content-Type: {content_type}")).unwrap();
        let start = self.data[..at].rfind("\n--").unwrap();
        let boundary = self.data[start..].lines().nth(1).unwrap();
        let (head, rest) = self.data[start + 1..].split_once("\n\n").unwrap();
        let body = rest.split(&format!("\n{boundary}")).next().unwrap();

        if head.contains("base64") {
            let encoded: String = body.split_whitespace().collect();
            String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap().replace("\r\n", "\n")
        } else if head.contains("quoted-printable") {
            from_quoted_printable(body)
        } else {
            body.to_owned()
        }
    }
}

/// The scripted reply to a command, which is removed from the script.
fn scripted(inner: &Mutex<Inner>, command: &str) -> Option<String> {
    let script = &mut inner.lock().unwrap().script;
    let at = script.iter().position(|(prefix, _)| command.starts_with(prefix))?;
    script.remove(at).map(|(_, reply)| reply)
}

/// The address between `<` and `>`.
fn address(line: &str) -> String {
    let rest = line.split('<').nth(1).unwrap_or_default();
    rest.split('>').next().unwrap_or_default().to_owned()
}

fn from_quoted_printable(text: &str) -> String {
    let text = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut parts = text.split('=');
    bytes.extend_from_slice(parts.next().unwrap().as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}
