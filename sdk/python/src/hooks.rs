//! What Python hears of a run, and how it ends one: output, events, exceptions, signals, cancelers.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use capibara::{Event, Stream};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::outcome;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stops the runs and turns it was given to, from any thread. Once canceled, it stays so: what is given to it later ends at once.
#[pyclass(frozen, module = "capibara")]
#[derive(Default)]
pub(crate) struct Canceler(Mutex<Canceling>);

#[derive(Default)]
struct Canceling {
    canceled: bool,
    next: u64,
    runs: Vec<(u64, capibara::Canceler)>,
}

#[pymethods]
impl Canceler {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Asks them to stop. Each ends as `canceled` within milliseconds, with what it had printed.
    fn cancel(&self) {
        let mut state = lock(&self.0);
        state.canceled = true;
        state.runs.iter().for_each(|(_, run)| run.cancel());
    }

    /// Whether `cancel` was called.
    #[getter]
    fn canceled(&self) -> bool {
        lock(&self.0).canceled
    }
}

/// One run or turn, as the calls into Python that it makes see it.
pub(crate) struct Hooks {
    canceler: capibara::Canceler,
    outer: Option<Py<Canceler>>,
    /// Its number among the runs of `outer`.
    number: u64,
    /// Whether it is up to this run to let handlers of signals do their work.
    signals: bool,
    /// What a call into Python raised, and the whole run is to raise.
    raised: Mutex<Option<PyErr>>,
}

thread_local! {
    /// The run on this thread. Tools are called on the thread of the run, too.
    static RUN: RefCell<Option<Arc<Hooks>>> = const { RefCell::new(None) };
}

impl Hooks {
    pub(crate) fn new(
        py: Python<'_>,
        canceler: capibara::Canceler,
        outer: Option<Py<Canceler>>,
    ) -> PyResult<Arc<Self>> {
        let mut number = 0;
        if let Some(outer) = &outer {
            let mut state = lock(&outer.get().0);
            if state.canceled {
                canceler.cancel();
            }
            number = state.next;
            state.next += 1;
            state.runs.push((number, canceler.clone()));
        }
        Ok(Arc::new(Self { canceler, outer, number, signals: on_main_thread(py)?, raised: Mutex::new(None) }))
    }

    /// Lets `work` run without the lock, on this thread. Gives back what it does, or what was raised meanwhile.
    pub(crate) fn around<T: Send>(
        self: &Arc<Self>,
        py: Python<'_>,
        work: impl FnOnce() -> Result<T, capibara::EngineError> + Send,
    ) -> PyResult<T> {
        let outside = RUN.replace(Some(self.clone()));
        let result = py.detach(work);
        RUN.set(outside);
        match lock(&self.raised).take() {
            Some(raised) => Err(raised),
            None => result.map_err(crate::errors::of_engine),
        }
    }

    /// The run ends, and raises this.
    fn raise(&self, error: PyErr) {
        lock(&self.raised).get_or_insert(error);
        self.canceler.cancel();
    }

    /// Whether anybody has to hear of what happens in the run.
    pub(crate) fn listens(&self) -> bool {
        self.signals || self.outer.is_some()
    }

    /// Something happened: looks whether the run is to end.
    fn look(&self, py: Python<'_>) {
        // A session forgets that it was canceled when a turn begins.
        if self.outer.as_ref().is_some_and(|outer| outer.get().canceled()) {
            self.canceler.cancel();
        }
        if self.signals
            && let Err(error) = py.check_signals()
        {
            self.raise(error);
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        if let Some(outer) = &self.outer {
            lock(&outer.get().0).runs.retain(|(number, _)| *number != self.number);
        }
    }
}

/// What is no ordinary exception (`KeyboardInterrupt`, `SystemExit`) ends the run on this thread, too.
pub(crate) fn raised_in_tool(py: Python<'_>, error: &PyErr) {
    if !error.is_instance_of::<PyException>(py) {
        RUN.with_borrow(|run| {
            if let Some(run) = run {
                run.raise(error.clone_ref(py));
            }
        });
    }
}

/// Python's handlers of signals run on its main thread alone.
fn on_main_thread(py: Python<'_>) -> PyResult<bool> {
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static MAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let current = CURRENT.import(py, "threading", "current_thread")?.call0()?;
    let main = MAIN.import(py, "threading", "main_thread")?.call0()?;
    Ok(current.is(&main))
}

/// Gives output to a Python function: `on_output("stdout", b"…")`.
pub(crate) struct Output {
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) function: Py<PyAny>,
}

impl capibara::OutputSink for Output {
    fn write(&mut self, stream: Stream, bytes: &[u8], _deadline: Instant) -> io::Result<()> {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        Python::attach(|py| self.function.call1(py, (name, bytes)).map(drop)).map_err(|error| {
            self.hooks.raise(error);
            io::ErrorKind::BrokenPipe.into()
        })
    }
}

/// Gives events to a Python function, and looks for signals with each of them.
pub(crate) struct Events {
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) function: Option<Py<PyAny>>,
}

impl capibara::EventSink for Events {
    fn event(&mut self, event: Event, _deadline: Instant) {
        // Those about tools come with each call; the others are rare.
        if self.function.is_none() && !matches!(event, Event::Started { .. } | Event::Usage { .. }) {
            return;
        }
        Python::attach(|py| {
            self.hooks.look(py);
            let Some(function) = &self.function else { return };
            let told = outcome::event(py, &event).and_then(|told| function.call1(py, (told,)));
            if let Err(error) = told {
                self.hooks.raise(error);
            }
        });
    }
}
