//! Sessions.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, TryLockError};

use capibara::Turn;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::errors::of_engine;
use crate::hooks::{Canceler, Events, Hooks, Output};
use crate::outcome::{self, Outcome};
use crate::policy::Policy;

/// An interpreter that goes on between turns; see `capibara.Session`.
#[pyclass(frozen, module = "capibara._capibara")]
pub(crate) struct Session {
    engine: capibara::Engine,
    /// `None` when it is closed.
    inner: Mutex<Option<capibara::Session>>,
}

impl Session {
    pub(crate) fn new(engine: capibara::Engine, session: capibara::Session) -> Self {
        Self { engine, inner: Mutex::new(Some(session)) }
    }

    /// What is there now, whatever it is.
    fn hold(&self) -> PyResult<MutexGuard<'_, Option<capibara::Session>>> {
        match self.inner.try_lock() {
            Ok(held) => Ok(held),
            Err(TryLockError::Poisoned(held)) => Ok(held.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("a turn of this session is under way; it has one at a time"))
            }
        }
    }

    /// Does something with the session without the lock.
    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut capibara::Session) -> T + Send) -> PyResult<T> {
        let mut held = self.hold()?;
        let session = held.as_mut().ok_or_else(closed)?;
        Ok(py.detach(|| work(session)))
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("the session is closed")
}

#[pymethods]
impl Session {
    /// Runs a turn. `policy` has its limits, where they are not the session's.
    #[pyo3(signature = (code, *, policy=None, on_output=None, on_event=None, capture=true, canceler=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn run(
        &self,
        py: Python<'_>,
        code: String,
        policy: Option<&Policy>,
        on_output: Option<Py<PyAny>>,
        on_event: Option<Py<PyAny>>,
        capture: bool,
        canceler: Option<Py<Canceler>>,
    ) -> PyResult<Outcome> {
        let mut held = self.hold()?;
        let session = held.as_mut().ok_or_else(closed)?;
        let mut turn = Turn::new(code).with_capture(capture);
        turn.limits = policy.map(|policy| policy.0.limits.clone());
        let hooks = Hooks::new(py, session.canceler(), canceler)?;
        if let Some(function) = on_output {
            turn.sink = Some(Box::new(Output { hooks: hooks.clone(), function }));
        }
        if on_event.is_some() || hooks.listens() {
            turn.events = Some(Box::new(Events { hooks: hooks.clone(), function: on_event }));
        }
        let outcome = hooks.around(py, || session.run_blocking(turn))?;
        Ok(Outcome::new(self.engine.clone(), outcome))
    }

    /// The files that lie in `/out` now.
    fn artifacts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let artifacts = self.with(py, capibara::Session::artifacts)?;
        outcome::artifacts(py, &artifacts)
    }

    /// Writes them into a folder of the host.
    fn write_artifacts<'py>(&self, py: Python<'py>, folder: PathBuf) -> PyResult<Bound<'py, PyAny>> {
        let artifacts = self.with(py, capibara::Session::artifacts)?;
        outcome::write(py, &self.engine, &artifacts, folder)
    }

    /// Files in memory below a directory: their paths relative to it, and their bytes.
    fn files<'py>(&self, py: Python<'py>, folder: &str) -> PyResult<Bound<'py, PyDict>> {
        let files = PyDict::new(py);
        for (path, bytes) in self.with(py, |session| session.files(folder))? {
            files.set_item(path, PyBytes::new(py, &bytes))?;
        }
        Ok(files)
    }

    /// What the turns so far changed below overlays.
    fn changes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let changes = self.with(py, capibara::Session::changes)?;
        outcome::changes(py, &changes)
    }

    /// Makes these changes on the host.
    fn apply<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let applied = self.with(py, capibara::Session::apply)?;
        outcome::applied(py, &applied)
    }

    /// Names of the session that begin with a text.
    fn complete(&self, py: Python<'_>, text: &str) -> PyResult<Vec<String>> {
        self.with(py, |session| session.complete_blocking(text))?.map_err(of_engine)
    }

    /// Whether Python would wait for more lines.
    fn is_incomplete(&self, py: Python<'_>, code: &str) -> PyResult<bool> {
        self.with(py, |session| session.is_incomplete_blocking(code))?.map_err(of_engine)
    }

    /// How many turns were kept.
    fn kept(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |session| session.kept())
    }

    /// Gives back what it holds.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let session = self.hold()?.take();
        py.detach(|| drop(session));
        Ok(())
    }
}
