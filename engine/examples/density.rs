//! Holds many sessions at once, each with state, and lets all of them answer a second turn.
//!
//! `density [SESSIONS]` (default 10,000) prints one JSON object: memory in all and of each session, mappings, and how long
//! turns took when two threads asked all sessions in a mixed order. For `cargo xtask density`.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use capibara::{Engine, EngineConfig, Language, Session, SessionConfig, Silent};
use serde_json::json;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).map_or(Ok(10_000), |word| word.parse())?;
    let engine = Engine::new(EngineConfig::default())?;
    engine.prepare(Language::Python, false, &Silent)?;
    let before = Memory::now()?;
    let started = Instant::now();
    let mut sessions = Vec::with_capacity(count);
    for number in 0..count {
        let mut session = engine.session(SessionConfig::default())?;
        ask(&mut session, "import json\nstate = {'number': 0, 'items': list(range(100))}", "")?;
        ask(&mut session, &format!("state['number'] = {}", number % 97), "")?;
        sessions.push((number, session));
    }
    let opened = started.elapsed();
    let held = Memory::now()?;
    let mappings = std::fs::read_to_string("/proc/self/maps")?.lines().count();

    // Neighbours in the order of asking are far from each other in the order of opening.
    sessions.sort_by_key(|(number, _)| number.wrapping_mul(7919) % 10_007);
    let started = Instant::now();
    let times = Mutex::new(Vec::with_capacity(count));
    let shares = sessions.chunks_mut(count.div_ceil(2).max(1));
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares.map(|share| scope.spawn(|| answer(share, &times))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    let answered = started.elapsed();
    let after = Memory::now()?;
    let mut times = times.into_inner().unwrap_or_default();
    times.sort();
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).map(milliseconds);
    let gib = |kib: u64| kib as f64 / f64::from(1 << 20);
    let each = |memory: &Memory| (memory.kib() - before.kib()) as f64 / count.max(1) as f64;
    writeln!(
        std::io::stdout(),
        "{}",
        json!({
            "sessions": count,
            "opened_per_second": count as f64 / opened.as_secs_f64(),
            "memory_gib": gib(held.kib()),
            "memory_gib_after_second_turn": gib(after.kib()),
            "kib_each": each(&held),
            "kib_each_after_second_turn": each(&after),
            "mappings": mappings,
            "turns_per_second": count as f64 / answered.as_secs_f64(),
            "turn_ms": {"p50": at(0.5), "p99": at(0.99), "most": times.last().map(milliseconds)},
        })
    )?;
    Ok(())
}

fn answer(share: &mut [(usize, Session)], times: &Mutex<Vec<Duration>>) -> Result<(), Failure> {
    for (number, session) in share {
        let started = Instant::now();
        let expected = format!("{} 4950\n", *number % 97);
        ask(session, "print(state['number'], sum(state['items']))", &expected)?;
        let time = started.elapsed();
        times.lock().map_err(|_| "a thread panicked")?.push(time);
    }
    Ok(())
}

fn ask(session: &mut Session, code: &str, expected: &str) -> Result<(), Failure> {
    let outcome = session.run_blocking(code)?;
    if !outcome.success() || outcome.stdout.text() != expected {
        return Err(format!("{code}: {:?} {}", outcome.status, outcome.stderr.text()).into());
    }
    Ok(())
}

/// Memory of this process alone, and what its page tables take.
struct Memory {
    private_kib: u64,
    tables_kib: u64,
}

impl Memory {
    fn now() -> Result<Self, Failure> {
        let number = |file: &str, name: &str| -> Result<u64, Failure> {
            let text = std::fs::read_to_string(file)?;
            let line = text.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
            Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
        };
        Ok(Self {
            private_kib: number("/proc/self/smaps_rollup", "Private_Dirty:")?,
            tables_kib: number("/proc/self/status", "VmPTE:")?,
        })
    }

    fn kib(&self) -> u64 {
        self.private_kib + self.tables_kib
    }
}
