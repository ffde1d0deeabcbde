//! Why a batch was not delivered, and what the deliverer does next. A sink must classify each
//! failure by its cause, never by how often it occurs. Start reading at [`Failure`].

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use super::Refusal;
use crate::{
    error::{Hint, chain},
    files::HostFault,
    net::{self, ConnectError, TlsFault, TlsSupport, UnreachableCause},
    text::count,
};

/// The hint for a receiver that requires a client certificate, in a sink that can have none.
#[cfg(any(feature = "email", feature = "object_store"))]
const NO_CLIENT_CERTIFICATE: &str = "use an address of the receiver that requires no client certificate, because this type of sink has none";

/// Why a batch was not delivered. The variants differ in what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Clears without an operator. The batch is sent again; if the receiver requested a delay,
    /// after at least `after`.
    Retry { reason: String, after: Option<Duration>, hint: Option<Cow<'static, str>> },
    /// This host has reached a limit, such as that of open files. Clears without a change of the
    /// configuration, and is tried again after a short wait.
    Host { reason: String, fault: HostFault },
    /// Needs an operator. The sink parks: its backlog is kept, and delivery is tried again
    /// periodically.
    Misconfigured { reason: String, hint: Option<Cow<'static, str>> },
    /// The receiver rejected records permanently. `rejected` contains the index of each record and
    /// the receiver's message. `rest_delivered` states whether all other records have arrived; if
    /// not, they are sent again.
    Poison { rejected: Vec<(usize, String)>, rest_delivered: bool },
    /// The receiver, or a filter in front of it, rejects every record of the batch for the same
    /// reason. The cause is the data of a tenant or the configuration: the records of each tenant
    /// are sent again alone, and the tenants whose records are rejected again are withheld while
    /// those of others arrive. If nothing arrives, up to two tenants are withheld; with more of
    /// them, the sink parks. No record becomes a dead letter.
    RejectsAll { reason: String, hint: Option<Cow<'static, str>> },
    /// The receiver, or a filter in front of it, denies a request with records, with a reply whose
    /// usual cause is the configuration, such as HTTP 401, 404 or a redirect. A text of one tenant
    /// can also be the cause, so the records of each tenant are sent again alone. A tenant whose
    /// request is denied again is withheld only if records of others arrive; otherwise, the sink
    /// parks as for `Misconfigured`.
    Denied { reason: String, hint: Option<Cow<'static, str>> },
    /// The receiver requires smaller batches. `arrived` lists the indexes of records that have
    /// arrived nevertheless.
    TooLarge { reason: String, arrived: Vec<usize> },
    /// The receiver refuses all records for some targets, such as an index, and needs an operator
    /// for these. The targets park, and everything else is delivered.
    Refused(Refusal),
    /// Some records have arrived, and `failure` applies to all others. `arrived` lists the indexes
    /// of those that have.
    Partial { arrived: Vec<usize>, failure: Box<Failure> },
    /// Not a fault: nothing was sent, and the sink must be closed and opened again before the batch
    /// is sent.
    Reopen,
    /// The client can no longer be used. It is closed and replaced, and the batch is sent again.
    Broken { reason: String },
}

/// Where the cause of a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePlace {
    /// The receiver, or the connection to it.
    Receiver,
    /// This host, such as its disk.
    Host,
}

impl Failure {
    /// A transient failure without a delay that the receiver requested.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None, hint: None }
    }

    /// A transient failure of a connection. It has a hint if `error` states that the receiver
    /// cannot be reached.
    pub(super) fn unreachable(reason: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let reason = reason.into();
        if let Some(fault) = HostFault::of(error) {
            return Self::Host { reason, fault };
        }
        let hint = UnreachableCause::of(error).map(|cause| cause.remedy().into());
        Self::Retry { reason, after: None, hint }
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

    /// Like [`Self::tls`], for a type of sink without keys for a client certificate.
    #[cfg(any(feature = "email", feature = "object_store"))]
    pub(super) fn tls_without_client_certificate(what: &str, fault: &TlsFault) -> Self {
        match Self::tls(what, fault) {
            Self::Misconfigured { reason, .. } if *fault == TlsFault::ClientCertificateRequired => {
                Self::Misconfigured { reason, hint: Some(NO_CLIENT_CERTIFICATE.into()) }
            }
            failure => failure,
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
        Self::partial_of((0..arrived).collect(), failure)
    }

    /// A failure of all records except those with these indexes, which have arrived; `failure`
    /// itself if none have.
    pub(super) fn partial_of(arrived: Vec<usize>, failure: Self) -> Self {
        if arrived.is_empty() {
            failure
        } else {
            Self::Partial { arrived, failure: Box::new(failure) }
        }
    }

    /// A failure that needs an operator, without a hint.
    pub fn misconfigured(reason: impl Into<String>) -> Self {
        Self::Misconfigured { reason: reason.into(), hint: None }
    }

    /// Whether the client of the sink must be closed and opened again before the next attempt. A
    /// misconfigured sink is opened again each time, because its receiver may have been changed.
    pub fn requires_new_client(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Misconfigured { .. } | Self::Reopen => true,
            Self::Partial { failure: rest, .. }
            | Self::Refused(Refusal { rest: Some(rest), .. }) => rest.requires_new_client(),
            _ => false,
        }
    }

    /// Whether an operator must act before all records can arrive.
    pub fn needs_operator(&self) -> bool {
        matches!(
            self,
            Self::Misconfigured { .. }
                | Self::RejectsAll { .. }
                | Self::Denied { .. }
                | Self::Refused(_)
        )
    }

    /// The same failure of a request with records, which texts of a tenant can have caused although
    /// the configuration is the usual cause.
    #[cfg(feature = "object_store")]
    pub(super) fn of_records(self) -> Self {
        match self {
            Self::Misconfigured { reason, hint } => Self::Denied { reason, hint },
            failure => failure,
        }
    }

    /// The same failure of a request without records, whose cause cannot be a text of a tenant.
    pub(super) fn without_records(self) -> Self {
        match self {
            Self::Denied { reason, hint } | Self::RejectsAll { reason, hint } => {
                Self::Misconfigured { reason, hint }
            }
            failure => failure,
        }
    }

    /// The failure for an error of something on this host, such as a file with a secret. It needs
    /// an operator, unless the cause is a fault of this host that can pass.
    pub(super) fn misconfigured_by(error: &(impl Hint + 'static)) -> Self {
        let reason = chain(error);
        match HostFault::of(error) {
            Some(fault) => Self::Host { reason, fault },
            None => Self::Misconfigured { reason, hint: error.hint() },
        }
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
            Self::Retry { hint, .. }
            | Self::Misconfigured { hint, .. }
            | Self::RejectsAll { hint, .. }
            | Self::Denied { hint, .. } => hint.clone(),
            Self::Host { fault, .. } => Some(fault.remedy().into()),
            Self::Partial { failure, .. } => failure.hint(),
            Self::Refused(refusal) => refusal.targets.first().and_then(|first| first.hint.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { reason, .. }
            | Self::Host { reason, .. }
            | Self::Misconfigured { reason, .. }
            | Self::RejectsAll { reason, .. }
            | Self::Denied { reason, .. }
            | Self::TooLarge { reason, .. }
            | Self::Broken { reason } => f.write_str(reason),
            Self::Partial { failure, .. } => failure.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Reopen => f.write_str("the sink must be reopened"),
            Self::Poison { rejected, .. } => {
                write!(f, "the receiver rejected {}", count(rejected.len(), "record"))?;
                // The messages of the other records are in their dead letters.
                match rejected.first() {
                    Some((_, reason)) => write!(f, ": {reason}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::*;
    use crate::{files::FileError, net::ClientError};

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

    /// Regression: a sink parked because its secret could not be read while too many files were
    /// open.
    #[test]
    fn faults_of_this_host_never_park() {
        use rustix::io::Errno;

        let file = |number: Errno| FileError::io("open", Path::new("/x"))(number);
        for (number, is_host) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::IO, true),
            (Errno::NOENT, false),
            (Errno::ACCESS, false),
        ] {
            let certificate = ClientError::from(file(number));
            for failure in [
                Failure::misconfigured_by(&file(number)),
                Failure::misconfigured_by(&certificate),
                ConnectError::Certificate(certificate).into(),
            ] {
                let found = matches!(failure, Failure::Host { .. });
                assert_eq!((found, failure.needs_operator()), (is_host, !is_host), "{failure:?}");
                assert!(failure.hint().is_some() || !is_host, "{failure:?}");
            }

            let connection = ConnectError::Unreachable("h:25".to_owned(), number.into());
            let found = matches!(Failure::from(connection), Failure::Host { .. });
            assert_eq!(found, is_host, "{number}");
        }
    }

    /// Regression: `test-sink` reported a rejected record without the message of the receiver.
    #[test]
    fn rejected_records_have_the_receivers_message() {
        let poison = |messages: &[&str]| {
            let messages = messages.iter().map(|message| (*message).to_owned());
            let rejected = (0..).zip(messages).collect();
            Failure::Poison { rejected, rest_delivered: false }.to_string()
        };
        assert_eq!(poison(&["no such field"]), "the receiver rejected 1 record: no such field");
        assert_eq!(poison(&["no", "not this"]), "the receiver rejected 2 records: no");
        assert_eq!(poison(&[]), "the receiver rejected 0 records");
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
