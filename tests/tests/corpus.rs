//! One test per program of the corpus (kind `run`, Python) that `CAPIBARA_CORPUS` names: prints what is recorded.

use std::path::{Path, PathBuf};

use capibara_tests::{Sandbox, engine, skip};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

const BINARY: &str = env!("CARGO_BIN_EXE_capibara-under-test");

#[derive(Deserialize)]
struct Row {
    id: String,
    kind: String,
    language: String,
    file: String,
    #[serde(default)]
    stdin: Option<String>,
    #[serde(default)]
    expected_stdout: Option<String>,
    #[serde(default)]
    timeout_s: Option<u64>,
}

/// Cuts floating-point numbers of nine and more digits to twelve significant ones: C libraries differ in the last.
fn comparable(text: &str) -> String {
    let (mut out, bytes, mut at) = (String::new(), text.as_bytes(), 0);
    while at < bytes.len() {
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let whole = digits(at);
        if whole > 0 && bytes.get(at + whole) == Some(&b'.') {
            let mut end = at + whole + 1;
            let fraction = digits(end);
            end += fraction;
            if fraction >= 8 {
                if bytes.get(end) == Some(&b'e') {
                    let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
                    let exponent = digits((end + 1 + sign).min(bytes.len()));
                    if exponent > 0 {
                        end += 1 + sign + exponent;
                    }
                }
                if let Ok(value) = text[at..end].parse::<f64>() {
                    out.push_str(&format!("{value:.11e}"));
                    at = end;
                    continue;
                }
            }
            out.push_str(&text[at..end]);
            at = end;
        } else if whole > 0 {
            out.push_str(&text[at..at + whole]);
            at += whole;
        } else {
            let len = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + len]);
            at += len;
        }
    }
    out.trim_end().to_owned()
}

fn check(root: &Path, row: &Row) -> Result<(), Failed> {
    let expected = std::fs::read_to_string(root.join(row.expected_stdout.as_deref().ok_or("no recorded output")?))?;
    let file = root.join(&row.file);
    let timeout = format!("{}s", row.timeout_s.unwrap_or(30));
    let words = ["run", "--timeout", &timeout, file.to_str().ok_or("a path in UTF-8")?];
    let ran = Sandbox::new(BINARY).run_with_input(&words, row.stdin.as_deref().unwrap_or("").as_bytes(), false);
    if ran.code == Some(0) && (ran.stdout == expected || comparable(&ran.stdout) == comparable(&expected)) {
        return Ok(());
    }
    // Only ends: the corpus is not ours to print.
    let tail: String = ran.stderr.chars().rev().take(400).collect::<Vec<_>>().into_iter().rev().collect();
    Err(format!("exit code {:?}; standard error ends: {tail}", ran.code).into())
}

fn main() {
    let arguments = Arguments::from_args();
    let Some(root) = std::env::var_os("CAPIBARA_CORPUS").map(PathBuf::from) else {
        if !arguments.list {
            skip("corpus", "corpus not given");
        }
        libtest_mimic::run(&arguments, Vec::new()).exit();
    };
    let _ = engine();
    let manifest = std::fs::read_to_string(root.join("manifest.jsonl")).expect("the corpus has a manifest");
    let rows = manifest.lines().map(|line| serde_json::from_str::<Row>(line).expect("a row of the manifest"));
    let trials: Vec<Trial> = rows
        .filter(|row| row.kind == "run" && row.language == "python")
        .map(|row| {
            let root = root.clone();
            Trial::test(format!("run::{}", row.id), move || check(&root, &row))
        })
        .collect();
    assert!(!trials.is_empty(), "the corpus has no programs to run");
    libtest_mimic::run(&arguments, trials).exit();
}
