//! A daemon with many tenants runs for a while with faults of every kind: of the receivers, of
//! Graph, of the storage and of the process. `SOAK_MINUTES` sets the time, `SOAK_SEED` the seed of
//! the faults, and `SOAK_LOG` a file to which the progress is appended.

mod faults;
mod graph;
mod process;
mod receivers;
mod syslog;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use faults::{FaultMix, FaultTargets};
use graph::{DAYS, SoakGraph};
use process::SupervisedDaemon;
use receivers::{Arrivals, WebReceiver, add_ids};
use syslog::SyslogReceiver;

use crate::support::{Process, Workspace, eventually, hec::TOKEN};

const TENANTS: usize = 20;
const TICK: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// A poll is abandoned after this time.
const POLL_LIMIT: Duration = Duration::from_mins(2);
/// Sinks and targets that are parked are tried again after five minutes, and other failures after
/// five minutes at most.
const RECOVERY: Duration = Duration::from_mins(15);
/// Processes end only in the first minutes of each cycle, so that the memory of the others can be
/// judged.
const CYCLE_MINUTES: u64 = 12;
const MINUTES_WITH_STOPS: u64 = 2;
/// Up to this duration, the daemon is started again at the end, which shortens the recovery.
const SHORT: Duration = Duration::from_mins(10);

/// How often a sink can send a batch again during a fault of the storage: the time until the next
/// attempt doubles from one second, and no fault lasts longer than ten seconds.
const ATTEMPTS_PER_STORAGE_FAULT: usize = 4;

/// The keys of every sink.
const COMMON: &str = "start_from = \"2020-01-01\"\nhistorical_changes = true";

/// A file system in memory, for the state directory only.
struct SmallFileSystem(PathBuf);

impl SmallFileSystem {
    fn mount(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=512m,mode=0700", "tmpfs"]).arg(&path);
        assert!(command.status().unwrap().success(), "mount {}", path.display());
        Self(path)
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The fields are dropped in this order: the processes before the file system that they use, and
/// that before its directory.
struct Soak {
    daemon: SupervisedDaemon,
    /// The running `poll` command, and when it was started.
    poll: Option<(Process, Instant)>,
    faults: FaultMix,
    graph: SoakGraph,
    file: PathBuf,
    seed: u64,
    _file_system: SmallFileSystem,
    workspace: Workspace,
}

impl Soak {
    fn start(seed: u64) -> Self {
        let graph = SoakGraph::new();
        let mut workspace = Workspace::against(&graph.url);
        workspace.extra = format!("initial_backfill_days = {DAYS}");
        workspace.tenants.clear();
        for number in 0..TENANTS {
            let name: &'static str = format!("tenant-{number}").leak();
            let id: &'static str = format!("aaaaaaaa-0000-4000-8000-{number:012x}").leak();
            workspace.tenants.push((name, id));
        }

        let (web, syslog) = (WebReceiver::all(), SyslogReceiver::all());
        let file = add_sinks(&mut workspace, &web, &syslog);
        let file_system = SmallFileSystem::mount(workspace.state());
        let targets = FaultTargets {
            web,
            syslog,
            graph: Arc::clone(&graph.state),
            state: workspace.state(),
            tenants: workspace.tenants.iter().map(|(name, _)| *name).collect(),
        };
        let faults = FaultMix::new(targets, seed);
        let daemon = SupervisedDaemon::start(&workspace);
        let poll = None;
        Self { daemon, poll, faults, graph, file, seed, _file_system: file_system, workspace }
    }

    /// Causes faults and polls for this time.
    fn run(&mut self, duration: Duration) {
        let begin = Instant::now();
        let (mut next_poll, mut minutes) = (Duration::ZERO, 0);
        while begin.elapsed() < duration {
            let elapsed = begin.elapsed();
            self.daemon.supervise(&self.workspace);
            self.faults.end_due();
            if self.faults.random.u8(..5) == 0 {
                self.faults.begin(self.daemon.id());
            }
            self.disturb_process(elapsed.as_secs() / 60);

            if elapsed >= next_poll && !self.is_polling() {
                next_poll = elapsed + POLL_INTERVAL;
                self.graph.state.next_version();
                self.start_poll();
            }
            if elapsed.as_secs() / 60 > minutes {
                minutes = elapsed.as_secs() / 60;
                self.report_progress(minutes);
            }
            std::thread::sleep(TICK);
        }
    }

    /// Kills, stops or reloads the daemon at random.
    fn disturb_process(&mut self, minute: u64) {
        let permits_stops = minute % CYCLE_MINUTES < MINUTES_WITH_STOPS;
        match self.faults.random.u8(..120) {
            0 => self.daemon.reload(),
            1 | 2 if permits_stops => self.daemon.kill_and_restart(&self.workspace),
            3 if permits_stops => self.daemon.stop_and_restart(&self.workspace),
            _ => {}
        }
    }

    /// Whether the last `poll` command is still running.
    fn is_polling(&mut self) -> bool {
        self.poll.as_mut().is_some_and(|(process, started)| {
            process.is_running() && started.elapsed() < POLL_LIMIT
        })
    }

    /// Starts to poll all tenants. A previous command is killed.
    fn start_poll(&mut self) {
        let mut command = self.workspace.command(&["poll"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.poll = Some((Process::of(command), Instant::now()));
    }

    fn report_progress(&self, minutes: u64) {
        let targets = &self.faults.targets;
        let web = targets.web.iter().map(|receiver| (receiver.name, receiver.distinct()));
        let syslog = targets.syslog.iter().map(|receiver| (receiver.name, receiver.distinct()));
        let received: Vec<(&str, usize)> = web.chain(syslog).collect();
        report(&format!(
            "minute {minutes}: seed {}, {} faults, {} stops, exits {:?}, {} reloads, {} KiB, {received:?}\n",
            self.seed,
            self.faults.begun,
            self.daemon.stops,
            self.daemon.exits,
            self.daemon.reloads,
            self.daemon.last_sample_kib(),
        ));
    }

    /// Ends all faults, and waits until everything is polled and delivered.
    fn recover(&mut self, duration: Duration) {
        self.faults.end_all();
        self.poll = None;
        if duration < SHORT {
            self.daemon.stop_and_restart(&self.workspace);
        }

        let begin = Instant::now();
        let mut is_polled = false;
        while !is_polled || !self.workspace.is_delivered() {
            let waited = begin.elapsed();
            let status = || self.workspace.try_status().unwrap_or_default();
            assert!(waited < RECOVERY, "seed {}: not delivered: {}", self.seed, status());
            self.daemon.supervise(&self.workspace);
            is_polled = is_polled || self.workspace.run(&["poll"]).code == 0;
            std::thread::sleep(TICK);
        }
        report(&format!("recovered within {} s\n", begin.elapsed().as_secs()));
        self.daemon.stop();
    }

    /// Delivers the whole log to a new file, and returns its path.
    fn deliver_to_new_sink(&mut self) -> PathBuf {
        let path = self.workspace.path("fresh.jsonl");
        let section = format!("type = \"file\"\npath = \"{}\"\n{COMMON}", path.display());
        self.workspace.sink("fresh", &section);
        self.workspace.run_ok(&["once"]);
        path
    }

    /// Asserts that every sink has the records of a new one, and repeats only what is permitted.
    fn assert_complete(&self, fresh: &Path) {
        let dead_letters = &self.workspace.status()["dead_letters"];
        assert!(dead_letters.as_array().unwrap().is_empty(), "{dead_letters}");

        let expected = arrivals_in(fresh);
        assert!(expected.values().all(|count| *count == 1), "a new sink repeats records");
        let targets = &self.faults.targets;
        eventually("the last messages are read", || {
            targets.syslog.iter().all(|receiver| receiver.is_idle())
        });

        let local = self.faults.storage_faults * ATTEMPTS_PER_STORAGE_FAULT
            + self.daemon.stops
            + self.daemon.reloads;
        self.assert_sink("file", &arrivals_in(&self.file), &expected, fresh, 0);
        for receiver in &targets.web {
            let remote = receiver.interruptions.load(SeqCst) + receiver.proxy.muted();
            let repeats = (local + remote) * receiver.batch;
            self.assert_sink(receiver.name, &receiver.arrivals(), &expected, fresh, repeats);
            report(&format!("{}: {} existed already\n", receiver.name, receiver.existing()));
        }

        for receiver in &targets.syslog {
            let repeats = (local + receiver.sessions()) * receiver.repeats();
            self.assert_sink(receiver.name, &receiver.arrivals(), &expected, fresh, repeats);
        }
    }

    /// Asserts that a sink has the expected records, and at most this number of repeated ones.
    fn assert_sink(
        &self,
        name: &str,
        arrived: &Arrivals,
        expected: &Arrivals,
        fresh: &Path,
        max_repeats: usize,
    ) {
        let lost: HashSet<u128> =
            expected.keys().filter(|id| !arrived.contains_key(*id)).copied().collect();
        let invented = arrived.keys().filter(|id| !expected.contains_key(*id)).count();
        let total: usize = arrived.values().map(|count| *count as usize).sum();
        let repeated = total - arrived.len();
        let result = format!(
            "{name}: {} records, {} lost, {invented} not in a new sink, {repeated} repeated of at most {max_repeats}\n",
            arrived.len(),
            lost.len(),
        );
        report(&result);

        let examples = || records_with(&lost, fresh).join("\n");
        let seed = self.seed;
        assert!(lost.is_empty(), "seed {seed}: {result}{}", examples());
        assert_eq!(invented, 0, "seed {seed}: {result}");
        assert!(repeated <= max_repeats, "seed {seed}: {result}");
    }
}

/// Adds all sinks of the soak. Returns the path of the file.
fn add_sinks(
    workspace: &mut Workspace,
    web: &[Arc<WebReceiver>],
    syslog: &[Arc<SyslogReceiver>],
) -> PathBuf {
    let file = workspace.path("local.jsonl");
    let section = format!("type = \"file\"\npath = \"{}\"\n{COMMON}", file.display());
    workspace.sink("local", &section);

    let token = workspace.secret("hec-secret", TOKEN);
    for receiver in web {
        let url = format!("url = \"http://127.0.0.1:{}\"", receiver.proxy.port);
        let mut section = format!("{}\n{url}\n{COMMON}", receiver.section);
        if receiver.name == "splunk" {
            section += &format!("\ntoken = {token}");
        }
        workspace.sink(receiver.name, &section);
    }

    for receiver in syslog {
        workspace.sink(receiver.name, &format!("{}\n{COMMON}", receiver.section()));
    }
    file
}

/// How often each event ID is in a file, which can be larger than the memory of a test should be.
fn arrivals_in(path: &Path) -> Arrivals {
    let mut arrivals = Arrivals::new();
    for line in BufReader::new(std::fs::File::open(path).unwrap()).lines() {
        add_ids(&line.unwrap(), &mut arrivals);
    }
    arrivals
}

/// The beginnings of up to three records of a file with one of these event IDs.
fn records_with(ids: &HashSet<u128>, path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for line in BufReader::new(std::fs::File::open(path).unwrap()).lines() {
        let line = line.unwrap();
        let mut arrivals = Arrivals::new();
        add_ids(&line, &mut arrivals);
        if found.len() < 3 && arrivals.keys().any(|id| ids.contains(id)) {
            found.push(line.chars().take(1_000).collect());
        }
    }
    found
}

/// Appends to the file that `SOAK_LOG` names, if it is set.
fn report(text: &str) {
    if let Some(path) = std::env::var_os("SOAK_LOG") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }
}

/// A number from the environment.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is not a number")))
}

/// Faults of several areas at the same time, again and again: nothing is lost, nothing is repeated
/// beyond the guarantees, and the memory does not grow.
#[test]
fn mixed_faults_lose_nothing() {
    let duration = Duration::from_mins(setting("SOAK_MINUTES").unwrap_or(1));
    let seed = setting("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    report(&format!("seed {seed}, {} minutes\n", duration.as_secs() / 60));

    let mut soak = Soak::start(seed);
    eventually("the first days are delivered", || {
        soak.daemon.supervise(&soak.workspace);
        soak.workspace.is_delivered()
    });
    soak.run(duration);
    soak.recover(duration);
    let fresh = soak.deliver_to_new_sink();
    report(&soak.daemon.memory_report());
    assert!(soak.faults.begun > 0, "no fault has begun");
    soak.assert_complete(&fresh);
    soak.daemon.assert_sound();

    // The search for secrets reads every file as a whole.
    for path in [fresh, soak.file.clone()] {
        std::fs::remove_file(path).unwrap();
    }
}
