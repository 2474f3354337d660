//! Compiled code: how it is made, kept and opened.
//!
//! One function, [`config`], describes the Wasmtime engine for compiling and for loading, so that both agree.
//!
//! # Why opening compiled code is sound
//!
//! `Module::deserialize_open_file` executes what the file holds, so the file must be what this program wrote. When a
//! file is written, its SHA-256 and its identity (inode, size, modification and change time) go into a record beside
//! it. When it is opened, folder and file must belong to this user or root and not be writable by others, the file
//! is opened without following links, and its identity must equal the record; any difference leads to a full digest.
//! That same descriptor is mapped. Somebody who can write there as this user is this user (SECURITY.md).
#![expect(unsafe_code, reason = "executes compiled code; the argument stands above")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Engine, Inlining, Module, OptLevel};

use crate::image::{Creator, GUARD, RESERVATION, Space, Stacks};
use crate::os;

/// Native stack of a guest.
pub(crate) const STACK_BYTES: usize = 8 << 20;
/// Stack of the fiber a guest runs on: the guest's, and room for host functions above it. Wasmtime asks for a
/// distance; with none, a host function called at the guest's limit overruns the fiber and kills the process.
const FIBER_STACK_BYTES: usize = 16 << 20;

/// How code is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Metering {
    /// Every instruction counts; the default.
    Fuel,
    /// Code looks at a counter that the engine's timer advances; for live runs.
    Epoch,
    /// Not at all: steps of a recipe, whose code is ours.
    Unmetered,
}

/// The processor code is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cpu {
    /// What any processor of the last ten years has.
    Baseline,
    /// This machine.
    Native,
    /// What any processor of the last ten years of that kind has, whatever this machine is. Only for compiling.
    Other(Target),
}

/// A kind of machine that code can be compiled ahead for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// `x86_64-unknown-linux-gnu`.
    X86_64,
    /// `aarch64-unknown-linux-gnu`.
    Aarch64,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// Its name as compilers know it: `aarch64-unknown-linux-gnu`.
    #[must_use]
    pub fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// This machine's, if it is one of them.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.arch() == std::env::consts::ARCH && cfg!(target_os = "linux"))
    }

    fn arch(self) -> &'static str {
        self.triple().split('-').next().unwrap_or_default()
    }
}

/// Features of the x86-64 baseline (x86-64-v2): Cranelift's setting and the name the processor has for it.
const BASELINE: [(&str, &str); 6] = [
    ("has_sse3", "sse3"),
    ("has_ssse3", "ssse3"),
    ("has_sse41", "sse4.1"),
    ("has_sse42", "sse4.2"),
    ("has_popcnt", "popcnt"),
    ("has_cmpxchg16b", "cmpxchg16b"),
];

impl Cpu {
    /// Name for people and for file names.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Baseline => baseline_name(std::env::consts::ARCH),
            Self::Other(target) => baseline_name(target.arch()),
            Self::Native => format!("{}-native", std::env::consts::ARCH),
        }
    }

    /// What the baseline needs and this machine lacks.
    pub(crate) fn missing() -> Vec<&'static str> {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let present =
                [has!("sse3"), has!("ssse3"), has!("sse4.1"), has!("sse4.2"), has!("popcnt"), has!("cmpxchg16b")];
            BASELINE.iter().zip(present).filter(|(_, has)| !has).map(|((_, name), _)| *name).collect()
        }
        #[cfg(not(target_arch = "x86_64"))]
        Vec::new()
    }
}

fn baseline_name(arch: &str) -> String {
    if arch == "x86_64" { "x86-64-v2".into() } else { format!("{arch}-baseline") }
}

/// The settings of a Wasmtime engine, for compiling as for loading. With a space, memories come from its images;
/// without one, Wasmtime makes them (modules that still have data segments).
pub(crate) fn config(metering: Metering, cpu: Cpu, space: Option<&Arc<Space>>) -> Result<Config, wasmtime::Error> {
    let mut config = Config::new();
    match metering {
        Metering::Fuel => config.consume_fuel(true),
        Metering::Epoch => config.epoch_interruption(true),
        Metering::Unmetered => &mut config,
    };
    let baseline_of = match cpu {
        Cpu::Baseline => Some(std::env::consts::ARCH).filter(|_| cfg!(target_os = "linux")),
        Cpu::Other(target) => Some(target.arch()),
        Cpu::Native => None,
    };
    if let Some(arch) = baseline_of {
        config.target(&format!("{arch}-unknown-linux-gnu"))?;
        for (flag, _) in BASELINE.into_iter().filter(|_| arch == "x86_64") {
            // SAFETY: instruction-set flags; a machine that lacks one is refused before any code is run (`missing`,
            // and Wasmtime compares a module's flags with the host when it loads it).
            unsafe { config.cranelift_flag_enable(flag) };
        }
    }
    config
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .memory_reservation(RESERVATION as u64)
        .memory_guard_size(GUARD as u64)
        .memory_may_move(false)
        // Equal jobs give equal bytes on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .cranelift_opt_level(OptLevel::Speed)
        .compiler_inlining(Inlining::No)
        // What a guest module may use is what our guests use; less is less to attack.
        .wasm_tail_call(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .concurrency_support(false)
        // No backtraces through guest code are made: smaller artefacts, faster loading.
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(None);
    if let Some(space) = space {
        config.with_host_memory(Arc::new(Creator(space.clone())));
        config.with_host_stack(Arc::new(Stacks(space.clone())));
    }
    Ok(config)
}

/// Digest of everything that decides what compiled code looks like: Wasmtime's version and settings.
pub(crate) fn engine_digest(engine: &Engine) -> String {
    struct Sha(Sha256);
    impl std::hash::Hasher for Sha {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Sha(Sha256::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    hex::encode(hasher.0.finalize())
}

/// Loads compiled code.
///
/// The file comes from [`open`], which is why it may be executed.
pub(crate) fn load(engine: &Engine, opened: Opened) -> Result<Module, wasmtime::Error> {
    // SAFETY: `Opened` is only made by `open` after the checks at the head of this file.
    unsafe { Module::deserialize_open_file(engine, opened.file) }
}

/// Loads compiled code from memory. It must be this program's own: compiled by it just now, or a part of it.
pub(crate) fn load_built_in(engine: &Engine, bytes: &[u8]) -> Result<Module, wasmtime::Error> {
    // SAFETY: the callers hand over what `precompile_module` returned in this process, or what lies in the program's own file
    // (`packs.rs`): who could change that, could change this program.
    unsafe { Module::deserialize(engine, bytes) }
}

/// A file that is what it was when it was written.
pub(crate) struct Opened {
    file: File,
    /// SHA-256 of its content, in hexadecimal.
    pub(crate) sha256: String,
}

impl Opened {
    /// Takes note that the file was used. Times of access are not part of its identity.
    pub(crate) fn touch(&self) {
        let _ = self.file.set_times(fs::FileTimes::new().set_accessed(std::time::SystemTime::now()));
    }

    /// The descriptor itself, for memory images.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("`{path}` is not there")]
    Missing { path: PathBuf },
    #[error("`{path}` is corrupt: its SHA-256 is {found} and should be {expected}")]
    Corrupt { path: PathBuf, expected: String, found: String },
    #[error("`{path}` cannot be trusted: {reason}")]
    Untrusted { path: PathBuf, reason: String },
    #[error("`{path}` cannot be read")]
    Io { path: PathBuf, source: io::Error },
}

/// The record beside a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    schema: u32,
    sha256: String,
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Record {
    fn of(file: &File, sha256: String) -> io::Result<Self> {
        let meta = file.metadata()?;
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Ok(Self {
            schema: 1,
            sha256,
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified_ns: nanos(meta.mtime(), meta.mtime_nsec()),
            changed_ns: nanos(meta.ctime(), meta.ctime_nsec()),
        })
    }

    fn read(of: &Path) -> Option<Self> {
        let text = fs::read(record_path(of)).ok()?;
        serde_json::from_slice(&text).ok().filter(|record: &Self| record.schema == 1)
    }

    fn write(&self, of: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        replace(&record_path(of), &text).map(drop)
    }
}

/// Where the record of a file stands.
pub(crate) fn record_path(of: &Path) -> PathBuf {
    let mut name = of.file_name().unwrap_or_default().to_os_string();
    name.push(".record");
    of.with_file_name(name)
}

/// Makes a folder only this user may enter.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file so that it appears whole or not at all; the file that was written. Nobody else writes to it: its first
/// name is drawn at random and must be new.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{:032x}.new", os::random_u128()?));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a file and its record. Returns its SHA-256.
pub(crate) fn store(path: &Path, bytes: &[u8]) -> io::Result<String> {
    let sha256 = hex::encode(Sha256::digest(bytes));
    let file = replace(path, bytes)?;
    // Of the descriptor that was written to: the path may name another file by now.
    Record::of(&file, sha256.clone())?.write(path)?;
    Ok(sha256)
}

/// SHA-256 of a whole file, in hexadecimal.
fn digest(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Whether only this user and root can change what `meta` describes.
pub(crate) fn trusted(meta: &fs::Metadata) -> Result<(), String> {
    let user = os::effective_user();
    if meta.uid() != user && meta.uid() != 0 {
        return Err(format!("it belongs to user {} and not to user {user} or root", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!("others may write it (mode {:o})", meta.mode() & 0o7777));
    }
    Ok(())
}

/// Opens a file that [`store`] wrote, or whose digest `expected` says what it must be. With `thorough`, its whole
/// content is digested even if nothing looks changed.
pub(crate) fn open(path: &Path, expected: Option<&str>, thorough: bool) -> Result<Opened, OpenError> {
    let (opened, fresh) = look(path, expected, thorough)?;
    if let Some(record) = fresh {
        // A record that cannot be written only costs the next start a digest.
        let _ = record.write(path);
    }
    Ok(opened)
}

/// Says what [`open`] would, with the whole content digested, and writes nothing.
pub(crate) fn examine(path: &Path, expected: Option<&str>) -> Result<(), OpenError> {
    look(path, expected, true).map(drop)
}

/// The file, and the record to write beside it if its content was digested.
fn look(path: &Path, expected: Option<&str>, thorough: bool) -> Result<(Opened, Option<Record>), OpenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path: path.into() },
        _ => OpenError::Io { path: path.into(), source },
    };
    let untrusted = |reason| OpenError::Untrusted { path: path.into(), reason };
    let folder = path.parent().unwrap_or(Path::new("."));
    trusted(&fs::symlink_metadata(folder).map_err(failed)?)
        .map_err(|reason| untrusted(format!("its folder: {reason}")))?;
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    trusted(&meta).map_err(untrusted)?;
    if !meta.is_file() {
        return Err(untrusted("it is not a regular file".into()));
    }
    let record = Record::read(path);
    // A digest that the caller knows wins over the one in the record.
    let expected = match (expected, &record) {
        (Some(expected), _) => expected.to_owned(),
        (None, Some(record)) => record.sha256.clone(),
        (None, None) => return Err(OpenError::Missing { path: record_path(path) }),
    };
    let present = Record::of(&file, expected.clone()).map_err(failed)?;
    let mut fresh = None;
    if thorough || record.as_ref() != Some(&present) {
        let found = digest(&mut file).map_err(failed)?;
        if found != expected {
            return Err(OpenError::Corrupt { path: path.into(), expected, found });
        }
        fresh = Some(present);
    }
    Ok((Opened { file, sha256: expected }, fresh))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
    }

    #[test]
    fn a_stored_file_opens_and_a_changed_one_does_not() {
        let dir = folder();
        let path = dir.path().join("code");
        let sha = store(&path, b"first").unwrap();
        assert_eq!(open(&path, None, false).unwrap().sha256, sha);
        fs::write(&path, b"other").unwrap();
        assert!(matches!(open(&path, None, false), Err(OpenError::Corrupt { expected, .. }) if expected == sha));
        // The same bytes again under another identity: a full digest, and then as good as before.
        fs::write(&path, b"first").unwrap();
        assert!(open(&path, None, false).is_ok());
        assert!(open(&path, None, true).is_ok());
    }

    #[test]
    fn examining_writes_nothing() {
        let dir = folder();
        let path = dir.path().join("code");
        store(&path, b"first").unwrap();
        fs::write(&path, b"first").unwrap();
        let record = fs::read(record_path(&path)).unwrap();
        assert!(examine(&path, None).is_ok());
        assert_eq!(fs::read(record_path(&path)).unwrap(), record);
        fs::write(&path, b"other").unwrap();
        assert!(matches!(examine(&path, None), Err(OpenError::Corrupt { .. })));
        fs::remove_file(record_path(&path)).unwrap();
        assert!(
            matches!(examine(&path, None), Err(OpenError::Missing { path }) if path == record_path(&dir.path().join("code")))
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_foreign_permissions_and_absence_are_refused() {
        let dir = folder();
        let path = dir.path().join("code");
        assert!(matches!(open(&path, None, false), Err(OpenError::Missing { .. })));
        store(&path, b"x").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(open(&link, None, false), Err(OpenError::Io { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(open(&path, None, false), Err(OpenError::Untrusted { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(open(&path, None, false), Err(OpenError::Untrusted { .. })));
    }
}
