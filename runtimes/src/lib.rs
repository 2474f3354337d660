//! Which guest languages Capibara has: how their runtimes are built from pinned sources and found.
//!
//! A *runtime* is a folder: a WebAssembly module without its memory (`code.wasm`), the memory it starts from (`memory.img`) and a manifest.
//! This crate knows no WebAssembly engine: the steps of a recipe that run WebAssembly are the trait [`WasmSteps`], which the
//! `capibara` crate implements.
//!
//! Everything built is private to the user (folders 0700, files 0600), appears in one step and is named by the digest of its recipe, so
//! another version of Capibara builds its own.

#![forbid(unsafe_code)]

mod archive;
mod bill;
mod build;
mod compile;
mod digest;
mod error;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod manifest;
mod pack;
mod prerequisite;
mod progress;
mod python;
mod sources;
mod steps;

use std::{fmt, str::FromStr};

pub use build::{BuildOptions, Built, build, missing_prerequisites, profile};
pub use error::RuntimeError;
pub use folder::{CACHE_DIR_VARIABLE, Folders, KEEP_BUILD_VARIABLE, Runtime, list, locate};
pub use manifest::{Artifact, Manifest, Patches, SCHEMA, Source};
pub use pack::{PackedCode, Unpacked, pack, unpack};
pub use prerequisite::Prerequisite;
pub use progress::{Phase, Progress, ProgressEvent, Silent};
pub use steps::{GuestCall, GuestFile, GuestResult, Preinitialized, StepError, Training, WasmSteps};

/// A guest language there is a recipe for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Language {
    /// CPython 3.13.
    Python,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Python];

    /// Its name, as "python".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
        }
    }

    /// Version of its interpreter.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Python => python::pins::PYTHON_VERSION,
        }
    }

    /// SHA-256 over every input of the recipe that is pinned in this binary: sources, guest files, flags. Computed at compile time.
    #[must_use]
    pub fn recipe_digest(self) -> &'static str {
        recipe_digest(self)
    }

    /// The name of the runtime this binary builds: language, version and the beginning of the recipe digest.
    #[must_use]
    pub fn runtime_name(self) -> &'static str {
        match self {
            Self::Python => python::RUNTIME_NAME,
        }
    }
}

/// SHA-256 over every input of the recipe that is pinned in this binary: sources, guest files, flags. Computed at compile time.
#[must_use]
pub fn recipe_digest(language: Language) -> &'static str {
    match language {
        Language::Python => python::RECIPE_DIGEST,
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Language {
    type Err = RuntimeError;

    fn from_str(name: &str) -> Result<Self, RuntimeError> {
        let found = Self::ALL.into_iter().find(|language| language.name() == name);
        found.ok_or_else(|| RuntimeError::UnknownLanguage(name.to_owned()))
    }
}
