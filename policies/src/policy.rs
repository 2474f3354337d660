//! Policies and the presets that ship with the program.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::finding::{Severity, Verdict};
use crate::units::{format_count, format_duration, format_size};
use crate::{Limits, LimitsChange};

/// The presets, strictest first: name and data file.
pub const PRESETS: [(&str, &str); 3] = [
    ("strict", include_str!("presets/strict.yaml")),
    ("moderate", include_str!("presets/moderate.yaml")),
    ("permissive", include_str!("presets/permissive.yaml")),
];

/// What command-line flags and callers may do to the limits and grants of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlagsMay {
    /// Lower limits, never raise them, and grant nothing.
    Narrow,
    /// Set limits to anything, and grant anything.
    Set,
}

/// What is made of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScanMode {
    /// Findings have the effects the policy gives them.
    Enforce,
    /// Findings are told and never deny; only a source that cannot be read or whose language is unknown is denied.
    Warn,
    /// Nothing is scanned; sources are still decoded.
    Off,
}

/// What findings of each severity lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effects {
    /// What a finding of severity `error` leads to.
    pub error: Verdict,
    /// What a finding of severity `warning` leads to.
    pub warning: Verdict,
    /// What a finding of severity `unprovable` leads to.
    pub unprovable: Verdict,
}

/// What a policy says about one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSetting {
    /// Another severity than the rule's own.
    #[serde(default)]
    pub severity: Option<Severity>,
}

/// What a run may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name of the preset or file.
    pub name: String,
    /// Whether flags may raise limits and grant.
    pub flags: FlagsMay,
    /// Whether a run may use real clocks, real sleeps and system randomness (`--live`).
    pub live: bool,
    /// What is made of the scan.
    pub scan: ScanMode,
    /// What findings lead to.
    pub findings: Effects,
    /// Settings of single rules, by id.
    #[serde(default)]
    pub rules: BTreeMap<String, RuleSetting>,
    /// The bounds of a run.
    pub limits: Limits,
}

/// A policy that cannot be had, or a change it does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No preset has this name.
    #[error("there is no policy named `{name}`; the presets are strict, moderate and permissive")]
    UnknownName {
        /// The name that was asked for.
        name: String,
    },
    /// The document does not describe a policy.
    #[error("policy `{name}` cannot be read: {message}")]
    Malformed {
        /// Name of the policy.
        name: String,
        /// What the parser found, with line and column.
        message: String,
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
    /// A grant under a policy that flags can only narrow.
    #[error("policy `{policy}` does not allow flags to grant anything, and `{flag}` was given")]
    RefusesGrant {
        /// Name of the policy.
        policy: String,
        /// The flag that grants, for example `--read`.
        flag: &'static str,
    },
    /// Real clocks and randomness under a policy that refuses them.
    #[error("policy `{policy}` does not allow live runs (real clocks and system randomness)")]
    RefusesLive {
        /// Name of the policy.
        policy: String,
    },
}

impl Default for Policy {
    /// The preset `moderate`.
    #[expect(clippy::expect_used, reason = "a test reads every preset that ships")]
    fn default() -> Self {
        Self::preset("moderate").expect("the preset `moderate`")
    }
}

impl Policy {
    /// The preset of that name.
    ///
    /// # Errors
    /// [`PolicyError::UnknownName`].
    pub fn preset(name: &str) -> Result<Self, PolicyError> {
        let (_, text) = PRESETS
            .iter()
            .find(|(preset, _)| *preset == name)
            .ok_or_else(|| PolicyError::UnknownName { name: name.into() })?;
        Self::parse(name, text)
    }

    /// Reads a policy document (YAML).
    ///
    /// # Errors
    /// [`PolicyError::Malformed`], with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        serde_saphyr::from_str(text)
            .map_err(|error| PolicyError::Malformed { name: name.into(), message: error.to_string() })
    }

    /// Applies what a caller asks for.
    ///
    /// # Errors
    /// [`PolicyError::Widens`] if the policy lets flags only narrow and `change` would raise a limit.
    pub fn apply(&mut self, change: &LimitsChange) -> Result<(), PolicyError> {
        let limits = &self.limits;
        let wider = match self.flags {
            FlagsMay::Set => None,
            FlagsMay::Narrow => [
                ("fuel", wider(limits.fuel, change.fuel, format_count)),
                ("wall_time", wider(Some(limits.wall_time), change.wall_time, format_duration)),
                ("memory", wider(Some(limits.memory), change.memory, format_size)),
                ("output", wider(Some(limits.output), change.output, format_size)),
                ("bytes_written", wider(Some(limits.bytes_written), change.bytes_written, format_size)),
            ]
            .into_iter()
            .find_map(|(limit, wider)| Some((limit, wider?))),
        };
        if let Some((limit, (allowed, asked))) = wider {
            return Err(PolicyError::Widens { policy: self.name.clone(), limit, allowed, asked });
        }
        let limits = &mut self.limits;
        limits.fuel = change.fuel.or(limits.fuel);
        limits.wall_time = change.wall_time.unwrap_or(limits.wall_time);
        limits.memory = change.memory.unwrap_or(limits.memory);
        limits.output = change.output.unwrap_or(limits.output);
        limits.bytes_written = change.bytes_written.unwrap_or(limits.bytes_written);
        Ok(())
    }

    /// Whether a flag may grant something: a file, a folder, a variable.
    ///
    /// # Errors
    /// [`PolicyError::RefusesGrant`] if flags can only narrow.
    pub fn check_grant(&self, flag: &'static str) -> Result<(), PolicyError> {
        match self.flags {
            FlagsMay::Set => Ok(()),
            FlagsMay::Narrow => Err(PolicyError::RefusesGrant { policy: self.name.clone(), flag }),
        }
    }

    /// The severity a rule has under this policy, given its own; `None` if the rule is off.
    #[must_use]
    pub fn severity(&self, rule: &str, own: Severity) -> Option<Severity> {
        match self.scan {
            ScanMode::Off => None,
            ScanMode::Enforce | ScanMode::Warn => {
                Some(self.rules.get(rule).and_then(|setting| setting.severity).unwrap_or(own))
            }
        }
    }

    /// What a finding of that rule and severity leads to.
    #[must_use]
    pub fn effect(&self, rule: &str, severity: Severity) -> Verdict {
        if matches!(rule, "unreadable-source" | "unknown-language") {
            return Verdict::Deny;
        }
        let effect = match severity {
            Severity::Error => self.findings.error,
            Severity::Warning => self.findings.warning,
            Severity::Unprovable => self.findings.unprovable,
        };
        match self.scan {
            ScanMode::Enforce => effect,
            ScanMode::Warn | ScanMode::Off => effect.min(Verdict::Warn),
        }
    }

    /// The reason of the allow list entry that lets a finding of that rule pass, in the file `path`, on a line of this
    /// text.
    #[must_use]
    pub fn allowed(&self, _rule: &str, _path: &str, _line: &str) -> Option<&str> {
        None
    }

    /// Digest of everything the policy says, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> String {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(format!("{self:?}")))
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
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn presets_have_the_documented_limits() {
        let row = |name: &str| {
            let policy = Policy::preset(name).unwrap();
            assert_eq!(policy.name, name);
            let l = policy.limits;
            (
                l.wall_time.as_secs(),
                l.fuel,
                l.memory >> 20,
                l.output >> 20,
                l.bytes_written >> 20,
                l.files,
                l.descriptors,
            )
        };
        assert_eq!(row("strict"), (5, Some(100_000_000_000), 128, 1, 16, 100, 32));
        assert_eq!(row("moderate"), (30, Some(1_000_000_000_000), 512, 16, 256, 1_000, 128));
        assert_eq!(row("permissive"), (300, None, 2048, 64, 2048, 10_000, 256));
    }

    #[test]
    fn moderate_is_the_default() {
        assert_eq!(Policy::preset("moderate").unwrap().limits, Limits::default());
    }

    #[test]
    fn strict_only_narrows() {
        let lower = LimitsChange { wall_time: Some(Duration::from_secs(1)), fuel: Some(5), ..Default::default() };
        let mut strict = Policy::preset("strict").unwrap();
        strict.apply(&lower).unwrap();
        assert_eq!((strict.limits.wall_time, strict.limits.fuel), (Duration::from_secs(1), Some(5)));
        for wider in [
            LimitsChange { wall_time: Some(Duration::from_secs(60)), ..Default::default() },
            LimitsChange { fuel: Some(u64::MAX), ..Default::default() },
            LimitsChange { memory: Some(1 << 30), ..Default::default() },
            LimitsChange { output: Some(1 << 30), ..Default::default() },
            LimitsChange { bytes_written: Some(1 << 30), ..Default::default() },
        ] {
            let mut strict = Policy::preset("strict").unwrap();
            let before = strict.clone();
            assert!(matches!(strict.apply(&wider), Err(PolicyError::Widens { .. })), "{wider:?}");
            assert_eq!(strict, before);
            Policy::preset("moderate").unwrap().apply(&wider).unwrap();
        }
        let memory = LimitsChange { memory: Some(1 << 30), ..Default::default() };
        assert_eq!(
            Policy::preset("strict").unwrap().apply(&memory).unwrap_err().to_string(),
            "policy `strict` allows memory up to 128MiB, and 1GiB was asked for; it can only be lowered"
        );
        assert!(strict.check_live().is_err());
        Policy::preset("moderate").unwrap().check_live().unwrap();
    }

    #[test]
    fn malformed_documents_name_the_place() {
        let text = PRESETS[0].1.replace("memory: 128MiB", "memory: 128");
        let message = Policy::parse("mine", &text).unwrap_err().to_string();
        assert!(message.contains("no unit") && message.contains("mine"), "{message}");
        let text = PRESETS[0].1.replace("memory: 128MiB", "memory: 5GiB");
        assert!(Policy::parse("mine", &text).unwrap_err().to_string().contains("at most 4GiB"));
        let text = PRESETS[0].1.replace("memory:", "memmory:");
        assert!(Policy::parse("mine", &text).unwrap_err().to_string().contains("memmory"));
    }
}
