//! A line between the forwarder and a receiver, on which things go wrong as they are told to. It
//! knows no protocol.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use super::free_port;

pub struct Line {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    target: u16,
    /// Nobody listens.
    down: AtomicBool,
    /// A pause before every few bytes.
    slow: AtomicBool,
    /// What the receiver answers never comes; the connection ends instead.
    mute: AtomicBool,
    /// After so many bytes to the receiver a connection ends: one for each connection to come.
    cuts: Mutex<VecDeque<usize>>,
    /// Bytes to the receiver, and from it.
    sent: AtomicUsize,
    answered: AtomicUsize,
    /// Connections that ended for want of an answer.
    muted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Line {
    /// A line to a port of this host.
    pub fn to(target: u16) -> Self {
        let state = Arc::new(State { target, ..State::default() });
        let line = Self { port: free_port(), state };
        line.up();
        line
    }

    pub fn down(&self) {
        self.state.down.store(true, SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        super::eventually("nobody listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_err()
        });
    }

    pub fn up(&self) {
        self.state.down.store(false, SeqCst);
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            while !state.down.load(SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => state.serve(stream),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
    }

    pub fn slow(&self, slow: bool) {
        self.state.slow.store(slow, SeqCst);
    }

    pub fn mute(&self, mute: bool) {
        self.state.mute.store(mute, SeqCst);
    }

    pub fn muted(&self) -> usize {
        self.state.muted.load(SeqCst)
    }

    pub fn cut(&self, after: &[usize]) {
        self.state.cuts.lock().unwrap().extend(after);
    }

    /// As it was at first.
    pub fn repair(&self) {
        self.mute(false);
        self.slow(false);
        self.state.cuts.lock().unwrap().clear();
        if self.state.down.load(SeqCst) {
            self.up();
        }
    }

    /// Bytes so far, in both directions.
    pub fn bytes(&self) -> usize {
        self.state.sent.load(SeqCst) + self.state.answered.load(SeqCst)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.state.down.store(true, SeqCst);
    }
}

impl State {
    fn serve(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)) else { return };
        client.set_nonblocking(false).unwrap();
        self.open
            .lock()
            .unwrap()
            .extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        let cut = self.cuts.lock().unwrap().pop_front().unwrap_or(usize::MAX);
        let (to, from) =
            ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
        let state = Arc::clone(self);
        std::thread::spawn(move || state.pass(to.0, to.1, cut, true));
        let state = Arc::clone(self);
        std::thread::spawn(move || state.pass(from.0, from.1, usize::MAX, false));
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, mut left: usize, up: bool) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let n = from.read(&mut buffer).unwrap_or(0);
            if n == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            if self.slow.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(3));
            }
            if !up && self.mute.load(SeqCst) {
                self.muted.fetch_add(1, SeqCst);
                break;
            }
            let passed = to.write_all(&buffer[..n.min(left)]);
            (if up { &self.sent } else { &self.answered }).fetch_add(n.min(left), SeqCst);
            left -= n.min(left);
            if passed.is_err() || left == 0 {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
