//! The same job in other processes, folders, time zones and under load: same bytes, same fuel.

use capibara_tests::{Sandbox, engine};

const CODE: &str = "\
import asyncio, datetime, json, os, random, secrets, sys, tempfile, time, uuid
rows = [random.gauss(0, 1) for _ in range(1000)] + [time.time(), time.monotonic(), time.process_time()]
asyncio.run(asyncio.sleep(0.25))
time.sleep(1.5)
rows += [secrets.token_hex(8), str(uuid.uuid4()), str(datetime.datetime.now()), time.tzname, tempfile.mktemp()]
rows += [hash('text'), id(object()) % 16, sorted({str(i) for i in range(99)})[:3], list({'b', 'a', 'c'})]
open('/tmp/file', 'w').write('x' * 10000)
rows += [os.stat('/tmp/file').st_mtime, os.getpid(), os.getcwd(), sys.platform, float('nan') * -1, os.urandom(4).hex()]
print(json.dumps(rows, default=str))
";

#[test]
fn twenty_processes_give_the_same_bytes_and_the_same_fuel() {
    let _ = engine();
    let run = |at: usize, seed: &str| -> serde_json::Value {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
        let zones = ["UTC", "Europe/Paris", "Asia/Tokyo", "America/Caracas"];
        let words =
            ["run", "--format", "json", "--epoch", "2026-01-31T12:00:00.123456789Z", "--seed", seed, "-c", CODE];
        let mut command = sandbox.command();
        command
            .args(words)
            .env("TZ", zones[at % zones.len()])
            .env("NOISE", "x".repeat(at * 37))
            .env("LANG", "de_DE.UTF-8");
        let ran = capibara_tests::finish(command.output().unwrap());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    };
    // Load: other runs keep both cores busy meanwhile.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || while !stop.load(std::sync::atomic::Ordering::Relaxed) {})
        })
        .collect();
    let first = run(0, "42");
    assert_eq!((&first["status"], &first["exit_code"]), (&"completed".into(), &0.into()), "{first:#}");
    for at in 1..20 {
        if at == 10 {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let again = run(at, "42");
        for key in ["stdout", "stderr", "job_sha256", "determined", "runtime"] {
            assert_eq!(again[key], first[key], "run {at}: {key}");
        }
        assert_eq!(again["usage"]["fuel"], first["usage"]["fuel"], "run {at}");
        assert_eq!(again["usage"]["host_calls"], first["usage"]["host_calls"], "run {at}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    assert_ne!(run(0, "43")["stdout"], first["stdout"]);
}
