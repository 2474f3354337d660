//! Building a runtime: locks, sources, the recipe, and the one step in which the result appears.

use std::path::PathBuf;

use crate::{
    Language, compile,
    error::RuntimeError,
    folder::{self, Folders, KEEP_BUILD_VARIABLE, Runtime, locate},
    prerequisite::Prerequisite,
    progress::Progress,
    python::Recipe,
    sources::Sources,
    steps::{Training, WasmSteps},
};

/// How a runtime is built.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BuildOptions {
    /// A folder with the pinned source files; then nothing is fetched. By default they are downloaded and kept in the cache.
    pub sources: Option<PathBuf>,
    /// How many C files are compiled at once; by default as many as the machine has cores.
    pub jobs: Option<usize>,
    /// Build although the runtime is there, and take its place: for one that is damaged.
    pub replace: bool,
}

impl BuildOptions {
    /// Takes sources from a folder.
    #[must_use]
    pub fn sources(mut self, folder: impl Into<PathBuf>) -> Self {
        self.sources = Some(folder.into());
        self
    }

    /// Compiles so many C files at once.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Builds although the runtime is there.
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    fn sources_in<'a>(&'a self, downloads: &'a std::path::Path) -> Sources<'a> {
        match &self.sources {
            Some(folder) => Sources::given(folder),
            None => Sources::downloads(downloads),
        }
    }
}

/// Whether building a runtime did anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Built {
    /// It was there.
    AlreadyThere,
    /// It was built.
    New,
}

/// Names the programs that are missing for a build: only those for what must still be fetched, and `patch`.
///
/// # Errors
///
/// When no compiler is pinned for this machine.
pub fn missing_prerequisites(
    folders: &Folders,
    _: Language,
    options: &BuildOptions,
) -> Result<Vec<Prerequisite>, RuntimeError> {
    options.sources_in(&folders.sources()).missing_prerequisites()
}

/// Builds the runtime of a language, unless it is there.
///
/// Two builds at once do not collide: the second waits, says so, and finds the runtime there. An interrupted build leaves nothing that
/// [`locate`] would find, and the next one goes on where it stopped.
///
/// # Errors
///
/// Missing programs are named before any work starts ([`RuntimeError::Missing`]); a source with another than its pinned digest is
/// [`RuntimeError::WrongDigest`]; a full disk is [`RuntimeError::DiskFull`].
pub fn build(
    folders: &Folders,
    language: Language,
    options: &BuildOptions,
    steps: &dyn WasmSteps,
    progress: &dyn Progress,
) -> Result<(Runtime, Built), RuntimeError> {
    // A manifest that is not valid is a damaged runtime: build it again.
    let there = || if options.replace { None } else { locate(folders, language).ok().flatten() };
    if let Some(runtime) = there() {
        return Ok((runtime, Built::AlreadyThere));
    }
    folder::writable(folders)?;
    let missing = missing_prerequisites(folders, language, options)?;
    if !missing.is_empty() {
        return Err(RuntimeError::Missing(missing));
    }
    let name = language.runtime_name();
    let work = folders.build().join(name);
    folder::create(&folders.build())?;
    folder::create(&folders.runtimes())?;
    let _lock = folder::lock(&folder::lock_path(&folders.build(), name), language.name(), progress)?;
    if let Some(runtime) = there() {
        return Ok((runtime, Built::AlreadyThere));
    }

    folder::create(&work)?;
    let downloads = folders.sources();
    let fetched = options.sources_in(&downloads).fetch(&work.join("fetch"), progress)?;
    let recipe = match language {
        Language::Python => Recipe {
            folder: &work,
            fetched: &fetched,
            jobs: options.jobs.unwrap_or_else(compile::default_jobs),
            steps,
            progress,
        },
    };
    recipe.discard_if_stale()?;
    let result = work.join("result");
    recipe.build(&result)?;
    folder::publish(&result, &folders.runtimes().join(name), &work.join("old"))?;
    if !compile::is_set(KEEP_BUILD_VARIABLE) {
        folder::remove(&work)?;
        folder::remove_abandoned(&folders.build(), name);
    }
    match locate(folders, language)? {
        Some(runtime) => Ok((runtime, Built::New)),
        None => Err(RuntimeError::Manifest {
            path: folders.runtimes().join(name),
            reason: "the runtime vanished while it was being built".to_owned(),
        }),
    }
}

/// Builds an instrumented guest, lets it train and returns what it counted, in LLVM's raw format. For `cargo xtask profile`.
///
/// # Errors
///
/// As [`build`].
pub fn profile(
    folders: &Folders,
    language: Language,
    options: &BuildOptions,
    training: &Training<'_>,
    steps: &dyn WasmSteps,
    progress: &dyn Progress,
) -> Result<Vec<u8>, RuntimeError> {
    let missing = missing_prerequisites(folders, language, options)?;
    if !missing.is_empty() {
        return Err(RuntimeError::Missing(missing));
    }
    let name = format!("{}-profile", language.runtime_name());
    let work = folders.build().join(&name);
    folder::create(&work)?;
    let _lock = folder::lock(&folder::lock_path(&folders.build(), &name), language.name(), progress)?;
    let downloads = folders.sources();
    let fetched = options.sources_in(&downloads).fetch(&work.join("fetch"), progress)?;
    let jobs = options.jobs.unwrap_or_else(compile::default_jobs);
    let raw = match language {
        Language::Python => Recipe { folder: &work, fetched: &fetched, jobs, steps, progress }.profile(training)?,
    };
    if !compile::is_set(KEEP_BUILD_VARIABLE) {
        folder::remove(&work)?;
    }
    Ok(raw)
}
