//! `--tool NAME=PROGRAM`: programs of the user's that a script calls, through the command.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use capibara_tests::{Ran, Sandbox, engine, repository};
use serde_json::Value;

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

/// A program that does `body` with each `call`, and may `tell` its answers. It leaves a file beside it when it starts.
fn program(sandbox: &Sandbox, name: &str, body: &str) -> String {
    let path = sandbox.dir.path().join(name);
    let text = format!(
        "#!/usr/bin/env python3\nimport json, sys, time\nopen(__file__ + '.started', 'w')\n\
         def tell(call, **answer): print(json.dumps({{'id': call['id'], **answer}}), flush=True)\n\
         for line in sys.stdin:\n    call = json.loads(line)\n    args = call['args']\n    {body}\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("t={}", path.display())
}

fn run(sandbox: &Sandbox, tool: &str, words: &[&str], code: &str) -> Ran {
    let code = format!("from capibara import *\n{code}");
    sandbox.run(&[&["run", "--tool", tool][..], words, &["-c", &code]].concat())
}

#[test]
fn a_script_calls_a_program() {
    let sandbox = sandbox();
    let tool = program(
        &sandbox,
        "adder",
        "tell(call, result=args['a'] + args['b']) if 'a' in args else tell(call, result=None) if not args else tell(call, error='no a, only ' + str(args))",
    );
    let code = "
print(tools.t(a=1, b=2), tools.t(), dir(tools))
try: tools.t(b='é')
except ToolError as error: print(error, error.tool, error.kind)
try: tools.t(1)
except ToolArgumentError as error: print(error)
print(sum(tools.t(a=n, b=0) for n in range(1000)))";
    let ran = run(&sandbox, &tool, &["--format", "json"], code);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let expected = "3 None ['t']\nno a, only {'b': 'é'} t failed\nt() takes keyword arguments only\n499500\n";
    assert_eq!((ran.code, report["stdout"].as_str()), (Some(0), Some(expected)), "{report:#}");
    let told = &report["tools"][0];
    assert_eq!((&told["name"], &told["calls"], &told["failed"]), (&"t".into(), &1003.into(), &1.into()), "{report:#}");
}

#[test]
fn answers_come_in_any_order() {
    let sandbox = sandbox();
    let body = "held = globals().setdefault('held', []); held.append(call); [tell(it, result=it['args']['n']) for it in reversed(held)] if len(held) == 5 else None";
    let tool = program(&sandbox, "later", body);
    let code = "
import asyncio
async def main(): return await asyncio.gather(*(tools.aio.t(n=n) for n in range(5)))
print(asyncio.run(main()))";
    let ran = run(&sandbox, &tool, &[], code);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "[0, 1, 2, 3, 4]\n"), "{ran:?}");
}

#[test]
fn programs_that_misbehave_cost_their_calls_only() {
    let sandbox = sandbox();
    let bodies = [
        ("ends", "sys.exit(3)", "its program ended"),
        ("garbage", "print('{]', flush=True)", "a line that is no answer"),
        ("flood", "sys.stdout.write('x' * (40 << 20)); sys.stdout.flush()", "a line of more than"),
    ];
    for (name, body, why) in bodies {
        let tool = program(&sandbox, name, body);
        let code = "
for _ in range(2):
    try: tools.t()
    except ToolError as error: print(error)";
        let ran = run(&sandbox, &tool, &[], code);
        // The script is told that it failed; the user, why.
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "t failed\nt failed\n"), "{name}: {ran:?}");
        assert!(ran.stderr.contains(why), "{name}: {ran:?}");
    }
    let tool = program(&sandbox, "others", "print('{\"id\": 77, \"result\": 1}', flush=True); tell(call, result=2)");
    let ran = run(&sandbox, &tool, &[], "print(tools.t())");
    assert_eq!(ran.stdout, "2\n", "{ran:?}");
    // One that never answers, nor ends, is bounded by the time of the run, and is not left behind.
    let tool = program(
        &sandbox,
        "silent",
        "open(__file__ + '.pid', 'w').write(str(__import__('os').getpid())); time.sleep(600)",
    );
    let started = Instant::now();
    let ran = run(&sandbox, &tool, &["--timeout", "1s"], "tools.t()");
    assert_eq!(ran.code, Some(124), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let id = fs::read_to_string(sandbox.dir.path().join("silent.pid")).unwrap();
    assert!(!fs::exists(format!("/proc/{id}")).unwrap(), "{id} still runs");
}

#[test]
fn what_is_denied_or_refused_starts_nothing() {
    let sandbox = sandbox();
    let tool = program(&sandbox, "watched", "tell(call, result=1)");
    let started = || fs::exists(sandbox.dir.path().join("watched.started")).unwrap();
    let ran = run(&sandbox, &tool, &["--policy", "strict"], "print(tools.t())");
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("--tool") && ran.stderr.contains("strict"), "{ran:?}");
    let ran = run(&sandbox, &tool, &[], "import os; os.system('id')");
    assert_eq!(ran.code, Some(126), "{ran:?}");
    let ran = run(&sandbox, &tool, &["--dry-run"], "print(tools.t())");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("tool"), "{ran:?}");
    assert!(!started());
    let ran = run(&sandbox, &tool, &[], "print(tools.t())");
    assert_eq!((ran.code, ran.stdout.as_str(), started()), (Some(0), "1\n", true), "{ran:?}");
    for (tool, why) in [("t=./missing", "failed to start `./missing`"), ("t", "NAME=PROGRAM"), ("1t=/bin/cat", "1t")] {
        let ran = run(&sandbox, tool, &[], "print(1)");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
        assert!(ran.stderr.contains(why), "{ran:?}");
    }
}

#[test]
fn events_tell_of_calls_in_order() {
    let sandbox = sandbox();
    let tool = program(&sandbox, "echo", "tell(call, result=args) if args else tell(call, error='nothing')");
    let code = "print('before', flush=True); tools.t(x=1); print('between', flush=True)\ntry: tools.t()\nexcept ToolError: print('after')";
    let ran = run(&sandbox, &tool, &["--events", "-"], code);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = fs::read_to_string(repository().join("schema/events.v1.json")).unwrap();
    let schema = jsonschema::draft202012::new(&serde_json::from_str(&text).unwrap()).unwrap();
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(schema.is_valid(line), "{line}");
    }
    let told: Vec<String> = lines
        .iter()
        .filter(|line| line["event"] != "usage")
        .map(|line| match line["event"].as_str().unwrap() {
            "output" => line["text"].as_str().unwrap().trim().to_owned(),
            "tool_call" => format!("call {} {}", line["call"], line["argument_bytes"]),
            "tool_answer" => format!("answer {} {} {}", line["call"], line["result_bytes"], line["error"]),
            other => other.to_owned(),
        })
        .collect();
    let expected = [
        "started",
        "before",
        "call 2 8",
        "answer 2 8 null",
        "between",
        "call 3 2",
        "answer 3 null \"failed\"",
        "after",
        "ended",
    ];
    // What is sent as `{"x": 1}` comes back as `{"x":1}`.
    let lengths = |line: &String| line.replace("answer 2 7", "answer 2 8");
    assert_eq!(told.iter().map(lengths).collect::<Vec<_>>(), expected, "{told:?}");
}
