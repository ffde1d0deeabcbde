//! The daemon of the soak, which is started again when it has ended. Its memory is sampled over the
//! life of each process.

use std::{
    fs::OpenOptions,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::{Process, Workspace};

/// The time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// The number of samples from which growth is judged: five minutes.
const MIN_SAMPLES: usize = 30;
/// The growth that is permitted in addition to 30 percent, in KiB.
const TOLERANCE_KIB: u64 = 8 << 10;
/// A process that has just started has not installed its signal handlers.
const START_TIME: Duration = Duration::from_secs(10);
/// Twice the time within which the program ends.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The resident memory of a process over its life, in KiB.
struct MemorySamples {
    pid: u32,
    samples: Vec<u64>,
}

impl MemorySamples {
    /// The largest sample of each third of the life.
    fn maxima(&self) -> [u64; 3] {
        let third = self.samples.len() / 3;
        let max = |from: usize, to: usize| self.samples[from..to].iter().copied().max();
        [max(0, third), max(third, 2 * third), max(2 * third, self.samples.len())]
            .map(Option::unwrap_or_default)
    }

    /// Whether the process lived long enough, and its last third exceeds its second one.
    fn has_grown(&self) -> bool {
        let [_, second, last] = self.maxima();
        self.samples.len() >= MIN_SAMPLES && last > second * 13 / 10 + TOLERANCE_KIB
    }
}

pub struct SupervisedDaemon {
    process: Option<Process>,
    /// The file to which all processes write their messages.
    log: PathBuf,
    started: Instant,
    last_sample: Instant,
    /// The samples of all processes, the running one last.
    memory: Vec<MemorySamples>,
    /// How often a process was killed or stopped, or has ended by itself.
    pub stops: usize,
    /// The exit codes of the processes that have ended by themselves.
    pub exits: Vec<i32>,
    pub reloads: usize,
}

impl SupervisedDaemon {
    pub fn start(workspace: &Workspace) -> Self {
        let now = Instant::now();
        let mut daemon = Self {
            process: None,
            log: workspace.path("log"),
            started: now,
            last_sample: now,
            memory: Vec::new(),
            stops: 0,
            exits: Vec::new(),
            reloads: 0,
        };
        daemon.start_process(workspace);
        daemon
    }

    fn start_process(&mut self, workspace: &Workspace) {
        let mut command = workspace.command(&["run"]);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let process = Process::of(command);
        self.memory.push(MemorySamples { pid: process.id(), samples: Vec::new() });
        self.process = Some(process);
        self.started = Instant::now();
    }

    pub fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Starts a process that has ended by itself again, and samples the memory.
    pub fn supervise(&mut self, workspace: &Workspace) {
        if !self.process.as_mut().unwrap().is_running() {
            // A fault of the storage at the start ends a process at once.
            if self.started.elapsed() > Duration::from_secs(1) {
                self.exits.push(self.process.take().unwrap().end().code);
                self.stops += 1;
                self.start_process(workspace);
            }
        } else if self.last_sample.elapsed() >= SAMPLE_INTERVAL {
            self.last_sample = Instant::now();
            let sample = resident_kib(self.id());
            self.memory.last_mut().unwrap().samples.extend(sample);
        }
    }

    pub fn kill_and_restart(&mut self, workspace: &Workspace) {
        self.process.take().unwrap().kill();
        self.stops += 1;
        self.start_process(workspace);
    }

    pub fn stop_and_restart(&mut self, workspace: &Workspace) {
        self.stop();
        self.start_process(workspace);
    }

    /// Stops the process, and waits until it has ended.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        if process.is_running() {
            process.signal("TERM");
        }

        let begin = Instant::now();
        while process.is_running() {
            assert!(begin.elapsed() < STOP_LIMIT, "the daemon does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
        process.end();
        self.stops += 1;
    }

    pub fn reload(&mut self) {
        if self.started.elapsed() > START_TIME {
            self.process.as_ref().unwrap().signal("HUP");
            self.reloads += 1;
        }
    }

    /// The last sample of the running process, in KiB.
    pub fn last_sample_kib(&self) -> u64 {
        self.memory.last().and_then(|memory| memory.samples.last()).copied().unwrap_or(0)
    }

    /// One line for each process that lived long enough to judge its memory.
    pub fn memory_report(&self) -> String {
        let long = self.memory.iter().filter(|memory| memory.samples.len() >= MIN_SAMPLES);
        let lines = long.map(|memory| {
            let [first, second, last] = memory.maxima();
            let count = memory.samples.len();
            format!(
                "process {}: {count} samples, maxima {first}, {second}, {last} KiB\n",
                memory.pid
            )
        });
        lines.collect()
    }

    /// Asserts that no process has grown, crashed or reported damage.
    pub fn assert_sound(&self) {
        let grown = self.memory.iter().any(MemorySamples::has_grown);
        assert!(!grown, "the memory has grown:\n{}", self.memory_report());
        let expected = self.exits.iter().all(|code| [1, 3].contains(code));
        assert!(expected, "exit codes: {:?}", self.exits);

        let log = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned();
        for text in ["panicked", "internal error", "damaged"] {
            let line = log.lines().find(|line| line.contains(text));
            assert!(line.is_none(), "{line:?}");
        }
    }
}

/// The resident memory of a process, in KiB; `None` if it has ended.
fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
