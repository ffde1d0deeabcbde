//! The configuration and the start of a harness, and the responses of Microsoft Graph that a test
//! passes to the collector: they are text, as the program reads it. Start reading at
//! [`configuration_text`].

use std::{fmt::Write as _, path::Path, sync::Arc};

use super::{
    harness::{REFERENCE, SINK, Setup, Targets},
    scripted_sink::ScriptedSink,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, FaultPlan},
    config::Configuration,
    daemon::{BuildError, Engine},
    model::{Day, TenantId},
    source::simulated::Richness,
    wire::{self, ProfileParts},
};

/// The configuration of a harness, whose files are in this directory.
pub(super) fn configuration_text(directory: &Path, setup: &Setup, today: Day) -> String {
    let directory = directory.display();
    let index = match setup.targets {
        Targets::One => "posture",
        Targets::PerTenant => "posture-{tenant.name}",
    };
    let expires = setup.credential_days.map(|days| format!("expires = \"{}\"\n", today.plus(days)));
    let mut text = format!(
        "[state]\ndirectory = \"{directory}\"\n\
         [credentials.app]\nkind = \"client_secret\"\n\
         client_id = \"11111111-2222-4333-8444-555555555555\"\n\
         client_secret = {{ file = \"{directory}/secret\" }}\n{}\
         [[sinks]]\nname = \"{REFERENCE}\"\ntype = \"stdout\"\n\
         [[sinks]]\nname = \"{SINK}\"\ntype = \"elasticsearch\"\n\
         url = \"http://127.0.0.1:9\"\nindex = \"{index}\"\n",
        expires.unwrap_or_default()
    );

    for number in 0..setup.tenants {
        let id = format!("{:04x}0000-0000-4000-8000-000000000000", 0xa000 + number);
        write!(
            text,
            "[[tenants]]\nname = \"t{number}\"\nid = \"{id}\"\ncredential = \"app\"\n\
             initial_backfill_days = 3\n"
        )
        .unwrap();
    }
    text
}

/// The configuration of a text, with these sinks in the place of those that it describes.
pub(super) fn configuration(
    text: &str,
    targets: Targets,
    reference: &ScriptedSink,
    sink: &ScriptedSink,
) -> Configuration {
    let mut configuration = Configuration::parse("c.toml", text).unwrap();
    configuration.sinks[0].plan = Arc::new(reference.clone());
    let described = Arc::clone(&configuration.sinks[1].plan);
    let sink = match targets {
        Targets::One => sink.clone(),
        Targets::PerTenant => sink.routed_by(described),
    };
    configuration.sinks[1].plan = Arc::new(sink);
    configuration
}

/// The JSON of a day, all of whose controls have the same score.
pub(super) fn body(
    tenant: TenantId,
    day: Day,
    score: u32,
    controls: u32,
    richness: Richness,
) -> String {
    let texts = match richness {
        Richness::Poor => "",
        Richness::Rich => r#","description":"a text""#,
    };
    let control =
        |number: u32| format!(r#"{{"controlName":"c{number:02}","score":{score}{texts}}}"#);
    let list: Vec<String> = (0..controls).map(control).collect();
    let (list, total) = (list.join(","), score * controls);
    format!(
        r#"{{"id":"{tenant}_{day}","azureTenantId":"{tenant}","createdDateTime":"{day}T00:00:00Z","currentScore":{total},"maxScore":1000,"controlScores":[{list}]}}"#
    )
}

/// The catalog of these controls.
pub(super) fn profiles(controls: u32) -> Vec<ProfileParts> {
    let profile = |number: u32| {
        let json = format!(r#"{{"id":"c{number:02}","title":"Control {number}","maxScore":10}}"#);
        wire::split_profile(&json).unwrap()
    };
    (0..controls).map(profile).collect()
}

/// The engine of a new process on a database. If the planned fault prevents the first start, it has
/// an error of the storage, and nothing prevents the next one.
pub(super) fn started(
    database: &Checkpoint,
    faults: &FaultPlan,
    configuration: impl Fn() -> Configuration,
) -> Arc<Engine> {
    let start = || -> Result<Arc<Engine>, BuildError> {
        Engine::build_on(configuration(), database.restarted()?)
    };
    start().unwrap_or_else(|error| {
        let BuildError::Checkpoint(cause) = &error else { panic!("{error:?}") };
        let is_fault =
            matches!(cause, CheckpointError::Storage(..) | CheckpointError::Indeterminate(_));
        assert!(is_fault && faults.has_failed(), "{faults:?}: {error:?}");
        start().unwrap()
    })
}
