//! The faults of the soak. Each begins at a random moment, and is ended after a few seconds.
//! Only one fault of an area is active at a time, but several areas can have faults.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use super::{
    graph::{GraphFault, GraphState},
    receivers::{RequestRefusal, WebReceiver},
    syslog::SyslogReceiver,
};
use crate::support::{
    Process, eventually,
    false_replies::{FOREIGN_REPLIES, INCOMPLETE_REPLIES},
};

/// What a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultArea {
    /// The HTTP receiver with this index.
    Web(usize),
    /// The syslog receiver with this index.
    Syslog(usize),
    Graph,
    Storage,
}

/// A fault that has begun. Its end is an action.
struct ActiveFault {
    area: FaultArea,
    ends: Instant,
    end: Box<dyn FnOnce()>,
}

/// What the faults act on.
pub struct FaultTargets {
    pub web: Vec<Arc<WebReceiver>>,
    pub syslog: Vec<Arc<SyslogReceiver>>,
    pub graph: Arc<GraphState>,
    /// The state directory, which is on a small, separate file system.
    pub state: PathBuf,
    /// The names of the tenants.
    pub tenants: Vec<&'static str>,
}

/// The active faults, and how many have begun.
pub struct FaultMix {
    pub targets: FaultTargets,
    pub random: fastrand::Rng,
    active: Vec<ActiveFault>,
    pub begun: usize,
    /// The faults of the storage so far, each of which can fail several cursor updates.
    pub storage_faults: usize,
}

impl FaultMix {
    pub fn new(targets: FaultTargets, seed: u64) -> Self {
        Self {
            targets,
            random: fastrand::Rng::with_seed(seed),
            active: Vec::new(),
            begun: 0,
            storage_faults: 0,
        }
    }

    /// Ends the faults whose time is over.
    pub fn end_due(&mut self) {
        let now = Instant::now();
        let (due, active) = self.active.drain(..).partition(|fault| fault.ends <= now);
        self.active = active;
        end(due);
    }

    pub fn end_all(&mut self) {
        end(self.active.drain(..).collect());
    }

    /// Begins a random fault, unless its area has one already. `pid` is the ID of the daemon.
    pub fn begin(&mut self, pid: u32) {
        let area = match self.random.usize(..10) {
            number @ 0..5 => FaultArea::Web(number % self.targets.web.len()),
            5 => FaultArea::Syslog(self.random.usize(..self.targets.syslog.len())),
            6..8 => FaultArea::Graph,
            _ => FaultArea::Storage,
        };
        if self.active.iter().any(|fault| fault.area == area) {
            return;
        }

        let mut seconds = self.random.u64(2..9);
        let end = match area {
            FaultArea::Web(number) => self.begin_web(number),
            FaultArea::Syslog(number) => self.close_sessions(number),
            FaultArea::Graph => self.begin_graph(),
            FaultArea::Storage => {
                let (end, duration) = self.begin_storage(pid, seconds);
                seconds = duration;
                end
            }
        };
        if let Some(end) = end {
            self.begun += 1;
            let ends = Instant::now() + Duration::from_secs(seconds);
            self.active.push(ActiveFault { area, ends, end });
        }
    }

    fn begin_web(&mut self, number: usize) -> Option<Box<dyn FnOnce()>> {
        let receiver = Arc::clone(&self.targets.web[number]);
        match self.random.usize(..8) {
            0 => receiver.set_refusal(Some(RequestRefusal::Every(503))),
            1 => receiver.set_refusal(Some(RequestRefusal::Every(429))),
            2 => receiver.set_refusal(Some(RequestRefusal::EveryThird)),
            3 => {
                let tenant = self.random.choice(&self.targets.tenants)?;
                receiver.refuse_index(Some(format!("posture-{tenant}")));
            }
            4 => receiver.proxy.mute(true),
            5 => {
                receiver.interruptions.fetch_add(1, SeqCst);
                receiver.proxy.cut(&[self.random.usize(1..4_000)]);
                receiver.close_connections();
            }
            6 => receiver.close_connections(),
            _ => {
                // A webhook acknowledges with any success.
                let accepts_any = receiver.name == "webhook";
                let replies = if accepts_any { INCOMPLETE_REPLIES } else { FOREIGN_REPLIES };
                receiver.proxy.attack(self.random.choice(replies).copied());
                receiver.close_connections();
            }
        }

        Some(Box::new(move || {
            receiver.set_refusal(None);
            receiver.refuse_index(None);
            receiver.proxy.reset();
        }))
    }

    /// Closes the sessions of a syslog receiver: at any time, or while they are idle.
    fn close_sessions(&mut self, number: usize) -> Option<Box<dyn FnOnce()>> {
        let receiver = &self.targets.syslog[number];
        let is_abrupt = self.random.bool();
        if !is_abrupt && !receiver.is_idle() {
            return None;
        }
        receiver.close_sessions();
        Some(Box::new(|| {}))
    }

    fn begin_graph(&mut self) -> Option<Box<dyn FnOnce()>> {
        let graph = Arc::clone(&self.targets.graph);
        graph.set_fault(self.random.choice(GraphFault::ALL));
        Some(Box::new(move || graph.set_fault(None)))
    }

    /// The end of the fault, if it has begun, and how long it lasts, in seconds.
    fn begin_storage(&mut self, pid: u32, seconds: u64) -> (Option<Box<dyn FnOnce()>>, u64) {
        let (end, seconds) = match self.random.usize(..3) {
            0 => (Some(fill_disk(&self.targets.state)), seconds),
            1 => (lock_database(&self.targets.state), 10),
            _ => (Some(fail_synchronizations(pid)), 5),
        };
        self.storage_faults += usize::from(end.is_some());
        (end, seconds)
    }
}

fn end(faults: Vec<ActiveFault>) {
    for fault in faults {
        (fault.end)();
    }
}

/// Writes a file until the file system of the state directory is full.
fn fill_disk(state: &Path) -> Box<dyn FnOnce()> {
    let path = state.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 20, 4 << 10] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
    Box::new(move || std::fs::remove_file(path).unwrap())
}

/// Holds the lock of the database, unless the daemon holds it for too long.
fn lock_database(state: &Path) -> Option<Box<dyn FnOnce()>> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let path = state.join("checkpoint.db");
    let connection = rusqlite::Connection::open_with_flags(path, flags).ok()?;
    connection.execute_batch("BEGIN IMMEDIATE").ok()?;
    Some(Box::new(move || {
        let _ = connection.execute_batch("ROLLBACK");
    }))
}

/// Makes the synchronizations of a process fail. strace ends when the process ends.
fn fail_synchronizations(pid: u32) -> Box<dyn FnOnce()> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()]);
    command.args(["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut strace = Process::of(command);
    Box::new(move || {
        // On this signal, strace detaches from the process.
        strace.signal("TERM");
        eventually("strace has ended", || !strace.is_running());
    })
}
