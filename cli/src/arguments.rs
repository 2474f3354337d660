//! The command line.
//!
//! Everything after SCRIPT (or after `-c CODE`, `-m MODULE`) belongs to the script, also words that look like options
//! of ours. So those words are set aside *before* clap sees the rest: clap's own ways to take trailing words either
//! swallow misspelled options or read the script's.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::ask::{AskArguments, GenerateArguments};
use crate::commands::audit::AuditCommand;
use crate::commands::completions::CompletionsArguments;
use crate::commands::config::ConfigCommand;
use crate::commands::doctor::DoctorArguments;
use crate::commands::init::InitArguments;
use crate::commands::man::ManArguments;
use crate::commands::model::ModelCommand;
use crate::commands::policy::PolicyCommand;
use crate::commands::repl::ReplArguments;
use crate::commands::run::RunArguments;
use crate::commands::runtime::RuntimeCommand;
use crate::commands::scan::ScanArguments;
use crate::errors::Failure;
use crate::exit_code::ExitCode;
use crate::output::text::Console;
use crate::output::{Format, json};
use crate::settings::Settings;

/// Runs scripts you did not write: real CPython inside WebAssembly, with nothing granted.
#[derive(Debug, Parser)]
#[command(
    name = "capibara",
    bin_name = "capibara",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Start with:\n  capibara run -c 'print(6 * 7)'\n  capibara run script.py"
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    // Its help is that of the arguments.
    Run(Box<RunArguments>),
    // As above.
    Repl(Box<ReplArguments>),
    // As above.
    Ask(Box<AskArguments>),
    // As above.
    Generate(Box<GenerateArguments>),
    /// List, check and add language models
    #[command(subcommand)]
    Model(ModelCommand),
    // As above.
    Scan(Box<ScanArguments>),
    /// List, show and check policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Install, list and verify language runtimes
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Verify and list the log of what was run
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show what is set for all commands, and where
    #[command(subcommand)]
    Config(ConfigCommand),
    // Its help is that of the arguments.
    Init(InitArguments),
    // As above.
    Doctor(DoctorArguments),
    // As above.
    Completions(CompletionsArguments),
    // As above; for packages.
    #[command(hide = true)]
    Man(ManArguments),
}

impl Command {
    /// Whether it depends on what is set for all commands. Those that help to set it work with a broken file, too.
    pub(crate) fn reads_settings(&self) -> bool {
        match self {
            Self::Run(_)
            | Self::Repl(_)
            | Self::Ask(_)
            | Self::Generate(_)
            | Self::Scan(_)
            | Self::Policy(_)
            | Self::Runtime(_)
            | Self::Audit(_) => true,
            Self::Config(command) => command.reads_settings(),
            Self::Init(_) | Self::Model(_) | Self::Doctor(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

/// The whole definition.
pub(crate) fn definition() -> clap::Command {
    CommandLine::command()
}

/// What came of reading the command line.
pub(crate) enum Parsed {
    /// Something to do.
    Command(Command),
    /// Nothing left to do: help and version are printed, a wrong line is explained.
    Answered(ExitCode),
}

/// Reads the command line and answers what needs no command: help, version, usage errors.
pub(crate) fn parse(args: &[OsString], settings: &Settings) -> Parsed {
    match read(args, settings) {
        Ok(command) => Parsed::Command(command),
        Err(error) => {
            let format = settings.format.as_ref().map(|set| set.value).unwrap_or_default();
            Parsed::Answered(answer(&error, wanted_format(args, format), is_run(args)))
        }
    }
}

/// The definition, with what is set elsewhere in place of what is built in.
fn with_defaults(mut command: clap::Command, settings: &Settings) -> clap::Command {
    let switch = |on: bool| if on { "true" } else { "false" };
    let value = |id: &str| match id {
        "format" => settings.format.as_ref().map(|set| set.value.name()),
        "raw" => settings.raw.as_ref().map(|set| switch(set.value)),
        "stats" => settings.stats.as_ref().map(|set| switch(set.value)),
        "progress" => settings.progress.as_ref().map(|set| switch(set.value)),
        _ => None,
    };
    let changed: Vec<(String, &'static str)> = command
        .get_arguments()
        .filter_map(|arg| Some((arg.get_id().to_string(), value(arg.get_id().as_str())?)))
        .collect();
    for (id, value) in changed {
        command = command.mut_arg(id, |arg| arg.default_value(value));
    }
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, |inner| with_defaults(inner, settings)))
}

fn read(args: &[OsString], settings: &Settings) -> Result<Command, clap::Error> {
    let (ours, scripts) = split(args);
    // `run` by itself, without making the definitions of all other commands. Whatever it does not take is looked at again.
    if let [_, _, words @ ..] = &ours[..]
        && is_run(args)
        && let Ok(matches) =
            with_defaults(RunArguments::definition(), settings).no_binary_name(true).try_get_matches_from(words)
        && let Ok(run) = RunArguments::from_arg_matches(&matches)
    {
        return Ok(Command::Run(Box::new(RunArguments { args: scripts.to_vec(), ..run })));
    }
    let definition = with_defaults(CommandLine::command(), settings);
    let matches = definition.try_get_matches_from(&ours).map_err(|error| advise(error, &ours))?;
    let mut command = CommandLine::from_arg_matches(&matches)?.command;
    if let Command::Run(run) = &mut command {
        run.args = scripts.to_vec();
    }
    Ok(command)
}

/// Whether the command is `run`.
pub(crate) fn is_run(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|word| word == "run")
}

/// The words for clap, and those of the script. `-cCODE` comes out as two words.
fn split(args: &[OsString]) -> (Vec<OsString>, &[OsString]) {
    let mut ours: Vec<OsString> = args.iter().take(2).cloned().collect();
    let mut rest = args.get(2..).unwrap_or_default();
    if !is_run(args) {
        ours.extend(rest.iter().cloned());
        return (ours, &[]);
    }
    let command = RunArguments::definition();
    let mut only_script = false;
    while let [word, after @ ..] = rest {
        rest = after;
        let bytes = word.as_encoded_bytes();
        if only_script || bytes == b"-" || !bytes.starts_with(b"-") {
            ours.push(word.clone());
            break;
        }
        if bytes == b"--" {
            only_script = true;
            ours.push(word.clone());
            continue;
        }
        if let Some(short) = [b"-c", b"-m"].into_iter().find(|short| bytes.starts_with(*short)) {
            ours.push(OsStr::new(if short == b"-c" { "-c" } else { "-m" }).to_owned());
            if let Some(attached) = tail_after_two(word) {
                ours.push(attached);
            } else if let [value, after @ ..] = rest {
                ours.push(value.clone());
                rest = after;
            }
            break;
        }
        ours.push(word.clone());
        if takes_next_word(&command, word)
            && let [value, after @ ..] = rest
        {
            ours.push(value.clone());
            rest = after;
        }
    }
    (ours, rest)
}

/// Says what clap cannot know: which words were meant for `run`, for python3, or as the name of a script.
fn advise(mut error: clap::Error, ours: &[OsString]) -> clap::Error {
    let word = match error.kind() {
        // Clap names the first letter of it only.
        ErrorKind::UnknownArgument if is_run(ours) => {
            let Some(ContextValue::String(invalid)) = error.get(ContextKind::InvalidArg) else { return error };
            let words = ours.get(2..).unwrap_or_default().iter().filter_map(|word| word.to_str());
            match words.filter(|word| !word.starts_with("--")).find(|word| word.starts_with(invalid.as_str())) {
                Some(word) => word.to_owned(),
                None => return error,
            }
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => match ours.get(1).and_then(|word| word.to_str()) {
            Some(word) => word.to_owned(),
            None => return error,
        },
        _ => return error,
    };
    let is_script = Path::new(&word).extension().is_some_and(|e| e == "py" || e == "pyw") || Path::new(&word).is_file();
    let tip = if is_run(ours) {
        match word.as_bytes() {
            _ if is_script => format!("to run the script of that name, write './{word}'"),
            [
                b'-',
                b'B' | b'E' | b'I' | b'O' | b'P' | b'S' | b'W' | b'X' | b'b' | b'd' | b'i' | b'q' | b's' | b'u' | b'v',
                ..,
            ] => {
                format!("leave '{word}' out: options of python3 are not known here, except -c and -m")
            }
            _ => format!("a script whose name begins with '-' is written './{word}'"),
        }
    } else if is_script {
        format!("to run a script, write 'capibara run {word}'")
    } else if word == "-" || word.starts_with("-c") || word.starts_with("-m") {
        format!("'run' is missing: write 'capibara run {word}', and so on")
    } else {
        return error;
    };
    if is_run(ours) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(word));
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    error
}

/// What stands after the two ASCII bytes a word begins with.
fn tail_after_two(word: &OsStr) -> Option<OsString> {
    use std::os::unix::ffi::OsStrExt as _;
    word.as_bytes().get(2..).filter(|tail| !tail.is_empty()).map(|tail| OsStr::from_bytes(tail).to_owned())
}

fn takes_next_word(command: &clap::Command, word: &OsStr) -> bool {
    let Some(name) = word.to_str().and_then(|word| word.strip_prefix("--")) else { return false };
    let takes = |arg: &clap::Arg| {
        matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
    };
    command.get_arguments().any(|arg| arg.get_long() == Some(name) && takes(arg))
}

/// The format a command line asks for, whether or not the rest of it can be read; `format` where it asks for none.
pub(crate) fn wanted_format(args: &[OsString], mut format: Format) -> Format {
    let (ours, _) = split(args);
    for (i, word) in ours.iter().enumerate() {
        let value = match word.to_str() {
            Some("--") => break,
            Some("--format") => ours.get(i + 1).and_then(|value| value.to_str()),
            Some(word) => word.strip_prefix("--format="),
            None => None,
        };
        match value {
            Some("json") => format = Format::Json,
            Some("text") => format = Format::Text,
            _ => {}
        }
    }
    format
}

fn answer(error: &clap::Error, format: Format, is_run: bool) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::Yes,
            Err(error) => crate::output::lost(&error, capibara::Stream::Stdout),
        };
    }
    let rendered = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // The help text itself, unless stderr is gone too.
        drop(error.print());
    } else {
        explain(&rendered);
    }
    let code = ExitCode::Failed;
    match format {
        Format::Text => code,
        Format::Json => json::print_failure(&usage_failure(error, &rendered), is_run.then_some(false)),
    }
}

/// What clap found, in lines like those of other errors.
fn explain(rendered: &str) {
    let console = Console::new();
    for line in rendered.lines().filter(|line| !line.trim().is_empty()) {
        let text = line.trim_start();
        if let Some(tip) = text.strip_prefix("tip: ") {
            console.hint(tip);
        } else if let Some(usage) = text.strip_prefix("Usage: ") {
            console.say(&format!("usage: {usage}"));
        } else if text.starts_with("For more information") {
            console.hint(SEE_HELP);
        } else {
            console.say(line);
        }
    }
}

const SEE_HELP: &str = "`--help` after a command says more";

fn usage_failure(error: &clap::Error, rendered: &str) -> Failure {
    let mut lines = rendered.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command was given",
        _ => {
            lines.next().map_or("the command line cannot be read", |line| line.strip_prefix("error: ").unwrap_or(line))
        }
    };
    // `the following required arguments were not provided:` goes on in the next line.
    let message = match message.strip_suffix(':') {
        Some(start) => format!("{start}: {}", lines.next().unwrap_or_default()),
        None => message.to_owned(),
    };
    let hint = lines.find_map(|line| line.strip_prefix("tip: ")).unwrap_or(SEE_HELP);
    Failure::new("usage", message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        std::iter::once("capibara").chain(line.iter().copied()).map(OsString::from).collect()
    }

    fn run(line: &[&str]) -> Result<RunArguments, clap::Error> {
        match read(&words(line), &Settings::default())? {
            Command::Run(run) => Ok(*run),
            _ => panic!("not `run`: {line:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn everything_after_the_script_is_its_own() {
        // (line, script, code, module, the script's words)
        type Row<'a> = (&'a [&'a str], Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a [&'a str]);
        let rows: &[Row<'_>] = &[
            (&["run", "x.py"], Some("x.py"), None, None, &[]),
            (&["run", "x.py", "--format", "json"], Some("x.py"), None, None, &["--format", "json"]),
            (&["run", "x.py", "-c", "y", "--", "-"], Some("x.py"), None, None, &["-c", "y", "--", "-"]),
            (&["run", "x.py", "--help"], Some("x.py"), None, None, &["--help"]),
            (&["run", "--timeout", "1s", "x.py", "--timeout", "2s"], Some("x.py"), None, None, &["--timeout", "2s"]),
            (&["run", "--timeout=1s", "--live", "x.py", "-h"], Some("x.py"), None, None, &["-h"]),
            (&["run", "--live", "x.py", "y.py"], Some("x.py"), None, None, &["y.py"]),
            (&["run", "-c", "print(1)", "--format", "json"], None, Some("print(1)"), None, &["--format", "json"]),
            (&["run", "-cprint(1)", "a"], None, Some("print(1)"), None, &["a"]),
            (&["run", "-c", "-1", "-2"], None, Some("-1"), None, &["-2"]),
            (&["run", "-c", "--live"], None, Some("--live"), None, &[]),
            (&["run", "-c", ""], None, Some(""), None, &[]),
            (&["run", "-c=1", "x"], None, Some("=1"), None, &["x"]),
            (&["run", "-m", "json.tool", "--help"], None, None, Some("json.tool"), &["--help"]),
            (&["run", "-mjson.tool", "-m", "x"], None, None, Some("json.tool"), &["-m", "x"]),
            (&["run", "-", "-", "--live"], Some("-"), None, None, &["-", "--live"]),
            (&["run", "--", "-weird.py", "--", "x"], Some("-weird.py"), None, None, &["--", "x"]),
            (&["run", "--live", "--", "--format", "x"], Some("--format"), None, None, &["x"]),
            (&["run", "--env", "A=1", "--env", "B=2", "x.py", "C=3"], Some("x.py"), None, None, &["C=3"]),
            (&["run", "--stats", "x.py", "--raw"], Some("x.py"), None, None, &["--raw"]),
            (&["run", "--stats=false", "--raw", "true"], Some("true"), None, None, &[]),
        ];
        for (line, script, code, module, args) in rows {
            let run = run(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert_eq!(run.source.script.as_deref(), script.map(OsStr::new), "{line:?}");
            assert_eq!(run.source.code.as_deref(), *code, "{line:?}");
            assert_eq!(run.source.module.as_deref(), *module, "{line:?}");
            assert_eq!(run.args, *args, "{line:?}");
        }
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, part) in [
            (&["run"][..], "<SCRIPT|-c <CODE>|-m <MODULE>>"),
            (&["run", "--nope", "x.py"], "--nope"),
            (&["run", "--timeot", "1s", "x.py"], "--timeout"),
            (&["run", "-x", "x.py"], "'./-x'"),
            (&["run", "-dash.py"], "unexpected argument '-dash.py'"),
            (&["run", "-dash.py"], "'./-dash.py'"),
            (&["run", "--live", "-u", "x.py"], "leave '-u' out"),
            (&["run", "-OO", "x.py"], "leave '-OO' out"),
            (&["x.py", "a"], "'capibara run x.py'"),
            (&["-c", "print(1)"], "'capibara run -c'"),
            (&["-"], "'capibara run -'"),
            (&["run", "--language", "-c", "print(1)"], "a value is required for '--language <NAME>'"),
            (&["run", "--policy", "--live", "x.py"], "a value is required for '--policy <POLICY>'"),
            (&["run", "--format", "-m", "calendar"], "a value is required for '--format <FORMAT>'"),
            (&["run", "-c"], "-c"),
            (&["run", "--timeout"], "--timeout"),
            (&["run", "--timeout", "5", "x.py"], "`5s`"),
            (&["run", "--timeout", "0s", "x.py"], "is zero"),
            (&["run", "--timeout", "0", "x.py"], "`0` is zero: a limit must be at least 1ms"),
            (&["run", "--memory", "0", "x.py"], "128MiB is enough for small scripts"),
            (&["run", "--memory", "5GiB", "x.py"], "at most 4GiB"),
            (&["run", "--max-disk", "0", "x.py"], "is zero"),
            (&["run", "--memory", "256", "x.py"], "`256MiB`"),
            (&["run", "--memory", "-5MiB", "x.py"], "`-5MiB` is not a size"),
            (&["run", "--max-output", "0B", "x.py"], "is zero"),
            (&["run", "--fuel", "-5", "x.py"], "`-5` is not a count"),
            (&["run", "--policy", "nope", "x.py"], "strict, moderate and permissive"),
            (&["run", "--epoch", "tomorrow", "x.py"], "`tomorrow` is not a moment"),
            (&["run", "--seed", "-1", "x.py"], "below 2^128"),
            (&["run", "--seed", "+1", "x.py"], "below 2^128"),
            (&["run", "--seed", "340282366920938463463374607431768211456", "x.py"], "below 2^128"),
            (&["run", "--env", "NAME", "x.py"], "`NAME`"),
            (&["run", "--env", "=x", "x.py"], "`=x`"),
            (&["run", "--format", "xml", "x.py"], "xml"),
            (&["run", "--live", "--fuel", "1M", "x.py"], "--fuel"),
            (&["run", "--live", "--seed", "1", "x.py"], "--seed"),
            (&["frobnicate"], "frobnicate"),
            (&["runtime", "instal", "python"], "install"),
        ] {
            let error =
                read(&words(line), &Settings::default()).err().unwrap_or_else(|| panic!("{line:?} was accepted"));
            assert!(error.use_stderr(), "{line:?}");
            let text = error.render().to_string();
            assert!(text.contains(part), "{line:?}: {text}");
        }
    }

    #[test]
    fn values_are_read() {
        let run = run(&[
            "run",
            "--policy",
            "strict",
            "--fuel",
            "20M",
            "--timeout",
            "1m30s",
            "--memory",
            "64MiB",
            "--max-output",
            "1KiB",
            "--max-disk",
            "3MB",
            "--raw",
            "--epoch",
            "2026-01-31T12:00:00Z",
            "--seed",
            "340282366920938463463374607431768211455",
            "--env",
            "A=b=c",
            "--env",
            "EMPTY=",
            "--format",
            "json",
            "--stats",
            "--language",
            "python",
            "x",
        ])
        .unwrap();
        assert_eq!(run.given.policy.map(|policy| policy.name).as_deref(), Some("strict"));
        assert_eq!(run.given.fuel, Some(20_000_000));
        assert_eq!(run.given.timeout, Some(std::time::Duration::from_secs(90)));
        assert_eq!((run.given.memory, run.given.max_output), (Some(64 << 20), Some(1 << 10)));
        assert_eq!((run.given.max_disk, run.how.shown.raw), (Some(3_000_000), true));
        assert_eq!(run.given.epoch.map(|e| e.to_string()).as_deref(), Some("2026-01-31T12:00:00Z"));
        assert_eq!(run.given.seed, Some(u128::MAX));
        assert_eq!(run.given.env, [("A".into(), "b=c".into()), ("EMPTY".into(), String::new())]);
        assert_eq!(
            (run.how.shown.format, run.how.shown.stats, run.how.language.as_deref()),
            (Format::Json, true, Some("python"))
        );
        assert_eq!(self::run(&["run", "x.py"]).unwrap().given.policy, None);
    }

    #[test]
    fn json_is_recognised_in_broken_lines_but_not_in_the_scripts_words() {
        for (line, format) in [
            (&["run", "--format", "json", "--nope", "x.py"][..], Format::Json),
            (&["run", "--nope", "--format=json", "x.py"], Format::Json),
            (&["run", "--format", "json"], Format::Json),
            (&["run", "x.py", "--format", "json"], Format::Text),
            (&["run", "-c", "x", "--format=json"], Format::Text),
            (&["runtime", "list", "--nope", "--format", "json"], Format::Json),
            (&[], Format::Text),
        ] {
            assert_eq!(wanted_format(&words(line), Format::Text), format, "{line:?}");
        }
    }

    #[test]
    fn what_is_set_elsewhere_is_the_default() {
        let origin = crate::settings::Origin::Default;
        let set = Some(crate::settings::Set { value: true, origin: origin.clone() });
        let format = Some(crate::settings::Set { value: Format::Json, origin });
        let settings = Settings { raw: set.clone(), stats: set, format, ..Settings::default() };
        let run = |line: &[&str]| match read(&words(line), &settings) {
            Ok(Command::Run(run)) => (run.how.shown.raw, run.how.shown.stats, run.how.shown.format),
            other => panic!("{line:?}: {other:?}"),
        };
        assert_eq!(run(&["run", "x.py"]), (true, true, Format::Json));
        assert_eq!(run(&["run", "--raw=false", "--stats=0", "--format", "text", "x.py"]), (false, false, Format::Text));
        assert_eq!(
            self::run(&["run", "x.py"]).map(|run| (run.how.shown.raw, run.how.shown.stats)).unwrap(),
            (false, false)
        );
        assert!(matches!(
            read(&words(&["audit", "list"]), &settings),
            Ok(Command::Audit(audit)) if audit.format() == Format::Json
        ));
    }

    #[test]
    fn usage_failures_keep_message_and_tip() {
        let failure = |line: &[&str]| {
            let error = read(&words(line), &Settings::default()).err().unwrap();
            usage_failure(&error, &error.render().to_string())
        };
        let typo = failure(&["run", "--timeot", "1s", "x.py"]);
        assert!(typo.message.contains("--timeot") && typo.hint.unwrap().contains("--timeout"));
        assert!(failure(&["run"]).message.contains("SCRIPT"), "{:?}", failure(&["run"]));
        assert_eq!(failure(&[]).message, "no command was given");
    }

    #[test]
    fn short_help_fits_eighty_columns() {
        fn check(command: &clap::Command) {
            // `  -x, --name <VALUE>  `, aligned for all options of the command.
            let left = |arg: &clap::Arg| {
                let value = arg.get_value_names().and_then(|names| names.first()).map_or(0, |name| name.len() + 3);
                6 + arg.get_long().map_or(0, |long| 2 + long.len()) + value + 2
            };
            let column = command.get_arguments().map(left).max().unwrap_or_default();
            for arg in command.get_arguments() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty() && column + help.len() <= 80, "{}: {help}", arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&CommandLine::command());
    }
}
