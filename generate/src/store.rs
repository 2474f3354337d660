//! Scripts that were accepted once, found again by everything they were accepted for.
//!
//! ```text
//! FOLDER/seal.key                   64 random bytes, mode 0600
//! FOLDER/<two digits>/<digest>      HMAC-SHA256 (hex) of key name and the rest, newline, JSON
//! ```
//!
//! An entry that was not written by this user's own key is refused, and so is one that stands under another name. Which
//! script is found decides nothing about what it may do: it is scanned again at each use.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The largest entry that is written or read, in bytes.
const LARGEST_ENTRY: u64 = 2 << 20;
/// Bytes of the key.
const KEY_BYTES: usize = 64;
const SCHEMA: u32 = 1;

type Seal = Hmac<Sha256>;

/// Under what a script is found: a digest over named parts, each with its length, so that no two lists of parts are the same.
#[derive(Clone, Debug)]
pub struct StoreKey(Sha256);

impl Default for StoreKey {
    fn default() -> Self {
        Self(Sha256::new_with_prefix(b"capibara stored script 1\0"))
    }
}

impl StoreKey {
    /// Adds a part.
    #[must_use]
    pub fn with(mut self, name: &str, part: impl AsRef<[u8]>) -> Self {
        for bytes in [name.as_bytes(), part.as_ref()] {
            self.0.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
            self.0.update(bytes);
        }
        self
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn name(&self) -> String {
        hex::encode(self.0.clone().finalize())
    }
}

/// A script that was accepted, and by whom it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredScript {
    schema: u32,
    /// The script.
    pub script: String,
    /// The profile whose model wrote it.
    pub profile: String,
    /// That model, as its provider names it.
    pub model: String,
    /// When it was accepted, RFC 3339.
    pub accepted: String,
}

impl StoredScript {
    /// A script that is accepted now.
    #[must_use]
    pub fn now(script: &str, profile: &str, model: &str) -> Self {
        Self {
            schema: SCHEMA,
            script: script.into(),
            profile: profile.into(),
            model: model.into(),
            accepted: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
        }
    }
}

/// Why there is no stored script to be had, or none could be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The entry is not as it was written, was not written here, or can be written by others.
    #[error("the stored script `{path}` is not used: {reason}", path = path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused something.
    #[error("failed to {action} `{path}`", path = path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// What it was to be done to.
        path: PathBuf,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
    /// The script is too large to be stored.
    #[error("a script of {bytes} bytes is too large to be stored: at most {LARGEST_ENTRY}")]
    TooLarge {
        /// Its size with what is stored beside it.
        bytes: u64,
    },
}

impl StoreError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source }
    }

    fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Self::Refused { path: path.into(), reason: reason.into() }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { path, .. } => Some(format!("remove it, and ask again: `rm {}`", path.display())),
            Self::Io { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// The stored scripts of one user. Touches nothing before it is asked.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Those in that folder, which only this program writes to.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The script stored under that key; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] for an entry whose seal does not fit, [`StoreError::Io`].
    pub fn get(&self, key: &StoreKey) -> Result<Option<StoredScript>, StoreError> {
        let name = key.name();
        let path = self.path(&name);
        let Some(bytes) = read_own(&path, LARGEST_ENTRY)? else { return Ok(None) };
        let refused = |reason: &str| StoreError::refused(&path, reason);
        let (seal, body) = bytes
            .split_at_checked(64)
            .and_then(|(seal, rest)| Some((seal, rest.strip_prefix(b"\n")?)))
            .ok_or_else(|| refused("it is not an entry"))?;
        let seal = hex::decode(seal).map_err(|_| refused("it is not an entry"))?;
        let Some(secret) = read_own(&self.key_path(), KEY_BYTES as u64)? else {
            return Err(refused("the key that sealed it is gone"));
        };
        sealed(&secret, &name, body, &self.key_path())?
            .verify_slice(&seal)
            .map_err(|_| refused("its seal does not fit, so it was changed or put there by somebody else"))?;
        let stored: StoredScript = serde_json::from_slice(body).map_err(|error| refused(&error.to_string()))?;
        if stored.schema != SCHEMA {
            return Err(refused("it was written by another version"));
        }
        Ok(Some(stored))
    }

    /// Stores a script, in place of what stands under that key.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`], [`StoreError::Io`]. What was there is then still there.
    pub fn put(&self, key: &StoreKey, stored: &StoredScript) -> Result<(), StoreError> {
        let name = key.name();
        let path = self.path(&name);
        let body = serde_json::to_vec(stored).map_err(|error| StoreError::io("write", &path)(error.into()))?;
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX).saturating_add(65);
        if bytes > LARGEST_ENTRY {
            return Err(StoreError::TooLarge { bytes });
        }
        let secret = self.secret()?;
        let seal = sealed(&secret, &name, &body, &self.key_path())?.finalize().into_bytes();
        let mut entry = hex::encode(seal).into_bytes();
        entry.push(b'\n');
        entry.extend(body);
        write_whole(&path, &entry)
    }

    /// Forgets all stored scripts, and gives back how many there were.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn clear(&self) -> Result<usize, StoreError> {
        let mut removed = 0;
        for shelf in entries(&self.folder)? {
            if !shelf.is_dir() {
                continue;
            }
            for path in entries(&shelf)? {
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name.get(..2).unwrap_or_default()).join(name)
    }

    fn key_path(&self) -> PathBuf {
        self.folder.join("seal.key")
    }

    /// The key, made if there is none.
    fn secret(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.key_path();
        if let Some(secret) = read_own(&path, KEY_BYTES as u64)? {
            return Ok(secret);
        }
        let mut secret = [0; KEY_BYTES];
        let mut filled = 0;
        while let Some(rest) = secret.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| StoreError::io("make", &path)(error.into()))?;
        }
        make_folder(&self.folder)?;
        // Of two processes that make one, the second takes what the first made.
        let made = whole_file(&path, &secret)?;
        match made.persist_noclobber(&path) {
            Ok(_) => Ok(secret.to_vec()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => read_own(&path, KEY_BYTES as u64)?
                .ok_or_else(|| StoreError::io("read", &path)(io::ErrorKind::NotFound.into())),
            Err(error) => Err(StoreError::io("write", &path)(error.error)),
        }
    }
}

fn sealed(secret: &[u8], name: &str, body: &[u8], path: &Path) -> Result<Seal, StoreError> {
    if secret.len() != KEY_BYTES {
        return Err(StoreError::refused(path, "it is not a key"));
    }
    let mut seal = Seal::new_from_slice(secret).map_err(|_| StoreError::refused(path, "it is not a key"))?;
    seal.update(name.as_bytes());
    seal.update(body);
    Ok(seal)
}

/// Reads a file that only this user can have written; `None` if there is none.
fn read_own(path: &Path, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let meta = file.metadata().map_err(StoreError::io("look at", path))?;
    let reason = if !meta.is_file() {
        Some("it is not a regular file")
    } else if meta.uid() != rustix::process::geteuid().as_raw() && meta.uid() != 0 {
        Some("it belongs to somebody else")
    } else if meta.permissions().mode() & 0o022 != 0 {
        Some("others may write to it")
    } else if meta.len() > most {
        Some("it is too large")
    } else {
        None
    };
    if let Some(reason) = reason {
        return Err(StoreError::refused(path, reason));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    Ok(Some(bytes))
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("create the folder", path))
}

/// A file with that content beside where it is to be.
fn whole_file(path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile<File>, StoreError> {
    let folder = path.parent().unwrap_or(path);
    make_folder(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(StoreError::io("create a file in", folder))?;
    file.write_all(bytes).map_err(StoreError::io("write", file.path()))?;
    Ok(file)
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let file = whole_file(path, bytes)?;
    file.persist(path).map_err(|error| StoreError::io("write", path)(error.error))?;
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("list", folder)(error)),
    };
    read.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>().map_err(StoreError::io("list", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(prompt: &str) -> StoreKey {
        StoreKey::default().with("prompt", prompt).with("policy", "abc")
    }

    fn refused(store: &Store, key: &StoreKey) -> String {
        match store.get(key) {
            Err(StoreError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        let name = |a: &str, b: &str| StoreKey::default().with(a, b).name();
        assert_ne!(name("ab", "c"), name("a", "bc"));
        assert_ne!(StoreKey::default().with("a", "").with("b", "").name(), StoreKey::default().with("a", "b").name());
        assert_eq!(name("a", "b"), name("a", "b"));
    }

    #[test]
    fn what_is_stored_is_found_under_its_key_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("scripts"));
        assert!(store.get(&key("a")).unwrap().is_none());
        let stored = StoredScript::now("print(1)\n", "local", "tiny");
        store.put(&key("a"), &stored).unwrap();
        assert_eq!(store.get(&key("a")).unwrap(), Some(stored.clone()));
        assert!(store.get(&key("b")).unwrap().is_none());
        let again = StoredScript::now("print(2)\n", "local", "tiny");
        store.put(&key("a"), &again).unwrap();
        assert_eq!(store.get(&key("a")).unwrap(), Some(again));
        assert_eq!(store.clear().unwrap(), 1);
        assert!(store.get(&key("a")).unwrap().is_none());
        assert!(matches!(
            store.put(&key("a"), &StoredScript::now(&"x".repeat(3 << 20), "p", "m")),
            Err(StoreError::TooLarge { .. })
        ));
    }

    #[test]
    fn what_was_changed_or_moved_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.put(&key("a"), &StoredScript::now("print(1)\n", "local", "tiny")).unwrap();
        let path = store.path(&key("a").name());
        let good = fs::read(&path).unwrap();
        // Every byte counts.
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            refused(&store, &key("a"));
        }
        fs::write(&path, &good[..10]).unwrap();
        refused(&store, &key("a"));
        // Under another key.
        fs::write(&path, &good).unwrap();
        let other = store.path(&key("b").name());
        make_folder(other.parent().unwrap()).unwrap();
        fs::copy(&path, &other).unwrap();
        assert!(refused(&store, &key("b")).contains("seal"));
        // Written by others, or not a file.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refused(&store, &key("a")).contains("others"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(refused(&store, &key("a")).contains("regular"));
        // A good seal by another key.
        let elsewhere = tempfile::tempdir().unwrap();
        let theirs = Store::new(elsewhere.path());
        theirs.put(&key("c"), &StoredScript::now("print(3)\n", "local", "tiny")).unwrap();
        let mine = store.path(&key("c").name());
        make_folder(mine.parent().unwrap()).unwrap();
        fs::copy(theirs.path(&key("c").name()), &mine).unwrap();
        assert!(refused(&store, &key("c")).contains("seal"));
        fs::remove_file(store.key_path()).unwrap();
        assert!(refused(&store, &key("c")).contains("gone"));
    }
}
