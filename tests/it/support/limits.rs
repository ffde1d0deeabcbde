//! The limits that a daemon keeps while it is attacked: its memory, and the time of a health check.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Process, Run, Workspace, eventually, free_port};

/// The memory that the process may use at most, in KiB.
pub const MAX_MEMORY_KIB: u64 = 256 << 10;
/// The longest time until the health endpoint answers.
pub const MAX_HEALTH_TIME: Duration = Duration::from_secs(1);

/// A daemon whose health is checked repeatedly.
pub struct ObservedDaemon {
    process: Process,
    is_stopped: Arc<AtomicBool>,
    /// Returns the longest time until the health endpoint has answered.
    health: JoinHandle<Duration>,
}

impl ObservedDaemon {
    /// Starts a daemon, and waits until its health endpoint can be reached.
    pub fn start(workspace: &mut Workspace) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let head = workspace.head.clone();
        workspace.head = format!("\n[admin]\nlisten = \"{address}\"\n\n{head}");
        let process = workspace.spawn(&["run"]);
        workspace.head = head;
        eventually("the health endpoint is reached", || TcpStream::connect(address).is_ok());

        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let health = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(SeqCst) {
                longest = longest.max(health_time(address));
                std::thread::sleep(Duration::from_millis(10));
            }
            longest
        });
        Self { process, is_stopped, health }
    }

    pub fn assert_running(&mut self) {
        assert!(self.process.is_running(), "the daemon has ended");
    }

    /// Asserts that the daemon is running and has kept the limits, and kills it.
    pub fn end(mut self) -> Run {
        self.assert_running();
        self.is_stopped.store(true, SeqCst);
        let longest = self.health.join().unwrap();
        assert!(longest < MAX_HEALTH_TIME, "the health endpoint took {longest:?}");

        let peak = peak_memory_kib(self.process.id());
        assert!(peak < MAX_MEMORY_KIB, "the daemon has used {peak} KiB");
        self.process.kill()
    }
}

/// How long a health check takes.
fn health_time(address: SocketAddr) -> Duration {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();

    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = String::from_utf8_lossy(&response);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    start.elapsed()
}

/// The largest resident memory of a process so far.
pub fn peak_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
