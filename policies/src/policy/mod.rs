//! Policies and the presets that ship with the program.

mod document;
mod error;
mod flat;
mod narrowing;
pub(crate) mod resolve;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::finding::{Severity, Verdict};
use crate::units::{format_count, format_duration, format_size};
use crate::{LARGEST_SOURCE, Limits, LimitsChange};

pub(crate) use document::{LARGEST_DOCUMENT, short};
pub use document::{Pairs, read as read_document};
pub use error::{PolicyError, Problem, ProblemKind, nearest};
pub use flat::{FlatEntry, flat_document};
pub use resolve::{CEILING, Ceiling, ListedPolicy, PolicyFolders};

/// The presets, strictest first: name and data file.
pub const PRESETS: [(&str, &str); 3] = [
    ("strict", include_str!("../presets/strict.yaml")),
    ("moderate", include_str!("../presets/moderate.yaml")),
    ("permissive", include_str!("../presets/permissive.yaml")),
];

/// The name of the preset that is used where none is named.
pub const DEFAULT_POLICY: &str = "moderate";

/// Rules about sources nobody can judge. No policy changes what they lead to: such a source does not run, unless nothing
/// is scanned at all.
pub(crate) const FIXED_RULES: [&str; 2] = ["unreadable-source", "unknown-language"];

macro_rules! settings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $flag:literal;)*) => {
        /// Something of a policy that a command-line flag can change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[non_exhaustive]
        pub enum Setting {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Setting {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The permanent name, as it stands in a policy.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The flag that changes it.
            #[must_use]
            pub fn flag(self) -> &'static str {
                match self {
                    $(Self::$variant => $flag,)*
                }
            }
        }
    };
}

settings! {
    /// [`Limits::fuel`].
    Fuel = "fuel", "--fuel";
    /// [`Limits::wall_time`].
    WallTime = "wall_time", "--timeout";
    /// [`Limits::memory`].
    Memory = "memory", "--memory";
    /// [`Limits::output`].
    Output = "output", "--max-output";
    /// [`Limits::bytes_written`].
    BytesWritten = "bytes_written", "--max-disk";
    /// Files and folders to read.
    Read = "read", "--read";
    /// Files and folders to write.
    Write = "write", "--write";
    /// Files and folders to write over in a private layer, and what becomes of the layer.
    Overlay = "overlay", "--overlay";
    /// Environment variables.
    Env = "env", "--env";
    /// The language of a script that does not show it.
    Language = "language", "--language";
    /// Programs of the user's that a script may call.
    Tool = "tool", "--tool";
}

/// Which limits flags may raise and what they may grant. Lowering a limit is always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overridable(BTreeSet<Setting>);

impl Overridable {
    /// Flags may set every limit and grant everything. Written `all`.
    #[must_use]
    pub fn all() -> Self {
        Self::of(Setting::ALL.iter().copied())
    }

    /// Flags may only lower limits. Written `none`.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Flags may set these.
    #[must_use]
    pub fn of(settings: impl IntoIterator<Item = Setting>) -> Self {
        Self(settings.into_iter().collect())
    }

    /// Whether flags may set it.
    #[must_use]
    pub fn allows(&self, setting: Setting) -> bool {
        self.0.contains(&setting)
    }

    /// Whether flags may set nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether flags may set everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.len() == Setting::ALL.len()
    }

    /// What flags may set, in order.
    pub fn settings(&self) -> impl Iterator<Item = Setting> + '_ {
        self.0.iter().copied()
    }

    fn covers(&self, other: &Self) -> bool {
        other.0.is_subset(&self.0)
    }
}

impl fmt::Display for Overridable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            f.write_str("all")
        } else if self.is_none() {
            f.write_str("none")
        } else {
            let names: Vec<&str> = self.settings().map(Setting::name).collect();
            write!(f, "[{}]", names.join(", "))
        }
    }
}

/// What happens when a run cannot be recorded in the audit log. The later, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audit {
    /// It runs all the same, and the user is told.
    Wanted,
    /// It does not run.
    Required,
}

impl Audit {
    /// The permanent name: `wanted`, `required`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Required => "required",
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is made of the scan. The later, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScanMode {
    /// Nothing is scanned; sources are still decoded.
    Off,
    /// Findings are told and never deny; only a source that cannot be read or whose language is unknown is denied.
    Warn,
    /// Findings have the effects the policy gives them.
    Enforce,
}

impl ScanMode {
    /// The permanent name: `off`, `warn`, `enforce`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for ScanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What findings of each severity lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// What a finding of severity `error` leads to.
    pub error: Verdict,
    /// What a finding of severity `warning` leads to.
    pub warning: Verdict,
    /// What a finding of severity `unprovable` leads to.
    pub unprovable: Verdict,
}

impl Effects {
    /// What a finding of that severity leads to.
    #[must_use]
    pub fn of(&self, severity: Severity) -> Verdict {
        match severity {
            Severity::Error => self.error,
            Severity::Warning => self.warning,
            Severity::Unprovable => self.unprovable,
        }
    }
}

/// The severity a policy gives a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleSeverity {
    /// The rule reports nothing.
    Off,
    /// [`Severity::Unprovable`].
    Unprovable,
    /// [`Severity::Warning`].
    Warning,
    /// [`Severity::Error`].
    Error,
}

impl RuleSeverity {
    /// The severity; `None` if the rule is off.
    #[must_use]
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Off => None,
            Self::Unprovable => Some(Severity::Unprovable),
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
        }
    }

    /// The permanent name: `off` or that of the severity.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.severity().map_or("off", Severity::name)
    }
}

impl From<Severity> for RuleSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
            Severity::Unprovable => Self::Unprovable,
        }
    }
}

/// What a policy says about one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSetting {
    /// Another severity than the rule's own.
    pub severity: Option<RuleSeverity>,
    /// Findings that pass.
    pub allow: Vec<Allow>,
}

/// An entry of an allow list: findings of its rule that pass, and why. It has a path, a text or an expression, or
/// several of them, which must then all fit.
#[derive(Clone, Debug)]
pub struct Allow {
    path: Option<globset::GlobMatcher>,
    text: Option<String>,
    regex: Option<regex::Regex>,
    reason: String,
    expires: Option<jiff::civil::Date>,
}

impl Allow {
    /// The glob that the path of the file fits, as a whole: `*` stays within one folder, `**` does not.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_ref().map(|path| path.glob().glob())
    }

    /// The text that the line contains (`match`).
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The regular expression that fits somewhere in the line.
    #[must_use]
    pub fn regex(&self) -> Option<&str> {
        self.regex.as_ref().map(regex::Regex::as_str)
    }

    /// Why such a finding passes.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The last day (UTC) on which the entry counts; `None` for ever.
    #[must_use]
    pub fn expires(&self) -> Option<String> {
        self.expires.map(|date| date.to_string())
    }

    fn fits(&self, path: &str, line: &str) -> bool {
        let path = path.strip_prefix("./").unwrap_or(path);
        self.path.as_ref().is_none_or(|glob| glob.is_match(path))
            && self.text.as_deref().is_none_or(|text| line.contains(text))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(line))
    }

    /// Whether everything `other` lets pass passes here, too, as far as that can be told without running patterns.
    fn covers(&self, other: &Self) -> bool {
        let lasts = match (self.expires, other.expires) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => theirs <= ours,
        };
        lasts && (self.path(), self.text(), self.regex()) == (other.path(), other.text(), other.regex())
    }
}

impl PartialEq for Allow {
    fn eq(&self, other: &Self) -> bool {
        let key =
            |allow: &Self| (allow.path().map(str::to_owned), allow.text.clone(), allow.regex().map(str::to_owned));
        key(self) == key(other) && self.reason == other.reason && self.expires == other.expires
    }
}

impl Eq for Allow {}

/// An entry of an allow list whose day has passed. It does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The rule.
    pub rule: String,
    /// The reason the entry gave.
    pub reason: String,
    /// The last day on which it counted: `2026-12-31`.
    pub expires: String,
}

/// Bounds of what is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// The largest source, in bytes; a larger one is a finding (`oversized-source`). Default 1 MiB.
    pub source_bytes: u64,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self { source_bytes: LARGEST_SOURCE }
    }
}

/// What a policy grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Files and folders the script may read.
    pub read: Vec<FileGrant>,
    /// Files and folders the script may read and write.
    pub write: Vec<FileGrant>,
    /// Files and folders the script may read, and change in a private layer: on the host only if its caller says so when it
    /// has ended.
    pub overlay: Vec<FileGrant>,
    /// Environment variables of the script.
    pub env: BTreeMap<String, String>,
}

/// What a grant of files allows: each allows all that those before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileAccess {
    Read,
    /// Reading, and writing that the caller may make come true.
    Overlay,
    Write,
}

impl FileAccess {
    pub(crate) const ALL: [Self; 3] = [Self::Read, Self::Overlay, Self::Write];

    pub(crate) fn setting(self) -> Setting {
        match self {
            Self::Read => Setting::Read,
            Self::Overlay => Setting::Overlay,
            Self::Write => Setting::Write,
        }
    }

    /// The key of a policy, which is the name of the setting.
    pub(crate) fn key(self) -> &'static str {
        self.setting().name()
    }
}

impl Grants {
    pub(crate) fn files(&self, access: FileAccess) -> &Vec<FileGrant> {
        match access {
            FileAccess::Read => &self.read,
            FileAccess::Overlay => &self.overlay,
            FileAccess::Write => &self.write,
        }
    }

    pub(crate) fn files_mut(&mut self, access: FileAccess) -> &mut Vec<FileGrant> {
        match access {
            FileAccess::Read => &mut self.read,
            FileAccess::Overlay => &mut self.overlay,
            FileAccess::Write => &mut self.write,
        }
    }

    /// All files and folders, with what is allowed there.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = (FileAccess, &FileGrant)> {
        FileAccess::ALL.into_iter().flat_map(|access| self.files(access).iter().map(move |grant| (access, grant)))
    }
}

/// A file or folder of the host, with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileGrant {
    /// On the host; from a policy file always absolute.
    pub host: PathBuf,
    /// Where the script sees it: an absolute path. From a policy file always given; otherwise `None` is `/` and the last
    /// name of `host`.
    pub guest: Option<String>,
}

impl FileGrant {
    /// Where the script sees it, if that can be told without asking the host.
    #[must_use]
    pub fn guest_path(&self) -> Option<String> {
        let named = || Some(format!("/{}", self.host.file_name()?.to_str()?));
        self.guest.clone().or_else(named)
    }
}

/// What a run may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name of the preset or file.
    pub name: String,
    /// What it is for, in a line or two; empty if it does not say.
    pub description: String,
    /// Which limits flags may raise and what they may grant.
    pub overridable: Overridable,
    /// Whether a run may use real clocks, real sleeps and system randomness (`--live`).
    pub live: bool,
    /// What happens when the run cannot be recorded in the audit log. No flag changes it.
    pub audit: Audit,
    /// What is made of the scan.
    pub scan: ScanMode,
    /// What findings lead to.
    pub findings: Effects,
    /// Settings of single rules, by id.
    pub rules: BTreeMap<String, RuleSetting>,
    /// Bounds of what is scanned.
    pub scan_limits: ScanLimits,
    /// The bounds of a run.
    pub limits: Limits,
    /// What a run is given.
    pub grants: Grants,
    /// Entries of allow lists whose day has passed.
    pub expired: Vec<Expired>,
    /// What flags cannot pass either.
    pub(crate) ceiling: Option<Box<Ceiling>>,
}

impl Default for Policy {
    /// The preset `moderate`. Most runs are under it, so its document is not read for it; a test compares the two.
    fn default() -> Self {
        Self {
            name: DEFAULT_POLICY.into(),
            description: "The default: an ordinary script runs, a runaway one is stopped within half a minute.".into(),
            overridable: Overridable::all(),
            live: true,
            audit: Audit::Wanted,
            scan: ScanMode::Enforce,
            findings: Effects { error: Verdict::Deny, warning: Verdict::Warn, unprovable: Verdict::Warn },
            rules: BTreeMap::new(),
            scan_limits: ScanLimits::default(),
            limits: Limits::default(),
            grants: Grants::default(),
            expired: Vec::new(),
            ceiling: None,
        }
    }
}

impl Policy {
    /// The preset of that name.
    ///
    /// # Errors
    /// [`PolicyError::UnknownName`].
    pub fn preset(name: &str) -> Result<Self, PolicyError> {
        if name == DEFAULT_POLICY {
            return Ok(Self::default());
        }
        let Some((_, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) else {
            let nearest = error::nearest(name, PRESETS.iter().map(|(name, _)| *name)).map(str::to_owned);
            return Err(PolicyError::UnknownName { name: name.into(), nearest, folder: None });
        };
        Self::parse(name, text)
    }

    /// Reads a policy document (YAML) that comes from no file: what it extends can only be a preset, and the host side
    /// of its grants must be absolute. `name` is that of the policy where the document has none.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`], with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        resolve::parse(name, text)
    }

    /// Applies what a caller asks for.
    ///
    /// # Errors
    /// [`PolicyError::Widens`] if `change` would raise a limit that the policy does not let flags raise, and
    /// [`PolicyError::AboveCeiling`] if it would pass the administrator's ceiling. Nothing is changed then.
    pub fn apply(&mut self, change: &LimitsChange) -> Result<(), PolicyError> {
        let limits = &self.limits;
        let raised = [
            (Setting::Fuel, wider(limits.fuel, change.fuel, format_count)),
            (Setting::WallTime, wider(Some(limits.wall_time), change.wall_time, format_duration)),
            (Setting::Memory, wider(Some(limits.memory), change.memory, format_size)),
            (Setting::Output, wider(Some(limits.output), change.output, format_size)),
            (Setting::BytesWritten, wider(Some(limits.bytes_written), change.bytes_written, format_size)),
        ];
        for (setting, wider) in raised {
            if let Some((allowed, asked)) = wider
                && !self.overridable.allows(setting)
            {
                return Err(PolicyError::Widens { policy: self.name.clone(), limit: setting.name(), allowed, asked });
            }
        }
        if let Some(ceiling) = &self.ceiling {
            ceiling.check_change(change)?;
        }
        let limits = &mut self.limits;
        limits.fuel = change.fuel.or(limits.fuel);
        limits.wall_time = change.wall_time.unwrap_or(limits.wall_time);
        limits.memory = change.memory.unwrap_or(limits.memory);
        limits.output = change.output.unwrap_or(limits.output);
        limits.bytes_written = change.bytes_written.unwrap_or(limits.bytes_written);
        Ok(())
    }

    /// Applies what a user's configuration asks for where a caller asks for nothing.
    ///
    /// It is made once for all policies, so what is more than this one lets flags set is left as the policy has it, and
    /// what is above the administrator's ceiling is lowered to that. Gives back what was applied.
    pub fn apply_defaults(&mut self, change: &LimitsChange) -> LimitsChange {
        fn allowed<T: PartialOrd>(may_raise: bool, own: Option<T>, asked: Option<T>) -> Option<T> {
            asked.filter(|asked| may_raise || own.is_none_or(|own| *asked <= own))
        }
        let limits = &self.limits;
        let may = |setting| self.overridable.allows(setting);
        let narrowed = LimitsChange {
            fuel: allowed(may(Setting::Fuel), limits.fuel, change.fuel),
            wall_time: allowed(may(Setting::WallTime), Some(limits.wall_time), change.wall_time),
            memory: allowed(may(Setting::Memory), Some(limits.memory), change.memory),
            output: allowed(may(Setting::Output), Some(limits.output), change.output),
            bytes_written: allowed(may(Setting::BytesWritten), Some(limits.bytes_written), change.bytes_written),
        };
        let change = self.ceiling.as_ref().map_or(narrowed.clone(), |ceiling| ceiling.lower_change(&narrowed));
        let applied = self.apply(&change);
        debug_assert!(applied.is_ok(), "it is within policy and ceiling: {applied:?}");
        change
    }

    /// Whether a flag may grant something: a file, a folder, a variable.
    ///
    /// # Errors
    /// [`PolicyError::RefusesGrant`] if the policy does not let flags grant it.
    pub fn check_grant(&self, flag: &'static str) -> Result<(), PolicyError> {
        let setting = Setting::ALL.iter().find(|setting| setting.flag() == flag);
        if setting.map_or(self.overridable.is_all(), |setting| self.overridable.allows(*setting)) {
            return Ok(());
        }
        let what = setting.filter(|_| !self.overridable.is_none()).map_or("anything", |setting| match setting {
            Setting::Read => "reading of files",
            Setting::Write => "writing of files",
            Setting::Overlay => "overlays of files",
            Setting::Env => "environment variables",
            Setting::Language => "a language",
            Setting::Tool => "tools",
            other => other.name(),
        });
        Err(PolicyError::RefusesGrant { policy: self.name.clone(), flag, what })
    }

    /// Adds files or folders that a flag grants, after [`check_grant`](Self::check_grant).
    ///
    /// # Errors
    /// [`PolicyError::RefusesGrant`], or [`PolicyError::AboveCeiling`] if the administrator's ceiling does not allow it.
    pub fn grant_files(&mut self, grants: Vec<FileGrant>, write: bool) -> Result<(), PolicyError> {
        self.grant_by(grants, if write { FileAccess::Write } else { FileAccess::Read })
    }

    /// As [`grant_files`](Self::grant_files), for files or folders that are changed in a private layer.
    ///
    /// # Errors
    /// As [`grant_files`](Self::grant_files).
    pub fn grant_overlays(&mut self, grants: Vec<FileGrant>) -> Result<(), PolicyError> {
        self.grant_by(grants, FileAccess::Overlay)
    }

    /// Whether a flag may make the changes below overlays on the host.
    ///
    /// # Errors
    /// [`PolicyError::RefusesGrant`] if the policy does not let flags grant overlays.
    pub fn check_apply(&self) -> Result<(), PolicyError> {
        self.check_grant(Setting::Overlay.flag()).map_err(|error| match error {
            PolicyError::RefusesGrant { policy, what, .. } => {
                PolicyError::RefusesGrant { policy, flag: "--apply", what }
            }
            other => other,
        })
    }

    fn grant_by(&mut self, grants: Vec<FileGrant>, access: FileAccess) -> Result<(), PolicyError> {
        if grants.is_empty() {
            return Ok(());
        }
        self.check_grant(access.setting().flag())?;
        if let Some(ceiling) = &self.ceiling {
            ceiling.check_files(&grants, access)?;
        }
        self.grants.files_mut(access).extend(grants);
        Ok(())
    }

    /// Adds environment variables that a flag grants; one that the policy sets already gets the new value.
    ///
    /// # Errors
    /// [`PolicyError::RefusesGrant`].
    pub fn grant_env(&mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<(), PolicyError> {
        for (name, value) in variables {
            self.check_grant(Setting::Env.flag())?;
            self.grants.env.insert(name, value);
        }
        Ok(())
    }

    /// Whether a path of the script lies in what is granted, for writing if `write`. A path that is not absolute is
    /// taken from the working directory, `/home/script`; `.` and `..` are followed by name alone. Folders that every
    /// script has in memory (`/tmp`, its working directory) are not granted and not looked at.
    #[must_use]
    pub fn grants_path(&self, guest_path: &str, write: bool) -> bool {
        narrowing::grants_path(&self.grants, guest_path, write)
    }

    /// The severity a rule has under this policy, given its own; `None` if the rule is off.
    #[must_use]
    pub fn severity(&self, rule: &str, own: Severity) -> Option<Severity> {
        match self.scan {
            ScanMode::Off => None,
            ScanMode::Enforce | ScanMode::Warn => match self.rules.get(rule).and_then(|setting| setting.severity) {
                Some(severity) if !FIXED_RULES.contains(&rule) => severity.severity(),
                _ => Some(own),
            },
        }
    }

    /// What a finding of that rule and severity leads to.
    #[must_use]
    pub fn effect(&self, rule: &str, severity: Severity) -> Verdict {
        if FIXED_RULES.contains(&rule) {
            return Verdict::Deny;
        }
        let effect = self.findings.of(severity);
        match self.scan {
            ScanMode::Enforce => effect,
            ScanMode::Warn | ScanMode::Off => effect.min(Verdict::Warn),
        }
    }

    /// What a finding of that rule, of its own severity, leads to, if no allow list lets it pass.
    #[must_use]
    pub fn decision(&self, rule: &str, own: Severity) -> Verdict {
        self.severity(rule, own).map_or(Verdict::Allow, |severity| self.effect(rule, severity))
    }

    /// The reason of the allow list entry that lets a finding of that rule pass, in the file `path`, on a line of this
    /// text.
    #[must_use]
    pub fn allowed(&self, rule: &str, path: &str, line: &str) -> Option<&str> {
        if FIXED_RULES.contains(&rule) {
            return None;
        }
        let entries = &self.rules.get(rule)?.allow;
        entries.iter().find(|entry| entry.fits(path, line)).map(Allow::reason)
    }

    /// Whether a live run is allowed.
    ///
    /// # Errors
    /// [`PolicyError::RefusesLive`].
    pub fn check_live(&self) -> Result<(), PolicyError> {
        if self.live { Ok(()) } else { Err(PolicyError::RefusesLive { policy: self.name.clone() }) }
    }
}

/// What is allowed and what is asked for, if that is more. A limit that is `None` bounds nothing.
fn wider<T: PartialOrd + Copy>(
    allowed: Option<T>,
    asked: Option<T>,
    format: fn(T) -> String,
) -> Option<(String, String)> {
    let (allowed, asked) = (allowed?, asked?);
    (asked > allowed).then(|| (format(allowed), format(asked)))
}

#[cfg(test)]
mod tests;
