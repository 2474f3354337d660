//! What a script may do.
//!
//! A [`Policy`] holds the [`Limits`] a run is held to and says whether command-line flags may widen them. Three
//! presets ship as data files: `strict`, `moderate` (the default) and `permissive`. A [`Scanner`] looks at a script and says
//! what it would do, and the policy turns what it finds into a [`Verdict`]. This crate is a leaf that knows neither Wasmtime
//! nor an async runtime.

#![forbid(unsafe_code)]

mod custom;
pub mod diagnostics;
mod escape;
mod finding;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod javascript;
mod limits;
mod policy;
mod python;
mod report_json;
pub mod rules;
pub mod sarif;
mod scan;
pub mod suggest;
mod units;

pub use custom::{
    CustomRule, CustomRules, DuplicateRule, LARGEST_RULE_FILE, LONGEST_QUERY, MOST_RULES, RuleFileError, RuleProblem,
    TestFailure, TestProblem, TestReport,
};
pub use escape::escape;
pub use finding::{Finding, Need, NeedKind, Severity, Span, Verdict};
pub use limits::{LimitKind, Limits, LimitsChange};
pub use policy::{
    Allow, Audit, CEILING, Ceiling, DEFAULT_POLICY, Effects, Expired, FileGrant, FlatEntry, Grants, ListedPolicy,
    Overridable, PRESETS, Pairs, Policy, PolicyError, PolicyFolders, Problem, ProblemKind, RuleSetting, RuleSeverity,
    ScanLimits, ScanMode, Setting, flat_document, nearest, read_document,
};
pub use report_json::{
    FindingJson, PolicyIdentity, ScanJson, ScanReport, ScannedFile, SeverityCounts, Summary, UnreadFile,
};
pub use scan::{Import, LARGEST_SOURCE, Refused, Report, Scanner, Script, Source, SourceLanguage, imports};
pub use units::{
    UnitError, format_count, format_duration, format_size, parse_count, parse_duration, parse_memory, parse_size,
};
