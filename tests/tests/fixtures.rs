//! One test per script below `fixtures/scripts`, `fixtures/programs` and `fixtures/limits`; what it must do stands in its
//! head.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use capibara_tests::{Ran, Sandbox, cache, engine, fixture};
use libtest_mimic::{Arguments, Failed, Trial};

const BINARY: &str = env!("CARGO_BIN_EXE_capibara-under-test");

/// What a script's head says.
#[derive(Default)]
struct Expectation {
    options: Vec<String>,
    args: Vec<String>,
    stdin: String,
    held: bool,
    stdout: Option<String>,
    stderr: Option<String>,
    exit: Option<i32>,
    limit: Option<(String, u64)>,
    quota: Option<(String, u64)>,
    after: Option<u64>,
}

fn unescape(text: &str) -> String {
    text.replace("\\\\", "\u{0}").replace("\\n", "\n").replace("\\t", "\t").replace('\u{0}', "\\")
}

fn expectation(source: &str) -> Result<Expectation, String> {
    let mut found = Expectation::default();
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    for line in source.lines() {
        let Some(line) = line.strip_prefix("#: ").or_else(|| line.strip_prefix(";;: ")) else { continue };
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let number = || value.parse::<u64>().map_err(|_| format!("`{line}` needs a number"));
        match key {
            "options" => found.options = words(value),
            "args" => found.args = words(value),
            "stdin" => found.stdin = unescape(value),
            "input" if value == "held" => found.held = true,
            "stdout" => found.stdout = Some(unescape(value)),
            "stderr" => found.stderr = Some(unescape(value)),
            "exit" => found.exit = Some(i32::try_from(number()?).map_err(|_| "exit code too large")?),
            "after" => found.after = Some(number()?),
            "limit" | "quota" => {
                let (kind, allowed) = value.split_once(' ').ok_or("it needs a kind and a value")?;
                let bound = Some((kind.into(), allowed.parse().map_err(|_| "its value is a number")?));
                if key == "limit" { found.limit = bound } else { found.quota = bound }
            }
            _ => return Err(format!("`{line}` is not in fixtures/README.md")),
        }
    }
    if found.exit.is_none() {
        return Err("states no expectation (`#: exit N` at least)".into());
    }
    Ok(found)
}

fn check(path: &Path) -> Result<(), Failed> {
    let source = std::fs::read_to_string(path)?;
    let expected = expectation(&source)?;
    let sandbox = Sandbox::new(BINARY);
    let path = path.to_str().ok_or("a path in UTF-8")?;
    let run = |extra: &[&str]| -> Ran {
        let mut words = vec!["run"];
        words.extend(expected.options.iter().map(String::as_str));
        words.extend(extra);
        words.push(path);
        words.extend(expected.args.iter().map(String::as_str));
        sandbox.run_with_input(&words, expected.stdin.as_bytes(), expected.held)
    };
    let mut wrong = String::new();
    let ran = run(&[]);
    if ran.code != expected.exit {
        let _ = writeln!(wrong, "exit code {:?}, expected {:?}", ran.code, expected.exit);
    }
    if let Some(stdout) = &expected.stdout
        && *stdout != ran.stdout
    {
        let _ = writeln!(wrong, "expected on standard output: {stdout:?}");
    }
    if let Some(stderr) = &expected.stderr
        && !ran.stderr.contains(stderr.as_str())
    {
        let _ = writeln!(wrong, "expected on standard error: {stderr:?}");
    }
    if expected.limit.is_some() || expected.quota.is_some() || expected.after.is_some() {
        let json: serde_json::Value = serde_json::from_str(&run(&["--format", "json"]).stdout)?;
        if let Some((kind, allowed)) = &expected.limit {
            let limit = &json["limit"];
            let used = limit["used"].as_u64().unwrap_or(0);
            if json["status"] != "limit"
                || limit["kind"] != kind.as_str()
                || limit["allowed"] != *allowed
                || used < *allowed
            {
                let _ = writeln!(wrong, "expected limit {kind} {allowed}, got {} {limit}", json["status"]);
            }
            if !ran.stderr.contains(&format!("capibara: stopped by limit {kind}")) {
                let _ = writeln!(wrong, "standard error does not name the limit");
            }
        }
        if let Some((kind, allowed)) = &expected.quota {
            let met = |hit: &serde_json::Value| {
                hit["kind"] == kind.as_str()
                    && hit["allowed"] == *allowed
                    && hit["used"].as_u64().is_some_and(|used| used > *allowed)
            };
            if !json["quotas_met"].as_array().is_some_and(|hits| hits.iter().any(met)) {
                let _ = writeln!(wrong, "expected quota {kind} {allowed}, got {}", json["quotas_met"]);
            }
        }
        if let Some(most) = expected.after {
            let wall = json["usage"]["wall_ms"].as_f64().unwrap_or(f64::MAX);
            if wall > most as f64 {
                let _ = writeln!(wrong, "ended after {wall} ms, expected at most {most}");
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong}{ran:#?}").into()) }
}

fn scripts(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(fixture(folder))
        .expect("the folder of fixtures")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    found
}

fn main() {
    let arguments = Arguments::from_args();
    let _ = (cache(), engine()); // builds the runtime before the first test, if it is not there
    let trials = ["scripts", "programs", "limits"]
        .into_iter()
        .flat_map(|folder| {
            scripts(folder).into_iter().map(move |path| {
                let name = format!("{folder}::{}", path.file_stem().unwrap_or_default().to_string_lossy());
                Trial::test(name, move || check(&path))
            })
        })
        .collect();
    // Limits of real time are measured: two at a time is what two cores can do.
    libtest_mimic::run(&Arguments { test_threads: arguments.test_threads.or(Some(2)), ..arguments }, trials).exit();
}
