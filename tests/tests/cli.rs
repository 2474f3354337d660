//! The command line: what it prints, where, and the exit code. Snapshots show code, stdout and stderr together.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use capibara_tests::{Ran, Sandbox, engine, fixture, skip};

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

/// Hides what differs from run to run and from machine to machine.
fn scrub(sandbox: &Sandbox, text: &str) -> String {
    let text = text.replace(sandbox.dir.path().to_str().unwrap_or("?"), "[DIR]");
    let mut out = String::new();
    for line in text.lines() {
        let line = match line.split_once("used ") {
            Some((start, used)) if line.contains("limit wall_time") => {
                let note = used.split_once(' ').map_or(String::new(), |(_, note)| format!(" {note}"));
                format!("{start}used [TIME]{note}")
            }
            _ => line.into(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn show(sandbox: &Sandbox, ran: &Ran) -> String {
    let code = ran.code.map_or("none".into(), |code| code.to_string());
    format!(
        "exit code: {code}\n----- stdout\n{}----- stderr\n{}",
        scrub(sandbox, &ran.stdout),
        scrub(sandbox, &ran.stderr)
    )
}

/// Runs these words and compares with the snapshot of that name.
fn snapshot(name: &str, sandbox: &Sandbox, words: &[&str]) {
    let ran = sandbox.run(words);
    insta::with_settings!({description => scrub(sandbox, &words.join(" ")).trim_end(), omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, show(sandbox, &ran));
    });
}

#[test]
fn help_and_version() {
    let sandbox = sandbox();
    snapshot("help", &sandbox, &["--help"]);
    snapshot("help-run", &sandbox, &["run", "-h"]);
    snapshot("help-repl", &sandbox, &["repl", "-h"]);
    let long = sandbox.run(&["run", "--help"]);
    assert!(long.stdout.contains("/script/NAME") && long.stdout.contains("belongs to the script"), "{long:?}");
    snapshot("help-runtime-install", &sandbox, &["runtime", "install", "-h"]);
    snapshot("nothing", &sandbox, &[]);
    let version = sandbox.run(&["--version"]);
    assert_eq!((version.code, version.stdout.starts_with("capibara 0.")), (Some(0), true), "{version:?}");
}

#[test]
fn the_answer_is_on_stdout_and_everything_about_it_on_stderr() {
    let sandbox = sandbox();
    snapshot("code", &sandbox, &["run", "-c", "import sys; print('out'); print('err', file=sys.stderr)"]);
    snapshot("limit", &sandbox, &["run", "--timeout", "200ms", "-c", "print('before')\nwhile True: pass"]);
    snapshot("limit-slept", &sandbox, &["run", "-c", "import time; time.sleep(100)"]);
    snapshot("limit-strict", &sandbox, &["run", "--policy", "strict", "-c", "print('x' * (1 << 21))"]);
    snapshot("exception", &sandbox, &["run", "-c", "def f():\n    raise ValueError('no')\nf()"]);
    snapshot("abort", &sandbox, &["run", "-c", "import os; os.abort()"]);
    snapshot("exit-large", &sandbox, &["run", "-c", "raise SystemExit(200)"]);
    snapshot("module", &sandbox, &["run", "-m", "calendar", "2026", "2"]);
    snapshot("module-absent", &sandbox, &["run", "-m", "no_such_module"]);
    for module in ["pip", "venv", "curses"] {
        let ran = sandbox.run(&["run", "-m", module]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(&format!("No module named {module}: ")), "{ran:?}");
        assert!(ran.stderr.contains("in the Capibara sandbox"), "{ran:?}");
    }
}

#[test]
fn bad_input_says_what_where_and_what_to_try() {
    let sandbox = sandbox();
    let path = |name: &str, content: &[u8]| sandbox.file(name, content).to_str().unwrap_or("?").to_owned();
    let (latin, empty) = (path("latin.py", b"print(1)\nname = '\xe9'\n"), path("empty.py", b""));
    let (ruby, good) = (path("script.rb", b"puts 1\n"), path("good.py", b"print(1)\n"));
    let folder = sandbox.dir.path().to_str().unwrap_or("?").to_owned();
    let rows: &[(&str, &[&str])] = &[
        ("bad-missing", &["run", "missing.py"]),
        ("bad-directory", &["run", &folder]),
        ("bad-not-utf8", &["run", &latin]),
        ("bad-empty", &["run", &empty]),
        ("bad-language", &["run", &ruby]),
        ("bad-language-name", &["run", "--language", "cobol", &good]),
        ("bad-option", &["run", "--tiemout", "1s", &good]),
        ("bad-policy", &["run", "--policy", "lax", &good]),
        ("bad-size-without-unit", &["run", "--memory", "256", &good]),
        ("bad-size-zero", &["run", "--max-output", "0B", &good]),
        ("bad-duration-zero", &["run", "--timeout", "0s", &good]),
        ("bad-fuel-zero", &["run", "--fuel", "0", &good]),
        ("bad-fuel-live", &["run", "--fuel", "1M", "--live", &good]),
        ("bad-live-strict", &["run", "--policy", "strict", "--live", &good]),
        ("bad-widens-strict", &["run", "--policy", "strict", "--timeout", "1m", &good]),
        ("bad-memory-small", &["run", "--memory", "1MiB", &good]),
        ("bad-epoch", &["run", "--epoch", "yesterday", &good]),
        ("bad-seed", &["run", "--seed", "-1", &good]),
        ("bad-env", &["run", "--env", "NAME", &good]),
        ("bad-format", &["run", "--format", "xml", &good]),
        ("bad-no-script", &["run"]),
        ("bad-script-empty-name", &["run", ""]),
        ("bad-duration-bare-zero", &["run", "--timeout", "0", "good.py"]),
        ("bad-memory-bare-zero", &["run", "--memory", "0", "good.py"]),
        ("bad-memory-large", &["run", "--memory", "5GiB", "good.py"]),
        ("bad-dash-script", &["run", "-dash.py"]),
        ("bad-python-option", &["run", "-u", "good.py"]),
        ("bad-language-swallows-code", &["run", "--language", "-c", "print(1)"]),
        ("bad-widens-strict-memory", &["run", "--policy", "strict", "--memory", "256MiB", "good.py"]),
        ("bad-widens-strict-output", &["run", "--policy", "strict", "--max-output", "3MB", "good.py"]),
        ("bad-widens-strict-fuel", &["run", "--policy", "strict", "--fuel", "200G", "good.py"]),
        ("bad-widens-strict-disk", &["run", "--policy", "strict", "--max-disk", "1GiB", "good.py"]),
    ];
    for (name, words) in rows {
        snapshot(name, &sandbox, words);
        let ran = sandbox.run(words);
        let expected = match *name {
            "bad-language" => 126,
            "bad-language-name" => 127,
            _ => 125,
        };
        assert_eq!(ran.code, Some(expected), "{name}");
        // With JSON the same is an object on standard output.
        if *name != "bad-format" && *name != "bad-no-script" {
            let mut words = words.to_vec();
            words.splice(1..1, ["--format", "json"]);
            let ran = sandbox.run(&words);
            let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("an object");
            assert_eq!(ran.code, Some(expected), "{name}");
            assert!(json["status"] == "error" || json["status"] == "denied", "{name}: {json}");
            assert!(json["error"]["message"].is_string() && json["exit_code"].is_null(), "{name}: {json}");
        }
    }
}

#[test]
fn a_script_without_run_is_told_how_to_run() {
    let sandbox = sandbox();
    let _ = (sandbox.file("good.py", "print(1)"), sandbox.file("good", "print(1)"));
    for (name, words) in [
        ("no-run-file", &["good.py", "a"][..]),
        ("no-run-missing-file", &["./missing.py"]),
        ("no-run-file-without-extension", &["./good"]),
        ("no-run-code", &["-c", "print(1)"]),
        ("no-run-unknown", &["frobnicate"]),
    ] {
        snapshot(name, &sandbox, words);
        let json = sandbox.run(&[words, &["--format", "json"]].concat());
        assert_eq!(json.code, Some(125), "{json:?}");
    }
}

#[test]
fn an_uncaught_error_that_comes_of_isolation_is_explained() {
    let sandbox = sandbox();
    snapshot("hint-module", &sandbox, &["run", "-c", "import numpy"]);
    snapshot("hint-file", &sandbox, &["run", "-c", "open('data.csv')"]);
    let quiet: &[&[&str]] = &[
        // It has its own reason; it was caught; it was not the end.
        &["run", "-c", "import pwd"],
        &["run", "-c", "try: import numpy\nexcept ImportError as e: print(e)"],
        &["run", "-c", "import sys; print(\"ModuleNotFoundError: No module named 'x'\", file=sys.stderr)"],
        &["run", "-c", "raise ValueError('no')"],
        &["run", "--format", "json", "-c", "import numpy"],
    ];
    for words in quiet {
        let ran = sandbox.run(words);
        assert!(!ran.stderr.contains("capibara: hint: "), "{words:?}: {ran:?}");
    }
}

#[test]
fn a_pipe_or_device_is_a_script() {
    let sandbox = sandbox();
    let _ = sandbox.file("plain", "import sys; print(sys.argv)\n");
    let binary = env!("CARGO_BIN_EXE_capibara-under-test");
    for (line, stdout) in [
        ("\"$0\" run <(echo 'print(input())') <<< hi", "hi\n"),
        ("\"$0\" run --policy strict <(echo 'import sys; print(sys.argv[1:])') a --live", "['a', '--live']\n"),
        ("cat plain | \"$0\" run /dev/stdin a", "['-', 'a']\n"),
        ("\"$0\" run /dev/stdin < plain", "['-']\n"),
        ("mkfifo f && (cat plain > f & \"$0\" run f b)", "['/script/f', 'b']\n"),
    ] {
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", line, binary]).current_dir(sandbox.dir.path());
        let ran = capibara_tests::finish(bash.env("CAPIBARA_CACHE_DIR", capibara_tests::cache()).output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), stdout, ""), "{line}");
    }
    let ran = sandbox.run(&["run", "/dev/zero"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("larger than 16MiB"), "{ran:?}");
}

#[test]
fn what_the_readme_says_a_script_sees() {
    let sandbox = sandbox();
    let _ = sandbox.file("see.py", "import sys, os, time\nprint(sys.argv, os.getcwd(), sys.stdin.isatty(), time.tzname)\nprint(sys.maxsize, hash('a'), sys.path)\nopen('left', 'w').write('x')\nt = time.time(); input(); print(time.time() - t < 0.1)");
    let words = ["run", "--env", "PYTHONHASHSEED=3", "--env", "PYTHONPATH=/tmp", "see.py", "a"];
    let mut child = sandbox.command().args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300)); // The clock of the script does not notice.
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
    let ran = capibara_tests::finish(child.wait_with_output().unwrap());
    let shown = "['/script/see.py', 'a'] /home/script False ('UTC', 'UTC')\n2147483647 -468864544 ['/script']\nTrue\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), shown), "{ran:?}");
    let again = sandbox.run(&["run", "-c", "import os; print(os.listdir('.'))"]);
    assert_eq!(again.stdout, "[]\n", "{again:?}");
    assert!(!sandbox.dir.path().join("left").exists());
}

#[test]
fn everything_after_the_script_is_its_own() {
    let sandbox = sandbox();
    let script = sandbox.file("show.py", "import sys; print(sys.argv)");
    let script = script.to_str().unwrap();
    let ran = sandbox.run(&["run", "--seed", "1", script, "--seed", "x", "--format", "json", "--", "-c"]);
    assert_eq!(ran.stdout, "['/script/show.py', '--seed', 'x', '--format', 'json', '--', '-c']\n", "{ran:?}");
    let ran = sandbox.run(&["run", "-c", "import sys; print(sys.argv)", "--help", "-m"]);
    assert_eq!(ran.stdout, "['-c', '--help', '-m']\n", "{ran:?}");
}

#[test]
fn a_script_comes_by_standard_input() {
    let sandbox = sandbox();
    let ran = sandbox.run_with_input(
        &["run", "-", "a"],
        b"import sys\nprint(sys.argv, repr(sys.stdin.read()))\nprint(1/0)",
        false,
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "['-', 'a'] ''\n"), "{ran:?}");
    assert!(ran.stderr.contains("File \"<stdin>\", line 3"), "{ran:?}");
    let ran = sandbox.run_with_input(&["run", "-"], b"print(__file__, __cached__)", false);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "<stdin> None\n"), "{ran:?}");
}

#[test]
fn a_script_with_a_shebang_starts_by_itself() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = sandbox();
    // Named as it is when it is installed: the first line of a script shows its language by that name.
    let binary = sandbox.dir.path().join("capibara");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_capibara-under-test"), &binary).unwrap();
    let line = format!("#!/usr/bin/env -S {} run\nimport sys; print(sys.argv[1:])\n", binary.display());
    let script = sandbox.file("tool", line);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new(&script)
        .arg("x")
        .env("CAPIBARA_CACHE_DIR", capibara_tests::cache())
        .output()
        .unwrap();
    let ran = capibara_tests::finish(output);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "['x']\n"), "{ran:?}");
}

#[test]
fn standard_input_is_read_only_as_far_as_the_script_asks() {
    let sandbox = sandbox();
    // A pipe that stays open: the script gets its line and ends.
    let mut child = sandbox
        .command()
        .args(["run", "-c", "print(input().upper())"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"one line\n").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "ONE LINE\n");
    assert!(child.wait().unwrap().success());
    drop(stdin);
}

#[test]
fn output_streams_while_the_script_runs_and_is_never_lost() {
    let sandbox = sandbox();
    let started = Instant::now();
    let mut child = sandbox
        .command()
        .args(["run", "--live", "--timeout", "1500ms", "-c", "import time; print('early'); time.sleep(60)"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut byte = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"early\n");
    assert!(started.elapsed() < Duration::from_millis(1200), "{:?}", started.elapsed());
    assert_eq!(child.wait().unwrap().code(), Some(124));
}

#[test]
fn a_reader_that_does_not_read_cannot_hold_the_run() {
    let sandbox = sandbox();
    let started = Instant::now();
    let mut child = sandbox
        .command()
        .args(["run", "--timeout", "500ms", "-c", "while True: print('x' * 1000)"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let code = child.wait().unwrap().code(); // nobody reads the pipe
    assert_eq!(code, Some(124));
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}

#[test]
fn a_closed_reader_ends_the_run_quietly() {
    let sandbox = sandbox();
    let mut child = sandbox
        .command()
        .args(["run", "-c", "while True: print('y')"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0; 2];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut byte).unwrap();
    drop(stdout);
    let ran = capibara_tests::finish(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(141), ""));
}

#[test]
fn signals_cancel_the_run() {
    let sandbox = sandbox();
    for (signal, name, code) in [("INT", "SIGINT", 130), ("TERM", "SIGTERM", 143)] {
        let mut child = sandbox
            .command()
            .args(["run", "-c", "print('before')\nwhile True: pass"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        let sent = std::process::Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let ran = capibara_tests::finish(child.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stderr.ends_with(&format!("capibara: canceled by {name}\n")), "{ran:?}");
    }
}

#[test]
fn stats_are_printed_on_request() {
    let ran = sandbox().run(&["run", "--stats", "-c", "print('x')"]);
    assert_eq!(ran.stdout, "x\n");
    for word in ["fuel", "wall time", "memory peak", "output", "host calls"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(ran.stderr.lines().all(|line| line.starts_with("capibara: ")), "{}", ran.stderr);
    assert!(ran.stderr.contains("  slept        0.000ms"), "{}", ran.stderr);
}

#[test]
fn json_is_schema_1() {
    let sandbox = sandbox();
    let text = std::fs::read_to_string(capibara_tests::repository().join("schema/run.v1.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let rows: &[(&[&str], &str, i32)] = &[
        (&["-c", "print('x')"], "completed", 0),
        (&["-c", "raise SystemExit(200)"], "completed", 119),
        (&["-c", "import os; os.write(1, b'\\xff')"], "completed", 0),
        (&["--live", "-c", "print('x')"], "completed", 0),
        (&["--fuel", "20M", "-c", "while True: pass"], "limit", 124),
        (&["--timeout", "100ms", "-c", "while True: print('x')"], "limit", 124),
        (&["--max-output", "10B", "-c", "print('x' * 99)"], "limit", 124),
        (&["-c", "import os; os.abort()"], "trapped", 123),
        (&["--seed", "x", "-c", ""], "error", 125),
        (&["missing.py"], "error", 125),
    ];
    for (words, status, code) in rows {
        let mut all = vec!["run", "--format", "json"];
        all.extend(*words);
        let ran = sandbox.run(&all);
        let json: serde_json::Value =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{words:?}: {error} {ran:?}"));
        let errors: Vec<String> = validator.iter_errors(&json).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{words:?}: {errors:#?}\n{json:#}");
        assert_eq!((json["status"].as_str(), ran.code), (Some(*status), Some(*code)), "{words:?} {json:#}");
        assert_eq!(ran.stdout.lines().count(), 1, "one line");
        assert_eq!(json["schema"], 1);
    }
    let real = sandbox.run(&["run", "--format", "json", "-c", "raise SystemExit(200)"]);
    assert!(real.stdout.contains("\"exit_code\":200"), "{real:?}");
    let pinned =
        sandbox.run(&["run", "--format", "json", "--epoch", "2026-01-31T12:00:00Z", "--seed", "7", "-c", "print(1)"]);
    let pinned: serde_json::Value = serde_json::from_str(&pinned.stdout).unwrap();
    assert_eq!(
        (&pinned["epoch"], &pinned["seed"], &pinned["determined"]),
        (&"2026-01-31T12:00:00Z".into(), &"7".into(), &true.into())
    );
    assert_eq!((&pinned["receipt"], &pinned["cached"]), (&().into(), &false.into()));
    assert_eq!(pinned["scan"], serde_json::json!({"verdict": "allow", "findings": []}));
}

/// Runs these words on a terminal and gives back what the terminal got. `script(1)` makes the terminal: the crates that
/// do it turn on features of rustix or libc that Wasmtime's build shares.
fn on_terminal(sandbox: &Sandbox, words: &[&str]) -> String {
    let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    let inner = [format!("'{}'", env!("CARGO_BIN_EXE_capibara-under-test"))].into_iter().chain(quoted);
    let output = std::process::Command::new("script")
        .args(["-qec", &inner.collect::<Vec<_>>().join(" "), "/dev/null"])
        .env("CAPIBARA_CACHE_DIR", capibara_tests::cache())
        .env("SHELL", "/bin/sh")
        .current_dir(sandbox.dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n")
}

#[test]
fn a_terminal_gets_nothing_it_would_obey_but_colors() {
    if std::process::Command::new("script").arg("--version").output().is_err() {
        skip("a_terminal_gets_nothing_it_would_obey_but_colors", "unavailable: script(1), from bsdutils");
        return;
    }
    let sandbox = sandbox();
    let tricks = |code: &str| sandbox.file("tricks.py", code);
    for (code, shown) in [
        // Clipboard, title, cursor, a question the terminal answers, carriage return, and what may pass.
        (r"print('\x1b]52;c;aGk=\x07')", "\\x1b]52;c;aGk=\\x07\n"),
        (r"print('\x1b]0;title\x1b\\')", "\\x1b]0;title\\x1b\\\n"),
        (r"print('\x1b[2A\x1b[6n')", "\\x1b[2A\\x1b[6n\n"),
        (r"print('\x9b2J \x85')", "\\u{9b}2J \\u{85}\n"),
        (r"print('bad\rgood')", "bad\\rgood\n"),
        (r"print('/home/\u202egnp.exe')", "/home/\\u{202e}gnp.exe\n"),
        (r"print('\x1b[31mred\x1b[0m\tok é 猫')", "\u{1b}[31mred\u{1b}[0m\tok é 猫\n"),
        (r"print('\x1b[31mred')", "\u{1b}[31mred\n\u{1b}[0m"),
        // Standard error is shown in the same way.
        (r"import sys; print('\x1b[2A\rx', file=sys.stderr)", "\\x1b[2A\\rx\n"),
        // Split over writes, in the middle of a character, of a color and of a sequence that is no color.
        (
            "import os\nfor b in 'é猫\\x1b[1;31mx\\x1b[0m\\x1b[2A\\n'.encode(): os.write(1, bytes([b]))",
            "é猫\u{1b}[1;31mx\u{1b}[0m\\x1b[2A\n",
        ),
        // Unfinished at the end.
        (r"import os; os.write(1, b'x\x1b[3')", "x\\x1b[3"),
        (r"import os; os.write(1, b'x\xf0\x9f')", "x\\xf0\\x9f"),
    ] {
        let _ = tricks(code);
        assert_eq!(on_terminal(&sandbox, &["run", "tricks.py"]), shown, "{code}");
        // A pipe gets every byte, and so does a terminal that is to have them.
        let raw = on_terminal(&sandbox, &["run", "--raw", "tricks.py"]);
        let output = sandbox.command().args(["run", "tricks.py"]).output().unwrap();
        let piped = [output.stdout, output.stderr].concat();
        assert_eq!(raw, String::from_utf8_lossy(&piped), "{code}");
        assert_eq!(raw != shown, shown.contains('\\') || shown.ends_with("[0m"), "{code}");
    }
    // The cursor cannot be put over our verdict, nor a path of the caller's turn the line around.
    let _ = tricks("print('\\x1b[1A\\x1b[2K', end='', flush=True)\nwhile True: pass");
    let shown = on_terminal(&sandbox, &["run", "--fuel", "50M", "tricks.py"]);
    assert!(shown.contains("\n\\x1b[1A\\x1b[2K\ncapibara: stopped by limit fuel: allowed 50_000_000, "), "{shown:?}");
    let shown = on_terminal(&sandbox, &["run", "\u{1b}[2A\r/\u{202e}yp.py"]);
    assert!(shown.starts_with("capibara: error: there is no script `\\x1b[2A\\r/\\u{202e}yp.py`\n"), "{shown:?}");
    let name = "\u{202e}x.py";
    let _ = sandbox.file(name, "1/0");
    let shown = on_terminal(&sandbox, &["run", name]);
    assert!(shown.contains("/script/\\u{202e}x.py\", line 1"), "{shown:?}");
}

#[test]
fn files_have_a_quota_that_can_be_set() {
    let sandbox = sandbox();
    let code = "for _ in range(2):\n    with open('a', 'wb') as a: a.write(b'x' * 5000)";
    let ran = sandbox.run(&["run", "--max-disk", "10kB", "-c", code]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let ran = sandbox.run(&["run", "--max-disk", "9999B", "-c", code]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
}

#[test]
fn hello_is_the_fixture_of_the_readme() {
    let ran = sandbox().run(&["run", fixture("scripts/hello.py").to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "Hello from inside Capibara!\n", ""));
}
