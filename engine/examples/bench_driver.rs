//! Hosts the library for a benchmark harness: one JSON request per line on standard input, one reply per line on
//! standard output. The first line is `{"ready": …}`.
//!
//! | request | reply |
//! |---|---|
//! | `{"op":"run","code":S,"iters":N,"timeout_ms":T or null,"mem":BYTES or null}` | `{"ns":[…],"out":S,"outcome":"ok, timeout, memory, error, crash","err":S}` |
//! | `{"op":"throughput","code":S,"workers":W,"seconds":T}` | `{"runs":N,"wall":T,"cpu":T or null}` |
//! | `{"op":"hold","n":N}`: keeps N live instances, each of which has run a line | `{"live":N,"wall":T}` |
//! | `{"op":"turns","n":N}`: a session's turns that are kept, and that are stopped after they have grown memory | `{"kept_cpu_ms":T,"kept_ms":T,"stopped_ms":T}` |
//! | `{"op":"tools","n":N}`: a run that calls a tool N times, and one that calls it once | `{"ms":T,"once_ms":T}` |
//! | `{"op":"quit"}` | `{"bye":true}` |
//!
//! Options: `--live` measures the variant without fuel. With `--memory N` it serves nothing, holds N live instances
//! after hello and prints the private memory of each; with `--stop N` it runs N endless loops at once, one thread each,
//! and prints how long after their limit the last of them had ended.

use std::future::Future;
use std::io::{BufRead, Write};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use capibara::{
    Engine, EngineConfig, EngineError, Job, Language, LimitKind, Limits, Outcome, SessionConfig, Silent, Status, Tool,
    ToolError,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let live = words.iter().any(|word| word == "--live");
    let engine = Engine::new(EngineConfig::default())?;
    engine.prepare(Language::Python, live, &Silent)?;
    let mut held = Held::default();
    if let Some(at) = words.iter().position(|word| word == "--memory") {
        let count: usize = words.get(at + 1).ok_or("--memory needs a number")?.parse()?;
        return report_memory(&engine, &mut held, count);
    }
    if let Some(at) = words.iter().position(|word| word == "--stop") {
        let count: usize = words.get(at + 1).ok_or("--stop needs a number")?.parse()?;
        return report_stops(&engine, count, live);
    }
    let mut replies = std::io::stdout().lock();
    let mut reply = |value: Value| -> std::io::Result<()> {
        writeln!(replies, "{value}")?;
        replies.flush()
    };
    reply(json!({"ready": "capibara"}))?;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        match request["op"].as_str() {
            Some("run") => reply(run(&engine, &request, live)?)?,
            Some("throughput") => reply(throughput(&engine, &request, live))?,
            Some("hold") => {
                let started = Instant::now();
                held.grow_to(&engine, usize::try_from(request["n"].as_u64().unwrap_or(0))?)?;
                reply(json!({"live": held.0.len(), "wall": started.elapsed().as_secs_f64()}))?;
            }
            Some("turns") => reply(turns(&engine, request["n"].as_u64().unwrap_or(1))?)?,
            Some("tools") => reply(tools(&engine, request["n"].as_u64().unwrap_or(1))?)?,
            Some("quit") => {
                reply(json!({"bye": true}))?;
                return Ok(());
            }
            _ => reply(json!({"unsupported": true}))?,
        }
    }
    Ok(())
}

fn job(request: &Value, live: bool) -> Job {
    let defaults = Limits { wall_time: Duration::from_secs(600), fuel: None, memory: 2 << 30, ..Limits::default() };
    let limits = Limits {
        wall_time: request["timeout_ms"].as_u64().map_or(defaults.wall_time, Duration::from_millis),
        memory: request["mem"].as_u64().unwrap_or(defaults.memory),
        ..defaults
    };
    Job::python(request["code"].as_str().unwrap_or_default()).with_limits(limits).with_live(live)
}

fn run(engine: &Engine, request: &Value, live: bool) -> Result<Value, EngineError> {
    let mut nanos = Vec::new();
    let mut last = None;
    for _ in 0..request["iters"].as_u64().unwrap_or(1) {
        let started = Instant::now();
        let outcome = engine.run_blocking(job(request, live))?;
        nanos.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let ok = outcome.success();
        last = Some(outcome);
        if !ok {
            break;
        }
    }
    let Some(outcome) = last else { return Ok(json!({"ns": [], "out": "", "outcome": "ok", "err": ""})) };
    let tail =
        |text: &str, most: usize| text.chars().skip(text.chars().count().saturating_sub(most)).collect::<String>();
    Ok(json!({
        "ns": nanos,
        "out": tail(&outcome.stdout.text(), 200),
        "outcome": name(&outcome),
        "err": tail(&outcome.stderr.text(), 400),
    }))
}

fn name(outcome: &Outcome) -> &'static str {
    match &outcome.status {
        Status::Completed { exit_code: 0 } => "ok",
        Status::Limit(hit) if hit.kind == LimitKind::WallTime => "timeout",
        Status::Limit(hit) if hit.kind == LimitKind::Memory => "memory",
        _ if outcome.stderr.text().contains("MemoryError") => "memory",
        Status::Trapped(_) => "crash",
        _ => "error",
    }
}

fn throughput(engine: &Engine, request: &Value, live: bool) -> Value {
    let time = Duration::from_secs_f64(request["seconds"].as_f64().unwrap_or(1.0));
    let before = processor_seconds();
    let started = Instant::now();
    let worker = || {
        let mut runs = 0_u64;
        while started.elapsed() < time && engine.run_blocking(job(request, live)).is_ok_and(|outcome| outcome.success())
        {
            runs += 1;
        }
        runs
    };
    let runs: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..request["workers"].as_u64().unwrap_or(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(0)).sum()
    });
    let cpu = before.zip(processor_seconds()).map(|(before, after)| after - before);
    json!({"runs": runs, "wall": started.elapsed().as_secs_f64(), "cpu": cpu})
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Turns of a small session: medians of what one takes that is kept, and one that is stopped.
fn turns(engine: &Engine, count: u64) -> Result<Value, Box<dyn std::error::Error>> {
    let mut config = SessionConfig::default();
    config.limits.output = 64 << 10;
    let mut session = engine.session(config)?;
    session.run_blocking("import json\nx = 0\nkept = {str(n): [n] for n in range(100)}")?;
    let (mut walls, mut cpus, mut stops) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let (started, before) = (Instant::now(), thread_seconds());
        let outcome = session.run_blocking("x += 1\ns = json.dumps({'x': x})")?;
        cpus.push((thread_seconds() - before) * 1e3);
        walls.push(started.elapsed().as_secs_f64() * 1e3);
        if !outcome.success() {
            return Err("a turn failed".into());
        }
    }
    for _ in 0..count.min(100) {
        let started = Instant::now();
        let outcome = session.run_blocking("grown = bytearray(4 << 20)\nprint('x' * (1 << 20))")?;
        stops.push(started.elapsed().as_secs_f64() * 1e3);
        if !matches!(&outcome.status, Status::Limit(hit) if hit.kind == LimitKind::Output) {
            return Err("a turn was not stopped".into());
        }
    }
    Ok(json!({"kept_ms": median(walls), "kept_cpu_ms": median(cpus), "stopped_ms": median(stops)}))
}

/// A run that calls a tool so many times, and one that calls it once: medians in milliseconds.
fn tools(engine: &Engine, count: u64) -> Result<Value, Box<dyn std::error::Error>> {
    let run = |calls: u64| -> Result<f64, Box<dyn std::error::Error>> {
        let code = format!("from capibara import tools\nfor n in range({calls}): tools.add(n=n)");
        let mut times = Vec::new();
        for _ in 0..20 {
            let add = Tool::dynamic("add", "", None, |value| async move { Ok::<_, ToolError>(value) });
            let started = Instant::now();
            let outcome = engine.run_blocking(Job::python(code.as_str()).with_tool(add))?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            if !outcome.success() {
                return Err(outcome.stderr.text().into());
            }
        }
        Ok(median(times))
    };
    Ok(json!({"ms": run(count)?, "once_ms": run(1)?}))
}

/// Processor time of this thread so far.
fn thread_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processor time of this process so far, by the system's ticks of 10 ms; `None` where it does not tell.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

type Running = Pin<Box<dyn Future<Output = Result<Outcome, EngineError>>>>;

/// Live instances: each has printed a line and now sleeps for real.
#[derive(Default)]
struct Held(Vec<Running>);

impl Held {
    fn grow_to(&mut self, engine: &Engine, count: usize) -> Result<(), Box<dyn std::error::Error>> {
        while self.0.len() < count {
            let limits = Limits { wall_time: Duration::from_secs(86_400), ..Limits::default() };
            let job = Job::python("print('hello')\nimport time; time.sleep(86400)").with_live(true).with_limits(limits);
            let engine = engine.clone();
            let mut running: Running = Box::pin(async move { engine.run(job).await });
            let started = Instant::now();
            // Until it sleeps: it has run when a poll leaves it waiting for the alarm.
            while started.elapsed() < Duration::from_millis(2) {
                if running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    return Err("a held run ended".into());
                }
            }
            self.0.push(running);
        }
        Ok(())
    }
}

fn private_dirty_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find(|line| line.starts_with("Private_Dirty:")).ok_or("no Private_Dirty")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

fn report_memory(engine: &Engine, held: &mut Held, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    engine.prepare(Language::Python, true, &Silent)?;
    let before = private_dirty_kib()?;
    held.grow_to(engine, count)?;
    let after = private_dirty_kib()?;
    let each = (after - before) as f64 / count as f64;
    writeln!(std::io::stdout(), "{}", json!({"live": count, "private_dirty_kib_each": each}))?;
    Ok(())
}

fn report_stops(engine: &Engine, count: usize, live: bool) -> Result<(), Box<dyn std::error::Error>> {
    let limit = Duration::from_secs(1);
    let stop = || -> Result<Duration, EngineError> {
        let limits = Limits { wall_time: limit, fuel: None, ..Limits::default() };
        let outcome = engine.run_blocking(Job::python("while True: pass").with_limits(limits).with_live(live))?;
        Ok(outcome.usage.wall_time.saturating_sub(limit))
    };
    let late = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..count).map(|_| scope.spawn(stop)).collect();
        runs.into_iter().map(|run| run.join().unwrap_or(Ok(Duration::MAX))).collect::<Result<Vec<_>, _>>()
    })?;
    let worst = late.into_iter().max().unwrap_or_default();
    writeln!(std::io::stdout(), "{}", json!({"running": count, "latest_ms": worst.as_secs_f64() * 1e3}))?;
    Ok(())
}
