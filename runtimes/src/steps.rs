//! The steps of a recipe that run WebAssembly: a trait, because this crate knows no WebAssembly engine.

use std::{fmt, sync::Arc};

/// Runs guest modules while a runtime is built. The `capibara` crate implements it on its own World.
///
/// In these steps the guest's files are the ones handed over and nothing else; `/tmp` and [`GuestCall::output`] are writable,
/// `/home/script` exists, clocks and randomness are fixed and listings are sorted: so that results are reproducible.
pub trait WasmSteps: Sync {
    /// Instantiates the module and calls the export.
    ///
    /// `_initialize` is called first where the module exports it and the export is not `_start`. Modules may be large and are
    /// called many times in a row: implementations keep the last one compiled.
    ///
    /// # Errors
    ///
    /// When the module cannot be compiled or instantiated, or traps. A program that ends with another code than 0 is a result.
    fn call(&self, call: GuestCall<'_>) -> Result<GuestResult, StepError>;

    /// Runs a reactor's initialiser ([`GuestCall::export`] is `wizer-initialize`) and keeps the memory it leaves.
    ///
    /// # Errors
    ///
    /// When the initialiser fails, or the module is of a shape that cannot be split into code and memory image.
    fn preinitialize(&self, call: GuestCall<'_>) -> Result<Preinitialized, StepError>;
}

/// One call of a guest module.
#[derive(Clone, Copy)]
pub struct GuestCall<'a> {
    /// The WebAssembly module.
    pub module: &'a [u8],
    /// The function to call: no parameters, no result or an `i32` exit code.
    pub export: &'a str,
    /// Arguments, `argv[0]` first.
    pub args: &'a [String],
    /// Read-only files, by absolute guest path.
    pub files: &'a [GuestFile],
    /// A writable folder whose files are returned, as "/out".
    pub output: &'a str,
}

/// A file inside the guest.
#[derive(Clone)]
pub struct GuestFile {
    /// Absolute path in the guest.
    pub path: String,
    /// Content.
    pub bytes: Arc<[u8]>,
}

/// What makes a profile of a runtime.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// The C file that counts, and exports `run-profiled`.
    pub counting: &'a str,
    /// The program to be run while it counts.
    pub program: &'a str,
}

/// What came of a call.
#[derive(Clone, Default)]
pub struct GuestResult {
    /// What the export returned, or what the guest gave to `proc_exit`; 0 for an export without a result.
    pub exit_code: i32,
    /// What it printed on standard output.
    pub stdout: Vec<u8>,
    /// What it printed on standard error.
    pub stderr: Vec<u8>,
    /// The files it left below [`GuestCall::output`], by absolute guest path.
    pub files: Vec<GuestFile>,
}

/// A pre-initialised module, split.
#[derive(Clone)]
pub struct Preinitialized {
    /// The module without data segments.
    pub code: Vec<u8>,
    /// Its linear memory from address 0; what follows, up to `memory_min_bytes`, is zero.
    pub image: Vec<u8>,
    /// The least size of the linear memory.
    pub memory_min_bytes: u64,
    /// What the initialiser printed on standard error.
    pub stderr: Vec<u8>,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError(pub String);

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StepError {}
