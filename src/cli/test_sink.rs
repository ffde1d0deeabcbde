//! `test-sink`: sends one marked test record to the receiver of a sink, with the code that the
//! daemon uses, and waits for the acknowledgement. It needs no checkpoint, and leaves cursors and
//! marks unchanged.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{
    CommandFailure, ExitCode, args, block_on,
    json::{self, Document},
    load_with_secrets, print, print_message,
    selection::selected_sink,
};
use crate::{
    clock,
    config::SinkPlan,
    daemon::sink_context,
    derive::{Comparison, Entry, Records, Rules, Selection},
    error::{Explanation, chain},
    model::{
        Catalog, ControlScore, Day, Number, Profile, ProfileSlot, Seq, Snapshot, SnapshotRef,
        Tenant, TenantId,
    },
    sink::{Batch, Context, Failure},
    source::Clients,
};

/// The ID of the control in the test record. Microsoft has no control with this name, so operators
/// can search for it.
const TEST_CONTROL: &str = "secure-score-forwarder-test";

/// Runs the command. Fails if the sink is not configured, or if the record was not acknowledged.
pub(super) fn test_sink(config: &Path, args: &args::TestSink) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        let configuration = load_with_secrets(config)?;
        let plan = selected_sink(&configuration, &args.name)?;
        document.check_stdout([plan])?;

        // The record has the labels of a tenant of the sink, because the sink may require them.
        let tenant = configuration.tenants.iter().find(|tenant| plan.tenants.matches(tenant));
        let labels = tenant.map(|tenant| tenant.labels.clone()).unwrap_or_default();
        let context = sink_context(plan, &Arc::new(Clients::new(&configuration.http)?));
        let result = block_on(deliver(plan, context, labels))?;
        report(plan, &result, document)
    })
}

/// Prints the result, as text or as a document.
fn report(
    plan: &SinkPlan,
    result: &Result<String, Failure>,
    document: Document,
) -> Result<ExitCode, CommandFailure> {
    let (name, acknowledgement) = (&plan.name, plan.plan.acknowledgement());

    match (result, document) {
        (Ok(event_id), Document::Omitted) => {
            print(&format!(
                "sink `{name}`: one test record was delivered; its `event_id` is `{event_id}`\nacknowledgement: {acknowledgement}\n"
            ))?;
            Ok(ExitCode::Done)
        }
        (Ok(_), Document::Printed) => {
            document.print(|| as_json(plan, result))?;
            Ok(ExitCode::Done)
        }
        (Err(error), _) => {
            let code = if error.needs_operator() { ExitCode::Usage } else { ExitCode::Incomplete };
            let explanation = Explanation::of(error).within(&format!("sink `{name}`"));
            let failure = CommandFailure::new(code, explanation);
            if document == Document::Omitted {
                return Err(failure);
            }
            // A returned failure would be a second document.
            print_message(&format!("error: {failure}"));
            document.print(|| as_json(plan, result))?;
            Ok(code)
        }
    }
}

fn as_json(plan: &SinkPlan, result: &Result<String, Failure>) -> Value {
    let error = result.as_ref().err();
    json!({
        "sink": plan.name,
        "type": plan.kind,
        "delivered": result.is_ok(),
        "event_id": result.as_ref().ok(),
        "acknowledgement": result.is_ok().then(|| plan.plan.acknowledgement()),
        "error": error.map(|error| json::error(&Explanation::of(error))),
    })
}

/// Delivers the test record with a sink that is opened for a test: it shares no file, transaction
/// or sequence with the sink of a running daemon. Returns the `event_id`.
async fn deliver(
    plan: &SinkPlan,
    context: Context,
    labels: BTreeMap<String, String>,
) -> Result<String, Failure> {
    let mut sink = plan.plan.open_for_test(&context).await?;
    let mut batch = Batch::default();
    let event_id = encode(labels, |record| sink.encode(record, &mut batch)).map_err(|reason| {
        Failure::misconfigured(format!("cannot encode the test record: {}", chain(&reason)))
    })?;

    let acknowledgement = sink.deliver(&batch).await?.wait().await;
    sink.close().await;
    acknowledgement.map(|_| event_id)
}

/// Derives the test record from a snapshot with a single control, and passes it to `write`. Returns
/// the `event_id`.
fn encode<E>(
    labels: BTreeMap<String, String>,
    write: impl FnOnce(&crate::model::Record<'_>) -> Result<(), E>,
) -> Result<String, E> {
    let now = clock::now();
    let day = Day::of(now);
    let tenant = Tenant { id: TenantId::TEST, name: "test".to_owned(), labels };

    let profile = Profile {
        id: TEST_CONTROL.to_owned(),
        title: Some("Test record of secure-score-forwarder: no action is required".to_owned()),
        service: Some("secure-score-forwarder".to_owned()),
        max_score: Number::new(1.0),
        ..Profile::default()
    };
    let catalog =
        Catalog::new(vec![ProfileSlot { key: 0, profile: profile.into(), decisions: vec![] }]);
    let control = ControlScore {
        name: TEST_CONTROL.into(),
        category: Some("Test".into()),
        score: Number::new(1.0),
        percentage: Number::new(100.0),
        // The time makes each test record of a day different.
        additional: vec![("test".into(), now.as_millisecond().to_string().into())],
        ..ControlScore::default()
    };

    let snapshot = Snapshot { controls: vec![control], ..Snapshot::default() };
    let at = SnapshotRef {
        id: format!("{}_{day}", tenant.id),
        day,
        revision: 1,
        seq: Seq::ZERO,
        late: false,
        backfilled: false,
        partial: false,
        imported: false,
    };

    let entry = Entry {
        tenant: &tenant,
        snapshot: &at,
        observed_time: &now.to_string(),
        observed_at: now.into(),
        history: &[],
        catalog: &catalog,
        comparison: Comparison::default(),
        rules: Rules::none(),
        replayed: false,
    };

    let selection = Selection::all();
    let records = Records::new(&entry, &snapshot, &selection);
    let mut event_id = String::new();
    if let Some(record) = records.at(0) {
        event_id = record.event_id.to_string();
        write(&record)?;
    }
    Ok(event_id)
}
