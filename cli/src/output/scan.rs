//! What is said about the scan of a run.

use std::collections::BTreeSet;

use capibara::{Need, NeedKind, Scan, Verdict};
use capibara_policies::{Report, Severity, diagnostics};

use super::text::Console;

/// The most findings that are told before a script runs all the same.
const MOST_WARNINGS: usize = 5;
/// The most findings that are shown with their code when a script is denied.
const MOST_DENIALS: usize = 20;

/// Tells, before the run, what the policy warns of.
pub(crate) fn warn(console: &Console, scan: &Scan) {
    let told: Vec<_> = scan.findings.iter().filter(|finding| finding.effect == Verdict::Warn).collect();
    for finding in told.iter().take(MOST_WARNINGS) {
        let (span, severity) = (finding.span, finding.severity);
        console.say(&format!(
            "{severity}[{}]: {} ({}:{}:{})",
            finding.rule, finding.message, finding.path, span.line, span.column
        ));
    }
    if let Some(more) = told.len().checked_sub(MOST_WARNINGS).filter(|more| *more > 0) {
        console.say(&format!("and {more} more; `capibara scan` shows them all"));
    }
}

/// Shows what denies a run: each finding with its code. What only warns is left out.
pub(crate) fn deny(console: &Console, scan: &Scan) {
    let mut left = MOST_DENIALS;
    for (path, findings) in by_path(scan) {
        let text = scan.texts.iter().find(|(at, _)| *at == path).map(|(_, text)| &**text);
        let options = diagnostics::Options { most: left, ..diagnostics::Options::default() };
        left = left.saturating_sub(findings.len());
        let report = Report { verdict: Verdict::Deny, findings, ..Report::default() };
        for line in diagnostics::render(&report, text, &options).trim_end().lines() {
            console.say(line);
        }
    }
}

fn by_path(scan: &Scan) -> Vec<(&str, Vec<capibara::Finding>)> {
    let mut groups: Vec<(&str, Vec<capibara::Finding>)> = Vec::new();
    for finding in scan.findings.iter().filter(|finding| finding.effect == Verdict::Deny) {
        match groups.last_mut() {
            Some((path, findings)) if *path == finding.path => findings.push(finding.clone()),
            _ => groups.push((&finding.path, vec![finding.clone()])),
        }
    }
    groups
}

/// `denied by policy moderate: 2 errors, 1 warning`
pub(crate) fn denial(scan: &Scan) -> String {
    let denying = || scan.findings.iter().filter(|finding| finding.effect == Verdict::Deny);
    let counts = [
        (Severity::Error, "error", "errors"),
        (Severity::Warning, "warning", "warnings"),
        (Severity::Unprovable, "unprovable", "unprovable"),
    ];
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(severity, one, many)| (denying().filter(|finding| finding.severity == severity).count(), one, many))
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| format!("{number} {}", if number == 1 { one } else { many }))
        .collect();
    format!("denied by policy {}: {}", scan.policy, parts.join(", "))
}

/// What to try after a denial: the grants that the denied places ask for, else where to look.
pub(crate) fn denial_hint(scan: &Scan, can_grant: bool) -> String {
    let denied = |need: &&Need| {
        scan.findings.iter().any(|finding| {
            finding.effect == Verdict::Deny && finding.path == need.path && finding.span.line == need.span.line
        })
    };
    // A folder that is granted for changing is there for reading, too.
    let written: Vec<&str> = scan.needs.iter().filter(denied).filter_map(|need| written(&need.kind)).collect();
    let covered = |need: &&Need| match &need.kind {
        NeedKind::Read(Some(path)) => written.contains(&folder(path)),
        _ => false,
    };
    let needs = scan.needs.iter().filter(denied).filter(|need| !covered(need));
    let flags: BTreeSet<String> = needs.filter_map(|need| flag(&need.kind)).collect();
    if can_grant && !flags.is_empty() {
        let flags: Vec<String> = flags.into_iter().collect();
        return format!("if the script may do that, grant it: add `{}`", flags.join(" "));
    }
    let rule = scan.findings.iter().find(|finding| finding.effect == Verdict::Deny).map(|finding| &*finding.rule);
    match rule {
        Some(rule) => format!(
            "`capibara scan --explain {rule}` says why; if you trust the script, allow it in a policy of your own or use `--policy permissive`, which warns only"
        ),
        None => "choose another policy, for example `--policy permissive`".into(),
    }
}

/// The folder that has to be granted for changing.
fn written(need: &NeedKind) -> Option<&str> {
    match need {
        NeedKind::Write(path) => path.as_deref().map(folder),
        _ => None,
    }
}

/// The option that grants it.
pub(crate) fn flag(need: &NeedKind) -> Option<String> {
    match need {
        NeedKind::Read(Some(path)) => Some(format!("--read {}", quoted(&in_place(path)))),
        NeedKind::Write(Some(path)) => Some(format!("--write {}", quoted(&in_place(folder(path))))),
        NeedKind::Env(Some(name)) => Some(format!("--env {}=VALUE", quoted(name))),
        NeedKind::Read(None)
        | NeedKind::Write(None)
        | NeedKind::Env(None)
        | NeedKind::Net(_)
        | NeedKind::Package(_)
        | NeedKind::Module(_)
        | NeedKind::Stdin => None,
    }
}

/// A place of the host that the script is to see at the same place.
fn in_place(path: &str) -> String {
    let alone = path.strip_prefix('/').is_some_and(|name| !name.contains('/'));
    if alone { path.to_owned() } else { format!("{path}:{path}") }
}

/// The folder a file is made in: only what is there can be granted. What lies in the root is its own folder.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map(|(folder, _)| folder).filter(|folder| !folder.is_empty()).unwrap_or(path)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
