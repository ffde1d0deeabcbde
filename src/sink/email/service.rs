//! Sends messages to the mail server, one session per message. Only the positive reply to a message
//! is an acknowledgement; a connection that is lost before it means that the message is sent again,
//! with the same `Message-ID`. Start reading at [`open`].

use std::time::Duration;

use tokio::time::timeout;

use super::{
    compose::{MailMetadata, compose},
    config::{EmailPlan, MAX_PARTS},
    session::SmtpSession,
};
use crate::{
    clock,
    model::{Record, Severity},
    sink::{
        Acknowledgement, Attachment, Batch, BoxFuture, Context, EncodeError, Failure, Sink,
        batch::hash_of_ids,
        chain,
        notification::{self, Message, Mode, Part},
    },
};

/// The limit for a session, from connecting to the reply to the message. RFC 5321 recommends ten
/// minutes for this reply alone, because servers scan a message before they accept it.
const SESSION_TIMEOUT: Duration = Duration::from_mins(12);
/// A larger report is not attached, because mail servers limit the size of a message.
const MAX_REPORT_BYTES: usize = 7 << 20;

struct Email {
    plan: EmailPlan,
    /// The name of this host.
    host: String,
    /// `extra_fields`.
    fields: Vec<(String, String)>,
}

/// Opens the sink without a connection. Fails with `Misconfigured` if the password cannot be read.
pub(super) fn open(plan: &EmailPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    // The password is read here so that a missing one parks the sink before the first batch.
    if let Some((_, password)) = &plan.credentials {
        password.read().map_err(|error| Failure::misconfigured_by(&error))?;
    }
    Ok(Box::new(Email {
        plan: plan.clone(),
        host: context.host.clone(),
        fields: context.fields.clone(),
    }))
}

/// Connects and authenticates, and sends no message.
pub(super) async fn probe(plan: &EmailPlan, context: &Context) -> Result<String, Failure> {
    let session = in_time(SmtpSession::open(plan, &context.host)).await?;
    session.close().await;
    let accepted = if plan.credentials.is_some() { "the credentials" } else { "the connection" };
    Ok(format!("the mail server accepts {accepted}"))
}

impl Sink for Email {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        notification::encode(record, batch)
    }

    fn is_full(&self, batch: &Batch) -> bool {
        self.plan.mode == Mode::Messages && notification::has_parts(batch, MAX_PARTS)
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let message = self.plan.mode.message(&notification::notices(batch)?, &self.fields);
            let id = hash_of_ids(batch.items());
            self.send_with_report(message, &id, batch.attachment()).await?;
            Ok(Acknowledgement::received())
        })
    }
}

impl Email {
    /// Sends a message with the report. If the report or the email is too large, sends the message
    /// without it.
    async fn send_with_report(
        &self,
        mut message: Message,
        id: &str,
        report: Option<&Attachment>,
    ) -> Result<(), Failure> {
        if let Some(file) = report.filter(|file| file.content.len() <= MAX_REPORT_BYTES) {
            match self.send(&message, id, Some(file)).await {
                Err(Failure::TooLarge { .. }) => {}
                sent => return sent,
            }
        }

        if report.is_some() {
            message.parts.push(note_about_report());
        }
        match self.send(&message, id, None).await {
            // A digest cannot become smaller with fewer records.
            Err(Failure::TooLarge { reason, .. }) if self.plan.mode == Mode::Digest => {
                Err(Failure::misconfigured(reason))
            }
            sent => sent,
        }
    }

    async fn send(
        &self,
        message: &Message,
        id: &str,
        attachment: Option<&Attachment>,
    ) -> Result<(), Failure> {
        let metadata = MailMetadata { id, time: clock::now(), host: &self.host, attachment };
        let mail = compose(&self.plan, message, &metadata).map_err(|error| {
            Failure::misconfigured(format!("cannot compose the email: {}", chain(&error)))
        })?;

        let session = in_time(async {
            let mut session = SmtpSession::open(&self.plan, &self.host).await?;
            session.send(&self.plan, &mail).await?;
            Ok::<_, Failure>(session)
        });
        session.await?.close().await;
        Ok(())
    }
}

async fn in_time<T>(session: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let minutes = SESSION_TIMEOUT.as_secs() / 60;
    timeout(SESSION_TIMEOUT, session).await.unwrap_or_else(|_| {
        Err(Failure::retry(format!("the mail server did not respond within {minutes} minutes")))
    })
}

fn note_about_report() -> Part {
    Part {
        event_id: None,
        severity: Severity::Informational,
        heading: "Report".to_owned(),
        text: "The report is too large to attach.".to_owned(),
        facts: vec![(
            Part::HINT.to_owned(),
            "run `report` on the host of the forwarder".to_owned(),
        )],
    }
}
