//! Policies written down: as a document (YAML, JSON) and as a digest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::{Audit, Effects, FileGrant, Overridable, Policy, ScanMode};
use crate::units::{format_count, format_duration, format_size};

/// An effective policy as a document: it says everything and extends nothing. As JSON it is a policy file, too.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    overridable: &'a Overridable,
    live: bool,
    audit: Audit,
    scan: ScanMode,
    findings: Effects,
    rules: BTreeMap<&'a str, ShownRule<'a>>,
    scan_limits: ShownScanLimits,
    limits: ShownLimits,
    grants: ShownGrants<'a>,
}

#[derive(Serialize)]
struct ShownRule<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow: Vec<ShownAllow<'a>>,
}

#[derive(Serialize)]
struct ShownAllow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#match: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<&'a str>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

#[derive(Serialize)]
struct ShownScanLimits {
    source_bytes: String,
}

#[derive(Serialize)]
struct ShownLimits {
    fuel: String,
    wall_time: String,
    memory: String,
    output: String,
    bytes_written: String,
    files: u64,
    descriptors: u64,
}

#[derive(Serialize)]
struct ShownGrants<'a> {
    read: Vec<ShownFile>,
    write: Vec<ShownFile>,
    /// Left out where there is none, so that digests of policies stay as they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlay: Vec<ShownFile>,
    env: &'a BTreeMap<String, String>,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct ShownFile {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<String>,
}

impl Serialize for Overridable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_all() || self.is_none() {
            serializer.serialize_str(&self.to_string())
        } else {
            serializer.collect_seq(self.settings())
        }
    }
}

fn path_text(path: &Path) -> String {
    // Such a path comes from a flag: files are UTF-8. No other path looks like this.
    path.to_str().map_or_else(|| format!("\0{}", hex::encode(path.as_os_str().as_encoded_bytes())), str::to_owned)
}

fn files(grants: &[FileGrant]) -> Vec<ShownFile> {
    let mut shown: Vec<ShownFile> =
        grants.iter().map(|grant| ShownFile { host: path_text(&grant.host), guest: grant.guest_path() }).collect();
    shown.sort();
    shown.dedup();
    shown
}

impl<'a> Shown<'a> {
    fn of(policy: &'a Policy) -> Self {
        let limits = &policy.limits;
        let rules = policy.rules.iter().map(|(id, setting)| {
            let allow = setting.allow.iter().map(|entry| ShownAllow {
                path: entry.path(),
                r#match: entry.text(),
                regex: entry.regex(),
                reason: entry.reason(),
                expires: entry.expires(),
            });
            (id.as_str(), ShownRule { severity: setting.severity.map(|s| s.name()), allow: allow.collect() })
        });
        Self {
            name: Some(&policy.name),
            description: Some(policy.description.as_str()).filter(|text| !text.is_empty()),
            overridable: &policy.overridable,
            live: policy.live,
            audit: policy.audit,
            scan: policy.scan,
            findings: policy.findings,
            // A rule of which nothing is said is one that is not named.
            rules: rules.filter(|(_, rule)| rule.severity.is_some() || !rule.allow.is_empty()).collect(),
            scan_limits: ShownScanLimits { source_bytes: format_size(policy.scan_limits.source_bytes) },
            limits: ShownLimits {
                fuel: limits.fuel.map_or_else(|| "none".into(), format_count),
                wall_time: format_duration(limits.wall_time),
                memory: format_size(limits.memory),
                output: format_size(limits.output),
                bytes_written: format_size(limits.bytes_written),
                files: limits.files,
                descriptors: limits.descriptors,
            },
            grants: ShownGrants {
                read: files(&policy.grants.read),
                write: files(&policy.grants.write),
                overlay: files(&policy.grants.overlay),
                env: &policy.grants.env,
            },
        }
    }
}

impl Policy {
    /// The digest of what the policy says, in hexadecimal: SHA-256 of a canonical form. Name and description are not part
    /// of it, and neither are entries of allow lists that have expired, so equal policies have equal digests wherever
    /// they come from. Values a file or a flag grants are: take it after flags were applied.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(b"capibara policy 1\n");
        digest.update(Shown { name: None, description: None, ..Shown::of(self) }.json());
        hex::encode(digest.finalize())
    }

    /// The effective policy as a JSON object of the schema `policy.v1.json`, which is a policy file as well.
    #[must_use]
    pub fn to_json(&self) -> String {
        Shown::of(self).json()
    }

    /// The effective policy as a policy file in YAML, with comments.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        Shown::of(self).yaml()
    }
}

impl Shown<'_> {
    fn json(&self) -> String {
        // Strings, numbers and maps with strings for keys: nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn yaml(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        for (key, value) in [("name", self.name), ("description", self.description)] {
            if let Some(value) = value {
                writeln!(out, "{key}: {}", scalar(value))?;
            }
        }
        writeln!(out, "\n# What flags may raise and grant: all, none, or a list. They may always lower a limit.")?;
        writeln!(out, "overridable: {}", self.overridable)?;
        writeln!(
            out,
            "# Whether --live is allowed: real clocks, real sleeps, system randomness.\nlive: {}",
            self.live
        )?;
        writeln!(
            out,
            "# What happens when the run cannot be recorded: required (it does not run) or wanted.\naudit: {}",
            self.audit
        )?;
        writeln!(out, "\n# enforce, warn (findings never deny) or off.\nscan: {}", self.scan)?;
        writeln!(out, "# What findings lead to, by severity: deny, warn or allow.\nfindings:")?;
        let Effects { error, warning, unprovable } = self.findings;
        writeln!(out, "  error: {error}\n  warning: {warning}\n  unprovable: {unprovable}")?;
        if self.rules.is_empty() {
            writeln!(out, "# Every rule has its own severity, and no finding is let pass.\nrules: {{}}")?;
        } else {
            writeln!(out, "# Rules with another severity than their own, and findings that are let pass.\nrules:")?;
        }
        for (id, rule) in &self.rules {
            writeln!(out, "  {}:", scalar(id))?;
            if let Some(severity) = rule.severity {
                writeln!(out, "    severity: {severity}")?;
            }
            if !rule.allow.is_empty() {
                writeln!(out, "    allow:")?;
            }
            for entry in &rule.allow {
                writeln!(out, "      - reason: {}", scalar(entry.reason))?;
                let expires = entry.expires.as_deref();
                for (key, value) in
                    [("path", entry.path), ("match", entry.r#match), ("regex", entry.regex), ("expires", expires)]
                {
                    if let Some(value) = value {
                        writeln!(out, "        {key}: {}", scalar(value))?;
                    }
                }
            }
        }
        writeln!(out, "# The largest source that is scanned.\nscan_limits:")?;
        writeln!(out, "  source_bytes: {}", self.scan_limits.source_bytes)?;
        let limits = &self.limits;
        writeln!(out, "\n# What a run may use. Fuel counts instructions, 12 for about a nanosecond.\nlimits:")?;
        for (key, value) in [
            ("wall_time", &limits.wall_time),
            ("fuel", &limits.fuel),
            ("memory", &limits.memory),
            ("output", &limits.output),
            ("bytes_written", &limits.bytes_written),
            ("files", &limits.files.to_string()),
            ("descriptors", &limits.descriptors.to_string()),
        ] {
            writeln!(out, "  {key}: {value}")?;
        }
        writeln!(
            out,
            "\n# What of this machine a run is given: host is the place here, guest where the script sees it."
        )?;
        writeln!(out, "grants:")?;
        let grants = &self.grants;
        for (key, files) in [("read", &grants.read), ("write", &grants.write), ("overlay", &grants.overlay)] {
            if files.is_empty() {
                writeln!(out, "  {key}: []")?;
                continue;
            }
            writeln!(out, "  {key}:")?;
            for file in files {
                writeln!(out, "    - host: {}", scalar(&file.host))?;
                if let Some(guest) = &file.guest {
                    writeln!(out, "      guest: {}", scalar(guest))?;
                }
            }
        }
        if self.grants.env.is_empty() {
            return writeln!(out, "  env: {{}}");
        }
        writeln!(out, "  env:")?;
        for (name, value) in self.grants.env {
            writeln!(out, "    {}: {}", scalar(name), scalar(value))?;
        }
        Ok(())
    }
}

/// A string in YAML: plain where nothing else could be read into it, otherwise in quotes, as JSON writes it.
fn scalar(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "_./- ".contains(c);
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(word)
        && !text.ends_with(' ')
        && !text.contains("  ")
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let quoted = serde_json::to_string(text).unwrap_or_default();
    // JSON lets stand as they are what YAML takes for line breaks or for nothing.
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}
