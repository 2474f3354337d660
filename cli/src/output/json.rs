//! The JSON of `--format json`, schema 1. `schema/run.v1.json` describes the object of `run`.
//!
//! Keys may be added within schema 1; none is renamed, removed or given another meaning.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use capibara::{
    Applied, Artifact, Captured, Change, Divergence, LimitHit, Outcome, Refusal, RuntimeId, Scan, Status, ToolUse,
    Trap, Usage, Written,
};
use capibara_policies::FindingJson;
use serde::Serialize;
use serde::ser::SerializeStruct as _;
use serde_json::ser::Formatter;

use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::scan;

/// The schema's number.
pub(crate) const SCHEMA: u32 = 1;

/// What came of `run`. The order of the fields is the order of the keys.
#[derive(Debug, Serialize)]
pub(crate) struct RunReport {
    schema: u32,
    status: &'static str,
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    stdout_truncated: bool,
    stderr_truncated: bool,
    limit: Option<LimitReport>,
    trap: Option<TrapReport>,
    error: Option<ErrorReport>,
    usage: Option<UsageReport>,
    quotas_met: Vec<LimitReport>,
    scan: Option<RunScan>,
    divergence: Vec<DivergenceReport>,
    artifacts: Vec<ArtifactReport>,
    artifacts_left_out: Vec<String>,
    out: Option<OutReport>,
    changes: Vec<ChangeReport>,
    applied: Option<AppliedReport>,
    tools: Vec<ToolReport>,
    job_sha256: Option<String>,
    epoch: Option<String>,
    seed: Option<String>,
    live: bool,
    determined: Option<bool>,
    runtime: Option<RuntimeReport>,
    cached: bool,
    receipt: Option<()>,
}

#[derive(Debug, Serialize)]
struct LimitReport {
    kind: &'static str,
    allowed: u64,
    used: u64,
}

/// Verdict and findings of the scan before a run.
#[derive(Debug)]
pub(crate) struct RunScan(Arc<Scan>);

impl RunScan {
    /// `None` of a script that was not scanned.
    pub(crate) fn of(scan: &Arc<Scan>) -> Option<Self> {
        scan.was_made().then(|| Self(scan.clone()))
    }
}

impl Serialize for RunScan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("scan", 2)?;
        object.serialize_field("verdict", &self.0.verdict)?;
        object.serialize_field("findings", &self.0.findings.iter().map(FindingJson::from).collect::<Vec<_>>())?;
        object.end()
    }
}

#[derive(Debug, Serialize)]
struct DivergenceReport {
    path: String,
    access: &'static str,
}

impl From<Divergence> for DivergenceReport {
    fn from(divergence: Divergence) -> Self {
        Self { path: divergence.path, access: if divergence.write { "write" } else { "read" } }
    }
}

#[derive(Debug, Serialize)]
struct ArtifactReport {
    path: String,
    bytes: u64,
    sha256: String,
    mime: &'static str,
}

impl From<Artifact> for ArtifactReport {
    fn from(artifact: Artifact) -> Self {
        let Artifact { path, bytes, sha256, mime, .. } = artifact;
        Self { path, bytes: bytes.len(), sha256: sha256.to_string(), mime }
    }
}

/// What came of `--out`.
#[derive(Debug, Serialize)]
struct OutReport {
    files: u64,
    bytes: u64,
    refused: Vec<RefusalReport>,
}

/// One change below an overlay.
#[derive(Debug, Serialize)]
struct ChangeReport {
    path: String,
    kind: &'static str,
    r#type: &'static str,
    bytes: u64,
    sha256: Option<String>,
    target: Option<String>,
}

impl From<&Change> for ChangeReport {
    fn from(change: &Change) -> Self {
        Self {
            path: change.path.clone(),
            kind: change.kind.name(),
            r#type: change.what.name(),
            bytes: change.bytes,
            sha256: change.sha256.map(|sha256| sha256.to_string()),
            target: change.target.clone(),
        }
    }
}

/// What came of `--apply`.
#[derive(Debug, Serialize)]
struct AppliedReport {
    changes: u64,
    refused: Vec<RefusalReport>,
}

#[derive(Debug, Serialize)]
struct RefusalReport {
    path: String,
    reason: String,
}

impl From<Refusal> for RefusalReport {
    fn from(refusal: Refusal) -> Self {
        Self { path: refusal.path, reason: refusal.reason.to_string() }
    }
}

#[derive(Debug, Serialize)]
struct ToolReport {
    name: String,
    calls: u64,
    failed: u64,
    last_error: Option<String>,
}

impl From<ToolUse> for ToolReport {
    fn from(tool: ToolUse) -> Self {
        let ToolUse { name, calls, failed, last_error, .. } = tool;
        Self { name, calls, failed, last_error }
    }
}

#[derive(Debug, Serialize)]
struct TrapReport {
    kind: &'static str,
    message: String,
}

/// Why a command failed, in the JSON of every command.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorReport {
    code: &'static str,
    message: String,
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct UsageReport {
    fuel: Option<u64>,
    wall_ms: f64,
    slept_ms: f64,
    memory_peak_bytes: u64,
    output_bytes: u64,
    files_written: u64,
    bytes_written: u64,
    host_calls: u64,
    files_peak: u64,
    descriptors_peak: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct RuntimeReport {
    name: String,
    sha256: String,
}

impl RunReport {
    /// The report of a run that took place or was denied. `can_grant`: whether flags may grant what a denial asks for.
    pub(crate) fn of(outcome: Outcome, can_grant: bool) -> Self {
        let exit_code = outcome.exit_code();
        let (stdout_truncated, stderr_truncated) = (outcome.stdout.truncated, outcome.stderr.truncated);
        let (stdout, stdout_base64) = text_or_base64(outcome.stdout);
        let (stderr, stderr_base64) = text_or_base64(outcome.stderr);
        let mut report = Self {
            exit_code,
            stdout,
            stdout_base64,
            stderr,
            stderr_base64,
            stdout_truncated,
            stderr_truncated,
            usage: Some(outcome.usage.into()),
            tools: outcome.tools.into_iter().map(Into::into).collect(),
            divergence: outcome.divergence.into_iter().map(Into::into).collect(),
            quotas_met: outcome.quotas_met.into_iter().map(Into::into).collect(),
            artifacts: outcome.artifacts.into_iter().map(Into::into).collect(),
            artifacts_left_out: outcome.artifacts_left_out,
            changes: outcome.changes.iter().map(Into::into).collect(),
            job_sha256: Some(outcome.job_sha256.to_string()),
            epoch: Some(outcome.epoch.to_string()),
            seed: (!outcome.live).then(|| outcome.seed.to_string()),
            scan: RunScan::of(&outcome.scan),
            determined: Some(outcome.determined),
            runtime: outcome.runtime.map(Into::into),
            ..Self::empty("completed", outcome.live)
        };
        match outcome.status {
            Status::Completed { .. } => {}
            Status::Denied => {
                report.status = "denied";
                report.usage = None;
                report.seed = None;
                report.error = Some(ErrorReport {
                    code: "scan-denied",
                    message: scan::denial(&outcome.scan),
                    hint: Some(scan::denial_hint(&outcome.scan, can_grant)),
                });
            }
            Status::Limit(hit) => {
                report.status = "limit";
                report.limit = Some(hit.into());
            }
            Status::Trapped(trap) => {
                report.status = "trapped";
                report.trap = Some(trap.into());
            }
            Status::Canceled { .. } => report.status = "canceled",
            // `Status` may grow; `commands::run` turns what it does not know into an error before it gets here.
            _ => report.status = "error",
        }
        report
    }

    /// Adds what came of `--out` and `--apply`.
    pub(crate) fn with_files(mut self, written: Option<Written>, applied: Option<Applied>) -> Self {
        self.applied = applied.map(|Applied { applied, refused, .. }| AppliedReport {
            changes: applied,
            refused: refused.into_iter().map(Into::into).collect(),
        });
        self.out = written.map(|Written { files, bytes, refused, .. }| OutReport {
            files,
            bytes,
            refused: refused.into_iter().map(Into::into).collect(),
        });
        self
    }

    /// Shows it without what the script printed, for whoever was told that before.
    pub(crate) fn without_output<T>(&mut self, show: impl FnOnce(&Self) -> T) -> T {
        let Self { stdout, stdout_base64, stderr, stderr_base64, .. } = self;
        let printed = [stdout.take(), stdout_base64.take(), stderr.take(), stderr_base64.take()];
        let shown = show(self);
        [self.stdout, self.stdout_base64, self.stderr, self.stderr_base64] = printed;
        shown
    }

    /// The report of a run that did not take place.
    pub(crate) fn failed(failure: &Failure, live: bool) -> Self {
        let status = if failure.exit == ExitCode::Denied { "denied" } else { "error" };
        Self { error: Some(failure.into()), ..Self::empty(status, live) }
    }

    fn empty(status: &'static str, live: bool) -> Self {
        Self {
            schema: SCHEMA,
            status,
            exit_code: None,
            stdout: Some(String::new()),
            stdout_base64: None,
            stderr: Some(String::new()),
            stderr_base64: None,
            stdout_truncated: false,
            stderr_truncated: false,
            limit: None,
            trap: None,
            error: None,
            usage: None,
            quotas_met: Vec::new(),
            scan: None,
            divergence: Vec::new(),
            artifacts: Vec::new(),
            artifacts_left_out: Vec::new(),
            out: None,
            changes: Vec::new(),
            applied: None,
            tools: Vec::new(),
            job_sha256: None,
            epoch: None,
            seed: None,
            live,
            determined: None,
            runtime: None,
            cached: false,
            receipt: None,
        }
    }
}

/// What commands other than `run` print when they could not do their work.
#[derive(Debug, Serialize)]
struct FailureReport {
    schema: u32,
    error: ErrorReport,
}

/// Prints why a command failed. `run` says whether it was `run`, and then whether the run was to be live: its object has
/// all its keys then as well.
pub(crate) fn print_failure(failure: &Failure, run: Option<bool>) -> ExitCode {
    match run {
        Some(live) => print(&RunReport::failed(failure, live), failure.exit),
        None => print(&FailureReport { schema: SCHEMA, error: failure.into() }, failure.exit),
    }
}

fn text_or_base64(captured: Captured) -> (Option<String>, Option<String>) {
    match String::from_utf8(captured.bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(base64(error.as_bytes()))),
    }
}

/// Bytes that are no text.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

impl From<LimitHit> for LimitReport {
    fn from(hit: LimitHit) -> Self {
        Self { kind: hit.kind.name(), allowed: hit.allowed, used: hit.used }
    }
}

impl From<Trap> for TrapReport {
    fn from(trap: Trap) -> Self {
        Self { kind: trap.kind, message: trap.message }
    }
}

impl From<&Failure> for ErrorReport {
    fn from(failure: &Failure) -> Self {
        Self { code: failure.code, message: failure.full_message(), hint: failure.hint.clone() }
    }
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

impl From<Usage> for UsageReport {
    fn from(usage: Usage) -> Self {
        Self {
            fuel: usage.fuel,
            wall_ms: millis(usage.wall_time),
            slept_ms: millis(usage.slept),
            memory_peak_bytes: usage.memory_peak_bytes,
            output_bytes: usage.output_bytes,
            files_written: usage.files_written,
            bytes_written: usage.bytes_written,
            host_calls: usage.host_calls,
            files_peak: usage.files_peak,
            descriptors_peak: usage.descriptors_peak,
        }
    }
}

impl From<RuntimeId> for RuntimeReport {
    fn from(runtime: RuntimeId) -> Self {
        Self { name: runtime.name, sha256: runtime.sha256 }
    }
}

/// Writes `value` to standard output, on one line. `code` is the exit code if that works.
pub(crate) fn print(value: &impl Serialize, code: ExitCode) -> ExitCode {
    match line(value) {
        Ok(bytes) => super::answer(&bytes, code),
        Err(error) => super::lost(&error, capibara::Stream::Stdout),
    }
}

/// `value` on one line, with its end.
pub(crate) fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, SafeToShow))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Compact JSON in which characters that would control a terminal or turn text around are written `\u009b`: the same
/// value for every reader, and harmless on a screen.
struct SafeToShow;

impl Formatter for SafeToShow {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut shown = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| escape::is_unsafe(*c)) {
            writer.write_all(fragment.get(shown..at).unwrap_or_default().as_bytes())?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            shown = at + c.len_utf8();
        }
        writer.write_all(fragment.get(shown..).unwrap_or_default().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn text(report: &RunReport) -> String {
        let mut bytes = Vec::new();
        report.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, SafeToShow)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn completed() -> RunReport {
        RunReport {
            exit_code: Some(3),
            usage: Some(Usage { fuel: Some(7), ..Usage::default() }.into()),
            job_sha256: Some("00".repeat(32)),
            epoch: Some("2026-01-31T12:00:00Z".into()),
            seed: Some(u128::MAX.to_string()),
            determined: Some(true),
            runtime: Some(RuntimeReport { name: "python-3.13.5".into(), sha256: "ab".repeat(32) }),
            ..RunReport::empty("completed", false)
        }
    }

    fn samples() -> Vec<RunReport> {
        let (_, binary) = text_or_base64(Captured { bytes: vec![0xff, 0xfe], truncated: false });
        let failure = Failure::new("script-not-found", "there is no file `x.py`").with_hint("check the path");
        let limit = |kind, allowed, used| RunReport {
            status: "limit",
            exit_code: None,
            limit: Some(LimitHit { kind, allowed, used }.into()),
            ..completed()
        };
        vec![
            completed(),
            RunReport { stdout: None, stdout_base64: binary, ..completed() },
            limit(capibara::LimitKind::WallTime, 1_000, 1_002),
            limit(capibara::LimitKind::Fuel, 1, 1),
            RunReport {
                status: "trapped",
                exit_code: None,
                trap: Some(Trap { kind: "unreachable", message: "the interpreter gave up".into() }.into()),
                ..completed()
            },
            RunReport {
                artifacts: vec![ArtifactReport {
                    path: "a/b.csv".into(),
                    bytes: 3,
                    sha256: "00".repeat(32),
                    mime: "text/csv",
                }],
                artifacts_left_out: vec!["big".into()],
                out: Some(OutReport {
                    files: 0,
                    bytes: 0,
                    refused: vec![RefusalReport { path: "a/b.csv".into(), reason: "a directory is in the way".into() }],
                }),
                changes: vec![
                    ChangeReport {
                        path: "/src/a".into(),
                        kind: "changed",
                        r#type: "file",
                        bytes: 3,
                        sha256: Some("00".repeat(32)),
                        target: None,
                    },
                    ChangeReport {
                        path: "/src/b".into(),
                        kind: "added",
                        r#type: "link",
                        bytes: 0,
                        sha256: None,
                        target: Some("a".into()),
                    },
                ],
                applied: Some(AppliedReport {
                    changes: 1,
                    refused: vec![RefusalReport { path: "/src/a".into(), reason: "it was changed".into() }],
                }),
                ..completed()
            },
            RunReport { status: "canceled", exit_code: None, determined: Some(false), ..completed() },
            RunReport { live: true, seed: None, usage: Some(Usage::default().into()), ..completed() },
            RunReport::failed(&failure, false),
            RunReport::failed(&failure.with_exit(ExitCode::Denied), true),
        ]
    }

    #[test]
    fn keys_and_their_order() {
        assert_eq!(
            text(&completed()),
            concat!(
                r#"{"schema":1,"status":"completed","exit_code":3,"stdout":"","stderr":"","stdout_truncated":false,"#,
                r#""stderr_truncated":false,"limit":null,"trap":null,"error":null,"#,
                r#""usage":{"fuel":7,"wall_ms":0.0,"slept_ms":0.0,"memory_peak_bytes":0,"output_bytes":0,"files_written":0,"#,
                r#""bytes_written":0,"host_calls":0,"files_peak":0,"descriptors_peak":0},"quotas_met":[],"#,
                r#""scan":null,"divergence":[],"artifacts":[],"artifacts_left_out":[],"out":null,"changes":[],"applied":null,"#,
                r#""tools":[],"#,
                r#""job_sha256":"0000000000000000000000000000000000000000000000000000000000000000","#,
                r#""epoch":"2026-01-31T12:00:00Z","seed":"340282366920938463463374607431768211455","live":false,"#,
                r#""determined":true,"#,
                r#""runtime":{"name":"python-3.13.5","#,
                r#""sha256":"abababababababababababababababababababababababababababababababab"},"#,
                r#""cached":false,"receipt":null}"#,
            )
        );
    }

    #[test]
    fn parts_of_other_endings() {
        let values: Vec<Value> = samples().iter().map(|r| serde_json::from_str(&text(r)).unwrap()).collect();
        assert_eq!(values[1]["stdout_base64"], "//4=");
        assert_eq!(values[1].get("stdout"), None);
        assert_eq!(values[2]["limit"], json!({"kind": "wall_time", "allowed": 1000, "used": 1002}));
        assert_eq!(values[4]["trap"], json!({"kind": "unreachable", "message": "the interpreter gave up"}));
        assert_eq!(values[7]["usage"]["fuel"], Value::Null);
        assert_eq!(
            values[8]["error"],
            json!({"code": "script-not-found", "message": "there is no file `x.py`", "hint": "check the path"})
        );
        assert_eq!(values[9]["status"], "denied");
    }

    #[test]
    fn every_sample_is_what_the_schema_says() {
        let schema: Value = serde_json::from_str(include_str!("../../../schema/run.v1.json")).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for report in samples() {
            let value = serde_json::from_str(&text(&report)).unwrap();
            let errors: Vec<String> =
                validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{value}\n{errors:#?}");
        }
        let mut wrong: Value = serde_json::from_str(&text(&completed())).unwrap();
        wrong["exit_code"] = Value::Null;
        assert!(!validator.is_valid(&wrong));
    }

    #[test]
    fn strings_are_safe_to_show_and_keep_their_value() {
        let nasty = "a\u{9b}31m\u{202e}b\x1b[0m\u{7f}\u{2028}🦫";
        let report = RunReport { stdout: Some(nasty.into()), ..completed() };
        let text = text(&report);
        assert!(!text.chars().any(escape::is_unsafe), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["stdout"], nasty);
    }
}
