//! Notifies the readers of the log that there is something to read: idle deliverers, and the task
//! that updates the status page.
//!
//! A notification carries no data, because a reader reads everything that it needs from the
//! checkpoint, and several notifications may count as one. Start reading at [`LogSignal::notify`].
//! See decision 0002.

use tokio::sync::watch;

use crate::checkpoint::LogGrowth;

/// Notifies all readers of the log.
#[derive(Debug, Default)]
pub struct LogSignal {
    /// The number of notifications, so that the value changes with each of them.
    notifications: watch::Sender<u64>,
}

impl LogSignal {
    /// Notifies the readers if a transaction has appended to the log.
    pub(super) fn notify(&self, growth: LogGrowth) {
        if growth == LogGrowth::Grown {
            self.notify_all();
        }
    }

    /// Notifies the readers although the log has not grown, for example because a replay was
    /// queued.
    pub(super) fn notify_all(&self) {
        self.notifications.send_modify(|notifications| *notifications += 1);
    }

    /// A receiver whose value changes with every later notification.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.notifications.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_notifies_the_readers() {
        let signal = LogSignal::default();
        let mut reader = signal.subscribe();
        for (growth, is_notified) in [(LogGrowth::Unchanged, false), (LogGrowth::Grown, true)] {
            signal.notify(growth);
            assert_eq!(reader.has_changed().unwrap(), is_notified, "{growth:?}");
        }

        reader.mark_unchanged();
        signal.notify_all();
        assert!(reader.has_changed().unwrap());
    }
}
