//! What came of a run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use capibara_policies::LimitKind;

use crate::artifacts::Artifact;
use crate::changes::Changes;
use crate::job::Epoch;
use crate::scan::Scan;
use crate::tools::ToolUse;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The policy denies what the scan found; nothing was run.
    Denied,
    /// The script ended by itself, with this exit code (the real one, of any size).
    Completed {
        /// Exit code.
        exit_code: i32,
    },
    /// A limit ended it.
    Limit(LimitHit),
    /// The guest broke down: an interpreter abort, an access outside its memory.
    Trapped(Trap),
    /// Somebody asked for the end: [`Canceler::cancel`](crate::Canceler::cancel), or the output sink is closed.
    Canceled {
        /// Why.
        reason: CancelReason,
    },
}

/// Why a run was canceled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// [`Canceler::cancel`](crate::Canceler::cancel) was called.
    Asked,
    /// The output sink failed: nobody reads any more.
    SinkClosed,
}

/// The limit that ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitHit {
    /// Which limit.
    pub kind: LimitKind,
    /// What was allowed: fuel units, milliseconds or bytes, by kind.
    pub allowed: u64,
    /// What was used, or would have been, when the run was stopped; same unit.
    pub used: u64,
}

/// A breakdown of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Permanent name in kebab-case: `unreachable`, `out-of-bounds-memory`, …
    pub kind: &'static str,
    /// One line for people.
    pub message: String,
}

/// What a script wrote to one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The bytes, up to the output limit; empty if the job does not capture.
    pub bytes: Vec<u8>,
    /// Whether the output limit cut this stream.
    pub truncated: bool,
}

impl Captured {
    /// The bytes as text; what is not UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel units spent by the script's instructions and by what its calls asked of the host; `None` for a live run, which is not metered.
    pub fuel: Option<u64>,
    /// Real time from the start of the instance to its end.
    pub wall_time: Duration,
    /// Virtual time slept, which took no real time and counts against the wall-time limit all the same; zero for a live
    /// run, whose sleeps are part of `wall_time`.
    pub slept: Duration,
    /// Largest linear memory plus what memory files held, in bytes; includes the runtime's own image.
    pub memory_peak_bytes: u64,
    /// Bytes printed on both streams.
    pub output_bytes: u64,
    /// Files created.
    pub files_written: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Most files, directories and links of the script's that there were at one time.
    pub files_peak: u64,
    /// Most descriptors open at one time, the four that every run starts with included.
    pub descriptors_peak: u64,
    /// Calls from the guest into the host.
    pub host_calls: u64,
}

/// The runtime that ran a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeId {
    /// Language and version, `python-3.13.5`.
    pub name: String,
    /// Digest of code and memory image.
    pub sha256: String,
}

/// Something a script opened or changed, or tried to, that the scan had not foreseen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Absolute path as the script sees it.
    pub path: String,
    /// Whether it was to change something there.
    pub write: bool,
}

/// What the last line of a session's turn came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// Its `repr`, at most as long as the output limit.
    pub text: String,
    /// Whether it was cut there.
    pub truncated: bool,
    /// Where it left what else it can look like (`_repr_svg_` and the like): files below `/out`.
    pub files: Vec<String>,
}

impl Value {
    /// Text of at most so many bytes.
    pub(crate) fn bounded(mut text: String, files: Vec<String>, most: usize) -> Self {
        let truncated = text.len() > most;
        if truncated {
            text.truncate(text.floor_char_boundary(most));
            text.shrink_to_fit();
        }
        Self { text, truncated, files }
    }
}

/// What came of a run: a value, whatever the script did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// What it printed on descriptor 1.
    pub stdout: Captured,
    /// What it printed on descriptor 2.
    pub stderr: Captured,
    /// What it used.
    pub usage: Usage,
    /// Quotas that the script met on its way: it asked for more than was allowed, and got an error it could handle.
    /// `memory` is among them if it did not die of it. `used` is the most it asked for.
    pub quotas_met: Vec<LimitHit>,
    /// Files the script opened or changed, or tried to, outside of its own folders, and that the scan had not foreseen. Empty
    /// for what was not scanned, and where the scan could not tell which files it would be.
    pub divergence: Vec<Divergence>,
    /// The files the script left in `/out`, sorted by path; also when it failed or was stopped, and then as they were at that
    /// moment. None for turns of a session, see [`Session::artifacts`](crate::Session::artifacts).
    pub artifacts: Vec<Artifact>,
    /// Paths of files in `/out` that did not come back: with them, the artifacts would be larger than the limit
    /// `bytes_written`. Holes that were never written count in the size of a file, and a file counts under each of its names.
    pub artifacts_left_out: Vec<String>,
    /// What the script changed below [overlays](crate::Access::Overlay): nothing of it is on the host yet. Also when it failed
    /// or was stopped. None for turns of a session, see [`Session::changes`](crate::Session::changes).
    pub changes: Changes,
    /// Digest of everything the run depended on.
    pub job_sha256: Digest,
    /// Where its clock started.
    pub epoch: Epoch,
    /// Where its randomness started; meaningless for a live run.
    pub seed: u128,
    /// Whether it ran with real clocks and system randomness.
    pub live: bool,
    /// Whether running the same job again gives the same outcome: false for live runs, for a stop by real time, for
    /// input from a terminal (also if it was only asked whether there is any), when anything that was
    /// granted of the host was looked at (it may change), when a tool was called, and when canceled.
    pub determined: bool,
    /// The runtime that ran it; `None` if nothing was run.
    pub runtime: Option<RuntimeId>,
    /// What the scan before the run came to.
    pub scan: Arc<Scan>,
    /// How the script used its tools, one entry for each tool it was given.
    pub tools: Vec<ToolUse>,
    /// What the last line of a session's turn came to, if it is an expression and not `None`.
    pub value: Option<Value>,
}

impl Outcome {
    /// The exit code, if the script ended by itself.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.status {
            Status::Completed { exit_code } => Some(exit_code),
            Status::Denied | Status::Limit(_) | Status::Trapped(_) | Status::Canceled { .. } => None,
        }
    }

    /// Whether the script ended by itself with exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit_code() == Some(0)
    }
}
