//! Stopping a run from elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Stops one run from another thread or task; its neighbours go on. Cheap to clone.
#[derive(Clone, Default)]
pub struct Canceler(Arc<State>);

#[derive(Default)]
struct State {
    canceled: Arc<AtomicBool>,
    /// Whether somebody holds `canceled` itself, and so can cancel without waking anybody.
    unannounced: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Canceler {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Asks the run to stop. It ends as [`Status::Canceled`](crate::Status::Canceled) within a few milliseconds,
    /// with everything it had printed. Has no effect on a run that has ended.
    pub fn cancel(&self) {
        self.0.canceled.store(true, Ordering::SeqCst);
        let waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.0.canceled.load(Ordering::SeqCst)
    }

    /// Forgets that anybody asked: another turn begins.
    pub(crate) fn reset(&self) {
        self.0.canceled.store(false, Ordering::SeqCst);
    }

    /// The flag behind [`cancel`](Self::cancel), for a signal handler, which may do no more than set it: the run then ends
    /// within about 20 ms.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.0.unannounced.store(true, Ordering::SeqCst);
        self.0.canceled.clone()
    }

    /// How often a waiting run must look by itself.
    pub(crate) fn look_every(&self) -> Option<Duration> {
        self.0.unannounced.load(Ordering::SeqCst).then_some(Duration::from_millis(20))
    }

    /// Forgets the task: its run is over.
    pub(crate) fn unwatch(&self) {
        self.0.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Names the task to wake when the run is canceled while it waits.
    pub(crate) fn watch(&self, waker: &Waker) {
        let mut slot = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

impl std::fmt::Debug for Canceler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canceler").field("canceled", &self.is_canceled()).finish()
    }
}
