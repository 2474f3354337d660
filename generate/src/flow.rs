//! From an answer to an accepted script: generate, extract, parse, scan, run, check, and again from what really happened.
//!
//! What a candidate may do is fixed before a model speaks: the [`Sandbox`] holds policy, grants and limits, the [`Task`] the
//! checks, and nothing here changes either. A script that was tried is never run again.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use capibara::{CancelReason, Digest, Outcome, Scan, Status, Verdict};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Attempt, End, Message, Request, Role};
use crate::budget::Budget;
use crate::checks::{Aspect, Case, Checks};
use crate::error::{ErrorKind, ProviderError};
use crate::extract::{Extraction, Parser, extract};
use crate::feedback::{Failure, Feedback};
use crate::parse::ParseError;
use crate::prompt::Prompt;
use crate::provider::{Event, Provider};

/// Randomness of an answer that is asked for anew, where the profile lets it be sent.
const FRESH_TEMPERATURE: f64 = 1.0;

/// The most tokens that are asked for when answers are cut.
const MOST_OUTPUT: u64 = 65_536;

/// Why a run could not be made.
pub type SandboxError = Box<dyn Error + Send + Sync>;

/// What a run of a candidate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// What the caller's run reads.
    Own,
    /// The standard input of one case, in a run of its own that changes nothing outside.
    Case(&'a str),
}

/// Where candidates are scanned and run. It holds what they may do.
pub trait Sandbox: Sync {
    /// Scans, as a run would be.
    fn scan(&self, script: &str) -> Arc<Scan>;

    /// Runs it once. Nothing that it does may reach outside before the candidate is accepted.
    ///
    /// # Errors
    ///
    /// We could not do it; whatever the script does is an [`Outcome`].
    fn run(&self, script: &str, input: Input<'_>) -> Result<Outcome, SandboxError>;
}

/// What is wanted. All of it is said by the user, before a model is asked.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// What a model is asked.
    pub prompt: &'a Prompt,
    /// What a script has to do to be accepted.
    pub checks: &'a Checks,
    /// Whether a script has to run to be accepted. If not, it runs only as far as checks ask.
    pub run: bool,
    /// How often a model is asked for a script at most. Default: 3.
    pub calls: u32,
    /// How many scripts are asked for at a time, of which the best is taken. Default: 1.
    pub candidates: u32,
    /// The most tokens of an answer.
    pub max_output: u64,
}

/// How a model was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By the prompt alone.
    Fresh,
    /// By the prompt, its script and what came of it.
    Repair,
    /// By the prompt, its answer and why no script could be taken from it.
    Format,
    /// By the prompt alone, for a longer answer than the one that was cut.
    Longer,
}

impl Asked {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Repair => "repair",
            Self::Format => "format",
            Self::Longer => "longer",
        }
    }
}

/// One run of a candidate, for the record.
#[derive(Clone, Debug)]
pub struct RunMark {
    /// The case, counted from 1; `None` for the caller's run.
    pub case: Option<usize>,
    /// The job.
    pub job_sha256: Digest,
    /// Fuel it took.
    pub fuel: Option<u64>,
}

/// A script that was tried, and what came of it.
#[derive(Debug)]
pub struct Trial {
    /// The script.
    pub script: String,
    /// What the scan said.
    pub scan: Arc<Scan>,
    /// What came of the caller's run, if there was one.
    pub outcome: Option<Outcome>,
    /// All runs.
    pub runs: Vec<RunMark>,
    /// How many checks held before one did not.
    pub passed: usize,
    /// Why it is not accepted; `None` if it is.
    pub failure: Option<Feedback>,
}

impl Trial {
    /// SHA-256 of the script.
    #[must_use]
    pub fn script_sha256(&self) -> Digest {
        sha256(self.script.as_bytes())
    }

    /// Judges one of its runs. `number`: of the case it was made for.
    fn judge(&mut self, case: Option<(usize, &Case)>, number: Option<usize>, outcome: &Outcome) {
        self.runs.push(RunMark { case: number, job_sha256: outcome.job_sha256, fuel: outcome.usage.fuel });
        let judged = case.map(|(_, case)| case.judge(outcome));
        self.passed += judged.as_ref().map_or(0, |judged| judged.met);
        let missed = judged.as_ref().and_then(|judged| judged.missed.as_ref());
        let failure = match (case, missed) {
            // What a run printed in its misery says more than the exit code that was expected.
            (Some(_), Some(missed)) if missed.aspect == Aspect::Exit => {
                Failure::Run { outcome, case: case.filter(|_| number.is_some()) }
            }
            (Some(case), Some(missed)) => Failure::Missed { case, missed },
            (None, _) if !outcome.success() => Failure::Run { outcome, case: None },
            (Some(_) | None, _) => return,
        };
        self.failure = Some(Feedback::of(&failure));
    }

    /// What makes it better than another one; the least is the best.
    fn rank(&self) -> impl Ord + use<> {
        let fuel: u64 = self.runs.iter().filter_map(|run| run.fuel).fold(0, u64::saturating_add);
        (
            self.failure.is_some(),
            std::cmp::Reverse(self.passed),
            self.scan.verdict,
            self.scan.findings.len(),
            self.scan.needs.len(),
            fuel,
            self.script_sha256().0,
        )
    }
}

/// What became of one answer.
#[derive(Debug)]
pub enum Judged {
    /// The answer was cut by its limit.
    Cut,
    /// There is a script, and it could not be tried.
    Untried,
    /// No script could be taken from it.
    NoScript {
        /// Why.
        failure: Feedback,
        /// The answer.
        answer: String,
    },
    /// The script was tried before.
    Repeated {
        /// Number of the call that gave it first.
        call: u32,
        /// The script.
        script_sha256: Digest,
    },
    /// It was tried.
    Tried(Box<Trial>),
}

/// One question to a model and what became of it.
#[derive(Debug)]
pub struct Call {
    /// Counted from 1.
    pub number: u32,
    /// How the model was asked.
    pub asked: Asked,
    /// The requests it took.
    pub attempts: Vec<Attempt>,
    /// The model that answered, as its provider names it.
    pub model: Option<String>,
    /// SHA-256 of the answer's text.
    pub answer_sha256: Option<Digest>,
    /// What became of the answer.
    pub judged: Judged,
}

impl Call {
    /// The trial, if the answer led to one.
    #[must_use]
    pub fn trial(&self) -> Option<&Trial> {
        match &self.judged {
            Judged::Tried(trial) => Some(trial),
            Judged::Cut | Judged::Untried | Judged::NoScript { .. } | Judged::Repeated { .. } => None,
        }
    }

    /// The profile that answered.
    #[must_use]
    pub fn profile(&self) -> &str {
        self.attempts.last().map_or("", |attempt| &attempt.profile)
    }
}

/// All that was asked and tried.
#[derive(Debug, Default)]
pub struct Generation {
    /// In order.
    pub calls: Vec<Call>,
    /// Index in `calls` of the one whose script is accepted.
    pub accepted: Option<usize>,
    /// Why no more was asked, if a provider or the engine failed.
    pub stopped: Option<Stop>,
}

impl Generation {
    /// The call whose script is accepted.
    #[must_use]
    pub fn accepted(&self) -> Option<&Call> {
        self.accepted.and_then(|at| self.calls.get(at))
    }

    /// The trial of the script that is accepted or, if none is, of the last one that was tried.
    #[must_use]
    pub fn into_trial(self) -> Option<Trial> {
        let accepted = self.accepted;
        let trial = |(at, call): (usize, Call)| match call.judged {
            Judged::Tried(trial) if accepted.is_none_or(|accepted| accepted == at) => Some(*trial),
            Judged::Tried(_) | Judged::Cut | Judged::Untried | Judged::NoScript { .. } | Judged::Repeated { .. } => {
                None
            }
        };
        self.calls.into_iter().enumerate().rev().find_map(trial)
    }
}

/// Why there is no more to try.
#[derive(Debug)]
pub enum Stop {
    /// The model refused, or its provider held the answer back.
    Refused {
        /// The profile.
        profile: String,
        /// The provider's word for it.
        reason: String,
        /// Whether the provider held it back.
        filtered: bool,
        /// The requests it took.
        attempts: Vec<Attempt>,
    },
    /// No answer could be had.
    Provider(Box<ProviderError>),
    /// A script could not be run.
    Sandbox(SandboxError),
    /// The caller canceled.
    Canceled,
}

/// What happens on the way.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// Something about a request to a model.
    Model(Event<'a>),
    /// A model is asked.
    Asking {
        /// Counted from 1.
        call: u32,
        /// How many there may be.
        of: u32,
        /// How.
        asked: Asked,
    },
    /// An answer led to nothing that is accepted.
    Rejected(&'a Call),
    /// A script is accepted.
    Accepted(&'a Call),
    /// The next model is asked from now on.
    NextModel {
        /// Its profile.
        profile: &'a str,
    },
    /// Something to tell the user.
    Warning(&'a str),
}

/// How to ask next.
enum Next {
    Fresh,
    Repair { script: String, failure: String },
    Format { answer: String, why: String },
    Longer,
}

impl Next {
    fn asked(&self) -> Asked {
        match self {
            Self::Fresh => Asked::Fresh,
            Self::Repair { .. } => Asked::Repair,
            Self::Format { .. } => Asked::Format,
            Self::Longer => Asked::Longer,
        }
    }
}

/// One task and all it is done with.
pub struct Flow<'a> {
    /// What is wanted.
    pub task: Task<'a>,
    /// Who is asked.
    pub provider: &'a dyn Provider,
    /// Where scripts are tried.
    pub sandbox: &'a dyn Sandbox,
    /// What tells a script from other text.
    pub parser: &'a mut dyn Parser<Error = ParseError>,
    /// What may be used up.
    pub budget: &'a Budget,
    /// Ends everything.
    pub cancel: &'a CancellationToken,
}

/// What the strategy remembers.
#[derive(Default)]
struct Memory {
    /// Scripts by digest, with the call that gave them.
    scripts: HashMap<Digest, u32>,
    /// Signatures of failures.
    failures: HashSet<String>,
    /// Whether the last fresh question was already one that followed a repetition.
    fresh: bool,
    max_output: u64,
    seed: u64,
}

impl Flow<'_> {
    /// Asks until a script is accepted, the calls are used up, or something makes asking again senseless.
    pub async fn run(&mut self, sink: &mut dyn FnMut(Step<'_>)) -> Generation {
        let mut generation = Generation::default();
        let mut memory = Memory { max_output: self.task.max_output, ..Memory::default() };
        let mut next = Next::Fresh;
        while let Some(left) = self.task.calls.checked_sub(count(&generation.calls)).filter(|left| *left > 0) {
            let together = match next {
                // Evidence is about one script, so only fresh questions are asked several at a time.
                Next::Fresh => self.task.candidates.clamp(1, left),
                Next::Repair { .. } | Next::Format { .. } | Next::Longer => 1,
            };
            match self.round(&next, together, &mut memory, &mut generation, sink).await {
                Ok(after) => next = after,
                Err(stop) => {
                    generation.stopped = Some(stop);
                    break;
                }
            }
            if generation.accepted.is_some() {
                break;
            }
        }
        generation
    }

    /// Asks once, or for several candidates; judges the answers and says how to ask next.
    async fn round(
        &mut self,
        next: &Next,
        together: u32,
        memory: &mut Memory,
        generation: &mut Generation,
        sink: &mut dyn FnMut(Step<'_>),
    ) -> Result<Next, Stop> {
        let first = count(&generation.calls) + 1;
        // What ends the round does not end what was answered before it.
        let mut stop = None;
        let mut extracted = Vec::new();
        for number in first..first + together {
            sink(Step::Asking { call: number, of: self.task.calls, asked: next.asked() });
            let request = self.request(next, memory);
            let answer = self.ask(&request, sink).await;
            match answer.and_then(|answer| self.extract(number, next.asked(), answer, memory)) {
                Ok(call) => extracted.push(call),
                Err(why) => {
                    stop = Some(why);
                    break;
                }
            }
        }
        let calls = self.try_all(extracted, &mut stop);
        let start = generation.calls.len();
        let mut after = None;
        for call in calls {
            generation.calls.push(call);
        }
        let best = generation.calls.iter().enumerate().skip(start).filter_map(|(at, call)| Some((at, call.trial()?)));
        let best = best.min_by_key(|(_, trial)| trial.rank()).map(|(at, _)| at);
        if let Some(at) = best
            && generation.calls.get(at).and_then(Call::trial).is_some_and(|trial| trial.failure.is_none())
        {
            generation.accepted = Some(at);
        }
        for (at, call) in generation.calls.iter().enumerate().skip(start) {
            if generation.accepted == Some(at) {
                sink(Step::Accepted(call));
            } else if generation.accepted.is_none() {
                sink(Step::Rejected(call));
            }
            let new = after_call(call, next, memory);
            // What the best candidate leads to counts; without one, what the last answer leads to.
            if best.is_none_or(|best| best == at) {
                after = Some(new);
            }
        }
        if self.cancel.is_cancelled() {
            return Err(Stop::Canceled);
        }
        if let Some(stop) = stop.filter(|_| generation.accepted.is_none()) {
            return Err(stop);
        }
        let after = after.unwrap_or(Wish::Fresh);
        Ok(self.next(after, memory, sink))
    }

    /// Makes a wish true.
    fn next(&self, wish: Wish, memory: &mut Memory, sink: &mut dyn FnMut(Step<'_>)) -> Next {
        match wish {
            Wish::Ask(next) => {
                memory.fresh = false;
                next
            }
            Wish::Longer => {
                memory.max_output = memory.max_output.saturating_mul(2).min(MOST_OUTPUT.max(self.task.max_output));
                Next::Longer
            }
            Wish::Fresh => {
                // A second fresh question in a row: this model does not get there.
                match memory.fresh.then(|| self.provider.turn_to_next()).flatten() {
                    Some(profile) => {
                        sink(Step::NextModel { profile });
                        memory.fresh = false;
                    }
                    None => memory.fresh = true,
                }
                memory.seed += 1;
                Next::Fresh
            }
        }
    }

    fn request(&self, next: &Next, memory: &mut Memory) -> Request {
        let user = |text: &str| Message { role: Role::User, text: text.into() };
        let model = |text: &str| Message { role: Role::Assistant, text: text.into() };
        let prompt = self.task.prompt;
        let mut messages = vec![user(&prompt.user)];
        match next {
            Next::Fresh | Next::Longer => {}
            Next::Repair { script, failure } => {
                messages.push(model(&format!("```python\n{}\n```", script.trim_end_matches('\n'))));
                messages.push(user(failure));
            }
            Next::Format { answer, why } => {
                messages.push(model(answer));
                messages.push(user(why));
            }
        }
        let anew = memory.fresh || (matches!(next, Next::Fresh) && self.task.candidates > 1);
        let seed = anew.then_some(memory.seed);
        memory.seed += u64::from(anew);
        Request {
            system: prompt.system.clone(),
            messages,
            max_output: memory.max_output,
            temperature: anew.then_some(FRESH_TEMPERATURE),
            seed,
        }
    }

    async fn ask(&self, request: &Request, sink: &mut dyn FnMut(Step<'_>)) -> Result<Answer, Stop> {
        let mut events = |event: Event<'_>| sink(Step::Model(event));
        let answer = self.provider.generate(request, self.budget, self.cancel, &mut events).await;
        match answer {
            Ok(answer) => {
                for warning in &answer.warnings {
                    sink(Step::Warning(warning));
                }
                Ok(answer)
            }
            Err(error) if error.kind == ErrorKind::Canceled => Err(Stop::Canceled),
            Err(error) => Err(Stop::Provider(error.into())),
        }
    }

    /// Takes the script out of an answer; what cannot be tried is judged already.
    fn extract(
        &mut self,
        number: u32,
        asked: Asked,
        answer: Answer,
        memory: &mut Memory,
    ) -> Result<(Call, Option<String>), Stop> {
        let attempts = answer.attempts;
        let refused = |reason: String, filtered: bool, attempts: Vec<Attempt>| Stop::Refused {
            profile: attempts.last().map(|it| it.profile.clone()).unwrap_or_default(),
            reason,
            filtered,
            attempts,
        };
        let text = match answer.end {
            End::Complete { text } => text,
            End::Refused { reason } => return Err(refused(reason, false, attempts)),
            End::Filtered { reason } => return Err(refused(reason, true, attempts)),
            End::Limit { .. } => {
                let call =
                    Call { number, asked, attempts, model: answer.model, answer_sha256: None, judged: Judged::Cut };
                return Ok((call, None));
            }
        };
        let (judged, script) = match extract(&text, &mut self.parser).map_err(|error| Stop::Sandbox(error.into()))? {
            Extraction::Again { why } => {
                let reason = why.to_string();
                let failure = Feedback::of(&Failure::NoScript { reason: &reason });
                (Judged::NoScript { failure, answer: text.clone() }, None)
            }
            Extraction::Script { text: script } => {
                let script_sha256 = sha256(script.as_bytes());
                match memory.scripts.get(&script_sha256) {
                    Some(call) => (Judged::Repeated { call: *call, script_sha256 }, None),
                    None => {
                        memory.scripts.insert(script_sha256, number);
                        (Judged::Untried, Some(script))
                    }
                }
            }
        };
        let answer_sha256 = Some(sha256(text.as_bytes()));
        let call = Call { number, asked, attempts, model: answer.model, answer_sha256, judged };
        Ok((call, script))
    }

    /// Tries the scripts, each on a thread of its own if there are several. What keeps one from being tried is put into `stop`.
    fn try_all(&self, calls: Vec<(Call, Option<String>)>, stop: &mut Option<Stop>) -> Vec<Call> {
        let (task, sandbox) = (self.task, self.sandbox);
        let several = calls.iter().filter(|(_, script)| script.is_some()).count() > 1;
        let try_one = |script: String| attempt(&task, sandbox, script);
        let try_one = &try_one;
        let mut judged = Vec::new();
        std::thread::scope(|scope| {
            let started = calls.into_iter().map(|(call, script)| {
                let trying = script.map(|script| match several {
                    true => Trying::There(scope.spawn(move || try_one(script))),
                    false => Trying::Here(Box::new(try_one(script))),
                });
                (call, trying)
            });
            for (mut call, trying) in started.collect::<Vec<_>>() {
                let canceled = Status::Canceled { reason: CancelReason::Asked };
                match trying.map(Trying::end) {
                    None => {}
                    Some(Ok(trial)) if trial.outcome.as_ref().is_some_and(|outcome| outcome.status == canceled) => {
                        *stop = Some(Stop::Canceled);
                    }
                    Some(Ok(trial)) => call.judged = Judged::Tried(Box::new(trial)),
                    Some(Err(error)) => *stop = Some(Stop::Sandbox(error)),
                }
                judged.push(call);
            }
        });
        judged
    }
}

/// A trial that is under way.
enum Trying<'scope> {
    Here(Box<Result<Trial, SandboxError>>),
    There(ScopedJoinHandle<'scope, Result<Trial, SandboxError>>),
}

impl Trying<'_> {
    fn end(self) -> Result<Trial, SandboxError> {
        match self {
            Self::Here(trial) => *trial,
            Self::There(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        }
    }
}

/// What a call asks of the strategy.
enum Wish {
    Ask(Next),
    Longer,
    Fresh,
}

/// What an answer leads to. Evidence that is new is shown to the model; what was seen before, or cannot be shown, leads to a
/// fresh question.
fn after_call(call: &Call, before: &Next, memory: &mut Memory) -> Wish {
    match &call.judged {
        Judged::Cut if matches!(before, Next::Longer) => Wish::Fresh,
        Judged::Cut => Wish::Longer,
        Judged::Repeated { .. } | Judged::Untried => Wish::Fresh,
        Judged::NoScript { .. } if matches!(before, Next::Format { .. }) => Wish::Fresh,
        Judged::NoScript { failure, answer } => {
            Wish::Ask(Next::Format { answer: answer.clone(), why: failure.text.clone() })
        }
        Judged::Tried(trial) => match &trial.failure {
            Some(failure) if memory.failures.insert(failure.signature.clone()) => {
                Wish::Ask(Next::Repair { script: trial.script.clone(), failure: failure.text.clone() })
            }
            Some(_) | None => Wish::Fresh,
        },
    }
}

/// Scans a script, runs it as far as is wanted, and checks it.
///
/// # Errors
///
/// A run could not be made.
pub fn attempt(task: &Task<'_>, sandbox: &dyn Sandbox, script: String) -> Result<Trial, SandboxError> {
    let scan = sandbox.scan(&script);
    let mut trial = Trial { script, scan, outcome: None, runs: Vec::new(), passed: 0, failure: None };
    if trial.scan.verdict == Verdict::Deny {
        trial.failure = Some(Feedback::of(&Failure::Denied(&trial.scan)));
        return Ok(trial);
    }
    // The caller's own run comes first, also where nothing is asked of it but that it succeeds.
    let own = task.checks.cases().find(|(_, case)| case.stdin().is_none());
    if task.run || own.is_some() {
        let outcome = sandbox.run(&trial.script, Input::Own)?;
        trial.judge(own, None, &outcome);
        trial.outcome = Some(outcome);
    }
    for (number, case) in task.checks.cases() {
        let Some(stdin) = case.stdin().filter(|_| trial.failure.is_none()) else { continue };
        let outcome = sandbox.run(&trial.script, Input::Case(stdin))?;
        trial.judge(Some((number, case)), Some(number), &outcome);
    }
    Ok(trial)
}

fn count(calls: &[Call]) -> u32 {
    u32::try_from(calls.len()).unwrap_or(u32::MAX)
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
