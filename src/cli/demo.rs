//! `demo`: the whole way from API to SIEM against a simulated tenant, and nothing left behind.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{Exit, Failed, args, block_on, count, print, say};
use crate::{
    clock,
    config::Configuration,
    daemon::{Engine, OnceReport, Reporter, once},
    model::Day,
    report::{Format, Window},
    source::simulated::{Simulation, start},
};

/// A directory that goes when its value does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir()
            .join(format!("secure-score-forwarder-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn demo(args: &args::Demo) -> Result<Exit, Failed> {
    if args.serve {
        return serve(args);
    }
    let scratch = Scratch::new()?;
    block_on(show(&scratch.0, args))?
}

/// Keeps the simulated tenant up until interrupted.
fn serve(args: &args::Demo) -> Result<Exit, Failed> {
    let port = args.port;
    let mut simulation =
        Simulation { today: args.today, latency: args.latency, ..Simulation::contoso() }
            .with_tenants(args.tenants);
    // For those who have to know it before the start; a new one each time otherwise.
    if let Ok(secret) = std::env::var("SECURE_SCORE_DEMO_SECRET") {
        simulation.client_secret = secret;
    }
    let served = block_on(async {
        let (address, serving) = start(simulation.clone(), port).await?;
        let shown = serde_json::json!({
            "login_url": format!("http://{address}"), "graph_url": format!("http://{address}"), "tenant": simulation.tenants[0],
            "more_tenants": simulation.tenants[1..],
            "domain": simulation.domain, "client_id": simulation.client_id, "client_secret": simulation.client_secret,
        });
        print(&format!("{shown}\n"))?;
        say("the simulated tenant is up; interrupt to end it");
        serving.await.map_err(Failed::from)
    });
    match served {
        Err(failed) if failed.exit == Exit::Interrupted => Ok(Exit::Done),
        Err(failed) => Err(failed),
        Ok(result) => result.map(|()| Exit::Done),
    }
}

async fn show(scratch: &Path, args: &args::Demo) -> Result<Exit, Failed> {
    let simulation = Simulation::contoso();
    let (address, serving) = start(simulation.clone(), 0).await?;
    let serving = tokio::spawn(serving);
    let configuration =
        configuration(scratch, &simulation, &format!("http://{address}"), args.days)?;
    let began = began();
    let engine = Engine::build(configuration)?;
    let first = once(&engine).await;
    let took = began.elapsed();
    let second = once(&engine).await;
    serving.abort();
    if !first.is_complete() || !second.is_complete() {
        super::once::say_report(&first);
        super::once::say_report(&second);
        return Ok(Exit::Incomplete);
    }
    print(&story(scratch, &engine, &first, &second, took.as_secs_f64())?)?;
    print(&ending(&engine, &args.report)?)?;
    Ok(Exit::Done)
}

/// What changed, and the report that tells the rest.
fn ending(engine: &Engine, file: &Path) -> Result<String, Failed> {
    let last = Day::of(clock::now());
    let window = Window { first: last.plus(-364), last };
    let mut out = String::from("\nThe three changes that matter most\n\n");
    for state in &engine.tenants {
        let Some(tenant) = state.resolved() else { continue };
        let report =
            Reporter::new(&engine.checkpoint).report(&tenant, &state.plan, window, true)?;
        for change in report.most_important(3) {
            let severity = change.severity.as_str();
            let _ = writeln!(out, "  {} {severity}: {}", change.day, change.sentence);
        }
        let made = clock::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
        let page = report.write(Format::Html, &made);
        let written = fs_err::write(file, page);
        let _ = match written {
            Ok(()) => {
                writeln!(out, "\nThe whole report, to be opened in a browser: {}", file.display())
            }
            Err(error) => {
                writeln!(out, "\nThe report was not written ({error}); name a place with --report")
            }
        };
    }
    let _ = writeln!(
        out,
        "Nothing else is left behind. Next: write a configuration for your own tenant (see the README)."
    );
    Ok(out)
}

#[expect(clippy::disallowed_methods, reason = "how long it took is shown to people")]
fn began() -> Instant {
    Instant::now()
}

/// The same configuration that an operator would write, against the simulated cloud.
fn configuration(
    scratch: &Path,
    simulation: &Simulation,
    url: &str,
    days: i32,
) -> Result<Configuration, Failed> {
    let directory = scratch.display();
    std::fs::write(scratch.join("secret"), &simulation.client_secret)?;
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
    Ok(Configuration::parse("the demo's configuration", &text)?)
}

/// What the SIEM would have seen, and the numbers.
fn story(
    scratch: &Path,
    engine: &Arc<Engine>,
    first: &OnceReport,
    second: &OnceReport,
    seconds: f64,
) -> Result<String, Failed> {
    let cef = std::fs::read_to_string(scratch.join("records.cef"))?;
    let json = std::fs::read_to_string(scratch.join("records.jsonl"))?;
    let mut out = String::from(
        "What a SIEM sees, as CEF: a control of the newest day, and the tenant's total\n\n",
    );
    let last = |text: &str, mark: &str| {
        text.lines().rev().find(|line| line.contains(mark)).unwrap_or_default().to_owned()
    };
    for class in ["|ControlSnapshot|", "|TenantScore|"] {
        let _ = writeln!(out, "  {}\n", last(&cef, class));
    }
    let _ = writeln!(
        out,
        "The same control as canonical JSON\n\n  {}\n",
        last(&json, "\"kind\":\"control\"")
    );
    let _ = writeln!(out, "In numbers\n");
    for (name, poll) in &first.polls {
        let poll = poll.as_ref().map(|poll| (poll.days, poll.newest)).unwrap_or_default();
        let newest = poll.1.map(|day| day.to_string()).unwrap_or_default();
        let _ =
            writeln!(out, "  tenant {name}: {} read, newest {newest}", count(poll.0 as u64, "day"));
    }
    for (name, delivered, _) in &first.sinks {
        let _ = writeln!(out, "  sink {name}: {} delivered", count(*delivered, "record"));
    }
    let status = engine.checkpoint.status()?;
    let _ = writeln!(out, "  from the first request to the last receipt: {seconds:.2} s");
    let _ = writeln!(out, "  checkpoint: {} kB", status.size / 1_000);
    for line in score_lines(&json) {
        let _ = writeln!(out, "  {line}");
    }
    let again: u64 = second.sinks.iter().map(|(_, delivered, _)| delivered).sum();
    let _ = writeln!(out, "  asked again: nothing new, {} delivered", count(again, "record"));
    Ok(out)
}

/// How the score went, from the summaries.
fn score_lines(json: &str) -> Vec<String> {
    let summaries = json.lines().filter(|line| line.contains("\"kind\":\"summary\""));
    let score = |line: &str| -> Option<(String, f64, f64)> {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        let day = record["snapshot"]["date"].as_str()?.to_owned();
        Some((day, record["score"]["current"].as_f64()?, record["score"]["max"].as_f64()?))
    };
    let scores: Vec<(String, f64, f64)> = summaries.filter_map(score).collect();
    let line = |word: &str, (day, current, max): &(String, f64, f64)| {
        format!("{word} {day}: {current} of {max} points")
    };
    let lowest = scores.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let ends = [("score on", scores.first()), ("lowest on", lowest), ("score on", scores.last())];
    ends.into_iter().filter_map(|(word, score)| Some(line(word, score?))).collect()
}
