//! The folders below the cache: where runtimes are, how they appear and how builds keep out of each other's way.
//!
//! ```text
//! sources/<file>                    downloads, each with its pinned digest
//! build/<runtime>/  <runtime>.lock  work in progress
//! runtimes/<runtime>/               manifest.json code.wasm memory.img compiled/
//! ```

use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    Language, digest,
    error::{IoContext, RuntimeError},
    manifest::{Artifact, Manifest},
    progress::{Phase, Progress, ProgressEvent, in_phase},
};

/// Names the folder of runtimes and compiled code; without it `$XDG_CACHE_HOME/capibara`, or else `~/.cache/capibara`.
pub const CACHE_DIR_VARIABLE: &str = "CAPIBARA_CACHE_DIR";
/// When set (and not empty), the work of a finished build is kept below `build/`.
pub const KEEP_BUILD_VARIABLE: &str = "CAPIBARA_KEEP_BUILD";

/// Where Capibara keeps what can be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The cache folder.
    pub cache: PathBuf,
}

impl Folders {
    /// Finds the cache folder from the environment. Where none of `CAPIBARA_CACHE_DIR`, `XDG_CACHE_HOME` and `HOME` names one, it is
    /// `capibara-<user id>` among temporary files (`TMPDIR`, or `/tmp`), if that is this user's alone or can be made so.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::NoCacheFolder`] when there is none.
    pub fn from_env() -> Result<Self, RuntimeError> {
        Self::from_variables(|name| env::var_os(name))
    }

    /// No folder: nothing is found in it, and nothing can be written.
    #[must_use]
    pub fn nowhere() -> Self {
        // No path of the system can hold that byte.
        Self { cache: PathBuf::from("\0") }
    }

    /// Whether there is no folder.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        *self == Self::nowhere()
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, RuntimeError> {
        let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = set(CACHE_DIR_VARIABLE) {
            let cache = std::path::absolute(&folder).context("find", &folder)?;
            return Ok(Self { cache });
        }
        // The XDG specification tells to ignore relative paths.
        if let Some(folder) = set("XDG_CACHE_HOME").filter(|folder| folder.is_absolute()) {
            return Ok(Self { cache: folder.join("capibara") });
        }
        match set("HOME") {
            Some(home) => Ok(Self { cache: home.join(".cache/capibara") }),
            None => Self::among_temporary_files(&set("TMPDIR").unwrap_or_else(|| "/tmp".into())),
        }
    }

    /// Others may write there too, so only a folder that nobody else can enter is used.
    fn among_temporary_files(folder: &Path) -> Result<Self, RuntimeError> {
        let user = rustix::process::geteuid().as_raw();
        let cache = folder.join(format!("capibara-{user}"));
        // If that fails, a folder that is there already may still do.
        let _ = DirBuilder::new().mode(0o700).create(&cache);
        let own = |meta: fs::Metadata| meta.is_dir() && meta.uid() == user && meta.mode() & 0o077 == 0;
        if cache.is_absolute() && fs::symlink_metadata(&cache).is_ok_and(own) {
            return Ok(Self { cache });
        }
        Err(RuntimeError::NoCacheFolder)
    }

    /// Downloads.
    #[must_use]
    pub fn sources(&self) -> PathBuf {
        self.cache.join("sources")
    }

    /// Finished runtimes.
    #[must_use]
    pub fn runtimes(&self) -> PathBuf {
        self.cache.join("runtimes")
    }

    pub(crate) fn build(&self) -> PathBuf {
        self.cache.join("build")
    }
}

/// A runtime on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

impl Runtime {
    /// The module without its memory.
    #[must_use]
    pub fn code(&self) -> PathBuf {
        self.dir.join("code.wasm")
    }

    /// The memory image, a sparse file.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.dir.join("memory.img")
    }

    /// The folder of code compiled for this machine, which the engine fills.
    #[must_use]
    pub fn compiled(&self) -> PathBuf {
        self.dir.join("compiled")
    }

    /// Its name: language, version and the beginning of the recipe digest.
    #[must_use]
    pub fn name(&self) -> String {
        self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Was it built by the recipe in this binary? Others are left over from other versions.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.manifest
            .language
            .parse::<Language>()
            .is_ok_and(|language| self.manifest.recipe == language.recipe_digest())
    }

    /// What its files occupy on disk, compiled code included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let occupied = |path: &Path| fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * 512);
        let files = [self.dir.clone(), self.compiled()];
        files
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .flatten()
            .map(|entry| occupied(&entry.path()))
            .sum()
    }

    fn open(dir: PathBuf) -> Result<Option<Self>, RuntimeError> {
        let path = dir.join("manifest.json");
        let mut bytes = Vec::with_capacity(8192);
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(Self { manifest: Manifest::parse(&bytes, &path)?, dir })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RuntimeError::io("read", &path, error)),
        }
    }
}

/// Finds the runtime of a language that the recipe in this binary builds. Opens one file.
///
/// # Errors
///
/// When its manifest cannot be read or is not valid; a runtime that does not exist is `None`.
pub fn locate(folders: &Folders, language: Language) -> Result<Option<Runtime>, RuntimeError> {
    if folders.is_nowhere() {
        return Ok(None);
    }
    Runtime::open(folders.runtimes().join(language.runtime_name()))
}

/// Lists the runtimes on disk by name, those of other versions of Capibara too; folders whose manifest is not valid are left out.
///
/// # Errors
///
/// When the folder of runtimes cannot be read; where there is none the list is empty.
pub fn list(folders: &Folders) -> Result<Vec<Runtime>, RuntimeError> {
    if folders.is_nowhere() {
        return Ok(Vec::new());
    }
    let folder = folders.runtimes();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RuntimeError::io("list", &folder, error)),
    };
    let mut runtimes = Vec::new();
    for entry in entries {
        let entry = entry.context("list", &folder)?;
        if let Ok(Some(runtime)) = Runtime::open(entry.path()) {
            runtimes.push(runtime);
        }
    }
    runtimes.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(runtimes)
}

/// An error where there is no folder to write to.
pub(crate) fn writable(folders: &Folders) -> Result<(), RuntimeError> {
    if folders.is_nowhere() { Err(RuntimeError::NoCacheFolder) } else { Ok(()) }
}

/// Creates a folder, and those above it, readable by nobody else. Folders that exist keep their mode.
pub(crate) fn create(folder: &Path) -> Result<(), RuntimeError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).context("create the folder", folder)
}

/// Opens a new or emptied file, readable by nobody else.
pub(crate) fn create_file(path: &Path) -> Result<File, RuntimeError> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).context("create", path)
}

/// Writes a file at once: others see the old content or the new.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), RuntimeError> {
    let temporary = temporary_name(path);
    create_file(&temporary)?.write_all(bytes).context("write", &temporary)?;
    fs::rename(&temporary, path).context("write", path)
}

/// Writes a file unless it has that content already.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), RuntimeError> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create(parent)?;
    }
    write(path, bytes)
}

/// A name beside `path` for a file that is not finished.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    name.into()
}

/// Removes a folder and all below it; none is fine.
pub(crate) fn remove(folder: &Path) -> Result<(), RuntimeError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RuntimeError::io("remove", folder, error)),
        _ => Ok(()),
    }
}

/// Takes the lock of a build; while another holds it, says so and waits. Dropping the file gives it back.
pub(crate) fn lock(path: &Path, name: &str, progress: &dyn Progress) -> Result<File, RuntimeError> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).context("create", path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => in_phase(progress, Phase::Lock, None, || {
            progress.event(ProgressEvent::Message(format!("waiting for another build of {name}")));
            file.lock().context("lock", path)
        })?,
        Err(TryLockError::Error(error)) => return Err(RuntimeError::io("lock", path, error)),
    }
    Ok(file)
}

/// Removes the work of other builds below `builds` that nobody is at: interrupted ones of other versions would stay forever.
///
/// Their lock files stay: one may be waited for at this moment. A folder that cannot be removed stays too; the build itself is done.
pub(crate) fn remove_abandoned(builds: &Path, own: &str) {
    let Ok(entries) = fs::read_dir(builds) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let Ok(lock) = options.open(lock_path(builds, &name)) else { continue };
        if lock.try_lock().is_ok() {
            let _ = remove(&entry.path());
        }
    }
}

/// The lock of a build.
pub(crate) fn lock_path(builds: &Path, name: &str) -> PathBuf {
    builds.join(format!("{name}.lock"))
}

/// The page size of a sparse file: runs of zeros of this size stay holes.
const PAGE: usize = 4096;

/// Writes a file of a runtime durably and returns what the manifest says about it. Pages of zeros stay holes.
pub(crate) fn write_artifact(path: &Path, bytes: &[u8]) -> Result<Artifact, RuntimeError> {
    let mut file = create_file(path)?;
    file.set_len(bytes.len() as u64).context("write", path)?;
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut at = 0;
    while at < bytes.len() {
        let run = bytes[at..].chunks(PAGE).take_while(|page| !is_zero(page)).map(<[u8]>::len).sum::<usize>();
        if run > 0 {
            file.seek(SeekFrom::Start(at as u64)).context("write", path)?;
            file.write_all(&bytes[at..at + run]).context("write", path)?;
        }
        at += run + PAGE; // the page after a run is zero, or the end
    }
    file.sync_all().context("write", path)?;
    Ok(Artifact { sha256: digest::of_bytes(bytes), bytes: bytes.len() as u64 })
}

/// Puts a finished folder in its place in one step, durably. A folder that stands there already is moved to `old` first.
pub(crate) fn publish(finished: &Path, place: &Path, old: &Path) -> Result<(), RuntimeError> {
    let sync = |folder: &Path| File::open(folder).and_then(|file| file.sync_all()).context("write", folder);
    sync(finished)?;
    if place.try_exists().context("read", place)? {
        remove(old)?;
        fs::rename(place, old).context("replace", place)?;
    }
    fs::rename(finished, place).context("write", place)?;
    match place.parent() {
        Some(parent) => sync(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::Mutex, thread, time::Duration};

    use super::*;
    use crate::progress::Silent;

    pub(crate) fn scratch(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("capibara-runtimes-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        create(&folder).unwrap();
        folder
    }

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let find = |pairs: &[(&str, &str)]| {
            Folders::from_variables(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(find(&[("CAPIBARA_CACHE_DIR", "/a"), ("HOME", "/h")]).unwrap().cache, Path::new("/a"));
        assert_eq!(find(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap().cache, Path::new("/x/capibara"));
        assert_eq!(find(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]).unwrap().cache, Path::new("/h/.cache/capibara"));
    }

    #[test]
    fn without_a_home_the_cache_is_a_folder_of_ones_own_among_temporary_files() {
        let folder = scratch("temporary");
        let text = folder.to_str().unwrap();
        let find = |variables: &[(&str, &str)]| {
            Folders::from_variables(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            })
        };
        let found = find(&[("HOME", ""), ("TMPDIR", text)]).unwrap().cache;
        assert_eq!(found.parent(), Some(&*folder));
        assert_eq!(fs::metadata(&found).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(find(&[("TMPDIR", text)]).unwrap().cache, found);
        // One that others can enter is not used, nor a link.
        fs::set_permissions(&found, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(matches!(find(&[("TMPDIR", text)]), Err(RuntimeError::NoCacheFolder)));
        fs::remove_dir(&found).unwrap();
        create(&folder.join("other")).unwrap();
        std::os::unix::fs::symlink(folder.join("other"), &found).unwrap();
        assert!(matches!(find(&[("TMPDIR", text)]), Err(RuntimeError::NoCacheFolder)));
        assert!(matches!(find(&[("TMPDIR", "relative")]), Err(RuntimeError::NoCacheFolder)));
        let nowhere = Folders::nowhere();
        assert!(locate(&nowhere, Language::Python).unwrap().is_none() && create(&nowhere.cache).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn folders_and_files_are_private() {
        let folder = scratch("modes");
        create(&folder.join("a/b")).unwrap();
        write(&folder.join("a/b/file"), b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.join("a")), 0o700);
        assert_eq!(mode(&folder.join("a/b")), 0o700);
        assert_eq!(mode(&folder.join("a/b/file")), 0o600);
        remove(&folder).unwrap();
        remove(&folder).unwrap();
    }

    #[test]
    fn images_are_sparse_and_exact() {
        let folder = scratch("sparse");
        let path = folder.join("memory.img");
        let mut bytes = vec![0u8; 4 << 20];
        bytes[5 * PAGE + 7] = 1;
        bytes[(4 << 20) - 1] = 2;
        let artifact = write_artifact(&path, &bytes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(artifact.sha256, digest::of_bytes(&bytes));
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
        for size in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5] {
            let bytes: Vec<u8> = (0..size).map(|at| u8::from(at % 3 == 0)).collect();
            write_artifact(&path, &bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        remove(&folder).unwrap();
    }

    #[test]
    fn a_second_build_waits_and_says_so() {
        struct Log(Mutex<Vec<ProgressEvent>>);
        impl Progress for Log {
            fn event(&self, event: ProgressEvent) {
                self.0.lock().unwrap().push(event);
            }
        }
        let folder = scratch("lock");
        let path = folder.join("python.lock");
        let held = lock(&path, "python", &Silent).unwrap();
        let log = Log(Mutex::default());
        thread::scope(|scope| {
            let second = scope.spawn(|| lock(&path, "python", &log).map(drop));
            while log.0.lock().unwrap().len() < 2 {
                thread::sleep(Duration::from_millis(1));
            }
            assert!(!second.is_finished());
            drop(held);
            second.join().unwrap().unwrap();
        });
        let events = log.0.lock().unwrap();
        assert_eq!(events[1], ProgressEvent::Message("waiting for another build of python".into()));
        assert_eq!(events[2], ProgressEvent::Finished { phase: Phase::Lock });
        remove(&folder).unwrap();
    }

    #[test]
    fn work_nobody_is_at_is_removed() {
        let builds = scratch("abandoned");
        for name in ["own", "locked", "interrupted", "without-lock"] {
            create(&builds.join(name)).unwrap();
            write(&builds.join(name).join("file"), b"x").unwrap();
        }
        let held = lock(&lock_path(&builds, "locked"), "python", &Silent).unwrap();
        drop(lock(&lock_path(&builds, "interrupted"), "python", &Silent).unwrap());
        remove_abandoned(&builds, "own");
        let left = |name: &str| builds.join(name).exists();
        assert!(left("own") && left("locked") && left("interrupted.lock"));
        assert!(!left("interrupted") && !left("without-lock"));
        drop(held);
        remove_abandoned(&builds, "own");
        assert!(left("own") && !left("locked"));
        remove(&builds).unwrap();
    }

    #[test]
    fn publishing_replaces_in_one_step() {
        let folder = scratch("publish");
        let (finished, place, old) = (folder.join("result"), folder.join("runtime"), folder.join("old"));
        for content in [b"1", b"2"] {
            create(&finished).unwrap();
            write(&finished.join("file"), content).unwrap();
            publish(&finished, &place, &old).unwrap();
            assert_eq!(fs::read(place.join("file")).unwrap(), content);
        }
        assert_eq!(fs::read(old.join("file")).unwrap(), b"1");
        remove(&folder).unwrap();
    }

    #[test]
    fn what_is_not_there_is_none_and_what_is_damaged_is_said() {
        let folder = scratch("locate");
        let folders = Folders { cache: folder.clone() };
        assert_eq!(locate(&folders, Language::Python).unwrap(), None);
        assert_eq!(list(&folders).unwrap(), []);
        let dir = folders.runtimes().join(Language::Python.runtime_name());
        create(&dir).unwrap();
        write(&dir.join("manifest.json"), b"{").unwrap();
        assert!(matches!(locate(&folders, Language::Python), Err(RuntimeError::Manifest { .. })));
        remove(&folder).unwrap();
    }
}
