//! Runs that are watched: events, signals, and the line about a long run on a terminal.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capibara::{CancelReason, Event, Job, Status, Stream, Usage};
use capibara_tests::{Sandbox, engine, finish, repository, skip};
use serde_json::Value;

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

fn schema(name: &str) -> jsonschema::Validator {
    let text = fs::read_to_string(repository().join("schema").join(name)).unwrap();
    jsonschema::draft202012::new(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// A stream of events, read and checked: each line against the schema, and all of them together.
struct Told {
    lines: Vec<Value>,
}

impl Told {
    fn read(text: &str) -> Self {
        let (events, run) = (schema("events.v1.json"), schema("run.v1.json"));
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        let mut before = 0.0;
        for (i, line) in lines.iter().enumerate() {
            let errors: Vec<String> = events.iter_errors(line).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{line}: {errors:#?}");
            assert_eq!(line["sequence"], i + 1, "{line}");
            let now = line["wall_ms"].as_f64().unwrap();
            assert!(now >= before, "{line}");
            before = now;
        }
        let stream = Self { lines };
        let names = stream.names();
        assert_eq!(names.last(), Some(&"ended"), "{text}");
        assert_eq!(names.iter().filter(|name| **name == "ended").count(), 1, "{text}");
        assert!(names.iter().skip(1).all(|name| *name != "started"), "{text}");
        // What came of it is the object of `--format json` without the output.
        let mut outcome = stream.outcome().clone();
        for key in ["stdout", "stderr"] {
            assert!(outcome.get(key).is_none());
            outcome[key] = "".into();
        }
        let errors: Vec<String> = run.iter_errors(&outcome).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{outcome:#}: {errors:#?}");
        stream
    }

    fn names(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
    }

    fn of(&self, name: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["event"] == name).collect()
    }

    fn outcome(&self) -> &Value {
        &self.lines.last().unwrap()["outcome"]
    }

    /// All that was printed on a stream.
    fn printed(&self, stream: &str) -> Vec<u8> {
        use base64_lite::decode;
        let pieces = self.of("output").into_iter().filter(|line| line["stream"] == stream);
        pieces
            .flat_map(|line| match (line["text"].as_str(), line["base64"].as_str()) {
                (Some(text), None) => text.as_bytes().to_vec(),
                (None, Some(text)) => decode(text),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

mod base64_lite {
    /// Bytes of standard base64.
    pub(super) fn decode(text: &str) -> Vec<u8> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = Vec::new();
        for four in text.as_bytes().chunks(4) {
            let digits = four.iter().filter_map(|byte| LETTERS.iter().position(|letter| letter == byte));
            let bits = digits.clone().fold(0_u32, |bits, digit| bits << 6 | u32::try_from(digit).unwrap());
            let count = digits.count();
            let bytes = (bits << (6 * (4 - count))).to_be_bytes();
            out.extend_from_slice(&bytes[1..count]);
        }
        out
    }
}

const TALK: &str = r"
import os, sys
print('one é'); print('two', file=sys.stderr)
os.write(1, b'\xff\x00\xfe'); os.write(2, b'\x1b[2J')
x = 0
for i in range(2_000_000): x += i
sys.stdout.write('no newline')
";

#[test]
fn a_stream_is_whole_in_order_and_holds_all_output() {
    let sandbox = sandbox();
    let pinned = ["--seed", "1", "--epoch", "2026-01-31T12:00:00Z"];
    let run = |words: &[&str]| sandbox.run(&[&["run"][..], &pinned, words, &["-c", TALK]].concat());
    let ran = run(&["--events", "-"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let stream = Told::read(&ran.stdout);
    let names = stream.names();
    assert_eq!((names[0], names[1], names[2]), ("started", "output", "output"));
    assert_eq!(stream.printed("stdout"), b"one \xc3\xa9\n\xff\x00\xfeno newline");
    assert_eq!(stream.printed("stderr"), b"two\n\x1b[2J");
    assert!(!ran.stdout.contains('\u{1b}'), "it is safe to show");
    let started = &stream.lines[0];
    assert_eq!((&started["policy"]["name"], &started["language"]), (&"moderate".into(), &"python".into()));
    assert_eq!((&started["scan"]["verdict"], &started["seed"]), (&"allow".into(), &"1".into()));
    assert_eq!(
        (&started["limits"]["wall_ms"], &started["limits"]["fuel"]),
        (&30_000.into(), &1_000_000_000_000_u64.into())
    );
    // What came of it is what it would have been without events, and they change nothing about the run.
    let json: Value = serde_json::from_str(&run(&["--format", "json"]).stdout).unwrap();
    let (mut with, mut without) = (stream.outcome().clone(), json);
    assert_eq!(with["runtime"], started["runtime"]);
    without
        .as_object_mut()
        .unwrap()
        .retain(|key, _| !key.starts_with("stdout_b") && key != "stderr" && key != "stdout");
    for outcome in [&mut with, &mut without] {
        outcome["usage"]["wall_ms"] = 0.into();
    }
    assert_eq!(with, without);
    // Whatever the format is.
    let again = run(&["--format", "json", "--events", "-", "--stats"]);
    assert!(again.stderr.contains("host calls"), "{again:?}");
    assert_eq!(Told::read(&again.stdout).outcome()["usage"]["fuel"], with["usage"]["fuel"]);
}

#[test]
fn usage_comes_ten_times_a_second_and_never_goes_back() {
    let sandbox = sandbox();
    for live in [false, true] {
        let code = "print('x')\nopen('f', 'w').write('abc' * 100)\nkeep = [bytes(1000) for _ in range(20_000)]\nwhile True: pass";
        let mut words = vec!["run", "--timeout", "1200ms", "--events", "-", "-c", code];
        if live {
            words.insert(1, "--live");
        }
        let ran = sandbox.run(&words);
        assert_eq!(ran.code, Some(124), "{ran:?}");
        let stream = Told::read(&ran.stdout);
        let usages = stream.of("usage");
        assert!((3..=12).contains(&usages.len()), "{}: {}", usages.len(), ran.stdout);
        let all: Vec<&Value> = usages.iter().map(|line| &line["usage"]).chain([&stream.outcome()["usage"]]).collect();
        for key in ["wall_ms", "memory_peak_bytes", "output_bytes", "files_written", "bytes_written", "host_calls"] {
            assert!(all.is_sorted_by_key(|usage| usage[key].as_f64().unwrap()), "{key}: {all:#?}");
        }
        let (last, end) = (all[all.len() - 2], all[all.len() - 1]);
        for key in
            ["output_bytes", "files_written", "bytes_written", "host_calls", "descriptors_peak", "memory_peak_bytes"]
        {
            assert!(last[key] == end[key], "{key}: {last} {end}");
        }
        assert!(usages.iter().all(|line| line["reading"] == false));
        if live {
            assert!(all.iter().all(|usage| usage["fuel"].is_null()), "{all:#?}");
            continue;
        }
        let fuel: Vec<u64> = all.iter().map(|usage| usage["fuel"].as_u64().unwrap()).collect();
        assert!(fuel.windows(2).all(|pair| pair[0] < pair[1] + 10_000_000), "{fuel:?}");
        assert!(fuel[0] > 1_000_000, "{fuel:?}");
        // Equal stretches of computing are about equal amounts.
        let rate = |usage: &Value| usage["fuel"].as_f64().unwrap() / usage["wall_ms"].as_f64().unwrap();
        assert!((0.5..2.0).contains(&(rate(last) / rate(end))), "{last} {end}");
    }
}

#[test]
fn waiting_is_told_of() {
    let sandbox = sandbox();
    let reading = sandbox.run_with_input(&["run", "--timeout", "700ms", "--events", "-", "-c", "input()"], b"", true);
    assert_eq!(reading.code, Some(124), "{reading:?}");
    let stream = Told::read(&reading.stdout);
    let usages = stream.of("usage");
    assert!(usages.len() >= 3 && usages.iter().skip(1).all(|line| line["reading"] == true), "{}", reading.stdout);
    let fuel: Vec<&Value> = usages.iter().map(|line| &line["usage"]["fuel"]).collect();
    assert!(fuel.iter().skip(1).all(|now| now == &fuel[1]), "waiting takes no fuel: {fuel:?}");
    let sleeping = sandbox.run(&["run", "--live", "--events", "-", "-c", "import time; time.sleep(0.7)"]);
    let stream = Told::read(&sleeping.stdout);
    assert!(stream.of("usage").len() >= 3, "{}", sleeping.stdout);
    assert!(stream.of("usage").iter().all(|line| line["reading"] == false));
}

#[test]
fn a_file_gets_the_same_beside_the_output() {
    let sandbox = sandbox();
    let file = sandbox.dir.path().join("events.jsonl");
    fs::write(&file, "what was there before\n").unwrap();
    let text =
        sandbox.run(&["run", "--events", "events.jsonl", "-c", "import sys; print('a'); print('b', file=sys.stderr)"]);
    assert_eq!((text.code, text.stdout.as_str(), text.stderr.as_str()), (Some(0), "a\n", "b\n"));
    let stream = Told::read(&fs::read_to_string(&file).unwrap());
    assert_eq!((stream.printed("stdout"), stream.printed("stderr")), (b"a\n".to_vec(), b"b\n".to_vec()));
    let json = sandbox.run(&["run", "--format", "json", "--events", "events.jsonl", "-c", "print('a')"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["stdout"], "a\n");
    let stream = Told::read(&fs::read_to_string(&file).unwrap());
    assert_eq!(stream.outcome()["job_sha256"], json["job_sha256"]);
    assert_eq!(stream.printed("stdout"), b"a\n");
    // A pipe with a name, or one the shell makes.
    let line = "mkfifo p && (cat p > got & \"$0\" run --events p -c 'print(1)'; wait) && \"$0\" run --events >(cat > more) -c 'print(2)' && sleep 0.3";
    let mut bash = Command::new("bash");
    bash.args(["-c", line, env!("CARGO_BIN_EXE_capibara-under-test")]).current_dir(sandbox.dir.path());
    let ran = finish(bash.env("CAPIBARA_CACHE_DIR", capibara_tests::cache()).output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "1\n2\n", ""));
    for (name, printed) in [("got", b"1\n"), ("more", b"2\n")] {
        let text = fs::read_to_string(sandbox.dir.path().join(name)).unwrap();
        assert_eq!(Told::read(&text).printed("stdout"), printed, "{name}");
    }
    for (place, part) in [("none/events", "No such file"), (".", "directory")] {
        let ran = sandbox.run(&["run", "--format", "json", "--events", place, "-c", "print(1)"]);
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, &json["error"]["code"]), (Some(125), &"events-unwritable".into()), "{ran:?}");
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
    let ran = sandbox.run(&["run", "--dry-run", "--events", "-", "-c", "print(1)"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
}

#[test]
fn every_end_is_told() {
    let sandbox = sandbox();
    let _ = sandbox.file("script.rb", "puts 1\n");
    let rows: &[(&[&str], i32, &str, &str)] = &[
        (&["-c", "raise SystemExit(7)"], 7, "completed", "started"),
        (&["-c", "1/0"], 1, "completed", "started"),
        (&["--fuel", "50M", "-c", "while True: pass"], 124, "limit", "started"),
        (&["--max-output", "10B", "-c", "print('x' * 100)"], 124, "limit", "started"),
        (&["-c", "import os; os.abort()"], 123, "trapped", "started"),
        (&["-c", "import os; os.system('id')"], 126, "denied", "ended"),
        (&["script.rb"], 126, "denied", "ended"),
        (&["missing.py"], 125, "error", "ended"),
        (&["--policy", "strict", "--timeout", "1m", "-c", ""], 125, "error", "ended"),
        (&["--memory", "1MiB", "-c", ""], 125, "error", "ended"),
    ];
    for (words, code, status, first) in rows {
        for place in ["-", "events.jsonl"] {
            let ran = sandbox.run(&[&["run", "--events", place], *words].concat());
            assert_eq!(ran.code, Some(*code), "{words:?}: {ran:?}");
            let text = match place {
                "-" => ran.stdout,
                file => fs::read_to_string(sandbox.dir.path().join(file)).unwrap(),
            };
            let stream = Told::read(&text);
            assert_eq!(
                (stream.names()[0], &stream.outcome()["status"]),
                (*first, &(*status).into()),
                "{words:?}: {text}"
            );
        }
    }
    let cut = sandbox.run(&["run", "--events", "-", "--max-output", "10B", "-c", "print('x' * 100)"]);
    assert_eq!(Told::read(&cut.stdout).printed("stdout"), b"xxxxxxxxxx");
}

#[test]
fn a_reader_of_events_cannot_hold_the_run_and_may_go() {
    let sandbox = sandbox();
    let started = Instant::now();
    let words = ["run", "--timeout", "500ms", "--events", "-", "-c", "while True: print('x' * 1000)"];
    let mut child = sandbox.command().args(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(124)); // nobody reads the pipe
    assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", started.elapsed());
    for code in ["while True: print('y')", "while True: pass"] {
        let words = ["run", "--timeout", "20s", "--events", "-", "--policy", "permissive", "-c", code];
        let mut child = sandbox.command().args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut byte = [0; 2];
        stdout.read_exact(&mut byte).unwrap();
        drop(stdout);
        let ran = finish(child.wait_with_output().unwrap());
        let ours = ran.stderr.lines().filter(|line| !line.contains("warning[")).count();
        assert_eq!((ran.code, ours), (Some(141), 0), "{code}: {ran:?}");
    }
}

#[test]
fn the_end_is_told_whatever_becomes_of_the_output() {
    let sandbox = sandbox();
    // The reader of the script's output goes; that of the events does not.
    let mut bash = Command::new("bash");
    bash.args(["-c", "\"$0\" run --events events -c 'while True: print(1)' 2> /dev/null | head -c 2"]);
    bash.arg(env!("CARGO_BIN_EXE_capibara-under-test")).current_dir(sandbox.dir.path());
    let ran = finish(bash.env("CAPIBARA_CACHE_DIR", capibara_tests::cache()).output().unwrap());
    assert_eq!(ran.stdout, "1\n");
    let stream = Told::read(&fs::read_to_string(sandbox.dir.path().join("events")).unwrap());
    assert_eq!(stream.outcome()["status"], "canceled");
    // A signal in the middle of lines that take several writes, read slowly.
    for place in ["-", "events"] {
        let code = "while True: print('x' * 3_000_000)";
        let words = ["run", "--policy", "permissive", "--max-output", "4GiB", "--events", place, "-c", code];
        let mut child = sandbox.command().args(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 100_000]);
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                all.extend_from_slice(&buffer[..read]);
                std::thread::sleep(Duration::from_micros(500));
            }
            String::from_utf8(all).unwrap()
        });
        std::thread::sleep(Duration::from_millis(600));
        kill(&child, "INT");
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let stdout = reader.join().unwrap();
        let text = if place == "-" { stdout } else { fs::read_to_string(sandbox.dir.path().join("events")).unwrap() };
        let stream = Told::read(&text);
        assert_eq!(stream.outcome()["status"], "canceled");
        let printed = stream.printed("stdout");
        assert!(!printed.is_empty() && printed.iter().all(|byte| b"x\n".contains(byte)), "{}", printed.len());
    }
}

/// Sends a signal to it.
fn kill(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

fn wait_for(what: &str, there: impl Fn() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn ctrl_c_ends_every_format_with_what_was_printed() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.dir.path().join("m")).unwrap();
    let loops = "print('before')\nimport sys; print('half', end='', file=sys.stderr)\nopen('/m/there', 'w').close()\nwhile True: pass";
    let sleeps = "print('before')\nimport sys, time; print('half', end='', file=sys.stderr)\nopen('/m/there', 'w').close()\ntime.sleep(50)";
    let reads =
        "print('before')\nimport sys; print('half', end='', file=sys.stderr)\nopen('/m/there', 'w').close()\ninput()";
    for (signal, name, code) in [("INT", "SIGINT", 130), ("TERM", "SIGTERM", 143)] {
        for (script, live) in [(loops, false), (loops, true), (sleeps, true), (reads, false)] {
            for format in ["text", "json", "events"] {
                let there = sandbox.dir.path().join("m/there");
                let _ = fs::remove_file(&there);
                let mut words = vec!["run", "--write", "m:/m"];
                words.extend(if format == "events" { ["--events", "-"] } else { ["--format", format] });
                words.extend(live.then_some("--live"));
                words.extend(["-c", script]);
                let mut command = sandbox.command();
                command.args(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let child = command.spawn().unwrap();
                wait_for("the file", || there.exists());
                let sent = Instant::now();
                kill(&child, signal);
                let ran = finish(child.wait_with_output().unwrap());
                assert!(sent.elapsed() < Duration::from_secs(2), "{words:?}: {:?}", sent.elapsed());
                assert_eq!(ran.code, Some(code), "{words:?}: {ran:?}");
                assert!(ran.stderr.ends_with(&format!("capibara: canceled by {name}\n")), "{words:?}: {ran:?}");
                let (stdout, stderr, status) = match format {
                    "text" => (ran.stdout.clone(), ran.stderr.contains("half\n"), Value::Null),
                    "json" => {
                        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
                        let status = json["status"].clone();
                        (json["stdout"].as_str().unwrap().to_owned(), json["stderr"] == "half", status)
                    }
                    _ => {
                        let stream = Told::read(&ran.stdout);
                        let stdout = String::from_utf8(stream.printed("stdout")).unwrap();
                        (stdout, stream.printed("stderr") == b"half", stream.outcome()["status"].clone())
                    }
                };
                assert_eq!((stdout.as_str(), stderr), ("before\n", true), "{words:?}: {ran:?}");
                assert!(format == "text" || status == "canceled", "{words:?}: {status}");
            }
        }
    }
}

/// Runs a line of the shell on a terminal, as in `cli.rs` (`$CAPIBARA` is the command), and gives back all that the terminal got.
fn on_terminal(folder: &Path, line: &str, typed: Option<(Duration, &[u8])>) -> String {
    let mut child = Command::new("script")
        .args(["-qec", line, "/dev/null"])
        .env("CAPIBARA", env!("CARGO_BIN_EXE_capibara-under-test"))
        .env("CAPIBARA_CACHE_DIR", capibara_tests::cache())
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let typing = typed.map(|(after, bytes)| (after, bytes.to_vec()));
    let typist = std::thread::spawn(move || {
        if let Some((after, bytes)) = typing {
            std::thread::sleep(after);
            let _ = keyboard.write_all(&bytes);
        }
        keyboard
    });
    let output = child.wait_with_output().unwrap();
    drop(typist.join().unwrap());
    String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n")
}

const ERASE: &str = "\r\u{1b}[2K";

/// What stands on the screen in the end: a line that was erased is gone.
fn screen(text: &str) -> String {
    let mut shown = String::new();
    for (i, part) in text.split(ERASE).enumerate() {
        if i > 0 {
            shown.truncate(shown.rfind('\n').map_or(0, |at| at + 1));
        }
        shown.push_str(part);
    }
    shown
}

#[test]
fn a_long_run_is_told_of_on_a_terminal_and_leaves_no_trace() {
    if Command::new("script").arg("--version").output().is_err() {
        skip("a_long_run_is_told_of_on_a_terminal_and_leaves_no_trace", "unavailable: script(1), from bsdutils");
        return;
    }
    let sandbox = sandbox();
    let _ =
        sandbox.file("sleep.py", "import time\nprint('a')\ntime.sleep(3)\nprint('b')\ntime.sleep(0.5)\nprint('c')\n");
    let _ = sandbox.file("loop.py", "print('a')\nwhile True: pass\n");
    let _ = sandbox.file("half.py", "import time\nprint('name: ', end='', flush=True)\ntime.sleep(3)\nprint('b')\n");
    let _ = sandbox.file("ask.py", "print(input().upper())\n");
    let _ = sandbox.file("short.py", "import time\nfor i in range(4):\n  time.sleep(0.8)\n  print(i)\n");
    let folder = sandbox.dir.path();
    let run = |line: &str| on_terminal(folder, line, None);

    let shown = run("$CAPIBARA run --live sleep.py");
    assert!(shown.starts_with(&format!("a\n{ERASE}capibara: running, 2s of 30s, memory ")), "{shown:?}");
    assert!(shown.contains(&format!("{ERASE}b\nc\n")), "{shown:?}");
    assert_eq!(screen(&shown), "a\nb\nc\n", "{shown:?}");
    let shown = run("$CAPIBARA run --timeout 3500ms loop.py");
    assert!(shown.contains("capibara: running, 3s of 3s500ms, fuel "), "{shown:?}");
    let end = screen(&shown);
    assert!(!end.contains("running") && end.contains("a\ncapibara: stopped by limit wall_time"), "{shown:?}");
    assert_eq!(screen(&run("$CAPIBARA run --live --timeout 3s sleep.py")).matches("running").count(), 0);

    // Where it would be in the way, or nobody asked for it, there is none.
    let quiet = [
        "$CAPIBARA run --live half.py",
        "$CAPIBARA run --live short.py",
        "$CAPIBARA run --live --progress=false sleep.py",
        "CAPIBARA_PROGRESS=false $CAPIBARA run --live sleep.py",
        "TERM=dumb $CAPIBARA run --live sleep.py",
        "$CAPIBARA run --live --format json sleep.py",
        "$CAPIBARA run --live --events - sleep.py",
        "$CAPIBARA run --live sleep.py | cat",
        "$CAPIBARA run --live sleep.py 2> err; cat err",
    ];
    std::thread::scope(|scope| {
        for line in quiet {
            scope.spawn(move || {
                let shown = run(line);
                assert!(!shown.contains("running") && !shown.contains(ERASE), "{line}: {shown:?}");
            });
        }
    });
    let typed = |line: &str, keys: &'static [u8]| on_terminal(folder, line, Some((Duration::from_secs(3), keys)));
    let asked = typed("$CAPIBARA run --timeout 20s ask.py", b"hi\n");
    assert!(asked.contains("HI\n") && !asked.contains("running"), "{asked:?}");

    // Ctrl-C at the keyboard.
    let broken = typed("trap : INT; $CAPIBARA run --timeout 20s loop.py; echo \"code $?\"", b"\x03");
    assert!(broken.contains("running, 2s of 20s"), "{broken:?}");
    assert!(screen(&broken).ends_with("a\ncapibara: canceled by SIGINT\ncode 130\n"), "{broken:?}");
}

#[test]
fn the_library_tells_what_happens_and_is_stopped_by_a_handle() {
    let engine = engine();
    let seen: Arc<Mutex<(Vec<String>, Vec<Usage>)>> = Arc::default();
    let job = Job::python("print('x')\nwhile True: pass").with_seed(1);
    let (canceler, told, output) = (job.canceler(), seen.clone(), seen.clone());
    let job = job
        .with_events(move |event| match event {
            Event::Started { scan, runtime, seed, .. } => {
                let mut seen = told.lock().unwrap();
                seen.0.push(format!("started {} {:?} {seed}", runtime.name.starts_with("python-3"), scan.verdict));
            }
            Event::Usage { usage, .. } => {
                let mut seen = told.lock().unwrap();
                seen.1.push(usage);
                if seen.1.len() == 3 {
                    canceler.cancel();
                }
            }
            _ => {}
        })
        .with_sink(move |stream: Stream, bytes: &[u8]| {
            output.lock().unwrap().0.push(format!("{stream:?} {}", String::from_utf8_lossy(bytes)));
        });
    let outcome = engine.run_blocking(job).unwrap();
    assert_eq!(outcome.status, Status::Canceled { reason: CancelReason::Asked });
    let seen = seen.lock().unwrap();
    assert_eq!(seen.0, ["started true Warn 1", "Stdout x\n"]);
    assert_eq!(seen.1.len(), 3);
    assert!(seen.1.iter().all(|usage| usage.output_bytes == 2 && usage.memory_peak_bytes > 40 << 20), "{:?}", seen.1);
    assert!(outcome.usage.fuel.unwrap() + 10_000_000 > seen.1[2].fuel.unwrap());
    // A script that is denied never starts.
    let job = Job::python("import os; os.system('id')").with_events(|event| panic!("{event:?}"));
    assert_eq!(engine.run_blocking(job).unwrap().status, Status::Denied);
}
