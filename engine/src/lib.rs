//! Runs scripts you did not write: real CPython inside WebAssembly, with nothing granted, under fuel, memory, time
//! and output limits.
//!
//! ```no_run
//! use capibara::{Engine, EngineConfig, Job, Language, Silent};
//!
//! let engine = Engine::new(EngineConfig::default())?;
//! engine.prepare(Language::Python, false, &Silent)?; // builds the runtime the first time, which takes minutes
//! let outcome = engine.run_blocking(Job::python("print(6 * 7)"))?;
//! assert_eq!(outcome.stdout.text(), "42\n");
//! assert!(outcome.success());
//! # Ok::<(), capibara::EngineError>(())
//! ```
//!
//! A script that raises, hits a limit or breaks down is an [`Outcome`], a value; [`EngineError`] is kept for "we could
//! not do the job". Start with [`Engine`], then [`Job`].

mod artifact;
mod artifacts;
pub mod audit;
mod cancel;
mod changes;
pub mod checkup;
mod engine;
mod error;
mod events;
mod fence;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod grant;
mod identity;
mod image;
mod job;
mod kept;
mod kept_files;
mod language;
mod modules;
mod os;
mod out_folder;
mod outcome;
mod packs;
mod placing;
mod program;
mod programs;
mod recipe;
mod reports;
mod scan;
mod session;
mod split;
mod stream;
mod timer;
mod tools;
mod world;

pub use artifact::Target;
pub use artifacts::{Artifact, FileBytes};
pub use cancel::Canceler;
pub use capibara_policies::{
    Finding, LimitKind, Limits, LimitsChange, Need, NeedKind, Policy, PolicyError, Severity, Span, Verdict,
};
pub use capibara_runtimes::{Manifest, Patches, Phase, Progress, ProgressEvent, RuntimeError, Silent};
pub use changes::{Applied, Change, ChangeKind, Changes, FileKind};
pub use engine::{Compiled, Engine, EngineConfig, InstalledRuntime, Mismatch, Queue, Variant};
pub use error::EngineError;
pub use events::{Event, EventSink};
pub use grant::{Access, Grant};
pub use job::{Epoch, EpochError, Job, Script};
pub use language::Language;
pub use modules::{ModulesError, ScriptModule, script_modules};
pub use out_folder::{OutFolder, Written};
pub use outcome::{
    CancelReason, Captured, Digest, Divergence, LimitHit, Outcome, RuntimeId, Status, Trap, Usage, Value,
};
pub use packs::{append_pack, program_len};
pub use placing::{Refusal, RefusalReason};
#[doc(hidden)]
pub use recipe::steps as recipe_steps;
pub use reports::KeptReports;
pub use scan::Scan;
pub use session::{Session, SessionConfig, Totals, Turn};
pub use stream::{OutputSink, Stdin, Stream};
pub use tools::{Tool, ToolError, ToolUse};

/// The programs in documents, which are compiled with those of this library.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/start-embed.md")]
    struct StartEmbed;
    #[doc = include_str!("../../docs/sessions.md")]
    struct Sessions;
    #[doc = include_str!("../../docs/tools.md")]
    struct Tools;
}
