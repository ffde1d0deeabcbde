//! Why a batch was not delivered, and what the deliverer does next. A sink must classify each
//! failure by its cause, never by how often it occurs. Start reading at [`Failure`].

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use crate::{
    error::{Hint, chain},
    net::{self, ConnectError, TlsFault, TlsSupport, UnreachableCause},
    text::count,
};

/// Why a batch was not delivered. The variants differ in what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Clears without an operator. The batch is sent again; if the receiver requested a delay,
    /// after at least `after`.
    Retry { reason: String, after: Option<Duration>, hint: Option<Cow<'static, str>> },
    /// Needs an operator. The sink parks: its backlog is kept, and delivery is tried again
    /// periodically.
    Misconfigured { reason: String, hint: Option<Cow<'static, str>> },
    /// The receiver rejected records permanently. `rejected` contains the index of each record and
    /// the receiver's message. `rest_delivered` states whether all other records have arrived; if
    /// not, they are sent again.
    Poison { rejected: Vec<(usize, String)>, rest_delivered: bool },
    /// The receiver requires smaller batches. `arrived` lists the indexes of records that have
    /// arrived nevertheless.
    TooLarge { reason: String, arrived: Vec<usize> },
    /// The first `arrived` records have arrived, and `failure` applies to the rest.
    Partial { arrived: usize, failure: Box<Failure> },
    /// Not a fault: nothing was sent, and the sink must be closed and opened again before the batch
    /// is sent.
    Reopen,
    /// The client can no longer be used. It is closed and replaced, and the batch is sent again.
    Broken { reason: String },
}

impl Failure {
    /// A transient failure without a delay that the receiver requested.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None, hint: None }
    }

    /// A transient failure of a connection. It has a hint if `error` states that the receiver
    /// cannot be reached.
    pub(super) fn unreachable(reason: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let hint = UnreachableCause::of(error).map(|cause| cause.remedy().into());
        Self::Retry { reason: reason.into(), after: None, hint }
    }

    /// A failure of TLS, which parks the sink unless it can clear without an operator. `what` is
    /// the operation that failed.
    pub(super) fn tls(what: &str, fault: &TlsFault) -> Self {
        let (reason, hint) = (format!("{what}: {fault}"), fault.hint());
        if fault.is_transient() {
            Self::Retry { reason, after: None, hint }
        } else {
            Self::Misconfigured { reason, hint }
        }
    }

    /// The failure of an exchange in plain text: that the server expects TLS, if it does, and
    /// otherwise this failure. `address` is probed once, as [`net::tls_support`] describes; `None`
    /// if it must not be. `what` is the operation that failed.
    pub(super) async fn unless_tls_expected(self, what: &str, address: Option<&str>) -> Self {
        let Some(address) = address else { return self };
        match net::tls_support(address).await {
            TlsSupport::Offered => Self::tls(what, &TlsFault::TlsExpected),
            TlsSupport::Absent | TlsSupport::Unknown => self,
        }
    }

    /// A failure after the first `arrived` records have arrived; `failure` itself if none have.
    pub fn partial(arrived: usize, failure: Self) -> Self {
        if arrived == 0 { failure } else { Self::Partial { arrived, failure: Box::new(failure) } }
    }

    /// A failure that needs an operator, without a hint.
    pub fn misconfigured(reason: impl Into<String>) -> Self {
        Self::Misconfigured { reason: reason.into(), hint: None }
    }

    /// A failure that needs an operator, with the message and the hint of an error.
    pub(super) fn misconfigured_by(error: &impl Hint) -> Self {
        Self::Misconfigured { reason: chain(error), hint: error.hint() }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match &error {
            ConnectError::Unreachable(_, cause) => Self::unreachable(chain(&error), cause),
            ConnectError::Certificate(error) => Self::misconfigured_by(error),
            ConnectError::ServerName(_) => Self::misconfigured(chain(&error)),
            ConnectError::Tls(address, fault) => {
                Self::tls(&format!("TLS with `{address}` failed"), fault)
            }
            ConnectError::Interrupted(..) => Self::retry(chain(&error)),
        }
    }
}

impl Error for Failure {}

impl Hint for Failure {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Retry { hint, .. } | Self::Misconfigured { hint, .. } => hint.clone(),
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
            Self::Reopen => f.write_str("the sink must be reopened"),
            Self::Poison { rejected, .. } => {
                write!(f, "the receiver rejected {}", count(rejected.len(), "record"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::*;

    /// Whether a failure is retried, and whether it has a hint.
    fn classes(failure: &Failure) -> (bool, bool) {
        (matches!(failure, Failure::Retry { .. }), failure.hint().is_some())
    }

    #[test]
    fn each_failed_connection_is_classified() {
        let address = || "h:25".to_owned();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let absent = net::tls_config(Some(Path::new("/absent")), None).unwrap_err();
        let expired = TlsFault::Expired { end: None };

        for (error, reason, expected) in [
            (ConnectError::Unreachable(address(), refused()), "cannot connect to", (true, true)),
            (absent.into(), "cannot open `/absent`: ", (false, false)),
            (ConnectError::ServerName("h h".to_owned()), "`h h` is not a valid", (false, false)),
            (ConnectError::Tls(address(), expired), "TLS with `h:25` failed: ", (false, true)),
            (ConnectError::Tls(address(), TlsFault::Closed), "TLS with `h:25`", (true, true)),
            (ConnectError::Interrupted(address(), refused()), "TLS with `h:25`", (true, false)),
        ] {
            let failure = Failure::from(error);
            assert!(failure.to_string().starts_with(reason), "{failure}");
            assert_eq!(classes(&failure), expected, "{failure}");
        }
    }

    #[tokio::test]
    async fn only_servers_with_an_address_are_probed() {
        let address = net::silent_tls_server().await;
        let lost = || Failure::retry("lost");
        assert_eq!(lost().unless_tls_expected("x", None).await, lost());
        let explained = lost().unless_tls_expected("x", Some(&address)).await;
        assert_eq!(explained, Failure::tls("x", &TlsFault::TlsExpected));
    }
}
