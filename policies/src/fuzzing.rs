//! Bodies of the fuzz targets `policy` and `scan` (see `fuzz/README.md`). Not an API.

pub use crate::scan::fuzzing::scan;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arbitrary::Unstructured;

use crate::policy::resolve::memory::Documents;
use crate::{
    LimitsChange, Policy, PolicyError, ProblemKind, Setting, Severity, UnitError, flat_document, format_count,
    format_duration, format_size, parse_count, parse_duration, parse_memory, parse_size, rules,
};

/// Reads any bytes as a policy and as sizes, durations and counts, and as a plan for a policy and one that extends it;
/// panics when what holds of them does not.
pub fn policy(input: &[u8]) {
    let _ = extends(input);
    if let Some((numbers, _)) = input.split_first_chunk::<8>() {
        formats(u64::from_le_bytes(*numbers));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    unit(text, parse_size, format_size);
    unit(text, parse_memory, format_size);
    unit(text, parse_duration, format_duration);
    unit(text, parse_count, format_count);
    match flat_document("any.yaml", text) {
        Ok(entries) => assert!(entries.iter().all(|entry| entry.key_place.0 > 0 && entry.value_place.1 > 0)),
        Err(problem) => assert!(!problem.message.is_empty() && problem.hint.is_some()),
    }
    match Policy::parse("any", text) {
        Ok(policy) => {
            written(&policy);
            narrows(policy, input);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let alone = Documents(BTreeMap::from([(PathBuf::from("/p/any.yaml"), text.to_owned())]));
    match alone.policy("/p/any.yaml") {
        Ok(policy) => written(&policy),
        Err(PolicyError::Invalid { problems, .. }) => assert!(!problems.is_empty()),
        Err(error) => panic!("{error}"),
    }
}

/// A policy that is written down says the same when it is read.
pub(crate) fn written(policy: &Policy) {
    let plain = Policy { expired: Vec::new(), ..policy.clone() };
    for text in [policy.to_yaml(), policy.to_json()] {
        let read = Policy::parse(&policy.name, &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(read, plain, "{text}");
        assert_eq!(read.sha256(), policy.sha256(), "{text}");
    }
}

/// What came of a policy and one that extends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    /// The child is no wider.
    Narrower,
    /// The child is wider and was refused, but with `widen: true`.
    Wider,
    /// The plan was too short for a policy, or one of the two was wrong in another way.
    Neither,
}

/// Makes two documents of the bytes, one that extends the other. The child is never wider than its parent, unless it says
/// so; and where it is refused for being wider, it is.
pub(crate) fn extends(input: &[u8]) -> Extended {
    let mut plan = Unstructured::new(input);
    let Ok((parent, child, exact)) = documents(&mut plan) else { return Extended::Neither };
    let mut documents = Documents(BTreeMap::new());
    let mut policy = |name: &str, text: &str| {
        documents.0.insert(PathBuf::from(format!("/p/{name}.yaml")), text.to_owned());
        documents.policy(&format!("/p/{name}.yaml"))
    };
    let Ok(parent_policy) = policy("parent", &parent) else { return Extended::Neither };
    let narrow = policy("child", &format!("extends: ./parent.yaml\n{child}"));
    let wide = policy("wide", &format!("extends: ./parent.yaml\nwiden: true\n{child}"));
    // `widen` counts in the file the caller names alone.
    let called = policy("called", "extends: ./wide.yaml\n");
    match narrow {
        Ok(narrow) => {
            assert_eq!(more(&parent_policy, &narrow), None, "{parent}\n---\n{child}");
            let wide = wide.unwrap_or_else(|error| panic!("{error}\n{parent}\n---\n{child}"));
            assert_eq!(wide, Policy { name: "wide".into(), ..narrow }, "{parent}\n---\n{child}");
            written(&wide);
            assert!(called.is_ok(), "{parent}\n---\n{child}");
            Extended::Narrower
        }
        Err(PolicyError::Invalid { problems, .. }) => {
            if !problems.iter().all(|problem| problem.kind == ProblemKind::Widens) {
                return Extended::Neither;
            }
            assert!(problems.iter().all(|problem| problem.line > 0), "{problems:?}\n{parent}\n---\n{child}");
            let wide = wide.unwrap_or_else(|error| panic!("{error}\n{parent}\n---\n{child}"));
            assert!(!exact || more(&parent_policy, &wide).is_some(), "{problems:?}\n{parent}\n---\n{child}");
            assert!(called.is_err(), "{parent}\n---\n{child}");
            Extended::Wider
        }
        Err(error) => panic!("{error}\n{parent}\n---\n{child}"),
    }
}

/// Something the second policy lets a run or a flag do that the first does not; found by asking both.
pub(crate) fn more(parent: &Policy, child: &Policy) -> Option<String> {
    let (old, new) = (&parent.limits, &child.limits);
    let fuel = |fuel: Option<u64>| fuel.unwrap_or(u64::MAX);
    let limits = [
        ("fuel", fuel(new.fuel) > fuel(old.fuel)),
        ("wall_time", new.wall_time > old.wall_time),
        ("memory", new.memory > old.memory),
        ("output", new.output > old.output),
        ("bytes_written", new.bytes_written > old.bytes_written),
        ("files", new.files > old.files),
        ("descriptors", new.descriptors > old.descriptors),
        ("source_bytes", child.scan_limits.source_bytes > parent.scan_limits.source_bytes),
        ("live", child.check_live().is_ok() && parent.check_live().is_err()),
        ("audit", child.audit < parent.audit),
        ("scan", child.scan < parent.scan),
    ];
    if let Some((limit, _)) = limits.into_iter().find(|(_, more)| *more) {
        return Some(limit.into());
    }
    for setting in Setting::ALL {
        if child.check_grant(setting.flag()).is_ok() && parent.check_grant(setting.flag()).is_err() {
            return Some(format!("flag {setting:?}"));
        }
    }
    for change in [
        LimitsChange { fuel: Some(30), ..Default::default() },
        LimitsChange { wall_time: Some(Duration::from_secs(30)), ..Default::default() },
        LimitsChange { memory: Some(30), output: Some(30), bytes_written: Some(30), ..Default::default() },
    ] {
        if child.clone().apply(&change).is_ok() && parent.clone().apply(&change).is_err() {
            return Some(format!("change {change:?}"));
        }
    }
    for severity in [Severity::Error, Severity::Warning, Severity::Unprovable] {
        // By severity alone, as for rules that are not built in.
        if child.effect("any", severity) < parent.effect("any", severity)
            || child.findings.of(severity) < parent.findings.of(severity)
        {
            return Some(format!("severity {severity}"));
        }
    }
    let lines = ["eval(text)", "import os"];
    for rule in rules::RULES {
        let (old, new) = (parent.decision(rule.id, rule.severity), child.decision(rule.id, rule.severity));
        if new < old {
            return Some(format!("rule {}", rule.id));
        }
        for (path, line) in ["a.py", "tests/a.py"].iter().flat_map(|path| lines.map(|line| (path, line))) {
            if child.allowed(rule.id, path, line).is_some() && parent.allowed(rule.id, path, line).is_none() {
                return Some(format!("allowed {} {path} {line}", rule.id));
            }
        }
    }
    for path in ["/d", "/d/x", "/d/x/y", "/d/x/y/z", "/e", "/e/x", "/x", "/", "/d/../e", "d", "/dd", "/data/x"] {
        let shown = shows(child, path);
        if shown.is_some() && shown != shows(parent, path) {
            return Some(format!("at {path} is {shown:?}"));
        }
        for write in [false, true] {
            if child.grants_path(path, write) && !parent.grants_path(path, write) {
                return Some(format!("path {path} {write}"));
            }
        }
    }
    child.grants.env.iter().find(|(name, value)| parent.grants.env.get(*name) != Some(*value)).map(|(n, _)| n.clone())
}

/// What of the host a policy shows at that absolute path, if anything: that of the grant with the longest place.
fn shows(policy: &Policy, path: &str) -> Option<PathBuf> {
    let grants = policy.grants.all_files().map(|(_, grant)| grant);
    let below = grants.filter_map(|grant| Some((grant, Path::new(path).strip_prefix(grant.guest.as_deref()?).ok()?)));
    let (grant, rest) = below.min_by_key(|(_, rest)| rest.as_os_str().len())?;
    Some(if rest.as_os_str().is_empty() { grant.host.clone() } else { grant.host.join(rest) })
}

/// A whole document, a part of one, and whether the part is of the kind of which every refusal can be shown by asking.
fn documents(plan: &mut Unstructured<'_>) -> arbitrary::Result<(String, String, bool)> {
    let exact = plan.arbitrary()?;
    Ok((document(plan, true, exact)?, document(plan, false, exact)?, exact))
}

fn document(plan: &mut Unstructured<'_>, whole: bool, exact: bool) -> arbitrary::Result<String> {
    let mut out = String::new();
    fn key(
        plan: &mut Unstructured<'_>,
        out: &mut String,
        whole: bool,
        key: &str,
        values: &[&str],
    ) -> arbitrary::Result<()> {
        // Most keys of a child are left to its parent, so that both outcomes are common.
        if whole || plan.ratio(1, 8)? {
            let value = plan.choose(values)?;
            let _ = writeln!(out, "{key}: {value}");
        }
        Ok(())
    }
    let verdicts = ["allow", "warn", "deny"];
    let flags = ["all", "none", "[fuel, read]", "[fuel, read, write]", "[env, overlay]"];
    key(plan, &mut out, whole, "overridable", &flags)?;
    key(plan, &mut out, whole, "live", &["true", "false"])?;
    key(plan, &mut out, whole, "audit", &["required", "wanted"])?;
    key(plan, &mut out, whole, "scan", &["enforce", "warn", "off"])?;
    out.push_str("findings:\n  {");
    for severity in ["error", "warning", "unprovable"] {
        let mut one = String::new();
        key(plan, &mut one, whole, severity, &verdicts)?;
        out.push_str(one.trim_end());
        out.push_str(if one.is_empty() { "" } else { ", " });
    }
    out.push_str("}\nlimits:\n  {");
    let sizes = ["20B", "30B", "40B"];
    for (limit, values) in [
        ("fuel", &["20", "30", "none"][..]),
        ("wall_time", &["20s", "30s", "1m"]),
        ("memory", &sizes),
        ("output", &sizes),
        ("bytes_written", &sizes),
        ("files", &["0", "1", "2"]),
        ("descriptors", &["8", "9"]),
    ] {
        let mut one = String::new();
        key(plan, &mut one, whole, limit, values)?;
        out.push_str(one.trim_end());
        out.push_str(if one.is_empty() { "" } else { ", " });
    }
    out.push_str("}\nscan_limits: {");
    let mut one = String::new();
    key(plan, &mut one, false, "source_bytes", &sizes)?;
    out.push_str(one.trim_end());
    out.push_str("}\nrules:\n");
    let mut any = false;
    for id in ["dynamic-code", "network-access", "spawn-process", "unprovable"] {
        if !plan.ratio(1, 4)? {
            continue;
        }
        any = true;
        let _ = writeln!(out, "  {id}:\n    severity: {}", plan.choose(&["off", "unprovable", "warning", "error"])?);
        if !exact && plan.arbitrary()? {
            let entry = plan.choose(&[
                "{reason: r, path: 'tests/**'}",
                "{reason: r, match: eval}",
                "{reason: r, regex: '^import', expires: 2027-01-01}",
                "{reason: r, regex: '^import', expires: 2026-01-01}",
            ])?;
            let _ = writeln!(out, "    allow: [{entry}]");
        }
    }
    if !any {
        out.truncate(out.len() - "rules:\n".len());
    }
    if !exact {
        out.push_str("grants:\n  {");
        let lists = [
            "[]",
            "[/h/d]",
            "['/h/d:/d', '/h/e:/d/x']",
            "['/h/d/x:/d/x']",
            "[/h/e]",
            "['/h:/d']",
            "['/h/d/x/y:/d/x/y']",
        ];
        for list in ["read", "write", "overlay"] {
            if plan.ratio(1, 2)? {
                let _ = write!(out, "{list}: {}, ", plan.choose(&lists)?);
            }
        }
        let _ = write!(out, "env: {}", plan.choose(&["{}", "{A: b}", "{A: b, C: d}", "{A: x}"])?);
        out.push_str("}\n");
    }
    Ok(out)
}

/// What is read can be written and read again; an example that an error shows can be read.
fn unit<T: PartialEq + Debug + Copy>(text: &str, parse: fn(&str) -> Result<T, UnitError>, format: fn(T) -> String) {
    match parse(text) {
        Ok(value) => assert_eq!(parse(&format(value)), Ok(value), "{text:?}"),
        Err(UnitError::NoUnit { example, .. }) => assert!(parse(&example).is_ok(), "{text:?}: {example:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What is written can be read.
fn formats(number: u64) {
    for number in [number, number % 1_000_000, number >> 32] {
        if (1..u64::MAX).contains(&number) {
            let shown = format_size(number);
            assert_eq!(parse_size(&shown), Ok(number), "{shown}");
        }
        if number > 0 {
            let shown = format_count(number);
            assert_eq!(parse_count(&shown), Ok(number), "{shown}");
        }
        let duration = Duration::from_millis(number % (1000 * 60 * 60 * 24 * 300) + 1);
        let shown = format_duration(duration);
        assert_eq!(parse_duration(&shown), Ok(duration), "{shown}");
    }
}

/// Flags never widen a policy that says so, and a change that is refused changes nothing.
fn narrows(mut policy: Policy, input: &[u8]) {
    let number = input.iter().fold(1_u64, |sum, byte| sum.rotate_left(7) ^ u64::from(*byte));
    let change = LimitsChange {
        fuel: (number & 1 != 0).then_some(number >> 8),
        wall_time: (number & 2 != 0).then(|| Duration::from_millis(number >> 40)),
        memory: (number & 4 != 0).then_some(number >> 30),
        output: (number & 8 != 0).then_some(number >> 34),
        bytes_written: (number & 16 != 0).then_some(number >> 36),
    };
    let before = policy.clone();
    let applied = policy.apply(&change);
    if applied.is_err() {
        return assert_eq!(policy, before);
    }
    if before.overridable.is_none() {
        let (old, new) = (&before.limits, &policy.limits);
        let fuel = old.fuel.is_none_or(|old| new.fuel.is_some_and(|new| new <= old));
        assert!(fuel && new.wall_time <= old.wall_time && new.memory <= old.memory);
        assert!(new.output <= old.output && new.bytes_written <= old.bytes_written);
    }
}

#[cfg(test)]
#[path = "../../fuzz/inputs.rs"]
mod inputs;

#[cfg(test)]
mod tests {
    #[test]
    fn any_sources_are_scanned() {
        super::inputs::inputs("scan", 400, 400).for_each(|input| super::scan(&input));
    }

    #[test]
    fn any_policies_and_units_are_read_or_refused() {
        super::inputs::inputs("policy", 3000, 400).for_each(|input| super::policy(&input));
    }

    #[test]
    fn a_child_is_never_wider_than_its_parent_unless_it_says_so() {
        let (mut narrower, mut wider) = (0, 0);
        for input in super::inputs::inputs("policy", 12_000, 200) {
            match super::extends(&input) {
                super::Extended::Narrower => narrower += 1,
                super::Extended::Wider => wider += 1,
                super::Extended::Neither => {}
            }
        }
        assert!(narrower > 500 && wider > 500, "{narrower} {wider}");
    }
}
