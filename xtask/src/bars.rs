//! Measures the bars of SPECIFICATION.md. Run it on an idle machine; ratios hold up to some load.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{cargo, repository, run};

const ROUNDS: usize = 60;
const RUNS: usize = 2000;
const LIVE: usize = 1000;
const FILE_ROUNDS: usize = 5;
const STOPPED: usize = 64;
const WORK: &str =
    "import json, re, datetime\nprint(json.dumps({'a': 1}), re.match('b*', 'ab').span(), datetime.date(2020, 1, 1))";

pub(crate) fn measure() -> Result<()> {
    run(cargo(&["build", "--release", "--workspace", "--all-targets", "--quiet"]))?;
    for variant in [&[][..], &["--live"]] {
        let words = ["run", "--release", "--quiet", "--bin", "capibara", "--", "runtime", "install", "python"];
        run(cargo(&[&words, variant].concat()))?;
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average at the start: {}", load.trim_end());
    let mut missed = 0;
    let mut row = |what: &str, value: f64, unit: &str, bar: f64| {
        let verdict = if value <= bar { "ok" } else { "MISSED" };
        missed += usize::from(value > bar);
        println!("{what:<58} {value:>8.3} {unit:<4} bar {bar:<6} {verdict}");
    };

    for (what, script, bar) in [("hello", HELLO, 0.4), ("eight imports", IMPORTS, 0.12)] {
        let (ours, python, name) = whole_process(script)?;
        println!(
            "whole process, {what}: capibara {:.2} ms, {name} {:.2} ms (medians of {ROUNDS})",
            ours * 1e3,
            python * 1e3
        );
        row(&format!("whole process, {what}, ratio to python3"), ours / python, "x", bar);
    }
    let mut driver = Driver::start()?;
    let (p50, p99) = driver.fresh("print('hello')")?;
    row("fresh instance in-process, hello, p50", p50, "ms", 0.12);
    row("fresh instance in-process, hello, p99", p99, "ms", 0.4);
    row("fresh instance in-process, json, re and datetime, p50", driver.fresh(WORK)?.0, "ms", 0.35);
    let ((one, cpu_of_one), (two, cpu_of_two)) = (driver.throughput(1)?, driver.throughput(2)?);
    println!(
        "hello by one thread: {one:.0} runs/s, {cpu_of_one:.3} ms of a processor each; by two: {two:.0}, {cpu_of_two:.3}"
    );
    row("processor time of a run by two threads", cpu_of_two, "ms", 0.16);
    row("the same, ratio to one thread", cpu_of_two / cpu_of_one, "x", 1.15);
    let (kept, stopped) = driver.turns()?;
    row("turn of a session that is kept, processor time", kept, "ms", 0.45);
    row("turn that grows by 4 MiB and is stopped by output, whole", stopped, "ms", 4.0);
    row("1,000 calls of a tool, whole run", driver.tools()?, "ms", 50.0);
    drop(driver);
    for (what, options) in [("by fuel", &[][..]), ("live", &["--live"])] {
        row(&format!("{STOPPED} endless loops, {what}, latest stop past the limit"), stops(options)?, "ms", 20.0);
    }
    row("private memory of a live instance after hello", memory()? / 1024.0, "MiB", 1.0);
    let ([bulk, many], [native_bulk, native_many]) = files()?;
    println!(
        "files in memory: 16 MiB {:.1} ms, native {:.1}; 10,000 files {:.0} ms, native {:.0} (least of {FILE_ROUNDS} rounds)",
        bulk * 1e3,
        native_bulk * 1e3,
        many * 1e3,
        native_many * 1e3
    );
    row("writing and reading 16 MiB, ratio to python3 on tmpfs", bulk / native_bulk, "x", 1.5);
    row("10,000 small files, ratio to python3 on tmpfs", many / native_many, "x", 2.0);
    row("one write to standard output, host's time", print()?, "us", 0.5);
    if missed > 0 {
        bail!("{missed} bars missed");
    }
    Ok(())
}

pub(crate) fn binary(name: &str) -> PathBuf {
    repository().join("target/release").join(name)
}

const HELLO: &str = "print('hello')\n";
const IMPORTS: &str = "import json, re, datetime, collections, itertools, functools, random, pathlib\nprint('hello')\n";

/// Medians of our process and of the fastest python3 on this machine for a script in a file, in seconds.
fn whole_process(script: &str) -> Result<(f64, f64, String)> {
    let path = std::env::temp_dir().join(format!("capibara-bars-{}.py", std::process::id()));
    std::fs::write(&path, script).context("failed to write the script")?;
    let measured = whole_process_of(&path);
    let _ = std::fs::remove_file(&path);
    measured
}

fn whole_process_of(script: &Path) -> Result<(f64, f64, String)> {
    let time = |command: &mut Command| -> Result<f64> {
        let started = Instant::now();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if !status.success() {
            bail!("{command:?} ended with {status}");
        }
        Ok(started.elapsed().as_secs_f64())
    };
    let pythons = pythons();
    if pythons.is_empty() {
        bail!("no python3 to compare with: apt-get install -y python3");
    }
    let mut times = vec![Vec::new(); pythons.len() + 1];
    for round in 0..=ROUNDS {
        for (at, python) in pythons.iter().enumerate() {
            let spent = time(Command::new(python).arg(script))?;
            if round > 0 {
                times[at + 1].push(spent);
            }
        }
        let spent = time(Command::new(binary("capibara")).arg("run").arg(script))?;
        if round > 0 {
            times[0].push(spent);
        }
    }
    let medians: Vec<f64> = times.into_iter().map(|mut all| percentile(&mut all, 0.5)).collect();
    let (fastest, median) =
        medians[1..].iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).context("a python3 was measured")?;
    Ok((medians[0], *median, pythons[fastest].display().to_string()))
}

/// The interpreters themselves, not launchers that look for one.
pub(crate) fn pythons() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for candidate in ["python3", "/usr/bin/python3"] {
        let asked = Command::new(candidate).args(["-c", "import sys; print(sys.executable)"]).output();
        let Ok(asked) = asked else { continue };
        let path = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
        if path.is_file() && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

fn driver(words: &[&str]) -> Command {
    let mut command = Command::new(binary("examples/bench_driver"));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A bench driver that answers requests.
struct Driver {
    child: Child,
    requests: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    fn start() -> Result<Self> {
        let mut child = driver(&[]).spawn().context("failed to start the bench driver")?;
        let requests = child.stdin.take().context("a pipe")?;
        let replies = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut new = Self { child, requests, replies };
        new.reply()?; // that it is ready
        Ok(new)
    }

    fn reply(&mut self) -> Result<Value> {
        Ok(serde_json::from_str(&self.replies.next().context("the driver ended")??)?)
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.requests, "{request}")?;
        self.reply()
    }

    /// p50 and p99 of a fresh run of that code, in milliseconds, after as many to warm up.
    fn fresh(&mut self, code: &str) -> Result<(f64, f64)> {
        let request = json!({"op": "run", "code": code, "iters": RUNS});
        self.ask(&request)?;
        let reply = self.ask(&request)?;
        let mut nanos: Vec<f64> = reply["ns"].as_array().context("times")?.iter().filter_map(Value::as_f64).collect();
        Ok((percentile(&mut nanos, 0.5) / 1e6, percentile(&mut nanos, 0.99) / 1e6))
    }

    /// Processor time of a turn that is kept, and time of one that is stopped, in milliseconds.
    fn turns(&mut self) -> Result<(f64, f64)> {
        let reply = self.ask(&json!({"op": "turns", "n": RUNS}))?;
        let number = |name: &str| reply[name].as_f64().with_context(|| format!("the driver's {name}"));
        Ok((number("kept_cpu_ms")?, number("stopped_ms")?))
    }

    /// Time of a run that calls a tool 1,000 times, in milliseconds.
    fn tools(&mut self) -> Result<f64> {
        self.ask(&json!({"op": "tools", "n": 1000}))?["ms"].as_f64().context("the driver's time")
    }

    /// Runs of hello per second by so many threads, and what one takes of a processor, in milliseconds.
    fn throughput(&mut self, workers: u64) -> Result<(f64, f64)> {
        let reply =
            self.ask(&json!({"op": "throughput", "code": "print('hello')", "workers": workers, "seconds": 4}))?;
        let number = |name: &str| reply[name].as_f64().with_context(|| format!("the driver's {name}"));
        let (runs, wall, cpu) = (number("runs")?, number("wall")?, number("cpu")?);
        Ok((runs / wall, cpu / runs * 1e3))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.ask(&json!({"op": "quit"}));
        let _ = self.child.wait();
    }
}

/// Private memory of each live instance, in KiB.
fn memory() -> Result<f64> {
    let output = driver(&["--memory", &LIVE.to_string()]).output().context("failed to start the bench driver")?;
    let reply: Value = serde_json::from_slice(&output.stdout).context("the driver's answer")?;
    reply["private_dirty_kib_each"].as_f64().context("a number")
}

/// How late the last of many endless loops ends, each in a thread of its own.
fn stops(options: &[&str]) -> Result<f64> {
    let stopped = STOPPED.to_string();
    let words = [&["--stop", &stopped], options].concat();
    let output = driver(&words).output().context("failed to start the bench driver")?;
    let reply: Value = serde_json::from_slice(&output.stdout).context("the driver's answer")?;
    reply["latest_ms"].as_f64().context("a number")
}

/// Times of working with files in the folder that is named: 16 MiB written and read, 10,000 files made, read and removed.
const FILES: &str = r#"
import os, sys, time
os.chdir(sys.argv[1])
data = os.urandom(1 << 20) * 16
def bulk():
    with open("bulk", "wb") as file:
        file.write(data)
    with open("bulk", "rb") as file:
        assert len(file.read()) == len(data)
    os.remove("bulk")
def many():
    names = [str(i) for i in range(10_000)]
    for name in names:
        with open(name, "w") as file:
            file.write("content")
    for name in names:
        with open(name) as file:
            file.read()
        os.remove(name)
def least(work, rounds):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
print(least(bulk, 5), least(many, 1))
"#;

/// Seconds for 16 MiB and for 10,000 files, ours and native, the least of some interleaved rounds.
fn files() -> Result<([f64; 2], [f64; 2])> {
    let python = pythons().into_iter().next_back().context("a python3 to compare with")?;
    let folder = std::path::Path::new("/dev/shm").join(format!("capibara-bars-{}", std::process::id()));
    std::fs::create_dir(&folder).context("failed to make a folder on tmpfs")?;
    let both = (0..FILE_ROUNDS).try_fold(([f64::MAX; 2], [f64::MAX; 2]), |(ours, native), _| {
        let mut command = Command::new(binary("capibara"));
        command.args(["run", "--policy", "permissive", "--live", "-c", FILES, "/tmp"]);
        let ours_now = two_times(&mut command)?;
        let native_now = two_times(Command::new(&python).args(["-c", FILES]).arg(&folder))?;
        let least = |a: [f64; 2], b: [f64; 2]| [a[0].min(b[0]), a[1].min(b[1])];
        Ok((least(ours, ours_now), least(native, native_now)))
    });
    std::fs::remove_dir_all(&folder).context("failed to remove the folder on tmpfs")?;
    both
}

fn two_times(command: &mut Command) -> Result<[f64; 2]> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("failed to start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let times: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match times[..] {
        [first, second] if output.status.success() => Ok([first, second]),
        _ => bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

/// A program that writes six bytes to standard output, so many times.
const PRINTS: u32 = 1_000_000;

/// Microseconds of one write, leaving the guest and coming back included.
fn print() -> Result<f64> {
    let program = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
            (func (export "_start") (local $i i32)
                (loop
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))
                    (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {PRINTS}))))))"#
    );
    let path = std::env::temp_dir().join(format!("capibara-bars-{}.wat", std::process::id()));
    std::fs::write(&path, program).context("failed to write the program")?;
    let output = Command::new(binary("capibara"))
        .args(["run", "--policy", "permissive", "--format", "json"])
        .arg(&path)
        .stdin(Stdio::null())
        .output();
    let _ = std::fs::remove_file(&path);
    let report: Value = serde_json::from_slice(&output.context("failed to start capibara")?.stdout)?;
    if report["exit_code"] != 0 {
        bail!("the program of writes ended as {}", report["status"]);
    }
    Ok(report["usage"]["wall_ms"].as_f64().context("a number")? * 1e3 / f64::from(PRINTS))
}

pub(crate) fn percentile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * at).round() as usize).copied().unwrap_or(f64::NAN)
}
