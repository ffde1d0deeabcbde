//! A TCP proxy between the forwarder and a receiver, which injects faults on request. It forwards
//! bytes and does not depend on their protocol.

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

use super::{
    free_port,
    hostile::{Attack, attack_connection},
};

pub struct FaultyProxy {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    target: u16,
    /// Whether the port and all connections are closed.
    down: AtomicBool,
    /// Whether every chunk of bytes is delayed.
    slow: AtomicBool,
    /// Whether a connection is closed when the receiver responds, and the response is dropped.
    mute: AtomicBool,
    /// For each of the next connections: the number of bytes to the receiver after which it is
    /// closed.
    cuts: Mutex<VecDeque<usize>>,
    /// Bytes forwarded to the receiver, and from it.
    sent: AtomicUsize,
    received: AtomicUsize,
    /// Connections that were closed because a response was dropped.
    muted: AtomicUsize,
    /// The attack on each connection, which replaces the receiver.
    attack: Mutex<Option<Attack>>,
    /// Attacks that have ended.
    attacks: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToReceiver,
    FromReceiver,
}

impl FaultyProxy {
    /// A proxy to a port of this host.
    pub fn to(target: u16) -> Self {
        let state = Arc::new(State { target, ..State::default() });
        let proxy = Self { port: free_port(), state };
        proxy.up();
        proxy
    }

    /// Closes the port and all connections.
    pub fn down(&self) {
        self.state.down.store(true, SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }

        super::eventually("the port is closed", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_err()
        });
    }

    /// Opens the port again.
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

    /// Sets whether every chunk of bytes is delayed.
    pub fn slow(&self, slow: bool) {
        self.state.slow.store(slow, SeqCst);
    }

    /// Sets whether responses of the receiver are dropped.
    pub fn mute(&self, mute: bool) {
        self.state.mute.store(mute, SeqCst);
    }

    /// The number of connections that were closed because a response was dropped.
    pub fn muted(&self) -> usize {
        self.state.muted.load(SeqCst)
    }

    /// Sets the attack on each connection, which replaces the receiver.
    pub fn attack(&self, attack: Option<Attack>) {
        *self.state.attack.lock().unwrap() = attack;
    }

    /// The number of attacks that have ended.
    pub fn attacks(&self) -> usize {
        self.state.attacks.load(SeqCst)
    }

    /// Closes each of the next connections after this many bytes to the receiver.
    pub fn cut(&self, after: &[usize]) {
        self.state.cuts.lock().unwrap().extend(after);
    }

    /// Removes all faults.
    pub fn reset(&self) {
        self.mute(false);
        self.slow(false);
        self.attack(None);
        self.state.cuts.lock().unwrap().clear();
        if self.state.down.load(SeqCst) {
            self.up();
        }
    }

    /// Bytes forwarded so far, in both directions.
    pub fn bytes(&self) -> usize {
        self.state.sent.load(SeqCst) + self.state.received.load(SeqCst)
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.state.down.store(true, SeqCst);
    }
}

impl State {
    fn serve(self: &Arc<Self>, client: TcpStream) {
        let attack = *self.attack.lock().unwrap();
        if let Some(attack) = attack {
            client.set_nonblocking(false).unwrap();
            let state = Arc::clone(self);
            std::thread::spawn(move || {
                attack_connection(client, attack);
                state.attacks.fetch_add(1, SeqCst);
            });
            return;
        }

        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)) else { return };
        client.set_nonblocking(false).unwrap();
        let mut open = self.open.lock().unwrap();
        // The peer of an ended connection has no address.
        open.retain(|stream| stream.peer_addr().is_ok());
        open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        drop(open);

        let cut = self.cuts.lock().unwrap().pop_front().unwrap_or(usize::MAX);
        let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let state = Arc::clone(self);
        std::thread::spawn(move || state.copy(from, to, cut, Direction::ToReceiver));
        let state = Arc::clone(self);
        std::thread::spawn(move || state.copy(server, client, usize::MAX, Direction::FromReceiver));
    }

    /// Copies bytes in one direction until the stream ends, `left` bytes have been copied, or a
    /// response is dropped.
    fn copy(&self, mut from: TcpStream, mut to: TcpStream, mut left: usize, direction: Direction) {
        let count = match direction {
            Direction::ToReceiver => &self.sent,
            Direction::FromReceiver => &self.received,
        };

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
            if direction == Direction::FromReceiver && self.mute.load(SeqCst) {
                self.muted.fetch_add(1, SeqCst);
                break;
            }

            let written = to.write_all(&buffer[..n.min(left)]);
            count.fetch_add(n.min(left), SeqCst);
            left -= n.min(left);
            if written.is_err() || left == 0 {
                break;
            }
        }

        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
