//! The permits that limit the memory of all polls.
//!
//! A small poll must never wait behind a large one that waits for several permits, so the two have
//! separate queues. While a large poll waits, small ones receive permits only up to the number that
//! it leaves, and these before it does, so neither size waits longer than the others hold their
//! permits. Start reading at [`PollPermits`]. See decision 0009.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The permits that all polls share.
#[derive(Debug)]
pub(super) struct PollPermits {
    state: Arc<Mutex<PermitState>>,
}

/// Some permits, which return when this value is dropped.
#[derive(Debug)]
pub(super) struct HeldPermits {
    /// `None` if they were returned to the state already.
    state: Option<Arc<Mutex<PermitState>>>,
    size: PollSize,
}

/// How many permits a poll requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollSize {
    /// One permit, for the newest days.
    Small,
    /// Several permits, for a poll that reads further back.
    Large,
}

#[derive(Debug)]
struct PermitState {
    total: usize,
    /// The permits of a large poll.
    large: usize,
    /// The number of small and of large polls that hold permits.
    small_polls: usize,
    large_polls: usize,
    /// The polls that wait, in the order of their requests.
    small_queue: VecDeque<oneshot::Sender<HeldPermits>>,
    large_queue: VecDeque<oneshot::Sender<HeldPermits>>,
}

impl PollPermits {
    /// This number of permits, of which a large poll takes `large`.
    pub(super) fn new(total: usize, large: usize) -> Self {
        let state = PermitState {
            total,
            large,
            small_polls: 0,
            large_polls: 0,
            small_queue: VecDeque::new(),
            large_queue: VecDeque::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for the permits of a poll. Polls of the same size receive them in the order of their
    /// calls.
    pub(super) async fn acquire(&self, size: PollSize) -> HeldPermits {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = lock(&self.state);
            state.queue(size).push_back(sender);
            grant(&self.state, &mut state);
        }
        // The sender is dropped only together with the queue.
        receiver.await.unwrap_or(HeldPermits { state: None, size })
    }

    /// The number of permits that no poll holds.
    #[cfg(test)]
    pub(super) fn available(&self) -> usize {
        lock(&self.state).free()
    }
}

impl Drop for HeldPermits {
    fn drop(&mut self) {
        let Some(shared) = self.state.take() else { return };
        let mut state = lock(&shared);
        *state.held(self.size) -= 1;
        grant(&shared, &mut state);
    }
}

impl PermitState {
    fn free(&self) -> usize {
        self.total.saturating_sub(self.small_polls + self.large_polls * self.large)
    }

    fn queue(&mut self, size: PollSize) -> &mut VecDeque<oneshot::Sender<HeldPermits>> {
        match size {
            PollSize::Small => &mut self.small_queue,
            PollSize::Large => &mut self.large_queue,
        }
    }

    fn held(&mut self, size: PollSize) -> &mut usize {
        match size {
            PollSize::Small => &mut self.small_polls,
            PollSize::Large => &mut self.large_polls,
        }
    }

    /// The size of the poll that receives permits next; `None` if all that wait must continue to
    /// wait.
    fn next_size(&self) -> Option<PollSize> {
        let free = self.free();
        let leaves_large = self.small_polls < self.total.saturating_sub(self.large);
        let may_be_small = self.large_queue.is_empty() || leaves_large;
        if free > 0 && !self.small_queue.is_empty() && may_be_small {
            return Some(PollSize::Small);
        }
        (free >= self.large && !self.large_queue.is_empty()).then_some(PollSize::Large)
    }
}

/// Grants the free permits to the polls that wait for them.
fn grant(shared: &Arc<Mutex<PermitState>>, state: &mut PermitState) {
    while let Some(size) = state.next_size() {
        let Some(waiting) = state.queue(size).pop_front() else { return };
        let permits = HeldPermits { state: Some(Arc::clone(shared)), size };
        match waiting.send(permits) {
            Ok(()) => *state.held(size) += 1,
            // The poll does not wait anymore. Its permits are not counted, so they do not return.
            Err(mut permits) => permits.state = None,
        }
    }
}

fn lock(state: &Mutex<PermitState>) -> MutexGuard<'_, PermitState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::{
        PollSize::{Large, Small},
        *,
    };

    /// The permits of a request, if it is granted now.
    fn granted(request: Pin<&mut impl Future<Output = HeldPermits>>) -> Option<HeldPermits> {
        match request.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permits) => Some(permits),
            Poll::Pending => None,
        }
    }

    fn now(permits: &PollPermits, size: PollSize) -> Option<HeldPermits> {
        granted(pin!(permits.acquire(size)))
    }

    /// Regression: a backfill that waited for four permits blocked all polls behind it.
    #[test]
    fn waiting_backfills_block_no_small_polls() {
        let permits = PollPermits::new(8, 4);
        let mut small: Vec<_> = (0..5).map(|_| now(&permits, Small).unwrap()).collect();
        let mut large = pin!(permits.acquire(Large));
        assert!(granted(large.as_mut()).is_none());

        // The backfill leaves half of the permits to other polls, but no more.
        assert!(now(&permits, Small).is_none());
        small.pop();
        let large = granted(large.as_mut()).unwrap();
        assert_eq!(permits.available(), 0);
        small.pop();
        let mut waiting = pin!(permits.acquire(Large));
        assert!(granted(waiting.as_mut()).is_none());
        for _ in 0..100 {
            assert!(now(&permits, Small).is_some());
        }

        drop(small);
        assert!(granted(waiting.as_mut()).is_some());
        drop(large);
    }

    #[test]
    fn small_polls_use_all_permits_alone() {
        let permits = PollPermits::new(8, 4);
        let small: Vec<_> = (0..8).map(|_| now(&permits, Small).unwrap()).collect();
        assert!(now(&permits, Small).is_none() && now(&permits, Large).is_none());
        drop(small);

        let large = [now(&permits, Large).unwrap(), now(&permits, Large).unwrap()];
        assert!(now(&permits, Small).is_none() && now(&permits, Large).is_none());
        drop(large);
        assert_eq!(permits.available(), 8);
    }

    /// Backfills without an end, as after many tenants are added, delay no daily poll by more than
    /// the one that ends next, and daily polls without an end delay no backfill by more than those
    /// that hold its permits.
    #[test]
    fn no_size_of_polls_starves_the_other() {
        let permits = PollPermits::new(8, 4);
        let (first, second) = (now(&permits, Large).unwrap(), now(&permits, Large).unwrap());
        let mut third = pin!(permits.acquire(Large));
        let mut small = pin!(permits.acquire(Small));
        assert!(granted(third.as_mut()).is_none() && granted(small.as_mut()).is_none());

        drop(first);
        let mut held: Vec<_> = granted(small.as_mut()).into_iter().collect();
        held.extend((0..3).map(|_| now(&permits, Small).unwrap()));
        assert!(now(&permits, Small).is_none() && granted(third.as_mut()).is_none());
        drop(second);
        assert!(now(&permits, Small).is_none(), "the permits are those of the backfill");
        assert!(granted(third.as_mut()).is_some());
        assert_eq!(held.len(), 4);
    }

    #[test]
    fn polls_that_stop_waiting_take_nothing() {
        let permits = PollPermits::new(8, 4);
        let large = [now(&permits, Large).unwrap(), now(&permits, Large).unwrap()];
        {
            let mut aborted = pin!(permits.acquire(Large));
            assert!(granted(aborted.as_mut()).is_none());
            let mut granted_unseen = pin!(permits.acquire(Small));
            assert!(granted(granted_unseen.as_mut()).is_none());
            drop(large);
            assert_eq!(permits.available(), 3, "both were granted, but not received");
        }
        assert_eq!(permits.available(), 8);

        let all: Vec<_> = (0..8).map(|_| now(&permits, Small).unwrap()).collect();
        assert!(now(&permits, Large).is_none(), "this request is dropped while it waits");
        drop(all);
        assert_eq!(permits.available(), 8);
    }
}
