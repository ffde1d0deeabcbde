//! Limits the tenants whose requests a receiver rejects alone while nothing arrives, until the
//! whole sink is at fault.
//!
//! The texts of many tenants can be the cause, so the records of many must be sent before the sink
//! parks. A receiver that rejects everything, for example because of a wrong token, must
//! nevertheless receive few requests. This module sends nothing and decides nothing about records.
//! Start reading at [`TenantTrials::is_exhausted`]. See decision 0087.

/// The tenants whose requests are rejected alone, in one attempt and without an arrival between
/// them, that show a fault of the whole sink.
const MAX_TENANTS_TRIED: usize = 64;
/// The same number while the sink is parked.
const MAX_TENANTS_TRIED_WHILE_PARKED: usize = 3;
/// The withheld tenants that are tried again and rejected again, without an arrival between them,
/// before the others of them wait for the next time.
const MAX_TENANTS_RETRIED: usize = 3;

/// The rejected requests of an attempt since a record arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TenantTrials {
    /// The tenants whose requests were rejected alone, without those that are tried again.
    tenants: usize,
    /// The rejected requests with records of tenants that are not tried again.
    requests: usize,
    /// The withheld tenants that were tried again and rejected again.
    retried: usize,
    /// Whether the sink has parked since a record arrived.
    is_parked: bool,
}

impl TenantTrials {
    /// Begins an attempt. A sink that is parked remains so until a record arrives.
    pub(super) fn begin_attempt(&mut self) {
        *self = Self { is_parked: self.is_parked, ..Self::default() };
    }

    /// Notes that a record has arrived: the receiver works.
    pub(super) fn note_arrival(&mut self) {
        *self = Self::default();
    }

    /// Notes that the sink is parked.
    pub(super) fn park(&mut self) {
        self.is_parked = true;
    }

    /// Counts a rejected request with records of a tenant that is not tried again.
    pub(super) fn add_request(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// Counts a tenant whose request was rejected alone for the first time.
    pub(super) fn add_tenant(&mut self) {
        self.tenants = self.tenants.saturating_add(1);
    }

    /// Counts a withheld tenant that was tried again and whose request was rejected again.
    pub(super) fn add_retried(&mut self) {
        self.retried = self.retried.saturating_add(1);
    }

    /// Whether so many requests were rejected that the whole sink is at fault.
    pub(super) fn is_exhausted(&self) -> bool {
        if self.is_parked {
            self.tenants >= MAX_TENANTS_TRIED_WHILE_PARKED
                || self.requests > MAX_TENANTS_TRIED_WHILE_PARKED
        } else {
            self.tenants >= MAX_TENANTS_TRIED
        }
    }

    /// Whether no other withheld tenant is tried again in this attempt.
    pub(super) fn has_retried_enough(&self) -> bool {
        self.retried >= MAX_TENANTS_RETRIED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of events until a limit is reached: `s` a rejected request of several tenants,
    /// `t` a tenant that is rejected alone, `w` a withheld one that is rejected again, `a` an
    /// arrival, `p` a park, and `|` the next attempt.
    fn limit(events: &str, is_reached: impl Fn(&TenantTrials) -> bool) -> Option<usize> {
        let mut trials = TenantTrials::default();
        for (number, event) in (1..).zip(events.chars()) {
            match event {
                's' => trials.add_request(),
                't' => {
                    trials.add_request();
                    trials.add_tenant();
                }
                'w' => trials.add_retried(),
                'a' => trials.note_arrival(),
                'p' => trials.park(),
                _ => trials.begin_attempt(),
            }
            if is_reached(&trials) {
                return Some(number);
            }
        }
        None
    }

    #[test]
    fn a_parked_sink_tries_few_tenants() {
        let many = "t".repeat(63);
        for (events, expected) in [
            (format!("s{many}t"), Some(65)),
            (format!("{many}a{many}"), None),
            (format!("{many}|{many}"), None),
            (format!("{many}tp|sttt"), Some(64)),
            ("p|sttt".to_owned(), Some(6)),
            ("p|ttt".to_owned(), Some(5)),
            ("p|stst".to_owned(), Some(6)),
            ("p|stt|stt".to_owned(), None),
            (format!("p|sta{many}"), None),
            ("wwww".to_owned(), None),
        ] {
            assert_eq!(limit(&events, TenantTrials::is_exhausted), expected, "{events}");
        }
    }

    #[test]
    fn few_withheld_tenants_are_tried_again() {
        for (events, expected) in
            [("www", Some(3)), ("ttwwtw", Some(6)), ("wwaww", None), ("ww|ww", None)]
        {
            let found = limit(events, TenantTrials::has_retried_enough);
            assert_eq!(found, expected, "{events}");
        }
    }
}
