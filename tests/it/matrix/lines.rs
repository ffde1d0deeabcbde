//! A receiver of lines over TCP or TLS, which stores the event IDs of complete lines. A test can
//! close its sessions, and replace its certificate.

use std::{
    io::{BufRead, BufReader, Read},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

pub struct Lines {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The event IDs of the complete lines.
    arrived: Mutex<Vec<String>>,
    /// The certificates of the server; `None` without TLS.
    tls: Mutex<Option<Arc<ServerConfig>>>,
    /// The sessions from which something was read.
    sessions: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Lines {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Self { port, state }
    }

    /// A receiver with the certificate `server.pem` in a directory, which requires one that
    /// `ca.pem` has issued.
    pub fn with_tls(pki: &Path) -> Self {
        let lines = Self::new();
        lines.set_certificates(pki);
        lines
    }

    /// Uses the certificates in a directory for new sessions.
    pub fn set_certificates(&self, pki: &Path) {
        secure_score_forwarder::net::install_crypto_provider();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("ca.pem")).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let certificate = CertificateDer::from_pem_file(pki.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(pki.join("server.key")).unwrap();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        *self.state.tls.lock().unwrap() = Some(Arc::new(config));
    }

    /// Closes all sessions.
    pub fn close_sessions(&self) {
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The number of sessions from which something was read.
    pub fn sessions(&self) -> usize {
        self.state.sessions.load(SeqCst)
    }

    /// The event IDs of the lines that have arrived, in order.
    pub fn arrived(&self) -> Vec<String> {
        self.state.arrived.lock().unwrap().clone()
    }
}

impl State {
    fn serve(&self, stream: TcpStream) {
        let ended = stream.try_clone().unwrap();
        self.open.lock().unwrap().push(stream.try_clone().unwrap());
        let tls = self.tls.lock().unwrap().clone();
        match tls {
            None => self.read(stream),
            Some(config) => {
                let connection = ServerConnection::new(config).unwrap();
                self.read(StreamOwned::new(connection, stream));
            }
        }
        // The connection exists until all lines are stored, although `open` has its descriptor.
        let _ = ended.shutdown(Shutdown::Both);
    }

    /// Reads lines until the session ends.
    fn read(&self, stream: impl Read) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        let mut is_first = true;
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if std::mem::take(&mut is_first) {
                self.sessions.fetch_add(1, SeqCst);
            }
            if let Some(id) = event_id(&line) {
                self.arrived.lock().unwrap().push(id);
            }
            line.clear();
        }
    }
}

/// The event ID of a complete line.
fn event_id(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\n")?).into_owned();
    let (_, id) = text.split_once("\"event_id\":\"")?;
    Some(id.get(..40)?.to_owned())
}
