//! Where candidates are scanned and run: each as `capibara run` would, recorded in the audit log, and with what it writes kept
//! in memory until it is accepted.

use std::sync::Arc;

use capibara::{Access, Change, Engine, Epoch, Job, Outcome, Policy, Scan, Script, Stdin, Verdict};
use capibara_generate::flow::{Input, Sandbox, SandboxError};

use super::ending::Ending;
use super::shown::guest_root;
use crate::commands::run::Given;
use crate::recorder::Recorder;
use crate::tool_program;

/// The name of a candidate in the sandbox.
pub(crate) const SCRIPT_NAME: &str = "script.py";

/// The sandbox of one command: everything but the script is the same for all candidates.
pub(crate) struct Trials<'a> {
    pub(crate) engine: &'a Engine,
    /// The policy with what flags changed and granted.
    pub(crate) policy: Arc<Policy>,
    pub(crate) given: &'a Given,
    /// Where clocks start; the same for all candidates.
    pub(crate) epoch: Option<Epoch>,
    /// Where randomness starts; each run draws its own if that is not said.
    pub(crate) seed: Option<u128>,
    /// What a run reads on standard input.
    pub(crate) input: Arc<[u8]>,
    pub(crate) ending: &'a Ending,
}

impl Trials<'_> {
    /// The job of a script.
    pub(crate) fn job(&self, script: &str, input: Input<'_>) -> Job {
        let source = script.as_bytes().into();
        let mut job = Job::under(self.policy.clone(), Script::File { name: SCRIPT_NAME.into(), source });
        job.stdin = match input {
            Input::Own if self.input.is_empty() => Stdin::Closed,
            Input::Own => Stdin::from(self.input.to_vec()),
            Input::Case(text) => Stdin::from(text.as_bytes().to_vec()),
        };
        (job.epoch, job.seed, job.live) = (self.epoch, self.seed, self.given.live);
        // A candidate that is not accepted leaves nothing behind.
        for grant in &mut job.grants {
            if grant.access == Access::Write {
                grant.access = Access::Overlay;
            }
        }
        job
    }

    /// A job as a script will see it: with its grants as they are given, and tools that have names only. It is not to be run.
    pub(crate) fn described(&self) -> Job {
        let mut job = self.job("", Input::Own);
        job.grants = Job::under(self.policy.clone(), Script::Code(String::new())).grants;
        job.tools = tool_program::named(&self.given.tool);
        job
    }

    /// Tells whether a change is one that `--write` (or the policy) lets a script make, and not one below an overlay.
    pub(crate) fn writes(&self) -> impl Fn(&Change) -> bool {
        let grants = Job::under(self.policy.clone(), Script::Code(String::new())).grants;
        let roots: Vec<(String, Access)> = grants.iter().map(|grant| (guest_root(grant), grant.access)).collect();
        move |change| {
            let below = |root: &str| {
                let rest = change.path.strip_prefix(root.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let nearest = roots.iter().filter(|(root, _)| below(root)).max_by_key(|(root, _)| root.len());
            nearest.is_some_and(|(_, access)| *access == Access::Write)
        }
    }
}

impl Sandbox for Trials<'_> {
    fn scan(&self, script: &str) -> Arc<Scan> {
        let job = self.job(script, Input::Own);
        let scan = self.engine.scan(&job);
        if scan.verdict == Verdict::Deny {
            // What is denied is recorded as for `run`; where that cannot be done and must be, running says so.
            if let Ok(recorder) = Recorder::open(&job, &scan)
                && let Ok(outcome) = self.engine.run_blocking(job)
            {
                recorder.ended(&outcome);
            }
        }
        scan
    }

    fn run(&self, script: &str, input: Input<'_>) -> Result<Outcome, SandboxError> {
        let mut job = self.job(script, input);
        let scan = self.engine.scan(&job);
        let recorder = Recorder::open(&job, &scan)?;
        let outcome = tool_program::tools(&self.given.tool).and_then(|tools| {
            job.tools = tools;
            let _bound = self.ending.bind(job.canceler());
            Ok(self.engine.run_blocking(job)?)
        });
        match &outcome {
            Ok(outcome) => recorder.ended(outcome),
            Err(failure) => recorder.failed(failure),
        }
        Ok(outcome?)
    }
}
