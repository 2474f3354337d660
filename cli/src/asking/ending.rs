//! What ends a generation before it is done: a signal, or the deadline.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capibara::Canceler;
use tokio_util::sync::CancellationToken;

use crate::signals::Caught;

/// How often signals and the deadline are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Cancels everything that is under way.
#[derive(Debug)]
pub(crate) struct Ending {
    state: Arc<State>,
    caught: Caught,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    token: CancellationToken,
    /// Those of the runs under way, by number.
    cancelers: Mutex<Vec<(usize, Canceler)>>,
    late: AtomicBool,
    over: AtomicBool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("late", &self.late).finish_non_exhaustive()
    }
}

/// A run that is canceled with the rest, until this is dropped.
pub(crate) struct Bound<'a> {
    state: &'a State,
    number: usize,
}

impl Ending {
    /// From now on, a signal that is caught or the passing of `deadline` ends everything.
    pub(crate) fn watch(caught: Caught, deadline: Option<Instant>) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let watched = state.clone();
        let caught_there = caught.clone();
        let look = move || {
            while !watched.over.load(Ordering::SeqCst) {
                let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                if late || caught_there.any() {
                    watched.late.store(late && !caught_there.any(), Ordering::SeqCst);
                    watched.cancel();
                    return;
                }
                thread::park_timeout(LOOK_EVERY);
            }
        };
        let thread = thread::Builder::new().name("capibara-ending".into()).spawn(look)?;
        Ok(Self { state, caught, thread: Some(thread) })
    }

    /// The signals that have come.
    pub(crate) fn caught(&self) -> Caught {
        self.caught.clone()
    }

    /// What requests to models are canceled by.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.state.token
    }

    /// Whether it was the deadline.
    pub(crate) fn is_late(&self) -> bool {
        self.state.late.load(Ordering::SeqCst)
    }

    /// A run is under way.
    pub(crate) fn bind(&self, canceler: Canceler) -> Bound<'_> {
        let mut cancelers = self.state.cancelers.lock().unwrap_or_else(PoisonError::into_inner);
        let number = cancelers.last().map_or(0, |(last, _)| last + 1);
        if self.state.token.is_cancelled() {
            canceler.cancel();
        }
        cancelers.push((number, canceler));
        Bound { state: &self.state, number }
    }
}

impl State {
    fn cancel(&self) {
        let cancelers = self.cancelers.lock().unwrap_or_else(PoisonError::into_inner);
        self.token.cancel();
        cancelers.iter().for_each(|(_, canceler)| canceler.cancel());
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        let mut cancelers = self.state.cancelers.lock().unwrap_or_else(PoisonError::into_inner);
        cancelers.retain(|(number, _)| *number != self.number);
    }
}
