//! What can be wrong with a policy, and what a policy refuses.

use std::fmt;
use std::path::PathBuf;

/// A policy that cannot be had, or a change it does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No preset and no file of the user has this name.
    #[error("there is no policy named `{name}`; the presets are strict, moderate and permissive")]
    UnknownName {
        /// The name that was asked for.
        name: String,
        /// The name there is that comes nearest to it, if one does.
        nearest: Option<String>,
        /// The folder of the user's policies that was looked in.
        folder: Option<PathBuf>,
    },
    /// A policy file cannot be read at all.
    #[error("the policy file `{}` cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system, or a bound of ours, says.
        reason: String,
    },
    /// The document does not describe a policy that can be used.
    #[error("policy `{name}` cannot be used: {}", told(problems))]
    Invalid {
        /// Name of the policy.
        name: String,
        /// What is wrong, by place; at least one.
        problems: Vec<Problem>,
    },
    /// A limit would be raised under a policy that only lets it be lowered.
    #[error("policy `{policy}` allows {limit} up to {allowed}, and {asked} was asked for; it can only be lowered")]
    Widens {
        /// Name of the policy.
        policy: String,
        /// Which limit, by its name in a policy: `wall_time`.
        limit: &'static str,
        /// What the policy allows, as it is written in a policy: `5s`, `128MiB`, `100G`.
        allowed: String,
        /// What was asked for, written in the same way.
        asked: String,
    },
    /// More than the administrator's ceiling allows.
    #[error("the ceiling `{}` allows {what} {allowed}, and {asked} was asked for", ceiling.display())]
    AboveCeiling {
        /// The file that says so.
        ceiling: PathBuf,
        /// Which limit or grant, by its name in a policy: `memory`, `read`.
        what: &'static str,
        /// `up to 1GiB`, `only below /srv`, `nowhere`.
        allowed: String,
        /// What was asked for.
        asked: String,
    },
    /// A grant by a flag under a policy that does not let flags grant it.
    #[error("policy `{policy}` does not allow flags to grant {what}, and `{flag}` was given")]
    RefusesGrant {
        /// Name of the policy.
        policy: String,
        /// The flag that grants, for example `--read`.
        flag: &'static str,
        /// `anything`, or what this flag grants.
        what: &'static str,
    },
    /// Real clocks and randomness under a policy that refuses them.
    #[error("policy `{policy}` does not allow live runs (real clocks and system randomness)")]
    RefusesLive {
        /// Name of the policy.
        policy: String,
    },
}

fn told(problems: &[Problem]) -> String {
    match problems {
        [] => "it does not say what a run may do".into(),
        [problem] => problem.to_string(),
        [problem, rest @ ..] => format!("{problem} (and {} more)", rest.len()),
    }
}

/// One thing that is wrong with a policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// The document: a path as it was given or found, or the name of a preset.
    pub file: String,
    /// Line from 1; 0 where it is about the whole document.
    pub line: u32,
    /// Column from 1, in characters; 0 where it is about the whole document.
    pub column: u32,
    /// A lower-case fragment that names the thing.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The kinds of [`Problem`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// It is no YAML, or of another shape than a policy.
    Syntax,
    /// A key there is not.
    UnknownKey,
    /// A key that is needed and missing.
    MissingKey,
    /// A value that cannot be.
    InvalidValue,
    /// A rule there is not.
    UnknownRule,
    /// A rule that cannot be changed.
    FixedRule,
    /// A grant that this version cannot give: `net`, `secrets`, `packages`, `tools`.
    Unavailable,
    /// It allows more than the policy it extends, and does not say `widen: true`, or not where that counts.
    Widens,
    /// What it extends cannot be found, goes in a circle, or goes on for too long.
    Extends,
    /// It grants what the administrator's ceiling does not allow.
    AboveCeiling,
}

impl ProblemKind {
    /// The permanent name, in kebab-case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::UnknownKey => "unknown-key",
            Self::MissingKey => "missing-key",
            Self::InvalidValue => "invalid-value",
            Self::UnknownRule => "unknown-rule",
            Self::FixedRule => "fixed-rule",
            Self::Unavailable => "unavailable",
            Self::Widens => "widens",
            Self::Extends => "extends",
            Self::AboveCeiling => "above-ceiling",
        }
    }
}

/// The candidate that is nearest to a misspelled word, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are no names of ours, and comparing them would take time.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase().replace('_', "-");
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase().replace('_', "-")), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_word_is_one_that_can_be_meant() {
        let keys = ["limits", "grants", "overridable", "live", "wall_time"];
        for (word, meant) in [
            ("limit", Some("limits")),
            ("Limits", Some("limits")),
            ("lmiits", Some("limits")),
            ("overideable", Some("overridable")),
            ("wall-time", Some("wall_time")),
            ("walltime", Some("wall_time")),
            ("lvie", Some("live")),
            ("timeout", None),
            ("", None),
            ("zzzz", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(nearest(&"l".repeat(1 << 20), keys), None);
    }
}
