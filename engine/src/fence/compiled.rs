//! Scripts that are compiled before they run: once for each source, in an instance of its own.
//!
//! Compiling takes longer than running a small script. Every run of a script uses the code that was made so, the first
//! one too, so that fuel, clock and addresses are the same in all of them; the fuel that compiling took is counted in
//! each. Code is a function of the runtime, the script's name and its source. Nothing of the script is executed where it
//! is compiled, and whatever the code is, it only ever runs where that same script would.

use std::pin::pin;
use std::sync::Arc;

use capibara_policies::Limits;
use sha2::{Digest as _, Sha256};

use super::guest::{CallError, Guest, Interpreter, Runtime};
use super::state::State;
use super::wasm::{Bounds, Spending, store};
use super::watch::{Ended, Watch};
use crate::kept::Kept;
use crate::stream::Stdin;
use crate::world::{ClockConfig, Quotas, RandomConfig, World, WorldConfig};

/// Largest source, in bytes: a larger one takes long enough to compile that there is nothing to gain, and is compiled by
/// the run under its own limits.
const MAX_SOURCE: usize = 64 << 10;
/// Largest code that is kept, in bytes.
const MAX_CODE: usize = 512 << 10;
/// What compiling may take; where it takes more, the run does it. About 20 ms.
const FUEL: u64 = 250_000_000;
const QUOTAS: Quotas = Quotas { output: 4 << 10, bytes_written: 0, files: 0, descriptors: 8, memory: 128 << 20 };
/// Scripts that are kept, and the bytes of their code together.
const MOST_KEPT: usize = 256;
const MOST_KEPT_BYTES: usize = 4 << 20;

/// A compiled script.
pub(super) struct Compiled {
    /// As the guest wrote it, for the guest to read.
    pub(super) code: Box<[u8]>,
    /// Fuel that compiling took; 0 where fuel is not counted.
    pub(super) fuel: u64,
    /// Memory that compiling took, in bytes.
    pub(super) memory_peak: u64,
}

impl Compiled {
    /// Whether a run under these limits could have compiled it.
    pub(super) fn fits(&self, limits: &Limits) -> bool {
        self.memory_peak <= limits.memory && limits.fuel.is_none_or(|fuel| self.fuel < fuel)
    }
}

/// The scripts one runtime has compiled; `None` for those that a run has to compile itself.
pub(super) struct CompiledScripts(Kept<Option<Arc<Compiled>>>);

impl CompiledScripts {
    pub(super) fn new() -> Self {
        Self(Kept::new(MOST_KEPT, MOST_KEPT_BYTES))
    }
}

/// The code of a script that is called `name`, compiled now if it was not before. `None` where the run has to do it,
/// because compiling fails, warns or takes much, or because the run is to end now.
pub(super) async fn compiled(
    guest: &Guest,
    runtime: &Runtime,
    name: &str,
    source: &[u8],
    until: &Bounds<'_>,
) -> Option<Arc<Compiled>> {
    if source.len() > MAX_SOURCE || !runtime.compiles() {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name.as_bytes());
    hash.update(source);
    let digest: [u8; 32] = hash.finalize().into();
    if let Some(compiled) = runtime.compiled.0.get(&digest) {
        return compiled;
    }
    let work = pin!(compile(guest, runtime, name, source, until));
    let watch = Watch {
        inner: work,
        deadline: until.deadline,
        slept_nanos: Arc::default(),
        canceler: until.canceler,
        alarm: until.timer.alarm(),
        polls: 0,
    };
    let made = match watch.await {
        Ended::Returned(Ok(made)) => made.map(Arc::new),
        // Out of fuel, memory or stack: so it is each time.
        Ended::Returned(Err(CallError::Guest(error))) if error.is::<wasmtime::Trap>() => None,
        // Nothing is known of the script: the machine or the caller came in between.
        Ended::Returned(Err(_)) | Ended::Deadline | Ended::Canceled | Ended::NoTimer(_) => return None,
    };
    runtime.compiled.0.keep(digest, made.clone(), size_of::<Compiled>() + made.as_ref().map_or(0, |it| it.code.len()));
    made
}

async fn compile(
    guest: &Guest,
    runtime: &Runtime,
    name: &str,
    source: &[u8],
    until: &Bounds<'_>,
) -> Result<Option<Compiled>, CallError> {
    let world = World::new(WorldConfig {
        args: vec![name.to_owned()],
        env: Vec::new(),
        clock: ClockConfig::Virtual { epoch_nanos: 0 },
        random: RandomConfig::Seeded(0),
        stdin: Stdin::Closed,
        sink: None,
        capture: false,
        quotas: QUOTAS,
        deadline: until.deadline,
        files: Vec::new(),
        grants: Vec::new(),
    });
    let Ok(world) = world else { return Ok(None) };
    let state = State::new(world, QUOTAS.memory, None, until.timer.clone());
    let (mut store, _ticking) = store(guest, state, Spending { limit: FUEL, spent: 0 }, until.timer)
        .map_err(|_| CallError::Contract("no store can be made for it"))?;
    store.data_mut().canceler = until.canceler.clone();
    let interpreter = Interpreter::new(guest, runtime, None, &mut store)?;
    let Some(code) = interpreter.compile(&mut store, source, MAX_CODE).await? else { return Ok(None) };
    let linear = interpreter.memory_bytes(&store);
    store.data_mut().note_memory(linear);
    let left = store.get_fuel().unwrap_or(FUEL);
    let state = store.into_data();
    let fuel = FUEL.saturating_sub(left).saturating_add(state.fuel_owed());
    Ok(Some(Compiled { code, fuel, memory_peak: state.memory_peak }))
}
