//! Files and directories of the host that a job may use.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use capibara_policies::Policy;

use crate::error::EngineError;
use crate::world::{HostGrant, HostRoot, holds_files};

/// Most grants of one job.
const MAX_GRANTS: usize = 64;

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reading: files, listings, links. Every attempt to change something is `EROFS` for the script.
    Read,
    /// Reading and writing: also making, changing, renaming and removing files and directories.
    Write,
    /// Reading, and writing into a private layer in memory: the host stays as it is. What the script changed comes back as
    /// [`Outcome::changes`](crate::Outcome::changes), which [`Changes::apply`](crate::Changes::apply) makes on the host.
    ///
    /// Everything works as under a grant for writing, and counts as files in memory do: a file of the host that is opened for
    /// writing, renamed or linked is copied into the layer first, and counts then against memory, bytes written and files.
    /// What the script looked at stays as it was at that moment, whatever the host does. Renaming a directory of the
    /// host is `EXDEV`, as on overlayfs; `shutil.move` copies it.
    Overlay,
}

/// A file or directory of the host that a job may use, with all that is below it.
///
/// It is opened when the run begins and is not looked for again. The script sees regular files, directories and
/// symbolic links; of FIFOs, sockets, devices, and of what the kernel shows as
/// files (`/proc`, `/sys`), it sees that they are there and cannot open them (`EPERM`). Links are
/// followed in the tree the script sees, so one that leads out of the grant leads to nothing on the host. Kinds, names
/// and sizes are the host's; inode numbers are ours, links count as one, times are the start of the run or what the
/// script set (the files' own in a live run), owners and modes are not told. New files have mode 0644, directories 0755, less the process's umask.
///
/// Host files count against the limits like memory files: bytes written (with holes and growth by `ftruncate`), names
/// made, descriptors, depth of directories; a file does not pass the process's own limit of file sizes (`EFBIG`). Not
/// against memory, but for what has to be remembered of them. Renaming and
/// hard links work within one grant (`EXDEV` otherwise). A new symbolic link must not be absolute or have `..` in its
/// target (`EPERM`). A listing of more than 100,000 names is `EOVERFLOW`. `fsync` succeeds and does nothing.
///
/// A grant inside of another one decides for what is below it: where a grant for writing leads to the very file or
/// directory of a grant for reading, that stays read-only. A run that looked at anything granted is not
/// [determined](crate::Outcome::determined); the digest of the job covers what it saw (of a live run,
/// not the bytes, which nobody could compare).
///
/// # Security
/// A script with a grant for writing can put anything into files that other programs read later: grant a folder of
/// its own. Who else changes a granted tree while the script runs cannot make it leave the tree.
///
/// ```
/// use capibara::{Access, Grant};
/// let grant = Grant::read("/srv/data");
/// assert_eq!((grant.access, grant.guest), (Access::Read, None));
/// assert_eq!(Grant::write("results").at("/work").guest.as_deref(), Some("/work"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The file or directory of the host. Links on the way to it are followed.
    pub host: PathBuf,
    /// Where the script sees it: an absolute path, `/` for the root. Default: `/` and the last name of `host`. Folders
    /// of ours stay in sight below it: `/script`, `/dev`, `/out`, and `/tmp` and `/home/script` if they are not granted
    /// themselves.
    pub guest: Option<String>,
    /// What it allows.
    pub access: Access,
}

impl Grant {
    /// Grants reading.
    #[must_use]
    pub fn read(host: impl Into<PathBuf>) -> Self {
        Self { host: host.into(), guest: None, access: Access::Read }
    }

    /// Grants reading and writing.
    #[must_use]
    pub fn write(host: impl Into<PathBuf>) -> Self {
        Self { host: host.into(), guest: None, access: Access::Write }
    }

    /// Grants reading, and writing into a private layer.
    #[must_use]
    pub fn overlay(host: impl Into<PathBuf>) -> Self {
        Self { host: host.into(), guest: None, access: Access::Overlay }
    }

    /// What a policy grants.
    pub(crate) fn of_policy(policy: &Policy) -> Vec<Self> {
        let policy = &policy.grants;
        let grants = [(&policy.read, Access::Read), (&policy.write, Access::Write), (&policy.overlay, Access::Overlay)];
        grants
            .into_iter()
            .flat_map(|(files, access)| files.iter().map(move |file| (file, access)))
            .map(|(file, access)| Self { host: file.host.clone(), guest: file.guest.clone(), access })
            .collect()
    }

    /// Sets where the script sees it.
    #[must_use]
    pub fn at(mut self, guest: impl Into<String>) -> Self {
        self.guest = Some(guest.into());
        self
    }
}

/// Device and inode: what a file is, whatever it is called.
type Id = (u64, u64);

pub(crate) fn id(meta: &fs::Metadata) -> Id {
    (meta.dev(), meta.ino())
}

/// What no grant may hand over: a script that can read it learns secrets, one that can write it is free.
pub(crate) struct Protected(Vec<(&'static str, PathBuf)>);

impl Protected {
    /// Our cache folder, configuration, state (keys, audit log) and program.
    pub(crate) fn new(cache: &Path) -> Self {
        Self::from_variables(cache, |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn from_variables(cache: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let mut paths = Vec::new();
        let folders = capibara_runtimes::Folders { cache: cache.to_path_buf() };
        if !folders.is_nowhere() {
            paths.push(("the cache of Capibara", folders.cache));
        }
        if let Some(home) = variable("CAPIBARA_HOME") {
            paths.push(("the configuration of Capibara", home));
        }
        for (what, xdg, usual) in [
            ("the configuration of Capibara", "XDG_CONFIG_HOME", ".config"),
            ("the state of Capibara", "XDG_STATE_HOME", ".local/state"),
        ] {
            let folder = variable(xdg).or_else(|| variable("HOME").map(|home| home.join(usual)));
            paths.extend(folder.map(|folder| (what, folder.join("capibara"))));
        }
        paths.extend(std::env::current_exe().ok().map(|program| ("the running program", program)));
        // Where a folder is not there yet, a script must not be able to make it.
        Self(paths.into_iter().map(|(what, path)| (what, real(&path))).collect())
    }

    /// What of it a path contains or lies in by its name, whether or not anything is there.
    pub(crate) fn named(&self, path: &Path) -> Option<&'static str> {
        let path = real(path);
        self.0.iter().find(|(_, kept)| kept.starts_with(&path) || path.starts_with(kept)).map(|(what, _)| *what)
    }

    /// What of it a file or directory contains or lies in.
    pub(crate) fn covered(&self, path: &Path, granted: Id) -> Option<&'static str> {
        self.0.iter().find_map(|(what, kept)| {
            let contains = ids(kept).any(|above| above == granted);
            let kept = fs::metadata(kept).ok().filter(fs::Metadata::is_dir).map(|meta| id(&meta));
            let inside = kept.is_some_and(|kept| ids(path).any(|above| above == kept));
            (contains || inside).then_some(*what)
        })
    }
}

/// A path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(above), path.strip_prefix(above)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}

/// What a path and all directories above it are.
fn ids(path: &Path) -> impl Iterator<Item = Id> {
    path.ancestors().filter_map(|above| fs::metadata(above).ok()).map(|meta| id(&meta))
}

fn invalid(reason: String, hint: &str) -> EngineError {
    EngineError::InvalidJob { reason, hint: Some(hint.into()) }
}

/// Opens what is granted, outer grants first.
///
/// # Errors
/// [`EngineError::InvalidJob`] for what cannot be granted.
pub(crate) fn open(grants: &[Grant], protected: &Protected) -> Result<Vec<HostGrant>, EngineError> {
    if grants.len() > MAX_GRANTS {
        return Err(invalid(
            format!("{} files and directories are granted, more than {MAX_GRANTS}", grants.len()),
            "grant the directory they are in",
        ));
    }
    let mut opened = grants.iter().map(|grant| open_one(grant, protected)).collect::<Result<Vec<_>, _>>()?;
    opened.sort_by_key(|grant| names(&grant.guest).count());
    for (at, grant) in opened.iter().enumerate() {
        if opened.iter().skip(at + 1).any(|other| names(&other.guest).eq(names(&grant.guest))) {
            return Err(invalid(
                format!("two things are granted at `{}`", grant.guest),
                "give one of them another path: HOST:GUEST",
            ));
        }
    }
    Ok(opened)
}

fn names(guest: &str) -> impl Iterator<Item = &str> {
    guest.split('/').filter(|name| !name.is_empty())
}

fn open_one(grant: &Grant, protected: &Protected) -> Result<HostGrant, EngineError> {
    let shown = grant.host.display();
    let failed = |error: io::Error| {
        invalid(format!("`{shown}` cannot be granted: {error}"), "grant a file or directory that you can open yourself")
    };
    let host = fs::canonicalize(&grant.host).map_err(failed)?;
    let writable = grant.access == Access::Write;
    let is_dir = fs::symlink_metadata(&host).map_err(failed)?.is_dir();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | if is_dir { libc::O_DIRECTORY } else { 0 };
    // Kind and identity are those of what was opened: the path may name something else by now.
    let file: File =
        OpenOptions::new().read(true).write(writable && !is_dir).custom_flags(flags).open(&host).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if let Some(what) = protected.covered(&host, id(&meta)) {
        return Err(invalid(
            format!("granting `{shown}` would hand over {what}"),
            "grant a folder that contains only what the script needs",
        ));
    }
    if !holds_files(&file) {
        return Err(invalid(
            format!("`{shown}` lies in a file system of the kernel"),
            "copy what the script needs into an ordinary folder",
        ));
    }
    let root = if meta.is_dir() {
        HostRoot::Directory(Dir::from_std_file(file))
    } else if meta.is_file() {
        HostRoot::File(file)
    } else {
        return Err(invalid(
            format!("`{shown}` is neither a regular file nor a directory"),
            "grant a file or directory",
        ));
    };
    let guest = match &grant.guest {
        Some(guest) => guest.clone(),
        // As it was named; where that is `.` or the like, as it is called.
        None => match grant.host.file_name().or(host.file_name()).map(|name| name.to_str()) {
            Some(Some(name)) => format!("/{name}"),
            None | Some(None) => {
                return Err(invalid(
                    format!("`{shown}` has no name to be seen under"),
                    "say where the script sees it: HOST:GUEST",
                ));
            }
        },
    };
    check_guest(&guest)?;
    let place = match (&root, grant.access) {
        (HostRoot::File(_), Access::Overlay) => Some(place_of(&host).map_err(failed)?),
        (HostRoot::File(_) | HostRoot::Directory(_), _) => None,
    };
    Ok(HostGrant { guest, access: grant.access, root, place })
}

/// The directory that a file lies in, and its name there.
fn place_of(host: &Path) -> io::Result<(Dir, String)> {
    let name = host.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
    let above = host.parent().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY).open(above)?;
    Ok((Dir::from_std_file(folder), name.to_owned()))
}

/// Whether something can be granted under a path of the script.
fn check_guest(guest: &str) -> Result<(), EngineError> {
    let wrong = |why: &str| {
        Err(invalid(
            format!("nothing can be granted at `{guest}`: {why}"),
            "choose an absolute path, for example `/data`",
        ))
    };
    if !guest.starts_with('/') {
        return wrong("the path is not absolute");
    }
    if guest.contains(char::is_control) || names(guest).any(|name| name == "." || name == "..") {
        return wrong("the path holds `.`, `..` or a control character");
    }
    match names(guest).next() {
        Some(first @ ("script" | "dev" | "out")) => wrong(&format!("`/{first}` is a folder of ours")),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn nothing() -> Protected {
        Protected(Vec::new())
    }

    fn reason(result: Result<Vec<HostGrant>, EngineError>) -> String {
        match result {
            Err(error @ EngineError::InvalidJob { .. }) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it was granted"),
        }
    }

    #[test]
    fn names_are_derived_and_outer_grants_come_first() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("data/file"), "x").unwrap();
        let grants = [
            Grant::read(dir.path().join("data/file")).at("/a/b/c"),
            Grant::write(dir.path().join("data/../data")),
            Grant::read(dir.path()).at("/"),
        ];
        let opened = open(&grants, &nothing()).unwrap();
        let seen: Vec<_> = opened.iter().map(|grant| (grant.guest.as_str(), grant.access)).collect();
        assert_eq!(seen, [("/", Access::Read), ("/data", Access::Write), ("/a/b/c", Access::Read)]);
        assert!(matches!(opened[2].root, HostRoot::File(_)));
        symlink("data", dir.path().join("link")).unwrap();
        for (host, guest) in [("link", "/link"), ("data/.", "/data"), ("link/..", "/"), ("data/../link/", "/link")] {
            let opened = open(&[Grant::read(dir.path().join(host))], &nothing()).unwrap();
            let expected =
                if guest == "/" { format!("/{}", dir.path().file_name().unwrap().display()) } else { guest.into() };
            assert_eq!(opened[0].guest, expected, "{host}");
        }
    }

    #[test]
    fn what_cannot_be_granted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let at = |guest: &str| reason(open(&[Grant::read(path).at(guest)], &nothing()));
        for guest in ["", "data", "/a/../b", "/./a", "/a\0b", "/script", "/script/x", "/dev", "//out/x"] {
            assert!(at(guest).contains("nothing can be granted at"), "{guest}");
        }
        assert!(reason(open(&[Grant::read(path.join("none"))], &nothing())).contains("cannot be granted"));
        for kernel in ["/proc", "/proc/self/mem", "/sys"] {
            assert!(reason(open(&[Grant::read(kernel).at("/x")], &nothing())).contains("of the kernel"), "{kernel}");
        }
        assert!(reason(open(&[Grant::read("/dev/null").at("/n")], &nothing())).contains("neither"));
        let twice = [Grant::read(path).at("/a/"), Grant::read(path).at("//a")];
        assert!(reason(open(&twice, &nothing())).contains("two things"));
        let many = vec![Grant::read(path); MAX_GRANTS + 1];
        assert!(reason(open(&many, &nothing())).contains("more than 64"));
    }

    #[test]
    fn our_own_folders_are_refused_by_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let cache = path.join("home/.cache/capibara");
        fs::create_dir_all(cache.join("runtimes")).unwrap();
        fs::create_dir_all(path.join("home/project")).unwrap();
        symlink(&cache, path.join("link")).unwrap();
        let variables = |name: &str| (name == "HOME").then(|| path.join("home"));
        let protected = Protected::from_variables(&cache, variables);
        // The configuration is not there, and must not be made.
        for refused in ["home/.cache/capibara", "home/.cache/capibara/runtimes", "home/.cache", "home", ".", "link"] {
            let why = reason(open(&[Grant::read(path.join(refused)).at("/x")], &protected));
            assert!(why.contains("would hand over"), "{refused}: {why}");
        }
        fs::create_dir_all(path.join("home/.config/other")).unwrap();
        for (granted, expected) in [("home/project", true), ("home/.config", false), ("home/.config/other", true)] {
            let result = open(&[Grant::write(path.join(granted)).at("/x")], &protected);
            assert_eq!(result.is_ok(), expected, "{granted}");
        }
        let program = std::env::current_exe().unwrap();
        assert!(reason(open(&[Grant::read(program).at("/x")], &protected)).contains("the running program"));
        assert!(reason(open(&[Grant::read("/").at("/x")], &protected)).contains("would hand over"));
    }
}
