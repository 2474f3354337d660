//! Measures the bars of SPECIFICATION.md. Run it on an idle machine; ratios hold up to some load.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{cargo, repository, run};

const ROUNDS: usize = 60;
const RUNS: usize = 2000;
const LIVE: usize = 1000;

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

    let (ours, python, name) = whole_process()?;
    println!(
        "whole process: capibara run hello.py {:.2} ms, {name} {:.2} ms (medians of {ROUNDS})",
        ours * 1e3,
        python * 1e3
    );
    row("whole process, ratio to python3", ours / python, "x", 0.6);
    let (p50, p99) = fresh_instance()?;
    println!("fresh instance, hello: p50 {p50:.3} ms, p99 {p99:.3} ms ({RUNS} runs)");
    row("fresh instance in-process, hello, p50", p50, "ms", 0.4);
    row("private memory of a live instance after hello", memory()? / 1024.0, "MiB", 1.0);
    if missed > 0 {
        bail!("{missed} bars missed");
    }
    Ok(())
}

fn binary(name: &str) -> PathBuf {
    repository().join("target/release").join(name)
}

/// Medians of our process and of the fastest python3 on this machine, in seconds.
fn whole_process() -> Result<(f64, f64, String)> {
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
    let hello = repository().join("fixtures/scripts/hello.py");
    let mut times = vec![Vec::new(); pythons.len() + 1];
    for round in 0..=ROUNDS {
        for (at, python) in pythons.iter().enumerate() {
            let spent = time(Command::new(python).args(["-c", "print(\"hi\")"]))?;
            if round > 0 {
                times[at + 1].push(spent);
            }
        }
        let spent = time(Command::new(binary("capibara")).arg("run").arg(&hello))?;
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
fn pythons() -> Vec<PathBuf> {
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

/// p50 and p99 of a fresh run, in milliseconds.
fn fresh_instance() -> Result<(f64, f64)> {
    let mut child = driver(&[]).spawn().context("failed to start the bench driver")?;
    let mut requests = child.stdin.take().context("a pipe")?;
    let mut replies = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let mut ask = |request: Value| -> Result<Value> {
        writeln!(requests, "{request}")?;
        Ok(serde_json::from_str(&replies.next().context("the driver ended")??)?)
    };
    // The first reply is the line that says it is ready.
    let request = json!({"op": "run", "code": "print('hello')", "iters": RUNS});
    ask(request.clone())?;
    ask(request)?;
    let reply = ask(json!({"op": "quit"}))?;
    child.wait()?;
    let mut nanos: Vec<f64> = reply["ns"].as_array().context("times")?.iter().filter_map(Value::as_f64).collect();
    Ok((percentile(&mut nanos, 0.5) / 1e6, percentile(&mut nanos, 0.99) / 1e6))
}

/// Private memory of each live instance, in KiB.
fn memory() -> Result<f64> {
    let output = driver(&["--memory", &LIVE.to_string()]).output().context("failed to start the bench driver")?;
    let reply: Value = serde_json::from_slice(&output.stdout).context("the driver's answer")?;
    reply["private_dirty_kib_each"].as_f64().context("a number")
}

fn percentile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * at).round() as usize).copied().unwrap_or(f64::NAN)
}
