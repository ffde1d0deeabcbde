//! Random damages with fixed seeds: the documented commands always lead back to a checkpoint that
//! works and loses no day.

use std::collections::BTreeSet;

use super::*;
use crate::{error::Hint, state_directory::CURSOR_FILE};

const DAYS: usize = 90;
/// The number of days that the sink has received before the damage.
const SENT: usize = 60;
const PAGE_BYTES: usize = 4_096;

fn first_day() -> Day {
    day("2026-08-25")
}

fn days(range: std::ops::Range<usize>) -> BTreeSet<Day> {
    range.map(|number| first_day().plus(i32::try_from(number).unwrap())).collect()
}

/// The names and contents of all files of a checkpoint with 90 days, as a killed process leaves
/// them: the last 30 days are only in the write-ahead log.
fn intact_files() -> Vec<(String, Vec<u8>)> {
    let (directory, checkpoint) = new_checkpoint();
    let others = OtherTenants::Deactivate;
    checkpoint.register_sink(&"s".into(), &[tenant()], others, first_day()).unwrap();
    for (number, day) in days(0..DAYS).into_iter().enumerate() {
        commit_day(&checkpoint, &day.to_string(), 1, 1);
        if number + 1 == SENT {
            checkpoint.release_memory().unwrap();
        }
    }
    let moves = [cursor_move(at(1, 0), at(SENT as u64 + 1, 0))];
    let _ = checkpoint.advance(&live_advance(&"s".into(), &moves)).unwrap();
    checkpoint.write_cursor_file().unwrap();

    let names = [DATABASE, "checkpoint.db-wal", "cursors.json", "lock"];
    let read = |name: &str| (name.to_owned(), fs_err::read(directory.path().join(name)).unwrap());
    let files: Vec<_> = names.into_iter().map(read).collect();
    assert!(files.iter().all(|(_, bytes)| !bytes.is_empty()));
    files
}

/// Damages a file, and returns how.
fn damage(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) -> String {
    let size = PAGE_BYTES.min(bytes.len().div_ceil(4));
    let page = random.usize(..bytes.len() / size) * size;

    match random.u8(..4) {
        0 => {
            let bits = random.usize(1..9);
            for _ in 0..bits {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
            }
            format!("{bits} bits")
        }
        1 => {
            bytes.truncate(random.usize(..bytes.len()));
            format!("truncated to {}", bytes.len())
        }
        2 => {
            bytes[page..page + size].fill(0);
            format!("page at {page} is zero")
        }
        _ => {
            let other = random.usize(..bytes.len() / size) * size;
            let (first, second) = (page.min(other), page.max(other));
            if first < second {
                let (before, after) = bytes.split_at_mut(second);
                before[first..first + size].swap_with_slice(&mut after[..size]);
            }
            format!("pages at {first} and {second} are swapped")
        }
    }
}

/// What `once` and `run` do with the directory: poll every day that Microsoft lists, and deliver.
/// Nothing is verified first. Returns the days that were delivered.
fn work(directory: &Path) -> Result<BTreeSet<Day>, CheckpointError> {
    let checkpoint = Checkpoint::open(directory)?;
    checkpoint.register_sink(&"s".into(), &[tenant()], OtherTenants::Deactivate, first_day())?;

    let stored = checkpoint.stored_days(tenant(), first_day())?;
    let missing: Vec<Day> =
        days(0..DAYS).into_iter().filter(|day| !stored.contains_key(day)).collect();
    commit_days(&checkpoint, &missing)?;
    for day in days_without_body(&checkpoint)? {
        commit_body(&checkpoint, day)?;
    }

    let mut delivered = BTreeSet::new();
    for pending in checkpoint.pending(&"s".into())? {
        let request = ReadRequest {
            first_day: pending.first_day,
            last_seq: pending.last_seq,
            with_observations: false,
            ..read_request(pending.at.seq.get(), "2026-08-01")
        };
        let entries = checkpoint.read(&request)?;
        delivered.extend(entries.iter().map(|entry| snapshot(entry).snapshot.day));
        let moves = [cursor_move(pending.at, at(pending.last_seq.get() + 1, 0))];
        let _ = checkpoint.advance(&live_advance(&"s".into(), &moves))?;
    }
    checkpoint.write_cursor_file()?;
    Ok(delivered)
}

/// Commits several days in one transaction, as one poll does.
fn commit_days(checkpoint: &Checkpoint, days: &[Day]) -> Result<(), CheckpointError> {
    let bodies: Vec<String> = days.iter().map(|day| body(&day.to_string(), 1)).collect();
    let facts: Vec<DayFacts> = bodies.iter().map(|body| facts(body)).collect();
    let compressed: Vec<CompressedText> =
        bodies.iter().map(|body| CompressedText::compress(body).unwrap()).collect();

    let entries = facts.iter().zip(&compressed).map(|(facts, body)| NewEntry {
        snapshot_id: "x",
        revision: 1,
        facts,
        body,
        observed_at: UnixMillis::default(),
        base: None,
        flags: EntryFlags::default(),
    });
    let commit = PollCommit { entries: entries.collect(), ..empty_commit() };
    checkpoint.commit_poll(tenant(), &commit).map(drop)
}

/// Commits another copy of a day whose body was removed.
fn commit_body(checkpoint: &Checkpoint, day: Day) -> Result<(), CheckpointError> {
    let body = body(&day.to_string(), 1);
    let enriched = EnrichedDay {
        revision: 1,
        facts: &facts(&body),
        body: &CompressedText::compress(&body).unwrap(),
    };
    let commit = PollCommit { enriched: vec![enriched], ..empty_commit() };
    checkpoint.commit_poll(tenant(), &commit).map(drop)
}

fn days_without_body(checkpoint: &Checkpoint) -> Result<Vec<Day>, CheckpointError> {
    let sql = "SELECT day FROM entry WHERE kind = 1 AND body IS NULL";
    let days = checkpoint
        .reading(|store| store.query_all(sql, values![], |row| fields::day(row, "day")))?;
    Ok(days.into_iter().flatten().collect())
}

/// What `state repair` does. It may fail because of the damage, but not for another reason.
fn repair(directory: &Path) {
    let facts_of = |body: &str| DayFacts::of(&wire::snapshot(body).ok()?);
    let now = empty_commit().observed_at;
    if let Err(error) = Checkpoint::repair_all(directory, now, "now", facts_of, drop) {
        assert!(error.is_about_content(), "{error:?}");
    }
}

/// What `state repair --set-aside` does. It never fails.
fn set_aside(directory: &Path) {
    Checkpoint::set_aside(directory, "now").unwrap();
}

/// Runs the commands that the documentation names until the program works. Returns the days that it
/// then delivers.
fn recover(directory: &Path, what: &str) -> BTreeSet<Day> {
    let commands: [fn(&Path); 3] = [|_| {}, repair, set_aside];
    let mut last = None;
    for command in commands {
        command(directory);
        match work(directory) {
            Ok(delivered) => return delivered,
            Err(error) => last = Some(error),
        }
    }
    panic!("{what}: no command helps: {last:?}")
}

/// Damages the file with this index, once for each seed, and recovers.
fn recover_from(file: usize, seeds: std::ops::Range<u64>) {
    let intact = intact_files();
    for seed in seeds {
        let mut files = intact.clone();
        let (name, bytes) = &mut files[file];
        let mut random = fastrand::Rng::with_seed(seed);
        let what = format!("{name}, seed {seed}: {}", damage(&mut random, bytes));

        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in &files {
            fs_err::write(directory.path().join(name), bytes).unwrap();
        }
        let delivered = recover(directory.path(), &what);
        let unsent: Vec<Day> = days(SENT..DAYS).difference(&delivered).copied().collect();
        assert!(unsent.is_empty(), "{what}: {unsent:?} are lost");
        if intact[file].0 != CURSOR_FILE {
            let repeated: Vec<Day> = days(0..SENT).intersection(&delivered).copied().collect();
            assert!(repeated.is_empty(), "{what}: {repeated:?} are delivered again");
        }
    }
}

/// Regression: one of fifty damages could be removed neither by `state repair` nor by `state repair
/// --set-aside`.
#[test]
fn recovers_from_damages_of_the_database() {
    recover_from(0, 0..150);
}

#[test]
fn recovers_from_more_damages_of_the_database() {
    recover_from(0, 150..300);
}

#[test]
fn recovers_from_damages_of_the_log() {
    recover_from(1, 300..420);
}

#[test]
fn recovers_from_damages_of_small_files() {
    recover_from(2, 420..470);
    recover_from(3, 470..500);
}

/// Regression: on a full disk, an intact database was renamed before the new one was complete, and
/// an empty file remained.
#[test]
fn an_incomplete_new_database_replaces_nothing() {
    let intact = intact_files();
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in &intact {
        fs_err::write(directory.path().join(name), bytes).unwrap();
    }
    // The new database cannot be created under a name that a directory has.
    fs_err::create_dir(directory.path().join("checkpoint.db.created")).unwrap();

    Checkpoint::set_aside(directory.path(), "now").unwrap_err();
    for (name, bytes) in intact.iter().filter(|(name, _)| name != "lock") {
        assert!(fs_err::read(directory.path().join(name)).unwrap() == *bytes, "{name}");
    }
    let moved = |name: &str| name.contains("damaged");
    let mut names = fs_err::read_dir(directory.path()).unwrap();
    assert!(!names.any(|entry| moved(&entry.unwrap().file_name().to_string_lossy())));
}

/// Regression: with a directory in place of the second cursor file, the new checkpoint could not be
/// opened.
#[test]
fn a_directory_named_cursors_json_is_renamed() {
    let directory = delivered_directory();
    let path = directory.path().join(CURSOR_FILE);
    fs_err::remove_file(&path).unwrap();
    fs_err::create_dir(&path).unwrap();
    let error = Checkpoint::open(directory.path()).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("move the directory to another place"), "{error}");

    let moved = Checkpoint::set_aside(directory.path(), "now").unwrap();
    assert!(moved.database.unwrap().ends_with("checkpoint.db.damaged-now"));
    let moved = moved.cursor_file.unwrap();
    assert!(moved.ends_with("cursors.json.damaged-now") && moved.is_dir());
    work(directory.path()).unwrap();
}

/// The state directory that a killed process leaves.
fn delivered_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in intact_files() {
        fs_err::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

/// All rows of a database with a damaged index are kept.
#[test]
fn an_index_is_built_again() {
    let (directory, checkpoint) = new_checkpoint();
    for text in ["2026-11-20", "2026-11-21"] {
        commit_day(&checkpoint, text, 1, 1);
    }
    register(&checkpoint, "s");
    let number = |sql: &str| usize::try_from(query_number(&checkpoint, sql)).unwrap();
    let root = number("SELECT rootpage FROM sqlite_schema WHERE name = 'entry_day'");
    let size = number("SELECT page_size FROM pragma_page_size");
    drop(checkpoint);

    let path = directory.path().join(DATABASE);
    let mut bytes = fs_err::read(&path).unwrap();
    let start = (root - 1) * size;
    bytes[start..start + 100].fill(0xAA);
    fs_err::write(&path, bytes).unwrap();
    let damaged = Checkpoint::open(directory.path()).unwrap_err();
    assert!(matches!(damaged, CheckpointError::Damaged(_)), "{damaged:?}");

    let repaired = Checkpoint::repair_structure(directory.path(), "now").unwrap();
    let StructureRepair::Rebuilt(moved) = repaired else { panic!("{repaired:?}") };
    assert!(moved.ends_with("checkpoint.db.damaged-now") && moved.exists());
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(checkpoint.verify().unwrap().findings, []);
    assert_eq!(checkpoint.read(&read_request(1, "2026-11-01")).unwrap().len(), 2);
    assert_eq!(checkpoint.pending(&"s".into()).unwrap().len(), 1);
}
