//! The library, as an embedder uses it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use capibara::{
    CancelReason, Engine, EngineConfig, EngineError, Epoch, Job, Language, LimitKind, Limits, Outcome, Policy, Queue,
    Script, Status, Stdin, Stream,
};
use capibara_tests::engine;

fn limit_of(outcome: &capibara::Outcome) -> Option<LimitKind> {
    match outcome.status {
        Status::Limit(hit) => Some(hit.kind),
        _ => None,
    }
}

#[test]
fn a_run_returns_output_and_exit_code() {
    let outcome = engine()
        .run_blocking(Job::python("print('out'); import sys; print('err', file=sys.stderr); sys.exit(4)"))
        .unwrap();
    assert_eq!(outcome.status, Status::Completed { exit_code: 4 });
    assert_eq!((outcome.stdout.text().as_ref(), outcome.stderr.text().as_ref()), ("out\n", "err\n"));
    assert!(outcome.determined && !outcome.live);
    assert!(outcome.usage.fuel.unwrap() > 0 && outcome.usage.host_calls > 0);
    assert_eq!(outcome.usage.output_bytes, 8);
}

#[test]
fn runs_share_nothing() {
    let engine = engine();
    let set = Job::python("import builtins, os; builtins.x = 1; os.environ['X'] = '1'; open('/tmp/x', 'w').write('x')");
    // To change the builtins is something to be denied, so it is let pass here.
    let set = set.with_policy(Policy::preset("permissive").unwrap());
    assert!(engine.run_blocking(set).unwrap().success());
    let look = Job::python("import builtins, os; print(hasattr(builtins, 'x'), 'X' in os.environ, os.listdir('/tmp'))");
    assert_eq!(engine.run_blocking(look).unwrap().stdout.text(), "False False []\n");
}

#[test]
fn equal_jobs_give_equal_bytes_and_fuel() {
    let engine = engine();
    let code = "import random, time, uuid, os, tempfile\n\
                print(random.random(), time.time(), uuid.uuid4(), os.urandom(8).hex(), hash('x'), tempfile.mktemp())";
    let job = |seed| Job::python(code).with_epoch(Epoch::from_nanos(1_769_860_800_000_000_000)).with_seed(seed);
    let first = engine.run_blocking(job(1)).unwrap();
    assert!(first.success(), "{}", first.stderr.text());
    for _ in 0..20 {
        let again = engine.run_blocking(job(1)).unwrap();
        assert_eq!(
            (again.stdout, again.usage.fuel, again.job_sha256),
            (first.stdout.clone(), first.usage.fuel, first.job_sha256)
        );
    }
    let other = engine.run_blocking(job(2)).unwrap();
    assert_ne!(other.stdout, first.stdout);
    assert_ne!(other.job_sha256, first.job_sha256);
    // Unpinned: two runs differ, and the clock shows now.
    let unpinned =
        || engine.run_blocking(Job::python("import time, random; print(time.time(), random.random())")).unwrap();
    let (one, two) = (unpinned(), unpinned());
    assert_ne!(one.stdout, two.stdout);
    assert_ne!(one.seed, two.seed);
    let shown: f64 = one.stdout.text().split(' ').next().unwrap().parse().unwrap();
    assert!(
        (shown - std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()).abs()
            < 60.0
    );
    // What was drawn is recorded, and pins the same run.
    let code = "import time, random; print(time.time(), random.random())";
    let replay = engine.run_blocking(Job::python(code).with_epoch(one.epoch).with_seed(one.seed)).unwrap();
    assert_eq!((replay.stdout, replay.job_sha256), (one.stdout, one.job_sha256));
}

/// An engine that has run nothing yet.
fn other_engine() -> Engine {
    let mut config = EngineConfig::default();
    config.cache_dir = Some(capibara_tests::cache());
    config.verify_memory = true;
    Engine::new(config).unwrap()
}

#[test]
fn a_script_that_was_compiled_before_runs_as_the_first_time() {
    let deep = format!("x = {}1{}", "(".repeat(150), ")".repeat(150));
    let large = format!("x = 0\n{}print(x)", "x += 1\n".repeat(12_000)); // more than is compiled apart
    let many = format!("x = 0\n{}print(x)", "x += 1\n".repeat(5_000)); // and its code more than is kept, nearly
    let scripts = [
        ("print(__name__, (lambda: 1000)() is (lambda: 1000)())", "__main__"),
        ("print('\\d')", "SyntaxWarning"),
        ("assert (1, 'always')\nprint(1)", "SyntaxWarning"),
        ("print(1", "SyntaxError: '(' was never closed"),
        ("x = 1\n  y = 2", "IndentationError"),
        ("1 / 0", "    1 / 0\n    ~~^~~\nZeroDivisionError"),
        (&deep, ""),
        (&large, "12000"),
        (&many, "5000"),
        ("", ""),
    ];
    let pinned = |code: &str| Job::python(code).with_epoch(Epoch::from_nanos(0)).with_seed(0);
    for (code, said) in scripts {
        let (engine, other) = (other_engine(), other_engine());
        let first = engine.run_blocking(pinned(code)).unwrap();
        let shown = first.stdout.text().into_owned() + &first.stderr.text();
        assert!(shown.contains(said), "{code}: {shown}");
        for again in [&engine, &engine, &other] {
            let again = again.run_blocking(pinned(code)).unwrap();
            assert_eq!((&again.stdout, &again.stderr), (&first.stdout, &first.stderr), "{code}");
            assert_eq!((again.usage.fuel, again.status), (first.usage.fuel, first.status.clone()), "{code}");
        }
    }
    // The fuel that compiling takes is part of the run's, and binds it.
    let code = format!("x = 0\n{}", "x += 1\n".repeat(2_000));
    let needed = other_engine().run_blocking(pinned(&code)).unwrap().usage.fuel.unwrap();
    for fuel in [needed / 3, needed - 1] {
        let limited = |engine: capibara::Engine| {
            engine.run_blocking(pinned(&code).with_limits(Limits { fuel: Some(fuel), ..Limits::default() })).unwrap()
        };
        let (cold, warm) = (other_engine(), other_engine());
        warm.run_blocking(pinned(&code)).unwrap();
        let (cold, warm) = (limited(cold), limited(warm));
        assert!(matches!(&cold.status, Status::Limit(hit) if hit.kind == LimitKind::Fuel), "{:?}", cold.status);
        assert_eq!((cold.status, cold.usage.fuel), (warm.status, warm.usage.fuel));
    }
}

#[test]
fn output_streams_to_a_sink_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let job = Job::python("import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')")
        .with_sink(move |stream: Stream, bytes: &[u8]| sink.lock().unwrap().push((stream, bytes.to_vec())))
        .with_capture(false);
    let outcome = engine().run_blocking(job).unwrap();
    assert!(outcome.stdout.bytes.is_empty() && !outcome.stdout.truncated);
    let seen = seen.lock().unwrap();
    let of = |wanted| {
        seen.iter().filter(|(stream, _)| *stream == wanted).flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>()
    };
    assert_eq!((of(Stream::Stdout), of(Stream::Stderr)), (b"a\nc\n".to_vec(), b"b\n".to_vec()));
    let order: Vec<Stream> = seen.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(order.iter().position(|s| *s == Stream::Stderr), Some(1), "{order:?}");
}

#[test]
fn standard_input_comes_as_bytes() {
    let job = Job::python("import sys; print(sys.stdin.read().upper())").with_stdin("first\nsecond\n");
    assert_eq!(engine().run_blocking(job).unwrap().stdout.text(), "FIRST\nSECOND\n\n");
    let closed = Job::python("import sys; print(repr(sys.stdin.read()))");
    assert_eq!(engine().run_blocking(closed).unwrap().stdout.text(), "''\n");
}

#[test]
fn fuel_spent_in_host_calls_stops_at_the_same_call_every_time() {
    let code = "import os\nfd = os.open('/tmp/f', os.O_RDWR | os.O_CREAT)\nn = 0\nwhile True:\n    os.pwrite(fd, b'x' * 5000, n * 7000)\n    \
                os.stat('/tmp/../tmp/f')\n    n += 1\n    print(n)";
    let run = |fuel| {
        let limits = Limits { fuel: Some(fuel), ..Limits::default() };
        let outcome = engine().run_blocking(Job::python(code).with_limits(limits).with_seed(1)).unwrap();
        let Status::Limit(hit) = outcome.status else { panic!("{:?}", outcome.status) };
        assert_eq!((hit.kind, hit.allowed), (LimitKind::Fuel, fuel));
        assert!(hit.used >= fuel && hit.used < fuel + fuel / 16, "{hit:?}");
        assert!(outcome.determined);
        (outcome.stdout.bytes, outcome.usage.fuel)
    };
    for fuel in [20_000_000, 100_000_000] {
        let first = run(fuel);
        assert_eq!(first.1.map(|used| used >= fuel), Some(true));
        for _ in 0..5 {
            assert_eq!(run(fuel), first);
        }
    }
}

#[test]
fn fuel_stops_at_the_same_instruction_every_time() {
    let limits = Limits { fuel: Some(50_000_000), ..Limits::default() };
    let job = || {
        Job::python("i = 0\nwhile True:\n  i += 1\n  if i % 1000 == 0: print(i)")
            .with_limits(limits.clone())
            .with_seed(0)
            .with_epoch(Epoch::from_nanos(0))
    };
    let first = engine().run_blocking(job()).unwrap();
    let Status::Limit(hit) = first.status else { panic!("{:?}", first.status) };
    assert_eq!((hit.kind, hit.allowed), (LimitKind::Fuel, 50_000_000));
    assert!(!first.stdout.bytes.is_empty() && first.determined);
    for _ in 0..5 {
        let again = engine().run_blocking(job()).unwrap();
        assert_eq!((again.stdout, again.usage.fuel), (first.stdout.clone(), first.usage.fuel));
    }
}

#[test]
fn limits_name_themselves_and_keep_what_was_printed() {
    let engine = engine();
    let rows: [(&str, Limits, bool, LimitKind); 6] = [
        (
            "while True: pass",
            Limits { wall_time: Duration::from_millis(300), ..Limits::default() },
            false,
            LimitKind::WallTime,
        ),
        (
            "while True: pass",
            Limits { wall_time: Duration::from_millis(300), ..Limits::default() },
            true,
            LimitKind::WallTime,
        ),
        (
            "import time; time.sleep(3)",
            Limits { wall_time: Duration::from_secs(2), ..Limits::default() },
            false,
            LimitKind::WallTime,
        ),
        (
            "import time; time.sleep(3)",
            Limits { wall_time: Duration::from_millis(300), ..Limits::default() },
            true,
            LimitKind::WallTime,
        ),
        (
            "x = []\nwhile True: x.append(bytearray(1 << 20))",
            Limits { memory: 128 << 20, ..Limits::default() },
            false,
            LimitKind::Memory,
        ),
        ("while True: print('y' * 99)", Limits { output: 1 << 16, ..Limits::default() }, false, LimitKind::Output),
    ];
    for (code, limits, live, kind) in rows {
        let started = Instant::now();
        let job = Job::python(format!("print('before')\n{code}")).with_limits(limits.clone()).with_live(live);
        let outcome = engine.run_blocking(job).unwrap();
        let Status::Limit(hit) = outcome.status else {
            panic!("{code}: {:?} {}", outcome.status, outcome.stderr.text())
        };
        assert_eq!(hit.kind, kind, "{code}");
        assert!(hit.used >= hit.allowed, "{code}: {hit:?}");
        assert!(outcome.stdout.text().starts_with("before\n"), "{code}");
        if kind == LimitKind::WallTime {
            assert!(started.elapsed() < Duration::from_millis(450), "{code} live={live}: {:?}", started.elapsed());
        }
        if kind == LimitKind::Output {
            assert!(outcome.stdout.truncated && outcome.stdout.bytes.len() == 1 << 16);
        }
        // The next job is unharmed.
        assert_eq!(engine.run_blocking(Job::python("print(1)")).unwrap().stdout.text(), "1\n");
    }
}

#[test]
fn a_blocked_read_of_standard_input_ends() {
    for live in [false, true] {
        let (reader, writer) = std::io::pipe().unwrap();
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
        let limits = Limits { wall_time: Duration::from_millis(300), ..Limits::default() };
        let started = Instant::now();
        let job = Job::python("print('asking'); input()").with_limits(limits).with_stdin_file(file).with_live(live);
        let outcome = engine().run_blocking(job).unwrap();
        assert_eq!(limit_of(&outcome), Some(LimitKind::WallTime));
        assert_eq!(outcome.stdout.text(), "asking\n");
        assert!(started.elapsed() < Duration::from_millis(2_000));
        assert!(!outcome.determined);
        drop(writer);
    }
}

#[test]
fn cancelling_one_run_leaves_its_neighbour_alone() {
    let engine = engine();
    for live in [false, true] {
        for code in ["while True: pass", "import sys; print('waiting'); sys.stdin.read()"] {
            let (reader, _writer) = std::io::pipe().unwrap();
            let file = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
            let job = Job::python(format!("print('before')\n{code}")).with_live(live).with_stdin_file(file);
            let canceler = job.canceler();
            let neighbour = engine.clone();
            let neighbour = std::thread::spawn(move || {
                neighbour.run_blocking(Job::python("n = 0\nfor i in range(3_000_000): n += i\nprint(n)")).unwrap()
            });
            let asker = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                canceler.cancel();
                Instant::now()
            });
            let outcome = engine.run_blocking(job).unwrap();
            let asked = asker.join().unwrap();
            // Far below the limit of time, and far above what a busy machine may take.
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
            assert_eq!(outcome.status, Status::Canceled { reason: CancelReason::Asked });
            assert!(outcome.stdout.text().starts_with("before\n"));
            assert_eq!(neighbour.join().unwrap().stdout.text(), "4499998500000\n");
        }
    }
}

#[test]
fn a_panicking_or_closed_sink_ends_the_run() {
    struct Closed;
    impl capibara::OutputSink for Closed {
        fn write(&mut self, _: Stream, _: &[u8], _: Instant) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let outcome = engine().run_blocking(Job::python("while True: print('x')").with_sink(Closed)).unwrap();
    assert_eq!(outcome.status, Status::Canceled { reason: CancelReason::SinkClosed });
}

#[test]
fn invalid_jobs_are_errors_that_say_why() {
    let engine = engine();
    let rows = [
        (Job::file("a/b.py", *b"print(1)"), "slash"),
        (Job::file("", *b"print(1)"), "file name"),
        (Job::python("1").with_limits(Limits { memory: 1 << 20, ..Limits::default() }), "memory"),
        (Job::python("1").with_args(["a\0b"]), "NUL"),
        (Job::python("1").with_env("A=B", "c"), "A=B"),
    ];
    for (job, needle) in rows {
        let error = engine.run_blocking(job).unwrap_err();
        assert!(error.to_string().contains(needle), "{error}");
    }
}

#[test]
fn every_way_to_start_a_script() {
    let engine = engine();
    let show = "import sys; print(sys.argv, sys.path[0], __name__, globals().get('__file__'))";
    let rows = [
        (Job::new(Script::Code(show.into())), "['-c', 'a'] "),
        (Job::new(Script::StandardInput(show.into())), "['-', 'a'] "),
        (Job::file("me.py", show.as_bytes()), "['/script/me.py', 'a'] /script __main__ /script/me.py\n"),
    ];
    for (job, expected) in rows {
        let outcome = engine.run_blocking(job.with_args(["a"])).unwrap();
        assert!(outcome.stdout.text().starts_with(expected), "{}{}", outcome.stdout.text(), outcome.stderr.text());
    }
    let module = Job::new(Script::Module("json.tool".into())).with_stdin("{\"b\":1}");
    assert_eq!(engine.run_blocking(module).unwrap().stdout.text(), "{\n    \"b\": 1\n}\n");
}

#[test]
fn the_future_runs_under_any_executor_and_can_be_dropped() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    let engine = engine();
    let mut future = Box::pin(engine.run(Job::python("while True: pass")));
    for _ in 0..10 {
        assert!(matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    }
    drop(future);
    let mut short = Box::pin(engine.run(Job::python("print(1)")));
    let Poll::Ready(outcome) = short.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("a run that never waits ends in its first poll")
    };
    assert_eq!(outcome.unwrap().stdout.text(), "1\n");
    fn sendable<T: Send>(_: &T) {}
    sendable(&engine.run(Job::python("")));
}

#[test]
fn descriptors_of_the_host_are_read_only_as_far_as_asked() {
    use std::io::{Read, Seek};
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &vec![b'x'; 4 << 20]).unwrap();
    file.rewind().unwrap();
    let shared = file.try_clone().unwrap();
    let outcome = engine()
        .run_blocking(Job::python("import os; print(len(os.read(0, 10)))").with_stdin(Stdin::Host(shared)))
        .unwrap();
    assert_eq!(outcome.stdout.text(), "10\n");
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > (4 << 20) - (128 << 10), "{}", rest.len());
}

#[test]
fn a_program_runs_in_the_same_engine_as_scripts() {
    let program = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\10\00\00\00")
        (func (export "_start")
            (drop (call $random (i32.const 16) (i32.const 16)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#;
    let run = |seed| {
        engine().run_blocking(Job::wasm("random.wat", program.as_bytes()).with_seed(seed)).expect("a run").stdout.bytes
    };
    let first = run(1);
    assert_eq!(first.len(), 16);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    let mut code = Job::new(Script::Code("(module)".into()));
    code.language = Language::Wasm;
    let error = engine().run_blocking(code).expect_err("no file");
    assert_eq!(error.code(), "invalid-job");
    let broken = engine().run_blocking(Job::wasm("x.wasm", b"\0asm\x01\0\0\0\xff".as_slice())).expect_err("no module");
    assert_eq!(broken.code(), "invalid-program");
}

#[test]
fn a_queue_bounds_what_runs_and_refuses_what_it_cannot_hold() {
    let mut config = EngineConfig::default();
    config.cache_dir = Some(capibara_tests::cache());
    config.queue = Some(Queue { running: 1, waiting: 2 });
    let engine = Engine::new(config).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let job = |caller: &'static str, code: &str| {
        let order = order.clone();
        Job::python(code).with_caller(caller).with_sink(move |_: Stream, _: &[u8]| order.lock().unwrap().push(caller))
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut poll = |run: &mut Pin<Box<dyn Future<Output = _>>>| match run.as_mut().poll(&mut cx) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    };
    let start = |job| -> Pin<Box<dyn Future<Output = Result<Outcome, EngineError>>>> {
        let engine = engine.clone();
        Box::pin(async move { engine.run(job).await })
    };
    // The first is under way, two wait, and there is no room for another.
    let mut endless = start(job("loud", "while True: pass"));
    assert!(poll(&mut endless).is_none());
    let mut waiting = [start(job("loud", "print(1)")), start(job("quiet", "print(1)"))];
    assert!(waiting.iter_mut().all(|run| poll(run).is_none()));
    let refused = engine.run_blocking(job("quiet", "print(1)")).unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string().contains("2 places in the queue")),
        ("overloaded", true),
        "{refused}"
    );
    assert!(order.lock().unwrap().is_empty());
    // One that is dropped makes room; a denied script needs no place.
    drop(endless);
    let done = waiting.iter_mut().filter_map(&mut poll).collect::<Vec<_>>();
    assert!(done.iter().all(|outcome| outcome.as_ref().is_ok_and(Outcome::success)) && !done.is_empty());
    let [first, second] = waiting;
    drop((first, second));
    assert_eq!(engine.run_blocking(job("quiet", "import os; os.system('id')")).unwrap().status, Status::Denied);
    assert!(engine.run_blocking(job("quiet", "print(1)")).unwrap().success());
}

#[test]
fn endless_loops_stop_in_time_with_sixty_four_of_them() {
    let engine = engine();
    let limits = Limits { wall_time: Duration::from_secs(2), ..Limits::default() };
    let started = Instant::now();
    let late: Vec<Duration> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..64)
            .map(|number| {
                let (engine, limits) = (engine.clone(), limits.clone());
                scope.spawn(move || {
                    let job = Job::python("while True: pass").with_limits(limits).with_live(number % 2 == 1);
                    let outcome = engine.run_blocking(job).unwrap();
                    assert!(matches!(&outcome.status, Status::Limit(hit) if hit.kind == LimitKind::WallTime));
                    outcome.usage.wall_time.saturating_sub(Duration::from_secs(2))
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    // A thread that has no processor for a while cannot look: 64 share two. (How late: `cargo xtask bars`.)
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(late.iter().all(|late| *late < Duration::from_secs(4)), "{late:?}");
}

/// Which pages have to be put back is told from the page faults of the thread that ran; a run that another thread has
/// touched is looked through. The engine of the tests compares each memory with its image.
#[test]
fn runs_that_move_between_threads_are_put_back() {
    type Running = Pin<Box<dyn Future<Output = Result<Outcome, EngineError>> + Send>>;
    let engine = engine();
    let poll = |running: &mut Running| {
        std::thread::sleep(Duration::from_millis(3)); // until the script's sleep is over
        running.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    };
    for round in 0..40 {
        // This thread only begins and ends the run, which takes no page it has not had before: the other one writes.
        let code = format!(
            "import time\nprint(1)\ntime.sleep(0.002)\nx = [str(i) for i in range({})]\ntime.sleep(0.002)\nprint(2)",
            300 * (round / 4) // in memory that the image has already
        );
        for _ in 0..2 {
            assert!(engine.run_blocking(Job::python("print('hello')").with_live(true)).unwrap().success());
        }
        let (runner, job) = (engine.clone(), Job::python(code).with_live(true));
        let mut running: Running = Box::pin(async move { runner.run(job).await });
        assert!(poll(&mut running).is_pending());
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(poll(&mut running).is_pending()));
        });
        let outcome = loop {
            if let Poll::Ready(outcome) = poll(&mut running) {
                break outcome.unwrap();
            }
        };
        assert_eq!(outcome.stdout.text(), "1\n2\n");
    }
}
