//! What a user has set for all commands: a file of the configuration, and variables of the environment.
//!
//! A setting has one name in three forms: the key `max_output` of the file, the variable `CAPIBARA_MAX_OUTPUT`, the flag
//! `--max-output`. Flags go before variables, variables before the file, and the file before what is built in.
//!
//! What is set here is set once and for every script, so it gives no script anything: there is no key for files, variables
//! or network, and a limit is raised only as far as the policy of a run lets flags raise it. The file is looked for in the folder
//! of the user's configuration alone, never in the working directory or beside a script.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use capibara_policies::{
    DEFAULT_POLICY, FlatEntry, LimitsChange, Policy, PolicyFolders, flat_document, nearest, parse_count,
    parse_duration, parse_memory, parse_size,
};

use crate::errors::Failure;
use crate::output::Format;
use crate::variables;

/// The name of the file in the folder of the configuration.
pub(crate) const FILE: &str = "config.yaml";
/// The largest file that is read.
const LARGEST_FILE: u64 = 64 << 10;

macro_rules! keys {
    ($($variant:ident = $name:literal, $flag:literal, $variable:ident, $expected:literal, $example:literal;)*) => {
        /// Something that can be set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Key {
            $($variant,)*
        }

        impl Key {
            /// All of them, as they are shown.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its key in the file.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The flag that sets it for one run.
            pub(crate) fn flag(self) -> &'static str {
                match self { $(Self::$variant => $flag,)* }
            }

            /// The variable that sets it.
            pub(crate) fn variable(self) -> &'static str {
                match self { $(Self::$variant => variables::$variable,)* }
            }

            /// What its value is.
            fn expected(self) -> &'static str {
                match self { $(Self::$variant => $expected,)* }
            }

            /// A value that can be.
            fn example(self) -> &'static str {
                match self { $(Self::$variant => $example,)* }
            }
        }
    };
}

keys! {
    Policy = "policy", "--policy", CAPIBARA_POLICY, "the name of a policy or the path of one", "strict";
    Fuel = "fuel", "--fuel", CAPIBARA_FUEL, "a count", "500M";
    Timeout = "timeout", "--timeout", CAPIBARA_TIMEOUT, "a duration with a unit", "30s";
    Memory = "memory", "--memory", CAPIBARA_MEMORY, "a size with a unit", "256MiB";
    MaxOutput = "max_output", "--max-output", CAPIBARA_MAX_OUTPUT, "a size with a unit", "1MiB";
    MaxDisk = "max_disk", "--max-disk", CAPIBARA_MAX_DISK, "a size with a unit", "64MiB";
    Format = "format", "--format", CAPIBARA_FORMAT, "text or json", "json";
    Raw = "raw", "--raw", CAPIBARA_RAW, "true or false", "true";
    Stats = "stats", "--stats", CAPIBARA_STATS, "true or false", "true";
    Progress = "progress", "--progress", CAPIBARA_PROGRESS, "true or false", "false";
    Profile = "profile", "--profile", CAPIBARA_PROFILE, "names of profiles, the one to ask first in front, or none", "local,groq";
}

impl Key {
    /// The limit it sets, by its name in a policy.
    pub(crate) fn of_limit(limit: &str) -> Option<Self> {
        let flag = crate::errors::limit_option(limit)?;
        Self::ALL.iter().copied().find(|key| key.flag() == flag)
    }
}

/// Words that people may look for in the file, and where they belong instead.
fn advice(word: &str) -> Option<String> {
    let grant = "what a script is given is said for each run, or in a policy: `capibara run --read data script.py`";
    match word {
        "read" | "write" | "overlay" | "out" | "apply" | "env" | "net" | "secret" | "secrets" | "package"
        | "packages" | "tool" | "tools" | "grants" => Some(grant.into()),
        "limits" => Some("limits stand at the left, by the names of their flags: `timeout: 30s`".into()),
        "live" | "epoch" | "seed" | "language" | "dry_run" | "events" => {
            Some(format!("that is said for each run: `capibara run --{}`", word.replace('_', "-")))
        }
        "audit" | "scan" | "rules" | "findings" | "extends" => {
            Some("that is said in a policy: `policy: mine` here, and the rest in `policies/mine.yaml`".into())
        }
        "model" | "models" | "profiles" => {
            Some("`profile` names the models to ask; what they are stands in models.yaml: `capibara model add`".into())
        }
        "cache_dir" => Some("that is set by the variable CAPIBARA_CACHE_DIR".into()),
        "home" => Some("that is set by the variable CAPIBARA_HOME".into()),
        _ => None,
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// The policy of that name.
    Policy(String),
    /// A line of the file.
    File(PathBuf, u32),
    /// That variable.
    Variable(&'static str),
    /// That flag.
    Flag(&'static str),
}

impl Origin {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Policy(_) => "policy",
            Self::File(..) => "file",
            Self::Variable(_) => "variable",
            Self::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value somebody has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// All that is set; `None` is left to policies and to what is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// What `--policy` would be: a name, or an absolute path.
    pub(crate) policy: Option<Set<OsString>>,
    pub(crate) fuel: Option<Set<u64>>,
    pub(crate) timeout: Option<Set<Duration>>,
    pub(crate) memory: Option<Set<u64>>,
    pub(crate) max_output: Option<Set<u64>>,
    pub(crate) max_disk: Option<Set<u64>>,
    pub(crate) format: Option<Set<Format>>,
    pub(crate) raw: Option<Set<bool>>,
    pub(crate) stats: Option<Set<bool>>,
    pub(crate) progress: Option<Set<bool>>,
    /// Profiles of models, in the order they are asked.
    pub(crate) profile: Option<Set<Vec<String>>>,
}

/// One thing that is wrong with what is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Where it is said.
    pub(crate) place: WrongPlace,
    /// With the place in it.
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Where something wrong is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WrongPlace {
    /// A line of the file. With a key that is unknown and the one that was meant, if one is near.
    Line(u32, Option<(String, String)>),
    /// The file as a whole: it is not read without the line that is told, either.
    File,
    /// A variable.
    Variable(&'static str),
}

/// Reads `true` or `false`.
pub(crate) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{text}` is not true or false: write for example `true`")),
    }
}

/// Reads names with commas between them, or `none`.
fn parse_names(text: &str) -> Result<Vec<String>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) { Err(format!("`{text}` holds an empty name")) } else { Ok(names) }
}

fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(format!("`{text}` is not text or json: write for example `json`")),
    }
}

/// Where the file is, or would be. `None` if there is no home to have one in.
pub(crate) fn path(folders: &PolicyFolders) -> Option<PathBuf> {
    folders.configuration().map(|folder| folder.join(FILE))
}

impl Settings {
    /// What is set for this process.
    pub(crate) fn load() -> Result<Self, Failure> {
        let mut settings = Self::default();
        let folders = PolicyFolders::from_environment();
        if let Some(path) = path(&folders)
            && let Some(text) = read(&path)?
        {
            settings.read_file(&path, &text, folders.home.as_deref())?;
        }
        settings.read_variables(|name| std::env::var_os(name))?;
        Ok(settings)
    }

    /// All that is wrong with what is set for this process.
    pub(crate) fn examine() -> Vec<Wrong> {
        let mut settings = Self::default();
        let folders = PolicyFolders::from_environment();
        let mut wrong = match path(&folders).map(|path| (read(&path), path)) {
            Some((Ok(Some(text)), path)) => settings.take_file(&path, &text, folders.home.as_deref()),
            Some((Err(failure), _)) => {
                vec![Wrong { place: WrongPlace::File, message: failure.full_message(), hint: failure.hint }]
            }
            Some((Ok(None), _)) | None => Vec::new(),
        };
        wrong.extend(settings.take_variables(|name| std::env::var_os(name)));
        wrong
    }

    fn read_variables(&mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<(), Failure> {
        match self.take_variables(variable).into_iter().next() {
            None => Ok(()),
            Some(first) => Err(unusable(vec![first])),
        }
    }

    fn take_variables(&mut self, variable: impl Fn(&str) -> Option<OsString>) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        for key in Key::ALL {
            let name = key.variable();
            // As everywhere: one that is empty is not set.
            let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
            let set = match (key, value.to_str()) {
                (Key::Policy, _) => self.set_policy(&value, None, Origin::Variable(name)),
                (_, Some(text)) => self.set(*key, text, Origin::Variable(name)),
                (_, None) => Err("it is not UTF-8".into()),
            };
            if let Err(why) = set {
                wrong.push(Wrong {
                    place: WrongPlace::Variable(name),
                    message: format!("the variable {name} cannot be used: {why}"),
                    hint: Some(format!("it is {}, for example `{name}={}`", key.expected(), key.example())),
                });
            }
        }
        wrong
    }

    fn read_file(&mut self, path: &Path, text: &str, home: Option<&Path>) -> Result<(), Failure> {
        let wrong = self.take_file(path, text, home);
        if wrong.is_empty() { Ok(()) } else { Err(unusable(wrong)) }
    }

    fn take_file(&mut self, path: &Path, text: &str, home: Option<&Path>) -> Vec<Wrong> {
        let shown = path.display().to_string();
        let entries = match flat_document(&shown, text) {
            Ok(entries) => entries,
            Err(problem) => {
                let without = without_line(text, problem.line);
                let alone = problem.line > 0 && flat_document(&shown, &without).is_ok();
                let place = if alone { WrongPlace::Line(problem.line, None) } else { WrongPlace::File };
                return vec![Wrong { place, message: problem.to_string(), hint: problem.hint }];
            }
        };
        let mut wrong = Vec::new();
        for FlatEntry { key, value, key_place, value_place } in entries {
            let at = |(line, column): (u32, u32), what: String| format!("{shown}:{line}:{column}: {what}");
            let Some(known) = Key::ALL.iter().copied().find(|known| known.name() == key) else {
                wrong.push(Wrong {
                    place: WrongPlace::Line(key_place.0, meant(&key).map(|meant| (key.clone(), meant.to_owned()))),
                    message: at(key_place, format!("unknown key `{}`", beginning(&key))),
                    hint: Some(hint_for(&key)),
                });
                continue;
            };
            let origin = Origin::File(path.to_path_buf(), key_place.0);
            let set = match known {
                Key::Policy => self.set_policy(OsStr::new(&value), Some((path, home)), origin),
                key => self.set(key, &value, origin),
            };
            if let Err(why) = set {
                let hint = format!("`{key}` is {}, for example `{key}: {}`", known.expected(), known.example());
                let place = WrongPlace::Line(key_place.0, None);
                wrong.push(Wrong { place, message: at(value_place, why), hint: Some(hint) });
            }
        }
        wrong
    }

    fn set(&mut self, key: Key, text: &str, origin: Origin) -> Result<(), String> {
        fn fill<T, E: fmt::Display>(
            place: &mut Option<Set<T>>,
            value: Result<T, E>,
            origin: Origin,
        ) -> Result<(), String> {
            *place = Some(Set { value: value.map_err(|error| error.to_string())?, origin });
            Ok(())
        }
        match key {
            Key::Policy => self.set_policy(OsStr::new(text), None, origin),
            Key::Fuel => fill(&mut self.fuel, parse_count(text), origin),
            Key::Timeout => fill(&mut self.timeout, parse_duration(text), origin),
            Key::Memory => fill(&mut self.memory, parse_memory(text), origin),
            Key::MaxOutput => fill(&mut self.max_output, parse_size(text), origin),
            Key::MaxDisk => fill(&mut self.max_disk, parse_size(text), origin),
            Key::Format => fill(&mut self.format, parse_format(text), origin),
            Key::Raw => fill(&mut self.raw, parse_switch(text), origin),
            Key::Stats => fill(&mut self.stats, parse_switch(text), origin),
            Key::Progress => fill(&mut self.progress, parse_switch(text), origin),
            Key::Profile => fill(&mut self.profile, parse_names(text), origin),
        }
    }

    /// A name stays as it is; a path has to lead to the same file wherever the command is started.
    fn set_policy(&mut self, text: &OsStr, file: Option<(&Path, Option<&Path>)>, origin: Origin) -> Result<(), String> {
        let shown = text.to_string_lossy();
        if shown.is_empty() {
            return Err("a policy has a name".into());
        }
        let value = match file {
            _ if !shown.contains('/') || Path::new(text).is_absolute() => text.to_owned(),
            Some((file, home)) => match (shown.strip_prefix("~/"), home) {
                (Some(below), Some(home)) => home.join(below).into_os_string(),
                (Some(_), None) => return Err(format!("`{shown}` names a home folder, and there is none")),
                (None, _) => file.parent().unwrap_or(file).join(text).into_os_string(),
            },
            None => {
                return Err(format!(
                    "`{shown}` would be looked for in the working directory, which may be the script's: write an \
                     absolute path"
                ));
            }
        };
        self.policy = Some(Set { value, origin });
        Ok(())
    }

    /// The policy where no flag names one.
    pub(crate) fn policy(&self) -> Result<Policy, Failure> {
        let folders = PolicyFolders::from_environment();
        let Some(Set { value, origin }) = &self.policy else {
            return Ok(folders.policy(OsStr::new(DEFAULT_POLICY))?);
        };
        folders.policy(value).map_err(|error| {
            let mut failure = Failure::from(error);
            failure.message = format!("the policy that {origin} names cannot be used: {}", failure.message);
            failure
        })
    }

    /// What `--policy` would be where it is not given.
    pub(crate) fn policy_name(&self) -> OsString {
        self.policy.as_ref().map_or_else(|| DEFAULT_POLICY.into(), |set| set.value.clone())
    }

    /// The limits for a run whose flags ask for `flags`: those that no flag sets.
    pub(crate) fn limits(&self, flags: &LimitsChange) -> LimitsChange {
        fn unless<T: Copy, U>(set: &Option<Set<T>>, flag: &Option<U>) -> Option<T> {
            set.as_ref().filter(|_| flag.is_none()).map(|set| set.value)
        }
        LimitsChange {
            fuel: unless(&self.fuel, &flags.fuel),
            wall_time: unless(&self.timeout, &flags.wall_time),
            memory: unless(&self.memory, &flags.memory),
            output: unless(&self.max_output, &flags.output),
            bytes_written: unless(&self.max_disk, &flags.bytes_written),
        }
    }

    /// Where a limit is set, if it is.
    pub(crate) fn origin(&self, key: Key) -> Option<&Origin> {
        fn origin<T>(set: &Option<Set<T>>) -> Option<&Origin> {
            set.as_ref().map(|set| &set.origin)
        }
        match key {
            Key::Policy => origin(&self.policy),
            Key::Fuel => origin(&self.fuel),
            Key::Timeout => origin(&self.timeout),
            Key::Memory => origin(&self.memory),
            Key::MaxOutput => origin(&self.max_output),
            Key::MaxDisk => origin(&self.max_disk),
            Key::Format => origin(&self.format),
            Key::Raw => origin(&self.raw),
            Key::Stats => origin(&self.stats),
            Key::Progress => origin(&self.progress),
            Key::Profile => origin(&self.profile),
        }
    }
}

/// The format that the variable asks for, also where something else that is set cannot be used.
pub(crate) fn format_of_variable() -> Option<Format> {
    parse_format(std::env::var(variables::CAPIBARA_FORMAT).ok()?.as_str()).ok()
}

/// The text of the file, if there is one.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    let cannot = |why: &str| Failure::new("config-unreadable", format!("`{}` cannot be read: {why}", path.display()));
    // Without waiting: what stands there may be a pipe that nobody writes to.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(cannot(&error.to_string())),
    };
    let meta = file.metadata().map_err(|error| cannot(&error.to_string()))?;
    if meta.is_dir() {
        return Err(cannot("it is a directory"));
    }
    if meta.mode() & 0o002 != 0 && meta.is_file() {
        return Err(cannot("everybody on this machine can write it")
            .with_hint(format!("take that away: `chmod o-w {}`", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| cannot(&error.to_string()))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(cannot("it is larger than 64KiB"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| cannot("it is not UTF-8"))
}

/// A text whose line of this number, from 1, is a comment.
fn without_line(text: &str, number: u32) -> String {
    let commented = |(at, line)| if at == number { format!("# {line}") } else { String::from(line) };
    (1..).zip(text.split_inclusive('\n')).map(commented).collect()
}

/// The beginning of a word somebody else chose, for a message.
fn beginning(word: &str) -> String {
    match word.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", word.get(..at).unwrap_or_default()),
        None => word.to_owned(),
    }
}

/// The key that was meant, if it is one by another name or nearly one.
fn meant(word: &str) -> Option<&'static str> {
    match word {
        "wall_time" => Some("timeout"),
        "output" => Some("max_output"),
        "bytes_written" | "disk" => Some("max_disk"),
        _ if advice(word).is_some() => None,
        _ => nearest(word, Key::ALL.iter().map(|key| key.name())),
    }
}

fn hint_for(word: &str) -> String {
    advice(word).or_else(|| meant(word).map(|meant| format!("did you mean `{meant}`?"))).unwrap_or_else(|| {
        let names: Vec<String> = Key::ALL.iter().map(|key| format!("`{}`", key.name())).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Variables that look like ours and mean nothing, each with the one that was meant, if one is near.
pub(crate) fn unknown_variables() -> Vec<(String, Option<String>)> {
    let known: Vec<&str> =
        Key::ALL.iter().map(|key| key.variable()).chain(variables::FOLDERS_AND_BUILD.iter().copied()).collect();
    let mut unknown: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("CAPIBARA_") && !known.contains(&name.as_str()))
        .collect();
    unknown.sort();
    let ends = || known.iter().filter_map(|known| known.strip_prefix("CAPIBARA_"));
    let meant = |name: &str| nearest(name.trim_start_matches("CAPIBARA_"), ends()).map(|end| format!("CAPIBARA_{end}"));
    unknown.into_iter().map(|name| (name.clone(), meant(&name))).collect()
}

/// What is wrong; at least one thing, each with its place and what to do about it.
fn unusable(mut wrong: Vec<Wrong>) -> Failure {
    if wrong.len() == 1
        && let Some(Wrong { message, hint, .. }) = wrong.pop()
    {
        return Failure { hint, ..Failure::new("config-invalid", message) };
    }
    let mut message = "the configuration cannot be used:".to_owned();
    for Wrong { message: line, hint, .. } in wrong {
        message.push('\n');
        message.push_str(&line);
        if let Some(hint) = hint {
            message.push_str(&format!(" ({hint})"));
        }
    }
    Failure::new("config-invalid", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        settings.read_file(Path::new("/c/config.yaml"), text, Some(Path::new("/home/u")))?;
        Ok(settings)
    }

    #[test]
    fn every_key_is_read_from_file_and_variable() {
        for key in Key::ALL {
            let settings = file(&format!("\n{}: {}\n", key.name(), key.example())).unwrap();
            let here = Origin::File("/c/config.yaml".into(), 2);
            assert_eq!(settings.origin(*key), Some(&here), "{key:?}");
            let mut both = settings;
            let given = |name: &str| (name == key.variable()).then(|| key.example().into());
            both.read_variables(given).unwrap();
            assert_eq!(both.origin(*key), Some(&Origin::Variable(key.variable())), "{key:?}");
            assert_eq!(Key::ALL.iter().filter(|other| both.origin(**other).is_some()).count(), 1);
            let mut unset = Settings::default();
            unset.read_variables(|_| Some(OsString::new())).unwrap();
            assert_eq!(unset, Settings::default());
        }
    }

    #[test]
    fn names_follow_one_rule() {
        for key in Key::ALL {
            assert_eq!(key.flag(), format!("--{}", key.name().replace('_', "-")));
            assert_eq!(key.variable(), format!("CAPIBARA_{}", key.name().to_uppercase()));
        }
    }

    #[test]
    fn paths_of_policies_start_from_the_file_and_never_from_the_working_directory() {
        for (text, path) in [
            ("mine", "mine"),
            ("./mine.yaml", "/c/./mine.yaml"),
            ("~/p/mine.yaml", "/home/u/p/mine.yaml"),
            ("/srv/mine.yaml", "/srv/mine.yaml"),
        ] {
            assert_eq!(file(&format!("policy: {text}")).unwrap().policy_name(), path, "{text}");
        }
        let variable = |value: &'static str| {
            let mut settings = Settings::default();
            settings.read_variables(move |name| (name == "CAPIBARA_POLICY").then(|| value.into()))?;
            Ok::<_, Failure>(settings.policy_name())
        };
        assert_eq!(variable("/srv/mine.yaml").unwrap(), "/srv/mine.yaml");
        for relative in ["./mine.yaml", "policies/mine.yaml", "../x.yaml"] {
            assert!(variable(relative).unwrap_err().message.contains("working directory"), "{relative}");
        }
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        let mut settings = Settings::default();
        let text = "stats: maybe\ntiemout: 1s\nenv: A=b\ndisk: 1MiB\n";
        let found = settings.take_file(Path::new("/c/config.yaml"), text, None);
        let near = |key: &str, meant: &str| Some((key.to_owned(), meant.to_owned()));
        let places: Vec<WrongPlace> = found.into_iter().map(|wrong| wrong.place).collect();
        assert_eq!(
            places,
            [
                WrongPlace::Line(1, None),
                WrongPlace::Line(2, near("tiemout", "timeout")),
                WrongPlace::Line(3, None),
                WrongPlace::Line(4, near("disk", "max_disk")),
            ]
        );
        for (text, place) in [
            ("fuel: 1G\nfuel: 2G\n", WrongPlace::Line(2, None)),
            ("- a\n", WrongPlace::Line(1, None)),
            ("fuel: [\n- a: b\n}: {", WrongPlace::File),
        ] {
            let broken = settings.take_file(Path::new("/c/config.yaml"), text, None);
            assert!(matches!(&broken[..], [wrong] if wrong.place == place), "{broken:?}");
        }
        let given = |name: &str| (name.ends_with("_TIMEOUT") || name.ends_with("_FUEL")).then(|| "x".into());
        let found: Vec<WrongPlace> = settings.take_variables(given).into_iter().map(|wrong| wrong.place).collect();
        assert_eq!(found, [WrongPlace::Variable("CAPIBARA_FUEL"), WrongPlace::Variable("CAPIBARA_TIMEOUT")]);
    }

    #[test]
    fn what_is_wrong_says_where_and_what_to_write() {
        for (text, message, hint) in [
            ("tiemout: 1s", "/c/config.yaml:1:1: unknown key `tiemout`", "did you mean `timeout`?"),
            ("max-output: 1MiB", "/c/config.yaml:1:1: unknown key `max-output`", "did you mean `max_output`?"),
            ("wall_time: 1s", "/c/config.yaml:1:1: unknown key `wall_time`", "did you mean `timeout`?"),
            ("zzz: 1", "/c/config.yaml:1:1: unknown key `zzz`", "there are `policy`"),
            ("env: A=b", "/c/config.yaml:1:1: unknown key `env`", "said for each run, or in a policy"),
            ("limits:\n  fuel: 1", "/c/config.yaml:2:3: ", "each line is a key with one value"),
            ("\ntimeout: 5", "/c/config.yaml:2:10: `5` has no unit: write for example `5s`", "`timeout: 30s`"),
            ("memory: 0", "/c/config.yaml:1:9: `0` is zero", "`memory: 256MiB`"),
            ("stats: maybe", "/c/config.yaml:1:8: `maybe` is not true or false", "`stats: true`"),
            ("format: xml", "/c/config.yaml:1:9: `xml` is not text or json", "`format: json`"),
            ("fuel: none", "/c/config.yaml:1:7: `none` is not a count", "`fuel: 500M`"),
            ("policy: ''", "/c/config.yaml:1:9: a policy has a name", "`policy: strict`"),
        ] {
            let failure = file(text).unwrap_err();
            assert!(failure.message.starts_with(message), "{text}: {failure:?}");
            assert!(failure.hint.as_deref().is_some_and(|told| told.contains(hint)), "{text}: {failure:?}");
        }
        let both = file("tiemout: 1s\nstats: maybe\n").unwrap_err();
        assert_eq!(both.message.lines().count(), 3, "{both:?}");
    }
}
