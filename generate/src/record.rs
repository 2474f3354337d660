//! The record of a generation: what was asked, what came back, what became of it. It names digests and numbers, and holds
//! no prompt, no answer, no script and no output.

use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use capibara::{Scan, Verdict};
use serde::Serialize;

use crate::answer::{Attempt, Usage};
use crate::budget::Budget;
use crate::error::ProviderError;
use crate::flow::{Call, Generation, Judged, RunMark, Stop, Task, Trial};
use crate::price::Cost;

/// Schema of the record.
const SCHEMA: u32 = 1;

/// What a generation was made from and what it came to.
#[derive(Debug, Serialize)]
pub struct GenerationRecord {
    schema: u32,
    prompt_sha256: String,
    checks_sha256: String,
    checks: usize,
    calls: Vec<CallRecord>,
    /// Number of the call whose script is accepted.
    accepted: Option<u32>,
    stopped: Option<StopRecord>,
    spent: SpentRecord,
}

#[derive(Debug, Serialize)]
struct CallRecord {
    number: u32,
    asked: &'static str,
    model: Option<String>,
    attempts: Vec<AttemptRecord>,
    answer_sha256: Option<String>,
    /// `accepted`, `cut`, `no_script`, `repeated`, or the stage that failed.
    result: &'static str,
    /// Digest by which the same failure is known again.
    failure_sha256: Option<String>,
    script_sha256: Option<String>,
    scan: Option<ScanRecord>,
    runs: Vec<RunRecord>,
    checks_passed: usize,
}

#[derive(Debug, Serialize)]
struct ScanRecord {
    verdict: Verdict,
    findings: usize,
}

#[derive(Debug, Serialize)]
struct RunRecord {
    /// The case, counted from 1; `null` for the caller's run.
    case: Option<usize>,
    job_sha256: String,
    fuel: Option<u64>,
}

#[derive(Debug, Serialize)]
struct AttemptRecord {
    profile: String,
    model: String,
    end: &'static str,
    status: Option<u16>,
    request_id: Option<String>,
    usage: Usage,
    charged_tokens: u64,
    cost_nanodollars: Option<u64>,
    waited_ms: u64,
    took_ms: u64,
    request_sha256: String,
    response_sha256: Option<String>,
}

#[derive(Debug, Serialize)]
struct StopRecord {
    /// `refused`, `filtered`, `sandbox`, `canceled`, or the kind of the provider's failure.
    kind: &'static str,
    profile: Option<String>,
    attempts: Vec<AttemptRecord>,
}

#[derive(Debug, Serialize)]
struct SpentRecord {
    attempts: u64,
    tokens: u64,
    cost_nanodollars: u64,
    /// Requests of unknown price.
    unpriced: u64,
}

impl GenerationRecord {
    /// The record of what a flow came to.
    #[must_use]
    pub fn of(task: &Task<'_>, generation: &Generation, budget: &Budget) -> Self {
        let spent = budget.spent();
        Self {
            schema: SCHEMA,
            prompt_sha256: task.prompt.digest.clone(),
            checks_sha256: task.checks.digest(),
            checks: task.checks.cases().count(),
            calls: generation.calls.iter().map(CallRecord::of).collect(),
            accepted: generation.accepted().map(|call| call.number),
            stopped: generation.stopped.as_ref().map(StopRecord::of),
            spent: SpentRecord {
                attempts: spent.attempts,
                tokens: spent.tokens,
                cost_nanodollars: spent.cost.0,
                unpriced: spent.unpriced,
            },
        }
    }

    /// Writes it into a folder of records, to a new file, and gives back which. The folder is made if it is not there.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ-").to_string();
        let mut file = tempfile::Builder::new().prefix(&time).suffix(".json").rand_bytes(8).tempfile_in(folder)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        let (_, path) = file.keep().map_err(|error| error.error)?;
        Ok(path)
    }
}

impl CallRecord {
    fn of(call: &Call) -> Self {
        let (result, failure, script_sha256) = match &call.judged {
            Judged::Cut => ("cut", None, None),
            Judged::Untried => ("untried", None, None),
            Judged::NoScript { failure, .. } => ("no_script", Some(failure), None),
            Judged::Repeated { script_sha256, .. } => ("repeated", None, Some(*script_sha256)),
            Judged::Tried(trial) => {
                let result = trial.failure.as_ref().map_or("accepted", |failure| failure.stage.name());
                (result, trial.failure.as_ref(), Some(trial.script_sha256()))
            }
        };
        let trial = call.trial();
        Self {
            number: call.number,
            asked: call.asked.name(),
            model: call.model.clone(),
            attempts: call.attempts.iter().map(AttemptRecord::of).collect(),
            answer_sha256: call.answer_sha256.map(|sha256| sha256.to_string()),
            result,
            failure_sha256: failure.map(|failure| failure.signature.clone()),
            script_sha256: script_sha256.map(|sha256| sha256.to_string()),
            scan: trial.map(|trial| ScanRecord::of(&trial.scan)),
            runs: trial.map(|trial| trial.runs.iter().map(RunRecord::of).collect()).unwrap_or_default(),
            checks_passed: trial.map_or(0, |trial: &Trial| trial.passed),
        }
    }
}

impl ScanRecord {
    fn of(scan: &Scan) -> Self {
        Self { verdict: scan.verdict, findings: scan.findings.len() }
    }
}

impl RunRecord {
    fn of(run: &RunMark) -> Self {
        Self { case: run.case, job_sha256: run.job_sha256.to_string(), fuel: run.fuel }
    }
}

impl AttemptRecord {
    fn of(attempt: &Attempt) -> Self {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            profile: attempt.profile.clone(),
            model: attempt.model.clone(),
            end: attempt.end.name(),
            status: attempt.status,
            request_id: attempt.request_id.clone(),
            usage: attempt.usage,
            charged_tokens: attempt.charged_tokens,
            cost_nanodollars: attempt.cost.map(|Cost(nanodollars)| nanodollars),
            waited_ms: millis(attempt.waited),
            took_ms: millis(attempt.took),
            request_sha256: attempt.request_sha256.clone(),
            response_sha256: attempt.response_sha256.clone(),
        }
    }
}

impl StopRecord {
    fn of(stop: &Stop) -> Self {
        let (kind, profile, attempts) = match stop {
            Stop::Refused { profile, filtered, attempts, .. } => {
                (if *filtered { "filtered" } else { "refused" }, Some(profile.clone()), attempts.as_slice())
            }
            Stop::Provider(error) => {
                let ProviderError { kind, profile, attempts, .. } = &**error;
                (kind.name(), (!profile.is_empty()).then(|| profile.clone()), attempts.as_slice())
            }
            Stop::Sandbox(_) => ("sandbox", None, &[][..]),
            Stop::Canceled => ("canceled", None, &[][..]),
        };
        Self { kind, profile, attempts: attempts.iter().map(AttemptRecord::of).collect() }
    }
}
