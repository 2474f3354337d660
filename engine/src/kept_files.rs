//! Results that are kept in the cache folder, by digest of everything they follow from.
//!
//! ```text
//! FOLDER/<two digits>/<digest>    SHA-256 of the rest · the result
//! ```
//!
//! Who can write there is this user, who can run anything without us; folders and files that others may write are not
//! read. What cannot be read or written is made again, and that is all.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::{artifact, os};

/// The results of one kind in one cache folder. Touches nothing before it is asked.
#[derive(Debug)]
pub(crate) struct KeptFiles {
    folder: PathBuf,
    /// A result that takes more is not kept, in bytes.
    largest: usize,
    /// The most results in each of the 256 folders, nearly: the oldest half goes when there are more.
    most_in_folder: usize,
    usable: OnceLock<bool>,
}

impl KeptFiles {
    /// Those in `folder`, which only this program writes to.
    pub(crate) fn new(folder: PathBuf, largest: usize, most_in_folder: usize) -> Self {
        Self { folder, largest, most_in_folder, usable: OnceLock::new() }
    }

    /// The result that is kept under this digest.
    pub(crate) fn get(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(self.path(digest)?).ok()?;
        let meta = file.metadata().ok()?;
        artifact::trusted(&meta).ok()?;
        let most = (32 + self.largest) as u64;
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(most)).ok()? + 1);
        file.take(most).read_to_end(&mut bytes).ok()?;
        let (digest, body) = bytes.split_first_chunk::<32>()?;
        let whole = Sha256::digest(body)[..] == digest[..];
        whole.then(|| bytes.split_off(32))
    }

    /// Keeps a result, whole or not at all. It is not forced to the disk: one that is cut short by a crash does not match
    /// its digest.
    pub(crate) fn keep(&self, digest: &[u8; 32], body: &[u8]) {
        if body.len() <= self.largest
            && let Some(path) = self.path(digest)
            && write(&path, body).is_some()
            && digest[1].is_multiple_of(16)
        {
            tidy(&path, self.most_in_folder);
        }
    }

    /// Where that result stands, if the folder is this user's own and nobody else writes to it.
    fn path(&self, digest: &[u8; 32]) -> Option<PathBuf> {
        let usable = self.usable.get_or_init(|| {
            let meta = fs::symlink_metadata(&self.folder)
                .or_else(|_| artifact::make_folder(&self.folder).and_then(|()| fs::symlink_metadata(&self.folder)));
            meta.is_ok_and(|meta| meta.is_dir() && artifact::trusted(&meta).is_ok())
        });
        let name = hex::encode(digest);
        usable.then(|| self.folder.join(&name[..2]).join(name))
    }
}

fn write(path: &Path, body: &[u8]) -> Option<()> {
    let temporary = path.with_extension(format!("{:032x}.new", os::random_u128().ok()?));
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let mut file =
        create().or_else(|_| artifact::make_folder(path.parent().unwrap_or(path)).and_then(|()| create())).ok()?;
    let mut whole = Sha256::digest(body).to_vec();
    whole.extend(body);
    let written = file.write_all(&whole).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.ok()
}

/// Removes the older half of a folder that holds too many.
fn tidy(newest: &Path, most: usize) {
    let Some(entries) = newest.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    if files.len() > most {
        files.sort();
        for (_, path) in files.iter().take(files.len() - most / 2) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_what_is_whole_and_ours_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptFiles::new(dir.path().join("kept"), 100, 64);
        assert_eq!(kept.get(&[1; 32]), None);
        kept.keep(&[1; 32], b"result");
        kept.keep(&[2; 32], &[0; 101]);
        assert_eq!((kept.get(&[1; 32]).as_deref(), kept.get(&[2; 32])), (Some(&b"result"[..]), None));
        let path = kept.path(&[1; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(kept.get(&[1; 32]), None, "others may write it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(kept.get(&[1; 32]), None, "it is not what was written");
        kept.keep(&[1; 32], b"other");
        assert_eq!(kept.get(&[1; 32]).as_deref(), Some(&b"other"[..]));
        let open = KeptFiles::new(dir.path().join("open"), 100, 64);
        artifact::make_folder(&open.folder).unwrap();
        fs::set_permissions(&open.folder, fs::Permissions::from_mode(0o777)).unwrap();
        open.keep(&[1; 32], b"result");
        assert!(open.get(&[1; 32]).is_none() && fs::read_dir(&open.folder).unwrap().next().is_none());
    }
}
