//! Loaded guests, and instances of those that are languages' runtimes.

use std::sync::Arc;

use wasmtime::{
    Extern, Instance, InstancePre, Memory, Module, ModuleExport, Store, TypedFunc, WasmParams, WasmResults,
};

use super::compiled::CompiledScripts;
use super::state::State;
use super::watch::poll_once;
use crate::artifact::Metering;
use crate::error::EngineError;
use crate::image::{Image, KeptMemory, Space, SpaceError, Visit};
use crate::outcome::RuntimeId;

/// A runtime or program that is loaded and ready to make instances.
pub(crate) struct Guest {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) instances: InstancePre<State>,
    pub(crate) start: Start,
    pub(crate) metering: Metering,
    pub(crate) id: RuntimeId,
}

/// How an instance comes to be and is started.
pub(crate) enum Start {
    /// A language's runtime: memory is an image, and `run` takes the script.
    Runtime(Box<Runtime>),
    /// A program: it brings its own memory, of so many bytes at first, and `_start` takes nothing.
    Program { memory_bytes: u64 },
}

impl Start {
    /// A use of an instance's memory that begins now, on this thread.
    pub(super) fn visit(&self) -> Visit {
        match self {
            Self::Runtime(runtime) => runtime.space.visit(),
            Self::Program { .. } => Visit::new(false), // its memory is thrown away
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Runtime(runtime) => runtime.image.memory_bytes() as u64,
            Self::Program { memory_bytes } => *memory_bytes,
        }
    }
}

/// A language's runtime: the image its instances start from, and what they export.
pub(crate) struct Runtime {
    image: Arc<Image>,
    space: Arc<Space>,
    exports: Exports,
    pub(super) compiled: CompiledScripts,
}

/// Looked up once: an instance is made in microseconds.
struct Exports {
    memory: ModuleExport,
    alloc: ModuleExport,
    run: ModuleExport,
    turn: Option<ModuleExport>,
    /// `compile` and `run-compiled`.
    compiling: Option<(ModuleExport, ModuleExport)>,
    /// Addresses of the place for small sources and of the buffers that hold output.
    input: Option<ModuleExport>,
    output: Option<ModuleExport>,
}

impl Runtime {
    /// # Errors
    /// If the module does not export what a runtime must.
    pub(crate) fn new(
        image: Arc<Image>,
        space: Arc<Space>,
        module: &Module,
        compiled: CompiledScripts,
    ) -> Result<Self, EngineError> {
        let find = |name: &str| module.get_export_index(name);
        let exports = Exports {
            memory: find("memory").ok_or_else(|| EngineError::contract("it does not export `memory`"))?,
            alloc: find("alloc").ok_or_else(|| EngineError::contract("it does not export `alloc`"))?,
            run: find("run").ok_or_else(|| EngineError::contract("it does not export `run`"))?,
            turn: find("turn"),
            compiling: find("compile").zip(find("run-compiled")),
            input: find("capibara_input"),
            output: find("capibara_output"),
        };
        Ok(Self { image, space, exports, compiled })
    }

    /// Memory for a session; `None` if the runtime knows no turns.
    pub(crate) fn kept_memory(&self) -> Option<KeptMemory> {
        self.exports.turn.as_ref().map(|_| self.space.kept_memory())
    }

    /// Whether scripts can be compiled apart from their run.
    pub(super) fn compiles(&self) -> bool {
        self.exports.compiling.is_some()
    }
}

/// Why a call did not return.
pub(super) enum CallError {
    /// The guest trapped, or a host function stopped it.
    Guest(wasmtime::Error),
    /// No memory for it, or no stack.
    Space(SpaceError),
    /// No instance could be made.
    Instance(wasmtime::Error),
    /// The guest is not what it should be.
    Contract(&'static str),
}

impl CallError {
    /// What a call into the guest came back with.
    pub(super) fn of_call(error: wasmtime::Error) -> Self {
        error.downcast().map_or_else(Self::Guest, Self::Space)
    }
}

/// An instance of a runtime.
pub(super) struct Interpreter<'a> {
    exports: &'a Exports,
    instance: Instance,
    memory: Memory,
}

const OUTSIDE: CallError = CallError::Contract("it gave an address outside its memory");

impl<'a> Interpreter<'a> {
    /// Makes an instance: a fresh one, or one that goes on with the memory of a session.
    pub(super) fn new(
        guest: &Guest,
        runtime: &'a Runtime,
        kept: Option<&KeptMemory>,
        visit: &Visit,
        store: &mut Store<State>,
    ) -> Result<Self, CallError> {
        // The memory is announced to this thread, so the instance must come of one poll; nothing in it can wait.
        let instance = runtime
            .space
            .with_memory(&runtime.image, kept, visit, || poll_once(guest.instances.instantiate_async(&mut *store)))
            .map_err(CallError::Space)?
            .ok_or(CallError::Contract("its instantiation waits"))?
            .map_err(CallError::Instance)?;
        let exports = &runtime.exports;
        let memory = instance
            .get_module_export(&mut *store, &exports.memory)
            .and_then(Extern::into_memory)
            .ok_or(CallError::Contract("its `memory` is none"))?;
        store.data_mut().memory = Some(memory);
        let new = Self { exports, instance, memory };
        if let Some(address) = exports.output.as_ref().and_then(|it| new.address(store, it)) {
            let (bytes, state) = memory.data_and_store_mut(&mut *store);
            state.world.set_output_buffers(bytes, address);
        }
        Ok(new)
    }

    fn address(&self, store: &mut Store<State>, export: &ModuleExport) -> Option<u32> {
        let global = self.instance.get_module_export(&mut *store, export)?.into_global()?;
        global.get(&mut *store).i32().map(i32::cast_unsigned)
    }

    fn function<P: WasmParams, R: WasmResults>(
        &self,
        store: &mut Store<State>,
        export: &ModuleExport,
    ) -> Result<TypedFunc<P, R>, CallError> {
        self.instance
            .get_module_export(&mut *store, export)
            .and_then(Extern::into_func)
            .and_then(|function| function.typed(&*store).ok())
            .ok_or(CallError::Contract("a function it exports takes or returns something else"))
    }

    /// Bytes of its linear memory.
    pub(super) fn memory_bytes(&self, store: &Store<State>) -> u64 {
        self.memory.data_size(store) as u64
    }

    fn word(&self, store: &Store<State>, at: u32) -> Option<u32> {
        let mut bytes = [0; 4];
        self.memory.read(store, at as usize, &mut bytes).ok().map(|()| u32::from_le_bytes(bytes))
    }

    /// Puts `parts` into the guest's memory, one behind the other; where, or `None` if it has no memory for them.
    async fn place(&self, store: &mut Store<State>, parts: [&[u8]; 2]) -> Result<Option<u32>, CallError> {
        let length = u32::try_from(parts[0].len() + parts[1].len()).map_err(|_| OUTSIDE)?;
        let input = self.exports.input.as_ref().and_then(|export| self.address(store, export));
        let at = match input {
            Some(input) if self.word(store, input).is_some_and(|capacity| length <= capacity) => input + 4,
            _ => {
                let alloc: TypedFunc<u32, u32> = self.function(store, &self.exports.alloc)?;
                alloc.call_async(&mut *store, length).await.map_err(CallError::of_call)?
            }
        };
        if at == 0 {
            return Ok(None);
        }
        let mut to = at as usize;
        for part in parts {
            self.memory.write(&mut *store, to, part).map_err(|_| OUTSIDE)?;
            to += part.len();
        }
        Ok(Some(at))
    }

    /// Runs a script, with its code if it was compiled before. `None` if there is no memory for it.
    pub(super) async fn run(
        &self,
        store: &mut Store<State>,
        source: &[u8],
        code: Option<&[u8]>,
    ) -> Result<Option<i32>, CallError> {
        let Some(at) = self.place(store, [source, code.unwrap_or_default()]).await? else { return Ok(None) };
        let length = source.len() as u32; // as `place` has seen
        let status = match (code, &self.exports.compiling) {
            (Some(code), Some((_, run_compiled))) => {
                let run: TypedFunc<(u32, u32, u32), i32> = self.function(store, run_compiled)?;
                run.call_async(&mut *store, (at, length, code.len() as u32)).await
            }
            _ => {
                let run: TypedFunc<(u32, u32), i32> = self.function(store, &self.exports.run)?;
                run.call_async(&mut *store, (at, length)).await
            }
        };
        status.map(Some).map_err(CallError::of_call)
    }

    /// Runs a turn of a session. `None` if there is no memory for its source.
    pub(super) async fn turn(&self, store: &mut Store<State>, source: &[u8]) -> Result<Option<i32>, CallError> {
        let turn = self.exports.turn.as_ref().ok_or(CallError::Contract("it does not export `turn`"))?;
        let Some(at) = self.place(store, [source, &[]]).await? else { return Ok(None) };
        let turn: TypedFunc<(u32, u32), i32> = self.function(store, turn)?;
        turn.call_async(&mut *store, (at, source.len() as u32)).await.map(Some).map_err(CallError::of_call)
    }

    /// Compiles a script; its code, of at most `most` bytes, or `None` where the run had better do it.
    pub(super) async fn compile(
        &self,
        store: &mut Store<State>,
        source: &[u8],
        most: usize,
    ) -> Result<Option<Box<[u8]>>, CallError> {
        let Some((compile, _)) = &self.exports.compiling else { return Ok(None) };
        let Some(at) = self.place(store, [source, &[]]).await? else { return Ok(None) };
        let compile: TypedFunc<(u32, u32), u32> = self.function(store, compile)?;
        let made = compile.call_async(&mut *store, (at, source.len() as u32)).await.map_err(CallError::of_call)?;
        if made == 0 {
            return Ok(None);
        }
        let (code, length) = (self.word(store, made), made.checked_add(4).and_then(|at| self.word(store, at)));
        let (code, length) = code.zip(length).ok_or(OUTSIDE)?;
        if length as usize > most {
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize].into_boxed_slice();
        self.memory.read(&*store, code as usize, &mut bytes).map_err(|_| OUTSIDE)?;
        Ok(Some(bytes))
    }
}
