//! Sends messages as POST requests, at most one per interval. What acknowledges a message depends
//! on the service; `response` interprets the replies. The URL is a secret and never appears in a
//! message. Start reading at [`open`].

use tokio::time::Instant;

use super::{
    config::{ChatPlan, MAX_PARTS, Service},
    json_template::JsonTemplate,
    response, slack, teams,
};
use crate::{
    model::Record,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink,
        notification::{self, Message, Mode},
        reply::MAX_MESSAGE_BYTES,
    },
};

struct Chat {
    plan: ChatPlan,
    client: reqwest::Client,
    /// `extra_fields`.
    fields: Vec<(String, String)>,
    /// The earliest time of the next request.
    next: Instant,
}

/// Opens the sink without a request. Fails with `Misconfigured` if a certificate or the URL cannot
/// be read.
pub(super) fn open(plan: &ChatPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    // The URL is read here so that a missing one parks the sink before the first batch.
    plan.url.get()?;
    Ok(Box::new(Chat {
        client: plan.web.client()?,
        fields: context.fields.clone(),
        next: Instant::now(),
        plan: plan.clone(),
    }))
}

/// Sends a HEAD request, because every POST request to a webhook posts a message. A status such as
/// 404, 405 or 501 is not a failure, because a webhook need not implement HEAD. A status of 401,
/// 407, 410 or any other 5xx is a failure.
pub(super) async fn probe(plan: &ChatPlan) -> Result<String, Failure> {
    let name = plan.service.name();
    let request = plan.url.get()?.head(&plan.web.client()?);
    let response = plan.web.send(request, name).await?;

    match response.status {
        401 | 407 | 410 | 500 | 502..=599 => Err(response::failure(&response)),
        status => Ok(format!("{name} returned HTTP {status} for a HEAD request")),
    }
}

impl Sink for Chat {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        match (&self.plan.service, self.plan.mode) {
            (Service::Template(template), Mode::Messages) => {
                let body = template.of_record(record, &self.fields).map_err(EncodeError)?;
                batch.push(record, |out| {
                    let start = out.len();
                    out.extend_from_slice(&body);
                    Ok(start)
                })
            }
            _ => notification::encode(record, batch),
        }
    }

    fn is_full(&self, batch: &Batch) -> bool {
        is_full(&self.plan, batch)
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let is_encoded = matches!(self.plan.service, Service::Template(_));
            if is_encoded && self.plan.mode == Mode::Messages {
                self.post_each(batch).await?;
            } else {
                let body = body(&self.plan, &self.fields, batch)?;
                self.post(body).await?;
            }
            Ok(Acknowledgement::received())
        })
    }
}

impl Chat {
    /// Posts each record of a batch, which is already encoded as a body. Stops at the first
    /// failure, which names the records that have arrived.
    async fn post_each(&mut self, batch: &Batch) -> Result<(), Failure> {
        for (index, item) in batch.items().iter().enumerate() {
            match self.post(batch.payload(item).to_vec()).await {
                Ok(()) => {}
                Err(Failure::TooLarge { reason, .. }) => {
                    return Err(Failure::TooLarge { reason, arrived: (0..index).collect() });
                }
                Err(failure) => return Err(Failure::partial(index, failure)),
            }
        }
        Ok(())
    }

    async fn post(&mut self, body: Vec<u8>) -> Result<(), Failure> {
        let url = self.plan.url.get()?;
        self.wait_for_interval().await;

        let request = url.post(&self.client);
        let request = request.map(|request| request.header("Content-Type", "application/json"));
        let name = self.plan.service.name();
        let response = self.plan.web.post(request, body, name, MAX_MESSAGE_BYTES).await?;
        response::read(&response, &self.plan.service, self.plan.mode)
    }

    /// Waits until the next request may be sent. The intervals are counted from the beginning of a
    /// request.
    async fn wait_for_interval(&mut self) {
        tokio::time::sleep_until(self.next).await;
        let now = Instant::now();
        self.next = now.checked_add(self.plan.interval).unwrap_or(now);
    }
}

/// Whether a batch of single messages has as many different records as a message may show. A
/// template has one request for each record, and a digest summarizes all of them.
fn is_full(plan: &ChatPlan, batch: &Batch) -> bool {
    let is_message = matches!(plan.service, Service::Teams | Service::Slack);
    is_message && plan.mode == Mode::Messages && notification::has_parts(batch, MAX_PARTS)
}

/// The body of the request for a batch of notices. Fails with `TooLarge` if the records do not fit
/// into one message of Teams; a single record always does.
fn body(plan: &ChatPlan, fields: &[(String, String)], batch: &Batch) -> Result<Vec<u8>, Failure> {
    let message = plan.mode.message(&notification::notices(batch)?, fields);
    match &plan.service {
        Service::Slack => Ok(slack::body(&message)),
        Service::Template(template) => digest_body(template, &message),
        Service::Teams => {
            let body = teams::body(&message);
            if body.len() > teams::MAX_BYTES && batch.len() > 1 {
                let reason =
                    format!("the message has {} bytes, more than Teams accepts", body.len());
                return Err(Failure::TooLarge { reason, arrived: Vec::new() });
            }
            Ok(body)
        }
    }
}

fn digest_body(template: &JsonTemplate, message: &Message) -> Result<Vec<u8>, Failure> {
    template.of_digest(message).map_err(Failure::misconfigured)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        conditions::tests::fleet::TENANTS,
        model::EventId,
        net,
        settings::SecretRef,
        sink::{
            notification::{
                Notice,
                tests::{change, fleet},
            },
            shared_keys::TlsFiles,
            web::{HttpReceiverOptions, ReceiverUrl},
        },
    };

    fn plan(service: Service, mode: Mode) -> ChatPlan {
        ChatPlan {
            service,
            url: ReceiverUrl::Secret(SecretRef::Env("HOOK".to_owned())),
            mode,
            interval: Duration::from_secs(1),
            web: HttpReceiverOptions::uncompressed(TlsFiles::default()),
        }
    }

    /// A batch with one record for each sentence.
    fn batch(sentences: &[String]) -> Batch {
        let mut batch = Batch::default();
        for (index, sentence) in sentences.iter().enumerate() {
            let change = change("contoso", "regressed", -1.0, 8);
            let notice = Notice { sentence: sentence.clone(), ..change };
            let id = EventId::from_bytes([u8::try_from(index).unwrap(); 20]);
            batch.push_encoded(id, &serde_json::to_vec(&notice).unwrap());
        }
        batch
    }

    #[test]
    fn records_that_exceed_a_message_are_split() {
        let teams = plan(Service::Teams, Mode::Messages);
        let short = batch(&vec!["short".to_owned(); 20]);
        assert!(body(&teams, &[], &short).unwrap().len() < teams::MAX_BYTES);

        let long = "界".repeat(500);
        let large = batch(&vec![long.clone(); 20]);
        let failure = body(&teams, &[], &large).unwrap_err();
        assert!(matches!(&failure, Failure::TooLarge { arrived, .. } if arrived.is_empty()));
        assert!(body(&teams, &[], &batch(&[long])).is_ok());
    }

    #[test]
    fn only_different_records_fill_a_message() {
        let different: Vec<String> = (0..MAX_PARTS).map(|number| number.to_string()).collect();
        for (service, mode, expected) in [
            (Service::Teams, Mode::Messages, true),
            (Service::Slack, Mode::Messages, true),
            (Service::Teams, Mode::Digest, false),
        ] {
            let plan = plan(service, mode);
            assert_eq!(is_full(&plan, &batch(&different)), expected);
            assert!(!is_full(&plan, &batch(&different[1..])));
        }
    }

    /// An operator discards the dead letters of all tenants at once. Equal numbers share a part,
    /// and no message exceeds its limits.
    #[test]
    fn discards_of_a_fleet_are_bounded() {
        let teams = plan(Service::Teams, Mode::Messages);
        for (most, messages) in [(1, 1), (MAX_PARTS - 1, 1), (2 * MAX_PARTS, TENANTS / MAX_PARTS)] {
            let (mut batch, mut cards) = (Batch::default(), Vec::new());
            fleet::discard(most, |record| {
                notification::encode(record, &mut batch).unwrap();
                if is_full(&teams, &batch) {
                    cards.push(body(&teams, &[], &std::mem::take(&mut batch)).unwrap());
                }
            });
            if !batch.is_empty() {
                cards.push(body(&teams, &[], &batch).unwrap());
            }

            let number = cards.len();
            assert!((1..=messages).contains(&number), "{number} messages for 1 to {most} letters");
            for card in cards {
                let text = String::from_utf8(card).unwrap();
                assert!(text.len() <= teams::MAX_BYTES, "{} bytes", text.len());
                assert!(text.matches("\"id\":").count() <= MAX_PARTS, "{text}");
                assert!(text.contains("rejected record"), "{text}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_spaced_by_the_interval() {
        let mut chat = Chat {
            plan: plan(Service::Slack, Mode::Messages),
            client: net::client(None).unwrap(),
            fields: Vec::new(),
            next: Instant::now(),
        };
        let start = Instant::now();
        for _ in 0..4 {
            chat.wait_for_interval().await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(3));

        tokio::time::advance(Duration::from_mins(1)).await;
        let start = Instant::now();
        chat.wait_for_interval().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
