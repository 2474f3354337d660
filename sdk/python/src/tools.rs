//! Tools: Python functions that a script may call.

use capibara::ToolError;
use futures_channel::oneshot;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyString, PyTuple};
use serde_json::value::RawValue;

use crate::errors::{self, ToolArgumentError};
use crate::hooks;
use crate::policy::Time;

/// A tool as the engine takes it. `call` takes the arguments as JSON and returns the result as JSON, or a
/// `concurrent.futures.Future` of it.
#[pyclass(frozen, module = "capibara._capibara")]
pub(crate) struct Tool(pub(crate) capibara::Tool);

#[pymethods]
impl Tool {
    #[new]
    #[pyo3(signature = (name, description, parameters, call, *, calls=None, timeout=None, argument_bytes=None, result_bytes=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        name: String,
        description: String,
        parameters: &str,
        call: Py<PyAny>,
        calls: Option<u64>,
        timeout: Option<Time>,
        argument_bytes: Option<usize>,
        result_bytes: Option<usize>,
    ) -> PyResult<Self> {
        let parameters = serde_json::from_str(parameters).map_err(|error| {
            errors::invalid(format!("the parameters of tool `{name}`: {error}"), "give a JSON Schema")
        })?;
        let answer = move |arguments: Box<RawValue>| {
            // The engine polls on the thread of the run, so the call is made on it.
            let call = Python::attach(|py| call.clone_ref(py));
            async move {
                let answering =
                    Python::attach(|py| begin(py, &call, arguments.get()).map_err(|error| told(py, &error)))?;
                let text = match answering {
                    Answering::Now(text) => text,
                    Answering::Later(mut later) => later.answer().await?,
                };
                RawValue::from_string(text).map_err(ToolError::from)
            }
        };
        let mut tool = capibara::Tool::json(name, description, Some(parameters), answer);
        if let Some(calls) = calls {
            tool = tool.with_calls(calls);
        }
        if let Some(timeout) = timeout {
            tool = tool.with_timeout(timeout.read()?);
        }
        if let Some(bytes) = argument_bytes {
            tool = tool.with_argument_bytes(bytes);
        }
        if let Some(bytes) = result_bytes {
            tool = tool.with_result_bytes(bytes);
        }
        Ok(Self(tool))
    }
}

enum Answering {
    Now(String),
    Later(Later),
}

/// Makes the call.
fn begin(py: Python<'_>, call: &Py<PyAny>, arguments: &str) -> PyResult<Answering> {
    let answer = call.bind(py).call1((arguments,))?;
    match answer.cast::<PyString>() {
        Ok(text) => Ok(Answering::Now(text.to_str()?.to_owned())),
        Err(_) => Later::new(answer).map(Answering::Later),
    }
}

/// Waits for a `concurrent.futures.Future`, which is canceled if nobody waits any more.
struct Later {
    future: Py<PyAny>,
    answer: oneshot::Receiver<Result<String, ToolError>>,
}

impl Later {
    fn new(future: Bound<'_, PyAny>) -> PyResult<Self> {
        let py = future.py();
        let (send, answer) = oneshot::channel();
        let send = std::sync::Mutex::new(Some(send));
        let done = move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
            let sender = send.lock().ok().and_then(|mut send| send.take());
            if let Some(sender) = sender {
                let result = args.get_item(0)?.call_method0("result").and_then(|text| text.extract::<String>());
                // Nobody may wait any more.
                let _ = sender.send(result.map_err(|error| told(args.py(), &error)));
            }
            Ok(())
        };
        let done = PyCFunction::new_closure(py, None, None, done)?;
        future.call_method1("add_done_callback", (done,))?;
        Ok(Self { future: future.unbind(), answer })
    }

    async fn answer(&mut self) -> Result<String, ToolError> {
        let answer = (&mut self.answer).await;
        answer.unwrap_or_else(|_| Err(ToolError::internal("the function came to no end")))
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        // Does nothing to one that is done.
        Python::attach(|py| self.future.call_method0(py, "cancel").map(drop).unwrap_or_default());
    }
}

/// What the script, or the host alone, is told of an exception.
fn told(py: Python<'_>, error: &PyErr) -> ToolError {
    hooks::raised_in_tool(py, error);
    let value = error.value(py);
    let text = value.to_string();
    if error.is_instance_of::<ToolArgumentError>(py) {
        ToolError::arguments(text)
    } else if error.is_instance_of::<errors::ToolError>(py) {
        ToolError::public(text)
    } else {
        ToolError::internal(error.to_string())
    }
}
