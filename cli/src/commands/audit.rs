//! `capibara audit`: what was run here, and whether the log of it is whole.

use std::time::{Duration, SystemTime};

use capibara::audit::{
    AuditError, AuditFolders, AuditLog, AuditOptions, Entry, Filter, Note, Problem, TrustedKeys, Verification,
    VerifyOptions, list as read_log, verify_with,
};
use capibara::{Digest, Epoch};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Output;
use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::json::{self, SCHEMA};
use crate::output::text::Console;
use crate::output::{Format, answer};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Say whether the log is whole
    ///
    /// Reads every line, compares it with the chain, the signatures and the head, and names the first line that was
    /// edited, deleted, reordered, inserted or truncated. Exit codes: 0 whole, 1 not, 125 could not.
    Verify(VerifyArguments),
    /// List records, the newest last
    ///
    /// It shows what is written there and verifies nothing. Exit codes: 0, 125 could not.
    List(ListArguments),
    /// Sign with a new key from now on
    ///
    /// The old key signs a record that names the new one, and is not kept. Exit codes: 0, 125 could not.
    RotateKey(RotateKeyArguments),
    /// Say where log, head and keys are
    ///
    /// With the public keys that are pinned, to verify a copy elsewhere. Exit codes: 0, 125 could not.
    Path(PathArguments),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Begin with this record
    ///
    /// For a log whose oldest files were moved away, or whose earlier damage is known. Default: record 1.
    /// Example: `--from 1200`
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,

    /// Require this record, as it was noted elsewhere
    ///
    /// DIGEST is the SHA-256 of its line without the newline; `audit verify` prints that of the last one. It shows a
    /// log that was replaced together with its head. Example: `--expect 1200:6f0c…`
    #[arg(long, value_name = "SEQ:DIGEST", value_parser = parse_expected)]
    expect: Option<(u64, Digest)>,

    /// Trust this public key, not the pinned ones
    ///
    /// 64 hexadecimal digits, as `audit path` shows them; can be given more than once.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only from this moment on
    ///
    /// A date, a moment, or a time ago. Examples: `--since 2026-01-31`, `--since 2026-01-31T12:00:00Z`, `--since 2h`
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: Option<SystemTime>,

    /// Only before this moment
    ///
    /// As for --since. Example: `--until 2026-02-01`
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    until: Option<SystemTime>,

    /// Only with this verdict: allow, warn, deny
    #[arg(long, value_name = "VERDICT", value_parser = ["allow", "warn", "deny"], hide_possible_values = true)]
    verdict: Option<String>,

    /// Only those that ended in this way
    ///
    /// completed, denied, limit, trapped, canceled or error.
    #[arg(
        long,
        value_name = "STATUS",
        value_parser = ["completed", "denied", "limit", "trapped", "canceled", "error"],
        hide_possible_values = true
    )]
    status: Option<String>,

    /// Only under the policy of this name
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,

    /// Only of this script
    ///
    /// Its name, or the beginning of its SHA-256 (8 digits or more). Example: `--script hello.py`
    #[arg(long, value_name = "SCRIPT")]
    script: Option<String>,

    /// At most so many, the newest
    ///
    /// 1 to 1000000. Default: 100.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    limit: u32,

    /// text: a table (default); json: one record a line
    ///
    /// Example: `--format json`
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RotateKeyArguments {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct PathArguments {
    #[command(flatten)]
    output: Output,
}

impl AuditCommand {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Verify(verify) => verify.output.format,
            Self::List(list) => list.format,
            Self::RotateKey(rotate) => rotate.output.format,
            Self::Path(path) => path.output.format,
        }
    }
}

fn parse_expected(text: &str) -> Result<(u64, Digest), String> {
    let parsed = text.split_once(':').and_then(|(sequence, digest)| {
        let sequence = sequence.parse().ok().filter(|sequence| *sequence > 0)?;
        Some((sequence, digest_of(digest)?))
    });
    parsed.ok_or_else(|| {
        format!("`{text}` is not a record and its digest: write SEQUENCE:DIGEST, with 64 hexadecimal digits")
    })
}

fn digest_of(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Digest(digest))
}

fn parse_when(text: &str) -> Result<SystemTime, String> {
    let moment = text.parse::<Epoch>().or_else(|_| format!("{text}T00:00:00Z").parse());
    if let Ok(moment) = moment {
        return Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(moment.as_nanos()));
    }
    let ago = capibara_policies::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    ago.ok_or_else(|| {
        format!("`{text}` is not a moment: write for example `2026-01-31`, `2026-01-31T12:00:00Z` or `2h` (ago)")
    })
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::from(&error)
    }
}

impl From<&AuditError> for Failure {
    fn from(error: &AuditError) -> Self {
        let mut failure = Self::new(error.code(), error.to_string());
        failure.hint = error.hint().map(Into::into);
        if let Some(cause) = std::error::Error::source(error) {
            failure = failure.with_cause(cause);
        }
        failure
    }
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(command: AuditCommand) -> Result<ExitCode, Failure> {
    let folders = AuditFolders::from_env()?;
    match command {
        AuditCommand::Verify(arguments) => verify(&folders, &arguments),
        AuditCommand::List(arguments) => list(&folders, arguments),
        AuditCommand::RotateKey(arguments) => rotate_key(&folders, &arguments),
        AuditCommand::Path(arguments) => path(&folders, &arguments),
    }
}

/// The JSON of `audit verify`.
#[derive(Debug, Serialize)]
struct VerifyReport<'a> {
    schema: u32,
    whole: bool,
    records: u64,
    files: u64,
    first_sequence: Option<u64>,
    last_sequence: Option<u64>,
    last_digest: Option<String>,
    problem: Option<PlaceReport<'a>>,
    notes: Vec<PlaceReport<'a>>,
}

#[derive(Debug, Serialize)]
struct PlaceReport<'a> {
    kind: &'static str,
    file: &'a str,
    line: u64,
    sequence: u64,
    message: &'a str,
}

impl<'a> From<&'a Problem> for PlaceReport<'a> {
    fn from(problem: &'a Problem) -> Self {
        let Problem { kind, place, message } = problem;
        Self { kind: kind.name(), file: &place.file, line: place.line, sequence: place.sequence, message }
    }
}

impl<'a> From<&'a Note> for PlaceReport<'a> {
    fn from(note: &'a Note) -> Self {
        let Note { kind, place, message } = note;
        Self { kind, file: &place.file, line: place.line, sequence: place.sequence, message }
    }
}

impl PlaceReport<'_> {
    fn text(&self) -> String {
        let Self { kind, file, line, sequence, message } = self;
        format!("{file}:{line}: record {sequence} {kind}: {message}")
    }
}

impl<'a> From<&'a Verification> for VerifyReport<'a> {
    fn from(found: &'a Verification) -> Self {
        let any = found.records > 0;
        Self {
            schema: SCHEMA,
            whole: found.is_whole(),
            records: found.records,
            files: found.files,
            first_sequence: any.then_some(found.first_sequence),
            last_sequence: any.then_some(found.last_sequence),
            last_digest: found.last_digest.map(|digest| digest.to_string()),
            problem: found.problem.as_ref().map(Into::into),
            notes: found.notes.iter().map(Into::into).collect(),
        }
    }
}

impl VerifyReport<'_> {
    fn text(&self) -> String {
        let mut out = match (&self.problem, self.first_sequence, self.last_sequence) {
            (Some(problem), ..) => format!("not whole: {}\n", escape::line(&problem.text())),
            (None, Some(first), Some(last)) => {
                let plural = if self.files == 1 { "" } else { "s" };
                format!("whole: records {first} to {last} in {} file{plural}\n", self.files)
            }
            (None, ..) => "whole: no records\n".to_owned(),
        };
        for note in &self.notes {
            out.push_str(&format!("note: {}\n", escape::line(&note.text())));
        }
        if let (true, Some(last), Some(digest)) = (self.whole, self.last_sequence, &self.last_digest) {
            out.push_str(&format!("last: {last}:{digest}\n"));
        }
        out
    }
}

fn verify(folders: &AuditFolders, arguments: &VerifyArguments) -> Result<ExitCode, Failure> {
    let mut options = VerifyOptions::default();
    (options.from, options.expect) = (arguments.from, arguments.expect);
    let keys = if arguments.keys.is_empty() {
        TrustedKeys::pinned(&folders.keys)?
    } else {
        TrustedKeys::from_hex(arguments.keys.iter().map(String::as_str)).map_err(|bad| {
            Failure::new("audit-not-a-key", format!("`{bad}` is not a public key"))
                .with_hint("write 64 hexadecimal digits, as `capibara audit path` shows them")
        })?
    };
    let found = verify_with(folders, &keys, &options)?;
    let report = VerifyReport::from(&found);
    let code = if report.whole { ExitCode::Yes } else { ExitCode::No };
    match arguments.output.format {
        Format::Json => Ok(json::print(&report, code)),
        Format::Text => {
            let code = answer(report.text().as_bytes(), code);
            if code == ExitCode::No {
                let console = Console::new();
                console.hint("keep log, head and keys as they are for whoever looks into it");
                console.hint("`--from SEQUENCE` verifies what follows");
            }
            Ok(code)
        }
    }
}

/// One row of the table.
fn row(entry: &Entry) -> [String; 8] {
    let or_dash = |text: Option<&str>| escape::line(text.unwrap_or("-")).into_owned();
    let end = match (entry.status(), entry.exit_code(), entry.limit()) {
        (None, ..) => or_dash(Some(entry.event())),
        (Some(status), Some(code), _) => format!("{} {code}", escape::line(status)),
        (Some(status), None, Some(limit)) => format!("{} {}", escape::line(status), escape::line(limit)),
        (Some(status), None, None) => or_dash(Some(status)),
    };
    [
        entry.sequence().map_or_else(|| "-".into(), |sequence| sequence.to_string()),
        entry.time_text().unwrap_or_else(|| "-".into()),
        or_dash(entry.user()),
        or_dash(entry.policy()),
        or_dash(entry.verdict()),
        end,
        entry.script_sha256().and_then(|digest| digest.get(..8)).map_or_else(|| "-".into(), |d| or_dash(Some(d))),
        or_dash(entry.script()),
    ]
}

fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let titles = ["RECORD", "TIME", "USER", "POLICY", "VERDICT", "END", "SHA256", "SCRIPT"].map(str::to_owned);
    let rows: Vec<[String; 8]> = std::iter::once(titles).chain(entries.iter().map(row)).collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn list(folders: &AuditFolders, arguments: ListArguments) -> Result<ExitCode, Failure> {
    let ListArguments { since, until, verdict, status, policy, script, limit, format } = arguments;
    let mut filter = Filter::default();
    (filter.since, filter.until, filter.limit) = (since, until, usize::try_from(limit).ok());
    (filter.verdict, filter.status, filter.policy, filter.script) = (verdict, status, policy, script);
    let found = read_log(folders, &filter)?;
    let code = match format {
        Format::Json => {
            let mut code = ExitCode::Yes;
            for entry in &found.entries {
                code = json::print(entry.json(), ExitCode::Yes);
                if code != ExitCode::Yes {
                    break;
                }
            }
            code
        }
        Format::Text => {
            if found.entries.is_empty() {
                Console::new().say("no such records");
            }
            answer(table(&found.entries).as_bytes(), ExitCode::Yes)
        }
    };
    if found.unreadable > 0 && code == ExitCode::Yes {
        let console = Console::new();
        console.say(&format!("{} lines on the way are no records", found.unreadable));
        console.hint("`capibara audit verify` says more");
    }
    Ok(code)
}

/// The JSON of `audit rotate-key`.
#[derive(Debug, Serialize)]
struct RotateReport {
    schema: u32,
    sequence: u64,
    digest: String,
    key: String,
}

fn rotate_key(folders: &AuditFolders, arguments: &RotateKeyArguments) -> Result<ExitCode, Failure> {
    let (receipt, key) = AuditLog::open(folders, AuditOptions::default())?.rotate_key()?;
    let report = RotateReport {
        schema: SCHEMA,
        sequence: receipt.sequence,
        digest: receipt.digest.to_string(),
        key: key.to_string(),
    };
    match arguments.output.format {
        Format::Json => Ok(json::print(&report, ExitCode::Yes)),
        Format::Text => {
            let text = format!("record {} names key {}, which signs from now on\n", report.sequence, report.key);
            Ok(answer(text.as_bytes(), ExitCode::Yes))
        }
    }
}

/// The JSON of `audit path`.
#[derive(Debug, Serialize)]
struct PathReport {
    schema: u32,
    log: String,
    head: String,
    keys: String,
    public_keys: Vec<KeyReport>,
}

#[derive(Debug, Serialize)]
struct KeyReport {
    key: String,
    public: String,
}

fn path(folders: &AuditFolders, arguments: &PathArguments) -> Result<ExitCode, Failure> {
    let pinned = TrustedKeys::pinned(&folders.keys)?;
    let report = PathReport {
        schema: SCHEMA,
        log: folders.log.display().to_string(),
        head: folders.head.display().to_string(),
        keys: folders.keys.display().to_string(),
        public_keys: pinned.public().map(|(key, public)| KeyReport { key: key.to_string(), public }).collect(),
    };
    match arguments.output.format {
        Format::Json => Ok(json::print(&report, ExitCode::Yes)),
        Format::Text => {
            let mut out = String::new();
            for (name, value) in [("log", &report.log), ("head", &report.head), ("keys", &report.keys)] {
                out.push_str(&format!("{name:<6} {}\n", escape::line(value)));
            }
            for KeyReport { key, public } in &report.public_keys {
                out.push_str(&format!("key    {key} {public}\n"));
            }
            Ok(answer(out.as_bytes(), ExitCode::Yes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_records_are_read() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(parse_when("1970-01-02"), Ok(at(86_400)));
        assert_eq!(parse_when("1970-01-01T00:01:00Z"), Ok(at(60)));
        let ago = SystemTime::now().duration_since(parse_when("2h").unwrap()).unwrap();
        assert!((7_190..7_260).contains(&ago.as_secs()));
        for bad in ["", "yesterday", "2026-13-01", "5", "99999999999999h"] {
            assert!(parse_when(bad).is_err(), "{bad}");
        }
        let digest = "0a".repeat(32);
        assert_eq!(parse_expected(&format!("7:{digest}")), Ok((7, Digest([10; 32]))));
        for bad in ["", "7", "7:", "0:", "x:y", "7:é", &format!("0:{digest}"), &format!("7:{digest}0")] {
            assert!(parse_expected(bad).is_err(), "{bad}");
        }
    }
}
