//! Folders and files that only this user can have written.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::error::AuditError;

/// Where log, head and keys are.
///
/// With `CAPIBARA_HOME` (not empty): `audit/`, `audit.head` and `keys/` below it. Otherwise log and head are below
/// `$XDG_STATE_HOME/capibara` (`~/.local/state/capibara`) and keys below `$XDG_CONFIG_HOME/capibara`
/// (`~/.config/capibara`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFolders {
    /// The folder of `audit-….jsonl`.
    pub log: PathBuf,
    /// The head: how far the log goes. It must not lie in the folder of the log.
    pub head: PathBuf,
    /// The folder of the signing key and of the pinned public keys.
    pub keys: PathBuf,
}

impl AuditFolders {
    /// All of them below one folder, as `CAPIBARA_HOME` puts them.
    #[must_use]
    pub fn below(home: &Path) -> Self {
        Self { log: home.join("audit"), head: home.join("audit.head"), keys: home.join("keys") }
    }

    /// From the environment.
    ///
    /// # Errors
    /// [`AuditError::NoFolder`] when no variable names one.
    pub fn from_env() -> Result<Self, AuditError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, AuditError> {
        let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(home) = set("CAPIBARA_HOME") {
            let home = std::path::absolute(&home).map_err(AuditError::io("find", &home))?;
            return Ok(Self::below(&home));
        }
        // The XDG specification tells to ignore relative paths.
        let place = |name, usual: &str| match set(name).filter(|folder| folder.is_absolute()) {
            Some(folder) => Ok(folder.join("capibara")),
            None => {
                let home = set("HOME").filter(|home| home.is_absolute()).ok_or(AuditError::NoFolder)?;
                Ok(home.join(usual).join("capibara"))
            }
        };
        let (state, config) = (place("XDG_STATE_HOME", ".local/state")?, place("XDG_CONFIG_HOME", ".config")?);
        Ok(Self { log: state.join("audit"), head: state.join("audit.head"), keys: config.join("keys") })
    }
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    pub(super) path: PathBuf,
}

/// Whether a folder must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Accept,
}

impl Folder {
    /// Opens a folder of this user, made with mode 0700 if it is not there.
    pub(super) fn make(path: &Path) -> Result<Self, AuditError> {
        Self::open_as(path, Missing::Make)?
            .ok_or_else(|| AuditError::io("open", path)(io::Error::from(io::ErrorKind::NotFound)))
    }

    /// Opens a folder that may not be there, to read.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, AuditError> {
        Self::open_as(path, Missing::Accept)
    }

    fn open_as(path: &Path, missing: Missing) -> Result<Option<Self>, AuditError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = match (rustix::fs::open(path, flags, Mode::empty()), missing) {
            (Ok(fd), _) => fd,
            (Err(rustix::io::Errno::NOENT), Missing::Accept) => return Ok(None),
            (Err(rustix::io::Errno::NOENT), Missing::Make) => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(path)
                    .map_err(AuditError::io("create the folder", path))?;
                rustix::fs::open(path, flags, Mode::empty())
                    .map_err(|error| AuditError::io("open", path)(error.into()))?
            }
            (Err(error), _) => return Err(AuditError::io("open", path)(error.into())),
        };
        let file = File::from(fd);
        let meta = file.metadata().map_err(AuditError::io("look at", path))?;
        let ours = match missing {
            Missing::Make => owned(&meta, false),
            Missing::Accept => owned(&meta, true),
        };
        ours.map_err(|reason| AuditError::Untrusted { path: path.into(), reason })?;
        Ok(Some(Self { fd: file.into(), path: path.into() }))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>, AuditError> {
        // Without waiting: what stands there may be a pipe.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(AuditError::io("open", &self.at(name))(error.into())),
        };
        let file = File::from(fd);
        let meta = file.metadata().map_err(AuditError::io("look at", &self.at(name)))?;
        let untrusted = |reason| AuditError::Untrusted { path: self.at(name), reason };
        if !meta.is_file() {
            return Err(untrusted("it is not a regular file".into()));
        }
        owned(&meta, true).map_err(untrusted)?;
        Ok(Some(file))
    }

    /// Opens a file to read; `None` if there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<File>, AuditError> {
        self.open_file(name, OFlags::RDONLY)
    }

    /// Opens a file to read and write; `None` if there is none.
    pub(super) fn write(&self, name: &str) -> Result<Option<File>, AuditError> {
        self.open_file(name, OFlags::RDWR)
    }

    /// Opens a file to read and write, made with mode 0600 if it is not there.
    pub(super) fn create(&self, name: &str) -> Result<File, AuditError> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE)?
            .ok_or_else(|| AuditError::io("create", &self.at(name))(io::Error::from(io::ErrorKind::NotFound)))
    }

    /// The content of a file of at most `most` bytes.
    pub(super) fn content(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, AuditError> {
        let Some(file) = self.read(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(AuditError::io("read", &self.at(name)))?;
        if bytes.len() as u64 > most {
            return Err(AuditError::TooLarge { path: self.at(name), reason: "it is larger than such a file can be" });
        }
        Ok(Some(bytes))
    }

    /// Puts a file in its place whole, durably.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), AuditError> {
        let temporary = format!("{name}.{}.new", std::process::id());
        let path = self.at(name);
        let written = (|| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&self.fd, &*temporary, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(fd);
            file.write_all(bytes)?;
            file.sync_all()?;
            rustix::fs::renameat(&self.fd, &*temporary, &self.fd, name)?;
            self.sync()
        })();
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.fd, &*temporary, AtFlags::empty());
        }
        written.map_err(AuditError::io("write", &path))
    }

    /// Renames a file of this folder, durably.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), AuditError> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
            .map_err(io::Error::from)
            .and_then(|()| self.sync())
            .map_err(AuditError::io("rename", &self.at(from)))
    }

    /// Makes names in it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Whether `file` is what stands under this name.
    pub(super) fn names(&self, name: &str, file: &File) -> bool {
        let (Ok(named), Ok(meta)) = (rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW), file.metadata())
        else {
            return false;
        };
        (named.st_dev, named.st_ino) == (meta.dev(), meta.ino())
    }

    /// Whether files can be made in it.
    pub(super) fn writable(&self) -> Result<(), AuditError> {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(&self.fd, ".", access, AtFlags::empty())
            .map_err(|error| AuditError::io("write to", &self.path)(error.into()))
    }

    /// Bytes that can still be written below it.
    pub(super) fn room(&self) -> Result<u64, AuditError> {
        let stat =
            rustix::fs::fstatvfs(&self.fd).map_err(|error| AuditError::io("look at", &self.path)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Names in it that `wanted` makes something of, at most `most`.
    pub(super) fn list<T>(&self, most: usize, wanted: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, AuditError> {
        let failed = |error: rustix::io::Errno| AuditError::io("list", &self.path)(error.into());
        let mut found = Vec::new();
        for entry in Dir::read_from(self.fd.as_fd()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
            if let Some(item) = name.to_str().and_then(&wanted) {
                if found.len() == most {
                    return Err(AuditError::TooLarge { path: self.path.clone(), reason: "it has too many log files" });
                }
                found.push(item);
            }
        }
        Ok(found)
    }
}

/// Whether only this user (or root, if `or_root`) can have written it.
fn owned(meta: &fs::Metadata, or_root: bool) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    if meta.uid() != user && !(or_root && meta.uid() == 0) {
        return Err(format!("it belongs to user {} and not to user {user}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!("others may write it (mode {:o})", meta.mode() & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_the_environment() {
        let find = |pairs: &[(&str, &str)]| {
            AuditFolders::from_variables(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            })
        };
        let own = find(&[("CAPIBARA_HOME", "/c"), ("HOME", "/h"), ("XDG_STATE_HOME", "/s")]).unwrap();
        assert_eq!(own, AuditFolders::below(Path::new("/c")));
        assert_eq!(own.log, Path::new("/c/audit"));
        let xdg = find(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "relative")]).unwrap();
        assert_eq!(xdg.log, Path::new("/s/capibara/audit"));
        assert_eq!(xdg.head, Path::new("/s/capibara/audit.head"));
        assert_eq!(xdg.keys, Path::new("/h/.config/capibara/keys"));
        let usual = find(&[("CAPIBARA_HOME", ""), ("HOME", "/h")]).unwrap();
        assert_eq!(usual.log, Path::new("/h/.local/state/capibara/audit"));
        assert!(matches!(find(&[("XDG_STATE_HOME", "/s")]), Err(AuditError::NoFolder)));
        assert!(matches!(find(&[]), Err(AuditError::NoFolder)));
    }
}
