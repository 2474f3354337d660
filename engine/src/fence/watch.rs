//! Holds a running guest to its deadline and its canceler.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::cancel::Canceler;
use crate::timer::Alarm;

/// How a watched future ended.
pub(crate) enum Ended<T> {
    /// By itself.
    Returned(T),
    /// The deadline passed first.
    Deadline,
    /// Somebody asked for its end.
    Canceled,
    /// No thread could be started to wait with.
    NoTimer(std::io::Error),
}

/// A future that ends at a deadline, or when it is canceled.
///
/// Guest code gives control back every few milliseconds, so looking at clock and canceler between two polls is
/// enough while it computes; the alarm wakes it where it waits inside a host call.
pub(crate) struct Watch<'a, F> {
    pub(crate) inner: Pin<&'a mut F>,
    pub(crate) deadline: Instant,
    /// Virtual nanoseconds slept, which count as if they had passed.
    pub(crate) slept_nanos: Arc<AtomicU64>,
    pub(crate) canceler: &'a Canceler,
    pub(crate) alarm: Alarm<'a>,
    pub(crate) polls: u64,
}

impl<F> Watch<'_, F> {
    fn due(&self) -> Instant {
        let slept = Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed));
        self.deadline.checked_sub(slept).unwrap_or(self.deadline)
    }
}

impl<F: Future> Future for Watch<'_, F> {
    type Output = Ended<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.canceler.is_canceled() {
            return Poll::Ready(Ended::Canceled);
        }
        // The first poll is the whole run for most scripts: no look at the clock, no alarm.
        if this.polls > 0 && Instant::now() >= this.due() {
            return Poll::Ready(Ended::Deadline);
        }
        this.polls += 1;
        if let Poll::Ready(output) = this.inner.as_mut().poll(cx) {
            return Poll::Ready(Ended::Returned(output));
        }
        this.canceler.watch(cx.waker());
        // `cancel` may have come between the look above and `watch`.
        if this.canceler.is_canceled() {
            return Poll::Ready(Ended::Canceled);
        }
        let (now, due) = (Instant::now(), this.due());
        if now >= due {
            return Poll::Ready(Ended::Deadline);
        }
        // Whoever sets the canceler's flag alone wakes nobody: then the run looks by itself.
        let next = this.canceler.look_every().map_or(due, |pause| due.min(now + pause));
        match this.alarm.set(next, cx.waker()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Ended::NoTimer(error)),
        }
    }
}

impl<F> Drop for Watch<'_, F> {
    fn drop(&mut self) {
        self.canceler.unwatch();
    }
}

/// Wakes a thread that is parked in [`block_on`]. Remembers it, because whatever else parks on that thread (a sink that
/// blocks) may take the token of `unpark`.
struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Runs a future on this thread to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark { thread: std::thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(unpark.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => {
                while !unpark.woken.swap(false, Ordering::SeqCst) {
                    std::thread::park();
                }
            }
        }
    }
}

/// The output of a future that does not wait; `None` if it does.
pub(crate) fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
