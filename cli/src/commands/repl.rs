//! `capibara repl`: Python, turn by turn, in a session of the sandbox.

mod left;
mod lines;

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capibara::{
    CancelReason, Engine, EngineConfig, EngineError, Job, Language, Outcome, OutputSink as _, Script, Session,
    SessionConfig, Status, Stream, Turn, Verdict,
};
use capibara_policies::{format_count, format_duration, format_size};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};

use self::left::Left;
use self::lines::{Input, Lines};
use crate::commands::run::{Bounds, Given, folder};
use crate::errors::Failure;
use crate::exit_code::ExitCode;
use crate::grants::{self, Mount};
use crate::output::live::{Broken, LiveOutput};
use crate::output::progress::prepare;
use crate::output::text::{self, Console};
use crate::output::{self, lost, units};
use crate::overlay;
use crate::recorder::Recorder;
use crate::settings::Settings;
use crate::signals::{Interrupts, Signal};
use crate::tool_program;

/// Try Python turn by turn, in the sandbox
///
/// What you type is scanned, recorded and run as a script is, in one interpreter that goes on: variables, imports, functions
/// and files stay. Limits are those of each turn. One that is stopped by a limit or by Ctrl-C is undone: the session is what it was
/// before it. The value of a last line is shown, and `await` works. Forms of it for the eye (`_repr_svg_` and the like) are
/// left in /out. `input()` finds the end of the file: your lines are turns.
///
/// Lines that begin with a colon are for capibara: `:help` lists them. Tab completes names, the arrow keys bring back what was
/// typed. Ctrl-D ends the session.
///
/// From a pipe or a file, blocks are read as they would be typed: an empty line ends one. What fails does not end the
/// session; the exit code is 1 then, and 0 if nothing did.
#[derive(Debug, Args)]
#[command(override_usage = "capibara repl [OPTIONS]")]
pub(crate) struct ReplArguments {
    #[command(flatten)]
    given: Given,

    /// Let it change one in memory only (repeatable)
    ///
    /// A file or folder. The session works on it as with --write, but this machine stays as it is until you type
    /// `:apply`; `:changes` lists the differences. Default: none; strict refuses it. Example: `--overlay src`
    #[arg(long, value_name = "HOST[:GUEST]", value_parser = OsStringValueParser::new().try_map(grants::parse), allow_hyphen_values = true)]
    overlay: Vec<Mount>,

    /// Keep what it leaves in /out in this folder
    ///
    /// After every turn that is kept, what is new in /out is written there: charts and other forms of values, and files of
    /// yours. The folder is made if the one above it is there; files of the same name are replaced, links are never
    /// followed and anything else is left alone and told. `:keep DIR` does so once. Example: `--out results`
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new().try_map(|text: OsString| folder(text)), allow_hyphen_values = true)]
    out: Option<PathBuf>,

    /// On a terminal, show output as it is
    ///
    /// As with `capibara run`.
    #[arg(long)]
    raw: bool,
}

/// The commands, each with what `:help` says of it.
const COMMANDS: [(&str, &str); 10] = [
    (":help", ":help            this list"),
    (":limits", ":limits          limits of a turn, and what the session has used"),
    (":files", ":files [FOLDER]  files of the session, in memory"),
    (":keep", ":keep DIR        write what lies in /out to a folder of yours"),
    (":changes", ":changes         what was changed below overlays"),
    (":apply", ":apply           make these changes on this machine"),
    (":save", ":save FILE       write the turns that were kept to a new file of yours"),
    (":load", ":load FILE       run a file of yours as a turn"),
    (":reset", ":reset           begin a new session"),
    (":quit", ":quit            end (also Ctrl-D)"),
];

/// Largest file that is loaded, and longest turn that is read, in bytes.
const LARGEST_FILE: u64 = 16 << 20;

pub(crate) fn execute(mut arguments: ReplArguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let policy = &arguments.given.policy.take().map_or_else(|| settings.policy(), Ok)?;
    let mut bounds = Bounds::new(policy, &arguments.given, settings)?;
    bounds.grant_overlays(&arguments.overlay)?;
    super::policy::tell_expired(policy);
    let engine = Engine::new(EngineConfig::default())?;
    let left = Left::new(&engine, arguments.out.as_deref())?;
    prepare(&engine, Language::Python, arguments.given.live)?;
    Repl::new(engine, arguments, bounds, left)?.run()
}

struct Repl {
    engine: Engine,
    arguments: ReplArguments,
    bounds: Bounds,
    session: Rc<RefCell<Session>>,
    interrupts: Interrupts,
    editing: bool,
    /// The turns that were kept.
    kept: Vec<Kept>,
    left: Left,
    /// Whether a turn or a command failed.
    failed: bool,
}

struct Kept {
    code: String,
    /// Whether it came to its end, and not to an exception.
    whole: bool,
}

/// Why a command or a turn ends the session.
enum Ending {
    Failure(Failure),
    /// A stream cannot be written.
    Lost(io::Error, Stream),
    Signal(Signal),
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Answers go to standard output.
impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        Self::Lost(error, Stream::Stdout)
    }
}

impl Repl {
    fn new(engine: Engine, arguments: ReplArguments, bounds: Bounds, left: Left) -> Result<Self, Failure> {
        let session = open(&engine, &arguments.given, &bounds)?;
        let editing = Lines::can_be_edited();
        let mut interrupts = Interrupts::start(editing).map_err(|error| unwatched(&error))?;
        interrupts.cancel(&session.canceler()).map_err(|error| unwatched(&error))?;
        let session = Rc::new(RefCell::new(session));
        Ok(Self { engine, arguments, bounds, session, interrupts, editing, kept: Vec::new(), left, failed: false })
    }

    fn run(mut self) -> Result<ExitCode, Failure> {
        let mut lines = Lines::new(self.editing, &self.session)?;
        let console = Console::new();
        if self.editing {
            let policy = &self.bounds.applied.name;
            console.say(&format!("Python in the sandbox, policy {policy}; :help lists commands"));
        }
        match self.converse(&mut lines) {
            Ok(()) => {}
            Err(Ending::Failure(failure)) => return Err(failure),
            Err(Ending::Lost(error, stream)) => return Ok(lost(&error, stream)),
            Err(Ending::Signal(signal)) => return Ok(signal.exit_code()),
        }
        self.tell_left(&console);
        Ok(if self.failed && !self.editing { ExitCode::No } else { ExitCode::Yes })
    }

    fn converse(&mut self, lines: &mut Lines) -> Result<(), Ending> {
        loop {
            let line = match lines.next(&self.session)? {
                Input::Code(line) => line,
                Input::Unusable(why) => {
                    self.fail(&Failure::new("input", format!("a line of standard input is not run: {why}")));
                    continue;
                }
                Input::End => return Ok(()),
            };
            match line.trim() {
                "" => {}
                ":quit" | ":exit" | "exit" | "quit" | "exit()" | "quit()" => return Ok(()),
                command if command.starts_with(':') => match self.command(command) {
                    Err(Ending::Failure(failure)) => self.fail(&failure),
                    done => done?,
                },
                _ => self.turn(line, None)?,
            }
        }
    }

    /// Says what went wrong, and goes on.
    fn fail(&mut self, failure: &Failure) {
        self.failed = true;
        Console::new().failure(failure);
    }

    /// Runs a turn, and says what there is to say of it.
    fn turn(&mut self, code: String, origin: Option<String>) -> Result<(), Ending> {
        // As tracebacks count: a turn that is undone was none.
        let before = self.session.borrow().kept();
        let number = before.saturating_add(1);
        let origin = origin.unwrap_or_else(|| format!("<turn {number}>"));
        let mut job = Job::under(Arc::new(self.bounds.applied.clone()), Script::Code(code.clone()));
        (job.limits, job.live) = (self.bounds.limits.clone(), self.arguments.given.live);
        job.origin = Some(origin.clone());
        let scan = self.engine.scan(&job);
        let recorder = match Recorder::open(&job, &scan) {
            Ok(recorder) => recorder.named(&format!("turn {number}")),
            Err(failure) => {
                self.fail(&failure);
                return Ok(());
            }
        };
        if scan.verdict != Verdict::Deny {
            output::scan::warn(&Console::new(), &scan);
        }
        let shown = LiveOutput::new(self.interrupts.begin(), self.arguments.raw);
        let turn = Turn::new(code.clone()).with_capture(false).with_sink(shown.clone()).with_origin(origin);
        let result = self.session.borrow_mut().run_blocking(turn);
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                self.interrupts.end();
                let ended = matches!(error, EngineError::SessionEnded { .. });
                let failure = Failure::from(error);
                recorder.failed(&failure);
                if ended {
                    return Err(failure.into());
                }
                self.fail(&failure);
                return Ok(());
            }
        };
        recorder.ended(&outcome);
        if let (Some(value), Status::Completed { .. }) = (&outcome.value, &outcome.status) {
            let more = if value.truncated { "…\n" } else { "\n" };
            let patience = Instant::now() + Duration::from_secs(5);
            // Who does not read the value does not read on.
            let _ = shown.clone().write(Stream::Stdout, format!("{}{more}", value.text).as_bytes(), patience);
        }
        let signal = self.interrupts.end();
        let streams = shown.finish();
        let console = Console::after(&streams);
        match streams.broken {
            // Nobody reads any more.
            Some(Broken::Failed(stream, error)) if signal.is_none() => {
                return Err(Ending::Lost(error, stream));
            }
            _ => {}
        }
        self.failed |= !outcome.success();
        let kept = self.session.borrow().kept() > before;
        self.tell(&console, &outcome, kept);
        if kept {
            self.kept.push(Kept { code, whole: outcome.success() });
            self.failed |= !self.left.after_turn(&mut self.session.borrow_mut(), &console);
        }
        match signal {
            // A key that was pressed for this turn.
            Some(Signal::Interrupt) if self.editing => Ok(()),
            Some(signal) => Err(Ending::Signal(signal)),
            None => Ok(()),
        }
    }

    fn tell(&self, console: &Console, outcome: &Outcome, kept: bool) {
        const UNDONE: &str = "the turn is undone; the session is what it was before it";
        match &outcome.status {
            Status::Completed { exit_code } => {
                for hit in outcome.quotas_met.iter().filter(|_| *exit_code != 0) {
                    console.say(&text::quota(hit));
                }
                // Left by `os._exit`, in the middle of itself.
                if !kept {
                    console.say(&format!("the turn left with exit code {exit_code}; {UNDONE}"));
                } else if !(0..=1).contains(exit_code) {
                    // 1 is an exception, which has told of itself.
                    console.say(&format!("the turn ended with exit code {exit_code}; the session goes on"));
                }
            }
            Status::Denied => {
                output::scan::deny(console, &outcome.scan);
                console.say(&output::scan::denial(&outcome.scan));
                console.hint(&output::scan::denial_hint(&outcome.scan, !self.bounds.narrow));
            }
            Status::Limit(hit) => {
                console.say(&text::limit(hit, &outcome.usage));
                console.say(UNDONE);
                console.hint(&self.bounds.hint(hit.kind, hit.allowed));
            }
            Status::Trapped(trap) => {
                console.say(&format!("the interpreter broke down: {} ({})", trap.message, trap.kind));
                console.say(UNDONE);
            }
            Status::Canceled { reason: CancelReason::Asked } => console.say(&format!("canceled; {UNDONE}")),
            // Nobody reads what it prints; `Status` may grow.
            _ => console.say(UNDONE),
        }
        console.tools(&outcome.tools);
    }

    /// Tells what goes with the session.
    fn tell_left(&self, console: &Console) {
        let mut session = self.session.borrow_mut();
        self.left.end(&mut session, console);
        let changes = session.changes().len() as u64;
        if changes > 0 {
            let are = if changes == 1 { "is" } else { "are" };
            let hint = if self.bounds.applied.check_apply().is_ok() { ": `:apply` makes them" } else { "" };
            console.say(&format!("{} below overlays {are} gone with the session{hint}", overlay::count(changes)));
        }
    }

    fn command(&mut self, line: &str) -> Result<(), Ending> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let takes_nothing = matches!(name, ":help" | ":limits" | ":changes" | ":apply" | ":reset" | ":quit");
        if takes_nothing && !rest.is_empty() {
            return Err(Failure::new("usage", format!("{name} takes nothing after it")).into());
        }
        match name {
            ":help" => say(&COMMANDS.map(|(_, help)| help).join("\n")),
            ":limits" => self.limits(),
            ":files" => self.files(rest),
            ":keep" => {
                let path = named(name, rest, "results")?;
                let whole = self.left.keep(&self.engine, &mut self.session.borrow_mut(), path, &Console::new())?;
                self.failed |= !whole;
                Ok(())
            }
            ":changes" => self.changes(),
            ":apply" => self.apply(),
            ":save" => self.save(named(name, rest, "session.py")?),
            ":load" => self.load(named(name, rest, "session.py")?),
            ":reset" => self.reset(),
            _ => Err(Failure::new("usage", format!("there is no command `{name}`"))
                .with_hint(":help lists all of them")
                .into()),
        }
    }

    fn reset(&mut self) -> Result<(), Ending> {
        let session = open(&self.engine, &self.arguments.given, &self.bounds)?;
        self.interrupts.cancel(&session.canceler()).map_err(|error| unwatched(&error))?;
        self.tell_left(&Console::new());
        *self.session.borrow_mut() = session;
        self.kept.clear();
        self.left.reset();
        say("a new session")
    }

    fn limits(&self) -> Result<(), Ending> {
        let session = self.session.borrow();
        let (limits, used) = (&self.bounds.limits, session.used());
        let fuel = limits.fuel.map_or_else(|| "none".into(), format_count);
        let turns = used.turns.unwrap_or(0);
        say(&format!(
            "each turn   wall_time {}, fuel {fuel}, output {}\n\
             session     memory {}, bytes_written {}, files {}, descriptors {}\n\
             used        {}, {}, fuel {}, output {}\n\
             memory now  {}",
            format_duration(limits.wall_time),
            format_size(limits.output),
            format_size(limits.memory),
            format_size(limits.bytes_written),
            limits.files,
            limits.descriptors,
            if turns == 1 { "1 turn".into() } else { format!("{} turns", units::count(turns)) },
            units::duration(used.wall_time.unwrap_or_default()),
            units::count(used.fuel.unwrap_or(0)),
            units::size(used.output.unwrap_or(0)),
            units::size(session.memory_bytes()),
        ))
    }

    /// Lists files in memory; of those in `/out` the media types, too.
    fn files(&self, folder: &str) -> Result<(), Ending> {
        if !(folder.is_empty() || folder.starts_with('/')) {
            return Err(Failure::new("usage", format!("`{folder}` is not the path of a folder of the session"))
                .with_hint("it begins with a slash, for example `:files /tmp`")
                .into());
        }
        let mut session = self.session.borrow_mut();
        let artifacts = session.artifacts();
        let all = ["/home/script", "/tmp", "/out"];
        let folders = if folder.is_empty() { &all[..] } else { &[folder][..] };
        let mut lines = Vec::new();
        for folder in folders {
            for (path, bytes) in session.files(folder) {
                let path = format!("{}/{path}", folder.trim_end_matches('/'));
                let mime = path.strip_prefix("/out/").and_then(|path| {
                    let at = artifacts.binary_search_by(|artifact| artifact.path.as_str().cmp(path)).ok()?;
                    artifacts.get(at).map(|artifact| format!("  {}", artifact.mime))
                });
                let size = units::size(bytes.len() as u64);
                // A name is one line, whatever is in it.
                let path = crate::escape::line(&path).into_owned();
                lines.push(format!("{size:>10}  {path}{}", mime.unwrap_or_default()));
            }
        }
        if lines.is_empty() { say("no files") } else { say(&lines.join("\n")) }
    }

    fn changes(&self) -> Result<(), Ending> {
        let changes = self.session.borrow_mut().changes();
        if changes.is_empty() {
            return say("no changes below overlays");
        }
        let lines: Vec<String> =
            changes.iter().map(|change| crate::escape::line(&overlay::line(change)).into_owned()).collect();
        say(&lines.join("\n"))
    }

    /// Makes what was changed below overlays.
    fn apply(&mut self) -> Result<(), Ending> {
        self.bounds.check_apply(":apply was typed")?;
        let applied = self.session.borrow_mut().apply();
        overlay::tell_not_applied(&Console::new(), &applied);
        self.failed |= !applied.refused.is_empty();
        let nothing = applied.applied == 0 && applied.refused.is_empty();
        say(&if nothing { "no changes below overlays".into() } else { overlay::applied_line(&applied) })
    }

    /// Writes the code of all turns that were kept to a new file. Those that came to an exception become comments, so that the file
    /// can be loaded.
    fn save(&self, path: &Path) -> Result<(), Ending> {
        let shown = path.display();
        let mut text = String::new();
        for Kept { code, whole } in &self.kept {
            if *whole {
                text += code.trim_end();
                text += "\n\n";
            } else {
                text += "# It ended with an exception:\n";
                text.extend(code.trim_end().lines().map(|line| format!("# {line}\n")));
                text += "\n";
            }
        }
        let written = OpenOptions::new().write(true).create_new(true).open(path);
        written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
            let failure = Failure::new("file", format!("failed to write `{shown}`")).with_cause(&error);
            if error.kind() == io::ErrorKind::AlreadyExists {
                failure.with_hint("a file that is there is not written over: name another one")
            } else {
                failure
            }
        })?;
        let count = self.kept.len();
        say(&if count == 1 { format!("1 turn is in {shown}") } else { format!("{count} turns are in {shown}") })
    }

    /// Runs a file as a turn.
    fn load(&mut self, path: &Path) -> Result<(), Ending> {
        let shown = path.display();
        let failed = |error: io::Error| Failure::new("file", format!("failed to read `{shown}`")).with_cause(&error);
        let meta = fs::metadata(path).map_err(failed)?;
        if !meta.is_file() || meta.len() > LARGEST_FILE {
            return Err(Failure::new("file", format!("`{shown}` is no regular file of at most 16MiB")).into());
        }
        let code = fs::read_to_string(path).map_err(failed)?;
        self.turn(code, Some(shown.to_string()))
    }
}

/// The rest of a command's line: a path, spaces included.
fn named<'a>(command: &str, rest: &'a str, example: &str) -> Result<&'a Path, Failure> {
    if rest.is_empty() {
        return Err(Failure::new("usage", format!("{command} needs a path"))
            .with_hint(format!("for example `{command} {example}`")));
    }
    if rest == "~" || rest.starts_with("~/") {
        return Err(Failure::new("usage", format!("`~` is no folder here: `{rest}`"))
            .with_hint("write the path from the root, or from the folder you started in"));
    }
    Ok(Path::new(rest))
}

fn unwatched(error: &io::Error) -> Failure {
    Failure::new("operating-system", "failed to watch for signals").with_cause(error)
}

fn open(engine: &Engine, given: &Given, bounds: &Bounds) -> Result<Session, Failure> {
    let mut config = SessionConfig::new(bounds.applied.clone());
    config.limits = bounds.limits.clone();
    (config.epoch, config.seed, config.live) = (given.epoch, given.seed, given.live);
    config.tools = tool_program::tools(&given.tool)?;
    Ok(engine.session(config)?)
}

/// An answer to a command, on standard output; escaped, as names of files are the script's.
fn say(text: &str) -> Result<(), Ending> {
    let lines: Vec<Cow<'_, str>> = text.lines().map(crate::escape::line).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{}", lines.join("\n"))?;
    Ok(out.flush()?)
}
