//! Interprets the response to a bulk request, item by item. HTTP 200 alone acknowledges nothing: a
//! record is delivered only if its own item states it. No more items are read than records were
//! sent. Source: the references of the bulk API of Elasticsearch and OpenSearch.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    foreign_text::CUT_MARGIN_BYTES,
    sink::{
        Failure, Item, Refusal, TargetName,
        refusal::RefusedRecord,
        reply::HttpResponse,
        reply_json::{LimitedText, ReplyFault, ReplyObject, list},
    },
    text::{count, listed},
};

/// The type of the error with which a cluster reports that a document exists.
const EXISTS: &str = "version_conflict_engine_exception";

/// The maximum number of other busy indexes that a message names.
const MAX_NAMES: usize = 5;
/// The maximum number of errors of a chain in a message, and of characters of each.
const MAX_CAUSES: usize = 3;
const MAX_CAUSE_CHARS: usize = 300;
/// The maximum number of characters of a type or a reason that are read.
const MAX_TEXT_CHARS: usize = MAX_CAUSE_CHARS + CUT_MARGIN_BYTES;
/// How many bytes of errors, over all items of a response, are searched for secrets. A genuine
/// error has some hundred bytes.
const MAX_SEARCHED_BYTES: usize = 256 << 10;

/// Types of errors that apply to every document of the index, regardless of its content.
const INDEX_ERRORS: &[&str] = &[
    "alias_not_found_exception",
    "cluster_block_exception",
    "index_closed_exception",
    "index_not_found_exception",
    "invalid_index_name_exception",
    "security_exception",
    // The cluster has no shards for another index.
    "validation_exception",
];
/// What resolves an error of each type, for every status.
const REMEDIES: &[(&str, &str)] = &[
    (
        "cluster_block_exception",
        "remove the block of the index or the cluster, which can be due to a full disk",
    ),
    ("index_closed_exception", "open the index"),
];
/// Parts of the reasons of `illegal_argument_exception` that apply to every document of the index.
const INDEX_REASONS: &[&str] = &["pipeline with id [", "no write index is defined"];

/// `errors` is only a summary of the items, so it is not used, but every response contains it.
#[derive(Debug, Deserialize)]
struct BulkResponse<'a> {
    #[serde(rename = "errors")]
    _errors: bool,
    /// An array of [`BulkItem`].
    #[serde(borrow)]
    items: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct BulkItem<'a> {
    #[serde(borrow)]
    create: ReplyObject<CreateResult<'a>>,
}

#[derive(Debug, Deserialize)]
struct CreateResult<'a> {
    status: u16,
    /// A [`BulkError`].
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct BulkError<'a> {
    #[serde(rename = "type", default)]
    kind: LimitedText<MAX_TEXT_CHARS>,
    reason: Option<LimitedText<MAX_TEXT_CHARS>>,
    /// Another [`BulkError`].
    #[serde(borrow)]
    caused_by: Option<&'a RawValue>,
}

/// The documents that are to be sent again, because their index was busy or their result is
/// unknown.
#[derive(Default)]
struct BusyIndexes<'a> {
    /// The message about the first of these documents.
    first: Option<String>,
    /// The index of the first of these documents.
    first_index: Option<&'a str>,
    /// The other indexes.
    others: BTreeSet<&'a str>,
}

/// The messages about the items of a response.
struct ItemMessages<'a> {
    response: &'a HttpResponse,
    /// The messages by status and error. Most items that are rejected have the same error.
    known: HashMap<(u16, &'a str), String>,
    /// How many bytes may still be searched.
    left: usize,
}

/// The response to a request that is rejected as a whole.
#[derive(Debug, Deserialize)]
struct ErrorResponse<'a> {
    #[serde(borrow)]
    error: ReplyObject<BulkError<'a>>,
}

/// Reads the response to a bulk request with these records. `index` is the index of records that
/// have no target.
///
/// | status of an item | result |
/// |---|---|
/// | 200 or 201 without an error; 409 with the error that the document exists | delivered |
/// | 200 or 201 with an error; 409 with another error, or none | unknown, so sent again |
/// | 429, 500 to 599 | sent again; documents that exist do not change |
/// | 401, 403, 404; an error that applies to the whole index | that index is parked: needs an operator |
/// | every other status, such as 400 | that record becomes a dead letter, unless the cluster rejects every record; see `whole_rejection` |
///
/// A body that is not from the bulk API, such as the page of a proxy, leaves the outcome unknown
/// and is retried.
pub(super) fn read(
    response: &HttpResponse,
    sent: &[Item],
    index: Option<&str>,
) -> Result<(), Failure> {
    let records = sent.len();
    let Some(BulkResponse { items, .. }) = response.json() else {
        return Err(response.unexpected());
    };
    let items: Result<Vec<ReplyObject<BulkItem<'_>>>, _> = list(items, records);
    let items = items.map_err(|fault| match fault {
        ReplyFault::TooManyElements(_) => {
            let (results, records) = (count(records, "result"), count(records, "record"));
            Failure::retry(format!("the cluster returned more than {results} for {records}"))
        }
        ReplyFault::Unexpected => response.unexpected(),
    })?;

    if items.len() != records {
        return Err(Failure::retry(format!(
            "the cluster returned {} for {}",
            count(items.len(), "result"),
            count(records, "record")
        )));
    }

    let (mut arrived, mut rejected, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    let mut busy = BusyIndexes::default();
    let mut messages = ItemMessages::of(response);
    for (number, (ReplyObject(item), record)) in items.into_iter().zip(sent).enumerate() {
        let ReplyObject(result) = item.create;
        match result.status {
            _ if result.is_delivered() => arrived.push(number),
            200 | 201 | 409 | 429 | 500..=599 => {
                let name = record.target.as_ref().map(TargetName::as_str).or(index);
                busy.add(name, || messages.describe(&result));
            }
            status if matches!(status, 401 | 403 | 404) || result.applies_to_index() => {
                let (reason, hint) = (messages.describe(&result), Some(result.remedy().into()));
                refused.push(RefusedRecord { index: number, reason, hint });
            }
            _ => rejected.push((number, messages.describe(&result))),
        }
    }
    let busy = busy.into_message();

    if !refused.is_empty() {
        // The cluster rejects invalid documents again when the rest is sent.
        let rest = busy.map(Failure::retry);
        return Err(Refusal::of_records("index", sent, refused, arrived, rest));
    }

    match busy {
        // If the cluster was busy, all records except the rejected ones are sent again.
        _ if !rejected.is_empty() => {
            Err(Failure::Poison { rejected, rest_delivered: busy.is_none() })
        }
        Some(reason) => Err(Failure::partial_of(arrived, Failure::retry(reason))),
        None => Ok(()),
    }
}

/// Whether all items of a response to `records` records have the same status and the same type of
/// error. The reasons differ even if the cause is the same: they contain the position in the
/// document, its ID and its values.
pub(super) fn has_one_reason(response: &HttpResponse, records: usize) -> bool {
    let Some(BulkResponse { items, .. }) = response.json() else { return false };
    let items: Result<Vec<ReplyObject<BulkItem<'_>>>, _> = list(items, records);
    let Ok(items) = items else { return false };

    let mut reasons = items.iter().map(|ReplyObject(item)| {
        let ReplyObject(result) = &item.create;
        (result.status, result.error().map(|error| error.kind))
    });
    let first = reasons.next();
    first.is_some_and(|first| reasons.all(|reason| reason == first))
}

/// Whether the response to a rejected request is from a cluster: it states the type of the error.
pub(super) fn is_error_of_cluster(response: &HttpResponse) -> bool {
    let reply: Option<ErrorResponse<'_>> = response.json();
    reply.is_some_and(|reply| !reply.error.0.kind.as_str().is_empty())
}

impl<'a> BusyIndexes<'a> {
    /// Adds a document for an index. Only the message about the first one is used.
    fn add(&mut self, index: Option<&'a str>, message: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some(message());
            self.first_index = index;
        } else if index != self.first_index {
            self.others.extend(index);
        }
    }

    /// The message, which names every index; `None` if there is no such document.
    fn into_message(self) -> Option<String> {
        let mut message = self.first?;
        if let Some(index) = self.first_index {
            message = format!("index `{index}`: {message}");
        }
        if !self.others.is_empty() {
            let others: Vec<String> = self.others.iter().map(|name| format!("`{name}`")).collect();
            message = format!("{message}; also affected: {}", listed(&others, MAX_NAMES));
        }
        Some(message)
    }
}

impl CreateResult<'_> {
    /// Whether the document is stored: this request has created it, or an earlier one.
    fn is_delivered(&self) -> bool {
        match self.status {
            200 | 201 => self.error.is_none(),
            409 => self.error().is_some_and(|error| error.kind.as_str() == EXISTS),
            _ => false,
        }
    }

    fn error(&self) -> Option<BulkError<'_>> {
        let error = self.error.and_then(|error| serde_json::from_str(error.get()).ok());
        error.map(|ReplyObject(error)| error)
    }

    /// What an operator must do. The type of the error is more specific than the status.
    fn remedy(&self) -> &'static str {
        let kind = self.error().map(|error| error.kind).unwrap_or_default();
        let known = REMEDIES.iter().find(|(error, _)| *error == kind.as_str());
        match (known, self.status) {
            (Some(&(_, remedy)), _) => remedy,
            (None, 404) => "create the index or its template",
            (None, 401 | 403) => "allow this user or API key to create documents in the index",
            (None, _) => "correct the index, its template or its ingest pipeline",
        }
    }

    /// Whether the cluster would reject every document for the same reason.
    fn applies_to_index(&self) -> bool {
        self.error().is_some_and(|BulkError { kind, reason, .. }| {
            let reason = reason.unwrap_or_default();
            let has_reason = || INDEX_REASONS.iter().any(|part| reason.as_str().contains(part));
            INDEX_ERRORS.contains(&kind.as_str())
                || kind.as_str() == "illegal_argument_exception" && has_reason()
        })
    }
}

impl<'a> ItemMessages<'a> {
    fn of(response: &'a HttpResponse) -> Self {
        Self { response, known: HashMap::new(), left: MAX_SEARCHED_BYTES }
    }

    /// The status, and the first errors of the chain, unless the errors of other items are already
    /// too long.
    fn describe(&mut self, result: &CreateResult<'a>) -> String {
        let status = result.status;
        let key = (status, result.error.map_or("", RawValue::get));
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        if self.left == 0 {
            return format!(
                "the cluster returned status {status} for a document: its error is omitted, \
                 because those of other documents are too long"
            );
        }

        let causes = self.causes(result.error).join(": ");
        let message = if causes.is_empty() {
            format!("the cluster returned status {status} for a document without an error")
        } else {
            format!("the cluster returned status {status} for a document: {causes}")
        };
        self.known.insert(key, message.clone());
        message
    }

    fn causes(&mut self, error: Option<&RawValue>) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = error;
        while let Some(error) = next.filter(|_| causes.len() < MAX_CAUSES) {
            let Ok(ReplyObject(error)) =
                serde_json::from_str::<ReplyObject<BulkError<'_>>>(error.get())
            else {
                break;
            };
            let (kind, reason) = (error.kind.as_str(), error.reason.unwrap_or_default());
            let cause = format!("{kind}: {}", reason.as_str());
            self.left = self.left.saturating_sub(cause.len());
            causes.push(self.response.quote(cause.as_bytes(), MAX_CAUSE_CHARS));
            next = error.caused_by;
        }
        causes
    }
}

#[cfg(test)]
mod tests;
