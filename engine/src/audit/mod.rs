//! The audit log: one line for each run, in a chain that cannot be changed unseen.
//!
//! A log is a folder of JSON lines (`audit-000000000001.jsonl`, named by the number of their first record), a **head**
//! outside of it that says how far it goes, and a folder of keys. Each line carries its number, the SHA-256 of the line
//! before, its own digest and an Ed25519 signature over that, so every record is a checkpoint. The head is signed, too.
//!
//! | what | survives |
//! |---|---|
//! | the process is killed, at any moment | everything appended; a line it was writing is set aside by the next record |
//! | loss of power | what the system had written back; everything, with [`AuditOptions::durable`] |
//!
//! What a verifier sees, and what it cannot see, stands in `docs/audit.md`. Field names are those of OCSF
//! [`OCSF_VERSION`]: a run is a Process Activity (class 1007).

mod error;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod key;
mod line;
mod list;
mod log;
mod record;
mod verify;

pub use error::AuditError;
pub use files::AuditFolders;
pub use key::{KeyId, TrustedKeys};
pub use line::LONGEST_LINE;
pub use list::{Entry, Filter, Listing, list};
pub use log::{AuditLog, AuditOptions, Receipt};
pub use record::{ArtifactMark, FindingMark, MOST_ITEMS, OCSF_VERSION, Record, RunStatus, User};
pub use verify::{
    LogFile, Note, Place, Problem, ProblemKind, Verification, VerifyOptions, verify, verify_files, verify_with,
};

/// Largest file of a log.
pub(crate) const LARGEST_FILE: u64 = 64 << 20;
/// Most files of a log.
pub(crate) const MOST_FILES: usize = 100_000;
