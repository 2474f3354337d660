//! The cache folder: what is in it, and what happens when it is damaged, unwritable, full or shared.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capibara_tests::{Ran, Sandbox, cache, engine, finish, flip_a_byte, skip};

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

/// The folder of the runtime in use.
fn runtime() -> PathBuf {
    let installed = engine().installed().unwrap();
    installed.iter().find(|runtime| runtime.current).unwrap().dir.clone()
}

/// A cache of its own with a copy of the runtime: damage to it harms nobody.
fn copy_of_cache(sandbox: &Sandbox) -> PathBuf {
    let own = sandbox.dir.path().join("cache");
    let target = own.join("runtimes").join(runtime().file_name().unwrap());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let copied = Command::new("cp").arg("-a").args([&runtime(), &target]).status().unwrap();
    assert!(copied.success());
    // The sources too, by link: a rebuild needs no network.
    let _ = std::os::unix::fs::symlink(cache().join("sources"), own.join("sources"));
    for folder in [&own, &own.join("runtimes")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    own
}

fn run_in(sandbox: &Sandbox, cache: &Path, words: &[&str]) -> Ran {
    finish(sandbox.command().env("CAPIBARA_CACHE_DIR", cache).args(words).output().unwrap())
}

fn compiled(cache: &Path) -> PathBuf {
    let folder = cache.join("runtimes").join(runtime().file_name().unwrap()).join("compiled");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "cwasm") && path.to_string_lossy().contains("fuel-"));
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn list_names_version_patches_digests_size_and_place() {
    let sandbox = sandbox();
    let ran = sandbox.run(&["runtime", "list"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let dir = runtime();
    for needle in ["python 3.13.5", "patches", "sha256", "fuel-", "MiB", dir.to_str().unwrap()] {
        assert!(ran.stdout.contains(needle), "{needle}: {ran:?}");
    }
    let ran = sandbox.run(&["runtime", "list", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["schema"], 1, "{json:#}");
    let ran = sandbox.run(&["runtime", "install", "python"]);
    assert_eq!((ran.code, ran.stderr.contains("nothing to do")), (Some(0), true), "{ran:?}");
}

#[test]
fn folders_and_files_are_private() {
    let dir = runtime();
    for (path, mode) in [
        (dir.clone(), 0o700),
        (dir.join("compiled"), 0o700),
        (dir.join("manifest.json"), 0o600),
        (dir.join("memory.img"), 0o600),
        (dir.join("code.wasm"), 0o600),
    ] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
    // The image is sparse: holes where the interpreter's memory is zero.
    use std::os::unix::fs::MetadataExt;
    let image = fs::metadata(dir.join("memory.img")).unwrap();
    assert!(image.blocks() * 512 < image.len() / 3 * 2, "{} of {}", image.blocks() * 512, image.len());
}

#[test]
fn a_damaged_compiled_file_is_found_said_and_made_again() {
    let sandbox = sandbox();
    let own = copy_of_cache(&sandbox);
    let path = compiled(&own);
    flip_a_byte(&path);
    let verify = run_in(&sandbox, &own, &["runtime", "verify", "python"]);
    assert_eq!(verify.code, Some(1), "{verify:?}");
    assert!(
        (verify.stdout.clone() + &verify.stderr).contains(path.file_name().unwrap().to_str().unwrap()),
        "{verify:?}"
    );
    let ran = run_in(&sandbox, &own, &["run", "-c", "print(1)"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"), "{ran:?}");
    assert!(ran.stderr.contains("corrupt") && ran.stderr.contains("compil"), "{ran:?}");
    let again = run_in(&sandbox, &own, &["run", "-c", "print(1)"]);
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""));
    assert_eq!(run_in(&sandbox, &own, &["runtime", "verify", "python"]).code, Some(0));
}

#[test]
fn a_cut_compiled_file_is_made_again() {
    let sandbox = sandbox();
    let own = copy_of_cache(&sandbox);
    let file = fs::OpenOptions::new().write(true).open(compiled(&own)).unwrap();
    file.set_len(4096).unwrap();
    let ran = run_in(&sandbox, &own, &["run", "-c", "print(1)"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"), "{ran:?}");
}

#[test]
fn a_damaged_image_is_never_mapped() {
    let sandbox = sandbox();
    let own = copy_of_cache(&sandbox);
    let _ = fs::remove_file(own.join("sources")); // no sources, no network: a rebuild must fail, and say what is wrong
    let image = own.join("runtimes").join(runtime().file_name().unwrap()).join("memory.img");
    flip_a_byte(&image);
    let ran = finish(
        sandbox
            .command()
            .env("CAPIBARA_CACHE_DIR", &own)
            .env("PATH", "/nowhere")
            .args(["run", "-c", "print(1)"])
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("corrupt") && ran.stderr.contains("memory.img"), "{ran:?}");
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_damaged_manifest_or_code_means_building_anew() {
    for (file, words) in
        [("manifest.json", &["run", "-c", "print(1)"]), ("code.wasm", &["runtime", "install", "python"])]
    {
        let sandbox = sandbox();
        let own = copy_of_cache(&sandbox);
        let _ = fs::remove_file(own.join("sources")); // as above: it cannot be built here
        let path = own.join("runtimes").join(runtime().file_name().unwrap()).join(file);
        if file == "manifest.json" {
            fs::write(&path, "{").unwrap()
        } else {
            flip_a_byte(&path)
        }
        let ran = finish(
            sandbox.command().env("CAPIBARA_CACHE_DIR", &own).env("PATH", "/nowhere").args(words).output().unwrap(),
        );
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
        for needle in [file, "building the runtime again", "apt-get install"] {
            assert!(ran.stderr.contains(needle), "{needle}: {ran:?}");
        }
    }
}

#[test]
fn what_others_may_write_is_not_trusted() {
    let sandbox = sandbox();
    let own = copy_of_cache(&sandbox);
    let path = compiled(&own);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let ran = run_in(&sandbox, &own, &["run", "-c", "print(1)"]);
    assert!(ran.code == Some(0) && ran.stderr.contains("others may write"), "{ran:?}"); // made again
    assert_eq!(fs::metadata(compiled(&own)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn missing_programs_are_named_before_any_work() {
    let sandbox = sandbox();
    let own = sandbox.dir.path().join("empty");
    let ran = finish(
        sandbox
            .command()
            .env("CAPIBARA_CACHE_DIR", &own)
            .env("PATH", "/nowhere")
            .args(["run", "-c", "print(1)"])
            .output()
            .unwrap(),
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    for needle in ["pip", "cargo", "curl", "apt-get install"] {
        assert!(ran.stderr.contains(needle), "{needle}: {ran:?}");
    }
}

#[test]
fn a_wrong_digest_stops_with_both() {
    let sandbox = sandbox();
    let sources = sandbox.dir.path().join("sources");
    fs::create_dir(&sources).unwrap();
    for entry in fs::read_dir(cache().join("sources")).unwrap() {
        let entry = entry.unwrap();
        std::os::unix::fs::symlink(entry.path(), sources.join(entry.file_name())).unwrap();
    }
    let tarball = sources.join("musl-1.2.5.tar.gz");
    if !tarball.exists() {
        skip("a_wrong_digest_stops_with_both", "unavailable: the sources of the shared cache");
        return;
    }
    fs::remove_file(&tarball).unwrap();
    fs::write(&tarball, b"something else").unwrap();
    let own = sandbox.dir.path().join("cache");
    let words = ["runtime", "install", "python", "--sources", sources.to_str().unwrap()];
    let ran = run_in(&sandbox, &own, &words);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    let digests = ran.stderr.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64).count();
    assert!(digests == 2 && ran.stderr.contains("musl-1.2.5.tar.gz"), "{ran:?}");
    fs::remove_file(&tarball).unwrap();
    let ran = run_in(&sandbox, &own, &words);
    assert!(ran.code == Some(125) && ran.stderr.contains("musl-1.2.5.tar.gz"), "{ran:?}");
    assert!(!own.join("runtimes").join(runtime().file_name().unwrap()).exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_that_says_so() {
    let sandbox = sandbox();
    let file = sandbox.file("file", "");
    for place in [file.join("cache"), PathBuf::from("/proc/capibara")] {
        let ran = run_in(&sandbox, &place, &["run", "-c", "print(1)"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
        assert!(ran.stderr.contains(place.to_str().unwrap()) && ran.stderr.contains("CAPIBARA_CACHE_DIR"), "{ran:?}");
    }
    let ran = finish(
        sandbox
            .command()
            .env_remove("CAPIBARA_CACHE_DIR")
            .env_remove("HOME")
            .env("TMPDIR", "/proc/self/absent")
            .args(["run", "-c", "1"])
            .output()
            .unwrap(),
    );
    assert!(ran.code == Some(125) && ran.stderr.contains("CAPIBARA_CACHE_DIR"), "{ran:?}");
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_half_made() {
    let sandbox = sandbox();
    let place = sandbox.dir.path().join("small");
    fs::create_dir(&place).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"])
        .arg(&place)
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        skip("a_full_disk_is_said_and_leaves_nothing_half_made", "unavailable: mounting a small tmpfs (needs root)");
        return;
    }
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
    let sources = cache().join("sources");
    let ran = run_in(&sandbox, &place, &["runtime", "install", "python", "--sources", sources.to_str().unwrap()]);
    let left = place.join("runtimes").read_dir().map_or(0, Iterator::count);
    let unmounted = Command::new("umount").arg("-l").arg(&place).status().unwrap();
    assert!(unmounted.success());
    assert_eq!((ran.code, left), (Some(125), 0), "{ran:?}");
    assert!(ran.stderr.contains("no space is left on the disk"), "{ran:?}");
}

/// What an example program of the engine prints.
fn example(name: &str) -> String {
    let example = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(example.is_file(), "cargo test --workspace builds {}", example.display());
    let ran = finish(Command::new(example).env("CAPIBARA_CACHE_DIR", cache()).output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout
}

#[test]
fn the_examples_for_embedders_run() {
    let told = example("embed");
    assert!(told.contains("live: sum 42\n") && told.contains("stopped by limit fuel: allowed 10000000"), "{told}");
    let told = example("session");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..2], ["{'apple': 0.5, 'pear': 0.75}", "-- Completed { exit_code: 0 } "], "{told}");
    assert!(lines[2].starts_with("-- Limit(LimitHit { kind: Fuel, allowed: 1000000000"), "{told}");
    // What the stopped turn did is undone.
    assert_eq!(lines[3], "-- Completed { exit_code: 0 } (1.25, False)", "{told}");
    assert_eq!(
        lines[lines.len() - 2..],
        ["capibara.ToolError: no article nut", "-- Completed { exit_code: 1 } "],
        "{told}"
    );
}

#[test]
fn the_bench_driver_speaks_its_protocol() {
    use std::io::Write;
    let _ = engine();
    let driver = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples/bench_driver");
    let mut child = Command::new(driver)
        .env("CAPIBARA_CACHE_DIR", cache())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let requests = "{\"op\":\"run\",\"code\":\"print(6*7)\",\"iters\":3,\"timeout_ms\":null,\"mem\":null}\n\
        {\"op\":\"run\",\"code\":\"while True: pass\",\"iters\":1,\"timeout_ms\":200,\"mem\":null}\n\
        {\"op\":\"run\",\"code\":\"x = bytearray(300 << 20)\",\"iters\":1,\"timeout_ms\":null,\"mem\":268435456}\n\
        {\"op\":\"throughput\",\"code\":\"pass\",\"workers\":2,\"seconds\":0.2}\n{\"op\":\"hold\",\"n\":3}\n{\"op\":\"quit\"}\n";
    child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
    let ran = finish(child.wait_with_output().unwrap());
    let replies: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(replies.len(), 7, "{ran:?}");
    assert_eq!(
        (&replies[1]["outcome"], &replies[1]["out"], replies[1]["ns"].as_array().unwrap().len()),
        (&"ok".into(), &"42\n".into(), 3)
    );
    assert_eq!((&replies[2]["outcome"], &replies[3]["outcome"]), (&"timeout".into(), &"memory".into()));
    assert!(replies[4]["runs"].as_u64().unwrap() > 10);
    assert_eq!(replies[5]["live"], 3);
}
