//! Tools: functions of the host that scripts call, through the public library.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use capibara::{EngineError, Job, LimitKind, Limits, Outcome, SessionConfig, Status, Tool, ToolError};
use capibara_tests::engine;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, schemars::JsonSchema)]
struct Sum {
    /// The first number.
    a: i64,
    /// The second number.
    #[serde(default)]
    b: i64,
}

fn add() -> Tool {
    Tool::new("add", "Adds two numbers.", |Sum { a, b }: Sum| async move { Ok::<_, ToolError>(a + b) })
}

#[derive(Deserialize, Serialize, schemars::JsonSchema)]
struct Text {
    text: String,
}

fn echo() -> Tool {
    Tool::new("echo", "", |text: Text| async move { Ok::<_, ToolError>(text) })
}

/// Becomes ready after a time, by a thread that serves all of them.
struct After {
    due: Instant,
}

impl Future for After {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        static SLEEPER: LazyLock<mpsc::Sender<(Instant, Waker)>> = LazyLock::new(|| {
            let (sender, receiver) = mpsc::channel::<(Instant, Waker)>();
            std::thread::spawn(move || {
                let mut asleep: Vec<(Instant, Waker)> = Vec::new();
                loop {
                    asleep.extend(receiver.recv_timeout(Duration::from_millis(1)).ok());
                    asleep.extend(receiver.try_iter());
                    let now = Instant::now();
                    asleep.extract_if(.., |(due, _)| *due <= now).for_each(|(_, waker)| waker.wake());
                }
            });
            sender
        });
        if Instant::now() >= self.due {
            return Poll::Ready(());
        }
        SLEEPER.send((self.due, cx.waker().clone())).unwrap();
        Poll::Pending
    }
}

fn after(time: Duration) -> After {
    After { due: Instant::now() + time }
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Wait {
    seconds: f64,
}

fn slow() -> Tool {
    Tool::new("slow", "Answers later.", |Wait { seconds }: Wait| async move {
        after(Duration::from_secs_f64(seconds)).await;
        Ok::<_, ToolError>(seconds)
    })
}

fn run(code: &str, tools: impl IntoIterator<Item = Tool>) -> Outcome {
    let mut job = Job::python(code);
    job.tools.extend(tools);
    engine().run_blocking(job).unwrap()
}

fn said(code: &str, tools: impl IntoIterator<Item = Tool>) -> String {
    capibara_tests::printed(code, &run(code, tools))
}

#[test]
fn the_document_shows_what_works() {
    let programs = capibara_tests::shown_programs("docs/tools.md");
    assert_eq!(programs.len(), 1);
    let price = Tool::dynamic("price", "", None, |article| async move {
        let name = article["name"].as_str().unwrap_or_default().to_owned();
        if name == "nut" { Err(ToolError::public("no article nut")) } else { Ok(0.5.into()) }
    });
    let code = format!("{}\nprint(price, prices)", programs[0]);
    let outcome = run(&code, [price]);
    assert_eq!(capibara_tests::printed(&code, &outcome), "no article nut price failed\n0.5 [0.5, 0.5]\n");
    assert_eq!(outcome.stderr.text(), "");
}

#[test]
fn a_tool_is_a_function() {
    let outcome = run("from capibara import tools\nprint(tools.add(a=2, b=3), tools.add(a=1))", [add()]);
    assert_eq!(outcome.stdout.text(), "5 1\n", "{}", outcome.stderr.text());
    assert!(!outcome.determined);
    let used = &outcome.tools[0];
    assert_eq!((used.name.as_str(), used.calls, used.failed), ("add", 2, 0));
    let text = said(
        "import inspect\nfrom capibara import tools\nprint(dir(tools), tools.add.__name__, inspect.signature(tools.add))\nprint(inspect.getdoc(tools.add))\nprint(tools)",
        [add(), echo()],
    );
    assert_eq!(
        text,
        "['add', 'echo'] add (*, a: int, b: int = 0)\nAdds two numbers.\n\na: The first number.\nb: The second number.\n<tools: add, echo>\n"
    );
    // What is not called is not counted, and the run is determined.
    assert!(run("print(1)", [add()]).determined);
    // Without tools there are none, and it says so.
    let none = run("from capibara import tools\nprint(dir(tools))\ntools.add", []);
    assert!(
        none.stdout.text() == "[]\n"
            && none.stderr.text().ends_with("AttributeError: there is no tool 'add': none was granted\n"),
        "{}",
        none.stderr.text()
    );
    let other = run("from capibara import tools\ntools.sub", [add()]);
    assert!(
        other.stderr.text().ends_with("AttributeError: there is no tool 'sub': granted are: add\n"),
        "{}",
        other.stderr.text()
    );
}

#[test]
fn calls_run_concurrently() {
    let code = "import asyncio, time\nfrom capibara import tools\nasync def main():\n    before = time.monotonic()\n    got = await asyncio.gather(*(tools.aio.slow(seconds=0.2) for _ in range(20)))\n    print(sum(got), time.monotonic() - before)\nasyncio.run(main())";
    let started = Instant::now();
    let text = said(code, [slow()]);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let words: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!((words[0] - 4.0).abs() < 0.01 && (0.2..1.5).contains(&words[1]), "{text}");
    // Timers run beside calls, in the order of time.
    let code = "import asyncio\nfrom capibara import tools\nasync def tell(what, aw):\n    await aw\n    print(what)\nasync def main():\n    await asyncio.gather(tell('tool', tools.aio.slow(seconds=0.15)), tell('early', asyncio.sleep(0.02)), tell('late', asyncio.sleep(0.6)))\nasyncio.run(main())";
    assert_eq!(said(code, [slow()]), "early\ntool\nlate\n");
    // A time limit of the script's own.
    let code = "import asyncio\nfrom capibara import tools\nasync def main():\n    try:\n        async with asyncio.timeout(0.05): await tools.aio.slow(seconds=5)\n    except TimeoutError: print('late')\nasyncio.run(main())";
    assert_eq!(said(code, [slow()]), "late\n");
}

#[test]
fn errors_say_what_the_script_may_know() {
    let tools = || {
        [
            add(),
            slow().with_timeout(Duration::from_millis(50)),
            Tool::dynamic("public", "", None, |_| async {
                Err::<serde_json::Value, _>(ToolError::public("no such user"))
            }),
            Tool::dynamic("internal", "", None, |_| async {
                Err::<serde_json::Value, _>(std::io::Error::other("/etc/secret: password is hunter2"))
            }),
            Tool::dynamic("panics", "", None, |_| async { panic!("secret") as Result<_, ToolError> }),
            Tool::dynamic("early", "", None, |_| -> std::future::Ready<Result<serde_json::Value, ToolError>> {
                panic!("secret")
            }),
            echo().with_argument_bytes(100).with_result_bytes(60),
            Tool::dynamic("once", "", None, |value| async move { Ok::<_, ToolError>(value) }).with_calls(1),
        ]
    };
    let code = "from capibara import tools, ToolError, ToolTimeout, ToolArgumentError
def tell(call):
    try: print(call())
    except Exception as error: print(type(error).__name__, getattr(error, 'kind', None), error)
tell(lambda: tools.public())
tell(lambda: tools.internal(x=1))
tell(lambda: tools.panics())
tell(lambda: tools.early())
tell(lambda: tools.slow(seconds=10))
tell(lambda: tools.add(a='x'))
tell(lambda: tools.add())
tell(lambda: tools.add(1, 2))
tell(lambda: tools.add(a=object()))
tell(lambda: tools.add(a=float('nan')))
tell(lambda: tools.echo(text='x' * 200))
tell(lambda: tools.echo(text='x' * 55))
tell(lambda: tools.once(n=1))
tell(lambda: tools.once(n=1))
tell(lambda: tools.add(a=1))
assert issubclass(ToolTimeout, TimeoutError) and issubclass(ToolArgumentError, TypeError)";
    let outcome = run(code, tools());
    let text = outcome.stdout.text();
    let wanted = "ToolError failed no such user
ToolError failed internal failed
ToolError failed panics failed
ToolError failed early failed
ToolTimeout timeout slow did not answer within 50ms
ToolArgumentError arguments invalid type: string \"x\", expected i64 at line 1 column 9
ToolArgumentError arguments missing field `a` at line 1 column 2
ToolArgumentError arguments add() takes keyword arguments only
TypeError None Object of type object is not JSON serializable
ValueError None Out of range float values are not JSON compliant: nan
ToolError too-large the arguments of echo are 212 bytes, and 100 at most are taken
ToolError too-large its result is larger than 60 bytes
{'n': 1}
ToolError budget once may be called 1 times, and was
1
";
    assert_eq!(text, wanted, "{}", outcome.stderr.text());
    let internal = outcome.tools.iter().find(|tool| tool.name == "internal").unwrap();
    assert_eq!((internal.calls, internal.failed), (1, 1));
    assert_eq!(internal.last_error.as_deref(), Some("/etc/secret: password is hunter2"));
}

#[test]
fn bombs_are_bounded() {
    // Arguments, nesting, results and calls without number.
    let huge = Tool::dynamic("huge", "", None, |_| async {
        Ok::<_, ToolError>(serde_json::Value::String("x".repeat(40 << 20)))
    });
    let code = "from capibara import tools
def tell(call):
    try: return print(len(call()))
    except BaseException as error: print(type(error).__name__, str(error)[:60])
tell(lambda: tools.echo(text='x' * (20 << 20)))
tell(lambda: tools.echo(text='x' * (2 << 20)))
nested = []
for _ in range(500): nested = [nested]
tell(lambda: tools.echo(text=nested))
tell(lambda: tools.huge())
print(tools.echo(text='fine'))";
    let text = said(code, [echo(), huge]);
    let wanted = "RuntimeError the message is larger than the host takes
ToolError the arguments of echo are 2097164 bytes, and 1048576 at most
ToolArgumentError invalid type: sequence, expected a string at line 1 column 9
ToolError its result is larger than 16777216 bytes
{'text': 'fine'}
";
    assert_eq!(text, wanted);
    let code = "import asyncio\nfrom capibara import tools
async def main():
    got = await asyncio.gather(*(tools.aio.slow(seconds=0.01) for _ in range(3000)), return_exceptions=True)
    print(sum(isinstance(one, float) for one in got), {str(one) for one in got if not isinstance(one, float)})
asyncio.run(main())";
    assert_eq!(said(code, [slow()]), "1024 {'too many calls are waiting for their answers'}\n");
    // Messages that are none.
    let code = "from _capibara_boot import host_call, host_wait, host_read
print([host_call(m) for m in (b'', b'{', b'[]', b'{}', b'{\"tool\": 1}', b'{\"list\": \"files\"}', b'\\xff')], host_wait(0), host_wait(-1))
for number in (-1, 0, 7, 2**31 - 1):
    try: host_read(number)
    except ValueError as error: print(error, end=' ')";
    assert_eq!(
        said(code, [echo()]),
        "[-3, -3, -3, -3, -3, -3, -3] -1 -1\nthis call has no answer this call has no answer this call has no answer this call has no answer "
    );
    assert_eq!(
        said("from _capibara_boot import host_call, host_wait\nprint(host_call(b'{}'), host_wait(-1))", []),
        "-4 -1\n"
    );
}

#[test]
fn limits_hold_while_a_tool_works() {
    let mut job = Job::python("from capibara import tools\nprint('before', flush=True)\ntools.slow(seconds=60)")
        .with_tool(slow().with_timeout(Duration::from_secs(100)));
    job.limits = Limits { wall_time: Duration::from_millis(300), ..job.limits };
    let started = Instant::now();
    let outcome = engine().run_blocking(job).unwrap();
    assert!(matches!(&outcome.status, Status::Limit(hit) if hit.kind == LimitKind::WallTime), "{:?}", outcome.status);
    assert!(started.elapsed() < Duration::from_secs(5) && outcome.stdout.text() == "before\n");
    let job = Job::python("from capibara import tools\ntools.slow(seconds=60)").with_tool(slow());
    let canceler = job.canceler();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        canceler.cancel();
    });
    let outcome = engine().run_blocking(job).unwrap();
    assert!(matches!(outcome.status, Status::Canceled { .. }), "{:?}", outcome.status);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn sessions_have_tools_and_calls_go_on_between_turns() {
    let mut config = SessionConfig::default();
    config.tools = vec![add().with_calls(3), slow()];
    let mut session = engine().session(config).unwrap();
    session.run_blocking("import asyncio\nfrom capibara import tools").unwrap();
    assert_eq!(session.run_blocking("tools.add(a=1, b=1)").unwrap().value.unwrap().text, "2");
    // The budget is for all turns, and what was called in a turn that is undone was called.
    let mut limits = session.config().limits.clone();
    limits.fuel = Some(100_000_000);
    let stopped =
        session.run_blocking(capibara::Turn::new("tools.add(a=1)\nwhile True: pass").with_limits(limits)).unwrap();
    assert!(matches!(stopped.status, Status::Limit(_)));
    assert_eq!(session.run_blocking("tools.add(a=5)").unwrap().value.unwrap().text, "5");
    let spent = session.run_blocking("tools.add(a=1)").unwrap();
    assert!(spent.stderr.text().contains("add may be called 3 times, and was"), "{}", spent.stderr.text());
    session.run_blocking("task = asyncio.ensure_future(tools.aio.slow(seconds=0.1)); await asyncio.sleep(0)").unwrap();
    assert_eq!(session.run_blocking("await task").unwrap().value.unwrap().text, "0.1");
}

#[test]
fn a_dropped_run_drops_its_calls() {
    static ALIVE: AtomicU64 = AtomicU64::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let held = Tool::dynamic("held", "", None, |_| async {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        let _counted = Counted;
        std::future::pending::<()>().await;
        Ok::<_, ToolError>(serde_json::Value::Null)
    });
    let code = "import asyncio\nfrom capibara import tools\nasync def main():\n    await asyncio.gather(*(tools.aio.held() for _ in range(10)))\nasyncio.run(main())";
    let job = Job::python(code).with_tool(held);
    let engine = engine();
    {
        let mut run = Box::pin(engine.run(job));
        let wakes = Arc::new(Flag);
        let waker = std::task::Waker::from(wakes);
        for _ in 0..1000 {
            assert!(run.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            if ALIVE.load(Ordering::SeqCst) == 10 {
                break;
            }
        }
        assert_eq!(ALIVE.load(Ordering::SeqCst), 10);
    }
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
}

#[derive(Default)]
struct Flag;

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn names_that_python_cannot_write_are_refused() {
    let named = |name: &str| Tool::dynamic(name, "", None, |value| async move { Ok::<_, ToolError>(value) });
    for bad in ["", "a-b", "class", "_x", "aio"] {
        let error = engine().run_blocking(Job::python("1").with_tool(named(bad))).unwrap_err();
        assert!(matches!(error, EngineError::InvalidJob { .. }), "{bad}: {error}");
    }
}
