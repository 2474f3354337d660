//! The commands: arguments and execution of each in a file of its own.

pub(crate) mod ask;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod dry_run;
pub(crate) mod init;
pub(crate) mod man;
pub(crate) mod model;
pub(crate) mod policy;
pub(crate) mod repl;
pub(crate) mod run;
pub(crate) mod runtime;
pub(crate) mod scan;
pub(crate) mod watch;

use capibara::Language;
use clap::Args;

use crate::errors::Failure;
use crate::output::Format;

/// The language of that name, as on the command line.
pub(crate) fn language(name: &str) -> Result<Language, Failure> {
    name.parse().map_err(|_| Failure::no_such_language(name))
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// text: lines for people (default); json: one object
    ///
    /// Example: `--format json`
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) format: Format,
}
