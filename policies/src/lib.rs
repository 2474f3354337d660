//! What a script may do.
//!
//! A [`Policy`] holds the [`Limits`] a run is held to and says whether command-line flags may widen them. Three
//! presets ship as data files: `strict`, `moderate` (the default) and `permissive`. The scanner, its rules and
//! verdicts come to this crate later; it stays a leaf that knows neither Wasmtime nor an async runtime.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod policy;
mod units;

pub use limits::{LimitKind, Limits, LimitsChange};
pub use policy::{FlagsMay, PRESETS, Policy, PolicyError};
pub use units::{
    UnitError, format_count, format_duration, format_size, parse_count, parse_duration, parse_memory, parse_size,
};
