//! Sessions: an interpreter that goes on between turns.

use std::fmt;
use std::sync::Arc;

use capibara_policies::{Limits, Policy, Verdict};

use crate::artifacts::Artifact;
use crate::cancel::Canceler;
use crate::changes::Changes;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::fence::{self, Guest, Turns};
use crate::job::{Epoch, Job, Script, nobody};
use crate::language::Language;
use crate::outcome::Outcome;
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
            caller: nobody(),
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

/// An interpreter that goes on between turns: variables, imports, functions, files, clock and randomness live on.
///
/// Each turn is scanned as a script is, and runs under the limits on its own. A Python exception, or `sys.exit`, ends the turn and
/// not the session. A turn that is stopped by a limit, breaks down, is canceled or dropped ends the session: its memory
/// may be in the middle of anything. Between turns a session takes no thread, no stack and three memory mappings.
///
/// ```no_run
/// # use capibara::{Engine, EngineConfig, SessionConfig};
/// let engine = Engine::new(EngineConfig::default())?;
/// let mut session = engine.session(SessionConfig::default())?;
/// session.run_blocking("x = 6")?;
/// assert_eq!(session.run_blocking("print(x * 7)")?.stdout.text(), "42\n");
/// # Ok::<(), capibara::EngineError>(())
/// ```
pub struct Session {
    engine: Engine,
    config: SessionConfig,
    turns: Turns,
    canceler: Canceler,
}

impl Session {
    pub(crate) fn new(
        engine: Engine,
        guest: Arc<Guest>,
        config: SessionConfig,
        opened: Vec<HostGrant>,
    ) -> Result<Self, EngineError> {
        let turns = Turns::new(guest, &config, opened)?;
        Ok(Self { engine, config, turns, canceler: Canceler::new() })
    }

    /// Runs a turn: scans the code and, if the policy does not deny it, runs it where the last turn left off. A turn that
    /// is denied changes nothing.
    ///
    /// # Errors
    /// [`EngineError::SessionEnded`] after a turn that did not end by itself; otherwise as [`Engine::run`].
    pub async fn run(&mut self, code: impl Into<String>) -> Result<Outcome, EngineError> {
        let SessionConfig { language, policy, limits, live, caller, .. } = &self.config;
        let mut job = Job::under(policy.clone(), Script::Code(code.into()));
        (job.language, job.limits, job.live) = (*language, limits.clone(), *live);
        let scan = self.engine.scan(&job);
        if scan.verdict == Verdict::Deny {
            return Ok(fence::denied(job, scan));
        }
        let Script::Code(code) = &scan.script else {
            return Err(EngineError::contract("the scan of a turn holds no code"));
        };
        let _place = self.engine.place(caller).await?;
        let run = self.turns.run(code, &scan, &self.config, &self.canceler, self.engine.timer());
        run.await?.ok_or(EngineError::SessionEnded { reason: "a turn was stopped and could not be undone" })
    }

    /// Runs a turn on this thread to its end.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_blocking(&mut self, code: impl Into<String>) -> Result<Outcome, EngineError> {
        let engine = self.engine.clone();
        engine.block_on(self.run(code))
    }

    /// The files that lie in `/out` now, sorted by path, as far as they come to no more than the limit `bytes_written` together.
    /// They are copied. None once the session has ended.
    #[must_use]
    pub fn artifacts(&mut self) -> Vec<Artifact> {
        self.turns.artifacts(&self.config.limits)
    }

    /// What the turns so far changed below overlays. Applying it leaves the session as it is: it goes on with what it saw.
    /// None once the session has ended.
    #[must_use]
    pub fn changes(&mut self) -> Changes {
        self.turns.changes(&self.config.limits)
    }

    /// A handle that stops the turn under way, and ends the session.
    #[must_use]
    pub fn canceler(&self) -> Canceler {
        self.canceler.clone()
    }

    /// Bytes of linear memory it holds between turns, most of them shared with the runtime's image. 0 before the first turn.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.turns.memory_bytes()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("config", &self.config).finish_non_exhaustive()
    }
}
