//! What a script may do.
//!
//! A [`Policy`] holds the [`Limits`] a run is held to and says whether command-line flags may widen them. Three
//! presets ship as data files: `strict`, `moderate` (the default) and `permissive`. A [`Scanner`] looks at a script and says
//! what it would do, and the policy turns what it finds into a [`Verdict`]. This crate is a leaf that knows neither Wasmtime
//! nor an async runtime.

#![forbid(unsafe_code)]

mod finding;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod javascript;
mod limits;
mod policy;
mod python;
pub mod rules;
mod scan;
mod units;

pub use finding::{Finding, Need, NeedKind, Severity, Span, Verdict};
pub use limits::{LimitKind, Limits, LimitsChange};
pub use policy::{Effects, FlagsMay, PRESETS, Policy, PolicyError, RuleSetting, ScanMode};
pub use scan::{LARGEST_SOURCE, Refused, Report, Scanner, Script, Source, SourceLanguage};
pub use units::{
    UnitError, format_count, format_duration, format_size, parse_count, parse_duration, parse_memory, parse_size,
};
