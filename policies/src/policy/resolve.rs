//! Where policies come from, and what they come to together: presets, files, what they extend, the ceiling.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde_saphyr::Spanned;

use super::document::{self, Document, GrantsSection, Mount, Pairs, Place, RuleSection, Words, listed};
use super::error::nearest;
use super::narrowing::{self, excess_files, milder_rules, milder_severities, names};
use super::{
    Allow, Audit, Effects, Expired, FIXED_RULES, FileAccess, FileGrant, LARGEST_DOCUMENT, Overridable, PRESETS, Policy,
    PolicyError, Problem, ProblemKind, RuleSetting, ScanLimits, ScanMode, Setting, short,
};
use crate::finding::{Severity, Verdict};
use crate::units::{format_count, format_duration, format_size};
use crate::{Limits, LimitsChange, rules};

/// The administrator's ceiling. No option and no variable names another file.
pub const CEILING: &str = "/etc/capibara/ceiling.yaml";

/// Most steps from a policy to what it extends.
const MOST_STEPS: usize = 4;
/// Most entries in all allow lists of a document.
const MOST_ALLOWED: usize = 200;
/// Most regular expressions among them: compiling one takes some milliseconds at most.
const MOST_REGEXES: usize = 40;
/// Most bytes of a pattern of an allow list.
const LONGEST_PATTERN: usize = 500;
/// Most bytes a regular expression of an allow list may take when it is compiled.
const LARGEST_REGEX: usize = 256 << 10;
/// Most files and folders a policy may grant.
const MOST_GRANTS: usize = 64;

pub(super) const WIDEN_HINT: &str = "say `widen: true` in this file if that is meant";
const WIDEN_COUNTS_HINT: &str = "`widen` counts only in the file that is named on the command line";

/// The files policies are read from.
trait Files {
    fn read(&self, path: &Path) -> Result<String, String>;

    /// The path without links, as far as it exists.
    fn real(&self, path: &Path) -> PathBuf;
}

/// Those of this machine.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<String, String> {
        read_file(path).map_err(|error| error.to_string())
    }

    fn real(&self, path: &Path) -> PathBuf {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        for above in path.ancestors() {
            if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
                return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
            }
        }
        path
    }
}

pub(super) fn read_file(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_DOCUMENT {
        let message = format!("it is larger than {}", format_size(LARGEST_DOCUMENT));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// None: a document that comes from no file.
struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> Result<String, String> {
        Err("a policy that comes from no file extends only presets".into())
    }

    fn real(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }
}

/// What is needed to make a policy of a document.
struct Context<'a> {
    files: &'a dyn Files,
    /// What a leading `~/` of a grant stands for.
    home: Option<&'a Path>,
    today: jiff::civil::Date,
}

/// A document that was found.
struct Found<'a> {
    /// As it is called in what is said about it.
    shown: String,
    /// The name where the document has none.
    name: String,
    text: &'a str,
    /// The folder that relative paths in it start from.
    folder: Option<PathBuf>,
    /// Whether it is one of ours.
    preset: bool,
    /// Whether the caller named it.
    called: bool,
}

fn today() -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date()
}

/// Reads a document that comes from no file.
pub(super) fn parse(name: &str, text: &str) -> Result<Policy, PolicyError> {
    let preset = PRESETS.iter().any(|(preset, _)| *preset == name);
    let found = Found { shown: name.into(), name: name.into(), text, folder: None, preset, called: true };
    Context { files: &NoFiles, home: None, today: today() }.named(found)
}

impl Context<'_> {
    fn named(&self, found: Found<'_>) -> Result<Policy, PolicyError> {
        let name = found.name.clone();
        self.policy(found, &mut Vec::new()).map_err(|mut problems| {
            problems.sort_by_key(|problem| (problem.line, problem.column));
            PolicyError::Invalid { name, problems }
        })
    }

    /// The policy of a document with all it extends. `above` are the files that led here.
    fn policy(&self, found: Found<'_>, above: &mut Vec<PathBuf>) -> Result<Policy, Vec<Problem>> {
        let document: Document = document::read(&found.shown, found.text).map_err(|problem| vec![problem])?;
        let parent = match &document.extends {
            None => None,
            Some(extends) => Some(self.parent(&found, extends, above)?),
        };
        let mut reader = Reader { context: self, found: &found, problems: Vec::new() };
        let policy = reader.policy(&document, parent.as_ref());
        match policy {
            Some(policy) if reader.problems.is_empty() => Ok(policy),
            _ => Err(reader.problems),
        }
    }

    fn parent(
        &self,
        found: &Found<'_>,
        extends: &Spanned<String>,
        above: &mut Vec<PathBuf>,
    ) -> Result<Policy, Vec<Problem>> {
        let place = Place::from(extends);
        let wrong = |message: String, hint: Option<String>| {
            let (file, kind) = (found.shown.clone(), ProblemKind::Extends);
            vec![Problem { kind, file, line: place.line, column: place.column, message, hint }]
        };
        let what = extends.value.as_str();
        if above.len() >= MOST_STEPS {
            return Err(wrong(format!("this is more than {MOST_STEPS} steps of `extends` deep"), None));
        }
        if !what.contains('/') {
            let Some((name, text)) = PRESETS.iter().find(|(name, _)| *name == what) else {
                let hint = match nearest(what, PRESETS.iter().map(|(name, _)| *name)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "a policy extends strict, moderate, permissive or a file: `./base.yaml`".into(),
                };
                return Err(wrong(format!("there is no preset named `{}`", short(what)), Some(hint)));
            };
            let (shown, name) = ((*name).to_owned(), (*name).to_owned());
            let preset = Found { shown, name, text, folder: None, preset: true, called: false };
            return self.policy(preset, above);
        }
        if what.contains("://") {
            return Err(wrong("policies are not fetched from a URL".into(), Some("save it as a file".into())));
        }
        let path = found.folder.as_deref().map_or_else(|| PathBuf::from(what), |folder| folder.join(what));
        let path: PathBuf = path.components().collect();
        let real = self.files.real(&path);
        if above.contains(&real) || found.folder.is_some() && self.files.real(Path::new(&found.shown)) == real {
            return Err(wrong(format!("`{}` comes to extend itself", short(what)), None));
        }
        let text =
            self.files.read(&path).map_err(|why| wrong(format!("`{}` cannot be read: {why}", short(what)), None))?;
        above.push(real);
        let parent = self.policy(file(&path, &text, false), above);
        above.pop();
        parent
    }
}

fn file<'a>(path: &Path, text: &'a str, called: bool) -> Found<'a> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Found {
        shown: path.display().to_string(),
        name: stem.filter(|stem| !stem.is_empty()).unwrap_or_else(|| "unnamed".into()),
        text,
        folder: Some(path.parent().map(Path::to_path_buf).unwrap_or_default()),
        preset: false,
        called,
    }
}

/// Makes a policy of one document and what it extends, and collects what is wrong.
struct Reader<'a> {
    context: &'a Context<'a>,
    found: &'a Found<'a>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, kind: ProblemKind, place: Place, message: String, hint: Option<String>) {
        let file = self.found.shown.clone();
        self.problems.push(Problem { kind, file, line: place.line, column: place.column, message, hint });
    }

    fn invalid(&mut self, place: impl Into<Place>, message: impl Into<String>) {
        self.problem(ProblemKind::InvalidValue, place.into(), message.into(), None);
    }

    fn widens(&mut self, place: Place, message: String) {
        let hint = if self.found.called { WIDEN_HINT } else { WIDEN_COUNTS_HINT };
        self.problem(ProblemKind::Widens, place, message, Some(hint.into()));
    }

    fn policy(&mut self, document: &Document, parent: Option<&Policy>) -> Option<Policy> {
        self.unavailable(document.grants.as_ref());
        let name = self.name(document);
        let mut policy = match parent {
            Some(parent) => Policy { name, description: String::new(), ..parent.clone() },
            None => {
                self.complete(document);
                Policy { name, ..widest() }
            }
        };
        if let Some(text) = &document.description {
            self.text(text, &text.value, 1_000, "description");
            text.value.trim().clone_into(&mut policy.description);
        }
        if let Some(words) = &document.overridable {
            policy.overridable = self.overridable(words);
        }
        set(&mut policy.live, document.live.as_ref(), |live| *live);
        set(&mut policy.audit, document.audit.as_ref(), |audit| *audit);
        set(&mut policy.scan, document.scan.as_ref(), |scan| *scan);
        if let Some(findings) = &document.findings {
            set(&mut policy.findings.error, findings.error.as_ref(), |effect| *effect);
            set(&mut policy.findings.warning, findings.warning.as_ref(), |effect| *effect);
            set(&mut policy.findings.unprovable, findings.unprovable.as_ref(), |effect| *effect);
        }
        if let Some(limits) = &document.scan_limits {
            set(&mut policy.scan_limits.source_bytes, limits.source_bytes.as_ref(), |size| size.0);
        }
        if let Some(limits) = &document.limits {
            set(&mut policy.limits.fuel, limits.fuel.as_ref(), |count| count.0);
            set(&mut policy.limits.wall_time, limits.wall_time.as_ref(), |time| time.0);
            set(&mut policy.limits.memory, limits.memory.as_ref(), |size| size.0);
            set(&mut policy.limits.output, limits.output.as_ref(), |size| size.0);
            set(&mut policy.limits.bytes_written, limits.bytes_written.as_ref(), |size| size.0);
            set(&mut policy.limits.files, limits.files.as_ref(), |count| *count);
            set(&mut policy.limits.descriptors, limits.descriptors.as_ref(), |count| *count);
        }
        if let Some(rules) = &document.rules {
            self.rules(rules, &mut policy);
        }
        if let Some(grants) = &document.grants {
            self.grants(grants, &mut policy);
        }
        let widen = document.widen.as_ref().is_some_and(|widen| widen.value);
        if let Some(parent) = parent
            && !(widen && self.found.called)
        {
            self.narrower(document, parent, &policy);
        }
        Some(policy)
    }

    fn name(&mut self, document: &Document) -> String {
        let Some(name) = &document.name else { return self.found.name.clone() };
        let text = name.value.as_str();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.len() > 64 || text.starts_with(['.', '-']) || !text.chars().all(allowed) {
            self.invalid(name, "a name is made of at most 64 letters, digits, `-`, `_` and `.`");
        } else if !self.found.preset && PRESETS.iter().any(|(preset, _)| *preset == text) {
            self.invalid(name, format!("`{text}` is the name of a preset"));
        }
        text.to_owned()
    }

    fn overridable(&mut self, words: &Spanned<Words>) -> Overridable {
        let mut unknown = |place: Place, word: &str, known: &[&str]| {
            let hint = match nearest(word, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there are {}", listed(known)),
            };
            let message = format!("`{}` is not a value of this key", short(word));
            self.problem(ProblemKind::InvalidValue, place, message, Some(hint));
        };
        match &words.value {
            Words::One(word) if word == "all" => Overridable::all(),
            Words::One(word) if word == "none" => Overridable::none(),
            Words::One(word) => {
                unknown(words.into(), word, &["all", "none"]);
                Overridable::none()
            }
            Words::List(list) => {
                let names: Vec<&str> = Setting::ALL.iter().map(|setting| setting.name()).collect();
                Overridable::of(list.iter().filter_map(|word| {
                    let setting = Setting::ALL.iter().copied().find(|setting| setting.name() == word.value);
                    if setting.is_none() {
                        unknown(word.into(), &word.value, &names);
                    }
                    setting
                }))
            }
        }
    }

    /// A text for people: no control characters, and not endless.
    fn text(&mut self, place: impl Into<Place>, text: &str, most: usize, what: &str) {
        if text.len() > most {
            self.invalid(place, format!("`{what}` is longer than {most} bytes"));
        } else if text.trim_end().contains(|c: char| c.is_control() && c != '\n') {
            self.invalid(place, format!("`{what}` contains a control character"));
        }
    }

    /// A document that extends nothing says everything.
    fn complete(&mut self, document: &Document) {
        let (findings, limits) = (document.findings.as_ref(), document.limits.as_ref());
        let missing: Vec<&str> = [
            ("overridable", document.overridable.is_none()),
            ("live", document.live.is_none()),
            ("audit", document.audit.is_none()),
            ("scan", document.scan.is_none()),
            ("findings.error", findings.is_none_or(|findings| findings.error.is_none())),
            ("findings.warning", findings.is_none_or(|findings| findings.warning.is_none())),
            ("findings.unprovable", findings.is_none_or(|findings| findings.unprovable.is_none())),
            ("limits.fuel", limits.is_none_or(|limits| limits.fuel.is_none())),
            ("limits.wall_time", limits.is_none_or(|limits| limits.wall_time.is_none())),
            ("limits.memory", limits.is_none_or(|limits| limits.memory.is_none())),
            ("limits.output", limits.is_none_or(|limits| limits.output.is_none())),
            ("limits.bytes_written", limits.is_none_or(|limits| limits.bytes_written.is_none())),
            ("limits.files", limits.is_none_or(|limits| limits.files.is_none())),
            ("limits.descriptors", limits.is_none_or(|limits| limits.descriptors.is_none())),
        ]
        .into_iter()
        .filter_map(|(key, missing)| missing.then_some(key))
        .collect();
        if !missing.is_empty() {
            let message = format!("{} missing, and the policy extends no other", listed_missing(&missing));
            let hint = Some("begin with `extends: moderate`, and say only what is different".into());
            self.problem(ProblemKind::MissingKey, Place { line: 1, column: 1 }, message, hint);
        }
    }

    /// Grants that this version cannot give.
    fn unavailable(&mut self, grants: Option<&GrantsSection>) {
        let Some(grants) = grants else { return };
        let first = |list: &Option<Vec<Spanned<String>>>| list.as_ref().and_then(|list| list.first().map(Place::from));
        let pair = |pairs: &Option<Pairs<String>>| pairs.as_ref().and_then(|p| p.0.first().map(|(key, _)| key.into()));
        let wanted: [(&str, Option<Place>, &str); 4] = [
            ("net", first(&grants.net), "this version gives no run a network"),
            (
                "secrets",
                pair(&grants.secrets),
                "secrets go with requests to the network, which this version does not give",
            ),
            ("packages", first(&grants.packages), "this version has the standard library alone"),
            ("tools", pair(&grants.tools), "this version starts no programs for a script"),
        ];
        for (grant, place, why) in wanted {
            if let Some(place) = place {
                let message = format!("granting `{grant}` is not available: {why}");
                let hint = Some(format!("leave `{grant}` out"));
                self.problem(ProblemKind::Unavailable, place, message, hint);
            }
        }
    }

    fn rules(&mut self, rules: &Pairs<RuleSection>, policy: &mut Policy) {
        let (mut entries, mut regexes) = (0, 0);
        for (id, section) in &rules.0 {
            let name = id.value.as_str();
            // Rules of one's own come from files the policy does not know.
            if rules::rule(name).is_none() && !name.starts_with("x-") {
                let hint = match nearest(name, rules::RULES.iter().map(|rule| rule.id)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "`capibara scan --explain RULE` tells of a rule".into(),
                };
                self.problem(
                    ProblemKind::UnknownRule,
                    id.into(),
                    format!("there is no rule `{}`", short(name)),
                    Some(hint),
                );
                continue;
            }
            if FIXED_RULES.contains(&name) {
                let message = format!("`{name}` cannot be set: a source nobody can judge does not run");
                self.problem(ProblemKind::FixedRule, id.into(), message, None);
                continue;
            }
            let mut setting = policy.rules.remove(name).unwrap_or_default();
            if let Some(severity) = &section.severity {
                setting.severity = Some(severity.value);
            }
            if let Some(list) = &section.allow {
                policy.expired.retain(|expired| expired.rule != name);
                setting.allow.clear();
                entries += list.len();
                regexes += list.iter().filter(|entry| entry.value.regex.is_some()).count();
                if entries > MOST_ALLOWED || regexes > MOST_REGEXES {
                    let most =
                        format!("more than {MOST_ALLOWED} entries in allow lists, or {MOST_REGEXES} with a `regex`");
                    self.invalid(id, format!("there are {most}"));
                    return;
                }
                for entry in list {
                    let Some(allow) = self.allow(entry) else { continue };
                    match allow.expires {
                        Some(date) if date < self.context.today => policy.expired.push(Expired {
                            rule: name.to_owned(),
                            reason: allow.reason,
                            expires: date.to_string(),
                        }),
                        Some(_) | None => setting.allow.push(allow),
                    }
                }
            }
            if setting != RuleSetting::default() {
                policy.rules.insert(name.to_owned(), setting);
            }
        }
    }

    fn allow(&mut self, entry: &Spanned<document::AllowSection>) -> Option<Allow> {
        let before = self.problems.len();
        let place = Place::from(entry);
        let entry = &entry.value;
        let mut missing = |what: &str, hint: &str| {
            self.problem(ProblemKind::MissingKey, place, what.into(), Some(hint.into()));
        };
        if entry.reason.as_ref().is_none_or(|reason| reason.value.trim().is_empty()) {
            missing("an entry of an allow list has no `reason`", "say why such a finding passes");
        }
        if entry.path.is_none() && entry.r#match.is_none() && entry.regex.is_none() {
            missing(
                "an entry of an allow list has none of `path`, `match` and `regex`",
                "to stop a rule altogether, say `severity: off`",
            );
        }
        let reason = entry.reason.as_ref().map(|reason| {
            self.text(reason, &reason.value, 500, "reason");
            reason.value.trim().to_owned()
        });
        for (key, value) in [("path", &entry.path), ("match", &entry.r#match), ("regex", &entry.regex)] {
            if let Some(value) = value {
                if value.value.is_empty() {
                    self.invalid(value, format!("`{key}` is empty, so it would fit everything"));
                } else if value.value.len() > LONGEST_PATTERN {
                    self.invalid(value, format!("`{key}` is longer than {LONGEST_PATTERN} bytes"));
                }
            }
        }
        if self.problems.len() > before {
            return None;
        }
        let path = entry.path.as_ref().and_then(|path| {
            let glob = path.value.strip_prefix("./").unwrap_or(&path.value);
            let built = globset::GlobBuilder::new(glob).literal_separator(true).build();
            built.map_err(|error| self.invalid(path, format!("`path` is not a glob: {}", error.kind()))).ok()
        });
        let regex = entry.regex.as_ref().and_then(|regex| {
            let built = regex::RegexBuilder::new(&regex.value).size_limit(LARGEST_REGEX).nest_limit(50).build();
            let why = |error: regex::Error| match error {
                regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                other => {
                    other.to_string().lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
                }
            };
            built.map_err(|error| self.invalid(regex, format!("`regex` cannot be used: {}", why(error)))).ok()
        });
        let expires = entry.expires.as_ref().and_then(|expires| {
            let date = expires.value.parse::<jiff::civil::Date>().ok().filter(|date| date.to_string() == expires.value);
            if date.is_none() {
                self.invalid(
                    expires,
                    format!("`{}` is not a date: write for example `2027-01-31`", short(&expires.value)),
                );
            }
            date
        });
        if self.problems.len() > before {
            return None;
        }
        Some(Allow {
            path: path.map(|glob| glob.compile_matcher()),
            text: entry.r#match.as_ref().map(|text| text.value.clone()),
            regex,
            reason: reason?,
            expires,
        })
    }

    fn grants(&mut self, grants: &GrantsSection, policy: &mut Policy) {
        for access in FileAccess::ALL {
            let Some(list) = grants.files(access) else { continue };
            if list.value.len() > MOST_GRANTS {
                self.invalid(list, format!("more than {MOST_GRANTS} files and folders are granted"));
                continue;
            }
            let files = list.value.iter().filter_map(|mount| self.mount(mount)).collect();
            *policy.grants.files_mut(access) = files;
        }
        let all: Vec<&FileGrant> = policy.grants.all_files().map(|(_, grant)| grant).collect();
        let twice = all.iter().enumerate().find(|(at, grant)| {
            let same = |other: &&&FileGrant| other.guest.as_deref().map(names) == grant.guest.as_deref().map(names);
            all.iter().take(*at).any(|other| same(&other))
        });
        if let Some((_, grant)) = twice {
            let lists = [&grants.write, &grants.overlay, &grants.read];
            let place = lists.into_iter().find_map(Option::as_ref).map(Place::from);
            let guest = grant.guest.clone().unwrap_or_default();
            let message = format!("two things are granted at `{guest}`: give one of them another path, HOST:GUEST");
            self.invalid(place.unwrap_or_default(), message);
        }
        if let Some(variables) = &grants.env {
            policy.grants.env.clear();
            for (name, value) in &variables.0 {
                if name.value.is_empty() || name.value.contains(['=', '\0']) || value.contains('\0') {
                    self.invalid(name, format!("`{}` cannot be a variable of an environment", short(&name.value)));
                }
                policy.grants.env.insert(name.value.clone(), value.clone());
            }
        }
    }

    fn mount(&mut self, mount: &Spanned<Mount>) -> Option<FileGrant> {
        let place = Place::from(mount);
        let Mount { host, guest } = &mount.value;
        if host.is_empty() || host.contains(char::is_control) {
            self.invalid(
                place,
                "a grant names nothing of this machine: write HOST or HOST:GUEST, for example `data:/data`",
            );
            return None;
        }
        let host = match host.strip_prefix("~/") {
            Some(rest) => match self.context.home {
                Some(home) => home.join(rest),
                None => {
                    self.invalid(place, "`~/` cannot be told here: there is no home folder");
                    return None;
                }
            },
            None => match &self.found.folder {
                Some(folder) => folder.join(host),
                None => PathBuf::from(host),
            },
        };
        let Some(host) = absolute(&host) else {
            self.invalid(place, format!("`{}` is not absolute, and this policy is in no folder", host.display()));
            return None;
        };
        let guest = match guest {
            Some(guest) => guest.clone(),
            None => match host.file_name().and_then(OsStr::to_str) {
                Some(name) => format!("/{name}"),
                None => {
                    self.invalid(place, "say where the script sees it: HOST:GUEST");
                    return None;
                }
            },
        };
        let wrong = match names_as_written(&guest).first().copied() {
            _ if !guest.starts_with('/') => Some("it is not an absolute path".to_owned()),
            _ if guest.contains(char::is_control)
                || names_as_written(&guest).iter().any(|n| [".", ".."].contains(n)) =>
            {
                Some("it holds `.`, `..` or a control character".to_owned())
            }
            Some(first @ ("script" | "dev" | "out")) => Some(format!("`/{first}` is a folder of ours")),
            Some(_) | None => None,
        };
        if let Some(why) = wrong {
            self.invalid(place, format!("nothing can be granted at `{}`: {why}", short(&guest)));
            return None;
        }
        Some(FileGrant { host, guest: Some(guest) })
    }

    /// Finds what the policy allows beyond its parent.
    fn narrower(&mut self, document: &Document, parent: &Policy, child: &Policy) {
        let than = &parent.name;
        let place = |spanned: Option<Place>| spanned.unwrap_or_default();
        if !parent.overridable.covers(&child.overridable) {
            let at = place(document.overridable.as_ref().map(Place::from));
            let more = child.overridable.settings().find(|setting| !parent.overridable.allows(*setting));
            let more = more.map_or("more", |setting| setting.name());
            self.widens(at, format!("`{than}` does not let flags set `{more}`"));
        }
        if child.live && !parent.live {
            self.widens(place(document.live.as_ref().map(Place::from)), format!("`{than}` does not allow live runs"));
        }
        if child.audit < parent.audit {
            let at = place(document.audit.as_ref().map(Place::from));
            self.widens(at, format!("`audit: {}` is milder than `{}` of `{than}`", child.audit, parent.audit));
        }
        if child.scan < parent.scan {
            let at = place(document.scan.as_ref().map(Place::from));
            self.widens(at, format!("`scan: {}` is milder than `{}` of `{than}`", child.scan, parent.scan));
        }
        for (severity, old, new) in milder_severities(parent, child) {
            let section = document.findings.as_ref();
            let at = match severity {
                Severity::Error => section.and_then(|f| f.error.as_ref()),
                Severity::Warning => section.and_then(|f| f.warning.as_ref()),
                Severity::Unprovable => section.and_then(|f| f.unprovable.as_ref()),
            };
            let at = place(at.map(Place::from));
            self.widens(at, format!("`{severity}: {new}` is milder than `{old}` of `{than}`"));
        }
        let section = |id: &str| document.rules.as_ref()?.0.iter().find(|(key, _)| key.value == id);
        if child.scan >= parent.scan {
            for (rule, old, new) in milder_rules(parent, child) {
                // A rule the document does not set is milder only by what was told above.
                if let Some((key, section)) = section(rule) {
                    let at = section.severity.as_ref().map_or_else(|| Place::from(key), Place::from);
                    self.widens(at, format!("findings of `{rule}` would lead to `{new}`, and to `{old}` by `{than}`"));
                }
            }
        }
        for (rule, setting) in &child.rules {
            if let Some((_, entry)) = narrowing::new_allowance(parent, rule, &setting.allow) {
                let list = section(rule).and_then(|(_, section)| section.allow.as_ref());
                let at = list.and_then(|list| {
                    list.iter()
                        .find(|found| found.value.reason.as_ref().is_some_and(|r| r.value.trim() == entry.reason))
                });
                let at = place(at.map(Place::from));
                self.widens(at, format!("this lets findings of `{rule}` pass that `{than}` does not"));
            }
        }
        self.narrower_limits(document, parent, child);
        self.narrower_grants(document, parent, child);
    }

    fn narrower_limits(&mut self, document: &Document, parent: &Policy, child: &Policy) {
        fn more<T: PartialOrd + Copy>(old: T, new: T, show: fn(T) -> String) -> Option<(String, String)> {
            (new > old).then(|| (show(new), show(old)))
        }
        let plain: fn(u64) -> String = |count| count.to_string();
        let (old, new) = (&parent.limits, &child.limits);
        let section = document.limits.as_ref();
        macro_rules! at {
            ($key:ident) => {
                section.and_then(|limits| limits.$key.as_ref()).map(Place::from)
            };
        }
        let fuel = match (old.fuel, new.fuel) {
            (None, _) => None,
            (Some(old), None) => Some(("none".to_owned(), format_count(old))),
            (Some(old), Some(new)) => more(old, new, format_count),
        };
        let source = document.scan_limits.as_ref().and_then(|limits| limits.source_bytes.as_ref()).map(Place::from);
        let (old_source, new_source) = (parent.scan_limits.source_bytes, child.scan_limits.source_bytes);
        for (key, place, more) in [
            ("fuel", at!(fuel), fuel),
            ("wall_time", at!(wall_time), more(old.wall_time, new.wall_time, format_duration)),
            ("memory", at!(memory), more(old.memory, new.memory, format_size)),
            ("output", at!(output), more(old.output, new.output, format_size)),
            ("bytes_written", at!(bytes_written), more(old.bytes_written, new.bytes_written, format_size)),
            ("files", at!(files), more(old.files, new.files, plain)),
            ("descriptors", at!(descriptors), more(old.descriptors, new.descriptors, plain)),
            ("source_bytes", source, more(old_source, new_source, format_size)),
        ] {
            if let Some((new, old)) = more {
                self.widens(
                    place.unwrap_or_default(),
                    format!("`{key}: {new}` is more than `{old}` of `{}`", parent.name),
                );
            }
        }
    }

    fn narrower_grants(&mut self, document: &Document, parent: &Policy, child: &Policy) {
        let Some(section) = &document.grants else { return };
        let real = |path: &Path| self.context.files.real(path);
        for excess in excess_files(&parent.grants, &child.grants, &parent.name, &real) {
            let list = section.files(excess.access);
            let other = FileAccess::ALL.into_iter().filter(|access| *access != excess.access);
            let other = other.rev().find_map(|access| section.files(access).as_ref());
            let entry = list.as_ref().and_then(|list| list.value.get(excess.index)).map(Place::from);
            // An inherited grant that is more than before is so for what the other list no longer names.
            let place = entry.or(list.as_ref().or(other).map(Place::from)).unwrap_or_default();
            let hint = if self.found.called || excess.hint != WIDEN_HINT { &excess.hint } else { WIDEN_COUNTS_HINT };
            let hint = Some(hint.to_owned());
            self.problem(ProblemKind::Widens, place, excess.message, hint);
        }
        for (name, value) in &child.grants.env {
            if parent.grants.env.get(name) != Some(value) {
                let keys = section.env.as_ref().map(|env| env.0.as_slice()).unwrap_or_default();
                let place = keys.iter().find(|(key, _)| key.value == *name).map(|(key, _)| Place::from(key));
                let message = format!("`{}` does not give the variable `{}` this value", parent.name, short(name));
                self.widens(place.unwrap_or_default(), message);
            }
        }
    }
}

fn set<T, U>(value: &mut T, given: Option<&Spanned<U>>, take: impl Fn(&U) -> T) {
    if let Some(given) = given {
        *value = take(&given.value);
    }
}

fn listed_missing(keys: &[&str]) -> String {
    format!("{} {}", listed(keys), if keys.len() == 1 { "is" } else { "are" })
}

fn names_as_written(path: &str) -> Vec<&str> {
    path.split('/').filter(|name| !name.is_empty()).collect()
}

/// A path with `.` and `..` followed by name; `None` where it does not come to be absolute.
fn absolute(path: &Path) -> Option<PathBuf> {
    let path = if path.is_absolute() { path.to_path_buf() } else { return None };
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    Some(out)
}

/// A policy that allows everything and grants nothing.
fn widest() -> Policy {
    Policy {
        name: String::new(),
        description: String::new(),
        overridable: Overridable::all(),
        live: true,
        audit: Audit::Wanted,
        scan: ScanMode::Off,
        findings: Effects { error: Verdict::Allow, warning: Verdict::Allow, unprovable: Verdict::Allow },
        rules: BTreeMap::new(),
        scan_limits: ScanLimits::default(),
        limits: Limits::default(),
        grants: super::Grants::default(),
        expired: Vec::new(),
        ceiling: None,
    }
}

/// The most that policies and flags can come to on a machine: what its administrator says in [`CEILING`].
///
/// It is a policy document without name, rules and variables, of which every key is optional; what it does not name has no
/// bound. What a policy has above it is lowered without a word; a flag that asks for more, and a grant of files outside
/// of those it lists, is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    path: PathBuf,
    limits: LimitsChange,
    files: Option<u64>,
    descriptors: Option<u64>,
    source_bytes: Option<u64>,
    overridable: Option<Overridable>,
    live: Option<bool>,
    audit: Option<Audit>,
    scan: Option<ScanMode>,
    findings: [Option<Verdict>; 3],
    read: Option<Vec<PathBuf>>,
    write: Option<Vec<PathBuf>>,
    overlay: Option<Vec<PathBuf>>,
}

impl Ceiling {
    /// Reads the file, if there is one. A file that is there and cannot be used is an error: nothing runs without it.
    ///
    /// # Errors
    /// [`PolicyError::Unreadable`], [`PolicyError::Invalid`].
    pub fn load(path: &Path) -> Result<Option<Self>, PolicyError> {
        let text = match read_file(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(PolicyError::Unreadable { path: path.into(), reason: error.to_string() }),
        };
        Self::parse(path, &text).map(Some)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, PolicyError> {
        let found = file(path, text, false);
        let invalid = |problems| PolicyError::Invalid { name: "ceiling".into(), problems };
        let document: Document = document::read(&found.shown, text).map_err(|problem| invalid(vec![problem]))?;
        let context = Context { files: &Disk, home: None, today: today() };
        let mut reader = Reader { context: &context, found: &found, problems: Vec::new() };
        let grants = document.grants.as_ref();
        for (key, place) in [
            ("name", document.name.as_ref().map(Place::from)),
            ("extends", document.extends.as_ref().map(Place::from)),
            ("widen", document.widen.as_ref().map(Place::from)),
            (
                "rules",
                document.rules.as_ref().map(|rules| rules.0.first().map(|(id, _)| id.into()).unwrap_or_default()),
            ),
            (
                "env",
                grants.and_then(|g| g.env.as_ref()).map(|env| env.0.first().map(|(k, _)| k.into()).unwrap_or_default()),
            ),
        ] {
            if let Some(place) = place {
                reader.problem(ProblemKind::UnknownKey, place, format!("a ceiling has no `{key}`"), None);
            }
        }
        reader.unavailable(grants);
        let mut hosts = |list: Option<&Spanned<Vec<Spanned<Mount>>>>| {
            list.map(|list| {
                let guestless = |mount: &Spanned<Mount>| {
                    let host = absolute(Path::new(&mount.value.host));
                    if host.is_none() || mount.value.guest.is_some() {
                        reader.invalid(mount, "a ceiling names absolute paths of this machine alone");
                    }
                    host
                };
                list.value.iter().filter_map(guestless).collect::<Vec<_>>()
            })
        };
        let (read, write) = (hosts(grants.and_then(|g| g.read.as_ref())), hosts(grants.and_then(|g| g.write.as_ref())));
        let overlay = hosts(grants.and_then(|g| g.overlay.as_ref()));
        let overridable = document.overridable.as_ref().map(|words| reader.overridable(words));
        if !reader.problems.is_empty() {
            return Err(invalid(reader.problems));
        }
        let (limits, findings) = (document.limits.unwrap_or_default(), document.findings.unwrap_or_default());
        let verdict = |value: Option<Spanned<Verdict>>| value.map(|value| value.value);
        Ok(Self {
            path: path.to_path_buf(),
            limits: LimitsChange {
                fuel: limits.fuel.and_then(|count| count.value.0),
                wall_time: limits.wall_time.map(|time| time.value.0),
                memory: limits.memory.map(|size| size.value.0),
                output: limits.output.map(|size| size.value.0),
                bytes_written: limits.bytes_written.map(|size| size.value.0),
            },
            files: limits.files.map(|count| count.value),
            descriptors: limits.descriptors.map(|count| count.value),
            source_bytes: document.scan_limits.and_then(|limits| limits.source_bytes).map(|size| size.value.0),
            overridable,
            live: document.live.map(|live| live.value),
            audit: document.audit.map(|audit| audit.value),
            scan: document.scan.map(|scan| scan.value),
            findings: [verdict(findings.error), verdict(findings.warning), verdict(findings.unprovable)],
            read,
            write,
            overlay,
        })
    }

    /// Lowers a policy to the ceiling, and keeps the ceiling with it for the flags to come.
    ///
    /// # Errors
    /// [`PolicyError::AboveCeiling`] if it grants files outside of those the ceiling lists.
    pub fn lower(&self, policy: &mut Policy) -> Result<(), PolicyError> {
        fn least<T: Ord + Copy>(value: &mut T, most: Option<T>) {
            *value = most.map_or(*value, |most| most.min(*value));
        }
        let limits = &mut policy.limits;
        limits.fuel = match (limits.fuel, self.limits.fuel) {
            (Some(own), Some(most)) => Some(own.min(most)),
            (own, most) => own.or(most),
        };
        least(&mut limits.wall_time, self.limits.wall_time);
        least(&mut limits.memory, self.limits.memory);
        least(&mut limits.output, self.limits.output);
        least(&mut limits.bytes_written, self.limits.bytes_written);
        least(&mut limits.files, self.files);
        least(&mut limits.descriptors, self.descriptors);
        least(&mut policy.scan_limits.source_bytes, self.source_bytes);
        least(&mut policy.live, self.live);
        if let Some(most) = &self.overridable {
            policy.overridable = Overridable::of(policy.overridable.settings().filter(|setting| most.allows(*setting)));
        }
        policy.audit = self.audit.map_or(policy.audit, |least| least.max(policy.audit));
        policy.scan = self.scan.map_or(policy.scan, |least| least.max(policy.scan));
        let [error, warning, unprovable] = self.findings;
        for (effect, least) in [
            (&mut policy.findings.error, error),
            (&mut policy.findings.warning, warning),
            (&mut policy.findings.unprovable, unprovable),
        ] {
            *effect = least.map_or(*effect, |least| least.max(*effect));
        }
        if self.scan.is_some() || self.findings.iter().any(Option::is_some) {
            // What no policy may change in general, no policy changes by the detour of single rules.
            let mut plain = policy.clone();
            plain.rules.clear();
            let milder: Vec<&str> = milder_rules(&plain, policy).into_iter().map(|(rule, _, _)| rule).collect();
            for (id, setting) in &mut policy.rules {
                if milder.contains(&id.as_str()) {
                    setting.severity = None;
                }
                setting.allow.clear();
            }
            policy.rules.retain(|_, setting| *setting != RuleSetting::default());
        }
        for access in FileAccess::ALL {
            self.check_files(policy.grants.files(access), access)?;
        }
        policy.ceiling = Some(Box::new(self.clone()));
        Ok(())
    }

    /// What is asked for, no higher than the ceiling.
    pub(super) fn lower_change(&self, change: &LimitsChange) -> LimitsChange {
        fn least<T: Ord>(asked: Option<T>, most: Option<T>) -> Option<T> {
            match (asked, most) {
                (Some(asked), Some(most)) => Some(asked.min(most)),
                (asked, _) => asked,
            }
        }
        let most = self.limits.clone();
        LimitsChange {
            fuel: least(change.fuel, most.fuel),
            wall_time: least(change.wall_time, most.wall_time),
            memory: least(change.memory, most.memory),
            output: least(change.output, most.output),
            bytes_written: least(change.bytes_written, most.bytes_written),
        }
    }

    fn above(&self, what: &'static str, allowed: String, asked: String) -> PolicyError {
        PolicyError::AboveCeiling { ceiling: self.path.clone(), what, allowed, asked }
    }

    pub(super) fn check_change(&self, change: &LimitsChange) -> Result<(), PolicyError> {
        let most = &self.limits;
        for (what, more) in [
            ("fuel", super::wider(most.fuel, change.fuel, format_count)),
            ("wall_time", super::wider(most.wall_time, change.wall_time, format_duration)),
            ("memory", super::wider(most.memory, change.memory, format_size)),
            ("output", super::wider(most.output, change.output, format_size)),
            ("bytes_written", super::wider(most.bytes_written, change.bytes_written, format_size)),
        ] {
            if let Some((allowed, asked)) = more {
                return Err(self.above(what, format!("up to {allowed}"), asked));
            }
        }
        Ok(())
    }

    /// Whether these files may be granted. What can be written can be an overlay and be read, too. Where the ceiling lists
    /// nothing for writing, its list for reading counts; overlays without a list are bounded as writing, because they can be
    /// made to come true.
    pub(super) fn check_files(&self, grants: &[FileGrant], access: FileAccess) -> Result<(), PolicyError> {
        let lists = [&self.read, &self.overlay, &self.write];
        let counts = if self.overlay.is_none() && access == FileAccess::Overlay { FileAccess::Write } else { access };
        let mut own = FileAccess::ALL.into_iter().zip(lists).filter(|(of, list)| *of <= counts && list.is_some());
        let hosts: Option<Vec<&PathBuf>> = own.next_back().map(|(of, _)| {
            let at_least = FileAccess::ALL.into_iter().zip(lists).filter(|(other, _)| *other >= of);
            at_least.flat_map(|(_, list)| list.iter().flatten()).collect()
        });
        let Some(hosts) = hosts else { return Ok(()) };
        let real: Vec<PathBuf> = hosts.iter().map(|host| Disk.real(host)).collect();
        for grant in grants {
            let asked = Disk.real(&grant.host);
            if !real.iter().any(|host| asked.starts_with(host)) {
                let shown: Vec<String> = hosts.iter().map(|host| format!("`{}`", host.display())).collect();
                let allowed =
                    if shown.is_empty() { "nowhere".into() } else { format!("only below {}", shown.join(", ")) };
                return Err(self.above(access.key(), allowed, format!("`{}`", grant.host.display())));
            }
        }
        Ok(())
    }
}

/// Where policies are looked for by name, and what bounds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFolders {
    /// The folder of the user's policies: `NAME.yaml` each. `None` if there is no home to have one in.
    pub user: Option<PathBuf>,
    /// The user's home folder, which a leading `~/` of a grant stands for.
    pub home: Option<PathBuf>,
    /// The administrator's ceiling; [`CEILING`] but in tests.
    pub ceiling: PathBuf,
}

/// A policy that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPolicy {
    /// What `--policy` takes.
    pub name: String,
    /// The file; `None` for a preset.
    pub path: Option<PathBuf>,
    /// The policy, or why it cannot be used.
    pub policy: Result<Box<Policy>, PolicyError>,
}

impl PolicyFolders {
    /// Those of this process: the folder `policies` below `CAPIBARA_HOME`, or else `capibara/policies` below
    /// `XDG_CONFIG_HOME` or `~/.config`.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    pub(super) fn from_variables(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let home = variable("HOME").filter(|home| home.is_absolute());
        // The working directory must never come in: the script's author may have written it.
        let own = variable("CAPIBARA_HOME").filter(|home| home.is_absolute());
        let config = || {
            let xdg = variable("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
            xdg.or_else(|| home.as_ref().map(|home| home.join(".config"))).map(|folder| folder.join("capibara"))
        };
        let user = own.or_else(config).map(|folder| folder.join("policies"));
        Self { user, home, ceiling: PathBuf::from(CEILING) }
    }

    /// The folder of the user's configuration, in which that of the policies lies.
    #[must_use]
    pub fn configuration(&self) -> Option<&Path> {
        self.user.as_deref().and_then(Path::parent)
    }

    /// The policy that `--policy` names: a preset, `NAME.yaml` in the user's folder, or, if there is a `/` in it, a
    /// file. Lowered to the ceiling.
    ///
    /// # Errors
    /// [`PolicyError`], if there is none, or none that can be used.
    pub fn policy(&self, name: &OsStr) -> Result<Policy, PolicyError> {
        let shown = name.to_string_lossy();
        let mut policy = if shown.contains('/') {
            self.read(Path::new(name))?
        } else if PRESETS.iter().any(|(preset, _)| *preset == shown) {
            Policy::preset(&shown)?
        } else {
            match self.path_of(&shown) {
                Some(path) if path.exists() => self.read(&path)?,
                _ => return Err(self.unknown(&shown)),
            }
        };
        self.lower(&mut policy)?;
        Ok(policy)
    }

    /// The policy in a file, before the ceiling.
    ///
    /// # Errors
    /// [`PolicyError::Unreadable`] if it cannot be read at all, [`PolicyError::Invalid`] with all that is wrong.
    pub fn read(&self, path: &Path) -> Result<Policy, PolicyError> {
        let unreadable = |error: io::Error| PolicyError::Unreadable { path: path.into(), reason: error.to_string() };
        let text = read_file(path).map_err(unreadable)?;
        let mut found = file(path, &text, true);
        // Grants of a relative file are below its folder, too.
        found.folder = found.folder.map(|folder| std::path::absolute(folder.join(".")).unwrap_or(folder));
        let context = Context { files: &Disk, home: self.home.as_deref(), today: today() };
        context.named(found)
    }

    fn lower(&self, policy: &mut Policy) -> Result<(), PolicyError> {
        match Ceiling::load(&self.ceiling)? {
            Some(ceiling) => ceiling.lower(policy),
            None => Ok(()),
        }
    }

    fn path_of(&self, name: &str) -> Option<PathBuf> {
        let hidden = name.is_empty() || name.starts_with('.');
        self.user.as_ref().filter(|_| !hidden).map(|folder| folder.join(format!("{name}.yaml")))
    }

    fn unknown(&self, name: &str) -> PolicyError {
        let names = self.names();
        let candidates = PRESETS.iter().map(|(name, _)| *name).chain(names.iter().map(String::as_str));
        let nearest = nearest(name.strip_suffix(".yaml").unwrap_or(name), candidates).map(str::to_owned);
        PolicyError::UnknownName { name: name.into(), nearest, folder: self.user.clone() }
    }

    /// Names of the files in the user's folder, sorted.
    fn names(&self) -> Vec<String> {
        let entries = self.user.as_ref().and_then(|folder| std::fs::read_dir(folder).ok());
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .take(10_000)
            .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
            .filter(|name| !name.is_empty() && !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    /// Presets, strictest first, and the user's files by name, each lowered to the ceiling. A file with the name of a
    /// preset is listed, too, though its name means the preset.
    ///
    /// # Errors
    /// [`PolicyError`], if there is a ceiling that cannot be used.
    pub fn list(&self) -> Result<Vec<ListedPolicy>, PolicyError> {
        let ceiling = Ceiling::load(&self.ceiling)?;
        let lowered = |policy: Result<Policy, PolicyError>| {
            let mut policy = policy?;
            if let Some(ceiling) = &ceiling {
                ceiling.lower(&mut policy)?;
            }
            Ok(Box::new(policy))
        };
        let presets = PRESETS.iter().map(|(name, _)| ListedPolicy {
            name: (*name).into(),
            path: None,
            policy: lowered(Policy::preset(name)),
        });
        let files = self.names().into_iter().filter_map(|name| {
            let path = self.path_of(&name)?;
            Some(ListedPolicy { policy: lowered(self.read(&path)), name, path: Some(path) })
        });
        Ok(presets.chain(files).collect())
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod memory {
    //! Policies out of documents in memory, for tests.

    use super::*;

    /// Documents by path.
    pub(crate) struct Documents(pub(crate) BTreeMap<PathBuf, String>);

    impl Files for Documents {
        fn read(&self, path: &Path) -> Result<String, String> {
            self.0.get(&self.real(path)).cloned().ok_or_else(|| "there is no such file".into())
        }

        fn real(&self, path: &Path) -> PathBuf {
            absolute(path).unwrap_or_else(|| path.to_path_buf())
        }
    }

    impl Documents {
        /// The policy in this document, on this day.
        pub(crate) fn policy_on(&self, path: &str, today: jiff::civil::Date) -> Result<Policy, PolicyError> {
            let text = self.0.get(Path::new(path)).cloned().unwrap_or_default();
            let context = Context { files: self, home: Some(Path::new("/home/user")), today };
            context.named(file(Path::new(path), &text, true))
        }

        /// The policy in this document.
        pub(crate) fn policy(&self, path: &str) -> Result<Policy, PolicyError> {
            self.policy_on(path, jiff::civil::date(2026, 11, 28))
        }
    }

    /// A ceiling out of a text.
    pub(crate) fn ceiling(text: &str) -> Result<Ceiling, PolicyError> {
        Ceiling::parse(Path::new("/etc/capibara/ceiling.yaml"), text)
    }
}
