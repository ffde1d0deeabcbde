//! Benchmarks the pure modules on one core: decode, derive, format.
//!
//! Run it with `cargo bench --profile dist --bench pure`.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::print_stdout)]

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use secure_score_forwarder::{
    derive::{Base, Comparison, Entry, Records, Rules, Selection},
    format::{FormatName, Formatter, Options, Texts},
    model::{Catalog, Day, DayFacts, Seq, SnapshotRef, Tenant, TenantId, UnixMillis},
    source::simulated::{self, Richness},
    wire,
};

const TENANT: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
const DAYS: i32 = 10;

fn main() {
    divan::main();
}

/// The day that is `back` days before the newest.
fn day(back: i32) -> Day {
    Day::parse("2026-11-22").unwrap().plus(-back)
}

/// A page from Graph with ten days, all with Microsoft's texts, as in a daily poll.
fn page() -> Vec<u8> {
    let days: Vec<String> =
        (0..DAYS).map(|back| simulated::snapshot_json(TENANT, day(back), Richness::Rich)).collect();
    format!(r#"{{"@odata.context":"x","value":[{}]}}"#, days.join(",")).into_bytes()
}

fn catalog() -> Catalog {
    simulated::catalog(TENANT)
}

/// Splits a page into its snapshots and decodes all of them.
#[divan::bench]
fn decode_page(bencher: Bencher<'_, '_>) {
    let page = page();

    bencher.counter(BytesCount::new(page.len())).bench_local(|| {
        let read = wire::page(&page).unwrap();
        read.items.iter().map(|item| wire::snapshot(item).unwrap().controls.len()).sum::<usize>()
    });
}

/// Decodes one snapshot, as the deliverer does after it has read it from the checkpoint.
#[divan::bench]
fn decode_snapshot(bencher: Bencher<'_, '_>) {
    let json = simulated::snapshot_json(TENANT, day(0), Richness::Rich);

    bencher
        .counter(BytesCount::new(json.len()))
        .bench_local(|| wire::snapshot(&json).unwrap().controls.len());
}

/// Decodes days, derives their records and formats them: the entire cost of a record before its
/// sink.
#[divan::bench(args = ["cef", "json"])]
fn decode_derive_format(bencher: Bencher<'_, '_>, format: &str) {
    let days: Vec<String> =
        (0..DAYS).map(|back| simulated::snapshot_json(TENANT, day(back), Richness::Rich)).collect();
    let tenant = Tenant {
        id: TenantId::parse(TENANT).unwrap(),
        name: "contoso".into(),
        labels: [("customer".into(), "c-17".into())].into(),
    };
    let catalog = catalog();
    let format = FormatName::parse(format).unwrap();
    let mut formatter = Formatter::new(
        format,
        Options { texts: format.default_texts(), host: "collector".into(), fields: vec![] },
    );
    let (mut out, selection) = (Vec::new(), Selection::all());

    let mut run = || {
        out.clear();
        let mut written = 0_usize;
        for (seq, json) in (1..).zip(&days) {
            let snapshot = wire::snapshot(json).unwrap();
            let at = SnapshotRef {
                id: snapshot.id.to_string(),
                day: snapshot.day().unwrap(),
                revision: 1,
                seq: Seq::new(seq),
                late: false,
                backfilled: false,
                partial: false,
                imported: false,
            };
            let entry = Entry {
                tenant: &tenant,
                snapshot: &at,
                observed_time: "2026-11-22T06:15:00Z",
                observed_at: UnixMillis::new(1_795_341_600_000),
                history: &[],
                catalog: &catalog,
                comparison: Comparison::default(),
                rules: Rules::none(),
                replayed: false,
            };

            let records = Records::new(&entry, &snapshot, &selection);
            for record in (0..records.end()).filter_map(|index| records.at(index)) {
                formatter.write(&record, &mut out);
                out.push(b'\n');
                written += 1;
            }
        }
        written
    };

    let records = run();
    bencher.counter(ItemsCount::new(records)).bench_local(run);
}

/// Derives the records of a day, with and without the changes since the day before. Both days have
/// the same catalog, as nearly all consecutive days do.
#[divan::bench(args = [false, true])]
fn derive(bencher: Bencher<'_, '_>, with_changes: bool) {
    let json = simulated::snapshot_json(TENANT, day(0), Richness::Rich);
    let snapshot = wire::snapshot(&json).unwrap();
    let facts = |back: i32| {
        let json = simulated::snapshot_json(TENANT, day(back), Richness::Rich);
        std::sync::Arc::new(DayFacts::of(&wire::snapshot(&json).unwrap()).unwrap())
    };
    let tenant = Tenant {
        id: TenantId::parse(TENANT).unwrap(),
        name: "contoso".into(),
        labels: std::collections::BTreeMap::new(),
    };

    let catalog = catalog();
    let (before, earlier) = (facts(1), [facts(4), facts(3), facts(2)]);
    let at = SnapshotRef { revision: 1, ..SnapshotRef::of_observation(day(0), Seq::new(2)) };
    let base = Base {
        seq: Seq::FIRST,
        facts: &before,
        catalog: Some(&catalog),
        backfilled: false,
        earlier: &earlier,
    };
    let entry = Entry {
        tenant: &tenant,
        snapshot: &at,
        observed_time: "2026-11-22T06:15:00Z",
        observed_at: UnixMillis::new(1_795_341_600_000),
        history: &[],
        catalog: &catalog,
        comparison: Comparison { base: Some(base), ..Comparison::default() },
        rules: Rules::none(),
        replayed: false,
    };
    let selection = Selection { changes: with_changes, ..Selection::all() };

    bencher.bench_local(|| {
        let records = Records::new(&entry, &snapshot, &selection);
        (0..records.end()).filter_map(|index| records.at(index)).count()
    });
}

/// Formats records that were derived in advance.
#[divan::bench(args = [Texts::None, Texts::Short, Texts::Full])]
fn format_json(bencher: Bencher<'_, '_>, texts: Texts) {
    let json = simulated::snapshot_json(TENANT, day(0), Richness::Rich);
    let snapshot = wire::snapshot(&json).unwrap();
    let tenant = Tenant {
        id: TenantId::parse(TENANT).unwrap(),
        name: "contoso".into(),
        labels: std::collections::BTreeMap::new(),
    };
    let (catalog, selection) = (catalog(), Selection::all());

    let at = SnapshotRef {
        id: snapshot.id.to_string(),
        day: day(0),
        revision: 1,
        seq: Seq::FIRST,
        late: false,
        backfilled: false,
        partial: false,
        imported: false,
    };
    let entry = Entry {
        tenant: &tenant,
        snapshot: &at,
        observed_time: "2026-11-22T06:15:00Z",
        observed_at: UnixMillis::default(),
        history: &[],
        catalog: &catalog,
        comparison: Comparison::default(),
        rules: Rules::none(),
        replayed: false,
    };

    let records = Records::new(&entry, &snapshot, &selection);
    let records: Vec<_> = (0..records.end()).filter_map(|index| records.at(index)).collect();
    let mut formatter = Formatter::new(
        FormatName::Json,
        Options { texts, host: "collector".into(), fields: vec![] },
    );

    let mut out = Vec::new();
    let mut run = || {
        out.clear();
        records.iter().for_each(|record| formatter.write(record, &mut out));
        out.len()
    };
    let bytes = run();
    bencher
        .counter(ItemsCount::new(records.len()))
        .counter(BytesCount::new(bytes))
        .bench_local(run);
}
