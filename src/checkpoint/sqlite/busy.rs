//! How long statements wait while another process has locked the database, such as a shell of
//! SQLite. All tasks share one connection, so a wait of one statement is a wait of all that follow:
//! after one has stopped waiting, the next ones do not wait for a while. Otherwise, the daemon
//! could not even stop until each of its polls had waited. Start reading at [`handler`].

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a statement waits for a lock of another process, and how long the statements after it
/// do not wait.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// The waits of one connection.
#[derive(Debug, Default)]
struct BusyWaits {
    /// When the current statement began to wait.
    began: Option<Instant>,
    /// When the last statement gave up.
    gave_up: Option<Instant>,
}

/// A busy handler for a connection (SQLite, `sqlite3_busy_handler`): it is called with the number
/// of previous calls for the same statement, and returns whether SQLite tries again.
#[expect(
    clippy::disallowed_methods,
    reason = "SQLite calls the handler in a thread that blocks, and waits as long as it does"
)]
pub(super) fn handler() -> impl FnMut(i32) -> bool + Send {
    let mut waits = BusyWaits::default();
    move |previous| {
        let waits_longer = waits.continue_after(previous, Instant::now());
        if waits_longer {
            sleep(PAUSE);
        }
        waits_longer
    }
}

impl BusyWaits {
    fn continue_after(&mut self, previous: i32, now: Instant) -> bool {
        let has_passed = |since: Instant| now.saturating_duration_since(since) >= BUSY_TIMEOUT;
        if previous == 0 {
            self.began = Some(now);
            if self.gave_up.is_some_and(|gave_up| !has_passed(gave_up)) {
                return false;
            }
        }
        if self.began.is_some_and(has_passed) {
            self.gave_up = Some(now);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: with a locked database, eight polls waited for five seconds each, one after the
    /// other, and a signal to stop was noticed half a minute later.
    #[test]
    fn statements_after_a_timeout_do_not_wait() {
        let (mut waits, start) = (BusyWaits::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for (previous, seconds, waits_longer) in [
            (0, 0, true),
            (1, 4, true),
            (2, 5, false),
            (0, 6, false),
            (0, 9, false),
            (0, 10, true),
            (1, 14, true),
            (2, 15, false),
            (0, 16, false),
            // Another statement succeeded in the meantime.
            (0, 30, true),
        ] {
            let continues = waits.continue_after(previous, at(seconds));
            assert_eq!(continues, waits_longer, "{previous} after {seconds} s");
        }
    }
}
