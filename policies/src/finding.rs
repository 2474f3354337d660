//! What a scan finds, and what follows from it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a finding is. What follows from each is a line of the policy ([`Effects`](crate::Effects)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// What the script does cannot be told, and it is of a kind that may hide something.
    Unprovable,
    /// Something an honest script may do, and that is worth a look.
    Warning,
    /// Something a script has no business doing here.
    Error,
}

impl Severity {
    /// The permanent name: `unprovable`, `warning`, `error`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unprovable => "unprovable",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a finding leads to, and what a whole scan comes to: the worst of its findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The script runs.
    #[default]
    Allow,
    /// The script runs, and the user is told.
    Warn,
    /// The script does not run.
    Deny,
}

impl Verdict {
    /// The permanent name: `allow`, `warn`, `deny`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place in a source: lines and columns from 1, columns in characters (Unicode scalar values), the end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Line of the first character.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// Line of the end.
    pub end_line: u32,
    /// Column after the last character.
    pub end_column: u32,
}

/// One thing a scan found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Id of the rule, in kebab-case, permanent.
    pub rule: Cow<'static, str>,
    /// How bad it is under the policy of the scan.
    pub severity: Severity,
    /// One line: what the script does there. No source text longer than a name.
    pub message: String,
    /// One line: what to do about it. Empty if there is nothing to say.
    pub advice: String,
    /// Path of the file as the scan was given it.
    pub path: String,
    /// Where.
    pub span: Span,
    /// What it leads to under the policy.
    pub effect: Verdict,
    /// The reason of the allow list entry that lets it pass; `None` for most.
    pub allowed: Option<String>,
}

/// Something outside the script that it needs to do its work, with the place that shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// What.
    pub kind: NeedKind,
    /// Path of the file.
    pub path: String,
    /// The place in the source that shows it.
    pub span: Span,
}

/// What a script can need. Names are as they stand in the source, after folding of constants; `None` where the scan
/// cannot tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeedKind {
    /// A file or folder to read.
    Read(Option<String>),
    /// A file or folder to make or change.
    Write(Option<String>),
    /// A host on the network, with `:port` where it is known.
    Net(Option<String>),
    /// An environment variable.
    Env(Option<String>),
    /// A package beyond the standard library, by its import name.
    Package(String),
    /// A module of the script's own folder, by its import name.
    Module(String),
    /// Standard input.
    Stdin,
}

impl NeedKind {
    /// The name in JSON: `read`, `write`, `net`, `env`, `package`, `module`, `stdin`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Net(_) => "net",
            Self::Env(_) => "env",
            Self::Package(_) => "package",
            Self::Module(_) => "module",
            Self::Stdin => "stdin",
        }
    }

    /// What of that kind: a path, a host, a name. `None` if it is only known at run time.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Read(subject) | Self::Write(subject) | Self::Net(subject) | Self::Env(subject) => subject.as_deref(),
            Self::Package(subject) | Self::Module(subject) => Some(subject),
            Self::Stdin => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_permanent_and_the_worse_is_the_greater() {
        let severities = [Severity::Unprovable, Severity::Warning, Severity::Error];
        assert_eq!(severities.map(Severity::name), ["unprovable", "warning", "error"]);
        assert_eq!(severities.map(|severity| severity.to_string()), ["unprovable", "warning", "error"]);
        let verdicts = [Verdict::Allow, Verdict::Warn, Verdict::Deny];
        assert_eq!(verdicts.map(Verdict::name), ["allow", "warn", "deny"]);
        assert_eq!(verdicts.map(|verdict| verdict.to_string()), ["allow", "warn", "deny"]);
        assert!(severities.is_sorted() && verdicts.is_sorted());
        assert_eq!(Verdict::default(), Verdict::Allow);
    }
}
