//! Sessions, through the public library.

use std::future::Future as _;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use capibara::{EngineError, Epoch, LimitKind, Limits, Policy, Session, SessionConfig, Status, Turn};
use capibara_tests::engine;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

fn pinned() -> SessionConfig {
    let mut config = SessionConfig::default();
    (config.epoch, config.seed) = (Some(Epoch::from_nanos(1_769_860_800_000_000_000)), Some(1));
    config
}

fn said(session: &mut Session, code: &str) -> String {
    capibara_tests::printed(code, &session.run_blocking(code).unwrap())
}

#[test]
fn the_document_shows_what_works() {
    let programs = capibara_tests::shown_programs("docs/sessions.md");
    assert_eq!(programs.len(), 1);
    let mut session = engine().session(pinned()).unwrap();
    assert_eq!(said(&mut session, &programs[0]), "");
    let artifacts = session.artifacts();
    assert_eq!(
        artifacts.iter().map(|it| (&*it.path, it.mime)).collect::<Vec<_>>(),
        [("display-1.svg", "image/svg+xml")]
    );
}

#[test]
fn what_a_turn_leaves_the_next_one_finds() {
    let mut session = engine().session(pinned()).unwrap();
    assert_eq!(session.memory_bytes(), 0);
    assert_eq!(said(&mut session, "import json\nx = [1]\ndef f(n): return x * n\nopen('a', 'w').write('kept')"), "");
    assert!(session.memory_bytes() > 0);
    assert_eq!(said(&mut session, "x.append(2)\nprint(json.dumps(f(2)), open('a').read())"), "[1, 2, 1, 2] kept\n");
    assert_eq!(said(&mut session, "file = open('b', 'w')\nprint(file.write('open'), end='')"), "4");
    assert_eq!(said(&mut session, "file.close(); print(open('b').read())"), "open\n");
    // Memory that grew is there in the next turn, too.
    assert_eq!(said(&mut session, "large = bytearray(100 << 20); large[-1] = 7"), "");
    assert_eq!(said(&mut session, "print(large[-1], len(large) >> 20)"), "7 100\n");
    // An exception and an exit end the turn, and what came before them stays.
    let failed = session.run_blocking("y = 1\n1 / 0").unwrap();
    assert_eq!(failed.exit_code(), Some(1));
    assert!(failed.stderr.text().contains("    1 / 0\n    ~~^~~\nZeroDivisionError"), "{}", failed.stderr.text());
    assert_eq!(session.run_blocking("y += 1\nimport sys; sys.exit(3)").unwrap().exit_code(), Some(3));
    assert_eq!(session.run_blocking("y = (").unwrap().exit_code(), Some(1));
    assert_eq!(said(&mut session, "print(y)"), "2\n");
    // A traceback shows the lines of every turn it goes through.
    said(&mut session, "def div(a, b):\n    return a / b");
    let failed = session.run_blocking("# two lines\ndiv(1, 0)").unwrap().stderr.text().into_owned();
    assert!(failed.contains(", line 2, in <module>\n    div(1, 0)\n"), "{failed}");
    assert!(failed.contains(", line 2, in div\n    return a / b\n"), "{failed}");
}

#[test]
fn equal_sessions_are_equal_in_every_turn() {
    let turns = [
        "import random, time\nprint(random.random(), time.time(), id(random))",
        "time.sleep(2); print(time.time(), random.random())",
        "class A: pass\nprint(A(), time.monotonic())",
        "1 / 0",
        "print(open('/tmp/x', 'w').write('y' * 1000), random.random(), time.time())",
    ];
    let (first, second) = (engine(), engine());
    let mut sessions = [first.session(pinned()).unwrap(), second.session(pinned()).unwrap()];
    let mut clock = 0.0;
    for turn in turns {
        let [one, other] = sessions.each_mut().map(|session| session.run_blocking(turn).unwrap());
        assert_eq!((&one.stdout, &one.stderr, &one.status), (&other.stdout, &other.stderr, &other.status));
        assert_eq!((one.usage.fuel, one.job_sha256), (other.usage.fuel, other.job_sha256));
        // Time goes on.
        for word in one.stdout.text().split_whitespace().filter(|word| word.starts_with("17698")) {
            let now: f64 = word.parse().unwrap();
            assert!(now > clock, "{turn}: {now} after {clock}");
            clock = now;
        }
    }
    // The same turn after another past is another job.
    let again = sessions[0].run_blocking(turns[3]).unwrap();
    assert_ne!(again.job_sha256, sessions[1].run_blocking("pass").unwrap().job_sha256);
}

#[test]
fn each_turn_has_the_limits_for_itself() {
    let mut config = pinned();
    config.limits =
        Limits { fuel: Some(500_000_000), output: 2_000, wall_time: Duration::from_secs(3), ..config.limits };
    let mut session = engine().session(config).unwrap();
    for turn in 0..20 {
        let outcome =
            session.run_blocking("import time; time.sleep(1)\nfor i in range(100_000): pass\nprint('x' * 500)");
        let outcome = outcome.unwrap();
        assert!(outcome.success(), "turn {turn}: {:?}", outcome.status);
        let slept = outcome.usage.slept.as_secs_f64();
        assert!((0.999..=1.001).contains(&slept), "{slept}");
        assert_eq!(outcome.usage.output_bytes, 501);
    }
}

/// A session whose turns are stopped early, and which has something to lose.
fn small() -> Session {
    let mut config = pinned();
    config.limits = Limits {
        fuel: Some(300_000_000),
        output: 10_000,
        memory: 128 << 20,
        wall_time: Duration::from_secs(20),
        ..config.limits
    };
    let mut session = engine().session(config).unwrap();
    said(
        &mut session,
        "x = {'a': 1}\nfile = open('/tmp/f', 'w+')\nfile.write('one')\nfile.flush()\nimport os, random, time",
    );
    session
}

/// What each limit stops, after it has changed whatever it can.
const STOPPED: [(&str, LimitKind); 5] = [
    ("while True: pass", LimitKind::Fuel),
    ("time.sleep(100)", LimitKind::WallTime),
    ("print('x' * 100_000)", LimitKind::Output),
    ("more = [bytearray(1 << 20) for _ in range(1000)]", LimitKind::Memory),
    ("all = []\nwhile True: all.append(bytearray(100_000)); random.random()", LimitKind::Memory),
];
const CHANGES: &str =
    "x['a'] = 2; x['b'] = list(range(1000)); y = 5\nfile.write('two'); file.flush(); os.rename('/tmp/f', '/tmp/g')
os.mkdir('/out/d'); open('/tmp/other', 'w').write('z' * 200_000); random.random(); random.seed(3); time.sleep(1)
del print; os.listdir = None\n";
const LOOK: &str = "print(x, 'y' in globals(), file.tell(), os.listdir('/tmp'), os.listdir('/out'), open('/tmp/f').read(), random.random(), time.time(), time.monotonic())";

#[test]
fn a_stopped_turn_is_undone_exactly() {
    let mut untouched = small();
    let (wanted, later) = (untouched.run_blocking(LOOK).unwrap(), untouched.run_blocking(LOOK).unwrap());
    assert!(wanted.success(), "{}", wanted.stderr.text());
    let mut stops: Vec<(String, Option<LimitKind>)> =
        STOPPED.iter().map(|(code, kind)| ((*code).to_owned(), Some(*kind))).collect();
    stops.push(("import ctypes".into(), None)); // a failure, which is kept: see below
    for (code, kind) in stops {
        let mut session = small();
        for _ in 0..3 {
            let changes = CHANGES.replace("del print; ", "");
            let Some(kind) = kind else { break };
            let stopped = session.run_blocking(format!("{changes}{code}")).unwrap();
            assert!(matches!(&stopped.status, Status::Limit(hit) if hit.kind == kind), "{code}: {:?}", stopped.status);
        }
        for wanted in [&wanted, &later] {
            let found = session.run_blocking(LOOK).unwrap();
            assert_eq!(found.stdout.text(), wanted.stdout.text(), "{code}");
            assert_eq!((found.usage.fuel, found.job_sha256), (wanted.usage.fuel, wanted.job_sha256), "{code}");
        }
    }
    // An exception is an end like any other: what came before it stays.
    let mut session = small();
    assert_eq!(
        session
            .run_blocking(format!("{}1 / 0", CHANGES.replace("del print; os.listdir = None", "")))
            .unwrap()
            .exit_code(),
        Some(1)
    );
    assert!(said(&mut session, "print(x['a'], y, os.listdir('/out'))").starts_with("2 5 ['d']"));
}

#[test]
fn a_canceled_or_dropped_turn_is_undone_and_the_session_goes_on() {
    let wanted = said(&mut small(), LOOK);
    let mut session = small();
    for _ in 0..5 {
        let changes = CHANGES.replace("del print; ", "");
        {
            let mut turn = Box::pin(session.run(format!("{changes}while True: pass")));
            for _ in 0..3 {
                assert!(turn.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
        }
        let canceler = session.canceler();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            canceler.cancel();
        });
        let turn = Turn::new(format!("{changes}while True: pass"))
            .with_limits(Limits { fuel: None, ..session.config().limits.clone() });
        let canceled = session.run_blocking(turn).unwrap();
        assert!(matches!(canceled.status, Status::Canceled { .. }), "{:?}", canceled.status);
        stopper.join().unwrap();
    }
    assert_eq!(said(&mut session, LOOK), wanted);
    // Between turns there is nothing to cancel.
    session.canceler().cancel();
    assert_eq!(said(&mut session, "print(1)"), "1\n");
}

/// Programs of statements that change a session, drawn by number.
fn random_program(random: &mut ChaCha8Rng, statements: usize) -> String {
    const STATEMENTS: [&str; 22] = [
        "v{n} = {m}",
        "v.append({m})",
        "v[:] = [x * 2 % 1000 for x in v][-50:]",
        "d['k{n}'] = {'deep': [{m}, d.get('k{m}')]}; d = dict(list(d.items())[-20:])",
        "print(random.random(), time.time())",
        "random.seed({m})",
        "open('/tmp/f{n}', 'a').write('line {m}\\n' * {n})",
        "print(open('/tmp/f{n}').read()[-20:] if os.path.exists('/tmp/f{n}') else None)",
        "os.path.exists('/tmp/f{n}') and os.remove('/tmp/f{n}')",
        "os.makedirs('/out/a{n}/b{m}', exist_ok=True)",
        "h{n} = open('/tmp/h{n}', 'w+'); h{n}.write('{m}')",
        "f = (lambda n: lambda x: x + n)({m}); print(f({n}))",
        "g = (i * {m} for i in range(100)); next(g)",
        "print(sum(g))",
        "class C{n}:\n    def __del__(self): v.append({m})\n",
        "c = C{n}() if 'C{n}' in globals() else None",
        "time.sleep(0.{n})",
        "big = bytearray({n} << 18); big[{m}] = 1",
        "open('/data/o{n}', 'a').write('{m}')",
        "os.path.exists('/data/f{n}') and os.remove('/data/f{n}')",
        "os.path.exists('/data/f{n}') and os.rename('/data/f{n}', '/data/o{m}')",
        "print(open('/data/f{n}').read() if os.path.exists('/data/f{n}') else sorted(os.listdir('/data')))",
    ];
    let mut program = String::new();
    for _ in 0..statements {
        let (n, m) = (random.next_u32() % 9 + 1, random.next_u32() % 100);
        let statement = STATEMENTS[random.next_u32() as usize % STATEMENTS.len()];
        program += &statement.replace("{n}", &n.to_string()).replace("{m}", &m.to_string());
        program.push('\n');
    }
    program
}

/// How a random program is stopped.
enum Stop {
    /// By this code, whose end is told so.
    Code(&'static str, &'static str),
    /// By whoever hears that it has come so far.
    Cancel,
    /// By whoever waits no longer.
    Drop,
}

const STOPS: [Stop; 13] = [
    Stop::Code("while True: pass", "fuel"),
    Stop::Code("time.sleep(100)", "wall_time"),
    Stop::Code("print('x' * 100_000)", "output"),
    Stop::Code("more = [bytearray(1 << 20) for _ in range(1000)]", "memory"),
    Stop::Code("all = []\nwhile True: all.append(bytearray(100_000)); random.random()", "memory"),
    // Quotas stop nothing: they are met first.
    Stop::Code(
        "try:\n    for n in range(10**6): os.mkdir(f'/tmp/more{n}')\nexcept OSError: pass\nwhile True: pass",
        "fuel",
    ),
    Stop::Code(
        "try:\n    while True: open('/out/more', 'ab').write(bytes(99_999))\nexcept OSError: pass\nwhile True: pass",
        "fuel",
    ),
    Stop::Code(
        "more = []\ntry:\n    while True: more.append(open('/tmp/more', 'w'))\nexcept OSError: pass\nwhile True: pass",
        "fuel",
    ),
    Stop::Code("os.abort()", "trap"),
    // In the middle of itself: it ended, and cannot be gone on with.
    Stop::Code("def deep(n): deep(n - 1) if n else os._exit(3)\ndeep(30)", "exit=3"),
    Stop::Code("async def f(): os._exit(4)\nawait f()", "exit=4"),
    Stop::Cancel,
    Stop::Drop,
];

fn ending(status: &Status) -> String {
    match status {
        Status::Completed { exit_code } => format!("exit={exit_code}"),
        Status::Limit(hit) => hit.kind.to_string(),
        Status::Trapped(_) => "trap".into(),
        Status::Canceled { .. } => "canceled".into(),
        other => format!("{other:?}"),
    }
}

impl Stop {
    /// Runs a program and stops it after its last statement.
    fn run(&self, session: &mut Session, program: &str, number: u64) {
        // What raises is no stop.
        let program = format!("try:\n{}except Exception: pass\n", indented(program));
        match self {
            Self::Code(code, wanted) => {
                let ended = session.run_blocking(format!("{program}{code}")).unwrap();
                assert_eq!(ending(&ended.status), *wanted, "{number}: {}", ended.stderr.text());
            }
            Self::Cancel => {
                let canceler = session.canceler();
                let seen = move |_, bytes: &[u8]| {
                    if String::from_utf8_lossy(bytes).contains("so far") {
                        canceler.cancel();
                    }
                };
                let code = format!("{program}os.write(1, b'so far')\nwhile True: pass");
                let ended = session.run_blocking(Turn::new(code).with_sink(seen)).unwrap();
                assert_eq!(ending(&ended.status), "canceled", "{number}: {}", ended.stderr.text());
            }
            Self::Drop => {
                let mut turn = Box::pin(session.run(format!("{program}while True: pass")));
                for _ in 0..=number % 20 {
                    assert!(turn.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                }
            }
        }
    }
}

#[test]
fn random_programs_find_the_state_before_a_stopped_turn() {
    const PROGRAMS: u64 = 200;
    let folder = tempfile::tempdir().unwrap();
    for n in 1..9 {
        std::fs::write(folder.path().join(format!("f{n}")), format!("of the host {n}\n")).unwrap();
    }
    let layered =
        format!("extends: moderate\nwiden: true\ngrants:\n  overlay: ['{}:/data']\n", folder.path().display());
    let policy = std::sync::Arc::new(Policy::parse("layered", &layered).unwrap());
    let open = || {
        let mut config = SessionConfig::new(policy.clone());
        (config.epoch, config.seed) = (pinned().epoch, pinned().seed);
        config.limits = Limits {
            fuel: Some(150_000_000),
            output: 20_000,
            memory: 128 << 20,
            files: 300,
            bytes_written: 4 << 20,
            descriptors: 40,
            ..config.limits
        };
        let mut session = engine().session(config).unwrap();
        said(&mut session, "import os, random, time\nv, d, g = [], {}, iter(())");
        session
    };
    for number in 0..PROGRAMS {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let before = random_program(&mut random, 12);
        let stopped = random_program(&mut random, 8);
        let after: Vec<String> = (0..3).map(|_| random_program(&mut random, 8)).collect();
        let stop = &STOPS[number as usize % STOPS.len()];
        let (mut one, mut other) = (open(), open());
        one.run_blocking(before.as_str()).unwrap();
        other.run_blocking(before.as_str()).unwrap();
        for _ in 0..=number % 3 {
            stop.run(&mut one, &stopped, number);
        }
        let same = |one: &mut Session, other: &mut Session| {
            for folder in ["/tmp", "/out", "/home/script"] {
                assert_eq!(one.files(folder), other.files(folder), "{number}");
            }
            let [one_layer, other_layer] = [&mut *one, &mut *other].map(|session| {
                let changes = session.changes();
                changes.iter().map(|it| (it.path.clone(), it.kind, it.bytes, it.sha256)).collect::<Vec<_>>()
            });
            assert_eq!(one_layer, other_layer, "{number}");
            assert_eq!(one.memory_bytes(), other.memory_bytes(), "{number}");
        };
        same(&mut one, &mut other);
        for turn in &after {
            let [found, wanted] = [&mut one, &mut other].map(|session| session.run_blocking(turn.as_str()).unwrap());
            assert_eq!(
                (&found.stdout, &found.stderr, &found.status),
                (&wanted.stdout, &wanted.stderr, &wanted.status),
                "{number}: {turn}"
            );
            assert_eq!(
                (found.usage, found.job_sha256, &found.quotas_met),
                (
                    capibara::Usage { wall_time: found.usage.wall_time, ..wanted.usage },
                    wanted.job_sha256,
                    &wanted.quotas_met
                ),
                "{number}: {turn}"
            );
        }
        same(&mut one, &mut other);
    }
}

fn indented(program: &str) -> String {
    program.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn totals_bound_all_turns_together() {
    let mut config = pinned();
    config.total.turns = Some(3);
    let mut session = engine().session(config).unwrap();
    for _ in 0..3 {
        said(&mut session, "1");
    }
    let refused = session.run_blocking("1").unwrap_err();
    assert!(
        matches!(refused, EngineError::SessionEnded { reason: "it has had all the turns it may have" }),
        "{refused}"
    );
    assert_eq!((refused.code(), refused.hint().is_some()), ("session-ended", true));

    let mut config = pinned();
    config.total.fuel = Some(200_000_000);
    let mut session = engine().session(config).unwrap();
    let mut spent = 0;
    loop {
        let outcome = match session.run_blocking("for i in range(1_000_000): pass") {
            Ok(outcome) => outcome,
            Err(error) => break assert!(matches!(error, EngineError::SessionEnded { .. }), "{error}"),
        };
        spent += outcome.usage.fuel.unwrap();
        if let Status::Limit(hit) = outcome.status {
            assert_eq!(hit.kind, LimitKind::Fuel);
        }
    }
    assert!((200_000_000..210_000_000).contains(&spent), "{spent}");
    assert_eq!(session.used().fuel, Some(spent));

    let mut config = pinned();
    (config.total.output, config.total.wall_time) = (Some(1000), Some(Duration::from_secs(10)));
    let mut session = engine().session(config).unwrap();
    said(&mut session, "print('x' * 899); import time; time.sleep(8)");
    for (code, kind) in [("print('x' * 100)", LimitKind::Output), ("time.sleep(3)", LimitKind::WallTime)] {
        let stopped = session.run_blocking(code).unwrap();
        assert!(matches!(&stopped.status, Status::Limit(hit) if hit.kind == kind), "{code}: {:?}", stopped.status);
    }
}

#[test]
fn a_last_expression_has_a_value() {
    let mut session = engine().session(pinned()).unwrap();
    let mut value = |code: &str| {
        let outcome = session.run_blocking(code).unwrap();
        assert!(outcome.success(), "{code}: {}", outcome.stderr.text());
        assert_eq!(outcome.stdout.text(), "", "{code}");
        outcome.value.map(|value| value.text)
    };
    assert_eq!(value("6 * 7").as_deref(), Some("42"));
    assert_eq!(value("_ + 1").as_deref(), Some("43"));
    assert_eq!(value("x = 1"), None);
    assert_eq!(value("x = 1\nx + 1").as_deref(), Some("2"));
    assert_eq!(value("None"), None);
    assert_eq!(value("'a docstring'").as_deref(), Some("'a docstring'"));
    assert_eq!(value("def f(): return 1"), None);
    assert_eq!(value("for i in range(3): i"), None);
    assert_eq!(value("[name for name in globals() if 'capibara' in name]").as_deref(), Some("[]"));
    assert_eq!(value(""), None);
    assert_eq!(value("# nothing"), None);
    assert_eq!(value("__doc__"), None);
    // A value that cannot be shown is an error of the turn.
    let failed = session.run_blocking("class C:\n    def __repr__(self): return 1 / 0\nC()").unwrap();
    assert_eq!((failed.exit_code(), failed.value.is_none()), (Some(1), true));
    assert!(failed.stderr.text().contains("ZeroDivisionError"), "{}", failed.stderr.text());
    // A long one is cut, and says so.
    let long = session.run_blocking("'é' * (16 << 20)").unwrap();
    assert!(
        long.value.as_ref().is_none_or(|value| value.truncated && value.text.len() <= 16 << 20),
        "{:?}",
        long.status
    );
    // A run has none.
    assert_eq!(engine().run_blocking(capibara::Job::python("6 * 7")).unwrap().value, None);
}

#[test]
fn turns_await_at_their_top_level() {
    let mut session = engine().session(pinned()).unwrap();
    said(&mut session, "import asyncio\nasync def f(n):\n    await asyncio.sleep(n)\n    return n\n");
    let outcome = session.run_blocking("a = await f(1)\nawait asyncio.gather(f(2), f(3), f(a))").unwrap();
    assert_eq!(outcome.value.unwrap().text, "[2, 3, 1]");
    assert_eq!(outcome.usage.slept.as_secs_f64().round(), 4.0);
    // A task goes on in the next turn that awaits.
    said(&mut session, "task = asyncio.ensure_future(f(5)); await asyncio.sleep(1)");
    assert_eq!(
        session.run_blocking("task.done(), await task, task.done()").unwrap().value.unwrap().text,
        "(False, 5, True)"
    );
    assert_eq!(
        session.run_blocking("[await f(0.1) for _ in range(3)]").unwrap().value.unwrap().text,
        "[0.1, 0.1, 0.1]"
    );
    let failed = session.run_blocking("async def g():\n    1 / 0\nawait g()").unwrap().stderr.text().into_owned();
    assert!(failed.starts_with("Traceback (most recent call last):\n  File \"<turn"), "{failed}");
    assert!(failed.contains(", line 3, in <module>\n    await g()\n"), "{failed}");
    // asyncio.run is what it always was, and the loop of the turns lives on.
    assert_eq!(said(&mut session, "print(asyncio.run(f(0)))"), "0\n");
    assert_eq!(session.run_blocking("await f(6)").unwrap().value.unwrap().text, "6");
}

#[test]
fn rich_values_are_files_in_out() {
    let mut session = engine().session(pinned()).unwrap();
    let code = "class Dot:\n    def _repr_svg_(self): return '<svg/>'\n    def _repr_png_(self): return b'\\x89PNG'\n    def __repr__(self): return 'a dot'\nDot()";
    let value = session.run_blocking(code).unwrap().value.unwrap();
    assert_eq!(value.text, "a dot");
    assert_eq!(value.files, ["/out/value-1.svg", "/out/value-1.png"]);
    let files = session.files("/out");
    assert_eq!(
        files.iter().map(|(name, bytes)| (name.as_str(), &**bytes)).collect::<Vec<_>>(),
        [("value-1.png", b"\x89PNG".as_slice()), ("value-1.svg", b"<svg/>".as_slice()),]
    );
    assert_eq!(said(&mut session, "from capibara import display\ndisplay(Dot(), 3)"), "3\n");
    assert_eq!(session.files("/out").len(), 4);
}

#[test]
fn completion_looks_and_changes_nothing() {
    let mut session = engine().session(pinned()).unwrap();
    said(
        &mut session,
        "import os\nvalue_one = value_two = 1\nclass A:\n    log = []\n    @property\n    def seen(self): A.log.append(1)\na = A()",
    );
    assert_eq!(session.complete_blocking("value_").unwrap(), ["value_one", "value_two"]);
    assert!(session.complete_blocking("os.path.is").unwrap().contains(&"os.path.isdir(".to_owned()));
    assert!(session.complete_blocking("a.").unwrap().contains(&"a.seen".to_owned()));
    for odd in ["", "'", "\\", "é", "\0", "a.b.c", "x\n", "💡", &"z".repeat(5000)] {
        session.complete_blocking(odd).unwrap();
    }
    said(&mut session, "class Slow:\n    def __getattr__(self, name):\n        while True: pass\nslow = Slow()");
    assert_eq!(session.complete_blocking("slow.x.").unwrap(), [""; 0]);
    assert_eq!(said(&mut session, "print(A.log, value_one)"), "[] 1\n");
    // As if nobody had asked.
    let mut other = engine().session(pinned()).unwrap();
    let mut asked = engine().session(pinned()).unwrap();
    asked.complete_blocking("pri").unwrap();
    let [one, two] =
        [&mut other, &mut asked].map(|session| session.run_blocking("import random; random.random()").unwrap());
    assert_eq!((one.value, one.usage.fuel, one.job_sha256), (two.value, two.usage.fuel, two.job_sha256));
}

#[test]
fn a_denied_turn_changes_nothing() {
    let mut session = engine().session(SessionConfig::new(Policy::preset("strict").unwrap())).unwrap();
    said(&mut session, "x = 1");
    assert_eq!(session.run_blocking("x = 2\nimport os; os.system('id')").unwrap().status, Status::Denied);
    assert_eq!(said(&mut session, "print(x)"), "1\n");
}

#[test]
fn sessions_share_nothing_and_leave_nothing() {
    let engine = engine();
    let mut sessions: Vec<Session> = (0..20).map(|_| engine.session(SessionConfig::default()).unwrap()).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        said(session, &format!("import json; json.number = {number}; open('/tmp/n', 'w').write('{number}')"));
    }
    for (number, session) in sessions.iter_mut().enumerate().rev() {
        assert_eq!(said(session, "print(json.number, open('/tmp/n').read())"), format!("{number} {number}\n"));
    }
    drop(sessions);
    for _ in 0..20 {
        let mut fresh = engine.session(SessionConfig::default()).unwrap();
        assert_eq!(
            said(&mut fresh, "import json, os; print(hasattr(json, 'number'), os.listdir('/tmp'))"),
            "False []\n"
        );
    }
}

#[test]
fn live_sessions_have_real_clocks() {
    let mut config = SessionConfig::default();
    config.live = true;
    let mut session = engine().session(config).unwrap();
    let started = Instant::now();
    let earlier: f64 = said(&mut session, "import time; print(time.time())").parse().unwrap_or_default();
    let outcome = session.run_blocking("time.sleep(0.05); print(time.time())").unwrap();
    assert_eq!(outcome.usage.fuel, None);
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert!(outcome.stdout.text().trim().parse::<f64>().unwrap() >= earlier + 0.05);
}
