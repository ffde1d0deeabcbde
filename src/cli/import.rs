//! `import`: saved answers of either API become history.

use std::{collections::BTreeMap, path::Path};

use super::{Exit, Failed, act_as_owner, args, block_on, count, say, say_explained};
use crate::{
    checkpoint::{Checkpoint, Holder},
    config::{Configuration, TenantName},
    daemon::{self, Engine, Event, Request},
    error::{Explanation, chain},
    model::{Day, TenantId},
    wire,
};

/// Bytes of snapshots that go to a daemon at a time.
const PART: usize = 8 << 20;

/// The snapshots of one tenant, oldest first.
type Found = BTreeMap<String, Vec<(Day, String)>>;

pub(super) fn import(config: &Path, args: &args::Import) -> Result<Exit, Failed> {
    // No secret is needed for it: beside a daemon none may be at hand.
    let configuration = Configuration::load(config)?;
    let mut found = Found::new();
    let mut skipped = 0;
    for file in &args.files {
        skipped += read(file, &mut found)?;
    }
    if skipped > 0 {
        say(&format!("{} are no snapshots of a day, and are left out", count(skipped, "item")));
    }
    let known = by_name(&configuration, &found)?;
    let holder = super::holder_of(&configuration.state_directory);
    let exit = match holder {
        Some(holder) => through_daemon(&holder, &known)?,
        None => alone(configuration, &known)?,
    };
    Ok(if skipped > 0 { Exit::Incomplete } else { exit })
}

/// Reads a file; gives how many items were no snapshots of a tenant and a day.
fn read(file: &Path, found: &mut Found) -> Result<u64, Failed> {
    let reject =
        |reason: String| Failed::new(Exit::Usage, format!("`{}`: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| {
        let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let explanation = Explanation::new(format!("`{}`: {error}", file.display()));
        Failed::new(
            Exit::Usage,
            if denied {
                explanation.with_hint("make it readable for the owner of the state directory, who reads it while no daemon is running")
            } else {
                explanation
            },
        )
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let mut skipped = 0;
    for item in wire::saved(text).map_err(|error| reject(chain(&error)))? {
        let snapshot = wire::snapshot(item).ok();
        let named =
            snapshot.and_then(|s| Some((TenantId::parse(s.tenant_id.as_deref()?).ok()?, s.day()?)));
        match named {
            Some((tenant, day)) => {
                found.entry(tenant.to_string()).or_default().push((day, item.to_owned()));
            }
            None => skipped += 1,
        }
    }
    Ok(skipped)
}

/// The configured tenants that something was found of, by name.
fn by_name(
    configuration: &Configuration,
    found: &Found,
) -> Result<Vec<(String, Vec<String>)>, Failed> {
    let checkpoint = Checkpoint::inspect(&configuration.state_directory).ok();
    let guid = |id: &TenantName| match id {
        TenantName::Guid(id) => Some(*id),
        TenantName::Domain(domain) => checkpoint.as_ref()?.resolved(domain).ok().flatten(),
    };
    let mut known = Vec::new();
    for (tenant, items) in found {
        let plan = configuration
            .tenants
            .iter()
            .find(|plan| guid(&plan.id).is_some_and(|id| id.to_string() == *tenant));
        let Some(plan) = plan else {
            let explanation = Explanation::new(format!(
                "the files hold days of tenant {tenant}, which is not configured"
            ));
            return Err(Failed::new(
                Exit::Usage,
                explanation.with_hint("add the tenant to the configuration; one that is configured by its domain must have been polled once"),
            ));
        };
        let mut items = items.clone();
        items.sort_by_key(|(day, _)| *day);
        known.push((plan.name.clone(), items.into_iter().map(|(_, item)| item).collect()));
    }
    Ok(known)
}

fn alone(configuration: Configuration, known: &[(String, Vec<String>)]) -> Result<Exit, Failed> {
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    block_on(async {
        let mut exit = Exit::Done;
        for (name, items) in known {
            let Some(tenant) = engine.tenant_named(name).and_then(daemon::TenantState::resolved)
            else {
                continue;
            };
            let mut total = (0, 0);
            for part in parts(items) {
                match engine.import(&tenant, &part) {
                    Ok(report) => total = (total.0 + report.days, total.1 + report.rejected),
                    Err(error) => {
                        say_explained(&Explanation::of(&error).within(&format!("tenant {name}")));
                        exit = Exit::Incomplete;
                    }
                }
            }
            said(name, total);
            exit = if total.1 > 0 { Exit::Incomplete } else { exit };
        }
        exit
    })
}

fn through_daemon(holder: &Holder, known: &[(String, Vec<String>)]) -> Result<Exit, Failed> {
    let socket = super::socket_of(holder)?;
    let mut exit = Exit::Done;
    for (name, items) in known {
        let mut total = (0, 0);
        for part in parts(items) {
            let items = part.into_iter().map(str::to_owned).collect();
            match daemon::send_request(
                socket,
                &Request::Import { tenant: name.clone(), items },
                |_| {},
            )? {
                Event::Imported { days, rejected } => {
                    total = (total.0 + days, total.1 + rejected);
                }
                Event::Error(explanation) => {
                    say_explained(&explanation.within(&format!("tenant {name}")));
                    exit = Exit::Incomplete;
                }
                _ => exit = Exit::Incomplete,
            }
        }
        said(name, total);
        exit = if total.1 > 0 { Exit::Incomplete } else { exit };
    }
    Ok(exit)
}

/// Items in groups of a bearable size, in their order.
fn parts(items: &[String]) -> Vec<Vec<&str>> {
    let mut parts: Vec<Vec<&str>> = Vec::new();
    let mut size = usize::MAX;
    for item in items {
        if size.saturating_add(item.len()) > PART {
            parts.push(Vec::new());
            size = 0;
        }
        size += item.len();
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}

fn said(name: &str, (days, refused): (usize, usize)) {
    let refused = match refused {
        0 => String::new(),
        refused => format!(", {} refused", count(refused as u64, "snapshot")),
    };
    say(&format!("tenant {name}: {} imported{refused}", count(days as u64, "new day")));
}
