//! The host loses power: what was not synchronized is lost, reordered or torn, and a directory has
//! lost its newest entries. One run is recorded; its files are rebuilt as they are on the disk
//! after a power loss at any of its steps, and the program continues with them. See
//! [`crate::support::disk`]. `FAULT_SEEDS` sets the number of power losses.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use serde_json::Value;

use crate::support::{
    Workspace, counts,
    disk::{CALLS, Disk, Step, Survived, Survivors, read_steps},
    endpoint::Endpoint,
    ids, without_observations,
};

/// The number of days that the recorded run reads at first, and in total.
const FIRST_DAYS: usize = 2;
const DAYS: usize = 4;
/// The number of records in a request. One request is in flight at a time.
const BATCH: usize = 50;
/// The kinds of records that do not depend on the order in which days are read.
const KINDS: &str = "records = [\"control\", \"summary\"]";

/// A request that the receiver has accepted.
struct AcceptedRequest {
    /// In seconds since 1970.
    time: f64,
    ids: Vec<String>,
}

/// A recorded run with a file and a receiver.
struct RecordedRun {
    workspace: Workspace,
    /// The file of the sink. It keeps its inode, by which the sink recognizes it.
    file: PathBuf,
    /// Where the file is while no power loss has left it in its place.
    kept: PathBuf,
    steps: Vec<Step>,
    /// The number of steps until the first command has ended.
    first_steps: usize,
    /// What was received during the recorded run.
    recorded: Vec<AcceptedRequest>,
    /// What was received since the last power loss.
    requests: Arc<Mutex<Vec<AcceptedRequest>>>,
    expected: HashSet<String>,
    _endpoint: Endpoint,
}

impl RecordedRun {
    fn new() -> Self {
        let endpoint = Endpoint::new("");
        let requests = Arc::<Mutex<Vec<AcceptedRequest>>>::default();
        let accepted = Arc::clone(&requests);
        endpoint.rule(move |request| {
            let time = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
            let records: Vec<Value> = serde_json::from_slice(&request.body).unwrap_or_default();
            let ids = ids(&records).map(str::to_owned).collect();
            accepted.lock().unwrap().push(AcceptedRequest { time, ids });
            Some((200, String::new()))
        });

        let mut workspace = Workspace::new();
        workspace.extra = format!("initial_backfill_days = {FIRST_DAYS}");
        let file = workspace.path("local.jsonl");
        let section = format!("type = \"file\"\npath = \"{}\"\n{KINDS}", file.display());
        workspace.sink("local", &section);
        let section =
            format!("type = \"http\"\nurl = \"{}\"\nbatch_records = {BATCH}", endpoint.url);
        workspace.sink("web", &format!("{section}\n{KINDS}"));

        let first = trace(&workspace, &["once"]);
        let first_steps = first.len();
        let mut steps = first;
        steps.extend(trace(&workspace, &["backfill", "--days", &DAYS.to_string()]));
        steps.extend(trace(&workspace, &["once"]));

        let expected: HashSet<String> =
            ids(&without_observations(&file)).map(str::to_owned).collect();
        assert!(expected.len() > DAYS * 200, "{}", expected.len());
        assert!(steps.iter().filter(|step| step.is_synchronization()).count() > 20);
        let recorded = std::mem::take(&mut *requests.lock().unwrap());
        assert!(recorded.len() > 4 * DAYS, "{}", recorded.len());
        let kept = workspace.path("kept.jsonl");
        Self {
            workspace,
            file,
            kept,
            steps,
            first_steps,
            recorded,
            requests,
            expected,
            _endpoint: endpoint,
        }
    }

    /// Replaces all files by those that are on the disk after a power loss.
    fn restore(&self, survived: &Survived) {
        use std::os::unix::fs::PermissionsExt;

        let _ = std::fs::remove_dir_all(self.workspace.state());
        if self.kept.exists() {
            // The last power loss has left no file, so this one has another inode.
            let _ = std::fs::remove_file(&self.file);
        } else {
            std::fs::rename(&self.file, &self.kept).unwrap();
        }

        for (path, content) in survived {
            let target = self.workspace.path(path);
            let mode = if let Some(content) = content {
                if target == self.file {
                    std::fs::rename(&self.kept, &self.file).unwrap();
                }
                std::fs::write(&target, content).unwrap();
                0o600
            } else {
                std::fs::create_dir(&target).unwrap();
                0o700
            };
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        self.requests.lock().unwrap().clear();
    }

    /// The event IDs that the receiver had accepted before a step.
    fn received_before(&self, step: &Step) -> HashSet<&String> {
        let before = self.recorded.iter().filter(|request| request.time <= step.time);
        before.flat_map(|request| &request.ids).collect()
    }

    /// How often the receiver has accepted each event ID since the last power loss.
    fn received_since(&self) -> HashMap<String, usize> {
        let requests = self.requests.lock().unwrap();
        counts(requests.iter().flat_map(|request| &request.ids).map(String::as_str))
    }

    /// The power fails at a step in this range. Afterward, the program continues without an
    /// operator, and every record arrives: in the file once, and at the receiver with at most the
    /// batch in flight repeated.
    fn lose_power(&self, seed: u64, range: Range<usize>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let at = random.usize(range);
        let survivors = Survivors::ALL[random.usize(..Survivors::ALL.len())];
        let case = format!("seed {seed}: {survivors:?} at {at}: {}", self.steps[at]);
        let disk = Disk::after(&self.steps[..at]);
        self.restore(&disk.after_power_loss(survivors, &mut random));

        for arguments in [&["backfill", "--days", &DAYS.to_string()][..], &["once"]] {
            let run = self.workspace.run(arguments);
            assert_eq!(run.code, 0, "{case}\n{arguments:?}: {}", run.stderr);
        }
        let in_file = counts(ids(&without_observations(&self.file)));
        let is_once = in_file.values().all(|count| *count == 1);
        assert!(is_once && in_file.len() == self.expected.len(), "{case}: the file");
        assert!(self.expected.iter().all(|id| in_file.contains_key(id)), "{case}: the file");

        let (before, since) = (self.received_before(&self.steps[at]), self.received_since());
        let has_arrived = |id: &&String| before.contains(*id) || since.contains_key(*id);
        let missing = self.expected.iter().filter(|id| !has_arrived(id)).count();
        assert_eq!(missing, 0, "{case}: records are missing at the receiver");
        let times = |(id, count): (&String, &usize)| count - 1 + usize::from(before.contains(id));
        let repeated: usize = since.iter().map(times).sum();
        assert!(repeated <= BATCH, "{case}: {repeated} records were repeated");

        let names = std::fs::read_dir(self.workspace.state()).unwrap();
        for name in names.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            let is_temporary = name.ends_with(".new") || name.ends_with("-journal");
            assert!(!is_temporary, "{case}: `{name}` is left");
        }
    }
}

/// Runs a command, and returns its steps.
fn trace(workspace: &Workspace, arguments: &[&str]) -> Vec<Step> {
    let output = workspace.path("trace");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-ttt", "-y", "-xx", "-s", "16777216", "-e", &format!("trace={CALLS}")]);
    traced.arg("-o").arg(&output);
    let traced = workspace.command_under(traced, arguments).output();
    let run = crate::support::Run::of(traced.unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);

    let text = std::fs::read_to_string(&output).unwrap();
    std::fs::remove_file(output).unwrap();
    let state = workspace.state();
    let directory = state.parent().unwrap().canonicalize().unwrap();
    let steps = read_steps(&text, directory.to_str().unwrap());
    assert!(!steps.is_empty(), "strace has recorded no step");
    steps
}

/// The number of power losses, a part of `FAULT_SEEDS`.
fn seeds(part: u64) -> Range<u64> {
    let all = std::env::var("FAULT_SEEDS").map_or(200, |seeds| seeds.parse().unwrap());
    0..all / part
}

#[test]
fn nothing_that_was_synchronized_is_lost() {
    let run = RecordedRun::new();
    for seed in seeds(1) {
        run.lose_power(seed, run.first_steps..run.steps.len());
    }
}

/// The directories and the database are new, so their entries can be lost.
#[test]
fn a_first_start_survives_a_power_loss() {
    let run = RecordedRun::new();
    for seed in seeds(1) {
        run.lose_power(seed, 0..run.first_steps);
    }
}

/// The event IDs of the complete lines of a file, which can contain blocks of zeros.
fn readable_ids(content: &[u8]) -> HashSet<String> {
    let lines = content.split(|byte| *byte == b'\n');
    let records = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    records.filter_map(|record| Some(record["event_id"].as_str()?.to_owned())).collect()
}

/// The disk reports that it has synchronized data, and loses it. What was synchronized before is
/// kept; the documented commands recover the program, the API supplies the days again, and a replay
/// the records.
#[test]
fn a_disk_with_false_synchronization_is_recovered() {
    let run = RecordedRun::new();
    let commands: [&[&str]; 2] = [&["state", "repair"], &["state", "repair", "--set-aside"]];
    for seed in seeds(5) {
        let mut random = fastrand::Rng::with_seed(seed);
        let at = random.usize(run.first_steps..run.steps.len());
        let false_since = at.saturating_sub(random.usize(10..200));
        let survivors = Survivors::ALL[random.usize(..Survivors::ALL.len())];
        let case = format!("seed {seed}: {survivors:?}, false from {false_since} to {at}");

        let before = Disk::after(&run.steps[..false_since]);
        let mut durable = before.after_power_loss(Survivors::Nothing, &mut random);
        let durable = durable.remove("local.jsonl").flatten().unwrap_or_default();
        let is_effective =
            |(number, step): &(usize, &Step)| *number < false_since || !step.is_synchronization();
        let steps = run.steps[..at].iter().enumerate().filter(is_effective);
        let steps: Vec<Step> = steps.map(|(_, step)| step.clone()).collect();
        run.restore(&Disk::after(&steps).after_power_loss(survivors, &mut random));

        let works = || {
            let found = run.workspace.run(&["once"]);
            assert!([0, 1, 3].contains(&found.code), "{case}: {}", found.stderr);
            found.code == 0 && run.workspace.run(&["state", "verify"]).code == 0
        };
        let has_recovered = works()
            || commands.iter().any(|command| {
                run.workspace.run(command);
                works()
            });
        assert!(has_recovered, "{case}");
        run.workspace.run_ok(&["backfill", "--days", &DAYS.to_string()]);
        assert_eq!(run.workspace.status()["tenants"][0]["days"], DAYS, "{case}");

        let in_file = readable_ids(&std::fs::read(&run.file).unwrap());
        assert!(readable_ids(&durable).is_subset(&in_file), "{case}: the file has lost records");
        for sink in ["local", "web"] {
            run.workspace.run_ok(&["replay", "--sink", sink, "--from", "2020-01-01"]);
        }
        let in_file = readable_ids(&std::fs::read(&run.file).unwrap());
        assert!(run.expected.is_subset(&in_file), "{case}: the file");
        let received = run.received_since();
        assert!(run.expected.iter().all(|id| received.contains_key(id)), "{case}: the receiver");
    }
}
