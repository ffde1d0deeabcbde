//! What a process cost.

use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Wall time, time of the processor, and memory at most, of a process that must succeed.
pub(crate) fn measure(mut command: Command) -> String {
    let began = now();
    let mut child = command.spawn().unwrap();
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id()));
    let mut peak = 0.0;
    let ticks = loop {
        let stat = read("stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        if fields[0] == "Z" {
            break fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
        if let Some(line) = read("status").unwrap().lines().find(|line| line.starts_with("VmHWM")) {
            peak = line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0;
        }
        pause(10);
    };
    let seconds = began.elapsed().as_secs_f64();
    assert!(child.wait().unwrap().success());
    // A tick is a hundredth of a second on every Linux that Rust runs on.
    format!(
        "{seconds:.1} s, {:.1} s of processor, {peak:.1} MiB resident at most",
        ticks as f64 / 100.0
    )
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "nothing else runs here")]
fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
