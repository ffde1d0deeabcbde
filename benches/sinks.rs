//! Benchmarks the throughput of sinks: format, frame, send, and wait for the acknowledgement. The
//! records are derived in advance, and one thread sends them. The receivers on the loopback
//! interface read and discard the data, except that of Kafka, which is a real broker.
//!
//! Run it with `cargo bench --profile dist --bench sinks [-- NAME]`.

#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::result_large_err,
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "a benchmark measures wall-clock time and prints figures"
)]

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use secure_score_forwarder::{
    config::Configuration,
    derive::{Entry, Records, Selection},
    format::Texts,
    model::{Catalog, Day, Seq, SinkName, SnapshotRef, Tenant, TenantId, UnixMillis},
    sink::{Acknowledgement, Batch, Context, Limits, Sink},
    source::simulated::{self, Richness},
    wire,
};
use support::{TENANT, broker::Broker, rsyslog::write_pki, write};

/// The allocator that the binary uses.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The number of days whose records are sent.
const DAYS: i32 = 30;
/// The minimum duration of a measurement, which consists of three runs.
const MIN_TIME: Duration = Duration::from_secs(3);

fn main() {
    // `cargo test --benches` passes this argument. A benchmark has no tests, so nothing is run.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }

    let only = std::env::args().nth(1).filter(|arg| !arg.starts_with('-')).unwrap_or_default();
    let directory = tempfile::tempdir().unwrap();
    write_pki(directory.path());
    write(directory.path().join("secret"), "token");
    let d = directory.path().display().to_string();
    println!("{:<46} {:>12} {:>10} {:>9}", "sink", "records/s", "bytes", "MB/s");
    for texts in ["none", "full"] {
        let tcp = discard(None);
        bench(
            &only,
            &format!("syslog tcp, CEF, texts {texts}"),
            texts,
            &format!(
                "type = \"syslog\"\naddress = \"tcp://127.0.0.1:{tcp}\"\nmax_message = \"64KiB\""
            ),
        );
        let tls = discard(Some(&d));
        let keys = format!("ca_file = \"{d}/ca.pem\"\nserver_name = \"server.test\"");
        bench(
            &only,
            &format!("syslog tls, CEF, texts {texts}"),
            texts,
            &format!(
                "type = \"syslog\"\naddress = \"tls://127.0.0.1:{tls}\"\nmax_message = \"64KiB\"\n{keys}"
            ),
        );
    }

    for (name, gzip, acks) in [
        ("hec", false, false),
        ("hec, acknowledged", false, true),
        ("hec, gzip", true, false),
        ("hec, gzip, acknowledged", true, true),
    ] {
        let port = collector(acks);
        let section = format!(
            "type = \"splunk_hec\"\nurl = \"http://127.0.0.1:{port}\"\ntoken = {{ file = \"{d}/secret\" }}\ngzip = {gzip}\nacknowledgement = {acks}"
        );
        bench(&only, name, "short", &section);
    }

    if only.is_empty() || only.contains("kafka") {
        let broker = Broker::start();
        for (name, topic, extra) in [
            ("kafka, transactions", "once", ""),
            ("kafka, idempotent", "plain", "\nexactly_once = false"),
        ] {
            broker.create_topic(topic, 1 << 20);
            let section = format!(
                "type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"{topic}\"{extra}",
                broker.address
            );
            bench(&only, name, "short", &section);
        }
    }
}

fn bench(only: &str, name: &str, texts: &str, section: &str) {
    // The newest day has Microsoft's texts. Older days, which a backfill reads, do not.
    for (days, richness) in [("newest", Richness::Rich), ("older", Richness::Poor)] {
        let name = format!("{name}, {days} days");
        if name.contains(only) {
            measure(&name, texts, richness, section);
        }
    }
}

/// Measures one sink and prints its records per second, bytes per record and MB per second.
fn measure(name: &str, texts: &str, richness: Richness, section: &str) {
    let text = format!(
        "[state]\ndirectory = \"/nowhere\"\n[[tenants]]\nname = \"contoso\"\nid = \"{TENANT}\"\n[tenants.credential]\nkind = \"managed_identity\"\n[[sinks]]\nname = \"bench\"\n{section}"
    );
    let configuration = Configuration::parse("bench", &text).unwrap();
    let plan = Arc::clone(&configuration.sinks[0].plan);
    let context = Context {
        name: SinkName::new("bench"),
        host: "collector".into(),
        texts: Texts::parse(texts).unwrap(),
        fields: vec![],
        tokens: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();

    let limits = plan.limits();
    // The broker runs on a Java virtual machine and becomes faster as its code is compiled.
    let warm_up = if name.starts_with("kafka") { MIN_TIME * 3 } else { MIN_TIME / 10 };

    let (rate, size) = runtime.block_on(async {
        tokio::spawn(async move {
            let mut sink = plan.open(&context, None).await.unwrap();
            run(&mut *sink, limits, richness, warm_up).await;
            let mut rates = Vec::new();
            let mut size = 0.0;
            for _ in 0..3 {
                let (records, bytes, time) = run(&mut *sink, limits, richness, MIN_TIME / 3).await;
                rates.push(records as f64 / time.as_secs_f64());
                size = bytes as f64 / records as f64;
            }
            sink.close().await;
            rates.sort_by(f64::total_cmp);
            (rates[1], size)
        })
        .await
        .unwrap()
    });

    println!("{name:<46} {rate:>12.0} {size:>10.0} {:>9.0}", rate * size / 1e6);
}

/// Sends the days repeatedly for at least this time, with as many batches in flight as the sink
/// allows. Returns the number of records, their bytes, and the time until all were acknowledged.
async fn run(
    sink: &mut dyn Sink,
    limits: Limits,
    richness: Richness,
    min_time: Duration,
) -> (usize, usize, Duration) {
    let tenant = Tenant {
        id: TenantId::parse(TENANT).unwrap(),
        name: "contoso".into(),
        labels: Default::default(),
    };
    let today = Day::parse("2026-11-22").unwrap();

    let bodies: Vec<String> = (0..DAYS)
        .map(|back| simulated::snapshot_json(TENANT, today.plus(-back), richness))
        .collect();
    let snapshots: Vec<_> = bodies.iter().map(|body| wire::snapshot(body).unwrap()).collect();
    let catalog = catalog();
    let snapshot_refs: Vec<SnapshotRef> =
        (0..DAYS).map(|back| snapshot_ref(today.plus(-back))).collect();
    let entries: Vec<Entry<'_>> = snapshot_refs
        .iter()
        .map(|at| Entry {
            tenant: &tenant,
            snapshot: at,
            observed_time: "2026-11-22T06:15:00Z",
            observed_at: UnixMillis::new(1_795_341_600_000),
            history: &[],
            catalog: &catalog,
            comparison: Default::default(),
            rules: secure_score_forwarder::derive::Rules::none(),
            replayed: false,
        })
        .collect();
    let selection = Selection::all();
    let days: Vec<Records<'_>> =
        entries.iter().zip(&snapshots).map(|(e, s)| Records::new(e, s, &selection)).collect();
    let records: Vec<_> =
        days.iter().flat_map(|day| (0..day.end()).filter_map(|index| day.at(index))).collect();

    let mut acknowledgements: VecDeque<Acknowledgement> = VecDeque::new();
    let mut batch = Batch::default();
    let (mut sent, mut bytes) = (0, 0);
    let began = Instant::now();
    'all: loop {
        for record in &records {
            sink.encode(record, &mut batch).unwrap();
            if batch.len() >= limits.records || batch.bytes().len() >= limits.bytes {
                sent += batch.len();
                bytes += batch.bytes().len();
                acknowledgements.push_back(sink.deliver(&batch).await.unwrap());
                batch.clear();
                while acknowledgements.len() >= limits.in_flight.max(1) {
                    acknowledgements.pop_front().unwrap().wait().await.unwrap();
                }
                if began.elapsed() >= min_time {
                    break 'all;
                }
            }
        }
    }

    while let Some(acknowledgement) = acknowledgements.pop_front() {
        acknowledgement.wait().await.unwrap();
    }

    (sent, bytes, began.elapsed())
}

fn snapshot_ref(day: Day) -> SnapshotRef {
    SnapshotRef {
        id: format!("{TENANT}_{day}"),
        day,
        revision: 1,
        seq: Seq::FIRST,
        late: false,
        backfilled: false,
        partial: false,
        imported: false,
    }
}

fn catalog() -> Catalog {
    simulated::catalog(TENANT)
}

/// Starts a server that reads and discards all data, with TLS if there are certificates. Returns
/// its port.
fn discard(pki: Option<&str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();

    let tls = pki.map(server_config);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let tls = tls.clone();
            std::thread::spawn(move || match tls {
                None => drain(&mut stream),
                Some(config) => {
                    let session = rustls::ServerConnection::new(config).unwrap();
                    drain(&mut rustls::StreamOwned::new(session, stream));
                }
            });
        }
    });
    port
}

fn drain(reader: &mut impl Read) {
    let mut buffer = vec![0; 1 << 18];
    while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

fn server_config(pki: &str) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certificates = CertificateDer::pem_file_iter(format!("{pki}/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{pki}/server.key")).unwrap();
    let builder = rustls::ServerConfig::builder().with_no_client_auth();
    Arc::new(builder.with_single_cert(certificates.map(Result::unwrap).collect(), key).unwrap())
}

/// Starts an HEC receiver that reads and discards all events. With `acks`, it reports every request
/// as indexed immediately. Returns its port.
fn collector(acks: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || collect(stream, acks));
        }
    });
    port
}

/// Serves one connection. Returns when the client closes it or sends something unexpected.
fn collect(stream: TcpStream, acks: bool) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let (mut next, mut line, mut body) = (0_u64, String::new(), Vec::new());
    loop {
        let (mut length, mut is_ack_request) = (0, false);
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            is_ack_request |= line.starts_with("POST /services/collector/ack");
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }

        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;

        let response = if is_ack_request {
            let request: serde_json::Value = serde_json::from_slice(&body).ok()?;
            let all = request["acks"].as_array()?.iter().map(|id| format!("\"{id}\":true"));
            format!("{{\"acks\":{{{}}}}}", all.collect::<Vec<_>>().join(","))
        } else if acks {
            next += 1;
            format!("{{\"text\":\"Success\",\"code\":0,\"ackId\":{}}}", next - 1)
        } else {
            "{\"text\":\"Success\",\"code\":0}".to_owned()
        };

        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", response.len());
        writer.write_all((head + &response).as_bytes()).ok()?;
    }
}
