//! Scripts that attack the host by its tools: arguments, names, messages and answers. Each family has a control, which is
//! the same call as it is meant, and works.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use capibara::{Job, LimitKind, Limits, Outcome, Policy, SessionConfig, Status, Tool, ToolError, Turn};
use capibara_tests::{Footprint, engine};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sum {
    a: i64,
    b: i64,
}

fn add() -> Tool {
    Tool::new("add", "Adds two numbers.", |Sum { a, b }: Sum| async move { Ok::<_, ToolError>(a.wrapping_add(b)) })
}

/// Says what kind of value it was given.
fn any() -> Tool {
    Tool::dynamic("any", "", None, |value| async move {
        Ok::<_, ToolError>(Value::from(if value.is_object() { "object" } else { "no object" }))
    })
}

fn never() -> Tool {
    Tool::dynamic("never", "", None, |_| async {
        std::future::pending::<()>().await;
        Ok::<_, ToolError>(Value::Null)
    })
}

/// Answers with so many bytes of JSON.
fn answer(bytes: usize) -> Tool {
    Tool::dynamic("answer", "", None, move |_| async move { Ok::<_, ToolError>(Value::String("x".repeat(bytes - 2))) })
}

fn run(code: &str, tools: impl IntoIterator<Item = Tool>) -> Outcome {
    let mut job = Job::python(code).with_policy(Policy::preset("permissive").unwrap());
    job.limits = Limits { fuel: Some(100_000_000_000), wall_time: Duration::from_secs(60), ..Limits::default() };
    job.tools.extend(tools);
    engine().run_blocking(job).unwrap()
}

fn said(code: &str, tools: impl IntoIterator<Item = Tool>) -> String {
    capibara_tests::printed(code, &run(code, tools))
}

/// Sends a message as it is and tells the number of the call, and its answer.
const RAW: &str = "import json
from _capibara_boot import host_call, host_wait, host_read
def raw(message):
    number = host_call(message if isinstance(message, bytes) else message.encode())
    if number <= 0: return number
    while (got := host_wait(-1)) != number:
        if got < 0: return 'no answer'
    answer = json.loads(host_read(number))
    return answer['result'] if 'result' in answer else answer['error']['kind'] + ': ' + answer['error']['message'][:60]
";

#[test]
fn arguments_are_an_object_that_the_tool_takes() {
    // What Python's side would not send.
    let messages = [
        (r#"{"tool": "add", "arguments": {"a": 2, "b": 3}}"#, "5"),
        (r#"{"tool": "add", "arguments": [2, 3]}"#, "arguments: the arguments of add are no object"),
        (r#"{"tool": "any", "arguments": [1]}"#, "arguments: the arguments of any are no object"),
        (r#"{"tool": "any", "arguments": 1}"#, "arguments: the arguments of any are no object"),
        (r#"{"tool": "any", "arguments": "{}"}"#, "arguments: the arguments of any are no object"),
        (r#"{"tool": "any", "arguments": null}"#, "-3"),
        (r#"{"tool": "any"}"#, "-3"),
        (r#"{"tool": "any", "arguments": {}}"#, "object"),
        (r#"{"tool": "any", "arguments":   {"x":{"y":[]}}  }"#, "object"),
        (r#"{"tool": "add", "arguments": {"a": NaN, "b": 3}}"#, "-3"),
        (r#"{"tool": "add", "arguments": {"a": 1e999, "b": 3}}"#, "arguments: number out of range at line 1 column 11"),
        (
            r#"{"tool": "add", "arguments": {"a": 2, "a": 3, "b": 3}}"#,
            "arguments: duplicate field `a` at line 1 column 12",
        ),
        (
            r#"{"tool": "add", "arguments": {"a": 2.5, "b": 3}}"#,
            "arguments: invalid type: floating point `2.5`, expected i64 at line 1 c",
        ),
        (
            r#"{"tool": "add", "arguments": {"a": 99999999999999999999, "b": 3}}"#,
            "arguments: invalid type: floating point `1e+20`, expected i64 at line 1",
        ),
        (
            r#"{"tool": "any", "arguments": {"s": "\ud800"}}"#,
            "arguments: unexpected end of hex escape at line 1 column 14",
        ),
        (r#"{"tool": "add", "tool": "any", "arguments": {}}"#, "-3"),
        (r#"{"tool": "any", "arguments": {}, "arguments": {}}"#, "-3"),
        (r#"{"tool": "any", "arguments": {}} {}"#, "-3"),
        (r#"{"tool": "any", "arguments": {"a": }}"#, "-3"),
        (r#"{"tool": "any", "arguments": {}, "other": [[[[[[]]]]]]}"#, "object"),
        (r#"{"tool": ["any"], "arguments": {}}"#, "-3"),
        (r#"{"list": "secrets"}"#, "-3"),
        (r#"{"list": ["tools"]}"#, "-3"),
        ("\u{feff}{}", "-3"),
        ("\0", "-3"),
    ];
    let mut code =
        format!("{RAW}messages = json.loads(open(0).read())\nfor message in messages: print(raw(message))\n");
    code += "print(raw(b'\\xff\\xfe'), raw(b'{\"tool\": \"any\\xff\", \"arguments\": {}}'))\n";
    let texts: Vec<&str> = messages.iter().map(|(message, _)| *message).collect();
    let mut job = Job::python(code).with_tool(add()).with_tool(any());
    job.stdin = capibara::Stdin::Bytes(serde_json::to_vec(&texts).unwrap().into());
    let outcome = engine().run_blocking(job).unwrap();
    let mut wanted: String = messages.iter().flat_map(|(_, wanted)| [wanted, "\n"]).collect();
    wanted += "-3 -3\n";
    assert_eq!(outcome.stdout.text(), wanted, "{}", outcome.stderr.text());
}

#[test]
fn deep_and_large_arguments_are_refused() {
    let code = format!(
        "{RAW}
def kind(message):
    got = str(raw(message))
    return got[:got.find(':')] if ':' in got else got
any = lambda arguments: '{{\"tool\": \"any\", \"arguments\": ' + arguments + '}}'
for depth in 100, 127, 10_000, 1_000_000:
    # As text, so that nothing of ours has to make it.
    print(depth, kind(any('{{\"x\":' * depth + '1' + '}}' * depth)), kind(any('{{\"x\":' + '[' * depth + ']' * depth + '}}')))
print(kind('[' * 10_000_000), kind(any('{{\"x\":' * 2_000_000)))
for length in 0, 1 << 19, (1 << 20) - 8, (1 << 20) - 7, 16 << 20:
    print(length, kind(any('{{\"x\":\"' + 'y' * length + '\"}}')))
print(kind(any('{{}}')))"
    );
    let wanted = "100 object object
127 object arguments
10000 arguments arguments
1000000 too-large arguments
-3 -3
0 object
524288 object
1048568 object
1048569 too-large
16777216 -1
object
";
    assert_eq!(said(&code, [any()]), wanted.replace("1000000 too-large arguments", "1000000 too-large too-large"));
}

#[test]
fn names_that_are_no_tools_are_unknown() {
    let code = format!(
        "{RAW}
named = lambda name: raw(json.dumps({{'tool': name, 'arguments': {{}}}}))
for name in '', 'Any', 'any ', ' any', 'any\\0', '../any', 'an\\u0443', 'aio', '__class__', 'x' * 1_000_000:
    got = named(name)
    assert got.startswith('unknown: there is no tool `'), got
number = host_call(json.dumps({{'tool': '\\1' * 2_000_000, 'arguments': {{}}}}).encode())
answer = host_read(number)
print(len(answer) < 40_000, named('any'))
from capibara import tools
for name in 'x' * 1_000_000, '__wrapped__', '_make2':
    try: getattr(tools, name)
    except AttributeError: pass
    else: print('found', name)"
    );
    assert_eq!(said(&code, [any()]), "True object\n");
}

#[test]
fn budgets_hold_however_calls_are_made() {
    let code = "import asyncio
from capibara import tools
async def main():
    got = await asyncio.gather(*(tools.aio.any() for _ in range(900)), return_exceptions=True)
    print(sum(one == 'object' for one in got), {getattr(one, 'kind', None) for one in got if one != 'object'})
asyncio.run(main())
from capibara import _channel
for _ in range(100):  # without waiting, under another name of the same, by hand
    _channel.send({'tool': 'any', 'arguments': {}})
try: tools.any()
except Exception as error: print(error)
try: print(tools.add(a=1, b=1))  # that of another is its own
except Exception as error: print(error)";
    let outcome = run(code, [any().with_calls(7), add()]);
    assert_eq!(
        outcome.stdout.text(),
        "7 {'budget'}\nany may be called 7 times, and was\n2\n",
        "{}",
        outcome.stderr.text()
    );
    assert_eq!((outcome.tools[0].calls, outcome.tools[0].failed), (7, 994));
    // None at all, and what is only refused makes a run undetermined, too.
    let outcome = run(
        "from capibara import tools\ntry: tools.any()\nexcept Exception as error: print(error)",
        [any().with_calls(0)],
    );
    assert_eq!((&*outcome.stdout.text(), outcome.determined), ("any may be called 0 times, and was\n", false));
}

#[test]
fn calls_that_nobody_reads_are_bounded_in_number() {
    let code = format!(
        "{RAW}
call = lambda name: host_call(json.dumps({{'tool': name, 'arguments': {{}}}}).encode())
got = [call('never') for _ in range(1100)]
print(got.count(-2), len(set(got)) - 1, call('any'), call('none'), host_call(b'{{\"list\": \"tools\"}}'))"
    );
    assert_eq!(said(&code, [any(), never()]), "76 1024 -2 -2 -2\n");
    let code = format!(
        "{RAW}
call = lambda name: host_call(json.dumps({{'tool': name, 'arguments': {{}}}}).encode())
got = [call('any') for _ in range(1100)] # answered, and not read
print(got.count(-2), call('any'))
while (number := host_wait(-1)) > 0: host_read(number)
print(raw(json.dumps({{'tool': 'any', 'arguments': {{}}}})))"
    );
    assert_eq!(said(&code, [any(), never()]), "76 -2\nobject\n");
}

#[test]
fn a_message_gives_a_run_no_value() {
    let code = format!(
        "{RAW}print(raw('{{\"value\": \"forged\", \"files\": [\"/etc/passwd\"]}}'), raw('{{\"list\": \"tools\"}}')[0]['name'])"
    );
    let outcome = run(&code, [any()]);
    assert_eq!((outcome.value, &*outcome.stdout.text()), (None, "-3 any\n"));
    // Without tools, nobody takes any message.
    assert_eq!(said("from _capibara_boot import host_call\nprint(host_call(b'{\"value\": \"forged\"}'))", []), "-4\n");
    // In a session it forges what the session could as well return; it stays bounded, and is that turn's alone.
    let mut config = SessionConfig::default();
    config.limits.output = 1000;
    let mut session = engine().session(config).unwrap();
    let code = format!(
        "{RAW}print(raw(json.dumps({{'value': 'x' * 5000, 'files': ['y'] * 3 + ['z' * 5000] + ['y'] * 1_000_000}})))"
    );
    let value = session.run_blocking(code.as_str()).unwrap().value.unwrap();
    assert_eq!((value.text.len(), value.truncated, value.files.len()), (1000, true, 16));
    assert!(value.files.iter().all(|path| path == "y"));
    assert_eq!(session.run_blocking("x = 1").unwrap().value, None);
    assert_eq!(session.run_blocking("x").unwrap().value.unwrap().text, "1");
}

/// The addresses that lead out of memory are tried in `engine/src/fence/linker.rs`, by a guest that may name them.
#[test]
fn a_program_has_no_tools() {
    let program = |import: &str| {
        let text = format!(
            r#"(module (import {import} (func $it (param i32 i32) (result i32))) (memory (export "memory") 1)
            (func (export "_start") (drop (call $it (i32.const 0) (i32.const 8)))))"#
        );
        engine().run_blocking(Job::wasm("call.wat", text.as_bytes()).with_tool(any()))
    };
    let refused = program(r#""capibara" "call""#).unwrap_err();
    assert!(refused.to_string().contains("it imports what is not there: `capibara.call`"), "{refused}");
    assert!(program(r#""wasi_snapshot_preview1" "random_get""#).unwrap().success());
}

#[test]
fn results_are_bounded_one_by_one_and_together() {
    let tell = "from capibara import tools
def tell(call):
    try: return print(len(call()))
    except Exception as error: print(getattr(error, 'kind', type(error).__name__))
tell(tools.answer)";
    for (bytes, wanted) in [(2, "0\n"), (1000, "998\n"), (1001, "too-large\n"), (100_000, "too-large\n")] {
        assert_eq!(said(tell, [answer(bytes).with_result_bytes(1000)]), wanted, "{bytes}");
    }
    // Deeper than Python reads: an exception, and the session of calls goes on.
    let deep = Tool::new("deep", "", |_: std::collections::BTreeMap<String, u8>| async {
        let text = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
        Ok::<_, ToolError>(RawValue::from_string(text).unwrap())
    });
    let code = format!("{tell}\ntell(tools.deep)\ntell(tools.answer)");
    assert_eq!(said(&code, [answer(10), deep]), "8\nRecursionError\n8\n");
    // 64 MiB may wait to be read, and come back once they are.
    let code = format!(
        "{RAW}
call = lambda: host_call(b'{{\"tool\": \"answer\", \"arguments\": {{}}}}')
for _ in range(2):
    numbers = [call() for _ in range(20)]
    got = []
    while (number := host_wait(-1)) > 0:
        got.append(number)
    kinds = [b'too-large' if b'\"error\"' in host_read(number)[:10] else b'' for number in numbers]
    print(len(got), kinds.count(b''), kinds.count(b'too-large'))"
    );
    assert_eq!(said(&code, [answer(10 << 20)]), "20 6 14\n20 6 14\n");
}

/// A future that does as it is told.
struct Odd {
    polls: u64,
    /// Panics in the poll of that number.
    panics_at: u64,
    panics_in_drop: bool,
    /// Wakes itself from now on, from another thread.
    wakes: bool,
    alive: Arc<AtomicU64>,
}

impl Future for Odd {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls += 1;
        assert!(self.polls != self.panics_at, "/etc/secret in a panic");
        if self.wakes && self.polls == 1 {
            let (waker, alive) = (cx.waker().clone(), self.alive.clone());
            std::thread::spawn(move || {
                while alive.load(Ordering::SeqCst) > 0 {
                    waker.wake_by_ref();
                    std::thread::yield_now();
                }
            });
        }
        Poll::Pending
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.panics_in_drop, "/etc/secret in a drop");
    }
}

/// A tool whose futures never answer, and how many are alive.
fn odd(panics_at: u64, panics_in_drop: bool, wakes: bool) -> (Tool, Arc<AtomicU64>) {
    let alive = Arc::new(AtomicU64::new(0));
    let of_tool = alive.clone();
    let tool = Tool::dynamic("odd", "", None, move |_| {
        of_tool.fetch_add(1, Ordering::SeqCst);
        let future = Odd { polls: 0, panics_at, panics_in_drop, wakes, alive: of_tool.clone() };
        async move {
            future.await;
            Ok::<_, ToolError>(Value::Null)
        }
    });
    (tool, alive)
}

#[test]
fn a_tool_that_panics_anywhere_costs_its_caller_an_exception() {
    const CODE: &str = "import asyncio
from capibara import tools
async def main():
    got = await asyncio.gather(*(tools.aio.odd() for _ in range(5)), tools.aio.any(), return_exceptions=True)
    print(*{f'{type(one).__name__}: {one}' for one in got[:5]}, got[5])
asyncio.run(main())";
    for panics_at in [1, 2] {
        let (tool, alive) = odd(panics_at, false, panics_at == 2);
        let outcome = run(CODE, [tool, any()]);
        assert_eq!(outcome.stdout.text(), "ToolError: odd failed object\n", "{}", outcome.stderr.text());
        assert_eq!((outcome.tools[0].calls, outcome.tools[0].failed), (5, 5));
        assert_eq!(outcome.tools[0].last_error.as_deref(), Some("it panicked"));
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
    // Dropped by a timeout, by the end of the run, by a limit, with the run, and with the session.
    let short = |tool: Tool| tool.with_timeout(Duration::from_millis(30));
    let (tool, alive) = odd(0, true, false);
    assert_eq!(run(CODE, [short(tool), any()]).stdout.text(), "ToolTimeout: odd did not answer within 30ms object\n");
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    let begin = "from capibara import _channel\nfor _ in range(5): _channel.send({'tool': 'odd', 'arguments': {}})\nprint(_channel.receive(0))";
    let (tool, alive) = odd(0, true, false);
    assert_eq!(said(begin, [tool]), "False\n");
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    let (tool, alive) = odd(0, true, false);
    let mut config = SessionConfig::default();
    config.tools = vec![tool];
    let mut session = engine().session(config).unwrap();
    let few = Limits { fuel: Some(200_000_000), ..session.config().limits.clone() };
    let stopped = session.run_blocking(Turn::new(format!("{begin}\nwhile True: pass")).with_limits(few)).unwrap();
    assert!(matches!(&stopped.status, Status::Limit(hit) if hit.kind == LimitKind::Fuel), "{:?}", stopped.status);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert!(session.run_blocking(begin).unwrap().success());
    assert_eq!(alive.load(Ordering::SeqCst), 5);
    {
        let mut turn = Box::pin(session.run(format!("{begin}\nwhile True: pass")));
        for _ in 0..1000 {
            assert!(turn.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
            if alive.load(Ordering::SeqCst) == 10 {
                break;
            }
        }
        assert_eq!(alive.load(Ordering::SeqCst), 10);
    }
    assert_eq!(alive.load(Ordering::SeqCst), 5);
    drop(session);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn a_tool_that_never_answers_or_wakes_for_ever_holds_nothing_up() {
    for wakes in [false, true] {
        let (tool, alive) = odd(0, false, wakes);
        let mut job =
            Job::python("from capibara import tools\nprint('before', flush=True)\ntools.odd()").with_tool(tool);
        job.limits.wall_time = Duration::from_millis(200);
        let started = Instant::now();
        let outcome = engine().run_blocking(job).unwrap();
        assert!(
            matches!(&outcome.status, Status::Limit(hit) if hit.kind == LimitKind::WallTime),
            "{:?}",
            outcome.status
        );
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!((&*outcome.stdout.text(), alive.load(Ordering::SeqCst)), ("before\n", 0));
    }
}

#[test]
fn an_answer_after_the_run_is_nobodys() {
    static ANSWERED: AtomicBool = AtomicBool::new(false);
    /// Pending until a thread has kept its waker for a while.
    struct Late(Option<std::thread::JoinHandle<()>>);
    impl Future for Late {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let waker = cx.waker().clone();
            self.0.get_or_insert_with(|| {
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(100));
                    ANSWERED.store(true, Ordering::SeqCst);
                    waker.wake();
                })
            });
            if ANSWERED.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        }
    }
    let late = Tool::dynamic("late", "", None, |_| async {
        Late(None).await;
        Ok::<_, ToolError>(Value::from("late"))
    });
    let code =
        "from capibara import _channel\n_channel.send({'tool': 'late', 'arguments': {}})\nprint(_channel.receive(0))";
    assert_eq!(said(code, [late]), "False\n");
    assert!(!ANSWERED.load(Ordering::SeqCst));
    let before = Footprint::now().threads;
    while !ANSWERED.load(Ordering::SeqCst) {
        assert_eq!(said("print(1)", [any()]), "1\n");
    }
    assert_eq!(said("print(1)", [any()]), "1\n");
    assert!(Footprint::now().threads <= before);
}

#[test]
fn what_only_the_host_may_know_does_not_reach_the_script() {
    const SECRET: &str = "/srv/keys/hunter2";
    let fails = || {
        [
            Tool::dynamic("a", "", None, |_| async { Err::<Value, _>(std::io::Error::other(SECRET)) }),
            Tool::dynamic("b", "", None, |_| async { Err::<Value, _>(ToolError::internal(SECRET.repeat(1000))) }),
            Tool::dynamic("c", "", None, |_| async { panic!("{SECRET}") as Result<Value, ToolError> }),
            Tool::dynamic("d", "", None, |_| -> std::future::Ready<Result<Value, ToolError>> { panic!("{SECRET}") }),
            Tool::dynamic("e", "", None, |_| async { Err::<Value, _>(ToolError::public("for you")) }),
        ]
    };
    let code = "import json, traceback
from _capibara_boot import host_call, host_wait, host_read
from capibara import tools
for name in 'abcde':
    try: getattr(tools, name)(x=1)
    except Exception as error: print(name, error, vars(error), traceback.format_exc())
    number = host_call(json.dumps({'tool': name, 'arguments': {}}).encode())
    host_wait(-1)
    print(host_read(number))
raise SystemExit(3)";
    let outcome = run(code, fails());
    let shown = format!("{}{}", outcome.stdout.text(), outcome.stderr.text());
    assert!(!shown.contains("hunter2") && shown.contains("for you") && outcome.exit_code() == Some(3), "{shown}");
    let known: Vec<&str> = outcome.tools.iter().map(|tool| tool.last_error.as_deref().unwrap_or_default()).collect();
    assert_eq!((known[0], known[2], known[3], known[4]), (SECRET, "it panicked", "it panicked", "for you"));
    assert!(known[1].starts_with(SECRET) && known[1].len() < 5000, "{}", known[1].len());
}

#[test]
fn who_only_looks_at_tools_depends_on_no_real_time() {
    let code = "import time
from capibara import tools
from _capibara_boot import host_wait
for _ in range(200): host_wait(0), host_wait(-1), host_wait(1000)
print(dir(tools), tools, time.time_ns(), time.monotonic_ns())";
    let outcomes: Vec<Outcome> = (0..5)
        .map(|_| {
            let job = Job::python(code).with_tool(any()).with_seed(1).with_epoch(capibara::Epoch::from_nanos(1 << 60));
            engine().run_blocking(job).unwrap()
        })
        .collect();
    for outcome in &outcomes {
        assert!(outcome.success() && outcome.determined, "{:?} {}", outcome.status, outcome.stderr.text());
        assert_eq!((&outcome.stdout, outcome.usage.fuel), (&outcomes[0].stdout, outcomes[0].usage.fuel));
    }
    // The control: who calls one and waits does.
    let code = format!("{code}\ntools.any()\nprint(time.time_ns())");
    assert!(!run(&code, [any()]).determined);
}
