//! The engine, and what jobs are made of.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use capibara::{
    EngineConfig, Epoch, Job, Language, Phase, Progress, ProgressEvent, Queue, Script, SessionConfig, Stdin, Totals,
    Verdict, script_modules,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::{self, invalid, of_engine};
use crate::hooks::{Canceler, Events, Hooks, Output};
use crate::outcome::{self, Outcome};
use crate::policy::{Policy, Time};
use crate::session::Session;
use crate::tools::Tool;

/// Loads runtimes and runs jobs on them; see `Sandbox`.
#[pyclass(frozen, module = "capibara._capibara")]
pub(crate) struct Engine(capibara::Engine);

/// A script as a caller gives it.
#[derive(FromPyObject)]
enum Code {
    #[pyo3(transparent, annotation = "str")]
    Text(String),
    #[pyo3(transparent, annotation = "bytes")]
    Bytes(Vec<u8>),
    #[pyo3(transparent, annotation = "os.PathLike")]
    Path(PathBuf),
}

#[derive(FromPyObject)]
enum Input {
    #[pyo3(transparent, annotation = "str")]
    Text(String),
    #[pyo3(transparent, annotation = "bytes")]
    Bytes(Vec<u8>),
}

impl Code {
    /// The language that it shows.
    fn language(&self) -> Language {
        let (ending, bytes): (_, &[u8]) = match self {
            Self::Text(_) => (None, b""),
            Self::Bytes(bytes) => (None, bytes),
            Self::Path(path) => (path.extension(), b""),
        };
        let is_program =
            ending.is_some_and(|ending| ending == "wasm" || ending == "wat") || bytes.starts_with(b"\0asm");
        if is_program { Language::Wasm } else { Language::Python }
    }

    fn job(self, language: Option<&str>, policy: &Policy) -> PyResult<Job> {
        let language = match language {
            Some(name) => name.parse().map_err(|error: capibara::RuntimeError| of_engine(error.into()))?,
            None => self.language(),
        };
        let mut origin = None;
        let mut modules = Vec::new();
        let script = match (self, language) {
            (Self::Text(code), Language::Wasm) => {
                Script::File { name: "program.wat".into(), source: code.into_bytes().into() }
            }
            (Self::Text(code), _) => Script::Code(code),
            (Self::Bytes(bytes), Language::Wasm) => Script::File { name: "program.wasm".into(), source: bytes.into() },
            (Self::Bytes(bytes), _) => Script::File { name: "script.py".into(), source: bytes.into() },
            (Self::Path(path), language) => {
                let shown = path.display().to_string();
                let unreadable = |reason: String| invalid(format!("`{shown}` {reason}"), "check the path");
                let source = fs::read(&path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
                let name = path.file_name().and_then(|name| name.to_str());
                let name = name.ok_or_else(|| unreadable("has no name that is UTF-8".into()))?.to_owned();
                if language == Language::Python {
                    let folder =
                        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                    modules = script_modules(folder, &name, &source).map_err(|error| {
                        invalid(error.to_string(), "see what the script imports from its own folder")
                    })?;
                }
                origin = Some(shown);
                Script::File { name, source: source.into() }
            }
        };
        let mut job = Job::under(policy.0.clone(), script);
        (job.language, job.origin, job.modules) = (language, origin, modules);
        Ok(job)
    }
}

/// Reads RFC 3339.
fn epoch_of(text: Option<&str>) -> PyResult<Option<Epoch>> {
    text.map(|text| text.parse::<Epoch>().map_err(|error| PyValueError::new_err(error.to_string()))).transpose()
}

fn tools_of(tools: Vec<PyRef<'_, Tool>>) -> Vec<capibara::Tool> {
    tools.iter().map(|tool| tool.0.clone()).collect()
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, cache_dir=None, queue=None, pack=None))]
    fn new(cache_dir: Option<PathBuf>, queue: Option<(usize, usize)>, pack: Option<PathBuf>) -> PyResult<Self> {
        let mut config = EngineConfig::default();
        (config.cache_dir, config.pack) = (cache_dir, pack);
        config.queue = queue.map(|(running, waiting)| Queue { running, waiting });
        capibara::Engine::new(config).map(Self).map_err(of_engine)
    }

    /// Builds the runtime if it is not there, compiles it if it was not compiled here, and loads it.
    #[pyo3(signature = (language="python", *, live=false))]
    fn prepare(&self, py: Python<'_>, language: &str, live: bool) -> PyResult<()> {
        let language = language.parse().map_err(|error: capibara::RuntimeError| of_engine(error.into()))?;
        py.detach(|| self.0.prepare(language, live, &Announce::default())).map_err(of_engine)
    }

    /// What a policy says of a script. Nothing is run.
    #[pyo3(signature = (code, policy, *, language=None))]
    fn scan<'py>(
        &self,
        py: Python<'py>,
        code: Code,
        policy: &Policy,
        language: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let job = code.job(language, policy)?;
        let scan = py.detach(move || self.0.scan(&job));
        outcome::scan(py, &scan)
    }

    /// Runs a script to its end.
    #[pyo3(signature = (code, policy, *, language=None, args=Vec::new(), stdin=None, epoch=None, seed=None, live=false, tools=Vec::new(), on_output=None, on_event=None, capture=true, canceler=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn run(
        &self,
        py: Python<'_>,
        code: Code,
        policy: &Policy,
        language: Option<&str>,
        args: Vec<String>,
        stdin: Option<Input>,
        epoch: Option<&str>,
        seed: Option<u128>,
        live: bool,
        tools: Vec<PyRef<'_, Tool>>,
        on_output: Option<Py<PyAny>>,
        on_event: Option<Py<PyAny>>,
        capture: bool,
        canceler: Option<Py<Canceler>>,
    ) -> PyResult<Outcome> {
        let mut job = code.job(language, policy)?;
        job.args = args;
        job.stdin = match stdin {
            None => Stdin::Closed,
            Some(Input::Text(text)) => text.into(),
            Some(Input::Bytes(bytes)) => bytes.into(),
        };
        (job.epoch, job.seed, job.live, job.capture) = (epoch_of(epoch)?, seed, live, capture);
        job.tools = tools_of(tools);
        let hooks = Hooks::new(py, job.canceler(), canceler)?;
        if let Some(function) = on_output {
            job.sink = Some(Box::new(Output { hooks: hooks.clone(), function }));
        }
        if on_event.is_some() || hooks.listens() {
            job.events = Some(Box::new(Events { hooks: hooks.clone(), function: on_event }));
        }
        let outcome = hooks.around(py, || {
            // What is denied needs no runtime.
            if self.0.scan(&job).verdict != Verdict::Deny {
                self.0.prepare(job.language, job.live, &Announce::default())?;
            }
            self.0.run_blocking(job)
        })?;
        Ok(Outcome::new(self.0.clone(), outcome))
    }

    /// Opens a session.
    #[pyo3(signature = (policy, *, epoch=None, seed=None, live=false, tools=Vec::new(), total_turns=None, total_fuel=None, total_wall_time=None, total_output=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn session(
        &self,
        py: Python<'_>,
        policy: &Policy,
        epoch: Option<&str>,
        seed: Option<u128>,
        live: bool,
        tools: Vec<PyRef<'_, Tool>>,
        total_turns: Option<u64>,
        total_fuel: Option<u64>,
        total_wall_time: Option<Time>,
        total_output: Option<u64>,
    ) -> PyResult<Session> {
        let mut config = SessionConfig::new(policy.0.clone());
        (config.epoch, config.seed, config.live) = (epoch_of(epoch)?, seed, live);
        config.tools = tools_of(tools);
        let mut total = Totals::default();
        (total.turns, total.fuel, total.output) = (total_turns, total_fuel, total_output);
        total.wall_time = total_wall_time.map(Time::read).transpose()?;
        config.total = total;
        let session = py.detach(|| {
            self.0.prepare(config.language, config.live, &Announce::default())?;
            self.0.session(config)
        });
        Ok(Session::new(self.0.clone(), session.map_err(errors::of_engine)?))
    }
}

/// Says on standard error that a runtime is made ready, so that nobody waits for minutes without knowing for what.
#[derive(Default)]
struct Announce(AtomicBool);

impl Progress for Announce {
    fn event(&self, event: ProgressEvent) {
        let line = match event {
            ProgressEvent::Started { .. } if self.0.swap(true, Ordering::Relaxed) => return,
            ProgressEvent::Started { phase: Phase::CompileAhead, .. } => {
                "compiling the runtime for this machine, once".to_owned()
            }
            ProgressEvent::Started { phase: Phase::Unpack, .. } => "unpacking the runtime, once".to_owned(),
            ProgressEvent::Started { .. } => "building the runtime, once; this takes a few minutes".to_owned(),
            ProgressEvent::Message(text) => text,
            _ => return,
        };
        Python::attach(|py| {
            let told = || -> PyResult<()> {
                let stderr = py.import("sys")?.getattr("stderr")?;
                stderr.call_method1("write", (format!("capibara: {line}\n"),))?;
                stderr.call_method0("flush").map(drop)
            };
            // A program may have no standard error.
            told().unwrap_or_default();
        });
    }
}
