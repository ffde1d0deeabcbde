//! Measures the cost of a process: wall time, processor time and peak memory. The process must not
//! be changed for the measurement, so everything is read from `/proc`. Start reading at
//! [`measure`].

use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Runs a command that must succeed, and describes its wall time, processor time and peak resident
/// memory.
pub(crate) fn measure(mut command: Command) -> String {
    let began = now();
    let mut child = command.spawn().unwrap();
    let read = |name: &str| fs_err::read_to_string(format!("/proc/{}/{name}", child.id()));

    // A process that has exited remains a zombie, whose times can be read, until it is waited for.
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

    // A clock tick is 10 ms on every Linux platform that Rust supports.
    format!(
        "{seconds:.1} s, {:.1} s of processor time, {peak:.1} MiB peak resident memory",
        ticks as f64 / 100.0
    )
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures wall-clock time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "there is no other task that could be blocked")]
fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
