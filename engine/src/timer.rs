//! One thread per engine that wakes runs at their deadlines and advances the epoch for live ones. It starts with the
//! first run that waits or is live, and ends with the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks of live code at its deadline.
const TICK: Duration = Duration::from_millis(5);

/// Wakes tasks at given moments.
pub(crate) struct Timer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    alarms: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
    ticking: Vec<(u64, wasmtime::EngineWeak)>,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut state = self.lock();
        while !state.stop {
            let now = Instant::now();
            let later = state.alarms.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut state.alarms, later);
            if !due.is_empty() {
                drop(state);
                for waker in due.into_values() {
                    // A waker that panics is somebody else's; the others wait for theirs.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
                }
                state = self.lock();
                continue;
            }
            for (_, engine) in &state.ticking {
                if let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                }
            }
            let tick = (!state.ticking.is_empty()).then_some(TICK);
            let alarm = state.alarms.keys().next().map(|(at, _)| at.saturating_duration_since(now));
            state = match tick.into_iter().chain(alarm).min() {
                Some(pause) => self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default(), thread: Mutex::new(None) }
    }

    fn start(&self) -> std::io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = self.shared.clone();
            let spawned = std::thread::Builder::new().name("capibara-timer".into()).spawn(move || shared.serve())?;
            *thread = Some(spawned);
        }
        Ok(())
    }

    /// An alarm that can be set and moved, and is off once dropped.
    pub(crate) fn alarm(&self) -> Alarm<'_> {
        Alarm { timer: self, set: None }
    }

    /// Advances the epoch of `engine` until the guard is dropped.
    pub(crate) fn tick(&self, engine: &wasmtime::Engine) -> std::io::Result<Ticking<'_>> {
        self.start()?;
        let mut state = self.shared.lock();
        state.next_id += 1;
        let id = state.next_id;
        state.ticking.push((id, engine.weak()));
        drop(state);
        self.shared.changed.notify_one();
        Ok(Ticking { timer: self, id })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // The last handle of an engine may be dropped by a waker that this very thread called.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// See [`Timer::alarm`].
pub(crate) struct Alarm<'a> {
    timer: &'a Timer,
    set: Option<(Instant, u64, Waker)>,
}

impl Alarm<'_> {
    /// Wakes `waker` at `at`; the alarm's earlier setting is forgotten.
    pub(crate) fn set(&mut self, at: Instant, waker: &Waker) -> std::io::Result<()> {
        let now = Instant::now();
        if at <= now {
            waker.wake_by_ref();
            return Ok(());
        }
        // Still to come, so still set.
        if self.set.as_ref().is_some_and(|(was, _, known)| *was == at && known.will_wake(waker)) {
            return Ok(());
        }
        self.timer.start()?;
        self.clear();
        let mut state = self.timer.shared.lock();
        state.next_id += 1;
        let id = state.next_id;
        let first = state.alarms.keys().next().is_none_or(|(earliest, _)| at < *earliest);
        state.alarms.insert((at, id), waker.clone());
        drop(state);
        self.set = Some((at, id, waker.clone()));
        if first {
            self.timer.shared.changed.notify_one();
        }
        Ok(())
    }

    fn clear(&mut self) {
        if let Some((at, id, _)) = self.set.take() {
            self.timer.shared.lock().alarms.remove(&(at, id));
        }
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// See [`Timer::tick`].
pub(crate) struct Ticking<'a> {
    timer: &'a Timer,
    id: u64,
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.timer.shared.lock().ticking.retain(|(id, _)| *id != self.id);
    }
}
