//! `capibara run`: runs one script and is, for whoever called it, as much like the script as it can be.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use capibara::{
    CancelReason, Engine, EngineConfig, Epoch, Job, Language, LimitKind, Limits, LimitsChange, OutFolder, Outcome,
    Policy, Script, Status, Stdin, Stream, Verdict, script_modules,
};
use capibara_policies::{Setting, parse_count, parse_duration, parse_memory, parse_size};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{ArgAction, Args};

use crate::artifacts::Artifacts;
use crate::commands::{dry_run, watch};
use crate::errors::Failure;
use crate::exit_code::{ExitCode, LARGEST_SCRIPT_CODE};
use crate::grants::{self, Mount};
use crate::output::events::{Both, Events};
use crate::output::json::{self, RunReport};
use crate::output::live::{Broken, Left, LiveOutput};
use crate::output::progress::prepare;
use crate::output::text::{self, Console};
use crate::output::{self, Format, lost, lost_at};
use crate::overlay::Overlay;
use crate::recorder::Recorder;
use crate::script::{self, Found, Place};
use crate::settings::{Key, Origin, Settings, parse_switch};
use crate::signals::{Signal, Watch};
use crate::tool_program::{self, ToolProgram};
use crate::watching::{During, Watching};

/// Run a script
///
/// The script is scanned first: what the policy denies does not run. It runs in real CPython inside WebAssembly. It sees
/// itself, the modules it imports from its own folder, an empty working directory in memory, the
/// standard library, its arguments and standard input, and nothing else: no files of yours, no environment, no network.
/// The script stands at /script/NAME, the working directory is /home/script, and what is written to files is gone when
/// the run ends. The time zone is UTC. Sleeping takes no time, but moves the script's clock and counts against --timeout.
///
/// Everything after SCRIPT (or after `-c CODE`, `-m MODULE`) belongs to the script, also words that look like options.
/// Standard output is the script's own; what is said about the run goes to standard error in lines that begin with
/// `capibara: `.
#[derive(Debug, Args)]
#[command(
    override_usage = "capibara run [OPTIONS] <SCRIPT|-|-c CODE|-m MODULE> [ARGS]...",
    after_long_help = EXIT_CODES
)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) source: Source,

    /// What the script gets as its arguments
    // Never filled by clap: see `arguments::split`.
    #[arg(value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,

    #[command(flatten)]
    pub(crate) given: Given,

    #[command(flatten)]
    pub(crate) files: Files,

    #[command(flatten)]
    pub(crate) how: How,
}

/// What scripts are given and held to, in a run as in a session.
#[derive(Debug, Args)]
pub(crate) struct Given {
    /// strict, moderate (default), permissive or yours
    ///
    /// A preset, the name of a policy of yours (`capibara policy list`), or the path of a policy file, with a `/` in it.
    /// strict: 5s, 100G fuel, 128MiB memory, 1MiB output, and no flag can raise them. moderate: 30s, 1T fuel, 512MiB
    /// memory, 16MiB output. permissive: 5m, no fuel limit, 2GiB memory, 64MiB output. Another default, for this and for
    /// limits and format, is set by variables or a file: see `capibara config`. Example: `--policy strict`
    #[arg(long, value_name = "POLICY", value_parser = super::policy::parser())]
    pub(crate) policy: Option<Policy>,

    /// Stop after so many instructions, such as 500M
    ///
    /// A plain count, or one with K, M, G or T for thousands, millions and so on. The same script with the same input
    /// stops at the same instruction every time. Default: by policy, 1T in moderate. Example: `--fuel 20M`
    #[arg(long, value_name = "COUNT", value_parser = parse_count, allow_hyphen_values = true, conflicts_with = "live")]
    pub(crate) fuel: Option<u64>,

    /// Stop after so much time, for example 2s
    ///
    /// Real time plus time slept, with a unit: ms, s, m, h. Waiting for input or for a reader of the output counts. A
    /// sleep takes no real time (except with --live) and counts in full. What was printed before the stop is kept; the
    /// exit code is 124. Default: by policy, 30s in moderate. Example: `--timeout 1m30s`
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,

    /// Memory the script may have, for example 256MiB
    ///
    /// A size with a unit: KiB, MiB, GiB, or kB, MB, GB. It covers the interpreter and the files the script makes, and
    /// is at most 4GiB. The script sees a MemoryError; if it dies of it, the exit code is 124. Default: by policy,
    /// 512MiB in moderate. Example: `--memory 128MiB`
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, allow_hyphen_values = true)]
    pub(crate) memory: Option<u64>,

    /// What the script may print, for example 1MiB
    ///
    /// A size with a unit, for standard output and standard error together. More than that ends the run with exit code
    /// 124; what came before is kept. Default: by policy, 16MiB in moderate. Example: `--max-output 100KiB`
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_hyphen_values = true)]
    pub(crate) max_output: Option<u64>,

    /// What it may write to files, for example 64MiB
    ///
    /// A size with a unit, for all that is written during the run: to files in memory, which --memory bounds too, and to
    /// those that --write grants. Past it the script sees an OSError, "No space left on device". Default: by policy, 256MiB in moderate. Example:
    /// `--max-disk 10MiB`
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_hyphen_values = true)]
    pub(crate) max_disk: Option<u64>,

    /// Start the script's clock at this moment
    ///
    /// RFC 3339. The clock goes on from there with the instructions the script executes. Default: now. With the same
    /// epoch and seed, the same script with the same input prints the same bytes. Example: `--epoch 2026-01-31T12:00:00Z`
    #[arg(long, value_name = "RFC3339", allow_hyphen_values = true, conflicts_with = "live")]
    pub(crate) epoch: Option<Epoch>,

    /// Start the script's randomness at this number
    ///
    /// A decimal number below 2^128, from which everything follows that the script takes for random. Default: a new one
    /// every time. Example: `--seed 1`
    #[arg(long, value_name = "DECIMAL", value_parser = parse_seed, allow_hyphen_values = true, conflicts_with = "live")]
    pub(crate) seed: Option<u128>,

    /// Real clocks, real sleeps and system randomness
    ///
    /// The fastest way to run, and the right one for scripts that make keys. Such a run cannot be repeated and does not
    /// count fuel, so a policy's fuel limit does not apply. Default: off; strict refuses it.
    #[arg(long)]
    pub(crate) live: bool,

    /// Let it read a file or folder (repeatable)
    ///
    /// With all that is below it. The script sees it under the last part of its name, or where GUEST says; `/` is the
    /// script's root. Links do not lead out of it. Default: none; strict refuses it. Example: `--read data:/in`
    #[arg(long, value_name = "HOST[:GUEST]", value_parser = OsStringValueParser::new().try_map(grants::parse), allow_hyphen_values = true)]
    pub(crate) read: Vec<Mount>,

    /// Let it change a file or folder, too (repeatable)
    ///
    /// As --read, and the script may also make, change, rename and remove what is in it: give it a folder of its own.
    /// What it writes counts against --max-disk. Default: none; strict refuses it. Example: `--write results:/results`
    #[arg(long, value_name = "HOST[:GUEST]", value_parser = OsStringValueParser::new().try_map(grants::parse), allow_hyphen_values = true)]
    pub(crate) write: Vec<Mount>,

    /// Give the script a variable (repeatable)
    ///
    /// The script sees these variables and no others. Example: `--env LANG=C --env DEBUG=`
    #[arg(long, value_name = "K=V", value_parser = parse_variable, allow_hyphen_values = true)]
    pub(crate) env: Vec<(String, String)>,

    /// Let it call a program of yours (repeatable)
    ///
    /// The script calls it as a function by keywords, `from capibara import tools` and `tools.NAME(n=1)`, or `await
    /// tools.aio.NAME(n=1)`. PROGRAM is started once, without a shell, and gets a line of JSON for each call,
    /// `{"id":1,"args":{"n":1}}`; it answers by a line `{"id":1,"result":…}` or `{"id":1,"error":"…"}`, in any order. It runs with your
    /// rights, outside of the sandbox. Default: none; strict refuses it. Example: `--tool users=./users.py`
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = OsStringValueParser::new().try_map(ToolProgram::parse), allow_hyphen_values = true)]
    pub(crate) tool: Vec<ToolProgram>,
}

/// What becomes of files when a run is over.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// Let it change one in memory only (repeatable)
    ///
    /// A file or folder. The script works on it as with --write, but this machine stays as it is: what is changed lies in memory, and counts against
    /// --memory and --max-disk. After the run the differences are told; with --apply they are made. Default: none; strict
    /// refuses it. Example: `--overlay src --apply`
    #[arg(long, value_name = "HOST[:GUEST]", value_parser = OsStringValueParser::new().try_map(grants::parse), allow_hyphen_values = true)]
    pub(crate) overlay: Vec<Mount>,

    /// Make the changes below overlays come true
    ///
    /// When the script has ended with exit code 0; otherwise nothing is applied. Each file is replaced as a whole, and only where
    /// this machine still has what the script saw: what was changed meanwhile is left as it is and told, and the exit
    /// code is 125 then. Links are never followed. Default: off.
    #[arg(long)]
    pub(crate) apply: bool,

    /// Keep what it leaves in /out in this folder
    ///
    /// Every regular file below /out is written there when the run has ended, however it ended. The folder is made if the one above it
    /// is there; files of the same name are replaced, links are never followed and anything else is left alone and told.
    /// If a file could not be written and the script succeeded, the exit code is 125. Example: `--out results`
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new().try_map(folder), allow_hyphen_values = true)]
    pub(crate) out: Option<PathBuf>,
}

impl Files {
    /// Adds overlays to what is granted, and looks whether they may be applied.
    pub(crate) fn grant(&self, bounds: &mut Bounds) -> Result<(), Failure> {
        bounds.grant_overlays(&self.overlay)?;
        if self.apply {
            bounds.check_apply("`--apply` is given")?;
        }
        Ok(())
    }
}

/// How a script runs, and what is said of it.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Language, where the script does not show it
    ///
    /// python or wasm. Python is known by `.py`, `.pyw` or a first line that names python or capibara, a WebAssembly
    /// program by `.wasm`, `.wat` or its first bytes; other scripts are denied without this option, and under strict
    /// with it too. Example: `--language python`
    #[arg(long, value_name = "NAME")]
    pub(crate) language: Option<String>,

    #[command(flatten)]
    pub(crate) shown: Shown,

    /// Tell what happens, one JSON object a line
    ///
    /// started, output, usage (ten times in a second) and ended, while they happen, to a file or a pipe, beside all else. With
    /// `-` they go to standard output in place of the script's output, whatever --format says; the script's standard error is among
    /// them, too. Example: `--events - | jq`
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run", value_parser = OsStringValueParser::new())]
    pub(crate) events: Option<OsString>,

    /// Say what would be, and run nothing
    ///
    /// Prints the verdict of the scan, every limit and every grant as they would be in force, the modules that come with
    /// the script, and what the script needs as far as the scan can tell. The exit code is 0 if it would run, and 126 if
    /// the policy denies it.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Run it again whenever its files change
    ///
    /// Its files are the script, the modules it imports from its folder, and files (not folders) that --read names. A run that is under way is canceled
    /// then. Ctrl-C ends it, with exit code 130. With --format json there is one object a line for each run. Only for scripts that are files.
    #[arg(long, conflicts_with_all = ["dry_run", "events", "code", "module"])]
    pub(crate) watch: bool,
}

/// How a run is shown.
#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// text (default): script's output; json: an object
    ///
    /// With text the script's standard output and standard error come as they are. With json there is one object when
    /// the run has ended, with status, output, usage and more (schema 1), also when it could not be run. Example: `--format json`
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) format: Format,

    /// On a terminal, show output as it is
    ///
    /// On a terminal, control characters other than newline, tab and colors are shown escaped, for example `\r` or
    /// `\x1b`, so that a script cannot set the clipboard or the title or paint over other lines. With --raw the terminal
    /// gets, and obeys, all of them. Files and pipes get every byte in any case.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true,
        action = ArgAction::Set,
        value_parser = parse_switch
    )]
    pub(crate) raw: bool,

    /// Show a line about a long run on a terminal
    ///
    /// Where standard output and error are both a terminal, a run that prints nothing for two seconds is told of in one line,
    /// which is gone before anything else is printed. Default: on. Example: `--progress=false`
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        hide_default_value = true,
        action = ArgAction::Set,
        value_parser = parse_switch
    )]
    pub(crate) progress: bool,

    /// Say what the run used
    ///
    /// Prints fuel, time, memory, output, files and calls on standard error after the run. In JSON they are always there.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true,
        action = ArgAction::Set,
        value_parser = parse_switch
    )]
    pub(crate) stats: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0-119     the script's own; others become 119, and are told
  123       the interpreter or program broke down
  124       stopped by a limit
  125       could not be done: usage, configuration, internal;
            or the script succeeded, and --out or --apply did not
  126       denied by policy
  127       no such runtime or language
  130, 143  canceled by SIGINT, SIGTERM
  141       nobody reads the output any more";

/// Where the script comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Source {
    /// Script to run, or - for standard input
    ///
    /// A UTF-8 file of at most 16MiB, or a WebAssembly program (a WASI preview 1 command) of at most 32MiB. With `-`, standard input is the script and the script's own is empty.
    #[arg(value_name = "SCRIPT")]
    pub(crate) script: Option<OsString>,

    /// Run this code
    ///
    /// As `python -c`. Example: `capibara run -c 'print(6 * 7)'`
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    pub(crate) code: Option<String>,

    /// Run this module of the standard library
    ///
    /// As `python -m`. Example: `capibara run -m json.tool < data.json`
    #[arg(short = 'm', value_name = "MODULE", allow_hyphen_values = true)]
    pub(crate) module: Option<String>,
}

impl RunArguments {
    /// The definition alone, to ask which options take a value.
    pub(crate) fn definition() -> clap::Command {
        Self::augment_args(clap::Command::new("run"))
    }
}

fn parse_seed(text: &str) -> Result<u128, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| format!("`{text}` is not a whole number below 2^128"))
}

/// Reads the folder of `--out`.
pub(crate) fn folder(text: OsString) -> Result<PathBuf, String> {
    if text.is_empty() { Err("an empty text names no folder".into()) } else { Ok(text.into()) }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("`{text}` is not a variable: write for example `NAME=value`, or `NAME=` for an empty one")),
    }
}

/// Runs the script and gives back how the process ends.
pub(crate) fn execute(run: &RunArguments, settings: &Settings) -> Result<ExitCode, Failure> {
    if run.how.watch {
        return watch::execute(run, settings);
    }
    let live = run.given.live;
    let events = run.how.events.as_ref().map(Events::open).transpose()?;
    match (execute_told(run, settings, events.as_ref(), None), events) {
        (Err(failure), Some(events)) => {
            let told = events.ended(&mut RunReport::failed(&failure, live));
            if !events.on_stdout() {
                return Err(failure);
            }
            Console::new().failure(&failure);
            Ok(told.map_or_else(|error| lost(&error, Stream::Stdout), |()| failure.exit))
        }
        (result, _) => result,
    }
}

/// Runs the script once; `watching` for changes of its files, if it is to be run again then.
pub(super) fn execute_told(
    run: &RunArguments,
    settings: &Settings,
    events: Option<&Events>,
    watching: Option<&Watching>,
) -> Result<ExitCode, Failure> {
    let set;
    let policy = match &run.given.policy {
        Some(policy) => policy,
        None => {
            set = settings.policy()?;
            &set
        }
    };
    let RunArguments { source, args, given, files, how } = run;
    let (Given { live, epoch, seed, .. }, How { language, shown, .. }) = (given, how);
    let format = &shown.format;
    let (found, mut bounds) = (script_of(source)?, Bounds::new(policy, given, settings)?);
    files.grant(&mut bounds)?;
    let narrow = !policy.overridable.allows(Setting::Language);
    let language = match script::language(&found, language.as_deref(), &policy.name, narrow) {
        Err(failure) if failure.exit == ExitCode::Denied && !run.how.dry_run => {
            Recorder::denied(&found.script, policy, &failure)?;
            return Err(failure);
        }
        language => language?,
    };
    let folder = found.place.as_ref().map(|place| place.folder.clone());
    let mut job = job_of(found, args, language, &bounds.applied)?;
    if let (Some(watching), Some(folder)) = (watching, &folder) {
        watching.also(folder, &job.modules);
    }
    job.stdin = if from_standard_input(source) { Stdin::Closed } else { standard_input() };
    super::policy::tell_expired(policy);
    (job.epoch, job.seed, job.live) = (*epoch, *seed, *live);

    let mut config = EngineConfig::default();
    // Where others follow, the engine gives back what it mapped.
    config.single_run = watching.is_none();
    let engine = Engine::new(config)?;
    let scan = engine.scan(&job);
    if run.how.dry_run {
        return Ok(dry_run::tell(run, &job, &scan, &bounds));
    }
    let recorder = Recorder::open(&job, &scan)?;
    if scan.verdict == Verdict::Deny {
        let outcome = engine.run_blocking(job)?;
        recorder.ended(&outcome);
        return denied(outcome, format, events, !bounds.narrow);
    }
    if format == &Format::Text {
        output::scan::warn(&Console::new(), &scan);
    }
    // What is denied starts nothing.
    let started = folder_of(run, &engine).and_then(|out| {
        job.tools = tool_program::tools(&run.given.tool)?;
        Ok((run_recorded(run, &engine, job, language, events, watching)?, out))
    });
    match started {
        Ok((ended, out)) => {
            recorder.ended(&ended.outcome);
            if watching.is_none() {
                // The process ends after this: giving back what the engine mapped would only take time.
                std::mem::forget(engine);
            }
            told(run, ended, out.as_ref(), &bounds, events, watching)
        }
        Err(failure) => {
            recorder.failed(&failure);
            Err(failure)
        }
    }
}

/// The folder of `--out`, open.
fn folder_of(run: &RunArguments, engine: &Engine) -> Result<Option<OutFolder>, Failure> {
    Ok(run.files.out.as_ref().map(|path| engine.out_folder(path)).transpose()?)
}

/// Makes the runtime ready and runs the job.
fn run_recorded(
    run: &RunArguments,
    engine: &Engine,
    mut job: Job,
    language: Language,
    events: Option<&Events>,
    watching: Option<&Watching>,
) -> Result<Ended, Failure> {
    prepare(engine, job.language, job.live)?;

    let canceler = job.canceler();
    let watch = match watching {
        Some(watching) => watching.caught().and_then(|caught| Watch::one_of_many(caught, &canceler)),
        None => Watch::start(&canceler),
    };
    let watch =
        watch.map_err(|error| Failure::new("operating-system", "failed to watch for signals").with_cause(&error))?;
    let changes = watching.map(|watching| watching.during(canceler));
    if let Some(events) = events {
        events.begin(&job, &job.limits, language, watch.caught());
        job.events = Some(Box::new(events.clone()));
        job.sink = Some(Box::new(events.clone()));
    }
    let instead = events.is_some_and(Events::on_stdout);
    job.capture = run.how.shown.format == Format::Json && !instead;
    let (outcome, mut left) = if run.how.shown.format == Format::Text && !instead {
        let shown = LiveOutput::new(watch.caught(), run.how.shown.raw);
        let status = run.how.shown.progress && shown.show_status(&job.limits, job.live);
        job.sink = Some(match events {
            Some(events) => Box::new(Both(shown.clone(), events.clone())),
            None => Box::new(shown.clone()),
        });
        if status {
            job.events = Some(match events {
                Some(events) => Box::new(Both(shown.clone(), events.clone())),
                None => Box::new(shown.clone()),
            });
        }
        let outcome = engine.run_blocking(job);
        (outcome, shown.finish())
    } else {
        (engine.run_blocking(job), Left::default())
    };
    left.broken = left.broken.or_else(|| events.and_then(Events::take_broken));
    let signal = watch.finish();
    let changed = changes.is_some_and(During::finish);
    if signal == Some(Signal::Interrupt) && rustix::termios::isatty(rustix::stdio::stderr()) {
        // The terminal has shown `^C`, at the end of what it shows.
        left.line_open |= !left.erased;
    }
    Ok(Ended { language, left, signal, changed, outcome: outcome? })
}

/// Says what there is to say of a run, and gives back how the process ends.
fn told(
    run: &RunArguments,
    ended: Ended,
    out: Option<&OutFolder>,
    bounds: &Bounds,
    events: Option<&Events>,
    watching: Option<&Watching>,
) -> Result<ExitCode, Failure> {
    let console = Console::after(&ended.left);
    let artifacts = Artifacts::keep(out, &ended.outcome);
    let overlay = Overlay::settle(run.files.apply, &ended.outcome);
    let code = overlay.code(artifacts.code(ended.tell(&console, bounds)?));
    let text = run.how.shown.format == Format::Text;
    if code != ExitCode::OutputClosed {
        overlay.tell(&console, &ended.outcome, run.files.apply, text);
        artifacts.tell(&console, text);
    }
    console.tools(&ended.outcome.tools);
    if run.how.shown.stats {
        console.stats(&ended.outcome);
    }
    if let Some(watching) = watching {
        watching.speak_through(console);
    }
    let report = || RunReport::of(ended.outcome, !bounds.narrow).with_files(artifacts.written, overlay.applied);
    Ok(tell_json(report, run.how.shown.format, events, code))
}

/// Gives what came of a run to whoever reads JSON. `code` is the exit code if that works.
fn tell_json(report: impl FnOnce() -> RunReport, format: Format, events: Option<&Events>, code: ExitCode) -> ExitCode {
    let instead = events.is_some_and(Events::on_stdout);
    let prints = format == Format::Json && !instead;
    if events.is_none() && !prints {
        return code;
    }
    let mut report = report();
    match events.map_or(Ok(()), |events| events.ended(&mut report)) {
        Err(error) if instead => lost(&error, Stream::Stdout),
        Err(error) => lost_at(&error, "the events"),
        Ok(()) if prints => json::print(&report, code),
        Ok(()) => code,
    }
}

/// Tells why a script is not run.
fn denied(outcome: Outcome, format: &Format, events: Option<&Events>, can_grant: bool) -> Result<ExitCode, Failure> {
    let console = Console::new();
    output::scan::deny(&console, &outcome.scan);
    console.say(&output::scan::denial(&outcome.scan));
    console.hint(&output::scan::denial_hint(&outcome.scan, can_grant));
    Ok(tell_json(|| RunReport::of(outcome, can_grant), *format, events, ExitCode::Denied))
}

/// Whether the script comes by standard input, by whatever name.
pub(super) fn from_standard_input(source: &Source) -> bool {
    let names = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
    source.script.as_deref().is_some_and(|script| names.iter().any(|name| script == OsStr::new(name)))
}

fn script_of(source: &Source) -> Result<Found, Failure> {
    match (&source.script, &source.code, &source.module) {
        (Some(_), ..) if from_standard_input(source) => script::from_standard_input().map(Found::unnamed),
        (Some(path), ..) => script::from_file(Path::new(path)),
        (None, Some(code), _) => Ok(Found::unnamed(Script::Code(code.clone()))),
        (None, None, Some(module)) => Ok(Found::unnamed(Script::Module(module.clone()))),
        (None, None, None) => Err(Failure::new("usage", "no script was given")),
    }
}

fn job_of(found: Found, args: &[OsString], language: Language, policy: &Policy) -> Result<Job, Failure> {
    let mut job = Job::under(Arc::new(policy.clone()), found.script);
    job.language = language;
    if let Some(Place { path, folder }) = found.place {
        if let (Language::Python, Script::File { name, source }) = (language, &job.script) {
            job.modules = script_modules(&folder, name, source)?;
        }
        job.origin = Some(path);
    }
    for (i, arg) in args.iter().enumerate() {
        job.args.push(arg.to_str().map(str::to_owned).ok_or_else(|| {
            let shown = arg.to_string_lossy();
            Failure::new("argument-not-utf8", format!("argument {} of the script, `{shown}`, is not UTF-8", i + 1))
                .with_hint("pass such data on standard input")
        })?);
    }
    Ok(job)
}

/// Our own standard input, for the script to read when it wants to.
fn standard_input() -> Stdin {
    // A descriptor 0 that is closed was made `/dev/null` before `main`; if it cannot be copied there is nothing to read.
    io::stdin().as_fd().try_clone_to_owned().map_or(Stdin::Closed, |fd| Stdin::Host(File::from(fd)))
}

/// The limits of the run, and how far flags could move them.
pub(crate) struct Bounds {
    policy: String,
    /// The policy with what flags changed and granted.
    pub(crate) applied: Policy,
    /// What the policy says by itself.
    own: Limits,
    /// Whether flags can only lower it.
    pub(crate) narrow: bool,
    pub(crate) limits: Limits,
    /// Limits that no flag sets, and neither does the policy.
    set: Vec<(Key, Origin)>,
}

impl Bounds {
    pub(crate) fn new(policy: &Policy, given: &Given, settings: &Settings) -> Result<Self, Failure> {
        let mut applied = policy.clone();
        let flags = LimitsChange {
            fuel: given.fuel,
            wall_time: given.timeout,
            memory: given.memory,
            output: given.max_output,
            bytes_written: given.max_disk,
        };
        applied.apply(&flags)?;
        let defaults = applied.apply_defaults(&settings.limits(&flags));
        let set = [
            (Key::Fuel, defaults.fuel.is_some()),
            (Key::Timeout, defaults.wall_time.is_some()),
            (Key::Memory, defaults.memory.is_some()),
            (Key::MaxOutput, defaults.output.is_some()),
            (Key::MaxDisk, defaults.bytes_written.is_some()),
        ]
        .into_iter()
        .filter(|(_, set)| *set)
        .filter_map(|(key, _)| Some((key, settings.origin(key)?.clone())))
        .collect();
        applied.grant_files(given.read.iter().map(Mount::of_policy).collect(), false)?;
        applied.grant_files(given.write.iter().map(Mount::of_policy).collect(), true)?;
        applied.grant_env(given.env.iter().cloned())?;
        if !given.tool.is_empty() {
            applied.check_grant(Setting::Tool.flag())?;
        }
        if given.live {
            applied.check_live()?;
            applied.limits.fuel = None;
        }
        let (name, limits) = (applied.name.clone(), applied.limits.clone());
        let narrow = policy.overridable.is_none();
        Ok(Self { policy: name, applied, own: policy.limits.clone(), narrow, limits, set })
    }

    /// Adds overlays to what is granted.
    pub(crate) fn grant_overlays(&mut self, overlays: &[Mount]) -> Result<(), Failure> {
        Ok(self.applied.grant_overlays(overlays.iter().map(Mount::of_policy).collect())?)
    }

    /// Looks whether there are overlays, and whether what is changed below them may be made. `asked` says by what.
    pub(crate) fn check_apply(&self, asked: &str) -> Result<(), Failure> {
        self.applied.check_apply()?;
        if self.applied.grants.overlay.is_empty() {
            return Err(Failure::new("usage", format!("{asked}, and nothing is an overlay"))
                .with_hint("say what the script may change, for example `--overlay src`"));
        }
        Ok(())
    }

    /// What to do about a limit that was met.
    pub(crate) fn hint(&self, kind: LimitKind, allowed: u64) -> String {
        let hint = text::limit_hint(kind, &self.policy, self.can_raise(kind, allowed));
        let key = Key::of_limit(kind.name());
        match self.set.iter().find(|(set, _)| Some(*set) == key) {
            Some((_, origin)) => format!("{hint} (it is set by {origin})"),
            None => hint,
        }
    }

    /// Whether a flag can allow more than `allowed`.
    fn can_raise(&self, kind: LimitKind, allowed: u64) -> bool {
        let most = match kind {
            LimitKind::Fuel => self.own.fuel.unwrap_or(u64::MAX),
            LimitKind::WallTime => u64::try_from(self.own.wall_time.as_millis()).unwrap_or(u64::MAX),
            LimitKind::Memory => self.own.memory,
            LimitKind::Output => self.own.output,
            LimitKind::BytesWritten => self.own.bytes_written,
            // No flag sets them.
            LimitKind::Stack | LimitKind::Files | LimitKind::Descriptors => 0,
        };
        let setting = Setting::ALL.iter().find(|setting| setting.name() == kind.name());
        setting.is_some_and(|setting| self.applied.overridable.allows(*setting)) || allowed < most
    }
}

/// A run that took place.
pub(crate) struct Ended {
    language: Language,
    pub(crate) outcome: Outcome,
    left: Left,
    signal: Option<Signal>,
    /// Whether it was canceled because a file of it changed.
    changed: bool,
}

impl Ended {
    /// A script in Python that no signal ended.
    pub(crate) fn by_itself(outcome: Outcome, left: Left) -> Self {
        Self { language: Language::Python, outcome, left, signal: None, changed: false }
    }

    /// Says on standard error how the run ended where the exit code alone does not tell, and gives back that code.
    pub(crate) fn tell(&self, console: &Console, bounds: &Bounds) -> Result<ExitCode, Failure> {
        let canceled = matches!(self.outcome.status, Status::Canceled { .. });
        if let (Some(signal), true) = (self.signal, canceled) {
            console.say(&format!("canceled by {}", signal.name()));
            return Ok(signal.exit_code());
        }
        if self.changed && canceled {
            // What comes next is told when it begins.
            return Ok(ExitCode::Interrupted);
        }
        match &self.left.broken {
            Some(Broken::Failed(stream, error)) => return Ok(lost(error, *stream)),
            Some(Broken::Events(error)) => return Ok(lost_at(error, "the events")),
            Some(Broken::Late) | None => {}
        }
        match &self.outcome.status {
            Status::Completed { exit_code } => {
                if !(0..=i32::from(LARGEST_SCRIPT_CODE)).contains(exit_code) {
                    console.say(&format!("the script's exit code {exit_code} is passed on as {LARGEST_SCRIPT_CODE}"));
                }
                if let Some(hint) = uncaught_hint(*exit_code, &self.left.last_error_line) {
                    console.hint(hint);
                }
                for divergence in &self.outcome.divergence {
                    let done = if divergence.write { "wanted to change" } else { "wanted to open" };
                    console.say(&format!("the script {done} `{}`, which the scan had not foreseen", divergence.path));
                }
                // A script that failed may have failed of it; one that succeeded knew what to do.
                for hit in self.outcome.quotas_met.iter().filter(|_| *exit_code != 0) {
                    console.say(&text::quota(hit));
                    console.hint(&bounds.hint(hit.kind, hit.allowed));
                }
                Ok(ExitCode::Script(*exit_code))
            }
            Status::Denied => Err(Failure::new("internal", "the run was denied after it had been let pass")),
            Status::Limit(hit) => {
                let cut = self.outcome.stdout.truncated || self.outcome.stderr.truncated;
                if cut && hit.kind != LimitKind::Output {
                    console.say("the output was cut at its limit");
                }
                console.say(&text::limit(hit, &self.outcome.usage));
                console.hint(&bounds.hint(hit.kind, hit.allowed));
                Ok(ExitCode::Limit)
            }
            Status::Trapped(trap) => {
                let what = if self.language == Language::Wasm { "program" } else { "interpreter" };
                console.say(&format!("the {what} broke down: {} ({})", trap.message, trap.kind));
                Ok(ExitCode::Trapped)
            }
            Status::Canceled { reason: CancelReason::SinkClosed } => Ok(ExitCode::OutputClosed),
            Status::Canceled { reason } => {
                Err(Failure::new("internal", format!("the run was canceled, and nobody asked for it ({reason:?})")))
            }
            // `Status` may grow; this program then does not know what to make of it.
            status => {
                Err(Failure::new("internal", format!("the run ended in a way this program does not know: {status:?}")))
            }
        }
    }
}

/// What to know after an uncaught error that comes of running apart from the machine. `last` is the last line the script
/// wrote to standard error: Python ends a report about an uncaught error with the error itself.
fn uncaught_hint(exit_code: i32, last: &str) -> Option<&'static str> {
    if exit_code != 1 {
        return None;
    }
    // Modules that cannot be there have a reason of their own behind the name.
    if last.starts_with("ModuleNotFoundError: No module named '") && last.ends_with('\'') {
        return Some(
            "the script sees Python's standard library and the modules of its own folder that it imports, and no packages",
        );
    }
    last.starts_with("FileNotFoundError: [Errno 44] ")
        .then_some("the script sees no files of this machine but those you grant: `capibara run --read FILE SCRIPT`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_variables() {
        assert_eq!(parse_seed("0"), Ok(0));
        assert_eq!(parse_seed("340282366920938463463374607431768211455"), Ok(u128::MAX));
        for bad in ["", "x", "+1", "-1", "0x1", "1_0", "340282366920938463463374607431768211456"] {
            assert!(parse_seed(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(parse_variable("A="), Ok(("A".into(), String::new())));
        for bad in ["", "A", "=b"] {
            assert!(parse_variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hints_follow_only_what_they_explain() {
        for (code, last, word) in [
            (1, "ModuleNotFoundError: No module named 'numpy'", Some("packages")),
            (1, "FileNotFoundError: [Errno 44] No such file or directory: 'data.csv'", Some("--read FILE")),
            (1, "ModuleNotFoundError: No module named 'pwd': there are no user accounts here", None),
            (0, "ModuleNotFoundError: No module named 'numpy'", None),
            (2, "FileNotFoundError: [Errno 44] No such file or directory: 'data.csv'", None),
            (1, "  ModuleNotFoundError: No module named 'numpy'", None),
            (1, "ValueError: no", None),
            (1, "", None),
        ] {
            let hint = uncaught_hint(code, last);
            assert_eq!(hint.is_some(), word.is_some(), "{last}");
            assert!(word.is_none_or(|word| hint.is_some_and(|hint| hint.contains(word))), "{hint:?}");
        }
    }

    #[test]
    fn the_largest_script_is_the_one_in_the_help() {
        assert_eq!(crate::output::units::size(script::LARGEST_SCRIPT), "16MiB");
    }
}
