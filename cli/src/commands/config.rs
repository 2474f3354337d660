//! `capibara config`: what is set for all commands, and where.

use std::ffi::OsString;

use capibara::{Limits, LimitsChange, Policy};
use capibara_policies::{PolicyFolders, format_count, format_duration, format_size};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::{Output, init};
use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::json::{self, SCHEMA};
use crate::output::text::Console;
use crate::output::{Format, answer};
use crate::settings::{self, Key, Origin, Settings};

/// A file of settings that sets nothing and explains everything.
const CONFIG: &str = include_str!("../templates/config.yaml");

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what is set, and where
    ///
    /// All settings as a run without flags would have them: flags go before variables, variables before the file of your
    /// configuration, the file before the policy and what is built in. Exit codes: 0, 125 something that is set cannot be used.
    Show(ShowArguments),
    /// Say where the file of your configuration is
    ///
    /// Whether or not it is there: config.yaml below CAPIBARA_HOME, or else in capibara below XDG_CONFIG_HOME or ~/.config.
    /// Exit codes: 0, 125 there is no place for one.
    Path(PathArguments),
    /// Write a configuration to begin with
    ///
    /// Every setting is in it, explained and commented out. Exit codes: 0 it is written, 125 it could not be, for example
    /// because it is there.
    Init(InitArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// Say where each value comes from
    ///
    /// default, the policy, the file with its line, the variable, or the flag.
    #[arg(long)]
    origin: bool,

    /// As for a run under this policy
    ///
    /// Default: the one that is set. Example: `capibara config show --policy strict --origin`
    #[arg(long, value_name = "POLICY")]
    policy: Option<OsString>,

    /// text: lines for people (default); json: one object
    ///
    /// Example: `--format json`
    // Not by the name of other commands' option: whether it is given is something to show here.
    #[arg(
        id = "shown_format",
        long = "format",
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true,
        hide_default_value = true
    )]
    format: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct PathArguments {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// Replace a file that is there
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    output: Output,
}

impl ConfigCommand {
    /// `settings` say what `show` answers in where it is not told.
    pub(crate) fn format(&self, settings: &Settings) -> Format {
        match self {
            Self::Show(show) => show.format.or(settings.format.as_ref().map(|set| set.value)).unwrap_or_default(),
            Self::Path(path) => path.output.format,
            Self::Init(init) => init.output.format,
        }
    }

    /// Whether it is about what is set, and not about the file.
    pub(crate) fn reads_settings(&self) -> bool {
        matches!(self, Self::Show(_))
    }
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(command: &ConfigCommand, settings: &Settings) -> Result<ExitCode, Failure> {
    let format = command.format(settings);
    let path = settings::path(&PolicyFolders::from_environment());
    match command {
        ConfigCommand::Show(arguments) => show(settings, arguments, format),
        ConfigCommand::Path(_) => {
            let path = path.ok_or_else(init::no_home)?;
            let shown = path.display().to_string();
            Ok(match format {
                Format::Json => {
                    json::print(&PathReport { schema: SCHEMA, path: shown, exists: path.exists() }, ExitCode::Yes)
                }
                Format::Text => answer(format!("{}\n", escape::line(&shown)).as_bytes(), ExitCode::Yes),
            })
        }
        ConfigCommand::Init(arguments) => {
            let path = path.ok_or_else(init::no_home)?;
            if let Some(folder) = path.parent() {
                init::make_folders(folder)?;
            }
            init::write(&path, CONFIG, arguments.force)?;
            Ok(init::told(&path, format))
        }
    }
}

/// The JSON of `config path`.
#[derive(Debug, Serialize)]
struct PathReport {
    schema: u32,
    path: String,
    exists: bool,
}

/// The JSON of `config show`.
#[derive(Debug, Serialize)]
struct ShowReport {
    schema: u32,
    /// Null where there is no place for one.
    file: Option<String>,
    exists: bool,
    settings: Vec<SettingReport>,
}

#[derive(Debug, Serialize)]
struct SettingReport {
    key: &'static str,
    /// A switch is true or false; all others are texts, written as in the file.
    value: Value,
    origin: OriginReport,
    /// What else there is to know: that what is set does not apply, and why.
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct OriginReport {
    kind: &'static str,
    /// The policy, the file, the variable or the flag.
    name: Option<String>,
    line: Option<u32>,
}

impl From<&Origin> for OriginReport {
    fn from(origin: &Origin) -> Self {
        let (name, line) = match origin {
            Origin::Default => (None, None),
            Origin::Policy(name) => (Some(name.clone()), None),
            Origin::File(path, line) => (Some(path.display().to_string()), Some(*line)),
            Origin::Variable(name) | Origin::Flag(name) => (Some((*name).to_owned()), None),
        };
        Self { kind: origin.kind(), name, line }
    }
}

/// One setting as it is in force.
struct Row {
    key: Key,
    value: Value,
    origin: Origin,
    note: Option<String>,
}

fn show(settings: &Settings, arguments: &ShowArguments, format: Format) -> Result<ExitCode, Failure> {
    let policy = match &arguments.policy {
        Some(name) => PolicyFolders::from_environment().policy(name)?,
        None => settings.policy()?,
    };
    tell_unknown_variables();
    let rows = rows(settings, arguments, &policy);
    match format {
        Format::Json => {
            let file = settings::path(&PolicyFolders::from_environment());
            let settings = rows.into_iter().map(|row| SettingReport {
                key: row.key.name(),
                value: row.value,
                origin: (&row.origin).into(),
                note: row.note,
            });
            let report = ShowReport {
                schema: SCHEMA,
                exists: file.as_ref().is_some_and(|file| file.exists()),
                file: file.map(|file| file.display().to_string()),
                settings: settings.collect(),
            };
            Ok(json::print(&report, ExitCode::Yes))
        }
        Format::Text => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let width = rows.iter().map(|row| text(&row.value).chars().count()).max().unwrap_or_default();
            let mut out = String::new();
            for row in &rows {
                let value = text(&row.value);
                let line = match (&row.note, arguments.origin) {
                    (_, false) => format!("{:<11} {value}", row.key.name()),
                    (None, true) => format!("{:<11} {value:<width$}  {}", row.key.name(), row.origin),
                    (Some(note), true) => format!("{:<11} {value:<width$}  {} ({note})", row.key.name(), row.origin),
                };
                out.push_str(&escape::line(&line));
                out.push('\n');
            }
            Ok(answer(out.as_bytes(), ExitCode::Yes))
        }
    }
}

fn rows(settings: &Settings, arguments: &ShowArguments, policy: &Policy) -> Vec<Row> {
    let mut effective = policy.clone();
    let asked = settings.limits(&LimitsChange::default());
    let applied = texts(&effective.apply_defaults(&asked));
    let (asked, effective) = (texts(&asked), texts_of(&effective.limits));
    let row = |(at, key): (usize, &Key)| {
        let set = settings.origin(*key).cloned();
        let plain = |value: Value, default: &str| match &set {
            Some(origin) => (value, origin.clone()),
            None => (default.into(), Origin::Default),
        };
        let switch = |set: &Option<settings::Set<bool>>, default: bool| match set {
            Some(set) => (set.value.into(), set.origin.clone()),
            None => (default.into(), Origin::Default),
        };
        let mut note = None;
        let (value, origin) = match key {
            Key::Policy => match &arguments.policy {
                Some(name) => (name.to_string_lossy().into(), Origin::Flag(Key::Policy.flag())),
                None => plain(settings.policy_name().to_string_lossy().into(), &policy.name),
            },
            Key::Format => match (arguments.format, &settings.format) {
                (Some(format), _) => (format.name().into(), Origin::Flag(Key::Format.flag())),
                (None, Some(set)) => (set.value.name().into(), set.origin.clone()),
                (None, None) => (Format::default().name().into(), Origin::Default),
            },
            Key::Raw => switch(&settings.raw, false),
            Key::Stats => switch(&settings.stats, false),
            Key::Progress => switch(&settings.progress, true),
            Key::Profile => match &settings.profile {
                Some(set) if !set.value.is_empty() => (set.value.join(",").into(), set.origin.clone()),
                Some(set) => ("none".into(), set.origin.clone()),
                None => ("none".into(), Origin::Default),
            },
            Key::Fuel | Key::Timeout | Key::Memory | Key::MaxOutput | Key::MaxDisk => {
                // They stand one after the other, after the policy.
                let at = at.saturating_sub(1);
                let get = |texts: &[Option<String>]| texts.get(at).cloned().flatten();
                let value = get(&effective).unwrap_or_else(|| "none".into());
                let origin = match (set, get(&asked), get(&applied)) {
                    (Some(origin), Some(asked), Some(applied)) => {
                        if asked != applied {
                            note = Some(format!("{asked} is above the administrator's ceiling"));
                        }
                        origin
                    }
                    (Some(origin), Some(asked), None) => {
                        note = Some(format!("{origin} says {asked}, which is more than this policy lets flags set"));
                        Origin::Policy(policy.name.clone())
                    }
                    _ => Origin::Policy(policy.name.clone()),
                };
                (value.into(), origin)
            }
        };
        Row { key: *key, value, origin, note }
    };
    Key::ALL.iter().enumerate().map(row).collect()
}

/// Limits as they are written, in the order of the keys.
fn texts(change: &LimitsChange) -> [Option<String>; 5] {
    [
        change.fuel.map(format_count),
        change.wall_time.map(format_duration),
        change.memory.map(format_size),
        change.output.map(format_size),
        change.bytes_written.map(format_size),
    ]
}

fn texts_of(limits: &Limits) -> [Option<String>; 5] {
    texts(&LimitsChange {
        fuel: limits.fuel,
        wall_time: Some(limits.wall_time),
        memory: Some(limits.memory),
        output: Some(limits.output),
        bytes_written: Some(limits.bytes_written),
    })
}

/// Tells of variables that look like ours and mean nothing.
fn tell_unknown_variables() {
    let console = Console::new();
    for (name, meant) in settings::unknown_variables() {
        console.say(&match meant {
            Some(meant) => format!("the variable {name} sets nothing: did you mean {meant}?"),
            None => format!("the variable {name} sets nothing"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_in_the_order_of_their_keys() {
        let limits = [Key::Fuel, Key::Timeout, Key::Memory, Key::MaxOutput, Key::MaxDisk];
        assert_eq!(Key::ALL.get(1..6), Some(&limits[..]));
    }
}
