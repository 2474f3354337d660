//! The scanner: what a script would do if the sandbox let it, and whether the policy lets it run.
//!
//! A scan is pure and synchronous: the same text and policy give the same [`Report`]. It explains and decides; the
//! boundary is WebAssembly and the World.

mod collector;
mod exports;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod imports;
mod language;
mod source;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use imports::{Import, imports};
pub use language::SourceLanguage;
pub use source::{Refused, Source};

pub(crate) use source::has_long_word;

pub(crate) use collector::Collector;
pub(crate) use exports::Exports;
pub(crate) use tree::{Parsed, SyntaxNode};

use crate::{CustomRules, Finding, Need, Policy, Verdict, rules};

/// The largest source that is scanned, where the policy says nothing.
pub const LARGEST_SOURCE: u64 = 1 << 20;
/// The deepest nesting of syntax that is looked at.
pub(crate) const DEEPEST_TREE: usize = 2_000;
/// How long parsing may compute: nearly twice what an ordinary source of the largest size takes.
pub(crate) const PARSE_BUDGET: Duration = Duration::from_millis(700);
/// The most findings one source can have; the rest is one finding that says so.
pub(crate) const MOST_FINDINGS: usize = 1_000;

/// A source to scan.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// Path to show, and to tell the language by.
    pub path: &'a str,
    /// The bytes as they were read.
    pub bytes: &'a [u8],
    /// The language, where the caller knows it.
    pub language: Option<SourceLanguage>,
    /// Import names of modules that come with the script (its own folder).
    pub own_modules: &'a [String],
}

/// What a scan came to. Its serialized form is for keeping it ([`Scanner::digest`]), not for showing it: see
/// [`ScanReport`](crate::ScanReport).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worst effect of the findings.
    pub verdict: Verdict,
    /// The findings, by place.
    pub findings: Vec<Finding>,
    /// What the script needs, by place.
    pub needs: Vec<Need>,
    /// The language it was scanned as.
    pub language: Option<SourceLanguage>,
    /// Whether a bound on computing time was met: another scan, on a faster machine, may come to something else.
    pub cut_short: bool,
}

/// Scans sources against policies. Cheap to make; one can be shared by threads.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    custom: CustomRules,
    exports: Arc<Exports>,
}

impl Scanner {
    /// A scanner with the rules that ship with the program.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds rules of one's own, in place of those added before.
    #[must_use]
    pub fn with_custom(mut self, rules: CustomRules) -> Self {
        self.custom = rules;
        self
    }

    /// Tells it of the Python modules that come with a script, import name and bytes of each: what they hand on of the
    /// library (`import os` in one, `from helper import os` in the script) is followed.
    #[must_use]
    pub fn with_modules<'a>(mut self, modules: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        self.exports = Arc::new(Exports::of(modules.into_iter()));
        self
    }

    /// The rules of one's own.
    #[must_use]
    pub fn custom(&self) -> &CustomRules {
        &self.custom
    }

    /// SHA-256 over everything a scan depends on: this scanner (another version of the program is another one), its
    /// custom rules and modules, the policy by its [`Policy::sha256`], and the script. Equal digests, equal reports.
    #[must_use]
    pub fn digest(&self, script: &Script<'_>, policy_sha256: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(env!("CAPIBARA_SCANNER").as_bytes());
        field(&self.custom.digest());
        field(policy_sha256.as_bytes());
        field(script.language.map_or("", SourceLanguage::name).as_bytes());
        field(script.path.as_bytes());
        field(script.bytes);
        field(&(script.own_modules.len() as u64).to_le_bytes());
        for name in script.own_modules {
            field(name.as_bytes());
        }
        for (module, names) in self.exports.modules() {
            field(module.as_bytes());
            field(&(names.len() as u64).to_le_bytes());
            for (name, path) in names {
                field(name.as_bytes());
                field(path.as_bytes());
            }
        }
        hash.finalize().into()
    }

    /// Scans one source. Never fails: what cannot be read, parsed or finished in time is a finding.
    #[must_use]
    pub fn scan(&self, script: &Script<'_>, policy: &Policy) -> Report {
        self.scan_with_source(script, policy).0
    }

    /// As [`scan`](Self::scan), with the source as it was scanned, which is as it must run; `None` if it is none.
    #[must_use]
    pub fn scan_with_source(&self, script: &Script<'_>, policy: &Policy) -> (Report, Option<Source>) {
        let mut collector = Collector::new(script.path, policy);
        let language = script.language.or_else(|| SourceLanguage::of(script.path, script.bytes));
        let Some(language) = language else {
            collector.report_at_start(rules::unknown_language, "the language of this script is not known");
            return (collector.finish(None), None);
        };
        let source = match Source::decode(script.bytes, language) {
            Ok(source) => {
                self.scan_source(&source, script, &mut collector);
                Some(source)
            }
            Err(refused) => {
                collector.report_at_start(rules::unreadable_source, &refused.to_string());
                None
            }
        };
        (collector.finish(Some(language)), source)
    }

    fn scan_source(&self, source: &Source, script: &Script<'_>, collector: &mut Collector<'_>) {
        collector.set_text(source.text());
        let largest = collector.policy().scan_limits.source_bytes;
        if source.text().len() as u64 > largest {
            collector.report_at_start(
                rules::oversized_source,
                &format!("the source is longer than {}", crate::format_size(largest)),
            );
            return;
        }
        match Parsed::parse(source) {
            Ok(parsed) => {
                match source.language() {
                    SourceLanguage::Python => crate::python::analyze(&parsed, script, &self.exports, collector),
                    SourceLanguage::JavaScript | SourceLanguage::TypeScript => {
                        crate::javascript::analyze(&parsed, script, collector);
                    }
                }
                self.custom.analyze(&parsed, source.language(), collector);
            }
            Err(why) => {
                collector.report_at_start(rules::oversized_source, why);
                collector.cut_short();
            }
        }
    }
}
