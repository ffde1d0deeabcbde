//! Benchmarks reports over a year of 232 controls, for one tenant and for 1,000 tenants.
//!
//! Run it with `cargo bench --profile dist --bench report`.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::print_stdout)]

#[path = "shared/cost.rs"]
mod cost;

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use cost::measure;
use secure_score_forwarder::{
    checkpoint::{CatalogMember, Checkpoint, EntryFlags, NewEntry, PollCommit, PollEnd},
    clock,
    compressed::CompressedText,
    model::{Day, DayFacts, TenantId},
    source::simulated::{self, Richness},
    wire,
};

const BINARY: &str = env!("CARGO_BIN_EXE_secure-score-forwarder");
const DAYS: i32 = 365;
/// The number of tenants with different facts. The other tenants repeat these facts.
const DIFFERENT: usize = 4;

fn main() {
    // `cargo test --benches` passes this argument. A benchmark has no tests, so nothing is run.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }

    for tenants in [1, 1_000] {
        let directory = tempfile::tempdir().unwrap();
        fill(directory.path(), tenants);

        for format in ["html", "json"] {
            let mut command = Command::new(BINARY);
            command.args(["report", "--days", "365", "--format", format, "--output"]);
            command.arg(directory.path().join("report"));
            command.arg("--config").arg(directory.path().join("config.toml"));
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let cost = measure(command);
            let size = fs_err::metadata(directory.path().join("report")).unwrap().len();
            println!("{tenants} tenants, {DAYS} days, {format} of {} kB: {cost}", size / 1_000);
        }
    }
}

/// The GUID of the tenant with this number.
fn guid(number: usize) -> String {
    format!("{number:08x}-0000-4000-8000-00000000c0de")
}

/// Writes a checkpoint with a year of each tenant, and a configuration with these tenants. A report
/// does not read bodies, so they are nearly empty.
fn fill(directory: &Path, tenants: usize) {
    let state = directory.join("state");
    let mut config = format!("[state]\ndirectory = \"{}\"\n", state.display());

    let first = Day::of(clock::now()).plus(1 - DAYS);
    let years: Vec<Vec<DayFacts>> = (0..DIFFERENT.min(tenants))
        .map(|tenant| {
            let day = |number| {
                simulated::snapshot_json(&guid(tenant), first.plus(number), Richness::Rich)
            };
            let facts = |body: String| DayFacts::of(&wire::snapshot(&body).unwrap()).unwrap();
            (0..DAYS).map(|number| facts(day(number))).collect()
        })
        .collect();
    let profiles: Vec<_> = simulated::profiles_json(&guid(0))
        .iter()
        .map(|json| wire::split_profile(json).unwrap())
        .collect();

    let checkpoint = Checkpoint::open(&state).unwrap();
    let body = CompressedText::compress("{}").unwrap();
    for tenant in 0..tenants {
        let name = guid(tenant);
        let _ = write!(
            config,
            "[[tenants]]\nname = \"t{tenant}\"\nid = \"{name}\"\n[tenants.credential]\nkind = \"managed_identity\"\n"
        );
        let entries = years[tenant % DIFFERENT].iter().enumerate().map(|(index, facts)| NewEntry {
            snapshot_id: &name,
            revision: 1,
            facts,
            body: &body,
            observed_at: facts.day.start(),
            base: (index > 0).then(|| (facts.day.plus(-1), 1)),
            flags: EntryFlags::default(),
        });

        let commit = PollCommit {
            entries: entries.collect(),
            catalog: profiles
                .iter()
                .map(|p| CatalogMember { shared: &p.shared, decisions: &p.decisions })
                .collect(),
            end: PollEnd::Complete,
            ..PollCommit::default()
        };
        let _ = checkpoint.commit_poll(TenantId::parse(&name).unwrap(), &commit).unwrap();
    }

    config += "[[sinks]]\nname = \"none\"\ntype = \"stdout\"\n";
    fs_err::write(directory.join("config.toml"), config).unwrap();
}
