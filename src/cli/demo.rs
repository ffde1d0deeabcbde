//! `demo`: runs the whole pipeline against a simulated tenant, prints what a SIEM receives, and
//! writes a report. It needs no account and no configuration, and removes everything except the
//! report. With `--serve`, it only serves the simulated tenant, for tests and for trying out
//! configurations.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{
    CommandFailure, ExitCode, args, block_on, count, once::print_report, output_file, print,
    print_explanation, render,
};
use crate::{
    checkpoint::StatusDetail,
    clock,
    config::Configuration,
    daemon::{Engine, OnceReport, Reporter, once},
    error::Explanation,
    model::Day,
    report::{Detail, Format, Window},
    source::simulated::{Simulation, start},
    text::{decimal, minute, points},
};

/// A temporary directory that is removed when the value is dropped.
struct ScratchDirectory(PathBuf);

impl ScratchDirectory {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir()
            .join(format!("secure-score-forwarder-demo-{}", uuid::Uuid::new_v4().simple()));
        fs_err::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.0);
    }
}

/// Runs the command. Returns `Incomplete` if a poll or a delivery is incomplete. Fails if the
/// temporary directory cannot be created or the port cannot be bound.
pub(super) fn demo(args: &args::Demo) -> Result<ExitCode, CommandFailure> {
    if args.serve {
        return serve(args);
    }
    let scratch = ScratchDirectory::new()?;
    block_on(demonstrate(&scratch.0, args))?
}

/// Serves the simulated tenant until the command is interrupted. The first line of standard output
/// is a JSON object with its URLs, IDs and secret.
fn serve(args: &args::Demo) -> Result<ExitCode, CommandFailure> {
    let port = args.port;
    let mut simulation =
        Simulation { today: args.today, latency: args.latency, ..Simulation::contoso() }
            .with_tenants(args.tenants);
    // The secret is random by default. A caller that must configure it in advance sets the
    // variable.
    if let Ok(secret) = std::env::var("SECURE_SCORE_DEMO_SECRET") {
        simulation.client_secret = secret;
    }

    let served = block_on(async {
        let (address, serving) = start(simulation.clone(), port).await?;
        let description = serde_json::json!({
            "login_url": format!("http://{address}"), "graph_url": format!("http://{address}"), "tenant": simulation.tenants[0],
            "more_tenants": simulation.tenants[1..],
            "domain": simulation.domain, "client_id": simulation.client_id, "client_secret": simulation.client_secret,
        });
        print(&format!("{description}\n"))?;
        let explanation = Explanation::new("serving the simulated tenant");
        print_explanation(&explanation.with_hint("press Ctrl-C to stop"));
        serving.await.map_err(CommandFailure::from)
    });

    match served {
        Err(failure) if failure.code == ExitCode::Interrupted => Ok(ExitCode::Done),
        Err(failure) => Err(failure),
        Ok(result) => result.map(|()| ExitCode::Done),
    }
}

async fn demonstrate(scratch: &Path, args: &args::Demo) -> Result<ExitCode, CommandFailure> {
    let simulation = Simulation::contoso();
    let (address, serving) = start(simulation.clone(), 0).await?;
    let serving = tokio::spawn(serving);
    let configuration =
        configuration(scratch, &simulation, &format!("http://{address}"), args.days)?;

    // The second round shows that a poll without new days delivers nothing.
    let started = started();
    let engine = Engine::build(configuration)?;
    let first = once(&engine).await;
    let elapsed = started.elapsed();
    let second = once(&engine).await;
    serving.abort();
    if !first.is_complete() || !second.is_complete() {
        print_report(&first);
        print_report(&second);
        return Ok(ExitCode::Incomplete);
    }

    print(&sample_records(scratch)?)?;
    print(&statistics(scratch, &engine, &first, &second, elapsed.as_secs_f64())?)?;
    print(&important_changes(&engine, &args.report)?)?;
    Ok(ExitCode::Done)
}

/// Writes the report, and returns the most important changes of each tenant.
fn important_changes(engine: &Engine, report_file: &Path) -> Result<String, CommandFailure> {
    let last = Day::of(clock::now());
    let window = Window { first: last.plus(-364), last };
    let mut out = String::from("\nThe three most important changes:\n\n");
    for state in engine.tenants() {
        let Some(tenant) = state.resolved() else { continue };
        let mut reporter = Reporter::new(engine.store().checkpoint());
        let report = reporter.report(&tenant, &state.plan, window, Detail::Page)?;
        for change in report.most_important(3) {
            let severity = change.severity.as_str();
            let _ = writeln!(out, "  {} {severity}: {}", change.day, change.sentence);
        }

        let generated = minute(clock::now());
        match output_file::replace(report_file, &report.write(Format::Html, &generated)) {
            Ok(()) => {
                let message = format!("wrote the full report to `{}`", report_file.display());
                let explanation = Explanation::new(message).with_hint("open it in a browser");
                let _ = writeln!(out, "\n{}", render(&explanation));
            }
            Err(error) => {
                let error = Explanation::of(&error).within("cannot write the report");
                print_explanation(&error.with_hint("pass --report with another path"));
            }
        }
    }

    let explanation = Explanation::new("all other files of the demo are removed")
        .with_hint("run `secure-score-forwarder init` to configure your own tenant");
    let _ = writeln!(out, "{}", render(&explanation));
    Ok(out)
}

#[expect(clippy::disallowed_methods, reason = "the elapsed time is shown to the user")]
fn started() -> Instant {
    Instant::now()
}

/// A configuration as an operator would write it, except for the URLs of the simulated tenant.
fn configuration(
    scratch: &Path,
    simulation: &Simulation,
    url: &str,
    days: i32,
) -> Result<Configuration, CommandFailure> {
    let directory = scratch.display();
    fs_err::write(scratch.join("secret"), &simulation.client_secret)?;
    let text = format!(
        r#"
        [state]
        directory = "{directory}/state"

        [[tenants]]
        name = "contoso"
        id = "{id}"
        cloud = {{ login_url = "{url}", graph_url = "{url}" }}
        initial_backfill_days = {days}
        [tenants.labels]
        customer = "demo"
        [tenants.credential]
        kind = "client_secret"
        client_id = "{client_id}"
        client_secret = {{ file = "{directory}/secret" }}

        [[sinks]]
        name = "siem"
        type = "file"
        path = "{directory}/records.cef"
        format = "cef"

        [[sinks]]
        name = "lake"
        type = "file"
        path = "{directory}/records.jsonl"
        "#,
        id = simulation.tenants[0],
        client_id = simulation.client_id,
    );
    Ok(Configuration::parse("demo.toml", &text)?)
}

/// One control, the summary of its day, and the same control in the canonical JSON.
fn sample_records(scratch: &Path) -> Result<String, CommandFailure> {
    let cef = fs_err::read_to_string(scratch.join("records.cef"))?;
    let json = fs_err::read_to_string(scratch.join("records.jsonl"))?;
    let last = |text: &str, pattern: &str| {
        text.lines().rev().find(|line| line.contains(pattern)).unwrap_or_default().to_owned()
    };

    let control = last(&cef, "|ControlSnapshot|");
    let summary = last(&cef, "|TenantScore|");
    let canonical = last(&json, "\"kind\":\"control\"");
    Ok(format!(
        "Records as a SIEM receives them, in CEF: a control of the newest day, and the summary of the tenant\n\n  {control}\n\n  {summary}\n\n\
         The same control in the canonical JSON\n\n  {canonical}\n\n"
    ))
}

/// What was read, delivered and stored, and how the score changed.
fn statistics(
    scratch: &Path,
    engine: &Arc<Engine>,
    first: &OnceReport,
    second: &OnceReport,
    seconds: f64,
) -> Result<String, CommandFailure> {
    let mut out = String::from("Statistics\n\n");
    for (name, poll) in &first.polls {
        let (days, newest) = poll.as_ref().map(|poll| (poll.days, poll.newest)).unwrap_or_default();
        let newest = newest.map(|day| day.to_string()).unwrap_or_default();
        let days = count(days, "day");
        let _ = writeln!(out, "  tenant `{name}`: {days} read, newest `{newest}`");
    }
    for sink in &first.sinks {
        let delivered = count(sink.delivered, "record");
        let _ = writeln!(out, "  sink `{}`: {delivered} delivered", sink.name);
    }

    let status = engine.store().checkpoint().status(StatusDetail::Summary)?;
    let _ = writeln!(out, "  from the first request to the last acknowledgement: {seconds:.2} s");
    let _ = writeln!(out, "  checkpoint: {} kB", status.size / 1_000);
    for line in score_lines(&fs_err::read_to_string(scratch.join("records.jsonl"))?) {
        let _ = writeln!(out, "  {line}");
    }

    let delivered: u64 = second.sinks.iter().map(|sink| sink.delivered).sum();
    let delivered = count(delivered, "record");
    let _ = writeln!(out, "  second poll: no new days, {delivered} delivered");
    Ok(out)
}

/// The first, the lowest and the last score, from the summaries in the canonical JSON.
fn score_lines(json: &str) -> Vec<String> {
    let summaries = json.lines().filter(|line| line.contains("\"kind\":\"summary\""));
    let score = |line: &str| -> Option<(String, f64, f64)> {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        let day = record["snapshot"]["date"].as_str()?.to_owned();
        Some((day, record["score"]["current"].as_f64()?, record["score"]["max"].as_f64()?))
    };
    let scores: Vec<(String, f64, f64)> = summaries.filter_map(score).collect();

    let line = |label: &str, (day, current, max): &(String, f64, f64)| {
        format!("{label} {day}: {} of {}", decimal(*current), points(*max))
    };
    let lowest = scores.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let labeled =
        [("score on", scores.first()), ("lowest score on", lowest), ("score on", scores.last())];
    labeled.into_iter().filter_map(|(label, score)| Some(line(label, score?))).collect()
}
