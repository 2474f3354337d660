//! Why a job could not be done.

use std::io;
use std::path::PathBuf;

use capibara_runtimes::RuntimeError;

use crate::artifact::OpenError;
use crate::gate::Full;
use crate::image::SpaceError;

/// We could not do the job. What a script does is never an error but an [`Outcome`](crate::Outcome).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The runtime of a language is not there.
    #[error("the {language} runtime is not installed")]
    RuntimeMissing {
        /// Name of the language.
        language: &'static str,
    },
    /// A runtime could not be built, located or read.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// This machine's processor lacks what code is compiled for.
    #[error("this processor cannot run the code: it lacks {}", missing.join(", "))]
    CpuUnsupported {
        /// Names of the features.
        missing: Vec<&'static str>,
    },
    /// A file of a runtime cannot be used.
    #[error("runtime file {reason}")]
    Artifact {
        /// Where it stands.
        path: PathBuf,
        /// What is wrong, starting with the path.
        reason: String,
    },
    /// The job cannot be run as it is.
    #[error("the job cannot be run: {reason}")]
    InvalidJob {
        /// What is wrong.
        reason: String,
        /// What to try.
        hint: Option<String>,
    },
    /// A WebAssembly program cannot be run.
    #[error("the program cannot be run: {reason}")]
    InvalidProgram {
        /// What is wrong.
        reason: String,
        /// What to try.
        hint: Option<String>,
    },
    /// Code could not be compiled or loaded.
    #[error("failed to {action}: {message}")]
    Code {
        /// What was tried.
        action: &'static str,
        /// What Wasmtime said.
        message: String,
    },
    /// A runtime does not keep the contract between guest and engine.
    #[error("the runtime broke its contract: {reason}")]
    Contract {
        /// What it did.
        reason: String,
    },
    /// There is no room for another run or session now. Nothing was begun; others go on.
    #[error("the engine is overloaded: {allowed} {resource} are in use")]
    Overloaded {
        /// What there is no more of: `places in the queue` or `memory mappings`.
        resource: &'static str,
        /// How many the engine may have.
        allowed: usize,
    },
    /// A session takes no more turns.
    #[error("the session has ended: {reason}")]
    SessionEnded {
        /// What ended it.
        reason: &'static str,
    },
    /// The operating system refused something the engine needs.
    #[error("failed to {action}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl EngineError {
    pub(crate) fn wasm(action: &'static str) -> impl Fn(wasmtime::Error) -> Self {
        move |error| Self::Code { action, message: format!("{error:#}") }
    }

    pub(crate) fn os(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Os { action, source }
    }

    pub(crate) fn contract(reason: impl Into<String>) -> Self {
        Self::Contract { reason: reason.into() }
    }

    /// Permanent name of the kind, in kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::RuntimeMissing { .. } => "runtime-missing",
            Self::Runtime(error) => error.code(),
            Self::CpuUnsupported { .. } => "cpu-unsupported",
            Self::Artifact { .. } => "runtime-file",
            Self::InvalidJob { .. } => "invalid-job",
            Self::InvalidProgram { .. } => "invalid-program",
            Self::Code { .. } => "code",
            Self::Contract { .. } => "runtime-contract",
            Self::Overloaded { .. } => "overloaded",
            Self::SessionEnded { .. } => "session-ended",
            Self::Os { .. } => "operating-system",
        }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::RuntimeMissing { language } => Some(format!("run `capibara runtime install {language}`")),
            Self::Runtime(error) => Some(error.hint()),
            Self::CpuUnsupported { .. } => {
                Some("compile for this machine alone: `capibara runtime install python --native`".into())
            }
            Self::Artifact { .. } | Self::Contract { .. } => {
                Some("remove the runtime's folder and run `capibara runtime install python`".into())
            }
            Self::InvalidJob { hint, .. } | Self::InvalidProgram { hint, .. } => hint.clone(),
            Self::Overloaded { resource, .. } if *resource == MAPPINGS => {
                Some("drop sessions that are not needed, or raise `sysctl vm.max_map_count`".into())
            }
            Self::Overloaded { .. } => Some("try again when a run has ended, or allow a longer queue".into()),
            Self::SessionEnded { .. } => Some("open another session".into()),
            Self::Code { .. } => None,
            Self::Os { .. } => None,
        }
    }

    /// Whether what was asked for does not exist here (a runtime, a fence, a language), rather than having failed.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::RuntimeMissing { .. } | Self::CpuUnsupported { .. })
    }
}

/// See [`EngineError::Overloaded`].
const MAPPINGS: &str = "memory mappings";

impl From<SpaceError> for EngineError {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::Mappings { allowed } => Self::Overloaded { resource: MAPPINGS, allowed },
            SpaceError::Os(source) => Self::Os { action: "map memory for a script", source },
        }
    }
}

impl From<Full> for EngineError {
    fn from(full: Full) -> Self {
        Self::Overloaded { resource: "places in the queue", allowed: full.most_waiting }
    }
}

impl From<OpenError> for EngineError {
    fn from(error: OpenError) -> Self {
        let path = match &error {
            OpenError::Missing { path }
            | OpenError::Corrupt { path, .. }
            | OpenError::Untrusted { path, .. }
            | OpenError::Io { path, .. } => path.clone(),
        };
        let reason = match &error {
            OpenError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self::Artifact { path, reason }
    }
}
