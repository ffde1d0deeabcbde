//! The requests of a batch, and what became of them. The events of one request are for the same
//! index: a collector rejects a request as a whole for an index that is not allowed, and does not
//! define which events before that one it has accepted. This module sends nothing. Start reading at
//! [`requests`]. See decision 0081.

use std::{collections::HashSet, ops::Range};

use bytes::Bytes;

use crate::sink::{
    Batch, Failure, Item, Receipt, Refusal, RefusedTarget, TargetName, web::compress,
};

/// A request with events for one index.
pub(super) struct EventRequest {
    /// The body, which is compressed if the sink is configured so.
    pub body: Bytes,
    /// The positions of the events in the batch.
    events: Range<usize>,
    index: EventIndex,
}

/// The index of all events of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EventIndex {
    /// The default of the token.
    OfToken,
    /// The only index of the sink.
    Only(TargetName),
    /// One of several indices of the sink.
    OneOf(TargetName),
}

/// The encoding of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEncoding {
    Plain,
    Gzip,
}

/// What became of the requests of a batch.
#[derive(Debug, Default)]
pub(super) struct RequestOutcomes {
    /// The positions of the events that have arrived, and the indices that were refused.
    refusal: Refusal,
    /// The first failure of another kind.
    failure: Option<Failure>,
    /// Whether events are to be sent again in a smaller request.
    has_rest: bool,
    /// The indices whose events are sent again with the next attempt. A collector that is busy for
    /// one index may accept events for the others.
    waiting: HashSet<TargetName>,
    /// Whether the failure applies to all indices.
    is_ended: bool,
}

/// The requests of a batch, in the order of its records: one for each sequence of records with the
/// same index. `index` is that of records without their own.
pub(super) fn requests<'b>(
    batch: &'b Batch,
    encoding: BodyEncoding,
    index: &'b EventIndex,
) -> impl Iterator<Item = EventRequest> + Send + 'b {
    let mut start: usize = 0;
    let has_same_index = |one: &Item, next: &Item| one.target == next.target;
    batch.items().chunk_by(has_same_index).filter_map(move |items| {
        let events = start..start.saturating_add(items.len());
        start = events.end;

        let first = items.first()?;
        let after = batch.items().get(events.end).map_or(0, |next| batch.bytes_from(next).len());
        let bytes = batch.bytes_from(first);
        let bytes = &bytes[..bytes.len().saturating_sub(after)];
        let body = match encoding {
            BodyEncoding::Plain => Bytes::copy_from_slice(bytes),
            BodyEncoding::Gzip => compress(bytes).into(),
        };
        let index = first.target.clone().map_or_else(|| index.clone(), EventIndex::OneOf);
        Some(EventRequest { body, events, index })
    })
}

/// A request with the event at one position of a batch; `None` if there is none. `index` is that of
/// a record without its own.
pub(super) fn request_of(
    batch: &Batch,
    position: usize,
    encoding: BodyEncoding,
    index: &EventIndex,
) -> Option<EventRequest> {
    let events = position..position.saturating_add(1);
    let event = batch.part(events.clone());
    let request = requests(&event, encoding, index).next()?;
    Some(EventRequest { events, ..request })
}

impl EventRequest {
    /// The positions of the events in the batch.
    pub(super) fn events(&self) -> Range<usize> {
        self.events.clone()
    }

    /// The number of events.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The failure of a request whose index the collector refuses, with the name of the index.
    pub(super) fn refused(&self, failure: Failure) -> Failure {
        let (name, Failure::Misconfigured { reason, hint }) = (self.index.name(), failure.clone())
        else {
            return failure;
        };
        let Some(name) = name.cloned() else { return failure };

        let refused = RefusedTarget { reason: format!("index `{name}`: {reason}"), name, hint };
        match self.index {
            EventIndex::OneOf(_) => {
                Failure::Refused(Refusal { targets: vec![refused], ..Refusal::default() })
            }
            EventIndex::OfToken | EventIndex::Only(_) => refused.into_failure(),
        }
    }
}

impl EventIndex {
    fn name(&self) -> Option<&TargetName> {
        match self {
            Self::OfToken => None,
            Self::Only(name) | Self::OneOf(name) => Some(name),
        }
    }
}

impl RequestOutcomes {
    /// Notes that the events of a request have arrived.
    pub(super) fn arrived(&mut self, request: &EventRequest) {
        self.refusal.arrived.extend(request.events.clone());
    }

    /// Notes the failure of a request.
    pub(super) fn failed(&mut self, request: &EventRequest, failure: Failure) {
        match failure {
            Failure::Refused(refusal) => {
                for target in refusal.targets {
                    self.refusal.add(target);
                }
            }
            // The positions in the failure are those in the request, not in the batch.
            Failure::Poison { .. } | Failure::TooLarge { .. } if request.events.start > 0 => {
                self.has_rest = true;
                self.waiting.extend(request.index.name().cloned());
            }
            failure @ Failure::Retry { .. } if matches!(request.index, EventIndex::OneOf(_)) => {
                self.failure.get_or_insert(failure);
                self.waiting.extend(request.index.name().cloned());
            }
            failure if self.is_ended => {
                self.failure.get_or_insert(failure);
            }
            failure => {
                self.failure = Some(failure);
                self.is_ended = true;
            }
        }
    }

    /// Notes that the last failure applies to all indices, because the collector did not respond in
    /// time.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    /// Whether a request is not sent, because an earlier one for the same index has failed.
    pub(super) fn skips(&self, request: &EventRequest) -> bool {
        request.index.name().is_some_and(|name| self.waiting.contains(name))
    }

    /// Whether no further request of the batch is sent.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_ended || (self.has_rest && self.failure.is_none())
    }

    /// The result for the whole batch.
    pub(super) fn into_result(self) -> Result<Receipt, Failure> {
        let Self { mut refusal, failure, has_rest, .. } = self;
        let is_refused = !refusal.targets.is_empty();

        match failure {
            None if !is_refused && !has_rest => Ok(Receipt::default()),
            Some(failure) if !is_refused && refusal.arrived.is_empty() => Err(failure),
            failure => {
                // A rejected event is found when the rest is sent alone.
                let is_of_one_event =
                    matches!(failure, Some(Failure::Poison { .. } | Failure::TooLarge { .. }));
                refusal.rest = failure.filter(|_| !is_of_one_event).map(Box::new);
                Err(Failure::Refused(refusal))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TenantId;

    /// A batch with one event per index; its bytes are the name of the index and a newline.
    fn batch(indices: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for index in indices {
            batch.push_encoded_to(TenantId::TEST, index, format!("{index}\n").as_bytes());
        }
        batch
    }

    fn split(batch: &Batch) -> Vec<EventRequest> {
        requests(batch, BodyEncoding::Plain, &EventIndex::OfToken).collect()
    }

    #[test]
    fn a_request_has_events_for_one_index() {
        let batch = batch(&["a", "a", "b", "a"]);
        let bodies: Vec<Bytes> = split(&batch).into_iter().map(|request| request.body).collect();
        assert_eq!(bodies, ["a\na\n", "b\n", "a\n"]);
        assert_eq!(split(&batch)[1].events, 2..3);

        let alone = request_of(&batch, 2, BodyEncoding::Plain, &EventIndex::OfToken).unwrap();
        assert_eq!((alone.body.as_ref(), alone.events()), (&b"b\n"[..], 2..3));
        assert!(request_of(&batch, 4, BodyEncoding::Plain, &EventIndex::OfToken).is_none());
        assert!(split(&Batch::default()).is_empty());
    }

    #[test]
    fn refusals_name_the_index() {
        let refused = |index| {
            let request = EventRequest { body: Bytes::new(), events: 0..1, index };
            request.refused(Failure::misconfigured("code 7"))
        };
        let name = TargetName::new("a");
        assert_eq!(refused(EventIndex::OfToken), Failure::misconfigured("code 7"));
        let only = refused(EventIndex::Only(name.clone()));
        assert_eq!(only, Failure::misconfigured("index `a`: code 7"));
        let one = refused(EventIndex::OneOf(name));
        assert!(matches!(one, Failure::Refused(_)) && one.to_string() == "index `a`: code 7");
    }

    /// What happens to the requests of three events: `a` arrived, `r` refused, `b` busy, `p`
    /// poison; and the result.
    fn result_of(events: &str) -> String {
        let batch = batch(&["x", "y", "z"]);
        let mut outcomes = RequestOutcomes::default();
        for (request, event) in split(&batch).iter().zip(events.chars()) {
            let refused = request.refused(Failure::misconfigured("no"));
            let rejected = vec![(0, "bad".to_owned())];
            match event {
                'a' => outcomes.arrived(request),
                'r' => outcomes.failed(request, refused),
                'b' => outcomes.failed(request, Failure::retry("busy")),
                _ => {
                    let poison = Failure::Poison { rejected, rest_delivered: false };
                    outcomes.failed(request, poison);
                }
            }
        }

        match outcomes.into_result() {
            Ok(_) => "ok".to_owned(),
            Err(Failure::Refused(Refusal { arrived, rest, .. })) => {
                format!("refused {arrived:?} {}", rest.is_some())
            }
            Err(Failure::Poison { .. }) => "poison".to_owned(),
            Err(failure) => failure.to_string(),
        }
    }

    /// Regression: while the collector was busy for one index, nothing was sent to the others.
    #[test]
    fn a_busy_index_stops_only_itself() {
        let batch = batch(&["x", "y", "x"]);
        let requests = split(&batch);
        let mut outcomes = RequestOutcomes::default();
        outcomes.failed(&requests[0], Failure::retry("busy"));
        assert!(!outcomes.is_stopped());
        let skipped: Vec<bool> = requests.iter().map(|request| outcomes.skips(request)).collect();
        assert_eq!(skipped, [true, false, true]);

        outcomes.failed(&requests[1], Failure::misconfigured("no token"));
        assert!(outcomes.is_stopped());
        assert_eq!(outcomes.into_result().unwrap_err(), Failure::misconfigured("no token"));

        let mut outcomes = RequestOutcomes::default();
        let only = EventIndex::Only(TargetName::new("x"));
        let request = EventRequest { body: Bytes::new(), events: 0..1, index: only };
        outcomes.failed(&request, Failure::retry("busy"));
        assert!(outcomes.is_stopped(), "the sink has no other index");
    }

    #[test]
    fn outcomes_are_combined() {
        for (events, expected) in [
            ("aaa", "ok"),
            ("ara", "refused [0, 2] false"),
            ("rrr", "refused [] false"),
            ("b", "busy"),
            ("arb", "refused [0] true"),
            ("ab", "refused [0] true"),
            ("ba", "refused [1] true"),
            ("bb", "busy"),
            ("bra", "refused [2] true"),
            ("bpa", "refused [2] true"),
            ("p", "poison"),
            ("ap", "refused [0] false"),
        ] {
            assert_eq!(result_of(events), expected, "{events}");
        }
    }
}
