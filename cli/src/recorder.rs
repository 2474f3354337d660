//! The record of a run in the audit log.

use capibara::audit::{AuditError, AuditFolders, AuditLog, AuditOptions, Record, RunStatus};
use capibara::{Digest, Job, Outcome, Scan, Script};
use sha2::Digest as _;

use crate::errors::Failure;
use crate::output::text::Console;

/// A log that takes the record of one run, or why there is none.
pub(crate) struct Recorder {
    log: Result<AuditLog, AuditError>,
    record: Record,
}

impl Recorder {
    /// Opens the log. With `required`, a log that could not take the record is a failure; otherwise it is told once.
    pub(crate) fn open(job: &Job, scan: &Scan, required: bool) -> Result<Self, Failure> {
        let log = AuditFolders::from_env().and_then(|folders| AuditLog::open(&folders, AuditOptions::default()));
        let log = if required { log.and_then(|log| log.ready().map(|()| log)) } else { log };
        match &log {
            Err(error) if required => {
                let mut failure = Failure::from(error);
                failure.message =
                    format!("policy `{}` runs only what can be recorded: {}", job.policy.name, failure.message);
                return Err(failure);
            }
            Err(error) => tell(error),
            Ok(_) => {}
        }
        let (name, source): (String, &[u8]) = match &job.script {
            Script::File { name, source } => (name.clone(), source),
            Script::Code(code) => ("-c".into(), code.as_bytes()),
            Script::StandardInput(code) => ("-".into(), code.as_bytes()),
            Script::Module(name) => (format!("-m {name}"), b""),
            _ => (String::new(), b""),
        };
        let mut record = Record::new(name, job.language.name(), job.policy.name.clone());
        if !matches!(job.script, Script::Module(_)) {
            record.script_sha256 = Some(Digest(sha2::Sha256::digest(source).into()));
            record.script_bytes = Some(source.len() as u64);
        }
        record.policy_sha256 = digest(&job.policy.sha256());
        record.live = job.live;
        record.set_scan(scan);
        Ok(Self { log, record })
    }

    /// Records how the run ended.
    pub(crate) fn ended(mut self, outcome: &Outcome) {
        self.record.set_outcome(outcome);
        self.append();
    }

    /// Records that there was no run, and why.
    pub(crate) fn failed(mut self, failure: &Failure) {
        self.record.status = RunStatus::Error;
        self.record.reason = Some(failure.code.into());
        self.append();
    }

    fn append(self) {
        if let Ok(log) = self.log
            && let Err(error) = log.append(&self.record)
        {
            tell(&error);
        }
    }
}

fn tell(error: &AuditError) {
    let (console, failure) = (Console::new(), Failure::from(error));
    console.say(&format!("this run is not recorded: {}", failure.full_message()));
    if let Some(hint) = &failure.hint {
        console.hint(hint);
    }
}

fn digest(hex: &str) -> Option<Digest> {
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(Digest(bytes))
}
