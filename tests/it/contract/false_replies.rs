//! The clause about replies that are incomplete or not from the receiver.

use super::{SinkCase, Trial};
use crate::support::eventually;

/// A reply that is incomplete or not from the receiver acknowledges nothing, parks nothing and
/// rejects nothing: everything arrives once when the receiver responds again.
pub fn believes_no_false_reply(case: SinkCase) {
    let trial = Trial::new(case);
    let proxy = trial.receiver.proxy().unwrap();
    for (number, reply) in trial.receiver.false_replies().iter().enumerate() {
        proxy.attack(Some(*reply));
        let before = proxy.attacks();
        let daemon = trial.spawn(&["run"]);
        // One of these connections may be a request for a token, or the check for TLS.
        eventually("the request has been sent again", || proxy.attacks() >= before + 3);
        eventually("the failure is reported", || trial.status()["error"]["message"].is_string());
        daemon.signal("TERM");
        assert_eq!(daemon.end().code, 0);
        proxy.attack(None);

        let status = trial.status();
        assert_eq!(status["sent"], 0, "reply {number}: {status}");
        assert_eq!(status["dead_letters"], 0, "reply {number}: {status}");
        assert_ne!(status["state"], "parked", "reply {number}: {status}");
    }

    trial.once();
    trial.assert_all(0);
}
