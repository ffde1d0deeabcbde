//! The host runs out of memory, descriptors or inodes, its disk becomes read-only, or another
//! process reads the database for a long time.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    admin::send,
    support::{
        Process, Run, Workspace, counts, eventually, faults::FaultyApi, free_port, ids, records,
        simulation, summaries, without_observations,
    },
};

/// A command with a limit of `prlimit`.
fn with_limit(workspace: &Workspace, limit: &str, args: &[&str]) -> Command {
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(limit);
    workspace.command_under(prlimit, args)
}

fn run_with_limit(workspace: &Workspace, limit: &str, args: &[&str]) -> Run {
    let mut command = with_limit(workspace, limit, args);
    // The standard library waits for its own lock if no memory is left while it prints a backtrace.
    command.env_remove("RUST_BACKTRACE");
    Run::of(command.output().unwrap())
}

fn tenant_ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("aaaaaaaa-0000-4000-8000-{n:012x}")).collect()
}

/// Replaces the tenants of the configuration.
fn name_tenants(workspace: &mut Workspace, ids: &[String]) {
    let name = |(index, id): (usize, &String)| -> (&'static str, &'static str) {
        (format!("t{index}").leak(), id.clone().leak())
    };
    workspace.tenants = ids.iter().enumerate().map(name).collect();
}

/// Asserts that the file has these days of each tenant, and no record twice.
fn assert_once(file: &Path, days: usize, tenants: usize) {
    let all = without_observations(file);
    let repeated = counts(ids(&all)).values().filter(|count| **count > 1).count();
    assert_eq!((repeated, summaries(file)), (0, days * tenants));
}

/// Forty tenants within a limit that a few of them would exceed if nothing held back the polls. A
/// process that is killed for its memory continues with the next start.
#[test]
fn many_tenants_fit_into_little_memory() {
    const TENANTS: usize = 40;
    const DAYS: usize = 5;
    /// In MiB. The first ones kill the process, and the last one must suffice.
    const LIMITS: [usize; 6] = [16, 24, 40, 64, 96, 160];

    let tenants = tenant_ids(TENANTS);
    let mut simulation = simulation();
    simulation.tenants.clone_from(&tenants);
    let api = FaultyApi::of(simulation);
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = format!("initial_backfill_days = {DAYS}");
    name_tenants(&mut workspace, &tenants);
    let file = workspace.file_sink("local");

    let mut kills = 0;
    let has_completed = LIMITS.iter().any(|limit| {
        let limit = format!("--data={}", limit << 20);
        let run = run_with_limit(&workspace, &limit, &["once"]);
        kills += usize::from(run.code == -1);
        run.code == 0
    });
    assert!(has_completed, "{} MiB are not sufficient", LIMITS[LIMITS.len() - 1]);
    assert!(kills > 0, "no limit was reached");
    assert_once(&file, DAYS, TENANTS);
}

/// Each number of descriptors makes another step fail. Nothing is lost, and with enough descriptors
/// the program continues.
///
/// Regression: with too few descriptors for the runtime, the process panicked, and the sink for
/// files reported that another process had replaced its file.
#[test]
fn few_descriptors_lose_and_repeat_nothing() {
    /// The messages of the system and of the checkpoint.
    const CAUSES: [&str; 2] = ["Too many open files", "too many files are open"];

    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let mut failures = 0;
    for descriptors in 4..24 {
        let limit = format!("--nofile={descriptors}");
        let run = run_with_limit(&workspace, &limit, &["once"]);
        for wrong in ["panicked", "internal error", "damaged", "replaced"] {
            assert!(!run.stderr.contains(wrong), "{descriptors}: {}", run.stderr);
        }
        if run.code != 0 {
            failures += 1;
            assert_eq!(run.code, 1, "{descriptors}: {}", run.stderr);
            let is_named = CAUSES.iter().any(|cause| run.stderr.contains(cause));
            assert!(is_named, "{descriptors}: {}", run.stderr);
        }
    }
    assert!(failures > 5, "{failures}");

    workspace.run_ok(&["once"]);
    assert_once(&file, 3, 1);
}

/// A daemon that cannot open anything continues when it has descriptors again.
#[test]
fn a_daemon_recovers_from_a_lack_of_descriptors() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let log = workspace.path("log");
    let mut command = workspace.command(&["run"]);
    command.stderr(std::fs::File::create(&log).unwrap());
    let daemon = Process::of(command);
    eventually("three days are acknowledged", || summaries(&file) == 3 && workspace.is_delivered());

    let limit = |soft: usize| {
        let limit = format!("--nofile={soft}:1024");
        let pid = daemon.id().to_string();
        let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(limited.success());
    };
    limit(8);
    daemon.signal("HUP");
    eventually("the lack of descriptors is reported", || {
        std::fs::read_to_string(&log).unwrap().contains("Too many open files")
    });

    limit(1_024);
    workspace.run_ok(&["backfill", "--days", "5"]);
    eventually("five days are acknowledged", || summaries(&file) == 5 && workspace.is_delivered());
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert!(!std::fs::read_to_string(&log).unwrap().contains("damaged"));
    assert_once(&file, 5, 1);
}

/// Regression: with too many open files, a poll whose secret could not be read needed an operator,
/// and was repeated only after five minutes.
#[test]
fn polls_resume_when_files_can_be_opened() {
    /// Enough for the daemon and the checkpoint, but not for a poll.
    const LIMIT: &str = "--nofile=18:1024";

    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let log = workspace.path("log");
    let mut limited = with_limit(&workspace, LIMIT, &["run"]);
    limited.stderr(std::fs::File::create(&log).unwrap());
    let daemon = Process::of(limited);

    let logged = || std::fs::read_to_string(&log).unwrap();
    eventually("the poll has failed", || logged().contains("poll failed because of this host"));
    assert!(logged().contains("LimitNOFILE") && !logged().contains("sink parked"), "{}", logged());

    let pid = daemon.id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--nofile=1024:1024"]).status();
    assert!(raised.unwrap().success());
    let began = Instant::now();
    eventually("three days are delivered", || summaries(&file) == 3);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Regression: a limit of the size of files ended every command with a signal and without a
/// message.
#[test]
fn a_limit_of_file_sizes_is_explained() {
    let workspace = {
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 3".to_owned();
        workspace.file_sink("local");
        workspace
    };
    workspace.run_ok(&["once"]);
    for command in [&["once"][..], &["status"], &["state", "verify"], &["state", "repair"]] {
        for bytes in [0, 4_096] {
            let run = run_with_limit(&workspace, &format!("--fsize={bytes}"), command);
            let output = format!("{command:?} {bytes}: {} {}", run.code, run.stderr);
            assert!([0, 1].contains(&run.code), "{output}");
            assert!(run.code == 0 || run.stderr.contains("LimitFSIZE"), "{output}");
        }
    }
    let run = run_with_limit(&workspace, "--fsize=0", &["once"]);
    assert!(run.code == 1 && run.stderr.contains("maximum size"), "{}", run.stderr);
    workspace.run_ok(&["state", "verify"]);
}

/// The state directory is on a file system without free inodes, and then on one that has become
/// read-only: nothing is delivered that could not be recorded, and the program continues when the
/// cause is gone.
#[test]
fn missing_inodes_and_remounts_lose_nothing() {
    // The number of inodes with which each file is the first that cannot be created: the directory
    // itself, the lock, the database and the files next to it.
    for inodes in 1..=4 {
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 3".to_owned();
        let file = workspace.file_sink("local");
        workspace.write_configuration();
        std::fs::create_dir(workspace.state()).unwrap();

        // Each exit code is printed, and the number of lines that the file has then.
        let script = format!(
            "once() {{ \"$0\" once --config {config}; echo $? $(cat {file} 2>/dev/null | wc -l); }}
             mount -t tmpfs -o size=60m,nr_inodes={inodes} tmpfs {state} && chmod 700 {state} || exit
             once; mount -o remount,nr_inodes=100 {state}; once
             mount -o remount,ro {state}; once; mount -o remount,rw {state}; once",
            config = workspace.path("config.toml").display(),
            file = file.display(),
            state = workspace.state().display(),
        );
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_secure-score-forwarder")]);
        let run = Run::of(command.env("NO_COLOR", "1").output().unwrap());

        let results: Vec<&str> = run.stdout.lines().collect();
        let [without, with, read_only, writable] = results[..] else { panic!("{run:?}") };
        assert_eq!(without, "1 0", "{inodes}: {}", run.stderr);
        assert!(run.stderr.contains("the disk of the checkpoint is full"), "{}", run.stderr);
        assert!(run.stderr.contains("inodes"), "{}", run.stderr);
        assert!(!run.stderr.contains("Error code"), "{}", run.stderr);
        let lines = records(&file).len();
        assert_eq!(with, format!("0 {lines}"), "{inodes}: {}", run.stderr);
        assert_eq!(read_only, format!("3 {lines}"), "{inodes}: {}", run.stderr);
        assert_eq!(writable, format!("0 {lines}"), "{inodes}: {}", run.stderr);
        assert!(run.stderr.contains("Read-only file system"), "{}", run.stderr);
        assert!(!run.stderr.contains("damaged"), "{}", run.stderr);
        assert_once(&file, 3, 1);
    }
}

/// While another process reads the database, the write-ahead log cannot be used again from its
/// beginning. The daemon continues to write, the log grows only by what is written, and is used
/// again when the other process has finished.
#[test]
fn a_long_reader_fills_no_disk() {
    const TENANTS: usize = 16;
    const DAYS: usize = 70;
    const MORE_DAYS: usize = 20;
    /// More than 1,000 pages, after which SQLite uses the log again if nothing prevents that.
    const MIN_LOG_BYTES: u64 = 5 << 20;
    /// Twice what these days need.
    const MAX_LOG_BYTES: u64 = 12 << 20;
    /// A quarter of what the other days need.
    const MAX_MORE_BYTES: u64 = 300 << 10;

    let tenants = tenant_ids(TENANTS);
    let mut simulation = simulation();
    simulation.tenants.clone_from(&tenants);
    let api = FaultyApi::of(simulation);
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    name_tenants(&mut workspace, &tenants);
    let file = workspace.path("local.jsonl");
    let section =
        format!("type = \"file\"\npath = \"{}\"\nrecords = [\"summary\"]", file.display());
    workspace.sink("local", &section);
    let daemon = workspace.spawn(&["run"]);
    let wait_for_days = |days: usize| {
        eventually(&format!("{days} days are acknowledged"), || {
            summaries(&file) == days * TENANTS && workspace.is_delivered()
        });
    };
    wait_for_days(3);

    let database = workspace.state().join("checkpoint.db");
    let log_bytes = || {
        std::fs::metadata(workspace.state().join("checkpoint.db-wal")).map_or(0, |log| log.len())
    };
    let reader = rusqlite::Connection::open(&database).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM entry;").unwrap();
    workspace.run_ok(&["backfill", "--days", &DAYS.to_string()]);
    wait_for_days(DAYS);
    let grown = log_bytes();
    assert!(grown > MIN_LOG_BYTES && grown < MAX_LOG_BYTES, "{grown} bytes");

    reader.execute_batch("ROLLBACK").unwrap();
    drop(reader);
    workspace.run_ok(&["backfill", "--days", &(DAYS + MORE_DAYS).to_string()]);
    wait_for_days(DAYS + MORE_DAYS);
    let end = log_bytes();
    assert!(end < grown + MAX_MORE_BYTES, "{end} bytes after {grown} bytes");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    workspace.run_ok(&["state", "verify"]);
    assert_once(&file, DAYS + MORE_DAYS, TENANTS);
}

/// A daemon with an admin server.
struct Administered {
    workspace: Workspace,
    file: PathBuf,
    address: SocketAddr,
    daemon: Process,
}

impl Administered {
    fn start() -> Self {
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 3".to_owned();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        workspace.head = format!("[admin]\nlisten = \"{address}\"\n");
        let file = workspace.file_sink("local");
        let daemon = workspace.spawn(&["run"]);
        eventually("three days are acknowledged", || {
            summaries(&file) == 3 && workspace.is_delivered()
        });
        Self { workspace, file, address, daemon }
    }

    fn is_alive(&self) -> bool {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        send(self.address, &request).0 == 200
    }
}

/// Ten thousand connections, of which many are open at the same time, and a body of a gigabyte:
/// the endpoints respond, the memory is limited, and the delivery continues.
#[test]
fn abuse_of_the_endpoints_stops_nothing() {
    use std::{io::Write, net::TcpStream};

    const CONNECTIONS: usize = 10_000;
    const OPEN: usize = 400;

    let administered = Administered::start();
    let mut open = std::collections::VecDeque::new();
    for number in 0..CONNECTIONS {
        // The server may close a connection at any time.
        if let Ok(mut stream) = TcpStream::connect(administered.address) {
            let beginning = ["", "GET / HTTP/1.1\r\nx: "][number % 2];
            let _ = stream.write_all(beginning.as_bytes());
            open.push_back(stream);
        }
        if open.len() > OPEN {
            open.pop_front();
        }
    }
    assert!(administered.is_alive());
    drop(open);

    let mut stream = TcpStream::connect(administered.address).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
        administered.address,
        1 << 30
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = vec![b'x'; 1 << 20];
    let sent = (0..1 << 10).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 1 << 10, "the whole body was accepted");
    assert!(administered.is_alive());

    let peak = crate::support::limits::peak_memory_kib(administered.daemon.id());
    assert!(peak < crate::support::limits::MAX_MEMORY_KIB, "{peak} KiB");
    administered.workspace.run_ok(&["backfill", "--days", "4"]);
    eventually("four days are acknowledged", || {
        summaries(&administered.file) == 4 && administered.workspace.is_delivered()
    });
    administered.daemon.signal("TERM");
    assert_eq!(administered.daemon.end().code, 0);
}
