//! Sessions: an interpreter that goes on between turns.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capibara_policies::{Limits, Policy, Verdict};

use crate::artifacts::Artifact;
use crate::cancel::Canceler;
use crate::changes::{Applied, Changes};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::events::EventSink;
use crate::fence::{self, Guest, TurnJob, Turns};
use crate::job::{Epoch, Job, Script, nobody};
use crate::language::Language;
use crate::outcome::{Outcome, Usage};
use crate::scan::Scan;
use crate::stream::OutputSink;
use crate::tools::Tool;
use crate::world::HostGrant;

/// What a session is opened with. Starts as a [`Job`] does: under the preset `moderate`, with nothing granted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionConfig {
    /// The guest language. Default: Python.
    pub language: Language,
    /// What each turn is scanned against, and what the session is granted.
    pub policy: Arc<Policy>,
    /// The bounds of each turn; of files, descriptors and bytes written, those of all turns together. Default: the policy's.
    pub limits: Limits,
    /// Where the clock starts; drawn from the host's clock when `None`.
    pub epoch: Option<Epoch>,
    /// Where randomness starts; drawn from the system when `None`.
    pub seed: Option<u128>,
    /// Real clocks, real sleeps and system randomness, without fuel. Default: false.
    pub live: bool,
    /// What all turns together may use, also those that were undone. Default: no bounds.
    pub total: Totals,
    /// Functions of the host its turns may call, as `capibara.tools`. Default: none.
    pub tools: Vec<Tool>,
    /// Who asks for the turns, see [`Job::caller`].
    pub caller: Arc<str>,
}

impl SessionConfig {
    /// A session under that policy.
    #[must_use]
    pub fn new(policy: impl Into<Arc<Policy>>) -> Self {
        let policy = policy.into();
        Self {
            language: Language::Python,
            limits: policy.limits.clone(),
            policy,
            epoch: None,
            seed: None,
            live: false,
            total: Totals::default(),
            tools: Vec::new(),
            caller: nobody(),
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

/// What all turns of a session may use together; `None` is no bound. A turn that was dropped, or failed, counts with its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Fuel units. A live session counts none.
    pub fuel: Option<u64>,
    /// Real time of turns, and what they slept.
    pub wall_time: Option<Duration>,
    /// Bytes printed on both streams.
    pub output: Option<u64>,
    /// Turns that were run.
    pub turns: Option<u64>,
}

impl Totals {
    /// Limits that a turn may not pass, when so much was used before it.
    ///
    /// # Errors
    /// What is used up.
    fn narrow(&self, limits: &mut Limits, used: &Totals) -> Result<(), &'static str> {
        let left = |total: Option<u64>, used: Option<u64>| total.map(|total| total.saturating_sub(used.unwrap_or(0)));
        if left(self.turns, used.turns) == Some(0) {
            return Err("it has had all the turns it may have");
        }
        if let Some(left) = left(self.fuel, used.fuel) {
            if left == 0 {
                return Err("the fuel of all its turns is used up");
            }
            limits.fuel = Some(limits.fuel.map_or(left, |fuel| fuel.min(left)));
        }
        if let Some(left) = self.wall_time.map(|total| total.saturating_sub(used.wall_time.unwrap_or_default())) {
            if left.is_zero() {
                return Err("the time of all its turns is used up");
            }
            limits.wall_time = limits.wall_time.min(left);
        }
        if let Some(left) = left(self.output, used.output) {
            limits.output = limits.output.min(left);
        }
        Ok(())
    }

    fn add(&mut self, usage: &Usage) {
        let sum = |total: &mut Option<u64>, more: u64| *total = Some(total.unwrap_or(0).saturating_add(more));
        sum(&mut self.turns, 1);
        sum(&mut self.fuel, usage.fuel.unwrap_or(0));
        sum(&mut self.output, usage.output_bytes);
        let time = self.wall_time.unwrap_or_default();
        self.wall_time = Some(time.saturating_add(usage.wall_time).saturating_add(usage.slept));
    }
}

/// One turn of a session.
pub struct Turn {
    /// Python code. It may `await` at its top level; the value of a last line that is an expression is [`Outcome::value`].
    pub code: String,
    /// The bounds of this turn; the session's when `None`. They cannot raise what counts for all turns together: files,
    /// descriptors and bytes written.
    pub limits: Option<Limits>,
    /// Receives output while it is written. Default: none.
    pub sink: Option<Box<dyn OutputSink>>,
    /// Is told what happens while it happens. Default: none.
    pub events: Option<Box<dyn EventSink>>,
    /// Whether output is kept for the [`Outcome`]. Default: true.
    pub capture: bool,
    /// Where the code comes from, to be shown in findings. Default: nothing.
    pub origin: Option<String>,
}

impl Turn {
    /// A turn that runs that code.
    #[must_use]
    pub fn new(code: impl Into<String>) -> Self {
        Self { code: code.into(), limits: None, sink: None, events: None, capture: true, origin: None }
    }

    /// Sets its limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Sends output to `sink` while it is written.
    #[must_use]
    pub fn with_sink(mut self, sink: impl OutputSink + 'static) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Tells `sink` what happens while it happens, as [`Job::with_events`] does.
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

    /// Says where the code comes from.
    #[must_use]
    pub fn with_origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }
}

impl<T: Into<String>> From<T> for Turn {
    fn from(code: T) -> Self {
        Self::new(code)
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("code", &self.code).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// An interpreter that goes on between turns: variables, imports, functions, files, clock and randomness live on.
///
/// Each turn is scanned as a script is, and runs under the limits on its own. A turn is a transaction: if it ends by itself, also by
/// a Python exception or `sys.exit`, what it did is kept. If it is stopped by a limit, breaks down, is canceled or
/// dropped, the session is exactly what it was before it: memory, files, clock and randomness. So it is where it ends by `os._exit`,
/// in the middle of itself. What it wrote to files of the host, and the calls of tools it made, are not undone. Between turns a session takes no thread, no stack and three memory
/// mappings.
///
/// ```no_run
/// # use capibara::{Engine, EngineConfig, SessionConfig};
/// let engine = Engine::new(EngineConfig::default())?;
/// let mut session = engine.session(SessionConfig::default())?;
/// session.run_blocking("x = 6")?;
/// assert_eq!(session.run_blocking("x * 7")?.value.unwrap().text, "42");
/// # Ok::<(), capibara::EngineError>(())
/// ```
pub struct Session {
    engine: Engine,
    config: SessionConfig,
    turns: Turns,
    canceler: Canceler,
    used: Totals,
}

/// The bounds of what a session is asked besides its turns.
const ASKED_FUEL: u64 = 2_000_000_000;
const ASKED_TIME: Duration = Duration::from_secs(2);
/// Names that completion comes to, at most.
const MOST_NAMES: usize = 200;

impl Session {
    pub(crate) fn new(
        engine: Engine,
        guest: Arc<Guest>,
        config: SessionConfig,
        opened: Vec<HostGrant>,
    ) -> Result<Self, EngineError> {
        let turns = Turns::new(guest, &config, opened)?;
        Ok(Self { engine, config, turns, canceler: Canceler::new(), used: Totals::default() })
    }

    /// Runs a turn: scans the code and, if the policy does not deny it, runs it where the last turn left off. A turn that
    /// is denied changes nothing.
    ///
    /// # Errors
    /// [`EngineError::SessionEnded`] when a total is used up, or the system did not let a turn be undone; otherwise as
    /// [`Engine::run`]. The session is then what it was before.
    pub async fn run(&mut self, turn: impl Into<Turn>) -> Result<Outcome, EngineError> {
        let Turn { code, limits, sink, events, capture, origin } = turn.into();
        let mut job = self.job(code);
        job.origin = origin;
        if let Some(limits) = limits {
            job.limits = limits;
        }
        self.config.total.narrow(&mut job.limits, &self.used).map_err(|reason| EngineError::SessionEnded { reason })?;
        let scan = self.engine.scan(&job);
        if scan.verdict == Verdict::Deny {
            return Ok(fence::denied(job, scan));
        }
        let Script::Code(code) = &scan.script else {
            return Err(EngineError::contract("the scan of a turn holds no code"));
        };
        let _place = self.engine.place(&self.config.caller).await?;
        self.canceler.reset();
        let begun = Begun { used: &mut self.used, at: Instant::now() };
        let turn = TurnJob {
            code,
            scan: &scan,
            limits: &job.limits,
            sink,
            events,
            capture,
            canceler: &self.canceler,
            timer: self.engine.timer(),
            undo: false,
        };
        let outcome = self.turns.run(turn, &self.config).await?;
        let outcome = outcome.ok_or(EngineError::SessionEnded { reason: LOST })?;
        begun.ended(&outcome);
        Ok(outcome)
    }

    /// Runs a turn on this thread to its end.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_blocking(&mut self, turn: impl Into<Turn>) -> Result<Outcome, EngineError> {
        let engine = self.engine.clone();
        engine.block_on(self.run(turn))
    }

    /// The files that lie in `/out` now, sorted by path, as far as they come to no more than the limit `bytes_written` together.
    /// Their digests are kept with them until the next time: what no turn wrote to since is not read again.
    #[must_use]
    pub fn artifacts(&mut self) -> Vec<Artifact> {
        self.turns.artifacts(&self.config.limits)
    }

    /// The paths of files in `/out` that are not among the [artifacts](Self::artifacts), see
    /// [`Outcome::artifacts_left_out`].
    #[must_use]
    pub fn artifacts_left_out(&mut self) -> Vec<String> {
        self.turns.artifacts_left_out(&self.config.limits)
    }

    /// What the turns so far changed below overlays, and [`apply`](Self::apply) has not made. Applying this value itself leaves
    /// the session as it is: for it, these changes go on to be changes.
    #[must_use]
    pub fn changes(&mut self) -> Changes {
        self.turns.changes(&self.config.limits)
    }

    /// Makes what the turns changed below overlays on the host, as [`Changes::apply`] does. What was made is no change any
    /// more, and later turns may change it again.
    #[must_use]
    pub fn apply(&mut self) -> Applied {
        self.turns.apply(&self.config.limits)
    }

    fn job(&self, code: String) -> Job {
        let SessionConfig { language, policy, limits, live, tools, caller, .. } = &self.config;
        let mut job = Job::under(policy.clone(), Script::Code(code));
        (job.language, job.limits, job.live) = (*language, limits.clone(), *live);
        (job.tools, job.caller) = (tools.clone(), caller.clone());
        job
    }

    /// Names and attributes of the live session that begin with `text`, as `os.pa`: at most 200, in no particular order.
    /// Looking for them changes nothing in the session; it may run code of the session (`__getattr__`), which may not call tools then.
    ///
    /// # Errors
    /// As [`run`](Self::run). Where looking takes long or fails, there are none.
    pub fn complete_blocking(&mut self, text: &str) -> Result<Vec<String>, EngineError> {
        let engine = self.engine.clone();
        engine.block_on(self.complete(text))
    }

    /// As [`complete_blocking`](Self::complete_blocking).
    ///
    /// # Errors
    /// As there.
    pub async fn complete(&mut self, text: &str) -> Result<Vec<String>, EngineError> {
        const LONGEST: usize = 1000;
        let quoted = quoted(text, LONGEST);
        let names = self
            .ask(format!("complete('{quoted}', {MOST_NAMES})"))
            .await?
            .and_then(|text| serde_json::from_str::<Vec<String>>(&text).ok());
        let mut names = names.unwrap_or_default();
        names.truncate(MOST_NAMES);
        Ok(names)
    }

    /// Whether Python would wait for more lines if this was typed: an open bracket or string, or a block that no empty line
    /// ends. What it does not understand it does not wait for.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn is_incomplete(&mut self, code: &str) -> Result<bool, EngineError> {
        let call = format!("is_incomplete('{}')", quoted(code, usize::MAX));
        Ok(self.ask(call).await?.is_some_and(|text| text == "True"))
    }

    /// As [`is_incomplete`](Self::is_incomplete), on this thread.
    ///
    /// # Errors
    /// As there.
    pub fn is_incomplete_blocking(&mut self, code: &str) -> Result<bool, EngineError> {
        let engine = self.engine.clone();
        engine.block_on(self.is_incomplete(code))
    }

    /// The value of a call of the guest's module for sessions, which is undone.
    async fn ask(&mut self, call: String) -> Result<Option<String>, EngineError> {
        let code = format!("__import__('capibara._session', fromlist=['']).{call}");
        let mut job = self.job(code.clone());
        job.limits.wall_time = job.limits.wall_time.min(ASKED_TIME);
        job.limits.fuel = Some(job.limits.fuel.map_or(ASKED_FUEL, |fuel| fuel.min(ASKED_FUEL)));
        self.canceler.reset();
        let turn = TurnJob {
            code: &code,
            scan: &Arc::new(Scan::none(&job)),
            limits: &job.limits,
            sink: None,
            events: None,
            capture: false,
            canceler: &self.canceler,
            timer: self.engine.timer(),
            undo: true,
        };
        let outcome = self.turns.run(turn, &self.config).await?;
        let outcome = outcome.ok_or(EngineError::SessionEnded { reason: LOST })?;
        Ok(outcome.value.map(|value| value.text))
    }

    /// A handle that stops the turn under way, which is undone. Between turns it does nothing.
    #[must_use]
    pub fn canceler(&self) -> Canceler {
        self.canceler.clone()
    }

    /// Regular files in memory below an absolute directory, as the last turn left them: paths relative to it, sorted.
    pub fn files(&mut self, dir: &str) -> Vec<(String, Arc<[u8]>)> {
        self.turns.files(dir)
    }

    /// What it was opened with.
    #[must_use]
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// What all turns so far have used.
    #[must_use]
    pub fn used(&self) -> Totals {
        self.used
    }

    /// How many turns were kept: those that ended by themselves, but for `os._exit`.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.turns.kept()
    }

    /// Bytes of linear memory it holds between turns, most of them shared with the runtime's image. 0 before the first turn.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.turns.memory_bytes()
    }
}

/// A turn that has begun. One that comes to no outcome (it was dropped, or failed) counts, too, with the time it took.
struct Begun<'a> {
    used: &'a mut Totals,
    at: Instant,
}

impl Begun<'_> {
    fn ended(self, outcome: &Outcome) {
        self.used.add(&outcome.usage);
        std::mem::forget(self);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.used.add(&Usage { wall_time: self.at.elapsed(), ..Usage::default() });
    }
}

/// The inside of a Python string of at most so many characters of the text.
fn quoted(text: &str, most: usize) -> String {
    text.chars().take(most).fold(String::new(), |mut quoted, c| {
        if c.is_ascii_alphanumeric() {
            quoted.push(c);
        } else {
            quoted += &format!("\\U{:08x}", u32::from(c));
        }
        quoted
    })
}

/// Why a session ends whose memory could not be put back.
const LOST: &str = "a turn was stopped and could not be undone";

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("config", &self.config).finish_non_exhaustive()
    }
}
