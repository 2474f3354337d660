//! Parses texts by the interpreter that runs scripts, inside the sandbox.

use std::sync::Arc;
use std::time::Duration;

use capibara::{Engine, EngineError, Epoch, Job, Limits, Outcome, Policy};
use capibara_policies::ScanMode;

use crate::extract::{MOST_PARSED_BYTES, Parsed, Parser};

/// The program that looks at texts; what it reads and writes is told there.
const PROGRAM: &str = include_str!("parse.py");
/// What one call of [`Parser::parse`] may spend on all its texts: about 4 s.
const FUEL: u64 = 50_000_000_000;
/// Memory of one run. Parsing takes some hundred times the size of the text.
const MEMORY_BYTES: u64 = 512 << 20;

/// The [`Parser`] of scripts for the sandbox's Python.
///
/// Each call is one run of a program of ours, without any grant, with fixed epoch and seed: the same texts always give the same results.
/// A text that breaks the interpreter is [`Parsed::Invalid`], and the others are looked at in another run; those that no fuel is left for
/// are [`Parsed::Unknown`].
#[derive(Debug)]
pub struct SandboxParser {
    engine: Engine,
    policy: Arc<Policy>,
}

/// Why texts could not be parsed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// There is no runtime, or it could not run.
    #[error("parsing by the sandbox's interpreter failed")]
    Engine(#[from] EngineError),
    /// The program did not begin: the runtime is another one than this library knows.
    #[error("the sandbox's interpreter did not run the parser: {stderr}")]
    Program {
        /// The end of what it printed on standard error.
        stderr: String,
    },
}

impl SandboxParser {
    /// A parser that uses the Python of an engine, which must be [prepared](Engine::prepare).
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let limits = Limits {
            wall_time: Duration::from_secs(60),
            memory: MEMORY_BYTES,
            output: 4 << 20,
            bytes_written: 0,
            files: 0,
            ..Limits::default()
        };
        let mut policy = Policy::default();
        policy.name = "parser".into();
        // The program is ours, and it compiles what it is given without ever running it.
        policy.scan = ScanMode::Off;
        policy.limits = limits;
        Self { engine, policy: Arc::new(policy) }
    }

    fn run(&self, texts: &[&str], fuel: u64) -> Result<Outcome, ParseError> {
        let input = serde_json::Value::from(texts).to_string();
        let limits = Limits { fuel: Some(fuel), ..self.policy.limits.clone() };
        let job = Job::under(self.policy.clone(), capibara::Script::Code(PROGRAM.into()))
            .with_limits(limits)
            .with_stdin(input)
            .with_epoch(Epoch::from_nanos(0))
            .with_seed(0);
        Ok(self.engine.run_blocking(job)?)
    }
}

/// One line of the program.
fn read(line: &str) -> Option<Parsed> {
    let values: Vec<serde_json::Value> = serde_json::from_str(line).ok()?;
    let at = || {
        let line = values.get(1).and_then(serde_json::Value::as_u64).and_then(|line| u32::try_from(line).ok());
        (line.unwrap_or(1), values.get(2).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned())
    };
    match values.first()?.as_str()? {
        "script" => Some(Parsed::Script),
        "trivial" => Some(Parsed::Trivial),
        "fragment" => {
            let (line, message) = at();
            Some(Parsed::Fragment { line, message })
        }
        "invalid" => {
            let (line, message) = at();
            Some(Parsed::Invalid { line, message, unfinished: values.get(3).and_then(serde_json::Value::as_bool)? })
        }
        _ => None,
    }
}

impl Parser for SandboxParser {
    type Error = ParseError;

    fn parse(&mut self, texts: &[&str]) -> Result<Vec<Parsed>, ParseError> {
        let mut found = Vec::new();
        let mut fuel = FUEL;
        while let Some(rest) = texts.get(found.len()..).filter(|rest| !rest.is_empty()) {
            if fuel == 0 || rest.iter().map(|text| text.len()).sum::<usize>() > MOST_PARSED_BYTES {
                found.resize(texts.len(), Parsed::Unknown);
                break;
            }
            let outcome = self.run(rest, fuel)?;
            fuel = fuel.saturating_sub(outcome.usage.fuel.unwrap_or(fuel));
            let output = outcome.stdout.text();
            // A line that was not written whole says nothing.
            let mut lines = output.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if lines.next() != Some("ready") {
                let stderr = outcome.stderr.text();
                let tail =
                    stderr.get(stderr.ceil_char_boundary(stderr.len().saturating_sub(500))..).unwrap_or_default();
                return Err(ParseError::Program { stderr: tail.trim_end().into() });
            }
            let before = found.len();
            found.extend(lines.map_while(read).take(rest.len()));
            if found.len() - before < rest.len() {
                let message = "it is too large, or nested too deep".into();
                found.push(Parsed::Invalid { line: 1, message, unfinished: false });
            }
        }
        Ok(found)
    }
}
