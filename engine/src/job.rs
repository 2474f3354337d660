//! What to run: a script and everything its run depends on.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use capibara_policies::{Limits, Policy};

use crate::cancel::Canceler;
use crate::events::EventSink;
use crate::grant::Grant;
use crate::language::Language;
use crate::modules::ScriptModule;
use crate::stream::{OutputSink, Stdin};
use crate::tools::Tool;

/// The script itself and the way it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Script {
    /// A file. The script sees itself as `/script/<name>`.
    File {
        /// File name, without a directory.
        name: String,
        /// Its bytes. For Python: UTF-8, or what its coding cookie says. For WebAssembly: a module or its text form.
        source: Arc<[u8]>,
    },
    /// Code given by itself, as with `python -c`.
    Code(String),
    /// A script that came by standard input, as with `python -`.
    StandardInput(String),
    /// A module of the standard library, as with `python -m`.
    Module(String),
}

/// The moment at which a run's clock starts: nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// From nanoseconds since 1970.
    #[must_use]
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The present moment.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A text that is not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a moment from 1970 to 2261: write for example `2026-01-31T12:00:00Z`")]
pub struct EpochError {
    text: String,
}

/// The last moment a clock may start at: 2261-01-01T00:00:00Z. Python counts nanoseconds in 63 bits, until April 2262.
const LATEST_EPOCH_NANOS: u64 = 9_183_110_400_000_000_000;

impl FromStr for Epoch {
    type Err = EpochError;

    /// Reads RFC 3339, `2026-01-31T12:00:00Z` or with an offset.
    fn from_str(text: &str) -> Result<Self, EpochError> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .and_then(|t| u64::try_from(t.as_nanosecond()).ok())
            .filter(|nanos| *nanos <= LATEST_EPOCH_NANOS)
            .map(Self)
            .ok_or_else(|| EpochError { text: text.into() })
    }
}

impl fmt::Display for Epoch {
    /// RFC 3339 in UTC, with as many digits as are needed to name the same moment again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => write!(f, "{} ns after 1970", self.0),
        }
    }
}

/// One run: the script and everything it depends on.
///
/// Starts from nothing: no arguments, no environment, standard input closed, the limits of the preset `moderate`,
/// output captured. Clock and randomness are drawn when the run starts, unless [`epoch`](Self::epoch) and
/// [`seed`](Self::seed) pin them; equal jobs then give equal bytes and equal fuel.
///
/// ```
/// use capibara::Job;
/// let job = Job::python("print(6 * 7)").with_seed(1).with_args(["a", "b"]);
/// assert_eq!(job.args, ["a", "b"]);
/// ```
pub struct Job {
    /// The guest language. Default: Python.
    pub language: Language,
    /// The script.
    pub script: Script,
    /// Modules the script brings from its own folder, see [`script_modules`](crate::script_modules). Default: none.
    pub modules: Vec<ScriptModule>,
    /// Path of the script to show in findings. It changes nothing about the run. Default: the script's name.
    pub origin: Option<String>,
    /// What the script is scanned against before it runs. Default: the preset `moderate`.
    pub policy: Arc<Policy>,
    /// What follows the script on its command line.
    pub args: Vec<String>,
    /// Environment variables, none by default. A later entry of the same name wins.
    pub env: Vec<(String, String)>,
    /// Files and directories of the host the script may use. Default: none.
    pub grants: Vec<Grant>,
    /// What the script reads on descriptor 0. Default: nothing.
    pub stdin: Stdin,
    /// The bounds of the run.
    pub limits: Limits,
    /// Where the clock starts; drawn from the host's clock when `None`.
    pub epoch: Option<Epoch>,
    /// Where randomness starts; drawn from the system when `None`.
    pub seed: Option<u128>,
    /// Real clocks, real sleeps and system randomness, without fuel. Default: false.
    pub live: bool,
    /// Functions of the host the script may call, as `capibara.tools`. Default: none.
    pub tools: Vec<Tool>,
    /// Receives output while it is written. Default: none.
    pub sink: Option<Box<dyn OutputSink>>,
    /// Hears of the run while it goes on: see [`Event`](crate::Event). Default: none.
    pub events: Option<Box<dyn EventSink>>,
    /// Whether output is kept for the [`Outcome`](crate::Outcome). Default: true.
    pub capture: bool,
    /// Who asks for the run: callers that wait for a place take turns, see [`Queue`](crate::Queue). It changes nothing
    /// about the run. Default: nobody in particular.
    pub caller: Arc<str>,
    pub(crate) canceler: Canceler,
}

/// The variables a policy gives.
pub(crate) fn env_of(policy: &Policy) -> impl Iterator<Item = (String, String)> {
    policy.grants.env.iter().map(|(name, value)| (name.clone(), value.clone()))
}

/// The caller of jobs that name none.
pub(crate) fn nobody() -> Arc<str> {
    static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
    NOBODY.clone()
}

impl Job {
    /// A job for that script in Python, under the policy `moderate`.
    #[must_use]
    pub fn new(script: Script) -> Self {
        static DEFAULT: LazyLock<Arc<Policy>> = LazyLock::new(Arc::default);
        Self::under(DEFAULT.clone(), script)
    }

    /// A job for that script in Python, under that policy.
    #[must_use]
    pub fn under(policy: Arc<Policy>, script: Script) -> Self {
        Self {
            language: Language::Python,
            script,
            modules: Vec::new(),
            origin: None,
            args: Vec::new(),
            env: env_of(&policy).collect(),
            grants: Grant::of_policy(&policy),
            stdin: Stdin::Closed,
            limits: policy.limits.clone(),
            policy,
            epoch: None,
            seed: None,
            live: false,
            tools: Vec::new(),
            sink: None,
            events: None,
            capture: true,
            caller: nobody(),
            canceler: Canceler::new(),
        }
    }

    /// Python code, run as with `python -c`.
    #[must_use]
    pub fn python(code: impl Into<String>) -> Self {
        Self::new(Script::Code(code.into()))
    }

    /// A script file: its name (no directory) and its bytes.
    #[must_use]
    pub fn file(name: impl Into<String>, source: impl Into<Arc<[u8]>>) -> Self {
        Self::new(Script::File { name: name.into(), source: source.into() })
    }

    /// A WebAssembly program: its file name (no directory) and its bytes, a module or its text form.
    #[must_use]
    pub fn wasm(name: impl Into<String>, program: impl Into<Arc<[u8]>>) -> Self {
        Self { language: Language::Wasm, ..Self::file(name, program) }
    }

    /// Sets the script's arguments.
    #[must_use]
    pub fn with_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Lets the script use a file or directory of the host.
    ///
    /// ```
    /// use capibara::{Grant, Job};
    /// let job = Job::python("print(open('/data/a.csv').read())").with_grant(Grant::read("data"));
    /// assert_eq!(job.grants.len(), 1);
    /// ```
    #[must_use]
    pub fn with_grant(mut self, grant: Grant) -> Self {
        self.grants.push(grant);
        self
    }

    /// Sets what the script reads on standard input.
    #[must_use]
    pub fn with_stdin(mut self, stdin: impl Into<Stdin>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Lets the script read a pipe, file, socket or terminal of the host, as far as it asks.
    #[must_use]
    pub fn with_stdin_file(mut self, file: std::fs::File) -> Self {
        self.stdin = Stdin::Host(file);
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the policy the script is scanned against, and takes its limits, and what it grants beside what was granted
    /// before.
    #[must_use]
    pub fn with_policy(mut self, policy: impl Into<Arc<Policy>>) -> Self {
        self.policy = policy.into();
        self.limits = self.policy.limits.clone();
        self.grants.extend(Grant::of_policy(&self.policy));
        self.env.extend(env_of(&self.policy));
        self
    }

    /// Brings modules of the script's own folder.
    #[must_use]
    pub fn with_modules(mut self, modules: impl IntoIterator<Item = ScriptModule>) -> Self {
        self.modules.extend(modules);
        self
    }

    /// Pins the start of the clock.
    #[must_use]
    pub fn with_epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Pins the start of randomness.
    #[must_use]
    pub fn with_seed(mut self, seed: u128) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Chooses real clocks, real sleeps and system randomness.
    #[must_use]
    pub fn with_live(mut self, live: bool) -> Self {
        self.live = live;
        self
    }

    /// Lets the script call a function of the host.
    #[must_use]
    pub fn with_tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Sends output to `sink` while it is written.
    #[must_use]
    pub fn with_sink(mut self, sink: impl OutputSink + 'static) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Tells `sink` what happens in the run.
    ///
    /// ```
    /// use capibara::{Event, Job};
    /// let job = Job::python("print(6 * 7)").with_events(|event| match event {
    ///     Event::Started { runtime, .. } => println!("on {}", runtime.name),
    ///     Event::Usage { usage, .. } => println!("{:?} so far", usage.wall_time),
    ///     _ => {}
    /// });
    /// # drop(job);
    /// ```
    #[must_use]
    pub fn with_events(mut self, sink: impl EventSink + 'static) -> Self {
        self.events = Some(Box::new(sink));
        self
    }

    /// Whether output is kept for the outcome as well.
    #[must_use]
    pub fn with_capture(mut self, capture: bool) -> Self {
        self.capture = capture;
        self
    }

    /// Says who asks for the run.
    #[must_use]
    pub fn with_caller(mut self, caller: impl Into<Arc<str>>) -> Self {
        self.caller = caller.into();
        self
    }

    /// A handle that stops this run from elsewhere.
    #[must_use]
    pub fn canceler(&self) -> Canceler {
        self.canceler.clone()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("language", &self.language)
            .field("args", &self.args)
            .field("grants", &self.grants)
            .field("limits", &self.limits)
            .field("epoch", &self.epoch)
            .field("seed", &self.seed)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_read_and_written_back() {
        let epoch: Epoch = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(epoch.as_nanos(), 1_769_860_800_000_000_000);
        assert_eq!(epoch.to_string(), "2026-01-31T12:00:00Z");
        assert_eq!("2026-01-31T13:00:00+01:00".parse::<Epoch>().unwrap(), epoch);
        let fine = Epoch::from_nanos(1_769_860_800_123_456_789);
        assert_eq!(fine.to_string().parse::<Epoch>().unwrap(), fine);
        for bad in ["", "yesterday", "2026-01-31", "1960-01-01T00:00:00Z", "2262-01-01T00:00:00Z"] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad}");
        }
    }
}
