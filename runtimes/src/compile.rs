//! Running the C compiler: `zig cc` for WASI, in parallel, with paths relative to the build folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    error::{IoContext, RuntimeError, tail},
    folder,
};

/// Variables that change what a compiler does without being asked.
const IGNORED_VARIABLES: [&str; 8] = [
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "LIBRARY_PATH",
    "CFLAGS",
    "LDFLAGS",
    "COMPILER_PATH",
    "CCC_OVERRIDE_OPTIONS",
];

/// A C file and what becomes of it. Paths are relative to the build folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) source: String,
    pub(crate) object: String,
    pub(crate) flags: Vec<String>,
}

/// The compiler of one build.
pub(crate) struct Compiler {
    zig: PathBuf,
    folder: PathBuf,
    base: Vec<String>,
    epoch: &'static str,
    jobs: usize,
}

/// Splits flags written in one line.
pub(crate) fn words(flags: &str) -> Vec<String> {
    flags.split_whitespace().map(str::to_owned).collect()
}

impl Compiler {
    /// `zig` is the program, `folder` the build folder, `base` what every file is compiled with.
    pub(crate) fn new(zig: PathBuf, folder: PathBuf, base: &str, epoch: &'static str, jobs: usize) -> Self {
        Self { zig, folder, base: words(base), epoch, jobs: jobs.max(1) }
    }

    fn zig(&self, args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Result<Output, RuntimeError> {
        let cache = self.folder.join("zig-cache");
        let mut command = Command::new(&self.zig);
        command.args(args).current_dir(&self.folder);
        for name in IGNORED_VARIABLES {
            command.env_remove(name);
        }
        command.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache);
        command.env("SOURCE_DATE_EPOCH", self.epoch).env("LC_ALL", "C");
        command.output().context("start", &self.zig)
    }

    /// Runs zig for `file`; the error holds the last lines it printed.
    fn run(&self, action: &'static str, file: &str, args: &[String]) -> Result<(), RuntimeError> {
        let output = self.zig(args)?;
        if output.status.success() {
            return Ok(());
        }
        let printed = tail(&[output.stdout, output.stderr].concat(), 20);
        if RuntimeError::is_disk_full(&printed) {
            return Err(RuntimeError::DiskFull { path: self.folder.clone() });
        }
        let output = if printed.is_empty() { output.status.to_string() } else { printed };
        Err(RuntimeError::Compile { action, file: file.to_owned(), output })
    }

    /// Compiles what is not compiled yet, several files at once; `done` hears how many are. Stops at the first failure.
    pub(crate) fn compile(&self, units: &[Unit], done: &(dyn Fn(usize) + Sync)) -> Result<(), RuntimeError> {
        let mut waiting: Vec<&Unit> = units.iter().filter(|unit| !self.folder.join(&unit.object).exists()).collect();
        // The largest first: SQLite alone takes as long as a hundred others.
        waiting.sort_by_key(|unit| {
            std::cmp::Reverse(self.folder.join(&unit.source).metadata().map_or(0, |meta| meta.len()))
        });
        let already = units.len() - waiting.len();
        done(already);
        let (next, finished, stop) = (AtomicUsize::new(0), AtomicUsize::new(already), AtomicBool::new(false));
        let failure = Mutex::new(None);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(unit) = waiting.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                match self.compile_one(unit) {
                    Ok(()) => done(finished.fetch_add(1, Ordering::Relaxed) + 1),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.jobs {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn compile_one(&self, unit: &Unit) -> Result<(), RuntimeError> {
        // An interrupted compiler leaves a part of an object, and may still be writing when the next build has begun: only a whole
        // object gets the name that counts.
        let temporary = format!("{}.{}.tmp.o", unit.object, std::process::id());
        let mut args = vec!["cc".to_owned()];
        args.extend_from_slice(&self.base);
        args.extend_from_slice(&unit.flags);
        args.extend(["-c", &unit.source, "-o", &temporary].map(str::to_owned));
        self.run("compile", &unit.source, &args)?;
        let object = self.folder.join(&unit.object);
        fs::rename(self.folder.join(temporary), &object).context("write", &object)
    }

    /// Puts objects into a static library, unless it is there.
    pub(crate) fn archive(&self, library: &str, objects: &[String]) -> Result<(), RuntimeError> {
        self.make(library, |temporary| {
            let mut args = vec!["ar".to_owned(), "rcs".to_owned(), temporary.to_owned()];
            args.extend_from_slice(objects);
            args
        })
    }

    /// Links objects into a module, unless it is there.
    pub(crate) fn link(&self, module: &str, objects: &[String], flags: &[String]) -> Result<(), RuntimeError> {
        let list = format!("gen/{module}.rsp");
        folder::write(&self.folder.join(&list), objects.join("\n").as_bytes())?;
        self.make(module, |temporary| {
            let mut args = vec!["cc".to_owned()];
            args.extend_from_slice(&self.base);
            args.extend(["-o".to_owned(), temporary.to_owned(), format!("@{list}")]);
            args.extend_from_slice(flags);
            args
        })
    }

    fn make(&self, file: &str, args: impl FnOnce(&str) -> Vec<String>) -> Result<(), RuntimeError> {
        let place = self.folder.join(file);
        if place.exists() {
            return Ok(());
        }
        let temporary = format!("{}.{file}", std::process::id());
        let path = self.folder.join(&temporary);
        // `ar` adds to what is there.
        if path.exists() {
            fs::remove_file(&path).context("remove", &path)?;
        }
        self.run("link", file, &args(&temporary))?;
        fs::rename(&path, &place).context("write", &place)
    }
}

/// How many files are compiled at once when the user does not say.
pub(crate) fn default_jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Makes a file executable for its owner.
pub(crate) fn make_executable(path: &Path) -> Result<(), RuntimeError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).context("change the mode of", path)
}

/// Is a variable set, and not empty?
pub(crate) fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(name: &str, script: &str) -> Compiler {
        let folder = env::temp_dir().join(format!("capibara-compile-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder::create(&folder).unwrap();
        let zig = folder.join("zig");
        fs::write(&zig, format!("#!/bin/sh\n{script}\n")).unwrap();
        make_executable(&zig).unwrap();
        Compiler::new(zig, folder, "-target wasm32-wasi", "0", 2)
    }

    fn units(count: usize) -> Vec<Unit> {
        let unit = |n| Unit { source: format!("{n}.c"), object: format!("{n}.o"), flags: vec![] };
        (0..count).map(unit).collect()
    }

    #[test]
    fn objects_that_exist_are_kept_and_the_others_made() {
        let compiler = compiler("resume", "for last; do :; done; echo new > \"$last\"");
        fs::write(compiler.folder.join("3.o"), "old").unwrap();
        let most = AtomicUsize::new(0);
        compiler.compile(&units(10), &|done| _ = most.fetch_max(done, Ordering::Relaxed)).unwrap();
        assert_eq!(most.into_inner(), 10);
        assert_eq!(fs::read_to_string(compiler.folder.join("3.o")).unwrap(), "old");
        assert_eq!(fs::read_to_string(compiler.folder.join("4.o")).unwrap(), "new\n");
        folder::remove(&compiler.folder).unwrap();
    }

    #[test]
    fn a_failing_compiler_is_told_with_its_words() {
        let compiler = compiler("fails", "echo 'x.c:1: error: no' >&2; exit 1");
        let error = compiler.compile(&units(3), &|_| ()).unwrap_err();
        assert!(error.to_string().ends_with("error: no"), "{error}");
        folder::remove(&compiler.folder).unwrap();
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let compiler = compiler("full", "echo 'fatal: No space left on device' >&2; exit 1");
        let error = compiler.compile(&units(1), &|_| ()).unwrap_err();
        assert!(matches!(error, RuntimeError::DiskFull { .. }), "{error}");
        folder::remove(&compiler.folder).unwrap();
    }
}
