//! Whether the brokers support transactions, from the log of librdkafka.
//!
//! librdkafka does not report that a broker lacks a call of the transaction protocol: it repeats
//! the call until the time limit of a record, and only logs the reason, for the `debug` context
//! `eos`. The texts are those of librdkafka 2. Start reading at [`TransactionSupport::of_log`]. See
//! decision 0082.

use crate::foreign_text::ForeignText;

/// The maximum number of characters of a broker's reason.
const MAX_REASON_CHARS: usize = 300;

/// The errors with which a broker refuses to name a coordinator of transactions. All others, such
/// as that the coordinator is loading, clear by themselves.
const REFUSALS: &[&str] = &["INVALID_REQUEST", "UNSUPPORTED_VERSION", "_UNSUPPORTED_FEATURE"];

/// What a producer has found out about transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum TransactionSupport {
    #[default]
    Unknown,
    /// A broker has added a partition to a transaction.
    Confirmed,
    /// The brokers do not support transactions, for this reason.
    Absent(String),
}

impl TransactionSupport {
    /// What a log message shows; `None` for all other messages.
    pub(super) fn of_log(facility: &str, message: &str) -> Option<Self> {
        let after = |start: &str| message.split_once(start).map(|(_, rest)| rest);
        let absent =
            |reason| Some(Self::Absent(ForeignText::new(reason).for_message(MAX_REASON_CHARS)));

        match facility {
            "ADDPARTS" if message.ends_with(" registered with transaction") => {
                Some(Self::Confirmed)
            }
            "ADDPARTS" => {
                let reason = after("Not registering partitions: ")?;
                if reason.contains("not supported by broker") { absent(reason) } else { None }
            }
            "TXNCOORD" => {
                let reason = after("Failed to find transaction coordinator: ")?;
                let name = reason.split(':').next().unwrap_or_default();
                if REFUSALS.contains(&name) { absent(reason) } else { None }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of librdkafka 2.12, and of Azure Event Hubs.
    const ABSENT: &str = "AddPartitionsToTxnRequest (KIP-98) not supported by broker, requires broker version >= 0.11.0";
    const REFUSED: &str =
        "INVALID_REQUEST: type code 1 is only supported in Premium or Dedicated sku.";

    #[test]
    fn only_lasting_refusals_are_recognized() {
        let absent = |reason: &str| Some(TransactionSupport::Absent(reason.to_owned()));
        let (registering, finding) =
            ("Not registering partitions: ", "Failed to find transaction coordinator: ");

        for (facility, message, expected) in [
            ("ADDPARTS", format!("{registering}{ABSENT}"), absent(ABSENT)),
            (
                "ADDPARTS",
                "secure-score [0] registered with transaction".to_owned(),
                Some(TransactionSupport::Confirmed),
            ),
            ("ADDPARTS", format!("{registering}coordinator is not available"), None),
            ("TXNCOORD", format!("{finding}{REFUSED}"), absent(REFUSED)),
            ("TXNCOORD", format!("{finding}COORDINATOR_NOT_AVAILABLE: Broker: x"), None),
            ("TXNCOORD", "Querying for transaction coordinator: PID FSM".to_owned(), None),
            ("GETPID", format!("{registering}{ABSENT}"), None),
        ] {
            let message = format!("[thrd:main]: {message}");
            assert_eq!(TransactionSupport::of_log(facility, &message), expected, "{message}");
        }
    }
}
