//! The host never dies: hostile and mutated scripts, every limit over and over, runs dropped and canceled at any moment.
//! Each test has a process of its own, in which nothing may abort or panic, every result must be an outcome, and memory,
//! threads, descriptors and temporary files must be back where they were.
//!
//! The counts here take a minute or two. The long runs: `CAPIBARA_MUTATIONS=20000`, `CAPIBARA_LEAK_RUNS=10000` (runs, and
//! as many turns of sessions), `CAPIBARA_MOMENTS=1000`.

use std::fs::File;
use std::future::Future;
use std::io::PipeWriter;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use capibara::{
    Engine, EngineConfig, Event, Grant, Job, Language, Limits, Outcome, Policy, SessionConfig, Silent, Status, Tool,
    ToolError, Turn,
};
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

/// How many futures of tools there are.
static ALIVE: AtomicU64 = AtomicU64::new(0);

struct Alive;

impl Alive {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One that answers at once, one that answers from another thread, one that fails, and one that never answers.
fn tools() -> [Tool; 4] {
    let dynamic = |name: &str, never: bool| {
        Tool::dynamic(name, "A tool.", None, move |value| async move {
            let _alive = Alive::new();
            if never {
                std::future::pending::<()>().await;
            }
            Ok::<_, ToolError>(value)
        })
    };
    let late = Tool::dynamic("late", "", None, |value| async move {
        let _alive = Alive::new();
        let shared = Arc::new(Mutex::new((false, None::<Waker>)));
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut shared = of_thread.lock().expect("it is free");
            shared.0 = true;
            if let Some(waker) = shared.1.take() {
                waker.wake();
            }
        });
        std::future::poll_fn(|cx| {
            let mut shared = shared.lock().expect("it is free");
            if shared.0 {
                return Poll::Ready(());
            }
            shared.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        thread.join().expect("the thread ends");
        Ok::<_, ToolError>(value)
    });
    let fails = Tool::dynamic("fails", "", None, |_| async {
        let _alive = Alive::new();
        Err::<serde_json::Value, _>(ToolError::internal("for the host"))
    });
    [dynamic("echo", false), late, fails, dynamic("never", true)]
}

/// Folders of a thread's own: what is read, written and laid over.
struct Folders(PathBuf);

impl Folders {
    fn new(number: u64) -> Self {
        let root = std::env::temp_dir().join(format!("grants-{number}"));
        for folder in ["read", "write", "layer/deep", "out"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let new = Self(root);
        std::fs::write(new.path("read/file"), "content").expect("a file");
        new.fill();
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What is laid over, as it was at first.
    fn fill(&self) {
        for name in ["layer/a", "layer/b", "layer/deep/c"] {
            std::fs::write(self.path(name), "first ".repeat(1000)).expect("a file");
        }
        let _ = std::fs::remove_file(self.path("layer/new"));
    }

    fn policy(&self) -> Policy {
        let [read, write, layer] = ["read", "write", "layer"].map(|name| self.path(name).display().to_string());
        let text = format!(
            "extends: permissive\nwiden: true\ngrants:\n  read: ['{read}:/read']\n  write: ['{write}:/write']\n  overlay: ['{layer}:/layer']\n"
        );
        Policy::parse("everything", &text).expect("a policy")
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let left = std::fs::read_dir(self.path("write")).map_or(0, Iterator::count);
        let _ = std::fs::remove_dir_all(&self.0);
        assert!(left == 0 || std::thread::panicking(), "files are left in the folder that was written to");
    }
}

/// Uses whatever there is to be used; `import asyncio, os, random, sys` and `from capibara import tools` come before it.
const EVERYTHING: &str = "
name = f'/write/{random.random()}'
with open(name, 'w') as file: file.write(open('/read/file').read() + sys.stdin.read())
os.remove(name)
with open('/layer/a', 'a') as file: file.write('more')
with open('/layer/new', 'w') as file: file.write('new')
if os.path.exists('/layer/b'): os.rename('/layer/b', '/layer/deep/b')
else: os.rename('/layer/deep/b', '/layer/b')
os.makedirs('/out/sub', exist_ok=True)
with open('/out/sub/file', 'w') as file: file.write('result' * 10_000)
async def use():
    return await asyncio.gather(*(tools.aio.echo(n=n) for n in range(5)), tools.aio.late(), tools.aio.fails(), return_exceptions=True)
";
const IMPORTS: &str = "import asyncio, os, random, sys\nfrom capibara import tools\n";
/// Ways to end, and how that is told.
const ENDS: [(&str, &str); 9] = [
    ("", "exit=0"),
    ("raise ValueError", "exit=1"),
    ("sys.exit(3)", "exit=3"),
    (
        "from capibara import _channel\nfor _ in range(9): _channel.send({'tool': 'never', 'arguments': {'text': 'x' * 9999}})",
        "exit=0",
    ),
    ("while True: pass", "limit=fuel"),
    ("import time; time.sleep(10**6)", "limit=wall_time"),
    ("while True: print('x' * 999)", "limit=output"),
    ("x = []\nwhile True: x.append(bytearray(1 << 20))", "limit=memory"),
    ("os.abort()", "trap"),
];

fn few() -> Limits {
    let mut limits = Limits::default();
    (limits.fuel, limits.output, limits.memory) = (Some(400_000_000), 100_000, 96 << 20);
    limits
}

fn everything_run(engine: &Engine, folders: &Folders, number: u64) {
    let (end, expected) = ENDS[number as usize % ENDS.len()];
    let events = Arc::new(AtomicU64::new(0));
    let counted = events.clone();
    let job = Job::python(format!("{IMPORTS}{EVERYTHING}asyncio.run(use())\n{end}"))
        .with_policy(folders.policy())
        .with_limits(few())
        .with_events(move |_: Event| _ = counted.fetch_add(1, Ordering::Relaxed));
    let mut job = tools().into_iter().fold(job, Job::with_tool);
    job.stdin = capibara::Stdin::Bytes(vec![b'x'; 12_344].into());
    let outcome = engine.run_blocking(job).unwrap_or_else(|error| panic!("{end}: {error}"));
    assert_eq!(ending(&outcome), expected, "{end}: {}", outcome.stderr.text());
    assert!(events.load(Ordering::Relaxed) >= 15, "{end}");
    assert_eq!(outcome.tools.iter().map(|tool| tool.calls).sum::<u64>(), if end.contains("never") { 16 } else { 7 });
    let written = engine.out_folder(folders.path("out")).expect("a folder").write(&outcome.artifacts);
    assert_eq!((written.files, written.refused.len()), (1, 0), "{end}");
    assert!(outcome.changes.len() >= 3, "{end}: {:?}", outcome.changes);
    if number.is_multiple_of(3) {
        assert!(outcome.changes.apply().refused.is_empty(), "{end}");
        folders.fill();
        let _ = std::fs::remove_file(folders.path("layer/deep/b"));
    }
}

/// Turns of one session, at most so many, with every end there is; then it is dropped. Returns how many were run.
fn everything_session(engine: &Engine, folders: &Folders, number: u64, turns: u64) -> u64 {
    let mut config = SessionConfig::new(folders.policy());
    (config.limits, config.tools) = (few(), tools().into());
    config.limits.bytes_written = 1 << 30;
    let mut session = engine.session(config).expect("a session");
    let kept = session.run_blocking(format!("{IMPORTS}x = 0")).expect("a turn");
    assert!(kept.success(), "{}", kept.stderr.text());
    let mut wanted = 0;
    for turn in 1..turns {
        let at = (number + turn) as usize % (ENDS.len() + 3);
        let (end, expected) = ENDS.get(at).copied().unwrap_or(("while True: pass", "other"));
        let code = format!("{EVERYTHING}await use()\nx += 1\n{end}");
        let held = Arc::new(AtomicU64::new(0));
        let counted = held.clone();
        let events = move |_: Event| _ = counted.fetch_add(1, Ordering::Relaxed);
        let turn = Turn::new(code).with_events(events);
        match at - at.min(ENDS.len() - 1) {
            // One that is canceled by what it prints, one that leaves in the middle, one that is dropped.
            1 => {
                let canceler = session.canceler();
                let turn =
                    Turn::new(format!("{EVERYTHING}await use()\nx += 1\nprint('now', flush=True)\nwhile True: pass"))
                        .with_sink(move |_, _: &[u8]| canceler.cancel());
                assert_eq!(ending(&session.run_blocking(turn).expect("an outcome")), "canceled");
            }
            2 => {
                let outcome = session.run_blocking("x += 1\nos._exit(7)").expect("an outcome");
                assert_eq!(ending(&outcome), "exit=7");
            }
            3 => {
                let mut run = pin!(session.run(turn));
                for _ in 0..number % 50 {
                    if run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                        break;
                    }
                }
            }
            _ => {
                let outcome = session.run_blocking(turn).unwrap_or_else(|error| panic!("{end}: {error}"));
                assert_eq!(ending(&outcome), expected, "{end}: {}", outcome.stderr.text());
                assert!(held.load(Ordering::Relaxed) >= 15, "{end}");
                wanted += u64::from(expected.starts_with("exit"));
            }
        }
    }
    let found = session.run_blocking("x").expect("a turn");
    assert_eq!(found.value.map(|value| value.text), Some(wanted.to_string()), "{}", found.stderr.text());
    assert!(session.complete_blocking("tools.").is_ok() && !session.is_incomplete_blocking("x").expect("an answer"));
    let written = engine.out_folder(folders.path("out")).expect("a folder").write(&session.artifacts());
    assert!(written.refused.is_empty() && written.files <= 1);
    assert!(session.changes().apply().refused.is_empty());
    folders.fill();
    let _ = std::fs::remove_file(folders.path("layer/deep/b"));
    turns + 1
}

/// Calls `work` on two threads, each with folders of its own, until it has done so much.
fn with_folders(total: u64, work: impl Fn(&Folders, u64) -> u64 + Sync) {
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (done, work) = (&done, &work);
            scope.spawn(move || {
                let folders = Folders::new(thread);
                let mut number = thread;
                while done.load(Ordering::Relaxed) < total {
                    done.fetch_add(work(&folders, number), Ordering::Relaxed);
                    number += 2;
                }
            });
        }
    });
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0, "futures of tools are left");
}

fn every_grant() {
    let total = count("CAPIBARA_LEAK_RUNS", 200);
    let (before, engine) = own_engine();
    let run = |folders: &Folders, number: u64| {
        everything_run(&engine, folders, number);
        1
    };
    with_folders(100, run);
    let warm = Footprint::now();
    with_folders(total, run);
    back(engine, 2, warm, before);
    eprintln!("{total} runs that used every grant");
}

fn every_turn() {
    let total = count("CAPIBARA_LEAK_RUNS", 200);
    let (before, engine) = own_engine();
    let run = |folders: &Folders, number: u64| everything_session(&engine, folders, number, 24);
    with_folders(100, run);
    let warm = Footprint::now();
    with_folders(total, run);
    back(engine, 2, warm, before);
    eprintln!("{total} turns that used every grant");
}

/// What a script may have the host hold at one time by messages, answers and arguments, each as large as can be.
fn tool_bombs() {
    // What the allocator keeps of millions of small pieces stays after the first time.
    let (_, engine) = own_engine();
    throw_bombs(&engine);
    drop(engine);
    let before = Footprint::now();
    let (_, engine) = own_engine();
    let warm = throw_bombs(&engine);
    back(engine, 1, warm, before);
}

/// Returns what the process held after the first of two times.
fn throw_bombs(engine: &Engine) -> Footprint {
    let big = |bytes: usize| {
        Tool::dynamic("big", "", None, move |_| async move {
            Ok::<_, ToolError>(serde_json::Value::String("x".repeat(bytes)))
        })
    };
    let raw = "import json\nfrom _capibara_boot import host_call, host_wait, host_read\n";
    let listed = serde_json::json!({"type": "object", "description": "y".repeat(1 << 20)});
    let shown = Tool::dynamic("shown", "", Some(listed), |value| async move { Ok::<_, ToolError>(value) });
    let [_, _, _, never] = tools();
    let typed =
        Tool::new("typed", "", |it: std::collections::BTreeMap<String, i64>| async move { Ok::<_, ToolError>(it) });
    // Each is sent so often at most; how often it was taken, and what came last, is printed.
    let bombs = [
        ("names", 2000, "message = json.dumps({'tool': 'x' * (1 << 20), 'arguments': {}}).encode()", "1024 -2"),
        (
            "errors",
            2000,
            "message = json.dumps({'tool': 'typed', 'arguments': {'a': 'x' * (1 << 19)}}).encode()",
            "1024 -2",
        ),
        (
            "arguments",
            2000,
            "message = json.dumps({'tool': 'never', 'arguments': {'a': 'x' * 1_000_000}}).encode()",
            "1024 -2",
        ),
        (
            "values",
            2000,
            "message = b'{\"tool\": \"never\", \"arguments\": {\"a\": [' + b'{\"\":0},' * 100_000 + b'0]}}'",
            "1024 -2",
        ),
        ("results", 40, "message = b'{\"tool\": \"big\", \"arguments\": {}}'", "40 40"),
        ("lists", 2000, "message = b'{\"list\": \"tools\"}'", "63 -2"),
        ("paths", 10, "message = b'{\"value\": \"\", \"files\": [' + b'\"\",' * 4_000_000 + b'\"\"]}'", "0 -3"),
    ];
    let mut peaks = Vec::new();
    forget_peak();
    let start = peak();
    let mut run = || {
        for (name, most, message, bounded) in bombs {
            let code = format!(
                "{raw}{message}\ncount, got = 0, 1\nwhile got > 0 and count < {most}:\n    got = host_call(message)\n    count += got > 0\n    if count in ({most}, 1000): host_wait(0)\nprint(count, got)"
            );
            let mut job = Job::python(code).with_policy(unhindered());
            job.limits = Limits { memory: 256 << 20, fuel: None, ..Limits::default() };
            job.limits.wall_time = Duration::from_secs(120);
            job.tools.extend([big((16 << 20) - 2), shown.clone(), never.clone(), typed.clone()]);
            forget_peak();
            let outcome = engine.run_blocking(job).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(outcome.stdout.text().trim(), bounded, "{name}: {:?} {}", outcome.status, outcome.stderr.text());
            peaks.push((name, peak().saturating_sub(start) >> 20));
        }
    };
    run();
    let warm = Footprint::now();
    run();
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    eprintln!("memory at its height, MiB: {peaks:?}");
    for (name, peak) in peaks {
        // Of it, the script's own memory and the image of the runtime are more than half.
        assert!(peak <= 256, "{name}: {peak} MiB");
    }
    warm
}

/// The most memory this process has had since [`forget_peak`], in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of the status");
    line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).expect("a number") << 10
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak is reset");
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

/// The same in sessions, with calls of tools under way and large files that are being copied into an overlay.
const TURN_WORK: [&str; 8] = [
    "while True: pass",
    "while True: open('/tmp/x', 'ab').write(bytes(99_999))",
    "while True: print('x' * 99)",
    "more = []\nwhile True: more.append(bytearray(1 << 16))",
    "async def main(): await asyncio.gather(*(tools.aio.never(n=n) for n in range(20)))\nawait main()",
    "while True: tools.late()",
    "for n in range(99): open(f'/layer/large{n % 2}', 'r+b').close(); os.rename(f'/layer/large{n % 2}', f'/layer/{n}')",
    "while True:\n    open('/layer/a', 'a').write('more' * 999); os.rename('/layer/a', '/layer/b'); os.rename('/layer/b', '/layer/a')",
];

fn sessions_dropped_and_canceled() {
    let total = count("CAPIBARA_MOMENTS", 100);
    let (before, engine) = own_engine();
    let run = |folders: &Folders, number: u64| {
        for name in ["layer/large0", "layer/large1"] {
            if !folders.path(name).exists() {
                std::fs::write(folders.path(name), vec![7; 64 << 20]).expect("a file");
            }
        }
        let mut config = SessionConfig::new(folders.policy());
        (config.limits.fuel, config.limits.output, config.limits.memory) = (None, 1 << 20, 256 << 20);
        config.tools = tools().into();
        let mut session = engine.session(config).expect("a session");
        session.run_blocking(format!("{IMPORTS}x = 1")).expect("a turn");
        let code = TURN_WORK[(number / 2) as usize % TURN_WORK.len()];
        let moment = Duration::from_micros((number * 7919 % 1009).pow(2) / 51);
        let turn = Turn::new(format!("x = 2\n{code}"));
        let mut stopped = true;
        if number % 4 < 2 {
            let mut run = pin!(session.run(turn));
            let until = Instant::now() + moment;
            loop {
                if let Poll::Ready(outcome) = run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    // A limit may have been there before the moment, or an error that is kept.
                    stopped = !matches!(outcome.expect("an outcome").status, Status::Completed { .. });
                    break;
                }
                if Instant::now() >= until {
                    break;
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        } else {
            let canceler = session.canceler();
            let over = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(moment);
                    // Before the turn has begun there is nothing to cancel.
                    while !over.load(Ordering::SeqCst) {
                        canceler.cancel();
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
                let outcome = session.run_blocking(turn).unwrap_or_else(|error| panic!("{code}: {error}"));
                over.store(true, Ordering::SeqCst);
                let ended = ending(&outcome);
                assert!(
                    matches!(ended.as_str(), "canceled" | "limit=memory" | "limit=output" | "exit=1"),
                    "{code}: {ended}"
                );
                stopped = ended != "exit=1";
            });
        }
        // The session goes on where it was, or is dropped as it is.
        if number % 8 < 5 {
            let found = session.run_blocking("x, os.listdir('/tmp')").expect("a turn");
            let wanted = if stopped { "(1, [])" } else { "(2, " };
            assert!(found.value.is_some_and(|value| value.text.starts_with(wanted)), "{code}: {}", found.stderr.text());
            assert!(!stopped || session.changes().is_empty(), "{code}");
        }
        1
    };
    with_folders(TURN_WORK.len() as u64 * 4, run);
    let warm = Footprint::now();
    with_folders(total, run);
    back(engine, 2, warm, before);
    eprintln!("{total} moments of sessions");
}

const TESTS: [(&str, fn()); 8] = [
    ("host_survival", survival),
    ("mutated_scripts", mutated_scripts),
    ("every_limit_leaves_nothing", every_limit),
    ("every_grant_leaves_nothing", every_grant),
    ("every_turn_leaves_nothing", every_turn),
    ("tool_bombs", tool_bombs),
    ("dropped_and_canceled_at_any_moment", dropped_and_canceled),
    ("sessions_dropped_and_canceled_at_any_moment", sessions_dropped_and_canceled),
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
