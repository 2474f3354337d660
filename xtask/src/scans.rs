//! Measures what SPECIFICATION.md promises about scanning, beside bandit where that is installed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bars::{binary, percentile};
use crate::{cargo, corpus, repository, run};

const ROUNDS: usize = 60;
const TREE: usize = 1_000;

/// A row of the corpus.
struct Sample {
    path: PathBuf,
    /// What the preset `moderate` must say: `block`, `flag`, `allow` or something that is not counted here.
    expected: String,
    lines: usize,
}

/// Prints the table; fails if a bar is missed.
pub(crate) fn measure() -> Result<()> {
    run(cargo(&["build", "--release", "--workspace", "--all-targets", "--quiet"]))?;
    let corpus = corpus().context("no corpus is given: set CAPIBARA_CORPUS")?;
    let samples = samples(&corpus)?;
    let scratch = std::env::temp_dir().join(format!("capibara-scans-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let measured = all(&samples, &scratch);
    std::fs::remove_dir_all(&scratch)?;
    match measured? {
        0 => Ok(()),
        missed => bail!("{missed} bars missed"),
    }
}

fn all(samples: &[Sample], scratch: &Path) -> Result<usize> {
    let mut missed = 0;
    let mut row = |what: &str, value: f64, unit: &str, holds: bool, bar: &str| {
        missed += usize::from(!holds);
        println!("{what:<58} {value:>9.3} {unit:<3} bar {bar:<12} {}", if holds { "ok" } else { "MISSED" });
    };
    let added = hello(scratch)?;
    row("scanning hello, added to its whole process", added * 100.0, "%", added <= 0.1, "<= 10");

    let ours = rates(samples, &verdicts(samples)?);
    println!("capibara, moderate: recall {:.1} %, false denials {:.2} %", ours.0 * 100.0, ours.1 * 100.0);
    let tree = tree(samples, scratch)?;
    let mut round = 0;
    let mut scan = |cache: &str| {
        round += 1;
        let cache = scratch.join(cache.replace('*', &round.to_string()));
        Command::new(binary("capibara"))
            .args(["scan", "--format", "json"])
            .arg(&tree)
            .env("CAPIBARA_CACHE_DIR", cache)
            .output()
    };
    let first = least(3, || scan("cache-*"))?;
    scan("cache")?;
    let again = least(5, || scan("cache"))?;
    println!("capibara scan of {TREE} files: {:.0} ms, with verdicts kept {:.0} ms", first * 1e3, again * 1e3);
    let Some(bandit) = bandit() else {
        println!("unavailable: bandit (set CAPIBARA_BANDIT to its program, or install it with pip)");
        return Ok(missed);
    };
    let theirs = rates(samples, &bandit_flags(&bandit, samples)?);
    println!("bandit, high severity: recall {:.1} %, false alarms {:.2} %", theirs.0 * 100.0, theirs.1 * 100.0);
    row("recall beyond bandit's", (ours.0 - theirs.0) * 100.0, "%", ours.0 > theirs.0, "> 0");
    row("false denials below bandit's", (theirs.1 - ours.1) * 100.0, "%", ours.1 < theirs.1, "> 0");
    let time = least(1, || Command::new(&bandit).args(["-q", "-f", "json", "-r"]).arg(&tree).output())?;
    println!("bandit of the same files: {:.0} ms", time * 1e3);
    row("1,000 files, times bandit's speed", time / first, "x", time / first >= 100.0, ">= 100");
    row("the same, verdicts kept", time / again, "x", time / again >= 100.0, ">= 100");
    Ok(missed)
}

/// The Python samples of the corpus that are files.
fn samples(corpus: &Path) -> Result<Vec<Sample>> {
    let manifest = std::fs::read_to_string(corpus.join("manifest.jsonl")).context("failed to read the corpus")?;
    let mut samples = Vec::new();
    for line in manifest.lines() {
        let row: Value = serde_json::from_str(line)?;
        if row["kind"] != "scan" || row["language"] != "python" || row["gen"].is_object() {
            continue;
        }
        let path = corpus.join(row["file"].as_str().context("a file")?);
        let expected = row["expect_by_policy"]["moderate"].as_str().or(row["expect"].as_str());
        let expected = expected.context("an expectation")?.to_owned();
        let lines = std::fs::read(&path)?.iter().filter(|byte| **byte == b'\n').count();
        samples.push(Sample { path, expected, lines });
    }
    Ok(samples)
}

/// Share of the whole process that the scan adds to a run of hello.
fn hello(scratch: &Path) -> Result<f64> {
    let policy = scratch.join("off.yaml");
    std::fs::write(&policy, "name: unscanned\nextends: moderate\nwiden: true\nscan: \"off\"\n")?;
    let script = repository().join("fixtures/scripts/hello.py");
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (times, policy) in times.iter_mut().zip([Path::new("moderate"), &policy]) {
            let mut command = Command::new(binary("capibara"));
            command.args(["run", "--policy"]).arg(policy).arg(&script);
            let started = Instant::now();
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            if !status.success() {
                bail!("{command:?} ended with {status}");
            }
            if round > 0 {
                times.push(started.elapsed().as_secs_f64());
            }
        }
    }
    let [scanned, plain] = &mut times;
    let (scanned, plain) = (percentile(scanned, 0.5), percentile(plain, 0.5));
    println!("capibara run hello.py {:.2} ms, without scan {:.2} ms (medians of {ROUNDS})", scanned * 1e3, plain * 1e3);
    Ok(scanned / plain - 1.0)
}

/// For each sample, whether it is refused (`deny`), by path.
fn verdicts(samples: &[Sample]) -> Result<BTreeMap<PathBuf, Flags>> {
    let mut command = Command::new(binary("capibara"));
    command.args(["scan", "--format", "json"]).args(samples.iter().map(|sample| &sample.path));
    let report: Value = serde_json::from_slice(&command.output()?.stdout).context("capibara scan gave no JSON")?;
    let files = report["files"].as_array().context("files")?;
    Ok(files
        .iter()
        .map(|file| {
            let verdict = file["verdict"].as_str().unwrap_or_default();
            let flags = Flags { refused: verdict == "deny", flagged: verdict != "allow" };
            (PathBuf::from(file["path"].as_str().unwrap_or_default()), flags)
        })
        .collect())
}

/// What a scanner says of a file.
#[derive(Clone, Copy, Default)]
struct Flags {
    refused: bool,
    flagged: bool,
}

/// Findings of high severity, as refusals.
fn bandit_flags(bandit: &Path, samples: &[Sample]) -> Result<BTreeMap<PathBuf, Flags>> {
    let mut command = Command::new(bandit);
    command.args(["-q", "-f", "json"]).args(samples.iter().map(|sample| &sample.path));
    let report: Value = serde_json::from_slice(&command.output()?.stdout).context("bandit gave no JSON")?;
    let mut flags = BTreeMap::new();
    for result in report["results"].as_array().context("results")? {
        if result["issue_severity"] == "HIGH" {
            let path = PathBuf::from(result["filename"].as_str().unwrap_or_default());
            flags.insert(path, Flags { refused: true, flagged: true });
        }
    }
    Ok(flags)
}

/// Share of the hostile samples that are found, and of the honest ones that are refused.
fn rates(samples: &[Sample], flags: &BTreeMap<PathBuf, Flags>) -> (f64, f64) {
    let share = |expected: &[&str], hit: fn(&Sample, Flags) -> bool| {
        let of: Vec<&Sample> = samples.iter().filter(|sample| expected.contains(&sample.expected.as_str())).collect();
        let hits = of.iter().filter(|it| hit(it, flags.get(&it.path).copied().unwrap_or_default())).count();
        hits as f64 / of.len().max(1) as f64
    };
    let found =
        share(&["block", "flag"], |it, flags| if it.expected == "block" { flags.refused } else { flags.flagged });
    (found, share(&["allow"], |_, flags| flags.refused))
}

/// A folder of as many files as the bar names, made of samples of ordinary length.
fn tree(samples: &[Sample], scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join("tree");
    let usual: Vec<&Sample> = samples.iter().filter(|sample| sample.lines < 1_000).collect();
    for (i, sample) in usual.iter().cycle().take(TREE).enumerate() {
        let folder = folder.join(format!("{:02}", i % 20));
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(&sample.path, folder.join(format!("f{i}.py")))?;
    }
    Ok(folder)
}

fn bandit() -> Option<PathBuf> {
    let named = std::env::var_os("CAPIBARA_BANDIT").map_or_else(|| PathBuf::from("bandit"), PathBuf::from);
    Command::new(&named).arg("--version").output().ok().filter(|output| output.status.success()).map(|_| named)
}

/// The least time of so many rounds, in seconds.
fn least<T>(rounds: usize, mut work: impl FnMut() -> std::io::Result<T>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let started = Instant::now();
        work()?;
        least = least.min(started.elapsed().as_secs_f64());
    }
    Ok(least)
}
