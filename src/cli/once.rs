//! `once`: poll, deliver, exit. For cron, CI and Kubernetes CronJobs.

use std::path::Path;

use super::{Exit, Failed, act_as_owner, block_on, count, load, on_one_line, say, say_explained};
use crate::{
    daemon::{Engine, OnceReport, once as run_once},
    error::{Explanation, chain},
};

pub(super) fn once(config: &Path) -> Result<Exit, Failed> {
    let configuration = load(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    let report = block_on(run_once(&engine))?;
    say_report(&report);
    Ok(if report.is_complete() { Exit::Done } else { Exit::Incomplete })
}

pub(super) fn say_report(report: &OnceReport) {
    for (name, poll) in &report.polls {
        match poll {
            Ok(poll) => {
                let newest = poll
                    .newest
                    .map_or_else(|| "no day yet".to_owned(), |day| format!("newest {day}"));
                let mut line =
                    format!("tenant {name}: {}, {newest}", count(poll.days as u64, "new day"));
                if poll.revisions > 0 {
                    line = format!("{line}, {}", count(poll.revisions as u64, "revision"));
                }
                if poll.rejected > 0 {
                    line = format!("{line}, {} refused", count(poll.rejected as u64, "snapshot"));
                }
                if poll.held > 0 {
                    line = format!("{line}, {} held back", count(poll.held as u64, "day"));
                }
                if let Some(reason) = &poll.incomplete {
                    line = format!("{line}; {}", on_one_line(reason));
                }
                say(&line);
            }
            Err(error) => say_explained(&Explanation::of(error).within(&format!("tenant {name}"))),
        }
    }
    for (name, delivered, stopped) in &report.sinks {
        let delivered = count(*delivered, "record");
        match stopped {
            None => say(&format!("sink {name}: {delivered} delivered")),
            Some(stopped) => {
                say(&format!("sink {name}: {delivered} delivered, then: {}", chain(stopped)));
            }
        }
    }
}
