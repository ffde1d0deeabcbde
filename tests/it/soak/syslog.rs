//! The syslog receivers of the soak: lines over TCP, and RELP. They store how often each event ID
//! has arrived, and a test can close their sessions.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::receivers::{Arrivals, add_ids};

/// The records of a batch of a syslog sink, which an interruption may repeat.
const BATCH: usize = 2_000;
const REPLAY: usize = 1_000;
const RELP_WINDOW: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SyslogTransport {
    Lines,
    Relp,
}

pub struct SyslogReceiver {
    pub name: &'static str,
    transport: SyslogTransport,
    port: u16,
    shared: Arc<SessionLog>,
}

struct SessionLog {
    arrivals: Mutex<Arrivals>,
    last_message: Mutex<Instant>,
    open: Mutex<Vec<TcpStream>>,
    /// The number of sessions so far.
    sessions: AtomicUsize,
}

impl SyslogReceiver {
    /// A receiver for each transport.
    pub fn all() -> Vec<Arc<Self>> {
        let tcp = Self::new("syslog", SyslogTransport::Lines);
        vec![Arc::new(tcp), Arc::new(Self::new("relp", SyslogTransport::Relp))]
    }

    fn new(name: &'static str, transport: SyslogTransport) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(SessionLog {
            arrivals: Mutex::default(),
            last_message: Mutex::new(Instant::now()),
            open: Mutex::default(),
            sessions: AtomicUsize::new(0),
        });

        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut open = state.open.lock().unwrap();
                // The peer of an ended session has no address.
                open.retain(|session| session.peer_addr().is_ok());
                open.push(stream.try_clone().unwrap());
                drop(open);

                let state = Arc::clone(&state);
                std::thread::spawn(move || state.serve(&stream, transport));
            }
        });
        Self { name, transport, port, shared }
    }

    /// The keys of the sink.
    pub fn section(&self) -> String {
        let port = self.port;
        let keys = match self.transport {
            SyslogTransport::Lines => format!(
                "address = \"tcp://127.0.0.1:{port}\"\nframing = \"newline\"\n\
                 replay_on_reconnect = {REPLAY}"
            ),
            SyslogTransport::Relp => {
                format!("address = \"relp://127.0.0.1:{port}\"\nwindow = {RELP_WINDOW}")
            }
        };
        format!("type = \"syslog\"\nformat = \"json\"\nmax_message = \"64KiB\"\n{keys}")
    }

    /// The number of records that an interruption may repeat.
    pub fn repeats(&self) -> usize {
        match self.transport {
            SyslogTransport::Lines => 3 * BATCH + REPLAY,
            SyslogTransport::Relp => 2 * BATCH,
        }
    }

    /// Closes all sessions.
    pub fn close_sessions(&self) {
        for session in self.shared.open.lock().unwrap().drain(..) {
            let _ = session.shutdown(Shutdown::Both);
        }
    }

    /// Whether no message has arrived for a moment.
    pub fn is_idle(&self) -> bool {
        self.shared.last_message.lock().unwrap().elapsed() > Duration::from_millis(500)
    }

    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(SeqCst)
    }

    pub fn arrivals(&self) -> Arrivals {
        self.shared.arrivals.lock().unwrap().clone()
    }

    /// The number of distinct event IDs that have arrived.
    pub fn distinct(&self) -> usize {
        self.shared.arrivals.lock().unwrap().len()
    }
}

impl SessionLog {
    /// Stores the complete messages of a session until it ends.
    fn serve(&self, stream: &TcpStream, transport: SyslogTransport) {
        self.sessions.fetch_add(1, SeqCst);
        // An error means that the session has ended.
        let _ = match transport {
            SyslogTransport::Lines => self.read_lines(stream),
            SyslogTransport::Relp => self.read_frames(stream),
        };
        // The other handle of the socket would keep the connection open.
        let _ = stream.shutdown(Shutdown::Both);
    }

    fn add(&self, message: &[u8]) {
        *self.last_message.lock().unwrap() = Instant::now();
        add_ids(&String::from_utf8_lossy(message), &mut self.arrivals.lock().unwrap());
    }

    fn read_lines(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.ends_with(b"\n") {
                self.add(&line);
            }
            line.clear();
        }
        Ok(())
    }

    /// Reads frames of RELP, and acknowledges each of them.
    fn read_frames(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let (number, command) = (read_word(&mut reader)?, read_word(&mut reader)?);
            let length = read_word(&mut reader)?.parse::<usize>().map_err(io::Error::other)?;
            let mut data = vec![0; length];
            reader.read_exact(&mut data)?;
            if length > 0 {
                // The end of the frame.
                reader.read_exact(&mut [0])?;
            }

            if command == "syslog" {
                self.add(&data);
            }
            stream.write_all(format!("{number} rsp 6 200 OK\n").as_bytes())?;
        }
    }
}

/// Reads a word and the space or the line feed after it.
fn read_word(reader: &mut impl Read) -> io::Result<String> {
    let mut word = String::new();
    loop {
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        if matches!(byte[0], b' ' | b'\n') {
            return Ok(word);
        }
        word.push(char::from(byte[0]));
    }
}
