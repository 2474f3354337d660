//! The commands: arguments and execution of each in a file of its own.

pub(crate) mod audit;
pub(crate) mod dry_run;
pub(crate) mod policy;
pub(crate) mod run;
pub(crate) mod runtime;
pub(crate) mod scan;

use capibara::Language;

use crate::errors::Failure;

/// The language of that name, as on the command line.
pub(crate) fn language(name: &str) -> Result<Language, Failure> {
    name.parse().map_err(|_| Failure::no_such_language(name))
}
