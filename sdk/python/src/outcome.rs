//! Outcomes, and the small values they are made of, which are classes of `python/capibara/_values.py`.

use std::path::PathBuf;

use capibara::{Captured, Change, Event, LimitHit, Need, Refusal, RuntimeId, Scan, Status, Usage};
use capibara_policies::Finding;
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple};

use crate::errors;

type Value<'py> = PyResult<Bound<'py, PyAny>>;

/// An instance of a class of `_values.py`; its fields in their order.
fn make<'py>(py: Python<'py>, class: &str, fields: impl PyCallArgs<'py>) -> Value<'py> {
    py.import("capibara._values")?.getattr(class)?.call1(fields)
}

fn tuple<'py, T>(
    py: Python<'py>,
    items: impl IntoIterator<Item = T>,
    make: impl Fn(Python<'py>, T) -> Value<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let items = items.into_iter().map(|item| make(py, item)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, items)
}

fn limit<'py>(py: Python<'py>, hit: &LimitHit) -> Value<'py> {
    make(py, "LimitHit", (hit.kind.name(), hit.allowed, hit.used))
}

fn usage<'py>(py: Python<'py>, usage: &Usage) -> Value<'py> {
    let fields = (
        usage.fuel,
        usage.wall_time.as_secs_f64(),
        usage.slept.as_secs_f64(),
        usage.memory_peak_bytes,
        usage.output_bytes,
        usage.files_written,
        usage.bytes_written,
        usage.host_calls,
        usage.files_peak,
        usage.descriptors_peak,
    );
    make(py, "Usage", fields)
}

fn finding<'py>(py: Python<'py>, finding: &Finding) -> Value<'py> {
    let fields = (
        &*finding.rule,
        finding.severity.name(),
        &finding.message,
        &finding.path,
        finding.span.line.max(1),
        finding.span.column.max(1),
        finding.span.end_line.max(1),
        finding.span.end_column.max(1),
        finding.effect.name(),
        (!finding.advice.is_empty()).then_some(&finding.advice),
        finding.allowed.as_ref(),
    );
    make(py, "Finding", fields)
}

fn need<'py>(py: Python<'py>, need: &Need) -> Value<'py> {
    make(
        py,
        "Need",
        (need.kind.name(), need.kind.subject(), &need.path, need.span.line.max(1), need.span.column.max(1)),
    )
}

pub(crate) fn scan<'py>(py: Python<'py>, scan: &Scan) -> Value<'py> {
    let fields =
        (scan.verdict.name(), tuple(py, &scan.findings, finding)?, tuple(py, &scan.needs, need)?, &scan.policy);
    make(py, "Scan", fields)
}

fn runtime<'py>(py: Python<'py>, runtime: &RuntimeId) -> Value<'py> {
    make(py, "RuntimeId", (&runtime.name, &runtime.sha256))
}

fn change<'py>(py: Python<'py>, change: &Change) -> Value<'py> {
    let contents = change.contents.as_ref().map(|contents| PyBytes::new(py, &contents.to_vec()));
    let sha256 = change.sha256.map(|digest| digest.to_string());
    let fields =
        (&change.path, change.kind.name(), change.what.name(), change.bytes, sha256, contents, change.target.as_ref());
    make(py, "Change", fields)
}

pub(crate) fn changes<'py>(py: Python<'py>, changes: &[Change]) -> PyResult<Bound<'py, PyTuple>> {
    tuple(py, changes, change)
}

pub(crate) fn artifacts<'py>(py: Python<'py>, artifacts: &[capibara::Artifact]) -> PyResult<Bound<'py, PyTuple>> {
    tuple(py, artifacts, |py, artifact| {
        let bytes = PyBytes::new(py, &artifact.bytes.to_vec());
        make(py, "Artifact", (&artifact.path, bytes, artifact.sha256.to_string(), artifact.mime))
    })
}

fn refusals<'py>(py: Python<'py>, refused: &[Refusal]) -> PyResult<Bound<'py, PyTuple>> {
    tuple(py, refused, |py, refusal| make(py, "Refusal", (&refusal.path, refusal.reason.to_string())))
}

pub(crate) fn applied<'py>(py: Python<'py>, applied: &capibara::Applied) -> Value<'py> {
    make(py, "Applied", (applied.applied, refusals(py, &applied.refused)?))
}

/// Writes artifacts into a folder of the host.
pub(crate) fn write<'py>(
    py: Python<'py>,
    engine: &capibara::Engine,
    artifacts: &[capibara::Artifact],
    folder: PathBuf,
) -> Value<'py> {
    let written = py.detach(|| engine.out_folder(folder).map(|folder| folder.write(artifacts)));
    let written = written.map_err(errors::of_engine)?;
    make(py, "Written", (written.files, written.bytes, refusals(py, &written.refused)?))
}

/// An event as a value; `None` of a kind that this package does not know.
pub(crate) fn event<'py>(py: Python<'py>, event: &Event) -> PyResult<Option<Bound<'py, PyAny>>> {
    let made = match event {
        Event::Started { scan: seen, runtime: ran, epoch, seed, .. } => {
            make(py, "Started", (scan(py, seen)?, runtime(py, ran)?, epoch.to_string(), seed))
        }
        Event::Usage { usage: used, reading, .. } => make(py, "UsageSoFar", (usage(py, used)?, reading)),
        Event::ToolCalled { call, tool, argument_bytes, .. } => make(py, "ToolCalled", (call, tool, argument_bytes)),
        Event::ToolAnswered { call, tool, result, took, .. } => {
            make(py, "ToolAnswered", (call, tool, result.ok(), result.err(), took.as_secs_f64()))
        }
        _ => return Ok(None),
    };
    made.map(Some)
}

/// What came of a run: a value, whatever the script did. It is made by `run`, never by itself.
#[pyclass(frozen, module = "capibara")]
pub(crate) struct Outcome {
    engine: capibara::Engine,
    inner: capibara::Outcome,
    artifacts: PyOnceLock<Py<PyTuple>>,
    changes: PyOnceLock<Py<PyTuple>>,
}

impl Outcome {
    pub(crate) fn new(engine: capibara::Engine, inner: capibara::Outcome) -> Self {
        Self { engine, inner, artifacts: PyOnceLock::new(), changes: PyOnceLock::new() }
    }

    /// How it ended, in a few words.
    fn told(&self) -> String {
        match &self.inner.status {
            Status::Denied => {
                let denied = self.inner.scan.findings.iter().find(|it| it.effect == capibara::Verdict::Deny);
                let why = denied.map_or_else(String::new, |it| format!(": {} (line {})", it.message, it.span.line));
                format!("denied by policy {}{why}", self.inner.scan.policy)
            }
            Status::Completed { exit_code } => format!("ended with exit code {exit_code}"),
            Status::Limit(hit) => format!("stopped by limit {}: allowed {}, used {}", hit.kind, hit.allowed, hit.used),
            Status::Trapped(trap) => format!("broke down: {} ({})", trap.message, trap.kind),
            Status::Canceled { .. } => "canceled".into(),
            _ => "ended in a way this package does not know".into(),
        }
    }
}

fn text(captured: &Captured) -> std::borrow::Cow<'_, str> {
    captured.text()
}

#[pymethods]
impl Outcome {
    /// How it ended: `completed`, `denied`, `limit`, `trapped` or `canceled`.
    #[getter]
    fn status(&self) -> &'static str {
        match self.inner.status {
            Status::Denied => "denied",
            Status::Completed { .. } => "completed",
            Status::Limit(_) => "limit",
            Status::Trapped(_) => "trapped",
            Status::Canceled { .. } => "canceled",
            _ => "error",
        }
    }

    /// The exit code, if the script ended by itself; the real one, of any size.
    #[getter]
    fn exit_code(&self) -> Option<i32> {
        self.inner.exit_code()
    }

    /// Whether the script ended by itself with exit code 0.
    #[getter]
    fn success(&self) -> bool {
        self.inner.success()
    }

    /// Returns the outcome itself if it is a success.
    ///
    /// Raises `OutcomeError`, which has the outcome, if it is not: as `subprocess` does with `check`.
    fn check<'py>(this: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        if this.get().inner.success() {
            return Ok(this);
        }
        let told = this.get().told();
        Err(errors::OutcomeError::new_err((told, this.unbind())))
    }

    /// What it printed on standard output; what is not UTF-8 becomes U+FFFD.
    #[getter]
    fn stdout(&self) -> std::borrow::Cow<'_, str> {
        text(&self.inner.stdout)
    }

    /// The bytes it printed on standard output.
    #[getter]
    fn stdout_bytes(&self) -> &[u8] {
        &self.inner.stdout.bytes
    }

    /// Whether the output limit cut standard output.
    #[getter]
    fn stdout_truncated(&self) -> bool {
        self.inner.stdout.truncated
    }

    /// What it printed on standard error; what is not UTF-8 becomes U+FFFD.
    #[getter]
    fn stderr(&self) -> std::borrow::Cow<'_, str> {
        text(&self.inner.stderr)
    }

    /// The bytes it printed on standard error.
    #[getter]
    fn stderr_bytes(&self) -> &[u8] {
        &self.inner.stderr.bytes
    }

    /// Whether the output limit cut standard error.
    #[getter]
    fn stderr_truncated(&self) -> bool {
        self.inner.stderr.truncated
    }

    /// The limit that ended it, if one did.
    #[getter]
    fn limit<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.inner.status {
            Status::Limit(hit) => limit(py, hit).map(Some),
            _ => Ok(None),
        }
    }

    /// How the guest broke down, if it did.
    #[getter]
    fn trap<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.inner.status {
            Status::Trapped(trap) => make(py, "Trap", (trap.kind, &trap.message)).map(Some),
            _ => Ok(None),
        }
    }

    /// What it used.
    #[getter]
    fn usage<'py>(&self, py: Python<'py>) -> Value<'py> {
        usage(py, &self.inner.usage)
    }

    /// Quotas that the script met on its way, and got an error for that it could handle.
    #[getter]
    fn quotas_met<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        tuple(py, &self.inner.quotas_met, limit)
    }

    /// What the scan before the run came to.
    #[getter]
    fn scan<'py>(&self, py: Python<'py>) -> Value<'py> {
        scan(py, &self.inner.scan)
    }

    /// The findings of that scan.
    #[getter]
    fn findings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        tuple(py, &self.inner.scan.findings, finding)
    }

    /// Files it opened or changed, or tried to, that the scan had not foreseen.
    #[getter]
    fn divergence<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        tuple(py, &self.inner.divergence, |py, it| {
            make(py, "Divergence", (&it.path, if it.write { "write" } else { "read" }))
        })
    }

    /// The files it left in `/out`, sorted by path, with their bytes. None for turns of a session: see `Session.artifacts`.
    #[getter]
    fn artifacts<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let made = self.artifacts.get_or_try_init(py, || artifacts(py, &self.inner.artifacts).map(Bound::unbind))?;
        Ok(made.bind(py))
    }

    /// Paths of files in `/out` that did not come back, because all would be larger than `max_disk`.
    #[getter]
    fn artifacts_left_out(&self) -> Vec<&str> {
        self.inner.artifacts_left_out.iter().map(String::as_str).collect()
    }

    /// Writes the artifacts into a folder of the host, each whole or not at all, and never through a link.
    ///
    /// Raises `EngineError` if the folder cannot be used.
    fn write_artifacts<'py>(&self, py: Python<'py>, folder: PathBuf) -> Value<'py> {
        write(py, &self.engine, &self.inner.artifacts, folder)
    }

    /// What it changed below overlays: nothing of it is on the host yet.
    #[getter]
    fn changes<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let made = self.changes.get_or_try_init(py, || changes(py, &self.inner.changes).map(Bound::unbind))?;
        Ok(made.bind(py))
    }

    /// Makes the changes on the host, but for what was changed there meanwhile.
    fn apply<'py>(&self, py: Python<'py>) -> Value<'py> {
        let done = py.detach(|| self.inner.changes.apply());
        applied(py, &done)
    }

    /// How it used its tools, one entry for each tool it was given.
    #[getter]
    fn tools<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        tuple(py, &self.inner.tools, |py, tool| {
            make(py, "ToolUse", (&tool.name, tool.calls, tool.failed, tool.last_error.as_ref()))
        })
    }

    /// What the last line of a session's turn came to, if it is an expression and not `None`.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(value) = &self.inner.value else { return Ok(None) };
        let files = PyTuple::new(py, &value.files)?;
        make(py, "Value", (&value.text, value.truncated, files)).map(Some)
    }

    /// SHA-256 of everything the run depended on, in hexadecimal.
    #[getter]
    fn job_sha256(&self) -> String {
        self.inner.job_sha256.to_string()
    }

    /// Where its clock started, in RFC 3339.
    #[getter]
    fn epoch(&self) -> String {
        self.inner.epoch.to_string()
    }

    /// Where its randomness started; `None` for a live run.
    #[getter]
    fn seed(&self) -> Option<u128> {
        (!self.inner.live).then_some(self.inner.seed)
    }

    /// Whether it ran with real clocks and system randomness.
    #[getter]
    fn live(&self) -> bool {
        self.inner.live
    }

    /// Whether running the same job again gives the same outcome.
    #[getter]
    fn determined(&self) -> bool {
        self.inner.determined
    }

    /// The runtime that ran it; `None` if nothing was run.
    #[getter]
    fn runtime<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.inner.runtime.as_ref().map(|id| runtime(py, id)).transpose()
    }

    fn __repr__(&self) -> String {
        let (stdout, stderr) = (self.inner.stdout.bytes.len(), self.inner.stderr.bytes.len());
        format!("<Outcome {}; stdout {stdout} bytes, stderr {stderr} bytes>", self.told())
    }
}
