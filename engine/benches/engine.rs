//! What running takes, inside a process: `cargo bench -p capibara`. Ratios to other systems are those of `cargo xtask bars`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run has no figure")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use capibara::{Engine, EngineConfig, Job, Language, Session, SessionConfig, Silent};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const HELLO: &str = "print('hello')";
const IMPORTS: &str = "import json, re, datetime, collections, itertools, functools, random, pathlib\nprint('hello')";
const WORK: &str = "import json, re, datetime\n\
    print(json.dumps({'a': 1}), re.match(r'(\\w+)', 'ab').group(), datetime.date(2020, 1, 1))";

fn engine() -> Engine {
    let engine = Engine::new(EngineConfig::default()).expect("a cache folder");
    engine.prepare(Language::Python, false, &Silent).expect("the Python runtime");
    engine
}

fn run(engine: &Engine, code: &str) {
    let outcome = engine.run_blocking(Job::python(code)).expect("a run");
    assert!(outcome.success(), "{}", outcome.stderr.text());
}

/// A fresh instance for each run. The script was scanned and compiled before, as any script that runs twice.
fn fresh(c: &mut Criterion) {
    let engine = engine();
    let mut group = c.benchmark_group("fresh");
    for (name, code) in [("hello", HELLO), ("eight imports", IMPORTS), ("json, re, datetime", WORK)] {
        group.bench_function(name, |b| b.iter(|| run(&engine, code)));
    }
    // Scanned and compiled by the run itself.
    let mut number = 0_u64;
    group.bench_function("a script never seen before", |b| {
        b.iter(|| {
            number += 1;
            run(&engine, &format!("print('hello') # {number} {}", std::process::id()));
        });
    });
    group.finish();
}

fn scan(c: &mut Criterion) {
    let engine = engine();
    c.bench_function("scan/kept", |b| b.iter(|| black_box(engine.scan(&Job::python(WORK)))));
}

/// Runs per second by one and two threads that share an engine.
fn throughput(c: &mut Criterion) {
    let engine = engine();
    let mut group = c.benchmark_group("throughput");
    for threads in [1_u64, 2] {
        group.throughput(Throughput::Elements(threads));
        group.bench_with_input(BenchmarkId::from_parameter(threads), &threads, |b, &threads| {
            b.iter_custom(|rounds| {
                let started = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| (0..rounds).for_each(|_| run(&engine, HELLO)));
                    }
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

/// A turn of one session out of many that are open, each time another one.
fn live(c: &mut Criterion) {
    let engine = engine();
    let mut sessions: Vec<Session> = Vec::new();
    let mut group = c.benchmark_group("turn of one of");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for count in [1, 10, 100, 1_000, 10_000] {
        while sessions.len() < count {
            let mut session = engine.session(SessionConfig::default()).expect("a session");
            session.run_blocking("x = 0").expect("a turn");
            sessions.push(session);
        }
        let mut next = 0;
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |b, _| {
            b.iter(|| {
                next = (next + 7_919) % count;
                let outcome = sessions[next].run_blocking("x += 1").expect("a turn");
                assert!(outcome.success());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fresh, scan, throughput, live);
criterion_main!(benches);
