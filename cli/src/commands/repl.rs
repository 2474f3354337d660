//! `capibara repl`: Python, turn by turn, in a session of the sandbox.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capibara::audit::AuditFolders;
use capibara::{
    Engine, EngineConfig, EngineError, Job, Language, Outcome, OutputSink as _, Script, Session, SessionConfig, Status,
    Stream, Turn, Verdict,
};
use capibara_policies::{format_count, format_duration, format_size};
use clap::Args;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, Config, Context, Editor, Helper};

use crate::commands::run::{Bounds, Given};
use crate::errors::Failure;
use crate::exit_code::ExitCode;
use crate::output;
use crate::output::live::LiveOutput;
use crate::output::progress::Building;
use crate::output::text::{self, Console};
use crate::recorder::Recorder;
use crate::settings::Settings;
use crate::signals::Interrupts;
use crate::tool_program;

/// Try Python turn by turn, in the sandbox
///
/// What you type is scanned, recorded and run as a script is, in one interpreter that goes on: variables, imports, functions
/// and files stay. Limits are those of each turn. One that is stopped by a limit or by Ctrl-C is undone: the session is what it was
/// before it. The value of a last line is shown, and `await` works. Forms of it for the eye (`_repr_svg_` and the like) are
/// left in /out.
///
/// Lines that begin with a colon are for capibara: `:help` lists them. Tab completes names. Ctrl-D ends the session.
#[derive(Debug, Args)]
#[command(override_usage = "capibara repl [OPTIONS]")]
pub(crate) struct ReplArguments {
    #[command(flatten)]
    given: Given,

    /// On a terminal, show output as it is
    ///
    /// As with `capibara run`.
    #[arg(long)]
    raw: bool,
}

const HELP: &str = "\
:help            this list
:limits          limits of a turn, and what the session has used
:files [FOLDER]  files of the session
:save FILE       write the turns that were kept to a file of yours
:load FILE       run a file of yours as a turn
:reset           begin a new session
:quit            end (also Ctrl-D)";

/// Entries of the history that are kept.
const HISTORY: usize = 1000;
/// Largest file that is loaded, in bytes.
const LARGEST_FILE: u64 = 16 << 20;

pub(crate) fn execute(mut arguments: ReplArguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let policy = &arguments.given.policy.take().map_or_else(|| settings.policy(), Ok)?;
    let bounds = Bounds::new(policy, &arguments.given, settings)?;
    super::policy::tell_expired(policy);
    let engine = Engine::new(EngineConfig::default())?;
    let building = Building::new(Language::Python.display_name());
    let prepared = engine.prepare(Language::Python, arguments.given.live, &building);
    if prepared.is_err() {
        building.abandon();
    }
    prepared?;
    building.finish();
    Repl::new(engine, arguments, bounds)?.run()
}

struct Repl {
    engine: Engine,
    arguments: ReplArguments,
    bounds: Bounds,
    session: Rc<RefCell<Session>>,
    interrupts: Interrupts,
    /// Code of the turns that were kept.
    kept: Vec<String>,
    turns: u64,
}

impl Repl {
    fn new(engine: Engine, arguments: ReplArguments, bounds: Bounds) -> Result<Self, Failure> {
        let session = open(&engine, &arguments.given, &bounds)?;
        let interrupts = Interrupts::start(&session.canceler())
            .map_err(|error| Failure::new("operating-system", "failed to watch for signals").with_cause(&error))?;
        let session = Rc::new(RefCell::new(session));
        Ok(Self { engine, arguments, bounds, session, interrupts, kept: Vec::new(), turns: 0 })
    }

    fn run(mut self) -> Result<ExitCode, Failure> {
        let unusable =
            |error: ReadlineError| Failure::new("operating-system", "failed to read lines").with_cause(&error);
        let config = Config::builder().auto_add_history(true).behavior(Behavior::Stdio).max_history_size(HISTORY);
        let config = config.and_then(|config| config.history_ignore_dups(true)).map_err(unusable)?.build();
        let mut editor: Editor<Assistant, FileHistory> = Editor::with_config(config).map_err(unusable)?;
        editor.set_helper(Some(Assistant(self.session.clone())));
        let terminal = rustix::termios::isatty(rustix::stdio::stdin());
        let history = terminal.then(history_file).flatten();
        if let Some(history) = &history {
            // The first time there is none.
            let _ = editor.load_history(history);
        }
        if terminal {
            let policy = &self.bounds.applied.name;
            Console::new().say(&format!("Python in the sandbox, policy {policy}; :help lists commands"));
        }
        loop {
            let line = match editor.readline(if terminal { ">>> " } else { "" }) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(unusable(error)),
            };
            if let Some(history) = &history {
                save_history(&mut editor, history);
            }
            match line.trim() {
                "" => continue,
                ":quit" | ":exit" | "exit" | "quit" | "exit()" | "quit()" => break,
                command if command.starts_with(':') => {
                    if let Err(failure) = self.command(command) {
                        Console::new().failure(&failure);
                    }
                }
                _ => self.turn(line, None)?,
            }
        }
        Ok(ExitCode::Yes)
    }

    /// Runs a turn, and says what there is to say of it.
    fn turn(&mut self, code: String, origin: Option<String>) -> Result<(), Failure> {
        let console = Console::new();
        self.turns += 1;
        let mut job = Job::under(Arc::new(self.bounds.applied.clone()), Script::Code(code.clone()));
        (job.limits, job.live) = (self.bounds.limits.clone(), self.arguments.given.live);
        job.origin = origin.clone();
        let scan = self.engine.scan(&job);
        let recorder = Recorder::open(&job, &scan)?.named(&format!("turn {}", self.turns));
        if scan.verdict != Verdict::Deny {
            output::scan::warn(&console, &scan);
        }
        let shown = LiveOutput::new(self.interrupts.begin(), self.arguments.raw);
        let mut turn = Turn::new(code.clone()).with_capture(false).with_sink(shown.clone());
        turn.origin = origin;
        let outcome = match self.session.borrow_mut().run_blocking(turn) {
            Ok(outcome) => outcome,
            Err(error) => {
                let ended = matches!(error, EngineError::SessionEnded { .. });
                let failure = Failure::from(error);
                recorder.failed(&failure);
                if ended {
                    return Err(failure);
                }
                console.failure(&failure);
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
        let left = shown.finish();
        let console = Console::after(&left);
        self.tell(&console, &outcome);
        if matches!(outcome.status, Status::Completed { .. }) {
            self.kept.push(code);
        }
        Ok(())
    }

    fn tell(&self, console: &Console, outcome: &Outcome) {
        const UNDONE: &str = "the turn is undone; the session is what it was before it";
        match &outcome.status {
            Status::Completed { exit_code } => {
                for hit in outcome.quotas_met.iter().filter(|_| *exit_code != 0) {
                    console.say(&text::quota(hit));
                }
            }
            Status::Denied => {
                output::scan::deny(console, &outcome.scan);
                console.say(&output::scan::denial(&outcome.scan));
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
            _ => console.say(&format!("canceled; {UNDONE}")),
        }
        console.tools(&outcome.tools);
        for file in outcome.value.iter().flat_map(|value| &value.files) {
            console.say(&format!("left {file}"));
        }
    }

    fn command(&mut self, line: &str) -> Result<(), Failure> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match name {
            ":help" => say(HELP),
            ":limits" => self.limits(),
            ":files" => self.files(rest),
            ":save" => self.save(rest),
            ":load" => self.load(rest),
            ":reset" => {
                let session = open(&self.engine, &self.arguments.given, &self.bounds)?;
                self.interrupts = Interrupts::start(&session.canceler()).map_err(|error| {
                    Failure::new("operating-system", "failed to watch for signals").with_cause(&error)
                })?;
                *self.session.borrow_mut() = session;
                self.kept.clear();
                say("a new session")
            }
            _ => {
                Err(Failure::new("usage", format!("there is no command `{name}`")).with_hint(":help lists all of them"))
            }
        }
    }

    fn limits(&self) -> Result<(), Failure> {
        let session = self.session.borrow();
        let (limits, used) = (&self.bounds.limits, session.used());
        let fuel = limits.fuel.map_or_else(|| "none".into(), format_count);
        let of = |used: Option<u64>| used.unwrap_or(0);
        say(&format!(
            "each turn   wall_time {}, fuel {fuel}, output {}\n\
             session     memory {}, bytes_written {}, files {}, descriptors {}\n\
             used        {} turns, {}, fuel {}, output {}\n\
             memory now  {}",
            format_duration(limits.wall_time),
            format_size(limits.output),
            format_size(limits.memory),
            format_size(limits.bytes_written),
            limits.files,
            limits.descriptors,
            of(used.turns),
            format_duration(Duration::from_millis(
                u64::try_from(used.wall_time.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
            )),
            format_count(of(used.fuel)),
            format_size(of(used.output)),
            format_size(session.memory_bytes()),
        ))
    }

    fn files(&self, folder: &str) -> Result<(), Failure> {
        let mut session = self.session.borrow_mut();
        let all = ["/home/script", "/tmp", "/out"];
        let folders = if folder.is_empty() { &all[..] } else { &[folder][..] };
        let mut lines = Vec::new();
        for folder in folders {
            for (path, bytes) in session.files(folder) {
                lines.push(format!("{:>10}  {}/{path}", format_size(bytes.len() as u64), folder.trim_end_matches('/')));
            }
        }
        if lines.is_empty() { say("no files") } else { say(&lines.join("\n")) }
    }

    /// Writes the code of all turns that were kept to a new file.
    fn save(&self, path: &str) -> Result<(), Failure> {
        if path.is_empty() {
            return Err(Failure::new("usage", "no file was named").with_hint(":save session.py"));
        }
        let mut text = String::new();
        for turn in &self.kept {
            text += turn.trim_end();
            text += "\n\n";
        }
        let written = OpenOptions::new().write(true).create_new(true).open(path);
        written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
            let failure = Failure::new("file", format!("failed to write `{path}`")).with_cause(&error);
            if error.kind() == io::ErrorKind::AlreadyExists {
                failure.with_hint("a file that is there is not written over: name another one")
            } else {
                failure
            }
        })?;
        say(&format!("{} turns are in {path}", self.kept.len()))
    }

    /// Runs a file as a turn.
    fn load(&mut self, path: &str) -> Result<(), Failure> {
        if path.is_empty() {
            return Err(Failure::new("usage", "no file was named").with_hint(":load session.py"));
        }
        let failed = |error: io::Error| Failure::new("file", format!("failed to read `{path}`")).with_cause(&error);
        let meta = fs::metadata(path).map_err(failed)?;
        if !meta.is_file() || meta.len() > LARGEST_FILE {
            return Err(Failure::new("file", format!("`{path}` is no regular file of at most 16MiB")));
        }
        let code = fs::read_to_string(path).map_err(failed)?;
        self.turn(code, Some(path.into()))
    }
}

fn open(engine: &Engine, given: &Given, bounds: &Bounds) -> Result<Session, Failure> {
    let mut config = SessionConfig::new(bounds.applied.clone());
    config.limits = bounds.limits.clone();
    (config.epoch, config.seed, config.live) = (given.epoch, given.seed, given.live);
    config.tools = tool_program::tools(&given.tool)?;
    Ok(engine.session(config)?)
}

/// An answer to a command, on standard output; escaped, as names of files are the script's.
fn say(text: &str) -> Result<(), Failure> {
    let lines: Vec<Cow<'_, str>> = text.lines().map(crate::escape::line).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{}", lines.join("\n"))
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new("output", "failed to write to standard output").with_cause(&error))
}

/// Beside the audit log, in the folder for state.
fn history_file() -> Option<PathBuf> {
    let folders = AuditFolders::from_env().ok()?;
    let folder = folders.log.parent()?;
    fs::create_dir_all(folder).ok()?;
    Some(folder.join("repl_history"))
}

/// What was typed is for the user alone.
fn save_history(editor: &mut Editor<Assistant, FileHistory>, path: &Path) {
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    // Without a history the session goes on.
    if made.is_ok() {
        let _ = editor.append_history(path);
    }
}

/// Helps with editing: what can be completed, and whether more lines are to come.
struct Assistant(Rc<RefCell<Session>>);

impl Helper for Assistant {}
impl Highlighter for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..at).unwrap_or_default();
        let begins = |c: char| !(c.is_alphanumeric() || c == '_' || c == '.');
        let start = before.rfind(begins).map_or(0, |found| {
            found + before.get(found..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
        });
        let word = before.get(start..).unwrap_or_default();
        if word.is_empty() {
            // Tab at the beginning of a line is indentation.
            return Ok((at, vec!["    ".into()]));
        }
        let found = self.0.borrow_mut().complete_blocking(word).unwrap_or_default();
        // Names are the script's: what a terminal would obey is none.
        Ok((start, found.into_iter().filter(|name| !name.chars().any(crate::escape::is_unsafe)).collect()))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        if text.trim_start().starts_with(':') || text.trim().is_empty() {
            return Ok(ValidationResult::Valid(None));
        }
        let incomplete = self.0.borrow_mut().is_incomplete_blocking(text).unwrap_or(false);
        Ok(if incomplete { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}
