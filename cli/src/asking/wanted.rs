//! What `ask` and `generate` are told: the sentence, who is asked, what a script has to do, and what it may cost.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use capibara_generate::checks::{Checks, LARGEST_CHECK_FILE};
use capibara_generate::price::Cost;
use capibara_policies::{parse_count, parse_duration};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};

use super::shown::ShownFile;
use crate::errors::Failure;

/// How often models are asked for a script where nothing else is said.
const CALLS: u32 = 3;
/// The most of them, and the most candidates at a time.
const MOST_CALLS: u32 = 100;

/// The sentence and all that is about models.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// What the script is to do
    ///
    /// A sentence, or several words. It is part of what the model is asked, marked as the user's words.
    #[arg(value_name = "PROMPT", required = true, num_args = 1.., trailing_var_arg = false)]
    pub(crate) prompt: Vec<String>,

    /// Models to ask, in this order
    ///
    /// Names of profiles (`capibara model list`) with commas between them. The next one is asked where one is down, overloaded or over its limits, or
    /// does not get there. Default: what is set by `profile` (`capibara config`), or the only profile of yours. Example: `--profile local,groq`
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) profile: Vec<String>,

    /// What kind of task it is, for example data-file
    ///
    /// It adds a few lines of advice to what the model is asked: general (default), data-file, report, conversion, algorithm,
    /// text. Example: `--template report`
    #[arg(long, value_name = "NAME", default_value = "general", hide_default_value = true)]
    pub(crate) template: String,

    /// Show the model the start of a file (repeatable)
    ///
    /// The file must be granted by --read, --write or --overlay. So many bytes from its beginning are shown, 2KiB if nothing
    /// is said. Without this option no model sees what any file holds. Example: `--read sales.csv --show sales.csv:1KiB`
    #[arg(long, value_name = "FILE[:SIZE]", value_parser = OsStringValueParser::new().try_map(ShownFile::parse))]
    pub(crate) show: Vec<ShownFile>,

    /// What a script must do to be accepted
    ///
    /// `INPUT => OUTPUT`: run with that standard input it prints that; `\n` is a newline. `exit: CODE`, `match: REGEX` (of what it
    /// prints) and `artifact: NAME [sha256:DIGEST]` (in /out) are about the run itself. Repeatable; each case runs in a sandbox
    /// of its own. Example: `--check '2 3 => 5'`
    #[arg(long, value_name = "CHECK", allow_hyphen_values = true)]
    pub(crate) check: Vec<String>,

    /// A file of such checks (repeatable)
    ///
    /// YAML: a list of `stdin`, `stdout` and the like. See docs/generation.md.
    #[arg(long, value_name = "FILE")]
    pub(crate) check_file: Vec<PathBuf>,

    /// Ask for so many scripts and take the best
    ///
    /// They run at the same time, each in a sandbox of its own. Chosen by checks that hold, findings of the scan, what they need,
    /// and fuel. Default: 1. Example: `--best-of 3`
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CALLS)))]
    pub(crate) best_of: u32,

    /// Ask models for a script at most so often
    ///
    /// Default: 3, or two more than --best-of if that is more. Example: `--max-attempts 5`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CALLS)))]
    pub(crate) max_attempts: Option<u32>,

    /// Tokens models may use in all, such as 20K
    ///
    /// Questions and answers together. Each request reserves the most it can take before it is sent. Default: no bound. Example: `--max-tokens 50K`
    #[arg(long, value_name = "COUNT", value_parser = parse_count, allow_hyphen_values = true)]
    pub(crate) max_tokens: Option<u64>,

    /// Dollars models may cost in all, such as 0.05
    ///
    /// By the prices of the profiles. A profile without prices is not asked then. Default: no bound. Example: `--max-cost 0.10`
    #[arg(long, value_name = "DOLLARS", value_parser = Cost::from_str, allow_hyphen_values = true)]
    pub(crate) max_cost: Option<Cost>,

    /// Time all of it may take, for example 2m
    ///
    /// Asking models and trying scripts together. What is under way then is canceled. Default: no bound. Example: `--deadline 90s`
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) deadline: Option<Duration>,

    /// Print what would be asked, and send nothing
    #[arg(long)]
    pub(crate) explain: bool,

    /// Use only scripts that were accepted before
    ///
    /// A script is found again by prompt, files shown, grants, limits, policy, checks, profiles and runtime. No model is asked;
    /// if there is no such script, the exit code is 125.
    #[arg(long, conflicts_with_all = ["fresh", "record", "replay"])]
    pub(crate) offline: bool,

    /// Ask, even if a script was accepted before
    #[arg(long)]
    pub(crate) fresh: bool,

    /// Keep all requests and answers in this folder
    ///
    /// Without keys, each answer with the borders of its packets. `--replay` plays them. Example: `--record tape`
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    pub(crate) record: Option<PathBuf>,

    /// Play answers from this folder; no network
    ///
    /// A request that is not the one that was recorded is an error that shows the difference. Example: `--replay tape`
    #[arg(long, value_name = "DIR")]
    pub(crate) replay: Option<PathBuf>,
}

impl Wanted {
    /// The sentence.
    pub(crate) fn sentence(&self) -> String {
        self.prompt.join(" ")
    }

    /// How often models are asked at most.
    pub(crate) fn calls(&self) -> u32 {
        self.max_attempts.unwrap_or_else(|| CALLS.max(if self.best_of > 1 { self.best_of + 2 } else { 1 }))
    }

    /// All checks: those of the command line first, then those of files.
    pub(crate) fn checks(&self) -> Result<Checks, Failure> {
        let mut checks = Checks::default();
        for text in &self.check {
            checks.add(text).map_err(Failure::from)?;
        }
        for path in &self.check_file {
            let shown = path.display();
            let fail = |error: io::Error| {
                Failure::new("check", format!("failed to read the checks in `{shown}`")).with_cause(&error)
            };
            let mut bytes = Vec::new();
            let most = LARGEST_CHECK_FILE as u64 + 1;
            File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(fail)?;
            checks.add_file(&shown.to_string(), &bytes).map_err(Failure::from)?;
        }
        Ok(checks)
    }
}
