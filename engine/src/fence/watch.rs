//! Holds a running guest to its deadline and its canceler.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::calls::{self, Calls};
use crate::cancel::Canceler;
use crate::events::Reporter;
use crate::image::Visit;
use crate::stream::{OutputSink, Stream};
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
    pub(crate) visit: &'a Visit,
    pub(crate) polls: u64,
    /// Tells somebody what the run uses.
    pub(crate) reporter: Option<Reporter>,
    /// Calls of the guest that go on meanwhile.
    pub(crate) calls: Option<&'a Mutex<Calls>>,
}

impl<F> Watch<'_, F> {
    fn due(&self) -> Instant {
        let slept = Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed));
        self.deadline.checked_sub(slept).unwrap_or(self.deadline)
    }

    /// Tells what became of calls since the last time, if anything did.
    fn tell_calls(&mut self) -> bool {
        let (Some(calls), Some(_)) = (self.calls, &self.reporter) else { return false };
        let told = calls::lock(calls).take_told();
        if told.is_empty() {
            return false;
        }
        let due = self.due();
        // The sink may block, and keeps no processor meanwhile.
        release();
        for event in told {
            if let Some(reporter) = &mut self.reporter {
                reporter.tell(event, due);
            }
        }
        true
    }

    /// Tells what the run uses, if it is time to, and says when the next time is.
    fn report(&mut self) -> Option<Instant> {
        let (now, due) = (Instant::now(), self.due());
        let slept = Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed));
        let reporter = self.reporter.as_mut()?;
        if reporter.next() <= now {
            // The sink may block, and keeps no processor meanwhile.
            release();
        }
        reporter.look(now, slept, due);
        Some(reporter.next())
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
        this.visit.here();
        loop {
            let polled = this.inner.as_mut().poll(cx);
            let told = this.tell_calls();
            if let Poll::Ready(output) = polled {
                return Poll::Ready(Ended::Returned(output));
            }
            // A call that is done, or was never looked at, may be what the guest waits for.
            let answered = this.calls.is_some_and(|calls| calls::lock(calls).poll(cx));
            let told = this.tell_calls() || told;
            if !(answered || told) || this.canceler.is_canceled() || Instant::now() >= this.due() {
                break;
            }
        }
        this.canceler.watch(cx.waker());
        // `cancel` may have come between the look above and `watch`.
        if this.canceler.is_canceled() {
            return Poll::Ready(Ended::Canceled);
        }
        let report = if this.reporter.is_some() { this.report() } else { None };
        let (now, due) = (Instant::now(), this.due());
        if now >= due {
            return Poll::Ready(Ended::Deadline);
        }
        // Whoever sets the canceler's flag alone wakes nobody: then the run looks by itself.
        let mut next = this.canceler.look_every().map_or(due, |pause| due.min(now + pause));
        if let Some(late) = this.calls.and_then(|calls| calls::lock(calls).next_deadline()) {
            next = next.min(late);
        }
        if let Some(report) = report {
            next = next.min(report);
        }
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

/// Wakes a thread that is parked in [`block_on`]. Counts, because whatever else parks on that thread (a sink that blocks) may
/// take the token of `unpark`.
struct Unpark {
    thread: Thread,
    wakes: AtomicU64,
}

impl Unpark {
    /// Parks until it was woken more than `seen` times, or `other` is set.
    fn wait(&self, seen: u64, other: &AtomicBool) {
        while self.wakes.load(Ordering::SeqCst) == seen && !other.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// The machine's processors, for runs that compute for long on threads of their callers.
///
/// With many more threads than processors, one whose time is up would have to wait until the system gives all the others
/// theirs, tens of milliseconds. So only about as many threads compute as there are processors, in turns of a few stretches,
/// and the others are parked, where an alarm finds them at once. A run that needs one stretch only is not held up.
pub(crate) struct Processors(Mutex<Shared>);

struct Shared {
    /// `None` before anybody asked: looking for them takes longer than many a run.
    free: Option<usize>,
    queue: VecDeque<Arc<Waiting>>,
}

/// A thread that waits for a processor.
struct Waiting {
    thread: Thread,
    granted: AtomicBool,
}

impl Processors {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Shared { free: None, queue: VecDeque::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a processor, or until something else wakes the thread: false then.
    fn take(&self, unpark: &Unpark, seen: u64) -> bool {
        let waiting = {
            let mut shared = self.lock();
            let none_waits = shared.queue.is_empty();
            let free = shared
                .free
                .get_or_insert_with(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get) + SPARE);
            if *free > 0 && none_waits {
                *free -= 1;
                return true;
            }
            let waiting = Arc::new(Waiting { thread: unpark.thread.clone(), granted: AtomicBool::new(false) });
            shared.queue.push_back(waiting.clone());
            waiting
        };
        unpark.wait(seen, &waiting.granted);
        let mut shared = self.lock();
        if waiting.granted.load(Ordering::SeqCst) {
            return true;
        }
        shared.queue.retain(|other| !Arc::ptr_eq(other, &waiting));
        false
    }

    /// Gives a processor to whoever waited longest.
    fn give_back(&self) {
        let mut shared = self.lock();
        match shared.queue.pop_front() {
            Some(waiting) => {
                waiting.granted.store(true, Ordering::SeqCst);
                waiting.thread.unpark();
            }
            None => shared.free = shared.free.map(|free| free + 1),
        }
    }
}

thread_local! {
    /// The turn of this thread, if it computes on a processor.
    static OURS: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// A thread's time on a processor.
struct Turn {
    /// Where it comes from.
    processors: Arc<Processors>,
    began: Instant,
}

/// How long a thread keeps a processor that others wait for. Passing it on takes tens of microseconds: in turns of one stretch, that was
/// an eighth of the time of eight threads on two processors.
const TURN: Duration = Duration::from_millis(3);

/// How many more threads compute than there are processors, so that no processor is idle while a thread wakes up.
const SPARE: usize = 1;

/// Gives this thread's processor back, if it has one: before it waits for something outside.
fn release() {
    if let Some(turn) = OURS.with(|ours| ours.borrow_mut().take()) {
        turn.processors.give_back();
    }
}

/// Runs a future on this thread to its end.
pub(crate) fn block_on<F: Future>(processors: &Arc<Processors>, future: F) -> F::Output {
    /// Also where a poll panics.
    struct Release;
    impl Drop for Release {
        fn drop(&mut self) {
            release();
        }
    }

    let mut future = pin!(future);
    let unpark = Arc::new(Unpark { thread: std::thread::current(), wakes: AtomicU64::new(0) });
    let waker = Waker::from(unpark.clone());
    let mut cx = Context::from_waker(&waker);
    let _release = Release;
    loop {
        let before = unpark.wakes.load(Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        let seen = unpark.wakes.load(Ordering::SeqCst);
        if seen == before {
            release();
            unpark.wait(seen, &AtomicBool::new(false));
            continue;
        }
        // It goes on computing. (A further wake is another matter: its time is up, it is canceled, or input has come.)
        if OURS.with(|ours| ours.borrow().as_ref().is_some_and(|turn| turn.began.elapsed() < TURN)) {
            continue;
        }
        release();
        if processors.take(&unpark, seen) {
            let turn = Turn { processors: processors.clone(), began: Instant::now() };
            OURS.with(|ours| *ours.borrow_mut() = Some(turn));
        }
    }
}

/// A sink that may block, and keeps no processor meanwhile.
struct Unhurried(Box<dyn OutputSink>);

/// The same sink, which may block then.
pub(super) fn unhurried(sink: Box<dyn OutputSink>) -> Box<dyn OutputSink> {
    Box::new(Unhurried(sink))
}

impl OutputSink for Unhurried {
    fn write(&mut self, stream: Stream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        release();
        self.0.write(stream, bytes, deadline)
    }
}

/// The output of a future that does not wait; `None` if it does.
pub(crate) fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
