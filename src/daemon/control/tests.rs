//! Tests of the messages of the control socket, and of the command's side.

use super::*;
use crate::{
    conditions::StorageFacts,
    model::{EventId, UnixMillis},
};

#[test]
fn requests_contain_days_and_ids() {
    let first_day = Day::parse("2026-11-22").unwrap();
    let request = Request::Backfill { first_day, tenants: Vec::new() };
    let json = r#"{"backfill_tenants":{"first_day":"2026-11-22","tenants":[]}}"#;
    assert_eq!(serde_json::to_string(&request).unwrap(), json);
    assert!(serde_json::from_str::<Request>(json).is_ok_and(|parsed| parsed == request));

    let event_id = EventId::from_bytes([0xab; 20]);
    let letters = vec![DeadLetterKey { sink: "a".into(), event_id }];
    let request = Request::RetryDeadLetters { letters };
    let json = format!(
        r#"{{"retry_dead_letters":{{"letters":[{{"sink":"a","event_id":"{event_id}"}}]}}}}"#
    );
    assert_eq!(serde_json::to_string(&request).unwrap(), json);
    assert!(serde_json::from_str::<Request>(&json).is_ok_and(|parsed| parsed == request));

    for invalid in [
        r#"{"backfill_tenants":{"first_day":20000,"tenants":[]}}"#,
        r#"{"backfill_tenants":{"first_day":1e308,"tenants":[]}}"#,
        r#"{"backfill_tenants":{"first_day":"-009999-01-01","tenants":[]}}"#,
        r#"{"backfill_tenants":{"first_day":"+010000-01-01","tenants":[]}}"#,
        r#"{"backfill_tenants":{"first_day":"2026-02-30","tenants":[]}}"#,
        r#"{"backfill":{"first_day":"2026-11-22","tenant":null}}"#,
        r#"{"forget":{"tenant":"contoso"}}"#,
        r#"{"retry_dead_letters":{"letters":[{"sink":"a","event_id":"ffff"}]}}"#,
        r#"{"import":{"tenant":"contoso","items":[]}}"#,
        r#"{"signed_in":{"credential":"a","refresh_token":"b","plaintext":true}}"#,
    ] {
        assert!(serde_json::from_str::<Request>(invalid).is_err(), "{invalid}");
    }
}

#[test]
fn live_facts_survive_the_socket() {
    assert_eq!(serde_json::to_string(&Request::LiveFacts).unwrap(), "\"live_facts\"");
    let storage = StorageFacts { reason: "the disk is full".into(), since: UnixMillis::new(7) };
    for facts in [
        LiveFacts::default(),
        LiveFacts {
            stalled: vec!["the scheduler has not run for 5 minutes".to_owned()],
            storage: Some(storage),
            clock: None,
        },
    ] {
        let event = Event::LiveFacts(facts);
        assert!(event.is_last());
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event, "{json}");
    }
}

/// Regression: a process in the place of the daemon could fill the memory of a command with a line
/// without an end.
#[test]
fn lines_of_responses_are_limited() {
    let mut endless = BufReader::new(std::io::repeat(b'x'));
    let error = read_line(&mut endless).unwrap_err().to_string();
    assert_eq!(error, "the daemon sent a line of more than 16777216 bytes");

    let mut lines = BufReader::new(&b"{}\nincomplete"[..]);
    assert_eq!(read_line(&mut lines).unwrap(), b"{}\n");
    for _ in 0..2 {
        let error = read_line(&mut lines).unwrap_err().to_string();
        assert!(error.contains("closed the connection"), "{error}");
    }
}
