//! What a script asks for that it was not granted: shown to its user, never given.
//!
//! A model says what it would need in comments (`# needs: net api.example.org`); a scan sees what the code would use. Both are
//! wishes of somebody who has nothing to decide. They come to lines that a user can read, and to a policy that the user may take.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use capibara::{Need, NeedKind, Policy};
use capibara_policies::suggest::{self, Suggestion};
use capibara_policies::{FileGrant, SourceLanguage, escape};
use regex::Regex;

use crate::facts::Facts;
use crate::section::{Keep, clip};

/// The most wishes of one script, and the longest one, in bytes.
pub const MOST_ASKS: usize = 32;
const LONGEST_ASK: usize = 256;
/// The most lines of a suggested policy that are shown.
const MOST_LINES: usize = 100;
/// Folders that every script has, and whether it may write there.
const OWN_FOLDERS: [(&str, bool); 4] = [("/tmp", true), ("/home/script", true), ("/out", true), ("/script", false)];

/// Something a script asks for and was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What.
    pub kind: NeedKind,
    /// The line of the script that says so.
    pub line: u32,
    /// Whether a comment says so, rather than code.
    pub by_comment: bool,
}

impl Ask {
    /// Kind and name: `read`, `/data`.
    fn words(&self) -> Option<(&'static str, &str)> {
        Some(match &self.kind {
            NeedKind::Read(name) => ("read", name.as_deref()?),
            NeedKind::Write(name) => ("write", name.as_deref()?),
            NeedKind::Net(name) => ("net", name.as_deref().unwrap_or("a host whose name only a run shows")),
            NeedKind::Env(name) => ("env", name.as_deref()?),
            NeedKind::Package(name) => ("package", name),
            NeedKind::Module(_) | NeedKind::Stdin => return None,
        })
    }
}

/// All that a script asks for, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// The wishes, at most [`MOST_ASKS`].
    pub asks: Vec<Ask>,
    /// How many more there are.
    pub more: usize,
}

impl Asks {
    /// Compares what the comments of a script and its scan say with what is granted.
    #[must_use]
    pub fn of(facts: &Facts, script: &str, needs: &[Need]) -> Self {
        let granted = grants(facts);
        let scanned = needs.iter().map(|need| Ask { kind: need.kind.clone(), line: need.span.line, by_comment: false });
        let mut all: Vec<Ask> =
            comments(script).chain(scanned).filter(|ask| is_missing(facts, &granted, &ask.kind)).collect();
        all.sort_by_key(|ask| ask.line);
        let mut asks: Vec<Ask> = Vec::new();
        let mut more = 0_usize;
        for ask in all {
            if asks.iter().any(|known| known.kind == ask.kind) {
                continue;
            }
            if asks.len() < MOST_ASKS { asks.push(ask) } else { more = more.saturating_add(1) }
        }
        Self { asks, more }
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    /// The smallest policy under which the script should run, as its scan sees it. `exists` says whether there is such a path on
    /// the host. Nothing reads it but the user.
    #[must_use]
    pub fn suggestion(name: &str, script: &str, exists: &dyn Fn(&Path) -> bool) -> Suggestion {
        let asked = suggest::Asked {
            name,
            sources: &[("script.py".to_owned(), script.as_bytes().to_vec())],
            own_modules: &[],
            // There is no folder that a script of a model would lie in.
            folder: Path::new("/home/script"),
            language: SourceLanguage::Python,
        };
        suggest::suggest(&asked, exists)
    }

    /// What to show the user: one line for each wish, and the lines that a policy would have for what the code needs. Safe for a
    /// terminal. Empty if nothing is missing.
    #[must_use]
    pub fn text(&self, suggestion: &Suggestion) -> String {
        let mut out = String::new();
        if self.is_empty() {
            return out;
        }
        // Writing to a string does not fail.
        let _ = writeln!(out, "the script asks for what it was not granted; nothing was added:");
        for ask in &self.asks {
            let Some((kind, name)) = ask.words() else { continue };
            let by = if ask.by_comment { "says a comment" } else { "by its code" };
            let name = escape(&clip(name, LONGEST_ASK, Keep::Head)).into_owned();
            let _ = writeln!(out, "+ {kind} {name} (line {}, {by})", ask.line);
        }
        if self.more > 0 {
            let _ = writeln!(out, "+ {} more", self.more);
        }
        let _ = writeln!(out, "a policy with what its code needs, for you to look at:");
        for line in suggestion.yaml.lines().take(MOST_LINES) {
            let _ = writeln!(out, "  {}", escape(&clip(line, 4 * LONGEST_ASK, Keep::Head)));
        }
        out
    }
}

/// What comments of a script say it needs.
fn comments(script: &str) -> impl Iterator<Item = Ask> {
    #[expect(clippy::unwrap_used, reason = "the expression is a constant that a test compiles")]
    static NEEDS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[ \t]*#[ \t]*needs:[ \t]*(read|write|net|env|package)[ \t]+(.+)$").unwrap());
    (1_u32..).zip(script.lines()).filter_map(|(line, text)| {
        let parts = NEEDS.captures(text)?;
        let name = clip(parts.get(2)?.as_str().trim(), LONGEST_ASK, Keep::Head);
        let kind = match parts.get(1)?.as_str() {
            "read" => NeedKind::Read(Some(name)),
            "write" => NeedKind::Write(Some(name)),
            "net" => NeedKind::Net(Some(name)),
            "env" => NeedKind::Env(Some(name)),
            _ => NeedKind::Package(name),
        };
        Some(Ask { kind, line, by_comment: true })
    })
}

/// A policy with the files that the script has, to ask it about paths. It is not used for anything else.
fn grants(facts: &Facts) -> Policy {
    let mut policy = Policy::default();
    let granted = facts.files.iter().map(|file| (file.path.as_str(), file.is_writable()));
    for (path, writable) in OWN_FOLDERS.into_iter().chain(granted) {
        let file = FileGrant { host: path.into(), guest: Some(path.to_owned()) };
        if writable { policy.grants.write.push(file) } else { policy.grants.read.push(file) }
    }
    policy
}

fn is_missing(facts: &Facts, granted: &Policy, kind: &NeedKind) -> bool {
    match kind {
        NeedKind::Read(Some(path)) => !granted.grants_path(path, false),
        NeedKind::Write(Some(path)) => !granted.grants_path(path, true),
        NeedKind::Net(_) => true,
        NeedKind::Env(Some(name)) => !facts.env.contains(name),
        NeedKind::Package(name) => {
            let top = name.split('.').next().unwrap_or_default();
            // The module of tools is ours.
            top != "capibara" && !facts.runtime.modules.iter().any(|module| module == top)
        }
        // What only a run shows is no wish that could be shown; modules and input are no grants.
        NeedKind::Read(None) | NeedKind::Write(None) | NeedKind::Env(None) | NeedKind::Module(_) | NeedKind::Stdin => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::RuntimeFacts;
    use capibara::{Grant, Job};
    use capibara_policies::{Scanner, Script};

    fn facts() -> Facts {
        let runtime = RuntimeFacts {
            language: "Python",
            version: "3.13.5".into(),
            sha256: String::new(),
            modules: ["csv", "json", "os"].map(String::from).into(),
        };
        let job = Job::python("").with_grant(Grant::read("/tmp").at("/data")).with_env("LANG", "C");
        Facts::of(runtime, &job).unwrap()
    }

    fn asks(script: &str) -> Asks {
        let scanned = Script {
            path: "script.py",
            bytes: script.as_bytes(),
            language: Some(SourceLanguage::Python),
            own_modules: &[],
        };
        Asks::of(&facts(), script, &Scanner::new().scan(&scanned, &Policy::default()).needs)
    }

    #[test]
    fn only_what_was_not_granted_is_asked_for() {
        for (script, expected) in [
            ("print(1)\n", vec![]),
            ("# needs: net api.x\n", vec!["net api.x"]),
            ("  #needs:read  /data/a.csv  \n# needs: write /data/a.csv\n", vec!["write /data/a.csv"]),
            ("# needs: env LANG\n# needs: env TOKEN\n", vec!["env TOKEN"]),
            ("from capibara import tools\n# needs: package json\n# needs: package numpy\n", vec!["package numpy"]),
            (
                "import numpy\nopen('/etc/x').read()\nopen('/tmp/y', 'w')\nopen('z')\n",
                vec!["package numpy", "read /etc/x"],
            ),
            ("open('/out/a', 'w')\nopen('/data/../etc/y')\n", vec!["read /data/../etc/y"]),
            ("# needs: root\n# needs: net\nprint('# needs: net x')\n", vec![]),
            ("# needs: net x\n# needs: net x\n", vec!["net x"]),
        ] {
            let asks = asks(script);
            let words: Vec<String> =
                asks.asks.iter().filter_map(Ask::words).map(|(kind, name)| format!("{kind} {name}")).collect();
            assert_eq!(words, expected, "{script}");
        }
    }

    #[test]
    fn what_is_shown_is_bounded_and_drives_no_terminal() {
        let mut script: String = (0..200).map(|n| format!("# needs: net host{n}\n")).collect();
        script.insert_str(0, &format!("# needs: read /x\x1b[2J\u{202e}{}\n", "y".repeat(5_000)));
        script.push_str("open('/etc/\x1b[31m\\n+ net granted')\n");
        let asks = asks(&script);
        assert_eq!((asks.asks.len(), asks.more), (MOST_ASKS, 200 + 2 - MOST_ASKS));
        let text = asks.text(&Asks::suggestion("task", &script, &|_| false));
        assert!(text.len() < 40_000 && !text.contains(['\x1b', '\u{202e}']), "{text}");
        assert!(text.lines().all(|line| !line.starts_with("+ net granted")), "{text}");
        assert_eq!(Asks::default().text(&Asks::suggestion("task", "", &|_| false)), "");
    }

    #[test]
    fn facts_stay_as_they_are() {
        let before = facts();
        assert!(!Asks::of(&before, "# needs: read /etc\n", &[]).is_empty());
        assert_eq!(before, facts());
    }
}
