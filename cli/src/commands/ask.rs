//! `capibara ask` and `capibara generate`: a sentence becomes a script, by a language model.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use capibara::{
    Applied, Canceler, Engine, EngineConfig, EngineError, Epoch, Language, OutFolder, Outcome, OutputSink as _, Stream,
};
use capibara_generate::asks::Asks;
use capibara_generate::budget::{Budget, Caps};
use capibara_generate::cassette::Wiring;
use capibara_generate::facts::{Facts, RuntimeFacts};
use capibara_generate::flow::{Flow, Stop, Task, Trial, attempt};
use capibara_generate::parse::{ParseError, SandboxParser};
use capibara_generate::profile::Profile;
use capibara_generate::prompt::{Prompt, PromptParts};
use capibara_generate::record::GenerationRecord;
use capibara_generate::store::{Store, StoreKey, StoredScript};
use capibara_generate::template::template;
use clap::Args;

use super::run::{Bounds, Ended, Files, Given, Shown};
use crate::artifacts::Artifacts;
use crate::asking::ending::Ending;
use crate::asking::models;
use crate::asking::report::AskReport;
use crate::asking::told::Told;
use crate::asking::trials::Trials;
use crate::asking::wanted::Wanted;
use crate::errors::Failure;
use crate::exit_code::ExitCode;
use crate::output::json::{self, RunReport};
use crate::output::live::{Left, LiveOutput};
use crate::output::progress::prepare;
use crate::output::text::Console;
use crate::output::{self, Format};
use crate::overlay::{self, Overlay};
use crate::settings::Settings;
use crate::signals::Watch;

/// Tokens of an answer, reasoning included.
const MAX_OUTPUT: u64 = 8_192;
/// How long a reader may take for the output of an accepted script.
const SLOWEST_READER: Duration = Duration::from_secs(24 * 3600);
/// The most bytes of standard input that all candidates can read.
const LARGEST_INPUT: u64 = 64 << 20;

/// Let a model write a script, and run it
///
/// A language model writes a script for what you say. It is scanned, run in the sandbox and checked; what really happened goes
/// back to the model until a script is accepted, and its output is printed. What the script may do is what you grant
/// here, and nothing a model says changes that: what it asks for beyond is shown.
///
/// A script is accepted if it ends with exit code 0 (or the one of `--check 'exit: N'`) and all checks hold. What it writes below --write
/// stays in memory until then. Standard input is read to its end first, unless it is a terminal. A script that was accepted once for the same question is used
/// again, without asking a model.
#[derive(Debug, Args)]
#[command(override_usage = "capibara ask [OPTIONS] <PROMPT>...", after_long_help = ASK_EXIT_CODES)]
pub(crate) struct AskArguments {
    #[command(flatten)]
    wanted: Wanted,

    #[command(flatten)]
    given: Given,

    #[command(flatten)]
    files: Files,

    /// Write the script to this file, too
    ///
    /// The one that was accepted or, if none was, the last that was tried. Example: `--save totals.py`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    #[command(flatten)]
    shown: Shown,
}

/// Let a model write a script, and print it
///
/// A language model writes a script for what you say. It is scanned against the policy and, as far as checks ask, run in the
/// sandbox. It is printed; nothing else is done with it. Grants and limits are those it is to have when it is run.
#[derive(Debug, Args)]
#[command(override_usage = "capibara generate [OPTIONS] <PROMPT>...", after_long_help = GENERATE_EXIT_CODES)]
pub(crate) struct GenerateArguments {
    #[command(flatten)]
    wanted: Wanted,

    #[command(flatten)]
    given: Given,

    #[command(flatten)]
    output: super::Output,
}

impl GenerateArguments {
    pub(crate) fn format(&self) -> Format {
        self.output.format
    }
}

impl AskArguments {
    pub(crate) fn format(&self) -> Format {
        self.shown.format
    }
}

const ASK_EXIT_CODES: &str = "\
Exit codes:
  0-119     the script's own; 1 also if no script did what was checked
  123       no script is accepted, and the last one broke down
  124       no script is accepted, and the last one was stopped by a limit
  125       could not be done: no model answered, or no answer had a script
  126       no script is accepted, and the last one was denied by the policy
  127       no such runtime or language
  130, 143  canceled by SIGINT, SIGTERM
  141       nobody reads the output any more";

const GENERATE_EXIT_CODES: &str = "\
Exit codes:
  0         a script was accepted and printed
  1         no script was accepted
  125       could not be done: no model answered, or no answer had a script
  127       no such runtime or language
  130, 143  canceled by SIGINT, SIGTERM
  141       nobody reads the output any more";

/// What both commands work on.
struct Asking<'a> {
    wanted: &'a Wanted,
    given: &'a Given,
    /// Only of `ask`.
    files: Option<&'a Files>,
    shown: HowShown<'a>,
}

/// How what came of it is shown.
#[derive(Clone, Copy)]
struct HowShown<'a> {
    format: Format,
    raw: bool,
    progress: bool,
    stats: bool,
    save: Option<&'a Path>,
}

pub(crate) fn ask(mut arguments: AskArguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let policy = arguments.given.policy.take();
    let Shown { format, raw, progress, stats } = arguments.shown;
    let shown = HowShown { format, raw, progress, stats, save: arguments.save.as_deref() };
    let asking = Asking { wanted: &arguments.wanted, given: &arguments.given, files: Some(&arguments.files), shown };
    asking.execute(policy, settings)
}

pub(crate) fn generate(mut arguments: GenerateArguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let policy = arguments.given.policy.take();
    let shown = HowShown { format: arguments.output.format, raw: true, progress: true, stats: false, save: None };
    let asking = Asking { wanted: &arguments.wanted, given: &arguments.given, files: None, shown };
    asking.execute(policy, settings)
}

/// What both commands have made before a model is asked.
struct Ready<'a> {
    bounds: &'a Bounds,
    trials: &'a Trials<'a>,
    facts: &'a Facts,
    task: Task<'a>,
    profiles: &'a [Profile],
    key: StoreKey,
    store: Store,
    state: PathBuf,
    ending: &'a Ending,
}

/// A script that is accepted or, if none is, the last that was tried.
struct Came {
    trial: Option<Trial>,
    /// `model` or `store`.
    source: &'static str,
    record: Option<GenerationRecord>,
    stopped: Option<Failure>,
    /// How often models were asked.
    calls: usize,
}

impl Asking<'_> {
    fn execute(&self, policy: Option<capibara::Policy>, settings: &Settings) -> Result<ExitCode, Failure> {
        let Self { wanted, given, .. } = self;
        let policy = policy.map_or_else(|| settings.policy(), Ok)?;
        let mut bounds = Bounds::new(&policy, given, settings)?;
        if let Some(files) = self.files {
            files.grant(&mut bounds)?;
        }
        super::policy::tell_expired(&policy);
        let (checks, template) = (wanted.checks()?, template(&wanted.template).map_err(Failure::from)?);
        let profiles = if wanted.explain { Vec::new() } else { models::chosen(wanted, settings)? };
        let state = models::state()?;
        let deadline = wanted.deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        let os = |error: io::Error| Failure::new("operating-system", "failed to watch for signals").with_cause(&error);

        let mut config = EngineConfig::default();
        // What was accepted before and has no checks is run once.
        config.single_run = wanted.offline && checks.is_empty();
        let engine = Engine::new(config)?;
        prepare(&engine, Language::Python, given.live)?;
        let input = if self.files.is_some() && !wanted.explain { standard_input()? } else { Arc::default() };
        let watch = Watch::start(&Canceler::default()).map_err(os)?;
        let ending = Ending::watch(watch.caught(), deadline).map_err(os)?;
        let trials = Trials {
            engine: &engine,
            policy: Arc::new(bounds.applied.clone()),
            given,
            epoch: (!given.live).then(|| given.epoch.unwrap_or_else(Epoch::now)),
            seed: given.seed,
            input,
            ending: &ending,
        };
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(os)?;
        let runtime = executor.block_on(RuntimeFacts::of(&engine, Language::Python, &state.join("facts")));
        let facts_job = trials.described();
        let facts = Facts::of(runtime.map_err(Failure::from)?, &facts_job).map_err(Failure::from)?;
        let shown = wanted.show.iter().map(|file| file.read(&facts_job.grants)).collect::<Result<Vec<_>, _>>()?;
        let sentence = wanted.sentence();
        let parts = PromptParts { facts: &facts, template, task: &sentence, shown: &shown, checks: &checks };
        let prompt = Prompt::new(&parts).map_err(Failure::from)?;
        if wanted.explain {
            return Ok(output::answer(prompt.explain().as_bytes(), ExitCode::Yes));
        }
        let key = StoreKey::default()
            .with("command", if self.files.is_some() { "ask" } else { "generate" })
            .with("prompt", &prompt.digest)
            .with("facts", facts.digest())
            .with("policy", trials.policy.sha256())
            .with("checks", checks.digest());
        let key = profiles.iter().fold(key, |key, profile| key.with("profile", profile.digest()));
        let task = Task {
            prompt: &prompt,
            checks: &checks,
            run: self.files.is_some(),
            calls: wanted.calls(),
            candidates: wanted.best_of,
            max_output: MAX_OUTPUT,
        };
        let out = self.files.and_then(|files| files.out.as_ref()).map(|path| engine.out_folder(path)).transpose()?;
        let store = Store::new(state.join("scripts"));
        let ready = Ready {
            bounds: &bounds,
            trials: &trials,
            facts: &facts,
            task,
            profiles: &profiles,
            key,
            store,
            state,
            ending: &ending,
        };
        let came = self.come(&ready, &executor)?;
        let signal = watch.finish();
        if let Some(signal) = signal.filter(|_| came.stopped.is_some() && !ending.is_late()) {
            Console::new().say(&format!("canceled by {}", signal.name()));
            return Ok(signal.exit_code());
        }
        self.tell(&ready, came, out.as_ref())
    }

    /// A stored script, if it still does what is wanted, or one that a model writes now.
    fn come(&self, ready: &Ready<'_>, executor: &tokio::runtime::Runtime) -> Result<Came, Failure> {
        let wanted = self.wanted;
        if !wanted.fresh && wanted.record.is_none() && wanted.replay.is_none() {
            match self.stored(ready) {
                Ok(Some(trial)) => {
                    let (stopped, record) = (None, None);
                    return Ok(Came { trial: Some(trial), source: "store", record, stopped, calls: 0 });
                }
                Ok(None) => {}
                Err(failure) if wanted.offline => return Err(failure),
                Err(failure) => Console::new().say(&format!("warning: {}", failure.full_message())),
            }
        }
        if wanted.offline {
            return Err(Failure::new("no-stored-script", "no script was accepted for this before")
                .with_hint("leave `--offline` out once; what is stored depends on prompt, files shown, grants, limits, policy, checks, profiles and runtime"));
        }
        let wiring = match (&wanted.record, &wanted.replay) {
            (Some(folder), _) => Wiring::record(folder.as_path()).map_err(Failure::from)?,
            (None, Some(folder)) => Wiring::replay(folder.as_path()).map_err(Failure::from)?,
            (None, None) => Wiring::live(),
        };
        let chain = models::chain(ready.profiles, &wiring)?;
        let budget = Budget::new(Caps {
            max_tokens: wanted.max_tokens,
            max_cost: wanted.max_cost,
            max_attempts: None,
            deadline: wanted.deadline,
        });
        let text = self.shown.format == Format::Text;
        let bar = self.shown.progress && io::stderr().is_terminal();
        let mut told = Told::new(text, bar);
        let mut parser = SandboxParser::new(ready.trials.engine.clone());
        let mut flow = Flow {
            task: ready.task,
            provider: &chain,
            sandbox: ready.trials,
            parser: &mut parser,
            budget: &budget,
            cancel: ready.ending.token(),
        };
        let mut generation = executor.block_on(flow.run(&mut |step| told.step(&step)));
        told.finish();
        let record = GenerationRecord::of(&ready.task, &generation, &budget);
        if let Err(error) = record.write(&ready.state.join("generations")) {
            let failure = Failure::new("record", "the record of this generation was not written").with_cause(&error);
            Console::new().say(&format!("warning: {}", failure.full_message()));
        }
        let stopped = generation.stopped.take().map(|stop| self.stopped(ready, stop));
        let calls = generation.calls.len();
        if let Some(call) = generation.accepted()
            && let Some(trial) = call.trial()
            && wanted.replay.is_none()
        {
            let model = call.model.as_deref().unwrap_or_default();
            let stored = StoredScript::now(&trial.script, call.profile(), model);
            if let Err(error) = ready.store.put(&ready.key, &stored) {
                Console::new().say(&format!("warning: {}", Failure::from(error).full_message()));
            }
        }
        let trial = generation.into_trial();
        Ok(Came { trial, source: "model", record: Some(record), stopped, calls })
    }

    /// The stored script, tried again; `None` if there is none, or it does no longer what is wanted and a model may be asked.
    fn stored(&self, ready: &Ready<'_>) -> Result<Option<Trial>, Failure> {
        let Some(stored) = ready.store.get(&ready.key).map_err(Failure::from)? else { return Ok(None) };
        let trial = attempt(&ready.task, ready.trials, stored.script).map_err(sandbox_failure)?;
        match &trial.failure {
            Some(failure) if !self.wanted.offline => {
                let text =
                    format!("the script that was accepted on {} is not any more: {}", stored.accepted, failure.summary);
                Console::new().say(&text);
                Ok(None)
            }
            _ => Ok(Some(trial)),
        }
    }

    /// Why no more was asked, as a failure.
    fn stopped(&self, ready: &Ready<'_>, stop: Stop) -> Failure {
        match stop {
            Stop::Refused { profile, reason, filtered: false, .. } => {
                Failure::new("model-refused", format!("{profile}: the model refused: {reason}"))
                    .with_hint("ask in other words, or another model: `--profile NAME`")
            }
            Stop::Refused { profile, reason, filtered: true, .. } => {
                Failure::new("model-filtered", format!("{profile}: the provider held the answer back: {reason}"))
                    .with_hint("ask in other words, or another model: `--profile NAME`")
            }
            Stop::Provider(error) => Failure::from(*error),
            Stop::Sandbox(error) => sandbox_failure(error),
            Stop::Canceled if ready.ending.is_late() => {
                Failure::new("deadline", "the deadline has passed").with_hint("give it more time with --deadline")
            }
            Stop::Canceled => Failure::new("canceled", "canceled"),
        }
    }

    /// Says what came of it, and gives back how the process ends.
    fn tell(&self, ready: &Ready<'_>, came: Came, out: Option<&OutFolder>) -> Result<ExitCode, Failure> {
        let text = self.shown.format == Format::Text;
        let console = Console::new();
        let accepted = came.trial.as_ref().is_some_and(|trial| trial.failure.is_none());
        let mut report = AskReport::new(if accepted { "accepted" } else { "rejected" });
        report.generation = came.record;
        let Some(trial) = came.trial else {
            let failure = came.stopped.unwrap_or_else(|| {
                Failure::new("no-script", format!("no answer of {} had a script", came.calls))
                    .with_hint("ask again with another model: `--profile NAME`")
            });
            report.status = "error";
            report.error = Some((&failure).into());
            console.failure(&failure);
            return Ok(if text { failure.exit } else { json::print(&report, failure.exit) });
        };
        let asks = Asks::of(ready.facts, &trial.script, &trial.scan.needs);
        if text && !asks.is_empty() {
            let suggestion = Asks::suggestion("suggested", &trial.script, &|path| path.exists());
            asks.text(&suggestion).lines().for_each(|line| console.say(line));
        }
        if let Some(path) = self.shown.save {
            save(path, &trial.script)?;
        }
        report.source = Some(came.source);
        report.script_sha256 = Some(trial.script_sha256().to_string());
        report.asks = AskReport::asked_for(&asks);
        let script = trial.script.clone();
        report.script = Some(script.clone());
        let code = if accepted {
            match (self.files, trial.outcome) {
                (Some(files), Some(outcome)) => self.take(ready, files, outcome, out, &mut report)?,
                _ if text => return Ok(output::answer(script.as_bytes(), ExitCode::Yes)),
                _ => ExitCode::Yes,
            }
        } else {
            let failed = came.stopped.as_ref();
            if text {
                let attempts = if came.calls == 1 { "1 attempt".into() } else { format!("{} attempts", came.calls) };
                console.say(&match came.source {
                    "store" => "the stored script is not accepted any more".to_owned(),
                    _ => format!("no script was accepted after {attempts}"),
                });
            }
            if let Some(failure) = failed {
                console.failure(failure);
                report.error = Some(failure.into());
            }
            let code = failed.map_or_else(|| self.rejected(&trial), |failure| failure.exit);
            report.run = trial.outcome.map(|outcome| RunReport::of(outcome, !ready.bounds.narrow));
            code
        };
        Ok(if text { code } else { json::print(&report, code) })
    }

    /// Takes what an accepted run came to: what it wrote, left and printed.
    fn take(
        &self,
        ready: &Ready<'_>,
        files: &Files,
        mut outcome: Outcome,
        out: Option<&OutFolder>,
        report: &mut AskReport,
    ) -> Result<ExitCode, Failure> {
        let text = self.shown.format == Format::Text;
        let mut left = Left::default();
        if text {
            // Nobody is held up by a reader that is slow.
            let deadline = Instant::now() + SLOWEST_READER;
            let mut shown = LiveOutput::new(ready.trials.ending.caught(), self.shown.raw);
            for (stream, bytes) in [(Stream::Stderr, &outcome.stderr.bytes), (Stream::Stdout, &outcome.stdout.bytes)] {
                // Whether anybody reads it is told by what is left.
                let _ = shown.write(stream, bytes, deadline);
            }
            left = shown.finish();
        }
        let is_write = ready.trials.writes();
        let written = outcome.changes.only(&is_write);
        let applied = written.apply();
        outcome.changes = outcome.changes.only(|change| !is_write(change));
        let overlay = Overlay::settle(files.apply, &outcome);
        let artifacts = Artifacts::keep(out, &outcome);
        let console = Console::after(&left);
        overlay::tell_not_applied(&console, &applied);
        let ended = Ended::by_itself(outcome, left);
        let code = overlay.code(artifacts.code(ended.tell(&console, ready.bounds)?));
        let code = if !applied.refused.is_empty() && code == ExitCode::Script(0) { ExitCode::Failed } else { code };
        if code != ExitCode::OutputClosed {
            overlay.tell(&console, &ended.outcome, files.apply, text);
            artifacts.tell(&console, text);
        }
        console.tools(&ended.outcome.tools);
        if self.shown.stats {
            console.stats(&ended.outcome);
        }
        let all = join(applied, overlay.applied);
        report.run = Some(RunReport::of(ended.outcome, !ready.bounds.narrow).with_files(artifacts.written, all));
        Ok(code)
    }

    /// How the process ends if no script is accepted, by what came of the last one.
    fn rejected(&self, trial: &Trial) -> ExitCode {
        if self.files.is_none() {
            return ExitCode::No;
        }
        match trial.outcome.as_ref().map(|outcome| &outcome.status) {
            None => ExitCode::Denied,
            Some(capibara::Status::Limit(_)) => ExitCode::Limit,
            Some(capibara::Status::Trapped(_)) => ExitCode::Trapped,
            Some(capibara::Status::Completed { exit_code }) if *exit_code != 0 => ExitCode::Script(*exit_code),
            Some(_) => ExitCode::No,
        }
    }
}

/// What was written and what was applied, together; `None` if there was nothing to do.
fn join(written: Applied, applied: Option<Applied>) -> Option<Applied> {
    if written.applied == 0 && written.refused.is_empty() {
        return applied;
    }
    let mut all = applied.unwrap_or_default();
    all.applied += written.applied;
    all.refused.extend(written.refused);
    Some(all)
}

/// Our own standard input, read to its end, so that every candidate reads the same. A terminal is not read.
fn standard_input() -> Result<Arc<[u8]>, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(Arc::default());
    }
    let mut bytes = Vec::new();
    stdin
        .lock()
        .take(LARGEST_INPUT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new("standard-input", "failed to read standard input").with_cause(&error))?;
    if bytes.len() as u64 > LARGEST_INPUT {
        return Err(Failure::new("standard-input", "standard input is larger than 64MiB")
            .with_hint("put it into a file, and grant that: `--read FILE`"));
    }
    Ok(bytes.into())
}

fn save(path: &Path, script: &str) -> Result<(), Failure> {
    std::fs::write(path, script)
        .map_err(|error| Failure::new("save", format!("failed to write `{}`", path.display())).with_cause(&error))
}

fn sandbox_failure(error: capibara_generate::flow::SandboxError) -> Failure {
    match error.downcast::<Failure>() {
        Ok(failure) => *failure,
        Err(error) => match error.downcast::<EngineError>() {
            Ok(error) => Failure::from(*error),
            Err(error) => match error.downcast::<ParseError>().map(|error| *error) {
                Ok(ParseError::Engine(error)) => Failure::from(error),
                Ok(error) => Failure::new("parse", error.to_string()).with_hint("run `capibara runtime verify python`"),
                Err(error) => Failure::new("internal", error.to_string()),
            },
        },
    }
}
