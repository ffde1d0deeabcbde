//! Interprets the reply to a message. Only the reply that the documentation of a service describes
//! is an acknowledgement, because a proxy, and Teams itself, also return failures with status 200.
//! Start reading at [`read`]. See decision 0070.
//!
//! Sources: "Sending messages using incoming webhooks" in the documentation of Slack (`ok`), and
//! the documentation of Power Automate (HTTP 202). A connector of Teams, the predecessor of
//! workflows, responds with `1`, and with HTTP 200 and a message if the rate is too high.

use serde::Deserialize;

use super::config::Service;
use crate::sink::{
    Failure,
    notification::Mode,
    reply::HttpResponse,
    reply_json::{LimitedText, ReplyObject},
};

/// The hint for a webhook that does not exist, or that was revoked.
const NEW_WEBHOOK: &str = "create a new webhook, and store its URL in the secret of `url`";

/// Messages with which Slack rejects every request to a webhook.
const SLACK_ERRORS: &[&str] = &[
    "action_prohibited",
    "channel_is_archived",
    "channel_not_found",
    "invalid_token",
    "no_active_hooks",
    "no_service",
    "no_service_id",
    "no_team",
    "posting_to_general_channel_denied",
    "team_disabled",
    "user_not_found",
];
/// The beginnings of error codes with which Power Automate rejects every request to a workflow.
const WORKFLOW_ERRORS: &[&str] = &["DirectApi", "Trigger", "Workflow"];

/// The maximum number of characters of an error code that are read.
const MAX_CODE_CHARS: usize = 100;

/// The body with which Power Automate rejects a request.
#[derive(Debug, Deserialize)]
struct WorkflowError {
    error: ReplyObject<WorkflowErrorCode>,
}

#[derive(Debug, Deserialize)]
struct WorkflowErrorCode {
    code: LimitedText<MAX_CODE_CHARS>,
}

/// Fails for every reply that is not an acknowledgement. If the body of single messages is rejected
/// as invalid, the batch is halved until one record remains, because the reply does not identify
/// the invalid record. A digest has no record that could be invalid.
pub(super) fn read(response: &HttpResponse, service: &Service, mode: Mode) -> Result<(), Failure> {
    match (response.status, mode) {
        (200..=299, _) if is_acknowledgement(response, service) => Ok(()),
        (400, _) if is_rejected_webhook(response, service) => Err(Failure::Misconfigured {
            reason: response.outcome(),
            hint: Some(NEW_WEBHOOK.into()),
        }),
        (400 | 413 | 422, Mode::Messages) => {
            Err(Failure::TooLarge { reason: response.outcome(), arrived: Vec::new() })
        }
        (400 | 422, Mode::Digest) => {
            Err(Failure::RejectsAll { reason: response.outcome(), hint: None })
        }
        (413, Mode::Digest) => Err(Failure::Denied { reason: response.outcome(), hint: None }),
        _ => Err(failure(response)),
    }
}

/// The failure for any other status. A webhook that does not exist, or that was revoked, needs a
/// new URL.
pub(super) fn failure(response: &HttpResponse) -> Failure {
    match response.failure() {
        Failure::Denied { reason, hint: None } if matches!(response.status, 401 | 404 | 410) => {
            Failure::Denied { reason, hint: Some(NEW_WEBHOOK.into()) }
        }
        Failure::RejectsAll { reason, hint: None } if response.status == 403 => {
            Failure::RejectsAll { reason, hint: Some(NEW_WEBHOOK.into()) }
        }
        failure => failure,
    }
}

fn is_acknowledgement(response: &HttpResponse, service: &Service) -> bool {
    match service {
        Service::Slack => response.status == 200 && response.body.trim_ascii() == b"ok",
        Service::Teams => match response.status {
            200 => response.body.trim_ascii() == b"1",
            202 => response.is_any_success(),
            _ => false,
        },
        Service::Template(_) => response.is_any_success(),
    }
}

/// Whether the service rejects every request to this webhook, although the status is that of an
/// invalid message.
fn is_rejected_webhook(response: &HttpResponse, service: &Service) -> bool {
    match service {
        Service::Slack => {
            let text = response.body.trim_ascii();
            SLACK_ERRORS.iter().any(|error| error.as_bytes() == text)
        }
        Service::Teams => {
            let reply: Option<WorkflowError> = response.json();
            reply.is_some_and(|reply| {
                let code = reply.error.0.code.as_str();
                WORKFLOW_ERRORS.iter().any(|start| code.starts_with(start))
            })
        }
        Service::Template(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::HeaderValue;

    use super::{super::json_template::JsonTemplate, *};
    use crate::error::Hint;

    fn template() -> Service {
        Service::Template(JsonTemplate::parse("{}", Mode::Messages).unwrap())
    }

    fn outcome(service: &Service, status: u16, body: &str) -> Result<(), Failure> {
        let response = HttpResponse::of("the service", status, body.as_bytes());
        read(&response, service, Mode::Messages)
    }

    /// Regression: every 2xx was an acknowledgement, also the page of a proxy.
    #[test]
    fn each_service_has_its_acknowledgement() {
        for (status, body, slack, teams, other) in [
            (200, "ok", true, false, true),
            (200, "ok\n", true, false, true),
            (200, "1", false, true, true),
            (202, "", false, true, true),
            (202, "<html>", false, false, false),
            (204, "", false, false, true),
            (200, "", false, false, true),
            (200, "{}", false, false, true),
            (200, "ok<html>", false, false, true),
            (200, "<!DOCTYPE html>ok", false, false, false),
            (200, "Microsoft Teams endpoint returned HTTP error 429", false, false, true),
        ] {
            let template = template();

            for (service, expected) in
                [(Service::Slack, slack), (Service::Teams, teams), (template, other)]
            {
                match outcome(&service, status, body) {
                    Ok(()) => assert!(expected, "{service:?} {status} {body}"),
                    Err(failure) => {
                        assert!(!expected, "{service:?} {status} {body}: {failure}");
                        assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_status_decides_what_happens_to_a_batch() {
        let outcome = |status: u16, mode: Mode| {
            let mut response = HttpResponse::of("Slack", status, b"invalid_blocks");
            response.headers.insert("Retry-After", HeaderValue::from_static("17"));
            read(&response, &Service::Slack, mode)
        };

        for status in [400, 413, 422] {
            let failure = outcome(status, Mode::Messages).unwrap_err();
            assert!(matches!(failure, Failure::TooLarge { .. }), "{status}");
            let failure = outcome(status, Mode::Digest).unwrap_err();
            assert!(failure.needs_operator(), "{status}");
        }
        for status in [401, 403, 404, 410] {
            let failure = outcome(status, Mode::Messages).unwrap_err();
            assert!(failure.hint().unwrap().contains("create a new webhook"), "{status}");
        }
        for status in [200, 429, 500, 503] {
            let failure = outcome(status, Mode::Digest).unwrap_err();
            let after = Some(Duration::from_secs(17));
            assert!(matches!(failure, Failure::Retry { after: a, .. } if a == after), "{status}");
        }
    }

    /// Regression: with a webhook that was revoked, message after message became a dead letter.
    #[test]
    fn a_rejected_webhook_parks_the_sink() {
        let code = |code: &str| serde_json::json!({ "error": { "code": code } }).to_string();
        for (service, body, is_parked) in [
            (Service::Slack, "invalid_token".to_owned(), true),
            (Service::Slack, "no_service".to_owned(), true),
            (Service::Slack, "invalid_blocks".to_owned(), false),
            (Service::Teams, code("WorkflowTriggerIsNotEnabled"), true),
            (Service::Teams, code("TriggerInputSchemaMismatch"), true),
            (Service::Teams, code("InvalidRequestContent"), false),
            (Service::Teams, "no_service".to_owned(), false),
            (template(), "no_service".to_owned(), false),
        ] {
            let failure = outcome(&service, 400, &body).unwrap_err();
            let is_found = matches!(failure, Failure::Misconfigured { .. });
            assert_eq!(is_found, is_parked, "{body}: {failure:?}");
            assert_eq!(failure.hint().is_some(), is_parked, "{body}");
        }
    }
}
