//! Runtimes in one file: exported, imported, and behind a program that needs nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use capibara_tests::{Ran, Sandbox, engine, finish};

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

/// With a cache of its own, and no program in its path.
fn run_in(sandbox: &Sandbox, cache: &Path, words: &[&str]) -> Ran {
    let mut command = sandbox.command();
    finish(command.env("CAPIBARA_CACHE_DIR", cache).env("PATH", "").args(words).output().unwrap())
}

/// The pack of the installed runtime with code for both kinds of machines, exported once: it takes long.
fn pack() -> &'static [u8] {
    static PACK: OnceLock<Vec<u8>> = OnceLock::new();
    PACK.get_or_init(|| {
        let sandbox = sandbox();
        let targets = ["--target", "x86_64-unknown-linux-gnu", "--target", "aarch64-unknown-linux-gnu"];
        let ran = sandbox.run(&[&["runtime", "export", "p.tar.xz"], &targets[..]].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("capibara: wrote python 3.13.5 to p.tar.xz ("), "{ran:?}");
        fs::read(sandbox.dir.path().join("p.tar.xz")).unwrap()
    })
}

/// This program with that pack behind it.
fn single_file(dir: &Path) -> PathBuf {
    let path = dir.join("capibara");
    let mut program = fs::read(env!("CARGO_BIN_EXE_capibara-under-test")).unwrap();
    capibara::append_pack(&mut program, pack()).unwrap();
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The single file in an empty environment.
fn alone(program: &Path, more: &[(&str, &Path)], words: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.env_clear().envs(more.iter().copied()).current_dir("/");
    finish(command.args(words).output().unwrap())
}

const HELLO: [&str; 3] = ["run", "-c", "print(6 * 7)"];

#[test]
fn a_pack_lists_what_it_is_and_what_it_was_made_of() {
    let unpacked = capibara_runtimes::unpack(pack(), Path::new("p")).unwrap();
    let installed = engine().installed().unwrap();
    assert_eq!(unpacked.manifest, installed.iter().find(|runtime| runtime.current).unwrap().manifest);
    let files: Vec<_> = unpacked.compiled.iter().map(|it| it.file.rsplit_once('-').unwrap().0).collect();
    assert_eq!(files, ["fuel-aarch64-baseline", "fuel-x86-64-v2"]);
    // ELF files, of the machines they are for: EM_AARCH64 and EM_X86_64.
    let machine = |bytes: &[u8]| (bytes[..4].to_vec(), u16::from_le_bytes([bytes[18], bytes[19]]));
    let machines: Vec<_> = unpacked.compiled.iter().map(|it| machine(&it.bytes)).collect();
    assert_eq!(machines, [(b"\x7fELF".to_vec(), 183), (b"\x7fELF".to_vec(), 62)]);
    // Ordinary tools read it.
    let sandbox = sandbox();
    let path = sandbox.file("p.tar.xz", pack());
    let listed = finish(Command::new("tar").arg("-tf").arg(&path).output().unwrap());
    if listed.code == Some(0) {
        let names: Vec<&str> = listed.stdout.lines().collect();
        assert_eq!(names[..4], ["manifest.json", "code.wasm", "memory.img", "sbom.cdx.json"], "{listed:?}");
        let bill = Command::new("tar").arg("-xOf").arg(&path).arg("sbom.cdx.json").output().unwrap();
        let bill: serde_json::Value = serde_json::from_slice(&bill.stdout).unwrap();
        let names: Vec<&str> =
            bill["components"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert!(names.contains(&"Python") && names.contains(&"musl"), "{names:?}");
        assert_eq!(bill["metadata"]["component"]["hashes"][0]["content"], unpacked.manifest.sha256.as_str());
    }
}

#[test]
fn what_is_imported_runs_without_compilers_and_network() {
    let sandbox = sandbox();
    let cache = sandbox.dir.path().join("cache");
    let pack = sandbox.file("p.tar.xz", pack());
    let ran = run_in(&sandbox, &cache, &["runtime", "import", pack.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("the compiled code in it is not taken"), "{ran:?}");
    assert!(ran.stderr.ends_with("capibara: installed python 3.13.5\n"), "{ran:?}");
    let ran = run_in(&sandbox, &cache, &HELLO);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "42\n"), "{ran:?}");
    assert!(ran.stderr.contains("compiling the Python runtime for this machine, once"), "{ran:?}");
    // With trust, nothing is compiled.
    let cache = sandbox.dir.path().join("trusting");
    let ran = run_in(&sandbox, &cache, &["runtime", "import", "--trust-compiled", pack.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run_in(&sandbox, &cache, &HELLO);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "42\n", ""), "{ran:?}");
    let ran = run_in(&sandbox, &cache, &["runtime", "verify"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_pack_that_is_damaged_or_none_is_refused() {
    let sandbox = sandbox();
    let cache = sandbox.dir.path().join("cache");
    let mut damaged = pack().to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    for (name, bytes) in
        [("damaged", &damaged[..]), ("cut", &pack()[..middle]), ("empty", b""), ("text", b"print(1)\n")]
    {
        let path = sandbox.file(name, bytes);
        let ran = run_in(&sandbox, &cache, &["runtime", "import", path.to_str().unwrap()]);
        assert_eq!(ran.code, Some(125), "{name}: {ran:?}");
        assert!(ran.stderr.contains(&format!("cannot unpack {}", path.display())), "{name}: {ran:?}");
        assert!(!cache.join("runtimes").exists(), "{name}");
    }
    let ran = run_in(&sandbox, &cache, &["runtime", "import", "absent.tar.xz"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("failed to open `absent.tar.xz`"), "{ran:?}");
    let ran = run_in(&sandbox, &cache, &["runtime", "export", "p.tar.xz"]);
    assert!(ran.code == Some(127) && ran.stderr.contains("is not installed"), "{ran:?}");
    let ran = sandbox.run(&["runtime", "export", "absent/p.tar.xz"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("failed to write `absent/p.tar.xz`"), "{ran:?}");
    let ran = sandbox.run(&["runtime", "export", "p.tar.xz", "--target", "z80"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("aarch64-unknown-linux-gnu"), "{ran:?}");
}

#[test]
fn one_file_brings_its_runtime_along() {
    let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = &*single_file(dir.path());
    let ran = alone(program, &[("TMPDIR", own.path())], &HELLO);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "42\n"), "{ran:?}");
    assert!(ran.stderr.contains("unpacking the Python runtime"), "{ran:?}");
    assert!(!ran.stderr.contains("compiling"), "{ran:?}");
    // It is kept, in a folder of this user's own.
    let [folder] = &fs::read_dir(own.path()).unwrap().map(|it| it.unwrap().path()).collect::<Vec<_>>()[..] else {
        panic!("one folder")
    };
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    let ran = alone(program, &[("TMPDIR", own.path())], &HELLO);
    assert!(!ran.stderr.contains("unpacking") && ran.stdout == "42\n", "{ran:?}");
}

#[test]
fn where_nothing_can_be_written_it_works_from_memory_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let program = &*single_file(dir.path());
    let nowhere = Path::new("/proc/self/absent");
    for variables in [&[("TMPDIR", nowhere)][..], &[("CAPIBARA_CACHE_DIR", nowhere)], &[("HOME", nowhere)]] {
        for words in [&HELLO[..], &["run", "--live", "-c", "print(6 * 7)"]] {
            let ran = alone(program, variables, words);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "42\n"), "{variables:?}: {ran:?}");
            assert!(ran.stderr.contains("the runtime is kept in memory"), "{variables:?}: {ran:?}");
        }
    }
}

#[test]
fn a_damaged_file_says_so_and_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = single_file(dir.path());
    let mut bytes = fs::read(path).unwrap();
    let within_the_pack = bytes.len() - 1_000_000;
    bytes[within_the_pack] ^= 0xff;
    let damaged = dir.path().join("damaged");
    fs::write(&damaged, &bytes).unwrap();
    fs::set_permissions(&damaged, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = alone(&damaged, &[("TMPDIR", dir.path())], &HELLO);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    assert!(ran.stderr.contains("cannot unpack the runtime in this program"), "{ran:?}");
}
