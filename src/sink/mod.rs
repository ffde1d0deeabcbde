//! Where records go, and the protocol that proves they arrived.
//!
//! A sink knows the record, the formats and its own protocol; nothing of the checkpoint. It
//! promises one thing: a [`Receipt`] means that every record of the batch has arrived, by the
//! strongest proof its protocol has. Unknown is not delivered.
//!
//! A new sink is one folder and one line in [`KINDS`].

mod batch;
mod elasticsearch;
mod file;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "object_store")]
mod object_store;
mod otlp;
mod progress;
mod sentinel;
mod splunk_hec;
mod stdout;
mod syslog;
mod template;
mod web;

use std::{borrow::Cow, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

pub use batch::{Batch, Item};
pub use progress::{Progress, SentDays};
use secrecy::SecretString;

use crate::{
    error::chain,
    format::{FormatName, Formatter, Options, Texts},
    model::Record,
    settings::{Choice, Key, Section, Shape, Variant, optional},
};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A type of sink: its name in the configuration, its keys, and how they are read.
#[derive(Clone, Copy)]
pub struct SinkKind {
    pub name: &'static str,
    pub keys: &'static [Key],
    /// `None` with the faults noted, if the section makes no sense.
    pub read: fn(&Section<'_>) -> Option<Box<dyn Plan>>,
}

/// Every sink of this version.
pub const KINDS: &[SinkKind] = &[
    SinkKind { name: "stdout", keys: stdout::KEYS, read: stdout::read },
    SinkKind { name: "file", keys: file::KEYS, read: file::read },
    SinkKind { name: "syslog", keys: syslog::KEYS, read: syslog::read },
    SinkKind { name: "splunk_hec", keys: splunk_hec::KEYS, read: splunk_hec::read },
    SinkKind { name: "elasticsearch", keys: elasticsearch::KEYS, read: elasticsearch::read },
    SinkKind { name: "http", keys: http::KEYS, read: http::read },
    SinkKind { name: "sentinel", keys: sentinel::KEYS, read: sentinel::read },
    SinkKind { name: "otlp", keys: otlp::KEYS, read: otlp::read },
    #[cfg(feature = "kafka")]
    SinkKind { name: "kafka", keys: kafka::KEYS, read: kafka::read },
    #[cfg(feature = "object_store")]
    SinkKind { name: "object_store", keys: object_store::KEYS, read: object_store::read },
];

/// Sinks that this build was made without.
const NOT_IN_THIS_BUILD: &[&str] = &[
    #[cfg(not(feature = "kafka"))]
    "kafka",
    #[cfg(not(feature = "object_store"))]
    "object_store",
];

/// A sink as configured: validated, and nothing opened yet.
pub trait Plan: Send + Sync + fmt::Debug {
    /// The format that the records are written in.
    fn format(&self) -> FormatName;
    /// How much goes into a batch.
    fn limits(&self) -> Limits;
    /// What a receipt of this sink says, in a sentence.
    fn acknowledgement(&self) -> &'static str;
    /// Opens the sink beside a daemon that may be using it, for one record that tells nothing.
    fn open_for_test<'a>(
        &'a self,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        self.open(context, None)
    }
    /// Asks the receiver whether it is there and lets us in, as far as its protocol has a question
    /// for that: without a record, and without leaving a trace. What has been seen, in a sentence.
    fn probe<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<String, Failure>>;
    /// No batch takes longer than this, by the sink's own limits of time: who is at one for longer
    /// hangs.
    fn timeout(&self) -> Duration {
        Duration::from_mins(15)
    }
    /// What must not be shared with another sink, such as a file.
    fn exclusive_resource(&self) -> Option<String> {
        None
    }
    /// Whether the receiver keeps how far each tenant's log has come. Then a batch says how far it
    /// reaches.
    fn stores_progress(&self) -> bool {
        false
    }
    /// Whether a batch ends with an entry, however large that is.
    fn whole_entries(&self) -> bool {
        self.stores_progress()
    }
    /// The resource, a URL, that it wants Entra's tokens for.
    fn token_resource(&self) -> Option<&str> {
        None
    }
    /// Labels that every tenant must have.
    fn required_labels(&self) -> Vec<String> {
        Vec::new()
    }
    /// Opens the sink. `mark` is what the last receipt left; see [`Receipt`].
    fn open<'a>(
        &'a self,
        context: &'a Context,
        mark: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>>;
}

/// An open sink. One task owns it, and hands it one batch after the other.
pub trait Sink: Send + Sync {
    /// Appends one record to a batch, as it will go over the wire.
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError>;
    /// Gives a batch to the receiver. The proof comes with it, or is still to come: then the next
    /// batch may follow before it is there, up to [`Limits::in_flight`].
    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>>;
    /// What the receiver has kept of earlier batches.
    fn progress(&self) -> &[Progress] {
        &[]
    }
    /// What to keep before the first batch, so that a crash in it can be undone.
    fn mark(&self) -> Option<Vec<u8>> {
        None
    }
    /// Says goodbye to the receiver, as far as its protocol has a word for it.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What a sink is told of its surroundings.
#[derive(Clone, Debug)]
pub struct Context {
    pub name: String,
    /// The collector host.
    pub host: String,
    pub texts: Texts,
    /// `extra_fields`.
    pub fields: Vec<(String, String)>,
    /// For receivers that take Entra's word.
    pub tokens: Option<Arc<dyn Tokens>>,
}

/// Tokens of Entra for one receiver.
pub trait Tokens: Send + Sync + fmt::Debug {
    /// One that is good for some time yet.
    fn token(&self) -> BoxFuture<'_, Result<SecretString, Failure>>;
    /// Forgets one that was not taken.
    fn reject<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, ()>;
}

/// A batch is full when `records` or `bytes` is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub records: usize,
    pub bytes: usize,
    /// Batches that may wait for their proof at the same time; at least 1.
    pub in_flight: usize,
}

/// That a batch has arrived: known, or on its way.
pub enum Acknowledgement {
    Received(Receipt),
    /// Waits for nothing but the receiver's word. The batch is kept until then.
    Pending(BoxFuture<'static, Result<Receipt, Failure>>),
}

/// What a proof leaves. What `mark` holds is kept with the cursor, in the same transaction, and handed back
/// on the next start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    pub mark: Option<Vec<u8>>,
}

/// A record that this sink can never take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub String);

/// Why a batch was not delivered, by what is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Passes by itself: try again, not before `after` if the receiver said so.
    Retry { reason: String, after: Option<Duration> },
    /// Wants a person: the backlog is kept, and the sink tried again from time to time.
    Misconfigured { reason: String, hint: Option<Cow<'static, str>> },
    /// Records that the receiver will never take, by index, with its words. `rest_delivered` says
    /// whether all others have arrived, or must be sent again.
    Poison { rejected: Vec<(usize, String)>, rest_delivered: bool },
    /// The receiver wants smaller batches. `arrived` names the records that have arrived all the same.
    TooLarge { reason: String, arrived: Vec<usize> },
    /// The first `arrived` records have arrived; what comes after them failed like this.
    Partial { arrived: usize, failure: Box<Failure> },
    /// Nothing is wrong and nothing was taken: close the sink, open it, and hand it the batch again.
    Reopen,
    /// The client is beyond use: close it, open a new one, then as `Retry`.
    Broken { reason: String },
}

/// The variants of `[[sinks]]` by `type`.
pub fn variants() -> Vec<Variant> {
    let now = KINDS.iter().map(|kind| Variant { name: kind.name, keys: Some(kind.keys) });
    now.chain(NOT_IN_THIS_BUILD.iter().map(|name| Variant { name, keys: None })).collect()
}

impl Acknowledgement {
    /// Arrived, and nothing to remember.
    pub fn received() -> Self {
        Self::Received(Receipt::default())
    }

    pub async fn wait(self) -> Result<Receipt, Failure> {
        match self {
            Self::Received(receipt) => Ok(receipt),
            Self::Pending(receipt) => receipt.await,
        }
    }
}

impl Failure {
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// The first `arrived` records have arrived, before it failed.
    pub fn partial(arrived: usize, failure: Self) -> Self {
        if arrived == 0 { failure } else { Self::Partial { arrived, failure: Box::new(failure) } }
    }

    pub fn misconfigured(reason: impl Into<String>) -> Self {
        Self::Misconfigured { reason: reason.into(), hint: None }
    }
}

impl Failure {
    /// What an operator can do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Misconfigured { hint, .. } => hint.clone(),
            Self::Partial { failure, .. } => failure.hint(),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { reason, .. }
            | Self::Misconfigured { reason, .. }
            | Self::TooLarge { reason, .. }
            | Self::Broken { reason } => f.write_str(reason),
            Self::Partial { failure, .. } => failure.fmt(f),
            Self::Reopen => f.write_str("the sink wants to be opened anew"),
            Self::Poison { rejected, .. } => {
                write!(f, "the receiver refused {} records", rejected.len())
            }
        }
    }
}

/// `format`, for sinks that let one choose.
const FORMAT: Key = optional("format", Shape::OneOf(FORMATS), "How a record is written.");

const FORMATS: &[Choice] = match LINE_FORMATS.split_first() {
    Some((_csv, others)) => others,
    None => &[],
};

/// `format`, where records stand one below the other under a heading.
const LINE_FORMAT: Key =
    optional("format", Shape::OneOf(LINE_FORMATS), "How a record is written.");

const LINE_FORMATS: &[Choice] = &[
    // First, for those who have no use for a heading leave it out.
    Choice::now("csv"),
    Choice::now("json"),
    Choice::now("cef"),
    Choice::now("leef"),
    Choice::now("leef2"),
    Choice::now("ocsf"),
    Choice::now("ecs"),
    Choice::now("cloudevents"),
];

fn read_format(section: &Section<'_>, default: FormatName) -> FormatName {
    section.text("format").and_then(FormatName::parse).unwrap_or(default)
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
