//! Files and directories of the host by grant, as scripts use and attack them. Each attack has its reason and each
//! family a control that is allowed, so that a broken grant cannot look safe.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capibara::{Access, EngineError, Epoch, Grant, Job, Limits, Outcome};
use capibara_tests::engine;

/// A folder with something to grant in `inside` and something to be kept in `outside`.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Self(tempfile::tempdir().unwrap());
        for folder in ["inside/sub", "outside/deep"] {
            fs::create_dir_all(ground.path(folder)).unwrap();
        }
        fs::write(ground.path("inside/file"), "content").unwrap();
        fs::write(ground.path("inside/sub/below"), "below").unwrap();
        fs::write(ground.path("outside/secret"), "secret").unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn grant(&self, access: Access) -> Grant {
        match access {
            Access::Read => Grant::read(self.path("inside")).at("/data"),
            Access::Write => Grant::write(self.path("inside")).at("/data"),
            Access::Overlay => Grant::overlay(self.path("inside")).at("/data"),
        }
    }

    fn run(&self, access: Access, code: &str) -> Outcome {
        run(Job::python(format!("{PRELUDE}{code}")).with_grant(self.grant(access)))
    }

    fn check_outside(&self) {
        assert_eq!(fs::read(self.path("outside/secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(self.path("outside/deep")).unwrap().count(), 0);
    }
}

/// `attempt(f, *args)` prints what the call returns or the name of the error.
const PRELUDE: &str = "
import errno, os
def attempt(function, *args, **named):
    try:
        result = function(*args, **named)
        print('ok' if result is None or hasattr(result, 'close') else result)
    except OSError as error:
        print(errno.errorcode[error.errno])
    except ValueError as error:
        print('ValueError')
";

fn run(job: Job) -> Outcome {
    let outcome = engine().run_blocking(job).unwrap();
    assert!(outcome.success(), "{:?}\n{}{}", outcome.status, outcome.stdout.text(), outcome.stderr.text());
    outcome
}

fn printed(outcome: &Outcome) -> Vec<String> {
    outcome.stdout.text().lines().map(String::from).collect()
}

#[test]
fn a_grant_for_reading() {
    let ground = Ground::new();
    let outcome = ground.run(
        Access::Read,
        "
print(open('/data/file').read(), sorted(os.listdir('/data')), os.path.getsize('/data/file'))
print([(path, folders, files) for path, folders, files in os.walk('/data')])
import pathlib, stat
print(pathlib.Path('/data/sub/below').read_text(), stat.S_ISREG(os.stat('/data/file').st_mode), os.listdir('/'))
for function, args in [(open, ('/data/file', 'w')), (open, ('/data/file', 'r+')), (open, ('/data/new', 'w')), (os.truncate, ('/data/file', 0)),
                       (os.open, ('/data/file', os.O_RDONLY | os.O_TRUNC)), (os.unlink, ('/data/file',)), (os.rmdir, ('/data/sub',)),
                       (os.mkdir, ('/data/new',)), (os.rename, ('/data/file', '/data/new')), (os.link, ('/data/file', '/data/new')),
                       (os.symlink, ('file', '/data/new')), (os.utime, ('/data/file', (1, 1)))]:
    attempt(function, *args)
",
    );
    let lines = printed(&outcome);
    assert_eq!(lines[0], "content ['file', 'sub'] 7");
    assert_eq!(lines[1], "[('/data', ['sub'], ['file']), ('/data/sub', [], ['below'])]");
    assert_eq!(lines[2], "below True ['data', 'dev', 'home', 'out', 'script', 'tmp']");
    assert_eq!(lines[3..], ["EROFS"; 12]);
    assert_eq!(fs::read(ground.path("inside/file")).unwrap(), b"content");
    assert_eq!(fs::read_dir(ground.path("inside")).unwrap().count(), 2);
    // What may change on the host is no promise.
    assert!(!outcome.determined);
    assert_eq!(outcome.usage.bytes_written, 0);
}

#[test]
fn a_grant_for_writing() {
    let ground = Ground::new();
    let outcome = ground.run(
        Access::Write,
        "
import shutil, sqlite3, tempfile, zipfile
os.makedirs('/data/a/b/c')
open('/data/a/b/c/made', 'w').write('made')
os.replace('/data/a/b/c/made', '/data/a/moved')
os.link('/data/a/moved', '/data/a/second')
os.symlink('a/moved', '/data/link')
print(open('/data/link').read(), os.readlink('/data/link'), os.path.islink('/data/link'))
shutil.copytree('/data/a', '/tmp/copy')
shutil.move('/tmp/copy', '/data/back')
print(sorted(os.listdir('/data/back')))
shutil.rmtree('/data/a')
with zipfile.ZipFile('/data/z.zip', 'w') as archive:
    archive.writestr('x', 'y' * 1000)
print(zipfile.ZipFile('/data/z.zip').read('x') == b'y' * 1000)
base = sqlite3.connect('/data/base.sqlite')
base.execute('create table t (x)')
base.executemany('insert into t values (?)', [(i,) for i in range(1000)])
base.commit()
print(base.execute('select sum(x) from t').fetchone())
with open('/data/file', 'a') as file:
    file.write(' more')
os.chdir('/data')
print(open('file').read(), os.getcwd())
",
    );
    let expected = ["made a/moved True", "['b', 'moved', 'second']", "True", "(499500,)", "content more /data"];
    assert_eq!(printed(&outcome), expected);
    assert_eq!(fs::read(ground.path("inside/back/moved")).unwrap(), b"made");
    assert!(!ground.path("inside/a").exists());
    assert!(outcome.usage.bytes_written > 1000 && outcome.usage.files_written > 3);
    for name in ["file", "back/moved", "z.zip", "base.sqlite"] {
        let mode = fs::metadata(ground.path("inside").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7111, 0, "{name}");
    }
}

#[test]
fn no_path_leads_out() {
    let ground = Ground::new();
    let (inside, outside) = (ground.path("inside"), fs::canonicalize(ground.path("outside")).unwrap());
    for (target, link) in [
        (outside.clone(), "absolute"),
        ("../outside".into(), "up"),
        ("up/secret".into(), "chain"),
        ("sub/../../outside".into(), "winding"),
        ("/proc/self/root".into(), "magic"),
        ("sub/below".into(), "honest"),
    ] {
        symlink(target, inside.join(link)).unwrap();
    }
    assert!(std::process::Command::new("mkfifo").arg(inside.join("fifo")).status().unwrap().success());
    for access in [Access::Read, Access::Write, Access::Overlay] {
        let outcome = ground.run(
            access,
            r"
for path in ['/data/../outside/secret', '/data/../../../../../../etc/passwd', '/data//..//..//outside/secret', '/data/absolute/secret',
             '/data/up/secret', '/data/chain', '/data/winding/secret', '/data/magic/etc/passwd', '/data/file/', '/data/file/../../outside/secret',
             '/data/\0/secret', '/data/' + 'a' * 300, '/data/' + 'sub/../' * 700 + 'file', '/data/DATA/secret', '/data/fifo']:
    attempt(open, path)
    attempt(os.stat, path) if path != '/data/fifo' else print('-')
print(open('/data/honest').read())
folder = os.open('/data/sub', os.O_RDONLY)
attempt(open, '../../../outside/secret', opener=lambda path, flags: os.open(path, flags, dir_fd=folder))
attempt(open, 'below', opener=lambda path, flags: os.open(path, flags, dir_fd=folder))
",
        );
        let lines = printed(&outcome);
        let expected = [
            "ENOENT",
            "ENOENT",
            "ENOENT",
            "EPERM",
            "ENOENT",
            "ENOENT",
            "ENOENT",
            "EPERM",
            "ENOTDIR",
            "ENOTDIR",
            "ValueError",
            "ENAMETOOLONG",
            "ENAMETOOLONG",
            "ENOENT",
            "EPERM",
        ];
        for (at, expected) in expected.iter().enumerate() {
            assert_eq!(lines[2 * at], *expected, "open, path {at}: {lines:?}");
            assert!(lines[2 * at + 1] == *expected || lines[2 * at + 1] == "-", "stat, path {at}: {lines:?}");
        }
        assert_eq!(lines[30], "below");
        assert!(["EPERM", "ENOENT"].contains(&lines[31].as_str()), "{lines:?}");
        assert_eq!(lines[32], "ok");
    }
    ground.check_outside();
}

#[test]
fn nothing_that_is_made_leads_out() {
    let ground = Ground::new();
    symlink("../outside/secret", ground.path("inside/up")).unwrap();
    let outcome = run(Job::python(format!(
        "{PRELUDE}
for target in ['../outside/secret', '/etc/passwd', 'sub/../../outside', '..']:
    attempt(os.symlink, target, '/data/link')
attempt(os.rename, '/data/up', '/data/sub/up')
attempt(os.link, '/data/up', '/data/second')
attempt(os.link, '/other/secret', '/data/secret')
attempt(os.rename, '/other/secret', '/data/secret')
attempt(os.rename, '/data/file', '/other/file')
attempt(os.rename, '/data', '/tmp/data')
attempt(os.rmdir, '/data')
attempt(os.symlink, 'file', '/data/fine')
attempt(os.rename, '/data/file', '/data/renamed')
"
    ))
    .with_grant(ground.grant(Access::Write))
    .with_grant(Grant::read(ground.path("outside")).at("/other")));
    let expected =
        ["EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "EXDEV", "EXDEV", "EXDEV", "EROFS", "EROFS", "ok", "ok"];
    assert_eq!(printed(&outcome), expected);
    ground.check_outside();
}

#[test]
fn limits_bind_on_the_host() {
    let ground = Ground::new();
    let limits = Limits { bytes_written: 1 << 20, files: 5, descriptors: 16, ..Limits::default() };
    let job = Job::python(format!(
        "{PRELUDE}
file = os.open('/data/big', os.O_RDWR | os.O_CREAT)
attempt(os.ftruncate, file, 1 << 40)
attempt(os.pwrite, file, b'x', 1 << 40)
attempt(os.ftruncate, file, 1 << 19)
print(os.write(file, b'x' * (1 << 20)))
attempt(os.write, file, b'x')
for index in range(6):
    attempt(os.mkdir, f'/data/{{index}}')
files = []
try:
    while True: files.append(os.open('/data/file', os.O_RDONLY))
except OSError as error:
    print(errno.errorcode[error.errno])
"
    ));
    let outcome = run(job.with_limits(limits).with_grant(ground.grant(Access::Write)));
    let expected = ["ENOSPC", "ENOSPC", "ok", "524288", "ENOSPC", "ok", "ok", "ok", "ok", "ENOSPC", "ENOSPC", "EMFILE"];
    assert_eq!(printed(&outcome), expected);
    assert_eq!(fs::metadata(ground.path("inside/big")).unwrap().len(), 1 << 19);
    assert_eq!(outcome.usage.bytes_written, 1 << 20);
}

#[test]
fn a_grant_as_the_root_and_one_inside() {
    let ground = Ground::new();
    fs::create_dir(ground.path("inside/tmp")).unwrap();
    let job = Job::file(
        "program.py",
        b"
import os
print(sorted(os.listdir('/')), open('/file').read(), os.listdir('/tmp'), __file__, os.getcwd())
open('/tmp/x', 'w').write('x')
open('/new', 'w').write('new')
try:
    open('/sub/below', 'w')
except OSError as error:
    print(error)
print(open('/sub/below').read())
"
        .as_slice(),
    );
    let outcome = run(job
        .with_grant(Grant::read(ground.path("inside/sub")).at("/sub"))
        .with_grant(Grant::write(ground.path("inside")).at("/")));
    let expected = [
        "['dev', 'file', 'home', 'out', 'script', 'sub', 'tmp'] content [] /script/program.py /home/script",
        "[Errno 69] Read-only file system: '/sub/below'",
        "below",
    ];
    assert_eq!(printed(&outcome), expected);
    assert_eq!(fs::read(ground.path("inside/new")).unwrap(), b"new");
    assert_eq!(fs::read_dir(ground.path("inside/tmp")).unwrap().count(), 0);
}

#[test]
fn the_digest_of_a_job_covers_what_it_saw() {
    let ground = Ground::new();
    let look = |code: &str| {
        let job = Job::python(code).with_seed(1).with_epoch(Epoch::from_nanos(1 << 60));
        run(job.with_grant(ground.grant(Access::Read)))
    };
    let (read, idle) = ("print(open('/data/file').read())", "print(1)");
    let (first, second, other) = (look(read), look(read), look(idle));
    assert_eq!(first.job_sha256, second.job_sha256);
    assert!(other.determined && !first.determined);
    fs::write(ground.path("inside/file"), "CONTENT").unwrap();
    assert_ne!(look(read).job_sha256, first.job_sha256);
    assert_eq!(look(idle).job_sha256, other.job_sha256);
}

#[test]
fn our_own_folders_are_refused() {
    let cache = capibara_tests::cache();
    let program = std::env::current_exe().unwrap();
    for path in [cache.clone(), cache.join("runtimes"), "/".into(), program] {
        let job = Job::python("print(1)").with_grant(Grant::read(&path).at("/x"));
        match engine().run_blocking(job) {
            Err(error @ EngineError::InvalidJob { .. }) => {
                assert!(error.to_string().contains("would hand over"), "{error}");
                assert!(error.hint().is_some());
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

/// Neither a granted file nor standard input is ever held whole: reading a GiB of each takes no memory of the host.
#[test]
fn large_files_and_input_are_streamed() {
    use std::io::{Read as _, Write as _};
    use std::process::Stdio;

    let _ = engine();
    let sandbox = capibara_tests::Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
    fs::File::create(sandbox.dir.path().join("large")).unwrap().set_len(1 << 30).unwrap();
    // What the process took at most, when the script has read `size` bytes and waits for the rest of its input.
    let peak = |grant: &str, size: u64| {
        let code = format!(
            "
import sys
def read(file):
    left = {size}
    while left: left -= len(file.read(min(left, 1 << 20)))
with open('/large', 'rb', buffering=0) as file: read(file)
read(sys.stdin.buffer.raw); print('done', flush=True); sys.stdin.buffer.raw.read()
"
        );
        let mut command = sandbox.command();
        command.args(["run", "--live", "--timeout", "2m", grant, "large:/large", "-c", &code]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for _ in 0..size >> 20 {
            stdin.write_all(&[0; 1 << 20]).unwrap();
        }
        let mut done = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut done).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    for grant in ["--read", "--overlay"] {
        let (small, large) = (peak(grant, 1 << 20), peak(grant, 1 << 30));
        assert!(large < small + (16 << 20), "{grant}: {large} bytes for a GiB, {small} for a MiB");
    }
}

/// The host swaps a directory with links to one outside while the script walks: what it sees is never outside.
#[test]
fn races_do_not_lead_out() {
    let ground = Ground::new();
    let inside = ground.path("inside");
    fs::create_dir(inside.join("real")).unwrap();
    fs::write(inside.join("real/secret"), "mine").unwrap();
    symlink(fs::canonicalize(ground.path("outside")).unwrap(), inside.join("absolute")).unwrap();
    symlink("../outside", inside.join("up")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                for link in ["absolute", "up"] {
                    fs::rename(inside.join("real"), inside.join("away")).unwrap();
                    fs::rename(inside.join(link), inside.join("real")).unwrap();
                    fs::rename(inside.join("real"), inside.join(link)).unwrap();
                    fs::rename(inside.join("away"), inside.join("real")).unwrap();
                }
            }
        }
    });
    let limits = Limits { wall_time: Duration::from_secs(60), ..Limits::default() };
    let job = Job::python(format!(
        "{PRELUDE}
read = failed = 0
for _ in range(20_000):
    try:
        text = open('/data/real/secret').read()
        assert text == 'mine', text
        read += 1
    except OSError:
        failed += 1
    for function in (lambda: open('/data/real/planted', 'w').close(), lambda: os.mkdir('/data/real/deep/made'), lambda: os.unlink('/data/real/planted')):
        try: function()
        except OSError: pass
    try:
        assert 'deep' not in os.listdir('/data/real')
    except OSError:
        pass
print(read > 0, failed > 0)
"
    ));
    let outcome = engine().run_blocking(job.with_limits(limits).with_grant(ground.grant(Access::Write))).unwrap();
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert_eq!((outcome.stdout.text().as_ref(), outcome.stderr.text().as_ref()), ("True True\n", ""));
    ground.check_outside();
}
