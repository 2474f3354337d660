//! Turns of a session: a new store and instance for each, on the memory and in the World that the last one left.
//!
//! A turn is a transaction. It works on a copy of the World, and what it does to memory can be undone. If it ends by
//! itself, both are kept; otherwise the session is what it was before.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use capibara_policies::Limits;

use super::calls::Calls;
use super::guest::{Guest, Start};
use super::wasm::{Bounds, Drawn, Named, Work, begin, check, execute, quotas};
use super::watch::unhurried;
use crate::artifacts::Artifact;
use crate::cancel::Canceler;
use crate::changes::{Applied, Changes};
use crate::error::EngineError;
use crate::events::EventSink;
use crate::fields::Fields;
use crate::grant::Access;
use crate::identity::Identity;
use crate::image::KeptMemory;
use crate::job::{Script, env_of};
use crate::outcome::{Digest, Outcome};
use crate::scan::Scan;
use crate::session::SessionConfig;
use crate::stream::{OutputSink, Stdin};
use crate::timer::Timer;
use crate::tools::Tools;
use crate::world::{ClockConfig, HostGrant, RandomConfig, TurnConfig, World, WorldConfig};

/// What turns leave for the next one.
pub(crate) struct Turns {
    guest: Arc<Guest>,
    memory: KeptMemory,
    world: World,
    calls: Arc<Mutex<Calls>>,
    tools_sha256: Option<[u8; 32]>,
    /// Whether a turn was kept that called a tool.
    called: bool,
    drawn: Drawn,
    granted: Vec<(String, Access)>,
    env: Vec<(String, String)>,
    /// Digest of all turns so far.
    past: Option<Digest>,
    files_written: u64,
    bytes_written: u64,
    kept: u64,
    /// What lay in `/out` when somebody asked: digests of what is still the same are known.
    artifacts: Vec<Artifact>,
}

/// What a turn is to do, and what it is held to.
pub(crate) struct TurnJob<'a> {
    pub(crate) code: &'a str,
    pub(crate) scan: &'a Arc<Scan>,
    pub(crate) limits: &'a Limits,
    pub(crate) sink: Option<Box<dyn OutputSink>>,
    pub(crate) events: Option<Box<dyn EventSink>>,
    pub(crate) capture: bool,
    pub(crate) canceler: &'a Canceler,
    pub(crate) timer: &'a Arc<Timer>,
    /// Whether it is undone, however it ends.
    pub(crate) undo: bool,
}

impl Turns {
    pub(crate) fn new(guest: Arc<Guest>, config: &SessionConfig, opened: Vec<HostGrant>) -> Result<Self, EngineError> {
        let memory = match &guest.start {
            Start::Runtime(runtime) => runtime.kept_memory(),
            Start::Program { .. } => None,
        };
        let memory = memory.ok_or_else(|| EngineError::contract("it has no sessions"))?;
        let tools = Tools::new(&config.tools)?;
        let drawn = Drawn::of(config.epoch, config.seed)?;
        let granted = opened.iter().map(|grant| (grant.guest.clone(), grant.access)).collect();
        let env: Vec<_> = env_of(&config.policy).collect();
        let epoch_nanos = drawn.epoch.as_nanos();
        let world = World::new(WorldConfig {
            args: vec!["-c".into()],
            env: env.clone(),
            clock: if config.live { ClockConfig::Live } else { ClockConfig::Virtual { epoch_nanos } },
            random: if config.live { RandomConfig::System } else { RandomConfig::Seeded(drawn.seed) },
            stdin: Stdin::Closed,
            sink: None,
            capture: false,
            quotas: quotas(&config.limits),
            deadline: Instant::now(), // each turn has its own
            files: Vec::new(),
            grants: opened,
        })
        .map_err(|error| EngineError::InvalidJob { reason: error.to_string(), hint: None })?;
        Ok(Self {
            guest,
            memory,
            world,
            tools_sha256: tools.digest(),
            calls: Arc::new(Mutex::new(Calls::new(tools, Some(config.limits.output)))),
            called: false,
            drawn,
            granted,
            env,
            past: None,
            files_written: 0,
            bytes_written: 0,
            kept: 0,
            artifacts: Vec::new(),
        })
    }

    /// Bytes of linear memory between turns.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// How many were kept.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// What lies in `/out`.
    pub(crate) fn artifacts(&mut self, limits: &Limits) -> Vec<Artifact> {
        let files = self.world.artifacts(limits.bytes_written, false).0;
        self.artifacts = Artifact::of(files, &self.artifacts);
        self.artifacts.clone()
    }

    /// What lies in `/out` and is none of them.
    pub(crate) fn artifacts_left_out(&mut self, limits: &Limits) -> Vec<String> {
        self.world.artifacts(limits.bytes_written, false).1
    }

    /// What was changed below overlays.
    pub(crate) fn changes(&mut self, limits: &Limits) -> Changes {
        Changes::of(self.world.changes(limits.bytes_written, false))
    }

    /// Makes what was changed below overlays on the host.
    pub(crate) fn apply(&mut self, limits: &Limits) -> Applied {
        self.changes(limits).apply_and_tell(&mut self.world)
    }

    /// Files in memory below a directory, by path relative to it.
    pub(crate) fn files(&mut self, dir: &str) -> Vec<(String, Arc<[u8]>)> {
        self.world.take_files(dir)
    }

    /// Runs a turn. `None` if there can be none any more.
    pub(crate) async fn run(
        &mut self,
        job: TurnJob<'_>,
        config: &SessionConfig,
    ) -> Result<Option<Outcome>, EngineError> {
        let TurnJob { code, scan, limits, sink, events, capture, canceler, timer, undo: undone } = job;
        let live = config.live;
        let bounds = Bounds::new(limits, canceler, timer);
        check(&self.guest, limits, code.as_bytes())?;
        if self.past.is_some() && self.memory.bytes() == 0 {
            return Ok(None);
        }
        let mut world = self.world.fork();
        world.begin_turn(TurnConfig {
            sink: sink.map(unhurried),
            capture,
            output: limits.output,
            deadline: bounds.deadline,
            sleep_limit: limits.wall_time,
        });
        let undo = self.memory.begin()?;
        // Also where this future is dropped, or execution fails.
        let calls = Uncommitted(&self.calls);
        let work = Work::Turn { source: code.as_bytes(), memory: &self.memory };
        super::calls::lock(&self.calls).refuse_tools(undone);
        let (epoch, seed) = (self.drawn.epoch, self.drawn.seed);
        let reporter = events.map(|sink| begin(sink, &self.guest, &bounds, scan, epoch, seed));
        let mut ran = execute(&self.guest, world, None, &bounds, Some(&self.calls), work, reporter).await?;
        let committed = ran.completed() && !undone;
        calls.done();
        ran.take_calls(Some(&self.calls), committed);
        let (mut files_written, mut bytes_written) = (self.files_written, self.bytes_written);
        ran.count_from(&mut files_written, &mut bytes_written);
        let turn = Identity {
            language: config.language.name(),
            script: &Script::Code(code.to_owned()),
            modules: &[],
            args: &[],
            env: &self.env,
            grants: &self.granted,
            host_sha256: ran.end.host_sha256,
            limits,
            epoch: self.drawn.epoch.as_nanos(),
            seed: self.drawn.seed,
            live,
            stdin_sha256: ran.end.stdin_sha256,
            stdin_bytes: ran.end.stdin_bytes,
            stdin_end: ran.end.stdin_end,
            tools_sha256: self.tools_sha256,
        }
        .digest();
        let job_sha256 = after(self.past, turn);
        let called = self.called || ran.called();
        let named = Named { job_sha256, epoch: self.drawn.epoch, seed: self.drawn.seed, live };
        let (mut outcome, world) = ran.outcome(&self.guest, limits, scan.clone(), named);
        outcome.determined &= !called;
        if committed {
            undo.keep();
            self.world = world;
            self.past = Some(job_sha256);
            self.kept = self.kept.saturating_add(1);
            self.called = called;
            (self.files_written, self.bytes_written) = (files_written, bytes_written);
        }
        Ok(Some(outcome))
    }
}

/// Undoes the calls of a turn, unless it is told that the turn is over.
struct Uncommitted<'a>(&'a Mutex<Calls>);

impl Uncommitted<'_> {
    fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Uncommitted<'_> {
    fn drop(&mut self) {
        super::calls::lock(self.0).end(false);
    }
}

/// A turn depends on all turns before it.
fn after(past: Option<Digest>, turn: Digest) -> Digest {
    let Some(past) = past else { return turn };
    let mut fields = Fields::default();
    fields.text("capibara turn");
    fields.bytes(&past.0);
    fields.bytes(&turn.0);
    Digest(fields.digest())
}
