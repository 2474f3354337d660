//! The smallest policy under which a script should run, as far as its scan can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{Finding, Need, NeedKind, Policy, Scanner, Script, Severity, Source, SourceLanguage, Verdict};

/// What to suggest a policy for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Name of the policy: a word for people.
    pub name: &'a str,
    /// The script and the modules it brings: path as findings show it, and bytes.
    pub sources: &'a [(String, Vec<u8>)],
    /// Import names of these modules.
    pub own_modules: &'a [String],
    /// The folder of the script on the host, absolute: relative paths in the script are looked for there.
    pub folder: &'a Path,
    /// The language of all sources.
    pub language: SourceLanguage,
}

/// A suggested policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// A policy file, with the evidence for each line as a comment.
    pub yaml: String,
    /// Whether the script should run under it: nothing it does is denied, and nothing it needs is missing here.
    pub sufficient: bool,
}

/// Suggests a policy. It extends `strict` and adds what the script asks for, no more: files to read and write, variables,
/// and lines that `strict` denies only because they are worth a look. What a scan calls an error is never allowed.
///
/// `exists` says whether there is a file or folder of that path on the host.
#[must_use]
pub fn suggest(asked: &Asked<'_>, exists: &dyn Fn(&Path) -> bool) -> Suggestion {
    let mut policy = Policy::preset("strict").unwrap_or_default();
    let (first, needs) = scan(asked, &policy);
    let mut parts = Parts { unmet: first.is_none(), ..Parts::default() };
    parts.grants(asked, &needs, exists);
    for (guest, grant) in &parts.files {
        let file = crate::FileGrant { host: grant.host.clone(), guest: Some(guest.clone()) };
        if grant.write { policy.grants.write.push(file) } else { policy.grants.read.push(file) }
    }
    // With the grants in force, some findings are gone.
    let (findings, _) = scan(asked, &policy);
    parts.findings(asked, &findings.unwrap_or_default());
    Suggestion { sufficient: !parts.unmet, yaml: parts.yaml(asked.name) }
}

/// Findings (`None` if a source cannot be read) and needs of all sources.
fn scan(asked: &Asked<'_>, policy: &Policy) -> (Option<Vec<Finding>>, Vec<Need>) {
    let (mut findings, mut needs) = (Vec::new(), Vec::new());
    let mut readable = true;
    for (path, bytes) in asked.sources {
        let script = Script { path, bytes, language: Some(asked.language), own_modules: asked.own_modules };
        let report = Scanner::new().scan(&script, policy);
        readable &= Source::decode(bytes, asked.language).is_ok();
        findings.extend(report.findings);
        needs.extend(report.needs);
    }
    (readable.then_some(findings), needs)
}

/// A file to grant.
struct File {
    host: PathBuf,
    write: bool,
    places: Vec<String>,
}

#[derive(Default)]
struct Parts {
    /// By path in the sandbox.
    files: BTreeMap<String, File>,
    env: BTreeMap<String, Vec<String>>,
    /// Rule, line of code, and places of findings that are let pass.
    allows: BTreeMap<(String, String), Vec<String>>,
    /// What cannot be granted, or not decided, in whole lines.
    notes: Vec<String>,
    unmet: bool,
}

impl Parts {
    fn grants(&mut self, asked: &Asked<'_>, needs: &[Need], exists: &dyn Fn(&Path) -> bool) {
        // What the script makes by itself is there when it reads it.
        let made: BTreeSet<String> = needs
            .iter()
            .filter_map(|need| if let NeedKind::Write(Some(path)) = &need.kind { guest_path(path) } else { None })
            .filter(|path| own(path))
            .collect();
        for need in needs {
            let place = place(&need.path, need.span.line);
            match &need.kind {
                NeedKind::Read(Some(path)) => self.file(asked, path, false, place, &made, exists),
                NeedKind::Write(Some(path)) => self.file(asked, path, true, place, &made, exists),
                NeedKind::Env(Some(name)) => self.env.entry(name.clone()).or_default().push(place),
                NeedKind::Read(None) => self.note(format!("reads a file whose name only a run shows ({place})")),
                NeedKind::Write(None) => self.note(format!("writes a file whose name only a run shows ({place})")),
                NeedKind::Env(None) => self.note(format!("reads a variable whose name only a run shows ({place})")),
                NeedKind::Net(host) => {
                    let host = host.as_deref().unwrap_or("a host whose name only a run shows");
                    self.unmet(format!("needs the network: {host} ({place}); nothing can be granted there yet"));
                }
                NeedKind::Package(name) => {
                    self.unmet(format!("needs the package {name} ({place}); packages cannot be granted yet"));
                }
                NeedKind::Module(_) | NeedKind::Stdin => {}
            }
        }
    }

    fn file(
        &mut self,
        asked: &Asked<'_>,
        path: &str,
        write: bool,
        place: String,
        made: &BTreeSet<String>,
        exists: &dyn Fn(&Path) -> bool,
    ) {
        let Some(guest) = guest_path(path) else {
            return self.note(format!("uses {}, which is no path in the sandbox ({place})", quoted(path)));
        };
        let host = match guest.strip_prefix("/home/script/") {
            // Beside the script, as it would be found by a run outside of the sandbox.
            Some(inner) if !write && !made.contains(&guest) => {
                let host = asked.folder.join(inner);
                if !exists(&host) {
                    return self.note(format!("reads {}, which is not beside the script ({place})", quoted(path)));
                }
                host
            }
            _ if own(&guest) => return,
            _ => PathBuf::from(&guest),
        };
        let file = self.files.entry(guest).or_insert_with(|| File { host, write, places: Vec::new() });
        file.write |= write;
        file.places.push(place);
    }

    fn findings(&mut self, asked: &Asked<'_>, findings: &[Finding]) {
        for finding in findings.iter().filter(|finding| finding.effect == Verdict::Deny) {
            let place = place(&finding.path, finding.span.line);
            let text = line_of(asked, finding);
            match (finding.severity, text) {
                (Severity::Warning | Severity::Unprovable, Some(text)) => {
                    self.allows.entry((finding.rule.to_string(), text)).or_default().push(place);
                }
                (Severity::Error, _) | (_, None) => {
                    self.unmet(format!("is denied: {} [{}] ({place})", finding.message, finding.rule));
                }
            }
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn unmet(&mut self, note: String) {
        self.unmet = true;
        self.note(note);
    }

    fn yaml(&self, name: &str) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out, name);
        out
    }

    fn write(&self, out: &mut String, name: &str) -> std::fmt::Result {
        writeln!(out, "# The smallest policy under which the script should run, as far as its scan can tell.")?;
        writeln!(out, "# Every line names the place in the script that asks for it: look at each before you use it.")?;
        writeln!(out, "name: {}\nextends: strict", quoted(name))?;
        if !self.files.is_empty() || !self.env.is_empty() || !self.allows.is_empty() {
            writeln!(out, "widen: true")?;
        }
        writeln!(out, "# Limits are those of strict: a run that meets one says so, and which line to add.")?;
        let [read, write] = [false, true].map(|write| {
            self.files.iter().filter(move |(_, file)| file.write == write).collect::<Vec<(&String, &File)>>()
        });
        if !self.files.is_empty() || !self.env.is_empty() {
            writeln!(out, "grants:")?;
        }
        for (key, files) in [("read", read), ("write", write)] {
            if !files.is_empty() {
                writeln!(out, "  {key}:")?;
            }
            for (guest, file) in files {
                let host = quoted(&file.host.to_string_lossy());
                writeln!(out, "    - {{ host: {host}, guest: {} }} # {}", quoted(guest), places(&file.places))?;
            }
        }
        if !self.env.is_empty() {
            writeln!(out, "  env: # write the values yourself")?;
        }
        for (name, at) in &self.env {
            writeln!(out, "    {}: \"\" # {}", quoted(name), places(at))?;
        }
        let rules: BTreeSet<&String> = self.allows.keys().map(|(rule, _)| rule).collect();
        if !rules.is_empty() {
            writeln!(out, "rules:")?;
        }
        for rule in rules {
            writeln!(out, "  {rule}:\n    allow:")?;
            for ((_, text), at) in self.allows.iter().filter(|((of, _), _)| of == rule) {
                writeln!(out, "      - match: {} # {}", quoted(text), places(at))?;
                writeln!(out, "        reason: suggested from the script; nobody has looked at it yet")?;
            }
        }
        for note in &self.notes {
            writeln!(out, "# The script {}.", one_line(note))?;
        }
        Ok(())
    }
}

/// The line a finding stands on, trimmed; `None` if it is empty or too long to serve as a pattern.
fn line_of(asked: &Asked<'_>, finding: &Finding) -> Option<String> {
    let (_, bytes) = asked.sources.iter().find(|(path, _)| *path == finding.path)?;
    let text = Source::decode(bytes, asked.language).ok()?.into_text();
    let line = text.lines().nth(finding.span.line.checked_sub(1)? as usize)?.trim();
    (!line.is_empty() && line.len() <= 500).then(|| line.to_owned())
}

/// A path as the script writes it, absolute and without `.` and `..`.
fn guest_path(path: &str) -> Option<String> {
    if path.is_empty() || path.starts_with('~') || path.contains("://") || path.contains('\\') {
        return None;
    }
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("/home/script/{path}") };
    let mut names: Vec<&str> = Vec::new();
    for name in joined.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Some(format!("/{}", names.join("/")))
}

/// Whether a path lies in a folder every run has.
fn own(guest: &str) -> bool {
    ["/tmp", "/home/script", "/out", "/script", "/dev"]
        .into_iter()
        .any(|folder| guest.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn place(path: &str, line: u32) -> String {
    format!("{}:{line}", one_line(path))
}

/// A few places, and how many more there are.
fn places(all: &[String]) -> String {
    let shown: Vec<&str> = all.iter().take(3).map(String::as_str).collect();
    match all.len().checked_sub(3).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", shown.join(", ")),
        None => shown.join(", "),
    }
}

/// A text that cannot end a comment or turn it around.
fn one_line(text: &str) -> String {
    crate::escape(text).replace('\n', "\\n")
}

/// A double-quoted scalar, which JSON's strings are.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, there: &[&str]) -> Suggestion {
        let asked = Asked {
            name: "x",
            sources: &[("x.py".to_owned(), text.as_bytes().to_vec())],
            own_modules: &[],
            folder: Path::new("/work"),
            language: SourceLanguage::Python,
        };
        let suggestion = suggest(&asked, &|path| there.iter().any(|it| Path::new(it) == path));
        assert!(Policy::parse("x", &suggestion.yaml).is_ok() || suggestion.yaml.contains("extends"), "{suggestion:?}");
        suggestion
    }

    #[test]
    fn what_is_asked_for_is_granted_and_no_more() {
        let suggestion = of("print(1)\n", &[]);
        assert!(suggestion.sufficient && !suggestion.yaml.contains("widen"), "{}", suggestion.yaml);
        let suggestion =
            of("open('/data/a.csv')\nopen('b.csv')\nopen('c.csv', 'w')\nopen('c.csv')\n", &["/work/b.csv"]);
        let yaml = &suggestion.yaml;
        assert!(suggestion.sufficient, "{yaml}");
        assert!(yaml.contains(r#"- { host: "/data/a.csv", guest: "/data/a.csv" } # x.py:1"#), "{yaml}");
        assert!(yaml.contains(r#"- { host: "/work/b.csv", guest: "/home/script/b.csv" } # x.py:2"#), "{yaml}");
        assert!(!yaml.contains("c.csv"), "{yaml}");
    }

    #[test]
    fn what_nobody_should_allow_is_not_allowed() {
        let suggestion = of("import os\nos.system('ls')\n", &[]);
        assert!(!suggestion.sufficient && suggestion.yaml.contains("spawn-process"), "{}", suggestion.yaml);
        assert!(!suggestion.yaml.contains("allow:"), "{}", suggestion.yaml);
        assert!(!of("import numpy\n", &[]).sufficient);
    }
}
