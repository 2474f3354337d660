//! Scans rows of a corpus manifest and prints what came out otherwise than expected.
//!
//! `scan_rows MANIFEST [LANGUAGE [KIND]]`, by default `javascript` and `scan`. With `--file FILE…` it prints the
//! findings of files instead, and with `--time FILE…` how long a scan of each takes.
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use capibara_policies::{Policy, Scanner, Script, SourceLanguage, Verdict};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--file") => files(args.get(1..).unwrap_or_default()),
        Some("--time") => times(args.get(1..).unwrap_or_default()),
        Some(manifest) => rows(
            Path::new(manifest),
            args.get(1).map_or("javascript", String::as_str),
            args.get(2).map_or("scan", String::as_str),
        ),
        None => Err("which manifest?".into()),
    }
}

fn files(paths: &[String]) -> Result<(), Failure> {
    let policy = Policy::preset("strict")?;
    for path in paths {
        let bytes = std::fs::read(path)?;
        let report = Scanner::new().scan(&Script { path, bytes: &bytes, language: None, own_modules: &[] }, &policy);
        println!("{path}: {} {:?}", report.verdict, report.needs.iter().map(|need| &need.kind).collect::<Vec<_>>());
        for finding in &report.findings {
            let (line, column) = (finding.span.line, finding.span.column);
            println!("  {line}:{column} {}[{}] {}", finding.severity, finding.rule, finding.message);
        }
    }
    Ok(())
}

fn times(paths: &[String]) -> Result<(), Failure> {
    let policy = Policy::preset("moderate")?;
    for path in paths {
        let bytes = std::fs::read(path)?;
        let script = Script { path, bytes: &bytes, language: None, own_modules: &[] };
        let mut best = f64::INFINITY;
        let begin = Instant::now();
        for _ in 0..50 {
            let start = Instant::now();
            std::hint::black_box(Scanner::new().scan(&script, &policy));
            best = best.min(start.elapsed().as_secs_f64());
            if begin.elapsed().as_secs() > 1 {
                break;
            }
        }
        println!("{:9.3} ms {:8} bytes {path}", best * 1e3, bytes.len());
    }
    Ok(())
}

fn rows(manifest: &Path, language: &str, kind: &str) -> Result<(), Failure> {
    let root = manifest.parent().unwrap_or(Path::new("."));
    let text = std::fs::read_to_string(manifest)?;
    for preset in ["strict", "moderate", "permissive"] {
        let policy = Policy::preset(preset)?;
        let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for line in text.lines() {
            if string(line, "language") != Some(language) || string(line, "kind") != Some(kind) {
                continue;
            }
            let path = root.join(string(line, "file").unwrap_or_default());
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let expected = string(line, preset).or_else(|| string(line, "expect")).unwrap_or_default();
            let script = Script {
                path: &path.to_string_lossy(),
                bytes: &bytes,
                language: SourceLanguage::named(language),
                own_modules: &[],
            };
            let report = Scanner::new().scan(&script, &policy);
            let good = match expected {
                "block" => report.verdict == Verdict::Deny,
                "flag" => report.verdict != Verdict::Allow,
                "allow" => report.verdict == Verdict::Allow,
                "output" => report.verdict != Verdict::Deny,
                _ => true,
            };
            let category = string(line, "category").unwrap_or_default();
            let count = counts.entry(format!("{expected} {category}")).or_default();
            count.1 += 1;
            count.0 += u32::from(good);
            if !good {
                println!("{preset}: {} is {}, expected {expected}", path.display(), report.verdict);
                for finding in report.findings.iter().take(5) {
                    println!("    {} {}", finding.rule, finding.message);
                }
            }
        }
        for (what, (good, all)) in counts {
            println!("{preset:10} {what:28} {good}/{all}");
        }
    }
    Ok(())
}

/// The string of that name in a line of JSON, where it has no escapes.
fn string<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\": \""))?;
    rest.split_once('"').map(|(value, _)| value)
}
