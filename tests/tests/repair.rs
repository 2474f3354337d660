//! Repairs, measured without a model: flawed scripts of known tasks, and a script in the place of the model that gives the right one
//! only if it is shown what is wrong.
//!
//! `oracle/flawed.py` makes the scripts and writes down what is wrong with each. Scan, parser, sandbox, checks and all messages are the
//! real ones. So this measures what is told of failures, and when it is told, and nothing about models.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use capibara::{Epoch, Job, Limits, Outcome, Policy, Scan, Script};
use capibara_generate::budget::{Budget, Caps};
use capibara_generate::checks::Checks;
use capibara_generate::extract::{Parsed, Parser};
use capibara_generate::facts::{Facts, RuntimeFacts};
use capibara_generate::flow::{Flow, Generation, Input, Sandbox, SandboxError, Task};
use capibara_generate::parse::{ParseError, SandboxParser};
use capibara_generate::prompt::{Prompt, PromptParts};
use capibara_generate::template::{DEFAULT_TEMPLATE, template};
use capibara_generate::{Answer, End, Message, Provider, ProviderError, Request, Role, Sink, Usage};
use capibara_tests::{cache, engine, repository, skip};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// What is promised.
const VARIANTS: usize = 900;
const TASKS: usize = 140;
const MIXED_PERCENT: usize = 95;
const CALLS: u32 = 3;

/// The exit code of `flawed.py` where the package index cannot be reached.
const UNAVAILABLE: i32 = 69;
/// The right scripts take 11 million at most, so what takes this much does not end; it is 33 ms.
const FUEL: u64 = 400_000_000;

/// One line of the file that `flawed.py` makes.
#[derive(Deserialize)]
struct Variant {
    id: String,
    task: String,
    sentence: String,
    script_flawed: String,
    script_fixed: String,
    cases: Vec<Value>,
    operator: String,
    evidence: Evidence,
    fresh_only: bool,
}

/// What must have been shown of a flaw before it can be understood.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Evidence {
    Syntax { line: u64 },
    Module { name: String },
    Exception { r#type: String, line: Option<String> },
    Limit,
    Wrong { expected: String, got: String },
}

impl Evidence {
    /// Whether a message shows it in its section of data.
    fn is_in(&self, message: &str) -> bool {
        let mut lines = message.lines().skip_while(|line| !(line.starts_with("<data ") && line.ends_with(" failure>")));
        let Some(told) = lines.nth(1).and_then(|line| serde_json::from_str::<Value>(line).ok()) else { return false };
        let text = |key: &str| told[key].as_str().unwrap_or_default();
        let listed = |key: &str| told[key].as_array().cloned().unwrap_or_default();
        let holds = |value: &Value, part: &str| value.as_str().is_some_and(|text| text.contains(part));
        match self {
            Self::Syntax { line } => text("reason").contains(&format!("Line {line} of the block: ")),
            Self::Module { name } => {
                let raised = text("exception").starts_with("ModuleNotFoundError: ") && text("exception").contains(name);
                raised || listed("findings").iter().any(|it| holds(&it["source"], name) || holds(&it["message"], name))
            }
            Self::Exception { r#type, line } => match line {
                Some(line) => {
                    let raised = text("exception").split(':').next() == Some(r#type.as_str());
                    raised && listed("frames").iter().any(|it| holds(&it["source"], line))
                }
                // A recursion ends at the interpreter's limit or at that of the stack.
                None => text("exception").starts_with(r#type) || told["limit"]["name"] == "stack",
            },
            Self::Limit => ["fuel", "wall_time"].iter().any(|name| told["limit"]["name"] == *name),
            Self::Wrong { expected, got } => text("expected").starts_with(expected) && text("got").starts_with(got),
        }
    }
}

/// When a model is asked anew, and when it is shown what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As the library does it.
    Mixed,
    /// Asked once.
    None,
    /// Always asked anew.
    Blind,
    /// Always shown what went wrong last.
    RepairOnly,
}

const WAYS: [Way; 4] = [Way::None, Way::Blind, Way::RepairOnly, Way::Mixed];

/// The script in the place of a model. It repeats its flawed script, byte for byte, until it is shown the evidence; some flaws it only
/// avoids if it is asked anew.
struct Model<'a> {
    variant: &'a Variant,
    way: Way,
    fresh_questions: Cell<u32>,
    /// The conversation in which something was shown last.
    shown: RefCell<Option<Vec<Message>>>,
}

impl Model<'_> {
    /// What the model gets to see of a question.
    fn seen(&self, messages: &[Message]) -> Vec<Message> {
        let mut shown = self.shown.borrow_mut();
        match self.way {
            Way::Mixed | Way::None => messages.to_vec(),
            Way::Blind => messages[..1].to_vec(),
            Way::RepairOnly => {
                if messages.len() > 1 {
                    *shown = Some(messages.to_vec());
                }
                shown.clone().unwrap_or_else(|| messages.to_vec())
            }
        }
    }

    fn answer(&self, messages: &[Message]) -> &str {
        let variant = self.variant;
        let fixes = if messages.iter().any(|message| message.role == Role::Assistant) {
            let last = messages.last().expect("a question");
            assert_eq!(last.role, Role::User);
            !variant.fresh_only && variant.evidence.is_in(&last.text)
        } else {
            self.fresh_questions.set(self.fresh_questions.get() + 1);
            variant.fresh_only && self.fresh_questions.get() > 1
        };
        if fixes { &variant.script_fixed } else { &variant.script_flawed }
    }
}

impl Provider for Model<'_> {
    fn id(&self) -> &str {
        "scripted"
    }

    fn takes_temperature(&self) -> bool {
        true
    }

    fn generate<'a>(
        &'a self,
        request: &'a Request,
        _: &'a Budget,
        _: &'a CancellationToken,
        _: &'a mut dyn Sink,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ProviderError>> + 'a>> {
        let script = self.answer(&self.seen(&request.messages));
        let text = format!(
            "This reads the arguments and prints the result.\n\n```python\n{script}```\n\nTell me if it does not work.\n"
        );
        let answer = Answer {
            end: End::Complete { text },
            usage: Usage::default(),
            request_id: None,
            model: None,
            attempts: Vec::new(),
            warnings: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// What the interpreter says about the texts of one task. It says the same each time, so it is asked once.
struct Parses {
    parser: SandboxParser,
    known: HashMap<String, Parsed>,
}

impl Parser for Parses {
    type Error = ParseError;

    fn parse(&mut self, texts: &[&str]) -> Result<Vec<Parsed>, ParseError> {
        let new: Vec<&str> = texts.iter().copied().filter(|text| !self.known.contains_key(*text)).collect();
        if !new.is_empty() {
            let found = self.parser.parse(&new)?;
            self.known.extend(new.into_iter().map(String::from).zip(found));
        }
        Ok(texts.iter().map(|text| self.known[*text].clone()).collect())
    }
}

/// Script and standard input.
type Run = (String, String);

/// What came of the runs of one task. They are deterministic, so each is made once, whichever way asks for it.
struct Runs {
    policy: Arc<Policy>,
    known: Mutex<HashMap<Run, Outcome>>,
}

impl Runs {
    fn job(&self, script: &str, stdin: &str) -> Job {
        let script = Script::File { name: "script.py".into(), source: script.as_bytes().into() };
        Job::under(self.policy.clone(), script)
            .with_stdin(stdin.to_owned())
            .with_epoch(Epoch::from_nanos(1_769_860_800_000_000_000))
            .with_seed(1)
    }
}

/// The sandbox of one flow, which counts what is run.
struct Counted<'a> {
    runs: &'a Runs,
    made: Mutex<Vec<Run>>,
}

impl Sandbox for Counted<'_> {
    fn scan(&self, script: &str) -> Arc<Scan> {
        engine().scan(&self.runs.job(script, ""))
    }

    fn run(&self, script: &str, input: Input<'_>) -> Result<Outcome, SandboxError> {
        let Input::Case(stdin) = input else { return Err("all runs are made for a check".into()) };
        let run = (script.to_owned(), stdin.to_owned());
        self.made.lock().expect("no thread panicked").push(run.clone());
        let known = self.runs.known.lock().expect("no thread panicked").get(&run).cloned();
        if let Some(outcome) = known {
            return Ok(outcome);
        }
        let outcome = engine().run_blocking(self.runs.job(script, stdin))?;
        self.runs.known.lock().expect("no thread panicked").insert(run, outcome.clone());
        Ok(outcome)
    }
}

/// What came of one variant, repaired in one way.
struct Repaired {
    way: Way,
    id: String,
    operator: String,
    /// The calls it took; `None` if no script was accepted.
    solved: Option<u32>,
    calls: u32,
    runs: usize,
    /// How many runs were made of a script that had been tried before.
    again: usize,
    /// What was said of the last script, where none was accepted.
    left: String,
}

/// Polls a future that is ready.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn repair(variant: &Variant, way: Way, runs: &Runs, parser: &mut Parses) -> Result<Repaired, Failed> {
    let mut checks = Checks::new();
    checks.add_file("cases", &serde_json::to_vec(&variant.cases)?)?;
    let modules = ["ast", "sys"].map(String::from).into();
    let runtime = RuntimeFacts { language: "Python", version: "3".into(), sha256: String::new(), modules };
    let facts = Facts::of(runtime, &runs.job("", ""))?;
    let template = template(DEFAULT_TEMPLATE)?;
    let prompt =
        Prompt::new(&PromptParts { facts: &facts, template, task: &variant.sentence, shown: &[], checks: &checks })?;
    let calls = if way == Way::None { 1 } else { CALLS };
    let model = Model { variant, way, fresh_questions: Cell::new(0), shown: RefCell::new(None) };
    let sandbox = Counted { runs, made: Mutex::new(Vec::new()) };
    let (budget, cancel) = (Budget::new(Caps::default()), CancellationToken::new());
    let mut flow = Flow {
        task: Task { prompt: &prompt, checks: &checks, run: false, calls, candidates: 1, max_output: 4_096 },
        provider: &model,
        sandbox: &sandbox,
        parser,
        budget: &budget,
        cancel: &cancel,
    };
    let generation: Generation = ready(flow.run(&mut |_| {}));
    if let Some(stop) = &generation.stopped {
        return Err(format!("{}: {stop:?}", variant.id).into());
    }
    let made = sandbox.made.into_inner().expect("no thread panicked");
    let accepted = generation.accepted();
    if let Some(call) = accepted {
        let trial = call.trial().expect("what is accepted was tried");
        assert_eq!(trial.script, variant.script_fixed, "{}: another script than the right one is accepted", variant.id);
    }
    Ok(Repaired {
        way,
        id: variant.id.clone(),
        operator: variant.operator.clone(),
        solved: accepted.map(|call| call.number),
        calls: u32::try_from(generation.calls.len())?,
        runs: made.len(),
        again: made.len() - made.iter().collect::<BTreeSet<_>>().len(),
        left: generation
            .into_trial()
            .and_then(|trial| trial.failure)
            .map_or_else(String::new, |failure| failure.summary),
    })
}

/// Repairs all variants of one task in all ways.
fn repair_task(variants: &[Variant]) -> Result<Vec<Repaired>, Failed> {
    let limits = Limits { fuel: Some(FUEL), wall_time: Duration::from_secs(10), ..Limits::default() };
    let mut policy = Policy::preset("moderate")?;
    policy.limits = limits;
    let runs = Runs { policy: policy.into(), known: Mutex::default() };
    let mut parser = Parses { parser: SandboxParser::new(engine()), known: HashMap::new() };
    let mut repaired = Vec::new();
    for variant in variants {
        for way in WAYS {
            repaired.push(repair(variant, way, &runs, &mut parser)?);
        }
    }
    Ok(repaired)
}

/// The file of variants, made if it is not there; or what is missing to make it.
fn flawed() -> Result<Result<PathBuf, &'static str>, Failed> {
    let program = repository().join("oracle/flawed.py");
    let digest = hex::encode(Sha256::digest(std::fs::read(&program)?));
    let folder = cache().join("oracle").join("flawed");
    let path = folder.join(format!("{}.jsonl", &digest[..16]));
    if path.is_file() {
        return Ok(Ok(path));
    }
    std::fs::create_dir_all(&folder)?;
    let mut python = Command::new("python3");
    python.arg(program).arg(&path).env("CAPIBARA_CACHE_DIR", cache()).env("PYTHONDONTWRITEBYTECODE", "1");
    match python.status() {
        Err(_) => Ok(Err("unavailable: python3")),
        Ok(status) if status.code() == Some(UNAVAILABLE) => Ok(Err("unavailable: package index")),
        Ok(status) if status.success() => Ok(Ok(path)),
        Ok(status) => Err(format!("flawed.py: {status}").into()),
    }
}

/// How many of them are solved, and in how many calls at most.
fn solved<'a>(repaired: impl Iterator<Item = &'a Repaired>, calls: u32) -> usize {
    repaired.filter(|it| it.solved.is_some_and(|used| used <= calls)).count()
}

fn check() -> Result<(), Failed> {
    let path = match flawed()? {
        Ok(path) => path,
        Err(missing) => {
            skip("repair", missing);
            return Ok(());
        }
    };
    let start = Instant::now();
    let text = std::fs::read_to_string(path)?;
    let mut by_task: BTreeMap<String, Vec<Variant>> = BTreeMap::new();
    for line in text.lines() {
        let variant: Variant = serde_json::from_str(line)?;
        by_task.entry(variant.task.clone()).or_default().push(variant);
    }
    let tasks: Vec<Vec<Variant>> = by_task.into_values().collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Repaired>, Failed> {
        let mut all = Vec::new();
        while let Some(variants) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            all.extend(repair_task(variants)?);
        }
        Ok(all)
    };
    // Two at a time is what two cores can do.
    let repaired = std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        let joined = threads.map(|thread| thread.join().expect("a thread does not panic"));
        joined.into_iter().collect::<Result<Vec<_>, _>>()
    })?;
    let repaired: Vec<Repaired> = repaired.into_iter().flatten().collect();
    let of = |way: Way| repaired.iter().filter(move |it| it.way == way);
    let variants = of(Way::Mixed).count();

    println!("repairs: {variants} flawed variants of {} tasks, {:.0?}", tasks.len(), start.elapsed());
    println!("{:<12} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}", "way", "1 call", "2 calls", "3 calls", "", "calls", "runs");
    for way in WAYS {
        let [one, two, three] = [1, 2, 3].map(|calls| solved(of(way), calls));
        let percent = 100.0 * three as f64 / variants as f64;
        let (calls, runs) = (of(way).map(|it| it.calls).sum::<u32>(), of(way).map(|it| it.runs).sum::<usize>());
        println!("{:<12} {one:>8} {two:>8} {three:>8} {percent:>6.1}% {calls:>7} {runs:>7}", format!("{way:?}"));
    }
    let operators: BTreeSet<&str> = repaired.iter().map(|it| it.operator.as_str()).collect();
    for operator in operators {
        let of_it = || of(Way::Mixed).filter(move |it| it.operator == operator);
        println!("  mixed, {operator}: {} of {}", solved(of_it(), CALLS), of_it().count());
    }
    for it in of(Way::Mixed).filter(|it| it.solved.is_none()) {
        println!("  not repaired: {}: {}", it.id, it.left);
    }

    let [none, blind, repair_only, mixed] = WAYS.map(|way| solved(of(way), CALLS));
    assert!(variants >= VARIANTS && tasks.len() >= TASKS, "{variants} variants of {} tasks", tasks.len());
    assert_eq!(none, 0, "a flawed script is accepted");
    assert!(mixed * 100 >= variants * MIXED_PERCENT, "repaired: {mixed} of {variants}");
    assert!(blind < mixed && repair_only < mixed, "blind {blind}, repairs only {repair_only}, mixed {mixed}");
    let again: Vec<&str> = repaired.iter().filter(|it| it.again > 0).map(|it| it.id.as_str()).collect();
    assert!(again.is_empty(), "a script was run again: {again:?}");
    Ok(())
}

fn main() {
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, vec![Trial::test("mixed_questions_repair_most", check)]).exit();
}
