//! Contains panics: a fault in the work for one tenant, one sink or one caller must not end the
//! process for all others.
//!
//! A panic anywhere else ends the process, because it would continue with only some of its tasks.
//! Contained work must leave everything consistent that outlives it, wherever it is interrupted:
//! transactions roll back, permits are returned, and counters are restored by guards. Start reading
//! at [`contain`] and [`end_on_panic`]. See decision 0062.

use std::{
    any::Any,
    borrow::Cow,
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    task::Poll,
};

use super::Meters;
use crate::error::Hint;

thread_local! {
    /// Whether this thread is running contained work.
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
    /// The place of the last contained panic on this thread.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Work whose panics are contained, as the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainedTask {
    /// A poll of one tenant.
    Poll,
    /// A request over the control socket or to the admin server, which includes the preparation of
    /// the status page for one tenant.
    Request,
    /// The deliverer of one sink.
    Sink,
}

/// A panic of contained work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaughtPanic {
    /// The file, the line and the column; `None` if [`end_on_panic`] has not been called.
    place: Option<String>,
    /// The message, if it is a constant. Any other message may quote a secret or foreign text.
    message: Option<&'static str>,
}

/// Makes every panic end the process, except those of contained work.
///
/// Without this, a panic would end only its task, and the daemon would continue without its
/// scheduler or its control socket. systemd restarts a process that has ended, and it continues
/// from the checkpoint.
pub fn end_on_panic() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // The flag cannot be read while the thread is ending, and then nothing is contained.
        if IS_CONTAINED.try_with(Cell::get).unwrap_or(false) {
            note_place(info);
            return;
        }
        default_hook(info);
        std::process::abort();
    }));
}

/// Runs work, and returns its panic as an error. The caller must not use anything that the work has
/// left in an unknown state.
pub fn contain<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, CaughtPanic>> {
    let mut work = Box::pin(work);
    poll_fn(move |context| match contained(|| work.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
}

/// As [`contain`], for work that does not wait.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, CaughtPanic> {
    let outer = IS_CONTAINED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    IS_CONTAINED.set(outer);
    result.map_err(|payload| CaughtPanic::of(payload.as_ref()))
}

/// Logs and counts a contained panic. `name` is the name of the tenant or the sink, or the kind of
/// the request.
pub fn report_panic(meters: &Meters, task: ContainedTask, name: &str, panic: &CaughtPanic) {
    meters.count_panic(task);
    tracing::error!(
        task = task.as_str(),
        name,
        error = %panic,
        hint = REMEDY,
        "a task failed because of a fault in this program; the other tasks continue"
    );
}

const REMEDY: &str = "report this message and the output of `--version` to the maintainers";

fn note_place(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    let _ = PLACE.try_with(|noted| noted.replace(place));
}

impl ContainedTask {
    /// All variants, ordered by name.
    pub const ALL: [Self; 3] = [Self::Poll, Self::Request, Self::Sink];

    /// The label `task` of the metrics. It must never change.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Request => "request",
            Self::Sink => "sink",
        }
    }
}

impl CaughtPanic {
    fn of(payload: &(dyn Any + Send)) -> Self {
        let place = PLACE.try_with(RefCell::take).unwrap_or_default();
        Self { place, message: payload.downcast_ref::<&'static str>().copied() }
    }
}

impl fmt::Display for CaughtPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("internal error")?;
        if let Some(place) = &self.place {
            write!(f, " at `{place}`")?;
        }
        match self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CaughtPanic {}

impl Hint for CaughtPanic {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(REMEDY.into())
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    async fn fails_after_a_wait() {
        tokio::task::yield_now().await;
        panic!("overflow");
    }

    #[tokio::test]
    async fn a_panic_after_a_wait_is_returned() {
        let panic = contain(fails_after_a_wait()).await.unwrap_err();
        assert_eq!(panic.message, Some("overflow"));
        assert_eq!(contain(async { 7 }).await, Ok(7));
    }

    #[test]
    fn messages_with_values_are_omitted() {
        let secret = "canary";
        let formatted = contained::<()>(|| panic!("the token is {secret}")).unwrap_err();
        assert_eq!(formatted.message, None);
        assert!(!formatted.to_string().contains(secret));

        let constant = contained::<()>(|| panic!("overflow")).unwrap_err();
        let place = Some("src/a.rs:1:2".to_owned());
        let error = CaughtPanic { place, ..constant };
        assert_eq!(error.to_string(), "internal error at `src/a.rs:1:2`: overflow");
    }

    #[test]
    fn containment_ends_with_the_work() {
        assert!(contained::<()>(|| panic!("outer")).is_err());
        assert!(!IS_CONTAINED.get());

        let nested = contained(|| {
            assert!(contained::<()>(|| panic!("inner")).is_err());
            IS_CONTAINED.get()
        });
        assert_eq!(nested, Ok(true), "the outer work is still contained");
    }

    /// The panic ends the process of the test, so the test starts itself in another one.
    #[test]
    fn panics_outside_of_contained_work_end_the_process() {
        const NAME: &str =
            "daemon::containment::tests::panics_outside_of_contained_work_end_the_process";
        const IS_INNER: &str = "PANIC_OUTSIDE_OF_CONTAINED_WORK";
        const SIGABRT: i32 = 6;

        if std::env::var_os(IS_INNER).is_some() {
            end_on_panic();
            assert!(contained::<()>(|| panic!("inner")).is_err());
            panic!("outer");
        }

        let mut inner = Command::new(std::env::current_exe().unwrap());
        inner.args([NAME, "--exact", "--nocapture"]).env(IS_INNER, "1");
        let output = inner.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{stderr}");
        assert!(stderr.contains("outer") && !stderr.contains("inner"), "{stderr}");
    }

    #[test]
    fn names_of_tasks_are_in_order() {
        assert!(ContainedTask::ALL.is_sorted_by(|a, b| a < b && a.as_str() < b.as_str()));
    }
}
