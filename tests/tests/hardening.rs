//! The host never dies: hostile and mutated scripts, every limit over and over, runs dropped and canceled at any moment.
//! Each test has a process of its own, in which nothing may abort or panic, every result must be an outcome, and memory,
//! threads, descriptors and temporary files must be back where they were.
//!
//! The counts here take a minute. The long runs: `CAPIBARA_MUTATIONS=20000`, `CAPIBARA_LEAK_RUNS=10000`,
//! `CAPIBARA_MOMENTS=1000`.

use std::fs::File;
use std::future::Future;
use std::io::PipeWriter;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use capibara::{Engine, EngineConfig, Grant, Job, Language, Limits, Outcome, Policy, Silent, Status};
use capibara_tests::{Footprint, Mutator, alone, cache, engine, fixture, is_alone, skip};
use libtest_mimic::{Arguments, Failed, Trial};

/// Memory by which a process may stay above its baseline: what the allocator keeps.
const TOLERANCE: u64 = 16 << 20;
/// The same for each slot an engine keeps for later runs: which pages it keeps depends on what ran there (8 MiB at most).
const SLOT_TOLERANCE: u64 = 2 << 20;

fn corpus() -> Option<PathBuf> {
    std::env::var_os("CAPIBARA_CORPUS").map(PathBuf::from)
}

/// A count of this test, which an environment variable raises.
fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().expect("a count"))
}

/// What this process holds without an engine, and an engine of its own, which can be dropped, and which checks its memories
/// after every run.
fn own_engine() -> (Footprint, Engine) {
    let make = || {
        let mut config = EngineConfig::default();
        config.cache_dir = Some(cache());
        config.verify_memory = true;
        let engine = Engine::new(config).expect("an engine");
        for live in [false, true] {
            engine.prepare(Language::Python, live, &Silent).expect("the Python runtime");
        }
        hello(&engine);
        engine.run_blocking(Job::wasm("use.wat", OVERFLOW.as_bytes())).expect("a run");
        engine
    };
    // What belongs to the process stays after the first engine: signal handlers, one descriptor to look at page tables, and
    // the threads that compile, where the cache folder does not have the program.
    drop(make());
    (Footprint::now(), make())
}

fn hello(engine: &Engine) {
    let outcome = engine.run_blocking(Job::python("print('hello')")).expect("a run");
    assert!(outcome.success() && outcome.stdout.text() == "hello\n", "{outcome:?}");
}

/// Standard input that stays open and silent as long as the writer lives.
fn silent_input() -> (File, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (File::from(OwnedFd::from(reader)), writer)
}

/// Calls `work` with every number below `total`, on `threads` threads; a panic in one fails the test.
fn spread(total: u64, threads: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

/// Asserts that the process is where it was after a warm-up that used so many slots, and where it was before the engine once
/// that is gone.
fn back(engine: Engine, slots: u64, warm: Footprint, before: Footprint) {
    hello(&engine);
    let after = warm.is_back(TOLERANCE + slots * SLOT_TOLERANCE).expect("the baseline");
    drop(engine);
    let dropped = before.is_back(TOLERANCE).expect("the baseline before the engine");
    for (when, footprint) in [("before", before), ("warm", warm), ("after", after), ("engine dropped", dropped)] {
        eprintln!("{when}: {footprint:?}");
    }
}

/// The scan looks, and denies nothing that can be read: what it would have denied shall run here.
fn unhindered() -> Policy {
    Policy::preset("permissive").expect("a preset")
}

/// A script of `host-survival/` and what its first line says.
struct Survivor {
    name: String,
    source: Vec<u8>,
    expected: String,
}

impl Survivor {
    fn all(folder: &Path) -> Vec<Self> {
        let mut found: Vec<Self> = std::fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let source = std::fs::read(&path).expect("a script");
                let text = String::from_utf8_lossy(&source).into_owned();
                let first = text.lines().next().and_then(|line| line.strip_prefix("# expect: "));
                let expected = first.and_then(|line| line.split_once(';')).expect("an expectation").0.to_owned();
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                Self { name, source, expected }
            })
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// Fuel bounds what has no expectation, so that 64 on two cores get as far as one does alone.
    fn run(&self, engine: &Engine) {
        let by_time = self.expected == "limit=wall_time";
        let limits = Limits {
            fuel: (!by_time).then_some(6_000_000_000),
            wall_time: Duration::from_secs(if by_time { 1 } else { 120 }),
            memory: 128 << 20,
            output: 1 << 20,
            ..Limits::default()
        };
        let mut job =
            Job::file(self.name.clone(), self.source.clone()).with_policy(unhindered()).with_limits(limits.clone());
        let held = (self.name == "stdin_block.py").then(silent_input);
        let _writer = held.map(|(reader, writer)| {
            job.stdin = capibara::Stdin::Host(reader);
            job.limits.wall_time = Duration::from_secs(1);
            writer
        });
        let outcome = engine.run_blocking(job).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let got = match outcome.status {
            Status::Limit(hit) => format!("limit={}", hit.kind),
            Status::Completed { exit_code } => format!("exit={exit_code}"),
            _ => "other".into(),
        };
        let right = match self.expected.as_str() {
            "any outcome" => true,
            "script" => got.starts_with("exit="),
            "truncated" => outcome.stdout.truncated && got == "limit=output",
            expected => expected == got,
        };
        assert!(right, "{}: expected {}, got {:?}", self.name, self.expected, outcome.status);
    }
}

fn survival() {
    let scripts = Survivor::all(&corpus().expect("the corpus").join("host-survival"));
    assert!(scripts.len() >= 30, "{} scripts", scripts.len());
    let (before, engine) = own_engine();
    let all = |at_a_time: u64| {
        let runs = scripts.len().next_multiple_of(at_a_time as usize) as u64;
        spread(runs, at_a_time, |number| {
            scripts[number as usize % scripts.len()].run(&engine);
            if at_a_time == 1 {
                hello(&engine);
            }
        });
    };
    all(64);
    let warm = Footprint::now();
    all(1);
    all(64);
    back(engine, 64, warm, before);
    eprintln!("{} scripts, one after another and 64 at a time", scripts.len());
}

/// Python scripts to mutate: the corpus where there is one, and our own.
fn seeds() -> Vec<Vec<u8>> {
    let mut folders = vec![fixture("scripts"), fixture("limits")];
    if let Some(corpus) = corpus() {
        folders.extend([corpus.join("run"), corpus.join("host-survival")]);
    }
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "py") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("a script")).collect()
}

fn mutated_scripts() {
    let mutator = Mutator::new(seeds());
    let total = count("CAPIBARA_MUTATIONS", 300);
    let (before, engine) = own_engine();
    let limits = Limits {
        fuel: Some(20_000_000_000),
        wall_time: Duration::from_millis(200),
        memory: 96 << 20,
        output: 64 << 10,
        bytes_written: 4 << 20,
        files: 50,
        descriptors: 16,
    };
    let tally: [AtomicU64; 5] = Default::default();
    let run = |number: u64| {
        // What ran last is there to look at when the process dies, and so is what broke the guest down.
        let script = mutator.script(number);
        let keep = |name: String, script: &[u8]| {
            std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), script).expect("a script is kept");
        };
        keep(format!("mutated-{:?}.py", std::thread::current().id()), &script);
        let live = number % 8 == 7;
        let mut job = Job::file("mutated.py", script.as_slice()).with_policy(unhindered());
        job = job.with_limits(limits.clone()).with_seed(number.into());
        if live {
            job = job.with_live(true);
            job.limits.fuel = None;
        }
        match engine.run_blocking(job) {
            Ok(outcome) => {
                let kind = match outcome.status {
                    Status::Completed { exit_code: 0 } => 0,
                    Status::Completed { .. } => 1,
                    Status::Limit(_) => 2,
                    // A script may ask for it; any other is worth a look.
                    Status::Trapped(_) if script.windows(5).any(|part| part == b"abort") => 3,
                    Status::Trapped(trap) => {
                        eprintln!("script {number}: {trap:?}");
                        keep(format!("trapped-{number}.py"), &script);
                        3
                    }
                    // A mutation may leave no text that could be scanned.
                    Status::Denied if outcome.scan.findings.iter().all(|it| it.rule == "unreadable-source") => 4,
                    _ => panic!("script {number}: {:?}", outcome.status),
                };
                tally[kind].fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("script {number}: {error}"),
        }
        if number % 1000 == 999 {
            eprintln!("{} scripts: {:?}", number + 1, Footprint::now());
        }
    };
    spread(total.min(100), 2, run);
    let warm = Footprint::now();
    spread(total, 2, run);
    back(engine, 2, warm, before);
    let told: Vec<u64> = tally.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    eprintln!(
        "{total} mutated scripts: ended well {}, with an error {}, by a limit {}, by a trap {}",
        told[0], told[1], told[2], told[3]
    );
}

/// A job that uses something up, and how it must end: `exit=CODE`, `limit=KIND`, `trap` or `canceled`.
struct Use {
    code: &'static str,
    expected: &'static str,
    set: fn(&mut Job),
}

const OVERFLOW: &str = "(module (memory (export \"memory\") 1) (func $f (export \"_start\") (call $f) (call $f)))";

const USES: [Use; 20] = [
    Use { code: "print('x' * 1000)", expected: "exit=0", set: |_| {} },
    Use { code: "import sys; sys.exit(3)", expected: "exit=3", set: |_| {} },
    Use { code: "raise ValueError", expected: "exit=1", set: |_| {} },
    Use { code: "import os; os.abort()", expected: "trap", set: |_| {} },
    Use { code: "while True: pass", expected: "limit=fuel", set: |job| job.limits.fuel = Some(50_000_000) },
    Use {
        code: "while True: pass",
        expected: "limit=wall_time",
        set: |job| job.limits.wall_time = Duration::from_millis(5),
    },
    Use {
        code: "while True: pass",
        expected: "limit=wall_time",
        set: |job| (job.live, job.limits.wall_time) = (true, Duration::from_millis(5)),
    },
    Use { code: "import time; time.sleep(10**6)", expected: "limit=wall_time", set: |_| {} },
    Use {
        code: "import time; time.sleep(10)",
        expected: "limit=wall_time",
        set: |job| (job.live, job.limits.wall_time) = (true, Duration::from_millis(5)),
    },
    Use {
        code: "x = []\nwhile True: x.append(bytearray(1 << 20))",
        expected: "limit=memory",
        set: |job| job.limits.memory = 96 << 20,
    },
    Use { code: "while True: print('x' * 999)", expected: "limit=output", set: |job| job.limits.output = 100_000 },
    Use {
        code: "import sys\ndef f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError: sys.exit(5)",
        expected: "exit=5",
        set: |_| {},
    },
    Use { code: OVERFLOW, expected: "limit=stack", set: |job| job.language = Language::Wasm },
    Use {
        code: "import os, sys\ntry:\n  for i in range(99): os.mkdir(f'/tmp/{i}')\nexcept OSError: sys.exit(6)",
        expected: "exit=6",
        set: |job| job.limits.files = 20,
    },
    Use {
        code: "import os, sys\ntry:\n  for i in range(99): open(f'/tmp/{i}', 'wb').write(bytes(9999))\nexcept OSError: sys.exit(7)",
        expected: "exit=7",
        set: |job| job.limits.bytes_written = 100_000,
    },
    Use {
        code: "import os, sys\nx = []\ntry:\n  while True: x.append(open('/tmp/f', 'wb'))\nexcept OSError: sys.exit(8)",
        expected: "exit=8",
        set: |job| job.limits.descriptors = 16,
    },
    Use {
        code: "import sys; sys.exit(len(sys.stdin.read()) % 100)",
        expected: "exit=44",
        set: |job| job.stdin = capibara::Stdin::Bytes(vec![b'x'; 12_344].into()),
    },
    Use { code: "while True: pass", expected: "canceled", set: |job| job.canceler().cancel() },
    Use {
        code: "import sys\ntry: open('/granted/new', 'w')\nexcept OSError: sys.exit(len(open('/granted/file').read()))",
        expected: "exit=7",
        set: |job| job.grants.push(Grant::read(granted()).at("/granted")),
    },
    Use {
        code: "import os, random, sys\nname = f'/granted/{random.random()}'\nopen(name, 'w').write('x')\nos.remove(name)\nsys.exit(9)",
        expected: "exit=9",
        set: |job| job.grants.push(Grant::write(granted()).at("/granted")),
    },
];

/// A folder of the host with one file of seven bytes.
fn granted() -> PathBuf {
    std::env::temp_dir().join("granted")
}

fn every_limit() {
    let total = count("CAPIBARA_LEAK_RUNS", 500);
    std::fs::create_dir(granted()).expect("a folder");
    std::fs::write(granted().join("file"), "content").expect("a file");
    let (before, engine) = own_engine();
    let run = |number: u64| {
        let used = &USES[number as usize % USES.len()];
        let mut job = Job::file("use.py", used.code.as_bytes());
        if used.code == OVERFLOW {
            job = Job::wasm("use.wat", used.code.as_bytes());
        }
        (used.set)(&mut job);
        // The same with standard input that never answers, and the output given away.
        let held = (number.is_multiple_of(3) && matches!(job.stdin, capibara::Stdin::Closed)).then(silent_input);
        let _writer = held.map(|(reader, writer)| {
            job.stdin = capibara::Stdin::Host(reader);
            writer
        });
        if number.is_multiple_of(5) {
            job = job.with_sink(|_, bytes: &[u8]| drop(bytes.to_vec())).with_capture(false);
        }
        let outcome = engine.run_blocking(job).unwrap_or_else(|error| panic!("{}: {error}", used.code));
        assert_eq!(ending(&outcome), used.expected, "{}: {}", used.code, outcome.stderr.text());
    };
    spread(USES.len() as u64 * 10, 2, run);
    let warm = Footprint::now();
    spread(total, 2, run);
    back(engine, 2, warm, before);
    assert_eq!(std::fs::read_dir(granted()).expect("the folder").count(), 1, "files are left in it");
    std::fs::remove_dir_all(granted()).expect("the folder");
    eprintln!("{total} runs of {} uses", USES.len());
}

fn ending(outcome: &Outcome) -> String {
    match &outcome.status {
        Status::Limit(hit) => format!("limit={}", hit.kind),
        Status::Completed { exit_code } => format!("exit={exit_code}"),
        Status::Trapped(_) => "trap".into(),
        Status::Canceled { .. } => "canceled".into(),
        other => format!("{other:?}"),
    }
}

/// Work that is under way for at least tens of milliseconds, in computing, in waiting or in the World.
const WORK: [(&str, bool); 9] = [
    ("while True: pass", false),
    ("while True: pass", true),
    ("import time\nwhile True: time.sleep(0.001)", true),
    ("import time; time.sleep(99)", true),
    ("import sys; sys.stdin.read()", false),
    ("import sys; sys.stdin.read()", true),
    ("while True: open('/tmp/x', 'ab').write(bytes(99_999))", false),
    ("while True: print('x' * 99)", false),
    ("x = []\nwhile True: x.append(bytearray(1 << 16))", true),
];

fn dropped_and_canceled() {
    let total = count("CAPIBARA_MOMENTS", 100);
    let (before, engine) = own_engine();
    let run = |number: u64| {
        let (code, live) = WORK[number as usize % WORK.len()];
        let (reader, _writer) = silent_input();
        let job = Job::python(code).with_live(live).with_stdin_file(reader);
        // Moments spread over the first 20 ms, differently for each piece of work; most are early.
        let moment = Duration::from_micros((number * 7919 % 1009).pow(2) / 51);
        if number.is_multiple_of(2) {
            let mut run = pin!(engine.run(job));
            let mut context = Context::from_waker(Waker::noop());
            let until = Instant::now() + moment;
            loop {
                // A run may have filled a limit before the moment comes.
                if let Poll::Ready(outcome) = run.as_mut().poll(&mut context) {
                    assert!(matches!(outcome.expect("an outcome").status, Status::Limit(_) | Status::Completed { .. }));
                    return;
                }
                if Instant::now() >= until {
                    return;
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        let canceler = job.canceler();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(moment);
                canceler.cancel();
            });
            let outcome = engine.run_blocking(job).unwrap_or_else(|error| panic!("{code}: {error}"));
            assert!(
                matches!(ending(&outcome).as_str(), "canceled" | "limit=memory" | "limit=output" | "exit=1"),
                "{code}: {:?}",
                outcome.status
            );
        });
    };
    spread(WORK.len() as u64 * 4, 2, run);
    let warm = Footprint::now();
    spread(total, 2, run);
    back(engine, 2, warm, before);
    eprintln!("{total} moments");
}

const TESTS: [(&str, fn()); 4] = [
    ("host_survival", survival),
    ("mutated_scripts", mutated_scripts),
    ("every_limit_leaves_nothing", every_limit),
    ("dropped_and_canceled_at_any_moment", dropped_and_canceled),
];

fn main() {
    if let Some((_, body)) = TESTS.iter().find(|(name, _)| is_alone(name)) {
        return body();
    }
    let arguments = Arguments::from_args();
    let mut tests = TESTS.to_vec();
    if corpus().is_none() {
        tests.retain(|(name, _)| *name != "host_survival");
        if !arguments.list {
            skip("host_survival", "corpus not given");
        }
    }
    if !arguments.list {
        let _ = engine(); // builds the runtime before the first test, if it is not there
    }
    let trials =
        tests.into_iter().map(|(name, _)| Trial::test(name, move || alone(name).map_err(Failed::from))).collect();
    // Each uses two threads or more by itself.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}
