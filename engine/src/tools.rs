//! Tools: functions of the host that a script may call.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::EngineError;
use crate::fields::Fields;

/// Most tools of one run.
const MOST_TOOLS: usize = 256;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 64;
/// Words that no Python name can be, and the one that stands for the concurrent forms of tools.
const RESERVED: [&str; 36] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield", "aio",
];

/// What a call of a tool comes to: the value as JSON, or why there is none.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Vec<u8>, ToolError>> + Send>>;
type Function = dyn Fn(Box<RawValue>, usize) -> Answering + Send + Sync;

/// A function of the host that a script may call by keyword arguments, waiting (`tools.f(n=1)`) or concurrently
/// (`await tools.aio.f(n=1)`).
///
/// ```
/// use capibara::{Job, Tool, ToolError};
/// use serde::Deserialize;
///
/// #[derive(Deserialize, schemars::JsonSchema)]
/// struct Sum {
///     a: i64,
///     b: i64,
/// }
/// let add = Tool::new("add", "Adds two numbers.", |Sum { a, b }: Sum| async move { Ok::<_, ToolError>(a + b) });
/// let job = Job::python("from capibara import tools\nprint(tools.add(a=1, b=2))").with_tool(add);
/// assert_eq!(job.tools.len(), 1);
/// ```
///
/// Its future is polled on the thread that polls the run, while the script waits and between two stretches of its
/// computing: one that blocks holds the run up, also past its limits. One that panics costs its caller an exception and nothing
/// else, but where its own values panic when that panic drops them.
///
/// Several calls are under way at a time: 1,024 at most, those whose answers were not read included. Their arguments may come to
/// 64 MiB together, counted as what they take when they are read, and so may the answers that wait; texts of errors are cut at
/// 4 KiB. What is more is refused, and the script told why.
#[derive(Clone)]
pub struct Tool(Arc<Definition>);

#[derive(Clone)]
struct Definition {
    name: String,
    description: String,
    /// JSON Schema of the object of arguments; `None` if nothing is known of them.
    parameters: Option<Value>,
    calls: u64,
    timeout: Duration,
    argument_bytes: usize,
    result_bytes: usize,
    function: Arc<Function>,
}

impl Tool {
    /// A tool that takes what `A` describes and returns what `R` does, both as JSON. The script sees the schema of `A` as
    /// the tool's signature. Bounds: 10,000 calls a run, 30 seconds a call, 1 MiB of arguments, 16 MiB of result.
    ///
    /// An error that is no [`ToolError::public`] tells the script only that the tool failed.
    pub fn new<A, R, E, F, Fut>(name: impl Into<String>, description: impl Into<String>, function: F) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize,
        E: Into<ToolError>,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        let function = Arc::new(function);
        let answer = move |arguments: Box<RawValue>, most: usize| -> Answering {
            let function = function.clone();
            Box::pin(async move {
                let arguments = serde_json::from_str(arguments.get())
                    .map_err(|error| ToolError::about(Why::Arguments, error.to_string()))?;
                let result = function(arguments).await.map_err(Into::into)?;
                to_json(&result, most)
            })
        };
        Self::made(name.into(), description.into(), Some(schemars::schema_for!(A).into()), Arc::new(answer))
    }

    /// A tool whose arguments are known only when it is called: a JSON object goes in, any JSON comes out. `parameters` is the
    /// JSON Schema of the object, if there is one to show; it is not enforced.
    pub fn dynamic<E, F, Fut>(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: Option<Value>,
        function: F,
    ) -> Self
    where
        E: Into<ToolError>,
        F: Fn(Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, E>> + Send + 'static,
    {
        let function = Arc::new(function);
        let answer = move |arguments: Box<RawValue>, most: usize| -> Answering {
            let function = function.clone();
            Box::pin(async move {
                let arguments = serde_json::from_str(arguments.get())
                    .map_err(|error| ToolError::about(Why::Arguments, error.to_string()))?;
                to_json(&function(arguments).await.map_err(Into::into)?, most)
            })
        };
        Self::made(name.into(), description.into(), parameters, Arc::new(answer))
    }

    /// As [`dynamic`](Self::dynamic), for a function that reads and writes JSON by itself: no number changes on the way, however
    /// large.
    pub fn json<E, F, Fut>(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: Option<Value>,
        function: F,
    ) -> Self
    where
        E: Into<ToolError>,
        F: Fn(Box<RawValue>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Box<RawValue>, E>> + Send + 'static,
    {
        let function = Arc::new(function);
        let answer = move |arguments: Box<RawValue>, most: usize| -> Answering {
            let function = function.clone();
            Box::pin(async move { to_json(&function(arguments).await.map_err(Into::into)?, most) })
        };
        Self::made(name.into(), description.into(), parameters, Arc::new(answer))
    }

    fn made(name: String, description: String, parameters: Option<Value>, function: Arc<Function>) -> Self {
        Self(Arc::new(Definition {
            name,
            description,
            parameters,
            calls: 10_000,
            timeout: Duration::from_secs(30),
            argument_bytes: 1 << 20,
            result_bytes: 16 << 20,
            function,
        }))
    }

    fn change(mut self, change: impl FnOnce(&mut Definition)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Sets how often a run, or a session in all its turns, may call it. Default: 10,000.
    #[must_use]
    pub fn with_calls(self, calls: u64) -> Self {
        self.change(|tool| tool.calls = calls)
    }

    /// Sets how long one call may take, in real time. Default: 30 seconds.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.change(|tool| tool.timeout = timeout)
    }

    /// Sets the largest arguments, in bytes of JSON. Default: 1 MiB; at most 16 MiB.
    #[must_use]
    pub fn with_argument_bytes(self, bytes: usize) -> Self {
        self.change(|tool| tool.argument_bytes = bytes)
    }

    /// Sets the largest result, in bytes of JSON. Default: 16 MiB.
    #[must_use]
    pub fn with_result_bytes(self, bytes: usize) -> Self {
        self.change(|tool| tool.result_bytes = bytes)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it does, for the script's author: the docstring.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.0.description
    }

    /// The JSON Schema of its arguments, an object; `None` if nothing is known of them.
    #[must_use]
    pub fn parameters(&self) -> Option<&Value> {
        self.0.parameters.as_ref()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.calls
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    pub(crate) fn argument_bytes(&self) -> usize {
        self.0.argument_bytes
    }

    pub(crate) fn call(&self, arguments: Box<RawValue>) -> Answering {
        (self.0.function)(arguments, self.0.result_bytes)
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Why a call of a tool has no value.
///
/// Any error becomes one by `?`, and the script is told only that the tool failed. Only the text of one that is made by
/// [`public`](Self::public) is shown to the script.
#[derive(Debug)]
pub struct ToolError {
    pub(crate) why: Why,
    pub(crate) message: String,
}

/// The kinds of failure a script can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its own failure, whose text the script may see.
    Public,
    /// Its own failure, or a panic: not for the script.
    Internal,
    Timeout,
    Arguments,
    Budget,
    Unknown,
    TooLarge,
}

impl Why {
    /// The name the script knows it by.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public | Self::Internal => "failed",
            Self::Timeout => "timeout",
            Self::Arguments => "arguments",
            Self::Budget => "budget",
            Self::Unknown => "unknown",
            Self::TooLarge => "too-large",
        }
    }
}

impl ToolError {
    /// A failure whose text the script may see.
    #[must_use]
    pub fn public(message: impl Into<String>) -> Self {
        Self::about(Why::Public, message)
    }

    /// A failure the script learns nothing about. The text is for the host: see [`ToolUse::last_error`].
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::about(Why::Internal, message)
    }

    /// The tool takes other arguments. The script sees the text, and may take it for a `TypeError`.
    #[must_use]
    pub fn arguments(message: impl Into<String>) -> Self {
        Self::about(Why::Arguments, message)
    }

    pub(crate) fn about(why: Why, message: impl Into<String>) -> Self {
        Self { why, message: message.into() }
    }
}

impl<E: std::error::Error> From<E> for ToolError {
    fn from(error: E) -> Self {
        Self::internal(error.to_string())
    }
}

/// How a run used one of its tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolUse {
    /// The tool's name.
    pub name: String,
    /// Calls the script made.
    pub calls: u64,
    /// Of them, those that came to no value, whatever the reason.
    pub failed: u64,
    /// The text of the last failure, also where the script was not told it. For the host only.
    pub last_error: Option<String>,
}

/// The tools of a run: names are different, and names that Python can write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools(Arc<[Tool]>);

impl Tools {
    /// # Errors
    /// [`EngineError::InvalidJob`] for a name that is none, or stands twice, and for too many.
    pub(crate) fn new(tools: &[Tool]) -> Result<Self, EngineError> {
        let invalid = |reason: String, hint: &str| Err(EngineError::InvalidJob { reason, hint: Some(hint.into()) });
        if tools.len() > MOST_TOOLS {
            return invalid(format!("{} tools are too many", tools.len()), "give a run at most 256");
        }
        for (at, tool) in tools.iter().enumerate() {
            let name = tool.name();
            if !is_name(name) {
                return invalid(
                    format!("`{}` cannot be the name of a tool", name.escape_debug()),
                    "a tool's name is a Python name of at most 64 ASCII letters, digits and underscores, without an underscore in front, and no keyword",
                );
            }
            if tools.iter().take(at).any(|other| other.name() == name) {
                return invalid(format!("there are two tools called `{name}`"), "rename one of them");
            }
        }
        Ok(Self(tools.into()))
    }

    pub(crate) fn as_slice(&self) -> &[Tool] {
        &self.0
    }

    /// What a job's digest holds of them; `None` if there are none.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        if self.0.is_empty() {
            return None;
        }
        let mut fields = Fields::default();
        fields.text("capibara tools");
        for tool in &*self.0 {
            fields.text(tool.name());
            fields.text(tool.description());
            fields.text(&tool.parameters().map(Value::to_string).unwrap_or_default());
            fields.number(tool.calls());
        }
        Some(fields.digest())
    }

    /// What the guest is told of them.
    pub(crate) fn listed(&self) -> Value {
        let listed = self.0.iter().map(|tool| {
            serde_json::json!({"name": tool.name(), "description": tool.description(), "parameters": tool.parameters()})
        });
        listed.collect()
    }
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first && rest && name.len() <= LONGEST_NAME && !RESERVED.contains(&name)
}

/// JSON of at most so many bytes.
fn to_json(value: &impl Serialize, most: usize) -> Result<Vec<u8>, ToolError> {
    /// Takes no more than it may.
    struct Bounded {
        bytes: Vec<u8>,
        most: usize,
        full: bool,
    }
    impl io::Write for Bounded {
        fn write(&mut self, more: &[u8]) -> io::Result<usize> {
            if self.bytes.len().saturating_add(more.len()) > self.most {
                self.full = true;
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            self.bytes.extend_from_slice(more);
            Ok(more.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut to = Bounded { bytes: Vec::new(), most, full: false };
    match serde_json::to_writer(&mut to, value) {
        Ok(()) => Ok(to.bytes),
        Err(_) if to.full => Err(ToolError::about(Why::TooLarge, format!("its result is larger than {most} bytes"))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Tool {
        Tool::dynamic(name, "", None, |value| async move { Ok::<_, ToolError>(value) })
    }

    #[test]
    fn names_are_what_python_can_write() {
        for good in ["f", "get_user2", "A"] {
            assert!(Tools::new(&[named(good)]).is_ok(), "{good}");
        }
        for bad in ["", "_f", "2f", "a-b", "class", "aio", "é", "a b", &"x".repeat(65)] {
            let error = Tools::new(&[named(bad)]).unwrap_err();
            assert!(error.to_string().contains("cannot be the name of a tool"), "{bad}: {error}");
        }
        let error = Tools::new(&[named("f"), named("g"), named("f")]).unwrap_err();
        assert!(error.to_string().contains("two tools called `f`"), "{error}");
    }

    #[test]
    fn results_are_bounded() {
        assert_eq!(to_json(&"abc", 5).unwrap(), b"\"abc\"");
        assert_eq!(to_json(&"abcd", 5).unwrap_err().why, Why::TooLarge);
    }
}
