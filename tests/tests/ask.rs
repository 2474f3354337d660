//! `capibara ask` and `capibara generate`, with a fake provider of models.

use std::path::Path;
use std::time::Duration;

use capibara_fake::{Fake, Received, Reply, Response};
use capibara_tests::{Ran, Sandbox};
use serde_json::{Value, json};

const KEY: &str = "sk-CANARY/7f3a+91c2_d4e8=";

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

/// A streamed answer of chat completions that says `text`.
fn says(text: &str) -> Response {
    let event = |value: Value| format!("data: {value}\n\n");
    let half = text.len() / 2;
    let (first, rest) = text.split_at((half..).find(|at| text.is_char_boundary(*at)).expect("the end is one"));
    let chunk = |delta: Value, end: Value| {
        event(json!({"id": "c1", "model": "tiny-1", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}))
    };
    Response::sse([
        chunk(json!({"role": "assistant", "content": first}), Value::Null),
        chunk(json!({"content": rest}), Value::Null),
        chunk(json!({}), json!("stop")),
        event(json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20}})),
        "data: [DONE]\n\n".into(),
    ])
}

/// An answer with one script.
fn script(code: &str) -> Response {
    says(&format!("Here is the script:\n\n```python\n{code}\n```\n"))
}

/// Makes a profile for a fake, as a user would.
fn add(sandbox: &Sandbox, name: &str, fake: &Fake) {
    let url = format!("{}/v1", fake.url());
    let ran = sandbox.run(&[
        "model",
        "add",
        name,
        "--kind",
        "openai-chat",
        "--base-url",
        &url,
        "--key-env",
        "TEST_KEY",
        "--model",
        "tiny",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// Runs the command with the key in its environment.
fn run(sandbox: &Sandbox, words: &[&str]) -> Ran {
    capibara_tests::finish(sandbox.command().env("TEST_KEY", KEY).args(words).output().expect("the command starts"))
}

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The last message of a request.
fn last_message(request: &Received) -> String {
    let messages = request.json()["messages"].as_array().cloned().expect("messages");
    messages.last().and_then(|it| it["content"].as_str()).expect("a text").to_owned()
}

#[test]
fn a_sentence_becomes_a_script_and_its_output() {
    let (sandbox, fake) = (
        sandbox(),
        Fake::replies([script(
            "import csv\nrows = csv.DictReader(open('/sales.csv'))\nprint(sum(int(row['n']) for row in rows))",
        )]),
    );
    add(&sandbox, "local", &fake);
    let _ = sandbox.file("sales.csv", "region,n\nnorth,3\nsouth,4\n");
    let ran = run(&sandbox, &["ask", "the total of n in sales.csv", "--read", "sales.csv"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "7\n"), "{}", ran.stderr);
    let requests = fake.requests();
    let [request] = &requests[..] else { panic!("{} requests", requests.len()) };
    assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let text = request.text();
    assert!(text.contains("/sales.csv") && text.contains("the total of n in sales.csv"), "{text}");
    // What files hold is not shown unless asked for, and neither is where they are.
    assert!(!text.contains("north") && !text.contains(&*sandbox.dir.path().to_string_lossy()), "{text}");
}

#[test]
fn what_really_happened_goes_back_to_the_model() {
    let sandbox = sandbox();
    let fake = Fake::replies([
        script("import os\nos.system('id')"),
        script("values = []\nprint(1 / len(values))"),
        script("print('fixed')"),
    ]);
    add(&sandbox, "local", &fake);
    let ran = run(&sandbox, &["ask", "print fixed", "--format", "json"]);
    let report = report(&ran);
    assert_eq!((ran.code, &report["status"]), (Some(0), &json!("accepted")), "{ran:?}");
    assert_eq!(report["run"]["stdout"], "fixed\n");
    let calls = report["generation"]["calls"].as_array().expect("calls");
    let results: Vec<&str> = calls.iter().filter_map(|call| call["result"].as_str()).collect();
    assert_eq!(results, ["scan", "run", "accepted"]);
    assert_eq!(report["generation"]["spent"]["tokens"], 360);
    let requests = fake.requests();
    let told: Vec<String> = requests.iter().map(last_message).collect();
    assert!(told[1].contains("spawn-process") && told[1].contains("os.system"), "{}", told[1]);
    assert!(told[2].contains("ZeroDivisionError") && told[2].contains("print(1 / len(values))"), "{}", told[2]);
    // What was run and what was denied stands in the log.
    let log = sandbox.run(&["audit", "list"]).stdout;
    assert_eq!(log.lines().filter(|line| line.contains("script.py")).count(), 3, "{log}");
    assert_eq!(sandbox.run(&["audit", "verify"]).code, Some(0));
}

#[test]
fn a_script_that_was_accepted_is_used_again_without_a_model() {
    let sandbox = sandbox();
    let fake = Fake::replies([script("print('once')"), script("print('twice')")]);
    add(&sandbox, "local", &fake);
    let ask = |more: &[&str]| {
        let words: Vec<&str> = ["ask", "print once"].iter().chain(more).copied().collect();
        run(&sandbox, &words)
    };
    assert_eq!(ask(&["--offline"]).code, Some(125));
    assert_eq!(ask(&[]).stdout, "once\n");
    for more in [&[][..], &["--offline"]] {
        let ran = ask(more);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "once\n"), "{}", ran.stderr);
    }
    assert_eq!(fake.requests().len(), 1);
    // Anything that could lead to another script is another question.
    for more in
        [&["--check", "match: once"][..], &["--policy", "permissive"], &["--timeout", "3s"], &["--template", "report"]]
    {
        let words: Vec<&str> = more.iter().copied().chain(["--offline"]).collect();
        let ran = ask(&words);
        assert_eq!(ran.code, Some(125), "{more:?}: {ran:?}");
        assert!(ran.stderr.contains("no script was accepted for this before"), "{ran:?}");
    }
    assert_eq!(ask(&["--fresh"]).stdout, "twice\n");
    assert_eq!(ask(&["--offline"]).stdout, "twice\n");
}

#[test]
fn a_stored_script_that_was_changed_is_refused() {
    let (sandbox, fake) = (sandbox(), Fake::replies([script("print('good')"), script("print('new')")]));
    add(&sandbox, "local", &fake);
    let words = ["ask", "print good"];
    assert_eq!(run(&sandbox, &words).stdout, "good\n");
    let scripts = sandbox.dir.path().join(".local/state/capibara/scripts");
    let shelf = std::fs::read_dir(&scripts).unwrap().flatten().find(|it| it.path().is_dir()).expect("a shelf").path();
    let entry = std::fs::read_dir(shelf).unwrap().flatten().next().expect("an entry").path();
    let text = std::fs::read_to_string(&entry).unwrap();
    std::fs::write(&entry, text.replace("good", "evil")).unwrap();
    let ran = run(&sandbox, &["ask", "print good", "--offline"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    assert!(ran.stderr.contains("seal"), "{ran:?}");
    let ran = run(&sandbox, &words);
    assert_eq!(ran.stdout, "new\n");
    assert!(ran.stderr.contains("seal"), "{ran:?}");
}

#[test]
fn checks_decide() {
    let sandbox = sandbox();
    let fake = Fake::replies([
        script("a, b = map(int, input().split())\nprint(a - b)"),
        script("a, b = map(int, input().split())\nprint(a + b)"),
    ]);
    add(&sandbox, "local", &fake);
    let ran = run(&sandbox, &["generate", "add two numbers", "--check", "2 3 => 5", "--check", "10 -4 => 6"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout, "a, b = map(int, input().split())\nprint(a + b)\n");
    let told = last_message(&fake.requests()[1]);
    assert!(told.contains("2 3") && told.contains("-1") && told.contains('5'), "{told}");
}

#[test]
fn of_several_candidates_the_best_is_taken() {
    let sandbox = sandbox();
    let fake = Fake::replies([
        script("print('wrong')"),
        script("import time\nfor i in range(200_000):\n    pass\nprint('right')"),
        script("print('right') # short"),
    ]);
    add(&sandbox, "local", &fake);
    let ran = run(&sandbox, &["ask", "print right", "--check", "match: ^right$", "--best-of", "3", "--format", "json"]);
    let report = report(&ran);
    assert_eq!((ran.code, &report["script"]), (Some(0), &json!("print('right') # short\n")), "{ran:?}");
    assert_eq!(report["generation"]["accepted"], 3);
}

#[test]
fn nothing_is_written_before_a_script_is_accepted() {
    let sandbox = sandbox();
    let fake = Fake::replies([
        script("open('/data/a.txt', 'w').write('half')\nraise SystemExit(3)"),
        script("open('/data/b.txt', 'w').write('whole')"),
    ]);
    add(&sandbox, "local", &fake);
    let data = sandbox.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let ran = run(&sandbox, &["ask", "write a file", "--write", "data"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!data.join("a.txt").exists(), "the rejected script left a file");
    assert_eq!(std::fs::read_to_string(data.join("b.txt")).unwrap(), "whole");
}

#[test]
fn what_is_below_an_overlay_is_changed_only_by_apply() {
    let sandbox = sandbox();
    let code =
        script("open('/out/r.txt', 'w').write('r')\nopen('/src/a', 'w').write('new')\nopen('/data/b', 'w').write('b')");
    let fake = Fake::always(code);
    add(&sandbox, "local", &fake);
    for name in ["src", "data"] {
        std::fs::create_dir(sandbox.dir.path().join(name)).unwrap();
    }
    let a = sandbox.file("src/a", "old");
    let words = ["ask", "change it", "--overlay", "src", "--write", "data", "--out", "results"];
    let ran = run(&sandbox, &words);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&a).unwrap(), "old");
    assert!(ran.stderr.contains("--apply"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(sandbox.dir.path().join("data/b")).unwrap(), "b");
    assert_eq!(std::fs::read_to_string(sandbox.dir.path().join("results/r.txt")).unwrap(), "r");
    let applied: Vec<&str> = words.iter().copied().chain(["--apply"]).collect();
    assert_eq!(run(&sandbox, &applied).code, Some(0));
    assert_eq!(std::fs::read_to_string(&a).unwrap(), "new");
}

#[test]
fn standard_input_is_the_same_for_every_candidate() {
    let sandbox = sandbox();
    let fake = Fake::replies([script("print(input()[100])"), script("import sys\nprint(len(sys.stdin.read()))")]);
    add(&sandbox, "local", &fake);
    let mut command = sandbox.command();
    command.env("TEST_KEY", KEY).args(["ask", "how long is the input"]).stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hello").unwrap();
    let ran = capibara_tests::finish(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "5\n"), "{ran:?}");
}

#[test]
fn explain_shows_the_prompt_and_sends_nothing() {
    let (sandbox, fake) = (sandbox(), Fake::replies([script("print(1)")]));
    add(&sandbox, "local", &fake);
    let _ = sandbox.file("sales.csv", "region,n\nnorth,3\n");
    let words = ["ask", "sum it", "--read", "sales.csv", "--show", "sales.csv:8B", "--check", "match: 3", "--explain"];
    let ran = run(&sandbox, &words);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in ["sum it", "/sales.csv", "region,n", "statistics", "fenced"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("north"), "{}", ran.stdout);
    assert_eq!((fake.requests().len(), fake.connections()), (0, 0));
}

#[test]
fn exit_codes_say_what_came_of_it() {
    // (what the model answers, each time; further words; exit code; a part of standard error)
    let rows: &[(&str, &[&str], i32, &str)] = &[
        ("raise SystemExit(7)", &[], 7, "no script was accepted after 1 attempt"),
        ("raise SystemExit(7)", &["--check", "exit: 7"], 7, "accepted"),
        ("print(1)", &["--check", "match: 2"], 1, "match"),
        ("while True: pass", &["--fuel", "50M"], 124, "fuel"),
        ("import ctypes", &[], 126, "denied"),
    ];
    for (code, more, exit, part) in rows {
        let (sandbox, fake) = (sandbox(), Fake::always(script(code)));
        add(&sandbox, "local", &fake);
        let words: Vec<&str> = ["ask", "do it", "--max-attempts", "1"].iter().chain(*more).copied().collect();
        let ran = run(&sandbox, &words);
        assert_eq!(ran.code, Some(*exit), "{code}: {ran:?}");
        assert!(ran.stderr.contains(part), "{code}: {part}: {ran:?}");
    }
    let (sandbox, fake) = (sandbox(), Fake::always(says("I would rather not.")));
    add(&sandbox, "local", &fake);
    let ran = run(&sandbox, &["ask", "do it", "--format", "json"]);
    assert_eq!((ran.code, &report(&ran)["error"]["code"]), (Some(125), &json!("no-script")), "{ran:?}");
    assert_eq!(fake.requests().len(), 3);
}

#[test]
fn a_failure_of_a_model_is_told_by_its_kind() {
    let error =
        |code: &str| format!(r#"{{"error":{{"message":"no: {KEY}","type":"invalid_request_error","code":"{code}"}}}}"#);
    let refusal = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":"I cannot."}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        "\n\ndata: [DONE]\n\n"
    );
    let rows = [
        (Response::json(401, &error("invalid_api_key")), "model-auth", 1),
        (Response::json(404, &error("model_not_found")), "model-unknown", 1),
        (Response::json(400, &error("bad")), "model-bad-request", 1),
        (Response::json(429, &error("insufficient_quota")), "model-quota", 1),
        (Response::json(413, &error("large")), "model-too-large", 1),
        (Response::sse([refusal]), "model-refused", 1),
    ];
    for (response, code, requests) in rows {
        let (sandbox, fake) = (sandbox(), Fake::always(response));
        add(&sandbox, "local", &fake);
        let ran = run(&sandbox, &["ask", "do it", "--format", "json"]);
        let report = report(&ran);
        assert_eq!((ran.code, &report["error"]["code"]), (Some(125), &json!(code)), "{ran:?}");
        assert_eq!((report["status"].as_str(), fake.requests().len()), (Some("error"), requests), "{code}");
        assert!(!ran.stdout.contains(KEY) && !ran.stderr.contains(KEY), "{ran:?}");
    }
}

#[test]
fn bad_input_gets_a_clear_message() {
    let sandbox = sandbox();
    let _ = sandbox.file("secret.txt", "x");
    let add = |kind: &'static str, url: &'static str, no_key: bool| {
        let words = ["model", "add", "x", "--kind", kind, "--base-url", url, "--model", "m"];
        words.into_iter().chain(no_key.then_some("--no-key")).collect::<Vec<_>>()
    };
    let rows: &[(&[&str], &[&str])] = &[
        (&["ask", "do it"], &["no profile of a model is configured", "capibara model add"]),
        (&["ask", "do it", "--profile", "groqq/x"], &["groqq", "did you mean `groq`"]),
        (&["ask", "do it", "--profile", "groq/llama"], &["GROQ_API_KEY"]),
        (&["ask", "do it", "--profile", "groq"], &["groq/"]),
        (&["ask", "  ", "--profile", "llama-cpp"], &["empty"]),
        (&["ask", "do it", "--profile", "llama-cpp", "--show", "secret.txt"], &["secret.txt", "--read secret.txt"]),
        (&["ask", "do it", "--profile", "llama-cpp", "--check", "2 3"], &["=>"]),
        (&["ask", "do it", "--profile", "llama-cpp", "--check", "match: ("], &["match: ("]),
        (&["ask", "do it", "--profile", "llama-cpp", "--template", "reprot"], &["report"]),
        (&["ask", "do it", "--profile", "llama-cpp", "--max-cost", "0.01"], &["price"]),
        (&["ask"], &["PROMPT"]),
        (&["model", "check", "nope"], &["nope"]),
        (&add("telepathy", "http://127.0.0.1:1/v1", true), &["telepathy"]),
        (&add("openai-chat", "http://example.org/v1", true), &["https"]),
        (&add("openai-chat", "http://127.0.0.1:1/v1", false), &["--key-env"]),
    ];
    for (words, parts) in rows {
        let ran = sandbox.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{words:?}: {ran:?}");
        for part in *parts {
            assert!(ran.stderr.contains(part), "{words:?}: {part}: {}", ran.stderr);
        }
    }
}

#[test]
fn the_next_provider_answers_when_one_is_down() {
    let sandbox = sandbox();
    let (down, full) =
        (capibara_fake::Dead::refusing(), Fake::always(Response::json(429, "{}").header("retry-after", "3600")));
    let good = Fake::replies([script("print('third')")]);
    let url = down.url();
    let ran = sandbox.run(&[
        "model",
        "add",
        "down",
        "--kind",
        "openai-chat",
        "--base-url",
        &format!("{url}/v1"),
        "--model",
        "m",
        "--no-key",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    add(&sandbox, "full", &full);
    add(&sandbox, "good", &good);
    let ran = run(&sandbox, &["ask", "print third", "--profile", "down,full,good", "--format", "json"]);
    let report = report(&ran);
    assert_eq!((ran.code, &report["run"]["stdout"]), (Some(0), &json!("third\n")), "{ran:?}");
    let attempts = report["generation"]["calls"][0]["attempts"].as_array().expect("attempts");
    let ends: Vec<&str> = attempts.iter().filter_map(|it| it["end"].as_str()).collect();
    assert_eq!((ends.first(), ends.last()), (Some(&"connect"), Some(&"complete")), "{ends:?}");
    assert!(ends.contains(&"rate"), "{ends:?}");
    assert_eq!(full.requests().len(), 1);
}

#[test]
fn a_recorded_flow_plays_again_without_network_or_key() {
    let sandbox = sandbox();
    let fake = Fake::replies([script("print(x)"), script("print(y)"), script("print('tape')")]);
    add(&sandbox, "local", &fake);
    let ran = run(
        &sandbox,
        &[
            "ask",
            "print tape",
            "--record",
            "tape",
            "--seed",
            "1",
            "--epoch",
            "2026-01-01T00:00:00Z",
            "--format",
            "json",
        ],
    );
    let first = report(&ran);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    drop(fake);
    let strip = |mut report: Value| {
        for call in report["generation"]["calls"].as_array_mut().expect("calls") {
            for attempt in call["attempts"].as_array_mut().expect("attempts") {
                for time in ["took_ms", "waited_ms"] {
                    attempt[time] = Value::Null;
                }
            }
        }
        report["run"]["usage"]["wall_ms"] = Value::Null;
        report
    };
    for _ in 0..20 {
        let ran = sandbox.run(&[
            "ask",
            "print tape",
            "--replay",
            "tape",
            "--seed",
            "1",
            "--epoch",
            "2026-01-01T00:00:00Z",
            "--format",
            "json",
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(strip(report(&ran)), strip(first.clone()));
    }
    let ran = sandbox.run(&["ask", "print another tape", "--replay", "tape"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert_eq!(files_with(sandbox.dir.path(), KEY), Vec::<String>::new());
}

/// Files below a folder that hold a text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|it| it == text.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_deadline_and_a_signal_end_everything() {
    let (sandbox, fake) = (sandbox(), Fake::always(Reply::hang()));
    add(&sandbox, "local", &fake);
    let ran = run(&sandbox, &["ask", "do it", "--deadline", "300ms", "--format", "json"]);
    let report = report(&ran);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(["deadline", "budget"].contains(&report["error"]["code"].as_str().unwrap_or_default()), "{report}");
    // A script that runs too long for it is stopped too.
    let slow = Fake::always(script("import itertools\nprint(max(itertools.count()))"));
    add(&sandbox, "slow", &slow);
    let ran = run(&sandbox, &["ask", "do it", "--profile", "slow", "--deadline", "1s"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("deadline"), "{ran:?}");

    let records = || {
        let folder = sandbox.dir.path().join(".local/state/capibara/generations");
        std::fs::read_dir(folder).map_or(0, |entries| entries.count())
    };
    let kept = records();
    let mut child = sandbox
        .command()
        .env("TEST_KEY", KEY)
        .args(["ask", "do it", "--profile", "local"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let before = fake.requests().len();
    assert!(fake.wait(Duration::from_secs(20), |requests| requests.len() > before || requests.len() >= 2));
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY-free: the process is our child and was not waited for.
    assert!(std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(records(), kept + 1, "what was asked until then is on record");
    assert!(fake.wait(Duration::from_secs(5), |requests| requests.iter().all(|request| request.gone().is_some())));
}

#[test]
fn models_are_listed_added_and_checked() {
    let (sandbox, fake) = (sandbox(), Fake::always(says("ok")));
    add(&sandbox, "local", &fake);
    let list = sandbox.run(&["model", "list"]);
    assert_eq!(list.code, Some(0));
    assert!(list.stdout.starts_with("local") && list.stdout.contains("groq"), "{}", list.stdout);
    let listed: Value = serde_json::from_str(&sandbox.run(&["model", "list", "--format", "json"]).stdout).unwrap();
    assert_eq!(listed["profiles"][0]["name"], "local");
    assert_eq!(listed["profiles"][0]["key_ready"], false);
    let ran = run(&sandbox, &["model", "check", "local"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("local (tiny-1) answers after"), "{ran:?}");
    // What is not there is told as that.
    let url = format!("{}/v1", capibara_fake::Dead::refusing().url());
    let words = ["model", "add", "down", "--kind", "openai-chat", "--base-url", &url, "--model", "m", "--no-key"];
    assert_eq!(sandbox.run(&words).code, Some(0));
    assert_eq!(report(&run(&sandbox, &["model", "check", "down", "--format", "json"]))["kind"], "connect");
    let broken = Fake::always(Response::json(401, r#"{"error":{"message":"bad key"}}"#));
    add(&sandbox, "broken", &broken);
    let ran = run(&sandbox, &["model", "check", "broken", "--format", "json"]);
    assert_eq!((ran.code, &report(&ran)["kind"]), (Some(1), &json!("auth")), "{ran:?}");
    // Two profiles of the user's own: one has to be chosen.
    let ran = run(&sandbox, &["ask", "do it"]);
    assert!(ran.stderr.contains("there are several profiles: local, down, broken"), "{ran:?}");
    let ran = sandbox.run(&["model", "add", "local", "--like", "groq", "--model", "m"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
}

/// Where a profile has its key from.
struct KeySource {
    name: &'static str,
    /// Lines of the profile; `FOLDER` is one that the command does not write to, with the file `key`.
    lines: &'static str,
    /// The header that brings the key to its provider.
    header: &'static str,
}

const KEY_SOURCES: [KeySource; 5] = [
    KeySource { name: "a variable", lines: "key: {env: TEST_KEY}", header: "authorization" },
    KeySource { name: "a file", lines: "key: {file: 'FOLDER/key'}", header: "authorization" },
    KeySource { name: "a command", lines: "key: {command: [cat, 'FOLDER/key']}", header: "authorization" },
    KeySource {
        name: "a variable, in a header of its own",
        lines: "key: {env: TEST_KEY}, key_header: x-own",
        header: "x-own",
    },
    KeySource {
        name: "a header of the profile",
        lines: "key: none, headers: {x-gateway-token: 'Token KEY'}",
        header: "x-gateway-token",
    },
];

/// A key in every way it may be written, in small letters.
fn written_forms(key: &str) -> Vec<String> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    let percent = |kept: fn(u8) -> bool| -> String {
        key.bytes().map(|it| if kept(it) { char::from(it).to_string() } else { format!("%{it:02x}") }).collect()
    };
    let mut forms = vec![
        key.to_owned(),
        hex::encode(key),
        percent(|_| false),
        percent(|it| it.is_ascii_alphanumeric()),
        percent(|it| it.is_ascii_alphanumeric() || b"-._~".contains(&it)),
        key.replace('/', "\\/"),
    ];
    // Base64 inside other text: one of three offsets, without the letters that the key shares with its neighbours.
    for before in 0..3_usize {
        let bytes = [vec![0; before], key.as_bytes().to_vec()].concat();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&bytes)[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned());
        }
    }
    forms.iter_mut().for_each(|it| it.make_ascii_lowercase());
    forms
}

/// A text, and again what its words in quotes mean as base64, in small letters.
fn unpacked(text: &[u8]) -> String {
    use base64::Engine;

    let text = String::from_utf8_lossy(text);
    let decode = |word: &str| base64::engine::general_purpose::STANDARD.decode(word).ok();
    let packed: Vec<u8> = text.split('"').filter_map(decode).flatten().collect();
    (text.to_string() + &String::from_utf8_lossy(&packed)).to_ascii_lowercase()
}

/// Every file below a folder with its name, but for the file of profiles, which the user wrote.
fn files_below(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&path));
        } else if entry.file_name() != "models.yaml" {
            let bytes = [path.as_os_str().as_encoded_bytes(), b"\n", &std::fs::read(&path).unwrap()].concat();
            files.push((path.display().to_string(), bytes));
        }
    }
    files
}

/// Looks for the key in all that a command left.
fn assert_no_key(name: &str, sandbox: &Sandbox, ran: &Ran) {
    let mut places = files_below(sandbox.dir.path());
    places.push(("standard output".into(), ran.stdout.clone().into_bytes()));
    places.push(("standard error".into(), ran.stderr.clone().into_bytes()));
    let forms = written_forms(KEY);
    for (place, bytes) in places {
        let seen = unpacked(&bytes);
        for form in &forms {
            assert!(!seen.contains(form.as_str()), "{name}: {form} in {place}: {seen}");
        }
    }
}

/// Runs the command with all that may make it say more, and the key where the source has it.
fn run_keyed(sandbox: &Sandbox, source: &KeySource, words: &[&str]) -> Ran {
    let mut command = sandbox.command();
    if source.lines.contains("TEST_KEY") {
        command.env("TEST_KEY", KEY);
    }
    let home = sandbox.dir.path().join("home");
    command.env("CAPIBARA_HOME", home).env("CAPIBARA_STATS", "true").env("CAPIBARA_PROGRESS", "true");
    for (variable, value) in [("RUST_LOG", "trace"), ("CAPIBARA_LOG", "trace"), ("RUST_BACKTRACE", "full")] {
        command.env(variable, value);
    }
    capibara_tests::finish(command.args(words).output().expect("the command starts"))
}

/// A private folder whose file of profiles has one, `m`, with these lines.
fn sandbox_with(url: &str, lines: &str) -> Sandbox {
    let sandbox = sandbox();
    std::fs::create_dir(sandbox.dir.path().join("home")).unwrap();
    let text = format!("m: {{kind: openai-chat, base_url: '{url}', model: tiny, {lines}}}\n");
    let _ = sandbox.file("home/models.yaml", text);
    sandbox
}

#[test]
fn a_key_of_any_source_is_seen_by_its_provider_only() {
    use std::os::unix::fs::PermissionsExt;

    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    // It shows what a script sees, and looks where a key could be.
    let probe = "import os, sys\nprint('environment', dict(os.environ), sys.argv, sorted(os.listdir('/')))\n\
                 for folder, _, names in os.walk('/data'):\n    for name in names:\n        print(open(os.path.join(folder, name)).read())\n\
                 for path in ('/proc/self/environ', '/home/models.yaml', 'FILE'):\n    try:\n        print(open(path).read())\n    except OSError as error:\n        print(error.errno)";
    let probe = probe.replace("FILE", &file.to_string_lossy());
    let echo = {
        let forms = written_forms(KEY);
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEY);
        let said = format!("Incorrect API key provided: {KEY} ({base64}, {})", forms[..5].join(", "));
        let body = json!({"error": {"message": said, "code": "invalid_api_key"}, "request_id": KEY});
        Response::json(401, &body.to_string()).header("x-request-id", KEY).header("x-echo", KEY)
    };
    for source in KEY_SOURCES {
        let lines =
            source.lines.replace("FOLDER", &outside.path().to_string_lossy()).replace("KEY'", &format!("{KEY}'"));
        let lines = lines.as_str();
        let ask = |url: &str, tape: &str| {
            let sandbox = sandbox_with(&format!("{url}/v1"), lines);
            std::fs::create_dir(sandbox.dir.path().join("data")).unwrap();
            let _ = sandbox.file("data/a.txt", "plain");
            let words = ["ask", "show what you see", "--read", "data", "--record", tape, "--format", "json"];
            let ran = run_keyed(&sandbox, &source, &words);
            (sandbox, ran)
        };
        let sent_once = |fake: &Fake| {
            let requests = fake.requests();
            let [request] = &requests[..] else { panic!("{}: {} requests", source.name, requests.len()) };
            assert!(request.header(source.header).is_some_and(|it| it.contains(KEY)), "{}", source.name);
            assert_eq!(request.text().matches(KEY).count(), 1, "{}: {}", source.name, request.text());
        };

        // A script that was asked for and looks around.
        let fake = Fake::replies([script(&probe)]);
        let (sandbox, ran) = ask(&fake.url(), "tape");
        assert_eq!(ran.code, Some(0), "{}: {ran:?}", source.name);
        let shown = report(&ran)["run"]["stdout"].as_str().unwrap_or_default().to_owned();
        assert!(shown.contains("environment {") && shown.contains("'data'") && shown.contains("plain"), "{shown}");
        sent_once(&fake);
        assert_no_key(source.name, &sandbox, &ran);
        let files: Vec<_> = files_below(sandbox.dir.path()).into_iter().map(|it| it.0).collect();
        for kept in ["/tape/m-0001.json", "/home/generations/", "/home/scripts/", "/home/audit/"] {
            assert!(files.iter().any(|it| it.contains(kept)), "{}: {kept}: {files:?}", source.name);
        }
        // What is kept is played, found and listed again.
        for words in [
            &["ask", "show what you see", "--read", "data", "--replay", "tape", "--format", "json"][..],
            &["ask", "show what you see", "--read", "data", "--offline"],
            &["audit", "list", "--format", "json"],
            &["model", "list", "--format", "json"],
            &["model", "list"],
            &["ask", "show what you see", "--explain"],
        ] {
            let ran = run_keyed(&sandbox, &source, words);
            assert_eq!(ran.code, Some(0), "{} {words:?}: {ran:?}", source.name);
            assert_no_key(source.name, &sandbox, &ran);
        }
        sent_once(&fake);

        // A provider that says it again.
        let fake = Fake::always(echo.clone());
        let (sandbox, ran) = ask(&fake.url(), "tape");
        assert_eq!((ran.code, &report(&ran)["error"]["code"]), (Some(125), &json!("model-auth")), "{ran:?}");
        sent_once(&fake);
        assert_no_key(source.name, &sandbox, &ran);
        let ran = run_keyed(&sandbox, &source, &["model", "check", "m"]);
        assert!(ran.code != Some(0) && ran.stderr.len() + ran.stdout.len() > 0, "{ran:?}");
        assert_no_key(source.name, &sandbox, &ran);

        // A provider that points to another host.
        let other = Fake::always(script("print(1)"));
        let elsewhere = format!("{}/v1/{KEY}?key={KEY}", other.url().replace("127.0.0.1", "localhost"));
        let fake = Fake::always(Response::new(307).header("location", &elsewhere).packets([KEY]));
        let (sandbox, ran) = ask(&fake.url(), "tape");
        assert_eq!(ran.code, Some(125), "{ran:?}");
        sent_once(&fake);
        assert_eq!(other.connections(), 0, "{}", source.name);
        assert_no_key(source.name, &sandbox, &ran);
    }
}

#[test]
fn a_key_in_the_wrong_place_is_refused_and_not_repeated() {
    let fake = Fake::always(script("print(1)"));
    let url = format!("{}/v1", fake.url());
    let with = |user: &str| url.replace("http://", &format!("http://{user}"));
    let source = KeySource { name: "none", lines: "", header: "" };
    for (url, lines) in [
        (format!("{url}?key={KEY}"), "key: none".to_owned()),
        (format!("{url}#{KEY}"), "key: none".to_owned()),
        (with(&format!("user:{KEY}@")), "key: none".to_owned()),
        (with(&format!("{KEY}@")), "key: none".to_owned()),
        (url.clone(), format!("key: {KEY}")),
        (url.clone(), format!("key: '{KEY}'")),
        (url.clone(), format!("key: {{env: {KEY}}}")),
        (url.clone(), format!("key: {{file: {KEY}}}")),
        (url.clone(), format!("key: {{token: {KEY}}}")),
        (url.clone(), format!("key: {{command: {KEY}}}")),
        (url.clone(), format!("key: [{KEY}]")),
        (url.clone(), format!("key: none, headers: {{Authorization: 'Bearer {KEY}'}}")),
        (url.clone(), format!("key: none, headers: {{X-Api-Key: {KEY}}}")),
        (url.clone(), format!("key: none, headers: {{x-goog-api-key: {KEY}}}")),
        (url.clone(), format!("key: {{env: TEST_KEY}}, key_header: x-own, headers: {{x-own: {KEY}}}")),
        (url.clone(), format!("key: none, headers: {KEY}")),
        (url.clone(), format!("key: none, api_key: {KEY}")),
    ] {
        let place = format!("{url} {lines}").replace(KEY, "KEY");
        let sandbox = sandbox_with(&url, &lines);
        for words in [&["ask", "do it"][..], &["ask", "do it", "--format", "json"], &["model", "list"]] {
            let ran = run_keyed(&sandbox, &source, words);
            assert_eq!(ran.code, Some(125), "{place}: {ran:?}");
            assert!(!ran.stderr.is_empty() || !ran.stdout.is_empty(), "{place}");
            assert_no_key(&place, &sandbox, &ran);
        }
    }
    assert_eq!(fake.connections(), 0);
}
