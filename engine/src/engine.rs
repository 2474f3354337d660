//! The engine: loads runtimes and runs jobs on them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use capibara_policies::Verdict;
use capibara_runtimes::{
    BuildOptions, Folders, Language as Recipe, Manifest, PackedCode, Phase, Progress, ProgressEvent, Runtime,
    RuntimeError, Silent, Unpacked,
};
use wasmtime::{Linker, Module};

use crate::artifact::{self, Cpu, Metering, OpenError, Target, config};
use crate::error::EngineError;
use crate::fence::{self, CompiledScripts, Guest, Processors, Start, State};
use crate::gate::{Gate, Pass};
use crate::grant::{self, Grant, Protected};
use crate::image::{Image, Space};
use crate::job::{Job, Script};
use crate::language::Language;
use crate::os;
use crate::out_folder::OutFolder;
use crate::outcome::{Outcome, RuntimeId};
use crate::packs::{self, Pack};
use crate::programs::Programs;
use crate::recipe::Steps;
use crate::reports::KeptReports;
use crate::scan::{Scan, Scans};
use crate::session::{Session, SessionConfig};
use crate::timer::Timer;
use crate::world::HostGrant;

/// How an engine is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Where runtimes and compiled code live. Default: `CAPIBARA_CACHE_DIR`, else `capibara` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// Compile for this machine's processor instead of one that any x86-64 of the last ten years meets.
    /// Default: false, but code that was so compiled before is used where it is there.
    pub native_cpu: bool,
    /// Compare every memory with its image after a run, which costs milliseconds. For tests. Default: false.
    pub verify_memory: bool,
    /// The engine runs one job, and the process ends after it: memory stays as the run left it instead of being put back
    /// for the next one, and the cache folder keeps the script's code and scan for the next process. Default: false.
    pub single_run: bool,
    /// How many runs and turns may be under way at one time, and how many may wait. Default: `None`, all start at once.
    pub queue: Option<Queue>,
    /// A pack, as [`Engine::export`] writes it, to take a runtime from where none is installed; its compiled code is not used. Default: the
    /// variable `CAPIBARA_PACK`, or the pack in this program, if it has one (crate `capibara-runtime-python`), and else a runtime is built
    /// from its sources.
    pub pack: Option<PathBuf>,
}

/// Bounds what an engine does at one time.
///
/// A run that finds no place waits in a queue; one that finds the queue full is refused
/// ([`EngineError::Overloaded`]). A place that becomes free goes to the next [caller](Job::caller) in rotation, so that
/// one with a thousand jobs does not keep another with one waiting. A run keeps its place while it sleeps or waits for
/// input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Runs under way at one time, at least 1. About the number of processors keeps all of them busy.
    pub running: usize,
    /// Runs that may wait.
    pub waiting: usize,
}

/// Which of its two compiled forms a runtime is used in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Metered by fuel: budgets, virtual time, determinism.
    Fuel,
    /// Interrupted by epochs only, with real clocks.
    Live,
}

impl Variant {
    /// `fuel` or `live`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Live => "live",
        }
    }

    fn of(live: bool) -> Self {
        if live { Self::Live } else { Self::Fuel }
    }

    fn metering(self) -> Metering {
        match self {
            Self::Fuel => Metering::Fuel,
            Self::Live => Metering::Epoch,
        }
    }
}

/// A runtime in the cache folder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstalledRuntime {
    /// Its folder.
    pub dir: PathBuf,
    /// What it was built from and what it consists of.
    pub manifest: Manifest,
    /// Whether this program's own recipe built it, so that it is the one that runs scripts.
    pub current: bool,
    /// Compiled forms that are there.
    pub compiled: Vec<Compiled>,
    runtime: Runtime,
}

impl InstalledRuntime {
    /// Bytes the runtime takes on disk, compiled forms included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.runtime.disk_bytes()
    }
}

/// A compiled form of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compiled {
    /// File name: variant, processor and engine digest.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, in hexadecimal, or why it cannot be used.
    pub sha256: Result<String, String>,
}

/// A file of a runtime that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// File name.
    pub file: String,
    /// SHA-256 it should have.
    pub expected: String,
    /// SHA-256 it has, or why it cannot be read.
    pub found: String,
}

/// Runs jobs. Cheap to clone; all clones share loaded runtimes, memories and one timer thread.
///
/// ```no_run
/// # use capibara::{Engine, EngineConfig, Job};
/// let engine = Engine::new(EngineConfig::default())?;
/// let outcome = engine.run_blocking(Job::python("import sys; sys.exit(3)"))?;
/// assert_eq!(outcome.exit_code(), Some(3));
/// # Ok::<(), capibara::EngineError>(())
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    config: EngineConfig,
    folders: Folders,
    space: Arc<Space>,
    timer: Arc<Timer>,
    guests: Mutex<HashMap<(Language, Variant), Shelf>>,
    programs: Programs,
    scans: Scans,
    gate: Option<Arc<Gate>>,
    processors: Arc<Processors>,
}

/// One loaded guest, or none yet. Whoever else wants it waits while it is loaded; others do not.
type Shelf = Arc<Mutex<Option<Arc<Guest>>>>;

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// Sets up an engine. Reads nothing yet and starts no thread. Where no cache folder is configured and none can be derived from the
    /// environment, nothing is kept.
    ///
    /// # Errors
    /// None at present.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let folders = match &config.cache_dir {
            Some(cache) => Folders { cache: cache.clone() },
            None => Folders::from_env().unwrap_or_else(|_| Folders::nowhere()),
        };
        let mut reports = KeptReports::new(&folders.cache);
        if config.single_run {
            reports = reports.of_any_length();
        }
        let scans = Scans::new(reports);
        let space = Space::new(config.verify_memory, !config.single_run);
        let gate = config.queue.map(|queue| Arc::new(Gate::new(queue.running, queue.waiting)));
        Ok(Self(Arc::new(Shared {
            config,
            folders,
            space,
            timer: Arc::new(Timer::new()),
            guests: Mutex::default(),
            programs: Programs::default(),
            scans,
            gate,
            processors: Arc::new(Processors::new()),
        })))
    }

    /// Scans a job against its policy: what [`run`](Self::run) does first. The last scans are kept, so that calling it
    /// before a run costs nothing. Nothing is executed.
    #[must_use]
    pub fn scan(&self, job: &Job) -> Arc<Scan> {
        self.0.scans.get(job)
    }

    /// Scans a job and, if its policy does not deny it, runs it to its end.
    ///
    /// The future needs no particular async runtime. It gives control back several times in a millisecond of computing, and
    /// dropping it ends the run. A WebAssembly program is compiled within its first poll, unless the cache folder has
    /// it (bounded, up to seconds for a large one).
    ///
    /// # Errors
    /// [`EngineError`] if we could not do the job. Whatever the script does is an [`Outcome`].
    pub async fn run(&self, job: Job) -> Result<Outcome, EngineError> {
        let scan = self.scan(&job);
        if scan.verdict == Verdict::Deny {
            return Ok(fence::denied(job, scan));
        }
        let _place = self.place(&job.caller).await?;
        let variant = Variant::of(job.live);
        let guest = match job.language {
            Language::Wasm => self.program(&job.script, variant)?,
            language => self.guest(language, variant, None)?,
        };
        let grants = self.open_grants(&job.grants)?;
        fence::run(&guest, job, scan, grants, &self.0.timer).await
    }

    /// Opens a session. Nothing is run yet.
    ///
    /// # Errors
    /// [`EngineError`] if the runtime is not there (see [`prepare`](Self::prepare)) or knows no sessions, or a grant cannot
    /// be opened.
    pub fn session(&self, config: SessionConfig) -> Result<Session, EngineError> {
        let guest = self.guest(config.language, Variant::of(config.live), None)?;
        let grants = self.open_grants(&Grant::of_policy(&config.policy))?;
        Session::new(self.clone(), guest, config, grants)
    }

    /// Opens a folder of the host to write artifacts into; it is made if the folder above it is there. A path of ours (cache,
    /// configuration, state, program), or one that holds one, is refused as it is for grants. Links on the way to it are
    /// followed.
    ///
    /// # Errors
    /// [`EngineError::InvalidJob`] if it cannot be used.
    pub fn out_folder(&self, path: impl AsRef<Path>) -> Result<OutFolder, EngineError> {
        OutFolder::open(path.as_ref(), &Protected::new(&self.0.folders.cache))
    }

    fn open_grants(&self, grants: &[Grant]) -> Result<Vec<HostGrant>, EngineError> {
        if grants.is_empty() { Ok(Vec::new()) } else { grant::open(grants, &Protected::new(&self.0.folders.cache)) }
    }

    /// A place to run, once it is that caller's turn.
    pub(crate) async fn place(&self, caller: &Arc<str>) -> Result<Option<Pass>, EngineError> {
        match &self.0.gate {
            Some(gate) => Ok(Some(gate.enter(caller).await?)),
            None => Ok(None),
        }
    }

    /// Runs a future on this thread to its end.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        fence::block_on(&self.0.processors, future)
    }

    pub(crate) fn timer(&self) -> &Arc<Timer> {
        &self.0.timer
    }

    /// Runs a job on this thread to its end.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_blocking(&self, job: Job) -> Result<Outcome, EngineError> {
        self.block_on(self.run(job))
    }

    /// Makes a runtime ready: builds it if it is not there (minutes), compiles the variant if it is not there
    /// (seconds), and loads it. `progress` hears of it only when there is work. Does nothing for a language that needs no
    /// runtime.
    ///
    /// # Errors
    /// [`EngineError`] says what is missing, and its hint how to get it.
    pub fn prepare(&self, language: Language, live: bool, progress: &dyn Progress) -> Result<(), EngineError> {
        self.prepare_with(language, live, Building { sources: None, thorough: false, progress })
    }

    /// As [`prepare`](Self::prepare), and digests what is there, so that anything damaged is made anew. `sources` is a
    /// folder that holds the recipe's source files, so that no network is needed.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn prepare_from(
        &self,
        language: Language,
        live: bool,
        sources: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<(), EngineError> {
        self.prepare_with(language, live, Building { sources, thorough: true, progress })
    }

    fn prepare_with(&self, language: Language, live: bool, building: Building<'_>) -> Result<(), EngineError> {
        if !language.has_runtime() {
            return Ok(());
        }
        self.guest(language, Variant::of(live), Some(&building)).map(drop)
    }

    /// The runtimes in the cache folder, this program's own first.
    ///
    /// # Errors
    /// If the folder is there and cannot be read.
    pub fn installed(&self) -> Result<Vec<InstalledRuntime>, EngineError> {
        let mut found: Vec<InstalledRuntime> = capibara_runtimes::list(&self.0.folders)?
            .into_iter()
            .map(|runtime| InstalledRuntime {
                dir: runtime.dir.clone(),
                manifest: runtime.manifest.clone(),
                current: runtime.is_current(),
                compiled: compiled(&runtime),
                runtime,
            })
            .collect();
        found.sort_by_key(|runtime| !runtime.current);
        Ok(found)
    }

    /// Digests every file of a runtime and says which differ from what was recorded.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn verify(&self, runtime: &InstalledRuntime) -> Result<Vec<Mismatch>, EngineError> {
        let manifest = &runtime.manifest;
        let mut files = vec![
            (runtime.runtime.code(), Some(manifest.code.sha256.clone())),
            (runtime.runtime.image(), Some(manifest.image.sha256.clone())),
        ];
        let folder = runtime.runtime.compiled();
        files.extend(runtime.compiled.iter().map(|compiled| (folder.join(&compiled.file), None)));
        let mut mismatches = Vec::new();
        for (path, expected) in files {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match artifact::open(&path, expected.as_deref(), true) {
                Ok(_) => {}
                Err(OpenError::Corrupt { expected, found, .. }) => mismatches.push(Mismatch { file, expected, found }),
                Err(error) => {
                    let found = EngineError::from(error).to_string();
                    mismatches.push(Mismatch { file, expected: expected.unwrap_or_default(), found });
                }
            }
        }
        Ok(mismatches)
    }

    /// Writes the runtime of a language as a pack: module, memory, manifest, a bill of what it was built from, and code that is compiled now
    /// for each of `targets`. The same runtime and targets give the same bytes.
    ///
    /// # Errors
    /// [`EngineError::RuntimeMissing`] if it is not installed; if it is damaged or `to` cannot be written.
    pub fn export(
        &self,
        language: Language,
        targets: &[Target],
        to: impl std::io::Write,
        progress: &dyn Progress,
    ) -> Result<Manifest, EngineError> {
        let missing = EngineError::RuntimeMissing { language: language.name() };
        let Some(recipe) = language.runtime() else { return Err(missing) };
        let runtime = capibara_runtimes::locate(&self.0.folders, recipe)?.ok_or(missing)?;
        let mut compiled = Vec::new();
        for target in targets {
            let cpu = Cpu::Other(*target);
            let engine = self.wasmtime(Variant::Fuel, cpu)?;
            let bytes = compile(&engine, &runtime, progress)?;
            compiled.push(PackedCode { file: compiled_name(&engine, Variant::Fuel, cpu), bytes });
        }
        progress.event(ProgressEvent::Started { phase: Phase::Write, total: None });
        capibara_runtimes::pack(&runtime, &compiled, to)?;
        progress.event(ProgressEvent::Finished { phase: Phase::Write });
        Ok(runtime.manifest)
    }

    /// Installs a runtime out of a pack, whose digests are all compared first; one that is there is replaced. Code that was compiled ahead is
    /// machine code, which runs outside of any sandbox: it is left out unless `trusted` says that the pack comes from somebody you
    /// would take a program from. `origin` names the pack in errors.
    ///
    /// # Errors
    /// [`EngineError::Runtime`] if it is no pack, is damaged, or is of another version of Capibara; if nothing can be written.
    pub fn import(
        &self,
        pack: impl std::io::Read,
        origin: &Path,
        trusted: bool,
        progress: &dyn Progress,
    ) -> Result<Manifest, EngineError> {
        let mut unpacked = packs::read(pack, origin, progress)?;
        if !trusted && !unpacked.compiled.is_empty() {
            unpacked.compiled.clear();
            progress.event(ProgressEvent::Message("the compiled code in it is not taken".into()));
        }
        packs::install(&unpacked, &self.0.folders, true, progress)?;
        Ok(unpacked.manifest)
    }

    /// Whether the runtime of a language is taken from a pack where none is installed, and not built. See [`EngineConfig::pack`].
    #[must_use]
    pub fn has_pack(&self, language: Language) -> bool {
        language.runtime().is_some_and(|recipe| Pack::find(self.0.config.pack.as_deref(), recipe).is_some())
    }

    /// The loaded guest. Without `building`, a runtime that is not there is an error.
    fn guest(
        &self,
        language: Language,
        variant: Variant,
        building: Option<&Building<'_>>,
    ) -> Result<Arc<Guest>, EngineError> {
        let shelf = {
            let mut guests = self.0.guests.lock().unwrap_or_else(PoisonError::into_inner);
            guests.entry((language, variant)).or_default().clone()
        };
        let mut place = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest) = &*place {
            return Ok(guest.clone());
        }
        let guest = Arc::new(self.load(language, variant, building)?);
        *place = Some(guest.clone());
        Ok(guest)
    }

    /// The program that a script is.
    fn program(&self, script: &Script, variant: Variant) -> Result<Arc<Guest>, EngineError> {
        let Script::File { source, .. } = script else {
            return Err(EngineError::InvalidJob {
                reason: "a WebAssembly program is a file".into(),
                hint: Some("give its name and its bytes".into()),
            });
        };
        let cpu = if self.0.config.native_cpu { Cpu::Native } else { baseline()? };
        self.0.programs.load(&self.0.folders.cache, source, variant.metering(), cpu)
    }

    fn load(
        &self,
        language: Language,
        variant: Variant,
        building: Option<&Building<'_>>,
    ) -> Result<Guest, EngineError> {
        let progress: &dyn Progress = building.map_or(&Silent, |building| building.progress);
        let Some(recipe) = language.runtime() else {
            return Err(EngineError::RuntimeMissing { language: language.name() });
        };
        let thorough = building.is_some_and(|building| building.thorough);
        let damaged = match capibara_runtimes::locate(&self.0.folders, recipe) {
            Ok(Some(runtime)) => match self.load_runtime(&runtime, variant, thorough, progress) {
                Err(error @ EngineError::Artifact { .. }) => Some(error),
                loaded => return loaded,
            },
            Ok(None) => None,
            Err(error @ RuntimeError::Manifest { .. }) => Some(error.into()),
            Err(error) => return Err(error.into()),
        };
        let from_sources = building.is_some_and(|building| building.sources.is_some());
        let pack = Pack::find(self.0.config.pack.as_deref(), recipe).filter(|_| !from_sources);
        if let Some(error) = &damaged {
            let making = if pack.is_some() { "unpacking" } else { "building" };
            progress.event(ProgressEvent::Message(format!("{error}; {making} the runtime again")));
        }
        match (pack, building) {
            (Some(pack), _) => self.load_pack(pack, variant, damaged.is_some(), progress),
            (None, Some(building)) => {
                let runtime = self.build(recipe, building, damaged.is_some())?;
                self.load_runtime(&runtime, variant, false, progress)
            }
            (None, None) => Err(damaged.unwrap_or(EngineError::RuntimeMissing { language: language.name() })),
        }
    }

    /// Unpacks a runtime into the cache folder and loads it. Where nothing can be written there, it is loaded from memory.
    fn load_pack(
        &self,
        pack: Pack,
        variant: Variant,
        replace: bool,
        progress: &dyn Progress,
    ) -> Result<Guest, EngineError> {
        let unpacked = pack.unpack(progress)?;
        match packs::install(&unpacked, &self.0.folders, replace, progress) {
            Ok((runtime, _)) => self.load_runtime(&runtime, variant, false, progress),
            Err(error) if packs::cannot_write(&error) => {
                let text = format!("{error}; the runtime is kept in memory, and each start makes it ready again");
                progress.event(ProgressEvent::Message(text));
                self.load_unpacked(&unpacked, variant, progress)
            }
            Err(error) => Err(error),
        }
    }

    /// What code is compiled for: this machine if that was asked for or done before, else the baseline.
    fn cpu(&self, runtime: &Runtime, variant: Variant) -> Result<Cpu, EngineError> {
        if self.0.config.native_cpu {
            return Ok(Cpu::Native);
        }
        let native = format!("{}-{}-", variant.name(), Cpu::Native.name());
        let made = std::fs::read_dir(runtime.compiled()).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&native))
        });
        // The name ends in a digest of this machine's features: code of another machine is not there for this one.
        if made && compiled_path(&self.wasmtime(variant, Cpu::Native)?, runtime, variant, Cpu::Native).is_file() {
            return Ok(Cpu::Native);
        }
        baseline()
    }

    fn wasmtime(&self, variant: Variant, cpu: Cpu) -> Result<wasmtime::Engine, EngineError> {
        config(variant.metering(), cpu, Some(&self.0.space))
            .and_then(|config| wasmtime::Engine::new(&config))
            .map_err(EngineError::wasm("set up Wasmtime"))
    }

    /// Builds a runtime. With `replace`, also if it is there.
    fn build(&self, language: Recipe, building: &Building<'_>, replace: bool) -> Result<Runtime, EngineError> {
        let steps = Steps::new().map_err(EngineError::wasm("set up the recipe"))?;
        let mut options = BuildOptions::default().replace(replace);
        if let Some(sources) = building.sources {
            options = options.sources(sources);
        }
        let (runtime, _) = capibara_runtimes::build(&self.0.folders, language, &options, &steps, building.progress)?;
        Ok(runtime)
    }

    /// Loads a runtime. With `thorough`, everything it consists of is digested first.
    fn load_runtime(
        &self,
        runtime: &Runtime,
        variant: Variant,
        thorough: bool,
        progress: &dyn Progress,
    ) -> Result<Guest, EngineError> {
        let manifest = &runtime.manifest;
        if thorough {
            // Needed only where code is compiled, so a run would not notice.
            artifact::open(&runtime.code(), Some(&manifest.code.sha256), true)?;
        }
        let cpu = self.cpu(runtime, variant)?;
        let engine = self.wasmtime(variant, cpu)?;
        let image = artifact::open(&runtime.image(), Some(&manifest.image.sha256), thorough)?.into_file();
        let module = compiled_module(&engine, runtime, (variant, cpu), thorough, progress)?;
        let mut scripts = CompiledScripts::new();
        if self.0.config.single_run {
            let settings = artifact::engine_digest(&engine);
            scripts = scripts.with_files(&self.0.folders.cache, &[variant.name(), &manifest.sha256, &settings]);
        }
        self.connect(engine, manifest, image, &module, scripts, variant)
    }

    /// Loads a runtime that stands in no file.
    fn load_unpacked(
        &self,
        unpacked: &Unpacked,
        variant: Variant,
        progress: &dyn Progress,
    ) -> Result<Guest, EngineError> {
        let cpu = if self.0.config.native_cpu { Cpu::Native } else { baseline()? };
        let engine = self.wasmtime(variant, cpu)?;
        let image = os::memory_file(&unpacked.image).map_err(EngineError::os("keep the memory image in memory"))?;
        let file = compiled_name(&engine, variant, cpu);
        let module = match unpacked.compiled.iter().find(|compiled| compiled.file == file) {
            Some(compiled) => artifact::load_built_in(&engine, &compiled.bytes),
            None => {
                progress.event(ProgressEvent::Started { phase: Phase::CompileAhead, total: None });
                let module = Module::from_binary(&engine, &unpacked.code);
                progress.event(ProgressEvent::Finished { phase: Phase::CompileAhead });
                module
            }
        };
        let module = module.map_err(EngineError::wasm("load the runtime"))?;
        self.connect(engine, &unpacked.manifest, image, &module, CompiledScripts::new(), variant)
    }

    /// Connects a loaded module with its memory image and the World.
    fn connect(
        &self,
        engine: wasmtime::Engine,
        manifest: &Manifest,
        image: std::fs::File,
        module: &Module,
        scripts: CompiledScripts,
        variant: Variant,
    ) -> Result<Guest, EngineError> {
        let memory_bytes = usize::try_from(manifest.memory_min_bytes).unwrap_or(usize::MAX);
        let image = Image::open(image, memory_bytes).map_err(EngineError::os("map the memory image"))?;
        let mut linker: Linker<State> = Linker::new(&engine);
        fence::link(&mut linker).map_err(EngineError::wasm("define the World's functions"))?;
        let instances =
            linker.instantiate_pre(module).map_err(EngineError::wasm("connect the runtime with the World"))?;
        let id =
            RuntimeId { name: format!("{}-{}", manifest.language, manifest.version), sha256: manifest.sha256.clone() };
        let start = Start::Runtime(Box::new(fence::Runtime::new(image, self.0.space.clone(), module, scripts)?));
        Ok(Guest { engine, instances, start, metering: variant.metering(), id })
    }
}

/// The processor everything is compiled for, if this machine is one.
fn baseline() -> Result<Cpu, EngineError> {
    match Cpu::missing() {
        missing if missing.is_empty() => Ok(Cpu::Baseline),
        missing => Err(EngineError::CpuUnsupported { missing }),
    }
}

/// What building a runtime needs.
struct Building<'a> {
    sources: Option<&'a Path>,
    /// Whether to digest what is there.
    thorough: bool,
    progress: &'a dyn Progress,
}

/// Where code compiled with the settings of `engine` is kept.
fn compiled_path(engine: &wasmtime::Engine, runtime: &Runtime, variant: Variant, cpu: Cpu) -> PathBuf {
    runtime.compiled().join(compiled_name(engine, variant, cpu))
}

/// The name of that file.
pub(crate) fn compiled_name(engine: &wasmtime::Engine, variant: Variant, cpu: Cpu) -> String {
    format!("{}-{}-{}.cwasm", variant.name(), cpu.name(), &artifact::engine_digest(engine)[..16])
}

/// The compiled module: from its file, or compiled now and kept for the next time.
fn compiled_module(
    engine: &wasmtime::Engine,
    runtime: &Runtime,
    (variant, cpu): (Variant, Cpu),
    thorough: bool,
    progress: &dyn Progress,
) -> Result<Module, EngineError> {
    let folder = runtime.compiled();
    let path = compiled_path(engine, runtime, variant, cpu);
    match artifact::open(&path, None, thorough) {
        Ok(opened) => match artifact::load(engine, opened) {
            Ok(module) => return Ok(module),
            Err(error) => progress
                .event(ProgressEvent::Message(format!("compiled code is not usable ({error}); compiling again"))),
        },
        Err(OpenError::Missing { .. }) => {}
        Err(error) => progress.event(ProgressEvent::Message(format!("{error}; compiling again"))),
    }
    let bytes = compile(engine, runtime, progress)?;
    match artifact::make_folder(&folder).and_then(|()| artifact::store(&path, &bytes)) {
        Ok(_) => artifact::load(engine, artifact::open(&path, None, false)?),
        Err(error) => {
            let text =
                format!("compiled code cannot be kept in `{}` ({error}); each start compiles it", folder.display());
            progress.event(ProgressEvent::Message(text));
            artifact::load_built_in(engine, &bytes)
        }
    }
    .map_err(EngineError::wasm("load compiled code"))
}

/// Compiles a runtime's module.
fn compile(engine: &wasmtime::Engine, runtime: &Runtime, progress: &dyn Progress) -> Result<Vec<u8>, EngineError> {
    let code = runtime.code();
    artifact::open(&code, Some(&runtime.manifest.code.sha256), false)?;
    let wasm = std::fs::read(&code).map_err(EngineError::os("read the runtime's code"))?;
    progress.event(ProgressEvent::Started { phase: Phase::CompileAhead, total: None });
    let bytes = engine.precompile_module(&wasm).map_err(EngineError::wasm("compile the runtime"))?;
    progress.event(ProgressEvent::Finished { phase: Phase::CompileAhead });
    Ok(bytes)
}

fn compiled(runtime: &Runtime) -> Vec<Compiled> {
    let Ok(entries) = std::fs::read_dir(runtime.compiled()) else { return Vec::new() };
    let mut found: Vec<Compiled> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"))
        .map(|entry| Compiled {
            file: entry.file_name().to_string_lossy().into_owned(),
            bytes: entry.metadata().map_or(0, |meta| meta.len()),
            sha256: artifact::open(&entry.path(), None, false)
                .map(|opened| opened.sha256)
                .map_err(|error| error.to_string()),
        })
        .collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}
