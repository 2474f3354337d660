//! The scanner on the corpus that `CAPIBARA_CORPUS` names: recall on hostile samples, denials of honest ones.

#![expect(clippy::print_stdout, reason = "tables are what this test is for")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capibara_policies::{Policy, Scanner, Script, SourceLanguage, Verdict};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

const PRESETS: [&str; 3] = ["strict", "moderate", "permissive"];

struct Row {
    id: String,
    kind: String,
    language: String,
    category: String,
    difficulty: Option<u64>,
    self_written: bool,
    expect: BTreeMap<&'static str, String>,
    path: String,
    bytes: Vec<u8>,
}

struct Judged<'a> {
    row: &'a Row,
    expect: &'a str,
    verdict: Verdict,
    right: Option<bool>,
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The bytes of a row: its file, or what it says how to make.
fn bytes(root: &Path, row: &Value) -> Vec<u8> {
    let Some(recipe) = row.get("gen") else {
        return std::fs::read(root.join(text(row, "file"))).unwrap_or_else(|error| panic!("{row}: {error}"));
    };
    let number = |key: &str| usize::try_from(recipe.get(key).and_then(Value::as_u64).unwrap_or(0)).unwrap_or(0);
    let mut out: Vec<u8> = match recipe.get("prefix_hex").and_then(Value::as_str) {
        Some(hex) => {
            let digits = hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned());
            digits.map(|pair| u8::from_str_radix(&pair, 16).unwrap_or_else(|error| panic!("{pair}: {error}"))).collect()
        }
        None => text(recipe, "prefix").into(),
    };
    out.extend(text(recipe, "repeat").as_bytes().repeat(number("times")));
    out.extend(text(recipe, "mid").as_bytes());
    out.extend(text(recipe, "repeat2").as_bytes().repeat(number("times2")));
    out.extend(text(recipe, "suffix").as_bytes());
    out
}

fn rows(root: &Path) -> Vec<Row> {
    let manifest =
        std::fs::read_to_string(root.join("manifest.jsonl")).unwrap_or_else(|error| panic!("the manifest: {error}"));
    let rows = manifest
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line}: {error}")));
    rows.filter(|row| matches!(text(row, "kind"), "scan" | "run" | "attack"))
        .filter(|row| matches!(text(row, "language"), "python" | "javascript" | "typescript"))
        .map(|row| {
            let by_policy = |preset: &str| {
                let own = row.get("expect_by_policy").and_then(|by| by.get(preset)).and_then(Value::as_str);
                own.unwrap_or(text(&row, "expect")).to_owned()
            };
            Row {
                id: text(&row, "id").into(),
                kind: text(&row, "kind").into(),
                language: text(&row, "language").into(),
                category: text(&row, "category").into(),
                difficulty: row.get("difficulty").and_then(Value::as_u64),
                self_written: text(&row, "source").starts_with("self-written"),
                expect: PRESETS.iter().map(|preset| (*preset, by_policy(preset))).collect(),
                path: text(&row, "file").into(),
                bytes: bytes(root, &row),
            }
        })
        .collect()
}

fn verdict(row: &Row, policy: &Policy) -> (Verdict, Duration, Vec<String>) {
    let script =
        Script { path: &row.path, bytes: &row.bytes, language: SourceLanguage::named(&row.language), own_modules: &[] };
    let start = Instant::now();
    let report = Scanner::new().scan(&script, policy);
    let took = start.elapsed();
    let findings = report.findings.iter().map(|found| format!("{}:{} {}", found.rule, found.span.line, found.message));
    (report.verdict, took, findings.collect())
}

fn judge<'a>(row: &'a Row, preset: &str, policy: &Policy) -> Judged<'a> {
    let (verdict, took, findings) = verdict(row, policy);
    // No timed test: this is only to notice what would never end.
    assert!(took < Duration::from_secs(30), "{}: {took:?}", row.id);
    let expect = row.expect[preset].as_str();
    let right = match expect {
        "block" => Some(verdict == Verdict::Deny),
        "flag" => Some(verdict >= Verdict::Warn),
        "allow" => Some(verdict == Verdict::Allow),
        "nocrash" => Some(true),
        "reject" => Some(verdict == Verdict::Deny),
        _ => None,
    };
    if right == Some(false) {
        println!(
            "  {preset}: {} ({}, {}) wants {expect}, is {verdict}: {findings:?}",
            row.id, row.category, row.language
        );
    }
    Judged { row, expect, verdict, right }
}

/// How many of those are right, of how many.
fn share<'a>(judged: impl Iterator<Item = &'a Judged<'a>>) -> (usize, usize) {
    judged.fold((0, 0), |(right, all), one| (right + usize::from(one.right == Some(true)), all + 1))
}

fn percent((part, all): (usize, usize)) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    if all == 0 { 100.0 } else { part as f64 * 100.0 / all as f64 }
}

fn hostile(judged: &Judged<'_>) -> bool {
    matches!(judged.expect, "block" | "flag")
}

fn table(preset: &str, judged: &[Judged<'_>]) {
    let mut cells: BTreeMap<(String, String, String), Vec<&Judged<'_>>> = BTreeMap::new();
    for one in judged.iter().filter(|one| one.right.is_some()) {
        let difficulty = one.row.difficulty.map_or("-".to_owned(), |difficulty| difficulty.to_string());
        cells.entry((one.row.language.clone(), one.row.category.clone(), difficulty)).or_default().push(one);
    }
    println!("{preset:<11} language    category          difficulty   right    all");
    for ((language, category, difficulty), cell) in cells {
        let (right, all) = share(cell.into_iter());
        println!("            {language:<11} {category:<17} {difficulty:<10} {right:>6} {all:>6}");
    }
}

/// The bars, for one language under one preset.
fn bars(preset: &str, language: &str, judged: &[Judged<'_>]) -> Result<(), Failed> {
    let own = || judged.iter().filter(|one| one.row.language == language);
    let recall = |low: u64, high: u64| {
        let in_range = move |one: &&Judged<'_>| one.row.difficulty.is_some_and(|d| (low..=high).contains(&d));
        share(own().filter(|one| hostile(one)).filter(in_range))
    };
    let honest = |only_own: bool| {
        let those = own().filter(|one| one.expect == "allow" && (!only_own || one.row.self_written));
        those.fold((0, 0), |(denied, all), one| (denied + usize::from(one.verdict == Verdict::Deny), all + 1))
    };
    let mut bad = Vec::new();
    let mut bar = |what: &str, figure: (usize, usize), ok: bool| {
        println!("{preset:<11} {language:<11} {what}: {}/{} = {:.1} %", figure.0, figure.1, percent(figure));
        if !ok {
            bad.push(format!("{what}: {}/{}", figure.0, figure.1));
        }
    };
    if preset == "permissive" {
        bar("honest scripts denied", honest(false), honest(false).0 == 0);
    } else {
        if language == "python" {
            bar("recall at 1 to 3", recall(1, 3), percent(recall(1, 3)) >= 95.0);
            bar("recall at 4", recall(4, 4), percent(recall(4, 4)) >= 90.0);
        }
        let all = share(own().filter(|one| hostile(one)));
        bar("recall", all, language != "javascript" || percent(all) >= 90.0);
        bar("honest scripts denied", honest(false), percent(honest(false)) <= 1.0);
        bar("hard negatives denied", honest(true), percent(honest(true)) <= 3.0);
    }
    if bad.is_empty() { Ok(()) } else { Err(format!("{preset}, {language}: {}", bad.join("; ")).into()) }
}

/// Programs that were recorded to run well, and attacks on the sandbox.
fn others(rows: &[Row]) -> Result<(), Failed> {
    let mut denied_by_moderate = Vec::new();
    for preset in PRESETS {
        let policy = Policy::preset(preset)?;
        for (kind, language) in
            [("run", "python"), ("run", "javascript"), ("attack", "python"), ("attack", "javascript")]
        {
            let mut counts = [0_usize; 3];
            for row in rows.iter().filter(|row| row.kind == kind && row.language == language) {
                let (verdict, _, findings) = verdict(row, &policy);
                counts[verdict as usize] += 1;
                if kind == "run" && language == "python" && verdict == Verdict::Deny {
                    println!("  {preset} denies the program {}: {findings:?}", row.id);
                    if preset != "strict" {
                        denied_by_moderate.push(row.id.clone());
                    }
                }
            }
            println!(
                "{preset:<11} {kind:<7} {language:<11} allow {}, warn {}, deny {}",
                counts[0], counts[1], counts[2]
            );
        }
    }
    let programs = rows.iter().filter(|row| row.kind == "run" && row.language == "python").count();
    if denied_by_moderate.len() * 100 > programs {
        return Err(format!("moderate denies programs: {denied_by_moderate:?}").into());
    }
    Ok(())
}

fn main() {
    let arguments = Arguments::from_args();
    let Some(root) = std::env::var_os("CAPIBARA_CORPUS").map(PathBuf::from) else {
        if !arguments.list {
            println!("SKIPPED: scan_corpus: corpus not given");
        }
        libtest_mimic::run(&arguments, Vec::new()).exit();
    };
    let rows: &'static [Row] = Box::leak(rows(&root).into_boxed_slice());
    let mut trials = Vec::new();
    for preset in PRESETS {
        for language in ["python", "javascript"] {
            trials.push(Trial::test(format!("{preset}::{language}"), move || {
                let policy = Policy::preset(preset)?;
                let own = rows.iter().filter(|row| row.kind == "scan" && row.language == language);
                let judged: Vec<Judged<'_>> = own.map(|row| judge(row, preset, &policy)).collect();
                assert!(!judged.is_empty(), "the corpus has no such rows");
                table(preset, &judged);
                bars(preset, language, &judged)
            }));
        }
    }
    trials.push(Trial::test("programs", move || others(rows)));
    libtest_mimic::run(&arguments, trials).exit();
}
