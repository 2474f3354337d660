//! Scripts that are compiled before they run: once for each source, in an instance of its own.
//!
//! Compiling takes longer than running a small script. Every run of a script uses the code that was made so, the first
//! one too, so that fuel, clock and addresses are the same in all of them; the fuel that compiling took is counted in
//! each. Code is a function of the runtime, the script's name and its source. Nothing of the script is executed where it
//! is compiled, and whatever the code is, it only ever runs where that same script would.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use capibara_policies::Limits;

use super::guest::{CallError, Guest, Interpreter, Runtime};
use super::state::State;
use super::wasm::{Bounds, Spending, store};
use super::watch::Ended;
use crate::fields::Fields;
use crate::image::Visit;
use crate::kept::Kept;
use crate::kept_files::KeptFiles;
use crate::stream::Stdin;
use crate::world::{ClockConfig, Quotas, RandomConfig, World, WorldConfig};

/// Largest source, in bytes: a larger one takes long enough to compile that there is nothing to gain, and is compiled by
/// the run under its own limits.
const MAX_SOURCE: usize = 64 << 10;
/// Largest code that is kept, in bytes.
const MAX_CODE: usize = 512 << 10;
/// Folder in the cache folder; what of it is kept there, in bytes; and the most in each of 256 folders: 256 MiB in all.
const FOLDER: &str = "scripts";
const LARGEST_FILE: usize = 128 << 10;
const MOST_IN_FOLDER: usize = 8;
/// What compiling may take; where it takes more, the run does it. About 20 ms.
const FUEL: u64 = 250_000_000;
const QUOTAS: Quotas = Quotas { output: 4 << 10, bytes_written: 0, files: 0, descriptors: 8, memory: 128 << 20 };
/// Scripts that are kept, and the bytes of their code together.
const MOST_KEPT: usize = 256;
const MOST_KEPT_BYTES: usize = 4 << 20;

/// A compiled script.
pub(crate) struct Compiled {
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

    fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.fuel.to_le_bytes(), self.memory_peak.to_le_bytes()];
        [numbers.as_flattened(), &self.code].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fuel, rest) = bytes.split_first_chunk()?;
        let (memory_peak, code) = rest.split_first_chunk()?;
        let (fuel, memory_peak) = (u64::from_le_bytes(*fuel), u64::from_le_bytes(*memory_peak));
        Some(Self { code: code.into(), fuel, memory_peak })
    }
}

/// The scripts one runtime has compiled; `None` for those that a run has to compile itself.
pub(crate) struct CompiledScripts {
    kept: Kept<Option<Arc<Compiled>>>,
    /// Those of other processes, and the digest of all that code follows from besides name and source.
    files: Option<(KeptFiles, [u8; 32])>,
}

impl CompiledScripts {
    pub(crate) fn new() -> Self {
        Self { kept: Kept::new(MOST_KEPT, MOST_KEPT_BYTES), files: None }
    }

    /// Keeps them in the cache folder, too. `runtime` says what compiles them: the runtime, and the settings its code was
    /// compiled with. What host calls cost is this program's matter, so another program's scripts are not used.
    pub(crate) fn with_files(mut self, cache: &Path, runtime: &[&str]) -> Self {
        let Ok(program) = std::fs::metadata("/proc/self/exe") else { return self };
        let mut fields = Fields::default();
        runtime.iter().for_each(|text| fields.text(text));
        let times = [program.mtime(), program.mtime_nsec()].map(i64::cast_unsigned);
        [program.dev(), program.ino(), program.len()].into_iter().chain(times).for_each(|number| fields.number(number));
        self.files = Some((KeptFiles::new(cache.join(FOLDER), LARGEST_FILE, MOST_IN_FOLDER), fields.digest()));
        self
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
    let CompiledScripts { kept, files } = &runtime.compiled;
    // Text that stands in no file is nobody's to keep in one.
    let files = files.as_ref().filter(|_| name.starts_with('/'));
    let mut fields = Fields::default();
    fields.bytes(&files.map_or([0; 32], |(_, digest)| *digest));
    fields.text(name);
    fields.bytes(source);
    let digest = fields.digest();
    if let Some(compiled) = kept.get(&digest) {
        return compiled;
    }
    if let Some(compiled) = files.and_then(|(files, _)| Compiled::from_bytes(&files.get(&digest)?)) {
        return Some(Arc::new(compiled));
    }
    let visit = guest.start.visit();
    let work = pin!(compile(guest, runtime, name, source, until, &visit));
    let made = match until.watch(work, &visit, Arc::default(), None).await {
        Ended::Returned(Ok(made)) => made.map(Arc::new),
        // Out of fuel, memory or stack: so it is each time.
        Ended::Returned(Err(CallError::Guest(error))) if error.is::<wasmtime::Trap>() => None,
        // Nothing is known of the script: the machine or the caller came in between.
        Ended::Returned(Err(_)) | Ended::Deadline | Ended::Canceled | Ended::NoTimer(_) => return None,
    };
    if let (Some((files, _)), Some(made)) = (files, &made) {
        files.keep(&digest, &made.to_bytes());
    }
    kept.keep(digest, made.clone(), size_of::<Compiled>() + made.as_ref().map_or(0, |it| it.code.len()));
    made
}

async fn compile(
    guest: &Guest,
    runtime: &Runtime,
    name: &str,
    source: &[u8],
    until: &Bounds<'_>,
    visit: &Visit,
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
    let interpreter = Interpreter::new(guest, runtime, None, visit, &mut store)?;
    let Some(code) = interpreter.compile(&mut store, source, MAX_CODE).await? else { return Ok(None) };
    let linear = interpreter.memory_bytes(&store);
    store.data_mut().note_memory(linear);
    let left = store.get_fuel().unwrap_or(FUEL);
    let state = store.into_data();
    let fuel = FUEL.saturating_sub(left).saturating_add(state.fuel_owed());
    Ok(Some(Compiled { code, fuel, memory_peak: state.memory_peak }))
}
