//! The record of a run in the audit log.

use capibara::audit::{AuditError, AuditFolders, AuditLog, AuditOptions, Record, RunStatus};
use capibara::{Digest, Job, Outcome, Policy, Scan, Script, Verdict};
use capibara_policies::Audit;
use sha2::Digest as _;

use crate::errors::Failure;
use crate::output::text::Console;

/// A log that takes the record of one run, or why there is none.
pub(crate) struct Recorder {
    log: Result<AuditLog, AuditError>,
    record: Record,
}

impl Recorder {
    /// Opens the log. Where the policy requires a record, a log that could not take it is a failure; else it is told once.
    pub(crate) fn open(job: &Job, scan: &Scan) -> Result<Self, Failure> {
        let mut recorder = Self::of(&job.script, job.language.name(), &job.policy)?;
        recorder.record.live = job.live;
        recorder.record.set_scan(scan);
        Ok(recorder)
    }

    /// Records a script that is denied before there is a job of it, because nobody knows its language.
    pub(crate) fn denied(script: &Script, policy: &Policy, failure: &Failure) -> Result<(), Failure> {
        let mut recorder = Self::of(script, "unknown", policy)?;
        recorder.record.verdict = Some(Verdict::Deny);
        recorder.record.status = RunStatus::Denied;
        recorder.record.reason = Some(failure.code.into());
        recorder.append();
        Ok(())
    }

    fn of(script: &Script, language: &str, policy: &Policy) -> Result<Self, Failure> {
        let log = open_log(policy)?;
        let (name, source): (String, &[u8]) = match script {
            Script::File { name, source } => (name.clone(), source),
            Script::Code(code) => ("-c".into(), code.as_bytes()),
            Script::StandardInput(code) => ("-".into(), code.as_bytes()),
            Script::Module(name) => (format!("-m {name}"), b""),
            _ => (String::new(), b""),
        };
        let mut record = Record::new(name, language, policy.name.clone());
        if !matches!(script, Script::Module(_)) {
            record.script_sha256 = Some(Digest(sha2::Sha256::digest(source).into()));
            record.script_bytes = Some(source.len() as u64);
        }
        record.policy_sha256 = digest(&policy.sha256());
        Ok(Self { log, record })
    }

    /// Says what the record calls the script.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.record.script = name.into();
        self
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

fn open_log(policy: &Policy) -> Result<Result<AuditLog, AuditError>, Failure> {
    let log = AuditFolders::from_env().and_then(|folders| AuditLog::open(&folders, AuditOptions::default()));
    let required = policy.audit == Audit::Required;
    let log = if required { log.and_then(|log| log.ready().map(|()| log)) } else { log };
    match &log {
        Err(error) if required => {
            let mut failure = Failure::from(error);
            failure.message = format!("policy `{}` runs only what can be recorded: {}", policy.name, failure.message);
            return Err(failure);
        }
        Err(error) => tell(error),
        Ok(_) => {}
    }
    Ok(log)
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
