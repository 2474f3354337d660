//! Holds many sessions at once: `engine/examples/density.rs`.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, run};

const SESSIONS: &str = "10000";
/// Memory of the process in all, in GiB.
const BAR_GIB: f64 = 8.0;
/// Mappings of each session.
const BAR_MAPPINGS: f64 = 5.0;

/// `cargo xtask density [SESSIONS]`: prints what it took; fails if a bar is missed.
pub(crate) fn measure(words: &[String]) -> Result<()> {
    let count = words.first().map_or(SESSIONS, String::as_str);
    run(cargo(&["run", "--release", "--quiet", "--bin", "capibara", "--", "runtime", "install", "python"]))?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average at the start: {}", load.trim_end());
    let output =
        cargo(&["run", "--release", "--quiet", "-p", "capibara", "--example", "density", "--", count]).output()?;
    if !output.status.success() {
        bail!("density: {}", String::from_utf8_lossy(&output.stderr));
    }
    let found: Value = serde_json::from_slice(&output.stdout).context("density printed no JSON")?;
    println!("{found:#}");
    let number = |key: &str| found[key].as_f64().with_context(|| format!("density printed no {key}"));
    let mappings = number("mappings")? / number("sessions")?;
    let mut missed = Vec::new();
    for (what, value, bar) in
        [("GiB in all", number("memory_gib_after_second_turn")?, BAR_GIB), ("mappings each", mappings, BAR_MAPPINGS)]
    {
        println!("{what:<16} {value:>8.2} bar {bar}");
        if value > bar {
            missed.push(what);
        }
    }
    if !missed.is_empty() {
        bail!("missed: {}", missed.join(", "));
    }
    Ok(())
}
