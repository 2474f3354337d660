//! The same job in other processes, folders, time zones and under load: same bytes, same fuel.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use capibara_tests::{Sandbox, cache, engine};
use sha2::{Digest as _, Sha256};

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

#[test]
fn code_that_another_process_kept_runs_the_same() {
    let _ = engine();
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
    let own = sandbox.dir.path().join("cache");
    fs::DirBuilder::new().mode(0o700).create(&own).unwrap();
    symlink(cache().join("runtimes"), own.join("runtimes")).unwrap();
    let _ = sandbox.file("script.py", format!("{CODE}raise SystemExit(3)\n"));
    let run = |words: &[&str]| -> serde_json::Value {
        let mut command = sandbox.command();
        command.env("CAPIBARA_CACHE_DIR", &own);
        command.args(["run", "--format", "json", "--epoch", "2026-01-31T12:00:00Z", "--seed", "1"]).args(words);
        let ran = capibara_tests::finish(command.output().unwrap());
        let mut json: serde_json::Value =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        json["usage"]["wall_ms"] = 0.into();
        json
    };
    let kept = || -> Vec<PathBuf> {
        let folders = fs::read_dir(own.join("scripts")).into_iter().flatten().flatten();
        folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten().map(|file| file.path())).collect()
    };
    // What stands in no file is not kept in one.
    assert_eq!(run(&["-c", "print(1)"])["stdout"], "1\n");
    assert!(kept().is_empty());
    let first = run(&["script.py"]);
    assert_eq!((&first["exit_code"], kept().len()), (&3.into(), 1), "{first:#}");
    let file = kept().remove(0);
    let whole = fs::read(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(run(&["script.py"]), first);
    assert_eq!(fs::read(&file).unwrap(), whole);
    // Damaged, it is made again.
    let mut damaged = whole.clone();
    damaged[40] ^= 1;
    fs::write(&file, damaged).unwrap();
    assert_eq!(run(&["script.py"]), first);
    assert_eq!(fs::read(&file).unwrap(), whole);
    // Where others may write, it is neither read nor kept.
    let mut forged = whole.clone();
    forged[32..40].fill(0xff); // its fuel
    let digest = Sha256::digest(&forged[32..]);
    forged[..32].copy_from_slice(&digest);
    fs::write(&file, &forged).unwrap();
    fs::set_permissions(own.join("scripts"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(run(&["script.py"]), first);
    assert_eq!(fs::read(&file).unwrap(), forged);
}
