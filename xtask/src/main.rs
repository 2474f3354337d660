//! The project's own commands.
//!
//! `cargo xtask test` passes all tests: it checks what is needed, builds, makes the Python runtime ready, runs every
//! test of the workspace and closes with a summary that counts what was skipped and why. In CI (`CI=true`) it fails on
//! a skip that could have been avoided.
//!
//! `cargo xtask check` looks at formatting, features, lints and links of the documentation. `cargo xtask bars` measures what SPECIFICATION.md promises about
//! speed and memory, as ratios in one interleaved run, `cargo xtask scans` what it promises about scanning, and
//! `cargo xtask kernels` what computing costs (`--fuel`: against the recorded counts; `--record`: records them).
//!
//! `cargo xtask density [SESSIONS]` holds that many sessions (10,000) and asks each of them a second time.
//!
//! `cargo xtask dist` makes what is shipped, in `target/dist`, `cargo xtask book` the book, in `target/book`.
//! `cargo xtask crates` packages the library and builds the ten lines of the book from the packages, with the network off.
//!
//! `cargo xtask python` builds the wheel of the Python package and tests it in a fresh virtual environment.
//!
//! `cargo xtask profile` makes the profile anew that guides the compiler of the Python runtime.

mod bars;
mod book;
mod crates;
mod density;
mod dist;
mod kernels;
mod profile;
mod python;
mod scans;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.first().map(String::as_str) {
        Some("test") => test(words.get(1..).unwrap_or_default()),
        Some("check") => check(),
        Some("bars") => bars::measure(),
        Some("book") => book::make(),
        Some("crates") => crates::test(),
        Some("dist") => dist::make(),
        Some("density") => density::measure(words.get(1..).unwrap_or_default()),
        Some("scans") => scans::measure(),
        Some("profile") => profile::make(),
        Some("python") => python::test(),
        Some("kernels") => kernels::command(words.get(1..).unwrap_or_default()),
        _ => Err(anyhow::anyhow!(
            "usage: cargo xtask test [FILTER] | check | dist | crates | book | bars | density | scans | kernels | profile | python"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The corpus lies beside the repository where there is one.
fn corpus() -> Option<PathBuf> {
    std::env::var_os("CAPIBARA_CORPUS").map(PathBuf::from).or_else(|| {
        let beside = repository().parent()?.join("shared/corpus");
        beside.join("manifest.jsonl").is_file().then_some(beside)
    })
}

fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository()).args(words);
    without_our_package(&mut command);
    command
}

/// Takes away what cargo tells this program about itself: build scripts look at some of it, and dependencies would be compiled
/// again after each `cargo build` without it.
fn without_our_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
}

fn run(mut command: Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("failed to start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// What a command prints; an error if it fails.
fn output(mut command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("failed to start {shown}"))?;
    if !output.status.success() {
        bail!("{shown} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Formatting, features, lints and links of the documentation.
fn check() -> Result<()> {
    run(cargo(&["fmt", "--all", "--check"]))?;
    features()?;
    run(cargo(&["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    // `missing_docs` is one of those lints, so everything public is documented; here its links are followed.
    let mut documentation = cargo(&["doc", "--release", "--workspace", "--no-deps", "--lib", "--quiet"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    run(documentation)
}

/// Whether the program and the Python package are made of the crates, with the features, that the tests are run with.
fn features() -> Result<()> {
    let crates = |selection: &[&str]| -> Result<BTreeSet<String>> {
        let mut tree = cargo(&["tree", "--locked", "--prefix", "none", "--no-dedupe", "--format", "{p} [{f}]"]);
        tree.args(selection);
        Ok(output(tree)?.lines().map(str::to_owned).collect())
    };
    let tested = crates(&["--workspace", "--edges", "normal,build,dev"])?;
    for package in ["capibara-cli", "capibara-python"] {
        let shipped = crates(&["--package", package, "--edges", "normal,build"])?;
        let others: Vec<_> = shipped.difference(&tested).map(String::as_str).collect();
        if !others.is_empty() {
            bail!("{package} has other features than what is tested (see the root manifest):\n{}", others.join("\n"));
        }
    }
    Ok(())
}

/// Builds all, and sees that building the same again compiles nothing.
fn build_once() -> Result<()> {
    let all = ["build", "--release", "--workspace", "--all-targets"];
    run(cargo(&[&all[..], &["--quiet"]].concat()))?;
    for words in [&all[..], &["build", "--release", "--bin", "capibara"]] {
        let output = cargo(words).output().context("failed to start cargo build")?;
        let text = String::from_utf8_lossy(&output.stderr);
        let again: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with("Compiling")).collect();
        if !again.is_empty() {
            bail!("cargo {} compiles again what was built:\n{}", words.join(" "), again.join("\n"));
        }
    }
    Ok(())
}

fn test(filter: &[String]) -> Result<()> {
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let corpus = corpus();
    build_once()?;
    for variant in [
        &["run", "--release", "--quiet", "--", "runtime", "install", "python"][..],
        &["run", "--release", "--quiet", "--", "runtime", "install", "python", "--live"],
    ] {
        run(cargo(variant))?;
    }
    let skips = repository().join("target").join("skipped-tests.txt");
    let _ = std::fs::remove_file(&skips);
    let mut tests = cargo(&["test", "--release", "--workspace", "--no-fail-fast"]);
    if let Some(filter) = filter.first() {
        tests.arg(filter);
    }
    tests.env("CAPIBARA_TEST_SKIPS", &skips);
    if let Some(corpus) = &corpus {
        tests.env("CAPIBARA_CORPUS", corpus);
    }
    let result = run(tests);
    let skipped = std::fs::read_to_string(&skips).unwrap_or_default();
    let count = skipped.lines().count();
    println!("skipped: {count}");
    skipped.lines().for_each(|line| println!("  {line}"));
    result?;
    let avoidable = skipped.lines().filter(|line| !line.contains("unavailable: ")).count();
    if ci && avoidable > 0 {
        bail!("{avoidable} skips could have been avoided here");
    }
    println!("all tests passed");
    Ok(())
}
