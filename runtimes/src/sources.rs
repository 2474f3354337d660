//! Getting the pinned files: from the folder of downloads, from one the user names, or through the package clients of the machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    digest,
    error::{IoContext, RuntimeError, tail},
    folder,
    prerequisite::{self, Prerequisite},
    progress::{Phase, Progress, ProgressEvent, in_phase},
    python::pins::{self, Origin, Pin},
};

/// Debian's release whose source packages carry our pinned tarballs, and security patches that apply to them.
const DEBIAN_SUITE: &str = "trixie";
/// Where Debian's packages put the keys their index is signed with.
const DEBIAN_KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// A folder of sources.
pub(crate) struct Sources<'a> {
    /// Where they are, or are put.
    folder: &'a Path,
    /// May what is absent be fetched?
    fetching: bool,
}

/// The sources of one build, each checked.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) files: Vec<(Pin, PathBuf)>,
    /// Debian's packaging of CPython with its security patches, where it could be had.
    pub(crate) patches: Option<PathBuf>,
}

impl Fetched {
    /// The path of a pinned file.
    pub(crate) fn path(&self, pin: &Pin) -> Result<&Path, RuntimeError> {
        let found = self.files.iter().find(|(one, _)| one == pin);
        let missing = || RuntimeError::SourceMissing { file: pin.file, folder: PathBuf::new() };
        found.map(|(_, path)| path.as_path()).ok_or_else(missing)
    }
}

/// The pinned files this machine needs.
pub(crate) fn needed() -> Result<Vec<Pin>, RuntimeError> {
    let host = env::consts::ARCH;
    if !pins::ALL.iter().any(|pin| pin.host == Some(host)) {
        return Err(RuntimeError::UnsupportedHost(host));
    }
    Ok(pins::ALL.iter().filter(|pin| pin.host.is_none_or(|one| one == host)).copied().collect())
}

impl<'a> Sources<'a> {
    /// The folder of downloads: what is absent is fetched into it.
    pub(crate) fn downloads(folder: &'a Path) -> Self {
        Self { folder, fetching: true }
    }

    /// A folder the user names: nothing is fetched.
    pub(crate) fn given(folder: &'a Path) -> Self {
        Self { folder, fetching: false }
    }

    fn find(&self, pin: &Pin) -> Option<PathBuf> {
        let names = std::iter::once(pin.file).chain(pin.alias);
        names.map(|name| self.folder.join(name)).find(|path| path.exists())
    }

    /// The newest packaging of our version of CPython there is.
    fn find_patches(&self) -> Option<PathBuf> {
        newest_patches(self.folder)
    }

    fn missing(&self) -> Result<Vec<Pin>, RuntimeError> {
        Ok(needed()?.into_iter().filter(|pin| self.find(pin).is_none()).collect())
    }

    /// Programs that are missing for what must still be fetched; none when everything is there.
    pub(crate) fn missing_prerequisites(&self) -> Result<Vec<Prerequisite>, RuntimeError> {
        let mut list = Vec::new();
        let missing = if self.fetching { self.missing()? } else { Vec::new() };
        let any = |wanted: fn(&Origin) -> bool| missing.iter().any(|pin| wanted(&pin.origin));
        let apt = self.fetching && prerequisite::exists("apt-get");
        if any(|origin| matches!(origin, Origin::Wheel { .. })) && prerequisite::pip().is_none() {
            list.push(prerequisite::PIP);
        }
        if any(|origin| matches!(origin, Origin::Crate { .. })) && !prerequisite::exists("cargo") {
            list.push(prerequisite::CARGO);
        }
        if any(|origin| matches!(origin, Origin::Release { .. })) && !apt && !prerequisite::exists("curl") {
            list.push(prerequisite::CURL);
        }
        if (apt || self.find_patches().is_some()) && !prerequisite::exists("patch") {
            list.push(prerequisite::PATCH);
        }
        Ok(list)
    }

    /// Brings together all sources, each with its pinned digest. `work` is a folder for the package clients.
    pub(crate) fn fetch(&self, work: &Path, progress: &dyn Progress) -> Result<Fetched, RuntimeError> {
        let pins = needed()?;
        in_phase(progress, Phase::Fetch, Some(pins.len() as u64), || {
            let mut files = Vec::new();
            for pin in &pins {
                if let Some(path) = self.find(pin) {
                    self.check(pin, &path)?;
                    files.push((*pin, path));
                    progress.event(ProgressEvent::Advanced { phase: Phase::Fetch, done: files.len() as u64 });
                } else if !self.fetching {
                    return Err(RuntimeError::SourceMissing { file: pin.file, folder: self.folder.to_path_buf() });
                }
            }
            if self.fetching {
                folder::create(self.folder)?;
                folder::remove(work)?;
                folder::create(work)?;
                let absent: Vec<Pin> =
                    pins.into_iter().filter(|pin| !files.iter().any(|(one, _)| one == pin)).collect();
                let mut take = |pin: &Pin, download: &Path| {
                    files.push((*pin, self.accept(pin, download)?));
                    progress.event(ProgressEvent::Advanced { phase: Phase::Fetch, done: files.len() as u64 });
                    Ok(())
                };
                self.fetch_releases(&absent, work, progress, &mut take)?;
                fetch_crates(&absent, work, &mut take)?;
                fetch_wheels(&absent, work, &mut take)?;
                folder::remove(work)?;
            }
            Ok(Fetched { files, patches: self.find_patches() })
        })
    }

    /// Checks a file that is there. One of ours that is wrong does not stay under its name.
    fn check(&self, pin: &Pin, path: &Path) -> Result<(), RuntimeError> {
        let (found, _) = digest::of_file(path)?;
        if found == pin.sha256 {
            return Ok(());
        }
        if self.fetching {
            fs::rename(path, path.with_added_extension("rejected")).context("rename", path)?;
        }
        Err(RuntimeError::WrongDigest { path: path.to_path_buf(), expected: pin.sha256.to_owned(), found })
    }

    /// Takes a download into the folder when it has the pinned digest.
    fn accept(&self, pin: &Pin, download: &Path) -> Result<PathBuf, RuntimeError> {
        let (found, _) = digest::of_file(download)?;
        if found != pin.sha256 {
            return Err(RuntimeError::WrongDigest {
                path: download.to_path_buf(),
                expected: pin.sha256.to_owned(),
                found,
            });
        }
        self.take_over(download, pin.file)
    }

    /// Copies a checked file into the folder: under a temporary name first, and readable by nobody else.
    fn take_over(&self, download: &Path, name: &str) -> Result<PathBuf, RuntimeError> {
        let place = self.folder.join(name);
        let temporary = folder::temporary_name(&place);
        let mut from = fs::File::open(download).context("open", download)?;
        let mut to = folder::create_file(&temporary)?;
        std::io::copy(&mut from, &mut to).and_then(|_| to.sync_all()).context("write", &temporary)?;
        fs::rename(&temporary, &place).context("write", &place)?;
        Ok(place)
    }

    /// Release tarballs and security patches: from Debian's archive, else the tarballs from their projects.
    fn fetch_releases(
        &self,
        absent: &[Pin],
        work: &Path,
        progress: &dyn Progress,
        take: &mut dyn FnMut(&Pin, &Path) -> Result<(), RuntimeError>,
    ) -> Result<(), RuntimeError> {
        let releases: Vec<(&Pin, &str, &str)> = absent
            .iter()
            .filter_map(|pin| match pin.origin {
                Origin::Release { debian, upstream } => Some((pin, debian, upstream)),
                Origin::Crate { .. } | Origin::Wheel { .. } => None,
            })
            .collect();
        let patches_absent = self.find_patches().is_none();
        if releases.is_empty() && !patches_absent {
            return Ok(());
        }
        let packages: Vec<&str> = releases.iter().map(|(_, package, _)| *package).collect();
        let folder = work.join("debian");
        let debian = download_from_debian(&folder, &packages, patches_absent);
        if debian.as_ref().is_err_and(|output| RuntimeError::is_disk_full(output)) {
            return Err(RuntimeError::DiskFull { path: folder });
        }
        if let Some(patches) = newest_patches(&folder) {
            let name = patches.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.take_over(&patches, &name)?;
        }
        for (pin, _, upstream) in releases {
            let download = folder.join(pin.alias.unwrap_or(pin.file));
            if download.exists() {
                take(pin, &download)?;
                continue;
            }
            if !prerequisite::exists("curl") {
                let output =
                    debian.as_ref().err().cloned().unwrap_or_else(|| "the archive has another version".to_owned());
                return Err(RuntimeError::Fetch { what: pin.file.to_owned(), program: "apt-get", output });
            }
            let download = work.join(pin.file);
            let mut curl = Command::new("curl");
            curl.args(["-fsSL", "--retry", "2", "--proto", "=https", "-o"]).arg(&download).arg(upstream);
            run(curl, "curl", pin.file, work).map_err(|error| match (error, &debian) {
                (RuntimeError::Fetch { what, program, output }, Err(before)) => RuntimeError::Fetch {
                    what,
                    program,
                    output: format!("{output}\nbefore that, apt-get said: {before}"),
                },
                (error, _) => error,
            })?;
            take(pin, &download)?;
        }
        if self.find_patches().is_none() {
            let reason = debian.err().map(|output| format!(" ({})", output.lines().last().unwrap_or_default()));
            progress.event(ProgressEvent::Message(format!(
                "Debian's security patches are not to be had here{}: building the release as it was published",
                reason.unwrap_or_default()
            )));
        }
        Ok(())
    }
}

/// The newest `python3.13_3.13.5-*.debian.tar.xz` in a folder.
fn newest_patches(folder: &Path) -> Option<PathBuf> {
    let begin = format!("python3.13_{}-", pins::PYTHON_VERSION);
    let names = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let archives = names.filter(|name| name.starts_with(&begin) && name.ends_with(".debian.tar.xz"));
    archives.max_by(|a, b| version_key(a).cmp(&version_key(b))).map(|name| folder.join(name))
}

/// Orders versions in file names by the numbers in them: `u5` before `u10`.
fn version_key(name: &str) -> Vec<(&str, u64)> {
    let mut key = Vec::new();
    let mut rest = name.trim_end_matches(".debian.tar.xz");
    while !rest.is_empty() {
        let (text, number) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (digits, after) = number.split_at(number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len()));
        key.push((text, digits.parse().unwrap_or(0)));
        rest = after;
    }
    key
}

/// Downloads source packages with a configuration of our own: no root, the system's package lists untouched, the index signed by Debian.
///
/// The address of the mirror is asked of apt. The error is what apt-get printed last.
fn download_from_debian(folder: &Path, packages: &[&str], patches: bool) -> Result<(), String> {
    if !prerequisite::exists("apt-get") {
        return Err("there is no apt-get".to_owned());
    }
    let text = |error: std::io::Error| error.to_string();
    for name in ["apt/lists/partial", "apt/cache/archives/partial", "apt/state"] {
        folder::create(&folder.join(name)).map_err(|error| error.to_string())?;
    }
    let apt = folder.join("apt");
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let targets = targets.output().map_err(text)?;
    let listed = String::from_utf8_lossy(&targets.stdout);
    let mut mirrors: Vec<&str> = listed.lines().filter(|uri| uri.trim_end_matches('/').ends_with("/debian")).collect();
    mirrors.sort_unstable();
    let mirror = mirrors.first().ok_or("apt knows no Debian archive")?;
    let keyring =
        DEBIAN_KEYRINGS.iter().find(|path| Path::new(path).exists()).ok_or("Debian's archive keys are absent")?;

    fs::write(apt.join("status"), "").map_err(text)?;
    let list = format!("deb-src [signed-by={keyring}] {mirror} {DEBIAN_SUITE} main\n");
    fs::write(apt.join("sources.list"), list).map_err(text)?;
    let at = apt.display();
    let configuration = format!(
        "Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::State \"{at}/state\";\n\
         Dir::State::Lists \"{at}/lists\";\nDir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\nAPT::Sandbox::User \"\";\n"
    );
    fs::write(apt.join("apt.conf"), configuration).map_err(text)?;
    let run = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        let output = command
            .arg("-qq")
            .args(args)
            .env("APT_CONFIG", apt.join("apt.conf"))
            .env("LC_ALL", "C")
            .current_dir(folder)
            .output();
        let output = output.map_err(text)?;
        if output.status.success() { Ok(()) } else { Err(tail(&[output.stdout, output.stderr].concat(), 6)) }
    };
    run(&["update"])?;
    // Python's packaging alone, where the tarball is there already.
    if patches && !packages.contains(&"python3.13") {
        run(&["source", "--download-only", "--diff-only", "python3.13"])?;
    }
    if packages.is_empty() {
        return Ok(());
    }
    let mut args = vec!["source", "--download-only"];
    args.extend(packages);
    run(&args)
}

/// C libraries inside crates: `cargo fetch` puts the .crate files into cargo's own cache, where they may be already.
fn fetch_crates(
    absent: &[Pin],
    work: &Path,
    take: &mut dyn FnMut(&Pin, &Path) -> Result<(), RuntimeError>,
) -> Result<(), RuntimeError> {
    let crates: Vec<(&Pin, &str, &str)> = absent
        .iter()
        .filter_map(|pin| match pin.origin {
            Origin::Crate { name, version } => Some((pin, name, version)),
            Origin::Release { .. } | Origin::Wheel { .. } => None,
        })
        .collect();
    if crates.iter().any(|(pin, ..)| in_cargo_home(pin).is_none()) {
        let project = work.join("crates");
        folder::create(&project.join("src"))?;
        let mut manifest =
            "[package]\nname = \"sources\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n\n[dependencies]\n"
                .to_owned();
        for (_, name, version) in &crates {
            manifest.push_str(&format!("{name} = \"={version}\"\n"));
        }
        folder::write(&project.join("src/lib.rs"), b"")?;
        folder::write(&project.join("Cargo.toml"), manifest.as_bytes())?;
        let mut cargo = Command::new("cargo");
        cargo.args(["fetch", "--quiet", "--manifest-path"]).arg(project.join("Cargo.toml")).current_dir(&project);
        run(cargo, "cargo", "the sources of zlib, bzip2, xz and SQLite", work)?;
    }
    for (pin, name, version) in crates {
        let download = in_cargo_home(pin).ok_or_else(|| RuntimeError::Fetch {
            what: format!("{name} {version}"),
            program: "cargo",
            output: "the crate is not in cargo's cache after fetching; is the registry replaced by a folder?"
                .to_owned(),
        })?;
        take(pin, &download)?;
    }
    Ok(())
}

/// The .crate file in cargo's cache.
fn in_cargo_home(pin: &Pin) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/cache")).ok()?;
    registries.flatten().map(|registry| registry.path().join(pin.file)).find(|path| path.exists())
}

/// Wheels: `pip download`.
fn fetch_wheels(
    absent: &[Pin],
    work: &Path,
    take: &mut dyn FnMut(&Pin, &Path) -> Result<(), RuntimeError>,
) -> Result<(), RuntimeError> {
    for pin in absent {
        let Origin::Wheel { project, version } = pin.origin else { continue };
        let Some(mut pip) = prerequisite::pip() else {
            return Err(RuntimeError::Missing(vec![prerequisite::PIP]));
        };
        pip.args([
            "download",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
        ])
        .arg(work)
        .arg(format!("{project}=={version}"));
        run(pip, "pip", pin.file, work)?;
        let download = work.join(pin.file);
        if !download.exists() {
            let output = format!("{} is not what pip downloaded for {project} {version}", pin.file);
            return Err(RuntimeError::Fetch { what: pin.file.to_owned(), program: "pip", output });
        }
        take(pin, &download)?;
        fs::remove_file(&download).context("remove", &download)?;
    }
    Ok(())
}

/// Runs a package client that writes below `work`.
fn run(mut command: Command, program: &'static str, what: &str, work: &Path) -> Result<(), RuntimeError> {
    let failed = |output: String| RuntimeError::Fetch { what: what.to_owned(), program, output };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = tail(&[output.stdout, output.stderr].concat(), 8);
    Err(if RuntimeError::is_disk_full(&printed) {
        RuntimeError::DiskFull { path: work.to_path_buf() }
    } else {
        failed(printed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn scratch(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("capibara-sources-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder::create(&folder).unwrap();
        folder
    }

    #[test]
    fn pins_are_well_formed_and_unique() {
        for (at, pin) in pins::ALL.iter().enumerate() {
            assert_eq!(pin.sha256.len(), 64, "{}", pin.file);
            assert!(pin.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{}", pin.file);
            assert!(!pin.file.contains('/'), "{}", pin.file);
            for other in &pins::ALL[..at] {
                assert_ne!(pin.file, other.file);
                assert_ne!(pin.sha256, other.sha256);
            }
        }
        assert!(needed().unwrap().len() < pins::ALL.len());
    }

    #[test]
    fn a_wrong_digest_names_both_and_the_file() {
        let folder = scratch("digest");
        let path = folder.join(pins::PYTHON.file);
        fs::write(&path, b"other").unwrap();
        let expected = RuntimeError::WrongDigest {
            path: path.clone(),
            expected: pins::PYTHON.sha256.into(),
            found: digest::of_bytes(b"other"),
        };
        // A folder of the user stays as it is.
        let error = Sources::given(&folder).fetch(&folder.join("work"), &Silent).unwrap_err();
        assert_eq!(error.to_string(), expected.to_string());
        assert!(path.exists());
        // In ours the file does not keep its name.
        let error = Sources::downloads(&folder).fetch(&folder.join("work"), &Silent).unwrap_err();
        assert_eq!(error.to_string(), expected.to_string());
        assert!(error.to_string().contains(pins::PYTHON.sha256) && !path.exists());
        folder::remove(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_given_must_be_complete() {
        let folder = scratch("given");
        let error = Sources::given(&folder).fetch(&folder.join("work"), &Silent).unwrap_err();
        assert!(matches!(error, RuntimeError::SourceMissing { file, .. } if file == pins::PYTHON.file), "{error}");
        assert_eq!(Sources::given(&folder).missing_prerequisites().unwrap(), []);
        folder::remove(&folder).unwrap();
    }

    #[test]
    fn the_newest_patches_are_taken() {
        let folder = scratch("patches");
        assert_eq!(newest_patches(&folder), None);
        for name in ["2+deb13u5", "2+deb13u10", "2"] {
            fs::write(folder.join(format!("python3.13_3.13.5-{name}.debian.tar.xz")), b"").unwrap();
        }
        fs::write(folder.join("python3.13_3.13.6-1.debian.tar.xz"), b"").unwrap();
        assert_eq!(newest_patches(&folder), Some(folder.join("python3.13_3.13.5-2+deb13u10.debian.tar.xz")));
        folder::remove(&folder).unwrap();
    }
}
