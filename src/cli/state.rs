//! `state`: care of the checkpoint. What only reads works beside a daemon; what writes goes through
//! it, or wants it stopped where the whole file is concerned.

use std::{io::Write, path::Path};

use super::{
    Exit, Failed, act_as_owner, args, as_megabytes, count, holder_of, print, say, say_explained,
};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, Forgotten, LostBody, Pruned, Repaired, Restored, VerifyReport,
    },
    clock,
    config::{Configuration, TenantName},
    daemon::{self, Event, Request},
    error::Explanation,
    model::{Day, TenantId},
};

pub(super) fn state(config: &Path, args: &args::State) -> Result<Exit, Failed> {
    // No secret is needed for any of it.
    let configuration = Configuration::load(config)?;
    match args {
        args::State::Verify => verify(&configuration),
        args::State::Repair(args) => repair(&configuration, args),
        args::State::Backup(args) => backup(&configuration, args),
        args::State::Restore(args) => restore(&configuration, args),
        args::State::Prune(args) => prune(&configuration, args),
        args::State::Export(args) => export(&configuration, args),
        args::State::Forget(args) => forget(&configuration, args),
    }
}

fn verify(configuration: &Configuration) -> Result<Exit, Failed> {
    let directory = &configuration.state_directory;
    Checkpoint::probe(directory)?;
    let verdict = Checkpoint::inspect(directory)?.verify()?;
    say_verdict(&verdict)?;
    if verdict.findings.is_empty() {
        return Ok(Exit::Done);
    }
    say("hint: stop the daemon, copy the directory, then run `state repair`");
    Ok(Exit::Unusable)
}

fn say_verdict(verdict: &VerifyReport) -> Result<(), Failed> {
    let VerifyReport { entries, bodies, catalogs, profiles, findings } = verdict;
    for finding in findings {
        let tenant = finding.tenant.as_deref().map(|t| format!("tenant {t}: ")).unwrap_or_default();
        let day = finding.day.map(|day| format!("{day}: ")).unwrap_or_default();
        print(&format!("{tenant}{day}{}\n", finding.what))?;
    }
    print(&format!(
        "read {}, {}, {} and {}: {}\n",
        count(*entries, "snapshot"),
        plural(*bodies, "body", "bodies"),
        count(*catalogs, "catalog"),
        count(*profiles, "profile"),
        match findings.len() {
            0 => "all as it was written".to_owned(),
            wrong => plural(wrong as u64, "fault", "faults"),
        }
    ))
}

fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What can be mended is repaired. A database that cannot be used is set aside, and the next start
/// makes a new one, which learns from `cursors.json` what was sent; one that can be used is only set
/// aside if that is asked for, for its history would go with it.
fn repair(configuration: &Configuration, args: &args::StateRepair) -> Result<Exit, Failed> {
    let directory = &configuration.state_directory;
    act_as_owner(directory)?;
    let usable = match Checkpoint::probe(directory) {
        Ok(()) => true,
        Err(CheckpointError::Damaged(_) | CheckpointError::Foreign(_)) => false,
        Err(error) => return Err(error.into()),
    };
    if usable {
        let checkpoint = Checkpoint::open(directory)?;
        let now = clock::now();
        say_mended(&checkpoint.repair(now.as_millisecond(), daemon::facts_of)?, Day::of(now));
        let verdict = checkpoint.verify()?;
        if verdict.findings.is_empty() {
            print("the checkpoint is sound\n")?;
            return Ok(Exit::Done);
        }
        say_verdict(&verdict)?;
        if !args.set_aside {
            say(
                "hint: this cannot be mended in place. `state restore FILE` brings a backup back; without one, `state repair --set-aside` begins anew with the 90 days that Microsoft still has",
            );
            return Ok(Exit::Unusable);
        }
    }
    let aside = Checkpoint::set_aside(directory, &stamp())?;
    if let Some(aside) = aside {
        let explanation = Explanation::new(format!(
            "the database cannot be repaired and was moved to `{}`; the next start reads the 90 days that Microsoft still has, and `cursors.json` prevents duplicates",
            aside.display()
        ));
        say_explained(
            &explanation.with_hint("run `state restore FILE` to restore older days from a backup"),
        );
    }
    Ok(Exit::Done)
}

/// What was repaired, and what became of what could not be.
fn say_mended(repaired: &Repaired, today: Day) {
    for LostBody { tenant, day, lacking } in &repaired.days {
        let then = if *day < today.plus(-90) {
            "Microsoft does not have it any more".to_owned()
        } else if lacking.is_empty() {
            "it is asked for again".to_owned()
        } else {
            let replays: Vec<String> = lacking
                .iter()
                .map(|sink| format!("`replay --sink {sink} --from {day} --to {day}`"))
                .collect();
            format!("it is asked for again; after that poll, {} sends it", replays.join(" and "))
        };
        say(&format!("tenant {tenant}: the text of {day} cannot be read any more; {then}"));
    }
    for (tenant, day) in &repaired.held {
        say(&format!("tenant {tenant}: {day}, which was held, is lost; it is asked for again"));
    }
    for (tenant, name) in &repaired.baselines {
        say(&format!(
            "tenant {tenant}: baseline `{name}` is lost; set it again with `baseline set`"
        ));
    }
    for (tenant, sink) in &repaired.cursors {
        say(&format!("tenant {tenant}: the cursor of sink `{sink}` is back at the end of the log"));
    }
    if repaired.facts > 0 {
        say(&format!(
            "the facts of {} made anew from the text",
            plural(repaired.facts, "day were", "days were")
        ));
    }
    if repaired.catalogs > 0 {
        say(&format!(
            "{} lost; days told with it go by the tenant's next, and the next poll reads the newest anew",
            plural(repaired.catalogs, "catalog is", "catalogs are")
        ));
    }
}

fn backup(configuration: &Configuration, args: &args::StateBackup) -> Result<Exit, Failed> {
    let checkpoint = Checkpoint::inspect(&configuration.state_directory)?;
    if args.file.exists() {
        let message = format!("`{}` is there already, and is not overwritten", args.file.display());
        return Err(Failed::new(Exit::Usage, message));
    }
    let bytes = checkpoint.backup(&args.file)?;
    say(&format!(
        "{} holds the whole checkpoint, {:.1} MB",
        args.file.display(),
        as_megabytes(bytes)
    ));
    Ok(Exit::Done)
}

fn restore(configuration: &Configuration, args: &args::StateRestore) -> Result<Exit, Failed> {
    let directory = &configuration.state_directory;
    // Read as who calls: the owner of the directory may not see the backup.
    if rustix::process::geteuid().is_root() {
        let restored = Checkpoint::restore(directory, &args.file, &stamp());
        give_to_owner(directory)?;
        return say_restored(&restored?);
    }
    say_restored(&Checkpoint::restore(directory, &args.file, &stamp())?)
}

fn say_restored(restored: &Restored) -> Result<Exit, Failed> {
    if let Some(before) = &restored.set_aside {
        say(&format!("what was there before lies at `{}`", before.display()));
    }
    if restored.newer_cursors > 0 {
        say(&format!(
            "{} from `cursors.json`: what was sent since the backup is not sent again",
            plural(restored.newer_cursors as u64, "cursor comes", "cursors come")
        ));
    }
    print(&format!("restored as checkpoint {}\n", restored.checkpoint_id))?;
    Ok(Exit::Done)
}

/// Root leaves no file that the daemon could not open.
fn give_to_owner(directory: &Path) -> Result<(), Failed> {
    use std::os::unix::fs::MetadataExt;
    let owner = fs_err::metadata(directory)?;
    for entry in fs_err::read_dir(directory)? {
        std::os::unix::fs::lchown(entry?.path(), Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

fn prune(configuration: &Configuration, args: &args::StatePrune) -> Result<Exit, Failed> {
    let directory = &configuration.state_directory;
    let Pruned { days, used } = match holder_of(directory) {
        Some(_) if args.compact => {
            return Err(Failed::new(
                Exit::Unusable,
                "`--compact` writes the whole file anew, and wants the daemon stopped".to_owned(),
            ));
        }
        Some(holder) => {
            match daemon::send_request(super::socket_of(&holder)?, &Request::Prune, |_| {})? {
                Event::Pruned(pruned) => pruned,
                other => return Err(unexpected(other)),
            }
        }
        None => {
            act_as_owner(directory)?;
            let checkpoint = Checkpoint::open(directory)?;
            let pruned = daemon::prune(configuration, &checkpoint)?;
            if args.compact {
                checkpoint.compact()?;
            }
            pruned
        }
    };
    print(&format!(
        "the texts of {} let go; {:.1} MB in use\n",
        plural(days, "day were", "days were"),
        as_megabytes(used)
    ))?;
    Ok(Exit::Done)
}

fn export(configuration: &Configuration, args: &args::StateExport) -> Result<Exit, Failed> {
    let checkpoint = Checkpoint::inspect(&configuration.state_directory)?;
    let wanted = configuration
        .tenants
        .iter()
        .filter(|plan| args.tenant.as_ref().is_none_or(|name| *name == plan.name));
    let known: Vec<_> =
        wanted.filter_map(|plan| daemon::resolved_tenant(plan, &checkpoint)).collect();
    if let (Some(name), true) = (&args.tenant, known.is_empty()) {
        return Err(super::no_tenant(configuration, name));
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for tenant in known {
        let mut failed = Ok(());
        checkpoint.each_body(tenant.id, args.from, args.to, |body| {
            // A line end in JSON is outside of its texts, or escaped.
            let line = body.replace(['\n', '\r'], " ");
            failed = writeln!(out, "{line}");
            failed.is_ok()
        })?;
        failed?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn forget(configuration: &Configuration, args: &args::StateForget) -> Result<Exit, Failed> {
    let directory = &configuration.state_directory;
    let usage = |message: String| Failed::new(Exit::Usage, message);
    let tenant = TenantId::parse(&args.tenant).map_err(|_| {
        usage(format!("`{}` is no tenant's GUID; `status --json` shows them", args.tenant))
    })?;
    let inspected = Checkpoint::inspect(directory)?;
    let configured = configuration.tenants.iter().any(|plan| match &plan.id {
        TenantName::Guid(id) => *id == tenant,
        TenantName::Domain(domain) => inspected.resolved(domain).ok().flatten() == Some(tenant),
    });
    if configured {
        let explanation = Explanation::new(format!(
            "tenant {tenant} is configured, and the next poll would read it again"
        ));
        return Err(Failed::new(
            Exit::Usage,
            explanation.with_hint("remove it from the configuration and reload the daemon first"),
        ));
    }
    if !args.yes {
        say(
            "nothing is erased yet: this cannot be undone, and backups keep what they have. Say --yes",
        );
        return Ok(Exit::Incomplete);
    }
    let forgotten = if let Some(holder) = holder_of(directory) {
        let request = Request::Forget { tenant: tenant.to_string() };
        match daemon::send_request(super::socket_of(&holder)?, &request, |_| {})? {
            Event::Forgotten(forgotten) => forgotten,
            other => return Err(unexpected(other)),
        }
    } else {
        act_as_owner(directory)?;
        Checkpoint::open(directory)?.forget(tenant, clock::now().as_millisecond())?
    };
    let Some(forgotten) = forgotten else {
        return Err(usage(format!("nothing is known of tenant {tenant}")));
    };
    print(&receipt(&forgotten))?;
    Ok(Exit::Done)
}

/// What an auditor files.
fn receipt(forgotten: &Forgotten) -> String {
    let Forgotten { tenant, checkpoint_id, at_ms, first_day, last_day, .. } = forgotten;
    let receipt = serde_json::json!({
        "erased": { "tenant": tenant, "first_day": first_day, "last_day": last_day, "snapshots": forgotten.snapshots,
            "observations": forgotten.observations, "catalogs": forgotten.catalogs, "profiles": forgotten.profiles,
            "dead_letters": forgotten.dead_letters },
        "checkpoint_id": checkpoint_id, "at": super::instant(*at_ms), "host": daemon::host_name(),
        "by": format!("secure-score-forwarder {}", env!("CARGO_PKG_VERSION")),
        "not_covered": "backups, databases that were set aside, and what sinks have been sent",
    });
    format!("{receipt:#}\n")
}

fn unexpected(event: Event) -> Failed {
    let explanation = match event {
        Event::Error(explanation) => explanation,
        other => format!("unexpected response from the daemon: {other:?}").into(),
    };
    Failed::new(Exit::Incomplete, explanation)
}

/// For names of files: UTC, to the second.
fn stamp() -> String {
    clock::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}
