//! `capibara run --dry-run`: what would be in force, and nothing is run.

use std::fmt::Write as _;
use std::time::Duration;

use capibara::{Access, Grant, Job, Limits, Scan, Verdict};
use capibara_policies::{FindingJson, format_count, format_duration, format_size};
use serde::Serialize;

use super::run::{Bounds, RunArguments};
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::{self, Format, json};
use crate::tool_program::ToolProgram;

/// The object of `run --dry-run --format json`.
#[derive(Serialize)]
struct DryRun<'a> {
    schema: u32,
    dry_run: bool,
    would_run: bool,
    language: &'a str,
    policy: PolicyId<'a>,
    scan: ScanPart<'a>,
    limits: LimitsPart,
    grants: Vec<GrantPart>,
    env: Vec<&'a str>,
    tools: Vec<&'a str>,
    live: bool,
    modules: Vec<&'a str>,
    needs: Vec<NeedPart<'a>>,
}

#[derive(Serialize)]
struct PolicyId<'a> {
    name: &'a str,
    sha256: String,
}

#[derive(Serialize)]
struct ScanPart<'a> {
    verdict: Verdict,
    findings: Vec<FindingJson<'a>>,
}

#[derive(Clone, Serialize)]
pub(crate) struct LimitsPart {
    fuel: Option<u64>,
    wall_ms: u64,
    memory_bytes: u64,
    output_bytes: u64,
    bytes_written: u64,
    files: u64,
    descriptors: u64,
}

#[derive(Serialize)]
struct GrantPart {
    access: &'static str,
    host: String,
    guest: String,
}

#[derive(Serialize)]
struct NeedPart<'a> {
    need: &'static str,
    name: Option<&'a str>,
    path: &'a str,
    line: u32,
}

/// Prints it, and gives back the exit code a run would have had for the verdict.
pub(crate) fn tell(run: &RunArguments, job: &Job, scan: &Scan, bounds: &Bounds) -> ExitCode {
    let code = if scan.verdict == Verdict::Deny { ExitCode::Denied } else { ExitCode::Yes };
    let report = DryRun {
        schema: json::SCHEMA,
        dry_run: true,
        would_run: scan.verdict != Verdict::Deny,
        language: job.language.name(),
        policy: PolicyId { name: &job.policy.name, sha256: job.policy.sha256() },
        scan: ScanPart { verdict: scan.verdict, findings: scan.findings.iter().map(Into::into).collect() },
        limits: LimitsPart::of(&bounds.limits, job.live),
        grants: job.grants.iter().map(grant).collect(),
        env: job.env.iter().map(|(name, _)| name.as_str()).collect(),
        tools: run.given.tool.iter().map(ToolProgram::name).collect(),
        live: job.live,
        modules: job.modules.iter().map(|module| module.path.as_str()).collect(),
        needs: scan.needs.iter().map(need).collect(),
    };
    match run.how.shown.format {
        Format::Json => json::print(&report, code),
        Format::Text => {
            let console = output::text::Console::new();
            output::scan::deny(&console, scan);
            output::scan::warn(&console, scan);
            output::answer(text(&report).as_bytes(), code)
        }
    }
}

impl LimitsPart {
    pub(crate) fn of(limits: &Limits, live: bool) -> Self {
        Self {
            fuel: limits.fuel.filter(|_| !live),
            wall_ms: u64::try_from(limits.wall_time.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: limits.memory,
            output_bytes: limits.output,
            bytes_written: limits.bytes_written,
            files: limits.files,
            descriptors: limits.descriptors,
        }
    }
}

fn grant(grant: &Grant) -> GrantPart {
    let access = match grant.access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Overlay => "overlay",
    };
    let last = grant.host.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let guest = grant.guest.clone().unwrap_or_else(|| format!("/{last}"));
    GrantPart { access, host: grant.host.to_string_lossy().into_owned(), guest }
}

fn need(need: &capibara::Need) -> NeedPart<'_> {
    let (kind, name) = (need.kind.name(), need.kind.subject());
    NeedPart { need: kind, name, path: &need.path, line: need.span.line }
}

fn text(report: &DryRun<'_>) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: &str| {
        let written = writeln!(out, "{name:<9} {}", escape::line(value));
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    };
    row("verdict", report.scan.verdict.name());
    row("policy", report.policy.name);
    row("language", report.language);
    let limits = &report.limits;
    for (name, value) in [
        ("fuel", limits.fuel.map_or_else(|| "none".into(), format_count)),
        ("wall_time", format_duration(Duration::from_millis(limits.wall_ms))),
        ("memory", format_size(limits.memory_bytes)),
        ("output", format_size(limits.output_bytes)),
        ("bytes_written", format_size(limits.bytes_written)),
        ("files", limits.files.to_string()),
        ("descriptors", limits.descriptors.to_string()),
    ] {
        row("limit", &format!("{name} {value}"));
    }
    if report.grants.is_empty() && report.env.is_empty() && report.tools.is_empty() {
        row("grants", "none");
    }
    for grant in &report.grants {
        row("grant", &format!("{} {} as {}", grant.access, grant.host, grant.guest));
    }
    for name in &report.env {
        row("grant", &format!("env {name}"));
    }
    for name in &report.tools {
        row("grant", &format!("tool {name}"));
    }
    if report.live {
        row("live", "real clocks and system randomness");
    }
    for module in &report.modules {
        row("module", module);
    }
    for need in &report.needs {
        let what = need.name.map_or_else(|| "something the scan cannot tell".to_owned(), str::to_owned);
        let what = if need.need == "stdin" { String::new() } else { format!(" {what}") };
        row("needs", &format!("{}{what} ({}:{})", need.need, need.path, need.line));
    }
    out
}
