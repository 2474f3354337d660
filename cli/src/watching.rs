//! The files of a script that is run again when one of them changes.
//!
//! They are looked at, ten times in a second, and nothing is asked of the kernel to tell of changes: that works on every file
//! system, with every way of editors to replace a file, and needs no thread but while a run is under way.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capibara::{Canceler, ScriptModule, script_modules};

use crate::output::text::Console;
use crate::signals::{Caught, Signal};

/// How often files are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// How long they must stay as they are before the script is run again: what an editor does to save is several steps.
const QUIET: Duration = Duration::from_millis(60);
/// After this time it is run although they do not.
const LONGEST: Duration = Duration::from_secs(2);

/// What tells one content of a path from another. `None` if there is none.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// The files, each as it was when it was read.
struct Files {
    script: PathBuf,
    granted: Vec<PathBuf>,
    /// Where modules are looked for, and which of them there are.
    folder: Option<PathBuf>,
    modules: BTreeSet<String>,
    seen: BTreeMap<PathBuf, Stamp>,
    /// Folders in which modules appear and vanish.
    folders: BTreeMap<PathBuf, Stamp>,
}

impl Files {
    /// Looks at what is known before the script is read.
    fn begin(&mut self) {
        let paths = std::iter::once(&self.script).chain(&self.granted);
        self.seen = paths.map(|path| (path.clone(), stamp(path))).collect();
        (self.folder, self.modules, self.folders) = (None, BTreeSet::new(), BTreeMap::new());
    }

    /// Adds the modules that were read.
    fn also(&mut self, folder: &Path, modules: &[ScriptModule]) {
        self.folder = Some(folder.into());
        for module in modules {
            let path = folder.join(&module.path);
            let now = stamp(&path);
            // It may have changed since it was read.
            let same = fs::read(&path).is_ok_and(|content| *content == *module.source);
            self.seen.insert(path.clone(), now.filter(|_| same));
            if let Some(inner) = path.parent() {
                self.folders.insert(inner.into(), stamp(inner));
            }
            self.modules.insert(module.path.clone());
        }
        self.folders.insert(folder.into(), stamp(folder));
    }

    /// A file that is not as it was.
    fn changed(&mut self) -> Option<PathBuf> {
        if let Some((path, _)) = self.seen.iter().find(|(path, seen)| stamp(path) != **seen) {
            return Some(path.clone());
        }
        let moved = self.folders.iter().any(|(path, seen)| stamp(path) != *seen);
        let folder = self.folder.clone().filter(|_| moved)?;
        // Something was made, removed or renamed there, mostly nothing of ours.
        for (path, seen) in &mut self.folders {
            *seen = stamp(path);
        }
        let name = self.script.file_name()?.to_str()?;
        let now = script_modules(&folder, name, &fs::read(&self.script).ok()?).ok()?;
        let appeared = now.iter().find(|module| !self.modules.contains(&module.path))?;
        Some(folder.join(&appeared.path))
    }

    /// All of them as they are now, and whether the script is among them.
    fn now(&self) -> (bool, Vec<Stamp>) {
        let stamps: Vec<Stamp> = self.seen.keys().map(|path| stamp(path)).collect();
        (fs::metadata(&self.script).is_ok_and(|meta| meta.is_file()), stamps)
    }
}

/// Watches over the files of a script, from run to run.
pub(crate) struct Watching {
    files: Arc<Mutex<Files>>,
    caught: OnceCell<Caught>,
    /// Where the last run left standard error.
    console: RefCell<Console>,
}

impl Watching {
    /// A script, and files that are granted to it.
    pub(crate) fn new(script: &Path, granted: Vec<PathBuf>) -> Self {
        let files = Files {
            script: script.into(),
            granted,
            folder: None,
            modules: BTreeSet::new(),
            seen: BTreeMap::new(),
            folders: BTreeMap::new(),
        };
        Self { files: Arc::new(Mutex::new(files)), caught: OnceCell::new(), console: RefCell::default() }
    }

    /// A run begins: nothing of it was read yet.
    pub(crate) fn begin(&self) {
        lock(&self.files).begin();
    }

    /// These modules were read for it.
    pub(crate) fn also(&self, folder: &Path, modules: &[ScriptModule]) {
        lock(&self.files).also(folder, modules);
    }

    /// The signals that come, noted from the first call on. Before that they end the process: a runtime may be built.
    pub(crate) fn caught(&self) -> io::Result<&Caught> {
        if self.caught.get().is_none() {
            // Nobody else can have filled it: it belongs to this thread.
            let _ = self.caught.set(Caught::start()?);
        }
        self.caught.get().ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Cancels a run when a file changes, until that is over.
    pub(crate) fn during(&self, canceler: Canceler) -> During {
        let over = Arc::new(AtomicBool::new(false));
        let (files, ends) = (Arc::clone(&self.files), Arc::clone(&over));
        let look = move || {
            while !ends.load(Ordering::SeqCst) {
                if lock(&files).changed().is_some() {
                    canceler.cancel();
                    return true;
                }
                thread::park_timeout(EVERY);
            }
            false
        };
        // Without the thread the run is not canceled, and run again when it has ended.
        During { over, thread: thread::Builder::new().name("capibara-watch".into()).spawn(look).ok() }
    }

    /// What is said next goes there.
    pub(crate) fn speak_through(&self, console: Console) {
        *self.console.borrow_mut() = console;
    }

    /// Says a line about what comes next.
    pub(crate) fn say(&self, line: &str) {
        self.console.borrow().say(line);
    }

    /// Waits until files have changed and are at rest, and tells the first of them; or until a signal comes.
    pub(crate) fn wait(&self) -> io::Result<Result<PathBuf, Signal>> {
        let caught = self.caught()?;
        let mut first = None;
        loop {
            if let Some(signal) = caught.get() {
                return Ok(Err(signal));
            }
            first = first.or_else(|| lock(&self.files).changed());
            if let Some(first) = first {
                return Ok(match self.settle(caught) {
                    Some(signal) => Err(signal),
                    None => Ok(first),
                });
            }
            thread::sleep(EVERY);
        }
    }

    fn settle(&self, caught: &Caught) -> Option<Signal> {
        let began = Instant::now();
        let mut before = lock(&self.files).now();
        loop {
            thread::sleep(QUIET);
            if let Some(signal) = caught.get() {
                return Some(signal);
            }
            let now = lock(&self.files).now();
            let (there, _) = now;
            if there && (now == before || began.elapsed() > LONGEST) {
                return None;
            }
            before = now;
        }
    }
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at the files while a run is under way.
pub(crate) struct During {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<bool>>,
}

impl During {
    /// The run is over: whether it was canceled because a file changed.
    pub(crate) fn finish(self) -> bool {
        self.over.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread else { return false };
        thread.thread().unpark();
        thread.join().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching(dir: &Path) -> Watching {
        fs::write(dir.join("x.py"), "import a\nimport package.inner\n").unwrap();
        fs::write(dir.join("a.py"), "").unwrap();
        let watching = Watching::new(&dir.join("x.py"), vec![dir.join("data")]);
        watching.begin();
        watching.also(dir, &script_modules(dir, "x.py", &fs::read(dir.join("x.py")).unwrap()).unwrap());
        watching
    }

    #[test]
    fn changes_of_each_kind_are_seen() {
        type Change = fn(&Path) -> io::Result<()>;
        let rows: &[(&str, Option<&str>, Change)] = &[
            ("nothing", None, |_| Ok(())),
            ("the script", Some("x.py"), |dir| fs::write(dir.join("x.py"), "import a, b")),
            ("replaced by a file of the same size", Some("x.py"), |dir| {
                fs::write(dir.join("new"), "import a\nimport package.inner\n")
                    .and_then(|()| fs::rename(dir.join("new"), dir.join("x.py")))
            }),
            ("removed", Some("x.py"), |dir| fs::remove_file(dir.join("x.py"))),
            ("a module", Some("a.py"), |dir| fs::write(dir.join("a.py"), "1")),
            ("a granted file appears", Some("data"), |dir| fs::write(dir.join("data"), "1")),
            ("something else appears", None, |dir| fs::write(dir.join("b.py"), "1")),
            ("a module appears", Some("package/inner.py"), |dir| {
                fs::create_dir(dir.join("package")).and_then(|()| fs::write(dir.join("package/inner.py"), "1"))
            }),
        ];
        for (name, changed, change) in rows {
            let dir = tempfile::tempdir().unwrap();
            let watching = watching(dir.path());
            change(dir.path()).unwrap();
            let mut files = lock(&watching.files);
            assert_eq!(files.changed(), changed.map(|path| dir.path().join(path)), "{name}");
        }
    }

    #[test]
    fn a_run_under_way_is_canceled() {
        let dir = tempfile::tempdir().unwrap();
        let watching = watching(dir.path());
        let canceler = Canceler::default();
        let during = watching.during(canceler.clone());
        assert!(!during.finish() && !canceler.is_canceled());
        let during = watching.during(canceler.clone());
        fs::write(dir.path().join("a.py"), "changed").unwrap();
        while !canceler.is_canceled() {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(during.finish());
    }
}
