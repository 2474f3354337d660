//! Artifacts: what comes back of `/out`, and where `--out` writes it. Each attack has its reason and each family a control
//! that is allowed.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use capibara::{Job, LimitKind, Limits, Outcome, Policy, SessionConfig, Status};
use capibara_tests::{Sandbox, engine};
use serde_json::Value;

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

fn run(code: &str) -> Outcome {
    engine().run_blocking(Job::python(code)).unwrap()
}

fn paths(outcome: &Outcome) -> Vec<&str> {
    outcome.artifacts.iter().map(|artifact| artifact.path.as_str()).collect()
}

const SHA_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn what_lies_in_out_comes_back() {
    let outcome = run("
import os
os.makedirs('/out/a/b'); os.mkdir('/out/empty')
open('/out/a/b/table.CSV', 'w').write('abc')
open('/out/chart.svg', 'w').write('<svg/>')
open('/out/none', 'w').close()
os.link('/out/chart.svg', '/out/a/again.html')
os.symlink('chart.svg', '/out/link'); os.symlink('a', '/out/folder')
open('/tmp/x', 'w').write('x'); open('y', 'w').write('y')
open('/out/gone', 'w').write('z'); os.unlink('/out/gone')
");
    assert!(outcome.success(), "{}", outcome.stderr.text());
    assert_eq!(paths(&outcome), ["a/again.html", "a/b/table.CSV", "chart.svg", "none"]);
    let types: Vec<_> = outcome.artifacts.iter().map(|artifact| artifact.mime).collect();
    assert_eq!(types, ["text/html", "text/csv", "image/svg+xml", "application/octet-stream"]);
    let table = &outcome.artifacts[1];
    assert_eq!((table.sha256.to_string().as_str(), table.bytes.to_vec()), (SHA_OF_ABC, b"abc".to_vec()));
    assert_eq!(outcome.artifacts[0].sha256, outcome.artifacts[2].sha256);
    assert!(outcome.artifacts[3].bytes.is_empty() && outcome.artifacts_left_out.is_empty());
}

#[test]
fn they_come_back_however_the_run_ends() {
    let begin =
        "open('/out/x', 'w').write('abc')\nhalf = open('/out/half', 'w', buffering=1)\nhalf.write('line\\nrest')\n";
    let raised = run(&format!("{begin}1 / 0"));
    assert_eq!((raised.exit_code(), paths(&raised)), (Some(1), vec!["half", "x"]));
    let limits = Limits { fuel: Some(300_000_000), ..Limits::default() };
    let job = Job::python(format!("{begin}while True: pass")).with_limits(limits);
    let stopped = engine().run_blocking(job).unwrap();
    assert!(matches!(stopped.status, Status::Limit(hit) if hit.kind == LimitKind::Fuel), "{:?}", stopped.status);
    assert_eq!(paths(&stopped), ["half", "x"]);
    assert_eq!(stopped.artifacts[0].bytes.to_vec(), b"line\nrest");
    let denied = run(&format!("{begin}import os; os.system('id')"));
    assert!(matches!(denied.status, Status::Denied) && denied.artifacts.is_empty());
}

/// Sizes that were never written cost nobody anything: not memory, not time, not the caller's disk.
#[test]
fn what_a_script_may_write_bounds_what_comes_back() {
    let limits = Limits { bytes_written: 1 << 20, ..Limits::default() };
    let job = Job::python(
        "
import os
open('/out/a', 'wb').write(b'x' * (1 << 19))
for name in ('b', 'c'): os.truncate(os.open(f'/out/{name}', os.O_CREAT | os.O_RDWR), 500 << 20)
for index in range(900): os.link('/out/b', f'/out/b{index}')
open('/out/d', 'wb').write(b'y' * (1 << 19))
os.link('/out/a', '/out/e')
",
    )
    .with_limits(limits.clone());
    let outcome = engine().run_blocking(job).unwrap();
    assert!(outcome.success(), "{}", outcome.stderr.text());
    assert_eq!(paths(&outcome), ["a", "d"]);
    assert_eq!(outcome.artifacts_left_out.len(), 903);
    // The control: a hole that fits is zeros.
    let fits = Job::python(
        "
import os
file = os.open('/out/hole', os.O_CREAT | os.O_RDWR)
os.ftruncate(file, 200_000); os.pwrite(file, b'abc', 70_000)
",
    );
    let outcome = engine().run_blocking(fits.with_limits(limits)).unwrap();
    let bytes = outcome.artifacts[0].bytes.to_vec();
    assert_eq!((bytes.len(), &bytes[69_999..70_004]), (200_000, b"\0abc\0".as_slice()));
    assert_eq!(outcome.artifacts[0].bytes.pieces().map(<[u8]>::len).sum::<usize>(), 200_000);
    assert!(bytes.iter().filter(|byte| **byte != 0).count() == 3);
}

#[test]
fn the_quota_of_files_bounds_their_number() {
    let code = "
made = 0
try:
    for made in range(10_000): open(f'/out/{made}', 'w').close()
except OSError as error: print(made, error.strerror)
";
    let strict = Job::python(code).with_policy(Policy::preset("strict").unwrap());
    let outcome = engine().run_blocking(strict).unwrap();
    assert_eq!(outcome.stdout.text(), "100 No space left on device\n");
    assert_eq!(outcome.artifacts.len(), 100);
    assert!(outcome.quotas_met.iter().any(|hit| hit.kind == LimitKind::Files));
    let permissive = Job::python(code).with_policy(Policy::preset("permissive").unwrap());
    assert_eq!(engine().run_blocking(permissive).unwrap().artifacts.len(), 10_000);
}

#[test]
fn a_session_shows_what_it_has_now() {
    let mut session = engine().session(SessionConfig::default()).unwrap();
    let first = session.run_blocking("file = open('/out/x', 'w'); file.write('abc'); file.flush()").unwrap();
    assert!(first.artifacts.is_empty());
    assert_eq!(session.artifacts()[0].sha256.to_string(), SHA_OF_ABC);
    session.run_blocking("file.write('d'); file.close()").unwrap();
    assert_eq!(session.artifacts()[0].bytes.to_vec(), b"abcd");
}

/// Runs a script with `--out out --format json`.
fn out(cli: &Sandbox, code: &str) -> (Option<i32>, Value, String) {
    let ran = cli.run(&["run", "--out", "out", "--format", "json", "-c", code]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran.code, report, ran.stderr)
}

fn refused(report: &Value) -> Vec<(String, String)> {
    let refused = report["out"]["refused"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    refused.iter().map(|refusal| (text(&refusal["path"]), text(&refusal["reason"]))).collect()
}

#[test]
fn out_writes_them_and_replaces_files() {
    let cli = sandbox();
    let folder = cli.dir.path().join("out");
    let code =
        "import os; os.mkdir('/out/sub'); open('/out/sub/x', 'w').write('abc'); open('/out/y.txt', 'w').write('new')";
    let (exit, report, stderr) = out(&cli, code);
    assert_eq!((exit, stderr.as_str()), (Some(0), ""));
    assert_eq!(report["artifacts"][0]["sha256"], SHA_OF_ABC);
    assert_eq!(report["artifacts"][1]["mime"], "text/plain");
    assert_eq!(report["out"]["files"], 2);
    assert_eq!(fs::read(folder.join("sub/x")).unwrap(), b"abc");
    fs::write(folder.join("y.txt"), "a longer old one").unwrap();
    fs::set_permissions(folder.join("y.txt"), fs::Permissions::from_mode(0o4640)).unwrap();
    assert_eq!(out(&cli, code).0, Some(0));
    assert_eq!(fs::read(folder.join("y.txt")).unwrap(), b"new");
    assert_eq!(fs::metadata(folder.join("y.txt")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(fs::metadata(folder.join("sub/x")).unwrap().permissions().mode() & 0o7111, 0);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing of ours is left");
    // Under strict, too: the script gets nothing by it.
    let ran = cli.run(&["run", "--policy", "strict", "--out", "strict", "-c", "open('/out/z', 'w').write('z')"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(fs::read(cli.dir.path().join("strict/z")).unwrap(), b"z");
    // What a script that failed has left is kept as well, and its code is its own.
    let (exit, report, _) = out(&cli, "open('/out/part', 'w').write('p'); raise SystemExit(7)");
    assert_eq!((exit, &report["status"], &report["out"]["files"]), (Some(7), &"completed".into(), &1.into()));
    assert_eq!(fs::read(folder.join("part")).unwrap(), b"p");
}

#[test]
fn without_out_one_line_says_what_there_is() {
    let cli = sandbox();
    let ran = cli.run(&["run", "-c", "open('/out/x', 'w').write('abc'); open('/out/y', 'w').write('d')"]);
    assert_eq!(ran.stderr, "capibara: 2 files were left in /out (4B): `--out DIR` keeps them\n");
    assert_eq!((ran.code, cli.run(&["run", "-c", "print(1)"]).stderr), (Some(0), String::new()));
}

/// What is in the way is left as it is and named, and all else is written.
#[test]
fn what_is_in_the_way_is_refused() {
    let cli = sandbox();
    let (folder, outside) = (cli.dir.path().join("out"), cli.dir.path().join("outside"));
    fs::create_dir_all(folder.join("directory/full")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(outside.join("secret"), folder.join("link")).unwrap();
    symlink("../outside/made", folder.join("dangling")).unwrap();
    symlink(&outside, folder.join("sub")).unwrap();
    fs::write(folder.join("file"), "file").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
    let code = "
import os
for name in ('directory', 'link', 'dangling', 'fifo', 'fine'): open('/out/' + name, 'w').write('new')
for name in ('sub', 'file', 'made'):
    os.mkdir('/out/' + name); open(f'/out/{name}/planted', 'w').write('new')
";
    let (exit, report, stderr) = out(&cli, code);
    // The script did all it should, and we did not.
    assert_eq!((exit, &report["status"], &report["exit_code"]), (Some(125), &"completed".into(), &0.into()));
    let expected = [
        ("dangling", "a symbolic link is in the way"),
        ("directory", "a directory is in the way"),
        ("fifo", "a FIFO, socket or device is in the way"),
        ("file/planted", "`file` on the way there is not a directory"),
        ("link", "a symbolic link is in the way"),
        ("sub/planted", "`sub` on the way there is not a directory"),
    ];
    assert_eq!(refused(&report), expected.map(|(path, reason)| (path.to_owned(), reason.to_owned())));
    assert!(
        stderr.starts_with("capibara: artifact `dangling` was not written: a symbolic link is in the way\n"),
        "{stderr}"
    );
    assert_eq!(report["out"]["files"], 2);
    assert_eq!(fs::read(folder.join("fine")).unwrap(), b"new");
    assert_eq!(fs::read(folder.join("made/planted")).unwrap(), b"new");
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"file");
    assert!(folder.join("directory/full").is_dir());
    let left = |entry: fs::DirEntry| entry.file_name().as_bytes().starts_with(b".capibara");
    assert!(!fs::read_dir(&folder).unwrap().any(|entry| left(entry.unwrap())));
}

#[test]
fn names_are_harmless() {
    let cli = sandbox();
    let long = "n".repeat(255);
    let code = format!(
        "
for name in ('line\\ncapibara: forged', '\\x1b[31mred', '\\u202egpj.exe', '-rf', ' ', '.hidden', '...', '{long}', 'a\\\\b', '%2e%2e', '*'):
    open('/out/' + name, 'w').write('x')
for path in ('../up', '/out/../../up', '{long}n', 'nul\\0', 'not\\udcff'):
    try: open('/out/' + path, 'w'); print('made', ascii(path))
    except (OSError, ValueError) as error: pass
"
    );
    let (exit, report, _) = out(&cli, &code);
    assert_eq!(exit, Some(0), "{report}");
    // `/out/../up` is `/up`, which cannot be made.
    assert_eq!(report["stdout"], "", "{report}");
    let made = fs::read_dir(cli.dir.path().join("out")).unwrap().count();
    assert_eq!((made, report["artifacts"].as_array().unwrap().len()), (11, 11));
    assert!(cli.dir.path().join("out").join(&long).is_file());
    // In messages they are escaped.
    fs::create_dir_all(cli.dir.path().join("other/line\ncapibara: forged")).unwrap();
    let ran = cli.run(&["run", "--out", "other", "-c", &code]);
    assert_eq!(ran.code, Some(125));
    let expected = "capibara: artifact `line\\ncapibara: forged` was not written: a directory is in the way\n";
    assert!(ran.stderr.ends_with(expected), "{}", ran.stderr);
    assert!(!ran.stderr.contains("\ncapibara: forged"), "{}", ran.stderr);
}

#[test]
fn folders_that_cannot_be_used_are_refused_before_the_run() {
    let cli = sandbox();
    let _ = cli.file("file", "");
    let cache = capibara_tests::cache();
    fs::create_dir_all(cli.dir.path().join(".config/capibara")).unwrap();
    symlink(".config", cli.dir.path().join("alias")).unwrap();
    let rows: &[(&Path, &str)] = &[
        (Path::new("file"), "cannot take artifacts"),
        (Path::new("none/below"), "cannot take artifacts"),
        (Path::new("."), "would change"),
        (Path::new("/"), "would change"),
        (Path::new(".config/capibara"), "would change the configuration"),
        (Path::new(".config/capibara/policies"), "would change the configuration"),
        (Path::new("alias"), "would change the configuration"),
        (&cache, "would change the cache"),
        (Path::new("/proc/self"), "lies in a file system of the kernel"),
    ];
    for (folder, reason) in rows {
        let words = [OsString::from("run"), "--out".into(), folder.into(), "-c".into(), "print(1)".into()];
        let ran = capibara_tests::finish(cli.command().args(words).output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{}", folder.display());
        assert!(ran.stderr.contains(reason), "{}: {}", folder.display(), ran.stderr);
    }
    assert!(!cli.dir.path().join(".config/capibara/policies").exists());
    // A folder whose name is a link to an ordinary one is what the user named.
    fs::create_dir(cli.dir.path().join("real")).unwrap();
    symlink("real", cli.dir.path().join("named")).unwrap();
    let ran = cli.run(&["run", "--out", "named", "-c", "open('/out/x', 'w').write('x')"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(cli.dir.path().join("real/x").is_file());
}

/// Somebody swaps a directory of the folder with a link to one outside while artifacts are written.
#[test]
fn races_do_not_lead_out() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let ground = tempfile::tempdir().unwrap();
    let (folder, outside) = (ground.path().join("out"), ground.path().join("outside"));
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink("../outside", folder.join("link")).unwrap();
    let outcome = run("
import os
os.mkdir('/out/sub')
for index in range(200): open(f'/out/sub/{index}', 'w').write('planted')
");
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let (stop, folder) = (stop.clone(), folder.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                for (from, to) in [("sub", "away"), ("link", "sub"), ("sub", "link"), ("away", "sub")] {
                    let _ = fs::rename(folder.join(from), folder.join(to));
                }
            }
        }
    });
    let (mut written, mut refused) = (0, 0);
    for _ in 0..30 {
        let done = engine().out_folder(&folder).unwrap().write(&outcome.artifacts);
        written += done.files;
        refused += done.refused.len();
    }
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(written > 0, "{written} written, {refused} refused");
}

#[test]
fn digests_of_a_session_are_those_of_its_files_now() {
    use sha2::Digest as _;
    let mut session = engine().session(capibara::SessionConfig::default()).unwrap();
    let turns = [
        "import os\nfor name in 'ab': _ = open(f'/out/{name}', 'wb').write(name.encode() * 200_000)",
        "1",
        "f = open('/out/a', 'r+b'); _ = f.seek(150_000), f.write(b'X'), f.flush()",
        "_ = f.seek(150_000), f.write(b'Y'), f.flush()",
        "_ = f.truncate(100_000), f.truncate(200_000)",
        "os.rename('/out/a', '/out/c'); os.rename('/out/b', '/out/a'); os.rename('/out/c', '/out/b')",
        "os.link('/out/a', '/out/d'); open('/out/d', 'r+b').write(b'Z')",
        "os.remove('/out/b'); os.truncate('/out/d', 0)",
        "for name in 'ad': _ = open(f'/out/{name}', 'ab').write(bytes(200_000))",
    ];
    let mut before: Vec<capibara::Digest> = Vec::new();
    for (number, turn) in turns.iter().enumerate() {
        // Without asking in between, too.
        assert!(session.run_blocking(*turn).unwrap().success(), "{turn}");
        if number % 3 == 2 {
            continue;
        }
        let artifacts = session.artifacts();
        for artifact in &artifacts {
            let wanted = capibara::Digest(sha2::Sha256::digest(artifact.bytes.to_vec()).into());
            assert_eq!(artifact.sha256, wanted, "{turn}: {}", artifact.path);
        }
        let now: Vec<_> = artifacts.iter().map(|artifact| artifact.sha256).collect();
        assert_eq!(now == before, *turn == "1", "{turn}");
        before = now;
        assert!(session.artifacts_left_out().is_empty());
    }
    // Holes and names count.
    let turn = "open('/out/a', 'r+b').truncate(200 << 20); os.link('/out/a', '/out/e')";
    assert!(session.run_blocking(turn).unwrap().success());
    assert_eq!(session.artifacts_left_out(), ["d", "e"]);
}
