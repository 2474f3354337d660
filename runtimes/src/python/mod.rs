//! The recipe of the Python runtime: CPython as a WASI reactor, pre-initialised.
//!
//! No configure, no make and no Python on the building machine: the guest compiles its own standard library.
//! Everything happens in one build folder, in steps that are skipped when their result is there, so an interrupted build goes on.
//! Commands run in that folder with relative paths, so no path of the machine gets into the runtime.

pub(crate) mod flags;
mod guest;
mod patches;
pub(crate) mod pins;
mod units;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    archive,
    compile::{self, Compiler, Unit, words},
    error::{IoContext, RuntimeError},
    folder,
    manifest::{Manifest, Patches, SCHEMA, Source},
    progress::{Phase, Progress, ProgressEvent, in_phase},
    sources::Fetched,
    steps::{GuestCall, GuestFile, GuestResult, Preinitialized, Training, WasmSteps},
};
use units::{Profile, Units};

/// Digest of the recipe, computed when this binary was built.
pub(crate) const RECIPE_DIGEST: &str = env!("CAPIBARA_PYTHON_RECIPE");
/// Name of the runtime's folder.
pub(crate) const RUNTIME_NAME: &str = env!("CAPIBARA_PYTHON_NAME");

const OUTPUT: &str = "/out";
const LIB: &str = "/lib/python3.13";

/// One build.
pub(crate) struct Recipe<'a> {
    /// The build folder.
    pub(crate) folder: &'a Path,
    pub(crate) fetched: &'a Fetched,
    pub(crate) jobs: usize,
    pub(crate) steps: &'a dyn WasmSteps,
    pub(crate) progress: &'a dyn Progress,
}

impl Recipe<'_> {
    /// Builds the runtime into `result`, a folder that is ready to be published.
    pub(crate) fn build(&self, result: &Path) -> Result<(), RuntimeError> {
        let patches = self.unpack()?;
        let module = self.module(Profile::Use)?;
        let library = self.library(&module)?;
        let snapshot = self.preinitialize(&module, library)?;
        in_phase(self.progress, Phase::Write, None, || self.write(&snapshot, patches, result))
    }

    /// What an instrumented guest counted while it trained, in LLVM's raw format.
    pub(crate) fn profile(&self, training: &Training<'_>) -> Result<Vec<u8>, RuntimeError> {
        const RAW: &str = "/out/profile.raw";
        self.unpack()?;
        let module = self.module(Profile::Make(training.counting))?;
        let mut files = library_files(&self.folder.join("src/Lib"), &|_| true)?;
        files.push(GuestFile { path: "/tools/train.py".to_owned(), bytes: training.program.as_bytes().into() });
        let args = ["python", "/tools/train.py"].map(str::to_owned);
        let call = GuestCall { module: &module, export: "run-profiled", args: &args, files: &files, output: OUTPUT };
        in_phase(self.progress, Phase::Library, None, || self.call("profile", call, RAW))
    }

    /// Compiles and links the guest.
    fn module(&self, profile: Profile<'_>) -> Result<Vec<u8>, RuntimeError> {
        let units = Units::new(self.folder, profile)?;
        let zig = self.folder.join("zig/ziglang/zig");
        let compiler = Compiler::new(zig, self.folder.to_path_buf(), flags::BASE, flags::SOURCE_DATE_EPOCH, self.jobs);
        self.compile(&compiler, &units)?;
        let freezer = self.link_freezer(&compiler, &units)?;
        self.freeze(&freezer)?;
        self.link_guest(&compiler, &units)
    }

    /// Unpacks what is not unpacked yet. Says which patches are in the sources.
    fn unpack(&self) -> Result<Option<Patches>, RuntimeError> {
        let crates = [("zlib", pins::ZLIB), ("bzip2", pins::BZIP2), ("xz", pins::XZ), ("sqlite", pins::SQLITE)];
        let total = crates.len() as u64 + 3;
        in_phase(self.progress, Phase::Unpack, Some(total), || {
            let mut done = 0;
            let mut advance = || {
                done += 1;
                self.progress.event(ProgressEvent::Advanced { phase: Phase::Unpack, done });
            };
            let patches = self.fetched.patches.as_deref();
            let applied = match patches::applied(self.folder) {
                Some(applied) => applied,
                None => patches::unpack(self.folder, self.fetched.path(&pins::PYTHON)?, patches)?,
            };
            advance();
            self.unpack_tar(&pins::MUSL, "musl")?;
            advance();
            for (name, pin) in &crates {
                self.unpack_tar(pin, &format!("crates/{name}"))?;
                advance();
            }
            self.unpack_compiler()?;
            advance();
            Ok(applied)
        })
    }

    /// Throws a build folder away whose sources have other patches than this build.
    pub(crate) fn discard_if_stale(&self) -> Result<(), RuntimeError> {
        let Some(applied) = patches::applied(self.folder) else { return Ok(()) };
        let wanted = patches::describe(self.fetched.patches.as_deref())?;
        if applied.map(|patches| (patches.archive, patches.sha256)) != wanted {
            folder::remove(self.folder)?;
            folder::create(self.folder)?;
        }
        Ok(())
    }

    fn unpack_tar(&self, pin: &pins::Pin, name: &str) -> Result<(), RuntimeError> {
        let place = self.folder.join(name);
        if place.exists() {
            return Ok(());
        }
        archive::unpack_tar(self.fetched.path(pin)?, &place)
    }

    fn unpack_compiler(&self) -> Result<(), RuntimeError> {
        let place = self.folder.join("zig");
        if place.exists() {
            return Ok(());
        }
        let wheel = self.fetched.files.iter().find(|(pin, _)| pin.host.is_some());
        let (_, wheel) = wheel.ok_or(RuntimeError::UnsupportedHost(std::env::consts::ARCH))?;
        let partial = self.folder.join("zig.new");
        folder::remove(&partial)?;
        archive::unpack_zip(wheel, &partial, wanted_of_compiler)?;
        compile::make_executable(&partial.join("ziglang/zig"))?;
        fs::rename(&partial, &place).context("write", &place)
    }

    fn compile(&self, compiler: &Compiler, units: &Units) -> Result<(), RuntimeError> {
        let mut all = units.common.clone();
        all.extend(units.libm.iter().chain(&units.freezer).chain(&units.own).cloned());
        // The last few need the frozen modules; they count, and are compiled in `link_guest`.
        let total = (all.len() + units.guest.len()) as u64;
        in_phase(self.progress, Phase::Compile, Some(total), || {
            compiler.compile(&all, &|done| {
                self.progress.event(ProgressEvent::Advanced { phase: Phase::Compile, done: done as u64 });
            })
        })
    }

    fn link_freezer(&self, compiler: &Compiler, units: &Units) -> Result<Vec<u8>, RuntimeError> {
        in_phase(self.progress, Phase::Link, None, || {
            compiler.archive("libm.a", &objects(&units.libm))?;
            let mut list = objects(&units.common);
            list.extend(objects(&units.freezer));
            list.extend(objects(&units.own));
            compiler.link("freeze.wasm", &list, &link_flags(&[]))?;
            self.read("freeze.wasm")
        })
    }

    /// Freezes the modules that CPython starts from, as its makefile lists them.
    fn freeze(&self, freezer: &[u8]) -> Result<(), RuntimeError> {
        let makefile = String::from_utf8_lossy(&self.read("src/Makefile.pre.in")?).into_owned();
        let modules = frozen_modules(&makefile);
        if modules.is_empty() {
            return Err(RuntimeError::Source { file: "src/Makefile.pre.in".to_owned(), reason: "no frozen modules" });
        }
        in_phase(self.progress, Phase::Freeze, Some(modules.len() as u64), || {
            for (at, module) in modules.iter().enumerate() {
                let place = self.folder.join("gen").join(&module.header);
                if !place.exists() {
                    let output = format!("{OUTPUT}/module.h");
                    let input = GuestFile {
                        path: format!("/s/{}", module.source),
                        bytes: self.read(&format!("src/{}", module.source))?.into(),
                    };
                    let args = ["freeze".to_owned(), module.name.clone(), input.path.clone(), output.clone()];
                    let call =
                        GuestCall { module: freezer, export: "_start", args: &args, files: &[input], output: OUTPUT };
                    folder::write_if_changed(&place, &self.call("freeze", call, &output)?)?;
                }
                self.progress.event(ProgressEvent::Advanced { phase: Phase::Freeze, done: at as u64 + 1 });
            }
            Ok(())
        })
    }

    fn link_guest(&self, compiler: &Compiler, units: &Units) -> Result<Vec<u8>, RuntimeError> {
        in_phase(self.progress, Phase::Link, None, || {
            compiler.compile(&units.guest, &|_| ())?;
            let mut list = objects(&units.common);
            list.extend(objects(&units.guest));
            list.extend(objects(&units.own));
            compiler.link("py.wasm", &list, &link_flags(&[flags::REACTOR]))?;
            self.read("py.wasm")
        })
    }

    /// Lets the guest compile the standard library into one file.
    fn library(&self, module: &[u8]) -> Result<Vec<u8>, RuntimeError> {
        const BLOB: &str = "stdlib.frz";
        let place = self.folder.join(BLOB);
        if place.exists() {
            return self.read(BLOB);
        }
        in_phase(self.progress, Phase::Library, None, || {
            let mut files = library_files(&self.folder.join("src/Lib"), &in_image)?;
            files.extend(
                guest::LIB
                    .iter()
                    .map(|(name, text)| GuestFile { path: format!("{LIB}/{name}"), bytes: text.as_bytes().into() }),
            );
            files.push(GuestFile { path: "/tools/freeze.py".to_owned(), bytes: guest::FREEZE_PY.as_bytes().into() });
            let zones =
                archive::read_zip(self.fetched.path(&pins::TZDATA)?, |name| name.starts_with("tzdata/zoneinfo/"))?;
            files.extend(zones.into_iter().map(|(name, bytes)| GuestFile {
                path: name.replacen("tzdata/zoneinfo/", "/tzdata/", 1),
                bytes: bytes.into(),
            }));
            let output = format!("{OUTPUT}/{BLOB}");
            let args = ["python", "/tools/freeze.py", LIB, "/tzdata", &output].map(str::to_owned);
            let call = GuestCall { module, export: "run-cold", args: &args, files: &files, output: OUTPUT };
            let blob = self.call("library", call, &output)?;
            folder::write(&place, &blob)?;
            Ok(blob)
        })
    }

    fn preinitialize(&self, module: &[u8], library: Vec<u8>) -> Result<Preinitialized, RuntimeError> {
        in_phase(self.progress, Phase::Preinitialize, None, || {
            let files = [GuestFile { path: "/build/stdlib.frz".to_owned(), bytes: library.into() }];
            let args = ["python".to_owned()];
            let call = GuestCall { module, export: "wizer-initialize", args: &args, files: &files, output: OUTPUT };
            let step = |source| RuntimeError::Step { step: "preinitialize", source };
            self.steps.preinitialize(call).map_err(step)
        })
    }

    fn write(&self, snapshot: &Preinitialized, patches: Option<Patches>, result: &Path) -> Result<(), RuntimeError> {
        folder::remove(result)?;
        folder::create(&result.join("compiled"))?;
        let code = folder::write_artifact(&result.join("code.wasm"), &snapshot.code)?;
        let image = folder::write_artifact(&result.join("memory.img"), &snapshot.image)?;
        let mut sources: Vec<Source> = self
            .fetched
            .files
            .iter()
            .map(|(pin, _)| Source { name: pin.file.to_owned(), sha256: pin.sha256.to_owned() })
            .collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = Manifest {
            schema: SCHEMA,
            language: "python".to_owned(),
            version: pins::PYTHON_VERSION.to_owned(),
            recipe: RECIPE_DIGEST.to_owned(),
            patches,
            sources,
            sha256: Manifest::runtime_digest(&code, &image, snapshot.memory_min_bytes),
            code,
            image,
            memory_min_bytes: snapshot.memory_min_bytes,
        };
        folder::write_artifact(&result.join("manifest.json"), &manifest.to_json())?;
        Ok(())
    }

    /// Calls the guest and takes the one file it is to leave.
    fn call(&self, step: &'static str, call: GuestCall<'_>, output: &str) -> Result<Vec<u8>, RuntimeError> {
        let failed = |source| RuntimeError::Step { step, source };
        let result = self.steps.call(call).map_err(failed)?;
        let GuestResult { exit_code, stderr, files, .. } = result;
        let file = files.into_iter().find(|file| file.path == output);
        match file {
            Some(file) if exit_code == 0 => Ok(file.bytes.to_vec()),
            _ => {
                let printed = crate::error::tail(&stderr, 12);
                Err(failed(crate::steps::StepError(format!("exit code {exit_code}: {printed}"))))
            }
        }
    }

    fn read(&self, relative: &str) -> Result<Vec<u8>, RuntimeError> {
        let path = self.folder.join(relative);
        fs::read(&path).context("read", &path)
    }
}

fn objects(units: &[Unit]) -> Vec<String> {
    units.iter().map(|unit| unit.object.clone()).collect()
}

fn link_flags(before: &[&str]) -> Vec<String> {
    let mut list: Vec<String> = before.iter().flat_map(|flags| words(flags)).collect();
    list.push("libm.a".to_owned());
    list.extend(words(flags::LINK));
    list
}

/// Of the compiler's many C libraries only WASI's is used.
fn wanted_of_compiler(name: &str) -> bool {
    const UNUSED: [&str; 6] = ["mingw", "glibc", "darwin", "freebsd", "netbsd", "openbsd"];
    let Some(rest) = name.strip_prefix("ziglang/lib/libc/") else { return true };
    let folder = rest.split('/').next().unwrap_or(rest);
    let headers = rest.strip_prefix("include/");
    !UNUSED.contains(&folder) && headers.is_none_or(|name| name.starts_with("wasm") || name.starts_with("generic-musl"))
}

/// A module that CPython's makefile freezes.
#[derive(Debug, PartialEq, Eq)]
struct Frozen {
    name: String,
    source: String,
    header: String,
}

/// The lines `$(FREEZE_MODULE) NAME $(srcdir)/SOURCE HEADER` of the makefile.
fn frozen_modules(makefile: &str) -> Vec<Frozen> {
    let frozen = |line: &str| {
        let words: Vec<&str> = line.strip_prefix('\t')?.split(' ').collect();
        let [program, name, source, header] = words[..] else { return None };
        let program = program == "$(FREEZE_MODULE)" || program == "$(FREEZE_MODULE_BOOTSTRAP)";
        let source = source.strip_prefix("$(srcdir)/")?;
        let header = header.starts_with("Python/frozen_modules/").then_some(header)?;
        program.then(|| Frozen { name: name.to_owned(), source: source.to_owned(), header: header.to_owned() })
    };
    makefile.lines().filter_map(frozen).collect()
}

/// Does a file of the standard library go into the image?
fn in_image(name: &str) -> bool {
    let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
    file.ends_with(".py")
        && !flags::LIB_SKIPPED_FILES.contains(&name)
        && !folders.split('/').any(|folder| flags::LIB_SKIPPED_FOLDERS.contains(&folder))
}

/// The files of the standard library that are `wanted`, by their path in it, at their place in the guest.
fn library_files(lib: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<GuestFile>, RuntimeError> {
    let mut files = Vec::new();
    let mut folders: Vec<(PathBuf, String)> = vec![(lib.to_path_buf(), String::new())];
    while let Some((folder, above)) = folders.pop() {
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let entry = entry.context("list", &folder)?;
            let (path, name) = (entry.path(), format!("{above}{}", entry.file_name().to_string_lossy()));
            if path.is_dir() {
                folders.push((path, format!("{name}/")));
            } else if wanted(&name) {
                let bytes = fs::read(&path).context("read", &path)?.into();
                files.push(GuestFile { path: format!("{LIB}/{name}"), bytes });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_modules_are_read_off_the_makefile() {
        let makefile = "x: y\n\t$(FREEZE_MODULE_BOOTSTRAP) getpath $(srcdir)/Modules/getpath.py Python/frozen_modules/getpath.h\n\
                        \t$(FREEZE_MODULE) abc $(srcdir)/Lib/abc.py Python/frozen_modules/abc.h\n\t$(OTHER) a b c\n";
        let modules = frozen_modules(makefile);
        assert_eq!(modules.len(), 2);
        assert_eq!(modules[1].source, "Lib/abc.py");
        assert_eq!(modules[0].header, "Python/frozen_modules/getpath.h");
    }

    #[test]
    fn the_digest_is_one() {
        assert_eq!(RECIPE_DIGEST.len(), 64);
        assert_eq!(RUNTIME_NAME, format!("python-3.13.5-{}", &RECIPE_DIGEST[..16]));
    }
}
