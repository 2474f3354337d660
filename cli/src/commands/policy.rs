//! `capibara policy`: which policies there are, what they say, and what is wrong with one.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use capibara::{Script, script_modules};
use capibara_policies::{Expired, Policy, PolicyError, PolicyFolders, Problem, ProblemKind, SourceLanguage, suggest};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Output;
use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::json::{self, SCHEMA};
use crate::output::text::Console;
use crate::output::{Format, answer};
use crate::script::{self, Place};
use crate::settings::Settings;

/// The longest line of a policy file that is shown below a problem, in characters.
const LONGEST_SHOWN: usize = 160;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the presets and your own policies
    ///
    /// Your own are files NAME.yaml in the folder `policies` of your configuration: below CAPIBARA_HOME, or else in
    /// capibara below XDG_CONFIG_HOME or ~/.config. Exit codes: 0, 125 could not.
    List(ListArguments),
    /// Print all that a policy says, with what it extends
    ///
    /// The result is a policy file by itself: `capibara policy show moderate > mine.yaml` begins one of your own. What
    /// the administrator's ceiling takes away is not in it. Exit codes: 0, 125 there is no such policy, or it cannot be used.
    Show(ShowArguments),
    /// Print the smallest policy under which a script should run
    ///
    /// The policy extends strict and grants what the scan of the script and its modules shows that it needs, each line with
    /// the place that asks for it. What the scan calls an error is never allowed. Nothing is run. Exit codes: 0 the script
    /// should run under it, 1 something is denied or cannot be granted, 125 could not.
    Suggest(SuggestArguments),
    /// Try rules of your own on the cases they bring
    ///
    /// Also fails where no case of a rule makes it fire. Exit codes: 0 all cases hold, 1 some do not, 125 a file cannot be used.
    Test(TestArguments),
    /// Say what is wrong with a policy file
    ///
    /// Prints each problem with its line and column. Exit codes: 0 it can be used, 1 it cannot, 125 it cannot be read.
    Check(CheckArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// Preset, name of a policy of yours, or path with a `/`
    ///
    /// Default: the one that runs use where none is named; moderate, if none is set.
    #[arg(value_name = "POLICY")]
    policy: Option<OsString>,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Policy file to check
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct SuggestArguments {
    /// Python script
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// Files of rules
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl PolicyCommand {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::List(list) => list.output.format,
            Self::Show(show) => show.output.format,
            Self::Check(check) => check.output.format,
            Self::Suggest(_) | Self::Test(_) => Format::Text,
        }
    }
}

/// Reads the value of `--policy`.
pub(crate) fn parser() -> impl TypedValueParser<Value = Policy> {
    OsStringValueParser::new().try_map(|name| {
        PolicyFolders::from_environment().policy(&name).map_err(|error| {
            let failure = Failure::from(error);
            match &failure.hint {
                Some(hint) => format!("{}; {hint}", failure.full_message()),
                None => failure.full_message(),
            }
        })
    })
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(command: PolicyCommand, settings: &Settings) -> Result<ExitCode, Failure> {
    let folders = PolicyFolders::from_environment();
    match command {
        PolicyCommand::List(arguments) => list(&folders, settings, arguments.output.format),
        PolicyCommand::Show(arguments) => show(&folders, settings, &arguments),
        PolicyCommand::Check(arguments) => check(&folders, &arguments),
        PolicyCommand::Suggest(arguments) => suggest(&arguments),
        PolicyCommand::Test(arguments) => test(&arguments),
    }
}

fn suggest(arguments: &SuggestArguments) -> Result<ExitCode, Failure> {
    let found = script::from_file(&arguments.script)?;
    let (Script::File { name, source }, Some(Place { path, folder })) = (found.script, found.place) else {
        return Err(Failure::new("script-name", "a policy is suggested for a script that is a file"));
    };
    let modules = script_modules(&folder, &name, &source)?;
    let base = path.rfind('/').map_or("", |at| path.get(..=at).unwrap_or_default());
    let mut sources = vec![(path.clone(), source.to_vec())];
    sources.extend(modules.iter().map(|module| (format!("{base}{}", module.path), module.source.to_vec())));
    let own_modules: Vec<String> = modules.iter().filter_map(capibara::ScriptModule::import_name).collect();
    let stem = Path::new(&name).file_stem().map_or_else(|| name.clone(), |stem| stem.to_string_lossy().into_owned());
    let asked = suggest::Asked {
        name: &stem,
        sources: &sources,
        own_modules: &own_modules,
        folder: &folder,
        language: SourceLanguage::Python,
    };
    let suggestion = suggest::suggest(&asked, &|path| path.exists());
    let code = if suggestion.sufficient { ExitCode::Yes } else { ExitCode::No };
    Ok(answer(suggestion.yaml.as_bytes(), code))
}

fn test(arguments: &TestArguments) -> Result<ExitCode, Failure> {
    let mut failed = false;
    let mut out = String::new();
    for path in &arguments.files {
        let shown = escape::line(&path.to_string_lossy()).into_owned();
        let report = super::scan::custom_rules(std::slice::from_ref(path))?.test();
        for failure in &report.failures {
            let _ = writeln!(out, "{shown}: {}", escape::line(&failure.to_string()));
        }
        failed |= !report.passed();
        let verdict = if report.passed() { "all hold" } else { "not all hold" };
        let _ = writeln!(out, "{shown}: {} cases, {verdict}", report.cases);
    }
    Ok(answer(out.as_bytes(), if failed { ExitCode::No } else { ExitCode::Yes }))
}

/// Says which entries of allow lists no longer count.
pub(crate) fn tell_expired(policy: &Policy) {
    let console = Console::new();
    for Expired { rule, reason, expires } in &policy.expired {
        console.say(&format!(
            "policy `{}`: an entry for `{rule}` no longer counts since {expires}: {reason}",
            policy.name
        ));
    }
}

/// The JSON of `policy list`.
#[derive(Debug, Serialize)]
struct ListReport {
    schema: u32,
    folder: Option<String>,
    policies: Vec<ListedReport>,
}

#[derive(Debug, Serialize)]
struct ListedReport {
    name: String,
    /// Whether runs use it where none is named and nothing else is set.
    default: bool,
    path: Option<String>,
    description: Option<String>,
    sha256: Option<String>,
    error: Option<String>,
}

fn list(folders: &PolicyFolders, settings: &Settings, format: Format) -> Result<ExitCode, Failure> {
    let default = settings.policy_name();
    let is_default = |name: &str, path: Option<&Path>| {
        let hidden = path.is_some() && Policy::preset(name).is_ok();
        path.is_some_and(|path| path == Path::new(&default)) || default == *name && !hidden
    };
    let policies = folders.list()?.into_iter().map(|listed| {
        let hidden = listed.path.is_some() && Policy::preset(&listed.name).is_ok();
        let (policy, error) = match listed.policy {
            _ if hidden => (None, Some("the name means the preset; `--policy` takes it by its path".to_owned())),
            Ok(policy) => (Some(policy), None),
            Err(error) => (None, Some(error.to_string())),
        };
        ListedReport {
            default: is_default(&listed.name, listed.path.as_deref()),
            name: listed.name,
            path: listed.path.map(|path| path.display().to_string()),
            description: policy.as_ref().map(|policy| policy.description.clone()).filter(|text| !text.is_empty()),
            sha256: policy.as_ref().map(|policy| policy.sha256()),
            error,
        }
    });
    let policies: Vec<ListedReport> = policies.collect();
    let folder = folders.user.as_ref().map(|folder| folder.display().to_string());
    match format {
        Format::Json => Ok(json::print(&ListReport { schema: SCHEMA, folder, policies }, ExitCode::Yes)),
        Format::Text => {
            let width = policies.iter().map(|policy| policy.name.chars().count()).max().unwrap_or(0).clamp(10, 40);
            let mut out = String::new();
            for policy in &policies {
                let mut told = match (&policy.error, &policy.description, &policy.path) {
                    (Some(error), ..) => error.clone(),
                    (None, Some(description), _) => description.clone(),
                    (None, None, Some(path)) => path.clone(),
                    (None, None, None) => String::new(),
                };
                if policy.default {
                    told.push_str(" (default)");
                }
                out.push_str(&format!("{:<width$}  {}\n", escape::line(&policy.name), escape::line(&told)));
            }
            Ok(answer(out.as_bytes(), ExitCode::Yes))
        }
    }
}

/// The JSON of `policy show`.
#[derive(Debug, Serialize)]
struct ShowReport {
    schema: u32,
    name: String,
    sha256: String,
    expired: Vec<ExpiredReport>,
    /// A policy file of the schema `policy.v1.json`.
    policy: serde_json::Value,
}

#[derive(Debug, Serialize)]
struct ExpiredReport {
    rule: String,
    reason: String,
    expires: String,
}

fn expired(policy: &Policy) -> Vec<ExpiredReport> {
    let report = |expired: &Expired| ExpiredReport {
        rule: expired.rule.clone(),
        reason: expired.reason.clone(),
        expires: expired.expires.clone(),
    };
    policy.expired.iter().map(report).collect()
}

fn show(folders: &PolicyFolders, settings: &Settings, arguments: &ShowArguments) -> Result<ExitCode, Failure> {
    let policy = match &arguments.policy {
        Some(name) => folders.policy(name)?,
        None => settings.policy()?,
    };
    match arguments.output.format {
        Format::Json => {
            let shown = serde_json::from_str(&policy.to_json())
                .map_err(|error| Failure::new("internal", "the policy cannot be written").with_cause(&error))?;
            let (sha256, expired) = (policy.sha256(), expired(&policy));
            let report = ShowReport { schema: SCHEMA, name: policy.name, sha256, expired, policy: shown };
            Ok(json::print(&report, ExitCode::Yes))
        }
        Format::Text => {
            tell_expired(&policy);
            let text = format!("# The effective policy, sha256 {}\n{}", policy.sha256(), policy.to_yaml());
            Ok(answer(text.as_bytes(), ExitCode::Yes))
        }
    }
}

/// The JSON of `policy check`.
#[derive(Debug, Serialize)]
struct CheckReport {
    schema: u32,
    path: String,
    valid: bool,
    name: Option<String>,
    sha256: Option<String>,
    expired: Vec<ExpiredReport>,
    problems: Vec<ProblemReport>,
}

#[derive(Debug, Serialize)]
struct ProblemReport {
    kind: &'static str,
    file: String,
    /// Null where it is about the whole document.
    line: Option<u32>,
    column: Option<u32>,
    message: String,
    hint: Option<String>,
}

fn check(folders: &PolicyFolders, arguments: &CheckArguments) -> Result<ExitCode, Failure> {
    let path = arguments.file.display().to_string();
    let (policy, problems) = match folders.read(&arguments.file) {
        Ok(policy) => (Some(policy), Vec::new()),
        Err(PolicyError::Invalid { problems, .. }) => (None, problems),
        Err(error) => return Err(error.into()),
    };
    let code = if policy.is_some() { ExitCode::Yes } else { ExitCode::No };
    match arguments.output.format {
        Format::Json => {
            let report = CheckReport {
                schema: SCHEMA,
                path,
                valid: policy.is_some(),
                name: policy.as_ref().map(|policy| policy.name.clone()),
                sha256: policy.as_ref().map(Policy::sha256),
                expired: policy.as_ref().map(expired).unwrap_or_default(),
                problems: problems.into_iter().map(ProblemReport::from).collect(),
            };
            Ok(json::print(&report, code))
        }
        Format::Text => {
            let text = match &policy {
                Some(policy) => {
                    tell_expired(policy);
                    format!("{}: policy `{}` can be used\n", escape::line(&path), escape::line(&policy.name))
                }
                None => problems.iter().map(diagnostic).collect(),
            };
            Ok(answer(text.as_bytes(), code))
        }
    }
}

impl From<Problem> for ProblemReport {
    fn from(problem: Problem) -> Self {
        Self {
            kind: problem.kind.name(),
            line: Some(problem.line).filter(|line| *line > 0),
            column: Some(problem.column).filter(|column| *column > 0),
            file: problem.file,
            message: problem.message,
            hint: problem.hint,
        }
    }
}

/// A problem as a compiler would tell it.
fn diagnostic(problem: &Problem) -> String {
    let mut out = format!("error[{}]: {}\n", problem.kind.name(), escape::line(&problem.message));
    let file = escape::line(&problem.file);
    if problem.line > 0 {
        push(&mut out, format_args!("  --> {file}:{}:{}\n", problem.line, problem.column));
        if let Some((line, before)) = source_line(problem) {
            let number = problem.line.to_string();
            let margin = " ".repeat(number.len());
            push(&mut out, format_args!("{margin} |\n{number} | {line}\n{margin} | {}^\n", " ".repeat(before)));
        }
    } else {
        push(&mut out, format_args!("  --> {file}\n"));
    }
    if let Some(hint) = &problem.hint {
        push(&mut out, format_args!("  = hint: {}\n", escape::line(hint)));
    }
    out.push('\n');
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

/// The line of a problem as it is shown, and how many columns stand before the place in it.
fn source_line(problem: &Problem) -> Option<(String, usize)> {
    // A preset has no file, and one that has changed or gone since has no line to show.
    let path = Path::new(&problem.file);
    let small = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= 1 << 20);
    let text = if small { std::fs::read_to_string(path).ok()? } else { return None };
    let line = text.lines().nth(usize::try_from(problem.line).ok()?.checked_sub(1)?)?;
    if line.chars().count() > LONGEST_SHOWN || problem.kind == ProblemKind::MissingKey && problem.column == 1 {
        return None;
    }
    let column = usize::try_from(problem.column).ok()?.checked_sub(1)?;
    let before: String = line.chars().take(column).collect();
    Some((escape::line(line).into_owned(), escape::line(&before).chars().count()))
}
