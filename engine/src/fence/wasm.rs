//! Runs scripts in WebAssembly, in this process: a fresh instance for each, and nothing left of it afterwards.

use std::io::IsTerminal;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capibara_policies::{LimitKind, Limits};
use sha2::{Digest as _, Sha256};
use wasmtime::{Store, TypedFunc, UpdateDeadline};

use super::compiled::{Compiled, Until, compiled};
use super::guest::{CallError, Guest, Interpreter, Start};
use super::state::{State, StopError};
use super::stdin::HostStdin;
use super::watch::{Ended, Watch};
use crate::artifact::{Metering, STACK_BYTES};
use crate::error::EngineError;
use crate::identity::Identity;
use crate::job::{Epoch, Job, Script};
use crate::os;
use crate::outcome::{CancelReason, Captured, LimitHit, Outcome, Status, Trap, Usage};
use crate::program;
use crate::scan::Scan;
use crate::timer::{Ticking, Timer};
use crate::world::{ClockConfig, Fault, HostGrant, InputEnd, Quotas, RandomConfig, Refused, Stop, World, WorldConfig};

/// Fuel between two looks at clock and canceler: about a millisecond, and free (guides/python-wasi.md).
const YIELD_INTERVAL: u64 = 10_000_000;
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
    let started = Instant::now();
    let Job { language, args, env, stdin, limits, epoch, seed, live, sink, capture, canceler, .. } = job;
    let script = scan.script.clone();
    let epoch = epoch.unwrap_or_else(Epoch::now);
    let seed = match seed {
        Some(seed) => seed,
        None => os::random_u128().map_err(EngineError::os("read randomness from the system"))?,
    };
    let (name, source) = script_parts(&script)?;
    if source.len() > MAX_SOURCE {
        return Err(EngineError::InvalidJob {
            reason: format!("the script is larger than {MAX_SOURCE} bytes"),
            hint: None,
        });
    }
    let least = guest.start.memory_bytes();
    if limits.memory < least {
        let least = least.div_ceil(1 << 20);
        let (what, more) = match guest.start {
            Start::Runtime(_) => ("the runtime itself takes", "; 128MiB is enough for small scripts"),
            Start::Program { .. } => ("the program starts with", ""),
        };
        return Err(EngineError::InvalidJob {
            reason: format!("{} bytes of memory are less than {what}", limits.memory),
            hint: Some(format!("give it at least {least}MiB{more}")),
        });
    }
    let deadline = started.checked_add(limits.wall_time).unwrap_or_else(|| started + Duration::from_secs(86_400 * 365));

    let mut files = Vec::new();
    if let Script::File { source, .. } = &script {
        files.push((name.clone(), source.clone()));
        files.extend(scan.modules.iter().map(|it| (format!("/script/{}", it.path), it.source.clone())));
    }
    let mut world_args = Vec::with_capacity(args.len() + 1);
    world_args.push(name.clone());
    world_args.extend(args.iter().cloned());
    let granted: Vec<(String, bool)> = opened.iter().map(|grant| (grant.guest.clone(), grant.writable)).collect();
    let mut world = World::new(WorldConfig {
        args: world_args,
        env: env.clone(),
        clock: if live { ClockConfig::Live } else { ClockConfig::Virtual { epoch_nanos: epoch.as_nanos() } },
        random: if live { RandomConfig::System } else { RandomConfig::Seeded(seed) },
        stdin,
        sink,
        capture,
        quotas: Quotas {
            output: limits.output,
            bytes_written: limits.bytes_written,
            files: limits.files,
            descriptors: limits.descriptors,
            memory: limits.memory,
        },
        deadline,
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
            let until = Until { deadline, canceler: &canceler, timer };
            compiled(guest, runtime, &name, source, until).await.filter(|compiled| compiled.fits(&limits))
        }
    };
    let spending = Spending {
        limit: limits.fuel.unwrap_or(u64::MAX),
        spent: compiled.as_ref().map_or(0, |compiled| compiled.fuel),
    };
    let state = State::new(world, limits.memory, host_stdin, timer.clone());
    let (mut store, _ticking) = store(guest, state, spending, timer)?;
    store.data_mut().deadline = Some(deadline);
    store.data_mut().canceler = canceler.clone();
    let slept_nanos = store.data().slept_nanos.clone();
    let ended = {
        let call = pin!(call(guest, &mut store, source, compiled.as_deref()));
        Watch { inner: call, deadline, slept_nanos, canceler: &canceler, alarm: timer.alarm(), polls: 0 }.await
    };
    let wall_time = started.elapsed();
    let compiled_peak = compiled.as_ref().map_or(0, |compiled| compiled.memory_peak);
    let ended = take_output(&mut store, ended);
    if let Some(memory) = store.data().memory {
        let linear = memory.data_size(&store) as u64;
        store.data_mut().note_memory(linear);
    }
    let fuel_left = if guest.metering == Metering::Fuel { store.get_fuel().ok() } else { None };
    let state = store.into_data();
    let fuel_used = fuel_left.map(|left| state.fuel_start.saturating_sub(left).saturating_add(state.fuel_owed()));
    let slept = state.world.slept();
    let end = End {
        limits: &limits,
        wall_time,
        slept,
        memory_refused: state.memory_refused,
        fuel_used,
        program: matches!(guest.start, Start::Program { .. }),
    };
    let (memory_peak, host_calls) = (state.memory_peak, state.host_calls);
    let world = state.world.finish();
    let (status, by_real_time) = end.status(ended, world.output_attempted)?;

    let job_sha256 = Identity {
        language: language.name(),
        script: &script,
        modules: &scan.modules,
        args: &args,
        env: &env,
        grants: &granted,
        host_sha256: world.host_sha256,
        limits: &limits,
        epoch: epoch.as_nanos(),
        seed,
        live,
        stdin_sha256: world.stdin_sha256,
        stdin_bytes: world.stdin_bytes,
        stdin_end: world.stdin_end,
    }
    .digest();
    let divergence = scan.divergence(world.touched);
    let quotas_met = quotas_met(&limits, world.refused, end.memory_refused, &status);
    Ok(Outcome {
        status,
        quotas_met,
        divergence,
        stdout: Captured { bytes: world.stdout, truncated: world.stdout_truncated },
        stderr: Captured { bytes: world.stderr, truncated: world.stderr_truncated },
        usage: Usage {
            fuel: fuel_used,
            wall_time,
            slept,
            memory_peak_bytes: memory_peak.max(world.memory_peak).max(compiled_peak),
            output_bytes: world.output_bytes,
            files_written: world.files_written,
            bytes_written: world.bytes_written,
            files_peak: world.files_peak,
            descriptors_peak: world.descriptors_peak,
            host_calls,
        },
        job_sha256,
        epoch,
        seed,
        live,
        determined: !live && !by_real_time && !world.stdin_terminal_seen && world.host_sha256.is_none(),
        runtime: Some(guest.id.clone()),
        scan,
    })
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
    }
    .digest();
    Outcome {
        status: Status::Denied,
        stdout: Captured::default(),
        stderr: Captured::default(),
        usage: Usage::default(),
        quotas_met: Vec::new(),
        divergence: Vec::new(),
        job_sha256,
        epoch,
        seed,
        live: job.live,
        determined: !job.live,
        runtime: None,
        scan,
    }
}

/// Fuel of a store: the limit, and what of it was spent before.
#[derive(Clone, Copy)]
pub(super) struct Spending {
    pub(super) limit: u64,
    pub(super) spent: u64,
}

/// Makes a store that gives control back about every millisecond, for as long as the guard is there.
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

/// Makes the instance and runs it.
async fn call(
    guest: &Guest,
    store: &mut Store<State>,
    source: &[u8],
    compiled: Option<&Compiled>,
) -> Result<i32, CallError> {
    match &guest.start {
        Start::Runtime(runtime) => {
            let interpreter = Interpreter::new(guest, runtime, store)?;
            let status = interpreter.run(store, source, compiled.map(|compiled| &*compiled.code)).await?;
            // No memory for the source: the script ends before it starts, for want of memory.
            Ok(status.unwrap_or(OUT_OF_MEMORY))
        }
        Start::Program { .. } => {
            // Its start function, if it has one, is the program's own code: it may take as long as the run.
            let instance = guest.instances.instantiate_async(&mut *store).await.map_err(instance_error)?;
            store.data_mut().memory = instance.get_memory(&mut *store, "memory");
            let start: TypedFunc<(), ()> = instance
                .get_typed_func(&mut *store, program::START)
                .map_err(|_| CallError::Contract("its `_start` takes or returns something"))?;
            start.call_async(&mut *store, ()).await.map_err(CallError::Guest)?;
            Ok(0)
        }
    }
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
