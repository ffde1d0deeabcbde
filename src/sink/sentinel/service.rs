//! Sends batches as requests to the Logs Ingestion API. Each request has a token that Entra issued
//! for the API. A token that the API rejects is discarded, and the batch is sent again with another
//! one. Only HTTP 204 is an acknowledgement. Start reading at [`open`].

use std::sync::Arc;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::config::SentinelPlan;
use crate::{
    format::Formatter,
    model::Record,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, Tokens, formatter,
        outgoing_request::OutgoingRequest,
        reply::{HttpResponse, MAX_MESSAGE_BYTES},
        reply_json::{LimitedText, ReplyObject},
        whole_rejection::{BatchFailure, BatchSender, RejectionCause, deliver_batch},
    },
};

/// The name of the server in messages.
const API: &str = "the ingestion API";

/// The hint for an API that rejects every record.
const REJECTS_ALL: &str = "check `stream` and `rule_id`, and the columns and the transformation of the rule, because the API rejects every record";

/// The hint for a request that is not permitted.
const ASSIGN_ROLE: &str = "assign the role Monitoring Metrics Publisher on the data collection rule to this application; the assignment can take up to half an hour to take effect";

/// The hint for a request that finds nothing.
const CHECK_URL: &str = "check `url`, `rule_id` and `stream`";

/// The maximum number of characters of an error code that are read.
const MAX_CODE_CHARS: usize = 100;

/// Parts of the error codes with which the API rejects every record: the stream, the rule or the
/// endpoint does not exist. All other codes can be about the records; see `whole_rejection`.
const CONFIGURATION_CODES: &[&str] = &[
    "apiversion",
    "datacollection",
    "dcr",
    "endpoint",
    "immutableid",
    "rule",
    "stream",
    "table",
    "workspace",
];

/// The body of a response that rejects a request.
#[derive(Debug, Deserialize)]
struct IngestionError {
    error: ReplyObject<ErrorCode>,
}

#[derive(Debug, Deserialize)]
struct ErrorCode {
    code: LimitedText<MAX_CODE_CHARS>,
}

struct Sentinel {
    plan: SentinelPlan,
    client: reqwest::Client,
    tokens: Arc<dyn Tokens>,
    formatter: Formatter,
    /// The buffer for one record.
    record: Vec<u8>,
    rejection_cause: RejectionCause,
}

/// Opens the sink without a request. Fails with `Misconfigured` if a certificate cannot be read or
/// the sink has no credential.
pub(super) fn open(plan: &SentinelPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    Ok(Box::new(Sentinel::new(plan, context)?))
}

/// Sends an empty array, which the API validates only after it has accepted the token, the rule and
/// the stream.
pub(super) async fn probe(plan: &SentinelPlan, context: &Context) -> Result<String, Failure> {
    let sentinel = Sentinel::new(plan, context)?;
    let token = sentinel.tokens.token().await?;
    let response = sentinel.post(&token, b"[]".to_vec()).await?;
    match interpret(&response) {
        Ok(()) => Ok("Entra issued a token, and the ingestion API accepts it".to_owned()),
        Err(Failure::TooLarge { .. }) => Ok(format!(
            "Entra issued a token, and the ingestion API accepts it; response to an empty request: {}",
            response.message()
        )),
        Err(failure) => Err(failure),
    }
}

impl Sink for Sentinel {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        self.record.clear();
        self.formatter.write(record, &mut self.record);
        batch.push(record, |out| {
            let start = out.len();
            // Every table of Log Analytics has this column.
            out.extend_from_slice(b"{\"TimeGenerated\":\"");
            out.extend_from_slice(record.observed_time.as_bytes());
            out.extend_from_slice(b"\",");
            out.extend_from_slice(&self.record[1..]);
            Ok(start)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let (result, cause) = deliver_batch(&*self, batch, self.rejection_cause).await;
            self.rejection_cause = cause;
            result.map(|()| Acknowledgement::received())
        })
    }
}

impl BatchSender for Sentinel {
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), BatchFailure>> {
        Box::pin(async move {
            let separators = batch.len().saturating_add(2);
            let mut body = Vec::with_capacity(batch.bytes().len().saturating_add(separators));
            for (index, item) in batch.items().iter().enumerate() {
                body.push(if index == 0 { b'[' } else { b',' });
                body.extend_from_slice(batch.payload(item));
            }
            body.push(b']');

            let token = self.tokens.token().await?;
            let mut response = self.post(&token, body.clone()).await?;
            if response.status == 401 {
                // The token may have been revoked before it expired.
                self.tokens.reject(&token).await;
                let token = self.tokens.token().await?;
                response = self.post(&token, body).await?;
            }
            BatchFailure::of(response.status, interpret(&response))
        })
    }

    fn remedy(&self) -> &'static str {
        REJECTS_ALL
    }
}

impl Sentinel {
    fn new(plan: &SentinelPlan, context: &Context) -> Result<Self, Failure> {
        let Some(tokens) = context.tokens.clone() else {
            return Err(Failure::misconfigured("this sink requires a `credential`"));
        };
        Ok(Self {
            client: plan.web.client()?,
            formatter: formatter(plan.format, context),
            plan: SentinelPlan { web: plan.web.with_tokens(tokens.as_ref()), ..plan.clone() },
            tokens,
            record: Vec::new(),
            rejection_cause: RejectionCause::default(),
        })
    }

    async fn post(&self, token: &SecretString, body: Vec<u8>) -> Result<HttpResponse, Failure> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Failure::retry("the token is not a valid header value"))?;
        authorization.set_sensitive(true);

        let request = self
            .client
            .post(self.plan.url.clone())
            .header("Authorization", authorization)
            .header("Content-Type", "application/json")
            .header("x-ms-client-request-id", uuid::Uuid::new_v4().to_string());
        let request = OutgoingRequest::from(request).with_issued_token();
        self.plan.web.post(request, body, API, MAX_MESSAGE_BYTES).await
    }
}

/// Interprets a response. A fault of the configuration that the API names applies to every record,
/// so it parks the sink; another rejected body is halved until one record remains, unless the API
/// rejects every record. A rejection that the API does not explain can be that of a firewall, so
/// the records of each tenant are sent again alone, as for the other HTTP sinks.
fn interpret(response: &HttpResponse) -> Result<(), Failure> {
    let reason = || response.outcome();

    Err(match response.status {
        204 => return Ok(()),
        400 if has_configuration_code(response) => {
            let hint = "check `stream` and `rule_id`, and the streams of the rule";
            Failure::Misconfigured { reason: reason(), hint: Some(hint.into()) }
        }
        400 => Failure::TooLarge { reason: reason(), arrived: Vec::new() },
        403 if error_code(response).is_some() => {
            Failure::Misconfigured { reason: reason(), hint: Some(ASSIGN_ROLE.into()) }
        }
        403 => Failure::RejectsAll { reason: reason(), hint: Some(ASSIGN_ROLE.into()) },
        404 => {
            let (reason, hint) = (reason(), Some(CHECK_URL.into()));
            match error_code(response) {
                Some(_) => Failure::Misconfigured { reason, hint },
                None => Failure::Denied { reason, hint },
            }
        }
        401 if error_code(response).is_some() => response.failure().without_records(),
        _ => response.failure(),
    })
}

/// Whether the error code of a response is about the configuration instead of the records.
fn has_configuration_code(response: &HttpResponse) -> bool {
    error_code(response)
        .is_some_and(|code| CONFIGURATION_CODES.iter().any(|part| code.contains(part)))
}

/// The error code of a response in lower case; `None` if the API has not sent it.
fn error_code(response: &HttpResponse) -> Option<String> {
    let reply: IngestionError = response.json()?;
    let code = reply.error.0.code.as_str().to_ascii_lowercase();
    (!code.is_empty()).then_some(code)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        error::Hint,
        foreign_text::{PeerSecrets, SentSecrets},
        format::{FormatName, Texts},
        sink::{shared_keys::TlsFiles, web::HttpReceiverOptions},
    };

    /// A token endpoint that has received these secrets.
    #[derive(Debug)]
    struct TokenEndpoint(PeerSecrets);

    impl Tokens for TokenEndpoint {
        fn token(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
            Box::pin(ready(Ok(SecretString::from("token-canary"))))
        }

        fn reject<'a>(&'a self, _: &'a SecretString) -> BoxFuture<'a, ()> {
            Box::pin(ready(()))
        }

        fn sent(&self) -> &PeerSecrets {
            &self.0
        }
    }

    /// Regression: the API could repeat the client secret if it was the same party as the token
    /// endpoint.
    #[tokio::test]
    async fn secrets_of_the_token_endpoint_are_removed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            let body = "no: client-secret-canary, token-canary";
            let head = format!("HTTP/1.1 403 x\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        });

        let endpoint = TokenEndpoint(PeerSecrets::default());
        let mut sent = SentSecrets::default();
        sent.add("client-secret-canary");
        let _ = endpoint.0.remember(&sent);
        let context = Context {
            name: "s".into(),
            host: "h".to_owned(),
            texts: Texts::None,
            fields: Vec::new(),
            tokens: Some(Arc::new(endpoint)),
        };
        let plan = SentinelPlan {
            url: url.parse().unwrap(),
            format: FormatName::Json,
            web: HttpReceiverOptions::uncompressed(TlsFiles::default()),
            resource: "",
        };

        let failure = probe(&plan, &context).await.unwrap_err();
        let expected = "the ingestion API returned HTTP 403: no: [redacted], [redacted]";
        assert_eq!(failure.to_string(), expected);
    }

    fn outcome(status: u16, body: &str) -> &'static str {
        match interpret(&HttpResponse::of(API, status, body.as_bytes())) {
            Ok(()) => "delivered",
            Err(Failure::Retry { .. }) => "retry",
            Err(Failure::Misconfigured { .. }) => "config",
            Err(Failure::TooLarge { .. }) => "halve",
            Err(Failure::RejectsAll { .. }) => "by tenant",
            Err(Failure::Denied { .. }) => "denied",
            Err(_) => "other",
        }
    }

    /// Regression: with a stream that the rule does not declare, record after record became a dead
    /// letter.
    #[test]
    fn faults_of_the_configuration_park_the_sink() {
        for (code, expected) in [
            ("InvalidStream", "config"),
            ("InvalidDcrImmutableId", "config"),
            ("DataCollectionRuleNotFound", "config"),
            ("UnsupportedApiVersion", "config"),
            ("InvalidPayload", "halve"),
            ("InvalidJson", "halve"),
            ("", "halve"),
        ] {
            let body = serde_json::json!({ "error": { "code": code, "message": "no" } });
            assert_eq!(outcome(400, &body.to_string()), expected, "{code}");
        }
        for body in ["", "InvalidStream", "{\"error\":\"InvalidStream\"}", "[[\"InvalidStream\"]]"]
        {
            assert_eq!(outcome(400, body), "halve", "{body}");
        }
    }

    /// Regression: a firewall that rejected the text of one tenant, also with HTTP 401, 404 or a
    /// redirect, parked the sink for all.
    #[test]
    fn only_the_api_can_deny_access() {
        let denied = r#"{"error":{"code":"OperationFailed","message":"no access"}}"#;
        for (status, body, expected) in [
            (403, denied, "config"),
            (403, "<html>Request blocked</html>", "by tenant"),
            (403, r#"{"error":{"code":""}}"#, "by tenant"),
            (406, "", "by tenant"),
            (422, "", "by tenant"),
            (451, "", "by tenant"),
            (401, denied, "config"),
            (404, denied, "config"),
            (401, "<html>Sign in</html>", "denied"),
            (404, "<html>Not found</html>", "denied"),
            (302, denied, "denied"),
        ] {
            assert_eq!(outcome(status, body), expected, "{status} {body}");
        }

        let failure = interpret(&HttpResponse::of(API, 403, b"Request blocked")).unwrap_err();
        assert_eq!(failure.hint().as_deref(), Some(ASSIGN_ROLE));
        let expected = "the ingestion API returned HTTP 403: Request blocked";
        assert_eq!(failure.to_string(), expected);
    }

    /// Regression: HTTP 200, for example of a proxy, was an acknowledgement.
    #[test]
    fn only_204_is_an_acknowledgement() {
        for (status, body, expected) in [
            (204, "", "delivered"),
            (200, "", "retry"),
            (200, "<html>Sign in</html>", "retry"),
            (200, "{}", "retry"),
            (202, "", "retry"),
            (302, "", "denied"),
            (403, "", "by tenant"),
            (413, "", "halve"),
            (429, "", "retry"),
            (503, "", "retry"),
        ] {
            assert_eq!(outcome(status, body), expected, "{status} {body}");
        }
    }
}
