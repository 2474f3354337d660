//! The steps of a runtime's recipe that run WebAssembly, on our own World: no host directory is ever mounted, clock
//! and randomness are fixed, so the same inputs give the same runtime.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use capibara_runtimes::{GuestCall, GuestFile, GuestResult, Preinitialized, StepError, WasmSteps};
use sha2::{Digest as _, Sha256};
use wasmtime::{Instance, Linker, Module, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, Wizer};

use crate::artifact::{Cpu, Metering, config};
use crate::fence::{Processors, State, StopError, block_on, link};
use crate::split::split;
use crate::stream::Stdin;
use crate::timer::Timer;
use crate::world::{ClockConfig, Quotas, RandomConfig, Stop, World, WorldConfig};

/// What a step may use. Its code is ours: these only stop a broken recipe.
const STEP_QUOTAS: Quotas =
    Quotas { output: 64 << 20, bytes_written: 1 << 30, files: 100_000, descriptors: 256, memory: 4 << 30 };
const STEP_TIME: Duration = Duration::from_secs(1800);
/// 2025-06-11T00:00:00Z, the day of the Python release.
const STEP_EPOCH_NANOS: u64 = 1_749_600_000_000_000_000;

/// What runs recipe steps, for `examples/profile.rs`.
///
/// # Errors
///
/// When Wasmtime cannot be set up.
pub fn steps() -> Result<impl WasmSteps, crate::EngineError> {
    Steps::new().map_err(crate::EngineError::wasm("set up the recipe"))
}

/// Runs recipe steps.
pub(crate) struct Steps {
    engine: wasmtime::Engine,
    linker: Linker<State>,
    timer: Arc<Timer>,
    processors: Arc<Processors>,
    /// The module that was compiled last, by digest: a recipe calls one module many times.
    last: Mutex<Option<([u8; 32], Module)>>,
}

fn failed(what: &'static str) -> impl Fn(wasmtime::Error) -> StepError {
    move |error| StepError(format!("failed to {what}: {error:#}"))
}

impl Steps {
    pub(crate) fn new() -> Result<Self, wasmtime::Error> {
        let engine = wasmtime::Engine::new(&config(Metering::Unmetered, Cpu::Native, None)?)?;
        let mut linker = Linker::new(&engine);
        link(&mut linker)?;
        Ok(Self {
            engine,
            linker,
            timer: Arc::new(Timer::new()),
            processors: Arc::new(Processors::new()),
            last: Mutex::new(None),
        })
    }

    fn module(&self, bytes: &[u8]) -> Result<Module, StepError> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, module)) = &*last
            && *known == digest
        {
            return Ok(module.clone());
        }
        let module = Module::new(&self.engine, bytes).map_err(failed("compile a module of the recipe"))?;
        *last = Some((digest, module.clone()));
        Ok(module)
    }

    fn store(&self, call: &GuestCall<'_>) -> Result<Store<State>, StepError> {
        let world = World::new(WorldConfig {
            args: call.args.to_vec(),
            env: Vec::new(),
            clock: ClockConfig::Virtual { epoch_nanos: STEP_EPOCH_NANOS },
            random: RandomConfig::Seeded(0),
            stdin: Stdin::Closed,
            sink: None,
            capture: true,
            quotas: STEP_QUOTAS,
            deadline: Instant::now() + STEP_TIME,
            grants: Vec::new(),
            files: call.files.iter().map(|file| (file.path.clone(), file.bytes.clone())).collect(),
        })
        .map_err(|error| StepError(error.to_string()))?;
        let mut store = Store::new(&self.engine, State::new(world, STEP_QUOTAS.memory, None, self.timer.clone()));
        store.limiter(|state| state);
        Ok(store)
    }

    /// Makes an instance and calls `_initialize` unless the export is a command's.
    fn instantiate(&self, store: &mut Store<State>, module: &Module, export: &str) -> Result<Instance, StepError> {
        let instance = block_on(&self.processors, self.linker.instantiate_async(&mut *store, module))
            .map_err(failed("instantiate a module of the recipe"))?;
        let memory =
            instance.get_memory(&mut *store, "memory").ok_or_else(|| StepError("no memory exported".into()))?;
        store.data_mut().memory = Some(memory);
        if export != "_start"
            && let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize")
        {
            block_on(&self.processors, initialize.call_async(&mut *store, ()))
                .map_err(failed("initialize a module of the recipe"))?;
        }
        Ok(instance)
    }

    /// Calls an export without parameters; what it returns, or the exit code it ended with.
    fn invoke(&self, store: &mut Store<State>, instance: &Instance, export: &str) -> Result<i32, StepError> {
        let function = instance
            .get_func(&mut *store, export)
            .ok_or_else(|| StepError(format!("no function `{export}` exported")))?;
        let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
        match block_on(&self.processors, function.call_async(&mut *store, &[], &mut results)) {
            Ok(()) => Ok(results.first().and_then(Val::i32).unwrap_or(0)),
            Err(error) => match error.downcast::<StopError>() {
                Ok(StopError::World(Stop::Exit(code))) => Ok(code.cast_signed()),
                Ok(stop) => Err(StepError(stop.to_string())),
                Err(error) => Err(failed("run a module of the recipe")(error)),
            },
        }
    }
}

impl WasmSteps for Steps {
    fn call(&self, call: GuestCall<'_>) -> Result<GuestResult, StepError> {
        let module = self.module(call.module)?;
        let mut store = self.store(&call)?;
        let instance = self.instantiate(&mut store, &module, call.export)?;
        let exit_code = self.invoke(&mut store, &instance, call.export)?;
        let mut world = store.into_data().world;
        let absolute = |path| format!("{}/{path}", call.output);
        let taken = world.take_files(call.output).into_iter();
        let files = taken.map(|(path, bytes)| GuestFile { path: absolute(path), bytes }).collect();
        let end = world.finish();
        Ok(GuestResult { exit_code, stdout: end.stdout, stderr: end.stderr, files })
    }

    fn preinitialize(&self, call: GuestCall<'_>) -> Result<Preinitialized, StepError> {
        let mut wizer = Wizer::new();
        wizer.init_func(call.export);
        let (context, instrumented) =
            wizer.instrument(call.module).map_err(failed("prepare the pre-initialisation"))?;
        let module = Module::new(&self.engine, &instrumented).map_err(failed("compile the guest"))?;
        let mut store = self.store(&call)?;
        let instance = self.instantiate(&mut store, &module, call.export)?;
        let invoked = self.invoke(&mut store, &instance, call.export);
        let snapshot = match &invoked {
            Ok(_) => {
                block_on(&self.processors, wizer.snapshot(&context, &mut Snapshot { store: &mut store, instance }))
                    .map_err(failed("take the memory image"))
            }
            Err(error) => Err(error.clone()),
        };
        let stderr = store.into_data().world.finish().stderr;
        let snapshot = snapshot.map_err(|StepError(why)| {
            StepError(format!("{why}; it printed: {}", String::from_utf8_lossy(&stderr).trim_end()))
        })?;
        let split = split(&snapshot).map_err(|error| StepError(error.to_string()))?;
        Ok(Preinitialized { code: split.code, image: split.image, memory_min_bytes: split.memory_bytes, stderr })
    }
}

/// Lets wasmtime-wizer read an instance.
struct Snapshot<'a> {
    store: &'a mut Store<State>,
    instance: Instance,
}

impl InstanceState for Snapshot<'_> {
    async fn global_get(&mut self, name: &str, _: wasmparser::ValType) -> SnapshotVal {
        match self.instance.get_global(&mut *self.store, name).map(|global| global.get(&mut *self.store)) {
            Some(Val::I32(value)) => SnapshotVal::I32(value),
            Some(Val::I64(value)) => SnapshotVal::I64(value),
            Some(Val::F32(bits)) => SnapshotVal::F32(bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(bits),
            // Instrumentation exports every global under this name, and split() refuses all types but i32.
            _ => SnapshotVal::I32(0),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        match self.instance.get_memory(&mut *self.store, name) {
            Some(memory) => contents(memory.data(&*self.store)),
            None => contents(&[]),
        }
    }
}
