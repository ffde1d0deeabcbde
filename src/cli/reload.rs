//! `reload`: requests that the daemon reload the configuration, and prints what has changed. SIGHUP
//! also reloads the configuration, but does not return the result.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    CommandFailure, ExitCode, args,
    daemon_client::{lock_holder, request, running_daemon, unexpected_response},
    json::Document,
    print, print_possible_renames,
};
use crate::{
    config::{ConfigError, Configuration},
    daemon::{Event, PossibleRename, ReloadReport, Request, TenantRemovals},
};

/// Runs the command. Fails if no daemon is running, with all faults of the configuration if the
/// daemon rejects it, and if it removes too many tenants.
pub(super) fn reload(config: &Path, args: args::Reload) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        let report = request_reload(config, TenantRemovals::from_flag(args.allow_removals))?;
        if document == Document::Omitted {
            print(&as_text(&report))?;
        }
        print_possible_renames(&report.possible_renames);
        document.print(|| as_json(&report))?;
        Ok(ExitCode::Done)
    })
}

fn request_reload(config: &Path, removals: TenantRemovals) -> Result<ReloadReport, CommandFailure> {
    // Only the daemon reads the secrets; the caller may not have access to them.
    let configuration = match Configuration::load(config) {
        Ok(configuration) => configuration,
        Err(error) => return request_rejection(config, error, removals),
    };
    let hint = "start the service, which reads the configuration";
    let holder = running_daemon(&configuration.state_directory, "reload", hint)?;
    match request(&holder, &Request::Reload { removals })? {
        Event::Reloaded(report) => Ok(*report),
        _ => Err(unexpected_response()),
    }
}

/// Requests the reload although this process rejects the files, so that the daemon records the
/// rejection. Succeeds if the daemon, which may be able to read more files, accepts them.
fn request_rejection(
    config: &Path,
    error: ConfigError,
    removals: TenantRemovals,
) -> Result<ReloadReport, CommandFailure> {
    let directory = Configuration::state_directory_in(config);
    let Some(holder) = directory.and_then(|directory| lock_holder(&directory)) else {
        return Err(error.into());
    };
    match request(&holder, &Request::Reload { removals }) {
        Ok(Event::Reloaded(report)) => Ok(*report),
        // The faults of the daemon are those of the current files.
        Err(failure) if failure.code == ExitCode::Usage => Err(failure),
        Ok(_) | Err(_) => Err(error.into()),
    }
}

/// The result, followed by one line for each kind of change.
fn as_text(report: &ReloadReport) -> String {
    let mut lines = vec!["the daemon is running with the new configuration".to_owned()];
    lines.extend(report.changes.lines());
    if report.changes.is_empty() {
        lines.push("no sink, tenant or setting has changed".to_owned());
    }
    lines.join("\n") + "\n"
}

/// The same as one document, with all names.
fn as_json(report: &ReloadReport) -> Value {
    let ReloadReport { changes, possible_renames } = report;
    json!({
        "sinks": changes.sinks,
        "tenants": changes.tenants,
        "settings": changes.settings,
        "possible_renames": possible_renames.iter().map(rename_as_json).collect::<Value>(),
    })
}

fn rename_as_json(rename: &PossibleRename) -> Value {
    let explanation = rename.explanation();
    json!({
        "added": rename.added,
        "removed": rename.removed,
        "start_from": rename.start_from,
        "records": rename.records,
        "bytes": rename.bytes,
        "message": explanation.message,
        "hint": explanation.hint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::{Changes, NamedChanges};

    fn report(added: &[&str]) -> ReloadReport {
        let added = added.iter().map(|name| (*name).to_owned()).collect();
        let sinks = NamedChanges { added, ..NamedChanges::default() };
        let changes = Changes { sinks, ..Changes::default() };
        ReloadReport { changes, possible_renames: Vec::new() }
    }

    #[test]
    fn reports_that_nothing_has_changed() {
        let text = as_text(&report(&[]));
        assert!(text.ends_with("\nno sink, tenant or setting has changed\n"), "{text}");
        assert!(as_text(&report(&["a"])).ends_with("\n1 sink added: `a`\n"));
    }

    #[test]
    fn json_has_every_name_and_message() {
        let rename = PossibleRename {
            added: "b".into(),
            removed: vec!["a".into()],
            start_from: None,
            records: 1_000,
            bytes: 900_000,
        };
        let report = ReloadReport { possible_renames: vec![rename], ..report(&["b"]) };
        let value = as_json(&report);
        assert_eq!(value["sinks"]["added"], json!(["b"]));
        assert_eq!(value["tenants"]["removed"], json!([]));
        let rename = &value["possible_renames"][0];
        assert!(rename["message"].as_str().unwrap().contains("about 1,000 records (0.9 MB)"));
        assert!(rename["hint"].as_str().unwrap().contains("renamed_from"));
    }
}
