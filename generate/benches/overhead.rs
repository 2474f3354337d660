//! What everything but the model takes: `cargo bench -p capibara-generate`.
//!
//! Each line is the median of many turns, in milliseconds. The reference is a run of the same script in the same process.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capibara::{Engine, EngineConfig, Job, Language, Outcome, Scan, Script, Silent};
use capibara_generate::budget::Budget;
use capibara_generate::checks::Checks;
use capibara_generate::facts::{Facts, RuntimeFacts};
use capibara_generate::flow::{Flow, Input, Sandbox, SandboxError, Task};
use capibara_generate::parse::SandboxParser;
use capibara_generate::prompt::{Prompt, PromptParts};
use capibara_generate::store::{Store, StoreKey, StoredScript};
use capibara_generate::template::{DEFAULT_TEMPLATE, template};
use capibara_generate::{Answer, End, Provider, ProviderError, Request, Sink, Usage};
use futures_util::future::{LocalBoxFuture, ready};
use tokio_util::sync::CancellationToken;

const TURNS: usize = 300;

/// A model that takes no time. Each script is another one, as stored and compiled code would make it too easy.
struct Instantly(Cell<u32>);

impl Instantly {
    fn script(&self) -> String {
        self.0.set(self.0.get() + 1);
        format!(
            "import csv, io\nrows = list(csv.DictReader(io.StringIO('region,n\\nnorth,3\\nsouth,{}\\n')))\ntotals = {{}}\nfor row in rows:\n    totals[row['region']] = \
             totals.get(row['region'], 0) + int(row['n'])\nprint(totals)\n",
            self.0.get()
        )
    }
}

impl Provider for Instantly {
    fn id(&self) -> &str {
        "instantly"
    }

    fn takes_temperature(&self) -> bool {
        false
    }

    fn generate<'a>(
        &'a self,
        _: &'a Request,
        _: &'a Budget,
        _: &'a CancellationToken,
        _: &'a mut dyn Sink,
    ) -> LocalBoxFuture<'a, Result<Answer, ProviderError>> {
        let text = format!("Here is the script:\n\n```python\n{}```\n", self.script());
        Box::pin(ready(Ok(Answer {
            end: End::Complete { text },
            usage: Usage::default(),
            request_id: None,
            model: None,
            attempts: Vec::new(),
            warnings: Vec::new(),
        })))
    }
}

struct Runs<'a>(&'a Engine);

impl Runs<'_> {
    fn job(script: &str) -> Job {
        Job::new(Script::File { name: "script.py".into(), source: script.as_bytes().into() })
    }
}

impl Sandbox for Runs<'_> {
    fn scan(&self, script: &str) -> Arc<Scan> {
        self.0.scan(&Self::job(script))
    }

    fn run(&self, script: &str, _: Input<'_>) -> Result<Outcome, SandboxError> {
        Ok(self.0.run_blocking(Self::job(script))?)
    }
}

fn median(mut turn: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..TURNS)
        .map(|_| {
            let start = Instant::now();
            turn();
            start.elapsed()
        })
        .collect();
    times.sort();
    times.get(TURNS / 2).copied().unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn tell(name: &str, time: Duration) {
    println!("{name:<44} {:>8.3} ms", time.as_secs_f64() * 1e3);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new(EngineConfig::default())?;
    engine.prepare(Language::Python, false, &Silent)?;
    let folder = tempfile::tempdir()?;
    let executor = tokio::runtime::Builder::new_current_thread().build()?;
    let (checks, template) = (Checks::new(), template(DEFAULT_TEMPLATE)?);
    let asked = || -> Result<Prompt, Box<dyn std::error::Error>> {
        let runtime = executor.block_on(RuntimeFacts::of(&engine, Language::Python, folder.path()))?;
        let facts = Facts::of(runtime, &Job::python(""))?;
        let parts = PromptParts { facts: &facts, template, task: "totals per region", shown: &[], checks: &checks };
        Ok(Prompt::new(&parts)?)
    };
    let prompt = asked()?;
    tell("facts and prompt", median(|| drop(black_box(asked()))));

    let (model, runs) = (Instantly(Cell::new(0)), Runs(&engine));
    let mut parser = SandboxParser::new(engine.clone());
    let (budget, cancel) = (Budget::default(), CancellationToken::new());
    let task = Task { prompt: &prompt, checks: &checks, run: true, calls: 3, candidates: 1, max_output: 1_000 };
    let flow = median(|| {
        let mut flow =
            Flow { task, provider: &model, sandbox: &runs, parser: &mut parser, budget: &budget, cancel: &cancel };
        let generation = executor.block_on(flow.run(&mut |_| {}));
        assert!(generation.accepted().is_some(), "the script is accepted");
    });
    tell("extract, parse, scan, run: a new script", flow);
    let run = median(|| drop(black_box(engine.run_blocking(Runs::job(&model.script())))));
    tell("of this, scan and run", run);
    tell("own overhead", flow.saturating_sub(run) + median(|| drop(black_box(asked()))));

    let store = Store::new(folder.path().join("scripts"));
    let key = StoreKey::default().with("prompt", &prompt.digest);
    store.put(&key, &StoredScript::now(&model.script(), "p", "m"))?;
    let found = median(|| {
        let again = asked().map(|prompt| StoreKey::default().with("prompt", &prompt.digest));
        assert!(again.is_ok_and(|key| store.get(&key).is_ok_and(|found| found.is_some())), "it is found");
    });
    tell("a stored script, until it is scanned", found);
    Ok(())
}
