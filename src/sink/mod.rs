//! Sinks: the destinations of records, and the protocols that deliver to them.
//!
//! A sink depends on the record model, the formats and its own protocol, and never on the
//! checkpoint. It guarantees one thing: a [`Receipt`] means that every record of the batch has
//! arrived, by the strongest acknowledgement that its protocol offers. An unknown outcome is a
//! [`Failure`], never a delivery.
//!
//! Start with the traits [`Plan`] and [`Sink`]. A new sink is one folder, one `mod` and one entry
//! in [`KINDS`]; `CONTRIBUTING.md` contains a tutorial.

mod address;
mod batch;
mod chat;
pub mod common_keys;
mod destination;
mod elasticsearch;
#[cfg(feature = "email")]
mod email;
mod failure;
mod file;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod kind;
mod notification;
#[cfg(feature = "object_store")]
mod object_store;
mod otlp;
mod outgoing_request;
mod progress;
mod refusal;
mod reply;
mod reply_json;
mod secret_url;
mod sentinel;
mod shared_keys;
mod splunk_hec;
mod stdout;
mod syslog;
mod template;
mod web;
mod whole_rejection;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

pub use batch::{Attachment, Batch, BatchOrigin, Item, TargetName};
pub use common_keys::{COMMON_KEYS, INHERITED_KEYS as INHERITED_COMMON_KEYS};
pub use destination::{Destination, DestinationError, TenantDestinations};
pub use failure::{Failure, FailurePlace};
pub use kind::{Guarantee, SinkKind};
pub use notification::DIGEST;
pub use progress::{Progress, SentDays};
pub use refusal::{Refusal, RefusedTarget};
use secrecy::SecretString;
pub use shared_keys::{CLIENT_CERTIFICATE_NAME, CLIENT_KEY_NAME, INHERITED_KEYS};
pub use template::{TEMPLATE_KEYS, placeholder_in};

use crate::{
    error::chain,
    foreign_text::PeerSecrets,
    format::{FormatName, Formatter, Options, Texts},
    model::{Kind, Record, SinkName},
    settings::Variant,
};

/// The future of a sink's operation, boxed so that [`Plan`] and [`Sink`] can be used as trait
/// objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Every sink of this build.
pub const KINDS: &[SinkKind] = &[
    SinkKind {
        name: "stdout",
        keys: stdout::KEYS,
        read: stdout::read,
        guarantees: stdout::GUARANTEES,
        examples: stdout::EXAMPLES,
    },
    SinkKind {
        name: "file",
        keys: file::KEYS,
        read: file::read,
        guarantees: file::GUARANTEES,
        examples: file::EXAMPLES,
    },
    SinkKind {
        name: "syslog",
        keys: syslog::KEYS,
        read: syslog::read,
        guarantees: syslog::GUARANTEES,
        examples: syslog::EXAMPLES,
    },
    SinkKind {
        name: "splunk_hec",
        keys: splunk_hec::KEYS,
        read: splunk_hec::read,
        guarantees: splunk_hec::GUARANTEES,
        examples: splunk_hec::EXAMPLES,
    },
    SinkKind {
        name: "elasticsearch",
        keys: elasticsearch::KEYS,
        read: elasticsearch::read,
        guarantees: elasticsearch::GUARANTEES,
        examples: elasticsearch::EXAMPLES,
    },
    SinkKind {
        name: "http",
        keys: http::KEYS,
        read: http::read,
        guarantees: http::GUARANTEES,
        examples: http::EXAMPLES,
    },
    SinkKind {
        name: "chat",
        keys: chat::KEYS,
        read: chat::read,
        guarantees: chat::GUARANTEES,
        examples: chat::EXAMPLES,
    },
    #[cfg(feature = "email")]
    SinkKind {
        name: "email",
        keys: email::KEYS,
        read: email::read,
        guarantees: email::GUARANTEES,
        examples: email::EXAMPLES,
    },
    SinkKind {
        name: "sentinel",
        keys: sentinel::KEYS,
        read: sentinel::read,
        guarantees: sentinel::GUARANTEES,
        examples: sentinel::EXAMPLES,
    },
    SinkKind {
        name: "otlp",
        keys: otlp::KEYS,
        read: otlp::read,
        guarantees: otlp::GUARANTEES,
        examples: otlp::EXAMPLES,
    },
    #[cfg(feature = "kafka")]
    SinkKind {
        name: "kafka",
        keys: kafka::KEYS,
        read: kafka::read,
        guarantees: kafka::GUARANTEES,
        examples: kafka::EXAMPLES,
    },
    #[cfg(feature = "object_store")]
    SinkKind {
        name: "object_store",
        keys: object_store::KEYS,
        read: object_store::read,
        guarantees: object_store::GUARANTEES,
        examples: object_store::EXAMPLES,
    },
];

/// Sinks whose Cargo feature is disabled in this build.
const NOT_IN_THIS_BUILD: &[&str] = &[
    #[cfg(not(feature = "email"))]
    "email",
    #[cfg(not(feature = "kafka"))]
    "kafka",
    #[cfg(not(feature = "object_store"))]
    "object_store",
];

/// The validated configuration of a sink, from which the sink can be opened.
pub trait Plan: Send + Sync + fmt::Debug {
    /// The format that the records are written in.
    fn format(&self) -> FormatName;
    /// The maximum size of a batch, and how many batches may be unacknowledged.
    fn limits(&self) -> Limits;
    /// What an acknowledgement of this sink means, as a clause without a period.
    /// `test-sink` prints it.
    fn acknowledgement(&self) -> &'static str;
    /// Opens the sink for one test record, while a daemon may be using the same receiver.
    fn open_for_test<'a>(
        &'a self,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        self.open(context, None)
    }
    /// Checks that the receiver is reachable and accepts the credentials, as far as the protocol
    /// permits without sending a record. The check leaves no record at the receiver. Returns what
    /// was verified, as a sentence without a period.
    fn probe<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<String, Failure>>;
    /// Checks what can be checked on this host alone, without changing anything: that this process
    /// may write to the file of the sink.
    fn check_host(&self) -> Result<(), Failure> {
        Ok(())
    }
    /// The longest time that the delivery of a batch can take within the time limits of the sink.
    /// A batch that takes longer is considered stuck.
    fn timeout(&self) -> Duration {
        Duration::from_mins(15)
    }
    /// Where the causes of failures are. A sink that writes to a disk of this host is tried again
    /// sooner, because that costs no other system anything.
    fn failure_place(&self) -> FailurePlace {
        FailurePlace::Receiver
    }
    /// A resource that no other sink may use, such as the path of a file.
    fn exclusive_resource(&self) -> Option<String> {
        None
    }
    /// Whether the receiver stores the progress of each tenant. If it does, the deliverer adds the
    /// progress to each batch; see [`Batch::progress`].
    fn stores_progress(&self) -> bool {
        false
    }
    /// Whether a batch ends only at the end of an entry, regardless of its size.
    fn whole_entries(&self) -> bool {
        self.stores_progress()
    }
    /// The kinds of record that are sent if the configuration does not select any.
    fn default_records(&self) -> &'static [Kind] {
        &[Kind::Control, Kind::Summary, Kind::Change, Kind::Quality]
    }
    /// Whether a new sink receives earlier days.
    fn history(&self) -> History {
        History::Sent
    }
    /// Whether the deliverer attaches a report to each batch of new records; see
    /// [`Batch::attachment`].
    fn attaches_report(&self) -> bool {
        false
    }
    /// The resource, a URL, for which the sink needs Entra tokens.
    fn token_resource(&self) -> Option<&str> {
        None
    }
    /// Labels that every tenant of the sink must have.
    fn required_labels(&self) -> Vec<String> {
        self.destination().map(Destination::labels).unwrap_or_default()
    }
    /// The place at the receiver, if it can depend on the tenant.
    fn destination(&self) -> Option<&Destination> {
        None
    }
    /// Opens the sink. `mark` is the mark of the last [`Receipt`].
    fn open<'a>(
        &'a self,
        context: &'a Context,
        mark: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>>;
}

/// An open sink. One task owns it and passes it one batch after another.
pub trait Sink: Send + Sync {
    /// Appends one record to a batch, in the form in which it is sent. Fails if the record can
    /// never be sent; the batch is then unchanged.
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError>;
    /// Whether a batch is sent although it has not reached the [`Limits`]. A notification sink
    /// limits the number of different records, not of all.
    fn is_full(&self, _: &Batch) -> bool {
        false
    }
    /// Sends a batch to the receiver. If the acknowledgement is pending, the next batches may be
    /// sent before it arrives, up to [`Limits::in_flight`].
    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>>;
    /// The progress that the receiver has stored with earlier batches.
    fn progress(&self) -> &[Progress] {
        &[]
    }
    /// The mark to store before the first batch, so that the effects of a crash during that batch
    /// can be undone.
    fn mark(&self) -> Option<Vec<u8>> {
        None
    }
    /// Closes the sink in the way that its protocol defines.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The environment of a sink.
#[derive(Clone, Debug)]
pub struct Context {
    /// The sink's name in the configuration.
    pub name: SinkName,
    /// The name of the collector host.
    pub host: String,
    /// `texts`: how much of Microsoft's texts a record contains.
    pub texts: Texts,
    /// `extra_fields`: fields that are added to every record.
    pub fields: Vec<(String, String)>,
    /// For receivers that authenticate with Entra tokens.
    pub tokens: Option<Arc<dyn Tokens>>,
}

/// A source of Entra tokens for one receiver.
pub trait Tokens: Send + Sync + fmt::Debug {
    /// Returns a token that is not about to expire. Fails if Entra returns no token.
    fn token(&self) -> BoxFuture<'_, Result<SecretString, Failure>>;
    /// Discards a token that the receiver rejected.
    fn reject<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, ()>;
    /// The secrets that were sent to the token endpoint. The receiver can be the same party, so it
    /// shares them.
    fn sent(&self) -> &PeerSecrets;
}

/// Whether a sink without `start_from` receives the days before the one on which it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// It receives 90 days.
    Sent,
    /// It begins with the day on which it was added, because notifications about earlier days are
    /// of no use.
    Skipped,
}

/// A batch is full when it reaches `records` or `bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of records.
    pub records: usize,
    /// The size of the encoded records in bytes. The record that reaches it is still part of the
    /// batch.
    pub bytes: usize,
    /// Batches that may be unacknowledged at the same time; at least 1.
    pub in_flight: usize,
}

/// The acknowledgement of a batch: received, or pending.
pub enum Acknowledgement {
    /// The receiver has confirmed every record of the batch.
    Received(Receipt),
    /// Everything has been sent, and the future waits only for the receiver. The batch is kept
    /// until the future is ready.
    Pending(BoxFuture<'static, Result<Receipt, Failure>>),
}

/// The result of an acknowledged batch. `mark` is stored with the cursor, in the same transaction,
/// and is passed to [`Plan::open`] when the sink is opened again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// A few bytes that only the sink interprets; `None` keeps the stored mark.
    pub mark: Option<Vec<u8>>,
}

/// Why this sink can never send a record, which then becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub String);

/// The values of `type` in `[[sinks]]`, including the sinks that are not part of this build.
pub fn variants() -> Vec<Variant> {
    let included = KINDS.iter().map(|kind| Variant {
        name: kind.name,
        keys: Some(kind.keys),
        examples: kind.examples,
    });
    let absent = NOT_IN_THIS_BUILD.iter().map(|name| Variant { name, keys: None, examples: &[] });
    included.chain(absent).collect()
}

impl Acknowledgement {
    /// An acknowledgement without a mark.
    pub fn received() -> Self {
        Self::Received(Receipt::default())
    }

    /// Waits for the receipt; a sink limits this time itself, see [`Plan::timeout`].
    ///
    /// # Errors
    ///
    /// Fails with the reason why the batch was not delivered, such as a lost connection.
    pub async fn wait(self) -> Result<Receipt, Failure> {
        match self {
            Self::Received(receipt) => Ok(receipt),
            Self::Pending(receipt) => receipt.await,
        }
    }
}

/// Decodes a response of a Splunk HTTP event collector, with its HTTP status.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_hec_reply(status: u16, body: &[u8]) {
    splunk_hec::fuzz_reply(status, body);
}

/// Decodes the replies of a RELP server until the bytes end or are invalid.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_relp_reply(bytes: &[u8]) {
    syslog::fuzz_relp_replies(bytes);
}

fn formatter(format: FormatName, context: &Context) -> Formatter {
    Formatter::new(
        format,
        Options {
            texts: context.texts,
            host: context.host.clone(),
            fields: context.fields.clone(),
        },
    )
}
