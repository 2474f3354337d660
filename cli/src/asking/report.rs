//! The JSON of `ask` and `generate`, schema 1. `schema/ask.v1.json` describes it.

use capibara_generate::asks::{Ask, Asks};
use capibara_generate::record::GenerationRecord;
use serde::Serialize;

use crate::errors::Failure;
use crate::output::json::{ErrorReport, RunReport, SCHEMA};

/// What came of it. The order of the fields is the order of the keys.
#[derive(Serialize)]
pub(crate) struct AskReport {
    schema: u32,
    /// `accepted`, `rejected`, `error` or `canceled`.
    pub(crate) status: &'static str,
    /// `model` or `store`; `null` if there is no script.
    pub(crate) source: Option<&'static str>,
    /// The script that was accepted or, if none was, the last one that was tried.
    pub(crate) script: Option<String>,
    pub(crate) script_sha256: Option<String>,
    /// The run of that script, as of `capibara run`; `null` if it did not run.
    pub(crate) run: Option<RunReport>,
    /// What that script asks for and was not granted.
    pub(crate) asks: Vec<AskedFor>,
    /// All that was asked and tried; `null` if no model was asked.
    pub(crate) generation: Option<GenerationRecord>,
    pub(crate) error: Option<ErrorReport>,
}

/// One thing that a script asks for.
#[derive(Serialize)]
pub(crate) struct AskedFor {
    need: &'static str,
    name: Option<String>,
    line: u32,
    by: &'static str,
}

impl AskReport {
    /// A report of nothing yet.
    pub(crate) fn new(status: &'static str) -> Self {
        Self {
            schema: SCHEMA,
            status,
            source: None,
            script: None,
            script_sha256: None,
            run: None,
            asks: Vec::new(),
            generation: None,
            error: None,
        }
    }

    /// It failed before anything else could be told.
    pub(crate) fn failed(failure: &Failure) -> Self {
        Self { error: Some(failure.into()), ..Self::new("error") }
    }

    /// What a script asks for, for the report.
    pub(crate) fn asked_for(asks: &Asks) -> Vec<AskedFor> {
        let one = |ask: &Ask| AskedFor {
            need: ask.kind.name(),
            name: ask.kind.subject().map(str::to_owned),
            line: ask.line,
            by: if ask.by_comment { "comment" } else { "code" },
        };
        asks.asks.iter().map(one).collect()
    }
}
