//! Polls that fail because of this host, such as on a full disk.
//!
//! Their backoff is short and separate from the backoff for failures of Microsoft: an attempt costs
//! Microsoft little or nothing, and polls succeed soon after the cause is gone. A local failure
//! therefore never counts as a failed attempt of the schedule. Start reading at
//! [`Collector::record_local_failure`]. See decision 0076.

use super::{Collector, PollError};
use crate::{
    checkpoint::PollFailure,
    clock,
    daemon::TenantState,
    error::Explanation,
    files::HostFault,
    model::{Day, Observation, Tenant},
};

impl PollError {
    /// Whether the cause is on this host and can pass.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::DiskFull => true,
            Self::Checkpoint(error) => error.is_transient(),
            _ => self.host_fault().is_some(),
        }
    }

    /// The fault of this host that prevented a request, such as too many open files.
    pub(super) fn host_fault(&self) -> Option<HostFault> {
        match self {
            Self::Source(error) => HostFault::of(error),
            _ => None,
        }
    }
}

impl Collector {
    /// Handles a poll that failed because of this host: it is repeated soon, and recorded once.
    /// `tenant` is `None` if its domain is not resolved.
    pub(super) fn record_local_failure(
        &self,
        state: &TenantState,
        tenant: Option<&Tenant>,
        error: &PollError,
    ) {
        if let PollError::Checkpoint(error) = error {
            self.meters.storage.note_error(error);
        }
        let is_repeated = state.local_retry().is_some();
        state.retry_locally();

        let (name, reason) = (&state.plan.name, Explanation::of(error));
        if is_repeated {
            // The condition of the daemon reports the cause in the meantime.
            tracing::debug!(tenant = name, error = reason.message, "poll failed again");
            return;
        }
        tracing::warn!(
            tenant = name,
            error = reason.message,
            hint = reason.hint,
            "poll failed because of this host; retrying"
        );
        if let Some(tenant) = tenant {
            self.store_local_failure(tenant, error, &reason);
        }
    }

    fn store_local_failure(&self, tenant: &Tenant, error: &PollError, reason: &Explanation) {
        let (now, class) = (clock::now(), error.class());
        let observation = Observation::of_failed_poll(class, Day::of(now), reason);
        let failure = PollFailure {
            at: now.into(),
            reason,
            class,
            observation: &observation,
            not_before: None,
        };

        let recorded =
            self.store.run(|checkpoint| checkpoint.record_local_poll_failure(tenant.id, &failure));
        match recorded {
            Ok(growth) => self.log.notify(growth),
            Err(error) => {
                self.meters.storage.note_error(&error);
                let error = Explanation::of(&error);
                tracing::warn!(
                    tenant = tenant.name,
                    error = error.message,
                    hint = error.hint,
                    "cannot record the failure in the checkpoint"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use rustix::io::Errno;

    use super::*;
    use crate::{
        checkpoint::CheckpointError,
        daemon::contained,
        error::Hint,
        files::FileError,
        model::PollErrorClass,
        net::ClientError,
        source::{CredentialError, SourceError},
    };

    #[test]
    fn only_causes_that_can_pass_are_local() {
        let panic = contained::<()>(|| panic!("overflow")).unwrap_err();
        for (error, is_local) in [
            (PollError::DiskFull, true),
            (CheckpointError::Busy.into(), true),
            (CheckpointError::File(io::Error::other("no space")).into(), true),
            (CheckpointError::Damaged("x".to_owned()).into(), false),
            (CheckpointError::Newer(99).into(), false),
            (PollError::SameTenant("a".to_owned(), "b".to_owned()), false),
            (panic.into(), false),
        ] {
            assert_eq!(error.is_local(), is_local, "{error}");
        }
    }

    /// Regression: a poll whose secret could not be read while too many files were open needed an
    /// operator, had no hint, and was repeated only after five minutes.
    #[test]
    fn limits_of_this_host_are_local() {
        let file = |number: Errno| FileError::io("open", Path::new("/x"))(number);
        for (number, is_local) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::IO, true),
            (Errno::NOENT, false),
            (Errno::ACCESS, false),
        ] {
            for error in [
                SourceError::from(CredentialError::from(file(number))),
                SourceError::from(ClientError::from(file(number))),
            ] {
                let error = PollError::from(error);
                assert_eq!(error.is_local(), is_local, "{error:?}");
                assert_eq!(error.class() == PollErrorClass::Host, is_local, "{error:?}");
                assert!(error.hint().is_some() || !is_local, "{error:?}");
                assert_eq!(error.class().needs_operator(), !is_local, "{error:?}");
            }
        }
    }
}
