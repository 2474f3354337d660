//! Turns that poison their session. What the host promises holds in the turns after them all the same, a session opened later
//! knows nothing of it, and a turn that is stopped in a poisoned session is undone like any other.
//!
//! The control of each attack is `shows`: what the next turn prints shows that the attack took place.

use std::time::{Duration, Instant};

use capibara::{Epoch, LimitKind, Limits, Outcome, Policy, Session, SessionConfig, Status, Tool, ToolError, Turn};
use capibara_tests::engine;
use serde_json::Value;

const FUEL: u64 = 1_000_000_000;
const OUTPUT: u64 = 20_000;
const MEMORY: u64 = 128 << 20;
const BUDGET: u64 = 6;

struct Attack {
    name: &'static str,
    code: &'static str,
    /// A turn and what it prints after the attack; `None`: nothing can be told from inside any more.
    shows: Option<(&'static str, &'static str)>,
}

const fn attack(name: &'static str, code: &'static str, shows: (&'static str, &'static str)) -> Attack {
    Attack { name, code, shows: Some(shows) }
}

const fn blind(name: &'static str, code: &'static str) -> Attack {
    Attack { name, code, shows: None }
}

const ATTACKS: &[Attack] = &[
    attack(
        "builtins",
        "import builtins
builtins.len = lambda x: 10**9
builtins.open = builtins.isinstance = None
builtins.repr = lambda value: 'forged' * (1 << 20)
builtins.__build_class__ = None",
        ("print(len(''), open, repr(1)[:6])", "1000000000 None forged\n"),
    ),
    attack("print", "def print(*a, **k): __import__('sys').stdout.write('mine\\n')", ("print(1)", "mine\n")),
    attack("__import__", "import builtins, sys\nbuiltins.__import__ = lambda *a, **k: sys", ("import json\nprint(json.__name__)", "sys\n")),
    attack("builtins of main", "__builtins__ = {'print': print}", ("print(__builtins__.__class__.__name__)", "dict\n")),
    blind("no globals", "g = globals()\nfor name in list(g): g.pop(name)"),
    blind("no builtins", "import builtins\nfor name in list(vars(builtins)):\n    if name not in ('list', 'vars', 'delattr'): delattr(builtins, name)"),
    blind("no modules", "import sys\nsys.modules.clear()"),
    attack(
        "modules that are none",
        "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
        ("try: import json\nexcept ImportError: print('halted')", "halted\n"),
    ),
    attack(
        "import hooks",
        "import sys
class Finder:
    def find_spec(self, *a): raise SystemError('no imports')
sys.meta_path[:] = [Finder()]; sys.path_hooks[:] = [None]; sys.path[:] = [0]",
        ("try: import chunk_of_nothing\nexcept SystemError as error: print(error)", "no imports\n"),
    ),
    attack(
        "capibara._session",
        "import json
from capibara import _session
class Forged(str):
    __repr__ = str.__str__
_session.complete = lambda *a: Forged(json.dumps(['forged' + str(n) for n in range(100_000)]))
_session.is_incomplete = lambda *a: True",
        ("print(_session.is_incomplete('1'))", "True\n"),
    ),
    attack(
        "capibara._session that never returns",
        "from capibara import _session\ndef forever(*a):\n    while True: pass\n_session.complete = _session.is_incomplete = forever",
        ("print(_session.complete.__name__)", "forever\n"),
    ),
    attack(
        "capibara._channel",
        "from capibara import _channel\n_channel.send = _channel.ask = lambda message: 7\n_channel._decode = None",
        ("print(_channel.send(1))", "7\n"),
    ),
    attack(
        "messages",
        "import _capibara_boot as boot
def forged(message): raise SystemError('no host')
boot.host_call = forged
from capibara import _channel
_channel.host_call = forged",
        ("try: _channel.send({})\nexcept SystemError as error: print(error)", "no host\n"),
    ),
    attack("json", "import json\njson.dumps = json.loads = json.JSONEncoder = json.JSONDecoder = None", ("print(json.dumps)", "None\n")),
    attack(
        "exit functions",
        "import atexit, threading, logging
def forever():
    while True: pass
for _ in range(100): atexit.register(forever)
threading._shutdown = forever
threading._threading_atexits.append(forever)
logging.shutdown = forever",
        ("print(atexit._ncallbacks() >= 100)", "True\n"),
    ),
    attack(
        "threads",
        "import threading, _thread
_thread.start_new_thread = lambda function, args, kwargs={}: function(*args, **kwargs)
threading._start_joinable_thread = lambda function, **k: function()
threading.main_thread = lambda: None",
        ("print(threading.main_thread())", "None\n"),
    ),
    attack(
        "signals",
        "import signal
got = []
for number in range(1, 30):
    try: signal.signal(number, lambda *a: got.append(a))
    except Exception as error: got.append(type(error).__name__)",
        ("print(len(got) > 0)", "True\n"),
    ),
    attack(
        "the collector",
        "import gc
def boom(*a): raise SystemError('in the collector')
gc.callbacks.append(boom); gc.set_threshold(1, 1, 1); gc.unfreeze()",
        ("print(gc.get_threshold()[0])", "1\n"),
    ),
    attack(
        "tracing",
        "import sys
count = [0]
def trace(*a):
    count[0] += 1
    return trace
sys.settrace(trace); sys.setprofile(lambda *a: None)",
        ("def f(): pass\nf(); print(count[0] > 0)", "True\n"),
    ),
    blind("tracing that fails", "import sys\ndef trace(*a): raise SystemError('traced')\nsys.settrace(trace)"),
    attack(
        "monitoring",
        "import sys
m = sys.monitoring
m.use_tool_id(1, 'mine')
seen = []
for event in m.events.PY_START, m.events.CALL: m.register_callback(1, event, lambda *a: seen.append(1) if len(seen) < 9 else None)
m.set_events(1, m.events.PY_START | m.events.CALL)",
        ("print(len(seen) > 0)", "True\n"),
    ),
    attack(
        "hooks of sys",
        "import sys
def forever(*a):
    while True: pass
sys.excepthook = sys.unraisablehook = sys.breakpointhook = forever
sys.displayhook = lambda value: None",
        ("print(sys.excepthook.__name__)", "forever\n"),
    ),
    blind(
        "the boot module",
        "import _capibara_boot as boot
boot._linecache = boot._flush_files = boot._time_ns = boot._loop = None
boot._turn_count = -10**30",
    ),
    attack(
        "functions of the boot module",
        "import _capibara_boot as boot
boot.turn.__code__ = (lambda source: 'forged').__code__
boot.send_value.__code__ = (lambda value: None).__code__
boot.run_coroutine.__code__ = (lambda coroutine: None).__code__",
        ("print((lambda: 0).__code__.co_filename)", "forged\n"),
    ),
    attack(
        "functions of the guest, called with anything",
        "import _capibara_boot as boot
errors = 0
for name in 'set_generator', 'immortalize', 'watch_buffers', 'refusal', 'absence', 'host_read':
    for given in (), (0,), (None,), ('x',), ([],), ({}, {}), (object(),):
        try: getattr(boot, name)(*given)
        except Exception: errors += 1",
        ("print(errors > 20)", "True\n"),
    ),
    attack("recursion without end", "import sys\nsys.setrecursionlimit(2**31 - 1)", ("print(sys.getrecursionlimit())", "2147483647\n")),
    attack("hardly any recursion", "import sys\nsys.setrecursionlimit(6)", ("print(1)", "1\n")),
    blind("closed streams", "import os\nfor fd in 0, 1, 2:\n    try: os.close(fd)\n    except OSError: pass"),
    attack(
        "other files as streams",
        "import os\nf = os.open('/tmp/mine', os.O_RDWR | os.O_CREAT)\nos.dup2(f, 2) if hasattr(os, 'dup2') else None\nimport sys\nsys.stderr = open('/tmp/err', 'w')",
        ("print(sys.stderr.name)", "/tmp/err\n"),
    ),
    blind("streams that are none", "import sys\nsys.stdout.close(); sys.stderr = object(); sys.__stdout__ = sys.__stderr__ = None"),
    attack(
        "no descriptors left",
        "held = []\ntry:\n    while True: held.append(open('/tmp/held', 'w'))\nexcept OSError as error: why = error.errno",
        ("import errno\nprint(why == errno.EMFILE, len(held) > 5)", "True True\n"),
    ),
    attack(
        "no files left",
        "import os\ntry:\n    for n in range(10**6): os.mkdir(f'/tmp/{n}')\nexcept OSError as error: why = error.errno",
        ("import errno\nprint(why == errno.ENOSPC)", "True\n"),
    ),
    attack(
        "no bytes left",
        "with open('/tmp/full', 'wb') as file:\n    try:\n        while True: file.write(bytes(100_000)); file.flush()\n    except OSError as error: why = error.errno\n    try: file.close()\n    except OSError: pass",
        ("import errno\nprint(why == errno.ENOSPC)", "True\n"),
    ),
    attack(
        "hardly any memory left",
        "held = []\ntry:\n    while True: held.append(bytearray(1 << 20))\nexcept MemoryError: del held[-2:]",
        ("print(len(held) > 20)", "True\n"),
    ),
    attack("half a line", "import sys\nz = sys.stdout.write('half'); sys.stderr.write('half')", ("print(1)", "1\n")),
    attack(
        "buffers that are not flushed",
        "import io, os\nout = io.BufferedWriter(io.FileIO(1, 'w', closefd=False), 1 << 20)\nz = out.write(b'x' * 1_000)",
        ("print(out.closed)", "False\n"),
    ),
    attack(
        "tasks that go on",
        "import asyncio
async def forever():
    while True: await asyncio.sleep(0)
tasks = [asyncio.ensure_future(forever()) for _ in range(10)]
await asyncio.sleep(0)",
        ("print(tasks[0].done())", "False\n"),
    ),
    attack(
        "a loop of its own",
        "import asyncio\nclass Policy(asyncio.DefaultEventLoopPolicy):\n    def new_event_loop(self): raise SystemError\nasyncio.set_event_loop_policy(Policy())\nimport selectors\nselectors.DefaultSelector = None",
        ("print(selectors.DefaultSelector)", "None\n"),
    ),
    attack(
        "calls that wait",
        "from capibara import _channel, tools\nnumbers = [_channel.send({'tool': 'never', 'arguments': {}}) for _ in range(20)]\nprint(tools.count())",
        ("print(len(set(numbers)))", "20\n"),
    ),
    attack(
        "__del__ that raises",
        "class Boom:\n    def __del__(self): raise SystemError('boom')\nbooms = [Boom() for _ in range(5)]",
        ("print(len(booms))", "5\n"),
    ),
    attack(
        "__del__ that comes back",
        "class Undead:\n    def __del__(self): globals().setdefault('undead', []).append(self); Undead()\n",
        ("print(Undead.__name__)", "Undead\n"),
    ),
    attack(
        "values with a hostile repr",
        "class Value:\n    def __repr__(self): return 'x' * (1 << 24)\n    def _repr_html_(self):\n        while True: pass\n    def __getattr__(self, name):\n        if name.startswith('_repr'): return lambda: 'y' * (1 << 22)\n        raise AttributeError(name)\n_ = value = Value()",
        ("print(len(repr(value)) >> 20)", "16\n"),
    ),
    attack("a folder that is gone", "import os\nos.mkdir('/tmp/gone'); os.chdir('/tmp/gone'); os.rmdir('/tmp/gone')", ("print(os.listdir('/tmp').count('gone'))", "0\n")),
    attack(
        "clocks",
        "import time\ntime.time = time.monotonic = time.sleep = lambda *a: -1",
        ("print(time.time())", "-1\n"),
    ),
    attack("warnings and codecs", "import warnings, codecs\nwarnings.warn = None; warnings.simplefilter('error')\ncodecs.register_error('strict', lambda error: ('', 10**9))\ncodecs.register(lambda name: 1 / 0)", ("print(warnings.warn)", "None\n")),
    attack(
        "frames",
        "import sys\nsys._getframe().f_globals['__name__'] = '\\0'\nsys._getframe().f_builtins['sum'] = 7",
        ("print(sum, __name__ == '\\0')", "7 True\n"),
    ),
    attack("a name the turn uses itself", "globals().update(__capibara_value__='forged')", ("print('x')", "x\n")),
    attack("an end in the middle", "x = 'kept'\nraise SystemExit", ("print(x)", "kept\n")),
    attack("an end by the system", "try: y\nexcept NameError: y = 'lost'\nimport os\ndef deep(n): deep(n - 1) if n else os._exit(0)\ndeep(50)", ("try: print(y)\nexcept NameError: print('undone')", "undone\n")),
    // Not a word of the interpreter's memory is safe after this; the turn may trap, and is undone then.
    blind("code that was never compiled", "code = (lambda: 0).__code__.replace(co_code=bytes([100, 255] * 50 + [83, 0]), co_stacksize=1)\ntry: exec(code)\nexcept BaseException: pass"),
];

fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.fuel, limits.output, limits.memory) = (Some(FUEL), OUTPUT, MEMORY);
    (limits.files, limits.bytes_written, limits.descriptors) = (100, 4 << 20, 24);
    limits.wall_time = Duration::from_secs(20);
    limits
}

fn open() -> Session {
    let mut config = SessionConfig::new(policy(""));
    config.limits = limits();
    (config.epoch, config.seed) = (Some(Epoch::from_nanos(1_769_860_800_000_000_000)), Some(1));
    let count = Tool::dynamic("count", "", None, |_| async { Ok::<_, ToolError>(Value::from(1)) }).with_calls(BUDGET);
    let never = Tool::dynamic("never", "", None, |_| async {
        std::future::pending::<()>().await;
        Ok::<_, ToolError>(Value::Null)
    });
    config.tools = vec![count, never];
    engine().session(config).unwrap()
}

/// The attacks are run; what would start a program is denied. `more` is what else the policy says.
fn policy(more: &str) -> Policy {
    const LET_PASS: [&str; 7] = [
        "dynamic-code",
        "import-machinery",
        "introspection-escape",
        "malicious-idiom",
        "native-code",
        "network-access",
        "unsafe-deserialization",
    ];
    let rules: String = LET_PASS.iter().map(|rule| format!("  {rule}: {{severity: warning}}\n")).collect();
    let text = format!("extends: moderate\nwiden: true\nrules:\n{rules}{more}");
    Policy::parse("attacks", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn run(session: &mut Session, code: &str) -> Outcome {
    let started = Instant::now();
    let outcome = session.run_blocking(code).unwrap_or_else(|error| panic!("{code}: {error}"));
    assert_ne!(outcome.status, Status::Denied, "{code}: {:?}", outcome.scan.findings);
    // A turn that comes to its end by fuel takes a second or two here; nothing may hang.
    assert!(started.elapsed() < Duration::from_secs(60), "{code}: {:?}", started.elapsed());
    bounded(&outcome, code);
    outcome
}

/// What holds of every turn, whatever was done to the session.
fn bounded(outcome: &Outcome, code: &str) {
    let usage = &outcome.usage;
    assert!(usage.fuel.unwrap_or_default() <= FUEL + FUEL / 10, "{code}: {usage:?}");
    assert!(usage.memory_peak_bytes <= MEMORY, "{code}: {usage:?}");
    assert!(usage.output_bytes <= OUTPUT, "{code}: {usage:?}");
    assert!((outcome.stdout.bytes.len() + outcome.stderr.bytes.len()) as u64 <= OUTPUT, "{code}");
    assert!(usage.files_written <= 110 && usage.descriptors_peak <= 24, "{code}: {usage:?}");
    if let Some(value) = &outcome.value {
        assert!(value.text.len() as u64 <= OUTPUT && value.files.len() <= 16, "{code}");
    }
}

fn is_limit(outcome: &Outcome, wanted: LimitKind) -> bool {
    matches!(&outcome.status, Status::Limit(hit) if hit.kind == wanted)
}

/// Turns that ask for too much of everything, and how each must end where nobody has spoilt it.
const TOO_MUCH: [(&str, &str); 6] = [
    ("while True: pass", "fuel"),
    ("import time\ntime.sleep(100)", "wall_time"),
    ("import os\nfor _ in range(100): os.write(1, b'x' * 1000)", "output"),
    ("more = []\nwhile True: more.append(bytearray(1 << 20))", "memory"),
    ("'x' * 1_000_000", "value"),
    ("from capibara import tools\nfor _ in range(2 * 6): tools.count()", "budget"),
];

/// Asks for too much. An attack may make such a turn fail, never go on.
fn asks_for_too_much(session: &mut Session, name: &str, poisoned: bool) -> u64 {
    let mut called = 0;
    for (code, wanted) in TOO_MUCH {
        let outcome = run(session, code);
        called += outcome.tools.iter().find(|tool| tool.name == "count").map_or(0, |tool| tool.calls);
        let as_wanted = match wanted {
            "fuel" => is_limit(&outcome, LimitKind::Fuel),
            "wall_time" => is_limit(&outcome, LimitKind::WallTime),
            "output" => is_limit(&outcome, LimitKind::Output),
            "memory" => is_limit(&outcome, LimitKind::Memory),
            "value" => outcome.value.as_ref().is_some_and(|value| value.truncated),
            _ => outcome.stderr.text().contains("count may be called 6 times, and was"),
        };
        assert!(as_wanted || poisoned, "{name}: {code}: {:?}", outcome.status);
        if wanted == "fuel" {
            // Nothing a script can do to itself makes this one end well.
            assert!(!outcome.success(), "{name}: {:?}", outcome.status);
        }
    }
    assert!(called <= BUDGET, "{name}: {called} calls");
    let denied = session.run_blocking("import os\nos.system('id')").unwrap();
    assert_eq!(denied.status, Status::Denied, "{name}");
    assert!(session.complete_blocking("pri").unwrap().len() <= 200, "{name}");
    let _ = session.is_incomplete_blocking("if 1:").unwrap();
    let held = session.artifacts().iter().map(|artifact| artifact.bytes.len()).sum::<u64>();
    assert!(held <= 4 << 20, "{name}");
    assert!(session.changes().is_empty(), "{name}");
    called
}

/// What a session shows of itself, as far as it can.
const LOOK: &str = "import os, random, sys, time
print(sorted(globals()), random.random(), time.time(), time.monotonic(), os.getcwd(), sorted(os.listdir('/tmp')), len(sys.modules))";

/// All that can be compared of an outcome.
fn comparable(outcome: &Outcome) -> String {
    let Outcome { status, stdout, stderr, value, usage, job_sha256, .. } = outcome;
    let (stdout, stderr) = (stdout.text(), stderr.text());
    format!("{status:?} {stdout} {stderr} {value:?} {:?} {} {job_sha256:?}", usage.fuel, usage.memory_peak_bytes)
}

fn fresh() -> Vec<String> {
    let mut session = open();
    [LOOK, "import json\njson.dumps([1, _ if '_' in globals() else 2])", LOOK]
        .map(|code| comparable(&run(&mut session, code)))
        .to_vec()
}

#[test]
fn the_promises_hold_where_nobody_attacks() {
    let mut session = open();
    assert!(run(&mut session, "x = 1").success());
    assert_eq!(asks_for_too_much(&mut session, "control", false), BUDGET);
    assert!(session.complete_blocking("pri").unwrap().contains(&"print(".to_owned()));
    assert!(session.is_incomplete_blocking("if 1:").unwrap());
    assert_eq!(run(&mut session, "print(x)").stdout.text(), "1\n");
}

#[test]
fn the_promises_hold_in_the_turns_after_an_attack() {
    let untouched = fresh();
    let mut wrong = Vec::new();
    for Attack { name, code, shows } in ATTACKS {
        let mut session = open();
        run(&mut session, code);
        if let Some((turn, wanted)) = shows {
            let outcome = run(&mut session, turn);
            let (shown, told) = (outcome.stdout.text(), outcome.stderr.text());
            if shown != *wanted {
                wrong.push(format!("{name}: {shown:?} {:?} {told}", outcome.status));
            }
        }
        asks_for_too_much(&mut session, name, true);
        // Also of an exception that nobody catches, and of a turn that awaits.
        for more in
            ["1 / 0", "import asyncio\nawait asyncio.sleep(0)", "x = (", "def f(): yield\nf()", "raise SystemExit(3)"]
        {
            run(&mut session, more);
        }
        drop(session);
        assert_eq!(fresh(), untouched, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_stopped_turn_is_undone_in_a_poisoned_session_too() {
    for Attack { name, code, shows } in ATTACKS {
        let (mut one, mut other) = (open(), open());
        for session in [&mut one, &mut other] {
            run(session, code);
        }
        let mut stopped = 0;
        for (turn, kind) in TOO_MUCH {
            if kind == "value" || kind == "budget" {
                continue;
            }
            // What it changes first is undone with it. An attack may have it fail before it can be stopped: that is kept.
            let outcome = run(&mut one, turn);
            if matches!(outcome.status, Status::Completed { .. }) {
                run(&mut other, turn);
            } else {
                stopped += 1;
            }
        }
        assert!(stopped > 0 || shows.is_none(), "{name}");
        // Whoever called a tool has seen real time pass: then there is less to compare.
        let timed = !run(&mut one, "0").determined;
        run(&mut other, "0");
        let look = if timed { "print(sorted(globals()))" } else { LOOK };
        for turn in [look, "1 / 0", look] {
            let [found, wanted] = [&mut one, &mut other].map(|session| run(session, turn));
            if timed {
                assert_eq!((found.stdout, found.status), (wanted.stdout, wanted.status), "{name}: {turn}");
            } else {
                assert_eq!(comparable(&found), comparable(&wanted), "{name}: {turn}");
            }
        }
        for folder in ["/tmp", "/out", "/home/script"] {
            assert_eq!(one.files(folder), other.files(folder), "{name}");
        }
    }
}

#[test]
fn one_attack_after_another() {
    // All in one session: what holds after each holds after all.
    let mut session = open();
    for Attack { code, .. } in ATTACKS {
        run(&mut session, code);
    }
    asks_for_too_much(&mut session, "all", true);
    for Attack { code, .. } in ATTACKS.iter().rev() {
        run(&mut session, code);
    }
    asks_for_too_much(&mut session, "all", true);
}

#[test]
fn totals_hold_in_a_poisoned_session() {
    for Attack { name, code, .. } in ATTACKS {
        let mut config = SessionConfig::new(policy(""));
        config.limits = limits();
        (config.total.turns, config.total.output) = (Some(6), Some(OUTPUT));
        let mut session = engine().session(config).unwrap();
        let mut printed = 0;
        for turn in [code, "import os\nos.write(1, b'x' * 15_000)", "import os\nos.write(2, b'x' * 15_000)"] {
            printed += session.run_blocking(turn).unwrap().usage.output_bytes;
        }
        assert!(printed <= OUTPUT, "{name}: {printed}");
        for _ in 0..3 {
            session.run_blocking("1").unwrap();
        }
        assert!(session.run_blocking("1").is_err(), "{name}");
    }
}

#[test]
fn a_turn_that_is_dropped_has_been_run() {
    let mut config = SessionConfig::default();
    config.total.turns = Some(5);
    let mut session = engine().session(config).unwrap();
    for _ in 0..4 {
        let mut turn = Box::pin(session.run("while True: pass"));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::future::Future::poll(turn.as_mut(), &mut context).is_pending());
    }
    assert!(session.used().wall_time.unwrap_or_default() > Duration::ZERO);
    assert_eq!(session.used().turns, Some(4));
    assert_eq!(session.run_blocking("6 * 7").unwrap().value.unwrap().text, "42");
    assert_eq!(session.run_blocking("1").unwrap_err().code(), "session-ended");
}

/// A tool that answers once it is let go, and counts.
fn gate() -> (Tool, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let of_tool = open.clone();
    let tool = Tool::dynamic("gate", "", None, move |arguments| {
        let open = of_tool.clone();
        async move {
            std::future::poll_fn(|cx| {
                if open.load(std::sync::atomic::Ordering::SeqCst) {
                    return std::task::Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
            Ok::<_, ToolError>(arguments)
        }
    });
    (tool, open)
}

#[test]
fn a_call_belongs_to_the_turn_that_began_it() {
    use std::sync::atomic::Ordering::SeqCst;
    let (tool, is_open) = gate();
    let mut config = SessionConfig::default();
    config.limits = limits();
    config.tools = vec![tool.with_calls(8)];
    let mut session = engine().session(config).unwrap();
    let value = |session: &mut Session, code: &str| {
        let outcome = session.run_blocking(code).unwrap();
        outcome.value.map_or_else(|| format!("{:?} {}", outcome.status, outcome.stderr.text()), |value| value.text)
    };
    session.run_blocking("import json\nfrom _capibara_boot import host_call, host_wait, host_read\ndef call(n): return host_call(json.dumps({'tool': 'gate', 'arguments': {'n': n}}).encode())").unwrap();
    // Begun in a turn that is kept: it waits in the next ones.
    assert_eq!(value(&mut session, "first = call(1)\nhost_wait(0)"), "0");
    assert_eq!(value(&mut session, "host_wait(1)"), "0");
    // Begun in one that is undone: gone, and its number is another's, which gets its own answer.
    let stopped = session.run_blocking("call(2), call(3), host_wait(0)\nwhile True: pass").unwrap();
    assert!(is_limit(&stopped, LimitKind::Fuel) && stopped.tools[0].calls == 2, "{:?}", stopped.status);
    assert_eq!(value(&mut session, "second = call(4)\nsecond - first"), "1");
    is_open.store(true, SeqCst);
    // Answered and read in a turn that is undone: there again afterwards, also for who only asks.
    let read = "sorted(json.loads(host_read(host_wait(-1)))['result']['n'] for _ in range(2))";
    for _ in 0..2 {
        let stopped = session.run_blocking(format!("print({read}, host_wait(-1))\nwhile True: pass")).unwrap();
        assert!(is_limit(&stopped, LimitKind::Fuel), "{:?} {}", stopped.status, stopped.stderr.text());
        assert_eq!(stopped.stdout.text(), "[1, 4] -1\n");
    }
    session
        .run_blocking("class Asks:\n    def __getattr__(self, name): host_read(host_wait(-1)); return 1\nasks = Asks()")
        .unwrap();
    session.complete_blocking("asks.x.").unwrap();
    assert_eq!(value(&mut session, read), "[1, 4]");
    // Read in a turn that is kept: gone.
    assert_eq!(value(&mut session, "host_wait(-1)"), "-1");
    assert!(value(&mut session, "host_read(first)").contains("ValueError: this call has no answer"));
    // The budget counts all of them: 1, 2, 3, 4 so far.
    assert_eq!(
        value(
            &mut session,
            "for n in range(9): call(n)\n[b'budget' in host_read(host_wait(-1)) for n in range(9)].count(True)"
        ),
        "5"
    );
}

#[test]
fn a_turn_that_is_stopped_in_the_middle_of_calls_is_undone() {
    let (tool, is_open) = gate();
    let mut config = SessionConfig::default();
    config.limits = limits();
    config.tools = vec![tool];
    let mut session = engine().session(config).unwrap();
    session.run_blocking("import asyncio\nfrom capibara import tools\nx = 1\nasync def main():\n    global x\n    x = 2\n    return await asyncio.gather(*(tools.aio.gate(n=n) for n in range(50)))").unwrap();
    let quick = Limits { wall_time: Duration::from_millis(100), ..limits() };
    for _ in 0..3 {
        let stopped = session.run_blocking(Turn::new("await main()").with_limits(quick.clone())).unwrap();
        assert!(is_limit(&stopped, LimitKind::WallTime), "{:?} {}", stopped.status, stopped.stderr.text());
        let canceler = session.canceler();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            canceler.cancel();
        });
        let canceled = session.run_blocking("await main()").unwrap();
        assert!(matches!(canceled.status, Status::Canceled { .. }), "{:?} {}", canceled.status, canceled.stderr.text());
        stopper.join().unwrap();
        assert_eq!(session.run_blocking("x").unwrap().value.unwrap().text, "1");
    }
    is_open.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(session.run_blocking("len(await main()), x").unwrap().value.unwrap().text, "(50, 2)");
}

#[test]
fn an_overlay_of_a_poisoned_session_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "first").unwrap();
    let grants = format!("grants:\n  overlay: ['{}:/data']\n", folder.path().display());
    let mut session = engine().session(SessionConfig::new(policy(&grants))).unwrap();
    session.run_blocking("open('/data/a', 'w').write('second'); open('/data/b', 'w').write('new')").unwrap();
    let few = Limits { fuel: Some(300_000_000), ..Limits::default() };
    let stopped = session.run_blocking(Turn::new("import os\nos.remove('/data/a'); os.rename('/data/b', '/data/c'); open('/data/d', 'w').write('x' * 99)\nimport builtins; builtins.open = os.remove = None\nwhile True: pass").with_limits(few)).unwrap();
    assert!(is_limit(&stopped, LimitKind::Fuel), "{:?}", stopped.status);
    let told = |session: &mut Session| -> Vec<String> {
        session.changes().iter().map(|change| format!("{} {}", change.kind.name(), change.path)).collect()
    };
    assert_eq!(told(&mut session), ["changed /data/a", "added /data/b"]);
    assert!(session.changes().apply().refused.is_empty());
    assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "second");
    assert_eq!(session.run_blocking("open('/data/a').read()").unwrap().value.unwrap().text, "'second'");
}
