//! Findings and reports as JSON: the shapes of `scan --format json` and of `scan` in the JSON of a run.
//!
//! Keys may be added within schema 1 (`schema/scan.v1.json`); none is renamed or dropped. The types borrow what they show
//! and are written with any serializer of serde.

use serde::Serialize;

use crate::{Finding, Report, Severity, Verdict};

/// One scanned file, as all outputs take it.
#[derive(Clone, Copy, Debug)]
pub struct ScannedFile<'a> {
    /// Path to show: as the scan was given it.
    pub path: &'a str,
    /// What the scan came to.
    pub report: &'a Report,
    /// The normalized text that lines and columns refer to ([`Source::text`](crate::Source::text)); `None` if there is none,
    /// for example because the file could not be decoded.
    pub text: Option<&'a str>,
}

/// A file that should have been scanned and could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadFile {
    /// Path to show.
    pub path: String,
    /// Why, in one line.
    pub message: String,
}

/// Which policy a scan was made under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyIdentity<'a> {
    /// Its name.
    pub name: &'a str,
    /// SHA-256 of what it says, in hexadecimal.
    pub sha256: &'a str,
}

/// A finding: `{"rule","severity","message","path","line","column","end_line","end_column","effect","advice","allowed"}`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FindingJson<'a> {
    rule: &'a str,
    severity: Severity,
    message: &'a str,
    path: &'a str,
    line: u32,
    column: u32,
    end_line: u32,
    end_column: u32,
    effect: Verdict,
    advice: Option<&'a str>,
    allowed: Option<&'a str>,
}

impl<'a> From<&'a Finding> for FindingJson<'a> {
    fn from(finding: &'a Finding) -> Self {
        Self {
            rule: &finding.rule,
            severity: finding.severity,
            message: &finding.message,
            path: &finding.path,
            line: finding.span.line,
            column: finding.span.column,
            end_line: finding.span.end_line,
            end_column: finding.span.end_column,
            effect: finding.effect,
            advice: (!finding.advice.is_empty()).then_some(finding.advice.as_str()),
            allowed: finding.allowed.as_deref(),
        }
    }
}

/// What a run says of its scan: `{"verdict","findings"}`.
#[derive(Clone, Debug, Serialize)]
pub struct ScanJson<'a> {
    verdict: Verdict,
    findings: Vec<FindingJson<'a>>,
}

impl<'a> From<&'a Report> for ScanJson<'a> {
    fn from(report: &'a Report) -> Self {
        Self { verdict: report.verdict, findings: report.findings.iter().map(FindingJson::from).collect() }
    }
}

/// The whole of `scan --format json`:
/// `{"schema":1,"verdict","policy","files":[{"path","language","verdict","findings"}],"unread","summary"}`.
#[derive(Clone, Debug, Serialize)]
pub struct ScanReport<'a> {
    schema: u32,
    verdict: Verdict,
    policy: PolicyIdentity<'a>,
    files: Vec<FileJson<'a>>,
    unread: &'a [UnreadFile],
    summary: Summary,
}

#[derive(Clone, Debug, Serialize)]
struct FileJson<'a> {
    path: &'a str,
    language: Option<&'static str>,
    verdict: Verdict,
    findings: Vec<FindingJson<'a>>,
}

impl<'a> ScanReport<'a> {
    /// The report of a scan of these files, in this order. The verdict is the worst of all; a file that could not be read
    /// has none, and is for the caller to judge.
    #[must_use]
    pub fn new(policy: PolicyIdentity<'a>, files: &[ScannedFile<'a>], unread: &'a [UnreadFile]) -> Self {
        let summary = Summary::of(files.iter().map(|file| file.report), unread.len());
        let files = files.iter().map(|file| {
            let ScanJson { verdict, findings } = file.report.into();
            FileJson { path: file.path, language: file.report.language.map(|l| l.name()), verdict, findings }
        });
        Self { schema: 1, verdict: summary.verdict(), policy, files: files.collect(), unread, summary }
    }
}

/// Counts over all files of a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Files that were scanned.
    pub files: usize,
    /// Files that should have been scanned and could not be read.
    pub unread: usize,
    /// Files the policy allows without a word.
    pub allow: usize,
    /// Files the policy allows with a warning.
    pub warn: usize,
    /// Files the policy denies.
    pub deny: usize,
    /// Findings that no allow list entry lets pass, by severity.
    pub findings: SeverityCounts,
    /// Findings that an allow list entry lets pass.
    pub allowed: usize,
}

/// Findings by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SeverityCounts {
    /// Of severity `error`.
    pub error: usize,
    /// Of severity `warning`.
    pub warning: usize,
    /// Of severity `unprovable`.
    pub unprovable: usize,
}

impl SeverityCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.error + self.warning + self.unprovable
    }
}

impl Summary {
    /// Counts the findings of these reports.
    #[must_use]
    pub fn of<'a>(reports: impl IntoIterator<Item = &'a Report>, unread: usize) -> Self {
        let mut sum = Self { unread, ..Self::default() };
        for report in reports {
            sum.files += 1;
            match report.verdict {
                Verdict::Allow => sum.allow += 1,
                Verdict::Warn => sum.warn += 1,
                Verdict::Deny => sum.deny += 1,
            }
            for finding in &report.findings {
                match (&finding.allowed, finding.severity) {
                    (Some(_), _) => sum.allowed += 1,
                    (None, Severity::Error) => sum.findings.error += 1,
                    (None, Severity::Warning) => sum.findings.warning += 1,
                    (None, Severity::Unprovable) => sum.findings.unprovable += 1,
                }
            }
        }
        sum
    }

    /// The worst verdict of all files.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.deny > 0 {
            Verdict::Deny
        } else if self.warn > 0 {
            Verdict::Warn
        } else {
            Verdict::Allow
        }
    }
}
