//! `capibara run --tool NAME=PROGRAM`: programs of the user's that answer by lines of JSON.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use capibara_tests::{Ran, Sandbox, engine, finish, repository};
use serde_json::Value;

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

/// A program that notes that it was started, by its number, in the file NAME.id.
fn program(sandbox: &Sandbox, name: &str, text: &str) {
    let note = "import json, os, sys, time\nwith open(__file__ + '.id', 'w') as note: note.write(str(os.getpid()))\n";
    write(sandbox, name, &format!("#!/usr/bin/env python3\n{note}{text}"));
}

fn write(sandbox: &Sandbox, name: &str, text: &str) {
    let path = sandbox.file(name, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn id_of(sandbox: &Sandbox, name: &str) -> Option<u32> {
    fs::read_to_string(sandbox.dir.path().join(format!("{name}.id"))).ok()?.parse().ok()
}

/// Whether a process is there.
fn is_there(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

const ADD: &str = "for line in sys.stdin:
    call = json.loads(line)
    answer = {'id': call['id']}
    try:
        answer['result'] = call['args']['a'] + call['args']['b']
    except Exception as error:
        answer['error'] = f'{type(error).__name__}: {error}'
    print(json.dumps(answer), flush=True)
";

/// Each call has this answer; `ID` is its number.
fn answers(line: &str) -> String {
    format!("for line in sys.stdin:\n    print(r'''{line}'''.replace('ID', str(json.loads(line)['id'])), flush=True)\n")
}

/// Runs code with `tools` imported, the tools being programs of their own name.
fn run(sandbox: &Sandbox, words: &[&str], tools: &[&str], code: &str) -> Ran {
    let tools: Vec<String> = tools.iter().map(|name| format!("--tool={name}=./{name}")).collect();
    let code = format!("import asyncio\nfrom capibara import tools, ToolError\n{code}");
    let tools = tools.iter().map(String::as_str);
    sandbox.run(&["run"].into_iter().chain(words.iter().copied()).chain(tools).chain(["-c", &code]).collect::<Vec<_>>())
}

const TELL: &str = "def tell(call):
    try: print(repr(call()))
    except BaseException as error: print(type(error).__name__, error, getattr(error, 'kind', ''))
";

#[test]
fn a_program_answers_and_fails_in_its_own_words() {
    let sandbox = sandbox();
    program(&sandbox, "add", ADD);
    program(&sandbox, "nothing", &answers(r#"{"id":ID,"result":null}"#));
    let code = format!(
        "{TELL}tell(lambda: tools.add(a=1, b=2))
tell(lambda: tools.add(a='naïve ', b='猫\\n'))
tell(lambda: tools.add(a=[1], b=[{{'x': None}}]))
tell(lambda: tools.add(a=1))
tell(lambda: tools.add(a=1, b='x'))
tell(lambda: tools.nothing())
tell(lambda: tools.add(1, 2))
tell(lambda: tools.other())
print(dir(tools), tools.add.__doc__)
import inspect
print(inspect.signature(tools.add))"
    );
    let ran = run(&sandbox, &[], &["add", "nothing"], &code);
    let wanted = "3
'naïve 猫\\n'
[1, {'x': None}]
ToolError KeyError: 'b' failed
ToolError TypeError: unsupported operand type(s) for +: 'int' and 'str' failed
None
ToolArgumentError add() takes keyword arguments only arguments
";
    assert!(ran.code == Some(0) && ran.stdout.starts_with(wanted), "{ran:?}");
    let rest = &ran.stdout[wanted.len()..];
    assert!(rest.starts_with("AttributeError ") && rest.contains("['add', 'nothing'"), "{rest}");
    assert!(rest.contains("Calls the program add."), "{rest}");
    assert!(rest.ends_with("(**arguments)\n"), "{rest}");
    let said = "capibara: tool add: 2 of 5 calls failed; the last: TypeError: unsupported operand type(s) for +: 'int' and 'str'\n";
    assert_eq!(ran.stderr, said);
}

#[test]
fn json_and_events_tell_of_calls() {
    let sandbox = sandbox();
    program(&sandbox, "add", ADD);
    let code = "print(tools.add(a=1, b=2))\ntry: tools.add(a=1)\nexcept ToolError: print('failed')";
    let ran = run(&sandbox, &["--format", "json"], &["add"], code);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let used = serde_json::json!([{"name": "add", "calls": 2, "failed": 1, "last_error": "KeyError: 'b'"}]);
    assert_eq!((&json["tools"], &json["determined"], ran.code), (&used, &false.into(), Some(0)), "{json:#}");

    let schema = fs::read_to_string(repository().join("schema/events.v1.json")).unwrap();
    let schema = jsonschema::draft202012::new(&serde_json::from_str(&schema).unwrap()).unwrap();
    let ran = run(&sandbox, &["--events", "-"], &["add"], code);
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut told = Vec::new();
    let mut call = Value::Null;
    for line in &lines {
        assert!(schema.is_valid(line), "{line}");
        told.push(match line["event"].as_str().unwrap() {
            "tool_call" => {
                call = line["call"].clone();
                format!("call {} {}", line["tool"], line["argument_bytes"])
            }
            "tool_answer" => {
                assert_eq!(line["call"], call, "{line}");
                format!("answer {} {} {}", line["tool"], line["result_bytes"], line["error"])
            }
            "output" => format!("output {}", line["text"]),
            other => other.to_owned(),
        });
    }
    told.retain(|event| event != "usage");
    let wanted = [
        "started",
        "call \"add\" 16",
        "answer \"add\" 1 null",
        "output \"3\\n\"",
        "call \"add\" 8",
        "answer \"add\" null \"failed\"",
        "output \"failed\\n\"",
        "ended",
    ];
    assert_eq!(told, wanted);
    assert_eq!(lines.last().unwrap()["outcome"]["tools"], used);

    // What would be granted, and nothing is started.
    fs::remove_file(sandbox.dir.path().join("add.id")).unwrap();
    let ran = run(&sandbox, &["--dry-run", "--format", "json"], &["add"], code);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &json["tools"]), (Some(0), &serde_json::json!(["add"])), "{json:#}");
    let text = run(&sandbox, &["--dry-run"], &["add"], code);
    assert!(text.stdout.contains("tool add"), "{text:?}");
    assert_eq!(id_of(&sandbox, "add"), None);
}

#[test]
fn what_is_refused_starts_nothing() {
    let sandbox = sandbox();
    program(&sandbox, "add", ADD);
    let _ = sandbox.file("closed.yaml", "extends: moderate\noverridable: [read]\n");
    for policy in ["strict", "./closed.yaml"] {
        let ran = run(&sandbox, &["--policy", policy], &["add"], "print(1)");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
        assert!(ran.stderr.contains("`--tool`"), "{ran:?}");
    }
    let ran = run(&sandbox, &[], &["add"], "import os\nos.system('id')");
    assert_eq!(ran.code, Some(126), "{ran:?}");
    let ran = run(&sandbox, &["--out", "none/deep"], &["add"], "print(1)");
    assert_eq!(ran.code, Some(125), "{ran:?}");
    let ran = sandbox.run(&["run", "--tool", "add=./add", "none.py"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert_eq!(id_of(&sandbox, "add"), None);
}

#[test]
fn a_program_that_cannot_be_started_is_a_failure_of_ours() {
    let sandbox = sandbox();
    let _ = sandbox.file("plain", "text");
    for (tool, parts) in [
        (
            "t=./none",
            &["failed to start `./none` for the tool t", "No such file", "PROGRAM is a file that can be executed"][..],
        ),
        ("t=capibara-none", &["failed to start `capibara-none` for the tool t", "a command of PATH"]),
        ("t=./plain", &["failed to start `./plain` for the tool t", "Permission denied"]),
        ("t=.", &["failed to start `.` for the tool t"]),
        ("t", &["`t` is not a tool: write NAME=PROGRAM"]),
        ("a-b=cat", &["`a-b` cannot be the name of a tool"]),
        ("aio=cat", &["`aio` cannot be the name of a tool"]),
    ] {
        for format in ["text", "json"] {
            let ran = sandbox.run(&["run", "--format", format, "--tool", tool, "-c", "print(1)"]);
            assert_eq!(ran.code, Some(125), "{tool}: {ran:?}");
            assert!(parts.iter().all(|part| ran.stderr.contains(part)), "{tool}: {ran:?}");
            assert!(!ran.stdout.contains("1\n") || format == "json", "{tool}: {ran:?}");
        }
    }
    let ran = sandbox.run(&["run", "--tool", "t=cat", "--tool", "t=cat", "-c", "print(1)"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("two tools called `t`"), "{ran:?}");
    // The audit log says what kind of failure it was.
    let _ = sandbox.run(&["run", "--tool", "t=./none", "-c", "print(1)"]);
    let listed = sandbox.run(&["audit", "list", "--format", "json"]);
    assert!(listed.stdout.contains("tool-not-started"), "{listed:?}");
}

/// What the script is told of a program that misbehaves, and what the user is.
#[test]
fn a_program_that_misbehaves_fails_its_calls_and_nothing_else() {
    let sandbox = sandbox();
    let rows = [
        ("ends", "sys.exit(3)\n".to_owned(), "its program ended"),
        ("late", "json.loads(sys.stdin.readline())\nsys.exit(3)\n".to_owned(), "its program ended"),
        ("garbage", answers("secret garbage"), "its program answered with a line that is no answer: expected value"),
        ("half", answers(r#"{"id":ID"#), "its program answered with a line that is no answer: EOF while parsing"),
        ("neither", answers(r#"{"id":ID,"value":1}"#), "the answer of its program has neither `result` nor `error`"),
        ("object", answers(r#"{"id":ID,"error":{"secret":1}}"#), "its program answered with a line that is no answer: invalid type: map"),
        ("latin", "sys.stdin.readline()\nos.write(1, b'{\"id\":1,\"error\":\"\\xe9\"}\\n'); time.sleep(60)\n".to_owned(), "its program answered with a line that is no answer: "),
        ("flood", "while True: os.write(1, b'x' * 65536)\n".to_owned(), "its program answered with a line of more than 33554432 bytes"),
        ("large", "call = json.loads(sys.stdin.readline()); print(json.dumps({'id': call['id'], 'result': 'x' * (17 << 20)}), flush=True)\ntime.sleep(60)\n".to_owned(), "its result is larger than 16777216 bytes"),
    ];
    for (name, text, why) in rows {
        program(&sandbox, name, &text);
        // The script goes on, and calls of others work.
        program(&sandbox, "add", ADD);
        let code = format!("{TELL}tell(lambda: tools.{name}())\ntell(lambda: tools.add(a=40, b=2))");
        let started = Instant::now();
        let ran = run(&sandbox, &[], &[name, "add"], &code);
        assert!(started.elapsed() < Duration::from_secs(20), "{name}: {:?}", started.elapsed());
        assert!(ran.code == Some(0) && ran.stdout.ends_with("\n42\n"), "{name}: {ran:?}");
        assert!(ran.stderr.contains(&format!("tool {name}: 1 of 1 calls failed; the last: {why}")), "{name}: {ran:?}");
        // Only what the program says to the script, or what is about the size, is for the script.
        let first = ran.stdout.lines().next().unwrap();
        let told = if name == "large" { why } else { &format!("{name} failed failed") };
        assert!(first.starts_with("ToolError") && first.contains(told), "{name}: {ran:?}");
        assert!(!ran.stdout.contains("secret") && !ran.stdout.contains("its program"), "{name}: {ran:?}");
        for program in [name, "add"] {
            let id = id_of(&sandbox, program).unwrap();
            assert!(!is_there(id), "{name}: {program} is still there");
        }
    }
    // An answer to nothing changes nothing, and neither do empty lines.
    let text = "for line in sys.stdin:\n    call = json.loads(line)\n    print('{\"id\":77,\"result\":1}\\n\\n \\n' + json.dumps({'id': call['id'], 'result': 'mine'}), flush=True)\n";
    program(&sandbox, "unknown", text);
    let ran = run(&sandbox, &[], &["unknown"], "print(tools.unknown(), tools.unknown())");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "mine mine\n", ""));
    // What it prints to standard error is seen.
    program(&sandbox, "loud", &format!("print('from the program', file=sys.stderr, flush=True)\n{ADD}"));
    let ran = run(&sandbox, &[], &["loud"], "print(tools.loud(a=1, b=1))");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("2\n", "from the program\n"));
}

#[test]
fn a_call_has_thirty_seconds() {
    let sandbox = sandbox();
    program(&sandbox, "never", "for line in sys.stdin: pass\n");
    // It reads nothing, so that more calls than a pipe holds wait for it.
    program(&sandbox, "deaf", "time.sleep(100)\n");
    let code = "async def main():
    calls = [tools.aio.never(n=1)] + [tools.aio.deaf(text='x' * 100_000) for _ in range(3)]
    for one in await asyncio.gather(*calls, return_exceptions=True): print(type(one).__name__, one.kind)
asyncio.run(main())";
    let started = Instant::now();
    let ran = run(&sandbox, &["--timeout", "60s"], &["never", "deaf"], code);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "ToolTimeout timeout\n".repeat(4).as_str()), "{ran:?}");
    let took = started.elapsed().as_secs();
    assert!((30..45).contains(&took), "{took}");
    assert!(!is_there(id_of(&sandbox, "never").unwrap()) && !is_there(id_of(&sandbox, "deaf").unwrap()));
}

#[test]
fn calls_are_many_and_answered_in_any_order() {
    let sandbox = sandbox();
    program(&sandbox, "add", ADD);
    let started = Instant::now();
    let ran = run(&sandbox, &[], &["add"], "print(sum(tools.add(a=n, b=1) for n in range(1000)))");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "500500\n"), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // It answers when it has ten calls, the last one first.
    let text = "calls = [json.loads(sys.stdin.readline()) for _ in range(10)]
for call in reversed(calls):
    print(json.dumps({'id': call['id'], 'result': call['args']['n'] ** 2}), flush=True)
    time.sleep(0.1)
sys.stdin.read()
";
    program(&sandbox, "square", text);
    let code = "order = []
async def one(n):
    result = await tools.aio.square(n=n)
    order.append(n)
    return result
async def main(): print(await asyncio.gather(*(one(n) for n in range(10))))
asyncio.run(main())
print(order)";
    let ran = run(&sandbox, &[], &["square"], code);
    let wanted = "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), wanted, ""));
}

#[test]
fn nothing_is_left_behind_however_the_run_ends() {
    let sandbox = sandbox();
    // It starts a child, and neither of them ends by itself.
    let stubborn = "import signal, subprocess
signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(['sleep', '300'])
with open('child.id', 'w') as note: note.write(str(child.pid))
with open('there', 'w'): pass
while True: time.sleep(100)
";
    program(&sandbox, "stubborn", stubborn);
    let there = sandbox.dir.path().join("there");
    let stay = "import time\nasync def main(): await asyncio.wait_for(tools.aio.stubborn(), 2)\ntry: asyncio.run(main())\nexcept TimeoutError: print('end')";
    let rows: [(&str, &[&str], Option<&str>, i32); 6] = [
        (stay, &[], None, 0),
        ("tools.stubborn()", &["--timeout", "2s"], None, 124),
        ("while True: pass", &["--timeout", "2s"], None, 124),
        ("tools.stubborn()", &[], Some("INT"), 130),
        ("while True: pass", &["--live"], Some("TERM"), 143),
        ("import os; os.abort()", &[], None, 123),
    ];
    for (code, words, signal, exit) in rows {
        let _ = fs::remove_file(&there);
        let _ = fs::remove_file(sandbox.dir.path().join("child.id"));
        let code = format!("import asyncio\nfrom capibara import tools\n{code}");
        let mut command = sandbox.command();
        command.args(["run", "--tool", "stubborn=./stubborn"]).args(words).args(["-c", &code]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(signal) = signal {
            let until = Instant::now() + Duration::from_secs(30);
            while !there.exists() {
                assert!(Instant::now() < until, "{code}");
                std::thread::sleep(Duration::from_millis(10));
            }
            let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
            assert!(sent.unwrap().success());
        }
        let ran = finish(child.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(exit), "{code}: {ran:?}");
        for id in [id_of(&sandbox, "stubborn"), id_of(&sandbox, "child")].into_iter().flatten() {
            assert!(!is_there(id), "{code}: {id} is still there");
        }
    }
}

#[test]
fn a_session_has_tools_too() {
    let sandbox = sandbox();
    program(&sandbox, "add", ADD);
    let lines = "from capibara import tools\ntools.add(a=1, b=2)\ntools.add(a=1)\ntools.add(a=2, b=2)\nwhile tools.add(a=1, b=1): pass\n\ntools.add(a=3, b=2)\n:reset\nfrom capibara import tools\ntools.add(a=4, b=2)\n";
    let ran = sandbox.run_with_input(&["repl", "--tool", "add=./add", "--timeout", "500ms"], lines.as_bytes(), false);
    assert!(ran.stdout.starts_with("3\n4\n") && ran.stdout.ends_with("a new session\n6\n"), "{ran:?}");
    assert!(ran.stderr.contains("capibara: tool add: 1 of 1 calls failed; the last: KeyError: 'b'\n"), "{ran:?}");
    assert!(!is_there(id_of(&sandbox, "add").unwrap()));
    let ran = sandbox.run_with_input(&["repl", "--tool", "add=./none"], b"1\n", false);
    assert!(ran.code == Some(125) && ran.stderr.contains("failed to start `./none`"), "{ran:?}");
}
