//! Stopping a run from elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// Stops one run from another thread or task; its neighbours go on. Cheap to clone.
#[derive(Clone, Default)]
pub struct Canceler(Arc<State>);

#[derive(Default)]
struct State {
    canceled: AtomicBool,
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
