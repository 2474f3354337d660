//! Measures computing Python beside the machine's own python3, with the programs of `benches/kernels/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bars::{binary, percentile, pythons};
use crate::{cargo, repository, run};

const ROUNDS: usize = 5;
/// Geometric mean and worst ratio that may be.
const BAR_FUEL: f64 = 2.95;
const BAR_LIVE: f64 = 2.7;
const BAR_WORST: f64 = 5.0;
/// How far a kernel's fuel may lie above its recorded value.
const FUEL_GROWTH: f64 = 1.1;

/// The variants measured: the machine's python3, metered by fuel, live.
const VARIANTS: usize = 3;

/// `cargo xtask kernels [--fuel | --record] [NAME]`.
pub(crate) fn command(words: &[String]) -> Result<()> {
    let install = ["run", "--release", "--quiet", "--bin", "capibara", "--", "runtime", "install", "python"];
    let only_fuel = matches!(words, [flag] if flag == "--fuel" || flag == "--record");
    let live: &[&str] = if only_fuel { &[] } else { &["--live"] };
    run(cargo(&[&install[..], live].concat()))?;
    match words {
        [] => measure(&kernels()?),
        [flag] if flag == "--fuel" => compare_fuel(&kernels()?),
        [flag] if flag == "--record" => record_fuel(&kernels()?),
        names => measure(&names.iter().map(|name| folder().join(name).with_extension("py")).collect::<Vec<_>>()),
    }
}

fn folder() -> PathBuf {
    repository().join("benches/kernels")
}

/// The programs, in order of their names.
fn kernels() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder()).context("failed to list the kernels")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name(kernel: &Path) -> String {
    kernel.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Prints the ratios; fails if a bar is missed.
fn measure(kernels: &[PathBuf]) -> Result<()> {
    let python = pythons().into_iter().next_back().context("no python3 to compare with")?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average at the start: {}", load.trim_end());
    println!("native: {}; medians of {ROUNDS} rounds, start of the process subtracted", python.display());
    let mut times = vec![Times::default(); kernels.len()];
    for _ in 0..ROUNDS {
        for (kernel, times) in kernels.iter().zip(&mut times) {
            times.round(&python, kernel)?;
        }
    }
    println!("{:<12} {:>10} {:>8} {:>8}", "kernel", "native ms", "fuel", "live");
    let (mut fuel, mut live) = (Vec::new(), Vec::new());
    for (kernel, times) in kernels.iter().zip(&mut times) {
        let [native, metered, unmetered] = times.medians();
        fuel.push(metered / native);
        live.push(unmetered / native);
        let name = name(kernel);
        println!("{name:<12} {:>10.1} {:>8.2} {:>8.2}", native * 1e3, metered / native, unmetered / native);
    }
    let bars = [
        ("geometric mean, fuel", geometric_mean(&fuel), BAR_FUEL),
        ("geometric mean, live", geometric_mean(&live), BAR_LIVE),
        ("worst, fuel", worst(&fuel), BAR_WORST),
        ("worst, live", worst(&live), BAR_WORST),
    ];
    for (what, value, bar) in bars {
        let verdict = if value <= bar { "ok" } else { "MISSED" };
        println!("{what:<58} {value:>8.3} x    bar {bar:<6} {verdict}");
    }
    match bars.iter().filter(|(_, value, bar)| value > bar).count() {
        0 => Ok(()),
        missed => bail!("{missed} bars missed"),
    }
}

fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Seconds of a kernel by variant, with its work and without (starting, imports, data).
#[derive(Clone, Default)]
struct Times {
    whole: [Vec<f64>; VARIANTS],
    start: [Vec<f64>; VARIANTS],
}

impl Times {
    /// Runs the kernel once in each variant; all must print the same.
    fn round(&mut self, python: &Path, kernel: &Path) -> Result<()> {
        let mut printed = Vec::new();
        for (variant, (whole, start)) in self.whole.iter_mut().zip(&mut self.start).enumerate() {
            let command = || match variant {
                0 => Command::new(python),
                1 => capibara(&[]),
                _ => capibara(&["--live"]),
            };
            start.push(timed(command().arg(kernel).arg("0"))?.0);
            let (seconds, text) = timed(command().arg(kernel))?;
            whole.push(seconds);
            printed.push(text);
        }
        if printed.iter().any(|text| *text != printed[0]) {
            bail!("{} does not give the same everywhere: {printed:?}", name(kernel));
        }
        Ok(())
    }

    /// Medians of the work alone.
    fn medians(&mut self) -> [f64; VARIANTS] {
        let mut medians = [0.0; VARIANTS];
        for (median, (whole, start)) in medians.iter_mut().zip(self.whole.iter_mut().zip(&mut self.start)) {
            *median = percentile(whole, 0.5) - percentile(start, 0.5);
        }
        medians
    }
}

fn capibara(flags: &[&str]) -> Command {
    let mut command = Command::new(binary("capibara"));
    command.args(["run", "--policy", "permissive"]).args(flags);
    command
}

/// Seconds of a process, and what it printed.
fn timed(command: &mut Command) -> Result<(f64, String)> {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("failed to start {command:?}"))?;
    let seconds = started.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok((seconds, String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn fuel_table() -> PathBuf {
    folder().join("fuel.txt")
}

/// Fuel of each kernel, by name. It does not depend on the machine nor on its load.
fn fuel(kernels: &[PathBuf]) -> Result<BTreeMap<String, u64>> {
    let of = |kernel: &PathBuf| {
        let (_, report) = timed(capibara(&["--format", "json"]).arg(kernel))?;
        let report: Value = serde_json::from_str(&report).context("capibara run gave no JSON")?;
        Ok((name(kernel), report["usage"]["fuel"].as_u64().context("fuel")?))
    };
    kernels.iter().map(of).collect()
}

fn record_fuel(kernels: &[PathBuf]) -> Result<()> {
    let lines: Vec<String> = fuel(kernels)?.iter().map(|(name, fuel)| format!("{name} {fuel}\n")).collect();
    std::fs::write(fuel_table(), lines.concat()).context("failed to write the table of fuel")
}

/// Fails when a kernel takes notably more fuel than was recorded, or is not in the table.
fn compare_fuel(kernels: &[PathBuf]) -> Result<()> {
    let table = std::fs::read_to_string(fuel_table()).context("failed to read the table of fuel")?;
    let recorded: BTreeMap<&str, u64> = table
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, n)| Some((name, n.parse().ok()?)))
        .collect();
    let mut missed = 0;
    for (name, now) in fuel(kernels)? {
        let before = *recorded.get(name.as_str()).with_context(|| format!("{name} is not in the table of fuel"))?;
        let ratio = now as f64 / before as f64;
        let holds = ratio <= FUEL_GROWTH;
        missed += usize::from(!holds);
        println!("{name:<12} {now:>14} {ratio:>7.3} x  {}", if holds { "ok" } else { "MORE" });
    }
    if missed > 0 {
        bail!("{missed} kernels take more than {FUEL_GROWTH} times the recorded fuel");
    }
    Ok(())
}
