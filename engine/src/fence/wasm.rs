//! Runs scripts in WebAssembly, in this process: a fresh instance for each, and nothing left of it afterwards.

use std::io::IsTerminal;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capibara_policies::{LimitKind, Limits};
use sha2::{Digest as _, Sha256};
use wasmtime::{Store, TypedFunc, UpdateDeadline};

use super::calls::{self, Calls};
use super::compiled::{Compiled, compiled};
use super::guest::{CallError, Guest, Interpreter, Start};
use super::state::{State, StopError};
use super::stdin::HostStdin;
use super::watch::{Ended, Watch, unhurried};
use crate::artifact::{Metering, STACK_BYTES};
use crate::artifacts::Artifact;
use crate::cancel::Canceler;
use crate::changes::Changes;
use crate::error::EngineError;
use crate::events::{Event, EventSink, Reporter};
use crate::grant::Access;
use crate::identity::Identity;
use crate::image::{KeptMemory, Visit};
use crate::job::{Epoch, Job, Script};
use crate::os;
use crate::outcome::{CancelReason, Captured, Digest, LimitHit, Outcome, Status, Trap, Usage, Value};
use crate::program;
use crate::scan::Scan;
use crate::timer::{Ticking, Timer};
use crate::tools::{ToolUse, Tools};
use crate::world::{
    ClockConfig, Fault, HostGrant, InputEnd, Quotas, RandomConfig, Refused, Stop, World, WorldConfig, WorldEnd,
};

/// Fuel between two looks at clock and canceler: a quarter of a millisecond, and nearly free (guides/python-wasi.md).
const YIELD_INTERVAL: u64 = 3_000_000;
/// What `run` returns beyond exit codes: an uncaught error for want of memory.
const OUT_OF_MEMORY: i32 = 256;
/// Largest script file, in bytes.
const MAX_SOURCE: usize = 64 << 20;

/// A script in the form a guest takes it: its name (first argument) and its source.
fn script_parts(script: &Script) -> Result<(String, &[u8]), EngineError> {
    let invalid = |reason: &str| {
        Err(EngineError::InvalidJob {
            reason: reason.into(),
            hint: Some("rename the script, for example `script.py`".into()),
        })
    };
    Ok(match script {
        Script::File { name, source } => {
            if name.is_empty() || name == "." || name == ".." || name.len() > 255 {
                return invalid("the script needs a file name of 1 to 255 bytes");
            }
            if name.contains(|c: char| c == '/' || c.is_control()) {
                return invalid("the script's file name holds a slash or a control character");
            }
            (format!("/script/{name}"), source)
        }
        Script::Code(code) => ("-c".into(), code.as_bytes()),
        Script::StandardInput(code) => ("-".into(), code.as_bytes()),
        Script::Module(name) => ("-m".into(), name.as_bytes()),
    })
}

/// What a run, or a turn of a session, is held to.
pub(super) struct Bounds<'a> {
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    pub(super) limits: &'a Limits,
    pub(super) canceler: &'a Canceler,
    pub(super) timer: &'a Arc<Timer>,
}

impl<'a> Bounds<'a> {
    pub(super) fn new(limits: &'a Limits, canceler: &'a Canceler, timer: &'a Arc<Timer>) -> Self {
        let started = Instant::now();
        let far = Duration::from_secs(86_400 * 365);
        let deadline = started.checked_add(limits.wall_time).unwrap_or_else(|| started + far);
        Self { started, deadline, limits, canceler, timer }
    }

    /// Holds guest code to them.
    pub(super) fn watch<F>(
        &self,
        inner: Pin<&'a mut F>,
        visit: &'a Visit,
        slept_nanos: Arc<AtomicU64>,
        calls: Option<&'a Mutex<Calls>>,
    ) -> Watch<'a, F> {
        let (canceler, alarm) = (self.canceler, self.timer.alarm());
        let (deadline, polls, reporter) = (self.deadline, 0, None);
        Watch { inner, deadline, slept_nanos, canceler, alarm, visit, polls, reporter, calls }
    }
}

/// What guest code is to do.
pub(super) enum Work<'a> {
    /// A whole run.
    Run { source: &'a [u8], compiled: Option<&'a Compiled> },
    /// A turn of a session, on the memory that is kept for it.
    Turn { source: &'a [u8], memory: &'a KeptMemory },
}

/// What came of it.
pub(super) struct Ran {
    status: Status,
    /// Whether the guest returned from its work: what it leaves can be gone on with.
    returned: bool,
    /// Whether real time, or somebody outside, decided how it ended.
    by_real_time: bool,
    wall_time: Duration,
    slept: Duration,
    fuel: Option<u64>,
    memory_peak: u64,
    memory_refused: Option<u64>,
    host_calls: u64,
    tools: Vec<ToolUse>,
    value: Option<Value>,
    world: World,
    pub(super) end: WorldEnd,
}

/// Runs a job on a loaded guest.
///
/// What is run is the text of `scan`, whatever the job says. `opened` is what the job grants of the host.
pub(crate) async fn run(
    guest: &Guest,
    job: Job,
    scan: Arc<Scan>,
    opened: Vec<HostGrant>,
    timer: &Arc<Timer>,
) -> Result<Outcome, EngineError> {
    let Job { language, args, env, stdin, limits, epoch, seed, live, tools, sink, events, capture, canceler, .. } = job;
    let tools = Tools::new(&tools)?;
    let bounds = Bounds::new(&limits, &canceler, timer);
    let script = scan.script.clone();
    let Drawn { epoch, seed } = Drawn::of(epoch, seed)?;
    let (name, source) = script_parts(&script)?;
    check(guest, &limits, source)?;

    let mut files = Vec::new();
    if let Script::File { source, .. } = &script {
        files.push((name.clone(), source.clone()));
        files.extend(scan.modules.iter().map(|it| (format!("/script/{}", it.path), it.source.clone())));
    }
    let mut world_args = Vec::with_capacity(args.len() + 1);
    world_args.push(name.clone());
    world_args.extend(args.iter().cloned());
    let granted: Vec<(String, Access)> = opened.iter().map(|grant| (grant.guest.clone(), grant.access)).collect();
    let mut world = World::new(WorldConfig {
        args: world_args,
        env: env.clone(),
        clock: if live { ClockConfig::Live } else { ClockConfig::Virtual { epoch_nanos: epoch.as_nanos() } },
        random: if live { RandomConfig::System } else { RandomConfig::Seeded(seed) },
        stdin,
        sink: sink.map(unhurried),
        capture,
        quotas: quotas(&limits),
        deadline: bounds.deadline,
        files,
        grants: opened,
    })
    .map_err(|error| EngineError::InvalidJob { reason: error.to_string(), hint: None })?;
    world.set_sleep_limit(limits.wall_time);
    let host_stdin = match world.take_stdin_file() {
        Some(file) => {
            world.set_stdin_terminal(file.is_terminal());
            Some(HostStdin::new(file).map_err(EngineError::os("prepare reading standard input"))?)
        }
        None => None,
    };

    let compiled = match (&guest.start, &script) {
        (Start::Program { .. }, _) | (_, Script::Module(_)) => None,
        (Start::Runtime(runtime), _) => {
            compiled(guest, runtime, &name, source, &bounds).await.filter(|compiled| compiled.fits(&limits))
        }
    };
    let work = Work::Run { source, compiled: compiled.as_deref() };
    let reporter = events.map(|sink| begin(sink, guest, &bounds, &scan, epoch, seed));
    let tools_sha256 = tools.digest();
    let calls = tools_sha256.map(|_| Arc::new(Mutex::new(Calls::new(tools, None))));
    let mut ran = execute(guest, world, host_stdin, &bounds, calls.as_ref(), work, reporter).await?;
    ran.take_calls(calls.as_deref(), true);

    let job_sha256 = Identity {
        language: language.name(),
        script: &script,
        modules: &scan.modules,
        args: &args,
        env: &env,
        grants: &granted,
        host_sha256: ran.end.host_sha256,
        limits: &limits,
        epoch: epoch.as_nanos(),
        seed,
        live,
        stdin_sha256: ran.end.stdin_sha256,
        stdin_bytes: ran.end.stdin_bytes,
        stdin_end: ran.end.stdin_end,
        tools_sha256,
    }
    .digest();
    let (mut outcome, mut world) = ran.outcome(guest, &limits, scan, Named { job_sha256, epoch, seed, live });
    let (files, left_out) = world.artifacts(limits.bytes_written, true);
    (outcome.artifacts, outcome.artifacts_left_out) = (Artifact::of(files, &[]), left_out);
    outcome.changes = Changes::of(world.changes(limits.bytes_written, true));
    Ok(outcome)
}

/// Tells a sink that a run or turn begins.
pub(super) fn begin(
    sink: Box<dyn EventSink>,
    guest: &Guest,
    bounds: &Bounds<'_>,
    scan: &Arc<Scan>,
    epoch: Epoch,
    seed: u128,
) -> Reporter {
    let stretch = if guest.metering == Metering::Fuel { YIELD_INTERVAL } else { 0 };
    let mut reporter = Reporter::new(sink, bounds.started, stretch, bounds.limits.fuel.unwrap_or(u64::MAX));
    let started = Event::Started { scan: scan.clone(), runtime: guest.id.clone(), epoch, seed };
    reporter.tell(started, bounds.deadline);
    reporter
}

/// Where clock and randomness of a run start.
pub(super) struct Drawn {
    pub(super) epoch: Epoch,
    pub(super) seed: u128,
}

impl Drawn {
    /// What is given, or drawn now.
    pub(super) fn of(epoch: Option<Epoch>, seed: Option<u128>) -> Result<Self, EngineError> {
        let seed = match seed {
            Some(seed) => seed,
            None => os::random_u128().map_err(EngineError::os("read randomness from the system"))?,
        };
        Ok(Self { epoch: epoch.unwrap_or_else(Epoch::now), seed })
    }
}

/// Whether a guest can be given that source under these limits.
pub(super) fn check(guest: &Guest, limits: &Limits, source: &[u8]) -> Result<(), EngineError> {
    if source.len() > MAX_SOURCE {
        return Err(EngineError::InvalidJob {
            reason: format!("the script is larger than {MAX_SOURCE} bytes"),
            hint: None,
        });
    }
    let least = guest.start.memory_bytes();
    if limits.memory >= least {
        return Ok(());
    }
    let least = least.div_ceil(1 << 20);
    let (what, more) = match guest.start {
        Start::Runtime(_) => ("the runtime itself takes", "; 128MiB is enough for small scripts"),
        Start::Program { .. } => ("the program starts with", ""),
    };
    Err(EngineError::InvalidJob {
        reason: format!("{} bytes of memory are less than {what}", limits.memory),
        hint: Some(format!("give it at least {least}MiB{more}")),
    })
}

pub(super) fn quotas(limits: &Limits) -> Quotas {
    Quotas {
        output: limits.output,
        bytes_written: limits.bytes_written,
        files: limits.files,
        descriptors: limits.descriptors,
        memory: limits.memory,
    }
}

/// Lets a guest do its work in that World, within its bounds, and says how that ended.
pub(super) async fn execute(
    guest: &Guest,
    world: World,
    stdin: Option<HostStdin>,
    bounds: &Bounds<'_>,
    calls: Option<&Arc<Mutex<Calls>>>,
    work: Work<'_>,
    reporter: Option<Reporter>,
) -> Result<Ran, EngineError> {
    let limits = bounds.limits;
    let compiled = match &work {
        Work::Run { compiled, .. } => *compiled,
        Work::Turn { .. } => None,
    };
    let spending =
        Spending { limit: limits.fuel.unwrap_or(u64::MAX), spent: compiled.map_or(0, |compiled| compiled.fuel) };
    let state = State::new(world, limits.memory, stdin, bounds.timer.clone());
    let (mut store, _ticking) = store(guest, state, spending, bounds.timer)?;
    store.data_mut().deadline = Some(bounds.deadline);
    store.data_mut().canceler = bounds.canceler.clone();
    store.data_mut().meter = reporter.as_ref().map(Reporter::meter);
    store.data_mut().calls = calls.cloned();
    let slept_nanos = store.data().slept_nanos.clone();
    let ended = {
        let visit = guest.start.visit();
        let call = pin!(call(guest, &mut store, &work, &visit));
        let mut watch = bounds.watch(call, &visit, slept_nanos, calls.map(|calls| &**calls));
        watch.reporter = reporter;
        if let (Some(calls), Some(_)) = (calls, &watch.reporter) {
            calls::lock(calls).listen();
        }
        watch.await
    };
    let wall_time = bounds.started.elapsed();
    let ended = take_output(&mut store, ended);
    let returned = matches!(ended, Ended::Returned(Ok(_)));
    if let Some(memory) = store.data().memory {
        let linear = memory.data_size(&store) as u64;
        store.data_mut().note_memory(linear);
    }
    let fuel_left = if guest.metering == Metering::Fuel { store.get_fuel().ok() } else { None };
    let mut state = store.into_data();
    let fuel = fuel_left.map(|left| state.fuel_start.saturating_sub(left).saturating_add(state.fuel_owed()));
    // Where the clock of a session goes on.
    state.world.set_moment(fuel.unwrap_or_default());
    let slept = state.world.slept();
    let ending = End {
        limits,
        wall_time,
        slept,
        memory_refused: state.memory_refused,
        fuel_used: fuel,
        program: matches!(guest.start, Start::Program { .. }),
    };
    let mut world = state.world;
    let end = world.finish();
    let memory_peak = state.memory_peak.max(end.memory_peak).max(compiled.map_or(0, |compiled| compiled.memory_peak));
    let (status, by_real_time) = ending.status(ended, end.output_attempted)?;
    Ok(Ran {
        status,
        returned,
        by_real_time,
        wall_time,
        slept,
        fuel,
        memory_peak,
        memory_refused: state.memory_refused,
        host_calls: state.host_calls,
        tools: Vec::new(),
        value: None,
        world,
        end,
    })
}

/// What an outcome is known by.
pub(super) struct Named {
    pub(super) job_sha256: Digest,
    pub(super) epoch: Epoch,
    pub(super) seed: u128,
    pub(super) live: bool,
}

impl Ran {
    /// Makes files and bytes written those of this turn alone, where they are counted since the session began.
    pub(super) fn count_from(&mut self, files_written: &mut u64, bytes_written: &mut u64) {
        let end = &mut self.end;
        for (counted, before) in [(&mut end.files_written, files_written), (&mut end.bytes_written, bytes_written)] {
            let all = *counted;
            *counted = all.saturating_sub(*before);
            *before = all;
        }
    }

    /// Takes what was called, and the value of a turn. With `committed`, what the turn did is kept.
    pub(super) fn take_calls(&mut self, calls: Option<&Mutex<Calls>>, committed: bool) {
        if let Some(calls) = calls {
            (self.tools, self.value) = calls::lock(calls).end(committed);
        }
    }

    /// Whether it ended by itself, and so that the next turn can go on: a guest that left by `proc_exit`, from within
    /// whatever it was doing, is in the middle of that.
    pub(super) fn completed(&self) -> bool {
        self.returned && matches!(self.status, Status::Completed { .. })
    }

    /// Whether it called a tool, or tried to.
    pub(super) fn called(&self) -> bool {
        self.tools.iter().any(|tool| tool.calls > 0 || tool.failed > 0)
    }

    /// The outcome, and the World for the next turn.
    pub(super) fn outcome(self, guest: &Guest, limits: &Limits, scan: Arc<Scan>, named: Named) -> (Outcome, World) {
        let called = self.called();
        let Self { status, end, world, tools, value, .. } = self;
        let Named { job_sha256, epoch, seed, live } = named;
        let outcome = Outcome {
            quotas_met: quotas_met(limits, end.refused, self.memory_refused, &status),
            divergence: scan.divergence(end.touched),
            stdout: Captured { bytes: end.stdout, truncated: end.stdout_truncated },
            stderr: Captured { bytes: end.stderr, truncated: end.stderr_truncated },
            usage: Usage {
                fuel: self.fuel,
                wall_time: self.wall_time,
                slept: self.slept,
                memory_peak_bytes: self.memory_peak,
                output_bytes: end.output_bytes,
                files_written: end.files_written,
                bytes_written: end.bytes_written,
                files_peak: end.files_peak,
                descriptors_peak: end.descriptors_peak,
                host_calls: self.host_calls,
            },
            status,
            artifacts: Vec::new(),
            artifacts_left_out: Vec::new(),
            changes: Changes::default(),
            job_sha256,
            epoch,
            seed,
            live,
            determined: !live && !self.by_real_time && !end.stdin_terminal_seen && end.host_sha256.is_none() && !called,
            runtime: Some(guest.id.clone()),
            scan,
            tools,
            value,
        };
        (outcome, world)
    }
}

/// The outcome of a job that is not run.
pub(crate) fn denied(job: Job, scan: Arc<Scan>) -> Outcome {
    let epoch = job.epoch.unwrap_or_else(Epoch::now);
    let seed = job.seed.unwrap_or_default();
    let job_sha256 = Identity {
        language: job.language.name(),
        script: &scan.script,
        modules: &scan.modules,
        args: &job.args,
        env: &job.env,
        grants: &[],
        host_sha256: None,
        limits: &job.limits,
        epoch: epoch.as_nanos(),
        seed,
        live: job.live,
        stdin_sha256: Sha256::digest([]).into(),
        stdin_bytes: 0,
        stdin_end: InputEnd::NotSeen,
        tools_sha256: Tools::new(&job.tools).ok().and_then(|tools| tools.digest()),
    }
    .digest();
    Outcome {
        status: Status::Denied,
        stdout: Captured::default(),
        stderr: Captured::default(),
        usage: Usage::default(),
        quotas_met: Vec::new(),
        divergence: Vec::new(),
        artifacts: Vec::new(),
        artifacts_left_out: Vec::new(),
        changes: Changes::default(),
        job_sha256,
        epoch,
        seed,
        live: job.live,
        determined: !job.live,
        runtime: None,
        scan,
        tools: Vec::new(),
        value: None,
    }
}

/// Fuel of a store: the limit, and what of it was spent before.
#[derive(Clone, Copy)]
pub(super) struct Spending {
    pub(super) limit: u64,
    pub(super) spent: u64,
}

/// Makes a store that gives control back several times in a millisecond, for as long as the guard is there.
pub(super) fn store<'t>(
    guest: &Guest,
    state: State,
    spending: Spending,
    timer: &'t Timer,
) -> Result<(Store<State>, Option<Ticking<'t>>), EngineError> {
    let mut store = Store::new(&guest.engine, state);
    store.limiter(|state| state);
    let ticking = match guest.metering {
        Metering::Fuel => {
            store.data_mut().fuel_start = spending.limit;
            store.set_fuel(spending.limit.saturating_sub(spending.spent)).map_err(EngineError::wasm("set the fuel"))?;
            store
                .fuel_async_yield_interval(Some(YIELD_INTERVAL))
                .map_err(EngineError::wasm("set the yield interval"))?;
            None
        }
        Metering::Epoch => {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
            Some(timer.tick(&guest.engine).map_err(EngineError::os("start the engine's timer"))?)
        }
        Metering::Unmetered => None,
    };
    Ok((store, ticking))
}

/// Makes the instance and lets it work.
async fn call(guest: &Guest, store: &mut Store<State>, work: &Work<'_>, visit: &Visit) -> Result<i32, CallError> {
    let Start::Runtime(runtime) = &guest.start else { return start_program(guest, store).await };
    let status = match work {
        Work::Run { source, compiled } => {
            let interpreter = Interpreter::new(guest, runtime, None, visit, store)?;
            interpreter.run(store, source, compiled.map(|compiled| &*compiled.code)).await?
        }
        Work::Turn { source, memory } => {
            let interpreter = Interpreter::new(guest, runtime, Some(memory), visit, store)?;
            interpreter.turn(store, source).await?
        }
    };
    // No memory for the source: the script ends before it starts, for want of memory.
    Ok(status.unwrap_or(OUT_OF_MEMORY))
}

/// Makes an instance of a program and runs it. Its start function, if it has one, is the program's own code: it may take
/// as long as the run.
async fn start_program(guest: &Guest, store: &mut Store<State>) -> Result<i32, CallError> {
    let instance = guest.instances.instantiate_async(&mut *store).await.map_err(instance_error)?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    let start: TypedFunc<(), ()> = instance
        .get_typed_func(&mut *store, program::START)
        .map_err(|_| CallError::Contract("its `_start` takes or returns something"))?;
    start.call_async(&mut *store, ()).await.map_err(CallError::of_call)?;
    Ok(0)
}

/// An instance that could not be made, or whose start function was stopped.
fn instance_error(error: wasmtime::Error) -> CallError {
    if error.is::<StopError>() || error.is::<wasmtime::Trap>() {
        CallError::Guest(error)
    } else {
        CallError::Instance(error)
    }
}

/// Takes what the script had printed and not yet written when it ended, and says how the run ended by that.
fn take_output(store: &mut Store<State>, ended: Ended<Result<i32, CallError>>) -> Ended<Result<i32, CallError>> {
    let Some(memory) = store.data().memory else { return ended };
    let (bytes, state) = memory.data_and_store_mut(&mut *store);
    let Err(Fault::Stop(stop)) = state.world.take_output(bytes) else { return ended };
    match ended {
        // Whatever else stopped it was first.
        Ended::Returned(Ok(_)) => Ended::Returned(Err(CallError::Guest(StopError::World(stop).into()))),
        ended => ended,
    }
}

/// Which quotas a script met that went on.
fn quotas_met(limits: &Limits, refused: Refused, memory: Option<u64>, status: &Status) -> Vec<LimitHit> {
    let stopped_by = match status {
        Status::Limit(hit) => Some(hit.kind),
        Status::Denied | Status::Completed { .. } | Status::Trapped(_) | Status::Canceled { .. } => None,
    };
    [
        (LimitKind::Memory, limits.memory, refused.memory.max(memory.unwrap_or(0))),
        (LimitKind::BytesWritten, limits.bytes_written, refused.bytes_written),
        (LimitKind::Files, limits.files, refused.files),
        (LimitKind::Descriptors, limits.descriptors, refused.descriptors),
    ]
    .into_iter()
    .filter(|(kind, _, used)| *used > 0 && stopped_by != Some(*kind))
    .map(|(kind, allowed, used)| LimitHit { kind, allowed, used })
    .collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is known when a run has ended.
struct End<'a> {
    limits: &'a Limits,
    wall_time: Duration,
    slept: Duration,
    memory_refused: Option<u64>,
    fuel_used: Option<u64>,
    /// Whether it is a program, which is the user's, and not a runtime, which is ours.
    program: bool,
}

impl End<'_> {
    /// How the run ended, and whether real time or somebody outside decided that.
    fn status(&self, ended: Ended<Result<i32, CallError>>, output: u64) -> Result<(Status, bool), EngineError> {
        Ok(match ended {
            Ended::Deadline => (self.limit(LimitKind::WallTime, output), true),
            Ended::Canceled => (Status::Canceled { reason: CancelReason::Asked }, true),
            Ended::NoTimer(error) => return Err(EngineError::os("start the engine's timer")(error)),
            // What its last calls cost was more than was left.
            Ended::Returned(Ok(_)) if self.fuel_used > self.limits.fuel.or(self.fuel_used) => {
                (self.limit(LimitKind::Fuel, output), false)
            }
            Ended::Returned(Ok(OUT_OF_MEMORY)) if !self.program => match self.memory_refused {
                Some(_) => (self.limit(LimitKind::Memory, output), false),
                None => (Status::Completed { exit_code: 1 }, false),
            },
            Ended::Returned(Ok(exit_code)) => (Status::Completed { exit_code }, false),
            Ended::Returned(Err(CallError::Space(error))) => return Err(error.into()),
            Ended::Returned(Err(CallError::Contract(reason))) if self.program => {
                return Err(EngineError::InvalidProgram { reason: reason.into(), hint: None });
            }
            Ended::Returned(Err(CallError::Contract(reason))) => return Err(EngineError::contract(reason)),
            Ended::Returned(Err(CallError::Instance(error))) if self.program => {
                return Err(EngineError::InvalidProgram { reason: format!("{error:#}"), hint: None });
            }
            Ended::Returned(Err(CallError::Instance(error))) => {
                return Err(EngineError::wasm("make an instance")(error));
            }
            Ended::Returned(Err(CallError::Guest(error))) => match error.downcast::<StopError>() {
                Ok(StopError::World(stop)) => self.stopped(stop, output)?,
                Ok(StopError::Fuel) => (self.limit(LimitKind::Fuel, output), false),
                Ok(StopError::Deadline) => (self.limit(LimitKind::WallTime, output), true),
                Ok(StopError::Canceled) => (Status::Canceled { reason: CancelReason::Asked }, true),
                Err(error) => match error.downcast::<wasmtime::Trap>() {
                    Ok(trap) => (self.trapped(trap, output), false),
                    Err(error) if self.program => {
                        return Err(EngineError::InvalidProgram { reason: format!("{error:#}"), hint: None });
                    }
                    Err(error) => return Err(EngineError::wasm("run the script")(error)),
                },
            },
        })
    }

    fn stopped(&self, stop: Stop, output: u64) -> Result<(Status, bool), EngineError> {
        Ok(match stop {
            Stop::Exit(code) => (Status::Completed { exit_code: code.cast_signed() }, false),
            Stop::Output => (self.limit(LimitKind::Output, output), false),
            Stop::SinkClosed => (Status::Canceled { reason: CancelReason::SinkClosed }, true),
            Stop::SinkTimedOut => (self.limit(LimitKind::WallTime, output), true),
            // Sleep alone was enough: the same on every machine, and so is the number.
            Stop::SleepPastLimit | Stop::WaitsForever => {
                let allowed = millis(self.limits.wall_time);
                let used = millis(self.slept).max(allowed);
                (Status::Limit(LimitHit { kind: LimitKind::WallTime, allowed, used }), false)
            }
            Stop::HostMemory => {
                return Err(EngineError::os("allocate memory for the script's files and output")(
                    std::io::ErrorKind::OutOfMemory.into(),
                ));
            }
        })
    }

    fn trapped(&self, trap: wasmtime::Trap, output: u64) -> Status {
        use wasmtime::Trap as Kind;
        let kind = match trap {
            Kind::OutOfFuel => return self.limit(LimitKind::Fuel, output),
            Kind::StackOverflow => return self.limit(LimitKind::Stack, output),
            _ if self.memory_refused.is_some() => return self.limit(LimitKind::Memory, output),
            Kind::UnreachableCodeReached => "unreachable",
            Kind::MemoryOutOfBounds => "out-of-bounds-memory",
            Kind::TableOutOfBounds => "out-of-bounds-table",
            Kind::IndirectCallToNull => "null-function",
            Kind::BadSignature => "wrong-signature",
            Kind::IntegerOverflow => "integer-overflow",
            Kind::IntegerDivisionByZero => "division-by-zero",
            Kind::BadConversionToInteger => "bad-conversion",
            _ => "other",
        };
        Status::Trapped(Trap { kind, message: trap.to_string() })
    }

    fn limit(&self, kind: LimitKind, output: u64) -> Status {
        let (allowed, used) = match kind {
            LimitKind::Fuel => {
                let allowed = self.limits.fuel.unwrap_or(u64::MAX);
                (allowed, self.fuel_used.unwrap_or(allowed))
            }
            LimitKind::WallTime => (millis(self.limits.wall_time), millis(self.wall_time.saturating_add(self.slept))),
            LimitKind::Memory => (self.limits.memory, self.memory_refused.unwrap_or(self.limits.memory)),
            LimitKind::Output => (self.limits.output, output),
            LimitKind::Stack => (STACK_BYTES as u64, STACK_BYTES as u64),
            // Quotas: they stop nothing.
            LimitKind::BytesWritten => (self.limits.bytes_written, self.limits.bytes_written),
            LimitKind::Files => (self.limits.files, self.limits.files),
            LimitKind::Descriptors => (self.limits.descriptors, self.limits.descriptors),
        };
        Status::Limit(LimitHit { kind, allowed, used })
    }
}
