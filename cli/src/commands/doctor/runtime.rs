//! The cache folder, the runtime in it, what building one needs, and a run from end to end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capibara::checkup::{self, CompiledForm, Fault, FaultKind};
use capibara::{Engine, EngineConfig, Job, Status as Ended, Variant};
use capibara_runtimes::{BuildOptions, Folders, Language, Prerequisite, Runtime, RuntimeError};
use rustix::io::Errno;

use super::folders::{self, WRITABLE};
use super::{Check, Status, fix};
use crate::output::units;
use crate::variables::CAPIBARA_CACHE_DIR;

/// What building a runtime takes for a while, and what runs keep in the cache folder.
const ROOM_TO_BUILD: u64 = 1 << 30;
const ROOM_TO_RUN: u64 = 100 << 20;
/// The command that builds, compiles and mends.
const INSTALL: &str = "capibara runtime install python";
/// How long a script of one line may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn check(checks: &mut Vec<Check>) {
    let folders = match Folders::from_env() {
        Ok(folders) => folders,
        Err(error) => {
            // None of the variables is set, so there is no home either.
            checks.push(
                Check::error(
                    "cache-folder",
                    format!("{error}: neither {CAPIBARA_CACHE_DIR}, XDG_CACHE_HOME nor HOME is set"),
                )
                .fix(super::setup::EXPORT_HOME),
            );
            return;
        }
    };
    let found = capibara_runtimes::locate(&folders, Language::Python);
    let there = matches!(&found, Ok(Some(_)));
    let usable = cache_folder(checks, &folders, there);
    let left = left_overs(&folders);
    disk_space(checks, &folders, there, &left);
    if !there {
        programs(checks, &folders);
    }
    let ready = match found {
        Ok(Some(runtime)) => is_installed(checks, &runtime),
        Ok(None) if usable => {
            checks.push(
                Check::warning(
                    "runtime",
                    "the Python runtime is not built yet: the first run does it, and takes minutes",
                )
                .fix(INSTALL),
            );
            false
        }
        Ok(None) => false,
        Err(error) => {
            checks.push(not_read(&error, usable));
            false
        }
    };
    if !left.is_empty() {
        let bytes = left.iter().map(|path| folders::size(path)).sum();
        let count = left.len();
        let what = if count == 1 { "1 runtime".into() } else { format!("{count} runtimes") };
        checks.push(
            Check::warning(
                "left-over",
                format!("{what} of other versions of capibara: {}, used by none of this version", units::size(bytes)),
            )
            .fix(format!("rm -rf {}", fix::words(&left))),
        );
    }
    let broken = checks.iter().any(|check| check.name == "address-space" && check.status == Status::Error);
    if ready && !broken {
        checks.push(run());
    }
}

/// By which variable the cache folder is where it is.
fn named_by() -> &'static str {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if set(CAPIBARA_CACHE_DIR).is_some() {
        CAPIBARA_CACHE_DIR
    } else if set("XDG_CACHE_HOME").is_some_and(|folder| Path::new(&folder).is_absolute()) {
        "XDG_CACHE_HOME"
    } else {
        "HOME"
    }
}

/// Whether it can be used. `there`: whether a runtime is in it.
fn cache_folder(checks: &mut Vec<Check>, folders: &Folders, there: bool) -> bool {
    const NAME: &str = "cache-folder";
    let cache = &folders.cache;
    let shown = format!("`{}` (by {})", cache.display(), named_by());
    if std::fs::metadata(cache).is_err() {
        let above = folders::nearest_there(cache);
        let check = match (above == cache, above.is_dir(), folders::barred(above)) {
            // A link to what is not there.
            (true, ..) => Check::error(NAME, format!("{shown} is a link that leads nowhere, or cannot be looked at"))
                .fix(fix::set_aside(cache)),
            (_, false, _) => {
                Check::error(NAME, format!("{shown} cannot be made: `{}` is not a folder", above.display()))
                    .fix(elsewhere(cache).unwrap_or_else(|| fix::set_aside(above)))
            }
            (.., None) if !folders::keeps_files(above) => {
                let check = Check::error(NAME, format!("{shown} cannot be made: `{}` keeps no files", above.display()));
                match elsewhere(cache) {
                    Some(command) => check.fix(command),
                    None => check.advice(format!("set {CAPIBARA_CACHE_DIR} to a folder that only you can write")),
                }
            }
            (.., None) => {
                checks.push(Check::ok(NAME, format!("{shown} will be made by the first run")));
                return true;
            }
            (.., Some(error)) => {
                let check = Check::error(NAME, format!("{shown} cannot be made: `{}`: {error}", above.display()));
                match elsewhere(cache) {
                    Some(command) => check.fix(command),
                    None => check.fix(fix::as_root(&format!("install -d -m 700 -o \"$(id -u)\" {}", fix::word(cache)))),
                }
            }
        };
        checks.push(check);
        return false;
    }
    if !cache.is_dir() {
        checks.push(Check::error(NAME, format!("{shown} is not a folder")).fix(fix::set_aside(cache)));
        return false;
    }
    let below = ["runtimes", "sources", "build", "scans", "scripts", "programs"].map(|name| cache.join(name));
    let mut ours = vec![cache.clone()];
    ours.extend(below);
    let mut found = folders::guard(NAME, &ours, WRITABLE);
    if found.is_empty()
        && let Some(barred) =
            ours.iter().filter(|path| path.exists()).find_map(|path| Some((path, folders::barred(path)?)))
    {
        found.push(no_entry(barred, cache, there));
    }
    let usable = found.iter().all(|check| check.status != Status::Error);
    if found.is_empty() {
        found.push(Check::ok(NAME, shown));
    }
    checks.append(&mut found);
    usable
}

fn no_entry((path, error): (&PathBuf, Errno), cache: &Path, there: bool) -> Check {
    const NAME: &str = "cache-folder";
    use std::os::unix::fs::MetadataExt as _;
    let message = format!("`{}` cannot be read and written: {error}", path.display());
    let own = path.metadata().is_ok_and(|meta| meta.uid() == rustix::process::geteuid().as_raw());
    match error {
        Errno::ACCESS if own => Check::error(NAME, message).fix(format!("chmod u+rwx {}", fix::word(path))),
        // Somebody has set it up for all users: it does for running.
        Errno::ACCESS | Errno::ROFS if there && path.read_dir().is_ok() => {
            Check::warning(NAME, format!("{message}; what runs could keep there is made anew each time"))
                .advice(format!("set {CAPIBARA_CACHE_DIR} to a folder of yours if that matters"))
        }
        _ => match elsewhere(cache) {
            Some(command) => Check::error(NAME, message).fix(command),
            None => Check::error(NAME, message)
                .advice(format!("set {CAPIBARA_CACHE_DIR} to a folder that only you can write")),
        },
    }
}

/// The command that puts the cache folder where it usually is, if that is somewhere else and has room.
fn elsewhere(cache: &Path) -> Option<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())?;
    let usual = home.join(".cache/capibara");
    let above = folders::nearest_there(&usual);
    let fits = usual != cache && above.is_dir() && folders::barred(above).is_none();
    (fits && folders::room(&usual).is_some_and(|room| room >= ROOM_TO_BUILD))
        .then(|| fix::export(CAPIBARA_CACHE_DIR, &usual))
}

fn disk_space(checks: &mut Vec<Check>, folders: &Folders, there: bool, left: &[PathBuf]) {
    const NAME: &str = "disk-space";
    let Some(room) = folders::room(&folders.cache) else { return };
    let (needed, what) = if there {
        (ROOM_TO_RUN, "runs keep things there")
    } else {
        (ROOM_TO_BUILD, "building a runtime needs it for a while")
    };
    if room >= needed {
        checks.push(Check::ok(NAME, format!("{} are free for the cache folder", units::size(room))));
        return;
    }
    let message = format!(
        "{} are free for the cache folder `{}`: {what}, about {}",
        units::size(room),
        folders.cache.display(),
        units::size(needed)
    );
    let check = if there { Check::warning(NAME, message) } else { Check::error(NAME, message) };
    let freed: u64 = left.iter().map(|path| folders::size(path)).sum();
    checks.push(match elsewhere(&folders.cache) {
        _ if room + freed >= needed => check.fix(format!("rm -rf {}", fix::words(left))),
        Some(command) => check.fix(command),
        None => check.advice(format!("make room, or set {CAPIBARA_CACHE_DIR} to a folder on another disk")),
    });
}

/// Runtimes that this version does not use.
fn left_overs(folders: &Folders) -> Vec<PathBuf> {
    let current = Language::ALL.map(Language::runtime_name);
    let mut left: Vec<PathBuf> = std::fs::read_dir(folders.runtimes())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| !current.iter().any(|name| entry.file_name() == *name))
        .map(|entry| entry.path())
        .collect();
    left.sort();
    left
}

/// Where programs lie that a short `PATH` may leave out.
fn usual_places() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let own = home.iter().flat_map(|home| [home.join(".cargo/bin"), home.join(".local/bin")]);
    own.chain(["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from)).collect()
}

/// The programs that building a runtime needs.
fn programs(checks: &mut Vec<Check>, folders: &Folders) {
    const NAME: &str = "build-programs";
    let engine = Engine::new(EngineConfig::default());
    if engine.is_ok_and(|engine| engine.has_pack(capibara::Language::Python)) {
        checks.push(Check::ok(NAME, "not needed: the runtime is unpacked, and not built"));
        return;
    }
    let missing = match capibara_runtimes::missing_prerequisites(folders, Language::Python, &BuildOptions::default()) {
        Ok(missing) if missing.is_empty() => {
            checks.push(Check::ok(NAME, "all that building a runtime needs is there"));
            return;
        }
        Ok(missing) => missing,
        Err(error) => {
            checks.push(Check::error(NAME, format!("no runtime can be built here: {error}")).advice(error.hint()));
            return;
        }
    };
    let names: Vec<&str> = missing.iter().map(|one| one.program).collect();
    let check = Check::error(NAME, format!("building the runtime needs what is not in PATH: {}", names.join(", ")));
    let places = usual_places();
    let place = |one: &Prerequisite| places.iter().find(|place| is_program(&place.join(one.program)));
    let mut wanted: Vec<&PathBuf> = missing.iter().filter_map(place).collect();
    wanted.sort();
    wanted.dedup();
    checks.push(if missing.iter().all(|one| place(one).is_some()) {
        let places: Vec<String> = wanted.iter().map(fix::word).collect();
        check.fix(format!("export PATH=\"$PATH\":{}", places.join(":")))
    } else if usual_places().iter().any(|place| is_program(&place.join("apt-get"))) {
        check.fix(installing(&missing))
    } else {
        check.advice("install them with the package manager of this system")
    });
}

/// One command that installs them all.
fn installing(missing: &[Prerequisite]) -> String {
    const APT: &str = "apt-get install -y ";
    let packages: Vec<&str> = missing.iter().filter_map(|one| one.install.strip_prefix(APT)).collect();
    let others = missing.iter().filter(|one| !one.install.starts_with(APT)).map(|one| one.install.to_owned());
    let apt = (!packages.is_empty()).then(|| fix::as_root(&format!("{APT}{}", packages.join(" "))));
    apt.into_iter().chain(others).collect::<Vec<_>>().join(" && ")
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn not_read(error: &RuntimeError, usable: bool) -> Check {
    let message = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let check = Check::error("runtime", message);
    if matches!(error, RuntimeError::Manifest { .. }) {
        check.fix(INSTALL)
    } else if usable {
        check.advice(error.hint())
    } else {
        check.advice("see what is said of the cache folder")
    }
}

/// Whether a script can be run by it without compiling anything.
fn is_installed(checks: &mut Vec<Check>, runtime: &Runtime) -> bool {
    const NAME: &str = "runtime";
    let mut found = folders::guard(NAME, &[runtime.dir.clone(), runtime.compiled()], WRITABLE);
    let guarded = found.is_empty();
    if guarded {
        found.extend(checkup::examine(runtime).iter().map(|fault| damaged(NAME, fault, INSTALL)));
    }
    let whole = found.is_empty();
    if whole {
        let manifest = &runtime.manifest;
        let digest = manifest.sha256.get(..12).unwrap_or_default();
        found.push(Check::ok(
            NAME,
            format!("{} {}, sha256 {digest}…, all digests as recorded", manifest.language, manifest.version),
        ));
    }
    checks.append(&mut found);
    guarded && is_compiled(checks, runtime) && whole
}

fn is_compiled(checks: &mut Vec<Check>, runtime: &Runtime) -> bool {
    const NAME: &str = "compiled-code";
    let forms = match checkup::compiled_forms(runtime) {
        Ok(forms) => forms,
        Err(error) => {
            checks.push(Check::error(NAME, error.to_string()).advice_of(error.hint()));
            return false;
        }
    };
    let mut found: Vec<Check> =
        forms.iter().filter_map(|form| Some(damaged(NAME, form.fault.as_ref()?, &made_again(form)))).collect();
    let usable = |form: &&CompiledForm| form.variant == Some(Variant::Fuel);
    let ready = match (forms.iter().find(usable), found.is_empty()) {
        (Some(_), true) => {
            found.push(Check::ok(NAME, "as it was written"));
            true
        }
        (Some(form), false) => form.fault.is_none(),
        (None, _) => {
            found.push(Check::warning(NAME, "the runtime is not compiled for this version and machine yet: the next run does it, and takes seconds").fix(INSTALL));
            false
        }
    };
    checks.append(&mut found);
    ready
}

/// The command that makes a compiled form again, or removes it where nothing here uses it.
fn made_again(form: &CompiledForm) -> String {
    let native = if form.native { " --native" } else { "" };
    match form.variant {
        Some(Variant::Fuel) => format!("{INSTALL}{native}"),
        Some(Variant::Live) => format!("{INSTALL} --live{native}"),
        None => format!("rm -f {0} {0}.record", fix::word(&form.path)),
    }
}

fn damaged(name: &'static str, fault: &Fault, again: &str) -> Check {
    let check = Check::error(name, fault.message.clone());
    let guarded =
        |path: &Path| folders::guard(name, &[path.to_path_buf()], WRITABLE).into_iter().find_map(|check| check.fix);
    match fault.kind {
        FaultKind::Untrusted => match guarded(&fault.path).or_else(|| guarded(fault.path.parent()?)) {
            Some(command) => check.fix(command),
            None => check.fix(again),
        },
        _ => check.fix(again),
    }
}

/// One small script, through everything a run goes through.
fn run() -> Check {
    const NAME: &str = "run";
    let began = Instant::now();
    let engine = match Engine::new(EngineConfig::default()) {
        Ok(engine) => engine,
        Err(error) => return Check::error(NAME, error.to_string()).advice_of(error.hint()),
    };
    let mut job = Job::python("print(6 * 7)");
    job.limits.wall_time = PATIENCE;
    match engine.run_blocking(job) {
        Ok(outcome) if outcome.success() && outcome.stdout.text() == "42\n" => {
            let all = began.elapsed();
            let took = outcome.usage.wall_time;
            Check::ok(
                NAME,
                format!(
                    "a script ran in {} (with loading the runtime {})",
                    units::duration(took),
                    units::duration(all)
                ),
            )
        }
        Ok(outcome) => {
            let how = match &outcome.status {
                Ended::Completed { exit_code } => {
                    format!("it ended with {exit_code} and printed `{}`", outcome.stdout.text())
                }
                status => format!("{status:?}"),
            };
            Check::error(NAME, format!("a script of one line did not do what it should: {how}"))
                .advice("this is a bug in capibara or in this machine, please report it with this line")
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
            Check::error(NAME, format!("a script of one line could not be run: {error}{cause}")).advice_of(error.hint())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_installs_all_programs() {
        let folders = Folders { cache: PathBuf::from("/nowhere") };
        if let Ok(missing) =
            capibara_runtimes::missing_prerequisites(&folders, Language::Python, &BuildOptions::default())
        {
            let command = installing(&missing);
            assert_eq!(command.is_empty(), missing.is_empty(), "{command}");
            assert!(command.matches("apt-get").count() <= 1, "{command}");
        }
    }
}
