//! Hostile servers, which attack every connection of the program, and the floods that fit each
//! protocol.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A connection of the program, in clear text or over TLS.
pub trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// What a hostile server does with a connection. It fails when the program closes the connection.
pub type Attack = fn(&mut dyn Connection) -> io::Result<()>;

/// The bytes of a flood, unless the program closes the connection: more than the memory that the
/// program may use.
pub const FLOOD_BYTES: usize = 384 << 20;

/// The time after which an attack ends if the program neither reads nor writes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that attacks each of its connections.
pub struct HostileServer {
    pub port: u16,
    attacks: Arc<AtomicUsize>,
}

impl HostileServer {
    pub fn new<A>(attack: A) -> Self
    where
        A: Fn(&mut dyn Connection) -> io::Result<()> + Send + Sync + 'static,
    {
        Self::start(move |mut stream| attack(&mut stream))
    }

    /// A server with the certificate `server.pem` and its key in a directory, which offers these
    /// protocols (ALPN).
    pub fn over_tls<A>(pki: &Path, protocols: &[&str], attack: A) -> Self
    where
        A: Fn(&mut dyn Connection) -> io::Result<()> + Send + Sync + 'static,
    {
        secure_score_forwarder::net::install_crypto_provider();
        let chain = CertificateDer::pem_file_iter(pki.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(pki.join("server.key")).unwrap();
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();

        let config = Arc::new(config);
        Self::start(move |stream| {
            let tls = rustls::ServerConnection::new(Arc::clone(&config));
            let tls = tls.map_err(io::Error::other)?;
            attack(&mut rustls::StreamOwned::new(tls, stream))
        })
    }

    fn start(attack: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (attack, attacks) = (Arc::new(attack), Arc::<AtomicUsize>::default());

        let ended = Arc::clone(&attacks);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (attack, ended) = (Arc::clone(&attack), Arc::clone(&ended));
                std::thread::spawn(move || {
                    set_timeouts(&stream);
                    // An error means that the program has closed the connection.
                    let _ = attack(stream);
                    ended.fetch_add(1, SeqCst);
                });
            }
        });
        Self { port, attacks }
    }

    /// The number of attacks that have ended.
    pub fn attacks(&self) -> usize {
        self.attacks.load(SeqCst)
    }
}

/// Attacks one connection, until the program closes it.
pub fn attack_connection(mut stream: TcpStream, attack: Attack) {
    set_timeouts(&stream);
    let _ = attack(&mut stream);
}

fn set_timeouts(stream: &TcpStream) {
    stream.set_read_timeout(Some(IDLE_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(IDLE_TIMEOUT)).unwrap();
}

/// Sends copies of a text, about this many bytes.
pub fn flood(connection: &mut dyn Connection, text: &[u8], bytes: usize) -> io::Result<()> {
    let copies = text.repeat((64 << 10) / text.len() + 1);
    for _ in 0..bytes.div_ceil(copies.len()) {
        connection.write_all(&copies)?;
    }
    connection.flush()
}

/// Reads until the received bytes end in this text.
pub fn read_until(connection: &mut dyn Connection, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        let mut byte = [0];
        connection.read_exact(&mut byte)?;
        received.push(byte[0]);
    }
    Ok(received)
}

/// Floods in any protocol.
pub const RAW_FLOODS: &[Attack] = &[endless_bytes];

fn endless_bytes(connection: &mut dyn Connection) -> io::Result<()> {
    flood(connection, b"x", FLOOD_BYTES)
}

/// Floods of HTTP/1.1. No status is an acknowledgement.
pub const HTTP_FLOODS: &[Attack] = &[endless_headers, endless_body, announced_body];

fn endless_headers(connection: &mut dyn Connection) -> io::Result<()> {
    respond(connection, "")?;
    flood(connection, format!("x-flood: {}\r\n", "x".repeat(4_000)).as_bytes(), FLOOD_BYTES)
}

fn endless_body(connection: &mut dyn Connection) -> io::Result<()> {
    respond(connection, "\r\n")?;
    flood(connection, b"x", FLOOD_BYTES)
}

/// A client that allocates the announced length ends at once.
fn announced_body(connection: &mut dyn Connection) -> io::Result<()> {
    respond(connection, "content-length: 9000000000000000000\r\n\r\n")?;
    flood(connection, b"x", FLOOD_BYTES)
}

/// Reads the head of a request, and begins the response.
fn respond(connection: &mut dyn Connection, headers: &str) -> io::Result<()> {
    read_until(connection, b"\r\n\r\n")?;
    connection.write_all(format!("HTTP/1.1 503 Service Unavailable\r\n{headers}").as_bytes())
}

/// Floods of RELP. None of the replies is an acknowledgement.
pub const RELP_FLOODS: &[Attack] = &[endless_bytes, endless_reply, unknown_transactions];

/// One reply without an end, while the program sends messages.
pub fn endless_reply(connection: &mut dyn Connection) -> io::Result<()> {
    open_relp(connection)?;
    connection.write_all(b"2 rsp 16000 200 ")?;
    flood(connection, b"x", FLOOD_BYTES)
}

fn unknown_transactions(connection: &mut dyn Connection) -> io::Result<()> {
    open_relp(connection)?;
    flood(connection, b"999999 rsp 6 200 OK\n", FLOOD_BYTES)
}

fn open_relp(connection: &mut dyn Connection) -> io::Result<()> {
    read_until(connection, b"commands=syslog\n")?;
    connection.write_all(b"1 rsp 6 200 OK\n")
}

/// Floods of SMTP.
#[cfg(feature = "email")]
pub const SMTP_FLOODS: &[Attack] = &[endless_greeting, endless_extensions];

#[cfg(feature = "email")]
fn endless_greeting(connection: &mut dyn Connection) -> io::Result<()> {
    flood(connection, b"220-welcome\r\n", FLOOD_BYTES)
}

#[cfg(feature = "email")]
fn endless_extensions(connection: &mut dyn Connection) -> io::Result<()> {
    connection.write_all(b"220 welcome\r\n")?;
    read_until(connection, b"\r\n")?;
    flood(connection, b"250-X-EXTENSION\r\n", FLOOD_BYTES)
}

/// Floods of Kafka.
pub const KAFKA_FLOODS: &[Attack] = &[endless_bytes, large_response, largest_response];

/// A response just below the default limit of librdkafka.
fn large_response(connection: &mut dyn Connection) -> io::Result<()> {
    response_of(connection, 99_000_000)
}

fn largest_response(connection: &mut dyn Connection) -> io::Result<()> {
    response_of(connection, i32::MAX)
}

fn response_of(connection: &mut dyn Connection, bytes: i32) -> io::Result<()> {
    connection.write_all(&bytes.to_be_bytes())?;
    flood(connection, b"\0", FLOOD_BYTES)
}
