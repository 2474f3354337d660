//! Overlays: a script changes a folder of the host in memory, and what it changed is applied or not. Each attack has its
//! reason and each family a control that is allowed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use capibara::{
    Applied, ChangeKind, Changes, Epoch, Grant, Job, LimitKind, Limits, Outcome, Policy, SessionConfig, Status,
};
use capibara_tests::{Ran, Sandbox, engine};
use serde_json::Value;

/// A folder with something to lay over in `inside` and something to be kept in `outside`.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Self(tempfile::tempdir().unwrap());
        for folder in ["inside/sub/deep", "outside/deep"] {
            fs::create_dir_all(ground.path(folder)).unwrap();
        }
        for (path, text) in [("file", "content"), ("other", "other"), ("sub/below", "below"), ("sub/deep/leaf", "leaf")]
        {
            fs::write(ground.path("inside").join(path), text).unwrap();
        }
        fs::write(ground.path("outside/secret"), "secret").unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.path("inside").join(name)
    }

    fn job(&self, code: &str) -> Job {
        Job::python(format!("{PRELUDE}{code}")).with_grant(Grant::overlay(self.path("inside")).at("/data"))
    }

    /// Runs a script that must succeed and leave the host as it is.
    fn run(&self, code: &str) -> Outcome {
        self.run_job(self.job(code))
    }

    fn run_job(&self, job: Job) -> Outcome {
        let before = look(&self.path("."));
        let outcome = engine().run_blocking(job).unwrap();
        assert!(outcome.success(), "{:?}\n{}{}", outcome.status, outcome.stdout.text(), outcome.stderr.text());
        assert_eq!(look(&self.path(".")), before, "the host is as it was");
        outcome
    }

    fn check_outside(&self) {
        assert_eq!(fs::read(self.path("outside/secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(self.path("outside/deep")).unwrap().count(), 0);
    }
}

/// Everything below a folder: paths, kinds and contents, and when each was last changed.
fn look(folder: &Path) -> Vec<String> {
    tree(folder, |meta| format!("{:o} {} {} {}", meta.mode(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

/// Everything below a folder: paths, kinds, contents, and what else is to be told.
fn tree(folder: &Path, more: impl Fn(&fs::Metadata) -> String + Copy) -> Vec<String> {
    let mut seen = Vec::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).unwrap().flatten() {
            let (path, meta) = (entry.path(), fs::symlink_metadata(entry.path()).unwrap());
            let shown = path.strip_prefix(folder).unwrap().display().to_string();
            let what = if meta.is_dir() {
                left.push(path);
                "directory".to_owned()
            } else if meta.is_symlink() {
                format!("-> {}", fs::read_link(path).unwrap().display())
            } else if meta.len() > 200 << 20 {
                "large".into()
            } else if meta.is_file() {
                let bytes = fs::read(path).unwrap();
                if bytes.len() > 100 {
                    format!("{} bytes", bytes.len())
                } else {
                    String::from_utf8_lossy(&bytes).into()
                }
            } else {
                "other".into()
            };
            seen.push(format!("{shown}: {what} {}", more(&meta)));
        }
    }
    seen.sort();
    seen
}

/// `attempt(f, *args)` prints what the call returns or the name of the error.
const PRELUDE: &str = "
import errno, os, shutil
def attempt(function, *args, **named):
    try:
        result = function(*args, **named)
        print('ok' if result is None or hasattr(result, 'close') else result)
    except OSError as error:
        print(errno.errorcode.get(error.errno, error))
def put(path, text, mode='w'):
    with open(path, mode) as file: file.write(text)
def get(path):
    with open(path) as file: return file.read()
";

fn printed(outcome: &Outcome) -> Vec<String> {
    outcome.stdout.text().lines().map(String::from).collect()
}

/// `A /data/x`, one for each change.
fn told(changes: &Changes) -> Vec<String> {
    let letter = |kind| match kind {
        ChangeKind::Added => 'A',
        ChangeKind::Changed => 'M',
        ChangeKind::Deleted => 'D',
    };
    changes.iter().map(|change| format!("{} {} {}", letter(change.kind), change.what.name(), change.path)).collect()
}

fn refused(applied: &Applied) -> Vec<(String, String)> {
    applied.refused.iter().map(|refusal| (refusal.path.clone(), refusal.reason.to_string())).collect()
}

const CHANGED: &str = "it was changed since the run looked at it";
const APPEARED: &str = "something was made there since the run looked";

#[test]
fn it_works_as_a_writable_folder() {
    let ground = Ground::new();
    let outcome = ground.run(
        "
import sqlite3, zipfile, pathlib, tempfile
os.makedirs('/data/a/b/c')
put('/data/a/b/c/made', 'made')
os.replace('/data/a/b/c/made', '/data/a/moved')
os.link('/data/a/moved', '/data/a/second')
os.symlink('a/moved', '/data/link')
print(get('/data/link'), os.readlink('/data/link'), os.path.islink('/data/link'))
shutil.copytree('/data/a', '/tmp/copy')
shutil.move('/tmp/copy', '/data/back')
print(sorted(os.listdir('/data/back')))
shutil.rmtree('/data/a')
with zipfile.ZipFile('/data/z.zip', 'w') as archive: archive.writestr('x', 'y' * 1000)
print(zipfile.ZipFile('/data/z.zip').read('x') == b'y' * 1000)
base = sqlite3.connect('/data/base.sqlite')
base.execute('create table t (x)')
base.executemany('insert into t values (?)', [(i,) for i in range(1000)])
base.commit(); base.close()
put('/data/file', ' more', 'a')
os.chdir('/data')
print(get('file'), os.getcwd(), sorted(os.listdir('.')), [entry.name for entry in os.scandir('sub')])
with open('other', 'r+') as file, open('other') as reader:
    file.seek(2); file.write('TH'); file.truncate(4); file.flush()
    print(reader.read(), os.path.getsize('other'))
shutil.move('sub', 'moved')
print([(path, folders, files) for path, folders, files in os.walk('/data/moved')], os.path.exists('sub'))
os.utime('file', (7, 8)); print(os.stat('file').st_mtime)
file = open('moved/below'); os.unlink('moved/below'); print(file.read(), os.path.exists('moved/below'))
with tempfile.NamedTemporaryFile('w', dir='/data', delete=False) as file: file.write('new')
os.replace(file.name, '/data/moved/deep/leaf')
print(get('/data/moved/deep/leaf'), pathlib.Path('/data').is_dir())
",
    );
    let expected = [
        "made a/moved True",
        "['b', 'moved', 'second']",
        "True",
        "content more /data ['back', 'base.sqlite', 'file', 'link', 'other', 'sub', 'z.zip'] ['below', 'deep']",
        "otTH 4",
        "[('/data/moved', ['deep'], ['below']), ('/data/moved/deep', [], ['leaf'])] False",
        "8.0",
        "below False",
        "new True",
    ];
    assert_eq!(printed(&outcome), expected);
    let expected = [
        "A directory /data/back",
        "A directory /data/back/b",
        "A directory /data/back/b/c",
        "A file /data/back/moved",
        "A file /data/back/second",
        "A file /data/base.sqlite",
        "M file /data/file",
        "A link /data/link",
        "A directory /data/moved",
        "A directory /data/moved/deep",
        "A file /data/moved/deep/leaf",
        "M file /data/other",
        "D directory /data/sub",
        "D file /data/sub/below",
        "D directory /data/sub/deep",
        "D file /data/sub/deep/leaf",
        "A file /data/z.zip",
    ];
    assert_eq!(told(&outcome.changes), expected);
    assert!(!outcome.determined && outcome.usage.bytes_written > 1000);
    fs::set_permissions(ground.inside("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    // What the run saw is what is applied to: the mode of a file is not part of it, the time of its change is.
    let applied = outcome.changes.apply();
    assert_eq!(refused(&applied), [("/data/file".into(), CHANGED.into())]);
    assert_eq!(applied.applied, 16);
    assert_eq!(fs::read(ground.inside("moved/deep/leaf")).unwrap(), b"new");
    assert_eq!(fs::read(ground.inside("other")).unwrap(), b"otTH");
    assert_eq!(fs::read_link(ground.inside("link")).unwrap(), Path::new("a/moved"));
    assert!(!ground.inside("sub").exists());
    for name in ["z.zip", "back/moved", "base.sqlite"] {
        assert_eq!(fs::metadata(ground.inside(name)).unwrap().permissions().mode() & 0o7111, 0, "{name}");
    }
    ground.check_outside();
}

/// A changed file keeps its permissions, but for those that give somebody else's rights, and its other names their bytes.
#[test]
fn permissions_and_other_names_stay() {
    let ground = Ground::new();
    fs::set_permissions(ground.inside("file"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::hard_link(ground.inside("file"), ground.path("outside/deep/name")).unwrap();
    fs::hard_link(ground.inside("file"), ground.inside("twin")).unwrap();
    let outcome = ground.run("put('/data/file', 'new'); print(get('/data/twin')); put('/data/twin', 'newer')");
    assert_eq!(printed(&outcome), ["content"]);
    let applied = outcome.changes.apply();
    assert_eq!((applied.applied, refused(&applied)), (2, vec![]));
    assert_eq!(fs::metadata(ground.inside("file")).unwrap().permissions().mode() & 0o7777, 0o751);
    assert_eq!(fs::read(ground.path("outside/deep/name")).unwrap(), b"content");
    assert_eq!(fs::read(ground.inside("twin")).unwrap(), b"newer");
}

#[test]
fn what_is_as_before_is_no_change() {
    let ground = Ground::new();
    let outcome = ground.run(
        "
for path in ('/data/file', '/data/sub/below'): get(path)
put('/data/file', get('/data/file'))
with open('/data/other', 'r+') as file: file.write('oth')
open('/data/sub/below', 'a').close()
os.utime('/data/sub/deep/leaf', (1, 1))
os.rename('/data/other', '/data/x'); os.rename('/data/x', '/data/other')
put('/data/new', ''); os.unlink('/data/new')
os.mkdir('/data/dir'); os.rmdir('/data/dir')
os.listdir('/data/sub')
",
    );
    assert_eq!(told(&outcome.changes), Vec::<String>::new());
    let applied = outcome.changes.apply();
    assert_eq!((applied.applied, applied.refused.len()), (0, 0));
}

/// Names that were removed stay so, whatever takes their place.
#[test]
fn removed_names() {
    let ground = Ground::new();
    symlink("file", ground.inside("link")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(ground.inside("fifo")).status().unwrap().success());
    let outcome = ground.run(
        "
attempt(os.rename, '/data/sub', '/data/moved')
attempt(os.rmdir, '/data/sub')
attempt(os.rmdir, '/data/sub/deep')
os.unlink('/data/sub/deep/leaf'); os.rmdir('/data/sub/deep')
attempt(os.stat, '/data/sub/deep'); attempt(get, '/data/sub/deep/leaf')
os.mkdir('/data/sub/deep')
print(os.listdir('/data/sub/deep'))
put('/data/sub/deep/leaf', 'again')
os.mkdir('/data/made'); put('/data/made/inner', 'x')
attempt(os.rename, '/data/made', '/data/sub')
os.unlink('/data/file'); os.mkdir('/data/file'); put('/data/file/below', 'y')
attempt(get, '/data/link/below')
os.unlink('/data/link'); os.symlink('other', '/data/link'); print(get('/data/link'))
attempt(open, '/data/fifo'); attempt(os.rename, '/data/fifo', '/data/f'); os.unlink('/data/fifo')
shutil.rmtree('/data/sub')
attempt(os.rename, '/data/made', '/data/sub')
print(sorted(os.listdir('/data')), os.listdir('/data/sub'))
attempt(os.unlink, '/data'); attempt(os.rmdir, '/data'); attempt(os.rename, '/data', '/tmp/data')
",
    );
    let expected = [
        "EXDEV",
        "ENOTEMPTY",
        "ENOTEMPTY",
        "ENOENT",
        "ENOENT",
        "[]",
        "ENOTEMPTY",
        "y",
        "other",
        "EPERM",
        "EPERM",
        "ok",
        "['file', 'link', 'other', 'sub'] ['inner']",
        "EISDIR",
        "EROFS",
        "EROFS",
    ];
    assert_eq!(printed(&outcome), expected);
    let expected = [
        "D other /data/fifo",
        "D file /data/file",
        "A directory /data/file",
        "A file /data/file/below",
        "D link /data/link",
        "A link /data/link",
        "D file /data/sub/below",
        "D directory /data/sub/deep",
        "D file /data/sub/deep/leaf",
        "A file /data/sub/inner",
    ];
    assert_eq!(told(&outcome.changes), expected);
    let applied = outcome.changes.apply();
    assert_eq!((applied.applied, refused(&applied)), (10, vec![]));
    let left = tree(&ground.path("inside"), |_| String::new());
    assert_eq!(
        left,
        ["file/below: y ", "file: directory ", "link: -> other ", "other: other ", "sub/inner: x ", "sub: directory "]
    );
    // Once more, there is nothing left to do, and that is told.
    assert_eq!(outcome.changes.apply().applied, 0);
}

/// The same calls, by chance, on a writable folder and below an overlay: same answers, same tree, and the same folder on the
/// host when the changes are applied.
#[test]
fn any_calls_come_to_the_same_as_on_a_writable_folder() {
    let code = r"
import random
dice = random.Random(int(open('/data/seed').read()))
names = ['file', 'other', 'sub', 'sub/below', 'sub/deep', 'sub/deep/leaf', 'a', 'b', 'sub/a', 'a/b', 'sub/deep/c', 'a/c', 'link', 'link/x']
def name(): return '/data/' + dice.choice(names)
def read(path):
    with open(path) as file: return len(file.read(dice.choice([-1, 3]))), file.read()
def write(path, mode, text):
    with open(path, mode) as file:
        if mode == 'r+': file.seek(dice.randrange(4))
        file.write(text)
def rename(source, target):
    try: os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV: raise
        if os.path.lexists(target): os.rmdir(target)
        shutil.copytree(source, target, symlinks=True); shutil.rmtree(source)
def stat(path):
    found = os.lstat(path)
    return found.st_mode & 0o170000, 0 if os.path.isdir(path) else found.st_size
calls = [lambda: os.unlink(name()), lambda: os.rmdir(name()), lambda: os.mkdir(name()), lambda: read(name()), lambda: sorted(os.listdir(name())),
         lambda: write(name(), dice.choice(['w', 'a', 'r+', 'x']), str(dice.random())), lambda: rename(name(), name()), lambda: rename(name(), name()),
         lambda: os.link(name(), name()), lambda: os.symlink(dice.choice(['file', 'sub', 'a', 'below']), name()), lambda: stat(name()),
         lambda: os.truncate(name(), dice.randrange(20)), lambda: os.readlink(name()), lambda: shutil.rmtree(name())]
for step in range(400):
    call = dice.randrange(len(calls))
    print(step, call, end=' ')
    # Which of several reasons against a link is told differs.
    if call == 8:
        try: calls[call](); print('ok')
        except OSError: print('refused')
    else: attempt(calls[call])
for path, folders, files in os.walk('/data'):
    folders.sort(); print(path, folders, sorted(files))
    for file in sorted(files): print(os.readlink(f'{path}/{file}') if os.path.islink(f'{path}/{file}') else get(f'{path}/{file}'))
";
    let mut changes = 0;
    for seed in 0..40 {
        let (written, laid) = (Ground::new(), Ground::new());
        for ground in [&written, &laid] {
            fs::write(ground.inside("seed"), seed.to_string()).unwrap();
        }
        let limits = Limits { files: 100_000, ..Limits::default() };
        let job = Job::python(format!("{PRELUDE}{code}")).with_grant(Grant::write(written.path("inside")).at("/data"));
        let expected = engine().run_blocking(job.with_limits(limits.clone())).unwrap();
        let outcome = laid.run_job(laid.job(code).with_limits(limits));
        assert!(expected.success(), "{}", expected.stderr.text());
        for (left, right) in expected.stdout.text().lines().zip(outcome.stdout.text().lines()) {
            assert_eq!(left, right, "seed {seed}: written, laid over");
        }
        assert_eq!(expected.stdout.text().len(), outcome.stdout.text().len());
        changes += outcome.changes.len();
        let applied = outcome.changes.apply();
        assert_eq!(refused(&applied), [], "seed {seed}");
        let plain = |ground: &Ground| tree(&ground.path("inside"), |_| String::new());
        assert_eq!(plain(&written), plain(&laid), "seed {seed}");
        laid.check_outside();
    }
    assert!(changes > 50, "{changes}");
}

/// Where the host is not as the run saw it, it is left as it is; all else is applied.
#[test]
fn what_changed_meanwhile_is_refused() {
    let ground = Ground::new();
    for index in 0..12 {
        fs::write(ground.inside(&format!("f{index:02}")), "before").unwrap();
    }
    symlink("file", ground.inside("link")).unwrap();
    fs::create_dir(ground.inside("gone")).unwrap();
    let outcome = ground.run(
        "
for index in range(12): put(f'/data/f{index:02}', 'after')
os.unlink('/data/file'); os.unlink('/data/other')
os.unlink('/data/link'); os.rmdir('/data/gone')
put('/data/new', 'new'); put('/data/new2', 'new'); os.mkdir('/data/newdir'); put('/data/newdir/x', 'x'); os.symlink('new', '/data/newlink')
put('/data/sub/below', 'after'); put('/data/sub/deep/made', 'made'); shutil.rmtree('/data/sub/deep', ignore_errors=True)
os.mkdir('/data/fine'); put('/data/fine/fine', 'fine')
",
    );
    let at = |name: &str| ground.inside(name);
    // The same size, and the old times put back.
    let times = fs::metadata(at("f00")).unwrap().modified().unwrap();
    fs::write(at("f00"), "BEFORE").unwrap();
    fs::File::open(at("f00")).unwrap().set_modified(times).unwrap();
    fs::write(at("f01"), "longer than before").unwrap();
    fs::remove_file(at("f02")).unwrap();
    fs::remove_file(at("f03")).unwrap();
    symlink(ground.path("outside/secret"), at("f03")).unwrap();
    fs::remove_file(at("f04")).unwrap();
    fs::create_dir(at("f04")).unwrap();
    fs::write(at("f05.new"), "before").unwrap();
    fs::rename(at("f05.new"), at("f05")).unwrap();
    fs::remove_file(at("f06")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("f06")).status().unwrap().success());
    fs::write(at("file"), "changed").unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("other", at("link")).unwrap();
    fs::write(at("gone/full"), "full").unwrap();
    fs::write(at("new"), "mine").unwrap();
    symlink(ground.path("outside/made"), at("new2")).unwrap();
    symlink(ground.path("outside"), at("newdir")).unwrap();
    symlink("elsewhere", at("newlink")).unwrap();
    fs::rename(at("sub"), at("away")).unwrap();
    symlink(ground.path("outside"), at("sub")).unwrap();
    let applied = outcome.changes.apply();
    let mut found = refused(&applied);
    found.sort();
    let sub = "`sub` on the way there is not a directory";
    let expected = [
        ("/data/f00", CHANGED),
        ("/data/f01", CHANGED),
        ("/data/f02", CHANGED),
        ("/data/f03", CHANGED),
        ("/data/f04", CHANGED),
        ("/data/f05", CHANGED),
        ("/data/f06", CHANGED),
        ("/data/file", CHANGED),
        ("/data/gone", "Directory not empty (os error 39)"),
        ("/data/link", CHANGED),
        ("/data/new", APPEARED),
        ("/data/new2", APPEARED),
        ("/data/newdir", APPEARED),
        ("/data/newdir/x", "`newdir` on the way there is not a directory"),
        ("/data/newlink", APPEARED),
        ("/data/sub/below", sub),
        ("/data/sub/deep", sub),
        ("/data/sub/deep/leaf", sub),
    ];
    assert_eq!(found, expected.map(|(path, reason)| (path.to_owned(), reason.to_owned())));
    for (name, text) in [
        ("f00", "BEFORE"),
        ("f01", "longer than before"),
        ("f05", "before"),
        ("file", "changed"),
        ("new", "mine"),
        ("away/below", "below"),
    ] {
        assert_eq!(fs::read_to_string(at(name)).unwrap(), text, "{name}");
    }
    // The controls.
    assert_eq!(applied.applied, 8);
    for (name, text) in [("f07", "after"), ("f11", "after"), ("fine/fine", "fine")] {
        assert_eq!(fs::read_to_string(at(name)).unwrap(), text, "{name}");
    }
    assert!(!at("other").exists());
    assert!(!look(&ground.path(".")).iter().any(|line| line.contains(".capibara")));
    ground.check_outside();
}

#[test]
fn nothing_that_is_made_leads_out() {
    let ground = Ground::new();
    symlink("../outside/secret", ground.inside("up")).unwrap();
    let job = ground
        .job(
            "
for target in ['../outside/secret', '/etc/passwd', 'sub/../../outside', '..']:
    attempt(os.symlink, target, '/data/made')
attempt(os.rename, '/data/up', '/data/sub/up')
attempt(os.link, '/data/up', '/data/second')
os.symlink('../../x', '/tmp/up')
attempt(os.rename, '/tmp/up', '/data/made')
attempt(os.link, '/tmp/up', '/data/made')
put('/tmp/plain', 'x')
attempt(os.rename, '/tmp/plain', '/data/plain')
attempt(os.link, '/data/file', '/tmp/file')
attempt(os.link, '/other/secret', '/data/secret')
attempt(os.rename, '/data/file', '/other/file')
attempt(os.rename, '/data/file', '/second/file')
attempt(get, '/data/up')
attempt(get, '/data/../outside/secret')
attempt(os.symlink, 'file', '/data/fine')
attempt(os.rename, '/data/file', '/data/sub/renamed')
attempt(shutil.move, '/tmp/plain', '/data/plain')
",
        )
        .with_grant(Grant::read(ground.path("outside")).at("/other"))
        .with_grant(Grant::overlay(ground.path("outside")).at("/second"));
    let outcome = ground.run_job(job);
    let expected = [
        "EPERM",
        "EPERM",
        "EPERM",
        "EPERM",
        "EPERM",
        "EPERM",
        "EXDEV",
        "EXDEV",
        "EXDEV",
        "EXDEV",
        "EXDEV",
        "EXDEV",
        "EXDEV",
        "ENOENT",
        "ENOENT",
        "ok",
        "ok",
        "/data/plain",
    ];
    assert_eq!(printed(&outcome), expected);
    assert!(outcome.changes.apply().refused.is_empty());
    ground.check_outside();
}

/// What is copied from the host counts as if the script had written it.
#[test]
fn quotas_bind_on_copies() {
    let ground = Ground::new();
    fs::write(ground.inside("big"), vec![b'x'; 3 << 20]).unwrap();
    let sparse = fs::File::create(ground.inside("sparse")).unwrap();
    sparse.set_len(1 << 42).unwrap();
    let code = "
for path in ('/data/big', '/data/sparse'):
    attempt(open, path, 'r+'); attempt(os.rename, path, '/data/renamed'); attempt(os.link, path, '/data/second')
print(os.path.getsize('/data/sparse'), open('/data/sparse', 'rb').read(5))
put('/data/file', 'small', 'a')
print(get('/data/file'))
open('/data/big', 'w').close()
os.unlink('/data/sparse')
";
    let limits = Limits { bytes_written: 2 << 20, ..Limits::default() };
    let outcome = ground.run_job(ground.job(code).with_limits(limits));
    let lines = ["ENOSPC", "ENOSPC", "ENOSPC", "EFBIG", "EFBIG", "EFBIG"];
    let expected: Vec<_> =
        lines.iter().copied().chain([r"4398046511104 b'\x00\x00\x00\x00\x00'", "contentsmall"]).collect();
    assert_eq!(printed(&outcome), expected);
    assert!(outcome.quotas_met.iter().any(|hit| hit.kind == LimitKind::BytesWritten), "{:?}", outcome.quotas_met);
    assert_eq!(told(&outcome.changes), ["M file /data/big", "M file /data/file", "D file /data/sparse"]);
    // By memory.
    fs::write(ground.inside("big"), vec![b'x'; 80 << 20]).unwrap();
    let limits = Limits { memory: 100 << 20, ..Limits::default() };
    let outcome = ground
        .run_job(ground.job("attempt(open, '/data/big', 'r+'); attempt(open, '/data/file', 'r+')").with_limits(limits));
    assert_eq!(printed(&outcome), ["ENOSPC", "ok"]);
    assert!(outcome.quotas_met.iter().any(|hit| hit.kind == LimitKind::Memory), "{:?}", outcome.quotas_met);
    // By number.
    for index in 0..8 {
        fs::write(ground.inside(&format!("n{index}")), "x").unwrap();
    }
    let limits = Limits { files: 5, ..Limits::default() };
    let code = "
for index in range(8): attempt(open, f'/data/n{index}', 'a' if index % 2 else 'w')
for index in range(8): os.unlink(f'/data/n{index}')
attempt(open, '/data/file', 'a')
";
    let outcome = ground.run_job(ground.job(code).with_limits(limits));
    assert_eq!(printed(&outcome), ["ok", "ok", "ok", "ok", "ok", "ENOSPC", "ENOSPC", "ENOSPC", "ok"]);
    // The control: a large file, in several steps, and back again.
    let outcome = ground.run(
        "
with open('/data/big', 'r+b') as file: file.seek(40 << 20); file.write(b'y')
with open('/data/big', 'rb') as file: data = file.read()
print(len(data), data[(40 << 20) - 1:(40 << 20) + 2])
",
    );
    assert_eq!(printed(&outcome), ["83886080 b'xyx'"]);
    assert!(outcome.changes.apply().refused.is_empty());
    let bytes = fs::read(ground.inside("big")).unwrap();
    assert_eq!((bytes.len(), &bytes[(40 << 20) - 1..(40 << 20) + 2]), (80 << 20, b"xyx".as_slice()));
}

/// Sizes that were never written are told, and never come to the host.
#[test]
fn holes_do_not_come_to_the_host() {
    let ground = Ground::new();
    let outcome = ground.run(
        "
os.truncate(os.open('/data/hole', os.O_CREAT | os.O_RDWR), 400 << 20)
put('/data/zero', 'zero')
",
    );
    let hole = &outcome.changes[0];
    assert_eq!((hole.path.as_str(), hole.bytes, hole.sha256), ("/data/hole", 400 << 20, None));
    let applied = outcome.changes.apply();
    assert_eq!(refused(&applied), [("/data/hole".into(), "it is larger than the run may write to files".into())]);
    assert_eq!(fs::read(ground.inside("zero")).unwrap(), b"zero");
}

#[test]
fn one_file_and_places_inside_of_each_other() {
    let ground = Ground::new();
    let job = Job::python(format!(
        "{PRELUDE}
put('/conf/file', '!', 'a'); print(get('/conf/file'), os.listdir('/conf'))
attempt(os.unlink, '/conf/file'); attempt(os.rename, '/conf/file', '/conf/x'); attempt(put, '/conf/new', 'x')
print(sorted(os.listdir('/w')), get('/w/sub/below'))
put('/w/made', 'really'); put('/w/sub/below', 'not really')
attempt(put, '/w/sub/deep/leaf', 'x')
print(get('/w/sub/below'), get('/w/sub/deep/leaf'), sorted(os.listdir('/w/sub')))
attempt(os.rmdir, '/w/sub/deep'); attempt(os.rename, '/w/sub', '/w/s')
print(sorted(os.listdir('/')))
"
    ))
    .with_grant(Grant::overlay(ground.inside("file")).at("/conf/file"))
    .with_grant(Grant::write(ground.path("inside")).at("/w"))
    .with_grant(Grant::overlay(ground.inside("sub")).at("/w/sub"))
    .with_grant(Grant::read(ground.inside("sub/deep")).at("/w/sub/deep"));
    let outcome = engine().run_blocking(job).unwrap();
    assert!(outcome.success(), "{}", outcome.stderr.text());
    let expected = [
        "content! ['file']",
        "EROFS",
        "EROFS",
        "EROFS",
        "['file', 'other', 'sub'] below",
        "EROFS",
        "not really leaf ['below', 'deep']",
        "EBUSY",
        "EXDEV",
        "['conf', 'dev', 'home', 'out', 'script', 'tmp', 'w']",
    ];
    assert_eq!(printed(&outcome), expected);
    assert_eq!(fs::read(ground.inside("made")).unwrap(), b"really");
    assert_eq!(fs::read(ground.inside("sub/below")).unwrap(), b"below");
    assert_eq!(told(&outcome.changes), ["M file /conf/file", "M file /w/sub/below"]);
    assert!(outcome.changes.apply().refused.is_empty());
    assert_eq!(fs::read(ground.inside("file")).unwrap(), b"content!");
    assert_eq!(fs::read(ground.inside("sub/below")).unwrap(), b"not really");
    // As the root.
    let job = Job::python(
        "import os\nopen('/file', 'w').write('root'); open('/tmp/x', 'w').write('x'); print(sorted(os.listdir('/')))",
    );
    let outcome = engine().run_blocking(job.with_grant(Grant::overlay(ground.path("inside")).at("/"))).unwrap();
    assert_eq!(outcome.stdout.text(), "['dev', 'file', 'home', 'made', 'other', 'out', 'script', 'sub', 'tmp']\n");
    assert_eq!(told(&outcome.changes), ["M file /file"]);
}

#[test]
fn changes_come_back_however_the_run_ends_and_the_digest_covers_what_it_saw() {
    let ground = Ground::new();
    let limits = Limits { fuel: Some(500_000_000), ..Limits::default() };
    let stopped =
        engine().run_blocking(ground.job("put('/data/file', 'half')\nwhile True: pass").with_limits(limits)).unwrap();
    assert!(matches!(stopped.status, Status::Limit(hit) if hit.kind == LimitKind::Fuel));
    assert_eq!(told(&stopped.changes), ["M file /data/file"]);
    let again = |code: &str| {
        let job = ground.job(code).with_seed(1).with_epoch(Epoch::from_nanos(1 << 60));
        engine().run_blocking(job).unwrap()
    };
    let (read, idle, listed) = ("print(get('/data/file'))", "print(1)", "print(os.listdir('/data'))");
    let before = [read, idle, listed].map(|code| again(code).job_sha256);
    assert_eq!([read, idle, listed].map(|code| again(code).job_sha256), before);
    fs::write(ground.inside("file"), "CONTENT").unwrap();
    fs::write(ground.inside("more"), "").unwrap();
    let after = [read, idle, listed].map(|code| again(code).job_sha256);
    assert_eq!((before[0] != after[0], before[1] == after[1], before[2] != after[2]), (true, true, true));
    let other = Job::python(format!("{PRELUDE}{idle}")).with_grant(Grant::read(ground.path("inside")).at("/data"));
    let other = engine().run_blocking(other.with_seed(1).with_epoch(Epoch::from_nanos(1 << 60))).unwrap();
    assert_ne!(other.job_sha256, before[1], "what a grant allows is part of the job");
}

#[test]
fn a_session_keeps_its_layer() {
    let ground = Ground::new();
    let inside = ground.path("inside");
    let text = format!("extends: moderate\nwiden: true\ngrants:\n  overlay: ['{}:/data']\n", inside.display());
    let policy = Policy::parse("layered", &text).unwrap();
    let mut session = engine().session(SessionConfig::new(policy)).unwrap();
    session.run_blocking("open('/data/file', 'w').write('one')").unwrap();
    let turn = session.run_blocking("print(open('/data/file').read())").unwrap();
    assert_eq!((turn.stdout.text().as_ref(), turn.changes.len()), ("one\n", 0));
    assert_eq!(told(&session.changes()), ["M file /data/file"]);
    assert_eq!(fs::read(ground.inside("file")).unwrap(), b"content");
    assert_eq!(session.changes().apply().applied, 1);
    assert_eq!(fs::read(ground.inside("file")).unwrap(), b"one");
}

/// The host swaps directories with links to one outside, while the script walks and while changes are applied.
#[test]
fn races_do_not_lead_out() {
    const FOLDERS: usize = 40;
    let code = format!(
        "
for index in range({FOLDERS}):
    path = f'/data/real{{index}}'
    try: text = get(path + '/secret'); assert text == 'mine', text
    except OSError: pass
    for call in (lambda: put(path + '/planted', 'x'), lambda: put(path + '/secret', 'theirs'), lambda: os.mkdir(path + '/deep/made')):
        try: call()
        except OSError: pass
    try: assert 'deep' not in os.listdir(path)
    except OSError: pass
"
    );
    let (mut applied, mut refused) = (0, 0);
    for _ in 0..25 {
        let ground = Ground::new();
        let inside = ground.path("inside");
        for index in 0..FOLDERS {
            fs::create_dir_all(inside.join(format!("real{index}"))).unwrap();
            fs::write(inside.join(format!("real{index}/secret")), "mine").unwrap();
        }
        symlink(fs::canonicalize(ground.path("outside")).unwrap(), inside.join("absolute")).unwrap();
        symlink("../outside", inside.join("up")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swapping = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    for index in 0..FOLDERS {
                        let real = inside.join(format!("real{index}"));
                        for link in ["absolute", "up"] {
                            fs::rename(&real, inside.join("away")).unwrap();
                            fs::rename(inside.join(link), &real).unwrap();
                            fs::rename(&real, inside.join(link)).unwrap();
                            fs::rename(inside.join("away"), &real).unwrap();
                        }
                    }
                }
            }
        });
        let outcome = engine().run_blocking(ground.job(&code)).unwrap();
        assert!(outcome.success(), "{}", outcome.stderr.text());
        let done = outcome.changes.apply();
        stop.store(true, Ordering::Relaxed);
        swapping.join().unwrap();
        applied += done.applied;
        refused += done.refused.len();
        ground.check_outside();
    }
    assert!(applied > 0, "{applied} applied, {refused} refused");
}

fn sandbox() -> Sandbox {
    let _ = engine();
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
    fs::create_dir_all(sandbox.dir.path().join("src")).unwrap();
    fs::write(sandbox.dir.path().join("src/a"), "one").unwrap();
    fs::write(sandbox.dir.path().join("src/b"), "two").unwrap();
    sandbox
}

const EDIT: &str =
    "import os; open('/src/a', 'w').write('ONE!'); os.unlink('/src/b'); open('/src/c', 'w').write('new')";

fn read(sandbox: &Sandbox, name: &str) -> String {
    fs::read_to_string(sandbox.dir.path().join(name)).unwrap_or_else(|error| error.kind().to_string())
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn the_command_tells_and_applies() {
    let sandbox = sandbox();
    let ran = sandbox.run(&["run", "--overlay", "src", "-c", EDIT]);
    let expected = "capibara: 3 changes below overlays, not made on this machine: `--apply` makes them\n\
                    capibara:   M /src/a (4B)\ncapibara:   D /src/b\ncapibara:   A /src/c (3B)\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), expected));
    assert_eq!((read(&sandbox, "src/a"), read(&sandbox, "src/b")), ("one".into(), "two".into()));
    // A script that fails has not done its work.
    let ran = sandbox.run(&["run", "--overlay", "src", "--apply", "-c", &format!("{EDIT}; raise SystemExit(3)")]);
    assert_eq!(ran.code, Some(3));
    assert!(
        ran.stderr.starts_with("capibara: 3 changes below overlays, not applied, because the script did not succeed\n")
    );
    assert_eq!(read(&sandbox, "src/a"), "one");
    let ran = sandbox.run(&["run", "--overlay", "src", "--format", "json", "-c", EDIT]);
    let report = json(&ran);
    assert_eq!((&report["changes"][0]["kind"], &report["changes"][1]["type"]), (&"changed".into(), &"file".into()));
    assert!(report["applied"].is_null() && ran.stderr.is_empty());
    let ran = sandbox.run(&["run", "--overlay", "src", "--apply", "-c", EDIT]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "capibara: applied 3 changes\n"));
    assert_eq!(["src/a", "src/b", "src/c"].map(|name| read(&sandbox, name)), ["ONE!", "entity not found", "new"]);
    // Many are told in part.
    let many = "for index in range(60): open(f'/src/{index:02}', 'w').close()";
    let ran = sandbox.run(&["run", "--overlay", "src", "-c", many]);
    assert_eq!((ran.stderr.lines().count(), ran.stderr.lines().last()), (22, Some("capibara: … and 40 more")));
}

#[test]
fn what_is_refused_is_told() {
    let sandbox = sandbox();
    // The host changes while the script waits for its input.
    let code = format!(
        "import sys; open('/src/b').read(); open('/src/a').read(); print('ready', flush=True); sys.stdin.read(); {EDIT}"
    );
    let mut command = sandbox.command();
    command.args(["run", "--overlay", "src", "--apply", "-c", &code]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    fs::write(sandbox.dir.path().join("src/a"), "1ne").unwrap();
    drop(child.stdin.take());
    let ran = capibara_tests::finish(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(125), "{ran:?}");
    let expected =
        format!("capibara: change of `/src/a` was not applied: {CHANGED}\ncapibara: applied 2 of 3 changes\n");
    assert!(ran.stderr.ends_with(&expected), "{}", ran.stderr);
    assert_eq!(["src/a", "src/b", "src/c"].map(|name| read(&sandbox, name)), ["1ne", "entity not found", "new"]);
}

#[test]
fn flags_and_policies() {
    let sandbox = sandbox();
    let ran = sandbox.run(&["run", "--policy", "strict", "--overlay", "src", "-c", "print(1)"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""));
    assert!(ran.stderr.contains("--overlay"), "{}", ran.stderr);
    let ran = sandbox.run(&["run", "--apply", "-c", "print(1)"]);
    assert_eq!(ran.code, Some(125));
    assert!(ran.stderr.contains("nothing is an overlay"), "{}", ran.stderr);
    // A policy may lay over, and still keep the host from being changed.
    let text = "extends: strict\nwiden: true\ngrants:\n  overlay: [src]\n";
    let _ = sandbox.file("laid.yaml", text);
    let _ = sandbox.file("open.yaml", format!("{text}overridable: [overlay]\n"));
    let edit = "open('/src/a', 'w').write('by policy')";
    let ran = sandbox.run(&["run", "--policy", "./laid.yaml", "-c", edit]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 change below overlays"), "{}", ran.stderr);
    let ran = sandbox.run(&["run", "--policy", "./laid.yaml", "--apply", "-c", edit]);
    assert_eq!(ran.code, Some(125));
    assert!(ran.stderr.contains("--apply"), "{}", ran.stderr);
    assert_eq!(read(&sandbox, "src/a"), "one");
    let ran = sandbox.run(&["run", "--policy", "./open.yaml", "--apply", "-c", edit]);
    assert_eq!((ran.code, read(&sandbox, "src/a").as_str()), (Some(0), "by policy"), "{}", ran.stderr);
    let ran = sandbox.run(&["run", "--dry-run", "--overlay", "src:/x", "-c", "print(1)"]);
    assert!(ran.stdout.contains("overlay") && ran.stdout.contains("/x"), "{}", ran.stdout);
    let shown = sandbox.run(&["policy", "show", "./laid.yaml"]);
    assert!(shown.stdout.contains("  overlay:\n"), "{}", shown.stdout);
}
