//! Turns of a session: the same World and memory, a new store and instance for each.

use std::sync::Arc;
use std::time::Instant;

use super::guest::{Guest, Start};
use super::wasm::{Bounds, Drawn, Named, Work, check, execute, quotas};
use crate::cancel::Canceler;
use crate::error::EngineError;
use crate::fields::Fields;
use crate::identity::Identity;
use crate::image::KeptMemory;
use crate::job::{Script, env_of};
use crate::outcome::{Digest, Outcome, Status};
use crate::scan::Scan;
use crate::session::SessionConfig;
use crate::stream::Stdin;
use crate::timer::Timer;
use crate::world::{ClockConfig, HostGrant, RandomConfig, TurnConfig, World, WorldConfig};

/// What turns leave for the next one.
pub(crate) struct Turns {
    guest: Arc<Guest>,
    memory: KeptMemory,
    /// `None` during a turn, and after one that did not end by itself.
    world: Option<World>,
    drawn: Drawn,
    granted: Vec<(String, bool)>,
    env: Vec<(String, String)>,
    /// Digest of all turns so far.
    past: Option<Digest>,
    files_written: u64,
    bytes_written: u64,
}

impl Turns {
    pub(crate) fn new(guest: Arc<Guest>, config: &SessionConfig, opened: Vec<HostGrant>) -> Result<Self, EngineError> {
        let memory = match &guest.start {
            Start::Runtime(runtime) => runtime.kept_memory(),
            Start::Program { .. } => None,
        };
        let memory = memory.ok_or_else(|| EngineError::contract("it has no sessions"))?;
        let drawn = Drawn::of(config.epoch, config.seed)?;
        let granted = opened.iter().map(|grant| (grant.guest.clone(), grant.writable)).collect();
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
            world: Some(world),
            drawn,
            granted,
            env,
            past: None,
            files_written: 0,
            bytes_written: 0,
        })
    }

    /// Bytes of linear memory between turns.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Runs a turn. `None` if there can be none any more.
    pub(crate) async fn run(
        &mut self,
        code: &str,
        scan: &Arc<Scan>,
        config: &SessionConfig,
        canceler: &Canceler,
        timer: &Arc<Timer>,
    ) -> Result<Option<Outcome>, EngineError> {
        let (limits, live) = (&config.limits, config.live);
        let bounds = Bounds::new(limits, canceler, timer);
        check(&self.guest, limits, code.as_bytes())?;
        let Some(mut world) = self.world.take() else { return Ok(None) };
        world.begin_turn(TurnConfig {
            sink: None,
            capture: true,
            output: limits.output,
            deadline: bounds.deadline,
            sleep_limit: limits.wall_time,
        });
        let work = Work::Turn { source: code.as_bytes(), memory: &self.memory };
        let mut ran = execute(&self.guest, world, None, &bounds, work, None).await?;
        ran.count_from(&mut self.files_written, &mut self.bytes_written);
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
        }
        .digest();
        let job_sha256 = after(self.past, turn);
        self.past = Some(job_sha256);
        let named = Named { job_sha256, epoch: self.drawn.epoch, seed: self.drawn.seed, live };
        let (outcome, world) = ran.outcome(&self.guest, limits, scan.clone(), named);
        // Otherwise its memory may be in the middle of anything.
        self.world = matches!(outcome.status, Status::Completed { .. }).then_some(world);
        Ok(Some(outcome))
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
