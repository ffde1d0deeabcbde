//! What has arrived at the receiver of a scripted sink, and the guarantees about it: which records
//! may arrive again, and in which order the entries of a tenant arrive. Start reading at
//! [`check_repeats`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    model::{EventId, Kind, Seq, TenantId},
    sink::Limits,
};

/// A record that has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub id: EventId,
    pub tenant: TenantId,
    pub seq: Seq,
    pub kind: Kind,
    /// The number of the request.
    pub request: usize,
    /// How often the sink had been opened before the request.
    pub session: usize,
    /// Whether the deliverer has received the acknowledgement, and nothing else of the batch is
    /// left to be sent.
    pub is_acknowledged: bool,
}

/// How many records may arrive again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeats {
    /// None.
    Nothing,
    /// Some, but none that was acknowledged, and at most one window.
    Unacknowledged,
    /// Those of the last window before the sink was opened again, because their cursors were not
    /// stored.
    OneWindow,
}

/// Panics if more records have arrived again than are permitted. `limits` are those of the sink.
pub(super) fn check_repeats(arrivals: &[Arrival], permitted: Repeats, limits: Limits) {
    let arrived: BTreeSet<EventId> = arrivals.iter().map(|arrival| arrival.id).collect();
    let repeated = arrivals.len() - arrived.len();
    match permitted {
        Repeats::Nothing => assert_eq!(repeated, 0),
        Repeats::Unacknowledged => {
            assert!(repeated > 0, "no acknowledgement was lost");
            check_acknowledged(arrivals);
        }
        Repeats::OneWindow => {
            let beyond = beyond_last_window(arrivals, limits.in_flight);
            assert!(beyond.is_none(), "{beyond:?}");
        }
    }

    let window = limits.records * limits.in_flight;
    assert!(repeated <= window, "{repeated} records were repeated, more than {window}");
}

/// Panics if the entries of a tenant have not arrived in the order of its log.
pub(super) fn check_order(arrivals: &[Arrival]) {
    let (mut seen, mut last) = (HashSet::new(), HashMap::new());
    for arrival in arrivals.iter().filter(|arrival| seen.insert(arrival.id)) {
        let previous = last.insert(arrival.tenant, arrival.seq);
        assert!(previous <= Some(arrival.seq), "{arrival:?} after {previous:?}");
    }
}

/// Panics if an acknowledged record has arrived again.
fn check_acknowledged(arrivals: &[Arrival]) {
    let mut acknowledged = HashSet::new();
    for arrival in arrivals {
        assert!(!acknowledged.contains(&arrival.id), "{arrival:?}");
        acknowledged.extend(arrival.is_acknowledged.then_some(arrival.id));
    }
}

/// A record, and its previous arrival, that has arrived again in the same session, or although it
/// was not in the last requests of its session, of which this number may be unacknowledged.
fn beyond_last_window(arrivals: &[Arrival], in_flight: usize) -> Option<(Arrival, Arrival)> {
    let mut requests: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for arrival in arrivals {
        requests.entry(arrival.session).or_default().insert(arrival.request);
    }
    let is_in_last_window = |arrival: &Arrival| {
        let mut last = requests[&arrival.session].iter().rev().take(in_flight);
        last.any(|request| *request == arrival.request)
    };

    let mut latest: HashMap<EventId, Arrival> = HashMap::new();
    arrivals.iter().find_map(|arrival| {
        let earlier = latest.insert(arrival.id, *arrival)?;
        let is_permitted = earlier.session < arrival.session && is_in_last_window(&earlier);
        (!is_permitted).then_some((*arrival, earlier))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word per request, with a letter per record; `|` opens the sink again.
    fn arrivals(text: &str) -> Vec<Arrival> {
        let (mut arrivals, mut session) = (Vec::new(), 0);
        for (request, word) in text.split(' ').enumerate() {
            if word == "|" {
                session += 1;
                continue;
            }
            arrivals.extend(word.bytes().map(|letter| Arrival {
                id: EventId::from_bytes([letter; 20]),
                tenant: TenantId::TEST,
                seq: Seq::FIRST,
                kind: Kind::Control,
                request,
                session,
                is_acknowledged: false,
            }));
        }
        arrivals
    }

    #[test]
    fn only_the_last_window_may_be_repeated() {
        for (text, in_flight, is_permitted) in [
            ("ab cd | ef", 1, true),
            ("ab cd | cd ef", 1, true),
            ("ab cd | ef cd", 1, true),
            ("ab cd | c d", 1, true),
            ("ab cd cd", 1, false),
            ("ab cd | ab", 1, false),
            ("ab cd | ab cd", 2, true),
            ("ab cd ef | ab", 2, false),
            ("ab | ab cd | cd", 1, true),
            ("ab | cd | ab", 1, true),
        ] {
            let beyond = beyond_last_window(&arrivals(text), in_flight);
            assert_eq!(beyond.is_none(), is_permitted, "{text}: {beyond:?}");
        }
    }
}
